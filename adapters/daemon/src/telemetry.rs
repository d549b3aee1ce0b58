//! Logs to standard error, as text for people or JSON for machines.

use tracing_subscriber::EnvFilter;

use crate::config::ConfigError;

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `level` is a level, or directives as `info,tidegate_amqp=debug`.
///
/// # Errors
/// [`ConfigError::Wrong`] when `level` is neither.
pub fn init(format: LogFormat, level: &str) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(level).map_err(|error| ConfigError::Wrong(format!("--log-level: {error}")))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, from a test in the same process, leaves the first in force.
    let _ = match format {
        LogFormat::Text => subscriber.with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}
