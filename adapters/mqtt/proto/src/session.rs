//! One client's side of MQTT without I/O: packets and the answers of others go in, packets and questions come out.
//!
//! The caller polls [`Session::poll_output`] until nothing is left after each call, and calls
//! [`Session::handle_timeout`] at [`Session::poll_timeout`]. What the session must ask others is an [`Output`] with a
//! [`Ticket`]; it goes on when it is answered, in whatever order that happens. Nothing is acknowledged to the client
//! before it was settled.

mod inbound;
mod outbound;
mod state;

use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::{Duration, Instant};

use crate::encode::packet_bytes;
use crate::error::DecodeError;
use crate::packet::{ConnAck, Connect, Disconnect, Packet, Publish, SubscriptionOptions, Version, Will};
use crate::property::{Properties, Property};
use crate::reason::Reason;
use crate::text::Text;

use inbound::Inbound;
use outbound::Outbound;
pub use state::{Message, State};

/// Characters of a client identifier of MQTT 3.1.
const CLIENT_ID_CHARS_MAX_V3_1: usize = 23;
/// Packets that are kept until it is decided whether their client is let in.
const EARLY_MAX: usize = 16;
/// What is to be said and nobody has taken yet, before the client is asked for more.
const OUTPUT_MAX: usize = 256;
/// A session that never ends by itself.
const FOR_EVER: u32 = u32::MAX;

/// Bounds of a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the first packet may take.
    pub connect_within: Duration,
    /// Bytes of a packet before the client is let in.
    pub connect_bytes_max: usize,
    /// Bytes of a packet afterward.
    pub packet_bytes_max: u32,
    /// Messages of QoS 1 and 2 of the client that are not acknowledged yet.
    pub receive_max: NonZeroU16,
    /// Topic aliases that the client may set.
    pub topic_alias_max: u16,
    /// Topic aliases that are set for the client, at most; it may take fewer.
    pub topic_alias_out_max: u16,
    /// Longest keep alive, in seconds; one that is longer, or none, is made this. Nothing: as the client says.
    pub keep_alive_max: Option<NonZeroU16>,
    /// Longest that a session outlives its connection, in seconds.
    pub session_expiry_max: u32,
    /// Messages of QoS 1 and 2 on their way to a client that says no maximum.
    pub send_max: NonZeroU16,
    /// Messages that wait for the client beyond those.
    pub waiting_max: usize,
    /// Bytes of them.
    pub waiting_bytes_max: usize,
    /// Subscriptions.
    pub subscriptions_max: usize,
    /// Whether messages are retained.
    pub retains: bool,
    /// Whether subscriptions can be shared.
    pub shares: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_within: Duration::from_secs(10),
            connect_bytes_max: 4_096,
            packet_bytes_max: 1_024 * 1_024,
            receive_max: NonZeroU16::new(64).expect("64 is not 0"),
            topic_alias_max: 10,
            topic_alias_out_max: 16,
            keep_alive_max: None,
            session_expiry_max: 7 * 24 * 60 * 60,
            send_max: NonZeroU16::new(64).expect("64 is not 0"),
            waiting_max: 1_000,
            waiting_bytes_max: 1_024 * 1_024,
            subscriptions_max: 1_000,
            retains: true,
            shares: true,
        }
    }
}

/// Names a question until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to the client.
    Send(Packet),
    /// Decide whether the client is let in: [`Session::accept`] or [`Session::refuse`].
    Login(Box<Connect>),
    /// Publish this: [`Session::settle`]. Its topic is whole, whatever alias was used.
    Publish(Ticket, Publish),
    /// Subscribe to these: [`Session::subscribed`].
    Subscribe(Ticket, Vec<Wanted>),
    /// End these: [`Session::unsubscribed`].
    Unsubscribe(Ticket, Vec<Text>),
    /// Close the connection, when what was sent before is out; nothing comes after this.
    Close,
}

/// A subscription that the client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// To what.
    pub filter: Text,
    /// How.
    pub options: SubscriptionOptions,
    /// Whether the session has no such subscription yet.
    pub is_new: bool,
}

/// How a client is let in.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// What there is of its session.
    pub state: Option<State>,
    /// The identifier that it gets, where it said none.
    pub client_id: Option<Text>,
    /// Whether its session ends with its connection, whatever it asks for: there is no room for more.
    pub ends_with_connection: bool,
}

