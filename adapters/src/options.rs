//! What one can tell the adapter: flags, environment, file.

mod effect;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_daemon::config::{Given, Listen, Span};
use tidegate_daemon::program::ProcessOptions;
use tidegate_daemon::tls::ClientAuth;

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
    /// Serve WebSocket, and MQTT over it, on the listeners of HTTP
    Ws(Options),
    /// Serve MQTT
    Mqtt(Options),
    /// Serve CoAP
    Coap(Options),
    /// Serve every face in one process: the embedded form
    All(Options),
}

impl Face {
    /// The options, and what is served where HTTP is spoken. What this adapter does not serve is off.
    ///
    /// # Errors
    /// When the options do not go together, or one that is given cannot have an effect.
    pub(crate) fn options(self, given: &Given) -> Result<(Options, Spoken)> {
        let (mut options, adapter) = match self {
            Self::Http(options) => (options, effect::HTTP),
            Self::Ws(options) => (options, effect::WS),
            Self::Mqtt(options) => (options, effect::MQTT),
            Self::Coap(options) => (options, effect::COAP),
            Self::All(options) => (options, effect::ALL),
        };
        options.check()?;
        effect::check(&options, given, &adapter)?;
        effect::close_others(&mut options, &adapter);
        Ok((options, adapter.spoken))
    }
}

/// What is served on the listeners of HTTP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spoken {
    /// HTTP itself.
    pub(crate) requests: bool,
    /// WebSocket.
    pub(crate) sockets: bool,
}

/// Whether clients show certificates over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientCertificates {
    /// They are not asked for one
    None,
    /// They may; who shows none shows a key
    Optional,
    /// They must
    Required,
}

