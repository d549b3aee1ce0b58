//! Building a [`GrantTable`] from entries.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{
    AliasRow, CertificateRow, Channel, ChannelEntry, Generation, GrantEntry, GrantRow, GrantTable, KeyEntry, KeyRow,
    Rules, SharedRow, TableContents, TableIdentity, ThingEntry, ThingRow, Validity,
};
use crate::certificate::CertificateName;
use crate::name::{Alias, ChannelId, ThingId};

/// Contents that make no table. Whoever compiles them resolves conflicts before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// An id, an alias, a key or the name of a certificate stands twice.
    #[error("{owner}: its {what} is taken")]
    Taken {
        /// The Thing or Channel that came later.
        owner: String,
        /// What it shares with an earlier one.
        what: &'static str,
    },
    /// A grant names a Channel that is not in the table.
    #[error("{thing}: no channel {channel} in the table")]
    NoChannel {
        /// The Thing with the grant.
        thing: ThingId,
        /// The Channel.
        channel: ChannelId,
    },
    /// A count is beyond what the table can hold.
    #[error("too many {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
    },
}

/// The hash of a sequence of parts; `seed` keeps those who choose names from choosing collisions.
pub(super) fn hash(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut hasher = FixedState::with_seed(seed).build_hasher();
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

fn row_number(rows: usize, what: &'static str) -> Result<u32, TableError> {
    u32::try_from(rows).map_err(|_| TableError::TooMany { what })
}

fn span_len(rows: usize, what: &'static str) -> Result<u8, TableError> {
    u8::try_from(rows).map_err(|_| TableError::TooMany { what })
}

/// Takes entries one at a time, so that a large table is never in memory twice. Channels come before the Things that
/// are connected to them.
pub struct GrantTableBuilder {
    table: GrantTable,
    arena: String,
    by_rules: HashTable<u32>,
}

impl GrantTableBuilder {
    /// Begins a table. `hash_seed` should be random, and must differ between tables of the same generation.
    #[must_use]
    pub fn new(generation: Generation, hash_seed: u64) -> Self {
        let table = GrantTable {
            identity: TableIdentity { generation, hash_seed },
            arena: Box::default(),
            things: Vec::new(),
            keys: Vec::new(),
            validity: vec![Validity::default()],
            shared: Vec::new(),
            certificates: Vec::new(),
            grants: Vec::new(),
            rules: vec![Rules::default()],
            channels: Vec::new(),
            thing_aliases: Vec::new(),
            channel_aliases: Vec::new(),
            by_key: HashTable::new(),
            by_certificate: HashTable::new(),
            by_thing_id: HashTable::new(),
            by_thing_alias: HashTable::new(),
            by_channel_id: HashTable::new(),
            by_channel_alias: HashTable::new(),
        };
        Self { table, arena: String::new(), by_rules: HashTable::new() }
    }

    /// A table of all of `contents`.
    ///
    /// # Errors
    /// [`TableError`] for contents that make no table.
    pub fn table_of(
        contents: &TableContents,
        generation: Generation,
        hash_seed: u64,
    ) -> Result<GrantTable, TableError> {
        let mut builder = Self::new(generation, hash_seed);
        contents.channels.iter().try_for_each(|channel| builder.channel(channel))?;
        contents.things.iter().try_for_each(|thing| builder.thing(thing))?;
        Ok(builder.build())
    }

    /// Adds a Channel.
    ///
    /// # Errors
    /// [`TableError`] when its id or an alias is taken; the builder is to be dropped then.
    pub fn channel(&mut self, entry: &ChannelEntry) -> Result<(), TableError> {
        let table = &mut self.table;
        let row = row_number(table.channels.len(), "channels")?;
        let (namespace, name) = (entry.id.namespace(), entry.id.name());
        if table.channel_named(namespace, name).is_some() {
            return Err(taken(&entry.id, "id"));
        }
        let seed = table.identity.hash_seed;
        let channels = &mut table.channels;
        channels.push(Arc::new(Channel { id: entry.id.clone(), payload: entry.payload.clone() }));
        table.by_channel_id.insert_unique(hash_of_id(seed, namespace, name), row, |&row| {
            let id = &channels[row as usize].id;
            hash_of_id(seed, id.namespace(), id.name())
        });
        for alias in &entry.aliases {
            if !add_alias(seed, &mut table.by_channel_alias, &mut table.channel_aliases, alias, row) {
                return Err(taken(&entry.id, "alias"));
            }
        }
        Ok(())
    }

    /// Adds a Thing.
    ///
    /// # Errors
    /// [`TableError`] when its id, an alias, a key or a certificate's name is taken, or a grant's Channel was not added; the builder is to be
    /// dropped then.
    pub fn thing(&mut self, entry: &ThingEntry) -> Result<(), TableError> {
        let row = row_number(self.table.things.len(), "things")?;
        let thing = ThingRow {
            name_start: row_number(self.arena.len(), "bytes of names")?,
            grants_start: row_number(self.table.grants.len(), "grants")?,
            namespace_bytes: span_len(entry.id.namespace().len(), "bytes of a namespace")?,
            name_bytes: span_len(entry.id.name().len(), "bytes of a name")?,
            grants_len: span_len(entry.grants.len(), "grants of a thing")?,
        };
        self.index_thing(entry, thing, row)?;
        entry.keys.iter().try_for_each(|key| self.key(key, row, &entry.id))?;
        entry.certificate.iter().try_for_each(|name| self.certificate(name, row, &entry.id))?;
        entry.grants.iter().try_for_each(|grant| self.grant(grant, &entry.id))
    }

    fn index_thing(&mut self, entry: &ThingEntry, thing: ThingRow, row: u32) -> Result<(), TableError> {
        let Self { table, arena, .. } = self;
        let seed = table.identity.hash_seed;
        let (things, by_thing_id) = (&mut table.things, &mut table.by_thing_id);
        things.push(thing);
        arena.push_str(entry.id.as_str());
        let name = |&row: &u32| {
            let row = &things[row as usize];
            let (start, namespace_bytes) = (row.name_start as usize, usize::from(row.namespace_bytes));
            let text = &arena[start..][..namespace_bytes + 1 + usize::from(row.name_bytes)];
            (&text[..namespace_bytes], &text[namespace_bytes + 1..])
        };
        let own = (entry.id.namespace(), entry.id.name());
        if by_thing_id.find(hash_of_id(seed, own.0, own.1), |other| name(other) == own).is_some() {
            return Err(taken(&entry.id, "id"));
        }
        by_thing_id.insert_unique(hash_of_id(seed, own.0, own.1), row, |other| {
            let (namespace, name) = name(other);
            hash_of_id(seed, namespace, name)
        });
        for alias in &entry.aliases {
            if !add_alias(seed, &mut table.by_thing_alias, &mut table.thing_aliases, alias, row) {
                return Err(taken(&entry.id, "alias"));
            }
        }
        Ok(())
    }

    fn key(&mut self, key: &KeyEntry, thing: u32, owner: &ThingId) -> Result<(), TableError> {
        let table = &mut self.table;
        if table.key_row(&key.hash).is_some() {
            return Err(taken(owner, "key"));
        }
        let validity = Validity { not_before: key.not_before, not_after: key.not_after };
        // Keys that are added together often share their times, so the newest row is looked at before a new one is made.
        let validity_row = if validity == Validity::default() {
            0
        } else if table.validity.last() == Some(&validity) {
            table.validity.len() - 1
        } else {
            table.validity.push(validity);
            table.validity.len() - 1
        };
        let row = row_number(table.keys.len(), "keys")?;
        let seed = table.identity.hash_seed;
        let keys = &mut table.keys;
        keys.push(KeyRow { hash: key.hash, thing, validity: row_number(validity_row, "key validities")? });
        table.by_key.insert_unique(hash(seed, &[key.hash.as_bytes()]), row, |&row| {
            hash(seed, &[keys[row as usize].hash.as_bytes()])
        });
        table.shared.extend(key.shared.clone().map(|shared| SharedRow { key: row, shared }));
        Ok(())
    }

    fn certificate(&mut self, name: &CertificateName, thing: u32, owner: &ThingId) -> Result<(), TableError> {
        let table = &mut self.table;
        if table.certificate_row(name).is_some() {
            return Err(taken(owner, "certificate"));
        }
        let row = row_number(table.certificates.len(), "certificates")?;
        let seed = table.identity.hash_seed;
        let certificates = &mut table.certificates;
        certificates.push(CertificateRow { name: Arc::new(name.clone()), thing });
        table.by_certificate.insert_unique(hash_of_certificate(seed, name), row, |&row| {
            hash_of_certificate(seed, &certificates[row as usize].name)
        });
        Ok(())
    }

    fn grant(&mut self, grant: &GrantEntry, owner: &ThingId) -> Result<(), TableError> {
        let table = &mut self.table;
        let channel = table
            .channel_named(grant.channel.namespace(), grant.channel.name())
            .ok_or_else(|| TableError::NoChannel { thing: owner.clone(), channel: grant.channel.clone() })?;
        let rules = self.rules(Rules { publish: grant.publish.clone(), subscribe: grant.subscribe.clone() })?;
        self.table.grants.push(GrantRow { channel, permissions: grant.permissions, rules });
        Ok(())
    }

    /// The number of the row with these rules: fleets share a few.
    fn rules(&mut self, rules: Rules) -> Result<u32, TableError> {
        if rules == Rules::default() {
            return Ok(0);
        }
        let Self { table, by_rules, .. } = self;
        let hasher = FixedState::with_seed(table.identity.hash_seed);
        let (known, key) = (&mut table.rules, hasher.hash_one(&rules));
        if let Some(row) = by_rules.find(key, |&row| known[row as usize] == rules) {
            return Ok(*row);
        }
        let row = row_number(known.len(), "subtopic rules")?;
        known.push(rules);
        by_rules.insert_unique(key, row, |&row| hasher.hash_one(&known[row as usize]));
        Ok(row)
    }

    /// Ends the table.
    #[must_use]
    pub fn build(self) -> GrantTable {
        let Self { mut table, arena, .. } = self;
        table.arena = arena.into_boxed_str();
        table.things.shrink_to_fit();
        table.keys.shrink_to_fit();
        table.grants.shrink_to_fit();
        table
    }
}

pub(super) fn hash_of_certificate(seed: u64, name: &CertificateName) -> u64 {
    FixedState::with_seed(seed).hash_one(name)
}

fn hash_of_id(seed: u64, namespace: &str, name: &str) -> u64 {
    hash(seed, &[namespace.as_bytes(), name.as_bytes()])
}

fn taken(owner: &impl ToString, what: &'static str) -> TableError {
    TableError::Taken { owner: owner.to_string(), what }
}

/// Adds an alias unless it is taken.
fn add_alias(seed: u64, index: &mut HashTable<u32>, aliases: &mut Vec<AliasRow>, alias: &Alias, row: u32) -> bool {
    let key = hash(seed, &[alias.as_str().as_bytes()]);
    if index.find(key, |&other| aliases[other as usize].alias == *alias).is_some() {
        return false;
    }
    let Ok(number) = u32::try_from(aliases.len()) else { return false };
    aliases.push(AliasRow { alias: alias.clone(), row });
    index.insert_unique(key, number, |&other| hash(seed, &[aliases[other as usize].alias.as_str().as_bytes()]));
    true
}
