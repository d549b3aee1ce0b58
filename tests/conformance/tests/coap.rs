//! What CoAP does over time, among faces, and where datagrams are lost: raw datagrams to a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conformance::coap::{BLOCK1, BLOCK2, CON, CONTENT_FORMAT, Client, Datagram, GET, NON, OBSERVE, POST, RST, uint};
use conformance::mqtt::{self, Login};
use conformance::ws::{Socket, TEXT};
use conformance::{Adapter, DEADLINE, KEY_1, KEY_2, MANIFESTS, Xorshift, until, until_within};
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use rabbitmq_rig::shared_url;

const PATH: &str = "channels/lab.telemetry/messages/a";
const PUBLISHED: &str = r#"tidegate_publishes_total{protocol="coap",outcome="accepted"}"#;
const OBSERVATIONS: &str = "tidegate_coap_observations";
const JSON: u32 = 50;
/// How long a confirmable message that nobody acknowledges is sent for at most, by RFC 7252: MAX_TRANSMIT_WAIT.
const TRANSMIT_MAX: Duration = Duration::from_secs(93);

fn post(client: &mut Client, path: &str, payload: &str) -> Datagram {
    let request = client.message(CON, POST).to(&format!("{path}?auth={KEY_1}"));
    request.with(CONTENT_FORMAT, uint(JSON)).carrying(payload)
}

/// Publishes as the first device, over CoAP from a port of its own.
fn published(adapter: &Adapter, path: &str, payload: &str) {
    let mut client = Client::connect(adapter.coap());
    let request = post(&mut client, path, payload);
    assert_eq!(client.ask(&request).unwrap().code(), "2.04");
}

fn observing(adapter: &Adapter, path: &str) -> (Client, Vec<u8>) {
    let mut client = Client::connect(adapter.coap());
    let (answer, token) = client.observe(&format!("{path}?auth={KEY_2}")).unwrap();
    assert!(answer.option(OBSERVE).is_some(), "{answer:?}");
    (client, token)
}

fn has_observations(adapter: &Adapter, count: u64) {
    until("there are so many observations", || adapter.metric(OBSERVATIONS).unwrap() == count);
}

//= RFC7252 4.2, 4.5
#[test]
fn a_copy_of_a_message_is_published_once_and_answered_alike() {
    for broker in ["memory:", shared_url()] {
        let adapter = Adapter::start(broker, &[]).unwrap();
        let mut client = Client::connect(adapter.coap());
        for kind in [CON, NON] {
            let before = adapter.metric(PUBLISHED).unwrap();
            let request = Datagram { kind, ..post(&mut client, PATH, "1") };
            let first = client.ask(&request).unwrap();
            assert_eq!(first.code(), "2.04");
            for _ in 0..3 {
                client.say(&request.bytes());
                // Where it is not to be acknowledged, a copy is not to be answered either.
                if kind == CON {
                    assert_eq!(client.read().unwrap(), first, "{broker}");
                }
            }
            // What comes behind the copies is answered behind them.
            let last = post(&mut client, PATH, "2");
            assert_eq!(client.ask(&last).unwrap().code(), "2.04");
            assert_eq!(adapter.metric(PUBLISHED).unwrap(), before + 2, "{broker}");
        }
    }
}

/// BR-26: the last argument, and the last level, are empty; byte for byte as a device has sent them.
#[test]
fn an_empty_last_option_of_the_path_or_the_query_is_passed_over() {
    const PATH_OPTIONS: &[u8] = b"\xb8channels\x0d\x00lab.telemetry\x08messages\x01a";
    const KEY_OPTION: &[u8] = b"\x4d\x0bauth=key-dev1-0123456789";
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut events = adapter.subscribe(PATH, KEY_2).unwrap();
    let client = Client::connect(adapter.coap());
    for (id, options) in
        [(3, [PATH_OPTIONS, KEY_OPTION, b"\x00"].concat()), (4, [PATH_OPTIONS, b"\x00", KEY_OPTION].concat())]
    {
        let payload = [b'0' + id];
        client.say(&[&[0x41, 2, 0x20, id, 0x21], &options[..], &[0xff], &payload].concat());
        let answer = client.read().unwrap();
        assert_eq!((answer.code().as_str(), &*answer.token), ("2.04", &[0x21][..]));
        let seen = events.until(&format!("data: {id}\n\n")).unwrap();
        let event = seen.rsplit_once(&format!("data: {id}\n")).unwrap().0.rsplit("\n\n").next().unwrap();
        assert!(event.contains(&format!("topic: {PATH}\n")), "{seen}");
    }
}