/// Options of every face.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) process: ProcessOptions,

    /// Read Things, Channels and Secrets from the YAML files below this folder, and again when they change
    #[arg(long, value_name = "DIR", env = "TIDEGATE_MANIFESTS")]
    pub(crate) manifests: Option<PathBuf>,

    /// Take grants from the operator's stream at this URL: https://host:port
    #[arg(long, value_name = "URL", env = "TIDEGATE_GRANTS")]
    pub(crate) grants: Option<String>,

    /// The CA that signed the operator's certificate, PEM; read again at each connection
    #[arg(long, value_name = "FILE", env = "TIDEGATE_GRANTS_CA")]
    pub(crate) grants_ca: Option<PathBuf>,

    /// The token to show to the operator; read again at each request
    #[arg(long, value_name = "FILE", env = "TIDEGATE_GRANTS_TOKEN")]
    pub(crate) grants_token: Option<PathBuf>,

    /// Keep the last table in this folder, for a start while the operator is away
    #[arg(long, value_name = "DIR", env = "TIDEGATE_GRANTS_CACHE")]
    pub(crate) grants_cache: Option<PathBuf>,

    /// A file with a secret of at least 32 bytes, by which the kept table is encrypted, with the keys in clear that CoAP over
    /// DTLS needs, and known as written here; made where there is none. It is not to lie where the table lies
    #[arg(long, value_name = "FILE", env = "TIDEGATE_GRANTS_CACHE_KEY")]
    pub(crate) grants_cache_key: Option<PathBuf>,

    /// How long the last table counts while the operator is away; 0s for ever. Beyond it everyone is refused
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_GRANTS_MAX_STALENESS", default_value = "24h")]
    pub(crate) grants_max_staleness: Span,

    /// The broker: `memory:` (the default with --manifests), or an `amqp://` or `amqps://` URL
    #[arg(long, value_name = "URL", env = "TIDEGATE_BROKER", hide_env_values = true)]
    pub(crate) broker: Option<String>,

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

    /// Where to serve MQTT
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_LISTEN_MQTT", default_value = "1883")]
    pub(crate) listen_mqtt: Listen,

    /// Where to serve MQTT over TLS, once there is a certificate
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_LISTEN_MQTTS", default_value = "8883")]
    pub(crate) listen_mqtts: Listen,

    /// Where to serve MQTT over WebSocket, under /mqtt, apart from the listeners of HTTP
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_LISTEN_MQTT_WS", default_value = "off")]
    pub(crate) listen_mqtt_ws: Listen,

    /// The same over TLS, once there is a certificate
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_LISTEN_MQTT_WSS", default_value = "off")]
    pub(crate) listen_mqtt_wss: Listen,

    /// Where to serve CoAP
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_LISTEN_COAP", default_value = "5683")]
    pub(crate) listen_coap: Listen,

    /// Where to serve CoAP over DTLS: with shared keys, and with certificates once there is one of ECDSA
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_LISTEN_COAPS", default_value = "5684")]
    pub(crate) listen_coaps: Listen,

    /// The certificate chain, PEM; reloaded in place when it changes
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The CAs that sign clients' certificates, PEM, by which Things are known without a key; reloaded in place when it
    /// changes
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_CLIENT_CA")]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// Whether clients show certificates over TLS; `optional` where there is --tls-client-ca
    #[arg(long, value_name = "WHETHER", env = "TIDEGATE_TLS_CLIENT_AUTH")]
    pub(crate) tls_client_auth: Option<ClientCertificates>,

    /// How long an event stream may be silent before a comment is sent; at most 30s
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_HTTP_KEEP_ALIVE", default_value = "15s")]
    pub(crate) http_keep_alive: Span,

    /// How long a client may take to send a request's head, or its body, or to take any of an answer
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_HTTP_TIMEOUT", default_value = "30s")]
    pub(crate) http_timeout: Span,

    /// Bytes of all bodies that are held at once; beyond it requests are answered 429
    #[arg(long, value_name = "BYTES", env = "TIDEGATE_HTTP_BODIES_BYTES_MAX", default_value_t = 256 * 1_024 * 1_024)]
    pub(crate) http_bodies_bytes_max: usize,

    /// After which time a notification over CoAP is to be acknowledged, so that who is gone is found out
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_COAP_PING_PERIOD", default_value = "12h")]
    pub(crate) coap_ping_period: Span,

    /// Requests of CoAP that one socket takes in a second from one part of the network, a /24 of IPv4 or a /56 of IPv6; any
    /// where absent. There is a socket a core, and another one for DTLS. More are told to come again (4.29)
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_COAP_REQUESTS_PER_SECOND_MAX")]
    pub(crate) coap_requests_per_second_max: Option<NonZeroU32>,

    /// Sessions of DTLS; beyond that the one that was used least lately ends. Each takes less than 8 kB. One ends too after 25 h
    /// of silence, or after two of --coap-ping-period where that is longer. However many there are, 50,000 can observe while UDP
    /// is served too, else 100,000
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_COAPS_SESSIONS_MAX", default_value_t = 50_000)]
    pub(crate) coaps_sessions_max: usize,

    /// Handshakes of DTLS that have not ended; beyond that the oldest is given up. Each takes less than 8 kB, and may take 30 s
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_COAPS_HALF_OPEN_MAX", default_value_t = 20_000)]
    pub(crate) coaps_half_open_max: usize,

    /// Handshakes of DTLS that one core goes on with in a second for one part of the network, a /24 of IPv4 or a /56 of IPv6;
    /// ten times as many may begin
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_COAPS_HANDSHAKES_PER_SECOND_MAX", default_value = "1000")]
    pub(crate) coaps_handshakes_per_second_max: NonZeroU32,

    /// How often a ping is sent on a WebSocket; from 1s
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_WEBSOCKET_PING_INTERVAL", default_value = "30s")]
    pub(crate) websocket_ping_interval: Span,

    /// How long nothing may come on a WebSocket before it is closed; from 1s
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_WEBSOCKET_IDLE_TIMEOUT", default_value = "60s")]
    pub(crate) websocket_idle_timeout: Span,

    /// The origins whose pages may open a WebSocket, as https://app.example.com, separated by commas; any where absent.
    /// Who is no browser says none, and is not asked
    #[arg(long, value_name = "ORIGINS", env = "TIDEGATE_WEBSOCKET_ORIGINS", value_delimiter = ',')]
    pub(crate) websocket_origins: Option<Vec<String>>,

    /// Messages of one WebSocket that wait at once for the broker; more are not read yet
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_WEBSOCKET_IN_FLIGHT_MAX", default_value_t = 64)]
    pub(crate) websocket_in_flight_max: usize,

    /// Longest keep alive of an MQTT client, 1s to 18h; one that says more, or none, is told this. As the client says where
    /// absent
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_MQTT_KEEP_ALIVE_MAX")]
    pub(crate) mqtt_keep_alive_max: Option<Span>,

    /// How long an MQTT session may outlive its connection, at most
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_MQTT_SESSION_EXPIRY_MAX", default_value = "7d")]
    pub(crate) mqtt_session_expiry_max: Span,

    /// Bytes of one packet of MQTT, at most
    #[arg(long, value_name = "BYTES", env = "TIDEGATE_MQTT_PACKET_BYTES_MAX", default_value = "1048576")]
    pub(crate) mqtt_packet_bytes_max: NonZeroU32,
    /// MQTT connections that may wait at once to be let in; more are closed
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_MQTT_HALF_OPEN_MAX", default_value_t = 1_000)]
    pub(crate) mqtt_half_open_max: usize,

    /// MQTT connections that are taken on in a second, so that devices that all come back at once are let in one after
    /// another; any where absent
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_MQTT_CONNECTS_PER_SECOND_MAX")]
    pub(crate) mqtt_connects_per_second_max: Option<NonZeroU32>,

    /// Messages of QoS 1 and 2 that wait for one client, there or away; more are dropped and counted
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_MQTT_WAITING_MAX", default_value_t = 1_000)]
    pub(crate) mqtt_waiting_max: usize,

    /// Bytes of them
    #[arg(long, value_name = "BYTES", env = "TIDEGATE_MQTT_WAITING_BYTES_MAX", default_value_t = 1_024 * 1_024)]
    pub(crate) mqtt_waiting_bytes_max: usize,

    /// Open connections of one listener; more wait until one ends
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_CONNECTIONS_MAX", default_value_t = 20_000)]
    pub(crate) connections_max: usize,

    /// How long to wait for open connections when told to end
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_DRAIN_TIMEOUT", default_value = "30s")]
    pub(crate) drain_timeout: Span,

    /// Subscriptions to end in a second when told to end, so that devices do not all come back at once; all end in time
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_DRAIN_CONNECTIONS_PER_SECOND", default_value = "500")]
    pub(crate) drain_connections_per_second: NonZeroU32,
}

