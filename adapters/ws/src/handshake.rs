//! From a request to a socket: what is refused before there is one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Response, Version, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tidegate_bridge::BoxFuture;
use tidegate_http::{Problem, Proof, Received, Switch, Upgrade, names, query};
use tidegate_model::{CertificateNames, Protocol, Refusal, Topic, TopicFilter};
use tokio::sync::oneshot;

use crate::channel::{Channel, Opened, Rights, Speech, Wish};
use crate::socket::Socket;
use crate::{WsFace, mqtt};

/// The prefix that an ingress would strip.
const PREFIX: &str = "/ws";
/// Where MQTT is spoken.
const MQTT_PATH: &str = "/mqtt";
/// The subprotocols of MQTT, in the order of preference.
const MQTT_PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// The subprotocol in which each frame is answered.
const ANSWERED: &str = "tidegate.v1";
/// What is read at once, in bytes: the buffer that each socket has for as long as it is open.
const READ_BYTES: usize = 1_024;
/// What is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 16 * 1_024;
/// Bytes of a message on a socket that may publish nothing.
const MESSAGE_BYTES_MAX: u32 = 4 * 1_024;
/// Bytes of a control frame, which a channel's bound is not about.
//= RFC6455 5.5
const CONTROL_BYTES_MAX: usize = 125;
/// What JSON makes of one byte, at most: `\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;
/// What an envelope has beside its payload, in bytes: the longest topic, and as much as may be said beside a payload.
const ENVELOPE_BYTES_MAX: usize = 192 * 1_024;

/// The sockets that one listener has.
#[derive(Clone)]
pub struct Sockets {
    /// Whose they are.
    pub face: Arc<WsFace>,
    /// Whether there are sockets on channels, and not those of MQTT alone.
    pub channels: bool,
}

impl Upgrade for Sockets {
    fn owns(&self, path: &str) -> bool {
        path == MQTT_PATH || path.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('/'))
    }

    fn upgrade(&self, head: Parts) -> BoxFuture<'_, Result<Switch, Problem>> {
        let path = head.uri.path();
        let path = path.strip_prefix(PREFIX).filter(|rest| rest.starts_with('/')).unwrap_or(path).to_owned();
        Box::pin(async move {
            if path == MQTT_PATH {
                return self.face.speak_mqtt(head).await;
            }
            if !self.channels {
                return Err(Refusal::UnknownPath.into());
            }
            Arc::clone(&self.face).open(&path, head).await
        })
    }
}

impl WsFace {
    /// Opens a socket on a channel.
    async fn open(self: Arc<Self>, path: &str, head: Parts) -> Result<Switch, Problem> {
        let mut filter = TopicFilter::parse_path(path, &self.limits.topic)?;
        let (query, received) = (head.uri.query().map(str::to_owned), head.extensions.get().cloned());
        let received: Received = received.unwrap_or_default();
        let proof = Proof::read(&head);
        let content_type = content_type(&head.headers, query.as_deref())?;
        let listens = query::flag(query.as_deref(), "subscribe", true, "subscribe is true or false")?;
        let handshake = self.handshake(head).await?;
        let principal = proof?.principal(&self.bridge).await?;

        let (handshake, is_answered) = handshake.choose(&[ANSWERED]);
        // A path with wildcards is none to publish on.
        let mut topic = Topic::parse_path(path, &self.limits.topic);
        // By its id from now on: what the reference means may become another channel.
        filter.channel = self.bridge.channel(&principal, &filter.channel)?;
        if let Ok(topic) = &mut topic {
            topic.channel = filter.channel.clone();
        }
        let speech = if is_answered { Speech::Answered } else { Speech::Plain { content_type } };
        let wish = Wish { filter, topic, speech };
        let publishes = wish.payload_bytes_max(&self, &principal);
        let filter = || wish.filter.clone();
        let subscription = match (self.bridge.may_subscribe(&principal, filter()), &publishes) {
            (_, Err(refusal)) if !listens => return Err(refusal.clone().into()),
            (Err(Refusal::Forbidden), Ok(_)) => None,
            (Ok(()), _) if !listens => None,
            (Ok(()) | Err(_), _) => Some(self.bridge.subscribe(&principal, filter(), Protocol::WebSocket).await?),
        };
        let payload_bytes_max = *publishes.as_ref().unwrap_or(&MESSAGE_BYTES_MAX);
        let bytes_max = if is_answered {
            let text_bytes_max = (payload_bytes_max as usize).saturating_mul(ESCAPED_BYTES_MAX);
            text_bytes_max.saturating_add(ENVELOPE_BYTES_MAX)
        } else {
            payload_bytes_max as usize
        };
        let rights =
            Rights { wish, publishes: publishes.is_ok(), payload_bytes_max, subscribes: subscription.is_some() };
        let (response, socket) = handshake.accept(bytes_max);
        let presence = self.bridge.presence(principal);
        // What a future takes along, it has room for as long as it is there.
        let opened = Box::new(Opened { received, rights, presence, subscription });
        let session = Box::pin(async move {
            let Some(socket) = socket.await else { return Bytes::new() };
            Channel::new(self, socket, opened).run().await
        });
        Ok(Switch { response, session })
    }

