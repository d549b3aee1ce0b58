//! The device's side of every face, for the command line, checks and load: HTTP, WebSocket, MQTT and CoAP.
//!
//! Owns the wire forms as a client sees them. Must not share code with the server: it would agree with its mistakes.

mod address;
mod coap;
mod error;
mod event;
mod http;
mod mqtt;
mod tls;
mod ws;

use bytes::Bytes;

pub use address::Address;
pub use error::{ClientError, Status};
pub use event::{Event, EventParser, MalformedEvent};
pub use tls::Identity;

use coap::{CoapClient, CoapSubscription};
use http::{HttpClient, HttpSubscription};
use mqtt::{MqttClient, MqttSubscription};
use ws::{WsClient, WsSubscription};

/// How surely a message is to arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QoS {
    /// Level 0: over MQTT the server answers nothing, and a refusal ends the connection; over CoAP the message is not
    /// confirmable, is sent once, and may be lost.
    AtMostOnce,
    /// Level 1: the server answers when it has the message.
    #[default]
    AtLeastOnce,
    /// Level 2: and the message is taken once, however often it is sent.
    ExactlyOnce,
}

impl QoS {
    const fn level(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }
}

/// What is published. Not `Debug`: the payload is the device's own.
#[derive(Clone, Default)]
pub struct Publication {
    /// The payload's content type; the channel's where absent.
    pub content_type: Option<String>,
    /// How surely it is to arrive.
    pub qos: QoS,
    /// Whether the server is to keep it for who subscribes later.
    pub retain: bool,
    /// How many seconds it is worth delivering; for ever where absent.
    pub expiry: Option<u32>,
    /// Names and values that subscribers get with it.
    pub user_properties: Vec<(String, String)>,
    /// The payload, byte for byte.
    pub payload: Bytes,
}

impl Publication {
    /// Of JSON.
    #[must_use]
    pub fn json(payload: impl Into<Bytes>) -> Self {
        Self { content_type: Some("application/json".to_owned()), payload: payload.into(), ..Self::default() }
    }
}

/// What a device shows of itself. Not `Debug`: it holds the key.
#[derive(Clone, Default)]
pub struct Credential {
    /// The Thing, `<namespace>.<name>` or an alias. MQTT and CoAP over DTLS need it with a key; elsewhere the key alone says
    /// who where it is empty, and over plain CoAP always.
    pub thing: String,
    /// The Thing's key; none is needed with an identity, and one is shown all the same.
    pub key: Option<String>,
    /// What is shown over TLS and DTLS to a server that asks for a certificate. Without TLS it says nothing.
    pub identity: Option<Identity>,
}

impl Credential {
    /// Of a Thing and its key.
    #[must_use]
    pub fn of_key(thing: &str, key: &str) -> Self {
        Self { thing: thing.to_owned(), key: Some(key.to_owned()), identity: None }
    }
}

/// A device with its credential, on the face that its URL names. Not `Debug`: it holds the key.
#[derive(Clone)]
pub struct Client(Face);

#[derive(Clone)]
enum Face {
    Coap(CoapClient),
    Http(HttpClient),
    Mqtt(MqttClient),
    Ws(WsClient),
}

impl Client {
    /// A device that shows `key` as the Thing `thing` to the server at `url`; see [`Client::with_credential`].
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn new(url: &str, thing: &str, key: &str, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        Self::with_credential(url, &Credential::of_key(thing, key), ca_pem)
    }

