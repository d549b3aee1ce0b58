//! The adapter: the faces that devices speak to, in front of one broker.
//!
//! Owns the wiring and the exit code; everything else is a library's.

mod broker;
mod coaps;
mod faces;
mod grants;
mod options;
mod run;
mod shares;

use std::process::ExitCode;

use tidegate_daemon::{Exit, program, tls};

use crate::options::Program;

const NAME: &str = "adapter";

fn main() -> ExitCode {
    tls::install_crypto_provider();
    try_main().unwrap_or_else(|code| code)
}

fn try_main() -> Result<ExitCode, ExitCode> {
    let (Program { face }, given) = program::options_given::<Program>(NAME, std::env::args_os())?;
    let wrong = |error| program::fail(NAME, Exit::Configuration, &error);
    let (options, spoken) = face.options(&given).map_err(wrong)?;
    let ended = program::run(NAME, &options.process, run::run(&options, spoken))?;
    Ok(match ended {
        Ok(()) => Exit::Done.into(),
        Err(run::Failure { exit, error }) => program::fail(NAME, exit, &error),
    })
}