/// What is left of a session when its connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// To be kept for as long as `expires_after` says.
    pub state: State,
    /// How long the session goes on without a connection; nothing is for ever.
    pub expires_after: Option<Duration>,
    /// To be published, after its own delay.
    pub will: Option<Will>,
}

/// What was not sent to the client, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// It waits for too much already.
    pub full: u64,
    /// It takes no packet of that size.
    pub too_large: u64,
    /// They were of no use any more.
    pub expired: u64,
}

#[derive(Debug)]
enum Phase {
    /// Nothing was said yet.
    Silent { until: Instant },
    /// It is being decided whether the client is let in.
    Asked(Box<Connect>),
    /// The client is in.
    Open,
    /// It is over.
    Closed,
}

/// One client's session, as long as its connection lasts.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    phase: Phase,
    version: Version,
    output: VecDeque<Output>,
    /// Bytes of what is published in it.
    output_bytes: usize,
    /// What came before it was decided whether the client is let in.
    early: Vec<Packet>,
    last_ticket: u64,
    /// One and a half times the keep alive.
    silence_max: Option<Duration>,
    heard: Instant,
    session_expiry: u32,
    will: Option<Will>,
    explains: bool,
    inbound: Inbound,
    outbound: Outbound,
    state: State,
    dropped: Dropped,
    ended_by: Option<Reason>,
}

