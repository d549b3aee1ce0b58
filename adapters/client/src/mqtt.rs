//! A device that speaks MQTT 5: publishes over one connection, and subscribes over one each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::Transport;
use rumqttc::v5::mqttbytes::QoS as Level;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PubRecReason, Publish, PublishProperties, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as LoopEvent, EventLoop, MqttOptions, StateError};
use rustls::ClientConfig;
use tokio::sync::oneshot;

use crate::address::host_and_port;
use crate::error::{ClientError, Status};
use crate::event::Event;
use crate::tls::{Identity, roots};
use crate::{Address, Credential, Publication, QoS};

/// Where a server listens, if its URL does not say.
const PORT: u16 = 1883;
/// The same with TLS.
const PORT_TLS: u16 = 8883;
/// How long a connection may take to come about, in seconds: behind a Service, the next try may lead to a pod that lives.
const CONNECT_SECONDS_MAX: u64 = 4;
/// How often a silent connection is tried; one that does not answer by the next time is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Bytes of a packet that is received.
const PACKET_BYTES_MAX: u32 = 64 * 1_024 * 1_024;
/// Messages that wait for the connection.
const REQUESTS_MAX: usize = 1_024;
/// How long a publish may take; more than the server's own bound.
const PUBLISH_MAX: Duration = Duration::from_secs(60);
/// How long taking leave may take.
const CLOSE_MAX: Duration = Duration::from_secs(5);

type Answer = oneshot::Sender<Result<(), ClientError>>;

/// A device with its key. Not `Debug`: it holds the key.
#[derive(Clone)]
pub(crate) struct MqttClient {
    options: Arc<MqttOptions>,
    publisher: Arc<Mutex<Option<Arc<Publisher>>>>,
}

impl MqttClient {
    /// Of `address`, which is HOST or HOST:PORT.
    pub(crate) fn new(
        address: &str,
        is_tls: bool,
        credential: &Credential,
        ca_pem: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        let Credential { thing, key, identity } = credential;
        if thing.is_empty() && key.is_some() {
            return Err(ClientError::Setup(
                "over MQTT the Thing has to be named: --thing <namespace>.<name>, or its alias",
            ));
        }
        let (host, port) = host_and_port(address.trim_end_matches('/'), if is_tls { PORT_TLS } else { PORT })
            .ok_or(ClientError::Setup("the URL must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"))?;
        // Without a name of its own the server gives the device one, and no other device can take its connection over.
        // The library splits host and port at the last colon, and knows no brackets where it looks at a certificate.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut options = MqttOptions::new("", host, port);
        if let Some(key) = key {
            options.set_credentials(thing, key);
        }
        options.set_keep_alive(KEEP_ALIVE);
        options.set_connection_timeout(CONNECT_SECONDS_MAX);
        options.set_max_packet_size(Some(PACKET_BYTES_MAX));
        if is_tls {
            options.set_transport(Transport::tls_with_config(tls(ca_pem, identity.as_ref())?.into()));
        }
        Ok(Self { options: Arc::new(options), publisher: Arc::default() })
    }

    fn connection(&self) -> (AsyncClient, EventLoop) {
        AsyncClient::new(MqttOptions::clone(&self.options), REQUESTS_MAX)
    }

