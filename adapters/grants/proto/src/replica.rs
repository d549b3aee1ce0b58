//! The adapter's side: a table that is always whole, whatever the stream does.

use std::collections::BTreeMap;

use tidegate_model::{
    ChannelEntry, ChannelId, Generation, GrantTable, GrantTableBuilder, TableError, ThingEntry, ThingId,
};

use crate::frame::{Entries, EntriesWriter, Frame, FrameError, FrameReader, List, Mode, encoded, hello, settled};
use crate::request::{Keys, Resume};
use crate::wire::{BadEntry, WireChannel, WireSharedKeys, WireThing};
use crate::{Cursor, Epoch};

/// The stream is of no use any more; the table stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(FrameError),
    /// An entry is none.
    #[error(transparent)]
    Entry(BadEntry),
    /// A frame came when it makes no sense.
    #[error("{0}")]
    Order(&'static str),
}

/// What came of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The stream began; acknowledgements name it by this number.
    Opened {
        /// The number.
        stream: u64,
    },
    /// There is a newer table.
    Settled(Cursor),
    /// The other side is there, and has nothing newer than this.
    Alive(Cursor),
}

/// Parts of a table that is not settled yet.
enum Staged {
    Nothing,
    Snapshot(Entries),
    Delta(Entries),
}

#[derive(Clone, Default)]
struct Contents {
    channels: BTreeMap<ChannelId, ChannelEntry>,
    things: BTreeMap<ThingId, ThingEntry>,
}

/// A copy of the operator's table.
pub struct Replica {
    reader: FrameReader,
    /// The history that the open stream tells, and how it tells keys.
    told: Option<(Epoch, Keys)>,
    staged: Staged,
    /// What `contents` is, once it is anything.
    at: Option<Resume>,
    contents: Contents,
}

impl Default for Replica {
    fn default() -> Self {
        Self::new()
    }
}

