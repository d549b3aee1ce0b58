//! Layered configuration: a flag over its environment variable over the YAML file named by `--config`.
//!
//! The binary declares its options as a clap struct; the file's keys are the names of its long options. A key that no
//! option has, a value that does not parse and a missing file all end in one line that says which and why.

mod given;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};
use serde_yaml::{Mapping, Value};

pub use given::{Given, Source};

/// The option, and with `TIDEGATE_` before it the environment variable, that names the file.
const CONFIG_OPTION: &str = "config";
const CONFIG_VARIABLE: &str = "TIDEGATE_CONFIG";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Help or the version was asked for: print this and end well.
    #[error("{0}")]
    Shown(String),
    /// One line that says which value is wrong and why.
    #[error("{0}")]
    Wrong(String),
}

/// Reads the configuration of `T` from arguments, environment and file.
///
/// What the file says are defaults to clap: its `requires` and `conflicts_with` see nothing of them, so that what goes together
/// has to be looked at in what comes out here.
///
/// # Errors
/// [`ConfigError`]; nothing has been done then.
pub fn parse<T: CommandFactory + FromArgMatches>(args: impl IntoIterator<Item = OsString>) -> Result<T, ConfigError> {
    parse_given(args).map(|(options, _given)| options)
}

/// The same, and which options are given, and by what.
///
/// # Errors
/// As [`parse`].
pub fn parse_given<T: CommandFactory + FromArgMatches>(
    args: impl IntoIterator<Item = OsString>,
) -> Result<(T, Given), ConfigError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let (mut command, mut in_file) = (T::command(), BTreeSet::new());
    if let Some(path) = config_path(&args) {
        let file = read(&path)?;
        in_file = file.keys().filter_map(Value::as_str).map(str::to_owned).collect();
        command = with_defaults(command, file, &path)?;
    }
    let matches = command.try_get_matches_from_mut(args).map_err(|error| one_line(&error))?;
    let options = T::from_arg_matches(&matches).map_err(|error| one_line(&error))?;
    Ok((options, Given::of(&command, &matches, &in_file)))
}

/// The file that the arguments or the environment name. Looked for before the options are parsed, since it gives them
/// their defaults.
fn config_path(args: &[OsString]) -> Option<PathBuf> {
    let flag = format!("--{CONFIG_OPTION}");
    let with_value = format!("{flag}=");
    let mut words = args.iter().skip(1).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if *word == *flag {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix(&with_value)) {
            return Some(path.into());
        }
    }
    std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn read(path: &Path) -> Result<Mapping, ConfigError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("--config {shown}: {error}")))?;
    // The parser's message names the place and never repeats a value.
    match serde_yaml::from_str(&text) {
        Ok(Value::Mapping(mapping)) => Ok(mapping),
        Ok(Value::Null) => Ok(Mapping::new()),
        Ok(_) => Err(wrong(format!("--config {shown}: not a mapping of option names to values"))),
        Err(error) => {
            let place = error.location().map_or(String::new(), |at| format!(":{}:{}", at.line(), at.column()));
            Err(wrong(format!("--config {shown}{place}: not YAML")))
        }
    }
}

/// Gives each option that the file names its value as default.
fn with_defaults(mut command: Command, file: Mapping, path: &Path) -> Result<Command, ConfigError> {
    for (key, value) in file {
        let shown = path.display();
        let Value::String(key) = key else { return Err(wrong(format!("--config {shown}: a key is not text"))) };
        let value = scalar(&value)
            .ok_or_else(|| wrong(format!("--config {shown}: {key}: a text, a number or true or false is needed")))?;
        let (changed, known) = set_default(command, &key, &value);
        if !known || key == CONFIG_OPTION {
            return Err(wrong(format!("--config {shown}: there is no option {key}")));
        }
        command = changed;
    }
    Ok(command)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

fn set_default(command: Command, option: &str, value: &str) -> (Command, bool) {
    let id = command.get_arguments().find(|arg| arg.get_long() == Some(option)).map(|arg| arg.get_id().clone());
    let mut known = id.is_some();
    let mut changed = match id {
        Some(id) => command.mut_arg(id, |arg| arg.default_value(value.to_owned()).required(false)),
        None => command,
    };
    let names: Vec<String> = changed.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        changed = changed.mut_subcommand(name, |sub| {
            let (sub, known_here) = set_default(sub, option, value);
            known |= known_here;
            sub
        });
    }
    (changed, known)
}

fn wrong(line: String) -> ConfigError {
    ConfigError::Wrong(line)
}

/// Folds clap's answer, which may be many lines with hints, into the one line that matters.
fn one_line(error: &clap::Error) -> ConfigError {
    let shown = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if shown {
        return ConfigError::Shown(error.to_string());
    }
    let rendered = error.to_string();
    let first = rendered.lines().next().unwrap_or_default();
    let mut line = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    // "the following required arguments were not provided:" says which on the lines below.
    if let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg)
        && line.ends_with(':')
    {
        line = format!("{line} {}", missing.join(", "));
    }
    wrong(line)
}

/// Where a listener listens: an address, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Closed.
    Off,
    /// Open. `[::]` takes IPv4 too where the machine has both.
    At(SocketAddr),
}

impl Listen {
    /// The address, if there is one.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let port = text.strip_prefix(':').unwrap_or(text);
        if let Ok(port) = port.parse::<u16>() {
            return Ok(Self::At(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))));
        }
        text.parse().map(Self::At).map_err(|_| "`off`, a port, or an address with a port is needed".to_owned())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// The longest span: twice as long is still a time from now, and nobody means more. Years are of 365.25 days.
const SPAN_MAX: Duration = Duration::from_secs(100 * 31_557_600);

/// A span of time as people write it: `12h`, `2s`, `500ms`; at most `100y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            Ok(span) if span <= SPAN_MAX => Ok(Self(span)),
            Ok(_) => Err("at most 100y is possible".to_owned()),
            Err(humantime::DurationError::NumberOverflow) => Err("at most 100y, in whole ns, is possible".to_owned()),
            Err(_) => Err("a duration with its unit is needed, as 12h, 2s or 500ms".to_owned()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests;