/// BR-23: a device that keeps its way open by a byte now and then.
//= RFC7252 3
#[test]
fn a_stray_byte_changes_nothing() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let (mut client, token) = observing(&adapter, PATH);
    published(&adapter, PATH, "1");
    assert_eq!(client.told(&token).unwrap().text(), "1");
    let lines = adapter.log().lines().count();
    for _ in 0..50 {
        client.say(&[0]);
    }
    // Nothing comes before the answer to what is asked behind them.
    let ping = client.message(CON, 0);
    client.say(&ping.bytes());
    assert_eq!(client.read().unwrap(), Datagram::new(RST, 0, ping.id, &[]));
    let malformed = r#"tidegate_coap_events_total{event="malformed"}"#;
    until("they are counted", || adapter.metric(malformed).unwrap() == 50);
    let request = post(&mut client, "channels/lab.telemetry/messages/b", "2");
    assert_eq!(client.ask(&request).unwrap().code(), "2.04");
    published(&adapter, PATH, "3");
    assert_eq!(client.told(&token).unwrap().text(), "3");
    assert_eq!((adapter.metric(OBSERVATIONS).unwrap(), adapter.log().lines().count()), (1, lines));
}

/// Each client sends each message again until it has the answer, and three of ten datagrams are lost in each direction.
#[tokio::test]
async fn of_datagrams_that_are_lost_each_message_arrives_once() {
    const CLIENTS: usize = 16;
    const MESSAGES: usize = 625;
    const AGAIN: Duration = Duration::from_millis(30);
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    let connection = Connection::connect(shared_url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let declare = || channel.queue_declare("lossy".into(), QueueDeclareOptions::exclusive(), FieldTable::default());
    declare().await.unwrap();
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let key = "channels.lab.telemetry.lossy.#";
    channel.queue_bind("lossy".into(), "messages".into(), key.into(), options, arguments).await.unwrap();
    let address = adapter.coap();
    let clients = (0..CLIENTS).map(|number| {
        std::thread::spawn(move || {
            let mut chance = Xorshift::default();
            (0..number).for_each(|_| assert!(chance.below(2) < 2));
            let mut is_lost = move || chance.below(10) < 3;
            let mut client = Client::connect(address);
            let mut copies = 0;
            for _ in 0..MESSAGES {
                let request = post(&mut client, "channels/lab.telemetry/messages/lossy", "1");
                loop {
                    if !is_lost() {
                        client.say(&request.bytes());
                    }
                    let answer = client.read_within(AGAIN).unwrap();
                    let answer = answer.filter(|answer| !is_lost() && answer.token == request.token);
                    if let Some(answer) = answer {
                        client.acknowledge(&answer);
                        assert_eq!(answer.code(), "2.04");
                        break;
                    }
                    copies += 1;
                }
            }
            copies
        })
    });
    let clients: Vec<_> = clients.collect();
    let copies: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(copies > CLIENTS * MESSAGES / 2, "{copies} copies");
    let counted = declare().await.unwrap().message_count();
    assert_eq!(usize::try_from(counted).unwrap(), CLIENTS * MESSAGES);
    assert_eq!(adapter.metric(PUBLISHED).unwrap(), u64::from(counted));
}

//= RFC7641 4.1
#[test]
fn two_devices_that_use_the_same_names_never_meet() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    // Of both the first message, so that it has the same id and the same token.
    let (one, token) = observing(&adapter, "channels/lab.telemetry/messages/one");
    let (two, same) = observing(&adapter, "channels/lab.telemetry/messages/two");
    assert_eq!(token, same);
    has_observations(&adapter, 2);
    for number in 0..20 {
        for (name, other) in [("one", &one), ("two", &two)] {
            published(&adapter, &format!("channels/lab.telemetry/messages/{name}"), &format!("[\"{name}\",{number}]"));
            assert_eq!(other.told(&token).unwrap().text(), format!("[\"{name}\",{number}]"));
        }
    }
    // One that goes takes nobody along.
    let end = Datagram::new(CON, GET, 500, &token);
    let end = end.to(&format!("channels/lab.telemetry/messages/one?auth={KEY_2}")).with(OBSERVE, [1]);
    assert!(one.ask(&end).unwrap().option(OBSERVE).is_none());
    has_observations(&adapter, 1);
    published(&adapter, "channels/lab.telemetry/messages/two", "[]");
    assert_eq!(two.told(&token).unwrap().text(), "[]");
}