impl Replica {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            reader: FrameReader::default(),
            told: None,
            staged: Staged::Nothing,
            at: None,
            contents: Contents::default(),
        }
    }

    /// What to ask for at the next connection; nothing asks for everything.
    #[must_use]
    pub const fn resume(&self) -> Option<Resume> {
        self.at
    }

    /// How many Things and Channels are known.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.contents.things.len(), self.contents.channels.len())
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Takes in bytes of the stream. Poll until nothing is left.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.reader.handle_bytes(bytes);
    }

    /// The stream ended: what was not settled never was.
    pub fn handle_disconnect(&mut self) {
        self.reader = FrameReader::default();
        self.told = None;
        self.staged = Staged::Nothing;
    }

    /// Forgets everything, so that the next stream brings all anew.
    pub fn forget(&mut self) {
        *self = Self::new();
    }

    /// What came of the bytes so far.
    ///
    /// # Errors
    /// [`StreamError`]; disconnect then.
    pub fn poll_progress(&mut self) -> Result<Option<Progress>, StreamError> {
        while let Some(frame) = self.reader.poll_frame().map_err(StreamError::Frame)? {
            if let Some(progress) = self.handle_frame(frame)? {
                return Ok(Some(progress));
            }
        }
        Ok(None)
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<Option<Progress>, StreamError> {
        match (frame, self.told) {
            (Frame::Hello { epoch, stream, mode, keys }, None) => {
                let is_known = self.at.is_some_and(|at| (at.epoch, at.keys) == (epoch, keys));
                self.staged = match mode {
                    Mode::Snapshot => Staged::Snapshot(Entries::default()),
                    Mode::Delta if is_known => Staged::Delta(Entries::default()),
                    Mode::Delta => return Err(StreamError::Order("changes of a table that is not known")),
                };
                self.told = Some((epoch, keys));
                Ok(Some(Progress::Opened { stream }))
            }
            (Frame::Hello { .. }, Some(_)) => Err(StreamError::Order("a second beginning")),
            (Frame::Entries(_) | Frame::Settled(_) | Frame::Heartbeat(_), None) => {
                Err(StreamError::Order("no beginning"))
            }
            (Frame::Entries(entries), Some(_)) => {
                let (Staged::Snapshot(staged) | Staged::Delta(staged)) = &mut self.staged else {
                    return Err(StreamError::Order("entries of no table"));
                };
                staged.channels.extend(entries.channels);
                staged.things.extend(entries.things);
                staged.channels_gone.extend(entries.channels_gone);
                staged.things_gone.extend(entries.things_gone);
                staged.shared_keys.extend(entries.shared_keys);
                Ok(None)
            }
            (Frame::Settled(cursor), Some((epoch, keys))) => {
                self.settle(Resume { epoch, cursor, keys })?;
                Ok(Some(Progress::Settled(cursor)))
            }
            (Frame::Heartbeat(cursor), Some(_)) => Ok(Some(Progress::Alive(cursor))),
            (Frame::Unknown, _) => Ok(None),
        }
    }

    fn settle(&mut self, told: Resume) -> Result<(), StreamError> {
        let Resume { epoch, cursor, .. } = told;
        let (entries, mut contents) = match std::mem::replace(&mut self.staged, Staged::Delta(Entries::default())) {
            Staged::Nothing => return Err(StreamError::Order("a table without parts")),
            Staged::Snapshot(entries) => {
                if self.at.is_some_and(|at| at.epoch == epoch && cursor < at.cursor) {
                    return Err(StreamError::Order("a table that is older than the one that is known"));
                }
                (entries, Contents::default())
            }
            Staged::Delta(entries) => {
                if self.at.is_none_or(|at| at.epoch != epoch || cursor.0 != at.cursor.0.saturating_add(1)) {
                    return Err(StreamError::Order("a table that is not the next one"));
                }
                (entries, std::mem::take(&mut self.contents))
            }
        };
        // Either all of it counts or, since an entry may turn out to be none, the replica begins anew.
        self.at = None;
        contents.apply(entries).map_err(StreamError::Entry)?;
        self.contents = contents;
        self.at = Some(told);
        Ok(())
    }

    /// The table.
    ///
    /// # Errors
    /// [`TableError`] when the entries do not go together; forget them then.
    pub fn table(&self, generation: Generation, hash_seed: u64) -> Result<GrantTable, TableError> {
        let mut builder = GrantTableBuilder::new(generation, hash_seed);
        self.contents.channels.values().try_for_each(|channel| builder.channel(channel))?;
        self.contents.things.values().try_for_each(|thing| builder.thing(thing))?;
        Ok(builder.build())
    }

    /// The table as a stream of its own, to be kept, with the keys in clear that it has; nothing when there is none.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let at = self.at?;
        let mut writer = EntriesWriter::new();
        for channel in self.contents.channels.values() {
            writer.item(List::Channels, &encoded(&WireChannel::from(channel)));
        }
        for thing in self.contents.things.values() {
            writer.item(List::Things, &encoded(&WireThing::from(thing)));
            let shared = WireSharedKeys::from(thing);
            if !shared.is_empty() {
                writer.item(List::SharedKeys, &encoded(&shared));
            }
        }
        let mut bytes = hello(at.epoch, 0, Mode::Snapshot, at.keys).to_vec();
        writer.finish().iter().for_each(|frame| bytes.extend_from_slice(frame));
        bytes.extend_from_slice(&settled(at.cursor));
        Some(bytes)
    }

    /// The replica that [`Replica::to_bytes`] was made of.
    ///
    /// # Errors
    /// [`StreamError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StreamError> {
        let mut replica = Self::new();
        replica.handle_bytes(bytes);
        while replica.poll_progress()?.is_some() {}
        replica.handle_disconnect();
        if replica.at.is_some() { Ok(replica) } else { Err(StreamError::Order("no whole table")) }
    }
}

impl Contents {
    fn apply(&mut self, entries: Entries) -> Result<(), BadEntry> {
        for id in entries.channels_gone {
            self.channels.remove(&ChannelId::parse(&id).map_err(|_| BadEntry("channel id"))?);
        }
        for id in entries.things_gone {
            self.things.remove(&ThingId::parse(&id).map_err(|_| BadEntry("thing id"))?);
        }
        for channel in entries.channels {
            let channel = ChannelEntry::try_from(channel)?;
            self.channels.insert(channel.id.clone(), channel);
        }
        for thing in entries.things {
            let thing = ThingEntry::try_from(thing)?;
            self.things.insert(thing.id.clone(), thing);
        }
        // Last, since they may have come before their Things.
        for shared in entries.shared_keys {
            let id = ThingId::parse(&shared.id).map_err(|_| BadEntry("thing id"))?;
            if let Some(thing) = self.things.get_mut(&id) {
                shared.attach(&mut thing.keys);
            }
        }
        Ok(())
    }
}
