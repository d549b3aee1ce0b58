//! What RabbitMQ sees, and what becomes of it when RabbitMQ dies: a real adapter and a real broker.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test waits with a deadline")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use conformance::coap::{self, ACK, CON, CONTENT_FORMAT, Datagram, OBSERVE, POST, uint};
use conformance::{Adapter, DEADLINE, KEY_1, KEY_2, mqtt, status, until, ws};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use rabbitmq_rig::{Proxy, Rabbit, shared_url};
use tidegate_model::{ChannelId, RoutingKey, Subtopic, SubtopicFilter, TopicLimits};

const TOPIC: &str = "channels/lab.telemetry/messages/a";

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn queue(channel: &Channel, name: &str, key: &str) {
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(name.into(), "messages".into(), key.into(), options, arguments).await.unwrap();
}

/// Takes all that is in a queue: payloads, each with the id of its message.
async fn taken(url: &str, queue: &str) -> Vec<(String, String)> {
    let (_connection, channel) = channel(url).await;
    let mut taken = Vec::new();
    while let Some(got) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
        let id = got.properties.message_id().as_ref().unwrap().as_str().to_owned();
        taken.push((String::from_utf8(got.data.clone()).unwrap(), id));
    }
    taken
}

fn say(value: &AMQPValue) -> String {
    if let AMQPValue::LongString(text) = value { text.to_string() } else { format!("{value:?}") }
}

#[tokio::test]
async fn an_accepted_message_is_in_rabbitmq_with_its_properties() {
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    let (_connection, channel) = channel(shared_url()).await;
    queue(&channel, "properties", "channels.lab.telemetry.#").await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let head = format!(
        "POST /channels/telemetry/messages/props/b.c?expiry=60 HTTP/1.1\nAuthorization: {KEY_1}\nContent-Type: application/JSON;q=1\ntraceparent: {traceparent}"
    );
    assert_eq!(status(&adapter.request(&head, b"{\"v\": 1}").unwrap()).unwrap(), 202);

    let mut found = None;
    while found.is_none() {
        let got = channel.basic_get("properties".into(), BasicGetOptions { no_ack: true }).await.unwrap();
        found = got.filter(|got| got.routing_key.as_str().contains("props"));
    }
    let message = found.unwrap();
    assert_eq!(message.data, b"{\"v\": 1}");
    assert_eq!(message.routing_key.as_str(), "channels.lab.telemetry.props.b%2Ec");
    let properties = &message.properties;
    let text = |field: &Option<lapin::types::ShortString>| field.as_ref().map(|t| t.as_str().to_owned());
    assert_eq!(text(properties.content_type()).as_deref(), Some("application/JSON;q=1"));
    assert_eq!(text(properties.kind()).as_deref(), Some("message"));
    assert_eq!(text(properties.app_id()).as_deref(), Some("tidegate"));
    assert_eq!(text(properties.expiration()).as_deref(), Some("60000"));
    assert_eq!(text(properties.message_id()).map(|id| id.len()), Some(36));
    assert_eq!(*properties.delivery_mode(), Some(2));
    let headers: BTreeMap<String, String> = properties
        .headers()
        .as_ref()
        .unwrap()
        .inner()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), say(value)))
        .collect();
    assert_eq!(headers["x-channel"], "lab.telemetry");
    assert_eq!(headers["x-subtopic"], "props/b.c");
    assert_eq!(headers["x-thing"], "lab.dev1");
    assert_eq!(headers["x-protocol"], "http");
    assert_eq!(headers["x-qos"], "LongInt(1)");
    assert_eq!(headers["traceparent"], traceparent);
    assert!(headers["x-received-at"].starts_with("LongLongInt(1"), "{headers:?}");
}