/// The URL of the broker in process.
pub(crate) const MEMORY: &str = "memory:";
/// Longest silence of an event stream that proxies bear.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(30);
/// A shorter one would be a load of its own.
const WEBSOCKET_SPAN_MIN: Duration = Duration::from_secs(1);
/// A keep alive is said in seconds, two bytes of them.
const MQTT_KEEP_ALIVE_MIN: Duration = Duration::from_secs(1);
/// The longest full hour of those.
const MQTT_KEEP_ALIVE_MAX: Duration = Duration::from_secs(18 * 60 * 60);
/// Longer is for ever.
const MQTT_SESSION_EXPIRY_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Fewer bytes would be no room for any body.
const BODIES_BYTES_MIN: usize = 1_024;

impl Options {
    /// What no single value shows to be wrong by its form.
    fn check(&self) -> Result<()> {
        self.check_pairs()?;
        self.check_tls()?;
        self.check_sources()?;
        self.check_http()?;
        self.check_websocket()?;
        self.check_mqtt()?;
        ensure!(!self.coap_ping_period.0.is_zero(), "--coap-ping-period: more than 0 is needed");
        ensure!(!self.publish_timeout.0.is_zero(), "--publish-timeout: more than 0 is needed");
        for (option, count) in [
            ("--connections-max", self.connections_max),
            ("--coaps-sessions-max", self.coaps_sessions_max),
            ("--coaps-half-open-max", self.coaps_half_open_max),
            ("--mqtt-half-open-max", self.mqtt_half_open_max),
            ("--mqtt-waiting-max", self.mqtt_waiting_max),
            ("--mqtt-waiting-bytes-max", self.mqtt_waiting_bytes_max),
            ("--websocket-in-flight-max", self.websocket_in_flight_max),
        ] {
            ensure!(count > 0, "{option}: at least 1 is needed");
        }
        Ok(())
    }

    /// What is of no use without another. Not left to clap, which does not see what a file says.
    fn check_pairs(&self) -> Result<()> {
        for ((option, value), (other, needed)) in [
            (("--tls-cert", &self.tls_cert), ("--tls-key", &self.tls_key)),
            (("--grants-cache", &self.grants_cache), ("--grants-cache-key", &self.grants_cache_key)),
        ] {
            ensure!(value.is_none() || needed.is_some(), "{option}: {other} is needed");
            ensure!(needed.is_none() || value.is_some(), "{other}: {option} is needed");
        }
        Ok(())
    }

