//! The operator's hands: watches the API server, serves grants, and writes what the plan says.
//!
//! Owns the clock, the client and the sockets of the operator. Decides nothing that `operator/plan` could decide.

pub mod authority;
pub mod caller;
pub mod election;
pub mod lease;
pub mod watches;