#[tokio::test]
async fn a_back_end_service_reaches_devices() {
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    let mut events = adapter.subscribe("channels/lab.telemetry/messages/from/%23", KEY_2).unwrap();
    let (_connection, channel) = channel(shared_url()).await;
    channel
        .basic_publish(
            "messages".into(),
            "channels.lab.telemetry.from.back%2Eend".into(),
            BasicPublishOptions::default(),
            b"hello",
            BasicProperties::default(),
        )
        .await
        .unwrap();
    let seen = tokio::task::spawn_blocking(move || events.until("data: hello\n\n").unwrap()).await.unwrap();
    assert!(seen.contains("topic: channels/lab.telemetry/messages/from/back.end\n"), "{seen}");
    assert!(seen.contains("content-type: application/octet-stream\n") && !seen.contains("publisher"), "{seen}");
}

/// Every filter of up to three levels, every topic of up to three, judged by RabbitMQ's own topic exchange.
#[tokio::test]
async fn a_filter_matches_what_rabbitmq_routes() {
    let (_connection, channel) = channel(shared_url()).await;
    let id = ChannelId::new("lab", "match").unwrap();
    let limits = TopicLimits::default();
    let texts = |alphabet: &[&str]| {
        let mut all = vec![vec![]];
        for depth in 0..3 {
            let longer: Vec<Vec<String>> = all
                .iter()
                .filter(|levels: &&Vec<String>| levels.len() == depth)
                .flat_map(|levels| alphabet.iter().map(|level| [levels.as_slice(), &[(*level).to_owned()]].concat()))
                .collect();
            all.extend(longer);
        }
        all.into_iter().filter(|levels| !levels.is_empty()).map(|levels| levels.join("/")).collect::<Vec<_>>()
    };
    let filters: Vec<SubtopicFilter> = texts(&["", "a", "b.c", "+", "#"])
        .iter()
        .filter_map(|text| SubtopicFilter::parse(text, &limits).ok())
        .collect();
    let topics: Vec<Subtopic> = std::iter::once(Subtopic::none())
        .chain(texts(&["", "a", "b.c", "*"]).iter().map(|text| Subtopic::parse(text, &limits).unwrap()))
        .collect();

    let exchange = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare("match".into(), ExchangeKind::Topic, exchange, FieldTable::default()).await.unwrap();
    for (index, filter) in filters.iter().enumerate() {
        let name = format!("match-{index}");
        channel
            .queue_declare(name.clone().into(), QueueDeclareOptions::exclusive(), FieldTable::default())
            .await
            .unwrap();
        let key = filter.binding_key(&id).as_str().to_owned();
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(name.into(), "match".into(), key.into(), options, arguments).await.unwrap();
    }
    channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.unwrap();
    for (index, topic) in topics.iter().enumerate() {
        let key = RoutingKey::new(&id, topic).as_str().to_owned();
        let (options, body) = (BasicPublishOptions::default(), index.to_string());
        let sent =
            channel.basic_publish("match".into(), key.into(), options, body.as_bytes(), BasicProperties::default());
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }
    for (index, filter) in filters.iter().enumerate() {
        let mut routed = BTreeSet::new();
        while let Some(got) =
            channel.basic_get(format!("match-{index}").into(), BasicGetOptions { no_ack: true }).await.unwrap()
        {
            routed.insert(String::from_utf8(got.data.clone()).unwrap().parse::<usize>().unwrap());
        }
        let expected: BTreeSet<usize> = (0..topics.len()).filter(|topic| filter.matches(&topics[*topic])).collect();
        assert_eq!(routed, expected, "{filter:?}");
    }
    assert!(filters.len() > 60 && topics.len() > 80, "{} filters, {} topics", filters.len(), topics.len());
}

/// What devices were told, while the broker was killed and paused.
#[derive(Default)]
struct Told {
    accepted: Mutex<BTreeSet<u64>>,
    accepted_at: Mutex<Vec<Instant>>,
    refused: AtomicU64,
    /// Connections that were ended, since the broker was away for longer than the bound.
    ended: AtomicU64,
    next: AtomicU64,
    stop: AtomicBool,
}

