//! The grant table: who a key belongs to and what that Thing may do, immutable and numbered.
//!
//! Unknown is refused. A decision reads a few cache lines and allocates nothing, whether the table holds a thousand
//! Things or a million; a Thing with one key and three connections costs about 130 bytes. What a decision yields is a
//! [`Permit`] or a [`FilterPermit`], which nothing else can make.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::certificate::{CertificateName, CertificateNames};
use crate::credential::{Credential, KeyHash, SharedKey};
use crate::filter::{SubtopicFilter, TopicFilter};
use crate::message::ContentType;
use crate::name::{Alias, ChannelId, ChannelRef, ThingId};
use crate::refusal::Refusal;
use crate::time::Timestamp;
use crate::topic::{Subtopic, Topic};

mod build;

pub use build::{GrantTableBuilder, TableError};

/// What a device wants to do with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send a message.
    Publish,
    /// Receive messages.
    Subscribe,
}

/// Which actions a connection allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permissions {
    /// [`Action::Publish`].
    pub publish: bool,
    /// [`Action::Subscribe`].
    pub subscribe: bool,
}

impl Permissions {
    const fn allow(self, action: Action) -> bool {
        match action {
            Action::Publish => self.publish,
            Action::Subscribe => self.subscribe,
        }
    }
}

/// How a payload is checked before it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Validation {
    /// Not at all.
    #[default]
    None,
    /// As SenML (RFC 8428), in JSON or CBOR as the content type says.
    Senml,
    /// As JSON (RFC 8259).
    Json,
}

/// What a channel admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadPolicy {
    /// The content type of a message that names none.
    pub content_type: ContentType,
    /// The media types that may be published; any when empty.
    pub admit: Vec<ContentType>,
    /// How payloads are checked.
    pub validate: Validation,
    /// Largest payload, in bytes.
    pub bytes_max: u32,
}

impl PayloadPolicy {
    /// Whether a message of that type may be published.
    #[must_use]
    pub fn admits(&self, content_type: &ContentType) -> bool {
        self.admit.is_empty() || self.admit.iter().any(|admitted| admitted.same_media_type(content_type))
    }
}

/// One Channel of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelEntry {
    /// Its id.
    pub id: ChannelId,
    /// Its other ids.
    pub aliases: Vec<Alias>,
    /// What it admits.
    pub payload: PayloadPolicy,
}

/// One key of a Thing, valid from `not_before` on and until `not_after`, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// The hash of the key.
    pub hash: KeyHash,
    /// The key itself, where it is known and needed: for DTLS with pre-shared keys. It has that hash.
    pub shared: Option<SharedKey>,
    /// Not valid earlier.
    pub not_before: Option<Timestamp>,
    /// Not valid later.
    pub not_after: Option<Timestamp>,
}

/// One connection of a Thing to a Channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantEntry {
    /// The Channel.
    pub channel: ChannelId,
    /// What is allowed on it.
    pub permissions: Permissions,
    /// The subtopics that may be published to; all when absent.
    pub publish: Option<Vec<SubtopicFilter>>,
    /// The filters within which may be subscribed; all when absent.
    pub subscribe: Option<Vec<SubtopicFilter>>,
}

/// One Thing of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThingEntry {
    /// Its id.
    pub id: ThingId,
    /// Its other ids.
    pub aliases: Vec<Alias>,
    /// Its keys.
    pub keys: Vec<KeyEntry>,
    /// What its certificate calls it, if it may show one.
    pub certificate: Option<CertificateName>,
    /// Its connections.
    pub grants: Vec<GrantEntry>,
}

/// All that a table is made of: plain data, in the order of the ids, comparable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableContents {
    /// The Channels.
    pub channels: Vec<ChannelEntry>,
    /// The Things.
    pub things: Vec<ThingEntry>,
}

/// The number of a table; a later table has a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// A Thing that proved who it is. Good for one table; a later one is asked again whether the key still stands. Or one that
/// proved it once and is away, by [`GrantTable::absent`]: then a later table is asked whether the Thing still is.
///
/// It carries the first of its grants along, so that a session's decisions do not look for them in a large table.
#[derive(Clone)]
pub struct Principal {
    id: ThingId,
    proof: Proof,
    not_after: Option<Timestamp>,
    grants: Span,
    first_grants: [GrantRow; GRANTS_CARRIED],
    table: TableIdentity,
}

/// By what a Thing proved who it is.
#[derive(Clone)]
enum Proof {
    Key(KeyHash),
    Certificate(Arc<CertificateName>),
    /// It is away.
    Absent,
}

