//! The observations of one endpoint, and what comes of their subscriptions.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll};
use tidegate_bridge::{Subscription, SubscriptionEvent};
use tidegate_coap_proto::{Observer, Response};

use crate::line::Peer;

/// An observation.
struct Watched {
    observer: Observer<Peer>,
    /// What was told last: what holds.
    holds: Response,
    stop: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

#[derive(Default)]
pub(crate) struct Observers {
    /// Those of one peer together: it has few, and when it is gone, they are.
    watched: BTreeMap<Peer, Vec<Watched>>,
    events: SelectAll<BoxStream<'static, (Observer<Peer>, SubscriptionEvent)>>,
}

impl Observers {
    /// One more, which was told this.
    pub(crate) fn add(&mut self, observer: Observer<Peer>, subscription: Subscription, holds: Response) {
        let (told, stop) = subscription.named(observer.clone());
        self.events.push(told);
        self.watched.entry(*observer.peer()).or_default().push(Watched { observer, holds, stop });
    }

    pub(crate) fn remove(&mut self, observer: &Observer<Peer>) {
        if let Some(own) = self.watched.get_mut(observer.peer()) {
            own.retain(|watched| watched.observer != *observer);
            if own.is_empty() {
                self.watched.remove(observer.peer());
            }
        }
    }

    /// All of a peer.
    pub(crate) fn remove_all_of(&mut self, peer: &Peer) {
        self.watched.remove(peer);
    }

    /// Any of them.
    pub(crate) fn first(&self) -> Option<Observer<Peer>> {
        let (_, own) = self.watched.first_key_value()?;
        own.first().map(|watched| watched.observer.clone())
    }

    /// What was told last.
    pub(crate) fn holds(&self, observer: &Observer<Peer>) -> Option<Response> {
        let own = self.watched.get(observer.peer())?;
        own.iter().find(|watched| watched.observer == *observer).map(|watched| watched.holds.clone())
    }

    /// From now on this holds. Whether there is such an observation.
    pub(crate) fn set(&mut self, observer: &Observer<Peer>, holds: Response) -> bool {
        let own = self.watched.get_mut(observer.peer()).map(Vec::as_mut_slice).unwrap_or_default();
        let watched = own.iter_mut().find(|watched| watched.observer == *observer);
        watched.map(|watched| watched.holds = holds).is_some()
    }

    /// Waits for what comes next; for ever while there is none. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> (Observer<Peer>, SubscriptionEvent) {
        match self.events.next().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}
