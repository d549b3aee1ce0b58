//! Names for messages that faces take in.

use tidegate_model::MessageId;
use uuid::Uuid;

/// A name that no other message has: a UUID of version 7.
///
/// # Panics
/// Never: such a name can be an id.
//= RFC9562 5.7
#[must_use]
#[expect(clippy::disallowed_methods, reason = "for drivers alone: they name the messages that they take in")]
pub fn fresh_message_id() -> MessageId {
    MessageId::parse(&Uuid::now_v7().to_string()).expect("a UUID has 36 characters")
}
