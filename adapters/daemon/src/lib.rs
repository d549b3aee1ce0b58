//! What every binary of the house needs: configuration, telemetry, the admin endpoint, draining, TLS listeners and
//! watched files.
//!
//! Owns sockets, signals and the file system's notifications. Must not know a word of the domain: no Thing, no Channel,
//! no message.

pub mod admin;
mod bug;
pub mod config;
pub mod drain;
pub mod listen;
pub mod program;
mod stream;
pub mod telemetry;
pub mod tls;
pub mod watch;

pub use stream::Stream;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// After a drain, or when there was nothing to do.
    Done = 0,
    /// The configuration is wrong; nothing was started.
    Configuration = 64,
    /// A service that is needed never came up within its deadline.
    Unavailable = 69,
    /// A bug, as a panic of whatever task or thread.
    Bug = 70,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
