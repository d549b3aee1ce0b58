//! What MQTT keeps: sessions whose clients are away, retained messages, wills and groups. Byte by byte, against a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;

use conformance::{Adapter, DEADLINE, KEY_1, KEY_2, MANIFESTS, until};
use rabbitmq_rig::shared_url;

const TOPIC: &str = "channels/lab.telemetry/messages/a";
const ALL: &str = "channels/lab.telemetry/messages/#";
const JSON: &str = "application/json";

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
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

/// How a client connects.
#[derive(Clone)]
struct Login {
    level: u8,
    id: &'static str,
    clean: bool,
    properties: Vec<u8>,
    will: Vec<u8>,
    will_flags: u8,
    first_device: bool,
}

/// MQTT 5, a session of 300 seconds.
fn stored(id: &'static str) -> Login {
    let properties = [&[0x11], 300_u32.to_be_bytes().as_slice()].concat();
    Login { level: 5, id, clean: false, properties, will: vec![], will_flags: 0, first_device: false }
}

impl Login {
    /// The device that may publish too.
    fn publisher(self) -> Self {
        Self { first_device: true, ..self }
    }

    fn clean(self) -> Self {
        Self { clean: true, ..self }
    }

    fn with(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }

    /// With a will of QoS 1 that waits for so many seconds.
    fn will(self, payload: &str, delay: u32) -> Self {
        let properties = [&[5, 0x18], delay.to_be_bytes().as_slice()].concat();
        Self { will: [properties, text(TOPIC), text(payload)].concat(), will_flags: 0b1100, ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let flags = 0xc0 | self.will_flags | if self.clean { 2 } else { 0 };
        let properties = if self.level == 5 {
            [&[u8::try_from(self.properties.len()).unwrap()], &*self.properties].concat()
        } else {
            vec![]
        };
        let (thing, key) = if self.first_device { ("lab.dev1", KEY_1) } else { ("lab.dev2", KEY_2) };
        let head = [text("MQTT"), vec![self.level, flags, 0, 60], properties, text(self.id)];
        packet(0x10, &[head.concat(), self.will.clone(), text(thing), text(key)].concat())
    }
}

/// A client that says bytes and reads packets.
struct Client {
    stream: TcpStream,
    level: u8,
    /// Whether there was a session.
    present: bool,
}

impl Client {
    fn connect(adapter: &Adapter, login: &Login) -> Self {
        let mut stream = TcpStream::connect(adapter.mqtt()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(&login.bytes()).unwrap();
        let mut client = Self { stream, level: login.level, present: false };
        let (first, body) = client.read().unwrap();
        assert_eq!((first, body[1]), (0x20, 0), "{body:02x?}");
        client.present = body[0] == 1;
        client
    }

    /// The next packet: its first byte, and what follows its length.
    fn read(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
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

    fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn properties(&self) -> &'static [u8] {
        if self.level == 5 { &[0] } else { &[] }
    }

    /// Subscribes and returns the reason.
    fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.say(&packet(0x82, &[&[0, 9], self.properties(), &text(filter), &[options]].concat()));
        let (first, body) = self.read().unwrap();
        assert_eq!((first, &body[..2]), (0x90, [0, 9].as_slice()));
        *body.last().unwrap()
    }

    /// Publishes with these flags in the first byte, and a name where the QoS asks for one.
    fn publish(&mut self, flags: u8, topic: &str, id: u16, payload: &str) {
        let id = if flags & 6 == 0 { vec![] } else { id.to_be_bytes().to_vec() };
        let body = [text(topic), id, self.properties().to_vec(), payload.as_bytes().to_vec()].concat();
        self.say(&packet(0x30 | flags, &body));
    }