impl Session {
    /// Of a connection that was just made.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            phase: Phase::Silent { until: now + limits.connect_within },
            version: Version::V3_1_1,
            output: VecDeque::new(),
            output_bytes: 0,
            early: Vec::new(),
            last_ticket: 0,
            silence_max: None,
            heard: now,
            session_expiry: 0,
            will: None,
            explains: true,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            state: State::default(),
            dropped: Dropped::default(),
            ended_by: None,
        }
    }

    /// Why this side ended the connection, if it did.
    #[must_use]
    pub const fn ended_by(&self) -> Option<Reason> {
        self.ended_by
    }

    /// The version that is spoken; of no meaning before a CONNECT.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Bytes of the next packet, at most.
    #[must_use]
    pub const fn packet_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Open => self.limits.packet_bytes_max as usize,
            Phase::Silent { .. } | Phase::Asked(_) | Phase::Closed => self.limits.connect_bytes_max,
        }
    }

    /// Whether it is over: what is still to be sent are its last words.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether a packet of the client can be handled now; else it should be left unread.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.phase {
            Phase::Silent { .. } => true,
            // A client of MQTT 3 knows no maximum, and one of any version may send QoS 0 without end.
            Phase::Open => {
                self.inbound.unsettled() < usize::from(self.limits.receive_max.get()) && self.output.len() < OUTPUT_MAX
            }
            Phase::Asked(_) | Phase::Closed => false,
        }
    }

    /// The filters of its subscriptions.
    pub fn filters(&self) -> impl Iterator<Item = &Text> {
        self.state.filters().map(|(filter, _)| filter)
    }

    /// Whether it has a subscription to this filter.
    #[must_use]
    pub fn has_filter(&self, filter: &Text) -> bool {
        self.state.subscriptions.contains_key(filter)
    }

    /// Messages of QoS 1 and 2 that the client does not have yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.waiting()
    }

    /// What was not sent to the client.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// What the caller is to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.output.pop_front();
        if let Some(Output::Send(Packet::Publish(publish))) = &output {
            self.output_bytes -= publish.payload.len();
        }
        output
    }

    /// When [`Session::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Silent { until } => Some(*until),
            Phase::Open => self.silence_max.map(|span| self.heard + span),
            Phase::Asked(_) | Phase::Closed => None,
        }
    }

    /// Time has passed.
    //= MQTT3 3.1.2-24
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        //= MQTT5 3.1.2-22
        //= MQTT5 3.1.2-24
        self.end(Reason::KeepAliveTimeout, None);
    }

    /// The client sent a packet.
    //= MQTT3 3.1.0-1, 3.1.0-2, 4.8.0-1
    pub fn handle_packet(&mut self, packet: Packet, now: Instant) {
        self.heard = now;
        match (&self.phase, packet) {
            (Phase::Closed, _) => {}
            (Phase::Silent { .. }, Packet::Connect(connect)) => self.handle_connect(connect),
            //= MQTT5 3.1.0-1
            (Phase::Silent { .. }, _) => self.close(),
            //= MQTT5 3.1.0-2
            (_, Packet::Connect(_)) => self.end(Reason::ProtocolError, Some("a second CONNECT")),
            // A client need not wait for its CONNACK; who reads only while the session is ready never comes here.
            (Phase::Asked(_), _) if self.early.len() >= EARLY_MAX => self.end(Reason::QuotaExceeded, None),
            (Phase::Asked(_), packet) => self.early.push(packet),
            (Phase::Open, packet) => self.handle_open(packet, now),
        }
    }

    /// Whether a PINGREQ can be answered before what the session is not ready for: the client takes what it is told.
    #[must_use]
    pub fn answers_pings(&self) -> bool {
        self.is_open() && self.output.len() < OUTPUT_MAX
    }

    /// The client has sent so many PINGREQ after what the session is not ready for. Who is not listened to is not silent.
    pub fn handle_pings_ahead(&mut self, count: usize, now: Instant) {
        if self.is_open() {
            self.heard = now;
            (0..count).for_each(|_| self.send(Packet::PingResp));
        }
    }

    /// Whether there is room for another message that was kept: so many that they fill what may wait are not lost, but wait
    /// for their turn with the caller.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let half = self.limits.waiting_max.div_ceil(2);
        let bytes_half = self.limits.waiting_bytes_max.div_ceil(2);
        self.state.waiting.len() < half
            && self.state.waiting_bytes < bytes_half
            && self.output.len() < OUTPUT_MAX.min(half)
    }

    fn handle_open(&mut self, packet: Packet, now: Instant) {
        match packet {
            Packet::Publish(publish) => self.handle_publish(publish),
            Packet::PubAck(ack) => self.handle_pub_ack(ack.id, now),
            Packet::PubRec(ack) => self.handle_pub_rec(ack.id, ack.reason, now),
            Packet::PubRel(ack) => self.handle_pub_rel(ack.id),
            Packet::PubComp(ack) => self.handle_pub_comp(ack.id, now),
            Packet::Subscribe(subscribe) => self.handle_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(unsubscribe),
            //= MQTT5 3.12.4-1
            //= MQTT3 3.12.4-1
            Packet::PingReq => self.send(Packet::PingResp),
            Packet::Disconnect(disconnect) => self.handle_disconnect(&disconnect),
            Packet::Auth(_) => self.end(Reason::ProtocolError, Some("no extended authentication was begun")),
            Packet::Connect(_) | Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.end(Reason::ProtocolError, Some("a packet that only a server sends"));
            }
        }
    }

    /// What the client sent makes no packet.
    pub fn handle_malformed(&mut self, error: DecodeError) {
        match (&self.phase, error) {
            (Phase::Closed, _) => {}
            //= MQTT5 3.1.2-2
            (Phase::Silent { .. }, DecodeError::Version { is_newer }) => {
                self.version = if is_newer { Version::V5 } else { Version::V3_1_1 };
                self.answer_connect(error.reason(), None);
            }
            (Phase::Silent { .. }, DecodeError::Connect { version: Version::V5, reason }) => {
                self.version = Version::V5;
                self.answer_connect(reason, None);
            }
            // Before MQTT 5 a server that is not spoken to as it should be says nothing.
            (Phase::Silent { .. }, _) => self.close(),
            (Phase::Asked(_) | Phase::Open, _) => self.end(error.reason(), None),
        }
    }

    //= MQTT5 3.1.3-6
    //= MQTT3 3.1.3-5, 3.1.3-6, 3.1.3-8, 3.1.3-9
    fn handle_connect(&mut self, connect: Box<Connect>) {
        self.version = connect.version;
        let properties = &connect.properties;
        self.explains = !properties.iter().any(|property| property == Property::RequestProblemInformation(false));
        //= MQTT5 3.1.3-5
        //= MQTT5 3.1.3-8
        let name = connect.client_id.as_str();
        let is_legal = match connect.version {
            Version::V3_1 => (1..=CLIENT_ID_CHARS_MAX_V3_1).contains(&name.chars().count()),
            Version::V3_1_1 => !name.is_empty() || connect.clean_start,
            Version::V5 => true,
        };
        if !is_legal {
            return self.answer_connect(Reason::ClientIdentifierNotValid, None);
        }
        //= MQTT5 4.12.0-1
        if properties.iter().any(|property| matches!(property, Property::AuthenticationMethod(_))) {
            return self.answer_connect(Reason::BadAuthenticationMethod, None);
        }
        //= MQTT5 3.2.2-13
        let retains = connect.will.as_ref().is_some_and(|will| will.retain);
        if retains && !self.limits.retains && connect.version == Version::V5 {
            return self.answer_connect(Reason::RetainNotSupported, None);
        }
        self.phase = Phase::Asked(connect.clone());
        self.output.push_back(Output::Login(connect));
    }

    /// The client is not let in.
    pub fn refuse(&mut self, reason: Reason, why: Option<&str>) {
        if matches!(self.phase, Phase::Asked(_)) {
            self.ended_by = Some(reason);
            self.answer_connect(reason, why);
        }
    }

    /// The client is let in.
    //= MQTT5 3.1.3-7, 3.1.4-5, 3.2.0-1, 3.2.2-2, 3.2.2-3, 3.2.2-16
    //= MQTT3 3.1.4-4, 3.2.0-1, 3.2.2-1, 3.2.2-2, 3.2.2-3
    pub fn accept(&mut self, accepted: Accepted, now: Instant) {
        let Phase::Asked(connect) = std::mem::replace(&mut self.phase, Phase::Open) else {
            self.phase = Phase::Closed;
            return;
        };
        // MQTT 3.1 has no word for it.
        let session_present = accepted.state.is_some() && self.version != Version::V3_1;
        self.state = accepted.state.unwrap_or_default();
        self.will.clone_from(&connect.will);
        if accepted.ends_with_connection {
            self.limits.session_expiry_max = 0;
        }
        let mut said = self.take_up(&connect);
        if let Some(client_id) = accepted.client_id {
            said.push(Property::AssignedClientIdentifier(client_id));
        }
        let properties = if self.version == Version::V5 { said.into_iter().collect() } else { Properties::NONE };
        self.heard = now;
        self.send(Packet::ConnAck(ConnAck { session_present, reason: Reason::Success, properties }));
        self.resume(now);
        for packet in std::mem::take(&mut self.early) {
            self.handle_packet(packet, now);
        }
    }

    /// Takes up what a CONNECT asks for, and says what it gets instead.
    //= MQTT5 3.2.2-21, 3.2.2-22
    fn take_up(&mut self, connect: &Connect) -> Vec<Property> {
        let limits = self.limits;
        let mut said = Vec::new();
        let asked = connect.properties.find(|property| {
            if let Property::SessionExpiryInterval(seconds) = property { Some(seconds) } else { None }
        });
        self.session_expiry = match (connect.version, connect.clean_start) {
            (Version::V5, _) => asked.unwrap_or(0),
            (Version::V3_1 | Version::V3_1_1, true) => 0,
            (Version::V3_1 | Version::V3_1_1, false) => FOR_EVER,
        };
        if self.session_expiry > limits.session_expiry_max {
            self.session_expiry = limits.session_expiry_max;
            said.push(Property::SessionExpiryInterval(self.session_expiry));
        }
        let mut keep_alive = connect.keep_alive;
        if let Some(max) = limits.keep_alive_max
            && (keep_alive == 0 || keep_alive > max.get())
            && connect.version == Version::V5
        {
            //= MQTT5 3.1.2-21
            keep_alive = max.get();
            said.push(Property::ServerKeepAlive(keep_alive));
        }
        self.silence_max = (keep_alive > 0).then(|| Duration::from_secs(u64::from(keep_alive)) * 3 / 2);
        self.outbound.take_up(&connect.properties, &limits);
        if limits.topic_alias_max > 0 {
            said.push(Property::TopicAliasMaximum(limits.topic_alias_max));
        }
        said.extend(NonZeroU32::new(limits.packet_bytes_max).map(Property::MaximumPacketSize));
        said.push(Property::ReceiveMaximum(limits.receive_max));
        if !limits.retains {
            said.push(Property::RetainAvailable(false));
        }
        if !limits.shares {
            said.push(Property::SharedSubscriptionAvailable(false));
        }
        said
    }

    //= MQTT3 3.1.2-10, 3.1.2-12, 3.14.4-3
    fn handle_disconnect(&mut self, disconnect: &Disconnect) {
        let asked = disconnect.properties.find(|property| {
            if let Property::SessionExpiryInterval(seconds) = property { Some(seconds) } else { None }
        });
        if let Some(seconds) = asked {
            //= MQTT5 3.14.2.2.2
            if self.session_expiry == 0 && seconds > 0 {
                return self.end(Reason::ProtocolError, Some("a session that was to end with its connection"));
            }
            self.session_expiry = seconds.min(self.limits.session_expiry_max);
        }
        //= MQTT5 3.14.4-3
        //= MQTT5 3.1.2-10
        if disconnect.reason == Reason::Success {
            self.will = None;
        }
        self.close();
    }

    /// Ends the connection on our side, and tells why where the version can.
    //= MQTT5 3.14.0-1, 3.14.4-1, 3.14.4-2, 4.13.2-1
    //= MQTT3 4.8.0-2
    pub fn end(&mut self, reason: Reason, why: Option<&str>) {
        if !matches!(self.phase, Phase::Closed) {
            self.ended_by = Some(reason);
        }
        match &self.phase {
            Phase::Closed => return,
            Phase::Asked(_) if reason.fits(crate::PacketType::ConnAck) => return self.answer_connect(reason, why),
            Phase::Open if self.version == Version::V5 => {
                //= MQTT5 4.13.1-1
                let reason = if reason.fits(crate::PacketType::Disconnect) { reason } else { Reason::UnspecifiedError };
                let properties = self.explanation(why);
                self.send(Packet::Disconnect(Disconnect { reason, properties }));
            }
            Phase::Silent { .. } | Phase::Asked(_) | Phase::Open => {}
        }
        self.close();
    }

    /// What is left of the session. What was being published is best settled before: then it is known which messages of
    /// QoS 2 were taken.
    //= MQTT5 3.1.2-7, 4.1.0-1
    //= MQTT3 3.1.2-8, 4.1.0-1, 4.1.0-2
    #[must_use]
    pub fn into_ended(mut self) -> Ended {
        for exchange in &mut self.state.in_flight {
            exchange.is_said = false;
        }
        // Taken, and only not answered since another before it was not settled.
        self.state.received.extend(self.inbound.taken());
        let span = Duration::from_secs(u64::from(self.session_expiry));
        let expires_after = (self.session_expiry != FOR_EVER).then_some(span);
        Ended { state: self.state, expires_after, will: self.will }
    }

    //= MQTT5 3.1.4-6, 3.2.0-2, 3.2.2-6, 3.2.2-7
    //= MQTT3 3.1.2-2, 3.1.4-5, 3.2.2-4, 3.2.2-5, 3.2.2-6
    fn answer_connect(&mut self, reason: Reason, why: Option<&str>) {
        let properties = if self.version == Version::V5 { self.explanation(why) } else { Properties::NONE };
        self.send(Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
        self.close();
    }

    /// A reason for people, where the client wants any.
    //= MQTT5 3.1.2-29
    fn explanation(&self, why: Option<&str>) -> Properties {
        let text = why.filter(|_| self.explains).and_then(|why| Text::try_from(why).ok());
        text.map(Property::ReasonString).into_iter().collect()
    }

    fn close(&mut self) {
        if !matches!(self.phase, Phase::Closed) {
            self.phase = Phase::Closed;
            self.output.push_back(Output::Close);
        }
    }

    /// Says something, without words for people where the client takes no packet of that size; what it cannot take without
    /// them either ends the connection. What is published was measured before.
    //= MQTT5 3.1.2-24, 3.2.2-19, 3.2.2-20, 3.4.2-2, 3.4.2-3, 3.5.2-2, 3.5.2-3, 3.6.2-2, 3.6.2-3, 3.7.2-2, 3.7.2-3
    //= MQTT5 3.9.2-1, 3.9.2-2, 3.11.2-1, 3.11.2-2, 3.14.2-3, 3.14.2-4
    fn send(&mut self, mut packet: Packet) {
        if let Some(max) = self.outbound.packet_bytes_max()
            && !matches!(packet, Packet::Publish(_))
        {
            let is_too_large = |packet: &Packet| packet_bytes(packet, self.version) > max;
            if is_too_large(&packet)
                && let Some(properties) = packet.properties_mut()
            {
                let kept = properties.iter().filter(|property| !matches!(property, Property::ReasonString(_)));
                *properties = kept.collect();
            }
            if is_too_large(&packet) {
                return self.close();
            }
        }
        if let Packet::Publish(publish) = &packet {
            self.output_bytes += publish.payload.len();
        }
        self.output.push_back(Output::Send(packet));
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }
}
