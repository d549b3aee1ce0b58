//! The observations of one endpoint, and what comes of their subscriptions.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll};
use tidegate_bridge::{Subscription, SubscriptionEvent};
use tidegate_coap_proto::{Observer, Response};

use crate::line::Peer;

/// An observation.
struct Watched {
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
    watched: BTreeMap<Observer<Peer>, Watched>,
    events: SelectAll<BoxStream<'static, (Observer<Peer>, SubscriptionEvent)>>,
}

impl Observers {
    /// One more, which was told this.
    pub(crate) fn add(&mut self, observer: Observer<Peer>, subscription: Subscription, holds: Response) {
        let (told, stop) = subscription.named(observer.clone());
        self.events.push(told);
        self.watched.insert(observer, Watched { holds, stop });
    }

    pub(crate) fn remove(&mut self, observer: &Observer<Peer>) {
        self.watched.remove(observer);
    }

    /// Any of them.
    pub(crate) fn first(&self) -> Option<Observer<Peer>> {
        self.watched.keys().next().cloned()
    }

    /// What was told last.
    pub(crate) fn holds(&self, observer: &Observer<Peer>) -> Option<Response> {
        self.watched.get(observer).map(|watched| watched.holds.clone())
    }

    /// From now on this holds. Whether there is such an observation.
    pub(crate) fn set(&mut self, observer: &Observer<Peer>, holds: Response) -> bool {
        self.watched.get_mut(observer).is_some_and(|watched| {
            watched.holds = holds;
            true
        })
    }

    /// Waits for what comes next; for ever while there is none. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> (Observer<Peer>, SubscriptionEvent) {
        match self.events.next().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}
