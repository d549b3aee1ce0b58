//! The cases of Eclipse Mosquitto's broker tests, byte by byte, against the session and a broker that lets everyone in.
//!
//! The cases are not part of this repository: they are looked for in the folder `mqtt-wire` of `TIDEGATE_VECTORS`, or
//! beside the checkout, and without them nothing is tested and that is said.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tidegate_mqtt_proto::*;

/// How a case came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Byte for byte.
    Exact,
    /// The right outcome, in another order, with another or no reason, or with other properties.
    Lenient,
    Fail,
}

/// A broker of one client, which publishes and subscribes as it likes.
struct Broker {
    session: Session,
    input: BytesMut,
    /// What it said, packet by packet.
    said: VecDeque<Vec<u8>>,
    is_closed: bool,
    retained: BTreeMap<Text, Message>,
    now: Instant,
}

impl Broker {
    #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
    fn new(retained: BTreeMap<Text, Message>) -> Self {
        let now = Instant::now();
        let limits = Limits {
            receive_max: std::num::NonZeroU16::new(20).unwrap(),
            topic_alias_max: 10,
            topic_alias_out_max: 0,
            packet_bytes_max: 2_000_000,
            ..Limits::default()
        };
        let session = Session::new(limits, now);
        Self { session, input: BytesMut::new(), said: VecDeque::new(), is_closed: false, retained, now }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.poll();
        while self.session.is_ready() && !self.is_closed {
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

    fn poll(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(packet) => {
                    let mut bytes = BytesMut::new();
                    encode(&packet, self.session.version(), &mut bytes).unwrap();
                    self.said.push_back(bytes.to_vec());
                }
                Output::Login(_) => self.session.accept(Accepted::default(), self.now),
                Output::Publish(ticket, publish) if is_its_own(publish.topic.as_str()) => {
                    self.session.settle(ticket, Err(Reason::NotAuthorized), None);
                }
                Output::Publish(ticket, publish) => self.publish(ticket, &publish),
                Output::Subscribe(ticket, wanted) => {
                    let outcomes = wanted.iter().map(|one| Ok(one.options.qos)).collect();
                    self.session.subscribed(ticket, outcomes, None);
                    for one in wanted {
                        self.send_retained(&one);
                    }
                }
                Output::Unsubscribe(ticket, _) => self.session.unsubscribed(ticket, Ok(())),
                Output::Close => self.is_closed = true,
            }
        }
    }

    fn send_retained(&mut self, wanted: &Wanted) {
        let is_asked = match wanted.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => wanted.is_new,
            RetainHandling::DoNotSend => false,
        };
        if !is_asked || wanted.filter.as_str().starts_with("$share/") {
            return;
        }
        let kept = self.retained.iter().filter(|(topic, _)| matches(wanted.filter.as_str(), topic.as_str()));
        for message in kept.map(|(_, message)| message.clone()).collect::<Vec<_>>() {
            self.session.deliver_retained(message, &wanted.filter, self.now);
        }
    }

    fn publish(&mut self, ticket: Ticket, publish: &Publish) {
        let message = Message {
            topic: publish.topic.clone(),
            payload: publish.payload.clone(),
            qos: publish.delivery.qos(),
            retain: publish.retain,
            properties: publish.properties.clone(),
            expires: publish
                .properties
                .find(|property| if let Property::MessageExpiryInterval(span) = property { Some(span) } else { None })
                .map(|span| self.now + std::time::Duration::from_secs(span.into())),
        };
        if publish.retain && publish.payload.is_empty() {
            self.retained.remove(&publish.topic);
        } else if publish.retain {
            self.retained.insert(publish.topic.clone(), message.clone());
        }
        self.deliver(message, true);
        self.session.settle(ticket, Ok(()), None);
    }

    fn deliver(&mut self, message: Message, is_own: bool) {
        let matched: Vec<Text> =
            self.session.filters().filter(|filter| matches(filter.as_str(), message.topic.as_str())).cloned().collect();
        self.session.deliver(message, &matched, is_own, self.now);
    }
}

