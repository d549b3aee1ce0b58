//! The operator's side: the table as it is, encoded once for all streams, and what changed lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{ChannelId, Delta, ThingId};

use crate::frame::{EntriesWriter, List, Mode, encoded, heartbeat, hello, settled};
use crate::request::Resume;
use crate::wire::{WireChannel, WireThing};
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

/// One change that was told.
struct Told {
    cursor: Cursor,
    entries: usize,
    frames: Vec<Bytes>,
}

/// A whole table in frames, and which one.
type Snapshot = (Cursor, Arc<Vec<Bytes>>);

/// The history of one table.
pub struct Journal {
    epoch: Epoch,
    limits: JournalLimits,
    cursor: Cursor,
    channels: BTreeMap<ChannelId, Box<[u8]>>,
    things: BTreeMap<ThingId, Box<[u8]>>,
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

    /// The entry of a Thing, encoded: the same for the same Thing in every history.
    #[must_use]
    pub fn thing(&self, id: &ThingId) -> Option<&[u8]> {
        self.things.get(id).map(|cbor| &**cbor)
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
        let mut writer = EntriesWriter::new();
        let mut entries = 0;
        let mut note = |writer: &mut EntriesWriter, list, cbor: &[u8]| {
            writer.item(list, cbor);
            entries += 1;
        };
        for id in &delta.channels_gone {
            if self.channels.remove(id).is_some() {
                note(&mut writer, List::ChannelsGone, &encoded(&id.as_str()));
            }
        }
        for id in &delta.things_gone {
            if self.things.remove(id).is_some() {
                note(&mut writer, List::ThingsGone, &encoded(&id.as_str()));
            }
        }
        for channel in &delta.channels {
            let cbor = encoded(&WireChannel::from(channel));
            if self.channels.get(&channel.id).is_none_or(|known| **known != *cbor) {
                note(&mut writer, List::Channels, &cbor);
                self.channels.insert(channel.id.clone(), cbor.into());
            }
        }
        for thing in &delta.things {
            let cbor = encoded(&WireThing::from(thing));
            if self.things.get(&thing.id).is_none_or(|known| **known != *cbor) {
                note(&mut writer, List::Things, &cbor);
                self.things.insert(thing.id.clone(), cbor.into());
            }
        }
        if entries > 0 {
            self.cursor.0 += 1;
            let mut frames = writer.finish();
            frames.push(settled(self.cursor));
            self.remember(Told { cursor: self.cursor, entries, frames });
        }
        self.cursor
    }

    fn remember(&mut self, told: Told) {
        self.told_entries += told.entries;
        self.told.push_back(told);
        while self.told_entries > self.limits.changes_max {
            let Some(forgotten) = self.told.pop_front() else { break };
            self.told_entries -= forgotten.entries;
        }
        // A snapshot that cannot be caught up from is of no use.
        let first = self.told.front().map_or(self.cursor.0, |told| told.cursor.0 - 1);
        self.snapshot = self.snapshot.take().filter(|(cursor, _)| cursor.0 >= first);
    }

    /// The beginning of a stream, and the table that it ends with: what changed since, if that is still known, or else
    /// everything. Snapshots are shared by all who need one.
    pub fn open(&mut self, resume: Option<Resume>, stream: u64) -> (Vec<Bytes>, Cursor) {
        let known = resume.filter(|resume| resume.epoch == self.epoch);
        if let Some(frames) = known.and_then(|resume| self.since(resume.cursor)) {
            let mut all = vec![hello(self.epoch, stream, Mode::Delta)];
            all.extend(frames);
            all.push(heartbeat(self.cursor));
            return (all, self.cursor);
        }
        let (cursor, snapshot) = self.snapshot();
        let mut all = vec![hello(self.epoch, stream, Mode::Snapshot)];
        all.extend(snapshot.iter().cloned());
        (all, cursor)
    }

    fn snapshot(&mut self) -> Snapshot {
        let cursor = self.cursor;
        let (channels, things) = (&self.channels, &self.things);
        let (at, frames) = self.snapshot.get_or_insert_with(|| {
            let mut writer = EntriesWriter::new();
            channels.values().for_each(|cbor| writer.item(List::Channels, cbor));
            things.values().for_each(|cbor| writer.item(List::Things, cbor));
            let mut frames = writer.finish();
            frames.push(settled(cursor));
            (cursor, Arc::new(frames))
        });
        (*at, Arc::clone(frames))
    }

    /// What came after the table of `cursor`; nothing when that is not known any more, or never was.
    #[must_use]
    pub fn since(&self, cursor: Cursor) -> Option<Vec<Bytes>> {
        if cursor > self.cursor {
            return None;
        }
        let first = self.told.front().map_or(self.cursor.0, |told| told.cursor.0 - 1);
        if cursor.0 < first {
            return None;
        }
        let later = self.told.iter().filter(|told| told.cursor > cursor);
        Some(later.flat_map(|told| told.frames.iter().cloned()).collect())
    }

    /// What is sent when nothing changed for a while.
    #[must_use]
    pub fn heartbeat(&self) -> Bytes {
        heartbeat(self.cursor)
    }
}
