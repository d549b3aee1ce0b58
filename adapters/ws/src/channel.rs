//! A socket on a channel: frames are published in their order, and what the channel brings goes out as frames.
//!
//! One task owns the socket and takes one closed set of events. Nothing waits for a peer that does not read.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes};
use bytes::Bytes;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tidegate_bridge::{BoxFuture, Delivery, Draft, Presence, Subscription, SubscriptionEnd, SubscriptionEvent};
use tidegate_http::Received;
use tidegate_model::{ContentType, Permit, Principal, Protocol, QoS, Refusal, Topic, TopicFilter};
use tokio::time::Instant;

use crate::WsFace;
use crate::close::Close;
use crate::envelope::{self, Frame, FrameId, Malformed};
use crate::identity::MessageIds;
use crate::metrics::Counted;
use crate::socket::{Incoming, Socket, Stopped};

/// Messages and answers that are taken before they are written.
const BATCH_MAX: usize = 64;
/// Answers that may wait to be written while more is read.
const ANSWERS_MAX: usize = 64;
/// How long a socket whose right is withdrawn may wait for what is under way: the whole has a second.
const REVOKED_MAX: Duration = Duration::from_millis(500);

/// How client and server speak.
pub(crate) enum Speech {
    /// A frame is a payload, and has no answer.
    Plain {
        /// The content type of the handshake; the channel's where absent.
        content_type: Option<String>,
    },
    /// A frame is an envelope, and is answered: `tidegate.v1`.
    Answered,
}

/// What a socket was opened for.
pub(crate) struct Rights {
    pub(crate) wish: Wish,
    pub(crate) publishes: bool,
    /// Bytes of a payload, as the channel admits them.
    pub(crate) payload_bytes_max: u32,
    pub(crate) subscribes: bool,
}

/// What a client asks for.
pub(crate) struct Wish {
    pub(crate) filter: TopicFilter,
    /// Where frames go that name no other place; or why that is none to publish on.
    pub(crate) topic: Result<Topic, Refusal>,
    pub(crate) speech: Speech,
}

/// What became of a frame.
enum Outcome {
    /// The broker has it, or why it has not.
    Published(Result<(), Refusal>),
    /// It could not be read; the text says why.
    Malformed(&'static str),
}

struct Settled {
    /// What the client calls it; null on a plain socket.
    id: FrameId,
    payload_bytes: usize,
    outcome: Outcome,
}

/// What is waited for.
enum Event {
    /// The process ends, and it is this socket's turn.
    Departure,
    /// What it was opened for is withdrawn.
    Lost,
    Settled(Settled),
    Tick,
    Came(Result<Incoming, Stopped>),
    Told(SubscriptionEvent),
}

/// How a socket ends.
enum End {
    /// The server closes it.
    Close(Ending),
    /// The peer closed, and all that it sent is accepted.
    Part,
    /// The peer closed, and is to know that something it sent is not.
    PartWith(Close),
    /// The connection is gone.
    Gone,
}

/// What there is to do before the end.
enum Phase {
    Open,
    /// Frames under way are settled first.
    Closing(Ending),
    /// The same, where the peer wants to leave.
    Parting,
}

/// How the server closes it.
#[derive(Clone)]
struct Ending {
    close: Close,
    /// Whether the peer can still be understood.
    is_understood: bool,
    /// When it ends, whatever is still under way.
    by: Option<Instant>,
}

pub(crate) struct Channel {
    face: Arc<WsFace>,
    socket: Socket,
    received: Received,
    rights: Rights,
    presence: Presence,
    subscription: Option<Subscription>,
    ids: MessageIds,
    in_flight: FuturesOrdered<BoxFuture<'static, Settled>>,
    in_flight_bytes: usize,
    /// Answers that were said since all was on its way.
    answers: usize,
    /// Whether a frame was refused after which nothing is read.
    is_refused: bool,
    phase: Phase,
    heard: Heard,
    _counted: Counted,
}

#[expect(clippy::disallowed_methods, reason = "the face is a driver: it has the clock of its sockets")]
fn now() -> Instant {
    Instant::now()
}

/// When something was heard of a peer, and when it was asked.
struct Heard {
    at: Instant,
    asked_at: Instant,
    /// What had come by then.
    bytes: usize,
}

/// What a socket stands on.
pub(crate) struct Opened {
    pub(crate) received: Received,
    pub(crate) rights: Rights,
    pub(crate) presence: Presence,
    pub(crate) subscription: Option<Subscription>,
}

impl Channel {
    pub(crate) fn new(face: Arc<WsFace>, socket: Socket, opened: Box<Opened>) -> Box<Self> {
        let Opened { received, rights, presence, subscription } = *opened;
        let counted = face.metrics.connection(match rights.wish.speech {
            Speech::Plain { .. } => "plain",
            Speech::Answered => "tidegate.v1",
        });
        let heard = Heard { at: now(), asked_at: now(), bytes: received.bytes() };
        Box::new(Self {
            face,
            socket,
            received,
            rights,
            presence,
            subscription,
            ids: MessageIds::new(),
            in_flight: FuturesOrdered::new(),
            in_flight_bytes: 0,
            answers: 0,
            is_refused: false,
            phase: Phase::Open,
            heard,
            _counted: counted,
        })
    }

