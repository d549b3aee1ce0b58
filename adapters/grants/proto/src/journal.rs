//! The operator's side: the table as it is, encoded once for all streams, and what changed lately.
//!
//! Keys in clear are encoded apart from all else, and are only in what is told by [`Keys::Shared`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{ChannelId, Delta, ThingEntry, ThingId};

use crate::frame::{EntriesWriter, List, Mode, encoded, heartbeat, hello, settled};
use crate::request::{Keys, Resume};
use crate::wire::{WireChannel, WireSharedKeys, WireThing};
use crate::{Cursor, Epoch};

/// Bounds on what is remembered.
#[derive(Clone, Copy, Debug)]
pub struct JournalLimits {
    /// Changed entries that a reconnecting adapter can catch up with; beyond it gets a snapshot.
    pub changes_max: usize,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self { changes_max: 100_000 }
    }
}

/// A Thing, encoded.
struct Encoded {
    entry: Box<[u8]>,
    /// Its keys in clear; empty where it has none.
    shared: Box<[u8]>,
}

impl From<&ThingEntry> for Encoded {
    fn from(thing: &ThingEntry) -> Self {
        let shared = WireSharedKeys::from(thing);
        let shared = if shared.is_empty() { Vec::new() } else { encoded(&shared) };
        Self { entry: encoded(&WireThing::from(thing)).into(), shared: shared.into() }
    }
}

/// What makes a table of another one, in frames.
struct Parts {
    /// What every stream has.
    open: Vec<Bytes>,
    /// The keys in clear, which only some have.
    shared: Vec<Bytes>,
    /// The table that it makes.
    cursor: Cursor,
}

impl Parts {
    fn frames(&self, keys: Keys) -> impl Iterator<Item = Bytes> {
        let shared: &[Bytes] = match keys {
            Keys::Hashed => &[],
            Keys::Shared => &self.shared,
        };
        self.open.iter().chain(shared).cloned().chain([settled(self.cursor)])
    }
}

/// Writes parts.
struct PartsWriter {
    open: EntriesWriter,
    shared: EntriesWriter,
    entries: usize,
}

impl PartsWriter {
    const fn new() -> Self {
        Self { open: EntriesWriter::new(), shared: EntriesWriter::new(), entries: 0 }
    }

    fn item(&mut self, list: List, cbor: &[u8]) {
        match list {
            List::Channels | List::Things | List::ChannelsGone | List::ThingsGone => self.open.item(list, cbor),
            List::SharedKeys => self.shared.item(list, cbor),
        }
        self.entries += 1;
    }

    fn finish(self, cursor: Cursor) -> Parts {
        Parts { open: self.open.finish(), shared: self.shared.finish(), cursor }
    }
}

/// One change that was told.
struct Told {
    entries: usize,
    parts: Parts,
}

/// The whole table as it is.
struct Snapshot {
    parts: Arc<Parts>,
    /// Whether keys in clear are among its parts.
    is_keyed: bool,
}

/// The history of one table.
pub struct Journal {
    epoch: Epoch,
    limits: JournalLimits,
    cursor: Cursor,
    channels: BTreeMap<ChannelId, Box<[u8]>>,
    things: BTreeMap<ThingId, Encoded>,
    told: VecDeque<Told>,
    told_entries: usize,
    snapshot: Option<Snapshot>,
}

impl Journal {
    /// An empty table, the first of its history. `epoch` must be unlike any other.
    #[must_use]
    pub const fn new(epoch: Epoch, limits: JournalLimits) -> Self {
        Self {
            epoch,
            limits,
            cursor: Cursor(0),
            channels: BTreeMap::new(),
            things: BTreeMap::new(),
            told: VecDeque::new(),
            told_entries: 0,
            snapshot: None,
        }
    }

    /// Which history this is.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The table as it is.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The entry of a Thing and its keys in clear, encoded: the same for the same Thing in every history.
    #[must_use]
    pub fn thing(&self, id: &ThingId) -> Option<[&[u8]; 2]> {
        self.things.get(id).map(|thing| [&*thing.entry, &*thing.shared])
    }

    /// The entry of a Channel, likewise.
    #[must_use]
    pub fn channel(&self, id: &ChannelId) -> Option<&[u8]> {
        self.channels.get(id).map(|cbor| &**cbor)
    }

