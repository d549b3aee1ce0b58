//! Clients of others over CoAP with DTLS: libcoap's program with OpenSSL and with GnuTLS, aiocoap with tinydtls, and OpenSSL's
//! own program, against a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conformance::coap::{CON, CONTENT_FORMAT, Datagram, POST};
use conformance::device::{Device, python};
use conformance::libcoap::{Libcoap, WITH_DTLS};
use conformance::pki::{Authority, ClientCertificate, Mounted, Name};
use conformance::ws::Socket;
use conformance::{Adapter, Certificate, KEY_1, KEY_2, MANIFESTS, program, until};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const PATH: &str = "channels/lab.telemetry/messages";
const PUBLISHED: &str = r#"tidegate_publishes_total{protocol="coap",outcome="accepted"}"#;
const OBSERVATIONS: &str = "tidegate_coap_observations";
const SESSIONS: &str = "tidegate_coap_dtls_sessions";
const FAILED: &str = r#"tidegate_coap_dtls_handshakes_total{outcome="failed"}"#;
const JSON: &str = "50";
/// What tinydtls takes at most.
const KEY_OF_16: &str = "key-dev1-0123456";

/// An adapter that admits large messages.
fn start(more: &[&str]) -> Adapter {
    let adapter = Adapter::start("memory:", more).unwrap();
    set(&adapter, &MANIFESTS.replace("maxBytes: 1000", "maxBytes: 65536"));
    adapter
}

/// Puts manifests in force that let a message of that size pass which did not before, or are otherwise seen to be there.
fn set(adapter: &Adapter, manifests: &str) {
    let before = generation(adapter);
    adapter.set_manifests(manifests).unwrap();
    until("they are in force", || generation(adapter) > before);
}

fn generation(adapter: &Adapter) -> usize {
    adapter.log().matches("grants in force").count()
}

fn uri(adapter: &Adapter, subtopic: &str) -> String {
    format!("coaps://{}/{PATH}/{subtopic}", adapter.coaps())
}

fn large() -> String {
    let numbers: Vec<String> = (10_000..11_800).map(|number: u32| number.to_string()).collect();
    format!("[{}]", numbers.join(","))
}

fn listening(adapter: &Adapter, subtopic: &str) -> Socket {
    Socket::open(adapter.http(), &format!("/{PATH}/{subtopic}"), KEY_2).unwrap()
}

#[test]
fn libcoap_publishes_with_a_key_in_every_way() {
    let adapter = start(&[]);
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(large().as_bytes()).unwrap();
    let path = file.path().display().to_string();
    let ways: [(&[&str], &str); 5] = [
        (&["-m", "post", "-t", JSON, "-e", "[1]"], "[1]"),
        (&["-m", "put", "-t", JSON, "-e", "[2]"], "[2]"),
        (&["-m", "post", "-N", "-t", JSON, "-e", "[3]"], "[3]"),
        (&["-m", "post", "-t", JSON, "-b", "64", "-f", &path], &large()),
        (&["-m", "post", "-t", JSON, "-b", "1024", "-f", &path], &large()),
    ];
    for program in WITH_DTLS {
        let mut socket = listening(&adapter, program);
        for thing in ["lab.dev1", "flashed-dev1"] {
            let libcoap = Libcoap::with_key(program, thing, KEY_1);
            for (arguments, expected) in ways {
                assert_eq!(libcoap.said(arguments, &uri(&adapter, program)), "", "{program} {arguments:?}");
                let message = socket.message().unwrap();
                assert_eq!(message.text(), expected, "{program} {arguments:?}");
            }
        }
        let core = format!("coaps://{}/.well-known/core", adapter.coaps());
        let libcoap = Libcoap::with_key(program, "lab.dev1", KEY_1);
        assert!(libcoap.said(&["-m", "get"], &core).starts_with("</channels>;"), "{program}");
    }
    assert_eq!(adapter.metric(PUBLISHED).unwrap(), 20);
    until("each has taken its leave", || adapter.metric(SESSIONS).unwrap() == 0);
}

