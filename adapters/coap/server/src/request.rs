//! What a request asks: where, with which key, and what it says.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use tidegate_bridge::{Draft, fresh_message_id};
use tidegate_coap_proto::{Options, Request};
use tidegate_model::{Credential, Permit, Principal, Protocol, QoS, Refusal, Topic, TopicFilter, TopicLimits};

use crate::CoapFace;
use crate::answer;

/// Whether what a server has is asked for.
pub(crate) fn asks_for_resources(options: &Options) -> bool {
    options.uri_path().eq([b".well-known".as_slice(), b"core"])
}

pub(crate) fn filter(options: &Options, limits: &TopicLimits) -> Result<TopicFilter, Refusal> {
    TopicFilter::parse_parts(options.uri_path(), limits)
}

/// The key that is shown as `auth=<key>` or `authorization=<key>`, wherever it stands in the query; its value may hold `=`.
/// Nothing where none is.
fn key(options: &Options) -> Result<Option<Cow<'_, [u8]>>, Refusal> {
    let pairs = options.uri_query().filter_map(|argument| {
        let at = argument.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&argument[..at], &argument[at + 1..]);
        matches!(name, b"auth" | b"authorization").then(|| Cow::from(percent_decode(value)))
    });
    let mut keys = pairs;
    let Some(first) = keys.next() else { return Ok(None) };
    // One that is said twice may be said twice.
    if keys.any(|other| other != first) {
        return Err(Refusal::Unauthenticated);
    }
    Ok(Some(first))
}

impl CoapFace {
    /// Who asks: whose key the request shows, else who it is that the session is with.
    pub(crate) async fn authenticate(
        &self,
        options: &Options,
        known: Option<&Principal>,
    ) -> Result<Principal, Refusal> {
        match (key(options)?, known) {
            (Some(key), _) => self.bridge.authenticate(&Credential::Key(&key)).await,
            (None, Some(known)) => self.bridge.refresh(known),
            (None, None) => Err(Refusal::Unauthenticated),
        }
    }

    /// Everything that can be said of a message before its payload is whole. `bytes` is how long that is, as far as it is
    /// known.
    pub(crate) async fn begin(
        &self,
        request: &Request,
        bytes: Option<u64>,
        known: Option<&Principal>,
    ) -> Result<(Principal, Permit, Draft), Refusal> {
        let options = &request.options;
        let topic = Topic::parse_parts(options.uri_path(), &self.topic)?;
        let principal = self.authenticate(options, known).await?;
        let permit = self.bridge.permit(&principal, topic)?;
        let content_type = match options.content_format() {
            None => None,
            Some(format) => Some(answer::content_type(format).ok_or(Refusal::ContentTypeNotAdmitted)?),
        };
        let content_type = self.bridge.admit(&permit, content_type, bytes)?;
        let draft = Draft {
            id: fresh_message_id(),
            payload: request.payload.clone(),
            content_type,
            protocol: Protocol::Coap,
            qos: QoS::default(),
            retain: false,
            expires_in: None,
            traceparent: None,
            extras: None,
        };
        Ok((principal, permit, draft))
    }

    /// Publishes, and returns when the broker has confirmed it.
    pub(crate) async fn publish(&self, request: &Request, known: Option<&Principal>) -> Result<(), Refusal> {
        let begun = self.begin(request, Some(request.payload.len() as u64), known).await;
        let (principal, permit, draft) = begun.inspect_err(|refusal| {
            tracing::debug!(%refusal, "a message is refused");
            self.bridge.count_refused_publish(Protocol::Coap, refusal);
        })?;
        self.bridge.publish(&principal, permit, draft).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_coap_proto::OptionNumber;

    fn options(number: OptionNumber, values: &[&str]) -> Options {
        values.iter().map(|value| (number, value)).collect()
    }

    #[test]
    fn a_key_is_found_wherever_it_stands() {
        let check = |query: &[&str], expected: Option<&str>| {
            let options = options(OptionNumber::URI_QUERY, query);
            let found = key(&options).ok().flatten();
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{query:?}");
        };
        check(&["auth=k"], Some("k"));
        check(&["a=b", "authorization=k=%3D+"], Some("k==+"));
        check(&["auth=k", "authorization=k"], Some("k"));
        check(&["auth=k", "auth=l"], None);
        check(&["auth"], None);
        check(&["xauth=k"], None);
        check(&[], None);
    }

    #[test]
    fn levels_are_options_and_nothing_in_them_separates() {
        let check = |levels: &[&str], expected: Option<&str>| {
            let options = options(OptionNumber::URI_PATH, levels);
            let topic = Topic::parse_parts(options.uri_path(), &TopicLimits::default());
            assert_eq!(topic.ok().map(|topic| topic.to_mqtt()).as_deref(), expected, "{levels:?}");
        };
        check(&["channels", "lab.t", "messages"], Some("channels/lab.t/messages"));
        check(&["channels", "lab.t", "messages", "a b", "", "%41"], Some("channels/lab.t/messages/a b/%41"));
        check(&["channels", "lab.t", "messages", "a/b"], None);
        check(&["channels", "lab.t", "messages", "+"], None);
        check(&["channels/lab.t/messages"], None);
    }
}