//= RFC7641 3.6, 4.1, 4.2
#[test]
fn an_observation_ends_by_a_word_or_by_a_reset_and_others_of_its_client_go_on() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut client = Client::connect(adapter.coap());
    let target = format!("{PATH}?auth={KEY_2}");
    let tokens: Vec<Vec<u8>> = (0..4).map(|_| client.observe(&target).unwrap().1).collect();
    has_observations(&adapter, 4);
    // The same token once more takes the place of the first.
    let again = Datagram::new(CON, GET, 600, &tokens[0]).to(&target).with(OBSERVE, []);
    assert!(client.ask(&again).unwrap().option(OBSERVE).is_some());
    has_observations(&adapter, 4);
    published(&adapter, PATH, "1");
    let mut told: Vec<Datagram> = vec![];
    while told.len() < tokens.len() {
        let message = client.read().unwrap();
        client.acknowledge(&message);
        if !told.iter().any(|before| before.token == message.token) {
            told.push(message);
        }
    }
    assert!(told.iter().all(|told| told.text() == "1"), "{told:?}");
    let end = Datagram::new(CON, GET, 601, &tokens[0]).to(&target).with(OBSERVE, [1]);
    assert_eq!(client.ask(&end).unwrap().code(), "2.05");
    has_observations(&adapter, 3);
    // By now the client has shown where it is, so that this is not to be acknowledged.
    published(&adapter, PATH, "2");
    let mut next: Vec<Datagram> = (0..3).map(|_| client.read().unwrap()).collect();
    assert!(next.iter().all(|message| message.kind == NON && message.text() == "2"), "{next:?}");
    next.sort_by(|a, b| a.token.cmp(&b.token));
    client.reset(&next[0]);
    has_observations(&adapter, 2);
    published(&adapter, PATH, "3");
    let mut last: Vec<Vec<u8>> = (0..2).map(|_| client.read().unwrap().token).collect();
    last.sort();
    assert_eq!(last, &tokens[2..]);
    let sequence = |message: &Datagram| message.number(OBSERVE).unwrap();
    assert!(sequence(&next[0]) > sequence(told.iter().find(|before| before.token == next[0].token).unwrap()));
}

/// What is published while the same client registers again, both in one burst.
//= RFC7641 3.3.1
#[test]
fn who_registers_again_is_told_what_holds_and_misses_nothing() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let (mut client, token) = observing(&adapter, PATH);
    published(&adapter, PATH, "0");
    assert_eq!(client.told(&token).unwrap().text(), "0");
    for number in 1..=50 {
        let news = number.to_string();
        let message = post(&mut client, PATH, &news);
        let renewal = client.message(CON, GET).to(&format!("{PATH}?auth={KEY_2}")).with(OBSERVE, []);
        let renewal = Datagram { token: token.clone(), ..renewal };
        client.say(&message.bytes());
        client.say(&renewal.bytes());
        // By their numbers, as a client keeps them.
        let (mut newest, mut is_renewed) = ((0, String::new()), false);
        while !is_renewed || newest.1 != news {
            let told = client.read().unwrap();
            client.acknowledge(&told);
            if told.code != 0 && told.token == token {
                is_renewed |= told.id == renewal.id;
                let order = told.number(OBSERVE).expect("it is a notification");
                assert!(order > newest.0, "{told:?} after {newest:?}");
                newest = (order, told.text());
            }
        }
    }
    has_observations(&adapter, 1);
}

