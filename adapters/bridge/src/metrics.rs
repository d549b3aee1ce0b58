//! What the path counts. Labels come from closed sets: no id, no topic.

use prometheus_client::encoding::{EncodeLabelSet, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_model::{Protocol, Refusal};

use crate::subscription::SubscriptionEnd;

/// One word of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Word(&'static str);

impl prometheus_client::encoding::EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ProtocolLabels {
    protocol: Word,
}

impl ProtocolLabels {
    pub(crate) const fn of(protocol: Protocol) -> Self {
        Self { protocol: Word(protocol.as_str()) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    protocol: Word,
    outcome: Word,
}

impl OutcomeLabels {
    pub(crate) const fn of<T>(protocol: Protocol, outcome: &Result<T, Refusal>) -> Self {
        let outcome = match outcome {
            Ok(_) => "accepted",
            Err(refusal) => refusal.code(),
        };
        Self { protocol: Word(protocol.as_str()), outcome: Word(outcome) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EndLabels {
    protocol: Word,
    reason: Word,
}

impl EndLabels {
    pub(crate) const fn of(protocol: Protocol, end: SubscriptionEnd) -> Self {
        let reason = match end {
            SubscriptionEnd::Revoked => "revoked",
            SubscriptionEnd::Overrun => "overrun",
        };
        Self { protocol: Word(protocol.as_str()), reason: Word(reason) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) publishes: Family<OutcomeLabels, Counter>,
    pub(crate) subscribes: Family<OutcomeLabels, Counter>,
    pub(crate) subscriptions: Family<ProtocolLabels, Gauge>,
    pub(crate) subscription_ends: Family<EndLabels, Counter>,
    pub(crate) deliveries: Family<ProtocolLabels, Counter>,
    pub(crate) payload_bytes: Family<ProtocolLabels, Counter>,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("publishes", "Messages that devices tried to publish, by outcome", self.publishes.clone());
        registry.register(
            "subscribes",
            "Subscriptions that devices tried to open, by outcome",
            self.subscribes.clone(),
        );
        registry.register("subscriptions", "Open subscriptions", self.subscriptions.clone());
        registry.register(
            "subscription_ends",
            "Subscriptions that the server ended, by reason",
            self.subscription_ends.clone(),
        );
        registry.register("deliveries", "Messages handed to subscribers", self.deliveries.clone());
        registry.register("published_payload_bytes", "Payload bytes of accepted messages", self.payload_bytes.clone());
    }
}
