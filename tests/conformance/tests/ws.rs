//! What a WebSocket does over time: signs of life, peers that do not read, RabbitMQ that dies, and MQTT over it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use conformance::mqtt::{Login, packet, text};
use conformance::ws::{BINARY, CLOSE, PING, PONG, Socket, TEXT, ends_without_a_word, frame, handshake};
use conformance::{Adapter, KEY_1, KEY_2, MANIFESTS, until};
use rabbitmq_rig::shared_url;
use socket2::{Domain, Type};

const TOPIC: &str = "channels/lab.telemetry/messages/a";
const PATH: &str = "/channels/lab.telemetry/messages/a?content-type=application/json";

#[test]
fn who_is_silent_is_asked_and_then_closed_and_who_is_slow_is_not() {
    let adapter =
        Adapter::start("memory:", &["--websocket-ping-interval", "1s", "--websocket-idle-timeout", "3s"]).unwrap();
    let open = || Socket::open(adapter.http(), PATH, KEY_1).unwrap();
    let (mut silent, mut slow, mut answering) = (open(), open(), open());
    let closed = std::thread::spawn(move || {
        let first = silent.read().unwrap().first;
        (first, silent.closed().unwrap())
    });
    let answered = std::thread::spawn(move || {
        // As many as a silent one has time for, twice.
        for _ in 0..6 {
            let ping = answering.read().unwrap();
            assert_eq!(ping.first, PING);
            answering.say(PONG, ping.payload).unwrap();
        }
        answering.close().unwrap()
    });
    // A long message that comes byte by byte, from one that never answers a ping.
    let message = frame(TEXT, format!("[{}1]", " ".repeat(900)).as_bytes());
    let (mut bytes, mut pings) = (message.iter(), 0);
    while !answered.is_finished() {
        slow.write(&[*bytes.next().expect("the others are done before")]).unwrap();
        // As often as a ping would come, and then some.
        slow.stream().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        pings += usize::from(slow.read().is_ok_and(|frame| frame.first == PING));
    }
    assert!(pings > 2, "{pings} pings, none of them answered");
    slow.stream().set_read_timeout(Some(conformance::DEADLINE)).unwrap();
    slow.write(bytes.as_slice()).unwrap();
    assert_eq!(slow.close().unwrap(), 1000);
    assert_eq!(answered.join().unwrap(), 1000);
    let (first, (code, reason)) = closed.join().unwrap();
    assert_eq!((first, code, reason.as_str()), (PING, 1008, "nothing was heard of you for too long"));
}

/// One of 1,000 takes nothing: it costs the others no message, and the server not more than its queue.
#[test]
fn a_thousand_subscribers_get_every_message_though_one_is_stuck() {
    const OTHERS: usize = 999;
    const MESSAGES: usize = 20;
    let adapter = Adapter::start("memory:", &["--http-timeout", "5s"]).unwrap();
    adapter.set_manifests(&MANIFESTS.replace("maxBytes: 1000", "maxBytes: 65536")).unwrap();
    let large = [b"[", vec![b' '; 60_000].as_slice(), b"]"].concat();
    let flood = || adapter.publish(&format!("{TOPIC}/flood"), KEY_1, "application/json", &large).unwrap();
    until("large messages are admitted", || flood() == 202);
    let mut others: Vec<Socket> = (0..OTHERS).map(|_| Socket::open(adapter.http(), PATH, KEY_2).unwrap()).collect();
    // A small window, so that the kernels hold little of what nobody reads.
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&adapter.http().into()).unwrap();
    let mut stuck = TcpStream::from(socket);
    let request = handshake("/channels/lab.telemetry/messages/%23", &format!("Authorization: {KEY_2}"));
    stuck.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    let subscriptions = r#"tidegate_subscriptions{protocol="ws"}"#;
    until("all are subscribed", || adapter.metric(subscriptions).unwrap() == OTHERS as u64 + 1);

    let before = adapter.resident_kib().unwrap();
    for number in 0..MESSAGES {
        assert_eq!(adapter.publish(TOPIC, KEY_1, "application/json", number.to_string().as_bytes()).unwrap(), 202);
    }
    let ended = r#"tidegate_subscription_ends_total{protocol="ws",reason="overrun"}"#;
    until("its queue is full", || {
        assert_eq!(flood(), 202);
        adapter.metric("tidegate_subscriber_overruns_total").unwrap() == 1
    });
    let after = adapter.resident_kib().unwrap();
    assert!(after < before + 64 * 1_024, "from {before} to {after} KiB");
    for other in &mut others {
        let got: Vec<String> = (0..MESSAGES).map(|_| other.message().unwrap().text()).collect();
        assert!(got.iter().enumerate().all(|(number, got)| *got == number.to_string()), "{got:?}");
    }
    until("it is closed and counted", || {
        adapter.metric(ended).unwrap() == 1 && adapter.metric(subscriptions).unwrap() == OTHERS as u64
    });
}

