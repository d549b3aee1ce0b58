//! What the face counts beside what the bridge does. Labels come from closed sets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is spoken on a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SpeechLabels {
    speech: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloseLabels {
    code: u16,
}

#[derive(Default)]
pub(crate) struct Metrics {
    connections: Family<SpeechLabels, Gauge>,
    closes: Family<CloseLabels, Counter>,
}

/// Counts a socket as open until it is dropped.
pub(crate) struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Open sockets, by what is spoken on them";
        registry.register("websocket_connections", help, metrics.connections.clone());
        let help = "Sockets on channels that the server closed, by code";
        registry.register("websocket_closes", help, metrics.closes.clone());
        metrics
    }

    pub(crate) fn connection(&self, speech: &'static str) -> Counted {
        let gauge = self.connections.get_or_create(&SpeechLabels { speech }).clone();
        gauge.inc();
        Counted(gauge)
    }

    pub(crate) fn closed(&self, code: u16) {
        self.closes.get_or_create(&CloseLabels { code }).inc();
    }
}
