//! The observations of one endpoint, and what comes of their subscriptions.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll};
use tidegate_bridge::{Delivery, Subscription, SubscriptionEvent};
use tidegate_coap_proto::{ContentFormat, Observer};

use crate::line::Peer;

/// What is observed.
#[derive(Clone)]
pub(crate) struct Observed {
    /// What was told last: what holds.
    pub(crate) last: Option<Arc<Delivery>>,
    /// The format that the observer takes, where it takes one alone.
    pub(crate) accept: Option<ContentFormat>,
}

/// An observation.
struct Watched {
    observer: Observer<Peer>,
    /// What its subscription tells comes under this, whoever observes by now.
    number: u64,
    observed: Observed,
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
    /// By whose it is, and its number.
    events: SelectAll<BoxStream<'static, ((Peer, u64), SubscriptionEvent)>>,
    last_number: u64,
}

impl Observers {
    /// One more, which was told this.
    pub(crate) fn add(&mut self, observer: Observer<Peer>, subscription: Subscription, observed: Observed) {
        self.last_number += 1;
        let (peer, number) = (*observer.peer(), self.last_number);
        let (told, stop) = subscription.named((peer, number));
        self.events.push(told);
        let own = self.watched.entry(peer).or_default();
        // Most have one.
        own.reserve_exact(1);
        own.push(Watched { observer, number, observed, stop });
    }

    /// One takes the place of another, with its subscription: what waits in that is told to it. Whether there was the other.
    pub(crate) fn renew(&mut self, before: &Observer<Peer>, observer: Observer<Peer>, observed: Observed) -> bool {
        let own = self.watched.get_mut(before.peer()).map(Vec::as_mut_slice).unwrap_or_default();
        let Some(watched) = own.iter_mut().find(|watched| watched.observer == *before) else { return false };
        (watched.observer, watched.observed) = (observer, observed);
        true
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

    /// What one observes, if it still does.
    pub(crate) fn get_mut(&mut self, observer: &Observer<Peer>) -> Option<&mut Observed> {
        let own = self.watched.get_mut(observer.peer())?;
        own.iter_mut().find(|watched| watched.observer == *observer).map(|watched| &mut watched.observed)
    }

    /// Waits for what comes next, and to whom; for ever while there is none. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> (Observer<Peer>, SubscriptionEvent) {
        while let Some(((peer, number), told)) = self.events.next().await {
            let own = self.watched.get(&peer).map(Vec::as_slice).unwrap_or_default();
            if let Some(watched) = own.iter().find(|watched| watched.number == number) {
                return (watched.observer.clone(), told);
            }
        }
        std::future::pending().await
    }
}
