//! A device that speaks CoAP over UDP, in the clear or under DTLS: publishes over one socket, and observes over one each.
//!
//! What is newest is all that CoAP promises of what is observed: a notification may take the place of older ones that did
//! not arrive, and what holds may come again.

mod dtls;
mod line;
mod link;
mod observation;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;

use coap_lite::option_value::OptionValueU16;
use coap_lite::{CoapOption, MessageClass, RequestType, ResponseType};
use tokio::sync::Mutex;

use crate::address::host_and_port;
use crate::error::ClientError;
use crate::http::PUBLISH_MAX;
use crate::{Address, Credential, Publication, QoS};

use dtls::DtlsConfig;
use line::{Line, broken, silence};
use wire::{Block, Body, Target, content_format, is_success, refusal};

pub(crate) use observation::CoapSubscription;

/// Where a server listens, if its URL does not say.
//= RFC7252 6.1
const PORT: u16 = 5683;
/// The same under DTLS.
//= RFC7252 6.2
const PORT_DTLS: u16 = 5684;

/// A device with its credential. Not `Debug`: it holds the key.
#[derive(Clone)]
pub(crate) struct CoapClient {
    host: Arc<str>,
    port: u16,
    /// What requests say, unless DTLS has said it.
    key: Option<Arc<str>>,
    dtls: Option<DtlsConfig>,
    /// One message goes at a time, and the next when it is answered.
    publisher: Arc<Mutex<Option<Line>>>,
}

impl CoapClient {
    /// Of `address`, which is HOST or HOST:PORT.
    pub(crate) fn new(address: &str, credential: &Credential) -> Result<Self, ClientError> {
        let (host, port) = host_and_port(address.trim_end_matches('/'), PORT)
            .ok_or(ClientError::Setup("the URL must be coap://HOST[:PORT]"))?;
        Self::of(host, port, credential.key.as_deref(), None)
    }

    /// The same under DTLS.
    pub(crate) fn over_dtls(
        address: &str,
        credential: &Credential,
        ca_pem: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        let (host, port) = host_and_port(address.trim_end_matches('/'), PORT_DTLS)
            .ok_or(ClientError::Setup("the URL must be coaps://HOST[:PORT]"))?;
        let dtls = DtlsConfig::new(host.trim_start_matches('[').trim_end_matches(']'), credential, ca_pem)?;
        let key = credential.key.as_deref().filter(|_| credential.identity.is_some());
        Self::of(host, port, key, Some(dtls))
    }

    fn of(host: &str, port: u16, key: Option<&str>, dtls: Option<DtlsConfig>) -> Result<Self, ClientError> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let client = Self { host: host.into(), port, key: key.map(Into::into), dtls, publisher: Arc::default() };
        // A key that cannot be said is told at once.
        client.target(&Address::new("", "")).map(|_| client)
    }

    //= RFC7252 6.4
    fn target(&self, address: &Address) -> Result<Target, ClientError> {
        let is_name = self.host.parse::<IpAddr>().is_err();
        Target::new(is_name.then_some(&*self.host), address, self.key.as_deref())
    }

    async fn open(&self, operation: &'static str) -> Result<Line, ClientError> {
        Line::open(&self.host, self.port, self.dtls.as_ref(), operation).await
    }

    pub(crate) async fn publish(&self, address: &Address, publication: Publication) -> Result<(), ClientError> {
        let format = sayable(&publication)?;
        let target = self.target(address)?;
        let turn = tokio::time::timeout(PUBLISH_MAX, self.publisher.lock()).await;
        let mut publisher =
            turn.map_err(|elapsed| ClientError::Connection { operation: "publish", source: Box::new(elapsed) })?;
        // Who does not wait to the end takes the socket along, and late answers with it.
        let mut line = match publisher.take() {
            Some(line) => line,
            None => self.open("publish").await?,
        };
        let is_sure = publication.qos != QoS::AtMostOnce;
        let outcome = post(&mut line, &target, format, &publication.payload, is_sure).await;
        // After what broke, the server may be somewhere else.
        if !matches!(outcome, Err(ClientError::Connection { .. })) {
            *publisher = Some(line);
        }
        outcome
    }

    pub(crate) async fn subscribe(&self, address: &Address) -> Result<CoapSubscription, ClientError> {
        let topic = (!address.has_wildcard()).then(|| address.topic());
        CoapSubscription::open(self.open("subscribe").await?, self.target(address)?, topic).await
    }
}