    /// The next packet has to be a message: its flags, its name where it has one, and its payload.
    fn message(&mut self) -> (u8, u16, String) {
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
    fn payloads_until(&mut self, last: &str) -> Vec<String> {
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

    fn acknowledge(&mut self, first: u8, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.say(&[first, 2, high, low]);
    }

    /// Expects this answer, without a reason that is an error.
    fn answered(&mut self, first: u8, id: u16) {
        let (said, body) = self.read().unwrap();
        assert_eq!((said, u16::from_be_bytes([body[0], body[1]])), (first, id));
        assert!(body.get(2).is_none_or(|reason| *reason < 0x80), "{body:02x?}");
    }

    fn disconnect(mut self) {
        self.say(&[0xe0, 0]);
        // The other side closes when it has let go of the session.
        let _ = self.stream.read_to_end(&mut vec![]);
    }
}

fn counted(adapter: &Adapter, metric: &str) -> u64 {
    let metrics = adapter.admin("/metrics").unwrap();
    let line = metrics.lines().find(|line| line.split([' ', '{']).next() == Some(metric));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_default()
}

/// Waits until so many sessions are kept of clients that are away.
fn away(adapter: &Adapter, count: u64) {
    until("the session is kept", || counted(adapter, "tidegate_mqtt_sessions_away") == count);
}

fn publish(adapter: &Adapter, topic: &str, payload: &str) {
    assert_eq!(adapter.publish(topic, KEY_1, JSON, payload.as_bytes()).unwrap(), 202);
}

#[test]
fn what_comes_while_a_client_is_away_waits_for_it_and_nothing_else_does() {
    for broker in ["memory:", shared_url()] {
        for login in [stored("offline"), Login { level: 4, properties: vec![], id: "offline-3", ..stored("") }] {
            let adapter = Adapter::start(broker, &[]).unwrap();
            let mut client = Client::connect(&adapter, &login);
            assert!(!client.present);
            assert_eq!(client.subscribe(ALL, 1), 1);
            client.disconnect();
            away(&adapter, 1);
            for payload in ["1", "2", "3"] {
                publish(&adapter, TOPIC, payload);
            }
            // Of QoS 0 nothing waits.
            assert_eq!(adapter.publish(&format!("{TOPIC}?qos=0"), KEY_1, JSON, b"0").unwrap(), 202);
            publish(&adapter, TOPIC, "4");
            until("they wait", || counted(&adapter, "tidegate_mqtt_waiting_messages") == 4);
            let mut client = Client::connect(&adapter, &login);
            assert!(client.present);
            assert_eq!(client.payloads_until("4"), ["1", "2", "3", "4"]);
            publish(&adapter, TOPIC, "5");
            assert_eq!(client.payloads_until("5"), ["5"]);
            drop(client);
            away(&adapter, 1);
            // A clean start ends it.
            let mut client = Client::connect(&adapter, &login.clone().clean());
            assert!(!client.present);
            publish(&adapter, TOPIC, "6");
            client.say(&[0xc0, 0]);
            assert_eq!(client.read().unwrap().0, 0xd0, "no subscription is left");
        }
    }
}

/// BR-02: a message of QoS 2 is taken once, whatever happens in between; and what is owed is said first.
#[test]
fn exactly_once_outlives_the_connection() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut events = adapter.subscribe("channels/telemetry/messages/%23", KEY_2).unwrap();
    let login = stored("twice").publisher();
    let mut client = Client::connect(&adapter, &login);
    client.publish(0b0100, TOPIC, 7, "\"once\"");
    client.answered(0x50, 7);
    client.publish(0b1100, TOPIC, 7, "\"once\"");
    client.answered(0x50, 7);
    drop(client);
    let mut client = Client::connect(&adapter, &login);
    assert!(client.present);
    client.publish(0b1100, TOPIC, 7, "\"once\"");
    client.answered(0x50, 7);
    client.acknowledge(0x62, 7);
    client.answered(0x70, 7);
    publish(&adapter, TOPIC, "\"after\"");
    assert_eq!(events.until("\"after\"").unwrap().matches("\"once\"").count(), 1);

    let mut witness = Client::connect(&adapter, &stored("owed"));
    witness.subscribe(ALL, 2);
    client.publish(0b0100, TOPIC, 8, "\"owed\"");
    client.answered(0x50, 8);
    let (flags, id, _) = witness.message();
    assert_eq!(flags, 0b0100);
    witness.acknowledge(0x50, id);
    witness.answered(0x62, id);
    drop(witness);
    let mut witness = Client::connect(&adapter, &stored("owed"));
    witness.answered(0x62, id);
    witness.acknowledge(0x70, id);
    publish(&adapter, TOPIC, "\"next\"");
    assert_eq!(witness.payloads_until("\"next\""), ["\"next\""]);
}

/// BR-08: a subscription that wants RETAIN as it was published gets it so, also of what waited.
#[test]
fn retain_as_published_holds_for_what_waited() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let login = stored("published");
    let mut client = Client::connect(&adapter, &login);
    client.subscribe(ALL, 0b10_1001);
    client.disconnect();
    away(&adapter, 1);
    publish(&adapter, &format!("{TOPIC}?retain=true"), "1");
    publish(&adapter, TOPIC, "2");
    let mut client = Client::connect(&adapter, &login);
    assert_eq!(client.message().0, 0b0011);
    assert_eq!(client.message().0, 0b0010);
}

/// BR-09: each subscription gets what is retained, as its option says, also in a session that was resumed.
#[test]
fn retained_messages_come_as_the_option_says() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    publish(&adapter, &format!("{TOPIC}?retain=true"), "\"kept\"");
    let kept = (0b0011, "\"kept\"".to_owned());
    for level in [5, 4] {
        let (id, properties) = if level == 5 { ("again", stored("").properties) } else { ("again-3", vec![]) };
        let login = Login { level, properties, ..stored(id) };
        let mut client = Client::connect(&adapter, &login);
        assert!(!client.present);
        let next = |client: &mut Client, options: u8| {
            assert_eq!(client.subscribe(ALL, options), 1);
            let (flags, id, payload) = client.message();
            client.acknowledge(0x40, id);
            (flags & 0b0111, payload)
        };
        assert_eq!(next(&mut client, 1), kept);
        drop(client);
        away(&adapter, 1);
        let mut client = Client::connect(&adapter, &login);
        assert!(client.present);
        assert_eq!(next(&mut client, 1), kept);
        if level == 5 {
            // When it is new, and not again; and never.
            let other = "channels/lab.telemetry/messages/+";
            assert_eq!(client.subscribe(ALL, 0b1_0001), 1);
            assert_eq!(client.subscribe(other, 0b1_0001), 1);
            let (_, id, _) = client.message();
            client.acknowledge(0x40, id);
            assert_eq!(client.subscribe("channels/lab.telemetry/messages/a", 0b10_0001), 1);
            assert_eq!(client.subscribe("$share/g/channels/lab.telemetry/messages/a", 1), 1);
        }
        client.say(&[0xc0, 0]);
        assert_eq!(client.read().unwrap().0, 0xd0, "nothing else came");
        client.disconnect();
        away(&adapter, 1);
        // So that none is left.
        let mut client = Client::connect(&adapter, &Login { properties: vec![], ..login.clean() });
        client.say(&[0xe0, 0]);
    }
    // An empty one takes it away.
    publish(&adapter, &format!("{TOPIC}?retain=true"), "");
    let mut client = Client::connect(&adapter, &stored("late").clean());
    client.subscribe(ALL, 1);
    client.say(&[0xc0, 0]);
    assert_eq!(client.read().unwrap().0, 0xd0);
}

