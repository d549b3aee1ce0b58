//! From objects that count to the contents of a grant table. Nothing fails here: what does not resolve is left out and
//! said.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_api::{Channel, Connection, ObjectMeta, Permission, Reason, Thing, Validate};
use tidegate_model::{
    Alias, ChannelEntry, ChannelId, ContentType, GrantEntry, KeyHash, PayloadPolicy, Permissions, SubtopicFilter,
    TableContents, ThingEntry, ThingId, TopicLimits, Validation,
};

use crate::{Finding, Kind, Plan, Validated, keys};

/// Says something about one object.
struct Say<'a> {
    findings: &'a mut Vec<Finding>,
    kind: Kind,
    namespace: String,
    name: String,
}

impl Say<'_> {
    fn that(&mut self, reason: Reason, message: String) {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        self.findings.push(Finding { kind: self.kind, namespace, name, reason, message });
    }
}

pub(crate) fn compile(validated: Validated) -> Plan {
    let Validated { channels, things, secrets, mut findings } = validated;
    let mut by_id: BTreeMap<ChannelId, Channel> = BTreeMap::new();
    let mut entries = Vec::new();
    for channel in channels {
        let (namespace, name) = id_of(&channel.metadata);
        let mut say = Say { findings: &mut findings, kind: Kind::Channel, namespace, name };
        if let Some(entry) = channel_entry(&channel, &mut say) {
            by_id.insert(entry.id.clone(), channel);
            entries.push(entry);
        }
    }
    let mut contents = TableContents { channels: entries, things: Vec::new() };
    let mut owners = BTreeSet::new();
    for thing in things {
        let (namespace, name) = id_of(&thing.metadata);
        let secret = |name: &str| secrets.get(&(namespace.clone(), name.to_owned()));
        let outcomes = keys::keys(&thing.spec.credentials, secret);
        let mut say = Say { findings: &mut findings, kind: Kind::Thing, namespace: namespace.clone(), name };
        contents.things.extend(thing_entry(&thing, outcomes, &by_id, &mut owners, &mut say));
    }
    contents.channels.sort_by(|a, b| a.id.cmp(&b.id));
    contents.things.sort_by(|a, b| a.id.cmp(&b.id));
    findings.sort();
    Plan { contents, findings }
}

fn id_of(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn aliases(aliases: &[String]) -> Vec<Alias> {
    aliases.iter().filter_map(|alias| Alias::parse(alias).ok()).collect()
}

fn channel_entry(channel: &Channel, say: &mut Say<'_>) -> Option<ChannelEntry> {
    let id = ChannelId::new(&say.namespace, &say.name).ok()?;
    let payload = &channel.spec.payload;
    let content_type = ContentType::parse(&payload.content_type);
    let admit: Result<Vec<_>, _> = payload.admit.iter().map(|admitted| ContentType::parse(admitted)).collect();
    let (Ok(content_type), Ok(admit)) = (content_type, admit) else {
        say.that(Reason::InvalidSpec, "spec.payload: a content type is not type/subtype".to_owned());
        return None;
    };
    let validate = match payload.validate {
        Validate::None => Validation::None,
        Validate::Senml => Validation::Senml,
        Validate::Json => Validation::Json,
    };
    let payload = PayloadPolicy { content_type, admit, validate, bytes_max: payload.max_bytes };
    Some(ChannelEntry { id, aliases: aliases(&channel.spec.aliases), payload })
}

fn thing_entry(
    thing: &Thing,
    outcomes: Vec<keys::Outcome<'_>>,
    channels: &BTreeMap<ChannelId, Channel>,
    owners: &mut BTreeSet<KeyHash>,
    say: &mut Say<'_>,
) -> Option<ThingEntry> {
    let id = ThingId::new(&say.namespace, &say.name).ok()?;
    if thing.spec.suspended {
        say.that(Reason::Suspended, "spec.suspended is true".to_owned());
    }
    // A suspended Thing keeps its keys from others, as it will want them back.
    let (mut keys, mut own) = (Vec::new(), BTreeSet::new());
    for (key_id, outcome) in outcomes {
        match outcome {
            Ok(key) if own.contains(&key.hash) => {
                say.that(Reason::DuplicateKey, format!("key {key_id}: this Thing has the key under another id too"));
            }
            Ok(key) if !owners.insert(key.hash) => {
                say.that(Reason::DuplicateKey, format!("key {key_id}: the key is in use"));
            }
            Ok(key) => {
                own.insert(key.hash);
                keys.push(key);
            }
            Err((reason, message)) => say.that(reason, format!("key {key_id}: {message}")),
        }
    }
    if keys.is_empty() {
        say.that(Reason::NoCredentials, "there is no key that the Thing could show".to_owned());
    }
    let grants = thing.spec.connections.iter().filter_map(|connection| grant(connection, channels, say)).collect();
    if thing.spec.suspended {
        return None;
    }
    Some(ThingEntry { id, aliases: aliases(&thing.spec.aliases), keys, grants })
}

fn grant(connection: &Connection, channels: &BTreeMap<ChannelId, Channel>, say: &mut Say<'_>) -> Option<GrantEntry> {
    let namespace = if connection.namespace.is_empty() { say.namespace.clone() } else { connection.namespace.clone() };
    let shown = format!("{namespace}/{}", connection.channel);
    let id = ChannelId::new(&namespace, &connection.channel).ok();
    let Some((id, channel)) = id.and_then(|id| channels.get_key_value(&id)) else {
        say.that(Reason::ChannelNotFound, format!("there is no Channel {shown}"));
        return None;
    };
    if !channel.spec.allowed_things.admit(&namespace, &say.namespace) {
        say.that(Reason::NotPermitted, format!("the Channel {shown} does not admit Things of this namespace"));
        return None;
    }
    let mut filters = |patterns: &Option<Vec<String>>| -> Option<Option<Vec<SubtopicFilter>>> {
        let Some(patterns) = patterns else { return Some(None) };
        let parsed: Result<Vec<_>, _> =
            patterns.iter().map(|pattern| SubtopicFilter::parse(pattern, &TopicLimits::default())).collect();
        match parsed {
            Ok(filters) => Some(Some(filters)),
            Err(error) => {
                say.that(Reason::InvalidSpec, format!("the connection to {shown} has a pattern that is none: {error}"));
                None
            }
        }
    };
    let (publish, subscribe) = (filters(&connection.subtopics.publish)?, filters(&connection.subtopics.subscribe)?);
    let permissions = Permissions {
        publish: connection.permissions.contains(&Permission::Publish),
        subscribe: connection.permissions.contains(&Permission::Subscribe),
    };
    Some(GrantEntry { channel: id.clone(), permissions, publish, subscribe })
}
