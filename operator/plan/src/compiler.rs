//! From what was observed to what is to be in force, one change at a time.
//!
//! A change costs what it touches: the Things of a Channel, the claimants of a key, a certificate or an alias. The whole compile is the
//! same code, told of every object.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_api::{Channel, Reason, Thing};
use tidegate_model::{CertificateName, ChannelEntry, ChannelId, Delta, KeyHash, ThingEntry, ThingId};

use crate::compile::{channel_entry, grant};
use crate::keys::{self, KeyOutcome};
use crate::objects::{Fault, ObjectId, Objects, Rank};
use crate::{Finding, KeySecret, Kind};

/// Everything that is known, and what follows from it.
#[derive(Debug, Default)]
pub struct Compiler {
    channels: Objects<Channel>,
    things: Objects<Thing>,
    secrets: BTreeMap<ObjectId, KeySecret>,
    /// The Things that name a Channel.
    connected: BTreeMap<ObjectId, BTreeSet<ObjectId>>,
    /// The Things that name a Secret.
    keyed: BTreeMap<ObjectId, BTreeSet<ObjectId>>,
    /// The Things that have a proof, oldest first.
    owners: BTreeMap<Proof, BTreeSet<Rank>>,
    /// The proofs that a Thing is among the owners of.
    owned: BTreeMap<ObjectId, (Rank, Vec<Proof>)>,
    dirty_channels: BTreeSet<ObjectId>,
    dirty_things: BTreeSet<ObjectId>,
}

/// What one Thing alone may prove with who it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Proof {
    Key(KeyHash),
    Certificate(CertificateName),
}

/// What changed since it was asked last.
#[derive(Debug, Default)]
pub struct Settled {
    /// Of the table. May name what is as it was.
    pub delta: Delta,
    /// The Channels that there is something else to say of.
    pub channels: BTreeSet<ObjectId>,
    /// The Things that there is something else to say of.
    pub things: BTreeSet<ObjectId>,
}

/// What came of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionOutcome {
    /// The Channel's namespace.
    pub namespace: String,
    /// The Channel's name.
    pub channel: String,
    /// Why it does not count, if it does not.
    pub fault: Option<Fault>,
}

/// What came of a Thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThingOutcome {
    /// What the table has of it.
    pub entry: Option<ThingEntry>,
    /// Why it counts for nothing as a whole, if it does not.
    pub fault: Option<Fault>,
    /// Its keys.
    pub keys: Vec<KeyOutcome>,
    /// What its certificate calls it, or why that does not count, if it is to have one.
    pub certificate: Option<Result<CertificateName, Fault>>,
    /// Its connections.
    pub connections: Vec<ConnectionOutcome>,
}

/// What came of a Channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOutcome {
    /// What the table has of it.
    pub entry: Option<ChannelEntry>,
    /// Why it counts for nothing, if it does not.
    pub fault: Option<Fault>,
    /// Things that name it.
    pub things: usize,
}

impl Compiler {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A Channel is as given, or gone.
    pub fn observe_channel(&mut self, id: &ObjectId, channel: Option<Channel>) {
        let Some(channel) = self.channels.unless_same(id, channel) else { return };
        for concerned in self.channels.set(id, channel) {
            self.dirty_things.extend(self.connected.get(&concerned).into_iter().flatten().cloned());
            self.dirty_channels.insert(concerned);
        }
    }

    /// A Thing is as given, or gone.
    pub fn observe_thing(&mut self, id: &ObjectId, thing: Option<Thing>) {
        let Some(thing) = self.things.unless_same(id, thing) else { return };
        if let Some(before) = self.things.get(id) {
            let (channels, secrets) = references(before.object());
            channels.iter().for_each(|channel| untie(&mut self.connected, channel, id));
            secrets.iter().for_each(|secret| untie(&mut self.keyed, secret, id));
            self.dirty_channels.extend(channels);
        }
        if let Some(thing) = &thing {
            let (channels, secrets) = references(thing);
            for channel in channels {
                self.connected.entry(channel.clone()).or_default().insert(id.clone());
                self.dirty_channels.insert(channel);
            }
            for secret in secrets {
                self.keyed.entry(secret).or_default().insert(id.clone());
            }
        }
        self.dirty_things.extend(self.things.set(id, thing));
    }

