//! One connection to the broker, made anew for as long as it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind};
use tokio::sync::watch;

use crate::config::{AmqpConfig, AmqpError, uri};
use crate::probe::Reach;
use crate::wire::short;

/// Waits between attempts: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A link that lived shorter is not made again at once.
const LIVED_MIN: Duration = Duration::from_secs(5);
/// Longest that one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// Seconds between heartbeats, where the URL asks for none or for fewer: without them a link that died without a word,
/// and on which nothing is sent, would count as alive for ever.
const HEARTBEAT_SECONDS: u16 = 10;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Config(AmqpError),
    #[error("cannot {operation}")]
    Broker { operation: &'static str, source: lapin::Error },
    #[error("no answer within {0:?}")]
    Stalled(Duration),
}

impl LinkError {
    fn reach(&self) -> Reach {
        let Self::Broker { source, .. } = self else { return Reach::Unreachable };
        let ErrorKind::ProtocolError(said) = source.kind() else { return Reach::Unreachable };
        match said.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                Reach::Refused
            }
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Reach::Conflict,
            AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => Reach::Unreachable,
        }
    }
}

/// A connection and one channel on it.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

/// Makes one connection after the other, and waits in between: after a failure, and after a link that did not live long,
/// as with a broker that lets in and then denies. Logs the first trouble of a row, and then the end of it.
pub(crate) struct Connector {
    config: Arc<AmqpConfig>,
    name: &'static str,
    wait: Duration,
    attempt_max: Duration,
    up_since: Option<Instant>,
    in_trouble: bool,
    reach: watch::Sender<Reach>,
}

impl Connector {
    pub(crate) fn new(config: Arc<AmqpConfig>, name: &'static str) -> Self {
        let attempt_max = config.stall_max;
        Self {
            config,
            name,
            wait: RETRY_FIRST,
            attempt_max,
            up_since: None,
            in_trouble: false,
            reach: watch::Sender::default(),
        }
    }

    /// What came of the last attempt, and the change of that.
    pub(crate) fn reach(&self) -> watch::Receiver<Reach> {
        self.reach.subscribe()
    }

    /// Waits until nobody asks for [`Connector::reach`] any more.
    pub(crate) fn unheard(&self) -> impl Future<Output = ()> + Send + 'static {
        let reach = self.reach.clone();
        async move { reach.closed().await }
    }

    fn tell(&self, reach: Reach) {
        self.reach.send_if_modified(|told| std::mem::replace(told, reach) != reach);
    }

    /// Connects, and tries again until it succeeds.
    pub(crate) async fn establish(&mut self) -> Link {
        if self.up_since.take().is_some_and(|since| since.elapsed() < LIVED_MIN) {
            self.pause().await;
        }
        loop {
            let attempt = tokio::time::timeout(self.attempt_max, Link::connect(&self.config, self.name));
            match attempt.await.unwrap_or(Err(LinkError::Stalled(self.attempt_max))) {
                Ok(link) => {
                    self.attempt_max = self.config.stall_max;
                    self.up_since = Some(now());
                    self.tell(Reach::Up);
                    return link;
                }
                Err(error) => {
                    // An attempt that is given up stays with a broker that hangs, so the next one gets longer.
                    self.attempt_max = (self.attempt_max * 2).min(ATTEMPT_MAX.max(self.config.stall_max));
                    self.tell(error.reach());
                    self.trouble("cannot connect to the broker, trying on", &error);
                }
            }
            self.pause().await;
        }
    }

    /// Says why a link is of no use any more.
    pub(crate) fn lost(&mut self, cause: Option<&lapin::Error>) {
        self.tell(Reach::Unreachable);
        if self.up_since.is_some_and(|since| since.elapsed() >= LIVED_MIN) {
            (self.wait, self.in_trouble) = (RETRY_FIRST, false);
        }
        match cause {
            Some(error) => self.trouble("link to the broker lost", error),
            None => self.trouble("link to the broker lost", &LinkError::Stalled(self.config.stall_max)),
        }
    }

    fn trouble(&mut self, what: &'static str, error: &(dyn std::error::Error + 'static)) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            tracing::warn!(error, connection = self.name, "{what}");
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(RETRY_MAX);
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver measures how long its link lived")]
fn now() -> Instant {
    Instant::now()
}

impl Link {
    async fn connect(config: &AmqpConfig, name: &'static str) -> Result<Self, LinkError> {
        let broker = |operation: &'static str| move |source| LinkError::Broker { operation, source };
        let mut uri = uri(&config.url).map_err(LinkError::Config)?;
        let asked = uri.query.heartbeat.filter(|seconds| *seconds > 0);
        uri.query.heartbeat = Some(asked.map_or(HEARTBEAT_SECONDS, |seconds| seconds.min(HEARTBEAT_SECONDS)));
        let address = format!("{}:{}", uri.authority.host, uri.authority.port);
        let tls = OwnedTLSConfig { identity: None, cert_chain: config.ca_pem.clone() };
        let properties =
            ConnectionProperties::default().with_connection_name(LongString::from(format!("tidegate {name}")));
        let runtime = lapin::runtime::default_runtime().map_err(broker("find the runtime"))?;
        let connection =
            Connection::connect_uri_with_config(uri, properties, tls, runtime).await.map_err(broker("connect"))?;
        let channel = connection.create_channel().await.map_err(broker("open a channel"))?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(broker("ask for confirms"))?;
        declare(&channel, config).await.map_err(broker("declare the exchanges"))?;
        tracing::debug!(address, connection = name, "broker connected");
        Ok(Self { connection, channel })
    }

    /// Whether the broker asked to send nothing for now, as under its memory alarm.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}

/// The exchanges, the same at every connection.
async fn declare(channel: &Channel, config: &AmqpConfig) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let unrouted = config.unrouted();
    channel.exchange_declare(short(&unrouted), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), AMQPValue::LongString(LongString::from(unrouted)));
    channel.exchange_declare(short(&config.exchange), ExchangeKind::Topic, durable, arguments).await
}
