//! The HTTP face: publish by POST, subscribe by server-sent events.
//!
//! Owns the HTTP spelling of addresses, credentials, refusals and deliveries. Must not know a socket, TLS, AMQP or where
//! grants come from: streams are handed in, and everything that decides goes through the bridge.

mod answer;
mod credential;
mod event;
mod face;
mod publish;
mod query;
mod subscribe;

pub use face::{HttpFace, HttpLimits};