/// Who reads late but reads gets what was kept, and is told that more was not.
#[test]
fn a_slow_reader_gets_what_its_queue_holds_and_is_then_closed() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut slow = Socket::open(adapter.http(), "/channels/lab.telemetry/messages/%23", KEY_2).unwrap();
    let payload = [b"[", vec![b' '; 900].as_slice(), b"]"].concat();
    let mut publisher = Socket::open(adapter.http(), PATH, KEY_1).unwrap();
    until("its queue is full", || {
        for _ in 0..500 {
            publisher.say(TEXT, &payload).unwrap();
        }
        adapter.metric("tidegate_subscriber_overruns_total").unwrap() == 1
    });
    let mut got = 0;
    let close = loop {
        let frame = slow.message().unwrap();
        if frame.first == CLOSE {
            break frame.close().unwrap();
        }
        got += 1;
    };
    assert_eq!(close, (1008, "messages are not read in time".to_owned()));
    assert!(got > 1_024, "{got} messages came");
    assert_eq!(publisher.close().unwrap(), 1000);
}

/// Who asks without end and takes no answer is not listened to any more.
#[test]
fn who_takes_no_pongs_cannot_pile_them_up() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    for protocol in ["", "tidegate.v1", "mqtt"] {
        let path = if protocol == "mqtt" { "/mqtt" } else { PATH };
        let mut socket = Socket::open_speaking(adapter.http(), path, KEY_1, protocol).unwrap();
        socket.stream().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let before = adapter.resident_kib().unwrap();
        let (pings, mut sent) = (frame(PING, &[0; 125]).repeat(1_000), 0);
        // Until it is not taken any more, or so much that it would show.
        while sent < 256 * 1_024 * 1_024 && socket.write(&pings).is_ok() {
            sent += pings.len();
        }
        let after = adapter.resident_kib().unwrap();
        assert!(sent < 256 * 1_024 * 1_024, "all of it was taken");
        assert!(after < before + 16 * 1_024, "{protocol}: from {before} to {after} KiB for {sent} bytes");
    }
}

#[test]
fn a_socket_does_not_get_what_it_sent_and_others_of_its_thing_do() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let mut own = Socket::open(adapter.http(), PATH, KEY_1).unwrap();
    let mut other = Socket::open(adapter.http(), PATH, KEY_1).unwrap();
    for number in 0..2_000 {
        own.say(TEXT, number.to_string()).unwrap();
        assert_eq!(other.message().unwrap().text(), number.to_string());
    }
    other.say(TEXT, "2000").unwrap();
    assert_eq!(own.message().unwrap().text(), "2000");
}

#[test]
fn pages_of_other_origins_are_refused_where_there_is_a_list() {
    let adapter = Adapter::start("memory:", &["--websocket-origins", "https://app.example.com,null"]).unwrap();
    for path in [PATH, "/mqtt"] {
        let check = |origin: &str, expected: &str| {
            let headers = format!("Authorization: {KEY_1}\nSec-WebSocket-Protocol: mqtt\n{origin}");
            let (_, answer) = Socket::ask(adapter.http(), path, &headers).unwrap();
            assert!(answer.starts_with(expected), "{path} {origin}: {answer}");
        };
        check("Origin: https://app.example.com", "HTTP/1.1 101 ");
        check("Origin: null", "HTTP/1.1 101 ");
        check("X-No: origin", "HTTP/1.1 101 ");
        check("Origin: https://app.example.com:8443", "HTTP/1.1 403 ");
        check("Origin: http://app.example.com", "HTTP/1.1 403 ");
    }
}

