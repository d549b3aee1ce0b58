//! Entries of a table in CBOR, field by field.

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use tidegate_model::{
    Alias, CertificateName, ChannelEntry, ChannelId, ContentType, GrantEntry, KeyEntry, KeyHash, PayloadPolicy,
    Permissions, SharedKey, SubtopicFilter, ThingEntry, ThingId, Timestamp, TopicLimits, Validation,
};

/// The text of a pattern that matches nothing but the channel itself.
const NO_LEVELS: &str = "";

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(crate) struct WireChannel {
    #[n(0)]
    id: String,
    #[n(1)]
    aliases: Vec<String>,
    #[n(2)]
    content_type: String,
    #[n(3)]
    admit: Vec<String>,
    #[n(4)]
    validation: u8,
    #[n(5)]
    bytes_max: u32,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(crate) struct WireThing {
    #[n(0)]
    id: String,
    #[n(1)]
    aliases: Vec<String>,
    #[n(2)]
    keys: Vec<WireKey>,
    #[n(3)]
    grants: Vec<WireGrant>,
    #[n(4)]
    certificate: Option<WireCertificate>,
}

/// What the certificate of a Thing calls it, in the operator's spelling.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
struct WireCertificate {
    #[n(0)]
    kind: u8,
    #[n(1)]
    name: String,
}

/// The keys in clear of one Thing: these and no others.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(crate) struct WireSharedKeys {
    #[n(0)]
    pub(crate) id: String,
    #[n(1)]
    keys: Vec<ByteVec>,
}

impl std::fmt::Debug for WireSharedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireSharedKeys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl From<&ThingEntry> for WireSharedKeys {
    fn from(entry: &ThingEntry) -> Self {
        let keys = entry.keys.iter().filter_map(|key| key.shared.as_ref());
        Self { id: entry.id.as_str().to_owned(), keys: keys.map(|key| key.as_bytes().to_vec().into()).collect() }
    }
}

