//! The current grant table, read without a lock and replaced as a whole; and the sessions that stand on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tidegate_model::{Generation, GrantTable, KeyHash, Principal, Timestamp, TopicFilter};
use tokio::sync::watch;

use crate::port::BoxFuture;

/// Where the bridge finds the current grant table.
pub trait GrantSource: Send + Sync + 'static {
    /// The current table.
    fn table(&self) -> Arc<GrantTable>;
    /// Tells the number of each new table.
    fn changes(&self) -> watch::Receiver<Generation>;
    /// Counts a subscription as open until the session is dropped.
    fn open_session(&self, principal: Principal, filter: TopicFilter) -> Session;
    /// Nobody is known by this key. Whether it is worth to look again, since there is a newer table by now.
    fn missed(&self, key: KeyHash) -> BoxFuture<'_, bool>;
}

/// Finds out whether a key that nobody is known by is somebody's after all.
pub trait KeyLookup: Send + Sync + 'static {
    /// Whether there is a table in force now that may know the key.
    fn look_up(&self, key: KeyHash) -> BoxFuture<'_, bool>;
}

/// Names one open subscription.
type SessionNumber = u64;

#[derive(Debug, Default)]
struct Sessions {
    opened: SessionNumber,
    /// By numbers that only grow, so that nodes are hardly more than half full: what they hold is small.
    open: BTreeMap<SessionNumber, Box<(Principal, TopicFilter)>>,
}

#[derive(Debug, Default)]
struct SessionRegister {
    sessions: Mutex<Sessions>,
    /// Counts the ends of sessions.
    ended: watch::Sender<u64>,
}

impl SessionRegister {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open subscription, as far as the grants are concerned.
#[derive(Debug)]
pub struct Session {
    number: SessionNumber,
    register: Arc<SessionRegister>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.register.sessions().open.remove(&self.number);
        self.register.ended.send_modify(|ended| *ended += 1);
    }
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
pub struct Grants {
    table: ArcSwap<GrantTable>,
    changes: watch::Sender<Generation>,
    register: Arc<SessionRegister>,
    lookup: OnceLock<Arc<dyn KeyLookup>>,
}

impl Grants {
    /// Refuses everyone until the first [`Grants::replace`].
    #[must_use]
    pub fn new() -> Self {
        let table = GrantTable::empty();
        let changes = watch::Sender::new(table.generation());
        Self { table: ArcSwap::from_pointee(table), changes, register: Arc::default(), lookup: OnceLock::new() }
    }

    /// Has keys that nobody is known by looked up. Only the first call counts.
    pub fn look_up_misses(&self, lookup: Arc<dyn KeyLookup>) {
        // A second one finds that there is one.
        let _ = self.lookup.set(lookup);
    }

    /// Waits until every subscription that the table in force does not allow has ended. Such a one ends by itself; this
    /// waits for it.
    pub async fn revoked_ended(&self, now: Timestamp) {
        let table = self.table();
        let allowed = |session: &(Principal, TopicFilter)| {
            let (principal, filter) = session;
            let principal = table.refresh(principal, now);
            principal.is_ok_and(|principal| table.authorize_filter(&principal, filter.clone(), now).is_ok())
        };
        let mut ended = self.register.ended.subscribe();
        let revoked: Vec<SessionNumber> = {
            let sessions = self.register.sessions();
            sessions.open.iter().filter(|(_, session)| !allowed(session)).map(|(number, _)| *number).collect()
        };
        loop {
            let open = {
                let sessions = self.register.sessions();
                revoked.iter().any(|number| sessions.open.contains_key(number))
            };
            // The sender lives as long as the register.
            if !open || ended.changed().await.is_err() {
                return;
            }
        }
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

    fn open_session(&self, principal: Principal, filter: TopicFilter) -> Session {
        let mut sessions = self.register.sessions();
        sessions.opened += 1;
        let number = sessions.opened;
        sessions.open.insert(number, Box::new((principal, filter)));
        Session { number, register: Arc::clone(&self.register) }
    }

    fn missed(&self, key: KeyHash) -> BoxFuture<'_, bool> {
        match self.lookup.get() {
            Some(lookup) => lookup.look_up(key),
            None => Box::pin(std::future::ready(false)),
        }
    }
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grants").field("table", &self.table).finish_non_exhaustive()
    }
}
