//! Observations: who is told of what comes, what each is told last, and how it is found out that nobody listens.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::limits::Limits;
use crate::message::{Carried, Message, MessageId, Response, Token};
use crate::option::{Block, OptionNumber};

use super::answer::{Key, Unproven, Wanted, challenge};
use super::confirm::Of;
use super::peer::Peer;
use super::{Address, Ending, Observer, Output, Scope, Shared, bytes_of};

/// Sequence numbers have so many bits.
const SEQUENCE_BITS: u32 = 24;
const SEQUENCE_MAX: u32 = (1 << SEQUENCE_BITS) - 1;
/// In a second there are 2 to the power of this many of them: they come round after 1,024 s.
const SEQUENCE_RATE_BITS: u32 = 14;
/// After so long any number is newer.
const SEQUENCE_AGE: Duration = Duration::from_secs(128);

/// How long it takes until news is asked for again, at least.
const PERIOD_MIN: Duration = Duration::from_millis(1);

/// One of a peer's observations.
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) token: Token,
    pub(super) serial: u64,
    sequence: Sequence,
    /// When the next notification is to be acknowledged.
    ping_at: Instant,
    /// When one is to be asked for, and again where none comes.
    ask_at: Instant,
    awaits: Awaits,
    /// What is said after that, or by it.
    waiting: Option<Waiting>,
    /// Size of the blocks that the client wants.
    block: Option<Block>,
    /// Names what is observed, for the blocks that are fetched afterward.
    pub(super) key: u64,
}

/// What an observation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Nothing,
    /// That a notification is acknowledged, or has its turn: nothing is said before.
    Acknowledgement,
    /// The same of one that finds out whether any of those before it arrived: others follow it for a while.
    Probe,
}

/// What an observation has to say next.
#[derive(Debug)]
struct Waiting {
    response: Response,
    /// Whether it was said, but not so that anybody acknowledges it.
    is_said: bool,
}

/// How a peer may be told of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// As it comes.
    Free,
    /// So that it is to be acknowledged.
    Probe,
    /// As it comes, behind what is to be acknowledged.
    Follow,
    /// Not before that is acknowledged.
    Hold,
}

impl Observation {
    /// When news is to be asked for.
    pub(super) fn at(&self) -> Option<Instant> {
        (self.awaits == Awaits::Nothing).then_some(self.ask_at)
    }
}

/// The number that was said last, and when.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    number: u32,
    said: Instant,
}

impl Sequence {
    /// The next one: the time, unless that is not newer to a client that knows the last.
    //= RFC7641 3.4, 4.4
    fn next<A>(last: Option<Self>, now: Instant, shared: &Shared<A>) -> Self {
        let age = shared.wall + now.saturating_duration_since(shared.begun);
        let ticks = (age.as_nanos() << SEQUENCE_RATE_BITS) / Duration::from_secs(1).as_nanos();
        let ticks = u32::try_from(ticks & u128::from(SEQUENCE_MAX)).unwrap_or(0);
        let number = match last {
            Some(last) if now.saturating_duration_since(last.said) <= SEQUENCE_AGE && !is_newer(ticks, last.number) => {
                (last.number + 1) & SEQUENCE_MAX
            }
            Some(_) | None => ticks,
        };
        Self { number, said: now }
    }
}

/// Whether a client takes the first for newer than the second, soon after it.
//= RFC7641 3.4
const fn is_newer(new: u32, old: u32) -> bool {
    let half = 1 << (SEQUENCE_BITS - 1);
    (old < new && new - old < half) || (old > new && old - new > half)
}

impl Peer {
    //= RFC7641 4.1, 4.2
    pub(super) fn observe<A: Address>(
        &mut self,
        serial: u64,
        response: Response,
        scope: &mut Scope<'_, A>,
    ) -> Option<(Token, u64)> {
        let (at, asked) = self.take(serial, scope)?;
        let before = self.observations.iter().find(|observation| observation.token == asked.token);
        let before = before.map(|observation| observation.sequence);
        if asked.registers() {
            self.end_token(asked.token, Ending::Replaced, scope);
        }
        let limits = scope.shared.limits;
        let has_room = scope.shared.held.observations < limits.observations_max
            && self.observations.len() < limits.observations_per_peer_max;
        let may_be = asked.registers() && response.code.is_success() && has_room;
        let is_challenged = may_be && self.has_to_show(scope);
        if !may_be || is_challenged {
            let response = if is_challenged { challenge(scope) } else { response };
            let response = self.shape(&asked, response, None, scope);
            self.say(at, &asked, response, Of::Exchange, scope);
            return None;
        }
        let sequence = Sequence::next(before, scope.now, scope.shared);
        let response = self.shape(&asked, response, Some(sequence.number), scope);
        let is_accepted = response.code.is_success();
        let mut of = Of::Exchange;
        if is_accepted {
            let serial = scope.shared.serial();
            of = Of::Registration(serial);
            // Most have one.
            self.observations.reserve_exact(1);
            self.observations.push(Observation {
                token: asked.token,
                serial,
                sequence,
                ping_at: scope.now + limits.ping_period,
                ask_at: scope.now + limits.ping_period,
                awaits: Awaits::Nothing,
                waiting: None,
                block: asked.options.block2(),
                key: scope.shared.key(asked.method, &asked.options),
            });
            scope.shared.held.observations += 1;
        }
        self.say(at, &asked, response, of, scope);
        self.observations.last().filter(|_| is_accepted).map(|observation| (observation.token, observation.serial))
    }