/// BR-10: names of messages on their way are not given twice.
#[test]
fn a_name_that_is_under_way_is_given_to_no_other_message() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let login = stored("window").with(&[0x21, 0, 2]);
    let mut client = Client::connect(&adapter, &login);
    client.subscribe(ALL, 1);
    for payload in ["1", "2"] {
        publish(&adapter, TOPIC, payload);
    }
    let before = [client.message(), client.message()];
    drop(client);
    away(&adapter, 1);
    for payload in ["3", "4", "5"] {
        publish(&adapter, TOPIC, payload);
    }
    let mut client = Client::connect(&adapter, &login);
    for (flags, id, payload) in before {
        assert_eq!(client.message(), (flags | 0b1000, id, payload));
    }
    client.acknowledge(0x40, 1);
    let (flags, third, payload) = client.message();
    assert_eq!((flags, payload.as_str()), (0b0010, "3"));
    assert!(third != 2);
    client.acknowledge(0x40, 2);
    client.acknowledge(0x40, third);
    assert_eq!(client.payloads_until("5"), ["4", "5"]);
}

/// BR-13: all that is retained comes, however slowly it is acknowledged.
#[test]
fn all_that_is_retained_comes_beyond_any_window() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    for number in 0..300 {
        let topic = format!("channels/lab.telemetry/messages/r/{number}?retain=true");
        publish(&adapter, &topic, &number.to_string());
    }
    let login = Login { level: 4, properties: vec![], ..stored("slow") }.clean();
    let mut client = Client::connect(&adapter, &login);
    client.subscribe("channels/lab.telemetry/messages/r/#", 1);
    assert_eq!(client.payloads_until("299").len(), 300);
    assert_eq!(counted(&adapter, "tidegate_retained_messages"), 300);
}

#[test]
fn a_will_waits_for_its_delay_and_not_for_a_client_that_comes_back() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut events = adapter.subscribe("channels/telemetry/messages/%23", KEY_2).unwrap();
    let device = |id| stored(id).publisher();
    // At once, where it has no delay.
    drop(Client::connect(&adapter, &device("a").will("\"a is gone\"", 0)));
    events.until("\"a is gone\"").unwrap();
    // Not at all, where the client says goodbye, or is back in time.
    Client::connect(&adapter, &device("b").will("\"b is gone\"", 0)).disconnect();
    drop(Client::connect(&adapter, &device("c").will("\"c is gone\"", 300)));
    away(&adapter, 3);
    let back = Client::connect(&adapter, &device("c"));
    assert!(back.present);
    // With the session, where that ends first.
    drop(Client::connect(&adapter, &device("d").will("\"d is gone\"", 300)));
    away(&adapter, 3);
    let again = Client::connect(&adapter, &device("d").clean());
    assert!(!again.present);
    let seen = events.until("\"d is gone\"").unwrap();
    assert!(!seen.contains("b is gone") && !seen.contains("c is gone"), "{seen}");
}

