//! The CoAP client over DTLS against a server of a few lines, and against libcoap's with two libraries of TLS.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coap_lite::option_value::OptionValueU32;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use dimpl::{Config, Dtls, DtlsCertificate, Output, PskResolver};
use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair};
use tidegate_client::{Address, Client, ClientError, Credential, Identity, Publication, QoS, Status, Subscription};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const CHANGED: u8 = 0x44;
const CONTENT: u8 = 0x45;

/// What a server knows of devices, and who has asked.
#[derive(Default)]
struct Known(Mutex<Vec<String>>);

impl PskResolver for Known {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        self.0.lock().unwrap().push(String::from_utf8(identity.to_vec()).unwrap());
        (identity == b"lab.sensor").then(|| b"se=cret".to_vec())
    }
}

/// A server of one session.
struct Server {
    socket: UdpSocket,
    dtls: Dtls,
    peer: Option<SocketAddr>,
    known: Arc<Known>,
    /// The certificate that it was shown.
    shown: Option<Vec<u8>>,
}

/// What a server hears.
#[derive(Debug)]
enum Heard {
    Message(Box<Packet>),
    Farewell,
}

#[expect(clippy::disallowed_methods, reason = "a server has a clock")]
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

impl Server {
    async fn start() -> Self {
        let known = Arc::new(Known::default());
        let config = Config::builder().with_psk_server(None, known.clone()).dtls13_cipher_suites(&[]).build();
        Self::of(Dtls::new_12_psk(Arc::new(config.unwrap()), now()), known).await
    }

    async fn of(mut dtls: Dtls, known: Arc<Known>) -> Self {
        dtls.handle_timeout(now()).unwrap();
        Self { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), dtls, peer: None, known, shown: None }
    }

    fn url(&self) -> String {
        format!("coaps://{}", self.socket.local_addr().unwrap())
    }

    fn device(&self, key: &str) -> Client {
        Client::new(&self.url(), "lab.sensor", key, None).unwrap()
    }

    /// Says what there is to say; what has come with it, and when it is to be asked again.
    async fn speak(&mut self) -> (Option<Heard>, std::time::Instant) {
        let mut buffer = vec![0; 65_536];
        let mut heard = None;
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => drop(self.socket.send_to(bytes, self.peer.unwrap()).await.unwrap()),
                Output::PeerCert(certificate) => self.shown = Some(certificate.to_vec()),
                Output::ApplicationData(bytes) => {
                    assert!(heard.is_none(), "one message comes at a time");
                    heard = Some(Heard::Message(Box::new(Packet::from_bytes(bytes).unwrap())));
                }
                Output::CloseNotify => heard = Some(Heard::Farewell),
                Output::Timeout(at) => return (heard, at),
                Output::BufferTooSmall { .. } | Output::Connected | Output::KeyingMaterial(..) | _ => {}
            }
        }
    }

    async fn hear(&mut self) -> Heard {
        self.try_hear().await.unwrap()
    }

    /// The same; after an error the session is over.
    async fn try_hear(&mut self) -> Result<Heard, dimpl::Error> {
        let mut bytes = vec![0; 65_536];
        loop {
            let (heard, wake_at) = self.speak().await;
            if let Some(heard) = heard {
                return Ok(heard);
            }
            let received = tokio::time::timeout_at(wake_at.into(), self.socket.recv_from(&mut bytes)).await;
            self.dtls.handle_timeout(now())?;
            if let Ok(received) = received {
                let (length, peer) = received.unwrap();
                self.peer = Some(peer);
                self.dtls.handle_packet(&bytes[..length])?;
            }
        }
    }

    async fn hear_message(&mut self) -> Packet {
        match self.hear().await {
            Heard::Message(packet) => *packet,
            Heard::Farewell => unreachable!("the device has left"),
        }
    }

    async fn say(&mut self, packet: &Packet) {
        self.dtls.handle_timeout(now()).unwrap();
        self.dtls.send_application_data(&packet.to_bytes_unlimited().unwrap()).unwrap();
        assert!(self.speak().await.0.is_none());
    }

    /// Hears for as long as it can, and is silent then: for who has no answer to wait for.
    fn serve(mut self) -> JoinHandle<()> {
        tokio::spawn(async move {
            while self.try_hear().await.is_ok() {}
            std::future::pending::<()>().await;
        })
    }
}

/// The answer to a request, with its acknowledgement.
fn answer(request: &Packet, code: u8) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(MessageType::Acknowledgement);
    packet.header.message_id = request.header.message_id;
    packet.header.code = MessageClass::from(code);
    packet.set_token(request.get_token().to_vec());
    packet
}

fn number(packet: &Packet, option: CoapOption) -> Option<u32> {
    let OptionValueU32(value) = packet.get_first_option_as(option)?.ok()?;
    Some(value)
}

fn publishing(device: &Client, payload: &'static str) -> JoinHandle<Result<(), ClientError>> {
    let device = device.clone();
    tokio::spawn(async move { publish(&device, payload).await })
}

