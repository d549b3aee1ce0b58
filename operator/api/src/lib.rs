//! The resources that users think in: Thing and Channel, as the API server and files have them.
//!
//! Owns the shape, the bounds and the words for what is wrong. Must not know a client, a clock, or what follows from a
//! resource. Unknown fields are refused: a typo in a file must not pass for a setting.

mod bounds;
mod channel;
mod reason;
mod thing;
mod words;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use bounds::{Violation, is_dns_label};
pub use channel::{AllowedThings, Channel, ChannelSpec, Namespaces, Payload, Validate};
pub use reason::Reason;
pub use thing::{Connection, Credentials, Generate, KeyHash, Permission, SecretRef, Subtopics, Thing, ThingSpec};
pub use words::{
    API_VERSION, CREDENTIALS_LABEL, GROUP, KEY_ENTRY, PAUSED_ANNOTATION, PREVIOUS_KEY_ENTRY,
    PREVIOUS_KEY_NOT_AFTER_ANNOTATION, ROTATE_ANNOTATION, ROTATED_ANNOTATION,
};
