//! What is known of one peer.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::message::MessageId;

use super::body::Bodies;
use super::confirm::Confirmable;
use super::exchange::Exchange;
use super::ids::{Ids, Notified};
use super::observe::Observation;
use super::trust::Trust;
use super::{Address, Scope, Shared};

/// What is known of one peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// When it is to be called.
    pub(super) scheduled: Option<Instant>,
    pub(super) ids: Ids,
    /// Since when something is not said unasked, for want of an id, and until when.
    pub(super) held_since: Option<Instant>,
    pub(super) held_until: Option<Instant>,
    /// By the time they began.
    pub(super) exchanges: VecDeque<Exchange>,
    /// How many of them are not answered.
    pub(super) asked: usize,
    pub(super) confirmables: VecDeque<Confirmable>,
    pub(super) observations: Vec<Observation>,
    /// As many of them as are counted as those of one that has not shown where it is.
    pub(super) unproven: usize,
    pub(super) notified: Notified,
    /// Non-confirmable notifications since it acknowledged anything.
    pub(super) unacknowledged: usize,
    /// Most have none.
    pub(super) bodies: Option<Box<Bodies>>,
    pub(super) trust: Trust,
}

impl Peer {
    pub(super) fn new(first_id: MessageId) -> Self {
        Self {
            scheduled: None,
            ids: Ids::new(first_id),
            held_since: None,
            held_until: None,
            exchanges: VecDeque::new(),
            asked: 0,
            confirmables: VecDeque::new(),
            observations: Vec::new(),
            unproven: 0,
            notified: Notified::default(),
            unacknowledged: 0,
            bodies: None,
            trust: Trust::default(),
        }
    }

    /// Requests that are not answered yet.
    pub(super) const fn requests(&self) -> usize {
        self.asked
    }

    /// Whether nothing is said to it but what it asks for.
    pub(super) fn is_at_rest(&self) -> bool {
        self.asked == 0 && self.confirmables.is_empty() && self.observations.is_empty()
    }

    /// Whether nothing but copies can come of it.
    pub(super) fn is_idle(&self) -> bool {
        self.is_at_rest() && self.bodies.is_none()
    }

    /// Whether nothing has to be known of it: what was refused would be again.
    pub(super) fn is_forgettable(&self) -> bool {
        self.is_idle() && self.trust.at().is_none() && self.exchanges.iter().all(Exchange::is_refusal)
    }

    /// Gives back what is counted.
    pub(super) fn release<A>(&mut self, shared: &mut Shared<A>) {
        shared.held.requests -= self.asked;
        shared.held.exchanges -= self.exchanges.len();
        shared.held.observations -= self.observations.len();
        shared.unproven -= self.unproven;
        if let Some(mut bodies) = self.bodies.take() {
            bodies.release(&mut shared.held);
        }
        self.asked = 0;
        self.unproven = 0;
        self.exchanges.clear();
        self.observations.clear();
    }

    /// Counts its observations as long as it has not shown where it is.
    pub(super) fn count_unproven<A>(&mut self, shared: &mut Shared<A>) {
        let is_shown = self.trust.is_shown(shared.limits.amplification_max);
        let unproven = if is_shown { 0 } else { self.observations.len() };
        shared.unproven = shared.unproven + unproven - self.unproven;
        self.unproven = unproven;
    }

    /// When something is due, at the earliest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let exchanges = self.next_of_exchanges();
        let confirmables = self.confirmables.iter().filter_map(Confirmable::at);
        let observations = self.observations.iter().filter_map(Observation::at);
        let bodies = self.bodies.as_ref().and_then(|bodies| bodies.at());
        let ours = exchanges.into_iter().chain(confirmables).chain(observations).chain(bodies);
        ours.chain(self.trust.at()).chain(self.held_until).min()
    }

    pub(super) fn handle_timeout<A: Address>(&mut self, scope: &mut Scope<'_, A>) {
        self.acknowledge_slow(scope);
        self.retransmit(scope);
        self.ask_for_news(scope);
        self.expire_exchanges(scope);
        self.trust.expire(scope.now);
        if let Some(bodies) = &mut self.bodies
            && bodies.expire(scope.now, &mut scope.shared.held)
        {
            self.bodies = None;
        }
    }

    /// Sends this, if the peer may be sent that much.
    pub(super) fn send<A: Address>(&mut self, datagram: Bytes, scope: &mut Scope<'_, A>) {
        if self.trust.pay(datagram.len(), scope.shared.limits.amplification_max) {
            scope.send(datagram);
        } else {
            scope.shared.counts.unproven += 1;
        }
    }
}
