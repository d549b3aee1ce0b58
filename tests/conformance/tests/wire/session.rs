//! The session alone as the server of a case, with a broker around it that lets everyone in.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tidegate_mqtt_proto::*;

use crate::cases::{Case, Server};

/// What is retained, over all cases.
pub(crate) type Shelf = Rc<RefCell<BTreeMap<Text, Message>>>;

/// A broker of one client, which publishes and subscribes as it likes.
pub(crate) struct Broker {
    session: Session,
    input: BytesMut,
    /// What it said, packet by packet.
    said: VecDeque<Vec<u8>>,
    is_closed: bool,
    retained: Shelf,
    now: Instant,
}

impl Broker {
    #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
    pub(crate) fn new(case: &Case, retained: &Shelf) -> Self {
        let now = Instant::now();
        let limits = Limits {
            receive_max: std::num::NonZeroU16::new(20).unwrap(),
            topic_alias_max: 10,
            topic_alias_out_max: 0,
            packet_bytes_max: 2_000_000,
            ..Limits::default()
        };
        let session = Session::new(limits, now);
        let retained = Rc::clone(retained);
        let mut broker =
            Self { session, input: BytesMut::new(), said: VecDeque::new(), is_closed: false, retained, now };
        if case.connects {
            let connect = match case.version {
                3 => "10 r15 s6 'MQIsdp' 03 02 k10 s1 'p'",
                5 => "10 r14 s4 'MQTT' 05 02 k10 v0 s1 'p'",
                _ => "10 r13 s4 'MQTT' 04 02 k10 s1 'p'",
            };
            broker.feed(&crate::cases::bytes(connect));
            broker.said.clear();
        }
        broker
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
                Output::Publish(ticket, publish) => self.take(ticket, &publish),
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
        let retained = self.retained.borrow();
        let kept = retained.iter().filter(|(topic, _)| matches(wanted.filter.as_str(), topic.as_str()));
        let kept: Vec<Message> = kept.map(|(_, message)| message.clone()).collect();
        drop(retained);
        for message in kept {
            self.session.deliver_retained(message, &wanted.filter, self.now);
        }
    }

    fn take(&mut self, ticket: Ticket, publish: &Publish) {
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
            self.retained.borrow_mut().remove(&publish.topic);
        } else if publish.retain {
            self.retained.borrow_mut().insert(publish.topic.clone(), message.clone());
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

impl Server for Broker {
    fn send(&mut self, bytes: &[u8]) {
        self.feed(bytes);
    }

    fn publish(&mut self, topic: &str, qos: u8, payload: &str) {
        let message = Message {
            topic: Text::try_from(topic).unwrap(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos: QoS::new(qos).unwrap(),
            retain: false,
            properties: Properties::NONE,
            expires: None,
        };
        self.deliver(message, false);
        self.poll();
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        self.said.pop_front()
    }

    fn end(&mut self, _is_expected: bool) -> (bool, Vec<Vec<u8>>) {
        (self.is_closed, std::mem::take(&mut self.said).into())
    }
}
