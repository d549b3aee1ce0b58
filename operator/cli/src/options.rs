//! What one can tell the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Speak to Tidegate as a device does
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about,
    after_help = "Exit codes: 0 done, 1 not received, 64 usage, 69 server not reached, 77 refused"
)]
pub(crate) struct Program {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send one message, and return when it is accepted
    Publish {
        #[command(flatten)]
        device: Device,
        /// The payload's content type; the channel's where absent
        #[arg(long, value_name = "TYPE")]
        content_type: Option<String>,
        /// The payload; `@FILE` for a file's, `-` for standard input's
        payload: String,
    },
    /// Print messages as they come
    Subscribe {
        #[command(flatten)]
        device: Device,
        /// End after so many messages
        #[arg(long, value_name = "N")]
        count: Option<usize>,
        /// End after so long; with --count, fail when fewer came
        #[arg(long, value_name = "SPAN")]
        timeout: Option<humantime::Duration>,
        /// What to print of a message
        #[arg(long, default_value = "raw")]
        output: Output,
    },
    /// Send a message and see it come back: the Thing needs both permissions
    Check {
        #[command(flatten)]
        device: Device,
        /// How long the message may take
        #[arg(long, value_name = "SPAN", default_value = "10s")]
        timeout: humantime::Duration,
        /// Try again until it succeeds, for so long at most, as where the Thing or the server is new
        #[arg(long, value_name = "SPAN", default_value = "0s")]
        within: humantime::Duration,
    },
}

/// Which device, and where.
#[derive(Debug, Args)]
pub(crate) struct Device {
    /// The server
    #[arg(long, env = "TIDEGATE_URL", default_value = "http://localhost:8080")]
    pub(crate) url: String,
    /// The CA that signed the server's certificate, PEM; the machine's own CAs where absent
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// The Thing: <namespace>.<name> or an alias; the key alone says who where absent
    #[arg(long, value_name = "ID", env = "TIDEGATE_THING", default_value = "")]
    pub(crate) thing: String,
    /// A file with the Thing's key, `-` for standard input; else the key is in TIDEGATE_KEY. There is no flag for the key
    /// itself, since every user of the machine could read it there
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The Channel: <namespace>.<name>, an alias, or the name of one in the Thing's namespace
    #[arg(long, value_name = "ID")]
    pub(crate) channel: String,
    /// The levels below `messages`, as engine/oil; for a subscription a filter, as engine/+ or #
    #[arg(long, value_name = "LEVELS", default_value = "")]
    pub(crate) subtopic: String,
}

/// What to print of a message.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    /// The payload
    Raw,
    /// One line of JSON with the topic, the content type and the publisher
    Json,
}
