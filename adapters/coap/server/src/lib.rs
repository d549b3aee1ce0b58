//! The CoAP face: datagrams to an endpoint, plain or out of sessions of DTLS, and what the endpoint asks to the bridge.
//!
//! One task owns one socket, its sessions and one endpoint. Must not know a broker, and must not decide what CoAP allows.

mod answer;
mod driver;
mod dtls;
mod line;
mod metrics;
mod observers;
mod request;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus_client::registry::Registry;
use tidegate_bridge::{Bridge, DeparturePace, Departures};
use tidegate_coap_proto::Limits;
use tidegate_model::TopicLimits;
use tokio::net::UdpSocket;

pub use dtls::{DtlsLimits, Identity, IdentityError};
pub use line::Peer;

use metrics::Metrics;

/// Serves devices over CoAP.
pub struct CoapFace {
    bridge: Arc<Bridge>,
    limits: Limits,
    dtls: DtlsLimits,
    identity: Arc<ArcSwapOption<Identity>>,
    topic: TopicLimits,
    departures: Arc<Departures>,
    metrics: Metrics,
    session_metrics: dtls::SessionMetrics,
}

impl CoapFace {
    /// A face in front of `bridge`, its metrics in `registry`. The bounds are those of one socket.
    #[must_use]
    pub fn new(bridge: Arc<Bridge>, limits: Limits, dtls: DtlsLimits, registry: &mut Registry) -> Arc<Self> {
        Arc::new(Self {
            bridge,
            limits,
            dtls,
            identity: Arc::default(),
            topic: TopicLimits::default(),
            departures: Arc::default(),
            metrics: Metrics::registered(registry),
            session_metrics: dtls::SessionMetrics::registered(registry),
        })
    }

    /// From now on handshakes of DTLS may be made with certificates, of this identity; those that have begun go on as they
    /// began. Without one, or with none, shared keys alone are spoken.
    pub fn set_identity(&self, identity: Option<Identity>) {
        self.identity.store(identity.map(Arc::new));
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
        driver::Driver::new(self, line, None).run().await;
        Ok(())
    }

    /// Serves a socket of DTLS, likewise.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub async fn serve_dtls(self: Arc<Self>, socket: UdpSocket) -> std::io::Result<()> {
        let line = line::Line::new(socket)?;
        let authority = Arc::clone(&self.bridge) as Arc<dyn dtls::Authority>;
        let sessions = dtls::Sessions::new(self.dtls, authority, Arc::clone(&self.identity), driver::now());
        driver::Driver::new(self, line, Some(sessions)).run().await;
        Ok(())
    }
}
