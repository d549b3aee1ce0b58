//! RabbitMQ: publishing with confirms, delivering through one queue for the whole process.
//!
//! The only crate that may name the AMQP client. Owns connections, topology and what a message looks like in AMQP; must
//! not know a device protocol or who may do what. It never gives up on the broker: it connects again, and what was in
//! flight is published again under the same message id or refused within its bound.

mod broker;
mod config;
mod extras;
mod link;
mod metrics;
mod probe;
mod subscriber;
mod wire;
mod writer;

pub use broker::AmqpBroker;
pub use config::{AmqpConfig, AmqpError, UrlSource};
pub use probe::{Reach, probe};