/// One device that publishes one message after the other on one connection.
fn publish_on(address: std::net::SocketAddr, told: &Told) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    while !told.stop.load(Ordering::Relaxed) {
        let number = told.next.fetch_add(1, Ordering::Relaxed);
        let body = number.to_string();
        let request = format!(
            "POST /{TOPIC} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY_1}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        match read_status(&mut stream) {
            202 => told.accept(number),
            503 => drop(told.refused.fetch_add(1, Ordering::Relaxed)),
            other => panic!("answered {other}"),
        }
    }
}

/// The same over MQTT, with QoS 1 and 2; on a new connection where the old one is ended.
fn publish_over_mqtt(adapter: &Adapter, id: &'static str, told: &Told) {
    let mut client = mqtt::Client::connect(adapter, &mqtt::Login::stored(id).publisher());
    while !told.stop.load(Ordering::Relaxed) {
        let number = told.next.fetch_add(1, Ordering::Relaxed);
        let qos = 1 + u8::try_from(number % 2).unwrap();
        let name = u16::try_from(number % 60_000).unwrap() + 1;
        client.publish(qos << 1, TOPIC, name, &number.to_string());
        match client.read() {
            Ok((0x40, _)) => told.accept(number),
            Ok((0x50, _)) => {
                told.accept(number);
                client.acknowledge(0x62, name);
                client.answered(0x70, name);
            }
            Ok((0xe0, _)) => {
                told.ended.fetch_add(1, Ordering::Relaxed);
                client = mqtt::Client::connect(adapter, &mqtt::Login::stored(id).publisher());
            }
            other => panic!("answered {other:?}"),
        }
    }
}

/// A message of JSON over CoAP.
fn post(client: &mut coap::Client, payload: &str) -> Datagram {
    let request = client.message(CON, POST).to(&format!("{TOPIC}?auth={KEY_1}"));
    request.with(CONTENT_FORMAT, uint(50)).carrying(payload)
}

/// Over CoAP, each sent again until it is answered.
fn publish_over_coap(adapter: &Adapter, told: &Told) {
    let mut client = coap::Client::connect(adapter.coap());
    while !told.stop.load(Ordering::Relaxed) {
        let number = told.next.fetch_add(1, Ordering::Relaxed);
        let request = post(&mut client, &number.to_string());
        let answer = client.ask_again(&request, Duration::from_secs(2)).unwrap();
        match answer.code().as_str() {
            "2.04" => told.accept(number),
            "5.03" => drop(told.refused.fetch_add(1, Ordering::Relaxed)),
            _ => panic!("answered {answer:?}"),
        }
    }
}

/// An observation of the topic, once the broker is there; the token.
fn observe(client: &mut coap::Client) -> Vec<u8> {
    let mut token = None;
    until("it observes", || {
        let (answer, asked) = client.observe(&format!("{TOPIC}?auth={KEY_2}")).unwrap();
        token = answer.option(OBSERVE).map(|_| asked);
        token.is_some()
    });
    token.unwrap()
}

/// Observes until `last` is told, and counts what is told before.
fn observe_until(address: std::net::SocketAddr, last: &str) -> usize {
    let mut client = coap::Client::connect(address);
    let mut token = observe(&mut client);
    let mut count = 0;
    loop {
        let told = client.told(&token).unwrap();
        match told.code().as_str() {
            "2.05" if told.text() == last => return count,
            "2.05" => count += 1,
            // More than it may leave unread.
            "4.29" => token = observe(&mut client),
            _ => panic!("told {told:?}"),
        }
    }
}

/// A socket that is open once the broker is there.
fn open_socket(adapter: &Adapter, protocol: &str, id: usize, told: &Told) -> ws::Socket {
    let path = format!("/{TOPIC}/{protocol}/{id}");
    let mut found = None;
    until("a socket opens", || {
        found = ws::Socket::open_speaking(adapter.http(), &path, KEY_1, protocol).ok();
        found.is_some() || told.stop.load(Ordering::Relaxed)
    });
    found.unwrap_or_else(|| ws::Socket::open_speaking(adapter.http(), &path, KEY_1, protocol).unwrap())
}