/// Packets that share messages, and packets in pieces; and no text.
//= MQTT5 6.0.0-1, 6.0.0-2, 6.0.0-4
//= MQTT3 6.0.0-1, 6.0.0-2, 6.0.0-4
#[test]
fn packets_of_mqtt_have_nothing_to_do_with_frames() {
    let adapter = Adapter::start("memory:", &["--listen-mqtt-ws", "127.0.0.1:0"]).unwrap();
    let line = adapter.log().lines().find_map(|line| line.split_once("--listen-mqtt-ws address=")?.1.parse().ok());
    let alone: SocketAddr = line.expect("an address in the log");
    let publish = packet(0x32, &[&*text(TOPIC), &[0, 7, 0], b"1"].concat());
    for (address, path) in [(adapter.http(), "/mqtt"), (adapter.http(), "/ws/mqtt"), (alone, "/mqtt")] {
        let (socket, head) = Socket::ask(address, path, "Sec-WebSocket-Protocol: mqttv3.1, mqtt").unwrap();
        let mut socket = socket.unwrap_or_else(|| panic!("{head}"));
        assert!(head.contains("Sec-Websocket-Protocol: mqtt\r\n"), "{head}");
        let said = [&*Login::stored("frames").clean().publisher().bytes(), &publish, &[0xc0, 0]].concat();
        let (together, apart) = said.split_at(said.len() - 20);
        socket.say(BINARY, together).unwrap();
        for byte in apart {
            socket.say(BINARY, [*byte]).unwrap();
        }
        // The PUBACK and the PINGRESP may change places.
        let mut answered = Vec::new();
        let has = |answered: &[u8], packet: &[u8]| answered.windows(packet.len()).any(|bytes| bytes == packet);
        while !(has(&answered, &[0xd0, 0]) && has(&answered, &[0, 7])) {
            let frame = socket.message().unwrap();
            assert_eq!(frame.first, BINARY);
            answered.extend(frame.payload);
        }
        assert_eq!(answered[0], 0x20);
        socket.say(TEXT, "MQTT").unwrap();
        assert_eq!(socket.closed().unwrap().0, 1003);
    }
    // And nothing but that where it is alone.
    for path in ["/", "/channels/lab.telemetry/messages", "/ws/channels/lab.telemetry/messages"] {
        let (_, answer) = Socket::ask(alone, path, &format!("Authorization: {KEY_1}")).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
    let mut leaving = Socket::open_speaking(alone, "/mqtt", "", "mqtt").unwrap();
    leaving.say(BINARY, Login::stored("leaving").clean().bytes()).unwrap();
    assert_eq!(leaving.message().unwrap().payload[0], 0x20);
    leaving.say(BINARY, [0xe0, 0]).unwrap();
    assert_eq!(leaving.closed().unwrap().0, 1000);
    let gone = Socket::open_speaking(alone, "/mqtt", "", "mqtt").unwrap();
    gone.stream().shutdown(std::net::Shutdown::Write).unwrap();
    ends_without_a_word(gone).unwrap();
}

/// Nobody who is not let in has a right to more than a login takes.
#[test]
fn a_stranger_cannot_make_the_server_hold_a_message() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let before = adapter.resident_kib().unwrap();
    let strangers: Vec<Socket> = (0..40)
        .map(|_| {
            let mut socket = Socket::open_speaking(adapter.http(), "/mqtt", "", "mqtt").unwrap();
            socket.stream().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            // A piece of a message that does not end.
            let _ = socket.say(0x02, vec![0; 1_000_000]);
            socket
        })
        .collect();
    let after = adapter.resident_kib().unwrap();
    assert!(after < before + 8 * 1_024, "from {before} to {after} KiB");
    drop(strangers);
}

/// The right is to the channel, and not to what a name happens to mean.
#[test]
fn an_alias_that_moves_takes_nobody_along() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let path = "/channels/flashed-1/messages/%23";
    let mut sockets: Vec<Socket> = ["", "tidegate.v1"]
        .map(|protocol| Socket::open_speaking(adapter.http(), path, KEY_2, protocol).unwrap())
        .into();
    let mut events = adapter.subscribe("channels/flashed-1/messages/%23", KEY_2).unwrap();
    let moved = MANIFESTS
        .replace("  aliases: [flashed-1]\n", "")
        .replace(
            "metadata: {namespace: lab, name: other}\nspec: {}",
            "metadata: {namespace: lab, name: other}\nspec: {aliases: [flashed-1]}",
        )
        .replace(
            "connections: [{channel: telemetry, permissions: [Subscribe]}]",
            "connections: [{channel: other, permissions: [Subscribe]}]",
        );
    adapter.set_manifests(&moved).unwrap();
    for socket in &mut sockets {
        assert_eq!(socket.closed().unwrap(), (1008, "access withdrawn".to_owned()));
    }
    events.until("event: end\n").unwrap();
}

