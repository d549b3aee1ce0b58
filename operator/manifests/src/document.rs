//! The documents of one file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml::Value;
use tidegate_api::{API_VERSION, CREDENTIALS_LABEL, GROUP, ObjectMeta};
use tidegate_plan::{KeySecret, Observed};

/// The namespace of an object that names none.
const NAMESPACE: &str = "default";

/// What is wrong, and where in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

/// Reads every document of a file, or fails as a whole.
pub(crate) fn read_all(text: &str) -> Result<Observed, Fault> {
    let mut observed = Observed::default();
    for document in split(text) {
        document.read(&mut observed)?;
    }
    Ok(observed)
}

/// One document and the lines of the file before it.
struct Document<'a> {
    text: &'a str,
    lines_before: usize,
}

/// Splits at the lines that begin with the marker `---`, which cannot stand within a document.
fn split(text: &str) -> Vec<Document<'_>> {
    let (mut documents, mut start, mut start_line, mut at) = (Vec::new(), 0, 0, 0);
    for (line_number, line) in text.split_inclusive('\n').enumerate() {
        let marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if marker {
            documents.push(Document { text: &text[start..at], lines_before: start_line });
            (start, start_line) = (at, line_number);
        }
        at += line.len();
    }
    documents.push(Document { text: &text[start..], lines_before: start_line });
    documents
}

/// The fields by which an object says what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

/// A Secret, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    string_data: BTreeMap<String, String>,
}

impl Document<'_> {
    fn read(&self, observed: &mut Observed) -> Result<(), Fault> {
        let value: Value = serde_yaml::from_str(self.text).map_err(|error| self.fault(&error, "not YAML"))?;
        if value.is_null() {
            return Ok(());
        }
        let head: Head =
            serde_yaml::from_value(value.clone()).map_err(|_| self.whole("apiVersion and kind are needed"))?;
        if head.kind == "List" {
            let items = value.get("items").and_then(Value::as_sequence).cloned().unwrap_or_default();
            return items.into_iter().try_for_each(|item| self.item(item, observed));
        }
        // Read from the text again, since only so an error knows its line.
        self.object(&head, observed, |document| Typed::Text(document.text))
    }

    fn item(&self, item: Value, observed: &mut Observed) -> Result<(), Fault> {
        let head: Head =
            serde_yaml::from_value(item.clone()).map_err(|_| self.whole("an item of the List is no object"))?;
        self.object(&head, observed, |_| Typed::Value(item))
    }

    fn object<'t>(
        &'t self,
        head: &Head,
        observed: &mut Observed,
        typed: impl FnOnce(&'t Self) -> Typed<'t>,
    ) -> Result<(), Fault> {
        let typed = typed(self);
        match (head.api_version.as_str(), head.kind.as_str()) {
            (API_VERSION, "Channel") => {
                let mut channel: tidegate_api::Channel =
                    typed.read().map_err(|error| self.fault(&error, "not a Channel"))?;
                channel.metadata.namespace.get_or_insert_with(|| NAMESPACE.to_owned());
                observed.channels.push(channel);
            }
            (API_VERSION, "Thing") => {
                let mut thing: tidegate_api::Thing = typed.read().map_err(|error| self.fault(&error, "not a Thing"))?;
                thing.metadata.namespace.get_or_insert_with(|| NAMESPACE.to_owned());
                observed.things.push(thing);
            }
            ("v1", "Secret") => {
                // Whatever the parser would say of a Secret might be a part of it.
                let secret: Secret = typed.read().map_err(|error| self.place(&error, "not a Secret".to_owned()))?;
                observed.secrets.push(self.secret(secret)?);
            }
            (_, "Thing" | "Channel") => return Err(self.whole(&format!("apiVersion {API_VERSION} is needed"))),
            (_, "Secret") => return Err(self.whole("apiVersion v1 is needed")),
            (_, "") => return Err(self.whole("apiVersion and kind are needed")),
            (version, kind) if version.split('/').next() == Some(GROUP) && kind != "Adapter" => {
                return Err(self.whole(&format!("{GROUP} has the kinds Channel, Thing and Adapter, and no {kind:?}")));
            }
            // Other objects of the same folder, a Namespace perhaps, are another program's business.
            _ => {}
        }
        Ok(())
    }

    fn secret(&self, secret: Secret) -> Result<KeySecret, Fault> {
        let Secret { metadata, data, string_data } = secret;
        let name = metadata.name.ok_or_else(|| self.whole("a Secret needs a name"))?;
        let mut entries = BTreeMap::new();
        for (key, encoded) in data {
            let decoded = STANDARD.decode(encoded.trim()).map_err(|_| self.whole("an entry of data is not base64"))?;
            entries.insert(key, decoded);
        }
        entries.extend(string_data.into_iter().map(|(key, text)| (key, text.into_bytes())));
        let annotations = metadata.annotations.unwrap_or_default();
        let labelled = metadata.labels.is_some_and(|labels| labels.get(CREDENTIALS_LABEL).is_some_and(|v| v == "true"));
        let namespace = metadata.namespace.unwrap_or_else(|| NAMESPACE.to_owned());
        Ok(KeySecret { namespace, name, labelled, entries, annotations, made_for: None, owner_uid: None })
    }

    /// A fault of the document as a whole, at its first line that says something.
    fn whole(&self, message: &str) -> Fault {
        let says = |line: &str| !line.trim().is_empty() && !line.starts_with("---") && !line.starts_with('#');
        let line = self.text.lines().position(says).unwrap_or_default();
        Fault { line: self.lines_before + line + 1, column: 1, message: message.to_owned() }
    }

    fn fault(&self, error: &serde_yaml::Error, what: &str) -> Fault {
        self.place(error, format!("{what}: {}", without_values(&error.to_string())))
    }

    fn place(&self, error: &serde_yaml::Error, message: String) -> Fault {
        match error.location() {
            Some(at) => Fault { line: self.lines_before + at.line(), column: at.column(), message },
            None => self.whole(&message),
        }
    }
}

enum Typed<'a> {
    Text(&'a str),
    Value(Value),
}

impl Typed<'_> {
    fn read<T: DeserializeOwned>(self) -> Result<T, serde_yaml::Error> {
        match self {
            Self::Text(text) => serde_yaml::from_str(text),
            Self::Value(value) => serde_yaml::from_value(value),
        }
    }
}

/// The parser's words without the place, which stands elsewhere, and without the value that it may quote.
fn without_values(said: &str) -> String {
    let said = said.split(" at line ").next().unwrap_or_default();
    match (said.find("invalid "), said.find(", expected ")) {
        (Some(invalid), Some(expected)) => format!("{}{}", &said[..invalid], &said[expected + 2..]),
        _ if said.contains('"') => "syntax error".to_owned(),
        _ => said.to_owned(),
    }
}
