//! Transcripts of a session: what the client and the others say, line by line, and what the session says to that.
//!
//! `> connect 5 c1 clean expiry=300` and the like is a packet of the client, `! settle 1` an answer of another, and
//! `! cut` the loss of the connection, after which the next one goes on with what is left.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use expect_test::Expect;
use tidegate_mqtt_proto::*;

/// Plays a script and compares all that the session says.
#[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
pub(crate) fn check(script: &str, expected: &Expect) {
    let limits = Limits { receive_max: NonZeroU16::new(3).unwrap(), waiting_max: 4, ..Limits::default() };
    let mut stage = Stage::new(limits, Instant::now());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        stage.say(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words[0], words[1]) {
            (">", _) => stage.client(&words[1..]),
            ("!", "cut") => stage.cut(),
            ("!", _) => stage.other(&words[1..]),
            _ => panic!("{line}"),
        }
        stage.drain();
    }
    expected.assert_eq(&stage.said);
}

struct Stage {
    limits: Limits,
    session: Session,
    kept: Option<State>,
    tickets: Vec<Ticket>,
    now: Instant,
    said: String,
}

impl Stage {
    fn new(limits: Limits, now: Instant) -> Self {
        let session = Session::new(limits, now);
        Self { limits, session, kept: None, tickets: Vec::new(), now, said: String::new() }
    }

    fn say(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
    }

    /// By way of bytes, as it would come.
    fn client(&mut self, words: &[&str]) {
        let version = self.session.version();
        let packet = packet(words, version);
        let mut bytes = BytesMut::new();
        encode(&packet, version, &mut bytes).unwrap();
        let outcome = split(&mut bytes, self.session.packet_bytes_max())
            .map(|frame| frame.expect("a whole packet"))
            .and_then(|frame| decode(frame, version, Sender::Client));
        match outcome {
            Ok(packet) => self.session.handle_packet(packet, self.now),
            Err(error) => self.session.handle_malformed(error),
        }
    }

    fn other(&mut self, words: &[&str]) {
        let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let reason = |code: &str, packet| Reason::of(packet, u8::from_str_radix(code, 16).unwrap()).unwrap();
        let ticket = |stage: &Self| stage.tickets[words[1].parse::<usize>().unwrap() - 1];
        match words[0] {
            "accept" => {
                let client_id = value("id").map(text);
                let state = self.kept.take().filter(|_| words.contains(&"resume"));
                self.session.accept(Accepted { state, client_id, ..Accepted::default() }, self.now);
            }
            "refuse" => self.session.refuse(reason(words[1], PacketType::ConnAck), Some("so it is")),
            "settle" => {
                let verdict = words.get(2).map_or(Ok(()), |code| {
                    Err(Reason::of(PacketType::PubAck, u8::from_str_radix(code, 16).unwrap())
                        .unwrap_or_else(|| reason(code, PacketType::Disconnect)))
                });
                self.session.settle(ticket(self), verdict, Some("so it is"));
            }
            "subscribed" => {
                let outcome = |word: &&str| match word.strip_prefix('x') {
                    Some(code) => Err(reason(code, PacketType::SubAck)),
                    None => Ok(QoS::new(word.parse().unwrap()).unwrap()),
                };
                let outcomes = words[2..].iter().map(outcome).collect();
                self.session.subscribed(ticket(self), outcomes, Some("so it is"));
            }
            "unsubscribed" => self.session.unsubscribed(ticket(self), Ok(())),
            "deliver" | "retained" => {
                let seconds = value("expiry").map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
                let message = Message {
                    topic: text(words[1]),
                    payload: Bytes::copy_from_slice(value("payload").unwrap_or("x").as_bytes()),
                    qos: QoS::new(value("qos").map_or(0, |qos| qos.parse().unwrap())).unwrap(),
                    retain: words.contains(&"retain"),
                    properties: value("type").map(|word| Property::ContentType(text(word))).into_iter().collect(),
                    expires: seconds.map(|span| self.now + span),
                };
                let filters: Vec<Text> = value("for").unwrap_or(words[1]).split(',').map(text).collect();
                if words[0] == "retained" {
                    self.session.deliver_retained(message, &filters[0], self.now);
                } else {
                    self.session.deliver(message, &filters, words.contains(&"own"), self.now);
                }
            }
            "revoke" => self.session.revoke(&text(words[1])),
            "tick" => {
                self.now += Duration::from_secs(words[1].parse().unwrap());
                self.session.handle_timeout(self.now);
            }
            "end" => self.session.end(reason(words[1], PacketType::Disconnect), Some("so it is")),
            _ => panic!("{words:?}"),
        }
    }