    /// Where grants come from, and which broker.
    fn check_sources(&self) -> Result<()> {
        match (&self.manifests, &self.grants) {
            (None, None) => bail!("--manifests or --grants: one of them is needed"),
            (Some(_), Some(_)) => bail!("--manifests and --grants: one of them is enough"),
            (Some(_), None) | (None, Some(_)) => {}
        }
        if self.grants.is_some() {
            ensure!(self.grants_ca.is_some(), "--grants-ca: is needed with --grants");
            ensure!(self.grants_token.is_some(), "--grants-token: is needed with --grants");
            let named = self.broker.is_some() || self.broker_file.is_some();
            ensure!(named, "--broker or --broker-file: is needed with --grants");
        }
        Ok(())
    }

    fn check_http(&self) -> Result<()> {
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
        Ok(())
    }

    fn check_mqtt(&self) -> Result<()> {
        if let Some(Span(span)) = self.mqtt_keep_alive_max {
            ensure!(
                (MQTT_KEEP_ALIVE_MIN..=MQTT_KEEP_ALIVE_MAX).contains(&span),
                "--mqtt-keep-alive-max: from 1s to 18h is needed"
            );
        }
        ensure!(
            self.mqtt_session_expiry_max.0 <= MQTT_SESSION_EXPIRY_MAX,
            "--mqtt-session-expiry-max: at most 365d is needed"
        );
        Ok(())
    }

    fn check_tls(&self) -> Result<()> {
        let asks = matches!(self.tls_client_auth, Some(ClientCertificates::Optional | ClientCertificates::Required));
        ensure!(!asks || self.tls_client_ca.is_some(), "--tls-client-auth: --tls-client-ca is needed, or none");
        let is_served = self.tls_cert.is_some() || self.tls_client_ca.is_none();
        ensure!(is_served, "--tls-client-ca: --tls-cert is needed, with which TLS is served");
        Ok(())
    }

    /// Whether the broker is in this process.
    fn has_own_broker(&self) -> bool {
        self.broker_file.is_none() && self.broker.as_ref().is_none_or(|url| url == MEMORY)
    }

    /// Whether devices may show shared keys over DTLS, which the adapter has to know then.
    pub(crate) fn takes_shared_keys(&self) -> bool {
        self.listen_coaps.address().is_some() && !matches!(self.client_auth(), ClientAuth::Required(_))
    }

    /// Whether clients show certificates over TLS, and who signs them.
    pub(crate) fn client_auth(&self) -> ClientAuth {
        let Some(ca) = self.tls_client_ca.clone() else { return ClientAuth::None };
        match self.tls_client_auth {
            Some(ClientCertificates::None) => ClientAuth::None,
            Some(ClientCertificates::Optional) | None => ClientAuth::Optional(ca),
            Some(ClientCertificates::Required) => ClientAuth::Required(ca),
        }
    }

    fn check_websocket(&self) -> Result<()> {
        for (option, Span(span)) in [
            ("--websocket-ping-interval", self.websocket_ping_interval),
            ("--websocket-idle-timeout", self.websocket_idle_timeout),
        ] {
            ensure!(span >= WEBSOCKET_SPAN_MIN, "{option}: at least 1s is needed");
        }
        ensure!(
            self.websocket_ping_interval < self.websocket_idle_timeout,
            "--websocket-ping-interval: less than --websocket-idle-timeout is needed: who has nothing to say answers pings alone"
        );
        for origin in self.websocket_origins.iter().flatten() {
            let is_one = self::origin(origin).is_some();
            ensure!(is_one, "--websocket-origins: {origin:?} is none: https://app.example.com is one");
        }
        Ok(())
    }
}

/// An origin as browsers spell it: in lower case, without the port that its scheme has by default. Nothing where it is none.
//= RFC6454 6.2
pub(crate) fn origin(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    if text == "null" {
        return Some(text);
    }
    let (scheme, host) = text.split_once("://")?;
    let port = match scheme {
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => "",
    };
    let host = host.strip_suffix(port).unwrap_or(host);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_host =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    (is_scheme && is_host).then(|| format!("{scheme}://{host}"))
}

#[cfg(test)]
pub(crate) mod tests;
