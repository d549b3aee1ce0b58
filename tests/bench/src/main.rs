//! Side-by-side measurements, as ratios within one run: wall time on a shared machine says little by itself.
//!
//! Owns the load and the tables; measures a real adapter process on a real RabbitMQ.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads the clock and prints")]

mod decision;
mod publish;

use anyhow::Result;

fn main() -> Result<()> {
    // Only a second call fails, and then it is in force already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    decision::run()?;
    tokio::runtime::Runtime::new()?.block_on(publish::run())
}