    /// Until it ends; what is still to be written on the connection.
    pub(crate) async fn run(mut self: Box<Self>) -> Bytes {
        let end = self.serve().await;
        // Its future is large, and as long as the socket is open, nobody needs it.
        Box::pin(self.leave(end)).await
    }

    /// Says why it ends, and sees to it that what is under way gets to the broker.
    async fn leave(self: Box<Self>, end: End) -> Bytes {
        let Self { face, socket, mut in_flight, subscription, .. } = *self;
        drop(subscription);
        if let End::Close(Ending { close, .. }) | End::PartWith(close) = &end {
            face.metrics.closed(close.code);
        }
        let last_words = async {
            match end {
                End::Close(Ending { close, is_understood, .. }) => socket.close(&close, is_understood).await,
                End::Part => socket.part().await,
                // The answer that the library holds ready says something else, and goes with it.
                End::PartWith(close) => return close.bytes(),
                End::Gone => {}
            }
            Bytes::new()
        };
        let settle = async { while in_flight.next().await.is_some() {} };
        tokio::join!(last_words, settle).0
    }

    async fn serve(&mut self) -> End {
        let face = Arc::clone(&self.face);
        let mut leaving = pin!(departure(&face).fuse());
        let mut tick = pin!(tokio::time::sleep_until(self.next_tick()));
        if self.is_answered() {
            let ready = envelope::ready(self.rights.publishes, self.rights.subscribes);
            if self.socket.say(ready).is_err() {
                return End::Gone;
            }
        }
        loop {
            if self.in_flight.is_empty() {
                match &self.phase {
                    Phase::Open => {}
                    Phase::Closing(ending) => return End::Close(ending.clone()),
                    Phase::Parting => return End::Part,
                }
            }
            let reads = self.reads();
            let takes = matches!(self.phase, Phase::Open) && self.socket.is_flushed();
            let watches = match &self.phase {
                Phase::Open => true,
                Phase::Closing(ending) => ending.by.is_none(),
                Phase::Parting => false,
            };
            // To write anything would answer the close frame of a peer that parts, and what is under way is still to be known.
            let is_parting = matches!(self.phase, Phase::Parting);
            let Self { face, socket, rights, presence, subscription, in_flight, .. } = self;
            let event = tokio::select! {
                biased;
                () = &mut leaving => Event::Departure,
                () = presence.lost(|principal| rights.stand(face, principal)), if watches => Event::Lost,
                Some(settled) = in_flight.next(), if !in_flight.is_empty() => Event::Settled(settled),
                () = &mut tick => Event::Tick,
                came = socket.next(reads), if !is_parting => Event::Came(came),
                told = told(subscription), if takes => Event::Told(told),
            };
            if matches!(event, Event::Tick) {
                if let Some(end) = self.look_after(reads) {
                    return end;
                }
                tick.as_mut().reset(self.next_tick());
            } else if let Some(end) = self.handle(event).or_else(|| self.take_more()) {
                return end;
            }
        }
    }

    const fn is_answered(&self) -> bool {
        matches!(self.rights.wish.speech, Speech::Answered)
    }

    /// Whether more is to be read: neither what waits for the broker nor what waits for the peer is without bounds.
    fn reads(&self) -> bool {
        let limits = &self.face.limits;
        let has_room = self.in_flight.len() < limits.in_flight_max && self.in_flight_bytes < limits.in_flight_bytes_max;
        let can_answer = self.socket.is_flushed() || self.answers < ANSWERS_MAX;
        has_room && can_answer && !self.is_refused && matches!(self.phase, Phase::Open)
    }

