//! What one can tell the operator: flags, environment, file.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use tidegate_daemon::config::Listen;
use tidegate_daemon::program::ProcessOptions;
use tidegate_runtime::{AdapterDefaults, BrokerSecret, OperatorOptions};

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
    Crds(CrdsOptions),
}

/// Options of `crds`.
#[derive(Debug, Args)]
pub(crate) struct CrdsOptions {
    /// Bring them to the API server instead, the pod's or that of KUBECONFIG, and return when they are in force. One that
    /// is newer there stays
    #[arg(long)]
    pub(crate) apply: bool,
}

/// Options of `run`. The API server is the one of the pod, or of KUBECONFIG.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) process: ProcessOptions,

    /// The operator's own namespace, of its lease and its authority
    #[arg(long, value_name = "NAME", env = "TIDEGATE_NAMESPACE", default_value = "tidegate")]
    pub(crate) namespace: String,

    /// A namespace whose Things, Channels, Secrets and Adapters count; may be given several times. All where absent
    #[arg(long, value_name = "NAME", env = "TIDEGATE_WATCH_NAMESPACE", value_delimiter = ',')]
    pub(crate) watch_namespace: Vec<String>,

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

    /// Where other replicas reach the grant stream of this one: the pod's address, with a port where it is not the one
    /// of --listen-grants; where it listens, unless that is every address
    #[arg(long, value_name = "IP[:PORT]", env = "TIDEGATE_ADVERTISE_GRANTS")]
    pub(crate) advertise_grants: Option<Advertised>,

    /// The operator's own token of the audience, to tell the replica that leads what adapters have here; needed where
    /// there are several replicas
    #[arg(long, value_name = "FILE", env = "TIDEGATE_PEER_TOKEN")]
    pub(crate) peer_token: Option<PathBuf>,

    /// The audience that adapters' tokens must be meant for
    #[arg(long, value_name = "NAME", env = "TIDEGATE_AUDIENCE", default_value = "tidegate-grants")]
    pub(crate) audience: String,

    /// The broker's exchange, as the status of a Channel tells it to back-end developers
    #[arg(long, value_name = "NAME", env = "TIDEGATE_EXCHANGE", default_value = "messages")]
    pub(crate) exchange: String,

    /// Writes to the API server in a second, at most
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_WRITES_PER_SECOND", default_value_t = 100)]
    pub(crate) writes_per_second: u32,

    /// The image of Adapters' pods, where an Adapter names none
    #[arg(long, value_name = "IMAGE", env = "TIDEGATE_ADAPTER_IMAGE")]
    pub(crate) adapter_image: Option<String>,

    /// The broker, to say of Channels whether it is ready: an `amqp://` or `amqps://` URL
    #[arg(long, value_name = "URL", env = "TIDEGATE_BROKER", hide_env_values = true)]
    pub(crate) broker: Option<String>,

    /// A file that holds the broker's URL; read again at each connection
    #[arg(long, value_name = "FILE", env = "TIDEGATE_BROKER_FILE")]
    pub(crate) broker_file: Option<PathBuf>,

    /// The same, by the Secret --broker-secret of the operator's own namespace
    #[arg(long, env = "TIDEGATE_PROBE_BROKER")]
    pub(crate) probe_broker: bool,

    /// The StatefulSet and Service of a broker in the operator's own namespace whose Secret --broker-secret the operator
    /// makes, once: with a password drawn at random, and definitions.json, by which that broker has the user
    #[arg(long, value_name = "NAME", env = "TIDEGATE_EMBEDDED_BROKER")]
    pub(crate) embedded_broker: Option<String>,

    /// The CA of an amqps:// broker, PEM; the machine's own CAs where absent
    #[arg(long, value_name = "FILE", env = "TIDEGATE_BROKER_CA")]
    pub(crate) broker_ca: Option<PathBuf>,

    /// Where Adapters' pods call the grant stream: https://host:port; the first --grants-name where absent
    #[arg(long, value_name = "URL", env = "TIDEGATE_GRANTS_URL")]
    pub(crate) grants_url: Option<String>,

    /// The Secret with the broker's URL, in the namespace of each Adapter; what RabbitMQ's own operator makes will do
    #[arg(long, value_name = "NAME", env = "TIDEGATE_BROKER_SECRET")]
    pub(crate) broker_secret: Option<String>,

    /// The entry of that Secret with the URL
    #[arg(long, value_name = "ENTRY", env = "TIDEGATE_BROKER_URL_ENTRY", default_value = "connection_string")]
    pub(crate) broker_url_entry: String,

    /// The entry of that Secret with the CA of an amqps:// broker, PEM
    #[arg(long, value_name = "ENTRY", env = "TIDEGATE_BROKER_CA_ENTRY")]
    pub(crate) broker_ca_entry: Option<String>,
}

