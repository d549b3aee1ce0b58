//! What MQTT keeps: sessions whose clients are away, retained messages, wills and groups. Byte by byte, against a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;

use conformance::mqtt::{Client, Login, packet, text};
use conformance::{Adapter, DEADLINE, KEY_1, KEY_2, MANIFESTS, Xorshift, until};
use rabbitmq_rig::shared_url;

const TOPIC: &str = "channels/lab.telemetry/messages/a";
const ALL: &str = "channels/lab.telemetry/messages/#";
const JSON: &str = "application/json";

/// A topic and its filter for one test alone, since those that go through RabbitMQ share one.
macro_rules! own_topic {
    ($level:literal) => {
        const TOPIC: &str = concat!("channels/lab.telemetry/messages/", $level);
        const ALL: &str = concat!("channels/lab.telemetry/messages/", $level, "/#");
    };
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

//= MQTT5 3.1.2-4, 3.1.2-5, 3.1.2-6, 3.1.2-23, 3.1.4-4, 3.2.2-2, 3.2.2-3, 4.1.0-1, 4.5.0-1
//= MQTT3 3.1.2-4, 3.1.2-5, 3.1.2-6, 3.1.4-3, 3.2.2-1, 3.2.2-2, 3.2.2-3, 4.1.0-1, 4.1.0-2, 4.5.0-1
#[test]
fn what_comes_while_a_client_is_away_waits_for_it_and_nothing_else_does() {
    own_topic!("away");
    for broker in ["memory:", shared_url()] {
        for login in [Login::stored("offline"), Login::stored_3("offline-3")] {
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
    let login = Login::stored("twice").publisher();
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

    let mut witness = Client::connect(&adapter, &Login::stored("owed"));
    witness.subscribe(ALL, 2);
    client.publish(0b0100, TOPIC, 8, "\"owed\"");
    client.answered(0x50, 8);
    let (flags, id, _) = witness.message();
    assert_eq!(flags, 0b0100);
    witness.acknowledge(0x50, id);
    witness.answered(0x62, id);
    drop(witness);
    let mut witness = Client::connect(&adapter, &Login::stored("owed"));
    witness.answered(0x62, id);
    witness.acknowledge(0x70, id);
    publish(&adapter, TOPIC, "\"next\"");
    assert_eq!(witness.payloads_until("\"next\""), ["\"next\""]);
}

/// BR-08: a subscription that wants RETAIN as it was published gets it so, also of what waited.
#[test]
fn retain_as_published_holds_for_what_waited() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let login = Login::stored("published");
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
//= MQTT5 3.3.1-5, 3.3.1-6, 3.3.1-7, 3.3.1-9, 3.3.1-10, 3.3.1-11
//= MQTT3 3.1.2-7, 3.3.1-5, 3.3.1-6, 3.3.1-8, 3.3.1-10, 3.3.1-11, 3.8.4-3
#[test]
fn retained_messages_come_as_the_option_says() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    publish(&adapter, &format!("{TOPIC}?retain=true"), "\"kept\"");
    let kept = (0b0011, "\"kept\"".to_owned());
    for level in [5, 4] {
        let (id, properties) = if level == 5 { ("again", Login::stored("").properties) } else { ("again-3", vec![]) };
        let login = Login { level, properties, ..Login::stored(id) };
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
    // An empty one takes it away, also where a Channel asks for content.
    let checked = "channels/lab.checked/messages?retain=true";
    for (payload, retained) in [(r#"[{"n":"t","v":1}]"#, 2), ("", 1)] {
        let sent = adapter.publish(checked, KEY_1, "application/senml+json", payload.as_bytes());
        assert_eq!((sent.unwrap(), counted(&adapter, "tidegate_retained_messages")), (202, retained));
    }
    assert_eq!(adapter.publish("channels/lab.checked/messages", KEY_1, "application/senml+json", b"").unwrap(), 422);
    publish(&adapter, &format!("{TOPIC}?retain=true"), "");
    let mut client = Client::connect(&adapter, &Login::stored("late").clean());
    client.subscribe(ALL, 1);
    client.say(&[0xc0, 0]);
    assert_eq!(client.read().unwrap().0, 0xd0);
}

/// BR-10: names of messages on their way are not given twice.
#[test]
fn a_name_that_is_under_way_is_given_to_no_other_message() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let login = Login::stored("window").with(&[0x21, 0, 2]);
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
    for number in 0..3_000 {
        let topic = format!("channels/lab.telemetry/messages/r/{number}?retain=true");
        publish(&adapter, &topic, &number.to_string());
    }
    let login = Login::stored_3("slow").clean();
    let mut client = Client::connect(&adapter, &login);
    client.subscribe("channels/lab.telemetry/messages/r/#", 1);
    assert_eq!(client.payloads_until("2999").len(), 3_000);
    assert_eq!(counted(&adapter, "tidegate_retained_messages"), 3_000);
    // Of QoS 0 too, which nobody acknowledges.
    let mut client = Client::connect(&adapter, &Login::stored("quick").clean());
    client.subscribe("channels/lab.telemetry/messages/r/#", 0);
    assert_eq!(client.payloads_until("2999").len(), 3_000);
}

//= MQTT5 3.1.2-8, 3.1.2-14, 3.1.3-9
//= MQTT3 3.1.2-16
#[test]
fn a_will_waits_for_its_delay_and_not_for_a_client_that_comes_back() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut events = adapter.subscribe("channels/telemetry/messages/%23", KEY_2).unwrap();
    let device = |id| Login::stored(id).publisher();
    // At once, where it has no delay.
    drop(Client::connect(&adapter, &device("a").will(TOPIC, "\"a is gone\"", 0)));
    events.until("\"a is gone\"").unwrap();
    // Not at all, where the client says goodbye, or is back in time.
    Client::connect(&adapter, &device("b").will(TOPIC, "\"b is gone\"", 0)).disconnect();
    drop(Client::connect(&adapter, &device("c").will(TOPIC, "\"c is gone\"", 300)));
    away(&adapter, 3);
    let back = Client::connect(&adapter, &device("c"));
    assert!(back.present);
    // And where the client says goodbye, and why.
    let mut upset = Client::connect(&adapter, &device("e").will(TOPIC, "\"e is gone\"", 0));
    upset.say(&[0xe0, 1, 0x80]);
    events.until("\"e is gone\"").unwrap();
    drop(upset);
    away(&adapter, 3);
    // With the session, where that ends first.
    drop(Client::connect(&adapter, &device("d").will(TOPIC, "\"d is gone\"", 300)));
    away(&adapter, 4);
    let again = Client::connect(&adapter, &device("d").clean());
    assert!(!again.present);
    let seen = events.until("\"d is gone\"").unwrap();
    assert!(!seen.contains("b is gone") && !seen.contains("c is gone"), "{seen}");
}

#[test]
fn a_session_that_is_taken_over_loses_nothing_on_the_way() {
    own_topic!("moving");
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    let login = Login::stored("moving");
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

//= MQTT5 3.3.4-5
#[test]
fn a_group_shares_messages_within_its_channel() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let filter = format!("$share/workers/{ALL}");
    let mut first = Client::connect(&adapter, &Login::stored("first").clean());
    // Another Thing, and another version.
    let login = Login::stored_3("second").clean().publisher();
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
    let login = Login::stored("revoked");
    let mut client = Client::connect(&adapter, &login);
    client.subscribe(ALL, 1);
    client.disconnect();
    away(&adapter, 1);
    // What waits by then it does not get either.
    publish(&adapter, TOPIC, "0");
    until("it waits", || counted(&adapter, "tidegate_mqtt_waiting_messages") == 1);
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
    let login = Login::stored("rotated");
    let mut client = Client::connect(&adapter, &login);
    client.subscribe(ALL, 1);
    client.disconnect();
    away(&adapter, 1);
    let other = "key-dev2-9876543210";
    adapter.set_manifests(&MANIFESTS.replace(KEY_2, other)).unwrap();
    until("the old key is refused", || adapter.publish(TOPIC, KEY_2, JSON, b"1").unwrap() == 401);
    publish(&adapter, TOPIC, "2");
    let mut client = Client::connect(&adapter, &Login { key: other, ..login });
    assert!(client.present);
    assert_eq!(client.payloads_until("2"), ["2"]);
}

//= MQTT5 4.1.0-2
#[test]
fn a_session_ends_when_its_time_is_over() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let second = [&[0x11], 1_u32.to_be_bytes().as_slice()].concat();
    let login = Login { properties: second, ..Login::stored("short") };
    let mut client = Client::connect(&adapter, &login);
    client.subscribe(ALL, 1);
    client.disconnect();
    away(&adapter, 1);
    away(&adapter, 0);
    assert!(!Client::connect(&adapter, &login).present);
}

/// What clients say, whole sessions of it, to be said wrongly.
fn sessions() -> Vec<Vec<u8>> {
    let publish =
        |flags: u8, id: &[u8], properties: &[u8]| packet(0x30 | flags, &[&text(TOPIC), id, properties, b"1"].concat());
    let filters =
        |first: u8, properties: &[u8], end: &[u8]| packet(first, &[&[0, 9], properties, &text(ALL), end].concat());
    let mut all = vec![];
    for (login, none) in [(Login::stored("mutant"), &[0][..]), (Login::stored_3("mutant"), &[][..])] {
        let connect = login.publisher().bytes();
        let to_publish =
            [publish(0, &[], none), publish(2, &[0, 1], none), publish(5, &[0, 2], none), vec![0x62, 2, 0, 2]];
        all.push([connect.clone(), to_publish.concat(), vec![0xe0, 0]].concat());
        let to_subscribe = [filters(0x82, none, &[2]), publish(4, &[0, 3], none), vec![0x50, 2, 0, 1, 0xc0, 0]];
        all.push([connect.clone(), to_subscribe.concat(), filters(0xa2, none, &[])].concat());
        let shared = packet(0x82, &[&[0, 9], none, &text(&format!("$share/g/{ALL}")), &[1]].concat());
        all.push([connect, shared, publish(2, &[0, 4], none)].concat());
    }
    all.push([Login::stored("mutant").will(TOPIC, "gone", 1).publisher().bytes(), vec![0xe0, 1, 4]].concat());
    all
}

/// `TIDEGATE_MUTATIONS` says how many; 10,000 where it does not.
#[test]
fn mutated_sessions_leave_it_alive_and_its_memory_flat() {
    let count = std::env::var("TIDEGATE_MUTATIONS").map_or(10_000, |count| count.parse::<usize>().unwrap());
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let (corpus, mut random, mut answered) = (sessions(), Xorshift::default(), 0);
    let mut send = |rounds: usize| {
        for round in 0..rounds {
            let bytes = random.mutated(&corpus[round % corpus.len()]);
            let mut stream = TcpStream::connect(adapter.mqtt()).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            // A server that has ended it already may take no more.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = vec![];
            let _ = stream.read_to_end(&mut answer);
            answered += usize::from(!answer.is_empty());
        }
    };
    send(2_000);
    let before = adapter.resident_kib().unwrap();
    send(count - 2_000);
    assert!(answered > count / 4, "only {answered} were answered");
    let mut client = Client::connect(&adapter, &Login::stored("sane").clean().publisher());
    client.publish(2, TOPIC, 1, "1");
    client.answered(0x40, 1);
    let after = adapter.resident_kib().unwrap();
    assert!(after < before + 16 * 1_024, "from {before} to {after} KiB");
}

/// What a client wants of its subscriptions happens in the order in which it says it.
#[test]
fn a_subscription_that_is_given_up_at_once_is_given_up() {
    own_topic!("hasty");
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    let mut client = Client::connect(&adapter, &Login::stored("hasty").clean());
    let subscribe = packet(0x82, &[&[0, 1, 0], &*text(ALL), &[1]].concat());
    let unsubscribe = packet(0xa2, &[&[0, 2, 0], &*text(ALL)].concat());
    client.say(&[&*subscribe, &unsubscribe, &subscribe, &unsubscribe].concat());
    for expected in [(0x90, 1), (0xb0, 0), (0x90, 1), (0xb0, 0)] {
        let (first, body) = client.read().unwrap();
        assert_eq!((first, *body.last().unwrap()), expected);
    }
    publish(&adapter, TOPIC, "1");
    client.say(&[0xc0, 0]);
    assert_eq!(client.read().unwrap().0, 0xd0);
}

//= MQTT5 3.8.4-4
#[test]
fn a_subscription_that_is_made_again_loses_nothing_in_between() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut client = Client::connect(&adapter, &Login::stored("again").clean());
    client.subscribe(ALL, 1);
    let again = packet(0x82, &[&[0, 1, 0], &*text(ALL), &[1]].concat());
    std::thread::scope(|scope| {
        scope.spawn(|| (0..300).for_each(|number| publish(&adapter, TOPIC, &number.to_string())));
        let mut numbers = vec![];
        while numbers.len() < 300 {
            client.say(&again);
            loop {
                let (first, body) = client.read().unwrap();
                if first >> 4 == 9 {
                    assert!(*body.last().unwrap() < 0x80);
                    break;
                }
                let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                client.acknowledge(0x40, u16::from_be_bytes([body[at], body[at + 1]]));
                let payload = at + 3 + usize::from(body[at + 2]);
                numbers.push(String::from_utf8_lossy(&body[payload..]).parse::<u32>().unwrap());
            }
        }
        assert_eq!(numbers, (0..300).collect::<Vec<u32>>());
    });
}

