//! The rules of a pack, whatever it is written in.

use crate::Fault;
use crate::decimal::Decimal;

/// Seconds below which a time is relative to now: 2^28.
//= RFC8428 4.5.3
const RELATIVE_BELOW: i128 = 1 << 28;
/// The version of RFC 8428.
const VERSION: u64 = 10;
/// The features of RFC 9100 that are known here, as bits: those that make up version 10, and secondary units.
//= RFC9100 2
const FEATURES: u64 = VERSION | 1 << 4;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `v`
    Number(Decimal),
    /// `vs`
    Text(String),
    /// `vb`
    Bool(bool),
    /// `vd`, decoded.
    Data(Vec<u8>),
}

/// A record as it is written, base fields and all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// `bn`
    pub base_name: Option<String>,
    /// `bt`, in seconds.
    pub base_time: Option<Decimal>,
    /// `bu`
    pub base_unit: Option<String>,
    /// `bv`
    pub base_value: Option<Decimal>,
    /// `bs`
    pub base_sum: Option<Decimal>,
    /// `bver`
    pub base_version: Option<u64>,
    /// `n`
    pub name: Option<String>,
    /// `u`
    pub unit: Option<String>,
    /// `v`, `vs`, `vb` or `vd`
    pub value: Option<Value>,
    /// `s`
    pub sum: Option<Decimal>,
    /// `t`, in seconds.
    pub time: Option<Decimal>,
    /// `ut`, in seconds.
    pub update_time: Option<Decimal>,
    /// Labels that the standard does not know, with their JSON; not kept from CBOR.
    pub unknown: Vec<(String, String)>,
}

impl Record {
    /// Whether it says a base name and nothing else. Section 4.2 asks every record for a value or a sum, and section
    /// 5.1.7 shows a pack that begins with such a record: this form of it is accepted, and no other.
    //= RFC8428 5.1.7
    fn is_base_name_alone(&self) -> bool {
        self.base_name.is_some() && *self == Self { base_name: self.base_name.clone(), ..Self::default() }
    }
}

/// A valid pack.
#[derive(Clone, Debug, PartialEq)]
pub struct Pack {
    records: Vec<Record>,
}

/// A record that needs no other record to be understood.
//= RFC8428 4.6
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedRecord {
    /// The full name.
    pub name: String,
    /// The unit, if one was given.
    pub unit: Option<String>,
    /// The value with the base value, if there is one.
    pub value: Option<Value>,
    /// The sum with the base sum, if there is one.
    pub sum: Option<Decimal>,
    /// Seconds since the epoch.
    pub time: Decimal,
    /// Seconds until the next record of the same name, at most.
    pub update_time: Option<Decimal>,
    /// The version, where it is beyond 10.
    pub version: Option<u64>,
    /// Labels that the standard does not know, with their JSON.
    pub unknown: Vec<(String, String)>,
}

/// The base fields in force at a record.
#[derive(Clone, Default)]
struct Base {
    name: String,
    time: Option<Decimal>,
    unit: Option<String>,
    value: Option<Decimal>,
    sum: Option<Decimal>,
}

impl Base {
    fn take(&mut self, record: &Record) {
        if let Some(name) = &record.base_name {
            self.name.clone_from(name);
        }
        if record.base_unit.is_some() {
            self.unit.clone_from(&record.base_unit);
        }
        self.time = record.base_time.or(self.time);
        self.value = record.base_value.or(self.value);
        self.sum = record.base_sum.or(self.sum);
    }
}

/// What is to be known of the records before, to judge the next one.
#[derive(Default)]
pub(crate) struct Rules {
    base_name: String,
    version: Option<u64>,
}

impl Rules {
    /// Checks what spans the fields of a record and the records of a pack.
    pub(crate) fn check(&mut self, record: &Record) -> Result<(), Fault> {
        //= RFC8428 4.4
        let version = record.base_version.or(self.version).unwrap_or(VERSION);
        if !is_supported(version) {
            return Err(Fault::Version);
        }
        if self.version.is_some_and(|before| before != version) {
            return Err(Fault::VersionChanges);
        }
        self.version = Some(version);
        if let Some(name) = &record.base_name {
            self.base_name.clone_from(name);
        }
        if !is_legal_name(&self.base_name, record.name.as_deref().unwrap_or_default()) {
            return Err(Fault::IllegalName);
        }
        //= RFC8428 4.2
        if record.value.is_none() && record.sum.is_none() && !record.is_base_name_alone() {
            return Err(Fault::NoValue);
        }
        Ok(())
    }
}

impl Pack {
    /// Of records that a [`Rules`] has accepted.
    pub(crate) const fn of_checked(records: Vec<Record>) -> Self {
        Self { records }
    }

    /// The records as they are written.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The records on their own, with the times that are relative taken from `now`, in seconds since the epoch.
    //= RFC8428 4.6
    #[must_use]
    pub fn resolve(&self, now: Decimal) -> Vec<ResolvedRecord> {
        let mut base = Base::default();
        let version = self.records.iter().find_map(|record| record.base_version).filter(|version| *version > VERSION);
        let resolved = self.records.iter().filter_map(|record| {
            base.take(record);
            (!record.is_base_name_alone()).then(|| resolve(record, &base, now, version))
        });
        resolved.collect()
    }

    /// The pack in JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        crate::json::write(&self.records)
    }

    /// The pack in CBOR; labels that the standard does not know are left out.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        crate::cbor::write(&self.records)
    }

    /// A pack of resolved records, which says the same.
    #[must_use]
    pub fn of_resolved(records: Vec<ResolvedRecord>) -> Self {
        let records = records.into_iter().map(|resolved| Record {
            base_version: resolved.version,
            name: Some(resolved.name),
            unit: resolved.unit,
            value: resolved.value,
            sum: resolved.sum,
            time: Some(resolved.time),
            update_time: resolved.update_time,
            unknown: resolved.unknown,
            ..Record::default()
        });
        Self { records: records.collect() }
    }
}

fn resolve(record: &Record, base: &Base, now: Decimal, version: Option<u64>) -> ResolvedRecord {
    let sum_of = |base: Option<Decimal>, own: Option<Decimal>| match (base, own) {
        (Some(base), Some(own)) => base.plus(own).or(Some(own)),
        (base, own) => base.or(own),
    };
    let time = sum_of(base.time, record.time).unwrap_or(Decimal::ZERO);
    let value = match &record.value {
        Some(Value::Number(own)) => sum_of(base.value, Some(*own)).map(Value::Number),
        other => other.clone(),
    };
    ResolvedRecord {
        name: [base.name.as_str(), record.name.as_deref().unwrap_or_default()].concat(),
        unit: record.unit.clone().or_else(|| base.unit.clone()),
        value,
        sum: sum_of(base.sum, record.sum),
        time: if time.is_below(RELATIVE_BELOW) { now.plus(time).unwrap_or(now) } else { time },
        update_time: record.update_time,
        version,
        unknown: record.unknown.clone(),
    }
}

//= RFC8428 4.4
//= RFC9100 2
fn is_supported(version: u64) -> bool {
    if version <= VERSION { version > 0 } else { version & VERSION == VERSION && version & !FEATURES == 0 }
}

//= RFC8428 4.5.1
fn is_legal_name(base: &str, own: &str) -> bool {
    let mut bytes = base.bytes().chain(own.bytes());
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-:./_".contains(&byte))
}
