//! The operator: `operator run` in a cluster, `operator crds` for what the cluster must know first.
//!
//! Owns the wiring and the exit code; everything else is a library's.

mod crds;
mod options;

use std::process::ExitCode;

use tidegate_daemon::config::{self, ConfigError};
use tidegate_daemon::{Exit, telemetry, tls};
use tidegate_runtime::RunError;

use crate::options::{Program, RunOptions, Verb};

fn main() -> ExitCode {
    tls::install_crypto_provider();
    let program: Program = match config::parse(std::env::args_os()) {
        Ok(program) => program,
        Err(ConfigError::Shown(text)) => return show(&text),
        Err(error) => return fail(Exit::Configuration, &error.into()),
    };
    match program.verb {
        Verb::Crds => show(&crds::yaml()),
        Verb::Run(options) => run(*options),
    }
}

fn run(options: RunOptions) -> ExitCode {
    if let Err(error) = telemetry::init(options.log, &options.log_level) {
        return fail(Exit::Configuration, &error.into());
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Bug, &error.into()),
    };
    match runtime.block_on(tidegate_runtime::run(options.into())) {
        Ok(()) => Exit::Done.into(),
        Err(error) => fail(exit(&error), &error.into()),
    }
}

const fn exit(error: &RunError) -> Exit {
    match error {
        RunError::Config(_) | RunError::Client(_) => Exit::Configuration,
        // Another replica leads now; this one begins anew.
        RunError::Bind(_) | RunError::Lease(_) => Exit::Unavailable,
        RunError::Signals(_) => Exit::Bug,
    }
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn show(text: &str) -> ExitCode {
    print!("{text}");
    Exit::Done.into()
}

/// One line that says what is wrong.
#[expect(clippy::print_stderr, reason = "the last word of a program that cannot go on")]
fn fail(exit: Exit, error: &anyhow::Error) -> ExitCode {
    eprintln!("operator: {error:#}");
    exit.into()
}
