//! The device's side of every face, for the command line, checks and load. HTTP so far; others come with their faces.
//!
//! Owns the wire forms as a client sees them. Must not share code with the server: it would agree with its mistakes.

mod event;
mod http;

pub use event::{Event, EventParser};
pub use http::{ClientError, HttpClient, Subscription};
