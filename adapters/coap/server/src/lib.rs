//! The CoAP face: datagrams to an endpoint, and what the endpoint asks to the bridge.
//!
//! One task owns one socket and one endpoint. Must not know a broker, and must not decide what CoAP allows.

mod answer;
mod driver;
mod line;
mod metrics;
mod observers;
mod request;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tidegate_bridge::{Bridge, DeparturePace, Departures};
use tidegate_coap_proto::Limits;
use tidegate_model::TopicLimits;
use tokio::net::UdpSocket;

pub use line::Peer;

use metrics::Metrics;

/// Serves devices over CoAP.
pub struct CoapFace {
    bridge: Arc<Bridge>,
    limits: Limits,
    topic: TopicLimits,
    departures: Arc<Departures>,
    metrics: Metrics,
}

impl CoapFace {
    /// A face in front of `bridge`, its metrics in `registry`. The bounds are those of one socket.
    #[must_use]
    pub fn new(bridge: Arc<Bridge>, limits: Limits, registry: &mut Registry) -> Arc<Self> {
        let metrics = Metrics::registered(registry);
        Arc::new(Self { bridge, limits, topic: TopicLimits::default(), departures: Arc::default(), metrics })
    }

    /// Tells observers one after another that they are to look for another server.
    pub fn drain(&self, pace: DeparturePace) {
        self.departures.begin(pace);
    }

    /// Serves a socket until the process is to end and every observer is told.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub async fn serve(self: Arc<Self>, socket: UdpSocket) -> std::io::Result<()> {
        let line = line::Line::new(socket)?;
        driver::Driver::new(self, line).run().await;
        Ok(())
    }
}