    /// Whether it has to show where it is, since too many that observe have not.
    //= RFC9175 2.4
    fn has_to_show<A: Address>(&self, scope: &Scope<'_, A>) -> bool {
        let Limits { amplification_max, observations_unproven_max, .. } = scope.shared.limits;
        let of_others = scope.shared.unproven - self.unproven;
        !self.trust.is_shown(amplification_max) && of_others + self.observations.len() >= observations_unproven_max
    }

    fn observation(&mut self, serial: u64) -> Option<&mut Observation> {
        self.observations.iter_mut().find(|observation| observation.serial == serial)
    }

    //= RFC7641 4.2, 4.5
    pub(super) fn notify<A: Address>(&mut self, serial: u64, response: Response, scope: &mut Scope<'_, A>) -> bool {
        let limits = scope.shared.limits;
        let is_shown = self.trust.is_shown(limits.amplification_max);
        let pace = self.pace(scope);
        let Some(observation) = self.observation(serial) else { return false };
        if !response.code.is_success() {
            self.conclude(serial, response, scope);
            return true;
        }
        let is_due = scope.now >= observation.ping_at || !is_shown;
        match (observation.awaits, pace) {
            //= RFC7641 4.5.2
            // One at a time, and of what waits only the newest is of interest.
            (Awaits::Acknowledgement, _) | (Awaits::Probe, Pace::Hold) => {
                let before = observation.waiting.replace(Waiting { response, is_said: false });
                scope.shared.counts.overtaken += u64::from(before.is_some_and(|before| !before.is_said));
            }
            (Awaits::Nothing, Pace::Probe) if !is_due => self.tell_confirmable(serial, response, Awaits::Probe, scope),
            (Awaits::Nothing, pace) if is_due || pace == Pace::Hold => {
                self.tell_confirmable(serial, response, Awaits::Acknowledgement, scope);
            }
            (awaits, _) => {
                // Should it have to be said again, then by the newest.
                observation.waiting =
                    (awaits == Awaits::Probe).then(|| Waiting { response: response.clone(), is_said: true });
                self.tell_once(serial, response, scope);
            }
        }
        true
    }

    //= RFC7641 4.5.1
    fn pace<A: Address>(&self, scope: &Scope<'_, A>) -> Pace {
        let unacknowledged_max = scope.shared.limits.notifications_unacknowledged_max;
        if self.id_at(scope).is_some() {
            Pace::Hold
        } else if self.unacknowledged < unacknowledged_max {
            Pace::Free
        } else if self.confirmables.is_empty() {
            Pace::Probe
        } else if self.unacknowledged < unacknowledged_max.saturating_mul(2) && !self.is_silent() {
            Pace::Follow
        } else {
            Pace::Hold
        }
    }

    /// Says it so that it is to be acknowledged, when it is its turn.
    fn tell_confirmable<A: Address>(
        &mut self,
        serial: u64,
        response: Response,
        awaits: Awaits,
        scope: &mut Scope<'_, A>,
    ) {
        let Some(observation) = self.observation(serial) else { return };
        observation.waiting = Some(Waiting { response, is_said: false });
        observation.awaits = awaits;
        self.confirm(MessageId(0), Bytes::new(), Of::Observation(serial), scope);
    }

    /// Says it once.
    fn tell_once<A: Address>(&mut self, serial: u64, response: Response, scope: &mut Scope<'_, A>) {
        if let Some((id, datagram)) = self.notification(serial, response, Carried::NonConfirmable, scope) {
            self.notified.remember(id, serial, scope.shared.limits.notifications_remembered_max);
            self.unacknowledged += 1;
            self.send(datagram, scope);
        }
    }

    /// The last word of an observation, without the option: nothing comes after it.
    //= RFC7641 4.2
    fn conclude<A: Address>(&mut self, serial: u64, response: Response, scope: &mut Scope<'_, A>) {
        let Some(observation) = self.remove(serial, scope) else { return };
        let id = self.ids.next(scope.now);
        let token = observation.token;
        let message = Message::Response { id, carried: Carried::Confirmable, token, response };
        self.confirm(id, bytes_of(&message), Of::Exchange, scope);
    }

    /// The same at once and once only: whoever says it does not stay to hear whether it came.
    pub(super) fn dismiss<A: Address>(&mut self, serial: u64, response: Response, scope: &mut Scope<'_, A>) -> bool {
        let Some(observation) = self.remove(serial, scope) else { return false };
        let id = self.ids.next(scope.now);
        let token = observation.token;
        let message = Message::Response { id, carried: Carried::NonConfirmable, token, response };
        self.send(bytes_of(&message), scope);
        true
    }