impl Principal {
    /// The verified Thing: the publisher of its messages.
    #[must_use]
    pub const fn thing(&self) -> &ThingId {
        &self.id
    }

    /// When the key or the certificate that was shown ends, if it does.
    #[must_use]
    pub const fn not_after(&self) -> Option<Timestamp> {
        self.not_after
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Principal").field(&self.id).finish()
    }
}

/// A Channel as a table holds it.
#[derive(Debug)]
struct Channel {
    id: ChannelId,
    payload: PayloadPolicy,
}

/// The right to publish one message to one topic. Made by [`GrantTable::authorize`] alone, spent by publishing.
#[derive(Debug)]
pub struct Permit {
    thing: ThingId,
    channel: Arc<Channel>,
    subtopic: Subtopic,
    table: TableIdentity,
}

impl Permit {
    /// The verified publisher.
    #[must_use]
    pub const fn thing(&self) -> &ThingId {
        &self.thing
    }

    /// The Channel that the device's reference means.
    #[must_use]
    pub fn channel(&self) -> &ChannelId {
        &self.channel.id
    }

    /// The levels below `messages`.
    #[must_use]
    pub const fn subtopic(&self) -> &Subtopic {
        &self.subtopic
    }

    /// What the Channel admits.
    #[must_use]
    pub fn payload(&self) -> &PayloadPolicy {
        &self.channel.payload
    }

    /// Spends the permit: publisher, channel and subtopic.
    #[must_use]
    pub fn spend(self) -> (ThingId, ChannelId, Subtopic) {
        (self.thing, self.channel.id.clone(), self.subtopic)
    }
}

/// The right to receive what one filter matches. Made by [`GrantTable::authorize_filter`] alone.
#[derive(Clone, Debug)]
pub struct FilterPermit {
    thing: ThingId,
    channel: ChannelId,
    filter: SubtopicFilter,
}

impl FilterPermit {
    /// The verified subscriber.
    #[must_use]
    pub const fn thing(&self) -> &ThingId {
        &self.thing
    }

    /// The Channel that the device's reference means.
    #[must_use]
    pub const fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// The pattern over the levels below `messages`.
    #[must_use]
    pub const fn filter(&self) -> &SubtopicFilter {
        &self.filter
    }
}

/// Tells one table of a process from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TableIdentity {
    generation: Generation,
    hash_seed: u64,
}

/// Grants that a [`Principal`] carries along: a Thing seldom has more.
const GRANTS_CARRIED: usize = 4;

/// Rows that belong together, by their numbers.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u8,
}

impl Span {
    fn of<T>(self, rows: &[T]) -> &[T] {
        &rows[self.start as usize..][..usize::from(self.len)]
    }
}

/// 12 bytes; its text lies in the arena.
struct ThingRow {
    name_start: u32,
    grants_start: u32,
    namespace_bytes: u8,
    name_bytes: u8,
    grants_len: u8,
}

/// Another name of the Thing or Channel with the number `row`.
struct AliasRow {
    alias: Alias,
    row: u32,
}

struct KeyRow {
    hash: KeyHash,
    thing: u32,
    /// Number of a row of `validity`, whose first one is "always".
    validity: u32,
}

/// A key in clear.
struct SharedRow {
    /// Number of the row of its hash; keys of one Thing follow each other.
    key: u32,
    shared: SharedKey,
}

/// What the certificate of the Thing with the number `thing` calls it.
struct CertificateRow {
    name: Arc<CertificateName>,
    thing: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Validity {
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
}

impl Validity {
    fn holds_at(self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|t| now >= t) && self.not_after.is_none_or(|t| now <= t)
    }
}

#[derive(Clone, Copy)]
struct GrantRow {
    channel: u32,
    permissions: Permissions,
    /// Number of a row of `rules`, whose first one is "no restriction".
    rules: u32,
}

impl GrantRow {
    /// Allows nothing.
    const NONE: Self =
        Self { channel: u32::MAX, permissions: Permissions { publish: false, subscribe: false }, rules: 0 };
}

#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Rules {
    publish: Option<Vec<SubtopicFilter>>,
    subscribe: Option<Vec<SubtopicFilter>>,
}

impl Rules {
    const fn of(&self, action: Action) -> Option<&Vec<SubtopicFilter>> {
        match action {
            Action::Publish => self.publish.as_ref(),
            Action::Subscribe => self.subscribe.as_ref(),
        }
    }
}

