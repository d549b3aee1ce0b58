//! What one can say about the broker.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::AMQPUri;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tidegate_bridge::QueueLimits;

/// Where the broker's URL comes from. Not shown by `Debug`: it holds a password.
#[derive(Clone)]
pub enum UrlSource {
    /// As given.
    Fixed(String),
    /// From a file, read at each connection, so that a rotated password is taken up.
    File(PathBuf),
}

impl fmt::Debug for UrlSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed(redacted)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// How to use the broker.
#[derive(Clone, Debug)]
pub struct AmqpConfig {
    /// Where it is.
    pub url: UrlSource,
    /// The CA that signed its certificate, PEM; the machine's own CAs where absent.
    pub ca_pem: Option<String>,
    /// The topic exchange to publish to.
    pub exchange: String,
    /// Connections that publish; each costs a thread.
    pub publisher_connections: usize,
    /// Messages in flight on one connection, and as many waiting for it.
    pub window: usize,
    /// Bytes of the payloads in flight on one connection; one message always fits.
    pub window_bytes: usize,
    /// How long a publish may wait, for room and for its confirm, before it is refused.
    pub publish_timeout: Duration,
    /// How long a subscription may wait for its binding before it is refused.
    pub subscribe_timeout: Duration,
    /// How long a connection attempt may take, and how long a confirm may stay out before the link counts as dead.
    pub stall_max: Duration,
    /// What one subscriber may leave unread.
    pub queue_limits: QueueLimits,
}

impl AmqpConfig {
    /// The defaults, for the broker at `url`.
    #[must_use]
    pub fn new(url: UrlSource) -> Self {
        Self {
            url,
            ca_pem: None,
            exchange: "messages".to_owned(),
            publisher_connections: 2,
            window: 1_000,
            window_bytes: 64 * 1_024 * 1_024,
            publish_timeout: Duration::from_secs(10),
            subscribe_timeout: Duration::from_secs(5),
            stall_max: Duration::from_secs(5),
            queue_limits: QueueLimits::default(),
        }
    }

    /// The exchange that takes what no queue is bound for.
    pub(crate) fn unrouted(&self) -> String {
        format!("{}.unrouted", self.exchange)
    }
}

/// The broker cannot be used as configured. Never says the URL.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The URL is none.
    #[error("not a broker URL: amqp://user:password@host:port/vhost or amqps://… is needed")]
    Url,
    /// The file with the URL cannot be read.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The CA is none.
    #[error("the broker's CA: no PEM certificate in it")]
    Ca,
    /// The exchange's name is none.
    #[error("the exchange needs a name of 1 to 240 bytes")]
    Exchange,
}

/// Checks that there is a certificate in what is to be trusted.
pub(crate) fn check_ca(pem: Option<&str>) -> Result<(), AmqpError> {
    let Some(pem) = pem else { return Ok(()) };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    certificates.is_ok_and(|certificates| !certificates.is_empty()).then_some(()).ok_or(AmqpError::Ca)
}

/// Reads and checks the URL.
pub(crate) fn uri(source: &UrlSource) -> Result<AMQPUri, AmqpError> {
    let text = match source {
        UrlSource::Fixed(url) => url.clone(),
        UrlSource::File(path) => std::fs::read_to_string(path)
            .map_err(|source| AmqpError::File { path: path.clone(), source })?
            .trim()
            .to_owned(),
    };
    let mut uri: AMQPUri = text.parse().map_err(|_said| AmqpError::Url)?;
    // RabbitMQ's cluster operator ends its URLs with a slash and means the virtual host `/`.
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_of_a_broker() {
        let check = |url: &str, good: bool| {
            let read = uri(&UrlSource::Fixed(url.to_owned()));
            assert_eq!(read.is_ok(), good, "{url}");
            // An error never repeats what may hold a password.
            assert!(read.err().is_none_or(|error| !error.to_string().contains("secret")), "{url}");
        };
        check("amqp://guest:secret@localhost:5672/%2F", true);
        check("amqps://localhost", true);
        check("http://user:secret@localhost", false);
        check("secret", false);
        check("", false);
    }

    #[test]
    fn a_url_in_a_file_may_end_with_a_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "amqp://localhost/there\n").unwrap();
        assert_eq!(uri(&UrlSource::File(file.path().to_owned())).unwrap().vhost, "there");
        for url in ["amqp://u:p@host:5672", "amqp://u:p@host:5672/", "amqp://u:p@host:5672/%2f"] {
            assert_eq!(uri(&UrlSource::Fixed(url.to_owned())).unwrap().vhost, "/", "{url}");
        }
        assert!(matches!(uri(&UrlSource::File("/nowhere".into())), Err(AmqpError::File { .. })));
    }

    #[test]
    fn a_ca_is_pem() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        for (pem, good) in [(made.cert.pem(), true), (made.signing_key.serialize_pem(), false), (String::new(), false)]
        {
            assert_eq!(check_ca(Some(&pem)).is_ok(), good);
        }
        assert!(check_ca(None).is_ok());
    }
}
