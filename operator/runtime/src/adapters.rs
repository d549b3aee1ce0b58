//! The adapters that are connected, or were a moment ago, and the table that each has in force.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_grants_proto::Cursor;
use tokio::time::Instant;

/// How long an adapter that is gone still counts: it may go on with the table that it has.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// One process of an adapter, by the number that it drew.
pub(crate) type Instance = String;

#[derive(Debug)]
struct Adapter {
    stream: u64,
    acknowledged: Option<Cursor>,
    /// Since when its stream is closed.
    closed: Option<Instant>,
}

/// Who is here.
#[derive(Debug, Default)]
pub(crate) struct Adapters {
    last_stream: u64,
    by_instance: BTreeMap<Instance, Adapter>,
    ever_acknowledged: bool,
}

impl Adapters {
    /// A stream of its own for an adapter, which replaces the one that it had. What it acknowledged before stands.
    pub(crate) fn open(&mut self, instance: Instance) -> u64 {
        self.last_stream += 1;
        let stream = self.last_stream;
        let acknowledged = self.by_instance.get(&instance).and_then(|adapter| adapter.acknowledged);
        self.by_instance.insert(instance, Adapter { stream, acknowledged, closed: None });
        stream
    }

    /// Whether there is such a stream, which now has that table.
    pub(crate) fn acknowledge(&mut self, stream: u64, cursor: Cursor) -> bool {
        let adapter = self.by_instance.values_mut().find(|adapter| adapter.stream == stream);
        let Some(adapter) = adapter else { return false };
        adapter.acknowledged = adapter.acknowledged.max(Some(cursor));
        self.ever_acknowledged = true;
        true
    }

    /// The stream is closed.
    pub(crate) fn close(&mut self, stream: u64, now: Instant) {
        if let Some(adapter) = self.by_instance.values_mut().find(|adapter| adapter.stream == stream) {
            adapter.closed = Some(now);
        }
    }

    /// Whether any adapter has acknowledged anything since this process began.
    #[must_use]
    pub(crate) const fn ever_acknowledged(&self) -> bool {
        self.ever_acknowledged
    }

    /// The table that every adapter has at least. One that has none yet serves nobody and does not count.
    #[must_use]
    pub(crate) fn least(&self) -> Option<Cursor> {
        self.by_instance.values().filter_map(|adapter| adapter.acknowledged).min()
    }

    /// The same at `now`, when some may be gone for good.
    pub(crate) fn least_at(&mut self, now: Instant) -> Option<Cursor> {
        self.by_instance.retain(|_, adapter| adapter.closed.is_none_or(|at| now < at + GONE_AFTER));
        self.least()
    }

    /// How many have an open stream.
    #[must_use]
    pub(crate) fn connected(&self) -> usize {
        self.by_instance.values().filter(|adapter| adapter.closed.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_slowest_adapter_decides_and_one_without_a_table_does_not_count() {
        let mut adapters = Adapters::default();
        let (a, b) = (adapters.open("a".into()), adapters.open("b".into()));
        assert_eq!(adapters.least(), None);
        assert!(adapters.acknowledge(a, Cursor(5)));
        assert_eq!(adapters.least(), Some(Cursor(5)));
        assert!(adapters.acknowledge(b, Cursor(3)));
        assert_eq!(adapters.least(), Some(Cursor(3)));
        assert!(!adapters.acknowledge(99, Cursor(9)));
    }

    #[test]
    fn one_that_is_cut_off_counts_until_it_is_back_or_gone_for_good() {
        let mut adapters = Adapters::default();
        let a = adapters.open("a".into());
        adapters.acknowledge(a, Cursor(1));
        let now = start();
        adapters.close(a, now);
        assert_eq!(adapters.least_at(now + GONE_AFTER / 2), Some(Cursor(1)));
        let again = adapters.open("a".into());
        assert_eq!(adapters.least_at(now + 2 * GONE_AFTER), Some(Cursor(1)));
        adapters.acknowledge(again, Cursor(2));
        adapters.close(again, now);
        assert_eq!(adapters.least_at(now + GONE_AFTER), None);
    }
}
