//! The HTTP face: publish by POST, subscribe by server-sent events.
//!
//! Owns the HTTP spelling of addresses, credentials, refusals and deliveries, also for a face that takes connections over
//! by an upgrade. Must not know a socket, TLS, AMQP or where
//! grants come from: streams are handed in, and everything that decides goes through the bridge.

mod answer;
mod credential;
mod event;
mod face;
mod lent;
mod publish;
pub mod query;
mod subscribe;
mod upgrade;

pub use answer::Problem;
pub use credential::{Proof, Shown};
pub use face::{HttpFace, HttpLimits};
pub use upgrade::{Received, Routes, Switch, Upgrade, names};
