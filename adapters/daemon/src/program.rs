//! How a program of the house begins and ends: its common options, its one line of complaint, its exit code.

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches};

use crate::Exit;
use crate::bug;
use crate::config::{self, ConfigError, Given, Listen};
use crate::telemetry::{self, LogFormat};

/// Options of every program that serves.
#[derive(Debug, Args)]
pub struct ProcessOptions {
    /// A YAML file with more options; a flag wins over its environment variable, that over the file
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,

    /// Where to serve /health, /ready and /metrics
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_ADMIN", default_value = "9090")]
    pub admin: Listen,

    /// How logs are written
    #[arg(long, value_name = "FORMAT", env = "TIDEGATE_LOG", default_value = "text")]
    pub log: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or directives by module
    #[arg(long, value_name = "LEVEL", env = "TIDEGATE_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Reads the options of the program `name`.
///
/// # Errors
/// The exit code, when help was asked for and is printed, or what is wrong was said in one line.
pub fn options<T: CommandFactory + FromArgMatches>(
    name: &str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<T, ExitCode> {
    options_given(name, arguments).map(|(options, _given)| options)
}

/// The same, and which of them are given.
///
/// # Errors
/// As [`options`].
pub fn options_given<T: CommandFactory + FromArgMatches>(
    name: &str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(T, Given), ExitCode> {
    config::parse_given(arguments).map_err(|error| match error {
        ConfigError::Shown(text) => show(&text),
        wrong @ ConfigError::Wrong(_) => fail(name, Exit::Configuration, &wrong),
    })
}

/// Logs as the options say, and runs `work` on a runtime of its own to its end. A panic meanwhile, of whatever task or thread,
/// is logged and ends the process with [`Exit::Bug`]; but one of what is contained, as a connection is
/// ([`crate::listen::serve`]), ends that alone.
///
/// # Errors
/// The exit code, when what is wrong was said in one line; `work` has not begun then.
pub fn run<T>(name: &str, options: &ProcessOptions, work: impl Future<Output = T>) -> Result<T, ExitCode> {
    telemetry::init(options.log, &options.log_level).map_err(|error| fail(name, Exit::Configuration, &error))?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| fail(name, Exit::Bug, &error))?;
    let before = bug::ends_the_process(name);
    let ended = runtime.block_on(work);
    drop(runtime);
    std::panic::set_hook(before);
    Ok(ended)
}

/// Prints what was asked for.
#[expect(clippy::print_stdout, reason = "this is what was asked for")]
#[must_use]
pub fn show(text: &str) -> ExitCode {
    print!("{text}");
    Exit::Done.into()
}

/// One line that says what is wrong.
#[must_use]
pub fn fail(name: &str, exit: Exit, error: &dyn fmt::Display) -> ExitCode {
    // Where nobody reads it, the exit code remains.
    let _ = writeln!(std::io::stderr(), "{name}: {error:#}");
    exit.into()
}
