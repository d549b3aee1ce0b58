//! What the operator says of an object, and how a condition is written.
//!
//! Owns the shape of `status` and the rule that a condition's transition is a change of its status. Must not know a
//! clock: whoever writes brings the time.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Reason;

/// Characters of a message, so that a status stays small whatever there is to say.
const MESSAGE_CHARS_MAX: usize = 1_024;

/// What a condition is about; each is good when it is true, but for `Degraded` and `Progressing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The object itself is valid, and its ids, keys and certificate are its own.
    Accepted,
    /// What the object names is there and may be used.
    ResolvedRefs,
    /// The broker has what the Channel needs.
    BrokerReady,
    /// Enough pods of the Adapter are ready.
    Available,
    /// Pods of the Adapter are being made or replaced.
    Progressing,
    /// Something of the Adapter is not as it should be and does not mend itself.
    Degraded,
    /// Every live adapter pod has acknowledged a grant table at least as new.
    Programmed,
    /// All of the others together: what a script waits for.
    Ready,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known yet.
    Unknown,
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A condition of the object's `generation`, as if it began at `now`; [`keep_transitions`] knows better.
#[must_use]
pub fn condition(
    kind: ConditionType,
    status: ConditionStatus,
    (reason, message): (Reason, &str),
    generation: Option<i64>,
    now: Time,
) -> Condition {
    Condition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: reason.to_string(),
        message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        observed_generation: generation,
        last_transition_time: now,
    }
}

/// Gives each of `wanted` whose status is what `found` has of its type the time since when it has been so.
pub fn keep_transitions(wanted: &mut [Condition], found: &[Condition]) {
    for condition in wanted {
        let same = |was: &&Condition| was.type_ == condition.type_ && was.status == condition.status;
        if let Some(was) = found.iter().find(same) {
            condition.last_transition_time = was.last_transition_time.clone();
        }
    }
}

/// As the API conventions of Kubernetes have it, keyed by type, so that two writers keep each other's.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "What the condition is about."},
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds: True, False or Unknown."
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The metadata.generation that this was said of."
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time", "maxLength": 64,
                    "description": "Since when the status has been what it is."
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 128,
                    "description": "Why, in one word of a closed set."
                },
                "message": {"type": "string", "maxLength": 1024, "description": "The same for people."}
            }
        }
    })
}

/// What the operator says of a Thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ThingStatus {
    /// The metadata.generation that was looked at last, whatever came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Programmed, and Ready for all of them together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The id by which devices and back ends know the Thing: `<namespace>.<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 127))]
    pub id: Option<String>,
    /// The Secret with the generated key, in the Thing's namespace; absent where keys are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub credentials_secret: Option<String>,
    /// The keys of the Thing, by their ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub keys: Vec<KeyStatus>,
    /// How many keys the Thing may show now: those that are Active or Retiring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_usable: Option<i32>,
    /// The connections that do not count, each with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace", "channel"]))]
    pub connections: Vec<ConnectionStatus>,
    /// How many connections count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_resolved: Option<i32>,
}

/// A key of a Thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// The key's id within the Thing; `key` and `previousKey` of a generated one.
    #[schemars(length(max = 63))]
    pub id: String,
    /// Whether the key may be shown now: Pending before its notBefore, Active, Retiring with a notAfter to come, Expired
    /// after it.
    pub state: KeyState,
    /// Until when the key is valid; absent for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub not_after: Option<String>,
}

/// Whether a key may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum KeyState {
    /// Not yet.
    Pending,
    /// Yes.
    Active,
    /// Yes, until its time is over.
    Retiring,
    /// No longer.
    Expired,
}

/// A connection that does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// The Channel's namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The Channel's name.
    #[schemars(length(max = 63))]
    pub channel: String,
    /// Why the connection does not count: ChannelNotFound, NotPermitted or InvalidSpec.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// The same for people.
    #[schemars(length(max = 1_024))]
    pub message: String,
}

/// What the operator says of a Channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ChannelStatus {
    /// The metadata.generation that was looked at last, whatever came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, BrokerReady, Programmed, and Ready for all of them together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The id by which devices know the Channel: `<namespace>.<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 127))]
    pub id: Option<String>,
    /// How many Things are connected by their specs, whether or not they are online.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub things: Option<i32>,
    /// The broker's exchange that the Channel's messages go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub exchange: Option<String>,
    /// The binding key that catches every message of the Channel on that exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub routing_key: Option<String>,
}

/// What the operator says of an Adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdapterStatus {
    /// The metadata.generation that was looked at last, whatever came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Available, Progressing, Degraded, Programmed, and Ready for all of them together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// How many pods there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many pods are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// The labels of the Adapter's pods, as a selector in one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024))]
    pub selector: Option<String>,
    /// Where devices reach the Adapter from outside of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<Address>,
}

/// Where an Adapter is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// What the value is: IPAddress or Hostname.
    #[serde(rename = "type")]
    pub kind: AddressType,
    /// The address itself.
    #[schemars(length(max = 253))]
    pub value: String,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum AddressType {
    /// IPv4 or IPv6.
    IPAddress,
    /// A name in the DNS.
    Hostname,
}