/// Whether a topic is one that Mosquitto lets no client publish to.
fn is_its_own(topic: &str) -> bool {
    topic.starts_with("$share/") || topic.starts_with("$SYS/") && !topic.ends_with("/state")
}

/// As the standard says it, of filters that may be shared.
fn matches(filter: &str, topic: &str) -> bool {
    let filter = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')).map_or(filter, |(_, rest)| rest);
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Bytes of a number in the length form of the standard.
fn variable(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = number > 127;
        bytes.push(u8::try_from(number % 128).unwrap() | if more { 128 } else { 0 });
        number /= 128;
        if !more {
            return bytes;
        }
    }
}

/// The bytes that a case writes with its shorthands.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, part) in text.split('\'').enumerate() {
        if place % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        for word in part.split_whitespace() {
            let number = || word[1..].parse::<u32>();
            match word.as_bytes()[0] {
                // A length of five bytes is written as it would be.
                b'r' | b'v' => bytes.extend(variable(number().unwrap())),
                b'm' | b's' | b'k' | b'H' => bytes.extend(u16::try_from(number().unwrap()).unwrap().to_be_bytes()),
                b'i' => bytes.push(u8::try_from(number().unwrap()).unwrap()),
                b'L' => bytes.extend(number().unwrap().to_be_bytes()),
                _ => bytes
                    .extend((0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap())),
            }
        }
    }
    bytes
}

