//! Options: checked once, kept as the bytes that they came in, and read where they are asked for.

mod number;
mod value;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::MARKER;
use crate::error::Malformed;

pub use number::{Format, OptionNumber};
pub use value::{Block, ContentFormat, NoResponse, Observe};

/// Longest value, in bytes, that a length can say.
const VALUE_BYTES_MAX: usize = 65_535 + LONG;
/// Bytes that an option takes beside its value, at most.
const OPTION_BYTES_MAX: usize = 5;
/// What a length or delta of one byte more begins at, and one of two.
const SHORT: usize = 13;
const LONG: usize = 269;

/// The options of a message, in the order of their numbers. Each set of them has one spelling only.
//= RFC7252 3.1
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Options {
    bytes: Bytes,
    numbers: Numbers,
}

/// Which numbers are there: one that is not need not be looked for. A bit for each of the first, and one for all others.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Numbers(u64);

impl Numbers {
    const fn bit(number: usize) -> u64 {
        if number < 63 { 1 << number } else { 1 << 63 }
    }

    const fn add(&mut self, number: usize) {
        self.0 |= Self::bit(number);
    }

    const fn may_have(self, number: OptionNumber) -> bool {
        self.0 & Self::bit(number.0 as usize) != 0
    }
}

impl Options {
    /// None at all.
    pub const NONE: Self = Self { bytes: Bytes::new(), numbers: Numbers(0) };

    /// What stands before the payload, and the payload; the marker between them is gone.
    pub(crate) fn split(mut content: Bytes) -> Result<(Self, Bytes), Malformed> {
        let mut rest = &content[..];
        let (mut number, mut numbers) = (0, Numbers::default());
        while let Some(step) = step(rest)? {
            number += step.delta;
            if number > usize::from(u16::MAX) {
                return Err(Malformed::OptionNumber);
            }
            numbers.add(number);
            rest = step.rest;
        }
        let end = content.len() - rest.len();
        let has_payload = !rest.is_empty();
        if rest.len() == 1 {
            return Err(Malformed::Marker);
        }
        let payload = if has_payload { content.split_off(end + 1) } else { Bytes::new() };
        content.truncate(end);
        Ok((Self { bytes: content, numbers }, payload))
    }

    /// The bytes that they are said in.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All of them in their order.
    pub fn iter(&self) -> impl Iterator<Item = (OptionNumber, &[u8])> {
        among(&self.bytes)
    }

    /// The values of the options of one number, in their order, whatever their lengths.
    pub fn values(&self, number: OptionNumber) -> impl Iterator<Item = &[u8]> {
        let bytes = if self.numbers.may_have(number) { &self.bytes[..] } else { &[] };
        among(bytes)
            .take_while(move |(of, _)| *of <= number)
            .filter(move |(of, _)| *of == number)
            .map(|(_, value)| value)
    }

    /// The same in the buffer that they came in.
    pub fn value_bytes(&self, number: OptionNumber) -> impl Iterator<Item = Bytes> {
        self.values(number).map(|value| self.bytes.slice_ref(value))
    }

    /// The first of one number, where its length is legal: one that is not counts as unknown.
    //= RFC7252 5.4.3, 5.4.5
    #[must_use]
    pub fn first(&self, number: OptionNumber) -> Option<&[u8]> {
        self.values(number).next().filter(|value| number.admits(value.len()))
    }

    /// The first of one number as a number; leading zeros do not matter.
    //= RFC7252 3.2
    #[must_use]
    pub fn uint(&self, number: OptionNumber) -> Option<u32> {
        self.first(number).filter(|value| value.len() <= 4).map(uint)
    }

    /// With one more, behind those of its number. What is longer than a length can say is cut.
    #[must_use]
    pub fn with(self, number: OptionNumber, value: &[u8]) -> Self {
        let number = usize::from(number.0);
        let Self { bytes, mut numbers } = self;
        numbers.add(number);
        let mut out = BytesMut::with_capacity(bytes.len() + value.len() + OPTION_BYTES_MAX);
        let (mut rest, mut last) = (&bytes[..], 0);
        while let Ok(Some(step)) = step(rest) {
            if last + step.delta > number {
                // Only what comes right behind it says how far it is from the one before.
                out.put_slice(&bytes[..bytes.len() - rest.len()]);
                put(number - last, value, &mut out);
                put(last + step.delta - number, step.value, &mut out);
                out.put_slice(step.rest);
                return Self { bytes: out.freeze(), numbers };
            }
            last += step.delta;
            rest = step.rest;
        }
        out.put_slice(&bytes);
        put(number - last, value, &mut out);
        Self { bytes: out.freeze(), numbers }
    }

