//! From the values to the chart's files: `values.schema.json`, `values.yaml` and the table of the README.

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

use crate::values::Values;

/// Columns of a line of `values.yaml`.
const COLUMNS: usize = 118;

/// `values.schema.json`: what a user may say, and nothing else.
///
/// # Panics
/// Never: a schema is JSON.
#[must_use]
pub fn schema() -> String {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Values>().to_value();
    foreign_to_json(&mut schema);
    schema["title"] = "Values of the chart".into();
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}

/// Takes off what only Kubernetes understands, and what a validator might take for a demand: a value that is left out.
fn foreign_to_json(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            object.retain(|key, _| !key.starts_with("x-kubernetes-") && key != "default" && key != "format");
            // A choice of words, each with its meaning: a validator would name the last alone.
            let words = object.get("oneOf").and_then(Json::as_array).and_then(|choices| {
                choices.iter().map(|choice| choice.get("const").cloned()).collect::<Option<Vec<_>>>()
            });
            if let Some(words) = words {
                object.remove("oneOf");
                object.insert("enum".to_owned(), words.into());
            }
            object.values_mut().for_each(foreign_to_json);
        }
        Json::Array(list) => list.iter_mut().for_each(foreign_to_json),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// `values.yaml`: every value with its default and its meaning.
#[must_use]
pub fn yaml() -> String {
    let mut out = String::from(
        "# The values of the chart. Made of tests/chart/src/values.rs: change that, then run its tests with UPDATE_EXPECT=1.\n",
    );
    each(&mut |entry| {
        let indent = "  ".repeat(entry.path.len() - 1);
        let name = entry.path.last().copied().unwrap_or_default();
        if entry.path.len() == 1 {
            out.push('\n');
        }
        for line in wrapped(entry.meaning, COLUMNS - indent.len() - 2) {
            out.push_str(&format!("{indent}# {line}\n"));
        }
        match entry.default {
            None => out.push_str(&format!("{indent}{name}:\n")),
            Some(default) => {
                let text = serde_yaml::to_string(default).unwrap_or_default();
                let text = text.trim_end();
                let nested = matches!(default, Yaml::Mapping(of) if !of.is_empty());
                if nested {
                    out.push_str(&format!("{indent}{name}:\n"));
                    text.lines().for_each(|line| out.push_str(&format!("{indent}  {line}\n")));
                } else {
                    let text = inline(default, text);
                    out.push_str(&format!("{indent}{name}: {text}\n"));
                }
            }
        }
    });
    out
}

/// The table of the README.
#[must_use]
pub fn table() -> String {
    let mut out = String::from("| value | default | meaning |\n|---|---|---|\n");
    each(&mut |entry| {
        let Some(default) = entry.default else { return };
        let json = serde_json::to_value(default).map(|json| json.to_string()).unwrap_or_default();
        let meaning = entry.meaning.replace('\n', " ").replace('|', "\\|");
        out.push_str(&format!("| `{}` | `{json}` | {meaning} |\n", entry.path.join(".")));
    });
    out
}

/// A value, as it is documented.
struct Entry<'a> {
    path: &'a [&'a str],
    meaning: &'a str,
    /// Nothing where it has values of its own.
    default: Option<&'a Yaml>,
}

/// Calls `visit` with every value, in the order of the code.
fn each(visit: &mut dyn FnMut(&Entry<'_>)) {
    let root: Json = serde_json::from_str(&schema()).unwrap_or_default();
    let defaults = serde_yaml::to_value(Values::default()).unwrap_or_default();
    descend(&root, &root, &defaults, &mut Vec::new(), visit);
}

fn descend<'a>(
    root: &Json,
    schema: &Json,
    defaults: &'a Yaml,
    path: &mut Vec<&'a str>,
    visit: &mut dyn FnMut(&Entry<'_>),
) {
    let Yaml::Mapping(fields) = defaults else { return };
    for (name, default) in fields {
        let Some(name) = name.as_str() else { continue };
        let property = &schema["properties"][name];
        let meaning = property["description"].as_str().unwrap_or_default();
        let referred = referred(root, property);
        path.push(name);
        // What is Kubernetes' or the Adapter's own is documented there.
        let own = name != "spec" && name != "resources" && name != "affinity";
        let deeper = own && referred["properties"].is_object();
        visit(&Entry { path, meaning, default: (!deeper).then_some(default) });
        if deeper {
            descend(root, referred, default, path, visit);
        }
        path.pop();
    }
}

/// What a schema refers to, or itself.
fn referred<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn inline(value: &Yaml, text: &str) -> String {
    match value {
        Yaml::Sequence(_) | Yaml::Mapping(_) => serde_json::to_value(value).unwrap_or_default().to_string(),
        Yaml::String(text) => format!("{text:?}"),
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Tagged(_) => text.to_owned(),
    }
}

fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