/// Over WebSocket, each frame answered: some at once, so that they are in flight together.
fn publish_over_answered_socket(adapter: &Adapter, id: usize, told: &Told) {
    let mut socket = open_socket(adapter, "tidegate.v1", id, told);
    while !told.stop.load(Ordering::Relaxed) {
        let numbers: Vec<u64> = (0..8).map(|_| told.next.fetch_add(1, Ordering::Relaxed)).collect();
        for number in &numbers {
            let frame = format!(r#"{{"type":"publish","id":{number},"payload":"{number}"}}"#);
            socket.say(ws::TEXT, frame).unwrap();
        }
        let mut open = numbers.len();
        while open > 0 {
            let answer: serde_json::Value = serde_json::from_str(&socket.message().unwrap().text()).unwrap();
            match answer["type"].as_str().unwrap() {
                "accepted" => told.accept(answer["id"].as_u64().unwrap()),
                "refused" if answer["code"] == "broker-unavailable" => {
                    told.refused.fetch_add(1, Ordering::Relaxed);
                }
                "ready" | "gap" => continue,
                _ => panic!("answered {answer}"),
            }
            open -= 1;
        }
    }
}

/// The same without answers: all that was sent is accepted where the socket closes as it was asked to.
fn publish_over_plain_socket(adapter: &Adapter, id: usize, told: &Told) {
    while !told.stop.load(Ordering::Relaxed) {
        let mut socket = open_socket(adapter, "", id, told);
        let numbers: Vec<u64> = (0..20).map(|_| told.next.fetch_add(1, Ordering::Relaxed)).collect();
        // It may be closed before all is sent.
        let sent = numbers.iter().try_for_each(|number| socket.say(ws::TEXT, number.to_string()));
        match sent.and_then(|()| socket.close()) {
            Ok(1000) => numbers.into_iter().for_each(|number| told.accept(number)),
            Ok(1013) | Err(_) => drop(told.ended.fetch_add(1, Ordering::Relaxed)),
            Ok(code) => panic!("closed {code}"),
        }
    }
}

fn read_status(stream: &mut TcpStream) -> u16 {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).unwrap();
    status(&head).unwrap()
}

impl Told {
    fn accept(&self, number: u64) {
        self.accepted.lock().unwrap().insert(number);
        self.accepted_at.lock().unwrap().push(Instant::now());
    }

    /// Waits for the first message that is accepted after `since`, and says how long that took.
    fn first_success_after(&self, since: Instant) -> Duration {
        let mut found = None;
        until("a message is accepted again", || {
            found = self.accepted_at.lock().unwrap().iter().rev().take_while(|at| **at > since).last().copied();
            found.is_some()
        });
        found.unwrap() - since
    }
}

/// Devices that publish on every face until they are told to stop.
fn load(adapter: &Arc<Adapter>, told: &Arc<Told>) -> Vec<std::thread::JoinHandle<()>> {
    let mut devices: Vec<_> = (0..32)
        .map(|_| {
            let (told, address) = (Arc::clone(told), adapter.http());
            std::thread::spawn(move || publish_on(address, &told))
        })
        .collect();
    devices.extend(["a", "b", "c", "d", "e", "f", "g", "h"].map(|id| {
        let (told, adapter) = (Arc::clone(told), Arc::clone(adapter));
        std::thread::spawn(move || publish_over_mqtt(&adapter, id, &told))
    }));
    devices.extend((0..8).map(|id| {
        let (told, adapter) = (Arc::clone(told), Arc::clone(adapter));
        let publish = if id % 2 == 0 { publish_over_answered_socket } else { publish_over_plain_socket };
        std::thread::spawn(move || publish(&adapter, id, &told))
    }));
    devices.extend((0..8).map(|_| {
        let (told, adapter) = (Arc::clone(told), Arc::clone(adapter));
        std::thread::spawn(move || publish_over_coap(&adapter, &told))
    }));
    devices
}