    /// A Secret is as given, or gone.
    pub fn observe_secret(&mut self, id: &ObjectId, secret: Option<KeySecret>) {
        self.dirty_things.extend(self.keyed.get(id).into_iter().flatten().cloned());
        match secret {
            Some(secret) => drop(self.secrets.insert(id.clone(), secret)),
            None => drop(self.secrets.remove(id)),
        }
    }

    /// The Channels that are known and not among `present`: at the end of a list they are gone.
    #[must_use]
    pub fn channels_beside(&self, present: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
        self.channels.ids().filter(|id| !present.contains(*id)).cloned().collect()
    }

    /// The Things that are known and not among `present`.
    #[must_use]
    pub fn things_beside(&self, present: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
        self.things.ids().filter(|id| !present.contains(*id)).cloned().collect()
    }

    /// The Secrets that are known and not among `present`.
    #[must_use]
    pub fn secrets_beside(&self, present: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
        self.secrets.keys().filter(|id| !present.contains(*id)).cloned().collect()
    }

    /// A Thing as it was observed.
    #[must_use]
    pub fn thing(&self, id: &ObjectId) -> Option<&Thing> {
        self.things.get(id).map(|held| held.object())
    }

    /// Every Channel.
    pub fn channel_ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.channels.ids()
    }

    /// A Channel as it was observed.
    #[must_use]
    pub fn channel(&self, id: &ObjectId) -> Option<&Channel> {
        self.channels.get(id).map(|held| held.object())
    }

    /// A Secret as it was observed.
    #[must_use]
    pub fn secret(&self, id: &ObjectId) -> Option<&KeySecret> {
        self.secrets.get(id)
    }

    /// The Thing that a key belongs to.
    #[must_use]
    pub fn owner(&self, hash: &KeyHash) -> Option<&ObjectId> {
        self.owner_of(&Proof::Key(*hash))
    }

    fn owner_of(&self, proof: &Proof) -> Option<&ObjectId> {
        Some(&self.owners.get(proof)?.first()?.id)
    }

    /// What changed since this was asked last.
    pub fn settle(&mut self) -> Settled {
        let mut things = std::mem::take(&mut self.dirty_things);
        for id in things.clone() {
            things.extend(self.claim_proofs(&id));
        }
        let channels = std::mem::take(&mut self.dirty_channels);
        let mut delta = Delta::default();
        for id in &channels {
            match (self.channel_outcome(id).and_then(|outcome| outcome.entry), ChannelId::new(&id.namespace, &id.name))
            {
                (Some(entry), _) => delta.channels.push(entry),
                (None, Ok(id)) => delta.channels_gone.push(id),
                (None, Err(_)) => {}
            }
        }
        for id in &things {
            match (self.thing_outcome(id).and_then(|outcome| outcome.entry), ThingId::new(&id.namespace, &id.name)) {
                (Some(entry), _) => delta.things.push(entry),
                (None, Ok(id)) => delta.things_gone.push(id),
                (None, Err(_)) => {}
            }
        }
        Settled { delta, channels, things }
    }

    /// Puts a Thing among the owners of its proofs; returns those that share one of them, before or now.
    fn claim_proofs(&mut self, id: &ObjectId) -> BTreeSet<ObjectId> {
        let now = self.things.get(id).filter(|held| held.counting().is_ok()).map(|held| {
            let keys = self.keys_of(held.object());
            let keys = keys.iter().filter_map(|key| Some(Proof::Key(key.key.as_ref().ok()?.hash)));
            let certificate = held.object().spec.credentials.certificate.as_ref();
            let certificate = certificate.and_then(|certificate| keys::certificate_name(certificate).ok());
            let mut proofs: Vec<_> = keys.chain(certificate.map(Proof::Certificate)).collect();
            proofs.sort_unstable();
            proofs.dedup();
            (held.rank().clone(), proofs)
        });
        if self.owned.get(id) == now.as_ref() {
            return BTreeSet::new();
        }
        let mut sharing = BTreeSet::new();
        let before = self.owned.remove(id);
        for (owned, is_now) in before.iter().map(|owned| (owned, false)).chain(now.iter().map(|owned| (owned, true))) {
            let (rank, proofs) = owned;
            for proof in proofs {
                let owners = self.owners.entry(proof.clone()).or_default();
                if is_now {
                    owners.insert(rank.clone());
                } else {
                    owners.remove(rank);
                }
                sharing.extend(owners.iter().map(|rank| rank.id.clone()));
                if owners.is_empty() {
                    self.owners.remove(proof);
                }
            }
        }
        if let Some(now) = now {
            self.owned.insert(id.clone(), now);
        }
        sharing
    }

    fn keys_of(&self, thing: &Thing) -> Vec<KeyOutcome> {
        let namespace = thing.metadata.namespace.as_deref().unwrap_or_default();
        let name = thing.metadata.name.as_deref().unwrap_or_default();
        keys::keys(&thing.spec.credentials, name, |secret| self.secrets.get(&ObjectId::new(namespace, secret)))
    }

    /// What came of a Channel; nothing when there is none.
    #[must_use]
    pub fn channel_outcome(&self, id: &ObjectId) -> Option<ChannelOutcome> {
        let held = self.channels.get(id)?;
        let entry = held.counting().and_then(|channel| channel_entry(channel, id));
        let things = self.connected.get(id).map_or(0, BTreeSet::len);
        Some(match entry {
            Ok(entry) => ChannelOutcome { entry: Some(entry), fault: None, things },
            Err(fault) => ChannelOutcome { entry: None, fault: Some(fault), things },
        })
    }

    /// What came of a Thing; nothing when there is none.
    #[must_use]
    pub fn thing_outcome(&self, id: &ObjectId) -> Option<ThingOutcome> {
        let thing = match self.things.get(id)?.counting() {
            Ok(thing) => thing,
            Err(fault) => {
                let (keys, connections) = (vec![], vec![]);
                return Some(ThingOutcome { entry: None, fault: Some(fault), keys, certificate: None, connections });
            }
        };
        let keys = self.own_keys(thing, id);
        let certificate = self.own_certificate(thing, id);
        let counting = |id: &ObjectId| {
            let channel = self.channels.get(id)?.counting().ok()?;
            channel_entry(channel, id).is_ok().then_some(channel)
        };
        let (mut grants, mut connections) = (Vec::new(), Vec::new());
        for connection in &thing.spec.connections {
            let channel = channel_of(connection, id);
            let granted = grant(connection, &channel, id, counting(&channel));
            let (namespace, channel) = (channel.namespace.to_string(), channel.name.to_string());
            let fault = granted.map(|grant| grants.push(grant)).err();
            connections.push(ConnectionOutcome { namespace, channel, fault });
        }
        // A suspended Thing keeps its keys from others, as it will want them back.
        let entry = ThingId::new(&id.namespace, &id.name).ok().filter(|_| !thing.spec.suspended).map(|thing_id| {
            let keys = keys.iter().filter_map(|outcome| outcome.key.as_ref().ok().cloned()).collect();
            let aliases = crate::compile::aliases(&thing.spec.aliases);
            let certificate = certificate.clone().and_then(Result::ok);
            ThingEntry { id: thing_id, aliases, keys, certificate, grants }
        });
        let suspended = thing.spec.suspended.then(|| (Reason::Suspended, "spec.suspended is true".to_owned()));
        Some(ThingOutcome { entry, fault: suspended, keys, certificate, connections })
    }

    /// The keys of the Thing, without those that are another's.
    fn own_keys(&self, thing: &Thing, id: &ObjectId) -> Vec<KeyOutcome> {
        let mut own = BTreeSet::new();
        let mut keys = self.keys_of(thing);
        for outcome in &mut keys {
            let Ok(key) = &outcome.key else { continue };
            let duplicate = if !own.insert(key.hash) {
                Some("this Thing has the key under another id too")
            } else if self.owner(&key.hash) != Some(id) {
                Some("the key is in use")
            } else {
                None
            };
            if let Some(message) = duplicate {
                outcome.key = Err((Reason::DuplicateKey, message.to_owned()));
            }
        }
        keys
    }

    /// What the certificate of the Thing calls it, unless that is another's.
    fn own_certificate(&self, thing: &Thing, id: &ObjectId) -> Option<Result<CertificateName, Fault>> {
        let name = keys::certificate_name(thing.spec.credentials.certificate.as_ref()?);
        Some(name.and_then(|name| {
            if self.owner_of(&Proof::Certificate(name.clone())) == Some(id) {
                return Ok(name);
            }
            Err((Reason::DuplicateCertificate, "certificate: the name is in use".to_owned()))
        }))
    }

    /// What the authors of all objects should know, in the order of kind, namespace and name.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for id in self.channels.ids() {
            let fault = self.channel_outcome(id).and_then(|outcome| outcome.fault);
            findings.extend(fault.map(|fault| Finding::new(Kind::Channel, id, fault)));
        }
        for id in self.things.ids() {
            let outcome = self.thing_outcome(id);
            findings.extend(outcome.into_iter().flat_map(|outcome| outcome.findings(id)));
        }
        findings.sort();
        findings
    }
}