    /// Has MQTT spoken on a socket.
    //= MQTT5 6.0.0-4
    //= MQTT3 6.0.0-4
    async fn speak_mqtt(self: &Arc<Self>, head: Parts) -> Result<Switch, Problem> {
        let received: Received = head.extensions.get().cloned().unwrap_or_default();
        let certificate: Option<Arc<CertificateNames>> = head.extensions.get().cloned();
        let (handshake, is_offered) = self.handshake(head).await?.choose(&MQTT_PROTOCOLS);
        if !is_offered {
            return Err(Problem::BadHandshake("Sec-WebSocket-Protocol must offer mqtt or mqttv3.1"));
        }
        let (response, socket) = handshake.accept(self.limits.mqtt_message_bytes_max);
        let face = Arc::clone(self);
        let session = Box::pin(async move {
            let Some(socket) = socket.await else { return Bytes::new() };
            let _counted = face.metrics.connection("mqtt");
            let ended_by = Arc::default();
            let stream = mqtt::Bytestream::new(socket, received, Arc::clone(&ended_by));
            Arc::clone(&face.mqtt).serve_telling(stream, Some(ended_by), certificate).await;
            Bytes::new()
        });
        Ok(Switch { response, session })
    }

    /// What every socket asks of a request.
    async fn handshake(&self, head: Parts) -> Result<Handshake, Problem> {
        let mut origins = head.headers.get_all(header::ORIGIN).iter();
        if let Some(admitted) = &self.limits.origins
            && !origins.all(|origin| origin.to_str().is_ok_and(|origin| admitted.contains(origin)))
        {
            return Err(Problem::ForeignOrigin);
        }
        if self.departures.subscribe().borrow().is_some() {
            return Err(Refusal::ShuttingDown.into());
        }
        Handshake::read(head).await
    }
}

/// A request for a socket that is in order.
pub struct Handshake {
    upgrade: WebSocketUpgrade,
    /// The subprotocols that the client offers, in its order.
    offered: Vec<HeaderValue>,
}

impl Handshake {
    /// Reads a request's.
    ///
    /// # Errors
    /// [`Problem`] when it is none, or not of the version that is spoken.
    //= RFC6455 4.2.1, 4.4
    pub async fn read(mut head: Parts) -> Result<Self, Problem> {
        let headers = &head.headers;
        if head.version != Version::HTTP_11 || !names(headers, &header::UPGRADE, "websocket") {
            return Err(Problem::UpgradeRequired);
        }
        if head.method != Method::GET {
            return Err(Problem::BadHandshake("a WebSocket handshake is a GET"));
        }
        if !names(headers, &header::CONNECTION, "upgrade") {
            return Err(Problem::BadHandshake("Connection must name the upgrade"));
        }
        if !headers.get_all(header::SEC_WEBSOCKET_VERSION).iter().eq(["13"]) {
            return Err(Problem::UpgradeRequired);
        }
        let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
        let key = keys.next().and_then(|key| STANDARD.decode(key.as_bytes()).ok());
        if key.is_none_or(|key| key.len() != 16) || keys.next().is_some() {
            return Err(Problem::BadHandshake("Sec-WebSocket-Key is 16 bytes in base64"));
        }
        let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let offered = offered.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let offered = offered.filter_map(|name| HeaderValue::from_bytes(name.trim_ascii()).ok()).collect();
        // As the library looks for them, however they were spread over headers.
        head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &()).await;
        let upgrade = upgrade.map_err(|_| Problem::BadHandshake("this connection cannot be upgraded"))?;
        Ok(Self { upgrade, offered })
    }

    /// Agrees on the first of these subprotocols that is offered, by our preference; whether there is one. One that is not
    /// known is passed over.
    //= RFC6455 4.2.2
    #[must_use]
    pub fn choose(mut self, known: &[&'static str]) -> (Self, bool) {
        let chosen = known.iter().find(|known| self.offered.iter().any(|offered| offered == **known));
        if let Some(chosen) = chosen {
            self.upgrade.set_selected_protocol(HeaderValue::from_static(chosen));
        }
        (self, chosen.is_some())
    }

    /// The answer, and the socket once the answer is out, for messages of at most so many bytes. Nothing where the
    /// connection has broken by then.
    pub fn accept(self, bytes_max: usize) -> (Response<Body>, impl Future<Output = Option<Socket>> + Send + use<>) {
        let (opened, socket) = oneshot::channel();
        let upgrade = self
            .upgrade
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(WRITE_BYTES)
            .max_frame_size(bytes_max.max(CONTROL_BYTES_MAX))
            .max_message_size(bytes_max);
        let response = upgrade.on_upgrade(async move |socket| {
            // Whoever does not wait for it lets it go.
            let _ = opened.send(socket);
        });
        (response, async move { socket.await.ok().map(Socket::new) })
    }
}

/// The content type of a plain socket's frames: the header's, or the query's.
fn content_type(headers: &HeaderMap, query: Option<&str>) -> Result<Option<String>, Problem> {
    const WRONG: Problem = Problem::BadQuery("one content type of text is needed");
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map(|text| Some(text.to_owned())).map_err(|_| WRONG),
        (Some(_), Some(_)) => Err(WRONG),
        (None, _) => {
            let asked = query::once(query, "content-type")?;
            asked.map(|bytes| String::from_utf8(bytes.into_owned()).map_err(|_| WRONG)).transpose()
        }
    }
}
