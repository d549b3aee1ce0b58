//! The current grant table, read without a lock and replaced as a whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_model::{Generation, GrantTable};
use tokio::sync::watch;

/// Where the bridge finds the current grant table.
pub trait GrantSource: Send + Sync + 'static {
    /// The current table.
    fn table(&self) -> Arc<GrantTable>;
    /// Tells the number of each new table.
    fn changes(&self) -> watch::Receiver<Generation>;
}

/// A table came that is not newer than the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("grant table {offered:?} is not newer than {current:?}")]
pub struct StaleTable {
    /// The number of the table that came.
    pub offered: Generation,
    /// The number of the table in force.
    pub current: Generation,
}

/// Holds the current table. Starts with the one that refuses everyone.
#[derive(Debug)]
pub struct Grants {
    table: ArcSwap<GrantTable>,
    changes: watch::Sender<Generation>,
}

impl Grants {
    /// Refuses everyone until the first [`Grants::replace`].
    #[must_use]
    pub fn new() -> Self {
        let table = GrantTable::empty();
        let changes = watch::Sender::new(table.generation());
        Self { table: ArcSwap::from_pointee(table), changes }
    }

    /// Puts a newer table in force. Open subscriptions are asked again at once.
    ///
    /// # Errors
    /// [`StaleTable`] when it is not newer than the one in force, which stays.
    pub fn replace(&self, table: GrantTable) -> Result<(), StaleTable> {
        let offered = table.generation();
        let mut outcome = Ok(());
        self.changes.send_if_modified(|current| {
            if offered <= *current {
                outcome = Err(StaleTable { offered, current: *current });
                return false;
            }
            self.table.store(Arc::new(table));
            *current = offered;
            true
        });
        outcome
    }
}

impl Default for Grants {
    fn default() -> Self {
        Self::new()
    }
}

impl GrantSource for Grants {
    fn table(&self) -> Arc<GrantTable> {
        self.table.load_full()
    }

    fn changes(&self) -> watch::Receiver<Generation> {
        self.changes.subscribe()
    }
}