    /// How many Things and Channels there are.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.things.len(), self.channels.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Changes the table. What is as it was already is not told again; a change of nothing has no cursor of its own.
    pub fn apply(&mut self, delta: &Delta) -> Cursor {
        let mut change = PartsWriter::new();
        for id in &delta.channels_gone {
            if self.channels.remove(id).is_some() {
                change.item(List::ChannelsGone, &encoded(&id.as_str()));
            }
        }
        for id in &delta.things_gone {
            if self.things.remove(id).is_some() {
                change.item(List::ThingsGone, &encoded(&id.as_str()));
            }
        }
        for channel in &delta.channels {
            let cbor = encoded(&WireChannel::from(channel));
            if self.channels.get(&channel.id).is_none_or(|known| **known != *cbor) {
                change.item(List::Channels, &cbor);
                self.channels.insert(channel.id.clone(), cbor.into());
            }
        }
        delta.things.iter().for_each(|thing| self.apply_thing(thing, &mut change));
        if change.entries > 0 {
            self.cursor.0 += 1;
            self.remember(Told { entries: change.entries, parts: change.finish(self.cursor) });
        }
        self.cursor
    }

    fn apply_thing(&mut self, thing: &ThingEntry, change: &mut PartsWriter) {
        let now = Encoded::from(thing);
        let before = self.things.get(&thing.id);
        let is_new = before.is_none_or(|before| before.entry != now.entry);
        let had: &[u8] = before.map_or(&[], |before| &before.shared);
        // An entry takes the place of the one before with its keys in clear, so these are told again with it.
        let is_keyed_anew = if is_new { !now.shared.is_empty() } else { *had != *now.shared };
        if is_new {
            change.item(List::Things, &now.entry);
        }
        if is_keyed_anew && now.shared.is_empty() {
            change.item(List::SharedKeys, &encoded(&WireSharedKeys::from(thing)));
        } else if is_keyed_anew {
            change.item(List::SharedKeys, &now.shared);
        }
        if is_new || is_keyed_anew {
            self.things.insert(thing.id.clone(), now);
        }
    }

    fn remember(&mut self, told: Told) {
        self.told_entries += told.entries;
        self.told.push_back(told);
        while self.told_entries > self.limits.changes_max {
            let Some(forgotten) = self.told.pop_front() else { break };
            self.told_entries -= forgotten.entries;
        }
        // Whoever begins anew is told the table as it is: an older one, in force until the rest has come, would refuse who
        // came since, and end what they have open.
        self.snapshot = None;
    }

    /// The oldest table that can be caught up from.
    fn first_known(&self) -> u64 {
        self.told.front().map_or(self.cursor.0, |told| told.parts.cursor.0 - 1)
    }

    /// The beginning of a stream that tells keys so, and the table that it ends with: what changed since, if that is
    /// still known, or else everything as it is. Snapshots are shared by all who need one until the table changes.
    pub fn open(&mut self, resume: Option<Resume>, stream: u64, keys: Keys) -> (Vec<Bytes>, Cursor) {
        // Whoever knows keys otherwise than they are told from now on lacks some, or has what is not for it.
        let known = resume.filter(|resume| (resume.epoch, resume.keys) == (self.epoch, keys));
        if let Some(frames) = known.and_then(|resume| self.since(resume.cursor, keys)) {
            let mut all = vec![hello(self.epoch, stream, Mode::Delta, keys)];
            all.extend(frames);
            all.push(heartbeat(self.cursor));
            return (all, self.cursor);
        }
        let snapshot = self.snapshot(keys);
        let mut all = vec![hello(self.epoch, stream, Mode::Snapshot, keys)];
        all.extend(snapshot.frames(keys));
        (all, self.cursor)
    }

    fn snapshot(&mut self, keys: Keys) -> Arc<Parts> {
        let was_keyed = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_keyed);
        let is_keyed = was_keyed || keys == Keys::Shared;
        if let Some(snapshot) = self.snapshot.as_ref().filter(|snapshot| snapshot.is_keyed == is_keyed) {
            return Arc::clone(&snapshot.parts);
        }
        let mut writer = PartsWriter::new();
        self.channels.values().for_each(|cbor| writer.item(List::Channels, cbor));
        self.things.values().for_each(|thing| writer.item(List::Things, &thing.entry));
        let keyed = self.things.values().filter(|thing| is_keyed && !thing.shared.is_empty());
        keyed.for_each(|thing| writer.item(List::SharedKeys, &thing.shared));
        let parts = Arc::new(writer.finish(self.cursor));
        self.snapshot = Some(Snapshot { parts: Arc::clone(&parts), is_keyed });
        parts
    }

    /// What came after the table of `cursor`, to a stream that tells keys so; nothing when that is not known any more,
    /// or never was.
    #[must_use]
    pub fn since(&self, cursor: Cursor, keys: Keys) -> Option<Vec<Bytes>> {
        if cursor > self.cursor || cursor.0 < self.first_known() {
            return None;
        }
        let later = self.told.iter().filter(|told| told.parts.cursor > cursor);
        Some(later.flat_map(|told| told.parts.frames(keys)).collect())
    }

    /// What is sent when nothing changed for a while.
    #[must_use]
    pub fn heartbeat(&self) -> Bytes {
        heartbeat(self.cursor)
    }
}
