//! Which broker, and the link to it.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use prometheus_client::registry::Registry;
use tidegate_amqp::{AmqpBroker, AmqpConfig, UrlSource};
use tidegate_bridge::{Broker, QueueLimits};
use tidegate_memory::MemoryBroker;

use crate::options::{MEMORY, Options};

/// The broker that the options ask for; it connects on its own.
pub(crate) fn start(options: &Options, registry: &mut Registry) -> Result<Arc<dyn Broker>> {
    let url = match (&options.broker, &options.broker_file) {
        (Some(_), Some(_)) => bail!("--broker and --broker-file: one of them is enough"),
        (None, Some(path)) => UrlSource::File(path.clone()),
        (Some(url), None) if url != MEMORY => UrlSource::Fixed(url.clone()),
        (Some(_) | None, None) => return Ok(Arc::new(MemoryBroker::new(QueueLimits::default(), registry))),
    };
    let ca_pem = match &options.broker_ca {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| format!("--broker-ca {}", path.display()))?),
        None => None,
    };
    let config = AmqpConfig {
        ca_pem,
        exchange: options.exchange.clone(),
        publish_timeout: options.publish_timeout.0,
        ..AmqpConfig::new(url)
    };
    Ok(AmqpBroker::start(config, registry).context("--broker")?)
}
