//! The life of the process: open, serve, drain.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use prometheus_client::registry::Registry;
use tidegate_bridge::{Bridge, BridgeParts, Broker, DeparturePace, Grants, SystemClock};
use tidegate_daemon::Exit;
use tidegate_daemon::admin::{self, Readiness};
use tidegate_daemon::drain::Drain;
use tidegate_daemon::listen::ListenLimits;
use tidegate_memory::{MemoryRetained, RetainedLimits};

use crate::faces::{Certificates, Faces, open};
use crate::options::{Options, Spoken};
use crate::{broker, grants};

/// The condition that a table is in force.
const GRANTS_LOADED: &str = "grants loaded";
/// The condition that the broker is there.
const BROKER_LINK: &str = "broker link up";

/// Why the process ends, and how.
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

/// Makes an error end the process in a certain way.
trait Ends<T> {
    fn or_end(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Ends<T> for Result<T, E> {
    fn or_end(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure { exit, error: error.into() })
    }
}

/// Runs until told to end. The options were looked at.
pub(crate) async fn run(options: &Options, spoken: Spoken) -> Result<(), Failure> {
    let mut registry = Registry::with_prefix("tidegate");
    let readiness = Readiness::new();
    readiness.set(GRANTS_LOADED, false);
    readiness.set(BROKER_LINK, false);

    // Everything that can be wrong with the configuration comes before the first port is bound.
    let certificates = Certificates::load(options).or_end(Exit::Configuration)?;
    let broker = broker::start(options, &mut registry).or_end(Exit::Configuration)?;

    let grants = Arc::new(Grants::new());
    let source = grants::open(options, &grants, &mut registry).or_end(Exit::Configuration)?;
    let stream = source.run(&readiness, GRANTS_LOADED).or_end(Exit::Bug)?;

    let parts = BridgeParts {
        grants,
        publisher: broker.clone(),
        subscriber: broker.clone(),
        retained: Arc::new(MemoryRetained::new(RetainedLimits::default(), &mut registry)),
        clock: Arc::new(SystemClock),
        senml_limits: tidegate_senml::Limits::default(),
    };
    let bridge = Arc::new(Bridge::new(parts, &mut registry));
    tokio::spawn(Arc::clone(&bridge).forget_retained());
    let faces = Faces::new(&bridge, options, &mut registry);

    let drain = Drain::new();
    drain.on_signals().context("signals").or_end(Exit::Bug)?;
    let admin = open("--admin", options.process.admin).or_end(Exit::Unavailable)?;
    let ports = faces.bind(options, spoken, certificates).or_end(Exit::Unavailable)?;

    if let Some(listener) = admin {
        tokio::spawn(admin::serve(listener, readiness.clone(), registry, drain.clone()));
    }
    let listen_limits = ListenLimits {
        connections_max: options.connections_max,
        write_stall_max: options.http_timeout.0,
        ..ListenLimits::default()
    };
    for port in ports {
        port.serve(listen_limits, drain.clone());
    }
    wait_for_broker(&*broker, &readiness, &drain, options.broker_timeout.0).await?;
    drain.draining().await;
    let pace = DeparturePace {
        per_second: options.drain_connections_per_second,
        // What is left of the time is for what connections are at.
        within: options.drain_timeout.0 / 10 * 8,
    };
    faces.drain(pace);
    if !drain.finished(options.drain_timeout.0).await {
        tracing::warn!(connections = drain.count(), "drain timed out");
    }
    if let Some(stream) = stream {
        stream.leave().await;
    }
    Ok(())
}

/// Waits until the link to the broker is up for the first time, and follows it from then on.
async fn wait_for_broker(
    broker: &dyn Broker,
    readiness: &Readiness,
    drain: &Drain,
    timeout: Duration,
) -> Result<(), Failure> {
    let mut link = broker.link_up();
    tokio::select! {
        up = tokio::time::timeout(timeout, link.wait_for(|up| *up)) => {
            if !matches!(up, Ok(Ok(_))) {
                return Err(anyhow!("the broker did not come up within --broker-timeout")).or_end(Exit::Unavailable);
            }
        }
        () = drain.draining() => return Ok(()),
    }
    readiness.set(BROKER_LINK, true);
    let readiness = readiness.clone();
    tokio::spawn(async move {
        while link.changed().await.is_ok() {
            let up = *link.borrow_and_update();
            readiness.set(BROKER_LINK, up);
        }
    });
    Ok(())
}
