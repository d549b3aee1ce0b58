//! How fast connections are taken on: one after the other, with a second's worth of them at once.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many may come at once, as the time that they would take otherwise.
const BURST: Duration = Duration::from_secs(1);

/// Gives each that comes its turn.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// When the next would have its turn, if nobody had let time go by.
    next: Mutex<Instant>,
}

impl Pace {
    /// So many in a second, from now on.
    pub(crate) fn new(per_second: NonZeroU32, now: Instant) -> Self {
        Self { interval: BURST / per_second.get(), next: Mutex::new(now) }
    }

    /// When the one that asks now has its turn; at once, if that is over.
    pub(crate) fn turn(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = now.checked_sub(BURST).map_or(*next, |least| least.max(*next)) + self.interval;
        *next = turn;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_fit_a_second_come_at_once_and_the_rest_in_turn() {
        let now = crate::now();
        let pace = Pace::new(NonZeroU32::new(4).unwrap(), now.checked_sub(BURST).unwrap());
        let waits = |now: Instant, count: usize| -> Vec<u128> {
            (0..count).map(|_| pace.turn(now).saturating_duration_since(now).as_millis()).collect()
        };
        assert_eq!(waits(now, 6), [0, 0, 0, 0, 250, 500]);
        // What nobody takes is not saved beyond a second's worth.
        assert_eq!(waits(now + Duration::from_secs(60), 5), [0, 0, 0, 0, 250]);
    }
}
