//! Things that are known by the certificate of their connection: over HTTPS, secure WebSocket and MQTT over TLS.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use conformance::mqtt::{packet, text};
use conformance::pki::{Authority, ClientCertificate, Mounted, Name, tunnel};
use conformance::ws::{BINARY, Socket, TEXT};
use conformance::{Adapter, Certificate, DEADLINE, KEY_1, KEY_2, MANIFESTS, program, until};
use tempfile::TempDir;

const TOPIC: &str = "channels/lab.telemetry/messages/a";
const ALL: &str = "channels/lab.telemetry/messages/#";
const DEV_1: Name = Name::Subject("dev1");
const DEV_2: Name = Name::Uri("urn:dev:lab:2");
const KEYLESS: Name = Name::Dns("keyless.lab.example");
const STRANGER: Name = Name::Subject("stranger");

/// The fixture, its devices with certificates too, and one that has nothing else.
fn manifests() -> String {
    let named = |text: String, of: &str, certificate: &str| {
        let (before, after) = text.split_once(&format!("name: {of}}}")).unwrap();
        let after = after.replacen("credentials: {", &format!("credentials: {{certificate: {{{certificate}}}, "), 1);
        format!("{before}name: {of}}}{after}")
    };
    let text = named(MANIFESTS.to_owned(), "dev1", "subject: \"CN=dev1,O=Lab\"");
    let text = named(text, "dev2", "uriSan: \"urn:dev:lab:2\"");
    let keyless = "kind: Thing
metadata: {namespace: lab, name: keyless}
spec:
  connections: [{channel: telemetry}]
  credentials: {certificate: {dnsSan: Keyless.lab.example}}
";
    format!("{text}---\napiVersion: tidegate.io/v1alpha1\n{keyless}")
}

/// An adapter that asks for certificates of a CA.
struct Rig {
    adapter: Adapter,
    server: Certificate,
    authority: Authority,
}

impl Rig {
    fn start(more: &[&str]) -> Self {
        let authority = Authority::new().unwrap();
        let ca = authority.ca();
        Self::start_with(authority, &ca, more)
    }

