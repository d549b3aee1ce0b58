//! What the grant stream counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) connected: Gauge,
    pub(crate) age_seconds: Gauge,
    pub(crate) cursor: Gauge,
    pub(crate) connections: Counter,
    pub(crate) bytes: Counter,
    pub(crate) lookups: Counter,
}

impl Metrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("grants_connected", "Whether the grant stream is open", metrics.connected.clone());
        let age = "Seconds since the operator was last heard of";
        registry.register("grants_age_seconds", age, metrics.age_seconds.clone());
        registry.register("grants_cursor", "The operator's number of the table in force", metrics.cursor.clone());
        registry.register("grants_connections", "Grant streams that were opened", metrics.connections.clone());
        registry.register("grants_bytes", "Bytes of grant streams", metrics.bytes.clone());
        registry.register("grants_lookups", "Unknown keys that the operator was asked about", metrics.lookups.clone());
        metrics
    }
}