#[test]
fn a_small_channel_takes_control_frames_of_any_size() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    adapter.set_manifests(&MANIFESTS.replace("maxBytes: 1000", "maxBytes: 5")).unwrap();
    until("the channel is small", || adapter.publish(TOPIC, KEY_1, "application/json", b"123456").unwrap() == 413);
    let mut socket = Socket::open(adapter.http(), PATH, KEY_1).unwrap();
    socket.say(PING, [0; 125]).unwrap();
    assert_eq!(socket.message().unwrap().payload, [0; 125]);
    socket.say(PONG, [0; 125]).unwrap();
    socket.say(TEXT, "12345").unwrap();
    socket.say(CLOSE, [&1_000_u16.to_be_bytes()[..], &[b'a'; 100]].concat()).unwrap();
    assert_eq!(socket.closed().unwrap().0, 1000);
    let mut socket = Socket::open(adapter.http(), PATH, KEY_1).unwrap();
    socket.say(TEXT, "123456").unwrap();
    assert_eq!(socket.closed().unwrap().0, 1009);
}

/// On both brokers: what stands before the frame that is refused arrives, and nothing after it; also where the client
/// closes right behind it, which it is not told is well.
#[test]
fn nothing_that_follows_a_refused_frame_is_published() {
    const FIRST: &str = r#"[{"n":"a","v":1}]"#;
    const AFTER: &str = r#"[{"n":"a","v":3}]"#;
    const LAST: &str = r#"[{"n":"a","v":9}]"#;
    for broker in ["memory:", shared_url()] {
        let adapter = Adapter::start(broker, &[]).unwrap();
        // No other test of this process uses this channel.
        let path = "/channels/lab.checked/messages";
        let mut all = Socket::open(adapter.http(), path, KEY_1).unwrap();
        for closes in [false, true] {
            let mut socket = Socket::open(adapter.http(), path, KEY_1).unwrap();
            let frames = [FIRST, "{}", AFTER, AFTER].map(|text| frame(TEXT, text.as_bytes())).concat();
            let close = if closes { frame(CLOSE, &1_000_u16.to_be_bytes()) } else { vec![] };
            socket.write(&[frames, close].concat()).unwrap();
            assert_eq!(socket.closed().unwrap().0, 1007, "{broker}");
            assert_eq!(all.message().unwrap().text(), FIRST, "{broker}");
        }
        assert_eq!(
            adapter.publish("channels/lab.checked/messages", KEY_1, "application/senml+json", LAST.as_bytes()).unwrap(),
            202
        );
        assert_eq!(all.message().unwrap().text(), LAST, "{broker}");
    }
}

/// Whoever reads slowly is still heard and answered.
#[test]
fn a_socket_that_always_has_something_to_read_is_read_too() {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    let path = "/channels/lab.telemetry/messages/%23";
    let mut slow = Socket::open_speaking(adapter.http(), path, KEY_1, "tidegate.v1").unwrap();
    let mut publisher = Socket::open(adapter.http(), PATH, KEY_1).unwrap();
    let payload = [b"[", vec![b' '; 900].as_slice(), b"]"].concat();
    slow.say(TEXT, r#"{"type":"publish","id":1,"payload":"[]","subtopic":"a"}"#).unwrap();
    let mut messages = 0_u64;
    loop {
        // Always some ahead of the reader, and never so many that its queue is full.
        publisher.say(TEXT, &payload).unwrap();
        publisher.say(TEXT, &payload).unwrap();
        let text = slow.message().unwrap().text();
        if text.contains("accepted") {
            break;
        }
        messages += 1;
        assert!(messages < 500, "{messages} messages and no answer");
    }
}

#[test]
fn mqtt_over_websocket_ends_with_a_code_that_says_why() {
    let mut adapter = Adapter::start("memory:", &[]).unwrap();
    let open = |adapter: &Adapter, login: Login| {
        let mut socket = Socket::open_speaking(adapter.http(), "/mqtt", "", "mqtt").unwrap();
        socket.say(BINARY, login.bytes()).unwrap();
        socket
    };
    let mut stranger = open(&adapter, Login { key: KEY_2, ..Login::stored_3("stranger").publisher() });
    assert_eq!(stranger.closed().unwrap().0, 1008);
    let mut told = open(&adapter, Login::stored_3("told").clean());
    assert_eq!(told.message().unwrap().payload[0], 0x20);
    assert_eq!(adapter.terminate().unwrap(), Some(0));
    assert_eq!(told.closed().unwrap(), (1012, "MQTT: ServerShuttingDown".to_owned()));
}