#[test]
fn who_has_not_the_key_is_told_so_in_the_handshake() {
    let adapter = start(&[]);
    let post = ["-v", "4", "-m", "post", "-t", JSON, "-e", "[1]"];
    let mut failed = 0;
    for program in WITH_DTLS {
        for (thing, key) in [
            ("lab.dev1", "key-none-0123456789"),
            ("lab.dev1", KEY_2),
            ("lab.nobody", KEY_1),
            ("lab.resting", "key-rest-0123456789"),
            // Its time is over.
            ("lab.dev1", "key-old1-0123456789"),
        ] {
            let told = Libcoap::with_key(program, thing, key).said(&post, &uri(&adapter, "a")).to_lowercase();
            assert!(told.contains("decrypt error"), "{program} {thing}: {told}");
            failed += 1;
            assert_eq!(adapter.metric(FAILED).unwrap(), failed, "{program} {thing}");
        }
        // Known, and not allowed to.
        let told = Libcoap::with_key(program, "lab.dev2", KEY_2).said(&post, &uri(&adapter, "a"));
        assert!(told.contains("4.03 no grant"), "{program}: {told}");
    }
    assert_eq!(adapter.metric(PUBLISHED).unwrap(), 0);
    let log = adapter.log();
    assert!(![KEY_1, KEY_2, "key-none-0123456789"].iter().any(|key| log.contains(key)), "{log}");
}

/// What is said in a request counts: a device that stands in for another shows that one's key.
#[test]
fn a_key_in_the_query_counts_over_that_of_the_session() {
    let adapter = start(&[]);
    let mut socket = listening(&adapter, "a");
    let libcoap = Libcoap::with_key(WITH_DTLS[0], "lab.dev2", KEY_2);
    let post = ["-m", "post", "-t", JSON, "-e", "[1]"];
    assert_eq!(libcoap.said(&post, &format!("{}?auth={KEY_1}", uri(&adapter, "a"))), "");
    assert_eq!(socket.message().unwrap().text(), "[1]");
    let libcoap = Libcoap::with_key(WITH_DTLS[0], "lab.dev1", KEY_1);
    let told = libcoap.said(&post, &format!("{}?auth=key-none-0123456789", uri(&adapter, "a")));
    assert!(told.starts_with("4.01 no valid credential"), "{told}");
}