/// While one is not acknowledged nothing else is told, and then only what holds.
//= RFC7641 4.5.2
#[test]
fn who_is_slow_to_acknowledge_is_told_what_holds_by_then() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let (client, token) = observing(&adapter, PATH);
    published(&adapter, PATH, "1");
    let first = client.read().unwrap();
    assert_eq!((first.kind, first.text().as_str()), (CON, "1"));
    for payload in ["2", "3", "4"] {
        published(&adapter, PATH, payload);
    }
    until("what came is overtaken", || {
        adapter.metric(r#"tidegate_coap_events_total{event="overtaken"}"#).unwrap() == 2
    });
    client.acknowledge(&first);
    assert_eq!(client.told(&token).unwrap().text(), "4");
    published(&adapter, PATH, "5");
    assert_eq!(client.told(&token).unwrap().text(), "5");
}

/// However many there are: none is kept back while the observer acknowledges those that it is to.
//= RFC7641 4.5.1
#[test]
fn who_is_told_of_many_misses_none_and_is_asked_now_and_then() {
    const MESSAGES: u32 = 350;
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let (observer, token) = observing(&adapter, PATH);
    let mut publisher = Client::connect(adapter.coap());
    let mut confirmable = 0;
    for number in 0..MESSAGES {
        let request = post(&mut publisher, PATH, &number.to_string());
        assert_eq!(publisher.ask(&request).unwrap().code(), "2.04");
        let told = observer.told(&token).unwrap();
        assert_eq!(told.text(), number.to_string());
        confirmable += u32::from(told.kind == CON);
    }
    // The first, and then one of a hundred.
    assert!((3..=4).contains(&confirmable), "{confirmable}");
}

//= RFC7641 3.4, 4.4
#[test]
fn numbers_of_notifications_grow_over_a_restart() {
    let numbers = [(); 2].map(|()| {
        let adapter = Adapter::start("memory:", &[]).unwrap();
        let mut client = Client::connect(adapter.coap());
        let (answer, _) = client.observe(&format!("{PATH}?auth={KEY_2}")).unwrap();
        answer.number(OBSERVE).unwrap()
    });
    let ahead = numbers[1].wrapping_sub(numbers[0]) & 0xff_ffff;
    assert!(ahead > 0 && ahead < 1 << 23, "{numbers:?}");
}

#[test]
fn what_is_no_message_any_more_harms_nobody() {
    const DATAGRAMS: usize = 100_000;
    /// So many are on their way at once.
    const BURST: usize = 50;
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut client = Client::connect(adapter.coap());
    let target = format!("{PATH}?auth={KEY_1}");
    let requests = [
        post(&mut client, PATH, "[1]"),
        client.message(NON, GET).to(&target).with(OBSERVE, []),
        post(&mut client, PATH, "[1]").with(BLOCK1, uint(0x0a)).carrying([b' '; 64]),
        client.message(CON, GET).to(".well-known/core").with(BLOCK2, []),
    ];
    let requests = requests.map(|request| request.bytes());
    let mut chance = Xorshift::default();
    let mut before = 0;
    for number in 0..DATAGRAMS / BURST {
        for _ in 0..BURST {
            let request = &requests[chance.below(requests.len())];
            client.say(&chance.mutated(request));
        }
        let ping = client.message(CON, 0);
        client.say(&ping.bytes());
        // What is observed comes to be told between.
        while client.read().unwrap() != Datagram::new(RST, 0, ping.id, &[]) {}
        if number == DATAGRAMS / BURST / 4 {
            before = adapter.resident_kib().unwrap();
        }
    }
    let after = adapter.resident_kib().unwrap();
    assert!(after < before + 16 * 1_024, "from {before} to {after} KiB");
    published(&adapter, PATH, "1");
}