/// Who may do what. Immutable; share it behind an `Arc`.
pub struct GrantTable {
    identity: TableIdentity,
    /// The names of Things, `<namespace>.<name>`, one after the other.
    arena: Box<str>,
    things: Vec<ThingRow>,
    keys: Vec<KeyRow>,
    validity: Vec<Validity>,
    /// In the order of the keys.
    shared: Vec<SharedRow>,
    certificates: Vec<CertificateRow>,
    grants: Vec<GrantRow>,
    rules: Vec<Rules>,
    channels: Vec<Arc<Channel>>,
    thing_aliases: Vec<AliasRow>,
    channel_aliases: Vec<AliasRow>,
    by_key: HashTable<u32>,
    by_certificate: HashTable<u32>,
    by_thing_id: HashTable<u32>,
    by_thing_alias: HashTable<u32>,
    by_channel_id: HashTable<u32>,
    by_channel_alias: HashTable<u32>,
}

impl GrantTable {
    /// The table that refuses everyone, older than any other.
    #[must_use]
    pub fn empty() -> Self {
        GrantTableBuilder::new(Generation(0), 0).build()
    }

    /// The number of this table.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.identity.generation
    }

    /// How many Things it knows.
    #[must_use]
    pub const fn things(&self) -> usize {
        self.things.len()
    }

    /// How many Channels it knows.
    #[must_use]
    pub const fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Whether it knows this Channel.
    #[must_use]
    pub fn has_channel(&self, channel: &ChannelId) -> bool {
        self.channel_named(channel.namespace(), channel.name()).is_some()
    }

    /// Whether `claimed` is the id or an alias of a Thing that it knows.
    #[must_use]
    pub fn has_thing(&self, claimed: &str) -> bool {
        self.thing_row(claimed).is_some()
    }

    /// Whether `claimed` is the id or an alias of the principal's Thing.
    #[must_use]
    pub fn is_named(&self, principal: &Principal, claimed: &str) -> bool {
        let row = self.thing_row(claimed).map(|row| &self.things[row as usize]);
        row.is_some_and(|row| self.thing_name(row) == (principal.id.namespace(), principal.id.name()))
    }

    /// Who the credential belongs to at `now`. A key that does not exist costs the same time as one that does.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] for a key that is unknown, not valid at `now`, or not of the Thing that is claimed.
    pub fn authenticate(&self, credential: &Credential<'_>, now: Timestamp) -> Result<Principal, Refusal> {
        let hash = KeyHash::of(credential.key());
        let claimed = match credential {
            Credential::Key(_) => None,
            Credential::ThingKey { thing, .. } => Some(self.thing_row(thing)),
        };
        let row = self.key_row(&hash).ok_or(Refusal::Unauthenticated)?;
        if claimed.is_some_and(|claimed| claimed != Some(row.thing)) {
            return Err(Refusal::Unauthenticated);
        }
        self.principal(row, now).ok_or(Refusal::Unauthenticated)
    }

    /// Who a certificate that was verified belongs to: the Thing that is known by one of its names.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when no Thing is, when several are, or when the certificate has ended.
    pub fn identify(&self, certificate: &CertificateNames, now: Timestamp) -> Result<Principal, Refusal> {
        let mut rows = certificate.names.iter().filter_map(|name| self.certificate_row(name));
        let row = rows.next().filter(|_| now <= certificate.not_after).ok_or(Refusal::Unauthenticated)?;
        if rows.any(|other| other.thing != row.thing) {
            return Err(Refusal::Unauthenticated);
        }
        Ok(self.principal_by(row, certificate.not_after))
    }

    /// The keys in clear that the Thing `claimed`, an id or an alias, may use at `now`, in the order of its entry, each with
    /// who it is that proves to have it.
    pub fn shared_keys(&self, claimed: &str, now: Timestamp) -> impl Iterator<Item = (&SharedKey, Principal)> {
        let thing = self.thing_row(claimed);
        let thing_of = |row: &SharedRow| self.keys[row.key as usize].thing;
        let start = thing.map_or(self.shared.len(), |thing| self.shared.partition_point(|row| thing_of(row) < thing));
        let own = self.shared[start..].iter().take_while(move |row| Some(thing_of(row)) == thing);
        own.filter_map(move |row| Some((&row.shared, self.principal(&self.keys[row.key as usize], now)?)))
    }

    /// The same Thing by the same key or certificate, in this table.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when that is gone, has ended, or is another Thing's now.
    pub fn refresh(&self, principal: &Principal, now: Timestamp) -> Result<Principal, Refusal> {
        let fresh = match &principal.proof {
            Proof::Key(key) => self.key_row(key).and_then(|row| self.principal(row, now)),
            Proof::Certificate(name) => {
                let not_after = principal.not_after.filter(|end| now <= *end);
                self.certificate_row(name).zip(not_after).map(|(row, end)| self.principal_by(row, end))
            }
            Proof::Absent => return self.absent(principal),
        };
        fresh.filter(|fresh| fresh.id == principal.id).ok_or(Refusal::Unauthenticated)
    }

    /// The Thing of a principal without its key: for what is kept of a device while it is away, whichever of its keys it
    /// comes back with.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when the Thing is gone or disabled.
    pub fn absent(&self, principal: &Principal) -> Result<Principal, Refusal> {
        let row = self.thing_row(principal.id.as_str()).ok_or(Refusal::Unauthenticated)?;
        Ok(self.principal_of(&self.things[row as usize], Proof::Absent, None))
    }

    /// The right to do `action` on one topic.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] without a grant, for an unknown channel too; [`Refusal::Unauthenticated`] when the key of
    /// the principal does not stand in this table or has ended.
    pub fn authorize(
        &self,
        principal: &Principal,
        action: Action,
        topic: Topic,
        now: Timestamp,
    ) -> Result<Permit, Refusal> {
        let (channel, filters) = self.granted(principal, action, &topic.channel, now)?;
        if filters.is_some_and(|filters| !filters.iter().any(|f| f.matches(&topic.subtopic))) {
            return Err(Refusal::Forbidden);
        }
        Ok(Permit {
            thing: principal.id.clone(),
            channel: Arc::clone(channel),
            subtopic: topic.subtopic,
            table: self.identity,
        })
    }

    /// The Channel that a reference means to a principal, with whatever right to it.
    #[must_use]
    pub fn channel(&self, principal: &Principal, reference: &ChannelRef) -> Option<ChannelId> {
        let row = self.channel_row(principal.id.namespace(), reference)?;
        Some(self.channels[row as usize].id.clone())
    }

    /// Bytes of the payloads of a Channel to which a principal may publish, wherever in it.
    ///
    /// # Errors
    /// As [`GrantTable::authorize`].
    pub fn payload_bytes_max(
        &self,
        principal: &Principal,
        channel: &ChannelRef,
        now: Timestamp,
    ) -> Result<u32, Refusal> {
        self.granted(principal, Action::Publish, channel, now).map(|(channel, _)| channel.payload.bytes_max)
    }

    /// The same right to publish in this table, for a permit that a slow device holds while tables change.
    ///
    /// # Errors
    /// As [`GrantTable::authorize`].
    pub fn renew(&self, permit: Permit, principal: &Principal, now: Timestamp) -> Result<Permit, Refusal> {
        if permit.table == self.identity {
            return Ok(permit);
        }
        let topic = Topic { channel: ChannelRef::from(&permit.channel.id), subtopic: permit.subtopic };
        self.authorize(principal, Action::Publish, topic, now)
    }

    /// The right to receive what `filter` matches: all of it must lie within one pattern of the grant.
    ///
    /// # Errors
    /// As [`GrantTable::authorize`].
    pub fn authorize_filter(
        &self,
        principal: &Principal,
        filter: TopicFilter,
        now: Timestamp,
    ) -> Result<FilterPermit, Refusal> {
        let (channel, filters) = self.granted(principal, Action::Subscribe, &filter.channel, now)?;
        if filters.is_some_and(|filters| !filters.iter().any(|f| f.contains(&filter.subtopic))) {
            return Err(Refusal::Forbidden);
        }
        Ok(FilterPermit { thing: principal.id.clone(), channel: channel.id.clone(), filter: filter.subtopic })
    }

    /// The Channel, and the patterns that limit the grant where it is limited.
    fn granted(
        &self,
        principal: &Principal,
        action: Action,
        channel: &ChannelRef,
        now: Timestamp,
    ) -> Result<(&Arc<Channel>, Option<&Vec<SubtopicFilter>>), Refusal> {
        let fresh;
        let principal = if principal.table == self.identity {
            principal
        } else {
            fresh = self.refresh(principal, now)?;
            &fresh
        };
        if principal.not_after.is_some_and(|end| now > end) {
            return Err(Refusal::Unauthenticated);
        }
        let channel = self.channel_row(principal.id.namespace(), channel).ok_or(Refusal::Forbidden)?;
        let grant = self
            .grants_of(principal)
            .iter()
            .find(|grant| grant.channel == channel && grant.permissions.allow(action))
            .ok_or(Refusal::Forbidden)?;
        Ok((&self.channels[channel as usize], self.rules[grant.rules as usize].of(action)))
    }

    /// The grants of a principal of this table.
    fn grants_of<'a>(&'a self, principal: &'a Principal) -> &'a [GrantRow] {
        let carried = principal.first_grants.get(..usize::from(principal.grants.len));
        carried.unwrap_or_else(|| principal.grants.of(&self.grants))
    }

    fn principal(&self, key: &KeyRow, now: Timestamp) -> Option<Principal> {
        let validity = self.validity[key.validity as usize];
        if !validity.holds_at(now) {
            return None;
        }
        Some(self.principal_of(&self.things[key.thing as usize], Proof::Key(key.hash), validity.not_after))
    }

    fn principal_by(&self, certificate: &CertificateRow, not_after: Timestamp) -> Principal {
        let proof = Proof::Certificate(Arc::clone(&certificate.name));
        self.principal_of(&self.things[certificate.thing as usize], proof, Some(not_after))
    }

    fn principal_of(&self, thing: &ThingRow, proof: Proof, not_after: Option<Timestamp>) -> Principal {
        let (namespace, name) = self.thing_name(thing);
        let grants = Span { start: thing.grants_start, len: thing.grants_len };
        let mut first_grants = [GrantRow::NONE; GRANTS_CARRIED];
        first_grants.iter_mut().zip(grants.of(&self.grants)).for_each(|(carried, grant)| *carried = *grant);
        Principal {
            id: ThingId::trusted(namespace, name),
            proof,
            not_after,
            grants,
            first_grants,
            table: self.identity,
        }
    }

    fn key_row(&self, hash: &KeyHash) -> Option<&KeyRow> {
        let found = self.by_key.find(self.hash(hash.as_bytes()), |&row| self.keys[row as usize].hash == *hash)?;
        Some(&self.keys[*found as usize])
    }

    fn certificate_row(&self, name: &CertificateName) -> Option<&CertificateRow> {
        let hash = build::hash_of_certificate(self.identity.hash_seed, name);
        let found = self.by_certificate.find(hash, |&row| *self.certificates[row as usize].name == *name)?;
        Some(&self.certificates[*found as usize])
    }

    fn thing_name(&self, row: &ThingRow) -> (&str, &str) {
        let (namespace_bytes, name_bytes) = (usize::from(row.namespace_bytes), usize::from(row.name_bytes));
        let text = &self.arena[row.name_start as usize..][..namespace_bytes + 1 + name_bytes];
        (&text[..namespace_bytes], &text[namespace_bytes + 1..])
    }

    /// The Thing that `claimed`, an id or an alias, means.
    fn thing_row(&self, claimed: &str) -> Option<u32> {
        if let Some((namespace, name)) = claimed.split_once('.') {
            let same = |&row: &u32| self.thing_name(&self.things[row as usize]) == (namespace, name);
            self.by_thing_id.find(self.hash_name(namespace, name), same).copied()
        } else {
            self.aliased(&self.by_thing_alias, &self.thing_aliases, claimed)
        }
    }

    /// The Channel that `reference` means to a Thing of `namespace`: an id, else a name in the own namespace, else an
    /// alias. So nobody's alias takes the place of a Thing's own Channel.
    fn channel_row(&self, namespace: &str, reference: &ChannelRef) -> Option<u32> {
        let text = reference.as_str();
        if let Some((namespace, name)) = text.split_once('.') {
            return self.channel_named(namespace, name);
        }
        let own = self.channel_named(namespace, text);
        own.or_else(|| self.aliased(&self.by_channel_alias, &self.channel_aliases, text))
    }

    fn channel_named(&self, namespace: &str, name: &str) -> Option<u32> {
        let same = |&row: &u32| {
            let id = &self.channels[row as usize].id;
            id.namespace() == namespace && id.name() == name
        };
        self.by_channel_id.find(self.hash_name(namespace, name), same).copied()
    }

    fn aliased(&self, index: &HashTable<u32>, aliases: &[AliasRow], text: &str) -> Option<u32> {
        let found = index.find(self.hash(text.as_bytes()), |&row| aliases[row as usize].alias.as_str() == text)?;
        Some(aliases[*found as usize].row)
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        build::hash(self.identity.hash_seed, &[bytes])
    }

    fn hash_name(&self, namespace: &str, name: &str) -> u64 {
        build::hash(self.identity.hash_seed, &[namespace.as_bytes(), name.as_bytes()])
    }
}

impl fmt::Debug for GrantTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantTable")
            .field("generation", &self.identity.generation)
            .field("things", &self.things.len())
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