/// BR-47, and the promise of 202, PUBACK and PUBREC, of an answered frame and of a socket that closes as it was asked to:
/// and of 2.04: killed twice, paused once, under the load of 48 connections and 8 devices over CoAP for 30 s. Who observes
/// goes on to be told.
#[test]
fn what_was_accepted_survives_a_broker_that_is_killed_and_paused() {
    let mut rabbit = Rabbit::start().unwrap();
    let url = rabbit.url().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let adapter = Arc::new(Adapter::start(&url, &["--publish-timeout", "5s"]).unwrap());
    runtime.block_on(async {
        let (_connection, channel) = channel(&url).await;
        queue(&channel, "kept", "channels.#").await;
    });
    let address = adapter.coap();
    let observing = std::thread::spawn(move || observe_until(address, "\"last\""));
    until("it observes", || adapter.metric("tidegate_coap_observations").unwrap() == 1);
    let told = Arc::new(Told::default());
    let begun = Instant::now();
    let devices = load(&adapter, &told);
    // RabbitMQ has not made a queue durable that was declared a moment ago.
    until("the queue is 3 s old", || begun.elapsed() > Duration::from_secs(4));
    let mut back = Vec::new();
    for _ in 0..2 {
        rabbit.kill().unwrap();
        rabbit.restart().unwrap();
        back.push(told.first_success_after(Instant::now()));
    }
    rabbit.pause().unwrap();
    let paused = Instant::now();
    until("it was paused for 7 s", || paused.elapsed() > Duration::from_secs(7));
    rabbit.resume().unwrap();
    back.push(told.first_success_after(Instant::now()));
    until("the load lasted 30 s", || begun.elapsed() > Duration::from_secs(30));
    told.stop.store(true, Ordering::Relaxed);
    for device in devices {
        device.join().unwrap();
    }

    let mut kept: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for (payload, id) in runtime.block_on(taken(&url, "kept")) {
        kept.entry(payload.parse().unwrap()).or_default().insert(id);
    }
    let accepted = told.accepted.lock().unwrap();
    let lost: Vec<_> = accepted.iter().filter(|number| !kept.contains_key(number)).collect();
    let refused = told.refused.load(Ordering::Relaxed);
    let ended = told.ended.load(Ordering::Relaxed);
    let (count, all) = (accepted.len(), kept.len());
    eprintln!("{count} accepted, {refused} refused, {ended} connections ended, {all} kept, back after {back:?}");
    assert!(lost.is_empty(), "{} accepted messages are lost: {:?}", lost.len(), &lost[..lost.len().min(10)]);
    assert!(kept.values().all(|ids| ids.len() == 1), "a message was published under two ids");
    assert!(accepted.len() > 1_000, "{} accepted", accepted.len());
    for face in ["http", "mqtt", "ws", "coap"] {
        let of_face = metric(&adapter, &format!(r#"tidegate_publishes_total{{protocol="{face}",outcome="accepted"}}"#));
        assert!(of_face > 100, "{of_face} accepted over {face}");
    }
    assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", b"\"last\"").unwrap(), 202);
    let notifications = observing.join().unwrap();
    assert!(notifications > 1_000, "{notifications} notifications");
}