/// Who is silent is asked again and again, and found out after as long as the standard says.
//= RFC7641 4.5
//= RFC7252 4.2
#[test]
fn who_acknowledges_is_kept_and_who_is_silent_is_not() {
    let adapter = Adapter::start("memory:", &["--coap-ping-period", "1s"]).unwrap();
    let (alive, token) = observing(&adapter, PATH);
    let (silent, _) = observing(&adapter, PATH);
    let (resets, _) = observing(&adapter, PATH);
    has_observations(&adapter, 3);
    let asked = resets.read().unwrap();
    assert_eq!(asked.kind, CON);
    resets.reset(&asked);
    has_observations(&adapter, 2);
    let mut pings = 0;
    let mut others: Vec<Datagram> = vec![];
    until_within(TRANSMIT_MAX + DEADLINE, "who is silent is found out", || {
        while let Some(ping) = alive.read_within(Duration::from_millis(1)).unwrap() {
            assert_eq!((ping.kind, ping.code().as_str(), &ping.token), (CON, "2.05", &token));
            alive.acknowledge(&ping);
            pings += 1;
        }
        while let Some(ping) = silent.read_within(Duration::from_millis(1)).unwrap() {
            others.push(ping);
        }
        adapter.metric(OBSERVATIONS).unwrap() == 1
    });
    // The first and four copies.
    assert_eq!(others.len(), 5, "{others:?}");
    assert!(others.iter().all(|other| *other == others[0]), "{others:?}");
    assert!(pings > 30, "{pings} pings");
    published(&adapter, PATH, "1");
    while alive.told(&token).unwrap().text() != "1" {}
}

/// An address is only a claim: what is sent there may hit another.
//= RFC7252 11.3
//= RFC9175 2.4
#[test]
fn who_has_not_shown_its_place_is_sent_three_times_its_bytes_at_most() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let payload = format!("[\"{}\"]", "0123456789abcdef".repeat(60));
    let kept = format!("POST /{PATH}?retain=true HTTP/1.1\nAuthorization: {KEY_1}\nContent-Type: application/json");
    assert!(adapter.request(&kept, payload.as_bytes()).unwrap().starts_with("HTTP/1.1 202 "));
    let target = format!("{PATH}?auth={KEY_2}");
    let get = |kind, target: &str| Datagram::new(kind, GET, 1, &[]).to(target);
    let requests = [
        get(CON, &target).with(OBSERVE, []),
        get(NON, &target).with(OBSERVE, []),
        get(CON, &target),
        get(NON, &target),
        get(NON, &format!("{PATH}/{}", "b/".repeat(200))),
        get(CON, "a"),
        get(CON, ".well-known/core"),
        get(NON, "").with(OBSERVE, []),
        Datagram::new(CON, 0, 1, &[]),
    ];
    let clients: Vec<(Client, usize)> = requests
        .iter()
        .map(|request| {
            let client = Client::connect(adapter.coap());
            client.say(&request.bytes());
            (client, request.bytes().len())
        })
        .collect();
    has_observations(&adapter, 2);
    for _ in 0..20 {
        assert_eq!(adapter.publish(PATH, KEY_1, "application/json", payload.as_bytes()).unwrap(), 202);
    }
    // By then the first of what nobody acknowledged would have been sent again, were it to be.
    let (witness, _) = observing(&adapter, "channels/lab.telemetry/messages/other");
    published(&adapter, "channels/lab.telemetry/messages/other", "1");
    let first = witness.read().unwrap();
    assert_eq!(witness.read().unwrap(), first);
    for ((client, sent), request) in clients.iter().zip(&requests) {
        let mut got = 0;
        while let Some(message) = client.read_within(Duration::from_millis(1)).unwrap() {
            got += message.bytes().len();
        }
        assert!(got > 0 && got <= 3 * sent, "{got} bytes for {sent}: {request:?}");
    }
}

