//! SenML in CBOR.

use std::convert::Infallible;

use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};

use crate::decimal::Decimal;
use crate::json::{set_value, version};
use crate::pack::{Record, Value};
use crate::{Accept, Fault, Limits, SenmlError};

/// A decimal fraction: [exponent, mantissa].
//= RFC8949 3.4.4
const DECIMAL_FRACTION: u64 = 4;

/// A label of the standard.
//= RFC8428 6
const LABELS: [(i8, &str); 15] = [
    (-6, "bs"),
    (-5, "bv"),
    (-4, "bu"),
    (-3, "bt"),
    (-2, "bn"),
    (-1, "bver"),
    (0, "n"),
    (1, "u"),
    (2, "v"),
    (3, "vs"),
    (4, "vb"),
    (5, "s"),
    (6, "t"),
    (7, "ut"),
    (8, "vd"),
];

/// Reads the records of a pack; the rules between fields are those of `accept`.
pub(crate) fn records(pack: &[u8], limits: &Limits, accept: &mut Accept<'_>) -> Result<(), SenmlError> {
    let mut reader = Reader { decoder: Decoder::new(pack), limits };
    let at = |reader: &Reader<'_>| Fault::NotCbor(reader.decoder.position());
    let count = reader.decoder.array().map_err(|_| at(&reader).anywhere())?;
    let mut index = 0;
    while reader.has_more(count, index).map_err(Fault::anywhere)? {
        if index >= limits.records_max {
            return Err(Fault::TooManyRecords.in_record(index));
        }
        reader.record().and_then(&mut *accept).map_err(|fault| fault.in_record(index))?;
        index += 1;
    }
    if reader.decoder.position() == pack.len() { Ok(()) } else { Err(Fault::TrailingBytes.anywhere()) }
}

struct Reader<'b> {
    decoder: Decoder<'b>,
    limits: &'b Limits,
}

