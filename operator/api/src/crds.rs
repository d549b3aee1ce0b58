//! The CustomResourceDefinitions, as an API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
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

/// The fields of `built` that `served` does not have, as `spec.limits`; those within a field that is missing are not
/// named.
#[must_use]
pub fn missing_fields(built: &CustomResourceDefinition, served: &CustomResourceDefinition) -> Vec<String> {
    let mut missing = Vec::new();
    for version in &built.spec.versions {
        let same = served.spec.versions.iter().find(|other| other.name == version.name && other.served);
        let Some(same) = same else {
            missing.push(format!("the version {}", version.name));
            continue;
        };
        let schemas = [version, same].map(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
        if let [Some(built), Some(served)] = schemas {
            compare(built, served, "", &mut missing);
        }
    }
    missing
}

fn compare(built: &JSONSchemaProps, served: &JSONSchemaProps, at: &str, missing: &mut Vec<String>) {
    if served.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    for (name, built) in built.properties.iter().flatten() {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        match served.properties.as_ref().and_then(|properties| properties.get(name)) {
            None => missing.push(at),
            Some(served) => compare(built, served, &at, missing),
        }
    }
    if let (Some(JSONSchemaPropsOrArray::Schema(built)), Some(JSONSchemaPropsOrArray::Schema(served))) =
        (&built.items, &served.items)
    {
        compare(built, served, &format!("{at}[]"), missing);
    }
    if let (Some(JSONSchemaPropsOrBool::Schema(built)), Some(JSONSchemaPropsOrBool::Schema(served))) =
        (&built.additional_properties, &served.additional_properties)
    {
        compare(built, served, &format!("{at}.*"), missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_an_older_definition_lacks_are_named() {
        let built = crd::<Thing>();
        assert_eq!(missing_fields(&built, &built), Vec::<String>::new());
        let mut older = built.clone();
        let schema = older.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap().properties.as_mut().unwrap();
        spec.remove("suspended");
        let Some(JSONSchemaPropsOrArray::Schema(connection)) = &mut spec.get_mut("connections").unwrap().items else {
            unreachable!("connections are a list");
        };
        connection.properties.as_mut().unwrap().remove("permissions");
        assert_eq!(missing_fields(&built, &older), ["spec.connections[].permissions", "spec.suspended"]);
        assert_eq!(missing_fields(&older, &built), Vec::<String>::new(), "a newer one has more");
        older.spec.versions[0].served = false;
        assert_eq!(missing_fields(&built, &older), ["the version v1alpha1"]);
    }
}
