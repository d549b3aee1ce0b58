//! The admin endpoint: `/health`, `/ready` and `/metrics`, apart from what devices see.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::drain::Drain;

/// What OpenMetrics text is served as.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Named conditions that all must hold before the process is ready. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Readiness {
    /// Nothing to wait for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the condition `name` holds.
    pub fn set(&self, name: &'static str, holds: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, holds);
    }

    /// The conditions that do not hold.
    #[must_use]
    pub fn unmet(&self) -> Vec<&'static str> {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.iter().filter(|(_, holds)| !**holds).map(|(name, _)| *name).collect()
    }
}

struct Admin {
    readiness: Readiness,
    registry: Registry,
    drain: Drain,
}

/// Serves the admin endpoint until the process ends.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    registry: Registry,
    drain: Drain,
) -> std::io::Result<()> {
    axum::serve(listener, router(readiness, registry, drain)).await
}

fn router(readiness: Readiness, registry: Registry, drain: Drain) -> Router {
    Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        // As Kubernetes names its own.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Admin { readiness, registry, drain }))
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let mut unmet = admin.readiness.unmet();
    if admin.drain.is_draining() {
        unmet.push("draining");
    }
    if unmet.is_empty() {
        return "ready\n".into_response();
    }
    let lines: String = unmet.iter().map(|name| format!("not ready: {name}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(std::fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
