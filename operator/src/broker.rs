//! Whether there is a broker: the AMQP client's word in the words of the operator.

use anyhow::{Context, Result};
use tidegate_amqp::{AmqpConfig, Reach, UrlSource, probe};
use tidegate_runtime::BrokerState;
use tokio::sync::watch;

use crate::options::RunOptions;

/// What a connection to the broker comes to; nothing where the options name none. Must be called within a runtime.
pub(crate) fn start(options: &RunOptions) -> Result<Option<watch::Receiver<BrokerState>>> {
    let url = match (&options.broker, &options.broker_file) {
        (Some(url), _) => UrlSource::Fixed(url.clone()),
        (None, Some(path)) => UrlSource::File(path.clone()),
        (None, None) => return Ok(None),
    };
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("--broker-ca {}", path.display()))
    };
    let ca_pem = options.broker_ca.as_ref().map(read).transpose()?;
    let config = AmqpConfig { ca_pem, exchange: options.exchange.clone(), ..AmqpConfig::new(url) };
    let mut reach = probe(config).context("--broker")?;
    let (tell, told) = watch::channel(BrokerState::Unknown);
    tokio::spawn(async move {
        loop {
            let now = *reach.borrow_and_update();
            tell.send_replace(state(now));
            if reach.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(Some(told))
}

const fn state(reach: Reach) -> BrokerState {
    match reach {
        Reach::Unknown => BrokerState::Unknown,
        Reach::Up => BrokerState::Ready,
        Reach::Unreachable => BrokerState::Unreachable,
        Reach::Refused => BrokerState::AuthFailed,
        Reach::Conflict => BrokerState::Conflict,
    }
}