    /// The datagram of a notification.
    fn notification<A: Address>(
        &mut self,
        serial: u64,
        mut response: Response,
        carried: Carried,
        scope: &mut Scope<'_, A>,
    ) -> Option<(MessageId, Bytes)> {
        let observation = self.observation(serial)?;
        observation.sequence = Sequence::next(Some(observation.sequence), scope.now, scope.shared);
        let (token, number) = (observation.token, observation.sequence.number);
        let block = observation.block.map(|block| Block { number: 0, more: false, ..block });
        let wanted = Wanted { token, block, key: Some(Key::Known(observation.key)), unproven: Unproven::Withhold };
        response.options = response.options.with_uint(OptionNumber::OBSERVE, number);
        let response = self.slice(wanted, response, scope);
        let id = self.ids.next(scope.now);
        Some((id, bytes_of(&Message::Response { id, carried, token, response })))
    }

    /// When there is an id again for a notification, where there is none now: one that the peer takes for a copy is of no use.
    /// A peer that asks so much that the answers take all of them is told now and then all the same.
    //= RFC7252 4.4
    pub(super) fn id_at<A: Address>(&self, scope: &Scope<'_, A>) -> Option<Instant> {
        let lifetime = scope.shared.limits.exchange_lifetime;
        let free_at = self.ids.free_at(lifetime)?;
        let at = self.held_since.map_or(free_at, |since| free_at.min(since + lifetime));
        Some(at).filter(|at| scope.now < *at)
    }

    /// What an observation has to say, now that it is its turn.
    pub(super) fn confirmable_notification<A: Address>(
        &mut self,
        serial: u64,
        scope: &mut Scope<'_, A>,
    ) -> Option<(MessageId, Bytes)> {
        let Waiting { response, .. } = self.observation(serial)?.waiting.take()?;
        self.notification(serial, response, Carried::Confirmable, scope)
    }

    /// What it has to say instead of what nobody has acknowledged yet, if there is anything newer.
    //= RFC7641 4.5.2
    pub(super) fn newer_notification<A: Address>(
        &mut self,
        serial: u64,
        scope: &mut Scope<'_, A>,
    ) -> Option<(MessageId, Bytes)> {
        if self.id_at(scope).is_some() { None } else { self.confirmable_notification(serial, scope) }
    }

    /// The client has acknowledged a notification.
    pub(super) fn confirmed<A: Address>(&mut self, serial: u64, scope: &mut Scope<'_, A>) {
        let ping_at = scope.now + scope.shared.limits.ping_period;
        let Some(observation) = self.observation(serial) else { return };
        observation.awaits = Awaits::Nothing;
        observation.ping_at = ping_at;
        observation.ask_at = ping_at;
        if let Some(Waiting { response, is_said: false }) = observation.waiting.take() {
            self.notify(serial, response, scope);
        }
    }

    /// Asks for news of those that have to be found out about.
    pub(super) fn ask_for_news<A: Address>(&mut self, scope: &mut Scope<'_, A>) {
        let again_at = scope.now + scope.shared.limits.ping_period.max(PERIOD_MIN);
        for observation in &mut self.observations {
            if observation.at().is_some_and(|at| at <= scope.now) {
                observation.ask_at = again_at;
                let peer = scope.address.clone();
                scope.put(Output::Refresh(Observer { peer, token: observation.token, serial: observation.serial }));
            }
        }
    }

    pub(super) fn end_token<A: Address>(&mut self, token: Token, why: Ending, scope: &mut Scope<'_, A>) {
        let found = self.observations.iter().find(|observation| observation.token == token);
        if let Some(serial) = found.map(|observation| observation.serial) {
            self.end_serial(serial, why, scope);
        }
    }

    pub(super) fn end_serial<A: Address>(&mut self, serial: u64, why: Ending, scope: &mut Scope<'_, A>) {
        if let Some(observation) = self.remove(serial, scope) {
            let observer = Observer { peer: scope.address.clone(), token: observation.token, serial };
            scope.put(Output::Ended(observer, why));
        }
    }

    fn remove<A: Address>(&mut self, serial: u64, scope: &mut Scope<'_, A>) -> Option<Observation> {
        let at = self.observations.iter().position(|observation| observation.serial == serial)?;
        self.confirmables.retain(|message| message.of != Of::Observation(serial));
        scope.shared.held.observations -= 1;
        Some(self.observations.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC7641 3.4
    #[test]
    fn a_number_is_newer_within_half_the_round() {
        assert!(is_newer(1, 0) && is_newer(0, SEQUENCE_MAX) && is_newer(5, SEQUENCE_MAX - 5));
        assert!(!is_newer(0, 0) && !is_newer(0, 1) && !is_newer(SEQUENCE_MAX, 0));
    }
}
