//! One connection: reads packets into the session, does what the session asks, and writes what it says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tidegate_bridge::{BoxFuture, Delivery, Draft, Presence, Scope, Subscription, SubscriptionEvent};
use tidegate_model::{
    Credential, MessageId, Permit, Principal, Protocol, QoS as MessageQoS, Refusal, Topic, TopicFilter,
};
use tidegate_mqtt_proto::{
    Accepted, Connect, Delivery as Sent, Message, Output, Packet, PacketId, Properties, Property, Publish, QoS, Reason,
    Sender, Session, Shared, Text, Ticket, Wanted, Will, decode, encode, shared, split,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use uuid::Uuid;

use crate::MqttFace;
use crate::answer;
use crate::presence::Place;

/// How long a connection that we end may take to read our last words.
const LINGER: Duration = Duration::from_secs(1);
/// How long messages of a client that left may take to be confirmed.
const FINISH_MAX: Duration = Duration::from_secs(30);
/// A buffer that is larger than this is given back when it is empty.
const IDLE_BYTES_MAX: usize = 1_024;
/// Copies of messages that more than one filter matches, and that are still to come by the other filters.
const COPIES_MAX: usize = 1_024;

/// What was waited for.
enum Done {
    Login(Box<Connect>, Result<Principal, Refusal>),
    Published(Ticket, Result<(), Refusal>),
    Subscribed(Ticket, Vec<(Wanted, Result<Subscription, Refusal>)>),
    Event(Box<Heard>),
    /// Of a subscription that was given up meanwhile.
    Nothing,
}

/// A subscription, and what it tells.
struct Heard {
    filter: Text,
    subscription: Subscription,
    event: SubscriptionEvent,
}

/// A subscription that is being listened to.
struct Listening {
    scope: Scope,
    /// The channel as the client wrote it, so that its own filter matches what it gets.
    channel: String,
    stop: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

/// A client that is let in.
struct Client {
    presence: Presence,
    place: Place,
}

pub(crate) struct Connection<Io> {
    face: Arc<MqttFace>,
    io: Io,
    session: Session,
    input: BytesMut,
    output: BytesMut,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    client: Option<Client>,
    listening: BTreeMap<Text, Listening>,
    /// How many copies of a message are still to come by other filters.
    copies: HashMap<MessageId, usize>,
    /// What this client published lately, where it does not want that back.
    own: Option<VecDeque<MessageId>>,
    is_closing: bool,
}

#[expect(clippy::disallowed_methods, reason = "the face is a driver: it has the clock of its sessions")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the face is a driver: it names the messages that it takes in")]
fn message_id() -> MessageId {
    MessageId::parse(&Uuid::now_v7().to_string()).expect("a UUID has 36 characters")
}

#[expect(clippy::disallowed_methods, reason = "the face is a driver: it names the clients that do not")]
fn assigned_client_id() -> Text {
    Text::try_from(format!("tidegate-{}", Uuid::now_v7().simple()).as_str()).expect("no U+0000 in it")
}

impl<Io> Connection<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    pub(crate) fn new(face: Arc<MqttFace>, io: Io) -> Self {
        let session = Session::new(face.limits, now().into_std());
        Self {
            face,
            io,
            session,
            input: BytesMut::new(),
            output: BytesMut::new(),
            work: FuturesUnordered::new(),
            client: None,
            listening: BTreeMap::new(),
            copies: HashMap::new(),
            own: None,
            is_closing: false,
        }
    }

    pub(crate) async fn run(mut self) {
        let ended_by_peer = self.serve().await;
        self.listening.clear();
        if !ended_by_peer {
            // Without this, a reset could overtake our last words.
            let _ = tokio::time::timeout(LINGER, self.linger()).await;
        }
        let Self { face, session, client, mut work, .. } = self;
        let Some(Client { presence, place }) = client else { return };
        face.metrics.connections.dec();
        drop(place);
        // A client may go as soon as it has sent its last message.
        let finish = async { while work.next().await.is_some() {} };
        if tokio::time::timeout(FINISH_MAX, finish).await.is_err() {
            tracing::warn!("messages of a client that left were not confirmed in time");
        }
        if let Some(will) = session.into_ended().will {
            publish_will(&face, presence.principal(), will).await;
        }
    }

    async fn linger(&mut self) {
        if self.io.shutdown().await.is_err() {
            return;
        }
        let mut rest = [0; 512];
        while self.io.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    }

    /// Until either side ends it; whether that was the peer.
    async fn serve(&mut self) -> bool {
        let face = Arc::clone(&self.face);
        let mut leaving = std::pin::pin!(departure(&face).fuse());
        loop {
            if self.act().await.is_err() {
                return true;
            }
            if self.is_closing {
                return false;
            }
            let timeout = self.session.poll_timeout().map(Instant::from_std);
            let is_ready = self.session.is_ready();
            tokio::select! {
                biased;
                () = &mut leaving => self.session.end(Reason::ServerShuttingDown, None),
                () = lost(&mut self.client) => self.withdrawn(),
                Some(done) = self.work.next(), if !self.work.is_empty() => self.handle_done(done),
                () = sleep_until(timeout) => self.session.handle_timeout(now().into_std()),
                read = self.io.read_buf(&mut self.input), if is_ready => match read {
                    Ok(count) if count > 0 => {}
                    Ok(_) | Err(_) => return true,
                },
            }
            self.take_in();
        }
    }

    /// Hands the session what has come, as long as it is ready for it.
    fn take_in(&mut self) {
        while self.session.is_ready() && !self.is_closing {
            let version = self.session.version();
            let packet = split(&mut self.input, self.session.packet_bytes_max())
                .and_then(|frame| frame.map(|frame| decode(frame, version, Sender::Client)).transpose());
            match packet {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    self.face.metrics.received(packet.kind());
                    self.session.handle_packet(packet, now().into_std());
                }
                Err(error) => {
                    self.session.handle_malformed(error);
                    break;
                }
            }
        }
        if self.input.is_empty() && self.input.capacity() > IDLE_BYTES_MAX {
            self.input = BytesMut::new();
        }
    }

    /// Does what the session asks, and writes what it says in one go.
    async fn act(&mut self) -> std::io::Result<()> {
        let before = self.session.dropped();
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(packet) => self.say(&packet),
                Output::Login(connect) => self.login(connect),
                Output::Publish(ticket, publish) => self.publish(ticket, publish),
                Output::Subscribe(ticket, wanted) => self.subscribe(ticket, wanted),
                Output::Unsubscribe(ticket, filters) => {
                    filters.iter().for_each(|filter| drop(self.listening.remove(filter)));
                    self.session.unsubscribed(ticket, Ok(()));
                }
                Output::Close => self.is_closing = true,
            }
        }
        self.face.metrics.dropped(before, self.session.dropped());
        if !self.output.is_empty() {
            self.io.write_all(&self.output).await?;
            self.io.flush().await?;
            self.output.clear();
            if self.output.capacity() > IDLE_BYTES_MAX {
                self.output = BytesMut::new();
            }
        }
        Ok(())
    }

    fn say(&mut self, packet: &Packet) {
        match encode(packet, self.session.version(), &mut self.output) {
            Ok(()) => self.face.metrics.sent(packet.kind()),
            Err(error) => {
                tracing::error!(%error, "a packet cannot be written");
                self.is_closing = true;
            }
        }
    }

    fn login(&mut self, connect: Box<Connect>) {
        let face = Arc::clone(&self.face);
        self.work.push(Box::pin(async move {
            let outcome = authenticate(&face, &connect).await;
            Done::Login(connect, outcome)
        }));
    }

    fn publish(&mut self, ticket: Ticket, publish: Publish) {
        let Some(client) = &self.client else { return };
        let (face, principal) = (Arc::clone(&self.face), client.presence.principal().clone());
        let id = message_id();
        if let Some(own) = &mut self.own {
            own.push_back(id.clone());
            if own.len() > COPIES_MAX {
                own.pop_front();
            }
        }
        self.work.push(Box::pin(async move {
            let outcome = publish_one(&face, &principal, id, publish).await;
            Done::Published(ticket, outcome)
        }));
    }

    fn subscribe(&mut self, ticket: Ticket, wanted: Vec<Wanted>) {
        let Some(client) = &self.client else { return };
        let (face, principal) = (Arc::clone(&self.face), client.presence.principal().clone());
        self.work.push(Box::pin(async move {
            let mut outcomes = Vec::with_capacity(wanted.len());
            for one in wanted {
                let outcome = match TopicFilter::parse_mqtt(one.filter.as_str(), &face.topic) {
                    Ok(filter) => face.bridge.subscribe(&principal, filter, Protocol::Mqtt).await,
                    Err(refusal) => Err(refusal),
                };
                outcomes.push((one, outcome));
            }
            Done::Subscribed(ticket, outcomes)
        }));
    }

    fn handle_done(&mut self, done: Done) {
        match done {
            Done::Login(connect, outcome) => self.decide(&connect, outcome),
            Done::Published(ticket, outcome) => {
                let why = outcome.as_ref().err().map(ToString::to_string);
                let verdict = outcome.map_err(|refusal| answer::of_publish(&refusal));
                self.session.settle(ticket, verdict, why.as_deref());
            }
            Done::Subscribed(ticket, outcomes) => self.granted(ticket, outcomes),
            Done::Event(heard) => self.handle_event(*heard),
            Done::Nothing => {}
        }
    }

    fn decide(&mut self, connect: &Connect, outcome: Result<Principal, Refusal>) {
        let principal = match outcome {
            Ok(principal) => principal,
            Err(refusal) => {
                let why = refusal.to_string();
                return self.session.refuse(answer::of_connect(&refusal), Some(&why));
            }
        };
        let assigned = connect.client_id.is_empty().then(assigned_client_id);
        let client_id = assigned.clone().unwrap_or_else(|| connect.client_id.clone());
        let place = self.face.presences.take(principal.thing().clone(), client_id);
        let presence = self.face.bridge.presence(principal);
        self.client = Some(Client { presence, place });
        self.face.metrics.connections.inc();
        self.session.accept(Accepted { state: None, client_id: assigned }, now().into_std());
    }

    fn granted(&mut self, ticket: Ticket, outcomes: Vec<(Wanted, Result<Subscription, Refusal>)>) {
        let mut reasons = Vec::with_capacity(outcomes.len());
        let mut why = None;
        for (wanted, outcome) in outcomes {
            let is_shared = !matches!(shared(wanted.filter.as_str()), Shared::No);
            reasons.push(match outcome {
                Ok(subscription) => {
                    if wanted.options.no_local {
                        self.own.get_or_insert_default();
                    }
                    self.listen(wanted.filter, subscription);
                    Ok(wanted.options.qos)
                }
                Err(_) if is_shared => Err(Reason::SharedSubscriptionsNotSupported),
                Err(refusal) => {
                    why = why.or_else(|| Some(refusal.to_string()));
                    Err(answer::of_subscribe(&refusal))
                }
            });
        }
        self.session.subscribed(ticket, reasons, why.as_deref());
    }

    fn listen(&mut self, filter: Text, subscription: Subscription) {
        let scope = subscription.scope();
        let channel = filter.as_str().split('/').nth(1).unwrap_or_default().to_owned();
        let stop = self.next_event(filter.clone(), subscription);
        // One that was there before ends with this.
        self.listening.insert(filter, Listening { scope, channel, stop });
    }

    fn next_event(&mut self, filter: Text, mut subscription: Subscription) -> AbortHandle {
        let next = async move {
            let event = subscription.next().await;
            Done::Event(Box::new(Heard { filter, subscription, event }))
        };
        let (next, stop) = abortable(next);
        self.work.push(Box::pin(next.map(|done| done.unwrap_or(Done::Nothing))));
        stop
    }

    fn handle_event(&mut self, heard: Heard) {
        let Heard { filter, subscription, event } = heard;
        if !self.listening.contains_key(&filter) {
            return;
        }
        match event {
            SubscriptionEvent::Delivery(delivery) => self.deliver(&filter, &delivery),
            // MQTT has no word for it; the next message shows that the client is served again.
            SubscriptionEvent::Gap => {}
            SubscriptionEvent::Ended(tidegate_bridge::SubscriptionEnd::Revoked) => return self.withdrawn(),
            SubscriptionEvent::Ended(tidegate_bridge::SubscriptionEnd::Overrun) => {
                return self.session.end(Reason::QuotaExceeded, Some("messages were not taken in time"));
            }
        }
        let stop = self.next_event(filter.clone(), subscription);
        if let Some(listening) = self.listening.get_mut(&filter) {
            listening.stop = stop;
        }
    }

    /// Hands the session one copy of a message, whichever of its filters brings it first.
    fn deliver(&mut self, first: &Text, delivery: &Arc<Delivery>) {
        let message = &delivery.message;
        if let Some(left) = self.copies.get_mut(&message.id) {
            *left -= 1;
            if *left == 0 {
                self.copies.remove(&message.id);
            }
            return;
        }
        let matched = self.listening.iter().filter(|(_, listening)| listening.scope.matches(delivery));
        let matched: Vec<Text> = matched.map(|(filter, _)| filter.clone()).collect();
        if matched.len() > 1 && self.copies.len() < COPIES_MAX {
            self.copies.insert(message.id.clone(), matched.len() - 1);
        }
        let Some(listening) = self.listening.get(first) else { return };
        let suffix = delivery.subtopic.text().map(|text| format!("/{text}")).unwrap_or_default();
        let topic = format!("channels/{}/messages{suffix}", listening.channel);
        let Ok(topic) = Text::try_from(topic.as_str()) else { return };
        let left = message.expires_in.map(|span| {
            let age = self.face.bridge.now().saturating_since(message.received_at);
            now().into_std() + span.saturating_sub(age)
        });
        let content_type = Text::try_from(message.content_type.as_str()).ok().map(Property::ContentType);
        let said = Message {
            topic,
            payload: message.payload.clone(),
            qos: qos(message.qos),
            retain: false,
            properties: content_type.into_iter().collect(),
            expires: left,
        };
        let is_own = self.own.as_ref().is_some_and(|own| own.contains(&message.id));
        self.session.deliver(said, &matched, is_own, now().into_std());
    }

    fn withdrawn(&mut self) {
        let taken = self.client.as_mut().is_some_and(|client| client.place.is_taken());
        let reason = if taken { Reason::SessionTakenOver } else { Reason::NotAuthorized };
        self.session.end(reason, (!taken).then_some("access withdrawn"));
    }
}

