//! Whether an object still is what the operator made it: what others put beside that is theirs.

use serde_json::{Map, Value};

/// By what the items of a list of Kubernetes are known, where they are known by anything.
const KEYS: [&str; 5] = ["name", "mountPath", "uid", "topologyKey", "ip"];

/// Whether something of `wanted` is otherwise in `found`, as the API server has it. What `wanted` does not name is not
/// looked at: defaults, and what others own.
#[must_use]
pub fn differs(wanted: &Value, found: &Value) -> bool {
    !covers(wanted, Some(found), false)
}

/// `amounts`: texts are amounts, which the API server writes in its own way.
fn covers(wanted: &Value, found: Option<&Value>, amounts: bool) -> bool {
    match (wanted, found) {
        (wanted, None) => is_empty(wanted),
        (Value::Object(wanted), Some(Value::Object(found))) => {
            wanted.iter().all(|(name, value)| covers(value, found.get(name), amounts || is_of_amounts(name)))
        }
        (Value::Array(wanted), Some(Value::Array(found))) => match key(wanted) {
            Some(key) => wanted.iter().all(|item| covers(item, with_key(found, key, &item[key]), amounts)),
            None => {
                wanted.len() == found.len()
                    && wanted.iter().zip(found).all(|(item, found)| covers(item, Some(found), amounts))
            }
        },
        (Value::String(wanted), Some(Value::String(found))) if amounts => {
            wanted == found || amount(wanted).is_some_and(|wanted| Some(wanted) == amount(found))
        }
        (wanted, Some(found)) => wanted == found,
    }
}

fn is_of_amounts(name: &str) -> bool {
    ["requests", "limits", "sizeLimit"].contains(&name)
}

/// An empty list or map that is left out is the same.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// By what all of the items are known.
fn key(items: &[Value]) -> Option<&'static str> {
    KEYS.into_iter().find(|key| !items.is_empty() && items.iter().all(|item| item.get(*key).is_some()))
}

fn with_key<'a>(items: &'a [Value], key: &str, value: &Value) -> Option<&'a Value> {
    items.iter().find(|item| item.get(key) == Some(value))
}

/// What `found` has where `wanted` has something. By it the operator knows again what the API server made of what it
/// wrote last, and does not write it over and over where the two can never be the same.
#[must_use]
pub fn projection(wanted: &Value, found: &Value) -> Value {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let fields = wanted.iter().filter_map(|(name, value)| Some((name, value, found.get(name)?)));
            let fields = fields.map(|(name, value, found)| (name.clone(), projection(value, found)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        (Value::Array(wanted), Value::Array(found)) => match key(wanted) {
            Some(key) => {
                let items = wanted.iter().filter_map(|item| Some((item, with_key(found, key, &item[key])?)));
                Value::Array(items.map(|(item, found)| projection(item, found)).collect())
            }
            None => Value::Array(found.clone()),
        },
        (_, found) => found.clone(),
    }
}

/// An amount as Kubernetes writes it, in billionths.
fn amount(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let nano: i128 = format!("{whole}{:0<9}", fraction.get(..fraction.len().min(9))?).parse().ok()?;
    let (base, power): (i128, u32) = match suffix {
        "" => (1, 0),
        "n" => return nano.checked_div(1_000_000_000),
        "u" => return nano.checked_div(1_000_000),
        "m" => return nano.checked_div(1_000),
        "k" => (1_000, 1),
        "M" => (1_000, 2),
        "G" => (1_000, 3),
        "T" => (1_000, 4),
        "P" => (1_000, 5),
        "E" => (1_000, 6),
        "Ki" => (1_024, 1),
        "Mi" => (1_024, 2),
        "Gi" => (1_024, 3),
        "Ti" => (1_024, 4),
        "Pi" => (1_024, 5),
        "Ei" => (1_024, 6),
        _ => (10, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    nano.checked_mul(base.checked_pow(power)?)
}
