//! What the operator counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    /// Statuses that were written.
    pub(crate) status_writes: Counter,
    /// Keys that were generated.
    pub(crate) keys_generated: Counter,
    /// Writes that the API server did not take.
    pub(crate) failed_writes: Counter,
    /// Objects of Adapters that were applied.
    pub(crate) applied: Counter,
    /// Events that were not told, since there were too many or the API server did not take them.
    pub(crate) untold_events: Counter,
    /// Things in the table.
    pub(crate) things: Gauge,
    /// Channels in the table.
    pub(crate) channels: Gauge,
    /// The newest table.
    pub(crate) cursor: Gauge,
    /// Adapters with an open stream.
    pub(crate) adapters: Gauge,
    /// Other replicas that report to this one.
    pub(crate) peers: Gauge,
    /// Whether this process holds the lease.
    pub(crate) leading: Gauge,
}

impl Metrics {
    /// New ones, in `registry`.
    #[must_use]
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("operator_status_writes", "Statuses that were written", metrics.status_writes.clone());
        registry.register("operator_keys_generated", "Keys that were generated", metrics.keys_generated.clone());
        let failed = "Writes that the API server did not take";
        registry.register("operator_failed_writes", failed, metrics.failed_writes.clone());
        let applied = "Objects of Adapters that were applied";
        registry.register("operator_applied", applied, metrics.applied.clone());
        let untold = "Events that were not told";
        registry.register("operator_untold_events", untold, metrics.untold_events.clone());
        registry.register("operator_things", "Things in the grant table", metrics.things.clone());
        registry.register("operator_channels", "Channels in the grant table", metrics.channels.clone());
        registry.register("operator_cursor", "The number of the newest grant table", metrics.cursor.clone());
        registry.register("operator_adapters", "Adapters with an open grant stream", metrics.adapters.clone());
        registry.register("operator_peers", "Other replicas that report to this one", metrics.peers.clone());
        registry.register("operator_leading", "Whether this process holds the lease", metrics.leading.clone());
        metrics
    }
}
