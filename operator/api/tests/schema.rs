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

/// Values that break each bound of `schema` at `path`, given one that keeps them all. What that one leaves out is not
/// tried.
fn beyond(schema: &Value, good: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    if good.is_null() {
        return;
    }
    if let Some(max) = schema["maxItems"].as_u64() {
        let many = vec![good[0].clone(); usize::try_from(max).unwrap() + 1];
        found.push((path.to_owned(), many.into()));
        let mut inner = Vec::new();
        beyond(&schema["items"], &good[0], &format!("{path}[0]"), &mut inner);
        found.extend(inner.into_iter().map(|(at, bad)| (at, serde_json::json!([bad]))));
    }
    if let Some(max) = schema["maxLength"].as_u64() {
        found.push((path.to_owned(), "a".repeat(usize::try_from(max).unwrap() + 1).into()));
    }
    if schema["pattern"].is_string() {
        found.push((path.to_owned(), "a.!".into()));
    }
    if schema["minLength"].as_u64().is_some_and(|min| min > 0) {
        found.push((path.to_owned(), "".into()));
    }
    for (bound, past) in [("minimum", -1), ("maximum", 1)] {
        let Some(limit) = schema[bound].as_f64() else { continue };
        if schema["type"] == "integer" && limit + f64::from(past) >= 0.0 {
            found.push((path.to_owned(), serde_json::from_str(&(limit + f64::from(past)).to_string()).unwrap()));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let mut inner = Vec::new();
        beyond(property, &good[name], &format!("{path}.{name}"), &mut inner);
        for (at, bad) in inner {
            let mut whole = good.clone();
            whole[name] = bad;
            found.push((at, whole));
        }
    }
}

#[test]
fn what_the_schema_refuses_is_refused_without_an_api_server() {
    let spec = |crd: Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone();
    let (time, later) = ("2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z");
    let thing = serde_json::json!({
        "aliases": ["old-1"],
        "connections": [{"channel": "telemetry", "namespace": "plant-a", "permissions": ["Publish"],
            "subtopics": {"publish": ["engine/#"], "subscribe": ["+/state"]}}],
        "credentials": {
            "secretRefs": [{"id": "a", "name": "keys", "key": "key", "notBefore": time, "notAfter": later}],
            "keyHashes": [{"id": "b", "sha256": "0f".repeat(32), "notBefore": time, "notAfter": later}]}
    });
    let channel = serde_json::json!({
        "aliases": ["old-1"],
        "allowedThings": {"namespaces": "List", "list": ["plant-b"]},
        "payload": {"contentType": "text/plain", "admit": ["text/plain"], "validate": "None", "maxBytes": 1}
    });
    let generated = serde_json::json!({"credentials": {"generate": {"secretName": "keys"}, "overlap": "90m"}});
    let mut tried = 0;
    let mut check = |schema: Value, good: &Value, violations: &dyn Fn(Value) -> Vec<String>| {
        assert_eq!(violations(good.clone()), Vec::<String>::new());
        let mut bad = Vec::new();
        beyond(&schema, good, "spec", &mut bad);
        for (path, value) in bad {
            let said = violations(value);
            assert!(said.iter().any(|field| field.starts_with(&path)), "{path} passes: {said:?}");
            tried += 1;
        }
    };
    for good in [&thing, &generated] {
        check(spec(serde_json::to_value(Thing::crd()).unwrap()), good, &|value| {
            let spec: ThingSpec = serde_json::from_value(value).unwrap();
            spec.violations().into_iter().map(|violation| violation.field).collect()
        });
    }
    check(spec(serde_json::to_value(Channel::crd()).unwrap()), &channel, &|value| {
        let spec: ChannelSpec = serde_json::from_value(value).unwrap();
        spec.violations().into_iter().map(|violation| violation.field).collect()
    });
    assert!(tried > 30, "only {tried} bounds were tried");
}

#[test]
fn what_one_object_decides_is_a_rule_of_the_schema() {
    let thing = serde_json::to_string(&Thing::crd()).unwrap();
    assert_eq!(thing.matches("self.notBefore <= self.notAfter").count(), 2, "{thing}");
    let channel = serde_json::to_string(&Channel::crd()).unwrap();
    assert!(channel.contains("self.namespaces == 'List'"), "{channel}");
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let thing: ThingSpec = serde_yaml::from_str(
        "{suspended: false, aliases: [], connections: [{channel: telemetry, permissions: [Publish], \
         subtopics: {publish: ['engine/#'], subscribe: []}}, {channel: commands}]}",
    )
    .unwrap();
    assert_eq!(thing.violations(), []);
    let [limited, plain] = thing.connections.as_slice() else { panic!("two connections are needed") };
    assert_eq!(limited.subtopics.subscribe.as_deref(), Some(&[] as &[String]));
    assert_eq!((plain.namespace.as_str(), plain.permissions.len()), ("", 2));
    assert_eq!((&plain.subtopics.publish, &plain.subtopics.subscribe), (&None, &None));
    let channel: ChannelSpec = serde_yaml::from_str("{aliases: []}").unwrap();
    assert_eq!(channel.violations(), []);
    assert_eq!((channel.payload.content_type.as_str(), channel.payload.max_bytes), ("application/senml+json", 262_144));
    assert!(channel.payload.admit.is_empty() && channel.allowed_things.admit("a", "a"));
    assert!(!channel.allowed_things.admit("a", "b"));
}

#[test]
fn a_key_is_generated_where_none_is_given() {
    let thing = |yaml: &str| -> ThingSpec { serde_yaml::from_str(yaml).unwrap() };
    let secret = |yaml: &str| thing(yaml).credentials.generated_secret("dev");
    assert_eq!(secret("{}").as_deref(), Some("dev-credentials"));
    assert_eq!(secret("credentials: {generate: {}}").as_deref(), Some("dev-credentials"));
    assert_eq!(secret("credentials: {generate: {secretName: keys}}").as_deref(), Some("keys"));
    assert_eq!(secret("credentials: {secretRefs: [{id: a, name: keys, key: key}]}"), None);
    let both = "credentials: {generate: {}, secretRefs: [{id: a, name: keys, key: key}]}";
    let said: Vec<String> = thing(both).violations().iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["spec.credentials: a key is either generated or given: generate excludes secretRefs and keyHashes"]
    );
}

#[test]
fn an_overlap_is_a_span_of_at_most_thirty_days() {
    let check = |text: &str, hours: Option<f64>| {
        let spec: ThingSpec = serde_json::from_value(serde_json::json!({"credentials": {"overlap": text}})).unwrap();
        assert_eq!(spec.violations().is_empty(), hours.is_some(), "{text}");
        let span = spec.credentials.overlap_span().as_secs_f64() / 3_600.0;
        assert!(hours.is_none_or(|hours| (span - hours).abs() < 1e-9), "{text}: {span} h");
    };
    for (text, hours) in [("0s", 0.0), ("90m", 1.5), ("1h30m", 1.5), ("24h", 24.0), ("720h", 720.0), ("1h1ms", 1.0)] {
        check(text, Some(if text == "1h1ms" { 1.0 + 1.0 / 3_600_000.0 } else { hours }));
    }
    for text in ["", "1", "1d", "-1h", "1.5h", "721h", "999999h", "1h1h1h1h1h", "1 h", "24H"] {
        check(text, None);
    }
    assert_eq!(ThingSpec::default().credentials.overlap_span().as_secs(), 24 * 3_600);
}