    fn cut(&mut self) {
        let next = Session::new(self.limits, self.now);
        let ended = std::mem::replace(&mut self.session, next).into_ended();
        let will = ended.will.map(|will| format!(" will={}", will.topic.as_str())).unwrap_or_default();
        self.say(&format!("  left: {} waiting, for {:?}{will}", ended.state.waiting(), ended.expires_after));
        self.kept = Some(ended.state);
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            let line = match output {
                Output::Send(packet) => format!("< {}", say(&packet, self.session.version())),
                Output::Login(connect) => format!("? login {}", connect.client_id.as_str()),
                Output::Publish(ticket, publish) => {
                    self.tickets.push(ticket);
                    format!("? {} publish {}", self.tickets.len(), publish.topic.as_str())
                }
                Output::Subscribe(ticket, wanted) => {
                    self.tickets.push(ticket);
                    let new = |wanted: &Wanted| if wanted.is_new { "" } else { "(again)" };
                    let wanted = wanted.iter().map(|one| format!(" {}{}", one.filter.as_str(), new(one)));
                    format!("? {} subscribe{}", self.tickets.len(), wanted.collect::<String>())
                }
                Output::Unsubscribe(ticket, filters) => {
                    self.tickets.push(ticket);
                    let filters = filters.iter().map(|filter| format!(" {}", filter.as_str()));
                    format!("? {} unsubscribe{}", self.tickets.len(), filters.collect::<String>())
                }
                Output::Close => "< closed".to_owned(),
            };
            self.say(&line);
        }
        let dropped = self.session.dropped();
        if dropped != Dropped::default() && !self.said.contains(&format!("{dropped:?}")) {
            self.say(&format!("  {dropped:?}"));
        }
    }
}

pub(crate) fn text(text: &str) -> Text {
    Text::try_from(text).unwrap()
}

fn id(word: &str) -> PacketId {
    PacketId::new(word.parse().unwrap()).unwrap()
}

/// The packet that these words say.
fn packet(words: &[&str], version: Version) -> Packet {
    let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str| value(name).map(|word| word.parse::<u32>().unwrap());
    let has = |word: &str| words.contains(&word);
    let reason = |of| {
        value("reason").map_or(Reason::Success, |code| Reason::of(of, u8::from_str_radix(code, 16).unwrap()).unwrap())
    };
    let acknowledgement = |of| Acknowledgement { id: id(words[1]), reason: reason(of), properties: Properties::NONE };
    match words[0] {
        "connect" => connect(words, &value, &number, &has),
        "publish" => {
            let packet = value("id").map(id);
            let delivery = match (value("qos").unwrap_or("0"), packet, has("dup")) {
                ("1", Some(id), dup) => Delivery::AtLeastOnce { id, dup },
                ("2", Some(id), dup) => Delivery::ExactlyOnce { id, dup },
                _ => Delivery::AtMostOnce,
            };
            let alias = number("alias").map(|alias| NonZeroU16::new(alias.try_into().unwrap()).unwrap());
            let properties = if version == Version::V5 {
                alias.map(Property::TopicAlias).into_iter().collect()
            } else {
                Properties::NONE
            };
            let topic = text(value("topic").unwrap_or_default());
            let payload = Bytes::from_static(b"x");
            Packet::Publish(Publish { delivery, retain: has("retain"), topic, properties, payload })
        }
        "puback" => Packet::PubAck(acknowledgement(PacketType::PubAck)),
        "pubrec" => Packet::PubRec(acknowledgement(PacketType::PubRec)),
        "pubrel" => Packet::PubRel(acknowledgement(PacketType::PubRel)),
        "pubcomp" => Packet::PubComp(acknowledgement(PacketType::PubComp)),
        "subscribe" => {
            let identifier = number("ident").and_then(NonZeroU32::new).map(Property::SubscriptionIdentifier);
            let properties = identifier.into_iter().collect();
            let filters = words[2..].iter().filter_map(|word| word.split_once(':')).map(|(filter, options)| {
                let mut options = options.split(',');
                let qos = QoS::new(options.next().unwrap().parse().unwrap()).unwrap();
                let options: Vec<&str> = options.collect();
                let retain_handling = RetainHandling::Send;
                let (no_local, retain_as_published) = (options.contains(&"nl"), options.contains(&"rap"));
                (text(filter), SubscriptionOptions { qos, no_local, retain_as_published, retain_handling })
            });
            Packet::Subscribe(Subscribe { id: id(words[1]), properties, filters: filters.collect() })
        }
        "unsubscribe" => {
            let filters = words[2..].iter().map(|word| text(word)).collect();
            Packet::Unsubscribe(Unsubscribe { id: id(words[1]), properties: Properties::NONE, filters })
        }
        "ping" => Packet::PingReq,
        "disconnect" => {
            let properties = number("expiry").map(Property::SessionExpiryInterval).into_iter().collect();
            Packet::Disconnect(Disconnect { reason: reason(PacketType::Disconnect), properties })
        }
        "auth" => Packet::Auth(Auth { reason: Reason::ContinueAuthentication, properties: Properties::NONE }),
        _ => panic!("{words:?}"),
    }
}

