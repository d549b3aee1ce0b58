//! The CustomResourceDefinitions, as an API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{Adapter, Channel, Thing};

/// The definitions of Adapter, Channel and Thing.
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 3] {
    [crd::<Adapter>(), crd::<Channel>(), crd::<Thing>()]
}

pub(crate) fn crd<K: CustomResourceExt>() -> CustomResourceDefinition {
    let derived = serde_json::to_value(K::crd()).expect("a definition is JSON");
    serde_json::from_value(structural(derived)).expect("what is left of a definition is one")
}

/// Takes off what would make a stored object differ from what its author wrote, or the API server complain: defaults that
/// say nothing, explicit nulls, and formats that only Rust has.
fn structural(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(says_something).map(|(name, value)| (name, structural(value))).collect(),
        ),
        Value::Array(items) => items.into_iter().map(structural).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn says_something((name, value): &(String, Value)) -> bool {
    match (name.as_str(), value) {
        ("nullable", Value::Bool(_)) | ("default", Value::Null) => false,
        // What an absent object means is what its fields' own defaults say.
        ("default", Value::Object(_)) => false,
        ("default", Value::Array(items)) => !items.is_empty(),
        ("format", Value::String(format)) => matches!(format.as_str(), "int32" | "int64" | "date-time"),
        _ => true,
    }
}
