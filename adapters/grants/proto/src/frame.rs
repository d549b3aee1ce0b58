//! Frames: what the stream is made of.

use bytes::{Buf, Bytes, BytesMut};
use minicbor::bytes::ByteArray;
use minicbor::{Decoder, Encoder};

use crate::request::Keys;
use crate::wire::{WireChannel, WireSharedKeys, WireThing};
use crate::{Cursor, Epoch};

/// Longest frame, without its length. A single entry is far shorter.
pub const FRAME_BYTES_MAX: usize = 256 * 1_024;
/// Bytes of the length before a frame.
const LENGTH_BYTES: usize = 4;

/// Kinds, as numbers on the wire.
const HELLO: u32 = 0;
const ENTRIES: u32 = 1;
const SETTLED: u32 = 2;
const HEARTBEAT: u32 = 3;

/// Fields of a Hello, its kind included, where nothing is said of keys.
const HELLO_FIELDS: u64 = 4;
/// Fields of Entries, their kind included, without keys in clear.
const ENTRIES_FIELDS: u64 = 5;
/// The lists of Entries.
const LISTS: usize = 5;

/// What follows a Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A whole table: what it does not name is gone.
    Snapshot,
    /// What changed since the cursor that was asked for.
    Delta,
}

/// One frame. Entries are kept as they came: most are only passed on.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The first one of a stream.
    Hello {
        /// The history that cursors belong to.
        epoch: Epoch,
        /// The number by which acknowledgements name this stream.
        stream: u64,
        /// What follows.
        mode: Mode,
        /// How it tells keys.
        keys: Keys,
    },
    /// Parts of a table that counts once it is settled.
    Entries(Entries),
    /// All parts of this table are here.
    Settled(Cursor),
    /// Nothing happened since the table of this cursor.
    Heartbeat(Cursor),
    /// Something that this version does not know.
    Unknown,
}

/// Changes of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries {
    pub(crate) channels: Vec<WireChannel>,
    pub(crate) things: Vec<WireThing>,
    pub(crate) channels_gone: Vec<String>,
    pub(crate) things_gone: Vec<String>,
    pub(crate) shared_keys: Vec<WireSharedKeys>,
}

/// The bytes are no stream of frames.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A frame is longer than any may be.
    #[error("a frame of {0} bytes, {FRAME_BYTES_MAX} are the most")]
    TooLong(usize),
    /// A frame is not what its kind asks for.
    #[error("a frame that is none: {0}")]
    Malformed(#[source] minicbor::decode::Error),
}

impl From<minicbor::decode::Error> for FrameError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error)
    }
}

/// CBOR of a value.
pub(crate) fn encoded<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect(IN_MEMORY)
}

/// What cannot fail, since it writes to memory.
const IN_MEMORY: &str = "writing to memory cannot fail";