/// The next packet has to be the answer to a ping: nothing else has come.
fn nothing_comes(client: &mut Client) {
    client.say(&[0xc0, 0]);
    assert_eq!(client.read().unwrap().0, 0xd0);
}

//= MQTT5 3.1.2-15
//= MQTT3 3.1.2-17
#[test]
fn a_will_that_is_to_be_retained_is() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut witness = Client::connect(&adapter, &Login::stored("witness").clean());
    witness.subscribe(ALL, 1);
    for login in [Login::stored("w5").will(TOPIC, "gone", 0), Login::stored_3("w3")] {
        let will = [text(TOPIC), text("gone")].concat();
        let will = if login.level == 5 { login.will.clone() } else { will };
        let login = Login { will, will_topic: TOPIC, will_retain: true, ..login };
        drop(Client::connect(&adapter, &login.publisher().clean()));
        let (_, id, payload) = witness.message();
        witness.acknowledge(0x40, id);
        assert_eq!(payload, "gone");
        let mut late = Client::connect(&adapter, &Login::stored("late").clean());
        late.subscribe(ALL, 1);
        let (flags, _, payload) = late.message();
        assert_eq!((flags & 1, payload.as_str()), (1, "gone"));
        publish(&adapter, &format!("{TOPIC}?retain=true"), "");
        let (_, id, _) = witness.message();
        witness.acknowledge(0x40, id);
    }
}

