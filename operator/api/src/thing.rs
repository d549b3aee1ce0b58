//! Thing: a device, its keys and its connections.

use std::time::Duration;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{
    CERTIFICATE_CHARS_MAX, CONNECTIONS_MAX, CREDENTIALS_MAX, Check, OVERLAP_DEFAULT, OVERLAP_MAX, PATTERN_CHARS_MAX,
    SHA256_CHARS, SUBTOPICS_MAX, TIME_CHARS_MAX, Violation, is_dns_label, is_dns_subdomain, span,
};
use crate::status::ThingStatus;

/// A Thing: a device that shows a key or a certificate and may publish and subscribe where it is connected.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tidegate.io",
    version = "v1alpha1",
    kind = "Thing",
    doc = "A Thing: a device that shows a key or a certificate and may publish and subscribe where it is connected.",
    namespaced,
    shortname = "tgth",
    category = "tidegate",
    status = "ThingStatus",
    selectable = ".spec.suspended",
    printcolumn(name = "ID", type_ = "string", json_path = ".status.id"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Keys", type_ = "integer", json_path = ".status.keysUsable", priority = 1),
    printcolumn(name = "Connections", type_ = "integer", json_path = ".status.connectionsResolved"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("the name of a Thing has at most 63 of a-z, 0-9 and '-', and no dot"),
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ThingSpec {
    /// Whether the Thing is shut out for now: its keys and its certificate are refused and its sessions ended.
    pub suspended: bool,
    /// Other ids of this Thing, for devices that are already flashed. Unique in the installation; the oldest Thing keeps
    /// an id that two claim.
    #[schemars(length(max = 4), inner(length(max = 64), regex(pattern = "^[A-Za-z0-9_-]+$")))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub aliases: Vec<String>,
    /// The Channels that the Thing may use.
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace", "channel"]))]
    pub connections: Vec<Connection>,
    /// The keys that the Thing may show, several at once, so that one can be replaced without a gap; and its certificate.
    pub credentials: Credentials,
}

/// A connection of a Thing to a Channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    /// The Channel's name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub channel: String,
    /// The Channel's namespace; empty for the Thing's own.
    #[serde(default)]
    #[schemars(length(max = 63), regex(pattern = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"))]
    pub namespace: String,
    /// What the Thing may do. Default: both.
    #[serde(default = "both")]
    #[schemars(length(min = 1, max = 2))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub permissions: Vec<Permission>,
    /// Limits the connection to a part of the Channel; all of it when absent.
    #[serde(default)]
    pub subtopics: Subtopics,
}

fn both() -> Vec<Permission> {
    vec![Permission::Publish, Permission::Subscribe]
}

/// What a connection allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Permission {
    /// Send messages.
    Publish,
    /// Receive messages.
    Subscribe,
}

/// The parts of a Channel that a connection covers, as MQTT patterns below `messages`: `engine/#`, `+/state`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Subtopics {
    /// Where may be published; everywhere when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 1_024)))]
    pub publish: Option<Vec<String>>,
    /// Within what may be subscribed; everything when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 1_024)))]
    pub subscribe: Option<Vec<String>>,
}