fn connect<'a>(
    words: &[&'a str],
    value: &dyn Fn(&str) -> Option<&'a str>,
    number: &dyn Fn(&str) -> Option<u32>,
    has: &dyn Fn(&str) -> bool,
) -> Packet {
    let version = match words[1] {
        "5" => Version::V5,
        "3.1" => Version::V3_1,
        _ => Version::V3_1_1,
    };
    let small = |name: &str| number(name).map(|number| u16::try_from(number).unwrap());
    let properties = [
        number("expiry").map(Property::SessionExpiryInterval),
        small("receive").and_then(NonZeroU16::new).map(Property::ReceiveMaximum),
        number("bytes").and_then(NonZeroU32::new).map(Property::MaximumPacketSize),
        small("aliases").map(Property::TopicAliasMaximum),
        has("quiet").then_some(Property::RequestProblemInformation(false)),
        value("method").map(|method| Property::AuthenticationMethod(text(method))),
    ];
    let will = value("will").map(|topic| Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::NONE,
        topic: text(topic),
        payload: Bytes::from_static(b"gone"),
    });
    Packet::Connect(Box::new(Connect {
        version,
        clean_start: has("clean"),
        keep_alive: small("alive").unwrap_or(0),
        properties: properties.into_iter().flatten().collect(),
        client_id: text(words.get(2).filter(|word| **word != "-").unwrap_or(&"")),
        will,
        user_name: None,
        password: None,
    }))
}

/// A packet in a few words.
fn say(packet: &Packet, version: Version) -> String {
    let with = |properties: &Properties| match (version, properties.is_empty()) {
        (Version::V5, false) => format!(" {properties:?}"),
        _ => String::new(),
    };
    let step = |name: &str, ack: &Acknowledgement| {
        format!("{name} {} {:02x}{}", ack.id.get(), ack.reason.code(), with(&ack.properties))
    };
    let codes = |reasons: &[Reason]| reasons.iter().map(|reason| format!(" {:02x}", reason.code())).collect::<String>();
    match packet {
        Packet::ConnAck(ack) => {
            let code = if version == Version::V5 { ack.reason.code() } else { ack.reason.connect_return_code() };
            let present = if ack.session_present { " present" } else { "" };
            format!("connack {code:02x}{present}{}", with(&ack.properties))
        }
        Packet::Publish(publish) => {
            let delivery = match publish.delivery {
                Delivery::AtMostOnce => "0".to_owned(),
                Delivery::AtLeastOnce { id, dup } => format!("1 {}{}", id.get(), if dup { " dup" } else { "" }),
                Delivery::ExactlyOnce { id, dup } => format!("2 {}{}", id.get(), if dup { " dup" } else { "" }),
            };
            let retain = if publish.retain { " retain" } else { "" };
            let payload = String::from_utf8_lossy(&publish.payload).into_owned();
            format!("publish {delivery}{retain} {:?} {payload}{}", publish.topic, with(&publish.properties))
        }
        Packet::PubAck(ack) => step("puback", ack),
        Packet::PubRec(ack) => step("pubrec", ack),
        Packet::PubRel(ack) => step("pubrel", ack),
        Packet::PubComp(ack) => step("pubcomp", ack),
        Packet::SubAck(ack) => format!("suback {}{}{}", ack.id.get(), codes(&ack.reasons), with(&ack.properties)),
        Packet::UnsubAck(ack) => format!("unsuback {}{}", ack.id.get(), codes(&ack.reasons)),
        Packet::Disconnect(end) => format!("disconnect {:02x}{}", end.reason.code(), with(&end.properties)),
        Packet::Connect(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::PingResp
        | Packet::Auth(_) => format!("{packet:?}"),
    }
}