//= MQTT5 3.3.1-8
//= MQTT3 3.3.1-7, 3.3.1-12
#[test]
fn only_what_is_to_be_retained_takes_the_place_of_what_is() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let kept = |expected: &str| {
        let mut late = Client::connect(&adapter, &Login::stored_3("late").clean());
        late.subscribe(ALL, 1);
        assert_eq!(late.message().2, expected);
    };
    publish(&adapter, &format!("{TOPIC}?retain=true"), "1");
    publish(&adapter, TOPIC, "2");
    publish(&adapter, TOPIC, "");
    kept("1");
    // Of QoS 0 too.
    let mut client = Client::connect(&adapter, &Login::stored_3("zero").clean().publisher());
    client.publish(1, TOPIC, 0, "3");
    nothing_comes(&mut client);
    until("it is kept", || {
        adapter
            .request(&format!("GET /{TOPIC}?last=true HTTP/1.1\nAuthorization: {KEY_2}"), b"")
            .unwrap()
            .ends_with('3')
    });
    kept("3");
}

//= MQTT5 3.3.2-4, 3.3.2-15, 3.3.2-16
#[test]
fn properties_reach_subscribers_as_they_were_said() {
    own_topic!("says");
    for broker in ["memory:", shared_url()] {
        let adapter = Adapter::start(broker, &[]).unwrap();
        let mut client = Client::connect(&adapter, &Login::stored("says").clean().publisher());
        client.subscribe(ALL, 1);
        let content_type = [&[3], &*text(JSON)].concat();
        let user = [&[0x26], &*text("b"), &text("1"), &[0x26], &text("a"), &text("2"), &[0x26], &text("b"), &text("")]
            .concat();
        let more = [&[1, 1], &[8][..], &text("any/where"), &[9, 0, 3, 0, 0xff, 7], &user, &content_type].concat();
        let length = u8::try_from(more.len()).unwrap();
        client.say(&packet(0x32, &[&*text(TOPIC), &[0, 1, length], &more, b"1"].concat()));
        let (mut seen, mut body) = (false, vec![]);
        while !seen || body.is_empty() {
            let (first, packet) = client.read().unwrap();
            match first >> 4 {
                4 => seen = true,
                _ => body = packet,
            }
        }
        let at = 2 + TOPIC.len() + 2;
        assert_eq!(&body[at..=at + more.len()], [&[length], &*more].concat(), "{broker}");
    }
}

