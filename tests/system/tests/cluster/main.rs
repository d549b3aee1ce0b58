//! What a platform engineer and her devices see of the chart in a cluster. One binary, so that there is one cluster.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "what was counted is said, and shown with --nocapture")]

mod certificates;
mod coap;
mod faces;
mod installation;
mod outages;
mod upgrade;

/// The pods of the Adapters of a lab.
const ADAPTER_PODS: &str = "app.kubernetes.io/name=adapter";
/// The pods of the operator.
const OPERATOR_PODS: &str = "app.kubernetes.io/name=tidegate-operator";

/// An Adapter that one pod can be missing of.
fn two_pods() -> serde_json::Value {
    serde_json::json!({"protocol": "HTTP", "replicas": 2})
}