impl ThingOutcome {
    /// Whether there is a key or a certificate that counts.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.keys.iter().any(|outcome| outcome.key.is_ok()) || matches!(self.certificate, Some(Ok(_)))
    }

    fn findings(self, id: &ObjectId) -> Vec<Finding> {
        let say = |fault| Finding::new(Kind::Thing, id, fault);
        let counts = self.fault.as_ref().is_none_or(|(reason, _)| *reason == Reason::Suspended);
        let is_mute = counts && !self.has_credential();
        let mut findings: Vec<Finding> = self.fault.into_iter().map(say).collect();
        for KeyOutcome { id, key } in self.keys {
            findings.extend(key.err().map(|(reason, message)| say((reason, format!("key {id}: {message}")))));
        }
        findings.extend(self.certificate.and_then(Result::err).map(say));
        if is_mute {
            let message = "there is neither a key nor a certificate that the Thing could show";
            findings.push(say((Reason::NoCredentials, message.to_owned())));
        }
        findings.extend(self.connections.into_iter().filter_map(|connection| connection.fault).map(say));
        findings
    }
}

impl Finding {
    fn new(kind: Kind, id: &ObjectId, (reason, message): Fault) -> Self {
        Self { kind, namespace: id.namespace.to_string(), name: id.name.to_string(), reason, message }
    }
}

