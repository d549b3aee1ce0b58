//! What is counted of sessions.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Counts;
use crate::metrics::change;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Default)]
pub(crate) struct SessionMetrics {
    handshakes: Family<OutcomeLabels, Counter>,
    dropped: Counter,
    ended: Counter,
    sessions: Gauge,
    half_open: Gauge,
}

impl SessionMetrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help =
            "Handshakes of DTLS: begun, done, failed, evicted for others, refused by the rate of a part of the network";
        registry.register("coap_dtls_handshakes", help, metrics.handshakes.clone());
        let help = "Datagrams of DTLS that were passed over: no record, of no session, or not to be opened";
        registry.register("coap_dtls_dropped", help, metrics.dropped.clone());
        let help =
            "Sessions of DTLS that were ended here: idle, for others, without a right, or since the process ends";
        registry.register("coap_dtls_ended", help, metrics.ended.clone());
        registry.register("coap_dtls_sessions", "Sessions of DTLS", metrics.sessions.clone());
        let help = "Handshakes of DTLS that have not ended";
        registry.register("coap_dtls_half_open", help, metrics.half_open.clone());
        metrics
    }

    /// Adds what has come since `before`: what has happened, and how many sessions and handshakes there are.
    pub(crate) fn add(&self, before: &mut (Counts, (usize, usize)), counts: Counts, held: (usize, usize)) {
        let (was, had) = std::mem::replace(before, (counts, held));
        let outcomes = [
            ("begun", counts.begun - was.begun),
            ("done", counts.done - was.done),
            ("failed", counts.failed - was.failed),
            ("evicted", counts.evicted - was.evicted),
            ("refused", counts.refused - was.refused),
        ];
        for (outcome, count) in outcomes.into_iter().filter(|(_, count)| *count > 0) {
            self.handshakes.get_or_create(&OutcomeLabels { outcome }).inc_by(count);
        }
        self.dropped.inc_by(counts.dropped - was.dropped);
        self.ended.inc_by(counts.ended - was.ended);
        change(&self.sessions, had.0, held.0);
        change(&self.half_open, had.1, held.1);
    }
}