    /// With one more whose value is a number, in as few bytes as it can be.
    //= RFC7252 3.2
    #[must_use]
    pub fn with_uint(self, number: OptionNumber, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        self.with(number, &bytes[zeros..])
    }

    /// Without those that `is_out` names.
    #[must_use]
    pub fn without(&self, is_out: impl Fn(OptionNumber) -> bool) -> Self {
        if self.iter().any(|(number, _)| is_out(number)) {
            written(self.iter().filter(|(number, _)| !is_out(*number)))
        } else {
            self.clone()
        }
    }
}

impl fmt::Debug for Options {
    /// By number and length: there may be a credential in a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(number, value)| (number, value.len()))).finish()
    }
}

impl<V: AsRef<[u8]>> FromIterator<(OptionNumber, V)> for Options {
    /// In whatever order; those of one number stay in theirs.
    fn from_iter<I: IntoIterator<Item = (OptionNumber, V)>>(options: I) -> Self {
        let mut options: Vec<_> = options.into_iter().collect();
        options.sort_by_key(|(number, _)| *number);
        written(options)
    }
}

/// Writes options that are in the order of their numbers.
fn written<V: AsRef<[u8]>>(options: impl IntoIterator<Item = (OptionNumber, V)>) -> Options {
    let mut out = BytesMut::new();
    let (mut last, mut numbers) = (0, Numbers::default());
    for (number, value) in options {
        put(usize::from(number.0 - last), value.as_ref(), &mut out);
        numbers.add(number.0.into());
        last = number.0;
    }
    Options { bytes: out.freeze(), numbers }
}

/// The options that these bytes say, up to what is none.
fn among(mut bytes: &[u8]) -> impl Iterator<Item = (OptionNumber, &[u8])> {
    let mut number = 0;
    std::iter::from_fn(move || {
        let step = step(bytes).ok()??;
        number += step.delta;
        bytes = step.rest;
        Some((OptionNumber(u16::try_from(number).ok()?), step.value))
    })
}

fn put(delta: usize, value: &[u8], out: &mut BytesMut) {
    let value = &value[..value.len().min(VALUE_BYTES_MAX)];
    out.put_u8(nibble(delta) << 4 | nibble(value.len()));
    put_extended(delta, out);
    put_extended(value.len(), out);
    out.put_slice(value);
}

const fn nibble(value: usize) -> u8 {
    match value {
        0..=12 => value.to_le_bytes()[0],
        SHORT..LONG => 13,
        _ => 14,
    }
}

fn put_extended(value: usize, out: &mut BytesMut) {
    if value >= LONG {
        out.put_u16(u16::try_from(value - LONG).unwrap_or(u16::MAX));
    } else if value >= SHORT {
        out.put_u8(u8::try_from(value - SHORT).unwrap_or(u8::MAX));
    }
}

struct Step<'a> {
    delta: usize,
    value: &'a [u8],
    rest: &'a [u8],
}

/// The first option of these bytes; nothing before the marker or the end.
fn step(bytes: &[u8]) -> Result<Option<Step<'_>>, Malformed> {
    let Some((&first, rest)) = bytes.split_first().filter(|(first, _)| **first != MARKER) else { return Ok(None) };
    let (delta, rest) = extended(first >> 4, rest)?;
    let (length, rest) = extended(first & 0x0f, rest)?;
    let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::OptionCut)?;
    Ok(Some(Step { delta, value, rest }))
}

fn extended(nibble: u8, rest: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    match (nibble, rest) {
        (0..=12, _) => Ok((usize::from(nibble), rest)),
        (13, [byte, rest @ ..]) => Ok((SHORT + usize::from(*byte), rest)),
        (14, [high, low, rest @ ..]) => Ok((LONG + usize::from(u16::from_be_bytes([*high, *low])), rest)),
        (13 | 14, _) => Err(Malformed::OptionCut),
        _ => Err(Malformed::OptionReserved),
    }
}

/// A number of at most four bytes.
fn uint(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}