/// Writes a frame whose body `write` makes.
pub(crate) fn framed(write: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Bytes {
    let mut encoder = Encoder::new(vec![0; LENGTH_BYTES]);
    write(&mut encoder);
    let mut bytes = encoder.into_writer();
    let length = u32::try_from(bytes.len() - LENGTH_BYTES).expect("a frame is bounded");
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    bytes.into()
}

pub(crate) fn hello(epoch: Epoch, stream: u64, mode: Mode, keys: Keys) -> Bytes {
    framed(|encoder| {
        let mode = match mode {
            Mode::Snapshot => 0,
            Mode::Delta => 1,
        };
        let keyed = keys == Keys::Shared;
        let fields = if keyed { HELLO_FIELDS + 1 } else { HELLO_FIELDS };
        let written = encoder.array(fields).and_then(|e| e.u32(HELLO)).and_then(|e| e.bytes(&epoch.0));
        let written = written.and_then(|e| e.u64(stream)).and_then(|e| e.u32(mode)).expect(IN_MEMORY);
        if keyed {
            written.bool(true).expect(IN_MEMORY);
        }
    })
}

fn marker(kind: u32, cursor: Cursor) -> Bytes {
    framed(|encoder| {
        encoder.array(2).and_then(|e| e.u32(kind)).and_then(|e| e.u64(cursor.0)).expect(IN_MEMORY);
    })
}

pub(crate) fn settled(cursor: Cursor) -> Bytes {
    marker(SETTLED, cursor)
}

pub(crate) fn heartbeat(cursor: Cursor) -> Bytes {
    marker(HEARTBEAT, cursor)
}

/// Entries as frames that are not too long. Each item is CBOR already.
pub(crate) struct EntriesWriter {
    frames: Vec<Bytes>,
    lists: [Vec<u8>; LISTS],
    counts: [u64; LISTS],
}

/// The lists of an Entries frame, in their order on the wire.
#[derive(Clone, Copy)]
pub(crate) enum List {
    Channels = 0,
    Things = 1,
    ChannelsGone = 2,
    ThingsGone = 3,
    /// Is there only where it has something in it.
    SharedKeys = 4,
}

impl EntriesWriter {
    pub(crate) const fn new() -> Self {
        Self { frames: Vec::new(), lists: [const { Vec::new() }; LISTS], counts: [0; LISTS] }
    }

    pub(crate) fn item(&mut self, list: List, cbor: &[u8]) {
        /// The lengths of the lists, and the kind.
        const OVERHEAD: usize = 64;
        let held: usize = self.lists.iter().map(Vec::len).sum();
        if held > 0 && held + cbor.len() + OVERHEAD > FRAME_BYTES_MAX {
            self.flush();
        }
        self.lists[list as usize].extend_from_slice(cbor);
        self.counts[list as usize] += 1;
    }

    fn flush(&mut self) {
        let (lists, counts) = (std::mem::take(&mut self.lists), std::mem::take(&mut self.counts));
        if counts == [0; LISTS] {
            return;
        }
        self.frames.push(framed(|encoder| {
            let keyed = counts[List::SharedKeys as usize] > 0;
            let (fields, lists_told) = if keyed { (ENTRIES_FIELDS + 1, LISTS) } else { (ENTRIES_FIELDS, LISTS - 1) };
            encoder.array(fields).and_then(|e| e.u32(ENTRIES)).expect(IN_MEMORY);
            for (list, count) in lists.into_iter().zip(counts).take(lists_told) {
                encoder.array(count).expect(IN_MEMORY);
                encoder.writer_mut().extend(list);
            }
        }));
    }

    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.frames
    }
}

impl Frame {
    /// Reads a frame without its length.
    fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let mut decoder = Decoder::new(bytes);
        let fields = decoder.array()?.unwrap_or_default();
        let frame = match decoder.u32()? {
            HELLO => {
                let epoch: ByteArray<16> = decoder.decode()?;
                let stream = decoder.u64()?;
                let mode = if decoder.u32()? == 1 { Mode::Delta } else { Mode::Snapshot };
                let keyed = fields > HELLO_FIELDS && decoder.bool()?;
                let keys = if keyed { Keys::Shared } else { Keys::Hashed };
                Self::Hello { epoch: Epoch(epoch.into()), stream, mode, keys }
            }
            ENTRIES => Self::Entries(Entries {
                channels: decoder.decode()?,
                things: decoder.decode()?,
                channels_gone: decoder.decode()?,
                things_gone: decoder.decode()?,
                shared_keys: if fields > ENTRIES_FIELDS { decoder.decode()? } else { Vec::new() },
            }),
            SETTLED => Self::Settled(Cursor(decoder.u64()?)),
            HEARTBEAT => Self::Heartbeat(Cursor(decoder.u64()?)),
            _ => Self::Unknown,
        };
        Ok(frame)
    }
}

/// Cuts a stream of bytes into frames, wherever its pieces begin and end.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffered: BytesMut,
}

impl FrameReader {
    /// Takes in the next bytes.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.buffered.extend_from_slice(bytes);
    }

    /// The next frame, once it is whole.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no use any more.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(length) = self.buffered.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        if self.buffered.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.buffered.advance(LENGTH_BYTES);
        let frame = self.buffered.split_to(length);
        Frame::decode(&frame).map(Some)
    }
}