    fn next_tick(&self) -> Instant {
        let limits = &self.face.limits;
        let tick = (self.heard.asked_at + limits.ping_interval).min(self.heard.at + limits.idle_max);
        if let Phase::Closing(Ending { by: Some(by), .. }) = &self.phase { tick.min(*by) } else { tick }
    }

    /// Asks the peer for a sign of life when it is time, and gives it up when there was none.
    fn look_after(&mut self, reads: bool) -> Option<End> {
        let (now, bytes) = (now(), self.received.bytes());
        if let Phase::Closing(ending) = &self.phase
            && ending.by.is_some_and(|by| now >= by)
        {
            return Some(End::Close(ending.clone()));
        }
        // Whoever is not even read cannot be said to be silent.
        if bytes != self.heard.bytes || !reads {
            self.heard.at = now;
            self.heard.bytes = bytes;
        }
        if now >= self.heard.at + self.face.limits.idle_max {
            return self.close_after(Close::silent());
        }
        if now >= self.heard.asked_at + self.face.limits.ping_interval {
            self.heard.asked_at = now;
            if self.socket.is_flushed() && matches!(self.phase, Phase::Open) {
                return self.say(Message::Ping(Bytes::new()));
            }
        }
        None
    }

    fn handle(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Departure => self.close_after(Close::from(&Refusal::ShuttingDown)),
            Event::Lost => self.revoked(),
            Event::Settled(settled) => self.settle(settled),
            Event::Tick => None,
            Event::Came(came) => self.take_in(came),
            Event::Told(told) => self.hear(told),
        }
    }

    /// Takes what else is there by now, so that it is written in one go.
    fn take_more(&mut self) -> Option<End> {
        for _ in 0..BATCH_MAX {
            let Some(Some(settled)) = self.in_flight.next().now_or_never() else { break };
            if let Some(end) = self.settle(settled) {
                return Some(end);
            }
        }
        for _ in 0..BATCH_MAX {
            if !matches!(self.phase, Phase::Open) || !self.socket.has_room() {
                break;
            }
            let Some(told) = told(&mut self.subscription).now_or_never() else { break };
            if let Some(end) = self.hear(told) {
                return Some(end);
            }
        }
        None
    }

    /// Ends it with these words when what is under way is settled, unless it ends already.
    fn close_after(&mut self, close: Close) -> Option<End> {
        self.end(Ending { close, is_understood: true, by: None })
    }

    fn end(&mut self, ending: Ending) -> Option<End> {
        if matches!(self.phase, Phase::Open) {
            self.phase = Phase::Closing(ending);
        }
        None
    }

    /// Ends it soon: nothing more is told, and what is under way has little time to be answered.
    fn revoked(&mut self) -> Option<End> {
        self.subscription = None;
        if !matches!(self.phase, Phase::Parting) {
            let by = Some(now() + REVOKED_MAX);
            let ending = Ending { close: Close::from(&Refusal::Revoked), is_understood: true, by };
            self.phase = Phase::Closing(ending);
        }
        None
    }

    fn take_in(&mut self, came: Result<Incoming, Stopped>) -> Option<End> {
        let came = match came {
            Ok(came) => came,
            Err(Stopped::Gone) => return Some(End::Gone),
            Err(Stopped::Wrong(close)) => return self.end(Ending { close, is_understood: false, by: None }),
            Err(Stopped::TooLarge(close)) => {
                let close = self.too_large(close);
                return self.end(Ending { close, is_understood: false, by: None });
            }
        };
        if !matches!(came, Incoming::Flushed) {
            self.heard.at = now();
        }
        match came {
            Incoming::Text(text) if self.is_answered() => {
                self.take_frame(text.as_str());
            }
            Incoming::Text(text) => self.take_payload(text.into()),
            Incoming::Binary(_) if self.is_answered() => {
                self.settled(FrameId::Null, Outcome::Malformed("frames are text here"));
            }
            Incoming::Binary(bytes) => self.take_payload(bytes),
            Incoming::Closing => self.phase = Phase::Parting,
            Incoming::Alive | Incoming::Flushed => {}
        }
        None
    }