/// A server of every address is spoken to by one, and its answers come from that: the sockets of clients hear no other.
#[test]
fn answers_come_from_the_address_that_was_asked() {
    for (listens, addresses) in [
        ("0.0.0.0:0", vec![IpAddr::from([127, 0, 0, 2]), Ipv4Addr::LOCALHOST.into()]),
        ("[::]:0", vec![IpAddr::from([127, 0, 0, 2]), Ipv6Addr::LOCALHOST.into()]),
    ] {
        let adapter = Adapter::start("memory:", &["--listen-coap", listens]).unwrap();
        for address in addresses {
            let mut client = Client::connect(SocketAddr::new(address, adapter.coap().port()));
            let (answer, token) = client.observe(&format!("{PATH}?auth={KEY_1}")).unwrap();
            assert_eq!(answer.code(), "2.05", "{listens} {address}");
            let request = post(&mut client, PATH, "1");
            // The notification and the answer may change places.
            client.say(&request.bytes());
            let mut all: Vec<Datagram> = (0..2).map(|_| client.read().unwrap()).collect();
            all.sort_by_key(|message| message.token == token);
            assert_eq!(all[0].code(), "2.04", "{listens} {address}");
            assert_eq!(all[1].text(), "1", "{listens} {address}");
        }
    }
}

/// A body in blocks of each size, with a block that comes twice.
//= RFC7959 2.2, 2.3
#[test]
fn bodies_in_blocks_arrive_whole_both_ways() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    adapter.set_manifests(&MANIFESTS.replace("maxBytes: 1000", "maxBytes: 65536")).unwrap();
    let body: String = format!("[\"{}\"]", "0123456789abcdef".repeat(600));
    let kept =
        format!("POST /{PATH}/large?retain=true HTTP/1.1\nAuthorization: {KEY_1}\nContent-Type: application/json");
    until("large messages are admitted", || {
        adapter.request(&kept, body.as_bytes()).unwrap().starts_with("HTTP/1.1 202 ")
    });
    let mut client = Client::connect(adapter.coap());
    let (first, fetched) = client.fetch(&format!("{PATH}/large?auth={KEY_2}")).unwrap();
    assert_eq!(String::from_utf8(fetched).unwrap(), body);
    assert!(first.option(BLOCK2).is_some());
    let mut events = adapter.subscribe(&format!("{PATH}/blocks"), KEY_2).unwrap();
    for exponent in 0_u32..=6 {
        let bytes = 16 << exponent;
        let text = body.replace("01234", &format!("{exponent:05}"));
        let blocks: Vec<&[u8]> = text.as_bytes().chunks(bytes).collect();
        for (number, block) in blocks.iter().enumerate() {
            let more = number + 1 < blocks.len();
            let request = client.message(CON, POST).to(&format!("{PATH}/blocks?auth={KEY_1}"));
            let value = u32::try_from(number).unwrap() << 4 | u32::from(more) << 3 | exponent;
            let request = request.with(CONTENT_FORMAT, uint(JSON)).with(BLOCK1, uint(value)).carrying(block);
            let answer = client.ask(&request).unwrap();
            assert_eq!(answer.code(), if more { "2.31" } else { "2.04" }, "{bytes}: {answer:?}");
            assert_eq!(answer.number(BLOCK1), Some(value));
            client.say(&request.bytes());
            assert_eq!(client.read().unwrap(), answer);
        }
        events.until(&text).unwrap();
    }
    assert_eq!(adapter.metric(PUBLISHED).unwrap(), 7);
}

/// A notification that is larger than a block begins with the first, and the others are fetched.
//= RFC7959 2.6
#[test]
fn a_large_notification_is_told_by_its_first_block() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    adapter.set_manifests(&MANIFESTS.replace("maxBytes: 1000", "maxBytes: 65536")).unwrap();
    let body: String = format!("[\"{}\"]", "0123456789abcdef".repeat(600));
    let kept = format!("POST /{PATH}?retain=true HTTP/1.1\nAuthorization: {KEY_1}\nContent-Type: application/json");
    let (mut client, token) = observing(&adapter, PATH);
    until("large messages are admitted", || {
        adapter.request(&kept, body.as_bytes()).unwrap().starts_with("HTTP/1.1 202 ")
    });
    let mut told = client.told(&token).unwrap();
    assert_eq!(told.number(BLOCK2).map(|block| block & 8), Some(8), "{told:?}");
    let mut fetched = told.payload.clone();
    while let Some(block) = told.number(BLOCK2).filter(|block| block & 8 != 0) {
        let next = u32::try_from(fetched.len()).unwrap() / (16 << (block & 7));
        let request = client.message(CON, GET).to(&format!("{PATH}?auth={KEY_2}"));
        told = client.ask(&request.with(BLOCK2, uint(next << 4 | block & 7))).unwrap();
        assert_eq!(told.code(), "2.05");
        fetched.extend(&told.payload);
    }
    assert_eq!(String::from_utf8(fetched).unwrap(), body);
}

