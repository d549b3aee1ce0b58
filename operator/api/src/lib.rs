//! The resources that users think in: Thing and Channel, as the API server and files have them.
//!
//! Owns the shape, the bounds and the words for what is wrong. Must not know a client, a clock, or what follows from a
//! resource. Unknown fields are refused: a typo in a file must not pass for a setting.

mod bounds;
mod channel;
mod reason;
mod thing;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use bounds::{Violation, is_dns_label};
pub use channel::{AllowedThings, Channel, ChannelSpec, Namespaces, Payload, Validate};
pub use reason::Reason;
pub use thing::{Connection, Credentials, KeyHash, Permission, SecretRef, Subtopics, Thing, ThingSpec};

/// The group of the resources.
pub const GROUP: &str = "tidegate.io";
/// The only version so far.
pub const API_VERSION: &str = "tidegate.io/v1alpha1";
/// The label, with the value `true`, of a Secret that may hold keys.
pub const CREDENTIALS_LABEL: &str = "tidegate.io/credentials";