/// Both keys of a Thing whose key is being replaced are as good, at the first try.
#[test]
fn a_key_is_replaced_without_a_gap() {
    let adapter = start(&[]);
    let with_both = MANIFESTS
        .replace("key-old1-0123456789", "key-new1-0123456789")
        .replace(r#", notAfter: "2020-01-01T00:00:00Z""#, "");
    set(&adapter, &with_both);
    let mut socket = listening(&adapter, "a");
    for (number, program) in WITH_DTLS.into_iter().enumerate() {
        for key in [KEY_1, "key-new1-0123456789"] {
            let payload = format!("[{number}]");
            let libcoap = Libcoap::with_key(program, "lab.dev1", key);
            assert_eq!(libcoap.said(&["-m", "post", "-t", JSON, "-e", &payload], &uri(&adapter, "a")), "", "{program}");
            assert_eq!(socket.message().unwrap().text(), payload);
        }
        let none = Libcoap::with_key(program, "lab.dev1", "key-none-0123456789");
        let told = none.said(&["-v", "4", "-m", "get"], &uri(&adapter, "a")).to_lowercase();
        assert!(told.contains("decrypt error"), "{program}: {told}");
    }
}

#[test]
fn libcoap_observes_until_it_leaves_or_may_no_more() {
    let adapter = start(&[]);
    let publish = |text: &str| {
        let topic = format!("{PATH}/watched");
        assert_eq!(adapter.publish(&topic, KEY_1, "application/json", text.as_bytes()).unwrap(), 202);
    };
    for program in WITH_DTLS {
        let libcoap = Libcoap::with_key(program, "lab.dev2", KEY_2);
        let mut observing = libcoap.observe(&["-w", "-s", "5"], &uri(&adapter, "watched"));
        until("it observes", || adapter.metric(OBSERVATIONS).unwrap() == 1);
        for text in ["[1]".to_owned(), "[2]".to_owned(), large()] {
            publish(&text);
            assert_eq!(observing.line(), text, "{program}");
        }
        // After its time it takes its leave by Observe 1.
        until("it does no more", || adapter.metric(OBSERVATIONS).unwrap() == 0);
    }
    for program in WITH_DTLS {
        let libcoap = Libcoap::with_key(program, "lab.dev2", KEY_2);
        let mut observing = libcoap.observe(&["-w", "-s", "60"], &uri(&adapter, "watched"));
        until("it observes", || adapter.metric(OBSERVATIONS).unwrap() == 1);
        publish("[3]");
        assert_eq!(observing.line(), "[3]", "{program}");
        set(&adapter, &MANIFESTS.replace(KEY_2, "key-new2-0123456789"));
        until("its session is over", || adapter.metric(SESSIONS).unwrap() == 0);
        assert_eq!(adapter.metric(OBSERVATIONS).unwrap(), 0);
        set(&adapter, MANIFESTS);
    }
}

#[test]
fn libcoap_gets_through_where_datagrams_are_lost() {
    const COUNT: usize = 10;
    let adapter = start(&[]);
    for program in WITH_DTLS {
        let before = adapter.metric(PUBLISHED).unwrap();
        let libcoap = Libcoap::with_key(program, "lab.dev1", KEY_1);
        let post = ["-l", "30%", "-m", "post", "-t", JSON, "-e", "[1]"];
        let programs: Vec<_> =
            (0..COUNT).map(|_| libcoap.command(&post, &uri(&adapter, "lossy")).spawn().unwrap()).collect();
        for program in programs {
            program.wait_with_output().unwrap();
        }
        // Its handshakes lose datagrams too, and it gives some of them up: how many get through is its own, but none comes twice.
        let published = adapter.metric(PUBLISHED).unwrap() - before;
        assert!((1..=COUNT as u64).contains(&published), "{program}: {published}");
    }
}

#[test]
fn a_certificate_says_who_a_device_is() {
    let (devices, others, server) = (Authority::new().unwrap(), Authority::new().unwrap(), Authority::new().unwrap());
    let own = server.sign(Name::Dns("localhost")).unwrap();
    let (ca, tls) = (devices.ca(), ["--tls-cert", &own.cert, "--tls-key", &own.key]);
    let adapter = start(&[&tls[..], &["--tls-client-ca", &ca]].concat());
    let certificate = "certificate: {subject: \"CN=pump-7, O=Lab\"}, secretRefs: [{id: a, name: keys, key: dev1}";
    set(&adapter, &MANIFESTS.replace("secretRefs: [{id: a, name: keys, key: dev1}", certificate));
    let mut socket = listening(&adapter, "a");
    let post = ["-v", "4", "-m", "post", "-t", JSON, "-e", "[1]"];
    for program in WITH_DTLS {
        let libcoap = Libcoap::with_certificate(program, &devices.sign(Name::Subject("pump-7")).unwrap());
        assert_eq!(libcoap.said(&post[2..], &uri(&adapter, "a")), "", "{program}");
        assert_eq!(socket.message().unwrap().text(), "[1]");
        // Somebody else's, with whose key in the request it is as good as any.
        let libcoap = Libcoap::with_certificate(program, &devices.sign(Name::Subject("pump-8")).unwrap());
        let told = libcoap.said(&post[2..], &uri(&adapter, "a"));
        assert!(told.starts_with("4.01 no valid credential"), "{program}: {told}");
        assert_eq!(libcoap.said(&post[2..], &format!("{}?auth={KEY_1}", uri(&adapter, "a"))), "", "{program}");
        assert_eq!(socket.message().unwrap().text(), "[1]");
        // Of an authority that nobody named, or too old.
        let published = adapter.metric(PUBLISHED).unwrap();
        for foreign in [
            others.sign(Name::Subject("pump-7")).unwrap(),
            devices.sign_until(Name::Subject("pump-7"), Duration::ZERO).unwrap(),
        ] {
            let failed = adapter.metric(FAILED).unwrap();
            let told = Libcoap::with_certificate(program, &foreign).said(&post, &uri(&adapter, "a"));
            assert!(told.to_lowercase().contains("alert"), "{program}: {told}");
            assert_eq!(adapter.metric(FAILED).unwrap(), failed + 1, "{program}");
        }
        assert_eq!(adapter.metric(PUBLISHED).unwrap(), published);
        // A key does as well.
        assert_eq!(
            Libcoap::with_key(program, "lab.dev1", KEY_1).said(&post[2..], &uri(&adapter, "a")),
            "",
            "{program}"
        );
        assert_eq!(socket.message().unwrap().text(), "[1]");
    }
    // The Thing is known by another name now.
    set(&adapter, MANIFESTS);
    let libcoap = Libcoap::with_certificate(WITH_DTLS[0], &devices.sign(Name::Subject("pump-7")).unwrap());
    let told = libcoap.said(&post[2..], &uri(&adapter, "a"));
    assert!(told.starts_with("4.01 no valid credential"), "{told}");
}

/// BR-46: a mounted Secret changes by the target of its `..data` link. Of certificate and CAs what is good comes into force,
/// what is not leaves what was before, and who is connected stays.
#[test]
fn certificate_and_cas_are_renewed_in_place_each_by_itself() {
    let [first, second] = [(); 2].map(|()| Certificate::new().unwrap());
    let pems = |of: &Certificate| [of.cert(), of.key()].map(|path| std::fs::read_to_string(path).unwrap());
    let ([first_cert, first_key], [second_cert, second_key]) = (pems(&first), pems(&second));
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let files = |cert: &str, key: &str, ca: &str| {
        [("tls.crt", cert), ("tls.key", key), ("ca.crt", ca)].map(|(name, pem)| (name, pem.to_owned()))
    };
    let mut mounted = Mounted::new(&files(&first_cert, &first_key, &old.pem())).unwrap();
    let [cert, key, ca] = ["tls.crt", "tls.key", "ca.crt"].map(|name| mounted.path(name));
    let adapter = start(&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca]);
    let named = "certificate: {subject: \"CN=pump-7, O=Lab\"}, secretRefs: [{id: a, name: keys, key: dev1}";
    set(&adapter, &MANIFESTS.replace("secretRefs: [{id: a, name: keys, key: dev1}", named));
    let [by_old, by_new] = [&old, &new].map(|authority| authority.sign(Name::Subject("pump-7")).unwrap());
    // Whether the two take each other's certificates.
    let agree = |device: &ClientCertificate, server: &Certificate| {
        let mut command = Command::new(program("tidegate").unwrap());
        command.args(["publish", "[1]", "--channel", "lab.telemetry", "--subtopic", "a"]);
        command.args(["--url", &format!("coaps://localhost:{}", adapter.coaps().port()), "--ca", &server.cert()]);
        command.args(["--cert", &device.cert, "--cert-key", &device.key]).env_remove("TIDEGATE_KEY");
        command.output().unwrap().status.success()
    };
    assert!(agree(&by_old, &first) && !agree(&by_new, &first) && !agree(&by_old, &second));
    let libcoap = Libcoap::with_certificate(WITH_DTLS[0], &by_old);
    let mut observing = libcoap.observe(&["-w", "-s", "120"], &uri(&adapter, "a"));
    until("it observes", || adapter.metric(OBSERVATIONS).unwrap() == 1);

    mounted.replace(&files(&second_cert, &second_key, &new.pem()[..400])).unwrap();
    until("the new certificate is shown", || agree(&by_old, &second));
    until("the CAs are found wrong", || adapter.log().contains("CAs of clients not reloaded"));
    assert!(!agree(&by_old, &first) && !agree(&by_new, &second));

    mounted.replace(&files(&first_cert[..300], &first_key, &(old.pem() + &new.pem()))).unwrap();
    until("the new CA counts", || agree(&by_new, &second));
    until("the certificate is found wrong", || adapter.log().contains("certificate not reloaded"));
    assert!(agree(&by_old, &second) && !agree(&by_old, &first));

    mounted.replace(&files(&first_cert, &second_key, &new.pem())).unwrap();
    until("the old CA counts no more", || !agree(&by_old, &second));
    assert!(agree(&by_new, &second));
    assert_eq!(adapter.publish(&format!("{PATH}/a"), KEY_1, "application/json", b"[2]").unwrap(), 202);
    while observing.line() != "[2]" {}
}

