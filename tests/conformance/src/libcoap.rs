//! libcoap's program from Debian. Its exit code is 0 whatever happens, so what it says is all that there is to go by.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::pki::ClientCertificate;

/// The program, and what it shows.
#[derive(Clone, Debug)]
pub struct Libcoap {
    program: &'static str,
    shows: Vec<String>,
}

/// Those with DTLS, each with a library of its own.
pub const WITH_DTLS: [&str; 2] = ["coap-client-openssl", "coap-client-gnutls"];

impl Libcoap {
    /// Without DTLS.
    #[must_use]
    pub const fn plain() -> Self {
        Self { program: "coap-client-notls", shows: Vec::new() }
    }

    /// One of [`WITH_DTLS`] with a key.
    #[must_use]
    pub fn with_key(program: &'static str, thing: &str, key: &str) -> Self {
        Self { program, shows: ["-u", thing, "-k", key].map(str::to_owned).into() }
    }

    /// One of them with a certificate. The server's is not looked at.
    #[must_use]
    pub fn with_certificate(program: &'static str, certificate: &ClientCertificate) -> Self {
        Self { program, shows: ["-n", "-c", &certificate.cert, "-j", &certificate.key].map(str::to_owned).into() }
    }

    /// It, about to be started.
    #[must_use]
    pub fn command(&self, arguments: &[&str], uri: &str) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.shows).args(arguments).arg(uri);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// All that it says: nothing where all is well and there is nothing to be told.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn said(&self, arguments: &[&str], uri: &str) -> String {
        let Output { stdout, stderr, .. } = self.command(arguments, uri).output().unwrap();
        String::from_utf8([stdout, stderr].concat()).unwrap()
    }

    /// Starts one that observes.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn observe(&self, arguments: &[&str], uri: &str) -> Observing {
        let mut child = self.command(arguments, uri).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Observing { child, lines }
    }
}

/// A program that observes. Dropping it ends it.
pub struct Observing {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Drop for Observing {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Observing {
    /// The next line that is none of nothing.
    ///
    /// # Panics
    /// When it ends before.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        while line.trim().is_empty() {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended");
        }
        line.trim_end().to_owned()
    }
}
