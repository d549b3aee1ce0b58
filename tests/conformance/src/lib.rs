//! A real adapter process for tests, and raw HTTP, MQTT, WebSocket and CoAP to speak to it.
//!
//! Owns the process and its folder of manifests. Must not share code with what it tests.
#![expect(clippy::disallowed_methods, reason = "a test waits with a deadline")]

pub mod coap;
pub mod device;
pub mod libcoap;
pub mod mqtt;
pub mod pki;
pub mod ws;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// How long anything may take that is waited for.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a predicate is looked at, so that the machine is left to what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The keys of the fixture; each long enough to be one.
pub const KEY_1: &str = "key-dev1-0123456789";
/// The second device's.
pub const KEY_2: &str = "key-dev2-0123456789";

/// Two devices on one channel that admits SenML, JSON and octets, and what else the outcome table needs.
pub const MANIFESTS: &str = r#"apiVersion: tidegate.io/v1alpha1
kind: Channel
metadata: {namespace: lab, name: telemetry}
spec:
  aliases: [flashed-1]
  payload:
    admit: [application/senml+json, application/senml+cbor, application/json, application/octet-stream]
    maxBytes: 1000
---
apiVersion: tidegate.io/v1alpha1
kind: Channel
metadata: {namespace: lab, name: checked}
spec: {payload: {validate: Senml}}
---
apiVersion: tidegate.io/v1alpha1
kind: Channel
metadata: {namespace: lab, name: other}
spec: {}
---
apiVersion: tidegate.io/v1alpha1
kind: Thing
metadata: {namespace: lab, name: dev1}
spec:
  aliases: [flashed-dev1]
  connections:
  - {channel: telemetry}
  - {channel: checked}
  credentials: {secretRefs: [{id: a, name: keys, key: dev1}, {id: old, name: keys, key: old, notAfter: "2020-01-01T00:00:00Z"}]}
---
apiVersion: tidegate.io/v1alpha1
kind: Thing
metadata: {namespace: lab, name: dev2}
spec:
  connections: [{channel: telemetry, permissions: [Subscribe]}]
  credentials: {secretRefs: [{id: a, name: keys, key: dev2}]}
---
apiVersion: tidegate.io/v1alpha1
kind: Thing
metadata: {namespace: lab, name: resting}
spec:
  suspended: true
  connections: [{channel: telemetry}]
  credentials: {secretRefs: [{id: a, name: keys, key: resting}]}
---
apiVersion: v1
kind: Secret
metadata: {namespace: lab, name: keys, labels: {tidegate.io/credentials: "true"}}
stringData: {dev1: key-dev1-0123456789, dev2: key-dev2-0123456789, old: key-old1-0123456789, resting: key-rest-0123456789}
"#;

/// A program as cargo builds it, built once for this process; its package has its name.
///
/// # Errors
/// When it does not build.
pub fn program(name: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let path = build(name)?;
    built.insert(name.to_owned(), path.clone());
    Ok(path)
}

fn build(name: &str) -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    // `make bench` builds the release before it runs it.
    if cfg!(debug_assertions) {
        let built = Command::new(cargo).args(["build", "--quiet", "--locked", "--package", name]).status()?;
        ensure!(built.success(), "{name} does not build");
    }
    let exe = std::env::current_exe()?;
    // A test lies in target/<profile>/deps, a program in target/<profile>.
    let folder = exe.ancestors().skip(1).find(|folder| folder.join(name).is_file());
    Ok(folder.with_context(|| format!("no {name} beside"))?.join(name))
}

/// A running adapter. Dropping it kills it; so does the end of the process, which drops no static.
pub struct Adapter {
    child: Child,
    /// Kills it when its standard input ends.
    watch: Child,
    folder: TempDir,
    log: Arc<Mutex<String>>,
    http: SocketAddr,
    admin: SocketAddr,
    https: Option<SocketAddr>,
    mqtt: SocketAddr,
    mqtts: Option<SocketAddr>,
    coap: SocketAddr,
    coaps: SocketAddr,
}

