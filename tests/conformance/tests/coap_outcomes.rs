//! The CoAP column of the outcome table, from real datagrams to a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::time::Duration;

use conformance::coap::{
    ACCEPT, ACK, BLOCK1, BLOCK2, CON, CONTENT_FORMAT, Client, DELETE, Datagram, ECHO, ETAG, FETCH, GET, MAX_AGE,
    NO_RESPONSE, NON, OBSERVE, POST, PROXY_URI, PUT, RST, SIZE1, SIZE2, URI_PATH, URI_QUERY, uint,
};
use conformance::mqtt::{self, Login, packet, text};
use conformance::{Adapter, KEY_1, KEY_2, MANIFESTS, until};
use expect_test::expect_file;
use rabbitmq_rig::{Rabbit, shared_url};

const PATH: &str = "channels/lab.telemetry/messages/a";
const SENML_JSON: u32 = 110;
const SENML_CBOR: u32 = 112;
const JSON: u32 = 50;
const OCTETS: u32 = 42;
const TEXT: u32 = 0;

/// A response in one line: its code, its options with values that say something, and its words.
fn line(answer: &Datagram) -> String {
    if answer.kind == RST {
        return "reset".to_owned();
    }
    let mut line = if answer.kind == NON { "NON ".to_owned() } else { String::new() };
    line.push_str(&if answer.code == 0 { "empty".to_owned() } else { answer.code() });
    for (number, _) in &answer.options {
        let value = answer.number(*number).unwrap();
        let block = || format!("{}/{}/{}", value >> 4, value >> 3 & 1, 16 << (value & 7));
        line.push_str(&match *number {
            // These are other ones each time.
            ETAG => " ETag".to_owned(),
            OBSERVE => " Observe".to_owned(),
            ECHO => " Echo".to_owned(),
            CONTENT_FORMAT => format!(" Content-Format:{value}"),
            MAX_AGE => format!(" Max-Age:{value}"),
            SIZE1 => format!(" Size1:{value}"),
            SIZE2 => format!(" Size2:{value}"),
            BLOCK1 => format!(" Block1:{}", block()),
            BLOCK2 => format!(" Block2:{}", block()),
            other => format!(" {other}:{value}"),
        });
    }
    if !answer.payload.is_empty() {
        write!(line, " {:?}", answer.text()).unwrap();
    }
    line
}