    pub(crate) async fn publish(&self, address: &Address, publication: Publication) -> Result<(), ClientError> {
        let answer = self.open_publisher().publish(address, publication)?;
        match tokio::time::timeout(PUBLISH_MAX, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(gone)) => Err(ClientError::Connection { operation: "publish", source: Box::new(gone) }),
            Err(elapsed) => Err(ClientError::Connection { operation: "publish", source: Box::new(elapsed) }),
        }
    }

    /// The connection that there is, or a new one.
    fn open_publisher(&self) -> Arc<Publisher> {
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = publisher.as_ref().filter(|open| !open.is_closed()) {
            return Arc::clone(open);
        }
        let (client, events) = self.connection();
        let waiting = Arc::<Mutex<Waiting>>::default();
        tokio::spawn(drive(events, Arc::clone(&waiting)));
        Arc::clone(publisher.insert(Arc::new(Publisher { client, waiting })))
    }

    pub(crate) async fn subscribe(&self, address: &Address, qos: QoS) -> Result<MqttSubscription, ClientError> {
        let (client, mut events) = self.connection();
        client
            .try_subscribe(address.topic(), level(qos))
            .map_err(|_| ClientError::Setup("no filter to subscribe to"))?;
        loop {
            let event = events.poll().await.map_err(|error| failed("subscribe", Arc::new(error)))?;
            let LoopEvent::Incoming(Packet::SubAck(answer)) = event else { continue };
            let reason = answer.return_codes.first().unwrap_or(&SubscribeReasonCode::Unspecified);
            if !matches!(reason, SubscribeReasonCode::Success(_)) {
                let detail = answer.properties.and_then(|properties| properties.reason_string);
                return Err(refused(format!("{reason:?}"), detail));
            }
            return Ok(MqttSubscription { events });
        }
    }

    pub(crate) async fn close(self) {
        let publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(publisher) = publisher.filter(|open| !open.is_closed()) else { return };
        let (tell, told) = oneshot::channel();
        publisher.waiting.lock().unwrap_or_else(PoisonError::into_inner).end = Some(tell);
        if publisher.client.try_disconnect().is_ok() {
            // Either it is out, or the connection is gone anyway.
            let _ = tokio::time::timeout(CLOSE_MAX, told).await;
        }
    }
}

/// Who waits for an answer of the server.
#[derive(Default)]
struct Waiting {
    /// Whose message has no name yet, in the order of the messages.
    unsent: VecDeque<Answer>,
    /// By the name of the message.
    sent: BTreeMap<u16, Answer>,
    /// Why the connection is over.
    failure: Option<Arc<ConnectionError>>,
    /// Who waits for the end of the connection.
    end: Option<oneshot::Sender<()>>,
}

impl Waiting {
    fn settle(&mut self, id: u16, outcome: Result<(), ClientError>) {
        if let Some(answer) = self.sent.remove(&id) {
            // Who does not wait any more need not be told.
            let _ = answer.send(outcome);
        }
    }

    fn fail(&mut self, error: ConnectionError) {
        let error = Arc::clone(self.failure.insert(Arc::new(error)));
        for answer in std::mem::take(&mut self.sent).into_values().chain(std::mem::take(&mut self.unsent)) {
            let _ = answer.send(Err(failed("publish", Arc::clone(&error))));
        }
        self.end = None;
    }
}

/// A connection that messages go over.
struct Publisher {
    client: AsyncClient,
    waiting: Arc<Mutex<Waiting>>,
}

impl Publisher {
    fn is_closed(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).failure.is_some()
    }

    fn publish(
        &self,
        address: &Address,
        publication: Publication,
    ) -> Result<oneshot::Receiver<Result<(), ClientError>>, ClientError> {
        let topic = address.topic();
        if topic.contains(['+', '#']) {
            return Err(ClientError::Setup("a wildcard is out of place in a topic to publish to"));
        }
        let Publication { content_type, qos, retain, expiry, user_properties, payload } = publication;
        let message_expiry_interval = expiry;
        let properties = PublishProperties {
            content_type,
            message_expiry_interval,
            user_properties,
            ..PublishProperties::default()
        };
        let (answer, answered) = oneshot::channel();
        // Both under the lock: the order of who waits is the order of the messages.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &waiting.failure {
            return Err(failed("publish", Arc::clone(failure)));
        }
        let sent = self.client.try_publish_with_properties(topic, level(qos), retain, payload, properties);
        sent.map_err(|_| ClientError::Setup("too many messages at once"))?;
        waiting.unsent.push_back(answer);
        Ok(answered)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Where it is not heard, the server notices the end of the process.
        let _ = self.client.try_disconnect();
    }
}

