//! What one can tell the adapter: flags, environment, file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use tidegate_daemon::config::{Listen, Span};
use tidegate_daemon::telemetry::LogFormat;

/// Tidegate's adapter: devices send and receive messages through it.
#[derive(Debug, Parser)]
#[command(name = "adapter", version, about)]
pub(crate) struct Program {
    #[command(subcommand)]
    pub(crate) face: Face,
}

/// Which faces to serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Face {
    /// Serve HTTP
    Http(Options),
    /// Serve every face in one process: the embedded form
    All(Options),
}

impl Face {
    pub(crate) fn options(self) -> Options {
        match self {
            Self::Http(options) | Self::All(options) => options,
        }
    }
}

/// Options of every face.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A YAML file with more options; a flag wins over its environment variable, that over the file
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Read Things, Channels and Secrets from the YAML files below this folder, and again when they change
    #[arg(long, value_name = "DIR", env = "TIDEGATE_MANIFESTS")]
    pub(crate) manifests: PathBuf,

    /// The broker: `memory:`, or an `amqp://` or `amqps://` URL
    #[arg(long, value_name = "URL", env = "TIDEGATE_BROKER", hide_env_values = true, default_value = "memory:")]
    pub(crate) broker: String,

    /// A file that holds the broker's URL; read again at each connection
    #[arg(long, value_name = "FILE", env = "TIDEGATE_BROKER_FILE")]
    pub(crate) broker_file: Option<PathBuf>,

    /// The CA of an `amqps://` broker, PEM; the machine's own CAs where absent
    #[arg(long, value_name = "FILE", env = "TIDEGATE_BROKER_CA")]
    pub(crate) broker_ca: Option<PathBuf>,

    /// How long to wait for the broker at the start before giving up with exit code 69
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_BROKER_TIMEOUT", default_value = "5m")]
    pub(crate) broker_timeout: Span,

    /// How long a publish may wait for the broker before it is refused
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_PUBLISH_TIMEOUT", default_value = "10s")]
    pub(crate) publish_timeout: Span,

    /// The exchange to publish to
    #[arg(long, value_name = "NAME", env = "TIDEGATE_EXCHANGE", default_value = "messages")]
    pub(crate) exchange: String,

    /// Where to serve HTTP: an address, a port, or `off`
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_LISTEN_HTTP", default_value = "8080")]
    pub(crate) listen_http: Listen,

    /// Where to serve HTTPS, once there is a certificate
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_LISTEN_HTTPS", default_value = "8443")]
    pub(crate) listen_https: Listen,

    /// The certificate chain, PEM; reloaded in place when it changes
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_CERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_KEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Where to serve /health, /ready and /metrics
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_ADMIN", default_value = "9090")]
    pub(crate) admin: Listen,

    /// How long an event stream may be silent before a comment is sent; at most 30s
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_HTTP_KEEP_ALIVE", default_value = "15s")]
    pub(crate) http_keep_alive: Span,

    /// How long a client may take to send a request's head, or its body, or to take any of an answer
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_HTTP_TIMEOUT", default_value = "30s")]
    pub(crate) http_timeout: Span,

    /// Bytes of all bodies that are held at once; beyond it requests are answered 429
    #[arg(long, value_name = "BYTES", env = "TIDEGATE_HTTP_BODIES_BYTES_MAX", default_value_t = 256 * 1_024 * 1_024)]
    pub(crate) http_bodies_bytes_max: usize,

    /// Open connections of one listener; more wait until one ends
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_CONNECTIONS_MAX", default_value_t = 20_000)]
    pub(crate) connections_max: usize,

    /// How long to wait for open connections when told to end
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_DRAIN_TIMEOUT", default_value = "30s")]
    pub(crate) drain_timeout: Span,

    /// How logs are written
    #[arg(long, value_name = "FORMAT", env = "TIDEGATE_LOG", default_value = "text")]
    pub(crate) log: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or directives by module
    #[arg(long, value_name = "LEVEL", env = "TIDEGATE_LOG_LEVEL", default_value = "info")]
    pub(crate) log_level: String,
}

/// Longest silence of an event stream that proxies bear.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(30);
/// Fewer bytes would be no room for any body.
const BODIES_BYTES_MIN: usize = 1_024;

impl Options {
    /// What no single value shows to be wrong by its form.
    pub(crate) fn check(&self) -> Result<()> {
        let keep_alive = self.http_keep_alive.0;
        ensure!(
            !keep_alive.is_zero() && keep_alive <= KEEP_ALIVE_MAX,
            "--http-keep-alive: more than 0 and at most 30s is needed"
        );
        ensure!(!self.http_timeout.0.is_zero(), "--http-timeout: more than 0 is needed");
        ensure!(
            self.http_bodies_bytes_max >= BODIES_BYTES_MIN,
            "--http-bodies-bytes-max: at least {BODIES_BYTES_MIN} is needed"
        );
        ensure!(self.connections_max > 0, "--connections-max: at least 1 is needed");
        Ok(())
    }
}
