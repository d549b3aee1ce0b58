//! The servers that are measured, each on a core of its own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use conformance::coap::{CON, Datagram};
use conformance::{Adapter, KEY_1, until};

/// libcoap's program of Debian, with OpenSSL.
const LIBCOAP: &str = "coap-server-openssl";
/// The cores of the server, and of the clients.
const CORES: [&str; 2] = ["0", "1"];

/// Which server.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Adapter,
    Libcoap,
}

enum Process {
    Adapter(Box<Adapter>),
    Libcoap(Child),
}

/// One that runs, and ends with this.
pub(super) struct Server {
    process: Process,
    pub(super) plain: SocketAddr,
    pub(super) dtls: SocketAddr,
}

/// Whether there is one to stand beside the adapter.
pub(super) fn is_installed() -> bool {
    Command::new(LIBCOAP).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// From now on this process runs on that core alone, and so does what it starts.
fn keep_to(core: &str) -> Result<()> {
    let process = std::process::id().to_string();
    let kept = Command::new("taskset").args(["-a", "-p", "-c", core, &process]).stdout(Stdio::null()).status();
    ensure!(kept.context("no taskset")?.success(), "this process cannot be kept to core {core}");
    Ok(())
}

impl Server {
    /// Starts one that knows the key.
    pub(super) fn start(kind: Kind) -> Result<Self> {
        keep_to(CORES[0])?;
        let server = match kind {
            Kind::Adapter => Self::adapter(),
            Kind::Libcoap => Self::libcoap(),
        };
        keep_to(CORES[1])?;
        server
    }

    fn adapter() -> Result<Self> {
        let log = ["--log-level", "warn,adapter=info"];
        // All clients are at one address.
        let rate = ["--coaps-handshakes-per-second-max", "1000000"];
        let adapter = Box::new(Adapter::start("memory:", &[log, rate].concat())?);
        Ok(Self { plain: adapter.coap(), dtls: adapter.coaps(), process: Process::Adapter(adapter) })
    }

    fn libcoap() -> Result<Self> {
        let plain = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let dtls = SocketAddr::from((Ipv4Addr::LOCALHOST, plain.port() + 1));
        // Notifications are confirmable now and then, as the adapter's are.
        let arguments = ["-A", "127.0.0.1", "-p", &plain.port().to_string(), "-k", KEY_1, "-v", "0", "-N"];
        let child = Command::new(LIBCOAP).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { process: Process::Libcoap(child), plain, dtls };
        let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        probe.connect(plain)?;
        probe.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
        let ping = Datagram::new(CON, 0, 1, &[]).bytes();
        until("libcoap's server answers a ping", || probe.send(&ping).is_ok() && probe.recv(&mut [0; 64]).is_ok());
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        match &self.process {
            Process::Adapter(adapter) => adapter.pid(),
            Process::Libcoap(child) => child.id(),
        }
    }

    /// What may be written, and read and observed after that.
    pub(super) fn written(&self) -> String {
        match self.process {
            Process::Adapter(_) => format!("channels/lab.telemetry/messages/a?auth={KEY_1}"),
            Process::Libcoap(_) => "example_data".to_owned(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Libcoap(child) = self {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
