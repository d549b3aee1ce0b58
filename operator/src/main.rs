//! The operator: `operator run` in a cluster, `operator crds` for what the cluster must know first.
//!
//! Owns the wiring and the exit code; everything else is a library's.

mod broker;
mod crds;
mod options;

use std::process::ExitCode;

use tidegate_daemon::{Exit, program, tls};
use tidegate_runtime::{OperatorOptions, RunError};

use crate::options::{CrdsOptions, Program, RunOptions, Verb};

const NAME: &str = "operator";

fn main() -> ExitCode {
    tls::install_crypto_provider();
    try_main().unwrap_or_else(|code| code)
}

fn try_main() -> Result<ExitCode, ExitCode> {
    match program::options::<Program>(NAME, std::env::args_os())?.verb {
        Verb::Crds(CrdsOptions { apply: false }) => Ok(program::show(&crds::yaml())),
        Verb::Crds(CrdsOptions { apply: true }) => crds::apply(),
        Verb::Run(options) => run(&options),
    }
}

fn run(options: &RunOptions) -> Result<ExitCode, ExitCode> {
    options.check().map_err(|error| program::fail(NAME, Exit::Configuration, &error))?;
    let work = async {
        let broker = broker::start(options).await.map_err(|error| program::fail(NAME, Exit::Configuration, &error))?;
        Ok::<_, ExitCode>(tidegate_runtime::run(OperatorOptions { broker, ..options.into() }).await)
    };
    let ended = program::run(NAME, &options.process, work)??;
    Ok(match ended {
        Ok(()) => Exit::Done.into(),
        Err(error) => program::fail(NAME, exit(&error), &anyhow::Error::from(error)),
    })
}

const fn exit(error: &RunError) -> Exit {
    match error {
        RunError::Config(_) | RunError::Client(_) => Exit::Configuration,
        // Another replica leads now; this one begins anew.
        RunError::Bind(_) | RunError::Lease(_) => Exit::Unavailable,
        RunError::Signals(_) => Exit::Bug,
    }
}