impl Adapter {
    /// Starts `adapter all` on the fixture, with more arguments, and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready within the deadline; says what it logged.
    pub fn start(broker: &str, more: &[&str]) -> Result<Self> {
        let folder = TempDir::with_prefix("tidegate-manifests-")?;
        std::fs::write(folder.path().join("all.yaml"), MANIFESTS)?;
        let manifests = folder.path().display().to_string();
        let arguments = [&["--broker", broker, "--manifests", &manifests], more].concat();
        Self::launch(&arguments, folder)
    }

    /// Starts `adapter all` with these arguments, which say where grants and the broker are, and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready within the deadline; says what it logged.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        Self::launch(arguments, TempDir::with_prefix("tidegate-adapter-")?)
    }

    fn launch(arguments: &[&str], folder: TempDir) -> Result<Self> {
        let has_tls = arguments.contains(&"--tls-cert");
        let over_tls: &[&str] = if has_tls { &["--listen-https", "--listen-mqtts"] } else { &[] };
        let listeners = ["--listen-http", "--listen-mqtt", "--listen-coap", "--listen-coaps"].iter().chain(over_tls);
        let listeners = listeners.filter(|option| !arguments.contains(option));
        let mut child = Command::new(program("adapter")?)
            .args(["all", "--admin", "127.0.0.1:0"])
            .args(listeners.flat_map(|option| [*option, "127.0.0.1:0"]))
            .args(["--drain-timeout", "10s"])
            .args(arguments)
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()?;
        let watch = Command::new("sh")
            .args(["-c", r#"cat; kill -KILL "$1"; rm -rf "$2""#, "sh", &child.id().to_string()])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, written) = (child.stderr.take().context("a pipe")?, Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let (http, admin, mqtt, coap, coaps) = (nowhere, nowhere, nowhere, nowhere, nowhere);
        let (https, mqtts) = (None, None);
        let mut adapter = Self { child, watch, folder, log, http, admin, https, mqtt, mqtts, coap, coaps };
        adapter.wait_until_ready(has_tls)?;
        Ok(adapter)
    }

    fn wait_until_ready(&mut self, with_tls: bool) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("the adapter ended with {status}: {}", self.log());
            }
            let log = self.log();
            let address = |option: &str| {
                let line = log.lines().find(|line| line.contains(&format!("{option} address=")))?;
                line.rsplit_once("address=")?.1.trim().parse().ok()
            };
            let (http, admin, https) = (address("--listen-http"), address("--admin"), address("--listen-https"));
            let (mqtt, mqtts) = (address("--listen-mqtt"), address("--listen-mqtts"));
            let udp = address("--listen-coap").zip(address("--listen-coaps"));
            let is_whole = (https.is_some() && mqtts.is_some()) || !with_tls;
            if let (Some(http), Some(admin), Some(mqtt), Some(udp), true) = (http, admin, mqtt, udp, is_whole) {
                (self.http, self.admin, self.https) = (http, admin, https);
                (self.mqtt, self.mqtts, (self.coap, self.coaps)) = (mqtt, mqtts, udp);
                if self.admin("/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                    return Ok(());
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("the adapter is not ready: {}", self.log())
    }

    /// Where it serves HTTP.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where it serves HTTPS, with a certificate.
    #[must_use]
    pub const fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Where it serves MQTT.
    #[must_use]
    pub const fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// Where it serves MQTT over TLS, with a certificate.
    #[must_use]
    pub const fn mqtts(&self) -> Option<SocketAddr> {
        self.mqtts
    }

    /// Where it serves CoAP.
    #[must_use]
    pub const fn coap(&self) -> SocketAddr {
        self.coap
    }

    /// Where it serves CoAP over DTLS.
    #[must_use]
    pub const fn coaps(&self) -> SocketAddr {
        self.coaps
    }

    /// All that it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has, in KiB.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("no figure")?.parse()?)
    }

    /// Replaces the manifests.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_manifests(&self, text: &str) -> Result<()> {
        // In one step, as an editor or a kubelet does.
        let (new, old) = (self.folder.path().join(".new"), self.folder.path().join("all.yaml"));
        std::fs::write(&new, text)?;
        Ok(std::fs::rename(new, old)?)
    }

    /// Asks the admin endpoint.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn admin(&self, path: &str) -> Result<String> {
        exchange(self.admin, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// The value of a metric with its labels; 0 while there is none.
    ///
    /// # Errors
    /// When the admin endpoint does not answer.
    pub fn metric(&self, line: &str) -> Result<u64> {
        let metrics = self.admin("/metrics")?;
        let value = metrics.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        Ok(value.unwrap_or(0))
    }

    /// Sends one request, `connection: close` added, and returns the whole answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn request(&self, head: &str, body: &[u8]) -> Result<String> {
        let head = head.trim().replace('\n', "\r\n");
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{head}\r\nHost: x\r\nConnection: close\r\n{length}\r\n");
        exchange(self.http, &[request.as_bytes(), body].concat())
    }

    /// Publishes and returns the status.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn publish(&self, topic: &str, key: &str, content_type: &str, payload: &[u8]) -> Result<u16> {
        let head = format!("POST /{topic} HTTP/1.1\nAuthorization: {key}\nContent-Type: {content_type}");
        status(&self.request(&head, payload)?)
    }

    /// Opens an event stream and waits until it is subscribed.
    ///
    /// # Errors
    /// When it is refused.
    pub fn subscribe(&self, filter: &str, key: &str) -> Result<Events> {
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let head = format!(
            "GET /{filter} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: text/event-stream\r\nAuthorization: {key}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut events = Events { stream, seen: Vec::new() };
        events.until(": subscribed")?;
        Ok(events)
    }

    /// Sends SIGTERM and returns the exit code.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn terminate(&mut self) -> Result<Option<i32>> {
        Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("the adapter goes on: {}", self.log())
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        // Gone already is as good. The watch goes first: after the wait the id may be another process's.
        for child in [&mut self.watch, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An open event stream.
pub struct Events {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Events {
    /// Reads until `text` has come, and returns all that came so far.
    ///
    /// # Errors
    /// When the stream ends before, or nothing comes within the deadline.
    pub fn until(&mut self, text: &str) -> Result<String> {
        let mut buffer = [0; 4_096];
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if seen.contains(text) {
                return Ok(seen);
            }
            ensure!(Instant::now() < deadline, "not within {DEADLINE:?}: {text:?} after {seen:?}");
            let count =
                self.stream.read(&mut buffer).with_context(|| format!("waiting for {text:?} after {seen:?}"))?;
            ensure!(count > 0, "the stream ended before {text:?}: {seen}");
            self.seen.extend_from_slice(&buffer[..count]);
        }
    }

    /// Reads to the end of the stream.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn to_end(mut self) -> Result<String> {
        self.stream.read_to_end(&mut self.seen)?;
        Ok(String::from_utf8_lossy(&self.seen).into_owned())
    }
}

/// A generator of pseudo-random numbers that gives the same ones on every run.
pub struct Xorshift(u64);

impl Default for Xorshift {
    fn default() -> Self {
        Self(0x2545_f491_4f6c_dd1d)
    }
}

impl Xorshift {
    /// A number below this one.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or_default()
    }

    /// These bytes with up to six of them changed, taken out, or more put in.
    pub fn mutated(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(5) {
            let at = self.below(bytes.len());
            let byte = u8::try_from(self.below(256)).unwrap_or_default();
            match self.below(3) {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    }
}

/// A certificate for `localhost` that signs itself, in a folder of its own, until the value goes.
pub struct Certificate {
    folder: TempDir,
}

impl Certificate {
    /// Draws and writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new() -> Result<Self> {
        let certificate = Self { folder: TempDir::with_prefix("tidegate-certificate-")? };
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        std::fs::write(certificate.cert(), pair.cert.pem())?;
        std::fs::write(certificate.key(), pair.signing_key.serialize_pem())?;
        Ok(certificate)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Where the certificate is, PEM; it is its own CA.
    #[must_use]
    pub fn cert(&self) -> String {
        self.path("cert.pem")
    }

    /// Where its key is, PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.path("key.pem")
    }
}

/// Sends bytes and reads to the end.
///
/// # Errors
/// When the connection breaks.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status of an answer.
///
/// # Errors
/// When it is none.
pub fn status(answer: &str) -> Result<u16> {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("no status in {answer:?}"))
}

/// Waits until `holds`.
///
/// # Panics
/// When it does not within the deadline.
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    until_within(DEADLINE, what, holds);
}

/// The same for what takes its time by a standard.
///
/// # Panics
/// When it does not hold within `span`.
pub fn until_within(span: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + span;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {span:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
