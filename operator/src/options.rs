//! What one can tell the operator: flags, environment, file.

use std::net::{Ipv6Addr, SocketAddr};

use clap::{Args, Parser, Subcommand};
use tidegate_daemon::config::Listen;
use tidegate_daemon::program::ProcessOptions;
use tidegate_runtime::OperatorOptions;

/// Tidegate's operator: Channels and Things become what adapters enforce.
#[derive(Debug, Parser)]
#[command(name = "operator", version, about)]
pub(crate) struct Program {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run in a cluster, until told to end
    Run(Box<RunOptions>),
    /// Print the CustomResourceDefinitions
    Crds,
}

/// Options of `run`. The API server is the one of the pod, or of KUBECONFIG.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) process: ProcessOptions,

    /// The operator's own namespace, of its lease and its authority
    #[arg(long, value_name = "NAME", env = "TIDEGATE_NAMESPACE", default_value = "tidegate")]
    pub(crate) namespace: String,

    /// The name of this process in the lease; must be unlike any other's: the pod's name
    #[arg(long, value_name = "NAME", env = "TIDEGATE_IDENTITY")]
    pub(crate) identity: String,

    /// The Lease that decides which replica writes
    #[arg(long, value_name = "NAME", env = "TIDEGATE_LEASE", default_value = "tidegate-operator")]
    pub(crate) lease: String,

    /// The Secret of the authority that signs the grant stream's certificate; made where there is none
    #[arg(long, value_name = "NAME", env = "TIDEGATE_AUTHORITY", default_value = "tidegate-grants-ca")]
    pub(crate) authority: String,

    /// A DNS name or address by which adapters call the grant stream; may be given several times
    #[arg(long, value_name = "NAME", env = "TIDEGATE_GRANTS_NAME", value_delimiter = ',', default_value = "localhost")]
    pub(crate) grants_name: Vec<String>,

    /// Where to serve the grant stream: an address or a port
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_LISTEN_GRANTS", default_value = "9443")]
    pub(crate) listen_grants: Listen,

    /// The audience that adapters' tokens must be meant for
    #[arg(long, value_name = "NAME", env = "TIDEGATE_AUDIENCE", default_value = "tidegate-grants")]
    pub(crate) audience: String,

    /// The broker's exchange, as the status of a Channel tells it to back-end developers
    #[arg(long, value_name = "NAME", env = "TIDEGATE_EXCHANGE", default_value = "messages")]
    pub(crate) exchange: String,

    /// Writes to the API server in a second, at most
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_WRITES_PER_SECOND", default_value_t = 100)]
    pub(crate) writes_per_second: u32,
}

impl From<&RunOptions> for OperatorOptions {
    fn from(options: &RunOptions) -> Self {
        let anywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        Self {
            namespace: options.namespace.clone(),
            identity: options.identity.clone(),
            lease: options.lease.clone(),
            authority: options.authority.clone(),
            grants_names: options.grants_name.clone(),
            listen_grants: options.listen_grants.address().unwrap_or(anywhere),
            admin: options.process.admin,
            audience: options.audience.clone(),
            exchange: options.exchange.clone(),
            writes_per_second: options.writes_per_second,
        }
    }
}
