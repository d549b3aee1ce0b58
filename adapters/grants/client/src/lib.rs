//! Grants from the operator's stream: always the newest whole table, and the last one while nobody tells a newer.
//!
//! Owns the connection, the copy on disk and the answer to misses. Must not know Kubernetes: a URL, a CA and a token are
//! all it has.

mod cache;
mod keep;
mod lookup;
mod metrics;
mod stream;

use std::path::PathBuf;
use std::time::Duration;

pub use cache::{Cache, CacheError};
pub use stream::{GrantStream, StartError};

/// Where grants come from.
#[derive(Clone, Debug)]
pub struct GrantStreamOptions {
    /// The operator's grant stream, `https://host:port`.
    pub url: String,
    /// The CA that signed its certificate, PEM; read again at each connection.
    pub ca: PathBuf,
    /// The token to show; read again at each request, since it is replaced while it is good.
    pub token: PathBuf,
    /// Whether keys are asked for in clear, for DTLS with pre-shared keys. The operator gives them to the pods of Adapters
    /// of CoAP that take such keys, and to whoever else may `get` `adapters/keys`; where it does not, all else is as without
    /// them.
    pub shared_keys: bool,
    /// Where the last table is kept; it is not where absent.
    pub cache: Option<CacheOptions>,
    /// How long the last table counts while no newer one can be had; for ever when zero. Then everyone is refused.
    pub staleness_max: Duration,
}

/// Where the last table is kept.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// The folder.
    pub folder: PathBuf,
    /// A file with a secret of at least 32 bytes, by which the table is known as written here, and without which nobody
    /// can read it; made where there is none.
    pub key: PathBuf,
}