impl From<&RunOptions> for OperatorOptions {
    fn from(options: &RunOptions) -> Self {
        let anywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        Self {
            namespace: options.namespace.clone(),
            identity: options.identity.clone(),
            watched: options.watch_namespace.iter().filter(|name| !name.is_empty()).cloned().collect(),
            lease: options.lease.clone(),
            authority: options.authority.clone(),
            grants_names: options.grants_name.clone(),
            listen_grants: options.listen_grants.address().unwrap_or(anywhere),
            advertised: options.advertise_grants.map(|advertised| match advertised {
                Advertised::Socket(address) => address,
                Advertised::Ip(ip) => SocketAddr::new(ip, options.listen_grants.address().unwrap_or(anywhere).port()),
            }),
            peer_token: options.peer_token.clone(),
            admin: options.process.admin,
            audience: options.audience.clone(),
            exchange: options.exchange.clone(),
            writes_per_second: options.writes_per_second,
            adapters: AdapterDefaults {
                image: options.adapter_image.clone(),
                grants_url: options.grants_url.clone(),
                broker: options.broker(),
            },
            broker: None,
        }
    }
}

impl RunOptions {
    /// Which options need or exclude others. The parser cannot tell: what the file says is a default to it, which it takes for
    /// nothing that was given.
    pub(crate) fn check(&self) -> Result<()> {
        let broker = ("--broker", self.broker.is_some());
        let broker_file = ("--broker-file", self.broker_file.is_some());
        let probe_broker = ("--probe-broker", self.probe_broker);
        let embedded_broker = ("--embedded-broker", self.embedded_broker.is_some());
        let broker_secret = ("--broker-secret", self.broker_secret.is_some());
        let broker_ca_entry = ("--broker-ca-entry", self.broker_ca_entry.is_some());
        for ((option, given), (needed, is_there)) in [
            (probe_broker, broker_secret),
            (embedded_broker, broker_secret),
            (embedded_broker, probe_broker),
            (broker_ca_entry, broker_secret),
        ] {
            ensure!(!given || is_there, "{option}: {needed} is needed");
        }
        for ((one, given), (other, both)) in
            [(broker, broker_file), (broker, probe_broker), (broker_file, probe_broker)]
        {
            ensure!(!given || !both, "{one} and {other}: one of them is enough");
        }
        Ok(())
    }

    /// The Secret with the broker's URL.
    pub(crate) fn broker(&self) -> Option<BrokerSecret> {
        self.broker_secret.clone().map(|name| BrokerSecret {
            name,
            url_entry: self.broker_url_entry.clone(),
            ca_entry: self.broker_ca_entry.clone(),
        })
    }
}

/// Where a replica is reached: as a pod knows itself, which is without a port.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Advertised {
    /// On the port that it listens on.
    Ip(IpAddr),
    /// There.
    Socket(SocketAddr),
}

impl FromStr for Advertised {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ip = text.parse().map(Self::Ip);
        ip.or_else(|_| text.parse().map(Self::Socket)).map_err(|_| "an IP address, or IP:PORT, is needed")
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use expect_test::{Expect, expect};
    use tidegate_daemon::config;

    use super::*;

    /// Reads `args` with `file` as the configuration file, and says what is wrong.
    fn check(file: &str, args: &str, expected: &Expect) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, file).unwrap();
        let words = format!("operator run --identity a --config {} {args}", path.display());
        let program = config::parse::<Program>(words.split_whitespace().map(OsString::from)).unwrap();
        let Verb::Run(options) = program.verb else { unreachable!() };
        expected.assert_eq(&options.check().map_or_else(|error| error.to_string(), |()| "right".to_owned()));
    }

    #[test]
    fn what_an_option_needs_may_stand_in_the_file_or_beside_it() {
        let right = expect!["right"];
        check("", "", &right);
        check("", "--probe-broker --broker-secret mq", &right);
        check("broker-secret: mq", "--probe-broker --embedded-broker rabbit --broker-ca-entry ca.crt", &right);
        check("{probe-broker: true, embedded-broker: rabbit, broker-ca-entry: ca.crt}", "--broker-secret mq", &right);
        check("{probe-broker: true, embedded-broker: rabbit, broker-secret: mq}", "", &right);
        check("probe-broker: false", "--broker memory:", &right);
    }

    #[test]
    fn what_is_missing_is_named_wherever_the_other_half_stands() {
        let secret = expect!["--probe-broker: --broker-secret is needed"];
        check("", "--probe-broker", &secret);
        check("probe-broker: true", "", &secret);
        let entry = expect!["--broker-ca-entry: --broker-secret is needed"];
        check("", "--broker-ca-entry ca.crt", &entry);
        check("broker-ca-entry: ca.crt", "", &entry);
        let probe = expect!["--embedded-broker: --probe-broker is needed"];
        check("broker-secret: mq", "--embedded-broker rabbit", &probe);
        check("{embedded-broker: rabbit, broker-secret: mq, probe-broker: false}", "", &probe);
        check("embedded-broker: rabbit", "", &expect!["--embedded-broker: --broker-secret is needed"]);
    }

    #[test]
    fn two_brokers_are_one_too_many_wherever_they_stand() {
        let two = expect!["--broker and --broker-file: one of them is enough"];
        check("", "--broker amqp://a --broker-file b", &two);
        check("broker-file: b", "--broker amqp://a", &two);
        check("{broker: 'amqp://a', broker-file: b}", "", &two);
        let probed = "{broker-secret: mq, probe-broker: true}";
        check(probed, "--broker amqp://a", &expect!["--broker and --probe-broker: one of them is enough"]);
        check(probed, "--broker-file b", &expect!["--broker-file and --probe-broker: one of them is enough"]);
    }
}
