//! The schemas that the API server gets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kube::CustomResourceExt;
use serde_json::Value;
use tidegate_api::{Channel, ChannelSpec, Thing, ThingSpec};

/// Lists and texts without a bound, by their path.
fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
    let of_type = |wanted: &str| schema["type"] == wanted;
    if of_type("string") && schema["maxLength"].is_null() && schema["enum"].is_null() {
        found.push(path.to_owned());
    }
    if of_type("array") {
        if schema["maxItems"].is_null() {
            found.push(path.to_owned());
        }
        unbounded(&schema["items"], &format!("{path}[]"), found);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        unbounded(property, &format!("{path}.{name}"), found);
    }
}

#[test]
fn every_list_and_text_has_a_bound_and_the_crd_is_small() {
    for crd in [Thing::crd(), Channel::crd()] {
        let json = serde_json::to_value(&crd).unwrap();
        let spec = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert!(spec["properties"].as_object().unwrap().len() >= 3, "{spec}");
        let mut found = Vec::new();
        unbounded(spec, "spec", &mut found);
        assert_eq!(found, Vec::<String>::new());
        assert!(serde_json::to_vec(&crd).unwrap().len() < 256 * 1_024);
        assert_eq!(json["spec"]["names"]["categories"][0], "tidegate");
    }
}

#[test]
fn every_field_is_explained() {
    fn check(schema: &Value, path: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 10), "{path} is not explained");
            check(property, &path);
            check(&property["items"], &path);
        }
    }
    for crd in [Thing::crd(), Channel::crd()] {
        let json = serde_json::to_value(&crd).unwrap();
        check(&json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec");
    }
}

#[test]
fn a_field_that_does_not_exist_is_named() {
    let error = serde_yaml::from_str::<ThingSpec>("suspnded: true").unwrap_err().to_string();
    assert!(error.contains("suspnded"), "{error}");
    let error = serde_yaml::from_str::<ChannelSpec>("payload: {maxbytes: 3}").unwrap_err().to_string();
    assert!(error.contains("maxbytes"), "{error}");
}

#[test]
fn what_is_beyond_its_bounds_is_named() {
    let thing = |yaml: &str| -> Vec<String> {
        let spec: ThingSpec = serde_yaml::from_str(yaml).unwrap();
        spec.violations().iter().map(ToString::to_string).collect()
    };
    assert_eq!(thing("connections: [{channel: a, subtopics: {publish: ['a/#']}}]"), Vec::<String>::new());
    assert_eq!(thing("aliases: [a, b, c, d, e]"), ["spec.aliases: at most 4 items"]);
    assert_eq!(thing("aliases: ['a.b']"), ["spec.aliases[0]: 1 to 64 of A-Z, a-z, 0-9, '_' and '-' are needed"]);
    assert_eq!(
        thing("connections: [{channel: a}, {channel: a}]"),
        ["spec.connections[1]: this Channel is connected already"]
    );
    assert_eq!(
        thing("connections: [{channel: a, permissions: []}]"),
        ["spec.connections[0].permissions: Publish, Subscribe or both are needed, each once"]
    );
    assert_eq!(
        thing("credentials: {keyHashes: [{id: a, sha256: xyz}]}"),
        ["spec.credentials.keyHashes[0].sha256: 64 hexadecimal digits are needed"]
    );
    let channel: ChannelSpec = serde_yaml::from_str("payload: {admit: [text/plain], maxBytes: 0}").unwrap();
    let said: Vec<String> = channel.violations().iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "spec.payload.contentType: must be among those that admit lists",
            "spec.payload.maxBytes: 1 to 16777216 is needed"
        ]
    );
}