//= MQTT5 4.7.3-4
//= MQTT3 4.7.3-4
#[test]
fn a_topic_is_what_it_is_character_by_character() {
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    let mut client = Client::connect(&adapter, &Login::stored("exact").clean().publisher());
    let topic = |levels: &str| format!("channels/lab.telemetry/messages/{levels}");
    client.subscribe(&topic("a//b"), 0);
    client.subscribe(&topic("a.b"), 0);
    for levels in ["a/b", "A//b", "a//b/", "a/./b", "a//b", "a.b"] {
        client.publish(0, &topic(levels), 0, levels);
    }
    assert_eq!((client.message().2, client.message().2), ("a//b".to_owned(), "a.b".to_owned()));
    nothing_comes(&mut client);
}

//= MQTT5 4.8.2-5
#[test]
fn what_a_member_of_a_group_has_begun_to_take_is_for_no_other() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let ends = |id| Login { properties: vec![], ..Login::stored(id).clean() };
    let mut members = ["first", "second"].map(|id| Client::connect(&adapter, &ends(id)));
    for member in &mut members {
        member.subscribe(&format!("$share/g/{ALL}"), 2);
    }
    assert_eq!(adapter.publish(&format!("{TOPIC}?qos=2"), KEY_1, JSON, b"1").unwrap(), 202);
    let [mut first, mut second] = members;
    assert_eq!(first.message().2, "1");
    first.disconnect();
    until("it is gone", || counted(&adapter, "tidegate_mqtt_connections") == 1);
    nothing_comes(&mut second);
}

#[test]
fn connections_that_are_too_many_at_once_are_closed_and_those_that_come_too_fast_wait() {
    let adapter =
        Adapter::start("memory:", &["--mqtt-connects-per-second-max", "1", "--mqtt-half-open-max", "3"]).unwrap();
    // The first is let in at once, three wait for their turn, and the others find no room.
    let streams: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(adapter.mqtt()).unwrap()).collect();
    until("those that are too many are closed", || counted(&adapter, "tidegate_mqtt_half_open_refused_total") >= 15);
    drop(streams);
    until("there is room again", || {
        let mut client = Client::ask(&adapter, &Login::stored("patient").clean());
        client.read().is_ok_and(|(first, body)| (first, body[1]) == (0x20, 0))
    });
}
