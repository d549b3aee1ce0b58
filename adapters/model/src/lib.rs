//! The words of Tidegate: ids, topics, messages, grants and refusals.
//!
//! Owns the three spellings of a topic (URL path, MQTT, AMQP routing key), the grant table that decides who may do
//! what, and the closed list of refusals that every face translates into its own language.
//! Must not know: async, serde, a protocol, AMQP, Kubernetes, a clock or a random number.

mod certificate;
mod credential;
mod delta;
mod filter;
mod message;
mod name;
mod refusal;
mod table;
mod time;
mod topic;

pub use certificate::{CertificateName, CertificateNameError, CertificateNames};
pub use credential::{Credential, KeyHash, SharedKey};
pub use delta::Delta;
pub use filter::{SubtopicFilter, TopicFilter};
pub use message::{ContentType, ContentTypeError, Extras, Message, MessageId, Protocol, QoS};
pub use name::{Alias, ChannelId, ChannelRef, NameError, ThingId, is_dns_label};
pub use refusal::{Operation, Refusal};
pub use table::{
    Action, ChannelEntry, FilterPermit, Generation, GrantEntry, GrantTable, GrantTableBuilder, KeyEntry, PayloadPolicy,
    Permissions, Permit, Principal, TableContents, TableError, ThingEntry, Validation,
};
pub use time::Timestamp;
pub use topic::{RoutingKey, Subtopic, Topic, TopicError, TopicLimits};
