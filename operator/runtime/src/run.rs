//! The life of the operator: list, serve, write while it leads, and end when the lease is lost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tidegate_api::CREDENTIALS_LABEL;
use tidegate_daemon::admin::{self, Readiness};
use tidegate_daemon::config::Listen;
use tidegate_daemon::drain::Drain;
use tidegate_daemon::listen::{self, BindError, ListenLimits};
use tidegate_grants_proto::Epoch;
use tidegate_plan::{BrokerSecret, BrokerState, Installation, OwnedKind};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::caller::Callers;
use crate::clock::now;
use crate::definitions;
use crate::election::ElectionTimes;
use crate::events::Events;
use crate::identity::{Identity, IdentityOptions};
use crate::intake::{self, Changes, WAITING_MAX};
use crate::lease::{Leadership, LeaseHolder, LeaseLost, LeaseOptions, in_time};
use crate::metrics::Metrics;
use crate::reconcile::Accepted;
use crate::report::Reporter;
use crate::serve::GrantServer;
use crate::state::State;
use crate::watches::{self, Namespaces};
use crate::writer::{AT_ONCE, Writer, pace};

/// The condition that every kind was listed once.
const LISTED: &str = "objects listed";
/// The condition that the grant stream is served.
const SERVING: &str = "grants served";
/// How long a call to the API server may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open streams may take to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What one can tell the operator.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// Its own namespace: of the lease and the authority.
    pub namespace: String,
    /// This process, unlike any other.
    pub identity: String,
    /// The namespaces whose Things, Channels, Secrets and Adapters count; all where there is none.
    pub watched: Arc<[String]>,
    /// The lease.
    pub lease: String,
    /// The Secret of the authority.
    pub authority: String,
    /// DNS names and addresses of the grant stream.
    pub grants_names: Vec<String>,
    /// Where to serve the grant stream.
    pub listen_grants: SocketAddr,
    /// Where other replicas reach that; where it listens, unless that is every address.
    pub advertised: Option<SocketAddr>,
    /// The token that is shown to the replica that leads; without one, nothing is told to it.
    pub peer_token: Option<PathBuf>,
    /// Where to serve /health, /ready and /metrics.
    pub admin: Listen,
    /// The audience of adapters' tokens.
    pub audience: String,
    /// The broker's exchange.
    pub exchange: String,
    /// Writes to the API server in a second, at most.
    pub writes_per_second: u32,
    /// What Adapters do not say themselves.
    pub adapters: AdapterDefaults,
    /// What a connection to the broker comes to, where there is one.
    pub broker: Option<watch::Receiver<BrokerState>>,
}

/// What Adapters do not say themselves.
#[derive(Clone, Debug, Default)]
pub struct AdapterDefaults {
    /// The image of their pods.
    pub image: Option<String>,
    /// Where their pods call the grant stream; the first of [`OperatorOptions::grants_names`] where absent.
    pub grants_url: Option<String>,
    /// Where their pods find the broker.
    pub broker: Option<BrokerSecret>,
}

