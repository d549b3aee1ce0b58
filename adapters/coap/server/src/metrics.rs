//! What the face counts beside what the bridge does.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_coap_proto::{Counts, Held};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

pub(crate) struct Metrics {
    received: Counter,
    sent: Counter,
    events: Family<EventLabels, Counter>,
    observations: Gauge,
    peers: Gauge,
}

impl Metrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let datagrams = Family::<DirectionLabels, Counter>::default();
        registry.register("coap_datagrams", "Datagrams of CoAP", datagrams.clone());
        let direction = |direction| datagrams.get_or_create(&DirectionLabels { direction }).clone();
        let metrics = Self {
            received: direction("received"),
            sent: direction("sent"),
            events: Family::default(),
            observations: Gauge::default(),
            peers: Gauge::default(),
        };
        let help = "What happened to messages of CoAP: malformed, copies, overload, limited, retransmits, unanswered, overtaken, unproven, evicted";
        registry.register("coap_events", help, metrics.events.clone());
        registry.register("coap_observations", "Observations", metrics.observations.clone());
        registry.register("coap_peers", "Peers that something is known of", metrics.peers.clone());
        metrics
    }

    pub(crate) fn received(&self, count: usize) {
        self.received.inc_by(count as u64);
    }

    pub(crate) fn sent(&self) {
        self.sent.inc();
    }

    /// Adds what has come since `before`.
    pub(crate) fn add(&self, before: &mut (Counts, Held), counts: Counts, held: Held) {
        let (was, had) = std::mem::replace(before, (counts, held));
        let events = [
            ("malformed", counts.malformed - was.malformed),
            ("copies", counts.copies - was.copies),
            ("overload", counts.overload - was.overload),
            ("limited", counts.limited - was.limited),
            ("retransmits", counts.retransmits - was.retransmits),
            ("unanswered", counts.unanswered - was.unanswered),
            ("overtaken", counts.overtaken - was.overtaken),
            ("unproven", counts.unproven - was.unproven),
            ("evicted", counts.evicted - was.evicted),
        ];
        for (event, count) in events.into_iter().filter(|(_, count)| *count > 0) {
            self.events.get_or_create(&EventLabels { event }).inc_by(count);
        }
        change(&self.observations, had.observations, held.observations);
        change(&self.peers, had.peers, held.peers);
    }
}

/// Changes a gauge that several sockets share by what one of them had and has.
pub(crate) fn change(gauge: &Gauge, had: usize, has: usize) {
    gauge.inc_by(i64::try_from(has).unwrap_or(i64::MAX) - i64::try_from(had).unwrap_or(i64::MAX));
}