type Row = (&'static str, Datagram);

fn request(kind: u8, code: u8) -> Datagram {
    Datagram::new(kind, code, 1, &[1, 2, 3])
}

/// A message to the usual topic, with this key.
fn publish(key: &str) -> Datagram {
    request(CON, POST).to(&format!("{PATH}?auth={key}")).with(CONTENT_FORMAT, uint(JSON)).carrying("1")
}

/// The same with another path, or another query.
fn publish_to(target: &str) -> Datagram {
    request(CON, POST).to(target).with(CONTENT_FORMAT, uint(JSON)).carrying("1")
}

/// The same with levels as they are.
fn publish_below(levels: &[&[u8]]) -> Datagram {
    let begin = publish_to(&format!("channels/lab.telemetry/messages?auth={KEY_1}"));
    levels.iter().fold(begin, |request, level| request.with(URI_PATH, level))
}

fn of_format(format: u32, payload: &[u8]) -> Datagram {
    request(CON, POST).to(&format!("{PATH}?auth={KEY_1}")).with(CONTENT_FORMAT, uint(format)).carrying(payload)
}

fn get(target: &str) -> Datagram {
    request(CON, GET).to(target)
}

fn accepted() -> Vec<Row> {
    let other = |kind, code| Datagram { kind, code, ..publish(KEY_1) };
    let encoded: String = KEY_1.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let long = publish(KEY_1).to("?a=1&b&c=d=e");
    vec![
        ("accepted, POST", publish(KEY_1)),
        ("accepted, PUT", other(CON, PUT)),
        ("accepted, NON POST", other(NON, POST)),
        ("accepted, NON PUT", other(NON, PUT)),
        ("accepted, without a token", Datagram { token: vec![], ..publish(KEY_1) }),
        ("accepted, with a token of 8 bytes", Datagram { token: vec![7; 8], ..publish(KEY_1) }),
        ("accepted, authorization=", publish_to(&format!("{PATH}?authorization={KEY_1}"))),
        ("accepted, percent-encoded", publish_to(&format!("{PATH}?auth={encoded}"))),
        ("accepted, the key before other arguments", long),
        ("accepted, the key behind others", publish_to(&format!("{PATH}?a=1&b&c=d=e&auth={KEY_1}"))),
        ("accepted, the key twice", publish_to(&format!("{PATH}?auth={KEY_1}&authorization={KEY_1}"))),
        ("accepted, an empty last argument", publish(KEY_1).with(URI_QUERY, [])),
        ("accepted, a key that holds =", publish_to(&format!("{PATH}?auth=key-with=equals=0123"))),
        ("accepted, by alias", publish_to(&format!("channels/flashed-1/messages/a?auth={KEY_1}"))),
        ("accepted, empty levels", publish_below(&[b"a", b"", b"b", b""])),
        ("accepted, dots are levels", publish_below(&[b"..", b"a.b", b"."])),
        ("accepted, no content format", request(CON, POST).to(&format!("{PATH}?auth={KEY_1}")).carrying("[]")),
        ("accepted, no payload", of_format(OCTETS, b"")),
        ("accepted, SenML in CBOR", of_format(SENML_CBOR, &[0x81, 0xa1, 0, 0x61, b'a'])),
        ("accepted, as large as may be", of_format(OCTETS, &[0; 1_000])),
        ("accepted, in one block", publish(KEY_1).with(BLOCK1, uint(6))),
        ("accepted, an elective option that is not known", publish(KEY_1).with(65_000, [1])),
        ("accepted, no response wanted", publish(KEY_1).with(NO_RESPONSE, uint(2))),
    ]
}

fn refused() -> Vec<Row> {
    let non = |request: Datagram| Datagram { kind: NON, ..request };
    let checked = format!("channels/lab.checked/messages?auth={KEY_1}");
    let large = of_format(OCTETS, &[0; 1_001]);
    let first = of_format(OCTETS, &[0; 64]).with(BLOCK1, uint(0x0a));
    let many = vec![b"b".as_slice(); 201];
    vec![
        ("no key", publish_to(PATH)),
        ("no key, NON", non(publish_to(PATH))),
        ("a name without a value", publish_to(&format!("{PATH}?auth"))),
        ("another name", publish_to(&format!("{PATH}?key={KEY_1}"))),
        ("unknown key", publish("key-none-0123456789")),
        ("two keys", publish_to(&format!("{PATH}?auth={KEY_1}&auth={KEY_2}"))),
        ("expired key", publish("key-old1-0123456789")),
        ("suspended thing", publish("key-rest-0123456789")),
        ("no right to publish", publish(KEY_2)),
        ("no right to publish, NON", non(publish(KEY_2))),
        ("no grant", publish_to(&format!("channels/lab.other/messages?auth={KEY_1}"))),
        ("unknown channel", publish_to(&format!("channels/lab.none/messages?auth={KEY_1}"))),
        ("unknown path", publish_to(&format!("some/where?auth={KEY_1}"))),
        ("no path", publish_to(&format!("?auth={KEY_1}"))),
        ("a level with +", publish_below(&[b"a+b"])),
        ("the level +", publish_below(&[b"+"])),
        ("the level #", publish_below(&[b"a", b"#"])),
        ("the level *", publish_below(&[b"*"])),
        ("a slash in a level", publish_below(&[b"a/b"])),
        ("a level that is not UTF-8", publish_below(&[b"\xff"])),
        ("a level with a control character", publish_below(&[b"a\x01"])),
        ("the path in one option", request(CON, POST).with(URI_PATH, PATH).with(URI_QUERY, format!("auth={KEY_1}"))),
        ("too many levels", publish_below(&many)),
        ("too large", large.clone()),
        ("too large, NON", non(large)),
        ("too large, as its first block says", first.clone().with(SIZE1, uint(1_001))),
        ("its first block, with a right", first),
        ("a block without the first", of_format(OCTETS, &[0; 64]).with(BLOCK1, uint(0x1a))),
        ("a block that is short", of_format(OCTETS, &[0; 63]).with(BLOCK1, uint(0x0a))),
        ("a block of the reserved size", of_format(OCTETS, &[0; 64]).with(BLOCK1, uint(0x0f))),
        ("the first block of one without a right", publish(KEY_2).carrying([0; 64]).with(BLOCK1, uint(0x0a))),
        ("content format not admitted", of_format(TEXT, b"1")),
        ("content format unknown", of_format(9_999, b"1")),
        ("payload not valid", request(CON, POST).to(&checked).with(CONTENT_FORMAT, uint(SENML_JSON)).carrying("{}")),
        ("DELETE", Datagram { code: DELETE, ..publish(KEY_1) }),
        ("FETCH", Datagram { code: FETCH, ..publish(KEY_1) }),
        ("PATCH", Datagram { code: 6, ..publish(KEY_1) }),
        ("a method that is none", Datagram { code: 0x1f, ..publish(KEY_1) }),
        ("a critical option that is not known", publish(KEY_1).with(65_001, [1])),
        ("a critical option that is not known, NON", non(publish(KEY_1).with(65_001, [1]))),
        ("If-None-Match", publish(KEY_1).with(5, [])),
        ("a content format twice", publish(KEY_1).with(CONTENT_FORMAT, uint(JSON))),
        ("a proxy", request(CON, GET).with(PROXY_URI, "coap://example.com/a")),
        ("a proxy by scheme", get(PATH).with(39, "http")),
    ]
}

fn asked() -> Vec<Row> {
    let path = |query: &str| format!("{PATH}{query}");
    let key = format!("?auth={KEY_2}");
    let register = |target: &str| get(target).with(OBSERVE, []);
    vec![
        ("nothing is kept", get(&path(&key))),
        ("nothing is kept, NON", Datagram { kind: NON, ..get(&path(&key)) }),
        ("kept", get(&format!("{PATH}/kept{key}"))),
        ("kept, in another format", get(&format!("{PATH}/kept{key}")).with(ACCEPT, uint(SENML_CBOR))),
        ("kept, in a format that is wanted", get(&format!("{PATH}/kept{key}")).with(ACCEPT, uint(JSON))),
        ("kept, in blocks of 16", get(&format!("{PATH}/kept{key}")).with(BLOCK2, [])),
        ("kept, behind its end", get(&format!("{PATH}/kept{key}")).with(BLOCK2, uint(0x106))),
        ("no key", get(PATH)),
        ("unknown key", get(&path("?auth=key-none-0123456789"))),
        ("no grant", get(&format!("channels/lab.other/messages{key}"))),
        ("unknown channel", get(&format!("channels/lab.none/messages{key}"))),
        ("unknown path", get(&format!("some/where{key}"))),
        ("malformed filter", get(&format!("{PATH}/b+{key}"))),
        ("observed", register(&path(&key))),
        ("observed, NON", Datagram { kind: NON, ..register(&path(&key)) }),
        ("observed, kept", register(&format!("{PATH}/kept{key}"))),
        ("observed, kept, in another format", register(&format!("{PATH}/kept{key}")).with(ACCEPT, uint(SENML_CBOR))),
        ("observed, kept, in a format that is wanted", register(&format!("{PATH}/kept{key}")).with(ACCEPT, uint(JSON))),
        ("observed, all below", register(&format!("channels/flashed-1/messages/#{key}"))),
        ("observed, no key", register(PATH)),
        ("observed, no grant", register(&format!("channels/lab.other/messages{key}"))),
        ("observed, unknown channel", register(&format!("channels/lab.none/messages{key}"))),
        ("observed, over channels", register(&format!("channels/+/messages{key}"))),
        ("observed no more", get(&path(&key)).with(OBSERVE, [1])),
        ("Observe is neither", get(&path(&key)).with(OBSERVE, [2])),
        ("resources, to one that sends little", get(".well-known/core")),
        ("resources", get(".well-known/core").with(65_000, [0; 200])),
        ("resources, in another format", get(".well-known/core").with(ACCEPT, uint(JSON))),
        ("resources, by POST", request(CON, POST).to(".well-known/core").carrying("1")),
        ("resources that are not", get(".well-known/core?rt=none").with(65_000, [0; 200])),
    ]
}

/// Bytes, and what is said to them before a ping behind them is answered.
fn raw() -> Vec<(&'static str, Vec<u8>)> {
    let publish = publish(KEY_1).bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = publish.clone();
        bytes[at] = byte;
        bytes
    };
    vec![
        ("a ping", vec![0x40, 0, 0, 9]),
        ("a ping, NON", vec![0x50, 0, 0, 9]),
        ("nothing", vec![]),
        ("half a header", vec![0x40, 2]),
        ("another version", with(0, 0x83)),
        ("a token of 9 bytes", with(0, 0x49)),
        ("a token of 15 bytes", with(0, 0x4f)),
        ("a token that is cut off", vec![0x44, 2, 0, 9, 1]),
        ("a code of no class", with(1, 0x22)),
        ("a marker and no payload", [&publish[..publish.len() - 1]].concat()),
        ("an option of a reserved delta", vec![0x40, 2, 0, 9, 0xf0]),
        ("an option of a reserved length", vec![0x40, 2, 0, 9, 0x0f]),
        ("an option that is cut off", vec![0x40, 2, 0, 9, 0xb4, b'a']),
        ("an option number that is too large", vec![0x40, 2, 0, 9, 0xe0, 0xff, 0xff]),
        ("the same, NON", vec![0x50, 2, 0, 9, 0xe0, 0xff, 0xff]),
        ("an empty message with a token", vec![0x41, 0, 0, 9, 1]),
        ("an acknowledgement of nothing", vec![0x60, 0, 0, 9]),
        ("an acknowledgement that asks", with(0, 0x63)),
        ("a malformed acknowledgement", vec![0x6f, 0, 0, 9]),
        ("a reset of nothing", vec![0x70, 0, 0, 9]),
        ("a reset that asks", with(0, 0x73)),
        ("a response to nothing", vec![0x40, 0x45, 0, 9]),
        ("a response to nothing, NON", vec![0x50, 0x45, 0, 9]),
        ("a piggybacked response to nothing", vec![0x60, 0x45, 0, 9]),
    ]
}

