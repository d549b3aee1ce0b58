//! The device's side of every face, for the command line, checks and load: HTTP, WebSocket, MQTT and CoAP.
//!
//! Owns the wire forms as a client sees them. Must not share code with the server: it would agree with its mistakes.

mod address;
mod coap;
mod error;
mod event;
mod http;
mod mqtt;
mod ws;

use bytes::Bytes;

pub use address::Address;
pub use error::{ClientError, Status};
pub use event::{Event, EventParser, MalformedEvent};

use coap::{CoapClient, CoapSubscription};
use http::{HttpClient, HttpSubscription};
use mqtt::{MqttClient, MqttSubscription};
use ws::{WsClient, WsSubscription};

/// How surely a message is to arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QoS {
    /// Level 0: over MQTT the server answers nothing, and a refusal ends the connection.
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

/// A device with its key, on the face that its URL names. Not `Debug`: it holds the key.
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
    /// A device that shows `key` as the Thing `thing` (empty, over HTTP and WebSocket: the key alone says who; over CoAP it
    /// does whatever this says) to the server at `url`, of `http`, `https`, `ws`, `wss`, `mqtt`, `mqtts` or `coap`; `ca_pem`
    /// is the CA that signed the server's certificate, the machine's own CAs where absent.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn new(url: &str, thing: &str, key: &str, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        match url.split_once("://") {
            Some(("http" | "https", _)) => Ok(Self(Face::Http(HttpClient::new(url, thing, key, ca_pem)?))),
            Some((scheme @ ("mqtt" | "mqtts"), address)) => {
                Ok(Self(Face::Mqtt(MqttClient::new(address, scheme == "mqtts", thing, key, ca_pem)?)))
            }
            Some((scheme @ ("ws" | "wss"), address)) => {
                Ok(Self(Face::Ws(WsClient::new(address, scheme == "wss", thing, key, ca_pem)?)))
            }
            Some(("coap", address)) => Ok(Self(Face::Coap(CoapClient::new(address, key)?))),
            Some(("coaps", _)) => Err(ClientError::Setup(
                "CoAP over DTLS, coaps://, is not spoken yet: use coap://, https://, wss:// or mqtts://",
            )),
            _ => Err(ClientError::Setup(
                "the URL must begin with http://, https://, ws://, wss://, mqtt://, mqtts:// or coap://",
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

    /// Publishes, and returns when the server has accepted it; over MQTT with QoS 0, when it is sent.
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