/// tinydtls has room for keys of 16 bytes.
#[test]
fn aiocoap_publishes_and_observes_with_tinydtls() {
    let adapter = start(&[]);
    set(&adapter, &MANIFESTS.replace(KEY_1, KEY_OF_16));
    let server = adapter.coaps().to_string();
    let asked = |device: &mut Device, said: Value| {
        device.tell(&said);
        device.next("response")
    };
    let mut socket = listening(&adapter, "tinydtls");
    let mut device = Device::start(python("coap_device.py").args([&server, "lab.dev1", KEY_OF_16]));
    let target = uri(&adapter, "tinydtls");
    for (code, non, payload) in [("POST", false, "WzFd"), ("POST", true, "WzFd"), ("PUT", false, "WzFd")] {
        let said = json!({"do": "ask", "code": code, "non": non, "uri": target, "format": 50, "payload": payload});
        assert_eq!(asked(&mut device, said)["code"], "2.04", "{code} {non}");
        assert_eq!(socket.message().unwrap().text(), "[1]");
    }
    let observed = asked(&mut device, json!({"do": "ask", "code": "GET", "observe": true, "uri": target}));
    assert_eq!((&observed["code"], &observed["observe"]), (&json!("2.05"), &json!(true)));
    adapter.publish(&format!("{PATH}/tinydtls"), KEY_OF_16, "application/json", b"[1]").unwrap();
    assert_eq!(device.next("message")["base64"], "WzFd");
}

/// OpenSSL's own program, which says what it is told to over a session of DTLS.
struct Speaking {
    child: std::process::Child,
}