/// The Channel that a connection of the Thing `of` means.
fn channel_of(connection: &tidegate_api::Connection, of: &ObjectId) -> ObjectId {
    if connection.namespace.is_empty() {
        ObjectId { namespace: of.namespace.clone(), name: connection.channel.as_str().into() }
    } else {
        ObjectId::new(&connection.namespace, &connection.channel)
    }
}

/// The Channels and Secrets that a Thing names.
fn references(thing: &Thing) -> (BTreeSet<ObjectId>, BTreeSet<ObjectId>) {
    let id = ObjectId::of(&thing.metadata);
    let channels = thing.spec.connections.iter().map(|connection| channel_of(connection, &id)).collect();
    let credentials = &thing.spec.credentials;
    let named = credentials.secret_refs.iter().map(|reference| reference.name.clone());
    let secrets = named.chain(credentials.generated_secret(&id.name));
    (channels, secrets.map(|name| ObjectId::new(&id.namespace, &name)).collect())
}

fn untie(ties: &mut BTreeMap<ObjectId, BTreeSet<ObjectId>>, to: &ObjectId, thing: &ObjectId) {
    if let Some(tied) = ties.get_mut(to) {
        tied.remove(thing);
        if tied.is_empty() {
            ties.remove(to);
        }
    }
}
