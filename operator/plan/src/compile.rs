//! From one object that counts to its entry in the table.

use tidegate_api::{Channel, Connection, Permission, Reason, Validate};
use tidegate_model::{
    Alias, ChannelEntry, ChannelId, ContentType, GrantEntry, PayloadPolicy, Permissions, SubtopicFilter, TopicLimits,
    Validation,
};

use crate::objects::{Fault, ObjectId};

pub(crate) fn aliases(aliases: &[String]) -> Vec<Alias> {
    aliases.iter().filter_map(|alias| Alias::parse(alias).ok()).collect()
}

pub(crate) fn channel_entry(channel: &Channel, id: &ObjectId) -> Result<ChannelEntry, Fault> {
    let invalid = |message: &str| (Reason::InvalidSpec, message.to_owned());
    let id = ChannelId::new(&id.namespace, &id.name).map_err(|error| invalid(&error.to_string()))?;
    let payload = &channel.spec.payload;
    let content_type = ContentType::parse(&payload.content_type);
    let admit: Result<Vec<_>, _> = payload.admit.iter().map(|admitted| ContentType::parse(admitted)).collect();
    let (Ok(content_type), Ok(admit)) = (content_type, admit) else {
        return Err(invalid("spec.payload: a content type is not type/subtype"));
    };
    let validate = match payload.validate {
        Validate::None => Validation::None,
        Validate::Senml => Validation::Senml,
        Validate::Json => Validation::Json,
    };
    let payload = PayloadPolicy { content_type, admit, validate, bytes_max: payload.max_bytes };
    Ok(ChannelEntry { id, aliases: aliases(&channel.spec.aliases), payload })
}

/// The right that a connection of the Thing `of` to the Channel `to` gives, if there is a Channel that admits it.
pub(crate) fn grant(
    connection: &Connection,
    to: &ObjectId,
    of: &ObjectId,
    channel: Option<&Channel>,
) -> Result<GrantEntry, Fault> {
    let shown = format!("{}/{}", to.namespace, to.name);
    let id = ChannelId::new(&to.namespace, &to.name).ok();
    let (Some(id), Some(channel)) = (id, channel) else {
        return Err((Reason::ChannelNotFound, format!("there is no Channel {shown}")));
    };
    if !channel.spec.allowed_things.admit(&to.namespace, &of.namespace) {
        let message = format!("the Channel {shown} does not admit Things of this namespace");
        return Err((Reason::NotPermitted, message));
    }
    let filters = |patterns: &Option<Vec<String>>| -> Result<Option<Vec<SubtopicFilter>>, Fault> {
        let Some(patterns) = patterns else { return Ok(None) };
        let parsed: Result<Vec<_>, _> =
            patterns.iter().map(|pattern| SubtopicFilter::parse(pattern, &TopicLimits::default())).collect();
        parsed.map(Some).map_err(|error| {
            (Reason::InvalidSpec, format!("the connection to {shown} has a pattern that is none: {error}"))
        })
    };
    let (publish, subscribe) = (filters(&connection.subtopics.publish)?, filters(&connection.subtopics.subscribe)?);
    let permissions = Permissions {
        publish: connection.permissions.contains(&Permission::Publish),
        subscribe: connection.permissions.contains(&Permission::Subscribe),
    };
    Ok(GrantEntry { channel: id, permissions, publish, subscribe })
}
