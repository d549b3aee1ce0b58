//! Whatever a client and a broker say, in whatever order, the session keeps its word: it says only what a server may, nothing
//! after its end, and acknowledges nothing that was not settled.
#![no_main]

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use tidegate_mqtt_proto::{
    Accepted, Limits, Message, Output, Packet, Properties, QoS, Reason, Sender, Session, State, Text, Ticket, decode,
    encode, split,
};

/// A session with what a driver has around it.
struct Stage {
    limits: Limits,
    session: Session,
    input: BytesMut,
    now: Instant,
    kept: Option<State>,
    publishes: VecDeque<Ticket>,
    subscribes: VecDeque<(Ticket, usize)>,
    unsubscribes: VecDeque<Ticket>,
    /// Names of messages that were settled and may be acknowledged.
    settled: usize,
    acknowledged: usize,
    is_over: bool,
}

impl Stage {
    fn new() -> Self {
        let limits = Limits {
            receive_max: NonZeroU16::new(4).expect("4 is not 0"),
            send_max: NonZeroU16::new(3).expect("3 is not 0"),
            waiting_max: 5,
            waiting_bytes_max: 4_096,
            subscriptions_max: 4,
            ..Limits::default()
        };
        let now = Instant::now();
        Self {
            limits,
            session: Session::new(limits, now),
            input: BytesMut::new(),
            now,
            kept: None,
            publishes: VecDeque::new(),
            subscribes: VecDeque::new(),
            unsubscribes: VecDeque::new(),
            settled: 0,
            acknowledged: 0,
            is_over: false,
        }
    }

    fn poll(&mut self) {
        while let Some(output) = self.session.poll_output() {
            assert!(!self.is_over, "{output:?} after the end");
            match output {
                Output::Send(packet) => self.check(&packet),
                Output::Login(_) => {
                    let state = self.kept.take();
                    self.session.accept(Accepted { state, ..Accepted::default() }, self.now);
                }
                Output::Publish(ticket, _) => self.publishes.push_back(ticket),
                Output::Subscribe(ticket, wanted) => self.subscribes.push_back((ticket, wanted.len())),
                Output::Unsubscribe(ticket, _) => self.unsubscribes.push_back(ticket),
                Output::Close => self.is_over = true,
            }
        }
    }

    fn check(&mut self, packet: &Packet) {
        let version = self.session.version();
        let mut bytes = BytesMut::new();
        encode(packet, version, &mut bytes).expect("what a session says can be said");
        let frame = split(&mut bytes, usize::MAX).expect("a packet").expect("a whole one");
        decode(frame, version, Sender::Server).expect("what a session says can be read");
        if matches!(packet, Packet::PubAck(_)) {
            self.acknowledged += 1;
            assert!(self.acknowledged <= self.settled, "acknowledged, and not settled");
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.session.is_ready() && !self.is_over {
            let version = self.session.version();
            let packet = split(&mut self.input, self.session.packet_bytes_max())
                .and_then(|frame| frame.map(|frame| decode(frame, version, Sender::Client)).transpose());
            match packet {
                Ok(None) => break,
                Ok(Some(packet)) => self.session.handle_packet(packet, self.now),
                Err(error) => self.session.handle_malformed(error),
            }
            self.poll();
        }
    }

    fn deliver(&mut self, byte: u8) {
        let filters: Vec<Text> = self.session.filters().cloned().collect();
        let message = Message {
            topic: Text::try_from("a/b").expect("a string"),
            payload: Bytes::from(vec![byte; usize::from(byte)]),
            qos: QoS::new(byte % 3).expect("0 to 2"),
            retain: byte & 8 != 0,
            properties: Properties::NONE,
            expires: (byte & 16 != 0).then(|| self.now + Duration::from_secs(byte.into())),
        };
        if byte & 32 != 0
            && let Some(filter) = filters.first()
        {
            self.session.deliver_retained(message, filter, self.now);
        } else {
            self.session.deliver(message, &filters, byte & 64 != 0, self.now);
        }
    }

    /// The connection is lost, and another one goes on with what is left.
    fn cut(&mut self) {
        let session = std::mem::replace(&mut self.session, Session::new(self.limits, self.now));
        let ended = session.into_ended();
        self.kept = ended.expires_after.is_none_or(|span| !span.is_zero()).then_some(ended.state);
        *self = Self { kept: self.kept.take(), now: self.now, ..Self::new() };
    }

    fn answer(&mut self, byte: u8) {
        match byte % 3 {
            0 => {
                if let Some(ticket) = self.publishes.pop_front() {
                    self.settled += 1;
                    let verdict = if byte & 128 == 0 { Ok(()) } else { Err(Reason::NotAuthorized) };
                    self.session.settle(ticket, verdict, Some("why"));
                }
            }
            1 => {
                if let Some((ticket, count)) = self.subscribes.pop_front() {
                    let one = if byte & 128 == 0 { Ok(QoS::ExactlyOnce) } else { Err(Reason::NotAuthorized) };
                    self.session.subscribed(ticket, vec![one; count], None);
                }
            }
            _ => {
                if let Some(ticket) = self.unsubscribes.pop_front() {
                    self.session.unsubscribed(ticket, Ok(()));
                }
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut stage = Stage::new();
    let mut rest = bytes;
    while let [what, argument, more @ ..] = rest {
        rest = more;
        match what % 8 {
            // What the client sends is most of it.
            0..=2 => {
                let (piece, after) = rest.split_at(usize::from(*argument).min(rest.len()));
                rest = after;
                stage.feed(piece);
            }
            3 | 4 => stage.answer(*argument),
            5 => stage.deliver(*argument),
            6 => {
                stage.now += Duration::from_secs((*argument).into());
                stage.session.handle_timeout(stage.now);
            }
            _ if *argument & 1 == 0 => stage.cut(),
            _ => stage.session.end(Reason::ServerShuttingDown, Some("why")),
        }
        stage.poll();
        stage.feed(&[]);
    }
});