    /// With a file of CAs that is elsewhere.
    fn start_with(authority: Authority, ca: &str, more: &[&str]) -> Self {
        let server = Certificate::new().unwrap();
        let (cert, key) = (server.cert(), server.key());
        let arguments = [&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", ca], more].concat();
        let rig = Self { adapter: Adapter::start("memory:", &arguments).unwrap(), server, authority };
        rig.adapter.set_manifests(&manifests()).unwrap();
        rig
    }

    /// One that the CA signed, once its Thing is known by it.
    fn known(&self, name: Name) -> ClientCertificate {
        let certificate = self.authority.sign(name).unwrap();
        until("the manifests are in force", || self.check(Some(&certificate), &[]).1 == "200");
        certificate
    }

    /// Whether curl could ask about a topic, and what the status was.
    fn check(&self, certificate: Option<&ClientCertificate>, more: &[&str]) -> (bool, String) {
        let output = self.curl(certificate, &[&["-I", "-o", "/dev/null", "-w", "%{http_code}"], more].concat());
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    /// The status of a publish by curl.
    fn publish(&self, certificate: Option<&ClientCertificate>, payload: &str, more: &[&str]) -> String {
        let arguments =
            ["-o", "/dev/null", "-w", "%{http_code}", "-d", payload, "-H", "Content-Type: application/json"];
        let Output { stdout, stderr, .. } = self.curl(certificate, &[&arguments, more].concat());
        String::from_utf8([stdout, stderr].concat()).unwrap()
    }

    fn curl(&self, certificate: Option<&ClientCertificate>, more: &[&str]) -> Output {
        self.curl_command(TOPIC, certificate, more).output().unwrap()
    }

    fn curl_command(&self, path: &str, certificate: Option<&ClientCertificate>, more: &[&str]) -> Command {
        let port = self.adapter.https().unwrap().port();
        let mut command = Command::new("curl");
        command.args(["-s", "-S", "--noproxy", "*", "--max-time", "30", "--cacert", &self.server.cert()]);
        command.args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
        if let Some(ClientCertificate { cert, key }) = certificate {
            command.args(["--cert", cert, "--key", key]);
        }
        command.args(more).arg(format!("https://localhost:{port}/{path}")).stdin(Stdio::null());
        command
    }

    /// A client of mosquitto.
    fn mosquitto(&self, program: &str, certificate: Option<&ClientCertificate>, more: &[&str]) -> Command {
        let port = self.adapter.mqtts().unwrap().port().to_string();
        // Line by line, also into a pipe.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", program, "-h", "localhost", "-p", &port, "--cafile", &self.server.cert()]);
        if let Some(ClientCertificate { cert, key }) = certificate {
            command.args(["--cert", cert, "--key", key]);
        }
        command.args(more).stdin(Stdio::null());
        command
    }

    /// Whether a message of QoS 1 was acknowledged, and what the client said.
    fn sends(&self, certificate: Option<&ClientCertificate>, payload: &str, more: &[&str]) -> (bool, String) {
        let arguments = [&["-q", "1", "-t", TOPIC, "-m", payload], more].concat();
        let output = self.mosquitto("mosquitto_pub", certificate, &arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// A port on which plain HTTP and WebSocket reach the adapter over TLS with this certificate.
    fn https(&self, certificate: &ClientCertificate) -> SocketAddr {
        tunnel(self.adapter.https().unwrap(), &self.server.cert(), certificate).unwrap()
    }
}

/// A program that goes on until it is dropped, and what it says.
struct Listening {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Listening {
    /// Starts one and waits until it says `first`.
    fn start(mut command: Command, first: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut listening = Self { child, lines };
        assert!(listening.says(first).is_some(), "it did not say {first:?}");
        listening
    }

    /// The next line that begins so; nothing where it ends before.
    fn says(&mut self, beginning: &str) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find(|line| line.starts_with(beginning))
    }

    fn mqtt(rig: &Rig, certificate: &ClientCertificate, more: &[&str]) -> Self {
        let arguments = [&["-d", "-W", "60", "-q", "1", "-t", ALL, "-F", "message %p"], more].concat();
        Self::start(rig.mosquitto("mosquitto_sub", Some(certificate), &arguments), "Subscribed ")
    }

    fn events(rig: &Rig, certificate: &ClientCertificate) -> Self {
        let more = ["-N", "-H", "Accept: text/event-stream"];
        Self::start(rig.curl_command("channels/lab.telemetry/messages/%23", Some(certificate), &more), ": subscribed")
    }

    fn ends(&mut self) {
        until("it ends", || self.child.try_wait().unwrap().is_some());
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_request_without_a_key_is_its_connections() {
    let rig = Rig::start(&[]);
    let (dev1, dev2, keyless) = (rig.known(DEV_1), rig.known(DEV_2), rig.known(KEYLESS));
    let mut events = Listening::events(&rig, &dev2);
    for version in ["--http1.1", "--http2"] {
        assert_eq!(rig.publish(Some(&dev1), "1", &[version]), "202");
        assert_eq!(events.says("publisher: ").unwrap(), "publisher: lab.dev1");
        assert_eq!(rig.publish(Some(&keyless), "1", &[version]), "202");
        assert_eq!(events.says("publisher: ").unwrap(), "publisher: lab.keyless");
        // It may subscribe alone.
        assert_eq!(rig.publish(Some(&dev2), "1", &[version]), "403");
    }
    let kept = ["-f", "-d", "[\"kept\"]", "-H", "Content-Type: application/json"];
    let kept = rig.curl_command(&format!("{TOPIC}?retain=true"), Some(&dev1), &kept).output().unwrap();
    assert!(kept.status.success(), "{}", String::from_utf8_lossy(&kept.stderr));
    let last = rig.curl_command(&format!("{TOPIC}?last=true"), Some(&dev2), &[]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&last.stdout), "[\"kept\"]");
}

#[test]
fn a_key_that_is_shown_counts_and_has_to_be_right() {
    let rig = Rig::start(&[]);
    let dev1 = rig.known(DEV_1);
    let stranger = rig.authority.sign(STRANGER).unwrap();
    let key = |key: &str| format!("Authorization: {key}");
    let publish = |certificate, header: &str| rig.publish(certificate, "1", &["-H", header]);
    assert_eq!(publish(Some(&dev1), &key(KEY_1)), "202");
    assert_eq!(publish(Some(&dev1), &key("key-none-0123456789")), "401");
    assert_eq!(publish(Some(&dev1), "Authorization: Basic nonsense"), "401");
    assert_eq!(publish(Some(&dev1), &key(KEY_2)), "403", "it is the other device's request, which may not");
    let asked = |query: &str| {
        let arguments = ["-o", "/dev/null", "-w", "%{http_code}", "-d", "1", "-H", "Content-Type: application/json"];
        let output = rig.curl_command(&format!("{TOPIC}?{query}"), Some(&dev1), &arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(asked("authorization=wrong"), "401");
    assert_eq!(asked("authorization=wrong&authorization=other"), "401");
    // A certificate that is nobody's is as none.
    assert_eq!(rig.publish(Some(&stranger), "1", &[]), "401");
    assert_eq!(publish(Some(&stranger), &key(KEY_1)), "202");
    assert_eq!(rig.publish(None, "1", &[]), "401");
    assert_eq!(publish(None, &key(KEY_1)), "202");
}

/// A browser shows its certificate for whatever page asks.
#[test]
fn a_page_of_another_origin_has_to_show_a_key() {
    let rig = Rig::start(&[]);
    let dev1 = rig.known(DEV_1);
    let port = rig.adapter.https().unwrap().port();
    let own = format!("Origin: https://localhost:{port}");
    let other = "Origin: https://elsewhere.example";
    for version in ["--http1.1", "--http2"] {
        assert_eq!(rig.publish(Some(&dev1), "1", &[version, "-H", &own]), "202");
        assert_eq!(rig.publish(Some(&dev1), "1", &[version, "-H", other]), "401");
        let key = format!("Authorization: {KEY_1}");
        assert_eq!(rig.publish(Some(&dev1), "1", &[version, "-H", other, "-H", &key]), "202");
    }
    let ask = |path: &str, headers: &str| Socket::ask(rig.https(&dev1), path, headers).unwrap();
    let (socket, answer) = ask(&format!("/{TOPIC}"), other);
    assert!(socket.is_none() && answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let (socket, answer) = ask("/mqtt", &format!("Sec-WebSocket-Protocol: mqtt\n{other}"));
    let mut socket = socket.expect(&answer);
    socket.say(BINARY, packet(0x10, &[text("MQTT"), vec![4, 2, 0, 60], text("")].concat())).unwrap();
    assert_eq!(socket.message().unwrap().payload, [0x20, 2, 0, 4]);
}

#[test]
fn who_was_not_signed_or_whose_time_is_over_is_refused_in_the_handshake() {
    let rig = Rig::start(&[]);
    let dev1 = rig.known(DEV_1);
    let other = Authority::new().unwrap();
    let foreign = other.sign(DEV_1).unwrap();
    let ended = rig.authority.sign_until(DEV_1, Duration::ZERO).unwrap();
    until("its last second is over", || !rig.check(Some(&ended), &[]).0);
    for wrong in [&foreign, &ended] {
        // A right key does not help.
        assert!(!rig.check(Some(wrong), &["-H", &format!("Authorization: {KEY_1}")]).0);
        assert!(!rig.sends(Some(wrong), "1", &["-u", "lab.dev1", "-P", KEY_1]).0);
    }
    assert!(rig.check(Some(&dev1), &[]).0);
}

#[test]
fn where_certificates_are_required_nobody_comes_without() {
    let rig = Rig::start(&["--tls-client-auth", "required"]);
    let dev1 = rig.known(DEV_1);
    let key = format!("Authorization: {KEY_1}");
    assert!(!rig.check(None, &["-H", &key]).0);
    assert!(!rig.sends(None, "1", &["-u", "lab.dev1", "-P", KEY_1]).0);
    assert_eq!(rig.publish(Some(&dev1), "1", &["-H", &key]), "202");
    assert_eq!(rig.publish(Some(&dev1), "1", &[]), "202");
    assert!(rig.sends(Some(&dev1), "1", &[]).0);
}

#[test]
fn a_client_of_mqtt_without_a_password_is_its_connections() {
    let rig = Rig::start(&[]);
    let (dev1, dev2, keyless) = (rig.known(DEV_1), rig.known(DEV_2), rig.known(KEYLESS));
    let stranger = rig.authority.sign(STRANGER).unwrap();
    let mut events = Listening::events(&rig, &dev2);
    for version in ["31", "311", "5"] {
        let is_let_in = |certificate, more: &[&str]| {
            let (is_sent, said) = rig.sends(certificate, "1", &[&["-V", version], more].concat());
            let is_refused = said.to_lowercase().contains("bad user name or password");
            assert!(is_sent != is_refused, "{version} {more:?}: {said}");
            is_sent
        };
        assert!(is_let_in(Some(&dev1), &[]));
        assert_eq!(events.says("publisher: ").unwrap(), "publisher: lab.dev1");
        assert!(is_let_in(Some(&keyless), &["-u", "lab.keyless"]));
        assert!(events.says("publisher: lab.keyless").is_some());
        assert!(is_let_in(Some(&dev1), &["-u", "lab.dev1", "-P", KEY_1]));
        assert!(is_let_in(Some(&dev1), &["-u", "flashed-dev1"]), "its alias");
        assert!(is_let_in(Some(&stranger), &["-u", "lab.dev1", "-P", KEY_1]));
        assert!(is_let_in(None, &["-u", "lab.dev1", "-P", KEY_1]));
        // Another's name, a wrong password, nobody's certificate, nothing at all.
        assert!(!is_let_in(Some(&dev1), &["-u", "lab.keyless"]));
        assert!(!is_let_in(Some(&dev1), &["-u", "lab.dev1", "-P", "wrong"]));
        assert!(!is_let_in(Some(&stranger), &[]));
        assert!(!is_let_in(None, &[]));
    }
}

#[test]
fn wills_retained_messages_and_sessions_are_as_with_a_key() {
    let rig = Rig::start(&[]);
    let (dev1, dev2) = (rig.known(DEV_1), rig.known(DEV_2));
    let mut events = Listening::events(&rig, &dev2);
    let will = ["--will-topic", TOPIC, "--will-payload", "\"gone\"", "--will-qos", "1"];
    let mut dying = Listening::mqtt(&rig, &dev1, &will);
    dying.child.kill().unwrap();
    assert_eq!(events.says("data: ").unwrap(), "data: \"gone\"");

    let stored = ["-i", "stored", "-c", "-V", "311"];
    let mut first = Listening::mqtt(&rig, &dev2, &stored);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    until("the session is away", || rig.adapter.metric("tidegate_mqtt_sessions_away").unwrap() == 1);
    assert!(rig.sends(Some(&dev1), "\"while away\"", &["-r"]).0);
    let mut again = rig.mosquitto("mosquitto_sub", Some(&dev2), &["-W", "60", "-q", "1", "-t", ALL, "-C", "1"]);
    assert_eq!(String::from_utf8_lossy(&again.args(stored).output().unwrap().stdout), "\"while away\"\n");
    let mut later = rig.mosquitto("mosquitto_sub", Some(&dev2), &["-W", "60", "-t", ALL, "-C", "1", "-F", "%r %p"]);
    assert_eq!(String::from_utf8_lossy(&later.output().unwrap().stdout), "1 \"while away\"\n");
}

#[test]
fn a_socket_without_a_key_is_its_connections() {
    let rig = Rig::start(&[]);
    let (dev1, dev2) = (rig.known(DEV_1), rig.known(DEV_2));
    let stranger = rig.authority.sign(STRANGER).unwrap();
    let mut events = Listening::events(&rig, &dev2);
    let path = format!("/ws/{TOPIC}?content-type=application/json");
    let ask = |certificate, headers: &str| Socket::ask(rig.https(certificate), &path, headers).unwrap();
    let (socket, answer) = ask(&dev1, "");
    let mut socket = socket.expect(&answer);
    socket.say(TEXT, "1").unwrap();
    assert_eq!(events.says("publisher: ").unwrap(), "publisher: lab.dev1");
    for (certificate, headers) in [(&stranger, ""), (&dev1, "Authorization: wrong")] {
        let (socket, answer) = ask(certificate, headers);
        assert!(socket.is_none() && answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    // MQTT over it: a CONNECT of 3.1.1 with neither name nor password, and a message of QoS 0.
    let connect = packet(0x10, &[text("MQTT"), vec![4, 2, 0, 60], text("")].concat());
    for (certificate, code) in [(&dev1, 0), (&stranger, 4)] {
        let offer = "Sec-WebSocket-Protocol: mqtt";
        let (socket, answer) = Socket::ask(rig.https(certificate), "/mqtt", offer).unwrap();
        let mut socket = socket.expect(&answer);
        socket.say(BINARY, &connect).unwrap();
        assert_eq!(socket.message().unwrap().payload, [0x20, 2, 0, code]);
        if code == 0 {
            socket.say(BINARY, packet(0x30, &[text(TOPIC), b"\"over it\"".to_vec()].concat())).unwrap();
            assert_eq!(events.says("data: \"over").unwrap(), "data: \"over it\"");
        }
    }
}

/// All that one device has open, by its certificate alone.
struct Open {
    mqtt: Listening,
    events: Listening,
    socket: Socket,
}

impl Open {
    fn by(rig: &Rig, certificate: &ClientCertificate) -> Self {
        let (socket, answer) = Socket::ask(rig.https(certificate), &format!("/{TOPIC}"), "").unwrap();
        let mqtt = Listening::mqtt(rig, certificate, &["-V", "5"]);
        Self { mqtt, events: Listening::events(rig, certificate), socket: socket.expect(&answer) }
    }

    fn all_end(mut self) {
        self.mqtt.ends();
        assert!(self.events.says("event: end").is_some());
        self.events.ends();
        assert_eq!(self.socket.closed().unwrap().0, 1008);
    }
}

#[test]
fn what_is_open_ends_when_the_thing_or_its_name_does() {
    let rig = Rig::start(&[]);
    let dev1 = rig.known(DEV_1);
    let suspended =
        manifests().replace("  aliases: [flashed-dev1]\n", "  aliases: [flashed-dev1]\n  suspended: true\n");
    let renamed = manifests().replace("CN=dev1,O=Lab", "CN=dev1,O=Elsewhere");
    let deleted = {
        let all = manifests();
        let kept = all.split("---\n").filter(|object| !object.contains("name: dev1}"));
        kept.collect::<Vec<_>>().join("---\n")
    };
    for changed in [suspended, renamed, deleted] {
        assert!(changed != manifests());
        let open = Open::by(&rig, &dev1);
        rig.adapter.set_manifests(&changed).unwrap();
        open.all_end();
        assert_eq!(rig.publish(Some(&dev1), "1", &[]), "401");
        rig.adapter.set_manifests(&manifests()).unwrap();
        until("it is back", || rig.publish(Some(&dev1), "1", &[]) == "202");
    }
}

#[test]
fn what_is_open_ends_when_the_certificate_does() {
    let rig = Rig::start(&[]);
    rig.known(DEV_1);
    let soon = rig.authority.sign_until(DEV_1, Duration::from_secs(5)).unwrap();
    Open::by(&rig, &soon).all_end();
}

/// BR-46: a mounted Secret changes by the target of its `..data` link.
#[test]
fn cas_are_swapped_in_place_and_who_is_connected_stays() {
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let mut mounted = Mounted::new(&[("ca.crt", old.pem())]).unwrap();
    let ca = mounted.path("ca.crt");
    let mut swap = |pem: &str| mounted.replace(&[("ca.crt", pem.to_owned())]).unwrap();
    let rig = Rig::start_with(old, &ca, &[]);
    let (by_old, by_new) = (rig.known(DEV_2), new.sign(DEV_1).unwrap());
    let mut connected = Listening::mqtt(&rig, &by_old, &["-V", "5"]);
    assert!(!rig.check(Some(&by_new), &[]).0);

    swap(&(rig.authority.pem() + &new.pem()));
    until("both count", || rig.publish(Some(&by_new), "1", &[]) == "202");
    assert!(rig.check(Some(&by_old), &[]).0);
    assert_eq!(connected.says("message ").unwrap(), "message 1");

    swap(&new.pem());
    until("the old one counts no more", || !rig.check(Some(&by_old), &[]).0);
    until("nor over MQTT", || !rig.sends(Some(&by_old), "1", &[]).0);

    swap(&rig.authority.pem()[..400]);
    until("the file is found wrong", || rig.adapter.log().contains("CAs of clients not reloaded"));
    assert_eq!(rig.publish(Some(&by_new), "2", &[]), "202");
    assert!(!rig.check(Some(&by_old), &[]).0);
    assert_eq!(connected.says("message 2").unwrap(), "message 2");
}

/// A stream that is reset, or a body where none is due, would cost the client the answer.
#[test]
fn a_refusal_over_http_2_arrives_whole() {
    let rig = Rig::start(&[]);
    assert_eq!(rig.check(None, &["--http2"]), (true, "401".to_owned()));
    for _ in 0..50 {
        assert_eq!(rig.publish(None, "1", &["--http2"]), "401");
    }
}

#[test]
fn a_listener_without_tls_asks_for_no_certificate() {
    let rig = Rig::start(&["--tls-client-auth", "required"]);
    assert_eq!(rig.adapter.publish(TOPIC, KEY_1, "application/json", b"1").unwrap(), 202);
    let mut plain = TcpStream::connect(rig.adapter.https().unwrap()).unwrap();
    plain.set_read_timeout(Some(DEADLINE)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
}

#[test]
fn options_that_do_not_go_together_are_said_at_the_start() {
    let (server, authority) = (Certificate::new().unwrap(), Authority::new().unwrap());
    let folder = TempDir::with_prefix("tidegate-manifests-").unwrap();
    let manifests = folder.path().display().to_string();
    let (cert, key, ca) = (server.cert(), server.key(), authority.ca());
    let check = |more: &[&str], expected: &str| {
        let arguments = [&["all", "--manifests", &manifests, "--admin", "off"], more].concat();
        let output = Command::new(program("adapter").unwrap()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{more:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end(), format!("adapter: {expected}"));
    };
    check(&["--tls-client-ca", &ca], "--tls-client-ca: --tls-cert is needed, with which TLS is served");
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    for auth in ["optional", "required"] {
        let more = [&tls[..], &["--tls-client-auth", auth]].concat();
        check(&more, "--tls-client-auth: --tls-client-ca is needed, or none");
    }
    let more = [&tls[..], &["--tls-client-ca", &key]].concat();
    check(&more, &format!("--tls-client-ca {key}: no certificate in it"));
    // One of RSA is of no use where devices must show certificates over DTLS.
    let (rsa, rsa_key) = (format!("{manifests}/rsa.pem"), format!("{manifests}/rsa.key"));
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"];
    let made = Command::new("openssl").args(request).args(["-keyout", &rsa_key, "-out", &rsa]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let needed = "DTLS needs an ECDSA key of P-256 or P-384 that fits the certificate";
    let more = ["--tls-cert", &rsa, "--tls-key", &rsa_key, "--tls-client-ca", &ca, "--tls-client-auth", "required"];
    check(&more, &format!("--listen-coaps, with --tls-client-auth required: {rsa}: {needed}"));
}

/// On the command line what has no effect is an error; in the environment it may be meant for another adapter.
#[test]
fn options_that_have_no_effect_are_said_at_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (folder, server) = (TempDir::with_prefix("tidegate-manifests-").unwrap(), Certificate::new().unwrap());
    let (manifests, cert, key) = (folder.path().display().to_string(), server.cert(), server.key());
    let run = |face: &str, more: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(program("adapter").unwrap());
        // Who finds nothing to say finds the port taken.
        command.args([face, "--manifests", &manifests, "--admin", &address]).args(more);
        let output = command.envs(environment.iter().copied()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        (output.status.code().unwrap(), said)
    };
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let secure_off = ["--listen-https", "off", "--listen-mqtts", "off", "--listen-coaps", "off"];
    let tls_for_nobody = [&tls[..], &secure_off].concat();
    for (face, more) in [
        ("all", ["--listen-https", "127.0.0.1:0"].as_slice()),
        ("all", &["--listen-mqtts", "127.0.0.1:0"]),
        ("all", &["--listen-mqtt-wss", "127.0.0.1:0"]),
        ("all", &tls_for_nobody),
        ("all", &["--publish-timeout", "2s"]),
        ("all", &["--exchange", "other"]),
        ("all", &["--broker-ca", &cert]),
        ("all", &["--grants-ca", &cert]),
        ("all", &["--grants-token", &key]),
        ("all", &["--grants-max-staleness", "1h"]),
        ("mqtt", &["--listen-http", "127.0.0.1:0"]),
        ("http", &["--coap-ping-period", "1h"]),
        ("coap", &["--mqtt-waiting-max", "1"]),
    ] {
        let (code, said) = run(face, more, &[]);
        assert!(code == 64 && said.starts_with(&format!("adapter: {}: ", more[0])), "{face} {more:?}: {code} {said}");
    }
    for (face, more, environment) in [
        ("all", secure_off.as_slice(), [].as_slice()),
        ("mqtt", &["--listen-http", "off"], &[]),
        ("mqtt", &[], &[("TIDEGATE_LISTEN_HTTP", "127.0.0.1:0"), ("TIDEGATE_COAP_PING_PERIOD", "1h")]),
        ("all", &[], &[("TIDEGATE_PUBLISH_TIMEOUT", "2s"), ("TIDEGATE_LISTEN_HTTPS", "off")]),
    ] {
        let (code, said) = run(face, more, environment);
        assert!(code == 69 && said.contains("--admin"), "{face} {more:?} {environment:?}: {code} {said}");
    }
    let (code, said) = run("all", &[], &[("TIDEGATE_LISTEN_HTTPS", "127.0.0.1:0")]);
    assert!(code == 64 && said.contains("--tls-cert"), "{code} {said}");
}

#[test]
fn a_port_that_is_taken_is_said_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::with_prefix("tidegate-manifests-").unwrap();
    let mut command = Command::new(program("adapter").unwrap());
    command.args(["http", "--manifests", &folder.path().display().to_string(), "--admin", "off"]);
    let output = command.args(["--listen-http", &address, "--listen-https", "off"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap();
    assert_eq!(last, format!("adapter: --listen-http {address}: Address already in use (os error 98)"));
}
