//! MQTT 5.0, 3.1.1 and 3.1 without I/O: bytes to packets and back.
//!
//! Strict where the standards say MUST, and quick: topics, payloads and properties stay in the buffer that they came in.
//! Knows no clock, no socket, no tenant and no broker.

mod decode;
mod encode;
mod error;
mod frame;
mod packet;
mod property;
mod reader;
mod reason;
mod session;
mod text;
mod topic;

pub use decode::{Sender, decode};
pub use encode::{EncodeError, encode};
pub use error::DecodeError;
pub use frame::{Frame, PacketType, split};
pub use packet::{
    Acknowledgement, Auth, ConnAck, Connect, Delivery, Disconnect, Packet, PacketId, Publish, QoS, RetainHandling,
    Secret, SubAck, Subscribe, SubscriptionOptions, UnsubAck, Unsubscribe, Version, Will,
};
pub use property::{Properties, Property};
pub use reason::Reason;
pub use session::{Accepted, Dropped, Ended, Limits, Message, Output, Session, State, Ticket, Wanted};
pub use text::Text;
pub use topic::{Shared, is_filter, is_topic_name, shared};
