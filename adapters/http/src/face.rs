//! Connections and requests: from a stream to the operation that a request asks for.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidegate_bridge::Bridge;
use tidegate_model::{Refusal, TopicFilter, TopicLimits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::answer::{self, Problem};

/// The prefix that an ingress would strip.
const PREFIX: &str = "/http";
/// Bytes that one unit of [`HttpLimits::bodies_bytes_max`] stands for.
const RESERVE_UNIT_BYTES: u64 = 1_024;

/// Bounds on what one client, and all of them, may ask.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Topics and filters.
    pub topic: TopicLimits,
    /// How long a request's headers may take, and a connection may idle.
    pub head_read_max: Duration,
    /// Headers of a request.
    pub headers_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// How long a request's body may take.
    pub body_read_max: Duration,
    /// Bytes of all bodies that are being read or published.
    pub bodies_bytes_max: usize,
    /// Streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// How long an event stream is silent before a comment is sent.
    pub event_keep_alive: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            topic: TopicLimits::default(),
            head_read_max: Duration::from_secs(30),
            headers_max: 100,
            // A topic of 65,535 bytes may be percent-encoded to three times as many.
            head_bytes_max: 256 * 1_024,
            body_read_max: Duration::from_secs(30),
            bodies_bytes_max: 256 * 1_024 * 1_024,
            streams_max: 128,
            event_keep_alive: Duration::from_secs(15),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    status: u16,
}

/// Serves devices over HTTP/1.1 and HTTP/2.
pub struct HttpFace {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) limits: HttpLimits,
    bodies: Arc<Semaphore>,
    draining: watch::Sender<bool>,
    requests: Family<RequestLabels, Counter>,
}

impl HttpFace {
    /// A face in front of `bridge`, its metrics in `registry`.
    #[must_use]
    pub fn new(bridge: Arc<Bridge>, limits: HttpLimits, registry: &mut Registry) -> Arc<Self> {
        let requests = Family::default();
        registry.register("http_requests", "Requests to the HTTP face, by method and status", requests.clone());
        let units = limits.bodies_bytes_max as u64 / RESERVE_UNIT_BYTES;
        let bodies = Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(Semaphore::MAX_PERMITS)));
        Arc::new(Self { bridge, limits, bodies, draining: watch::Sender::new(false), requests })
    }

    /// Ends event streams and tells connections to finish.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Serves one connection until either side ends it.
    pub async fn serve_connection<Io>(self: Arc<Self>, io: Io)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let spoken = Arc::new(AtomicBool::new(false));
        let service = TowerToHyperService::new(self.router(&spoken));
        let builder = self.protocol();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
        let mut draining = self.draining();
        // Which protocol is spoken shows only with the first bytes, and nobody else waits for those with a clock.
        let mut silent = pin!(tokio::time::sleep(self.limits.head_read_max));
        loop {
            tokio::select! {
                outcome = connection.as_mut() => return trace(outcome),
                _ = draining.wait_for(|draining| *draining) => break,
                () = &mut silent, if !spoken.load(Ordering::Relaxed) => {
                    if !spoken.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        trace(connection.await);
    }

    fn protocol(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_read_max)
            .max_headers(self.limits.headers_max)
            .max_buf_size(self.limits.head_bytes_max)
            // Some modem stacks look for `Content-Length` in this very spelling.
            .title_case_headers(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams_max)
            .max_header_list_size(u32::try_from(self.limits.head_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(self.limits.head_read_max)
            .keep_alive_timeout(self.limits.head_read_max);
        builder
    }

    fn router(self: &Arc<Self>, spoken: &Arc<AtomicBool>) -> Router {
        let (face, spoken) = (Arc::clone(self), Arc::clone(spoken));
        Router::new().fallback(move |request: Request<Body>| {
            spoken.store(true, Ordering::Relaxed);
            let face = Arc::clone(&face);
            async move { face.respond(request).await }
        })
    }

    async fn respond(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let path = stripped(head.uri.path());
        let response = match head.method {
            Method::POST => self.publish(path, &head, body).await,
            Method::GET | Method::HEAD => self.subscribe(path, &head).await,
            _ => match TopicFilter::parse_path(path, &self.limits.topic) {
                Err(Refusal::UnknownPath) => Err(Refusal::UnknownPath.into()),
                _ if head.method == Method::OPTIONS => Ok(answer::options()),
                _ => Err(Problem::MethodNotAllowed),
            },
        };
        let response = response.unwrap_or_else(|problem| problem.answer(&head.method));
        let labels = RequestLabels { method: known_method(&head.method), status: response.status().as_u16() };
        self.requests.get_or_create(&labels).inc();
        response
    }

    /// Room for a body of that many bytes, or the refusal when all clients together send too much.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(bytes.div_ceil(RESERVE_UNIT_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.bodies)
            .try_acquire_many_owned(units)
            .map_err(|_| Refusal::RateLimited { retry_after: Duration::from_secs(1) })
    }
}

fn trace(outcome: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = outcome {
        tracing::trace!(error, "connection ended");
    }
}

/// The path without the prefix that an ingress would strip.
fn stripped(path: &str) -> &str {
    path.strip_prefix(PREFIX).filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// A label from a closed set, whatever the client calls its method.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