/// Why the operator ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no API server that it knows of.
    #[error("no API server")]
    Config(#[source] kube::config::InferConfigError),
    /// A client cannot be made.
    #[error("no client for the API server")]
    Client(#[source] kube::Error),
    /// A port is taken.
    #[error(transparent)]
    Bind(BindError),
    /// Signals cannot be listened for.
    #[error("signals cannot be listened for")]
    Signals(#[source] std::io::Error),
    /// The lease was held, and is not any more.
    #[error(transparent)]
    Lease(LeaseLost),
}

/// Runs until told to end.
///
/// # Errors
/// [`RunError`].
pub async fn run(options: OperatorOptions) -> Result<(), RunError> {
    let client = client().await?;
    let mut registry = Registry::with_prefix("tidegate");
    let metrics = Metrics::registered(&mut registry);
    let readiness = Readiness::new();
    readiness.set(LISTED, false);
    readiness.set(SERVING, false);
    readiness.set(definitions::KNOWN, false);
    let drain = Drain::new();
    drain.on_signals().map_err(RunError::Signals)?;
    let admin = options.admin.address().map(|address| bind("--admin", address)).transpose()?;
    if let Some(listener) = admin {
        tokio::spawn(admin::serve(listener, readiness.clone(), registry, drain.clone()));
    }
    let grants = bind("--listen-grants", options.listen_grants)?;

    let state = Arc::new(State::new(epoch(), now()));
    let own = grants.local_addr().ok().filter(|address| !address.ip().is_unspecified());
    let advertised = options.advertised.or(own);
    let (holder, leadership) = LeaseHolder::new(client.clone(), lease_options(&options, advertised));
    tokio::spawn(take_in(client.clone(), options.watched.clone(), Arc::clone(&state)));
    if let Some(broker) = options.broker.clone() {
        state.broker_is(BrokerState::Unknown);
        tokio::spawn(follow_broker(broker, Arc::clone(&state)));
    }
    write(&options, &client, &state, &leadership, &metrics);
    let server = Arc::new(GrantServer {
        leadership: leadership.clone(),
        state: Arc::clone(&state),
        callers: Callers::new(client.clone(), options.audience.clone(), Arc::clone(&state)),
        drain: drain.clone(),
    });
    let told = Events::new(client.clone(), options.identity.clone(), metrics.clone());
    tokio::spawn(definitions::watch(client.clone(), readiness.clone(), told, leadership.clone()));
    let identity = Identity::new(client, identity_options(&options), leadership.clone());
    if let Some(token) = options.peer_token.clone() {
        let reporter = Reporter {
            state: Arc::clone(&state),
            leadership: leadership.clone(),
            leader: holder.leader(),
            bundle: identity.bundle(),
            name: options.grants_names.first().cloned().unwrap_or_default(),
            identity: options.identity.clone(),
            token,
        };
        tokio::spawn(reporter.run());
    }
    tokio::spawn(install(options.clone(), identity.bundle(), Arc::clone(&state)));
    tokio::spawn(serve(grants, server, identity, readiness.clone()));
    tokio::spawn(follow(Arc::clone(&state), readiness, metrics, leadership));

    // The lease is given back last, when nothing is written any more.
    let ended = holder.run(drain.draining()).await.map_err(RunError::Lease);
    drain.begin();
    drain.finished(DRAIN_TIMEOUT).await;
    ended
}

/// A client of the pod's API server, or of the one of KUBECONFIG.
pub(crate) async fn client() -> Result<Client, RunError> {
    let mut config = Config::infer().await.map_err(RunError::Config)?;
    config.read_timeout = None;
    config.connect_timeout = Some(READ_TIMEOUT);
    Client::try_from(config).map_err(RunError::Client)
}

fn bind(option: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    let listener = listen::bind(option, address).map_err(RunError::Bind)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "{option}");
    }
    Ok(listener)
}

fn lease_options(options: &OperatorOptions, advertised: Option<SocketAddr>) -> LeaseOptions {
    LeaseOptions {
        namespace: options.namespace.clone(),
        name: options.lease.clone(),
        identity: options.identity.clone(),
        times: ElectionTimes::default(),
        advertised,
    }
}

fn identity_options(options: &OperatorOptions) -> IdentityOptions {
    IdentityOptions {
        namespace: options.namespace.clone(),
        secret: options.authority.clone(),
        names: options.grants_names.clone(),
    }
}

/// Watches every kind and takes in what changes.
async fn take_in(client: Client, watched: Namespaces, state: Arc<State>) {
    let (to_things, things) = mpsc::channel(WAITING_MAX);
    let (to_channels, channels) = mpsc::channel(WAITING_MAX);
    let (to_secrets, secrets) = mpsc::channel(WAITING_MAX);
    let (to_adapters, adapters) = mpsc::channel(WAITING_MAX);
    let (to_owned, owned) = mpsc::channel(WAITING_MAX);
    tokio::spawn(watches::watch(client.clone(), watched.clone(), "", to_things));
    tokio::spawn(watches::watch(client.clone(), watched.clone(), "", to_channels));
    tokio::spawn(watches::watch(client.clone(), watched.clone(), "", to_adapters));
    for kind in OwnedKind::ALL {
        let (client, watched, to) = (client.clone(), watched.clone(), to_owned.clone());
        tokio::spawn(async move {
            if kind == OwnedKind::HTTPRoute {
                gateway_api(&client).await;
            }
            watches::watch_owned(client, watched, kind, to).await;
        });
    }
    let labels = format!("{CREDENTIALS_LABEL}=true");
    tokio::spawn(async move { watches::watch(client, watched, &labels, to_secrets).await });
    intake::run(Changes { things, channels, secrets, adapters, owned }, &state, now).await;
}

