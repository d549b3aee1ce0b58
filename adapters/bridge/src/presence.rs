//! Whether a device that is connected still may be: for faces whose connections outlive a request.

use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{Generation, Principal, Timestamp};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::grants::GrantSource;

/// A device that is connected.
pub struct Presence {
    principal: Principal,
    grants: Arc<dyn GrantSource>,
    changes: watch::Receiver<Generation>,
    clock: Arc<dyn Clock>,
    /// Whether the table in force has been asked.
    is_asked: bool,
}

impl Presence {
    pub(crate) fn new(principal: Principal, grants: Arc<dyn GrantSource>, clock: Arc<dyn Clock>) -> Self {
        let changes = grants.changes();
        Self { principal, grants, changes, clock, is_asked: false }
    }

    /// Who it is.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Waits until its key is gone, its key's time is over, or its Thing is disabled. Nothing is lost when the future is
    /// dropped.
    pub async fn revoked(&mut self) {
        self.lost(|_| true).await;
    }

    /// The same, or until it has not all that it needs any more. Each new table is asked once, however often this is called.
    pub async fn lost(&mut self, has_all: impl Fn(&Principal) -> bool) {
        loop {
            let is_new = self.changes.has_changed().unwrap_or(true);
            if is_new || !self.is_asked || self.principal.not_after().is_some() {
                self.changes.mark_unchanged();
                self.is_asked = false;
                let Ok(principal) = self.grants.table().refresh(&self.principal, self.clock.now()) else { return };
                self.principal = principal;
                if !has_all(&self.principal) {
                    return;
                }
                self.is_asked = true;
            }
            tokio::select! {
                changed = self.changes.changed() => match changed {
                    Ok(()) => self.is_asked = false,
                    Err(_source_gone) => return,
                },
                () = key_ended(&self.principal, self.clock.now()) => {}
            }
        }
    }
}

/// Waits until the key may have ended, if it ever does; then the table is to be asked.
pub(crate) fn key_ended(principal: &Principal, now: Timestamp) -> impl Future<Output = ()> + Send + use<> {
    /// The timer's own limit is some years; a shorter nap only asks once more.
    const NAP_MAX: Duration = Duration::from_secs(24 * 60 * 60);
    // The key is good at its last instant, so wake just after.
    let nap = principal.not_after().map(|end| end.saturating_since(now).saturating_add(Duration::from_millis(1)));
    async move {
        match nap {
            // Most keys never end, and room for a timer is taken in every connection's future.
            Some(span) => Box::pin(tokio::time::sleep(span.min(NAP_MAX))).await,
            None => std::future::pending().await,
        }
    }
}