impl WireSharedKeys {
    pub(crate) const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Puts each key beside its hash; one without is dropped.
    pub(crate) fn attach(&self, keys: &mut [KeyEntry]) {
        let hashed: Vec<_> = self.keys.iter().map(|key| (KeyHash::of(key), key)).collect();
        for entry in keys {
            let shared = hashed.iter().find(|(hash, _)| *hash == entry.hash);
            entry.shared = shared.map(|(_, key)| SharedKey::new(key));
        }
    }
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct WireKey {
    #[n(0)]
    sha256: ByteArray<32>,
    #[n(1)]
    not_before: Option<u64>,
    #[n(2)]
    not_after: Option<u64>,
}

impl std::fmt::Debug for WireKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireKey").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
struct WireGrant {
    #[n(0)]
    channel: String,
    #[n(1)]
    publish: bool,
    #[n(2)]
    subscribe: bool,
    #[n(3)]
    publish_to: Option<Vec<String>>,
    #[n(4)]
    subscribe_within: Option<Vec<String>>,
}

/// An entry says something that no table could hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry has no valid {0}")]
pub struct BadEntry(pub(crate) &'static str);

fn texts<T>(values: &[T], text: impl Fn(&T) -> &str) -> Vec<String> {
    values.iter().map(|value| text(value).to_owned()).collect()
}

fn parsed<T, E>(
    texts: &[String],
    what: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, BadEntry> {
    texts.iter().map(|text| parse(text).map_err(|_| BadEntry(what))).collect()
}

impl From<&ChannelEntry> for WireChannel {
    fn from(entry: &ChannelEntry) -> Self {
        let policy = &entry.payload;
        Self {
            id: entry.id.as_str().to_owned(),
            aliases: texts(&entry.aliases, Alias::as_str),
            content_type: policy.content_type.as_str().to_owned(),
            admit: texts(&policy.admit, ContentType::as_str),
            validation: match policy.validate {
                Validation::None => 0,
                Validation::Senml => 1,
                Validation::Json => 2,
            },
            bytes_max: policy.bytes_max,
        }
    }
}

impl TryFrom<WireChannel> for ChannelEntry {
    type Error = BadEntry;

    fn try_from(wire: WireChannel) -> Result<Self, BadEntry> {
        let validate = match wire.validation {
            0 => Validation::None,
            1 => Validation::Senml,
            2 => Validation::Json,
            // A check that this version cannot make must not be passed over.
            _ => return Err(BadEntry("validation")),
        };
        let content_type = ContentType::parse(&wire.content_type).map_err(|_| BadEntry("content type"))?;
        let admit = parsed(&wire.admit, "content type", ContentType::parse)?;
        Ok(Self {
            id: ChannelId::parse(&wire.id).map_err(|_| BadEntry("channel id"))?,
            aliases: parsed(&wire.aliases, "alias", Alias::parse)?,
            payload: PayloadPolicy { content_type, admit, validate, bytes_max: wire.bytes_max },
        })
    }
}

impl From<&ThingEntry> for WireThing {
    fn from(entry: &ThingEntry) -> Self {
        let key = |key: &KeyEntry| WireKey {
            sha256: (*key.hash.as_bytes()).into(),
            not_before: key.not_before.map(Timestamp::as_nanos),
            not_after: key.not_after.map(Timestamp::as_nanos),
        };
        Self {
            id: entry.id.as_str().to_owned(),
            aliases: texts(&entry.aliases, Alias::as_str),
            keys: entry.keys.iter().map(key).collect(),
            grants: entry.grants.iter().map(WireGrant::from).collect(),
            certificate: entry.certificate.as_ref().map(WireCertificate::from),
        }
    }
}

impl From<&CertificateName> for WireCertificate {
    fn from(name: &CertificateName) -> Self {
        let (kind, name) = match name {
            CertificateName::Subject(name) => (0, name),
            CertificateName::Uri(name) => (1, name),
            CertificateName::Dns(name) => (2, name),
        };
        Self { kind, name: name.clone() }
    }
}

impl WireCertificate {
    /// Nothing for a kind of a newer version: the certificate is refused here then, and the rest of the Thing counts.
    fn read(self) -> Option<CertificateName> {
        match self.kind {
            0 => Some(CertificateName::Subject(self.name)),
            1 => Some(CertificateName::Uri(self.name)),
            2 => Some(CertificateName::Dns(self.name)),
            _ => None,
        }
    }
}

impl From<&GrantEntry> for WireGrant {
    fn from(grant: &GrantEntry) -> Self {
        let patterns = |filters: &Option<Vec<SubtopicFilter>>| {
            filters.as_ref().map(|filters| texts(filters, |filter| filter.text().unwrap_or(NO_LEVELS)))
        };
        Self {
            channel: grant.channel.as_str().to_owned(),
            publish: grant.permissions.publish,
            subscribe: grant.permissions.subscribe,
            publish_to: patterns(&grant.publish),
            subscribe_within: patterns(&grant.subscribe),
        }
    }
}

impl TryFrom<WireThing> for ThingEntry {
    type Error = BadEntry;

    fn try_from(wire: WireThing) -> Result<Self, BadEntry> {
        let key = |key: WireKey| KeyEntry {
            hash: KeyHash::from_bytes(key.sha256.into()),
            shared: None,
            not_before: key.not_before.map(Timestamp::from_nanos),
            not_after: key.not_after.map(Timestamp::from_nanos),
        };
        Ok(Self {
            id: ThingId::parse(&wire.id).map_err(|_| BadEntry("thing id"))?,
            aliases: parsed(&wire.aliases, "alias", Alias::parse)?,
            keys: wire.keys.into_iter().map(key).collect(),
            certificate: wire.certificate.and_then(WireCertificate::read),
            grants: wire.grants.into_iter().map(GrantEntry::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<WireGrant> for GrantEntry {
    type Error = BadEntry;

    fn try_from(wire: WireGrant) -> Result<Self, BadEntry> {
        let limits = TopicLimits::default();
        let filters = |patterns: Option<Vec<String>>| {
            patterns
                .map(|patterns| parsed(&patterns, "pattern", |text| SubtopicFilter::parse(text, &limits)))
                .transpose()
        };
        Ok(Self {
            channel: ChannelId::parse(&wire.channel).map_err(|_| BadEntry("channel id"))?,
            permissions: Permissions { publish: wire.publish, subscribe: wire.subscribe },
            publish: filters(wire.publish_to)?,
            subscribe: filters(wire.subscribe_within)?,
        })
    }
}