    /// How it ends by a message that is not even read; on a plain socket that is one that the channel does not admit.
    fn too_large(&self, close: Close) -> Close {
        let refusal = if self.rights.publishes {
            Refusal::PayloadTooLarge { bytes_max: self.rights.payload_bytes_max }
        } else {
            Refusal::Forbidden
        };
        self.face.bridge.count_refused_publish(Protocol::WebSocket, &refusal);
        if !self.is_answered() { Close::from(&refusal) } else { close }
    }

    /// A frame whose fate is known already; its turn comes after those before it.
    fn settled(&mut self, id: FrameId, outcome: Outcome) {
        self.in_flight.push_back(std::future::ready(Settled { id, payload_bytes: 0, outcome }).boxed());
    }

    fn take_payload(&mut self, payload: Bytes) {
        let Speech::Plain { content_type } = &self.rights.wish.speech else { return };
        let frame = Frame {
            id: FrameId::Null,
            payload,
            content_type: content_type.clone(),
            subtopic: None,
            qos: QoS::default(),
            retain: false,
            expiry: None,
            extras: None,
        };
        self.publish(frame);
    }

    fn take_frame(&mut self, text: &str) {
        match envelope::read(text) {
            Ok(frame) => self.publish(frame),
            Err(Malformed { id, why }) => self.settled(id, Outcome::Malformed(why)),
        }
    }

    fn publish(&mut self, frame: Frame) {
        let (id, payload_bytes) = (frame.id.clone(), frame.payload.len());
        match self.prepare(frame) {
            Ok((permit, draft)) => {
                let (face, principal) = (Arc::clone(&self.face), self.presence.principal().clone());
                let mut publishing = Box::pin(async move {
                    let published = face.bridge.publish(&principal, permit, draft).await;
                    Settled { id, payload_bytes, outcome: Outcome::Published(published.map(drop)) }
                });
                self.in_flight_bytes += payload_bytes;
                // What the broker need not be asked for is known at once: nothing that a plain socket says after it is taken.
                match publishing.as_mut().now_or_never() {
                    Some(settled) => {
                        let is_refused = matches!(settled.outcome, Outcome::Published(Err(_)));
                        self.is_refused |= is_refused && !self.is_answered();
                        self.in_flight.push_back(std::future::ready(settled).boxed());
                    }
                    None => self.in_flight.push_back(publishing),
                }
            }
            Err(refusal) => {
                tracing::debug!(thing = %self.presence.principal().thing(), %refusal, "a frame is refused");
                self.face.bridge.count_refused_publish(Protocol::WebSocket, &refusal);
                // Nothing that a plain socket says after a frame that is refused is taken for accepted.
                self.is_refused = !self.is_answered();
                self.settled(id, Outcome::Published(Err(refusal)));
            }
        }
    }

    fn prepare(&mut self, frame: Frame) -> Result<(Permit, Draft), Refusal> {
        let Frame { payload, content_type, subtopic, qos, retain, expiry, extras, .. } = frame;
        let (face, principal) = (&self.face, self.presence.principal());
        let topic = match subtopic {
            None => self.rights.wish.topic.clone()?,
            Some(text) => Topic::parse_url(self.rights.wish.filter.channel.clone(), &text, &face.limits.topic)?,
        };
        let permit = face.bridge.permit(principal, topic)?;
        let content_type = face.bridge.admit(&permit, content_type.as_deref(), Some(payload.len() as u64))?;
        let draft = Draft {
            id: self.ids.next(face.bridge.now()),
            payload,
            content_type,
            protocol: Protocol::WebSocket,
            qos,
            retain,
            expires_in: expiry.map(|seconds| Duration::from_secs(seconds.into())),
            traceparent: None,
            extras,
        };
        Ok((permit, draft))
    }

    fn settle(&mut self, settled: Settled) -> Option<End> {
        let Settled { id, payload_bytes, outcome } = settled;
        self.in_flight_bytes -= payload_bytes;
        let is_parting = matches!(self.phase, Phase::Parting);
        match (&self.rights.wish.speech, outcome) {
            (Speech::Plain { .. }, Outcome::Published(Ok(()))) => None,
            // What is half written cannot be followed by anything else, and no answer says enough.
            (Speech::Plain { .. }, Outcome::Published(Err(_))) if is_parting && !self.socket.is_flushed() => {
                Some(End::Gone)
            }
            (Speech::Plain { .. }, Outcome::Published(Err(refusal))) if is_parting => {
                Some(End::PartWith(Close::from(&refusal)))
            }
            (Speech::Plain { .. }, Outcome::Published(Err(refusal))) => self.close_after(Close::from(&refusal)),
            // Who leaves before the answer knows that there was none.
            (_, _) if is_parting => None,
            (_, Outcome::Published(Ok(()))) => self.answer(envelope::accepted(&id)),
            (_, Outcome::Published(Err(refusal))) => self.answer(envelope::refused(&id, &refusal)),
            (_, Outcome::Malformed(why)) => self.answer(envelope::malformed(&Malformed { id, why })),
        }
    }

