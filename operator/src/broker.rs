//! Whether there is a broker: the AMQP client's word in the words of the operator.

use anyhow::{Context, Result};
use tidegate_amqp::{AmqpConfig, AmqpError, Reach, UrlSource, probe};
use tidegate_runtime::{BrokerAccess, BrokerSecretOptions, BrokerState, follow_broker_secret};
use tokio::sync::watch;

use crate::options::RunOptions;

/// What a connection to the broker comes to; nothing where the options name none. Must be called within a runtime.
pub(crate) async fn start(options: &RunOptions) -> Result<Option<watch::Receiver<BrokerState>>> {
    let (tell, told) = watch::channel(BrokerState::Unknown);
    if let Some(secret) = options.broker().filter(|_| options.probe_broker) {
        let (namespace, embedded) = (options.namespace.clone(), options.embedded_broker.clone());
        let access = follow_broker_secret(BrokerSecretOptions { namespace, secret, embedded }).await?;
        tokio::spawn(follow(access, options.exchange.clone(), tell));
        return Ok(Some(told));
    }
    let url = match (&options.broker, &options.broker_file) {
        (Some(url), _) => UrlSource::Fixed(url.clone()),
        (None, Some(path)) => UrlSource::File(path.clone()),
        (None, None) => return Ok(None),
    };
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("--broker-ca {}", path.display()))
    };
    let ca_pem = options.broker_ca.as_ref().map(read).transpose()?;
    let reach = reach(url, ca_pem, options.exchange.clone()).context("--broker")?;
    tokio::spawn(forward(reach, tell));
    Ok(Some(told))
}

fn reach(url: UrlSource, ca_pem: Option<String>, exchange: String) -> Result<watch::Receiver<Reach>, AmqpError> {
    probe(AmqpConfig { ca_pem, exchange, ..AmqpConfig::new(url) })
}

async fn forward(mut reach: watch::Receiver<Reach>, tell: watch::Sender<BrokerState>) {
    loop {
        let now = *reach.borrow_and_update();
        tell.send_if_modified(|told| std::mem::replace(told, state(now)) != state(now));
        if reach.changed().await.is_err() {
            return;
        }
    }
}

/// Connects anew whenever the Secret says something else.
async fn follow(mut access: watch::Receiver<Option<BrokerAccess>>, exchange: String, tell: watch::Sender<BrokerState>) {
    loop {
        let now = access.borrow_and_update().clone();
        let connected = now.map(|access| reach(UrlSource::Fixed(access.url), access.ca_pem, exchange.clone()));
        let ended = match connected {
            Some(Ok(reach)) => tokio::select! {
                () = forward(reach, tell.clone()) => false,
                changed = access.changed() => changed.is_err(),
            },
            Some(Err(error)) => {
                tracing::warn!(%error, "the broker's Secret cannot be used");
                tell.send_replace(BrokerState::Unreachable);
                access.changed().await.is_err()
            }
            None => access.changed().await.is_err(),
        };
        if ended {
            return;
        }
    }
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
