//! Certificates of clients: a CA that signs them, files that are renewed, and a way through TLS for who speaks none.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use tempfile::TempDir;

/// A CA of clients, and the files of those that it signed, in a folder of its own until the value goes.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a client's certificate.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate, PEM.
    pub cert: String,
    /// Its key, PEM.
    pub key: String,
}

/// Files as a mounted Secret has them: all change at once, by the target of a link.
pub struct Mounted {
    folder: TempDir,
    version: u32,
}

/// What a client's certificate calls it.
#[derive(Clone, Copy, Debug)]
pub enum Name {
    /// `CN=<this>,O=Lab`.
    Subject(&'static str),
    /// A URI, beside a subject that is nobody's.
    Uri(&'static str),
    /// A DNS name, beside a subject that is nobody's.
    Dns(&'static str),
}

impl Authority {
    /// Draws one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = subject("devices");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self { folder: TempDir::with_prefix("tidegate-authority-")?, issuer };
        std::fs::write(authority.ca(), authority.pem())?;
        Ok(authority)
    }

    /// Where its own certificate is, PEM.
    #[must_use]
    pub fn ca(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// Its own certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Signs a certificate that is good for a day.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sign(&self, name: Name) -> Result<ClientCertificate> {
        self.sign_until(name, Duration::from_secs(24 * 60 * 60))
    }

    /// Signs one that ends in so long a time, in whole seconds, or has ended where that is none.
    ///
    /// # Errors
    /// When it cannot be written.
    #[expect(clippy::disallowed_methods, reason = "a certificate is of the time of day")]
    pub fn sign_until(&self, name: Name, span: Duration) -> Result<ClientCertificate> {
        let mut params = CertificateParams::default();
        let (common_name, alternative) = match name {
            Name::Subject(common_name) => (common_name, None),
            Name::Uri(uri) => ("nobody", Some(SanType::URI(uri.try_into()?))),
            Name::Dns(dns) => ("nobody", Some(SanType::DnsName(dns.try_into()?))),
        };
        params.distinguished_name = subject(common_name);
        params.subject_alt_names.extend(alternative);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (now + span);
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        // It goes with the folder that it is in.
        let folder = TempDir::with_prefix_in("client-", &self.folder)?.keep();
        let path = |name: &str| folder.join(name).display().to_string();
        let files = ClientCertificate { cert: path("cert.pem"), key: path("key.pem") };
        std::fs::write(&files.cert, certificate.pem())?;
        std::fs::write(&files.key, pair.serialize_pem())?;
        Ok(files)
    }
}

impl Mounted {
    /// Of these names and contents.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(files: &[(&str, String)]) -> Result<Self> {
        let mut mounted = Self { folder: TempDir::with_prefix("tidegate-mounted-")?, version: 0 };
        mounted.replace(files)?;
        for (name, _) in files {
            symlink(Path::new("..data").join(name), mounted.folder.path().join(name))?;
        }
        Ok(mounted)
    }

    /// Other contents of all of them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn replace(&mut self, files: &[(&str, String)]) -> Result<()> {
        self.version += 1;
        let version = format!("..v{}", self.version);
        let folder = self.folder.path();
        std::fs::create_dir(folder.join(&version))?;
        for (name, content) in files {
            std::fs::write(folder.join(&version).join(name), content)?;
        }
        symlink(version, folder.join("..data_tmp"))?;
        Ok(std::fs::rename(folder.join("..data_tmp"), folder.join("..data"))?)
    }

    /// Where one is.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Lab");
    subject.push(DnType::CommonName, common_name);
    subject
}

/// Opens a port whose connections go on to `server` over TLS, with this certificate, where the server's is of `ca`, each
/// until the server ends it.
///
/// # Errors
/// When there is no port.
pub fn tunnel(server: SocketAddr, ca: &str, certificate: &ClientCertificate) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut tls = vec!["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost"];
    tls.extend(["-CAfile", ca, "-cert", &certificate.cert, "-key", &certificate.key, "-connect"]);
    let tls: Vec<String> = tls.into_iter().map(str::to_owned).chain([server.to_string()]).collect();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = tls.clone();
            // A connection that breaks is what its client sees.
            std::thread::spawn(move || stream.map(|stream| relay(&stream, &tls)));
        }
    });
    Ok(address)
}

fn relay(stream: &TcpStream, tls: &[String]) -> Result<()> {
    let mut child =
        Command::new("openssl").args(tls).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let (stdin, stdout) = (child.stdin.take().context("a pipe")?, child.stdout.take().context("a pipe")?);
    let from = stream.try_clone()?;
    std::thread::spawn(move || pass(from, stdin));
    pass(stdout, stream);
    let _ = stream.shutdown(Shutdown::Both);
    child.wait()?;
    Ok(())
}

/// Passes on what comes as it comes, until either side ends.
fn pass(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