/// The keys and the certificate of a Thing. Where nothing is said, a key is generated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.generate) || ((!has(self.secretRefs) || size(self.secretRefs) == 0) \
            && (!has(self.keyHashes) || size(self.keyHashes) == 0))",
        "message": "a key is either generated or given: generate excludes secretRefs and keyHashes"
    },
    {
        "rule": "(has(self.secretRefs) ? size(self.secretRefs) : 0) + (has(self.keyHashes) ? size(self.keyHashes) : 0) <= 4",
        "message": "at most 4 keys in all"
    },
    {
        "rule": "!has(self.secretRefs) || !has(self.keyHashes) \
            || self.secretRefs.all(s, !self.keyHashes.exists(h, h.id == s.id))",
        "message": "an id names one key: secretRefs and keyHashes share one"
    }
]))]
pub struct Credentials {
    /// Has the operator make a Secret with a random key, once; what counts when none of secretRefs, keyHashes and
    /// certificate is given. Excludes secretRefs and keyHashes; beside a certificate the Thing has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
    /// How long the previous generated key stays valid after a rotation: `24h`, `90m`, `1h30m`, at most `720h`. Default:
    /// `24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || duration(self) <= duration('720h')",
        "message": "at most 720h"
    }]))]
    pub overlap: Option<String>,
    /// Keys in Secrets of the Thing's namespace that bear the label `tidegate.io/credentials: "true"`. As a pre-shared key
    /// of CoAP over DTLS counts what has at most 512 bytes.
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub secret_refs: Vec<SecretRef>,
    /// Hashes of keys that only the device has. CoAP over DTLS with pre-shared keys needs a key that the server has too, in
    /// a Secret: there these do not count.
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub key_hashes: Vec<KeyHash>,
    /// What the device's certificate calls it: whoever shows one of that name over TLS or DTLS needs no key. Who signs
    /// such certificates is said by each Adapter, in its listener's tls.clientCaRef; that CA must give a name to one
    /// device alone. The oldest Thing keeps a name that two claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// A name in a certificate: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.subject) ? 1 : 0) + (has(self.uriSan) ? 1 : 0) + (has(self.dnsSan) ? 1 : 0) == 1",
    "message": "exactly one of subject, uriSan and dnsSan is needed"
}]))]
pub struct Certificate {
    /// The certificate's whole subject, as RFC 4514 writes it, the last part first: `CN=pump-7,O=Acme`. Spaces behind
    /// commas do not count; the order and the case do. `openssl x509 -noout -subject -nameopt RFC2253` prints it. Types that
    /// are not known by name, as organizationIdentifier and jurisdictionC, are written as OIDs: `2.5.4.97=PSDDE-7` where the
    /// certificate has a UTF8String there, or the whole subject as `-nameopt RFC2253,oid,dump_all` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_024))]
    pub subject: Option<String>,
    /// One of the URIs among the certificate's subject alternative names, byte for byte: `urn:dev:mac:0024befffe804ff1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_024))]
    pub uri_san: Option<String>,
    /// One of the DNS names among the certificate's subject alternative names, whatever the case: `pump-7.example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_024))]
    pub dns_san: Option<String>,
}

/// A key that the operator makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Generate {
    /// The Secret that the operator makes for the key, in the Thing's namespace. Default: the Thing's name with
    /// `-credentials` behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
}

/// A key in a Secret. It has at least 16 bytes; one line end behind it does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.notBefore) || !has(self.notAfter) || self.notBefore <= self.notAfter",
    "message": "notBefore is after notAfter"
}]))]
pub struct SecretRef {
    /// Names this key within the Thing.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub id: String,
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Secret's entry.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Not valid earlier, as `2026-01-31T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub not_before: Option<String>,
    /// Not valid later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub not_after: Option<String>,
}

/// The hash of a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.notBefore) || !has(self.notAfter) || self.notBefore <= self.notAfter",
    "message": "notBefore is after notAfter"
}]))]
pub struct KeyHash {
    /// Names this key within the Thing.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub id: String,
    /// SHA-256 of the key, as 64 hexadecimal digits.
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9A-Fa-f]{64}$"))]
    pub sha256: String,
    /// Not valid earlier, as `2026-01-31T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub not_before: Option<String>,
    /// Not valid later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub not_after: Option<String>,
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyHash").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ThingSpec {
    /// What is beyond its bounds.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut check = Check::default();
        check.aliases(&self.aliases);
        check.at_most(self.connections.len(), CONNECTIONS_MAX, "spec.connections");
        for (index, connection) in self.connections.iter().enumerate() {
            let field = format!("spec.connections[{index}]");
            let same =
                |other: &Connection| (&other.channel, &other.namespace) == (&connection.channel, &connection.namespace);
            check.that(!self.connections[..index].iter().any(same), &field, "this Channel is connected already");
            connection.check(&mut check, &field);
        }
        self.credentials.check(&mut check);
        check.0
    }
}

impl Connection {
    fn check(&self, check: &mut Check, field: &str) {
        check.label(&self.channel, &format!("{field}.channel"));
        if !self.namespace.is_empty() {
            check.label(&self.namespace, &format!("{field}.namespace"));
        }
        let distinct =
            matches!(self.permissions.as_slice(), [_]) || matches!(self.permissions.as_slice(), [a, b] if a != b);
        check.that(distinct, &format!("{field}.permissions"), "Publish, Subscribe or both are needed, each once");
        for (patterns, action) in [(&self.subtopics.publish, "publish"), (&self.subtopics.subscribe, "subscribe")] {
            let field = format!("{field}.subtopics.{action}");
            let patterns = patterns.as_deref().unwrap_or_default();
            check.at_most(patterns.len(), SUBTOPICS_MAX, &field);
            for (index, pattern) in patterns.iter().enumerate() {
                let fits = pattern.chars().count() <= PATTERN_CHARS_MAX;
                check.that(fits, &format!("{field}[{index}]"), &format!("at most {PATTERN_CHARS_MAX} characters"));
            }
        }
    }
}