fn said(client: &Client, bytes: &[u8]) -> String {
    const PING: u16 = 0xffff;
    client.say(bytes);
    client.say(&Datagram::new(CON, 0, PING, &[]).bytes());
    let mut all = vec![];
    loop {
        let message = client.read().unwrap();
        if message.id == PING {
            return if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
        }
        all.push(line(&message));
    }
}

fn table(adapter: &Adapter) -> String {
    let mut table = String::new();
    let kept =
        format!("POST /{PATH}/kept?retain=true HTTP/1.1\nAuthorization: {KEY_1}\nContent-Type: application/json");
    let answer = adapter.request(&kept, br#"{"temperature": 21.5}"#).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let key = format!("{PATH}/kept?auth={KEY_2}");
    until("it is kept", || !Client::connect(adapter.coap()).fetch(&key).unwrap().1.is_empty());
    for (of, rows) in [("publish", accepted()), ("publish", refused()), ("get", asked())] {
        for (name, request) in rows {
            let answer = Client::connect(adapter.coap()).ask(&request).unwrap();
            assert!(answer.kind == RST || answer.code == 0 || answer.token == request.token, "{name}: {answer:?}");
            writeln!(table, "{of} | {name} | {}", line(&answer)).unwrap();
        }
    }
    let client = Client::connect(adapter.coap());
    for (name, bytes) in raw() {
        writeln!(table, "raw | {name} | {}", said(&client, &bytes)).unwrap();
    }
    table
}

/// The fixture, with a key of the first device more.
fn manifests() -> String {
    MANIFESTS
        .replacen(
            "secretRefs: [{id: a, name: keys, key: dev1}",
            "secretRefs: [{id: a, name: keys, key: dev1}, {id: b, name: keys, key: equals}",
            1,
        )
        .replacen("{dev1: ", "{equals: \"key-with=equals=0123\", dev1: ", 1)
}

#[test]
fn every_outcome_is_what_the_table_says_on_both_brokers() {
    for broker in ["memory:", shared_url()] {
        let adapter = Adapter::start(broker, &[]).unwrap();
        adapter.set_manifests(&manifests()).unwrap();
        let publish = |key| adapter.publish(PATH, key, "application/json", b"1").unwrap();
        until("there is one more key", || publish("key-with=equals=0123") == 202);
        expect_file!["coap_outcomes.txt"].assert_eq(&table(&adapter));
    }
}

/// What observers are told when something happens, and that they are told nothing more.
fn happening(what: &str, adapter: &mut Adapter, happens: impl Fn(&mut Adapter), expected: &str) {
    let target = format!("{PATH}?auth={KEY_1}");
    let mut clients = [Client::connect(adapter.coap()), Client::connect(adapter.coap())];
    let tokens = clients.each_mut().map(|client| {
        let (answer, token) = client.observe(&target).unwrap();
        assert!(answer.option(OBSERVE).is_some(), "{what}: {answer:?}");
        token
    });
    happens(adapter);
    for (client, token) in clients.iter().zip(tokens) {
        assert_eq!(line(&client.told(&token).unwrap()), expected, "{what}");
    }
}

#[test]
fn who_observes_is_told_why_it_does_no_more() {
    let mut adapter = Adapter::start("memory:", &[]).unwrap();
    let set = |text: String| move |adapter: &mut Adapter| adapter.set_manifests(&text).unwrap();
    let observations = |adapter: &Adapter| adapter.metric("tidegate_coap_observations").unwrap();
    let is_back = |adapter: &Adapter| {
        until("they are dropped", || observations(adapter) == 0);
        adapter.set_manifests(MANIFESTS).unwrap();
        let target = format!("{PATH}?auth={KEY_1}");
        until("the right is back", || {
            Client::connect(adapter.coap()).fetch(&target).unwrap().0.code == 0x45
                && adapter.publish(PATH, KEY_1, "application/json", b"1").unwrap() == 202
        });
    };
    let withdrawn = "4.03 \"access withdrawn\"";
    happening("key removed", &mut adapter, set(MANIFESTS.replace(KEY_1, "key-new1-0123456789")), withdrawn);
    is_back(&adapter);
    let without = MANIFESTS.replacen("  - {channel: telemetry}\n", "", 1);
    happening("right withdrawn", &mut adapter, set(without), withdrawn);
    is_back(&adapter);
    let speaks =
        MANIFESTS.replacen("  - {channel: telemetry}\n", "  - {channel: telemetry, permissions: [Publish]}\n", 1);
    happening("right to subscribe withdrawn", &mut adapter, set(speaks), withdrawn);
    is_back(&adapter);
    let suspended = MANIFESTS.replacen("  aliases: [flashed-dev1]", "  suspended: true\n  aliases: [flashed-dev1]", 1);
    happening("thing suspended", &mut adapter, set(suspended), withdrawn);
    is_back(&adapter);
    let end = |adapter: &mut Adapter| assert_eq!(adapter.terminate().unwrap(), Some(0));
    happening("shutting down", &mut adapter, end, "NON 5.03 Max-Age:1 \"the server is shutting down\"");
}

/// Who takes one format alone is told nothing in another.
//= RFC7641 4.2
#[test]
fn an_observer_is_told_that_what_holds_is_not_in_its_format() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let client = Client::connect(adapter.coap());
    let target = format!("{PATH}?auth={KEY_2}");
    let register = get(&target).with(OBSERVE, []).with(ACCEPT, uint(JSON));
    assert_eq!(line(&client.ask(&register).unwrap()), "2.05 Observe");
    for (format, expected) in
        [(JSON, "2.05 Observe Content-Format:50 \"[]\""), (SENML_JSON, "4.06 \"it is of another format\"")]
    {
        let message = of_format(format, b"[]");
        assert_eq!(Client::connect(adapter.coap()).ask(&message).unwrap().code(), "2.04");
        assert_eq!(line(&client.told(&register.token).unwrap()), expected);
    }
    until("it observes no more", || adapter.metric("tidegate_coap_observations").unwrap() == 0);
}

