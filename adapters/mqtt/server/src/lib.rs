//! The MQTT face: bytes of a connection to a session, and what the session asks to the bridge.
//!
//! One task owns one connection and its session; one keeps each session whose client is away. Must not know a broker, and
//! must not decide what MQTT allows.

mod answer;
mod connection;
mod listeners;
mod message;
mod metrics;
mod pace;
mod publish;
mod sessions;

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use prometheus_client::registry::Registry;
use tidegate_bridge::{Bridge, DeparturePace, Departures};
use tidegate_model::{CertificateNames, TopicLimits};
use tidegate_mqtt_proto::Limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use tidegate_mqtt_proto::Reason;

use metrics::Metrics;
use pace::Pace;
use sessions::Sessions;

/// How many clients may come at once, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Connections that wait to be let in; more are closed.
    pub half_open_max: usize,
    /// Connections that are taken on in a second, a second's worth of them at once; more wait. Any where absent.
    pub per_second_max: Option<NonZeroU32>,
}

/// Serves devices over MQTT 5.0, 3.1.1 and 3.1.
///
/// Sessions whose clients are away are kept in the memory of this process.
pub struct MqttFace {
    bridge: Arc<Bridge>,
    limits: Limits,
    topic: TopicLimits,
    departures: Arc<Departures>,
    sessions: Arc<Sessions>,
    /// Room for connections that are not let in yet.
    half_open: Semaphore,
    pace: Option<Pace>,
    metrics: Metrics,
}

#[expect(clippy::disallowed_methods, reason = "the face is a driver: it has the clock of its sessions")]
fn now() -> Instant {
    Instant::now()
}

impl MqttFace {
    /// A face in front of `bridge`, its metrics in `registry`.
    #[must_use]
    pub fn new(bridge: Arc<Bridge>, limits: Limits, admission: Admission, registry: &mut Registry) -> Arc<Self> {
        Arc::new(Self {
            bridge,
            limits,
            topic: TopicLimits::default(),
            departures: Arc::default(),
            sessions: Arc::default(),
            half_open: Semaphore::new(admission.half_open_max.min(Semaphore::MAX_PERMITS)),
            pace: admission.per_second_max.map(|count| Pace::new(count, now())),
            metrics: Metrics::registered(registry),
        })
    }

    /// Ends connections one after another.
    pub fn drain(&self, pace: DeparturePace) {
        self.departures.begin(pace);
    }

    /// Serves one connection until either side ends it. `certificate` is what the one says that its client showed and that
    /// was verified, if it did.
    pub async fn serve_connection<Io>(self: Arc<Self>, io: Io, certificate: Option<Arc<CertificateNames>>)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_telling(io, None, certificate).await;
    }

    /// The same, and tells why this side ended it, if it did, before it shuts `io` down: for a transport that has words of
    /// its own for that.
    pub async fn serve_telling<Io>(
        self: Arc<Self>,
        io: Io,
        ended_by: Option<Arc<OnceLock<Reason>>>,
        certificate: Option<Arc<CertificateNames>>,
    ) where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(half_open) = self.half_open.try_acquire() else {
            self.metrics.half_open_refused();
            return;
        };
        if let Some(pace) = &self.pace {
            tokio::time::sleep_until(pace.turn(now())).await;
        }
        connection::Connection::new(Arc::clone(&self), io, ended_by, certificate).run(half_open).await;
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection takes of memory that says nothing, beside its buffers, which are given back.
    #[test]
    fn a_connection_is_small() {
        type Connection = connection::Connection<tokio::net::TcpStream>;
        fn size_of_future<F>(_: fn(Box<Connection>, tokio::sync::SemaphorePermit<'static>) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of::<Connection>() + size_of_future(Connection::run);
        assert!(bytes <= 2_500, "{bytes} bytes");
    }
}
