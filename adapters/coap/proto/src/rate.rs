//! How many requests are taken from one part of the network: who sends more is told to wait, and not even that without end.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::secret::Secret;

/// Parts of the network that are told apart; beyond that some share what they may, and nobody outside can tell which.
const SLOTS: usize = 1 << 16;
/// How many may come at once, as the time that they would take otherwise.
const BURST: Duration = Duration::from_secs(1);
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The part of the network that an address is in: of IPv4 24 bits, of IPv6 56, as they are given to one site.
#[must_use]
pub fn prefix_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits() >> 8),
        // No address has its highest bits in both.
        IpAddr::V6(v6) => 1 << 63 | u64::try_from(v6.to_bits() >> 72).unwrap_or(0),
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is taken.
    Now,
    /// It is told to come again after so many seconds.
    Later(u32),
    /// Nothing.
    Never,
}

/// What was taken from each part of the network. Its size is the same whoever comes.
#[derive(Debug)]
pub(crate) struct Rates<A> {
    /// Which part an address is in; nothing, where each is one for itself.
    prefix: Option<fn(&A) -> u64>,
    taken: Rate,
    /// The same of those that are told to come again.
    told: Rate,
}

impl<A: Hash> Rates<A> {
    pub(crate) fn new(per_second: NonZeroU32, begun: Instant) -> Self {
        Self { prefix: None, taken: Rate::new(per_second, begun), told: Rate::new(per_second, begun) }
    }

    pub(crate) fn by_prefix(&mut self, prefix: fn(&A) -> u64) {
        self.prefix = Some(prefix);
    }

    /// Whose turn it is. What is told is bounded like what is taken: it may go to somebody who asked nothing.
    pub(crate) fn turn(&mut self, address: &A, secret: &Secret, now: Instant) -> Turn {
        let part = match self.prefix {
            Some(prefix) => secret.sign("rate", &prefix(address)),
            None => secret.sign("rate", address),
        };
        let Err(wait) = self.taken.take(part, now) else { return Turn::Now };
        if self.told.take(part, now).is_err() {
            return Turn::Never;
        }
        Turn::Later(u32::try_from(wait.as_nanos().div_ceil(NANOS_PER_SECOND)).unwrap_or(u32::MAX))
    }
}

/// How often something may happen in each part of the network, in a memory that is fixed: 512 KiB.
#[derive(Debug)]
pub struct Rate {
    interval: u64,
    begun: Instant,
    /// When the next has its turn in each part, if nobody lets time go by; in nanoseconds.
    next: Box<[u64]>,
}

impl Rate {
    /// So often in a second, and as often at once. No call is asked of a time before `begun`.
    #[must_use]
    pub fn new(per_second: NonZeroU32, begun: Instant) -> Self {
        let interval = nanos(Duration::from_secs(1) / per_second.get());
        Self { interval, begun, next: vec![0; SLOTS].into() }
    }

    /// Takes a turn in a part of the network, which is named by a hash of [`prefix_of`] that nobody outside can tell.
    ///
    /// # Errors
    /// How long it is until there is one.
    pub fn take(&mut self, part: u64, now: Instant) -> Result<(), Duration> {
        let now = nanos(now.saturating_duration_since(self.begun));
        let next = &mut self.next[usize::try_from(part % SLOTS as u64).unwrap_or(0)];
        let turn = (*next).max(now).saturating_add(self.interval);
        match turn.saturating_sub(now).checked_sub(nanos(BURST)) {
            None | Some(0) => {
                *next = turn;
                Ok(())
            }
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
    fn any_instant() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_site_is_one_whatever_its_addresses_are() {
        let of = |text: &str| prefix_of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.7"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:1:100::1"), of("2001:db8:1:1ff:ffff::1"));
        assert_ne!(of("2001:db8:1:100::1"), of("2001:db8:1:200::1"));
        assert_ne!(of("0.0.0.0"), of("::2"));
    }

    //= RFC8516 3
    #[test]
    fn so_many_are_taken_as_many_are_told_and_the_rest_is_not_answered() {
        let begun = any_instant();
        let (secret, rate) = (Secret::new([7; 16]), NonZeroU32::new(4).unwrap());
        let mut rates = Rates::new(rate, begun);
        let mut turns = |prefix: u64, age: Duration, count: usize| {
            (0..count).map(|_| rates.turn(&prefix, &secret, begun + age)).collect::<Vec<_>>()
        };
        let at_once = [[Turn::Now; 4], [Turn::Later(1); 4], [Turn::Never; 4]].concat();
        assert_eq!(turns(1, Duration::ZERO, 12), at_once);
        assert_eq!(turns(2, Duration::ZERO, 12), at_once);
        assert_eq!(turns(1, Duration::from_millis(250), 3), [Turn::Now, Turn::Later(1), Turn::Never]);
        // What nobody takes is not saved beyond a second's worth.
        assert_eq!(turns(1, Duration::from_secs(3_600), 12), at_once);
    }

    #[test]
    fn the_least_rate_takes_one_a_second() {
        let begun = any_instant();
        let secret = Secret::new([7; 16]);
        let mut rates = Rates::new(NonZeroU32::MIN, begun);
        let mut turn = |millis| rates.turn(&1, &secret, begun + Duration::from_millis(millis));
        assert_eq!([turn(0), turn(1), turn(999), turn(1_000)], [Turn::Now, Turn::Later(1), Turn::Never, Turn::Now]);
    }
}
