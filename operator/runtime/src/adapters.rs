//! The adapters that are connected, or were a moment ago, and the table that each has in force.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_grants_proto::Cursor;
use tidegate_plan::{Heard, ObjectId};
use tokio::time::Instant;

/// How long an adapter that is gone still counts: it may go on with the table that it has.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// After this an adapter that has not acknowledged the newest table counts as lagging.
pub(crate) const LAGGING_AFTER: Duration = Duration::from_secs(10);

/// One process of an adapter, by the number that it drew.
pub(crate) type Instance = String;

#[derive(Debug)]
struct Adapter {
    stream: u64,
    /// The Adapter whose pod it is, if it is one's.
    of: Option<ObjectId>,
    acknowledged: Option<Cursor>,
    /// The table that it lacks, and since when.
    lacks: Option<(Cursor, Instant)>,
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
    pub(crate) fn open(&mut self, instance: Instance, of: Option<ObjectId>) -> u64 {
        self.last_stream += 1;
        let stream = self.last_stream;
        let before = self.by_instance.get(&instance);
        let (acknowledged, lacks) = before.map_or((None, None), |adapter| (adapter.acknowledged, adapter.lacks));
        self.by_instance.insert(instance, Adapter { stream, of, acknowledged, lacks, closed: None });
        stream
    }

    /// Whether there is such a stream, which now has that table, while `newest` is the newest.
    pub(crate) fn acknowledge(&mut self, stream: u64, cursor: Cursor, newest: Cursor, now: Instant) -> bool {
        let adapter = self.by_instance.values_mut().find(|adapter| adapter.stream == stream);
        let Some(adapter) = adapter else { return false };
        adapter.acknowledged = adapter.acknowledged.max(Some(cursor));
        if adapter.lacks.is_some_and(|(lacked, _)| lacked <= cursor) {
            adapter.lacks = (cursor < newest).then_some((newest, now));
        }
        self.ever_acknowledged = true;
        true
    }

    /// There is a newer table.
    pub(crate) fn table_moved(&mut self, newest: Cursor, now: Instant) {
        for adapter in self.by_instance.values_mut() {
            adapter.lacks = adapter.lacks.or(Some((newest, now)));
        }
    }

    /// What the pods of an Adapter say.
    #[must_use]
    pub(crate) fn heard(&self, of: &ObjectId, now: Instant) -> Heard {
        let pods = self.by_instance.values().filter(|adapter| adapter.of.as_ref() == Some(of));
        let pods = pods.filter(|adapter| adapter.closed.is_none() && adapter.acknowledged.is_some());
        let mut heard = Heard::Nobody;
        for pod in pods {
            if pod.lacks.is_some_and(|(_, since)| now >= since + LAGGING_AFTER) {
                return Heard::Lagging;
            }
            heard = Heard::All;
        }
        heard
    }

    /// The stream is closed.
    pub(crate) fn close(&mut self, stream: u64, now: Instant) {
        if let Some(adapter) = self.by_instance.values_mut().find(|adapter| adapter.stream == stream) {
            adapter.closed = Some(now);
        }
    }

    /// The adapter of the stream serves nobody any more, and counts for nothing.
    pub(crate) fn leave(&mut self, stream: u64) {
        self.by_instance.retain(|_, adapter| adapter.stream != stream);
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
        self.forget_gone(now);
        self.least()
    }

    /// How many have a table, those among them that are cut off and may go on with it.
    pub(crate) fn serving(&mut self, now: Instant) -> u64 {
        self.forget_gone(now);
        self.by_instance.values().filter(|adapter| adapter.acknowledged.is_some()).count() as u64
    }

    fn forget_gone(&mut self, now: Instant) {
        self.by_instance.retain(|_, adapter| adapter.closed.is_none_or(|at| now < at + GONE_AFTER));
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
        let (mut adapters, now) = (Adapters::default(), start());
        let (a, b) = (adapters.open("a".into(), None), adapters.open("b".into(), None));
        assert_eq!(adapters.least(), None);
        assert!(adapters.acknowledge(a, Cursor(5), Cursor(5), now));
        assert_eq!(adapters.least(), Some(Cursor(5)));
        assert!(adapters.acknowledge(b, Cursor(3), Cursor(5), now));
        assert_eq!(adapters.least(), Some(Cursor(3)));
        assert!(!adapters.acknowledge(99, Cursor(9), Cursor(9), now));
    }

    #[test]
    fn one_that_is_cut_off_counts_until_it_is_back_or_gone_for_good() {
        let (mut adapters, now) = (Adapters::default(), start());
        let a = adapters.open("a".into(), None);
        adapters.acknowledge(a, Cursor(1), Cursor(1), now);
        adapters.close(a, now);
        assert_eq!(adapters.least_at(now + GONE_AFTER / 2), Some(Cursor(1)));
        let again = adapters.open("a".into(), None);
        assert_eq!(adapters.least_at(now + 2 * GONE_AFTER), Some(Cursor(1)));
        adapters.acknowledge(again, Cursor(2), Cursor(2), now);
        adapters.close(again, now);
        assert_eq!(adapters.least_at(now + GONE_AFTER), None);
    }

    #[test]
    fn one_that_says_that_it_leaves_is_not_waited_for() {
        let (mut adapters, now) = (Adapters::default(), start());
        let (a, b) = (adapters.open("a".into(), None), adapters.open("b".into(), None));
        adapters.acknowledge(a, Cursor(1), Cursor(2), now);
        adapters.acknowledge(b, Cursor(2), Cursor(2), now);
        adapters.leave(a);
        adapters.close(a, now);
        assert_eq!((adapters.least_at(now), adapters.serving(now)), (Some(Cursor(2)), 1));
        assert!(!adapters.acknowledge(a, Cursor(3), Cursor(3), now));
    }

    #[test]
    fn a_pod_lags_that_lacks_one_table_for_a_while_and_not_one_that_follows_a_table_that_moves() {
        let (mut adapters, now) = (Adapters::default(), start());
        let of = ObjectId::new("lab", "http");
        assert_eq!(adapters.heard(&of, now), Heard::Nobody);
        let pod = adapters.open("a".into(), Some(of.clone()));
        assert_eq!(adapters.heard(&of, now), Heard::Nobody);
        adapters.acknowledge(pod, Cursor(1), Cursor(1), now);
        for second in 1..30 {
            let now = now + Duration::from_secs(second);
            adapters.table_moved(Cursor(second + 1), now);
            assert_eq!(adapters.heard(&of, now), Heard::All);
            // Always one behind.
            adapters.acknowledge(pod, Cursor(second), Cursor(second + 1), now);
        }
        assert_eq!(adapters.heard(&of, now + Duration::from_secs(30)), Heard::All);
        assert_eq!(adapters.heard(&of, now + Duration::from_secs(60)), Heard::Lagging);
    }
}
