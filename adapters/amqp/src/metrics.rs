//! What the link to the broker counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) link_up: Gauge,
    pub(crate) connections_lost: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) confirmed: Counter,
    pub(crate) rejected: Counter,
    pub(crate) republished: Counter,
    pub(crate) unavailable: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) dropped: Counter,
}

impl Metrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("broker_link_up", "Whether every connection to the broker is up", metrics.link_up.clone());
        let lost = "Connections to the broker that were lost";
        registry.register("broker_connections_lost", lost, metrics.connections_lost.clone());
        let in_flight = "Messages sent to the broker and not confirmed yet";
        registry.register("broker_in_flight", in_flight, metrics.in_flight.clone());
        registry.register("broker_confirmed", "Messages that the broker confirmed", metrics.confirmed.clone());
        registry.register("broker_rejected", "Messages that the broker refused to take", metrics.rejected.clone());
        let republished = "Messages published again under the same id after a connection was lost";
        registry.register("broker_republished", republished, metrics.republished.clone());
        let unavailable = "Operations refused because the broker did not answer within the bound";
        registry.register("broker_unavailable", unavailable, metrics.unavailable.clone());
        let unreadable = "Messages from the broker that are not under a channel";
        registry.register("broker_unreadable", unreadable, metrics.unreadable.clone());
        let dropped = "Times that the broker dropped messages for this process, because it read too slowly";
        registry.register("broker_dropped", dropped, metrics.dropped.clone());
        metrics
    }
}