async fn publish(device: &Client, payload: &'static str) -> Result<(), ClientError> {
    device.publish(&Address::new("lab.telemetry", "a"), Publication::json(payload)).await
}

async fn subscribe(device: &Client) -> Result<Subscription, ClientError> {
    device.subscribe(&Address::new("lab.telemetry", "a"), QoS::default()).await
}

/// An error with its causes, in one line.
fn words(error: &ClientError) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

#[tokio::test]
async fn who_speaks_is_said_by_the_handshake_and_by_no_request() {
    let mut server = Server::start().await;
    let device = server.device("se=cret");
    let publishing_one = publishing(&device, "1");
    let request = server.hear_message().await;
    assert_eq!((request.payload.as_slice(), request.get_option(CoapOption::UriQuery)), (&b"1"[..], None));
    assert_eq!(*server.known.0.lock().unwrap(), ["lab.sensor"]);
    server.say(&answer(&request, CHANGED)).await;
    publishing_one.await.unwrap().unwrap();

    // The next goes over the same session.
    let publishing_other = publishing(&device, "2");
    let request = server.hear_message().await;
    server.say(&answer(&request, CHANGED)).await;
    publishing_other.await.unwrap().unwrap();
    assert_eq!(*server.known.0.lock().unwrap(), ["lab.sensor"]);

    //= RFC5246 7.2.1
    device.close().await;
    assert!(matches!(server.hear().await, Heard::Farewell));
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_is_told() {
    let server = Server::start().await;
    let device = server.device("another");
    let serving = server.serve();
    let error = publish(&device, "1").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: Status::Dtls(None), .. }));
    assert_eq!(words(&error), "refused with silence: the server does not know this Thing or its key");
    serving.abort();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    drop(server);
    let device = Client::new(&format!("coaps://{address}"), "lab.sensor", "secret", None).unwrap();
    let error = publish(&device, "1").await.unwrap_err();
    assert!(matches!(error, ClientError::Connection { .. }));
    assert_eq!(words(&error), format!("cannot publish: nothing answers at {address} over DTLS"));
}

//= RFC7641 3.6
#[tokio::test]
async fn an_observation_has_a_session_of_its_own_and_ends_with_it() {
    let mut server = Server::start().await;
    let device = server.device("se=cret");
    let subscribing = tokio::spawn(async move { subscribe(&device).await });
    let request = server.hear_message().await;
    let observed = |mut packet: Packet, number: u32, payload: &[u8]| {
        packet.add_option_as(CoapOption::Observe, OptionValueU32(number));
        payload.clone_into(&mut packet.payload);
        packet
    };
    server.say(&observed(answer(&request, CONTENT), 10, b"kept")).await;
    let mut subscription = subscribing.await.unwrap().unwrap();
    assert_eq!(subscription.next().await.unwrap().unwrap().payload, b"kept");
    let mut notification = answer(&request, CONTENT);
    notification.header.set_type(MessageType::Confirmable);
    notification.header.message_id = 7;
    server.say(&observed(notification, 11, b"news")).await;
    let acknowledgement = server.hear_message().await;
    assert_eq!(
        (acknowledgement.header.get_type(), acknowledgement.header.message_id),
        (MessageType::Acknowledgement, 7)
    );
    assert_eq!(subscription.next().await.unwrap().unwrap().payload, b"news");

    drop(subscription);
    let farewell = server.hear_message().await;
    assert_eq!((number(&farewell, CoapOption::Observe), farewell.get_token()), (Some(1), request.get_token()));
    server.say(&answer(&farewell, CONTENT)).await;
    assert!(matches!(server.hear().await, Heard::Farewell));
}

#[tokio::test]
async fn a_subscriber_is_told_that_the_server_leaves() {
    let mut server = Server::start().await;
    let device = server.device("se=cret");
    let subscribing = tokio::spawn(async move { subscribe(&device).await });
    let request = server.hear_message().await;
    let mut response = answer(&request, CONTENT);
    response.add_option_as(CoapOption::Observe, OptionValueU32(10));
    server.say(&response).await;
    let mut subscription = subscribing.await.unwrap().unwrap();
    server.dtls.close().unwrap();
    server.speak().await;
    let error = subscription.next().await.unwrap_err();
    assert_eq!(words(&error), "cannot receive: the server ended the DTLS session");
}

/// A CA in files, with what it has signed.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "CA");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap(), key)
    }

    /// What a device of this CA shows, and the certificate in it.
    fn identity(&self, key: Option<&str>) -> (Credential, Vec<u8>) {
        let (own, private_key) = self.sign("lab.sensor");
        let identity = Identity::from_pem(own.pem().as_bytes(), private_key.serialize_pem().as_bytes()).unwrap();
        let credential = Credential { identity: Some(identity), key: key.map(str::to_owned), ..Credential::default() };
        (credential, own.der().to_vec())
    }

    /// A server with a certificate of this CA.
    async fn server(&self, name: &str) -> Server {
        let (certificate, key) = self.sign(name);
        let own = DtlsCertificate { certificate: certificate.der().to_vec(), private_key: key.serialize_der() };
        let config = Config::builder().dtls13_cipher_suites(&[]).build().unwrap();
        Server::of(Dtls::new_12(Arc::new(config), own, now()), Arc::default()).await
    }
}

