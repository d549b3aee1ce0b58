//! What is counted of MQTT.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_mqtt_proto::{Dropped, PacketType};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PacketLabels {
    direction: &'static str,
    packet: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    packets: Family<PacketLabels, Counter>,
    dropped: Family<CauseLabels, Counter>,
}

impl Metrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("mqtt_connections", "Clients that are let in", metrics.connections.clone());
        registry.register("mqtt_packets", "Packets, by direction and type", metrics.packets.clone());
        let help = "Messages that were not sent to their subscriber, by cause";
        registry.register("mqtt_dropped", help, metrics.dropped.clone());
        metrics
    }

    pub(crate) fn received(&self, packet: PacketType) {
        self.count("received", packet);
    }

    pub(crate) fn sent(&self, packet: PacketType) {
        self.count("sent", packet);
    }

    fn count(&self, direction: &'static str, packet: PacketType) {
        let packet = format!("{packet:?}").to_lowercase();
        self.packets.get_or_create(&PacketLabels { direction, packet }).inc();
    }

    /// What was dropped since `before`.
    pub(crate) fn dropped(&self, before: Dropped, now: Dropped) {
        for (cause, count) in [
            ("full", now.full - before.full),
            ("too-large", now.too_large - before.too_large),
            ("expired", now.expired - before.expired),
        ] {
            if count > 0 {
                self.dropped.get_or_create(&CauseLabels { cause }).inc_by(count);
            }
        }
    }
}