/// Runs a publisher's connection to its end.
async fn drive(mut events: EventLoop, waiting: Arc<Mutex<Waiting>>) {
    loop {
        let event = events.poll().await;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let event = match event {
            Ok(event) => event,
            Err(error) => return waiting.fail(error),
        };
        if let LoopEvent::Outgoing(Outgoing::Publish(id)) = event {
            let Some(answer) = waiting.unsent.pop_front() else { continue };
            waiting.sent.insert(id, answer);
            // One without a name is not answered: that it is out is all that there is.
            if id == 0 {
                waiting.settle(id, Ok(()));
            }
        } else if let LoopEvent::Incoming(Packet::PubAck(answer)) = event {
            let is_taken = matches!(answer.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
            let detail = answer.properties.and_then(|properties| properties.reason_string);
            let outcome = if is_taken { Ok(()) } else { Err(refused(format!("{:?}", answer.reason), detail)) };
            waiting.settle(answer.pkid, outcome);
        } else if let LoopEvent::Incoming(Packet::PubRec(answer)) = event {
            if !matches!(answer.reason, PubRecReason::Success | PubRecReason::NoMatchingSubscribers) {
                let detail = answer.properties.and_then(|properties| properties.reason_string);
                waiting.settle(answer.pkid, Err(refused(format!("{:?}", answer.reason), detail)));
            }
        } else if let LoopEvent::Incoming(Packet::PubComp(answer)) = event {
            waiting.settle(answer.pkid, Ok(()));
        }
    }
}

/// An open subscription, with a connection of its own.
pub(crate) struct MqttSubscription {
    events: EventLoop,
}

impl MqttSubscription {
    pub(crate) async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            match self.events.poll().await {
                Ok(LoopEvent::Incoming(Packet::Publish(publish))) => return Ok(event(publish)),
                Ok(LoopEvent::Incoming(_) | LoopEvent::Outgoing(_)) => {}
                Err(error) => return Err(failed("receive", Arc::new(error))),
            }
        }
    }
}

fn event(publish: Publish) -> Event {
    let properties = publish.properties.unwrap_or_default();
    Event {
        kind: "message".to_owned(),
        topic: Some(String::from_utf8_lossy(&publish.topic).into_owned()),
        content_type: properties.content_type,
        user_properties: properties.user_properties,
        payload: publish.payload.to_vec(),
        ..Event::default()
    }
}

fn tls(ca_pem: Option<&[u8]>, identity: Option<&Identity>) -> Result<ClientConfig, ClientError> {
    let builder = ClientConfig::builder().with_root_certificates(roots(ca_pem)?);
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    builder
        .with_client_auth_cert(identity.chain().to_vec(), identity.key())
        .map_err(|_| ClientError::Setup("no TLS with these certificates"))
}

const fn level(qos: QoS) -> Level {
    match qos {
        QoS::AtMostOnce => Level::AtMostOnce,
        QoS::AtLeastOnce => Level::AtLeastOnce,
        QoS::ExactlyOnce => Level::ExactlyOnce,
    }
}

fn refused(reason: String, detail: Option<String>) -> ClientError {
    let detail = detail.unwrap_or_else(|| "no reason given".to_owned());
    ClientError::Refused { status: Status::Mqtt(reason), detail }
}

/// What the end of a connection means to who was waiting.
fn failed(operation: &'static str, error: Arc<ConnectionError>) -> ClientError {
    if let ConnectionError::ConnectionRefused(code)
    | ConnectionError::MqttState(StateError::ConnFail { reason: code }) = &*error
    {
        return refused(format!("{code:?}"), None);
    }
    if let ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) = &*error {
        return refused(format!("{reason_code:?}"), reason_string.clone());
    }
    if let ConnectionError::MqttState(StateError::OutgoingPacketTooLarge { .. }) = &*error {
        return refused("PacketTooLarge".to_owned(), Some("the message is larger than the server takes".to_owned()));
    }
    ClientError::Connection { operation, source: Box::new(error) }
}