    /// A device that shows `credential` to the server at `url`, of `http`, `https`, `ws`, `wss`, `mqtt`, `mqtts`, `coap` or
    /// `coaps`; `ca_pem` is the CA that signed the server's certificate, the machine's own CAs where absent.
    ///
    /// Over `coaps` the key is the one that both ends share, unless there is an identity: then both show certificates.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn with_credential(url: &str, credential: &Credential, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        let (scheme, address) = url.split_once("://").unwrap_or_default();
        let shows_identity = credential.identity.is_some() && matches!(scheme, "https" | "wss" | "mqtts" | "coaps");
        if credential.key.is_none() && !shows_identity {
            return Err(ClientError::Setup("a key is needed, or a certificate where TLS is spoken"));
        }
        match scheme {
            "http" | "https" => Ok(Self(Face::Http(HttpClient::new(url, credential, ca_pem)?))),
            "mqtt" | "mqtts" => Ok(Self(Face::Mqtt(MqttClient::new(address, scheme == "mqtts", credential, ca_pem)?))),
            "ws" | "wss" => Ok(Self(Face::Ws(WsClient::new(address, scheme == "wss", credential, ca_pem)?))),
            "coap" => Ok(Self(Face::Coap(CoapClient::new(address, credential)?))),
            "coaps" => Ok(Self(Face::Coap(CoapClient::over_dtls(address, credential, ca_pem)?))),
            _ => Err(ClientError::Setup(
                "the URL must begin with http://, https://, ws://, wss://, mqtt://, mqtts://, coap:// or coaps://",
            )),
        }
    }

    /// The name of the face.
    #[must_use]
    pub const fn face(&self) -> &'static str {
        match &self.0 {
            Face::Coap(_) => "coap",
            Face::Http(_) => "http",
            Face::Mqtt(_) => "mqtt",
            Face::Ws(_) => "ws",
        }
    }

    /// Publishes, and returns when the server has accepted it; over MQTT with QoS 0, when it is sent. Over CoAP with QoS 0
    /// what the server says within 2 s counts, and where it says nothing the message is sent.
    ///
    /// CoAP has words for the payload and for a few content types alone: whatever else is asked for of a message is
    /// [`ClientError::Setup`] there, and not left out in silence.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish(&self, address: &Address, publication: Publication) -> Result<(), ClientError> {
        match &self.0 {
            Face::Coap(client) => client.publish(address, publication).await,
            Face::Http(client) => client.publish(address, publication).await,
            Face::Mqtt(client) => client.publish(address, publication).await,
            Face::Ws(client) => client.publish(address, &publication).await,
        }
    }

    /// Subscribes, and returns when the server has accepted it. `qos` is the most that messages come with over MQTT.
    ///
    /// Over CoAP a subscription observes what is newest. A message may take the place of older ones that did not arrive, and
    /// what holds may come again: neither completeness nor order is promised, and no event says whose message it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn subscribe(&self, address: &Address, qos: QoS) -> Result<Subscription, ClientError> {
        Ok(Subscription(match &self.0 {
            Face::Coap(client) => Stream::Coap(client.subscribe(address).await?),
            Face::Http(client) => Stream::Http(Box::new(client.subscribe(address).await?)),
            Face::Mqtt(client) => Stream::Mqtt(Box::new(client.subscribe(address, qos).await?)),
            Face::Ws(client) => Stream::Ws(client.subscribe(address).await?),
        }))
    }

    /// Takes leave of the server: what was sent is out when this returns.
    pub async fn close(self) {
        match self.0 {
            // Whatever was sent is answered, or given up.
            Face::Coap(_) | Face::Http(_) => {}
            Face::Mqtt(client) => client.close().await,
            Face::Ws(client) => client.close().await,
        }
    }
}

/// An open subscription.
pub struct Subscription(Stream);

enum Stream {
    Coap(CoapSubscription),
    Http(Box<HttpSubscription>),
    Mqtt(Box<MqttSubscription>),
    Ws(WsSubscription),
}

impl Subscription {
    /// Waits for the next event; `None` when the stream is over.
    ///
    /// # Errors
    /// [`ClientError`] when the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        match &mut self.0 {
            Stream::Coap(subscription) => subscription.next().await,
            Stream::Http(subscription) => subscription.next().await,
            Stream::Mqtt(subscription) => subscription.next().await.map(Some),
            Stream::Ws(subscription) => subscription.next().await,
        }
    }
}