/// BR-18: paused at once, with copies as RFC 7252 has them sent, and for so long that the link is given up. Each copy is told
/// that an answer will come, that answer is one, and the message is one.
//= RFC7252 4.2, 4.5, 5.2.2
#[test]
fn a_message_over_coap_that_is_sent_again_while_the_broker_is_slow_is_one_message() {
    let rabbit = Rabbit::start().unwrap();
    let url = rabbit.url().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let adapter = Adapter::start(&url, &["--publish-timeout", "60s"]).unwrap();
    runtime.block_on(async {
        let (_connection, channel) = channel(&url).await;
        queue(&channel, "slow", "channels.lab.telemetry.#").await;
    });
    let mut client = coap::Client::connect(adapter.coap());
    // When copies are sent and when the broker goes on, in seconds.
    for (payload, copies, goes_on) in [("\"at once\"", [0, 0, 0], 0), ("\"late\"", [2, 6, 14], 20)] {
        let request = post(&mut client, payload);
        let awaited = Datagram::new(ACK, 0, request.id, &[]);
        rabbit.pause().unwrap();
        let begun = Instant::now();
        client.say(&request.bytes());
        assert_eq!(client.read().unwrap(), awaited);
        for after in copies {
            until("it is time for a copy", || begun.elapsed() >= Duration::from_secs(after));
            client.say(&request.bytes());
            assert_eq!(client.read().unwrap(), awaited, "{payload} after {after} s");
        }
        until("it is time to go on", || begun.elapsed() >= Duration::from_secs(goes_on));
        rabbit.resume().unwrap();
        let answer = client.read().unwrap();
        assert_eq!((answer.kind, answer.code().as_str(), &answer.token), (CON, "2.04", &request.token));
        // Until it is acknowledged it comes again, and a copy of the question is told what it was told before.
        client.say(&request.bytes());
        let mut again = vec![client.read().unwrap(), client.read().unwrap()];
        again.sort_by_key(|message| message.kind);
        assert_eq!(again, [answer.clone(), awaited.clone()]);
        client.acknowledge(&answer);
        client.say(&request.bytes());
        assert_eq!(client.read().unwrap(), awaited);
    }
    let lost = metric(&adapter, "tidegate_broker_connections_lost_total");
    assert!(lost > 0, "the link was not given up");
    assert_eq!(metric(&adapter, r#"tidegate_publishes_total{protocol="coap",outcome="accepted"}"#), 2);
    assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", b"\"end\"").unwrap(), 202);
    let mut kept = runtime.block_on(taken(&url, "slow"));
    let copies = kept.iter().filter(|(payload, _)| payload == "\"at once\"").count();
    assert_eq!(copies, 1, "{kept:?}");
    // What was on its way when the link was given up goes again over the next one, as the same message by its id.
    kept.dedup();
    let payloads: Vec<&str> = kept.iter().map(|(payload, _)| payload.as_str()).collect();
    assert_eq!(payloads, ["\"at once\"", "\"late\"", "\"end\""]);
}