/// The content format of a message, if CoAP can say all that is asked for.
fn sayable(publication: &Publication) -> Result<Option<u16>, ClientError> {
    let Publication { content_type, qos, retain, expiry, user_properties, payload: _ } = publication;
    if *qos == QoS::ExactlyOnce {
        return Err(ClientError::Setup("over CoAP a message is taken at least once: QoS 2 cannot be asked for"));
    }
    if *retain {
        return Err(ClientError::Setup("CoAP cannot say that a message is to be retained"));
    }
    if expiry.is_some() {
        return Err(ClientError::Setup("CoAP cannot say when a message expires"));
    }
    if !user_properties.is_empty() {
        return Err(ClientError::Setup("CoAP cannot say user properties"));
    }
    content_type.as_deref().map(content_format).transpose()
}

/// Sends a body, in blocks where it is large. Where it need not be sure to arrive, it has gone when the server has nothing
/// to say to it; but who says nothing to a block has not taken it.
//= RFC7959 2.3, 2.5
async fn post(
    line: &mut Line,
    target: &Target,
    format: Option<u16>,
    payload: &[u8],
    is_sure: bool,
) -> Result<(), ClientError> {
    let mut body = Body::new(payload);
    loop {
        let (part, block) = body.next()?;
        let mut request = target.request(RequestType::Post);
        if let Some(format) = format {
            request.add_option_as(CoapOption::ContentFormat, OptionValueU16(format));
        }
        if let Some(block) = block {
            block.add_to(&mut request, CoapOption::Block1);
            if block.number == 0 {
                request.add_option_as(CoapOption::Size1, body.size());
            }
        }
        part.clone_into(&mut request.payload);
        let response =
            if is_sure { Some(line.ask(request, "publish").await?) } else { line.mention(request, "publish").await? };
        let Some(response) = response else {
            let is_last = block.is_none_or(|block| !block.more);
            return if is_last { Ok(()) } else { Err(broken("publish", silence())) };
        };
        let answered = Block::of(&response, CoapOption::Block1);
        let goes_on = response.header.code == MessageClass::Response(ResponseType::Continue);
        match block {
            Some(sent) if sent.more && goes_on => body.advance(sent, answered),
            //= RFC7959 2.9.3
            Some(_)
                if response.header.code == MessageClass::Response(ResponseType::RequestEntityTooLarge)
                    && body.shrink(answered) => {}
            // One that says yes before it has all, or that wants more than there is, took something else.
            Some(sent) if is_success(&response) && (sent.more || goes_on) => {
                let detail = "the server took a part for the whole".to_owned();
                return Err(ClientError::Refused { status: refusal(&response).0, detail });
            }
            Some(_) | None if is_success(&response) => return Ok(()),
            Some(_) | None => {
                let (status, detail) = refusal(&response);
                return Err(ClientError::Refused { status, detail });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_coap_cannot_say_is_told() {
        let plain = Publication::json("1");
        assert_eq!(sayable(&plain).unwrap(), Some(50));
        assert_eq!(sayable(&Publication::default()).unwrap(), None);
        assert_eq!(sayable(&Publication { qos: QoS::AtMostOnce, ..plain.clone() }).unwrap(), Some(50));
        let property = ("a".to_owned(), "b".to_owned());
        for other in [
            Publication { retain: true, ..plain.clone() },
            Publication { expiry: Some(1), ..plain.clone() },
            Publication { user_properties: vec![property], ..plain.clone() },
            Publication { qos: QoS::ExactlyOnce, ..plain.clone() },
            Publication { content_type: Some("image/png".to_owned()), ..plain },
        ] {
            assert!(matches!(sayable(&other), Err(ClientError::Setup(_))));
        }
    }

    #[test]
    fn a_url_has_a_host_and_maybe_a_port() {
        let credential = Credential::of_key("lab.sensor", "key");
        let check = |address: &str, expected: Option<(&str, u16)>| {
            let client = CoapClient::new(address, &credential).ok();
            let found = client.as_ref().map(|client| (&*client.host, client.port));
            assert_eq!(found, expected, "{address}");
            let client = CoapClient::over_dtls(address, &credential, None).ok();
            let found = client.as_ref().map(|client| (&*client.host, client.port));
            assert_eq!(found, expected.map(|(host, port)| (host, if port == 5683 { 5684 } else { port })), "{address}");
        };
        check("Gate.test", Some(("gate.test", 5683)));
        check("127.0.0.1:1/", Some(("127.0.0.1", 1)));
        check("[::1]", Some(("::1", 5683)));
        check("[::1]:7", Some(("::1", 7)));
        for none in ["", "host/path", "user@host", "host:port"] {
            check(none, None);
        }
    }
}
