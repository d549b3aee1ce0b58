//! CoAP without I/O: datagrams to messages and back, and a server's side of what is said with them.
//!
//! Strict where RFC 7252 says MUST, and quick: options and payload stay in the buffer that they came in. Knows no clock, no
//! socket, no tenant and no broker.

mod code;
mod decode;
mod encode;
mod endpoint;
mod error;
mod limits;
mod link;
mod message;
mod option;
mod rate;
mod secret;

pub use code::Code;
pub use decode::decode;
pub use encode::encode;
pub use endpoint::{Address, Counts, Ending, Endpoint, Held, Observer, Output, Ticket};
pub use error::{DecodeError, Malformed, Rejection};
pub use limits::Limits;
pub use link::{Attribute, Link, links};
pub use message::{Carried, Message, MessageId, Request, Response, Token};
pub use option::{Block, ContentFormat, Format, NoResponse, Observe, OptionNumber, Options};
pub use rate::{Rate, prefix_of};
