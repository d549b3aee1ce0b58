//! The adapter: the faces that devices speak to, in front of one broker.
//!
//! Owns the wiring and the exit code; everything else is a library's.

mod broker;
mod grants;
mod options;
mod run;

use std::process::ExitCode;

use tidegate_daemon::config::{self, ConfigError};
use tidegate_daemon::{Exit, telemetry, tls};

use crate::options::Program;

fn main() -> ExitCode {
    tls::install_crypto_provider();
    let program: Program = match config::parse(std::env::args_os()) {
        Ok(program) => program,
        Err(ConfigError::Shown(text)) => return show(&text),
        Err(error) => return fail(Exit::Configuration, &error.into()),
    };
    let options = program.face.options();
    if let Err(error) = telemetry::init(options.log, &options.log_level) {
        return fail(Exit::Configuration, &error.into());
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Bug, &error.into()),
    };
    match runtime.block_on(run::run(options)) {
        Ok(()) => Exit::Done.into(),
        Err(run::Failure { exit, error }) => fail(exit, &error),
    }
}

#[expect(clippy::print_stdout, reason = "help and version are what was asked for")]
fn show(text: &str) -> ExitCode {
    print!("{text}");
    Exit::Done.into()
}

/// One line that says what is wrong.
#[expect(clippy::print_stderr, reason = "the last word of a program that cannot go on")]
fn fail(exit: Exit, error: &anyhow::Error) -> ExitCode {
    eprintln!("adapter: {error:#}");
    exit.into()
}
