//! Channel: where messages go.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{
    ADMIT_MAX, CONTENT_TYPE_CHARS_MAX, Check, NAMESPACES_MAX, PAYLOAD_BYTES_MAX, Violation, is_dns_label,
};
use crate::status::ChannelStatus;

/// A Channel: devices publish to it and subscribe to it under `channels/<namespace>.<name>/messages`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tidegate.io",
    version = "v1alpha1",
    kind = "Channel",
    doc = "A Channel: devices publish to it and subscribe to it under channels/<namespace>.<name>/messages.",
    namespaced,
    shortname = "tgch",
    category = "tidegate",
    status = "ChannelStatus",
    printcolumn(name = "ID", type_ = "string", json_path = ".status.id"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(
        name = "Broker",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"BrokerReady\")].status",
        priority = 1
    ),
    printcolumn(name = "Things", type_ = "integer", json_path = ".status.things"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("the name of a Channel has at most 63 of a-z, 0-9 and '-', and no dot"),
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ChannelSpec {
    /// Other ids of this Channel, for devices that are already flashed. Unique in the installation; the oldest Channel
    /// keeps an id that two claim.
    #[schemars(length(max = 4), inner(length(max = 64), regex(pattern = "^[A-Za-z0-9_-]+$")))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub aliases: Vec<String>,
    /// Which namespaces' Things may connect. Withdrawal ends their sessions.
    pub allowed_things: AllowedThings,
    /// What a message may be.
    pub payload: Payload,
}

/// The Channel owner's standing consent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.list) || size(self.list) == 0 || (has(self.namespaces) && self.namespaces == 'List')",
    "message": "list goes with namespaces: List"
}]))]
pub struct AllowedThings {
    /// `Same`: Things of the Channel's own namespace. `All`: Things of every namespace. `List`: Things of the own
    /// namespace and of those in `list`.
    pub namespaces: Namespaces,
    /// The namespaces that `List` names.
    #[schemars(length(max = 64), inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub list: Vec<String>,
}

impl AllowedThings {
    /// Whether Things of `things` may connect to a Channel of `own`.
    #[must_use]
    pub fn admit(&self, own: &str, things: &str) -> bool {
        match self.namespaces {
            Namespaces::Same => own == things,
            Namespaces::All => true,
            Namespaces::List => own == things || self.list.iter().any(|listed| listed == things),
        }
    }
}

/// How the namespaces of Things are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Namespaces {
    /// The Channel's own.
    #[default]
    Same,
    /// Every one.
    All,
    /// The own and those listed.
    List,
}

/// What a message may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.admit) || size(self.admit) == 0 || !has(self.contentType) || self.admit.exists(a, \
        a.split(';')[0].trim().lowerAscii() == self.contentType.split(';')[0].trim().lowerAscii())",
    "message": "contentType must be among those that admit lists"
}]))]
pub struct Payload {
    /// The content type of a message that names none. Default: `application/senml+json`.
    #[schemars(length(max = 255), regex(pattern = "^[^/;,\" ]+/[^/;,\" ]+ *(;.*)?$"))]
    pub content_type: String,
    /// The media types that may be published, without parameters; any when empty.
    #[schemars(length(max = 16), inner(length(max = 255), regex(pattern = "^[^/;,\" ]+/[^/;,\" ]+ *(;.*)?$")))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub admit: Vec<String>,
    /// How a payload is checked before it is published. `Senml` reads `application/senml+json`, `application/json`,
    /// `application/senml+cbor` and `application/cbor`; `Json` reads JSON.
    pub validate: Validate,
    /// Largest payload in bytes, 1 to 16777216. Default: 262144.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub max_bytes: u32,
}

impl Default for Payload {
    fn default() -> Self {
        Self {
            content_type: "application/senml+json".to_owned(),
            admit: Vec::new(),
            validate: Validate::None,
            max_bytes: 262_144,
        }
    }
}

/// How payloads are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Validate {
    /// Not at all.
    #[default]
    None,
    /// As SenML (RFC 8428).
    Senml,
    /// As JSON.
    Json,
}

impl ChannelSpec {
    /// What is beyond its bounds.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut check = Check::default();
        check.aliases(&self.aliases);
        let list = &self.allowed_things.list;
        check.at_most(list.len(), NAMESPACES_MAX, "spec.allowedThings.list");
        for (index, namespace) in list.iter().enumerate() {
            check.label(namespace, &format!("spec.allowedThings.list[{index}]"));
        }
        let listed = self.allowed_things.namespaces == Namespaces::List || list.is_empty();
        check.that(listed, "spec.allowedThings.list", "goes with namespaces: List");
        let payload = &self.payload;
        check.at_most(payload.admit.len(), ADMIT_MAX, "spec.payload.admit");
        for (index, admitted) in payload.admit.iter().enumerate() {
            check.that(is_media_type(admitted), &format!("spec.payload.admit[{index}]"), "type/subtype is needed");
        }
        check.that(is_media_type(&payload.content_type), "spec.payload.contentType", "type/subtype is needed");
        let own = essence(&payload.content_type);
        let admitted = payload.admit.is_empty() || payload.admit.iter().any(|a| essence(a).eq_ignore_ascii_case(own));
        check.that(admitted, "spec.payload.contentType", "must be among those that admit lists");
        let in_range = (1..=PAYLOAD_BYTES_MAX).contains(&payload.max_bytes);
        check.that(in_range, "spec.payload.maxBytes", "1 to 16777216 is needed");
        check.0
    }
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_media_type(text: &str) -> bool {
    let token = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"/;,\"".contains(&b));
    text.len() <= CONTENT_TYPE_CHARS_MAX
        && text.bytes().all(|b| (0x20..0x7f).contains(&b))
        && essence(text).split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// The name rules that the API server does not have: a Channel's name has no dot.
impl Channel {
    /// What is wrong with the name and the spec.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = self.spec.violations();
        if !self.metadata.name.as_deref().is_some_and(is_dns_label) {
            let message = "a DNS label is needed: a-z, 0-9 and '-', at most 63, no dot";
            violations.insert(0, Violation { field: "metadata.name".into(), message: message.into() });
        }
        violations
    }
}
