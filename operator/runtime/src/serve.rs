//! The grant stream over HTTPS: one answer without an end for each adapter, acknowledgements, and lookups.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tidegate_daemon::Stream;
use tidegate_daemon::drain::Drain;
use tidegate_grants_proto::{
    ACKNOWLEDGED_PATH, Acknowledgement, Cursor, Found, GRANTS_PATH, Keys, LEAVING_PATH, LOOKUP_PATH, Leaving, Lookup,
    Resume,
};
use tidegate_plan::ObjectId;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::caller::{Caller, Callers, Denial};
use crate::clock::now;
use crate::lease::Leadership;
use crate::peers::{Questions, REPORT_PATH, Report};
use crate::state::State;

/// How long nothing may be sent.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// How long a stream may last, so that a token that was withdrawn is noticed. The next one begins where it ended.
const STREAM_MAX: Duration = Duration::from_secs(30 * 60);
/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 1_024;

/// Longest report of another replica, in bytes.
const REPORT_BYTES_MAX: usize = 1_024 * 1_024;
/// How long another replica waits for a question.
const QUESTION_WAIT: Duration = Duration::from_secs(5);
/// How often it is looked whether there is one.
const QUESTION_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Serves the grants that a state holds.
pub(crate) struct GrantServer {
    /// Whether this replica leads.
    pub(crate) leadership: Leadership,
    /// The state.
    pub(crate) state: Arc<State>,
    /// Who may have them.
    pub(crate) callers: Callers,
    /// When to stop.
    pub(crate) drain: Drain,
}

impl GrantServer {
    /// Serves one connection until it ends.
    pub(crate) async fn serve_connection(self: Arc<Self>, stream: Stream) {
        let draining = self.drain.draining();
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(HEARTBEAT_EVERY)
            .keep_alive_timeout(HEARTBEAT_EVERY);
        let service = TowerToHyperService::new(router(self));
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = draining => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error, "a connection for grants ended");
        }
    }

    async fn admit(&self, headers: &HeaderMap) -> Result<Caller, Response> {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let denial = match self.callers.check(token).await {
            Ok(caller) => return Ok(caller),
            Err(denial) => denial,
        };
        let status = match denial {
            Denial::Unauthenticated => StatusCode::UNAUTHORIZED,
            Denial::Forbidden => StatusCode::FORBIDDEN,
            Denial::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Err((status, format!("{denial}\n")).into_response())
    }
}

fn router(server: Arc<GrantServer>) -> Router {
    Router::new()
        .route(GRANTS_PATH, get(grants))
        .route(ACKNOWLEDGED_PATH, post(acknowledged))
        .route(LEAVING_PATH, post(leaving))
        .route(LOOKUP_PATH, post(lookup))
        .route(REPORT_PATH, post(report))
        .with_state(server)
}

async fn grants(Shared(server): Shared<Arc<GrantServer>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let caller = match server.admit(&headers).await {
        Ok(caller) => caller,
        Err(denied) => return denied,
    };
    let mut listed = server.state.listed();
    if !*listed.borrow_and_update() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the objects are not listed yet\n").into_response();
    }
    let query = query.unwrap_or_default();
    let instance = query.split('&').find_map(|pair| pair.strip_prefix("instance="));
    let instance = instance.filter(|text| (1..=64).contains(&text.len())).map_or_else(made_up, str::to_owned);
    let mut table = server.state.table();
    table.borrow_and_update();
    // Whoever asks for more than it may have gets the rest: its other devices need that.
    let keys = if caller.may_have_keys { Keys::from_query(&query) } else { Keys::Hashed };
    let right = caller.adapter.clone().map(|account| (account, caller.may_have_keys));
    let resume = Resume::from_query(&query);
    let (number, frames, cursor) = server.state.open_stream(instance, caller.adapter, resume, keys);
    let open = Open { server: Arc::clone(&server), number };
    let draining = server.drain.is_draining();
    let (frames, ends) = (frames.into(), now() + STREAM_MAX);
    let telling = Telling { open, frames, cursor, keys, right, table, ends, ended: draining };
    let body = Body::from_stream(stream::unfold(telling, Telling::next));
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

#[expect(clippy::disallowed_methods, reason = "a driver names what has no name of its own")]
fn made_up() -> String {
    Uuid::new_v4().to_string()
}

