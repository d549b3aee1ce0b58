//! One connection: reads packets into the session, does what the session asks, and writes what it says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tidegate_bridge::{BoxFuture, Delivery, GroupName, Overflow, Presence, Subscription, Terms, fresh_message_id};
use tidegate_containment::contained;
use tidegate_model::{CertificateNames, Principal, Protocol, Refusal, TopicFilter};
use tidegate_mqtt_proto::{
    Accepted, Connect, Dropped, Output, Packet, Publish, Reason, RetainHandling, Sender, Session, Shared, Text, Ticket,
    Wanted, decode, encode, shared, split,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use uuid::Uuid;

use crate::answer;
use crate::listeners::{Listeners, News};
use crate::message::of_delivery;
use crate::metrics::{Counted, Depth};
use crate::sessions::{Away, Holder, sleep_until, take_in};
use crate::{MqttFace, now};

/// How long a connection that we end may take to read our last words.
const LINGER: Duration = Duration::from_secs(1);
/// How long messages of a client that left may take to be confirmed.
const FINISH_MAX: Duration = Duration::from_secs(30);
/// The same where another connection waits for the session.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// A buffer that is larger than this is given back when it is empty.
const IDLE_BYTES_MAX: usize = 1_024;
/// Bytes that are read ahead of what the session is ready for.
const INPUT_BYTES_AHEAD: usize = 16 * 1_024;
/// Messages and answers that are taken before what came of them is written.
const BATCH_MAX: usize = 64;
/// Bytes that wait to be written before the session is asked for more, and the client for more.
const OUTPUT_BYTES_HIGH: usize = 64 * 1_024;

/// What was waited for.
enum Done {
    Login(Box<Connect>, Result<Box<Welcome>, Refusal>),
    Published(Ticket, Result<(), Refusal>),
    Subscribed(Ticket, Vec<Wanted>, Outcomes),
}

/// What came of each filter. Where there is no subscription, the one that there is goes on.
type Outcomes = BTreeMap<Text, Result<Option<Subscription>, Refusal>>;

/// What a client wants of its subscriptions.
enum Wish {
    Subscribe(Ticket, Vec<Wanted>),
    Unsubscribe(Ticket, Vec<Text>),
}

/// A client that may come in, and what there is of its session.
struct Welcome {
    presence: Presence,
    holder: Holder,
    /// The name that it gets, where it says none.
    assigned: Option<Text>,
    away: Option<Away>,
}

/// A client that is let in.
struct Client {
    presence: Presence,
    holder: Holder,
    depth: Depth,
    _counted: Counted,
}

pub(crate) struct Connection<Io> {
    face: Arc<MqttFace>,
    reader: ReadHalf<Io>,
    writer: WriteHalf<Io>,
    session: Session,
    input: BytesMut,
    output: BytesMut,
    /// Whether something was written that may not be on its way yet.
    is_unflushed: bool,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    client: Option<Box<Client>>,
    listeners: Listeners,
    /// In their order, each after the one before.
    wishes: VecDeque<Wish>,
    /// What is kept of what the client has subscribed to, and is still to be sent, each with its filter.
    retained: VecDeque<(Text, Arc<Delivery>)>,
    /// What was counted of what was dropped.
    dropped: Dropped,
    is_subscribing: bool,
    is_closing: bool,
    /// Whether the client says nothing more; it may still read.
    is_half_closed: bool,
    /// Where it is told why it was ended by this side.
    ended_by: Option<Arc<OnceLock<Reason>>>,
    /// What the client's certificate says, if it showed one.
    certificate: Option<Arc<CertificateNames>>,
}

#[expect(clippy::disallowed_methods, reason = "the face is a driver: it names the clients that do not")]
fn assigned_client_id() -> Text {
    Text::try_from(format!("tidegate-{}", Uuid::now_v7().simple()).as_str()).expect("no U+0000 in it")
}

impl<Io> Connection<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    pub(crate) fn new(
        face: Arc<MqttFace>,
        io: Io,
        ended_by: Option<Arc<OnceLock<Reason>>>,
        certificate: Option<Arc<CertificateNames>>,
    ) -> Box<Self> {
        let session = Session::new(face.limits, now().into_std());
        let (reader, writer) = tokio::io::split(io);
        Box::new(Self {
            face,
            reader,
            writer,
            session,
            input: BytesMut::new(),
            output: BytesMut::new(),
            is_unflushed: false,
            work: FuturesUnordered::new(),
            client: None,
            listeners: Listeners::default(),
            wishes: VecDeque::new(),
            retained: VecDeque::new(),
            dropped: Dropped::default(),
            is_subscribing: false,
            is_closing: false,
            is_half_closed: false,
            ended_by,
            certificate,
        })
    }

    pub(crate) async fn run(mut self: Box<Self>, half_open: SemaphorePermit<'_>) {
        let ended_by_peer = self.serve(half_open).await;
        // Its future is large, and as long as the connection is there, nobody needs it.
        Box::pin(self.leave(ended_by_peer)).await;
    }

    /// Says its last words, and does with the session what is to be done.
    async fn leave(self: Box<Self>, ended_by_peer: bool) {
        if let (Some(told), Some(reason)) = (&self.ended_by, self.session.ended_by()) {
            // It is told once.
            let _ = told.set(reason);
        }
        let Self { face, mut session, mut client, work, mut listeners, reader, writer, output, dropped, .. } = *self;
        let last_words = async {
            // Without this, a reset could overtake them.
            if !ended_by_peer {
                let _ = tokio::time::timeout(LINGER, linger(reader, writer, &output)).await;
            }
        };
        let depart = async {
            finish(&face, &mut session, work, &mut listeners, &mut client).await;
            face.metrics.dropped(dropped, session.dropped());
            let Some(client) = client else { return };
            let Client { holder, .. } = *client;
            holder.leave(&face, session.into_ended(), listeners).await;
        };
        tokio::join!(last_words, depart);
    }

    /// Until either side ends it; whether that was the peer.
    async fn serve(&mut self, half_open: SemaphorePermit<'_>) -> bool {
        let mut half_open = Some(half_open);
        let face = Arc::clone(&self.face);
        let mut leaving = std::pin::pin!(departure(&face).fuse());
        loop {
            self.act();
            if self.is_closing {
                return false;
            }
            let is_ready = self.session.is_ready() && self.output.len() < OUTPUT_BYTES_HIGH;
            // Some more is read, so that a PINGREQ is found among it.
            let reads = !self.is_half_closed && (is_ready || self.input.len() < INPUT_BYTES_AHEAD);
            // Whoever is not even read cannot be said to be silent; one that takes nothing either ends by its stalled writes.
            let timeout = self.session.poll_timeout().filter(|_| reads || self.is_half_closed).map(Instant::from_std);
            let to_write = !self.output.is_empty() || self.is_unflushed;
            if self.is_half_closed && self.work.is_empty() && !to_write {
                return true;
            }
            tokio::select! {
                biased;
                () = &mut leaving => self.session.end(Reason::ServerShuttingDown, Some("this server ends; another may be there")),
                () = lost(&mut self.client) => self.withdrawn(),
                Some(done) = self.work.next(), if !self.work.is_empty() => self.handle_done(done),
                () = sleep_until(timeout) => self.session.handle_timeout(now().into_std()),
                written = write(&mut self.writer, &mut self.output, &mut self.is_unflushed), if to_write => {
                    match written {
                        Ok(count) => self.face.metrics.sent.count_bytes(count),
                        Err(_gone) => return true,
                    }
                }
                read = self.reader.read_buf(&mut self.input), if reads => match read {
                    Ok(0) => self.is_half_closed = true,
                    Ok(count) => self.face.metrics.received.count_bytes(count),
                    Err(_gone) => return true,
                },
                news = self.listeners.next() => self.handle_news(news),
            }
            if self.client.is_some() {
                drop(half_open.take());
            }
            self.take_in();
            self.take_more();
        }
    }

    /// Takes what else is there by now, so that it is written in one go.
    fn take_more(&mut self) {
        for _ in 0..BATCH_MAX {
            let Some(Some(done)) = self.work.next().now_or_never() else { break };
            self.handle_done(done);
        }
        for _ in 0..BATCH_MAX {
            let Some(news) = self.listeners.next().now_or_never() else { break };
            self.handle_news(news);
        }
    }

    /// Hands the session what has come, as long as it is ready for it.
    fn take_in(&mut self) {
        while self.session.is_ready() && self.output.len() < OUTPUT_BYTES_HIGH && !self.is_closing {
            let version = self.session.version();
            let packet = split(&mut self.input, self.session.packet_bytes_max())
                .and_then(|frame| frame.map(|frame| decode(frame, version, Sender::Client)).transpose());
            match packet {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    self.face.metrics.received.count(&packet);
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
        if !self.session.is_ready() && self.session.answers_pings() && self.output.len() < OUTPUT_BYTES_HIGH {
            self.answer_pings();
        }
    }

    /// Answers each PINGREQ among what is not handled yet: a broker that is slow must not look like a server that is gone.
    fn answer_pings(&mut self) {
        let now = now().into_std();
        let mut pings = 0;
        self.input = without_pings(std::mem::take(&mut self.input), &mut pings);
        for _ in 0..pings {
            self.face.metrics.received.count(&Packet::PingReq);
        }
        self.session.handle_pings_ahead(pings, now);
    }

    /// Does what the session asks, as long as there is room for what it says; all of it when it is over.
    fn act(&mut self) {
        while (self.output.len() < OUTPUT_BYTES_HIGH || self.session.is_over())
            && let Some(output) = self.session.poll_output()
        {
            match output {
                Output::Send(packet) => self.say(&packet),
                Output::Login(connect) => self.login(connect),
                Output::Publish(ticket, publish) => self.publish(ticket, publish),
                Output::Subscribe(ticket, wanted) => self.wish(Wish::Subscribe(ticket, wanted)),
                Output::Unsubscribe(ticket, filters) => self.wish(Wish::Unsubscribe(ticket, filters)),
                Output::Close => self.is_closing = true,
            }
        }
        self.feed_retained();
        let dropped = self.session.dropped();
        self.face.metrics.dropped(std::mem::replace(&mut self.dropped, dropped), dropped);
        if let Some(client) = &mut self.client {
            client.depth.set(self.session.waiting());
        }
        if self.output.is_empty() && self.output.capacity() > IDLE_BYTES_MAX {
            self.output = BytesMut::new();
        }
    }

    fn say(&mut self, packet: &Packet) {
        match encode(packet, self.session.version(), &mut self.output) {
            Ok(()) => self.face.metrics.sent.count(packet),
            Err(error) => {
                tracing::error!(%error, "a packet cannot be written");
                self.is_closing = true;
            }
        }
    }

    fn login(&mut self, connect: Box<Connect>) {
        // One login is all that there is.
        let (face, certificate) = (Arc::clone(&self.face), self.certificate.take());
        self.work.push(Box::pin(async move {
            let outcome = welcome(&face, &connect, certificate.as_deref()).await;
            Done::Login(connect, outcome.map(Box::new))
        }));
    }

    fn publish(&mut self, ticket: Ticket, publish: Publish) {
        let Some(client) = &self.client else { return };
        let (face, principal) = (Arc::clone(&self.face), client.presence.principal().clone());
        let id = fresh_message_id();
        self.listeners.remember_own(&id);
        self.work.push(Box::pin(async move {
            let outcome = face.publish(&principal, id, publish).await;
            Done::Published(ticket, outcome)
        }));
    }

    fn wish(&mut self, wish: Wish) {
        self.wishes.push_back(wish);
        self.fulfill();
    }

    /// Does what is wanted of subscriptions, up to the next thing that has to be waited for.
    //= MQTT5 3.10.4-2
    //= MQTT3 3.10.4-2
    fn fulfill(&mut self) {
        while !self.is_subscribing
            && let Some(wish) = self.wishes.pop_front()
        {
            match wish {
                Wish::Subscribe(ticket, wanted) => self.subscribe(ticket, wanted),
                Wish::Unsubscribe(ticket, filters) => {
                    filters.iter().for_each(|filter| self.listeners.unlisten(filter));
                    self.session.unsubscribed(ticket, Ok(()));
                }
            }
        }
    }

    fn subscribe(&mut self, ticket: Ticket, wanted: Vec<Wanted>) {
        let Some(client) = &self.client else { return };
        let (face, absent) = (Arc::clone(&self.face), client.holder.absent.clone());
        // Each filter once, however often it is there.
        let filters: BTreeSet<Text> = wanted.iter().map(|one| one.filter.clone()).collect();
        let filters: Vec<(Text, bool)> =
            filters.into_iter().map(|filter| (filter.clone(), self.listeners.has(&filter))).collect();
        let mut room = self.face.limits.subscriptions_max.saturating_sub(self.listeners.len());
        self.is_subscribing = true;
        self.work.push(Box::pin(async move {
            let mut outcomes = BTreeMap::new();
            for (filter, is_there) in filters {
                let outcome = if is_there || room > 0 {
                    subscribe(&face, &absent, filter.as_str(), is_there).await
                } else {
                    Err(Refusal::RateLimited { retry_after: Duration::from_secs(1) })
                };
                if let Err(refusal) = &outcome {
                    tracing::debug!(thing = %absent.thing(), %refusal, "a subscription is refused");
                }
                room -= usize::from(!is_there && outcome.is_ok());
                outcomes.insert(filter, outcome);
            }
            Done::Subscribed(ticket, wanted, outcomes)
        }));
    }

    fn handle_done(&mut self, done: Done) {
        match done {
            Done::Login(connect, outcome) => self.decide(&connect, outcome),
            Done::Published(ticket, outcome) => settle(&mut self.session, ticket, outcome),
            Done::Subscribed(ticket, wanted, outcomes) => {
                self.granted(ticket, &wanted, outcomes);
                self.is_subscribing = false;
                self.fulfill();
            }
        }
    }

    //= MQTT5 3.1.2-6, 3.1.4-4
    //= MQTT3 3.1.2-4, 3.1.2-6, 3.1.4-3
    fn decide(&mut self, connect: &Connect, outcome: Result<Box<Welcome>, Refusal>) {
        let welcome = match outcome {
            Ok(welcome) => *welcome,
            Err(refusal) => {
                let why = refusal.to_string();
                return self.session.refuse(answer::of_connect(&refusal), Some(&why));
            }
        };
        let Welcome { presence, holder, assigned, away } = welcome;
        let mut state = None;
        if let Some(Away { state: mut kept, mut listeners, will, .. }) = away {
            //= MQTT5 3.1.2-4
            //= MQTT5 3.1.2-5
            if connect.clean_start {
                // That session ends here.
                if let Some((will, _)) = will {
                    let (face, absent) = (Arc::clone(&self.face), holder.absent.clone());
                    tokio::spawn(contained(async move { face.publish_will(&absent, will).await }));
                }
            } else {
                // What was withdrawn by now is withdrawn before anything is sent.
                while let Some(news) = listeners.next().now_or_never() {
                    take_in(&self.face, &mut kept, news);
                }
                listeners.rest(false);
                self.listeners = listeners;
                state = Some(kept);
            }
        }
        let ends_with_connection = !self.face.sessions.has_room(holder.absent.thing());
        let (depth, counted) = (self.face.metrics.depth(), self.face.metrics.connection());
        self.client = Some(Box::new(Client { presence, holder, depth, _counted: counted }));
        let accepted = Accepted { state, client_id: assigned, ends_with_connection };
        self.session.accept(accepted, now().into_std());
    }

    fn granted(&mut self, ticket: Ticket, wanted: &[Wanted], mut outcomes: Outcomes) {
        let outcome_of = |one: &Wanted| match outcomes.get(&one.filter) {
            Some(Ok(_)) => Ok(one.options.qos),
            Some(Err(refusal)) => Err(answer::of_subscribe(refusal)),
            None => Err(Reason::UnspecifiedError),
        };
        let reasons = wanted.iter().map(outcome_of).collect();
        let why = outcomes.values().find_map(|outcome| outcome.as_ref().err()).map(ToString::to_string);
        self.session.subscribed(ticket, reasons, why.as_deref());
        for Wanted { filter, options, is_new } in wanted {
            // The session may have too many.
            let is_granted = self.session.has_filter(filter);
            let Some(Ok(subscription)) = outcomes.remove(filter).filter(|_| is_granted) else { continue };
            if let Some(subscription) = subscription {
                self.listeners.listen(filter.clone(), subscription);
            }
            if options.no_local {
                self.listeners.begin_to_remember_own();
            }
            //= MQTT5 3.3.1-9, 3.3.1-10, 3.3.1-11
            let is_asked = match options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => *is_new,
                RetainHandling::DoNotSend => false,
            };
            if is_asked && matches!(shared(filter.as_str()), Shared::No) {
                self.send_retained(filter);
            }
        }
    }

    /// Sends what is kept of what a filter matches.
    //= MQTT5 3.8.4-4
    //= MQTT3 3.3.1-6, 3.8.4-3
    fn send_retained(&mut self, filter: &Text) {
        let Some(client) = &self.client else { return };
        let Ok(parsed) = TopicFilter::parse_mqtt(filter.as_str(), &self.face.topic) else { return };
        // A right that is gone by now ends the connection anyway.
        let kept = self.face.bridge.retained(&client.holder.absent, parsed).unwrap_or_default();
        self.retained.extend(kept.into_iter().map(|delivery| (filter.clone(), delivery)));
        self.feed_retained();
    }

    /// Hands the session what is retained, as far as there is room: as the client takes it.
    fn feed_retained(&mut self) {
        while self.session.has_room()
            && let Some((filter, delivery)) = self.retained.pop_front()
        {
            let now = now().into_std();
            if let Some(message) = of_delivery(&delivery, &filter, self.face.bridge.now(), now) {
                self.session.deliver_retained(message, &filter, now);
            }
        }
    }

    fn handle_news(&mut self, news: News) {
        if !hear(&self.face, &mut self.session, news) {
            self.withdrawn();
        }
    }

    fn withdrawn(&mut self) {
        let taken = self.client.as_ref().is_some_and(|client| client.holder.place.is_taken());
        let (reason, why) = match taken {
            true => (Reason::SessionTakenOver, "another connection has this client identifier"),
            false => (Reason::NotAuthorized, "access withdrawn"),
        };
        self.session.end(reason, Some(why));
    }
}

/// Writes a piece of the output, or sees to it that what was written is on its way; how many bytes were taken. Nothing is
/// lost when the future is dropped.
async fn write<Io>(writer: &mut WriteHalf<Io>, output: &mut BytesMut, is_unflushed: &mut bool) -> std::io::Result<usize>
where
    Io: AsyncWrite,
{
    if output.is_empty() {
        writer.flush().await?;
        *is_unflushed = false;
        return Ok(0);
    }
    let count = writer.write(output).await?;
    if count == 0 {
        return Err(std::io::ErrorKind::WriteZero.into());
    }
    output.advance(count);
    *is_unflushed = true;
    Ok(count)
}

/// Writes what is left, and waits until the other side closes too.
async fn linger<Io>(mut reader: ReadHalf<Io>, mut writer: WriteHalf<Io>, output: &[u8])
where
    Io: AsyncRead + AsyncWrite,
{
    if writer.write_all(output).await.is_err() || writer.shutdown().await.is_err() {
        return;
    }
    let mut rest = [0; 512];
    while reader.read(&mut rest).await.is_ok_and(|count| count > 0) {}
}

/// Waits until what a client that left has under way is done: it may go as soon as it has sent its last message. What comes
/// for it meanwhile waits for its next connection.
async fn finish(
    face: &Arc<MqttFace>,
    session: &mut Session,
    mut work: FuturesUnordered<BoxFuture<'static, Done>>,
    listeners: &mut Listeners,
    client: &mut Option<Box<Client>>,
) {
    let begun = now();
    loop {
        let is_awaited = client.as_ref().is_some_and(|client| client.holder.place.is_taken());
        let deadline = begun + if is_awaited { HAND_OVER_MAX } else { FINISH_MAX };
        tokio::select! {
            biased;
            done = work.next() => match done {
                None => return,
                Some(Done::Published(ticket, outcome)) => settle(session, ticket, outcome),
                // It came to be let in, and went before it was: its session stays as it was.
                Some(Done::Login(_, Ok(welcome))) => {
                    let Welcome { holder, away, .. } = *welcome;
                    if let Some(away) = away {
                        holder.keep(face, away);
                    }
                }
                Some(Done::Login(_, Err(_)) | Done::Subscribed(..)) => {}
            },
            () = taken(client), if !is_awaited => {}
            // Of a connection that is over nothing more can be ended.
            news = listeners.next() => drop(hear(face, session, news)),
            () = tokio::time::sleep_until(deadline) => {
                tracing::warn!("messages of a client that left were not confirmed in time");
                return;
            }
        }
    }
}

/// Waits until another connection takes the session.
async fn taken(client: &mut Option<Box<Client>>) {
    match client {
        Some(client) => client.holder.place.taken().await,
        None => std::future::pending().await,
    }
}

/// Hands the session what came of its subscriptions; whether all its rights still stand.
fn hear(face: &MqttFace, session: &mut Session, news: News) -> bool {
    match news {
        News::Message { delivery, first, matched, is_own } => {
            let now = now().into_std();
            if let Some(message) = of_delivery(&delivery, &first, face.bridge.now(), now) {
                session.deliver(message, &matched, is_own, now);
            }
            true
        }
        News::Revoked(filter) | News::Overrun(filter) => {
            session.revoke(&filter);
            false
        }
        News::Nothing => true,
    }
}

fn settle(session: &mut Session, ticket: Ticket, outcome: Result<(), Refusal>) {
    let why = outcome.as_ref().err().map(ToString::to_string);
    session.settle(ticket, outcome.map_err(|refusal| answer::of_publish(&refusal)), why.as_deref());
}

/// Lets a client in, with what another connection, or nobody, has of its session.
async fn welcome(
    face: &Arc<MqttFace>,
    connect: &Connect,
    certificate: Option<&CertificateNames>,
) -> Result<Welcome, Refusal> {
    let principal = face.authenticate(connect, certificate).await?;
    let absent = face.bridge.absent(&principal)?;
    let assigned = connect.client_id.is_empty().then(assigned_client_id);
    let client_id = assigned.clone().unwrap_or_else(|| connect.client_id.detached());
    let (place, state) = face.sessions.take(principal.thing().clone(), client_id);
    let away = match state {
        Some(state) => state.await.ok().flatten(),
        None => None,
    };
    let presence = face.bridge.presence(principal);
    Ok(Welcome { presence, holder: Holder { place, absent }, assigned, away })
}

/// Subscribes; where there is a subscription to the very same filter already, it goes on, so that no message is lost, and only
/// the right to it is asked for again.
async fn subscribe(
    face: &MqttFace,
    absent: &Principal,
    filter: &str,
    is_there: bool,
) -> Result<Option<Subscription>, Refusal> {
    //= MQTT5 4.8.2-1
    let (group, filter) = match shared(filter) {
        Shared::Of { group, filter } => (Some(GroupName::new(group)), filter),
        Shared::No | Shared::Malformed => (None, filter),
    };
    let filter = TopicFilter::parse_mqtt(filter, &face.topic)?;
    if is_there {
        return face.bridge.may_subscribe(absent, filter).map(|()| None);
    }
    let terms = Terms { group, overflow: Overflow::Drop };
    face.bridge.subscribe_on(terms, absent, filter, Protocol::Mqtt).await.map(Some)
}

/// Waits until the process ends and it is this connection's turn.
async fn departure(face: &MqttFace) {
    tokio::time::sleep(face.departures.turn_of_one().await).await;
}

/// Waits until the client's right, or its session, is gone.
async fn lost(client: &mut Option<Box<Client>>) {
    let Some(client) = client else { return std::future::pending().await };
    let Client { presence, holder, .. } = &mut **client;
    tokio::select! {
        () = presence.revoked() => {}
        () = holder.place.taken() => {}
    }
}

/// What is left of these bytes without every PINGREQ that is a packet of them, which are counted.
fn without_pings(mut rest: BytesMut, pings: &mut usize) -> BytesMut {
    const PINGREQ: [u8; 2] = [0xc0, 0];
    let mut kept = BytesMut::new();
    while let Some(bytes) = packet_bytes(&rest).filter(|bytes| rest.len() >= *bytes) {
        let packet = rest.split_to(bytes);
        if packet[..] == PINGREQ {
            *pings += 1;
        } else {
            // Without a copy, where nothing was between them.
            kept.unsplit(packet);
        }
    }
    kept.unsplit(rest);
    kept
}

/// Bytes of the packet that these begin with, as far as its length is here and is one.
fn packet_bytes(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(2 + index + length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_found_among_other_packets_and_nowhere_else() {
        let check = |bytes: &[u8], left: &[u8], expected: usize| {
            let mut pings = 0;
            assert_eq!(without_pings(BytesMut::from(bytes), &mut pings), left, "{bytes:02x?}");
            assert_eq!(pings, expected, "{bytes:02x?}");
        };
        let publish = [0x30, 5, 0, 1, b'a', 0xc0, 0];
        check(&[], &[], 0);
        check(&[0xc0, 0], &[], 1);
        check(&[0xc0], &[0xc0], 0);
        check(&publish, &publish, 0);
        check(
            &[&publish[..], &[0xc0, 0], &publish, &[0xc0, 0, 0xc0]].concat(),
            &[&publish[..], &publish, &[0xc0]].concat(),
            2,
        );
        check(&[0x30, 9, 0xc0, 0], &[0x30, 9, 0xc0, 0], 0);
        check(&[0x30, 0xff, 0xff, 0xff, 0xff, 0xc0, 0], &[0x30, 0xff, 0xff, 0xff, 0xff, 0xc0, 0], 0);
    }
}
