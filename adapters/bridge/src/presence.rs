//! Whether a device that is connected still may be: for faces whose connections outlive a request.

use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{Generation, Principal};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::grants::GrantSource;

/// The timer's own limit is some years; a shorter nap only asks once more.
const NAP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A device that is connected.
pub struct Presence {
    principal: Principal,
    grants: Arc<dyn GrantSource>,
    changes: watch::Receiver<Generation>,
    clock: Arc<dyn Clock>,
}

impl Presence {
    pub(crate) fn new(principal: Principal, grants: Arc<dyn GrantSource>, clock: Arc<dyn Clock>) -> Self {
        let changes = grants.changes();
        Self { principal, grants, changes, clock }
    }

    /// Who it is.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Waits until its key is gone, its key's time is over, or its Thing is disabled. Nothing is lost when the future is
    /// dropped.
    pub async fn revoked(&mut self) {
        loop {
            let Ok(principal) = self.grants.table().refresh(&self.principal, self.clock.now()) else { return };
            self.principal = principal;
            let end = self.principal.not_after();
            // The key is good at its last instant, so wake just after.
            let nap = end.map_or(NAP_MAX, |end| {
                end.saturating_since(self.clock.now()).saturating_add(Duration::from_millis(1)).min(NAP_MAX)
            });
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(nap) => {}
            }
        }
    }
}