/// A stream that is open until this is dropped.
struct Open {
    server: Arc<GrantServer>,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.server.state.close_stream(self.number, now());
    }
}

struct Telling {
    open: Open,
    frames: VecDeque<Bytes>,
    cursor: Cursor,
    keys: Keys,
    /// The ServiceAccount of the Adapter that is told, and whether it may have keys in clear.
    right: Option<(ObjectId, bool)>,
    table: watch::Receiver<Cursor>,
    ends: Instant,
    ended: bool,
}

impl Telling {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some((Ok(frame), self));
            }
            if self.ended || now() >= self.ends {
                return None;
            }
            let server = &self.open.server;
            // Whose right to keys has changed asks anew.
            if self.right.as_ref().is_some_and(|(account, had)| server.callers.may_have_keys(account) != *had) {
                return None;
            }
            // An adapter that was too slow to keep up begins anew.
            let (frames, cursor) = server.state.since(self.cursor, self.keys)?;
            if cursor > self.cursor {
                (self.frames, self.cursor) = (frames.into(), cursor);
                continue;
            }
            let draining = server.drain.draining();
            tokio::select! {
                changed = self.table.changed() => self.ended = changed.is_err(),
                () = draining => self.ended = true,
                () = tokio::time::sleep(HEARTBEAT_EVERY) => self.frames.push_back(server.state.heartbeat()),
            }
        }
    }
}

/// Another replica says what its adapters have, and is asked after more as soon as there is something to ask.
async fn report(Shared(server): Shared<Arc<GrantServer>>, headers: HeaderMap, body: Body) -> Response {
    match server.admit(&headers).await {
        Ok(Caller { may_report: true, .. }) => {}
        Ok(_) => return (StatusCode::FORBIDDEN, "only another replica may report\n").into_response(),
        Err(denied) => return denied,
    }
    if !server.leadership.is_held() {
        return (StatusCode::CONFLICT, "this replica does not lead\n").into_response();
    }
    let bytes = axum::body::to_bytes(body, REPORT_BYTES_MAX).await.unwrap_or_default();
    let Ok(report) = serde_json::from_slice::<Report>(&bytes) else { return StatusCode::BAD_REQUEST.into_response() };
    let mut ask = server.state.reported(&report, now());
    let until = now() + QUESTION_WAIT;
    while ask.is_empty() && now() < until && !server.drain.is_draining() {
        tokio::time::sleep(QUESTION_LOOK_EVERY).await;
        ask = server.state.questions(&report.replica);
    }
    serde_json::to_vec(&Questions { ask }).unwrap_or_default().into_response()
}

async fn read(body: Body) -> Option<Bytes> {
    axum::body::to_bytes(body, BODY_BYTES_MAX).await.ok()
}

async fn acknowledged(Shared(server): Shared<Arc<GrantServer>>, headers: HeaderMap, body: Body) -> Response {
    if let Err(denied) = server.admit(&headers).await {
        return denied;
    }
    let Some(said) = read(body).await.and_then(|bytes| Acknowledgement::from_cbor(&bytes)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let known = server.state.acknowledge(said.stream, Cursor(said.cursor), now());
    if known { StatusCode::NO_CONTENT } else { StatusCode::GONE }.into_response()
}

async fn leaving(Shared(server): Shared<Arc<GrantServer>>, headers: HeaderMap, body: Body) -> Response {
    if let Err(denied) = server.admit(&headers).await {
        return denied;
    }
    let Some(said) = read(body).await.and_then(|bytes| Leaving::from_cbor(&bytes)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    server.state.leave(said.stream, now());
    StatusCode::NO_CONTENT.into_response()
}

async fn lookup(Shared(server): Shared<Arc<GrantServer>>, headers: HeaderMap, body: Body) -> Response {
    if let Err(denied) = server.admit(&headers).await {
        return denied;
    }
    let Some(asked) = read(body).await.and_then(|bytes| Lookup::from_cbor(&bytes)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let table = server.state.lookup(asked.sha256.into());
    let (cursor, epoch) = (table.map(|(_, cursor)| cursor.0), table.map(|(epoch, _)| epoch.0.into()));
    Found { cursor, epoch }.to_cbor().into_response()
}