impl Drop for Speaking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Speaking {
    fn start(address: SocketAddr, more: &[&str]) -> Self {
        let key: String = KEY_1.bytes().map(|byte| format!("{byte:02x}")).collect();
        let child = Command::new("openssl")
            .args(["s_client", "-dtls1_2", "-quiet", "-psk_identity", "lab.dev1", "-psk", &key])
            .args(["-cipher", "PSK-AES128-CCM8:@SECLEVEL=0", "-connect", &address.to_string()])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    fn say(&mut self, id: u16) {
        let post =
            Datagram::new(CON, POST, id, &[1]).to(&format!("{PATH}/a")).with(CONTENT_FORMAT, [50]).carrying("[1]");
        self.child.stdin.as_mut().unwrap().write_all(&post.bytes()).unwrap();
    }

    /// The code of the next answer.
    fn answer(&mut self) -> u8 {
        let mut answer = [0; 64];
        let count = self.child.stdout.as_mut().unwrap().read(&mut answer).unwrap();
        Datagram::parse(&answer[..count]).unwrap().code
    }
}

const CHANGED: u8 = 0x44;

/// BR-21: a hello in parts, and one that is sent again since the answer to it was lost.
#[test]
fn a_hello_may_come_in_parts_and_more_than_once() {
    let adapter = start(&[]);
    for mtu in ["256", "1200"] {
        let mut speaking = Speaking::start(adapter.coaps(), &["-mtu", mtu]);
        speaking.say(1);
        assert_eq!(speaking.answer(), CHANGED, "{mtu}");
    }
    let lossy = relay(adapter.coaps(), |number| number == 0);
    let mut speaking = Speaking::start(lossy, &[]);
    speaking.say(1);
    assert_eq!(speaking.answer(), CHANGED);
}

/// BR-23: a device that keeps its way open by a byte now and then.
#[test]
fn a_stray_byte_ends_no_session() {
    let adapter = start(&[]);
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").unwrap();
    back.connect(adapter.coaps()).unwrap();
    let stray = back.try_clone().unwrap();
    carry(front, back, |_| false);
    let mut speaking = Speaking::start(address, &[]);
    speaking.say(1);
    assert_eq!(speaking.answer(), CHANGED);
    let lines = adapter.log().lines().count();
    for _ in 0..50 {
        stray.send(&[0]).unwrap();
    }
    until("they are there", || adapter.metric("tidegate_coap_dtls_dropped_total").unwrap() >= 50);
    speaking.say(2);
    assert_eq!(speaking.answer(), CHANGED);
    assert_eq!((adapter.metric(SESSIONS).unwrap(), adapter.log().lines().count()), (1, lines));
}

/// A port whose datagrams go on to `server`, and back but for those whose number is to be lost.
fn relay(server: SocketAddr, is_lost: impl Fn(usize) -> bool + Send + 'static) -> SocketAddr {
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").unwrap();
    back.connect(server).unwrap();
    carry(front, back, is_lost);
    address
}

fn carry(front: UdpSocket, back: UdpSocket, is_lost: impl Fn(usize) -> bool + Send + 'static) {
    let (from, to) = (front.try_clone().unwrap(), back.try_clone().unwrap());
    let client = Arc::new(std::sync::Mutex::new(None));
    let known = Arc::clone(&client);
    std::thread::spawn(move || {
        let mut room = [0; 4_096];
        while let Ok((count, peer)) = from.recv_from(&mut room) {
            *known.lock().unwrap() = Some(peer);
            // The server may be gone by then.
            let _ = to.send(&room[..count]);
        }
    });
    std::thread::spawn(move || {
        let (mut room, number) = ([0; 4_096], AtomicUsize::new(0));
        while let Ok(count) = back.recv(&mut room) {
            let client = *client.lock().unwrap();
            if let Some(client) = client.filter(|_| !is_lost(number.fetch_add(1, Ordering::Relaxed))) {
                front.send_to(&room[..count], client).unwrap();
            }
        }
    });
}

/// What a device still sends into a session that its server does not know any more is passed over; a new one is as good.
#[test]
fn a_server_that_was_started_again_is_found_by_a_new_handshake() {
    let adapter = start(&[]);
    let address = adapter.coaps();
    let mut speaking = Speaking::start(address, &[]);
    speaking.say(1);
    assert_eq!(speaking.answer(), CHANGED);
    drop(adapter);
    let adapter = Adapter::start("memory:", &["--listen-coaps", &address.to_string()]).unwrap();
    speaking.say(2);
    until("it is passed over", || adapter.metric("tidegate_coap_dtls_dropped_total").unwrap() > 0);
    let mut anew = Speaking::start(address, &[]);
    anew.say(3);
    assert_eq!(anew.answer(), CHANGED);
}
