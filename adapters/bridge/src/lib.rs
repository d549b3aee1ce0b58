//! The one path from a device to the broker and back: credential, principal, permit, publication, receipt.
//!
//! Owns the ports that brokers and grant sources implement, the check of a payload against its channel, and the fan-out
//! from one stream of deliveries to many bounded queues.
//! Must not know: a device protocol, AMQP, Kubernetes.

mod bridge;
mod clock;
mod departure;
mod fanout;
mod grants;
mod identity;
mod metrics;
mod payload;
mod port;
mod presence;
mod subscription;

pub use bridge::{Bridge, BridgeParts, Draft};
pub use clock::{Clock, SystemClock};
pub use departure::{DeparturePace, Departures};
pub use fanout::{Attachment, DeliveryQueue, Fanout, FanoutMetrics, QueueEvent, QueueLimits, Rest};
pub use grants::{GrantSource, Grants, KeyLookup, Session, StaleTable};
pub use identity::fresh_message_id;
pub use port::{
    BoxFuture, Broker, Delivery, GroupName, Overflow, Publication, Publisher, Receipt, Retained, Subscriber, Terms,
    Unavailable,
};
pub use presence::Presence;
pub use subscription::{Scope, Subscription, SubscriptionEnd, SubscriptionEvent};
