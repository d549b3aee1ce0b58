//! The grant stream: how the operator tells adapters who may do what.
//!
//! Owns the wire form and the two state machines over it: [`Journal`] on the operator's side, [`Replica`] on the
//! adapter's. It is the one crate besides `model` that both halves name, since it is what they agree on. Must not know a
//! clock, a socket, HTTP, or where grants come from.
//!
//! ```text
//! GET /v1/grants?epoch=<hex>&cursor=<n>     Authorization: Bearer <token>; both absent for everything
//!               [&keys=shared][&held=shared]  keys in clear are asked for; they are among what is known already
//!   Hello, Entries..., Settled, Entries..., Settled, Heartbeat, ...
//! POST /v1/grants/acknowledged              the CBOR of [`Acknowledgement`]
//! POST /v1/grants/lookup                    the CBOR of [`Lookup`], answered by that of [`Found`]
//! ```
//!
//! The answer to GET is a sequence of frames, each a length of 4 bytes, big-endian, and as many bytes of CBOR. What an
//! older peer does not know, it skips: frames of another kind, lists behind the last of an Entries frame, fields behind
//! the last of an entry.
//!
//! Entries have keys as hashes. Keys in clear are a list of their own, which only a stream of [`Keys::Shared`] has, as its
//! Hello says: beside each Thing that is told, and whenever they alone changed. All streams have the same cursors.

mod frame;
mod journal;
mod replica;
mod request;
mod wire;

pub use frame::{FRAME_BYTES_MAX, Frame, FrameError, FrameReader, Mode};
pub use journal::{Journal, JournalLimits};
pub use replica::{Progress, Replica, StreamError};
pub use request::{
    ACKNOWLEDGED_PATH, Acknowledgement, Found, GRANTS_PATH, Keys, LEAVING_PATH, LOOKUP_PATH, Leaving, Lookup, Resume,
};

/// Names one history of tables: cursors of different epochs have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub [u8; 16]);

/// A point in a history: a table with a higher one is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub u64);