#[test]
fn a_session_that_is_taken_over_loses_nothing_on_the_way() {
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    let login = stored("moving");
    let mut client = Client::connect(&adapter, &login);
    client.subscribe(ALL, 1);
    let mut expected = 0;
    for round in 0..20 {
        publish(&adapter, TOPIC, &round.to_string());
        // While the one before is still there.
        let mut next = Client::connect(&adapter, &login);
        assert!(next.present);
        loop {
            let (_, id, payload) = next.message();
            next.acknowledge(0x40, id);
            let number = payload.parse::<u32>().unwrap();
            assert!(number <= expected, "{number} before {expected}");
            if number == expected {
                break;
            }
        }
        expected += 1;
        client = next;
    }
    assert_eq!(expected, 20);
    drop(client);
}

#[test]
fn a_group_shares_messages_within_its_channel() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let filter = format!("$share/workers/{ALL}");
    let mut first = Client::connect(&adapter, &stored("first").clean());
    // Another Thing, and another version.
    let login = Login { level: 4, properties: vec![], ..stored("second") }.clean().publisher();
    let mut second = Client::connect(&adapter, &login);
    assert_eq!((first.subscribe(&filter, 1), second.subscribe(&filter, 1)), (1, 1));
    assert_eq!(first.subscribe("$share/workers/channels/other/messages/#", 1), 0x87);
    for number in 0..4 {
        publish(&adapter, TOPIC, &number.to_string());
    }
    let mut got: Vec<String> =
        [&mut first, &mut second].into_iter().flat_map(|client| [client.message().2, client.message().2]).collect();
    got.sort();
    assert_eq!(got, ["0", "1", "2", "3"]);
    second.disconnect();
    publish(&adapter, TOPIC, "4");
    assert_eq!(first.message().2, "4");
}

#[test]
fn what_a_thing_loses_while_it_is_away_it_does_not_get_when_it_is_back() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let login = stored("revoked");
    let mut client = Client::connect(&adapter, &login);
    client.subscribe(ALL, 1);
    client.disconnect();
    away(&adapter, 1);
    let allowed = |adapter: &Adapter| counted(adapter, "tidegate_subscriptions");
    adapter.set_manifests(&MANIFESTS.replace("permissions: [Subscribe]", "permissions: [Publish]")).unwrap();
    until("the subscription is gone", || allowed(&adapter) == 0);
    publish(&adapter, TOPIC, "1");
    let mut client = Client::connect(&adapter, &login);
    assert!(client.present, "the session itself is the Thing's");
    client.say(&[0xc0, 0]);
    assert_eq!(client.read().unwrap().0, 0xd0);
    client.disconnect();
    away(&adapter, 1);
    // A Thing that is disabled has no session.
    adapter
        .set_manifests(&MANIFESTS.replace(
            "metadata: {namespace: lab, name: dev2}\nspec:",
            "metadata: {namespace: lab, name: dev2}\nspec:\n  suspended: true",
        ))
        .unwrap();
    away(&adapter, 0);
}

/// A key is rotated while its device is away: the session stays, and only the new key opens it.
#[test]
fn a_session_is_the_things_whichever_key_it_comes_with() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let login = stored("rotated");
    let mut client = Client::connect(&adapter, &login);
    client.subscribe(ALL, 1);
    client.disconnect();
    away(&adapter, 1);
    let other = "key-dev2-9876543210";
    adapter.set_manifests(&MANIFESTS.replace(KEY_2, other)).unwrap();
    until("the old key is refused", || adapter.publish(TOPIC, KEY_2, JSON, b"1").unwrap() == 401);
    publish(&adapter, TOPIC, "2");
    let bytes = login.bytes();
    let at = bytes.len() - KEY_2.len();
    let with_new_key = [&bytes[..at], other.as_bytes()].concat();
    let mut stream = TcpStream::connect(adapter.mqtt()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&with_new_key).unwrap();
    let mut client = Client { stream, level: 5, present: false };
    assert_eq!(client.read().unwrap().1[..2], [1, 0]);
    assert_eq!(client.payloads_until("2"), ["2"]);
}

#[test]
fn a_session_ends_when_its_time_is_over() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let second = [&[0x11], 1_u32.to_be_bytes().as_slice()].concat();
    let login = Login { properties: second, ..stored("short") };
    let mut client = Client::connect(&adapter, &login);
    client.subscribe(ALL, 1);
    client.disconnect();
    away(&adapter, 1);
    away(&adapter, 0);
    assert!(!Client::connect(&adapter, &login).present);
}
