//! The WebSocket face: a channel as a socket, plain or with answers, and MQTT over WebSocket.
//!
//! Owns the handshake, the frames and the codes that close a socket. Must not know a broker or decide who may do what; a
//! listener and HTTP itself are the HTTP face's, MQTT is the MQTT face's.

mod channel;
mod close;
mod envelope;
mod handshake;
mod identity;
mod metrics;
mod mqtt;
mod socket;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tidegate_bridge::{Bridge, DeparturePace, Departures};
use tidegate_model::TopicLimits;
use tidegate_mqtt::MqttFace;

pub use close::Close;
pub use handshake::{Handshake, Sockets};
pub use socket::{Incoming, Socket, Stopped};

use metrics::Metrics;

/// Bounds on what one client may ask, and how its connection is watched.
#[derive(Clone, Debug)]
pub struct WsLimits {
    /// Topics and filters.
    pub topic: TopicLimits,
    /// How often a ping is sent.
    pub ping_interval: Duration,
    /// How long nothing may come of a peer.
    pub idle_max: Duration,
    /// Frames of one socket that wait for the broker; more wait in the kernel.
    pub in_flight_max: usize,
    /// Bytes of them; one frame always has room.
    pub in_flight_bytes_max: usize,
    /// Bytes of one message of MQTT over WebSocket.
    pub mqtt_message_bytes_max: usize,
    /// The origins whose pages may open a socket, as browsers spell them; any where absent.
    pub origins: Option<BTreeSet<Box<str>>>,
}

impl Default for WsLimits {
    fn default() -> Self {
        Self {
            topic: TopicLimits::default(),
            ping_interval: Duration::from_secs(30),
            idle_max: Duration::from_secs(60),
            in_flight_max: 64,
            in_flight_bytes_max: 1_024 * 1_024,
            mqtt_message_bytes_max: 4 * 1_024 * 1_024,
            origins: None,
        }
    }
}

/// Serves devices over WebSocket, on connections that HTTP hands over.
pub struct WsFace {
    bridge: Arc<Bridge>,
    mqtt: Arc<MqttFace>,
    limits: WsLimits,
    departures: Arc<Departures>,
    metrics: Metrics,
}

impl WsFace {
    /// A face in front of `bridge`, and of `mqtt` for MQTT over WebSocket; its metrics in `registry`.
    #[must_use]
    pub fn new(bridge: Arc<Bridge>, mqtt: Arc<MqttFace>, limits: WsLimits, registry: &mut Registry) -> Arc<Self> {
        let metrics = Metrics::registered(registry);
        Arc::new(Self { bridge, mqtt, limits, departures: Arc::default(), metrics })
    }

    /// Closes sockets on channels one after another; those of MQTT are the MQTT face's.
    pub fn drain(&self, pace: DeparturePace) {
        self.departures.begin(pace);
    }
}