/// A packet without what is for people or of this broker alone: its type, name, topic, payload, and how it ended.
fn outline(bytes: &[u8], version: Version) -> Option<String> {
    // Of a version that is not served, either form of it is an answer.
    if bytes.len() > 3 && bytes[0] == 0x20 && bytes[3] > 0 {
        return Some("connack refused".to_owned());
    }
    let mut buffer = BytesMut::from(bytes);
    let frame = split(&mut buffer, usize::MAX).ok()??;
    let code = |reason: Reason| if reason.is_error() { "refused" } else { "done" };
    Some(match decode(frame, version, Sender::Server).ok()? {
        Packet::ConnAck(ack) => format!("connack {} {}", ack.session_present, code(ack.reason)),
        Packet::Publish(publish) => {
            let delivery = format!("{:?}", publish.delivery);
            format!("publish {delivery} {} {:?} {:?}", publish.retain, publish.topic, publish.payload)
        }
        Packet::PubAck(ack) => format!("puback {:?} {}", ack.id, code(ack.reason)),
        Packet::PubRec(ack) => format!("pubrec {:?} {}", ack.id, code(ack.reason)),
        // Whether its name was known is a courtesy.
        Packet::PubRel(ack) => format!("pubrel {:?}", ack.id),
        Packet::PubComp(ack) => format!("pubcomp {:?}", ack.id),
        Packet::SubAck(ack) => {
            format!("suback {:?} {:?}", ack.id, ack.reasons.iter().map(|r| code(*r)).collect::<Vec<_>>())
        }
        Packet::UnsubAck(ack) => {
            format!("unsuback {:?} {:?}", ack.id, ack.reasons.iter().map(|r| code(*r)).collect::<Vec<_>>())
        }
        other @ (Packet::Connect(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::PingResp
        | Packet::Disconnect(_)
        | Packet::Auth(_)) => format!("{:?}", other.kind()),
    })
}

/// Plays a case.
fn play(case: &Value, version: u64, connects: bool, retained: &mut BTreeMap<Text, Message>) -> (Verdict, String) {
    let mut broker = Broker::new(std::mem::take(retained));
    let mut log = String::new();
    if connects {
        let connect = match version {
            3 => "10 r15 s6 'MQIsdp' 03 02 k10 s1 'p'",
            5 => "10 r14 s4 'MQTT' 05 02 k10 v0 s1 'p'",
            _ => "10 r13 s4 'MQTT' 04 02 k10 s1 'p'",
        };
        broker.feed(&bytes(connect));
        broker.said.clear();
    }
    let mut verdict = Verdict::Exact;
    for message in case["msgs"].as_array().unwrap() {
        let payload = message["payload"].as_str().unwrap();
        writeln!(log, "    {} {payload}", message["type"].as_str().unwrap()).unwrap();
        match message["type"].as_str().unwrap() {
            "send" => broker.feed(&bytes(payload)),
            "external_publish" => {
                let qos = QoS::new(u8::try_from(message["qos"].as_u64().unwrap()).unwrap()).unwrap();
                let message = Message {
                    topic: Text::try_from(message["topic"].as_str().unwrap()).unwrap(),
                    payload: Bytes::copy_from_slice(payload.as_bytes()),
                    qos,
                    retain: false,
                    properties: Properties::NONE,
                    expires: None,
                };
                broker.deliver(message, false);
                broker.poll();
            }
            _ => {
                let expected = bytes(payload);
                let spoken = broker.session.version();
                let wanted = outline(&expected, spoken);
                if broker.said.front() == Some(&expected) {
                    broker.said.pop_front();
                } else if let Some(place) = broker
                    .said
                    .iter()
                    .position(|said| *said == expected || (wanted.is_some() && outline(said, spoken) == wanted))
                {
                    verdict = verdict.max(Verdict::Lenient);
                    writeln!(log, "      said {:02x?}", broker.said[place]).unwrap();
                    broker.said.remove(place);
                } else if broker.is_closed
                    && wanted.as_deref().is_some_and(|w| w == "Disconnect" || w.ends_with("refused"))
                {
                    verdict = verdict.max(Verdict::Lenient);
                } else {
                    verdict = Verdict::Fail;
                    writeln!(log, "      not said; instead {:02x?}, closed {}", broker.said, broker.is_closed).unwrap();
                }
            }
        }
    }
    if !broker.said.is_empty() {
        verdict = verdict.max(Verdict::Lenient);
        writeln!(log, "    said too {:02x?}", broker.said).unwrap();
    }
    let closes = case["expect_disconnect"].as_bool().unwrap_or(true);
    if broker.is_closed != closes {
        verdict = Verdict::Fail;
        writeln!(log, "    closed: {}, expected {closes}", broker.is_closed).unwrap();
    }
    *retained = broker.retained;
    (verdict, log)
}

fn folder() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/vectors");
    std::env::var_os("TIDEGATE_VECTORS").map_or_else(beside, PathBuf::from).join("mqtt-wire")
}

#[test]
fn every_case_comes_out_as_with_mosquitto() {
    let Ok(files) = std::fs::read_dir(folder()) else {
        eprintln!("skipped: no mqtt-wire cases in {}", folder().display());
        return;
    };
    let mut files: Vec<PathBuf> =
        files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    let mut retained = BTreeMap::new();
    let (mut counts, mut failures) = ([0; 3], String::new());
    for file in files {
        let groups: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for group in groups.as_array().unwrap() {
            for case in group["tests"].as_array().unwrap() {
                let version = case["ver"].as_u64().or(group["ver"].as_u64()).unwrap_or(4);
                let connects = case["connect"].as_bool().or(group["connect"].as_bool()).unwrap_or(true);
                let (verdict, log) = play(case, version, connects, &mut retained);
                counts[verdict as usize] += 1;
                if verdict == Verdict::Fail {
                    writeln!(failures, "{verdict:?} {} {}\n{log}", group["group"], case["name"]).unwrap();
                }
            }
        }
    }
    let [exact, lenient, fail] = counts;
    eprintln!("{exact} exact, {lenient} lenient, {fail} failed");
    assert!(fail == 0, "{failures}");
    assert_eq!(exact + lenient, 1_826);
}
