//! SenML in JSON.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::decimal::Decimal;
use crate::pack::{Record, Value};
use crate::{Accept, Fault, Limits, SenmlError};

/// Reads the records of a pack; the rules between fields are those of `accept`.
//= RFC8428 5
pub(crate) fn records(pack: &[u8], limits: &Limits, accept: &mut Accept<'_>) -> Result<(), SenmlError> {
    let mut fault = None;
    let mut deserializer = serde_json::Deserializer::from_slice(pack);
    let outcome = PackSeed { limits, accept, fault: &mut fault }.deserialize(&mut deserializer);
    let outcome = outcome.and_then(|()| deserializer.end());
    outcome.map_err(|error| {
        fault.unwrap_or_else(|| Fault::NotJson { line: error.line(), column: error.column() }.anywhere())
    })
}

struct PackSeed<'a, 'f> {
    limits: &'a Limits,
    accept: &'a mut Accept<'f>,
    /// What is wrong, where it is more than JSON itself.
    fault: &'a mut Option<SenmlError>,
}

impl<'de> DeserializeSeed<'de> for PackSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for PackSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pack: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(fields) = pack.next_element::<Fields<'de>>()? {
            let outcome = if index < self.limits.records_max {
                record(&fields.0, self.limits).and_then(&mut *self.accept)
            } else {
                Err(Fault::TooManyRecords)
            };
            if let Err(fault) = outcome {
                *self.fault = Some(fault.in_record(index));
                return Err(A::Error::custom("not SenML"));
            }
            index += 1;
        }
        Ok(())
    }
}

/// The fields of one record, in order, as they are written.
struct Fields<'de>(Vec<(Cow<'de, str>, &'de RawValue)>);

/// A label, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Label<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((label, value)) = map.next_entry::<Label<'de>, &'de RawValue>()? {
                    fields.push((label.0, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

fn record(fields: &[(Cow<'_, str>, &RawValue)], limits: &Limits) -> Result<Record, Fault> {
    if fields.len() > limits.labels_max {
        return Err(Fault::TooManyLabels);
    }
    let mut record = Record::default();
    let mut labels: Vec<&str> = fields.iter().map(|(label, _)| &**label).collect();
    labels.sort_unstable();
    if labels.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Fault::DuplicateLabel);
    }
    for (label, raw) in fields {
        set(&mut record, label, raw.get(), limits)?;
    }
    Ok(record)
}

//= RFC8428 4.1
//= RFC8428 4.2
//= RFC8428 4.3
fn set(record: &mut Record, label: &str, raw: &str, limits: &Limits) -> Result<(), Fault> {
    match label {
        "bn" => record.base_name = Some(text("bn", raw)?),
        "bt" => record.base_time = Some(number("bt", raw)?),
        "bu" => record.base_unit = Some(text("bu", raw)?),
        "bv" => record.base_value = Some(number("bv", raw)?),
        "bs" => record.base_sum = Some(number("bs", raw)?),
        "bver" => record.base_version = Some(version(number("bver", raw)?)?),
        "n" => record.name = Some(text("n", raw)?),
        "u" => record.unit = Some(text("u", raw)?),
        "s" => record.sum = Some(number("s", raw)?),
        "t" => record.time = Some(number("t", raw)?),
        "ut" => record.update_time = Some(number("ut", raw)?),
        "v" => set_value(record, Value::Number(number("v", raw)?))?,
        "vs" => set_value(record, Value::Text(text("vs", raw)?))?,
        "vb" => set_value(record, Value::Bool(serde_json::from_str(raw).map_err(|_| Fault::WrongType("vb"))?))?,
        "vd" => {
            let data = URL_SAFE_NO_PAD.decode(text("vd", raw)?).map_err(|_| Fault::NotBase64)?;
            set_value(record, Value::Data(data))?;
        }
        //= RFC8428 4.4
        unknown if unknown.ends_with('_') => return Err(Fault::MustUnderstand),
        unknown => {
            if depth(raw) + 2 > limits.depth_max {
                return Err(Fault::TooDeep);
            }
            record.unknown.push((unknown.to_owned(), raw.to_owned()));
        }
    }
    Ok(())
}

pub(crate) fn set_value(record: &mut Record, value: Value) -> Result<(), Fault> {
    if record.value.replace(value).is_some() { Err(Fault::ManyValues) } else { Ok(()) }
}

pub(crate) fn version(number: Decimal) -> Result<u64, Fault> {
    number.to_integer().and_then(|version| u64::try_from(version).ok()).ok_or(Fault::Version)
}

fn text(label: &'static str, raw: &str) -> Result<String, Fault> {
    serde_json::from_str(raw).map_err(|_| Fault::WrongType(label))
}

fn number(label: &'static str, raw: &str) -> Result<Decimal, Fault> {
    if !raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Err(Fault::WrongType(label));
    }
    Decimal::parse(raw).ok_or(Fault::NotFinite(label))
}

/// How deep the arrays and objects of a JSON value, known to be one, lie within each other.
fn depth(raw: &str) -> usize {
    let (mut now, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in raw.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// Writes records, fields in the order of the standard's table.
pub(crate) fn write(records: &[Record]) -> String {
    let mut out = String::from("[");
    for (index, record) in records.iter().enumerate() {
        out.push_str(if index == 0 { "{" } else { ",{" });
        let start = out.len();
        write_record(record, &mut out);
        if out.len() > start {
            out.pop();
        }
        out.push('}');
    }
    out.push(']');
    out
}

/// Writes the fields of one record, each with a comma behind it.
fn write_record(record: &Record, out: &mut String) {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut put = |label: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(out, "\"{label}\":{value},");
        }
    };
    put("bn", record.base_name.as_deref().map(quoted));
    put("bt", record.base_time.map(|n| n.to_string()));
    put("bu", record.base_unit.as_deref().map(quoted));
    put("bv", record.base_value.map(|n| n.to_string()));
    put("bs", record.base_sum.map(|n| n.to_string()));
    put("bver", record.base_version.map(|n| n.to_string()));
    put("n", record.name.as_deref().map(quoted));
    put("u", record.unit.as_deref().map(quoted));
    match &record.value {
        Some(Value::Number(number)) => put("v", Some(number.to_string())),
        Some(Value::Text(text)) => put("vs", Some(quoted(text))),
        Some(Value::Bool(value)) => put("vb", Some(value.to_string())),
        Some(Value::Data(data)) => put("vd", Some(quoted(&URL_SAFE_NO_PAD.encode(data)))),
        None => {}
    }
    put("s", record.sum.map(|n| n.to_string()));
    put("t", record.time.map(|n| n.to_string()));
    put("ut", record.update_time.map(|n| n.to_string()));
    for (label, json) in &record.unknown {
        let label = quoted(label);
        put(label.trim_matches('"'), Some(json.clone()));
    }
}