    fn answer(&mut self, message: Message) -> Option<End> {
        self.answers = if self.socket.is_flushed() { 1 } else { self.answers + 1 };
        self.say(message)
    }

    fn hear(&mut self, told: SubscriptionEvent) -> Option<End> {
        let is_plain = !self.is_answered();
        match told {
            SubscriptionEvent::Delivery(delivery) if self.ids.made(&delivery.message.id) => None,
            SubscriptionEvent::Delivery(delivery) if is_plain => self.say(plain(&delivery)),
            SubscriptionEvent::Delivery(delivery) => {
                let message = envelope::message(&delivery, self.face.bridge.now());
                self.say(message)
            }
            SubscriptionEvent::Gap if is_plain => self.close_after(Close::gap()),
            SubscriptionEvent::Gap => self.say(envelope::gap()),
            SubscriptionEvent::Ended(SubscriptionEnd::Revoked) => self.revoked(),
            SubscriptionEvent::Ended(SubscriptionEnd::Overrun) => self.close_after(Close::overrun()),
        }
    }

    fn say(&mut self, message: Message) -> Option<End> {
        self.socket.say(message).is_err().then_some(End::Gone)
    }
}

impl Wish {
    /// Bytes of the payloads that may be published: where the socket is, or, where frames may name it, anywhere in the channel.
    pub(crate) fn payload_bytes_max(&self, face: &WsFace, principal: &Principal) -> Result<u32, Refusal> {
        if matches!(self.speech, Speech::Answered) {
            return face.bridge.payload_bytes_max(principal, &self.filter.channel);
        }
        let permit = face.bridge.permit(principal, self.topic.clone()?)?;
        Ok(permit.payload().bytes_max)
    }
}

impl Rights {
    /// Whether all that the socket was opened for still stands.
    fn stand(&self, face: &WsFace, principal: &Principal) -> bool {
        (!self.publishes || self.wish.payload_bytes_max(face, principal).is_ok())
            && (!self.subscribes || face.bridge.may_subscribe(principal, self.wish.filter.clone()).is_ok())
    }
}

/// Waits until the process ends and it is this socket's turn.
async fn departure(face: &WsFace) {
    tokio::time::sleep(face.departures.turn_of_one().await).await;
}

/// Waits for what the subscription tells; for ever where there is none.
async fn told(subscription: &mut Option<Subscription>) -> SubscriptionEvent {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

/// A message as a plain socket gets it: as text where it is text.
fn plain(delivery: &Delivery) -> Message {
    let message = &delivery.message;
    let payload = message.payload.clone();
    if !is_text(&message.content_type) {
        return Message::Binary(payload);
    }
    match Utf8Bytes::try_from(payload) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(message.payload.clone()),
    }
}

/// Whether a content type is one of text.
fn is_text(content_type: &ContentType) -> bool {
    let essence = content_type.essence();
    let ends = |end: &str| essence.len() >= end.len() && essence[essence.len() - end.len()..].eq_ignore_ascii_case(end);
    let begins = |begin: &str| essence.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin));
    begins("text/") || ["/json", "+json", "/xml", "+xml"].into_iter().any(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a socket takes of memory that says nothing, beside its buffer.
    #[test]
    fn a_socket_is_small() {
        fn size_of_future<F>(_: fn(Box<Channel>) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of::<Channel>() + size_of_future(Channel::run);
        assert!(bytes <= 2_500, "{bytes} bytes");
    }

    #[test]
    fn what_is_text_leaves_as_text() {
        let check = |content_type: &str, expected: bool| {
            assert_eq!(is_text(&ContentType::parse(content_type).unwrap()), expected, "{content_type}");
        };
        check("application/senml+json", true);
        check("Application/JSON; charset=utf-8", true);
        check("text/plain", true);
        check("application/xml", true);
        check("application/senml+cbor", false);
        check("application/octet-stream", false);
        check("application/jsonl", false);
        check("x/y", false);
    }
}