/// Waits until the cluster knows the Gateway API, if ever.
async fn gateway_api(client: &Client) {
    /// How often it is asked.
    const EVERY: Duration = Duration::from_secs(30);
    let (group, version, plural) = OwnedKind::HTTPRoute.resource();
    let served = format!("{group}/{version}");
    loop {
        let resources = in_time(client.list_api_group_resources(&served)).await;
        if resources.is_ok_and(|known| known.resources.iter().any(|resource| resource.name == plural)) {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Tells how the broker is. A link that is lost and found again at once is not told, since every Channel would say so.
async fn follow_broker(mut broker: watch::Receiver<BrokerState>, state: Arc<State>) {
    /// How long the broker must be away before it is told.
    const PATIENCE: Duration = Duration::from_secs(5);
    loop {
        let now = *broker.borrow_and_update();
        if now != BrokerState::Ready {
            let back = broker.wait_for(|state| *state == BrokerState::Ready);
            // Either it is back, or what it is now is told.
            let _ = tokio::time::timeout(PATIENCE, back).await;
        }
        let told = *broker.borrow_and_update();
        state.broker_is(told);
        if broker.changed().await.is_err() {
            return;
        }
    }
}

/// Tells how the operator is installed, whenever that changes.
async fn install(options: OperatorOptions, mut bundle: watch::Receiver<String>, state: Arc<State>) {
    let first = options.grants_names.first().cloned().unwrap_or_default();
    let port = options.listen_grants.port();
    let grants_url = options.adapters.grants_url.unwrap_or_else(|| format!("https://{first}:{port}"));
    loop {
        let grants_ca = bundle.borrow_and_update().clone();
        if !grants_ca.is_empty() {
            let mut known = state.known();
            known.fleet.install(Installation {
                image: options.adapters.image.clone(),
                grants_url: grants_url.clone(),
                audience: options.audience.clone(),
                grants_ca,
                broker: options.adapters.broker.clone(),
                exchange: options.exchange.clone(),
            });
            known.queue_adapters();
            drop(known);
            state.wake();
        }
        if bundle.changed().await.is_err() {
            return;
        }
    }
}

fn write(options: &OperatorOptions, client: &Client, state: &Arc<State>, leadership: &Leadership, metrics: &Metrics) {
    let writer = Arc::new(Writer {
        state: Arc::clone(state),
        client: client.clone(),
        leadership: leadership.clone(),
        exchange: options.exchange.clone(),
        pace: pace(options.writes_per_second),
        metrics: metrics.clone(),
        events: Events::new(client.clone(), options.identity.clone(), metrics.clone()),
        accepted: Accepted::default(),
    });
    for _ in 0..AT_ONCE {
        tokio::spawn(Arc::clone(&writer).run());
    }
}

/// Serves grants once there is a certificate.
async fn serve(listener: TcpListener, server: Arc<GrantServer>, mut identity: Identity, readiness: Readiness) {
    let tls = identity.first().await;
    tokio::spawn(identity.keep(tls.clone()));
    readiness.set(SERVING, true);
    let drain = server.drain.clone();
    let connection = move |stream, _peer| Arc::clone(&server).serve_connection(stream);
    listen::serve(listener, Some(tls), ListenLimits::default(), drain, connection).await;
}

/// Keeps readiness and gauges as things are.
async fn follow(state: Arc<State>, readiness: Readiness, metrics: Metrics, leadership: Leadership) {
    /// How often gauges are set.
    const EVERY: Duration = Duration::from_secs(1);
    /// How often Adapters are looked at though nothing changed.
    const LOOK_AFTER: u32 = 5;
    let mut listed = state.listed();
    for round in 0_u32.. {
        if round % LOOK_AFTER == 0 {
            state.look_at_adapters();
        }
        readiness.set(LISTED, *listed.borrow_and_update());
        let (things, channels) = state.counts();
        metrics.things.set(i64::try_from(things).unwrap_or(i64::MAX));
        metrics.channels.set(i64::try_from(channels).unwrap_or(i64::MAX));
        metrics.cursor.set(i64::try_from(state.table().borrow().0).unwrap_or(i64::MAX));
        metrics.adapters.set(i64::try_from(state.known().adapters.connected()).unwrap_or(i64::MAX));
        metrics.leading.set(i64::from(leadership.is_held()));
        metrics.peers.set(i64::try_from(state.known().peers.len()).unwrap_or(i64::MAX));
        tokio::select! {
            _ = listed.changed() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a history has a name that no other has")]
fn epoch() -> Epoch {
    Epoch(*Uuid::new_v4().as_bytes())
}