/// Who is told more than can wait for it is told so, and observes no more.
#[test]
fn an_observer_that_is_told_too_much_is_told_that_it_is_too_much() {
    const OBSERVATIONS: usize = 64;
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut client = Client::connect(adapter.coap());
    let target = format!("{PATH}?auth={KEY_2}");
    let tokens: Vec<Vec<u8>> = (0..OBSERVATIONS).map(|_| client.observe(&target).unwrap().1).collect();
    let mut sends = mqtt::Client::connect(&adapter, &Login::stored("sends").clean().publisher());
    let message = packet(0x30, &[&*text(PATH), &[0], b"1"].concat()).repeat(5_000);
    let overruns = r#"tidegate_subscription_ends_total{protocol="coap",reason="overrun"}"#;
    until("it is too much", || {
        sends.say(&message);
        adapter.metric(overruns).unwrap() > 0
    });
    let mut last = client.read().unwrap();
    while last.code() != "4.29" {
        client.acknowledge(&last);
        last = client.read().unwrap();
    }
    assert!(tokens.contains(&last.token) && last.option(OBSERVE).is_none(), "{last:?}");
    assert_eq!(line(&last), r#"4.29 Max-Age:1 "too many requests""#);
}

#[test]
fn who_asks_too_fast_is_told_when_to_come_again() {
    let adapter = Adapter::start("memory:", &["--coap-requests-per-second-max", "1"]).unwrap();
    let client = Client::connect(adapter.coap());
    let mut id = 0;
    // Those who are told so are not more than those who are served: the others hear nothing.
    let mut ask = || {
        id += 1;
        client.say(&Datagram { id, ..publish(KEY_1) }.bytes());
        client.read_within(Duration::from_millis(300)).unwrap().map(|answer| line(&answer))
    };
    until("one is too fast", || ask().as_deref() == Some(r#"4.29 Max-Age:1 "more requests in a second than may be""#));
    until("one is not any more", || ask().as_deref() == Some("2.04"));
}

#[test]
fn a_broker_that_is_away_is_told_within_the_bound() {
    let rabbit = Rabbit::start().unwrap();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &["--publish-timeout", "2s"]).unwrap();
    let away = "5.03 Max-Age:2 \"the message broker is not available\"";
    let (mut observer, client) = (Client::connect(adapter.coap()), Client::connect(adapter.coap()));
    let (answer, token) = observer.observe(&format!("{PATH}?auth={KEY_2}")).unwrap();
    assert_eq!(line(&answer), "2.05 Observe");
    rabbit.pause().unwrap();
    // An answer that takes its time comes for itself, and a copy of the question is told that it will.
    let (asked, awaited) = (publish(KEY_1).bytes(), Datagram::new(ACK, 0, 1, &[]));
    client.say(&asked);
    assert_eq!(client.read().unwrap(), awaited);
    client.say(&asked);
    assert_eq!(client.read().unwrap(), awaited);
    let answer = client.read().unwrap();
    client.acknowledge(&answer);
    assert_eq!((answer.kind, &answer.token, line(&answer).as_str()), (CON, &vec![1, 2, 3], away));
    let register = get(&format!("channels/lab.checked/messages?auth={KEY_1}")).with(OBSERVE, []);
    assert_eq!(line(&Client::connect(adapter.coap()).ask(&register).unwrap()), away);
    assert_eq!(
        line(&Client::connect(adapter.coap()).ask(&Datagram { kind: NON, ..publish(KEY_1) }).unwrap()),
        format!("NON {away}")
    );
    rabbit.resume().unwrap();
    // Who observes goes on, as soon as the adapter itself is told of messages again.
    until("it is accepted again and comes", || {
        let last = publish(KEY_1).carrying("2");
        let is_accepted = Client::connect(adapter.coap()).ask(&last).unwrap().code() == "2.04";
        let told = observer.read_within(Duration::from_millis(100)).unwrap();
        is_accepted
            && told.is_some_and(|told| {
                observer.acknowledge(&told);
                told.token == token && told.text() == "2"
            })
    });
}
