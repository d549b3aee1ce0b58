//! Logs to standard error, as text for people or JSON for machines.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::ConfigError;

/// A library that would write a line for what any stranger sends, unless it is asked for by its name.
const SILENT: &str = "dimpl";

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
    let filter = filter(level)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that nobody reads any more is lost. To say so where it could not be said would panic.
        .log_internal_errors(false);
    // A second call, from a test in the same process, leaves the first in force.
    let _ = match format {
        LogFormat::Text => subscriber.with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// A word alone is a level: what is taken for the name of a module instead would silence all others.
fn filter(level: &str) -> Result<EnvFilter, ConfigError> {
    let wrong = |why: String| ConfigError::Wrong(format!("--log-level: {why}"));
    for directive in level.split(',') {
        let is_level = !directive.is_empty() && directive.parse::<LevelFilter>().is_ok();
        if !is_level && !directive.contains(['=', '[']) {
            return Err(wrong(format!(
                "{directive:?} is no level: off, error, warn, info, debug, trace, or directives as info,hyper=warn"
            )));
        }
    }
    let level = if level.contains(SILENT) { level.to_owned() } else { format!("{level},{SILENT}=off") };
    EnvFilter::try_new(level).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_of_six_and_a_module_has_one() {
        for level in ["off", "info", "WARN", "info,tidegate_amqp=debug", "info,hyper=off", "[publish]=trace"] {
            assert!(filter(level).unwrap().to_string().contains("dimpl=off"), "{level}");
        }
        assert!(!filter("info,dimpl=debug").unwrap().to_string().contains("dimpl=off"));
        for none in ["", "loud", "warning", "info,", "info,hyper", "info,hyper=loud"] {
            assert!(filter(none).is_err(), "{none}");
        }
    }
}
