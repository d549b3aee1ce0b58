//! SenML (RFC 8428) in JSON and CBOR, with the versions of RFC 9100: parse, validate, resolve.
//!
//! Owns the rules of a pack and exact decimal numbers, so that neither a 64-bit integer nor a fraction of a second is
//! altered. Knows nothing of devices, channels or brokers; reads no clock.

use std::fmt;

mod cbor;
mod decimal;
mod json;
mod pack;

pub use decimal::Decimal;
use pack::Rules;
pub use pack::{Pack, Record, ResolvedRecord, Value};

/// How a pack is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/senml+json`.
    Json,
    /// `application/senml+cbor`.
    Cbor,
}

/// Bounds on what is read of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records of a pack.
    pub records_max: usize,
    /// Arrays and maps within each other, the pack and its records included; only unknown labels can be deeper than 2.
    pub depth_max: usize,
    /// Labels of one record, unknown ones included.
    pub labels_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records_max: 10_000, depth_max: 16, labels_max: 64 }
    }
}

/// Why a pack is not valid, without a word of what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenmlError {
    /// The record, counted from 1; absent when the fault is not in one.
    pub record: Option<usize>,
    /// The fault.
    pub fault: Fault,
}

impl fmt::Display for SenmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record {
            Some(record) => write!(f, "record {record}: {}", self.fault),
            None => self.fault.fmt(f),
        }
    }
}

impl std::error::Error for SenmlError {}

/// What is wrong with a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON, or not an array of objects.
    #[error("not a JSON array of objects (line {line}, column {column})")]
    NotJson {
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
    },
    /// Not CBOR, or not an array of maps.
    #[error("not a CBOR array of maps (byte {0})")]
    NotCbor(usize),
    /// Bytes after the pack.
    #[error("bytes follow the pack")]
    TrailingBytes,
    /// No record at all.
    #[error("a pack has at least one record")]
    Empty,
    /// More records than [`Limits::records_max`].
    #[error("too many records")]
    TooManyRecords,
    /// More labels than [`Limits::labels_max`].
    #[error("too many labels")]
    TooManyLabels,
    /// Deeper than [`Limits::depth_max`].
    #[error("nested too deeply")]
    TooDeep,
    /// A label twice in one record.
    #[error("a label stands twice")]
    DuplicateLabel,
    /// An unknown label that ends in `_`, which a receiver must understand.
    #[error("a label that ends in '_' is not known here")]
    MustUnderstand,
    /// A label of the wrong kind: in CBOR the labels of the standard are integers, and the others are text.
    #[error("a label that is not of this format")]
    ForeignLabel,
    /// A field with a value of another type.
    #[error("'{0}' has the wrong type")]
    WrongType(&'static str),
    /// A number that is infinite, not a number, or beyond what can be said exactly enough.
    #[error("'{0}' is no finite number")]
    NotFinite(&'static str),
    /// Data that is not base64url without padding.
    #[error("'vd' is not base64url without padding")]
    NotBase64,
    /// Neither a value nor a sum.
    #[error("no value and no sum")]
    NoValue,
    /// More than one of `v`, `vs`, `vb`, `vd`.
    #[error("more than one value")]
    ManyValues,
    /// The base name and the name together are empty, or hold what a name must not.
    #[error("the base name and the name make no legal name")]
    IllegalName,
    /// A version that is not supported.
    #[error("version not supported")]
    Version,
    /// Records of different versions in one pack.
    #[error("the version changes within the pack")]
    VersionChanges,
}

impl Fault {
    pub(crate) const fn anywhere(self) -> SenmlError {
        SenmlError { record: None, fault: self }
    }

    /// In the record with that index, counted from 0.
    pub(crate) const fn in_record(self, index: usize) -> SenmlError {
        SenmlError { record: Some(index + 1), fault: self }
    }
}

/// Reads a pack.
///
/// # Errors
/// [`SenmlError`] when it is not valid, or beyond the limits.
pub fn parse(pack: &[u8], format: Format, limits: &Limits) -> Result<Pack, SenmlError> {
    let mut records = Vec::new();
    each_record(pack, format, limits, &mut |record| records.push(record))?;
    Ok(Pack::of_checked(records))
}

/// Whether a pack is valid; holds one record at a time.
///
/// # Errors
/// As [`parse`].
pub fn validate(pack: &[u8], format: Format, limits: &Limits) -> Result<(), SenmlError> {
    each_record(pack, format, limits, &mut drop)
}

/// Hands over each record that obeys the rules; what it has handed over counts for nothing if it fails later.
fn each_record(pack: &[u8], format: Format, limits: &Limits, take: &mut dyn FnMut(Record)) -> Result<(), SenmlError> {
    let (mut rules, mut count) = (Rules::default(), 0_usize);
    let mut accept = |record: Record| {
        rules.check(&record)?;
        count += 1;
        take(record);
        Ok(())
    };
    match format {
        Format::Json => json::records(pack, limits, &mut accept)?,
        Format::Cbor => cbor::records(pack, limits, &mut accept)?,
    }
    if count == 0 { Err(Fault::Empty.anywhere()) } else { Ok(()) }
}

/// Takes a record, or says what rule it breaks.
type Accept<'a> = dyn FnMut(Record) -> Result<(), Fault> + 'a;
