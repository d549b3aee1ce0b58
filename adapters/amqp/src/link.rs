//! One connection to the broker, made anew for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};

use crate::config::{AmqpConfig, AmqpError, uri};
use crate::wire::short;

/// Waits between attempts: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Seconds between heartbeats that both sides agree on at most.
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

/// A connection and one channel on it.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

impl Link {
    /// Connects, and tries again until it succeeds. Logs the first failure only.
    pub(crate) async fn establish(config: &Arc<AmqpConfig>, name: &'static str) -> Self {
        let (mut wait, mut said) = (RETRY_FIRST, false);
        loop {
            let attempt = tokio::time::timeout(config.stall_max, Self::connect(config, name));
            let error = match attempt.await.unwrap_or(Err(LinkError::Stalled(config.stall_max))) {
                Ok(link) => return link,
                Err(error) => error,
            };
            if !said {
                said = true;
                tracing::warn!(error = &error as &dyn std::error::Error, connection = name, "broker away, trying on");
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn connect(config: &AmqpConfig, name: &'static str) -> Result<Self, LinkError> {
        let broker = |operation: &'static str| move |source| LinkError::Broker { operation, source };
        let mut uri = uri(&config.url).map_err(LinkError::Config)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
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
        tracing::info!(address, connection = name, "broker connected");
        Ok(Self { connection, channel })
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