#[tokio::test]
async fn a_certificate_needs_no_key_and_a_key_beside_it_is_said_too() {
    let ca = Ca::new();
    for (key, expected) in [(None, None), (Some("secret"), Some(&b"auth=secret"[..]))] {
        let mut server = ca.server("127.0.0.1").await;
        let (credential, own) = ca.identity(key);
        let device = Client::with_credential(&server.url(), &credential, Some(ca.0.pem().as_bytes())).unwrap();
        let publishing = publishing(&device, "1");
        let request = server.hear_message().await;
        assert_eq!(request.get_first_option(CoapOption::UriQuery).map(Vec::as_slice), expected);
        server.say(&answer(&request, CHANGED)).await;
        publishing.await.unwrap().unwrap();
        assert_eq!(server.shown, Some(own));
    }
}

#[tokio::test]
async fn a_server_that_is_not_the_one_is_not_spoken_to() {
    let (ca, other) = (Ca::new(), Ca::new());
    for (name, trusted, expected) in
        [("127.0.0.2", &ca, "certificate not valid for name"), ("127.0.0.1", &other, "invalid peer certificate: ")]
    {
        let server = ca.server(name).await;
        let device = Client::with_credential(&server.url(), &ca.identity(None).0, Some(trusted.0.pem().as_bytes()));
        let serving = server.serve();
        let error = publish(&device.unwrap(), "1").await.unwrap_err();
        let words = words(&error);
        assert!(words.starts_with("cannot publish: the server's certificate is not trusted: "), "{words}");
        assert!(words.contains(expected), "{words}");
        serving.abort();
    }
}

/// A server of libcoap, which ends with this.
struct LibCoap {
    child: Child,
    port: u16,
}

impl LibCoap {
    fn start(program: &str, arguments: &[&str]) -> Self {
        // The port above it is the one of DTLS, and both are free when this is asked.
        let port = loop {
            let one = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = one.local_addr().unwrap().port();
            if let Some(next) = port.checked_add(1)
                && std::net::UdpSocket::bind(("127.0.0.1", next)).is_ok()
            {
                break port;
            }
        };
        let mut command = Command::new(program);
        command.args(["-A", "127.0.0.1", "-p", &port.to_string(), "-d", "10"]).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, port: port + 1 }
    }

    fn url(&self) -> String {
        format!("coaps://127.0.0.1:{}", self.port)
    }

    /// A device of it, once it is there.
    async fn device(&self, credential: &Credential, ca_pem: Option<&[u8]>) -> Client {
        let until = Instant::from_std(now()) + Duration::from_secs(20);
        loop {
            let device = Client::with_credential(&self.url(), credential, ca_pem).unwrap();
            match publish(&device, "0").await {
                Err(ClientError::Connection { source, .. })
                    if source.to_string().starts_with("nothing answers") && now() < until.into_std() => {}
                outcome => {
                    outcome.unwrap();
                    return device;
                }
            }
        }
    }
}

impl Drop for LibCoap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes and observes.
async fn speak_to_libcoap(device: &Client) {
    let mut subscription = subscribe(device).await.unwrap();
    let large: &str = String::leak("0123456789".repeat(500));
    let mut before = "0";
    for payload in ["one", large] {
        publish(device, payload).await.unwrap();
        loop {
            let event = subscription.next().await.unwrap().unwrap();
            if event.payload == payload.as_bytes() {
                break;
            }
            // What held before may be told first.
            assert_eq!(event.payload, before.as_bytes());
        }
        before = payload;
    }
}

#[tokio::test]
async fn servers_of_openssl_and_gnutls_are_spoken_to_with_a_key() {
    for program in ["coap-server-openssl", "coap-server-gnutls"] {
        let server = LibCoap::start(program, &["-k", "se=cret", "-h", "hint"]);
        let device = server.device(&Credential::of_key("lab.sensor", "se=cret"), None).await;
        speak_to_libcoap(&device).await;
        let wrong = Client::new(&server.url(), "lab.sensor", "another", None).unwrap();
        let error = publish(&wrong, "1").await.unwrap_err();
        assert!(words(&error).ends_with(": the server does not know this Thing or its key"), "{}", words(&error));
    }
}

#[tokio::test]
async fn servers_of_openssl_and_gnutls_are_spoken_to_with_certificates() {
    let ca = Ca::new();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (certificate, key) = ca.sign("127.0.0.1");
    let (certificate, key) = (file("cert.pem", &certificate.pem()), file("key.pem", &key.serialize_pem()));
    let trusted = file("ca.pem", &ca.0.pem());
    for program in ["coap-server-openssl", "coap-server-gnutls"] {
        let server = LibCoap::start(program, &["-c", &certificate, "-j", &key, "-C", &trusted]);
        let device = server.device(&ca.identity(None).0, Some(ca.0.pem().as_bytes())).await;
        speak_to_libcoap(&device).await;
    }
}