impl Credentials {
    /// The Secret that the operator is to make for the Thing of this name; none where keys are given, or a certificate
    /// and no wish for a key beside it.
    #[must_use]
    pub fn generated_secret(&self, thing_name: &str) -> Option<String> {
        if !self.secret_refs.is_empty() || !self.key_hashes.is_empty() {
            return None;
        }
        if self.certificate.is_some() && self.generate.is_none() {
            return None;
        }
        let asked = self.generate.as_ref().and_then(|generate| generate.secret_name.clone());
        Some(asked.unwrap_or_else(|| format!("{thing_name}-credentials")))
    }

    /// How long the previous generated key stays valid. What is no span, which [`ThingSpec::violations`] names, counts
    /// as the default of 24 hours.
    #[must_use]
    pub fn overlap_span(&self) -> Duration {
        self.overlap.as_deref().and_then(span).unwrap_or(OVERLAP_DEFAULT)
    }

    fn check_generated(&self, check: &mut Check) {
        if let Some(generate) = &self.generate {
            let alone = self.secret_refs.is_empty() && self.key_hashes.is_empty();
            let message = "a key is either generated or given: generate excludes secretRefs and keyHashes";
            check.that(alone, "spec.credentials", message);
            if let Some(name) = &generate.secret_name {
                let message = "the name of a Secret is needed: a-z, 0-9, '-' and '.', at most 253";
                check.that(is_dns_subdomain(name), "spec.credentials.generate.secretName", message);
            }
        }
        if let Some(overlap) = &self.overlap {
            let fits = span(overlap).is_some_and(|span| span <= OVERLAP_MAX);
            check.that(fits, "spec.credentials.overlap", "a span as 24h or 90m is needed, at most 720h");
        }
    }

    fn check(&self, check: &mut Check) {
        self.check_generated(check);
        self.certificate.iter().for_each(|certificate| certificate.check(check));
        check.at_most(self.secret_refs.len(), CREDENTIALS_MAX, "spec.credentials.secretRefs");
        check.at_most(self.key_hashes.len(), CREDENTIALS_MAX, "spec.credentials.keyHashes");
        let active = self.secret_refs.len() + self.key_hashes.len();
        check.that(active <= CREDENTIALS_MAX, "spec.credentials", "at most 4 keys in all");
        let mut ids: Vec<&str> = Vec::new();
        let identify = |check: &mut Check, id: &'_ str, field: &str, ids_before: &[&str]| {
            check.label(id, &format!("{field}.id"));
            check.that(!ids_before.contains(&id), &format!("{field}.id"), "this id is used already");
        };
        for (index, secret) in self.secret_refs.iter().enumerate() {
            let field = format!("spec.credentials.secretRefs[{index}]");
            identify(check, &secret.id, &field, &ids);
            ids.push(&secret.id);
            check.name(&secret.name, &format!("{field}.name"));
            check.name(&secret.key, &format!("{field}.key"));
            check_times(check, &field, secret.not_before.as_deref(), secret.not_after.as_deref());
        }
        for (index, hash) in self.key_hashes.iter().enumerate() {
            let field = format!("spec.credentials.keyHashes[{index}]");
            identify(check, &hash.id, &field, &ids);
            ids.push(&hash.id);
            let hex = hash.sha256.len() == SHA256_CHARS && hash.sha256.bytes().all(|b| b.is_ascii_hexdigit());
            check.that(hex, &format!("{field}.sha256"), "64 hexadecimal digits are needed");
            check_times(check, &field, hash.not_before.as_deref(), hash.not_after.as_deref());
        }
    }
}

impl Certificate {
    fn check(&self, check: &mut Check) {
        let field = "spec.credentials.certificate";
        let names = [(&self.subject, "subject"), (&self.uri_san, "uriSan"), (&self.dns_san, "dnsSan")];
        let given = names.iter().filter(|(name, _)| name.is_some()).count();
        check.that(given == 1, field, "exactly one of subject, uriSan and dnsSan is needed");
        for (name, which) in names {
            let fits = name.as_ref().is_none_or(|name| (1..=CERTIFICATE_CHARS_MAX).contains(&name.chars().count()));
            check.that(
                fits,
                &format!("{field}.{which}"),
                &format!("1 to {CERTIFICATE_CHARS_MAX} characters are needed"),
            );
        }
    }
}

fn check_times(check: &mut Check, field: &str, not_before: Option<&str>, not_after: Option<&str>) {
    for (time, name) in [(not_before, "notBefore"), (not_after, "notAfter")] {
        let fits = time.is_none_or(|time| time.len() <= TIME_CHARS_MAX);
        check.that(fits, &format!("{field}.{name}"), "a time as 2026-01-31T00:00:00Z is needed");
    }
}

/// The name rules that the API server does not have: a Thing's name has no dot.
impl Thing {
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
