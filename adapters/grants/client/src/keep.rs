//! When the table is written to disk: soon after it changed, not more often than once a second, by one writer, beside
//! the stream; and now and then though it stays as it is, so that it does not grow old there.

use std::sync::Arc;
use std::time::Duration;

use tidegate_grants_proto::Replica;
use tidegate_model::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cache::Cache;

/// How often a table is written at most.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// How often it is written though it stays as it is.
const EVERY_MAX: Duration = Duration::from_secs(60);

/// Keeps the last table.
pub(crate) struct Keep {
    /// None where it is not to be kept.
    cache: Option<Arc<Cache>>,
    /// Whether it is another than the one on disk.
    is_new: bool,
    /// When it was last known to be good; not before the operator was heard of.
    good_at: Option<Timestamp>,
    /// When it was last written.
    written: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

impl Keep {
    /// Nothing is to be written yet.
    pub(crate) fn new(cache: Option<Cache>) -> Self {
        Self { cache: cache.map(Arc::new), is_new: false, good_at: None, written: None, writing: None }
    }

    /// The table changed.
    pub(crate) const fn is_new(&mut self) {
        self.is_new = true;
    }

    /// The table is the operator's.
    pub(crate) const fn is_good(&mut self, at: Timestamp) {
        self.good_at = Some(at);
    }

    /// When to write; nothing while there is nothing to write.
    fn due_at(&self, now: Instant) -> Option<Instant> {
        self.cache.as_ref()?;
        self.good_at?;
        let wait = if self.is_new { EVERY_MIN } else { EVERY_MAX };
        Some(self.written.map_or(now, |written| written + wait))
    }

    /// Waits until it is time to write; for ever where it never will be.
    pub(crate) async fn due(&mut self, now: Instant) {
        let Some(at) = self.due_at(now) else { return std::future::pending().await };
        tokio::time::sleep_until(at).await;
        if let Some(writing) = &mut self.writing {
            // A writer that panicked has said so.
            let _ = writing.await;
        }
        self.writing = None;
    }

    /// Writes, beside whatever comes next.
    pub(crate) fn store(&mut self, replica: &Replica, now: Instant) {
        (self.is_new, self.written) = (false, Some(now));
        let (Some(cache), Some(at), Some(table)) = (self.cache.clone(), self.good_at, replica.to_bytes()) else {
            return;
        };
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = cache.store(&table, at) {
                tracing::warn!(error = &error as &dyn std::error::Error, "the table cannot be kept");
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use tidegate_grants_proto::{Epoch, Journal, JournalLimits, Keys};

    use super::*;
    use crate::CacheOptions;

    #[expect(clippy::disallowed_methods, reason = "the clock of the test, which stands still")]
    fn now() -> Instant {
        Instant::now()
    }

    fn replica() -> Replica {
        let mut journal = Journal::new(Epoch([1; 16]), JournalLimits::default());
        let mut replica = Replica::new();
        replica.handle_bytes(&journal.open(None, 1, Keys::Hashed).0.concat());
        while replica.poll_progress().unwrap().is_some() {}
        replica
    }

    #[tokio::test]
    async fn a_table_is_written_at_once_and_then_as_often_as_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let options = CacheOptions { folder: folder.path().join("tables"), key: folder.path().join("key") };
        let mut keep = Keep::new(Some(Cache::open(&options).unwrap()));
        let begin = now();
        keep.is_new();
        assert_eq!(keep.due_at(begin), None, "nobody said that it is good");
        keep.is_good(Timestamp::from_secs(1));
        assert_eq!(keep.due_at(begin), Some(begin));
        keep.due(begin).await;
        keep.store(&replica(), begin);
        assert_eq!(keep.due_at(begin), Some(begin + EVERY_MAX));
        keep.is_new();
        assert_eq!(keep.due_at(begin), Some(begin + EVERY_MIN));
        keep.due(begin).await;
        let kept = Cache::open(&options).unwrap().load(Timestamp::from_secs(2), Duration::ZERO).unwrap();
        assert_eq!(kept.unwrap().1, Timestamp::from_secs(1), "the writer is done before the next one");
        assert_eq!(Keep::new(None).due_at(begin), None);
    }
}