impl Reader<'_> {
    /// Whether an array or map of `count` items, or of no stated count, goes on after `done`; steps over its end.
    fn has_more(&mut self, count: Option<u64>, done: usize) -> Result<bool, Fault> {
        match count {
            Some(count) => Ok((done as u64) < count),
            None if self.datatype()? == Type::Break => {
                self.decoder.set_position(self.decoder.position() + 1);
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn datatype(&self) -> Result<Type, Fault> {
        self.decoder.datatype().map_err(|_| self.not_cbor())
    }

    fn not_cbor(&self) -> Fault {
        Fault::NotCbor(self.decoder.position())
    }

    fn record(&mut self) -> Result<Record, Fault> {
        let count = self.decoder.map().map_err(|_| self.not_cbor())?;
        let mut record = Record::default();
        let mut seen = Vec::new();
        let mut labels = 0;
        while self.has_more(count, labels)? {
            labels += 1;
            if labels > self.limits.labels_max {
                return Err(Fault::TooManyLabels);
            }
            let label = self.label()?;
            if seen.contains(&label) {
                return Err(Fault::DuplicateLabel);
            }
            match &label {
                Label::Known(known) => self.field(&mut record, known)?,
                Label::Unknown(_) => self.skip(2)?,
            }
            seen.push(label);
        }
        Ok(record)
    }

    fn label(&mut self) -> Result<Label, Fault> {
        if matches!(self.datatype()?, Type::String | Type::StringIndef) {
            let label = self.text("label")?;
            if LABELS.iter().any(|(_, known)| *known == label) {
                return Err(Fault::ForeignLabel);
            }
            //= RFC8428 4.4
            return if label.ends_with('_') { Err(Fault::MustUnderstand) } else { Ok(Label::Unknown(label)) };
        }
        let number = self.decoder.i8().map_err(|_| Fault::ForeignLabel)?;
        let known = LABELS.iter().find(|(label, _)| *label == number).ok_or(Fault::ForeignLabel)?;
        Ok(Label::Known(known.1))
    }

    fn field(&mut self, record: &mut Record, label: &'static str) -> Result<(), Fault> {
        match label {
            "bn" => record.base_name = Some(self.text(label)?),
            "bt" => record.base_time = Some(self.number(label)?),
            "bu" => record.base_unit = Some(self.text(label)?),
            "bv" => record.base_value = Some(self.number(label)?),
            "bs" => record.base_sum = Some(self.number(label)?),
            "bver" => record.base_version = Some(version(self.number(label)?)?),
            "n" => record.name = Some(self.text(label)?),
            "u" => record.unit = Some(self.text(label)?),
            "s" => record.sum = Some(self.number(label)?),
            "t" => record.time = Some(self.number(label)?),
            "ut" => record.update_time = Some(self.number(label)?),
            "v" => set_value(record, Value::Number(self.number(label)?))?,
            "vs" => set_value(record, Value::Text(self.text(label)?))?,
            "vb" => set_value(record, Value::Bool(self.decoder.bool().map_err(|_| Fault::WrongType(label))?))?,
            _ => set_value(record, Value::Data(self.bytes(label)?))?,
        }
        Ok(())
    }

    fn text(&mut self, label: &'static str) -> Result<String, Fault> {
        let wrong = |_| Fault::WrongType(label);
        self.decoder.str_iter().map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)
    }

    fn bytes(&mut self, label: &'static str) -> Result<Vec<u8>, Fault> {
        let wrong = |_| Fault::WrongType(label);
        let mut bytes = Vec::new();
        for chunk in self.decoder.bytes_iter().map_err(wrong)? {
            bytes.extend_from_slice(chunk.map_err(wrong)?);
        }
        Ok(bytes)
    }

    //= RFC8428 6
    #[expect(clippy::wildcard_enum_match_arm, reason = "the decoder judges every other type, those to come too")]
    fn number(&mut self, label: &'static str) -> Result<Decimal, Fault> {
        let wrong = |_| Fault::WrongType(label);
        let number = match self.datatype()? {
            Type::F16 => Decimal::from_f32(self.decoder.f16().map_err(wrong)?),
            Type::F32 => Decimal::from_f32(self.decoder.f32().map_err(wrong)?),
            Type::F64 => Decimal::from_f64(self.decoder.f64().map_err(wrong)?),
            Type::Tag => return self.decimal_fraction(label),
            _ => Decimal::new(self.decoder.int().map_err(wrong)?.into(), 0),
        };
        number.ok_or(Fault::NotFinite(label))
    }

    fn decimal_fraction(&mut self, label: &'static str) -> Result<Decimal, Fault> {
        let wrong = |_| Fault::WrongType(label);
        if self.decoder.tag().map_err(wrong)? != Tag::new(DECIMAL_FRACTION)
            || self.decoder.array().map_err(wrong)? != Some(2)
        {
            return Err(Fault::WrongType(label));
        }
        let exponent = self.decoder.i32().map_err(wrong)?;
        let mantissa = self.decoder.int().map_err(wrong)?;
        let number = Decimal::new(mantissa.into(), exponent).filter(|number| number.to_f64().is_finite());
        number.ok_or(Fault::NotFinite(label))
    }

    /// Steps over one value, which lies within `depth` arrays and maps.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the decoder judges every other type, those to come too")]
    fn skip(&mut self, depth: usize) -> Result<(), Fault> {
        let datatype = self.datatype()?;
        let items_each = match datatype {
            Type::Array | Type::ArrayIndef => 1,
            Type::Map | Type::MapIndef => 2,
            Type::Tag => {
                self.decoder.tag().map_err(|_| self.not_cbor())?;
                // A tag is no array, but tags on tags are no use either.
                return if depth >= self.limits.depth_max { Err(Fault::TooDeep) } else { self.skip(depth + 1) };
            }
            Type::Break => return Err(self.not_cbor()),
            _ => return self.decoder.skip().map_err(|_| self.not_cbor()),
        };
        if depth >= self.limits.depth_max {
            return Err(Fault::TooDeep);
        }
        let count = if items_each == 1 { self.decoder.array() } else { self.decoder.map() };
        let count = count.map_err(|_| self.not_cbor())?;
        let mut done = 0;
        while self.has_more(count, done)? {
            (0..items_each).try_for_each(|_| self.skip(depth + 1))?;
            done += 1;
        }
        Ok(())
    }
}

#[derive(PartialEq)]
enum Label {
    Known(&'static str),
    Unknown(String),
}

/// Writes records.
pub(crate) fn write(records: &[Record]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    // Writing to a vector cannot fail.
    let _ = write_all(records, &mut encoder);
    encoder.into_writer()
}

type Written = Result<(), minicbor::encode::Error<Infallible>>;

fn write_all(records: &[Record], encoder: &mut Encoder<Vec<u8>>) -> Written {
    encoder.array(records.len() as u64)?;
    for record in records {
        encoder.begin_map()?;
        write_record(record, encoder)?;
        encoder.end()?;
    }
    Ok(())
}

fn write_record(record: &Record, encoder: &mut Encoder<Vec<u8>>) -> Written {
    let numbers = [
        (-6, record.base_sum),
        (-5, record.base_value),
        (-3, record.base_time),
        (5, record.sum),
        (6, record.time),
        (7, record.update_time),
    ];
    for (label, number) in numbers {
        if let Some(number) = number {
            write_number(number, encoder.i8(label)?)?;
        }
    }
    for (label, text) in [(-4, &record.base_unit), (-2, &record.base_name), (0, &record.name), (1, &record.unit)] {
        if let Some(text) = text {
            encoder.i8(label)?.str(text)?;
        }
    }
    if let Some(version) = record.base_version {
        encoder.i8(-1)?.u64(version)?;
    }
    match &record.value {
        Some(Value::Number(number)) => write_number(*number, encoder.i8(2)?),
        Some(Value::Text(text)) => encoder.i8(3)?.str(text).map(drop),
        Some(Value::Bool(value)) => encoder.i8(4)?.bool(*value).map(drop),
        Some(Value::Data(data)) => encoder.i8(8)?.bytes(data).map(drop),
        None => Ok(()),
    }
}

/// The shortest form that says the very number: an integer, a double, or a decimal fraction.
fn write_number(number: Decimal, encoder: &mut Encoder<Vec<u8>>) -> Written {
    if let Some(integer) = number.to_integer() {
        if let Ok(integer) = i64::try_from(integer) {
            return encoder.i64(integer).map(drop);
        }
        if let Ok(integer) = u64::try_from(integer) {
            return encoder.u64(integer).map(drop);
        }
    }
    let (mantissa, exponent) = number.parts();
    let double = number.to_f64();
    match i64::try_from(mantissa) {
        Ok(mantissa) if Decimal::from_f64(double) != Some(number) => {
            encoder.tag(Tag::new(DECIMAL_FRACTION))?.array(2)?.i32(exponent)?.i64(mantissa).map(drop)
        }
        _ => encoder.f64(double).map(drop),
    }
}