/// A message in each direction between each two faces: who sends, of which type, what.
#[test]
fn a_message_crosses_to_every_face_with_its_bytes_and_its_type() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let (observer, token) = observing(&adapter, PATH);
    let mut events = adapter.subscribe(PATH, KEY_2).unwrap();
    let mut socket = Socket::open(adapter.http(), &format!("/{PATH}"), KEY_2).unwrap();
    let mut mqtt = mqtt::Client::connect(&adapter, &Login::stored("listens").clean());
    assert!(mqtt.subscribe(PATH, 0) < 0x80);
    let mut sends = mqtt::Client::connect(&adapter, &Login::stored("sends").clean().publisher());
    for (format, content_type) in [
        (50, "application/json"),
        (42, "application/octet-stream"),
        (110, "application/senml+json"),
        (112, "application/senml+cbor"),
    ] {
        for sender in ["http", "ws", "mqtt", "coap"] {
            let mut payload = format!("{sender} {format}").into_bytes();
            if matches!(format, 42 | 112) {
                payload.extend([0, 0xff, b'\r', b'\n', 0xc3]);
            }
            match sender {
                "http" => assert_eq!(adapter.publish(PATH, KEY_1, content_type, &payload).unwrap(), 202),
                "ws" => {
                    let encoded = content_type.replace('+', "%2B");
                    let path = format!("/{PATH}?content-type={encoded}&subscribe=false");
                    let mut socket = Socket::open_speaking(adapter.http(), &path, KEY_1, "tidegate.v1").unwrap();
                    let said = format!(
                        r#"{{"type":"publish","id":1,"payloadBase64":"{}","contentType":"{content_type}"}}"#,
                        STANDARD.encode(&payload)
                    );
                    socket.say(TEXT, said).unwrap();
                    while !socket.message().unwrap().text().contains("accepted") {}
                }
                "mqtt" => {
                    let properties = [vec![3], mqtt::text(content_type)].concat();
                    let length = vec![u8::try_from(properties.len()).unwrap()];
                    let body = [mqtt::text(PATH), vec![0, 1], length, properties, payload.clone()].concat();
                    sends.say(&mqtt::packet(0x32, &body));
                    sends.answered(0x40, 1);
                }
                _ => {
                    let mut client = Client::connect(adapter.coap());
                    let request = client.message(CON, POST).to(&format!("{PATH}?auth={KEY_1}"));
                    let request = request.with(CONTENT_FORMAT, uint(format)).carrying(&payload);
                    assert_eq!(client.ask(&request).unwrap().code(), "2.04");
                }
            }
            let told = observer.told(&token).unwrap();
            assert_eq!((told.number(CONTENT_FORMAT), &told.payload), (Some(format), &payload), "{sender} to coap");
            let text = String::from_utf8(payload.clone()).unwrap_or_else(|_| STANDARD.encode(&payload));
            let seen = events.until(&format!("data: {text}\n\n")).unwrap();
            let last = seen.rsplit("\n\n").find(|event| event.ends_with(&text)).unwrap();
            assert!(last.contains(&format!("content-type: {content_type}\n")), "{sender} to http: {last}");
            assert_eq!(socket.message().unwrap().payload, payload, "{sender} to ws");
            let (first, body) = mqtt.read().unwrap();
            assert_eq!(first & 0xf0, 0x30);
            assert!(body.ends_with(&payload), "{sender} to mqtt: {body:?}");
            let named = [vec![3], mqtt::text(content_type)].concat();
            assert!(body.windows(named.len()).any(|window| window == named), "{sender} to mqtt: {body:?}");
        }
    }
}
