//! In which order subscriptions end when the process does: at a pace, since all devices that lose theirs come back at once.
//!
//! Knows no clock: it says how long to wait.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How fast subscriptions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeparturePace {
    /// So many in a second.
    pub per_second: NonZeroU32,
    /// None waits longer than this, however many there are.
    pub within: Duration,
}

/// Tells each subscription that it is to end, and when.
#[derive(Debug)]
pub struct Departures {
    pace: watch::Sender<Option<DeparturePace>>,
    turns: AtomicU32,
}

impl Default for Departures {
    fn default() -> Self {
        Self { pace: watch::Sender::new(None), turns: AtomicU32::new(0) }
    }
}

impl Departures {
    /// Subscriptions are to end from now on.
    pub fn begin(&self, pace: DeparturePace) {
        self.pace.send_replace(Some(pace));
    }

    /// Whether they are, and the change of that.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<DeparturePace>> {
        self.pace.subscribe()
    }

    /// Waits until they are, and says how long after that the one that asks is to end. Nothing is lost when the future is
    /// dropped.
    pub async fn turn_of_one(&self) -> Duration {
        let mut begun = self.subscribe();
        // The sender lives as long as this.
        let pace = begun.wait_for(Option::is_some).await.map(|pace| *pace);
        pace.ok().flatten().map_or(Duration::ZERO, |pace| self.turn(pace))
    }

    /// How long after the beginning the one that asks is to end; each that asks is later than the one before.
    fn turn(&self, pace: DeparturePace) -> Duration {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        (Duration::from_secs(u64::from(turn)) / pace.per_second.get()).min(pace.within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_another_and_none_later_than_the_end() {
        let departures = Departures::default();
        let pace = DeparturePace { per_second: NonZeroU32::new(4).unwrap(), within: Duration::from_millis(600) };
        let turns: Vec<_> = (0..4).map(|_| departures.turn(pace).as_millis()).collect();
        assert_eq!(turns, [0, 250, 500, 600]);
    }
}
