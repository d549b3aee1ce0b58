//! Types of Kubernetes itself within the resources: their own schema, with a bound on every list, map and text.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Items of a list that says nothing itself.
const ITEMS_MAX: u64 = 16;
/// Entries of a map that says nothing itself.
const ENTRIES_MAX: u64 = 32;
/// Characters of a text that says nothing itself.
const CHARS_MAX: u64 = 512;

/// The schema of `T`, bounded.
pub(crate) fn bounded<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>().to_value();
    bound(&mut schema);
    Schema::try_from(schema).expect("a schema with bounds is one")
}

fn bound(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    let kind = fields.get("type").and_then(Value::as_str).map(str::to_owned);
    let map = fields.get("additionalProperties").is_some_and(Value::is_object);
    match kind.as_deref() {
        Some("array") => drop(fields.entry("maxItems").or_insert(ITEMS_MAX.into())),
        Some("string") => drop(fields.entry("maxLength").or_insert(CHARS_MAX.into())),
        Some("object") if map => drop(fields.entry("maxProperties").or_insert(ENTRIES_MAX.into())),
        Some(_) | None => {}
    }
    // The first sentence explains; the rest would be most of the definition.
    if let Some(Value::String(description)) = fields.get_mut("description") {
        let text = description.strip_prefix("Required. ").unwrap_or(description);
        *description = text.split_once(". ").map_or_else(|| text.to_owned(), |(first, _)| format!("{first}."));
    }
    for part in ["items", "additionalProperties"] {
        if let Some(part) = fields.get_mut(part) {
            bound(part);
        }
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(bound);
    }
}

/// Amounts by the name of what they are of.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "pattern": "^[0-9]+(\\.[0-9]+)?([eE][-+]?[0-9]+|[KMGTPE]i|[numkMGTPE])?$",
            "description": "An amount: 500m, 2, 256Mi."
        }
    })
}

/// Texts by keys that are labels or annotations: the values have at most `MAX` characters.
pub(crate) fn texts<const MAX: u64>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": ENTRIES_MAX,
        "additionalProperties": {"type": "string", "maxLength": MAX}
    })
}

/// Reads amounts, where people write `cpu: 1` as well as `cpu: "1"`.
pub(crate) fn read_quantities<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Quantity>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Amount {
        Number(u64),
        Text(String),
    }
    let amounts = BTreeMap::<String, Amount>::deserialize(deserializer)?;
    let quantity = |amount| match amount {
        Amount::Number(number) => Quantity(number.to_string()),
        Amount::Text(text) => Quantity(text),
    };
    Ok(amounts.into_iter().map(|(name, amount)| (name, quantity(amount))).collect())
}
