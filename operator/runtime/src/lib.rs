//! The operator's hands: watches the API server, serves grants, and writes what the plan says.
//!
//! Owns the clock, the client and the sockets of the operator. Decides nothing that `operator/plan` could decide.

mod adapters;
mod authority;
mod broker;
mod caller;
mod clock;
mod definitions;
mod election;
mod events;
mod fleet;
mod identity;
mod intake;
mod lease;
mod metrics;
mod peers;
mod reconcile;
mod report;
mod run;
mod serve;
mod state;
mod watches;
mod writer;

pub use broker::{BrokerAccess, BrokerSecretOptions, follow_broker_secret};
pub use definitions::{Applied, ApplyError, apply as apply_definitions};
pub use lease::LeaseLost;
pub use run::{AdapterDefaults, OperatorOptions, RunError, run};
pub use tidegate_plan::{BrokerSecret, BrokerState};
