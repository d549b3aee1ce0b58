//! MQTT byte by byte, as a client that says what no library would.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::{Adapter, DEADLINE, KEY_1, KEY_2};

/// A string with its length.
///
/// # Panics
/// When it is too long to be one.
#[must_use]
pub fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// A packet of this first byte and body.
///
/// # Panics
/// Never.
#[must_use]
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut length = body.len();
    let mut bytes = vec![first];
    loop {
        let more = length > 127;
        bytes.push(u8::try_from(length % 128).unwrap() | if more { 128 } else { 0 });
        length /= 128;
        if !more {
            return [&bytes, body].concat();
        }
    }
}

/// How a client connects: the second device of the fixture, unless it says otherwise.
#[derive(Clone)]
pub struct Login {
    /// 3, 4 or 5.
    pub level: u8,
    /// Its client identifier.
    pub id: &'static str,
    /// Whether it wants a new session.
    pub clean: bool,
    /// Properties of its CONNECT, in MQTT 5.
    pub properties: Vec<u8>,
    /// Its will: properties, topic and payload.
    pub will: Vec<u8>,
    /// Where its will goes; nowhere where empty.
    pub will_topic: &'static str,
    /// Whether its will is to be retained.
    pub will_retain: bool,
    /// Who it says it is.
    pub thing: &'static str,
    /// The key that it shows.
    pub key: &'static str,
}

impl Login {
    /// MQTT 5, a session of 300 seconds.
    #[must_use]
    pub fn stored(id: &'static str) -> Self {
        let properties = [&[0x11], 300_u32.to_be_bytes().as_slice()].concat();
        let (will, will_topic) = (vec![], "");
        Self {
            level: 5,
            id,
            clean: false,
            properties,
            will,
            will_topic,
            will_retain: false,
            thing: "lab.dev2",
            key: KEY_2,
        }
    }

    /// MQTT 3.1.1, a session for ever.
    #[must_use]
    pub fn stored_3(id: &'static str) -> Self {
        Self { level: 4, properties: vec![], ..Self::stored(id) }
    }

    /// The device that may publish too.
    #[must_use]
    pub fn publisher(self) -> Self {
        Self { thing: "lab.dev1", key: KEY_1, ..self }
    }

    /// A new session.
    #[must_use]
    pub fn clean(self) -> Self {
        Self { clean: true, ..self }
    }

    /// With one more property.
    #[must_use]
    pub fn with(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }

    /// With a will of QoS 1 and MQTT 5 that waits for so many seconds.
    #[must_use]
    pub fn will(self, topic: &'static str, payload: &str, delay: u32) -> Self {
        let properties = [&[5, 0x18], delay.to_be_bytes().as_slice()].concat();
        Self { will: [properties, text(topic), text(payload)].concat(), will_topic: topic, ..self }
    }

    /// The CONNECT.
    ///
    /// # Panics
    /// When it says more than it can.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let will_flags = if self.will_topic.is_empty() { 0 } else { 0b1100 };
        let will_flags = will_flags | if self.will_retain { 0b10_0000 } else { 0 };
        let flags = 0xc0 | will_flags | if self.clean { 2 } else { 0 };
        let mut properties = vec![];
        if self.level == 5 {
            properties.extend(u8::try_from(self.properties.len()));
            properties.extend_from_slice(&self.properties);
        }
        let head = [text("MQTT"), vec![self.level, flags, 0, 60], properties, text(self.id)];
        packet(0x10, &[head.concat(), self.will.clone(), text(self.thing), text(self.key)].concat())
    }
}

/// A client that says bytes and reads packets.
pub struct Client {
    stream: TcpStream,
    level: u8,
    /// Whether there was a session.
    pub present: bool,
}

impl Client {
    /// One that has asked to be let in.
    ///
    /// # Panics
    /// When the connection breaks.
    #[must_use]
    pub fn ask(adapter: &Adapter, login: &Login) -> Self {
        let stream = TcpStream::connect(adapter.mqtt()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut client = Self { stream, level: login.level, present: false };
        client.say(&login.bytes());
        client
    }

    /// One that is let in.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn connect(adapter: &Adapter, login: &Login) -> Self {
        let mut client = Self::ask(adapter, login);
        let (first, body) = client.read().unwrap();
        assert_eq!((first, body[1]), (0x20, 0), "{body:02x?}");
        client.present = body[0] == 1;
        client
    }

    /// The next packet: its first byte, and what follows its length.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn read(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        let first = byte[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            self.stream.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 127) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((first, body))
    }

    /// Says bytes.
    ///
    /// # Panics
    /// When something else happens.
    pub fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn properties(&self) -> &'static [u8] {
        if self.level == 5 { &[0] } else { &[] }
    }

    /// Subscribes and returns the reason.
    ///
    /// # Panics
    /// When something else happens.
    pub fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.say(&packet(0x82, &[&[0, 9], self.properties(), &text(filter), &[options]].concat()));
        let (first, body) = self.read().unwrap();
        assert_eq!((first, &body[..2]), (0x90, [0, 9].as_slice()));
        *body.last().unwrap()
    }

    /// Publishes with these flags in the first byte, and a name where the QoS asks for one.
    ///
    /// # Panics
    /// When something else happens.
    pub fn publish(&mut self, flags: u8, topic: &str, id: u16, payload: &str) {
        let id = if flags & 6 == 0 { vec![] } else { id.to_be_bytes().to_vec() };
        let body = [text(topic), id, self.properties().to_vec(), payload.as_bytes().to_vec()].concat();
        self.say(&packet(0x30 | flags, &body));
    }

    /// The next packet has to be a message: its flags, its name where it has one, and its payload.
    ///
    /// # Panics
    /// When something else happens.
    pub fn message(&mut self) -> (u8, u16, String) {
        let (first, body) = self.read().unwrap();
        assert_eq!(first >> 4, 3, "{first:02x} {body:02x?}");
        let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let mut id = 0;
        if first & 6 != 0 {
            id = u16::from_be_bytes([body[at], body[at + 1]]);
            at += 2;
        }
        if self.level == 5 {
            at += 1 + usize::from(body[at]);
        }
        (first & 15, id, String::from_utf8(body[at..].to_vec()).unwrap())
    }

    /// Takes messages and acknowledges them, until this payload comes; all payloads.
    ///
    /// # Panics
    /// When something else happens.
    pub fn payloads_until(&mut self, last: &str) -> Vec<String> {
        let mut payloads = vec![];
        while payloads.last().is_none_or(|payload| payload != last) {
            let (flags, id, payload) = self.message();
            if flags & 6 == 2 {
                self.acknowledge(0x40, id);
            }
            payloads.push(payload);
        }
        payloads
    }

    /// Says an acknowledgement.
    ///
    /// # Panics
    /// When something else happens.
    pub fn acknowledge(&mut self, first: u8, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.say(&[first, 2, high, low]);
    }

    /// Expects this answer, without a reason that is an error.
    ///
    /// # Panics
    /// When something else happens.
    pub fn answered(&mut self, first: u8, id: u16) {
        let (said, body) = self.read().unwrap();
        assert_eq!((said, u16::from_be_bytes([body[0], body[1]])), (first, id));
        assert!(body.get(2).is_none_or(|reason| *reason < 0x80), "{body:02x?}");
    }

    /// Takes leave, and waits until the other side has let go of the session.
    ///
    /// # Panics
    /// When something else happens.
    pub fn disconnect(mut self) {
        self.say(&[0xe0, 0]);
        // However it ends.
        let _ = self.stream.read_to_end(&mut vec![]);
    }
}
