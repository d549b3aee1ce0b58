//! The resources that users think in: Thing, Channel and Adapter, as the API server and files have them.
//!
//! Owns the shape, the bounds and the words for what is wrong. Must not know a client, a clock, or what follows from a
//! resource. Unknown fields are refused, since a typo in a file must not pass for a setting; but see [`Stored`].

mod adapter;
mod bounds;
mod channel;
mod crds;
mod foreign;
mod reason;
mod status;
mod stored;
mod thing;
mod words;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

pub use adapter::{
    Adapter, AdapterSpec, Autoscaling, ClientAuth, CoapSettings, Drain, ExternalTrafficPolicy, Gateway, HttpSettings,
    Ingress, Listener, LogFormat, MqttSettings, ParentRef, Protocol, Resources, SecretName, ServiceTemplate,
    ServiceType, Settings, Tls, Transport, WebSocketSettings,
};
pub use bounds::{Violation, is_dns_label};
pub use channel::{AllowedThings, Channel, ChannelSpec, Namespaces, Payload, Validate};
pub use crds::{crds, missing_fields};
pub use reason::Reason;
pub use status::{
    AdapterStatus, Address, AddressType, ChannelStatus, ConditionStatus, ConditionType, ConnectionStatus, KeyState,
    KeyStatus, ThingStatus, condition, keep_transitions,
};
pub use stored::{Known, Stored};
pub use thing::{
    Certificate, Connection, Credentials, Generate, KeyHash, Permission, SecretRef, Subtopics, Thing, ThingSpec,
};
pub use words::{
    API_VERSION, CREDENTIALS_LABEL, GROUP, KEY_ENTRY, PAUSED_ANNOTATION, PREVIOUS_KEY_ENTRY,
    PREVIOUS_KEY_NOT_AFTER_ANNOTATION, ROTATE_ANNOTATION, ROTATED_ANNOTATION,
};