/// Waits until the process ends and it is this connection's turn.
async fn departure(face: &MqttFace) {
    tokio::time::sleep(face.departures.turn_of_one().await).await;
}

/// Waits until the client's right, or its place, is gone.
async fn lost(client: &mut Option<Client>) {
    let Some(Client { presence, place }) = client else { return std::future::pending().await };
    tokio::select! {
        () = presence.revoked() => {}
        () = place.taken() => {}
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

const fn qos(qos: MessageQoS) -> QoS {
    match qos {
        MessageQoS::AtMostOnce => QoS::AtMostOnce,
        MessageQoS::AtLeastOnce => QoS::AtLeastOnce,
        MessageQoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

const fn message_qos(qos: QoS) -> MessageQoS {
    match qos {
        QoS::AtMostOnce => MessageQoS::AtMostOnce,
        QoS::AtLeastOnce => MessageQoS::AtLeastOnce,
        QoS::ExactlyOnce => MessageQoS::ExactlyOnce,
    }
}

/// Who the client is; and whether it may have the will that it wants.
async fn authenticate(face: &MqttFace, connect: &Connect) -> Result<Principal, Refusal> {
    let (Some(user), Some(password)) = (&connect.user_name, &connect.password) else {
        return Err(Refusal::Unauthenticated);
    };
    let credential = Credential::ThingKey { thing: user.as_str(), key: &password.0 };
    let principal = face.bridge.authenticate(&credential).await?;
    if let Some(will) = &connect.will {
        let topic = Topic::parse_mqtt(will.topic.as_str(), &face.topic)?;
        let permit = face.bridge.permit(&principal, topic)?;
        let content_type = content_type(&will.properties);
        face.bridge.admit(&permit, content_type.as_ref().map(Text::as_str), Some(will.payload.len() as u64))?;
    }
    Ok(principal)
}

fn content_type(properties: &Properties) -> Option<Text> {
    properties.find(|property| if let Property::ContentType(text) = property { Some(text) } else { None })
}

fn expiry(properties: &Properties) -> Option<Duration> {
    let seconds = properties
        .find(|property| if let Property::MessageExpiryInterval(seconds) = property { Some(seconds) } else { None });
    seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

async fn publish_one(face: &MqttFace, principal: &Principal, id: MessageId, publish: Publish) -> Result<(), Refusal> {
    let prepared = prepare(face, principal, id, publish);
    let (permit, draft) = prepared.inspect_err(|refusal| face.bridge.count_refused_publish(Protocol::Mqtt, refusal))?;
    face.bridge.publish(principal, permit, draft).await.map(drop)
}

fn prepare(
    face: &MqttFace,
    principal: &Principal,
    id: MessageId,
    publish: Publish,
) -> Result<(Permit, Draft), Refusal> {
    let topic = Topic::parse_mqtt(publish.topic.as_str(), &face.topic)?;
    let permit = face.bridge.permit(principal, topic)?;
    let bytes = publish.payload.len() as u64;
    let content_type = content_type(&publish.properties);
    let content_type = face.bridge.admit(&permit, content_type.as_ref().map(Text::as_str), Some(bytes))?;
    let draft = Draft {
        id,
        payload: publish.payload,
        content_type,
        protocol: Protocol::Mqtt,
        qos: message_qos(publish.delivery.qos()),
        expires_in: expiry(&publish.properties),
        traceparent: None,
    };
    Ok((permit, draft))
}

async fn publish_will(face: &MqttFace, principal: &Principal, will: Will) {
    let Will { qos, retain, properties, topic, payload } = will;
    // Nobody waits for its acknowledgement, so any name will do.
    let name = PacketId::new(1).expect("1 is not 0");
    let delivery = match qos {
        QoS::AtMostOnce => Sent::AtMostOnce,
        QoS::AtLeastOnce => Sent::AtLeastOnce { id: name, dup: false },
        QoS::ExactlyOnce => Sent::ExactlyOnce { id: name, dup: false },
    };
    let publish = Publish { delivery, retain, topic, properties, payload };
    if let Err(refusal) = publish_one(face, principal, message_id(), publish).await {
        tracing::debug!(%refusal, "a will is not published");
    }
}