/// As much as a message may say beside its payload, under the longest topic, fits one frame of AMQP; no device can break the
/// link that all of them share.
#[test]
fn what_a_message_says_beside_its_payload_never_breaks_the_link() {
    let adapter = Adapter::start(shared_url(), &[]).unwrap();
    let names = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".as_bytes();
    let pair = |number: usize| {
        let name = [names[number / names.len() % names.len()], names[number % names.len()]];
        format!(r#"["{}",""]"#, String::from_utf8_lossy(&name))
    };
    let mut socket = ws::Socket::open_speaking(adapter.http(), &format!("/{TOPIC}"), KEY_1, "tidegate.v1").unwrap();
    assert!(socket.message().unwrap().text().contains("ready"));
    for (count, expected) in [(2_340, "accepted"), (2_341, "refused"), (6_000, "refused")] {
        let properties = (0..count).map(pair).collect::<Vec<_>>().join(",");
        let subtopic = "a".repeat(65_000);
        let more = format!(r#""userProperties":[{properties}],"subtopic":"{subtopic}""#);
        socket.say(ws::TEXT, format!(r#"{{"type":"publish","id":1,"payload":"[]",{more}}}"#)).unwrap();
        let answer = socket.message().unwrap().text();
        assert!(answer.contains(expected), "{count}: {}", &answer[..answer.len().min(200)]);
    }
    let metrics = adapter.admin("/metrics").unwrap();
    assert!(metrics.contains("\ntidegate_broker_connections_lost_total 0\n"), "{metrics}");
}

/// The link is lost, subscribers stay and are told of the gap, and what comes after reaches them.
#[test]
fn a_subscriber_outlives_the_broker_and_is_told_of_the_gap() {
    let mut rabbit = Rabbit::start().unwrap();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &[]).unwrap();
    let mut events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    let mut observer = coap::Client::connect(adapter.coap());
    let token = observe(&mut observer);
    rabbit.kill().unwrap();
    events.until("event: gap\n").unwrap();
    until("it is not ready", || adapter.admin("/ready").unwrap().contains("broker link up"));
    rabbit.restart().unwrap();
    until("it is ready", || adapter.admin("/ready").unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", b"4711").unwrap(), 202);
    let seen = events.until("data: 4711\n\n").unwrap();
    assert_eq!(seen.matches("event: gap").count(), 1, "{seen}");
    assert_eq!(observer.told(&token).unwrap().text(), "4711");
}

#[test]
fn amqps_takes_a_private_ca_and_nothing_else() {
    let rabbit = rabbitmq_rig::Options::default().tls().start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, rabbit.ca_pem().unwrap()).unwrap();
    let url = rabbit.amqps_url().unwrap();
    let adapter = Adapter::start(&url, &["--broker-ca", &ca.display().to_string()]).unwrap();
    assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", b"1").unwrap(), 202);
    let refused = Adapter::start(&url, &["--broker-timeout", "2s"]).err().unwrap().to_string();
    assert!(refused.contains("69") && !refused.contains("guest:guest"), "{refused}");
}

fn metric(adapter: &Adapter, name: &str) -> u64 {
    let text = adapter.admin("/metrics").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

/// A broker that lets in and then denies is not stormed, and the log says what it denies.
#[test]
fn a_broker_that_denies_is_tried_again_with_pauses_and_its_reason_is_said() {
    let rabbit = Rabbit::start().unwrap();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &["--publish-timeout", "3s"]).unwrap();
    rabbit.ctl(&["-q", "set_permissions", "guest", ".*", "^adapter", ".*"]).unwrap();
    assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", b"1").unwrap(), 503);
    let lost = metric(&adapter, "tidegate_broker_connections_lost_total");
    assert!((1..=10).contains(&lost), "{lost} connections lost for one publish");
    assert!(adapter.log().contains("ACCESS_REFUSED"), "{}", adapter.log());
    rabbit.ctl(&["-q", "set_permissions", "guest", ".*", ".*", ".*"]).unwrap();
    until("it publishes again", || adapter.publish(TOPIC, KEY_1, "application/json", b"2").unwrap() == 202);
}

/// Under the memory alarm publishes are refused in time, the links stay, and the end of the alarm is enough.
#[test]
fn a_broker_that_blocks_keeps_its_links() {
    let rabbit = Rabbit::start().unwrap();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &["--publish-timeout", "2s"]).unwrap();
    rabbit.ctl(&["-q", "set_vm_memory_high_watermark", "absolute", "1"]).unwrap();
    let begun = Instant::now();
    until("the alarm lasted longer than a link may stall", || {
        let answered = adapter.publish(TOPIC, KEY_1, "application/json", b"1").unwrap();
        assert!(answered == 503 || begun.elapsed() < Duration::from_secs(2), "{answered} under the alarm");
        begun.elapsed() > Duration::from_secs(12)
    });
    rabbit.ctl(&["-q", "set_vm_memory_high_watermark", "0.6"]).unwrap();
    until("it publishes again", || adapter.publish(TOPIC, KEY_1, "application/json", b"2").unwrap() == 202);
    assert_eq!(metric(&adapter, "tidegate_broker_connections_lost_total"), 0);
}

/// BR-49, BR-47: a link that dies without a word is found dead, and the broker, which takes the old connection for alive,
/// lets the new one have its queue. On every face who is subscribed goes on to be told.
#[test]
fn a_link_that_is_cut_without_a_word_is_replaced_and_its_gap_is_told() {
    let rabbit = Rabbit::start().unwrap();
    let url = rabbit.url().unwrap();
    let (front, server) = url.rsplit_once('@').unwrap();
    let (server, vhost) = server.split_once('/').map_or((server, ""), |(server, vhost)| (server, vhost));
    let proxy = Proxy::start(server.parse().unwrap()).unwrap();
    let through = format!("{front}@{}/{vhost}", proxy.address());
    let adapter = Adapter::start(&through, &["--publish-timeout", "2s"]).unwrap();
    let mut events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    let mut socket = ws::Socket::open_speaking(adapter.http(), &format!("/{TOPIC}"), KEY_2, "tidegate.v1").unwrap();
    let mut listens = mqtt::Client::connect(&adapter, &mqtt::Login::stored("listens").clean());
    assert!(listens.subscribe(TOPIC, 1) < 0x80);
    let (mut observer, mut device) = (coap::Client::connect(adapter.coap()), coap::Client::connect(adapter.coap()));
    let token = observe(&mut observer);
    proxy.cut();
    let begun = Instant::now();
    until("every link is found dead", || {
        let answered = adapter.publish(TOPIC, KEY_1, "application/json", b"1").unwrap();
        assert!(answered == 503 || answered == 202 && begun.elapsed() < Duration::from_secs(1), "{answered}");
        let request = post(&mut device, "1");
        let answered = device.ask(&request).unwrap().code();
        assert!(answered == "5.03" || answered == "2.04" && begun.elapsed() < Duration::from_secs(1), "{answered}");
        metric(&adapter, "tidegate_broker_connections_lost_total") >= 2
            && adapter.log().contains("connection=\"subscriber\"")
    });
    proxy.heal();
    until("it is ready", || adapter.admin("/ready").unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", b"4712").unwrap(), 202);
    let seen = events.until("data: 4712\n\n").unwrap();
    assert!(seen.contains("event: gap\n"), "{seen}");
    let mut told = vec![];
    while !told.iter().any(|text: &String| text.contains("4712")) {
        told.push(socket.message().unwrap().text());
    }
    assert!(told.contains(&r#"{"type":"gap"}"#.to_owned()), "{told:?}");
    listens.payloads_until("4712");
    while observer.told(&token).unwrap().text() != "4712" {}
    let request = post(&mut device, "4713");
    assert_eq!(device.ask(&request).unwrap().code(), "2.04");
    while observer.told(&token).unwrap().text() != "4713" {}
}

/// What the broker drops since this process did not read in time is told as a gap, not passed over.
#[test]
fn messages_that_the_broker_dropped_for_a_slow_adapter_are_told_as_a_gap() {
    let rabbit = Rabbit::start().unwrap();
    let adapter = Adapter::start(&rabbit.url().unwrap(), &[]).unwrap();
    let mut events = adapter.subscribe(TOPIC, KEY_2).unwrap();
    let signal = |name: &str| {
        let pid = adapter.pid().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    let url = rabbit.url().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (_connection, channel) = channel(&url).await;
        channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.unwrap();
        // Beside what is subscribed to, and over what the queue and the kernels between hold.
        let payload = vec![b'x'; 64 * 1024];
        for _ in 0..2_400 {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let key = "channels.lab.telemetry.elsewhere".into();
            let sent = channel.basic_publish("messages".into(), key, options, &payload, properties).await.unwrap();
            assert!(sent.await.unwrap().is_ack());
        }
    });
    signal("-CONT");
    events.until("event: gap\n").unwrap();
    assert!(metric(&adapter, "tidegate_broker_dropped_total") >= 1);
}

#[test]
fn a_subscription_that_waits_for_its_turn_to_end_still_gets_what_comes() {
    let mut leaving = Adapter::start(shared_url(), &["--drain-connections-per-second", "1"]).unwrap();
    let staying = Adapter::start(shared_url(), &[]).unwrap();
    let (ended, ends) = std::sync::mpsc::sync_channel(6);
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let (events, ended) = (leaving.subscribe("channels/telemetry/messages/%23", KEY_2).unwrap(), ended.clone());
            std::thread::spawn(move || ended.send(events.to_end().unwrap()).unwrap())
        })
        .collect();
    let pid = leaving.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let first = ends.recv_timeout(DEADLINE).unwrap();
    assert_eq!(staying.publish(TOPIC, KEY_1, "application/json", b"\"last\"").unwrap(), 202);
    let others: Vec<String> = (0..5).map(|_| ends.recv_timeout(DEADLINE).unwrap()).collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(!first.contains("\"last\"") && others.iter().any(|events| events.contains("\"last\"")), "{others:?}");
    assert!(others.iter().all(|events| events.contains("event: end")));
    assert_eq!(leaving.terminate().unwrap(), Some(0));
}
