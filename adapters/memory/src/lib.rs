//! The broker in process: for the embedded form, where one binary serves a bench or a gateway, and for tests. And what is
//! retained, in the memory of this process, whichever broker there is.
//!
//! "Confirmed" means here that every subscriber's queue has the message: nothing else is kept for those who come later.
//! Must not know: a device protocol, a file, a socket.

mod retained;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tidegate_bridge::{
    BoxFuture, Broker, DeliveryQueue, Fanout, FanoutMetrics, Publication, Publisher, QueueLimits, Receipt, Subscriber,
    Terms, Unavailable,
};
use tidegate_model::FilterPermit;
use tokio::sync::watch;

pub use retained::{MemoryRetained, RetainedLimits};

/// Delivers to the subscribers of this process and forgets.
pub struct MemoryBroker {
    fanout: Arc<Fanout>,
    link_up: watch::Sender<bool>,
}

impl MemoryBroker {
    /// A broker without subscribers, each of whom will get a queue within `limits`.
    #[must_use]
    pub fn new(limits: QueueLimits, registry: &mut Registry) -> Self {
        let fanout = Fanout::new(limits, FanoutMetrics::registered(registry), |_channel| {});
        Self { fanout, link_up: watch::Sender::new(true) }
    }
}

impl Publisher for MemoryBroker {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Receipt, Unavailable>> {
        let receipt = Receipt { message_id: publication.message().id.clone() };
        self.fanout.deliver(publication.into_delivery());
        Box::pin(std::future::ready(Ok(receipt)))
    }
}

impl Subscriber for MemoryBroker {
    fn subscribe(&self, permit: FilterPermit, terms: Terms) -> BoxFuture<'_, Result<DeliveryQueue, Unavailable>> {
        let (queue, _attachment) = self.fanout.attach(&permit, terms);
        Box::pin(std::future::ready(Ok(queue)))
    }
}

impl Broker for MemoryBroker {
    fn link_up(&self) -> watch::Receiver<bool> {
        self.link_up.subscribe()
    }
}
