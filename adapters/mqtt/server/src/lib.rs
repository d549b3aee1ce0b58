//! The MQTT face: bytes of a connection to a session, and what the session asks to the bridge.
//!
//! One task owns one connection and its session. Must not know a broker, and must not decide what MQTT allows.

mod answer;
mod connection;
mod metrics;
mod presence;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tidegate_bridge::{Bridge, DeparturePace, Departures};
use tidegate_model::TopicLimits;
use tidegate_mqtt_proto::Limits;
use tokio::io::{AsyncRead, AsyncWrite};

use metrics::Metrics;
use presence::Presences;

/// Serves devices over MQTT 5.0, 3.1.1 and 3.1.
///
/// Not kept so far: retained messages, sessions beyond their connection, and shared subscriptions; each is said where the
/// version can say it.
pub struct MqttFace {
    bridge: Arc<Bridge>,
    limits: Limits,
    topic: TopicLimits,
    departures: Arc<Departures>,
    presences: Arc<Presences>,
    metrics: Metrics,
}

impl MqttFace {
    /// A face in front of `bridge`, its metrics in `registry`.
    #[must_use]
    pub fn new(bridge: Arc<Bridge>, limits: Limits, registry: &mut Registry) -> Arc<Self> {
        // What is not kept must not be promised.
        let limits = Limits { session_expiry_max: 0, retains: false, shares: false, ..limits };
        Arc::new(Self {
            bridge,
            limits,
            topic: TopicLimits::default(),
            departures: Arc::default(),
            presences: Arc::default(),
            metrics: Metrics::registered(registry),
        })
    }

    /// Ends connections one after another.
    pub fn drain(&self, pace: DeparturePace) {
        self.departures.begin(pace);
    }

    /// Serves one connection until either side ends it.
    pub async fn serve_connection<Io>(self: Arc<Self>, io: Io)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        connection::Connection::new(self, io).run().await;
    }
}
