//! Confirmable messages of ours: sent again, twice as late each time, until the peer says something to them or nothing helps.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::message::{Message, MessageId};

use super::peer::Peer;
use super::{Address, Ending, Scope, bytes_of};

/// A confirmable message that is not acknowledged.
#[derive(Debug)]
pub(super) struct Confirmable {
    id: MessageId,
    /// Ids that it had before a newer value took its place.
    former: Vec<MessageId>,
    datagram: Bytes,
    pub(super) of: Of,
    flight: Flight,
    /// The ping that was sent instead, to a peer that may not be sent all of it yet.
    probe: Option<MessageId>,
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// The response to a request, or the last word of an observation.
    Exchange,
    /// The response to the request that began the observation of this name.
    Registration(u64),
    /// What an observation of this name has to say when its turn comes.
    Observation(u64),
}

impl Of {
    /// The observation that is over when this cannot be brought to the peer, or is not wanted there.
    //= RFC7641 4.5
    const fn observation(self) -> Option<u64> {
        match self {
            Self::Exchange => None,
            Self::Registration(serial) | Self::Observation(serial) => Some(serial),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Flight {
    /// It waits for its turn.
    Waiting,
    /// It was sent.
    Out { attempts: u8, timeout: Duration, at: Instant },
}

impl Confirmable {
    /// When it is to be sent again.
    pub(super) const fn at(&self) -> Option<Instant> {
        match self.flight {
            Flight::Waiting => None,
            Flight::Out { at, .. } => Some(at),
        }
    }
}

impl Peer {
    /// Sends this as soon as it is its turn.
    pub(super) fn confirm<A: Address>(&mut self, id: MessageId, datagram: Bytes, of: Of, scope: &mut Scope<'_, A>) {
        let is_fixed = |message: &Confirmable| !matches!(message.of, Of::Observation(_)) && message.at().is_none();
        if self.confirmables.iter().filter(|message| is_fixed(message)).count() >= scope.shared.limits.waiting_max
            && let Some(oldest) = self.confirmables.iter().position(is_fixed)
        {
            self.confirmables.remove(oldest);
            scope.shared.counts.unanswered += 1;
        }
        self.confirmables.push_back(Confirmable {
            id,
            former: Vec::new(),
            datagram,
            of,
            flight: Flight::Waiting,
            probe: None,
        });
        self.pump(scope);
    }

    /// Sends what there is room for.
    //= RFC7252 4.7
    pub(super) fn pump<A: Address>(&mut self, scope: &mut Scope<'_, A>) {
        let limits = scope.shared.limits;
        loop {
            let is_waiting = |message: &Confirmable| message.at().is_none();
            let is_notification = |message: &Confirmable| matches!(message.of, Of::Observation(_));
            let out = self.confirmables.iter().filter(|message| !is_waiting(message)).count();
            // Where there is no id for it, a notification lets others go first.
            let id_at = self.id_at(scope);
            self.held_until = id_at.filter(|_| self.confirmables.iter().any(|m| is_waiting(m) && is_notification(m)));
            self.held_since = self.held_until.and(self.held_since.or(Some(scope.now)));
            let may_go = |message: &Confirmable| is_waiting(message) && (id_at.is_none() || !is_notification(message));
            let next = self.confirmables.iter().position(may_go);
            let Some(at) = next.filter(|_| out < limits.in_flight_max.max(1)) else { return };
            if let Of::Observation(serial) = self.confirmables[at].of {
                let Some((id, datagram)) = self.confirmable_notification(serial, scope) else {
                    self.confirmables.remove(at);
                    continue;
                };
                self.confirmables[at].id = id;
                self.confirmables[at].datagram = datagram;
            }
            //= RFC7252 4.2
            let jitter = scope.shared.secret.below(u64::try_from(limits.ack_jitter_max.as_micros()).unwrap_or(0) + 1);
            let timeout = limits.ack_timeout + Duration::from_micros(jitter);
            self.confirmables[at].flight = Flight::Out { attempts: 0, timeout, at: scope.now + timeout };
            self.send_confirmable(at, scope);
        }
    }

    /// Sends a message, or where the peer may not be sent that much a ping: who answers that is where it says it is.
    //= RFC7252 4.3, 11.3
    fn send_confirmable<A: Address>(&mut self, at: usize, scope: &mut Scope<'_, A>) {
        let datagram = self.confirmables[at].datagram.clone();
        if self.trust.pay(datagram.len(), scope.shared.limits.amplification_max) {
            return scope.send(datagram);
        }
        scope.shared.counts.unproven += 1;
        let id = self.ids.next(scope.now);
        self.confirmables[at].probe = Some(id);
        self.send(bytes_of(&Message::Ping(id)), scope);
    }

    /// Sends again what is due, and gives up what was sent often enough.
    //= RFC7252 4.2
    //= RFC7641 4.5, 4.5.2
    pub(super) fn retransmit<A: Address>(&mut self, scope: &mut Scope<'_, A>) {
        let mut index = 0;
        while let Some(message) = self.confirmables.get(index) {
            let Flight::Out { attempts, timeout, at } = message.flight else {
                index += 1;
                continue;
            };
            if scope.now < at {
                index += 1;
            } else if attempts >= scope.shared.limits.retransmits_max {
                let of = message.of;
                self.confirmables.remove(index);
                scope.shared.counts.unanswered += 1;
                if let Some(serial) = of.observation() {
                    self.end_serial(serial, Ending::Unanswered, scope);
                }
            } else {
                if let Of::Observation(serial) = message.of
                    && let Some((id, datagram)) = self.newer_notification(serial, scope)
                {
                    let message = &mut self.confirmables[index];
                    message.former.push(std::mem::replace(&mut message.id, id));
                    message.datagram = datagram;
                }
                let timeout = timeout * 2;
                let message = &mut self.confirmables[index];
                message.flight = Flight::Out { attempts: attempts + 1, timeout, at: scope.now + timeout };
                scope.shared.counts.retransmits += 1;
                self.send_confirmable(index, scope);
                index += 1;
            }
        }
        self.pump(scope);
    }

    /// Whether a message is out that had to be sent again.
    pub(super) fn is_silent(&self) -> bool {
        self.confirmables.iter().any(|message| matches!(message.flight, Flight::Out { attempts: 1.., .. }))
    }

    /// Where the message is that was sent under this id.
    fn sent(&self, id: MessageId) -> Option<usize> {
        let is_it =
            |message: &Confirmable| message.at().is_some() && (message.id == id || message.former.contains(&id));
        self.confirmables.iter().position(is_it)
    }

    //= RFC7252 4.2
    pub(super) fn handle_acknowledgement<A: Address>(&mut self, id: MessageId, scope: &mut Scope<'_, A>) {
        let Some(at) = self.sent(id) else { return self.trust.acknowledge_wrong() };
        let limits = scope.shared.limits;
        self.trust.acknowledge(limits.wrong_acknowledgements_max, scope.now + limits.exchange_lifetime);
        self.unacknowledged = 0;
        if self.confirmables[at].id != id {
            // It has an older value, and is to have the newer one too.
            return;
        }
        let message = self.confirmables.remove(at);
        if let Some(Of::Observation(serial)) = message.map(|message| message.of) {
            self.confirmed(serial, scope);
        }
        self.pump(scope);
    }

    //= RFC7252 4.2, 4.3
    //= RFC7641 3.6, 4.5
    pub(super) fn handle_reset<A: Address>(&mut self, id: MessageId, scope: &mut Scope<'_, A>) {
        if let Some(probed) = self.confirmables.iter_mut().find(|message| message.probe == Some(id)) {
            probed.probe = None;
            let datagram = probed.datagram.clone();
            let limits = scope.shared.limits;
            self.trust.acknowledge(limits.wrong_acknowledgements_max, scope.now + limits.exchange_lifetime);
            return self.send(datagram, scope);
        }
        let of = self.sent(id).and_then(|at| self.confirmables.remove(at)).map(|message| message.of);
        let serial = of.map_or_else(|| self.notified.find(id), Of::observation);
        if of.is_none() && serial.is_none() {
            self.trust.acknowledge_wrong();
        }
        if let Some(serial) = serial {
            self.end_serial(serial, Ending::Reset, scope);
        }
        self.pump(scope);
    }
}
