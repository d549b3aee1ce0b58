//! Connections and requests: from a stream to the operation that a request asks for.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidegate_bridge::{BoxFuture, Bridge, DeparturePace, Departures};
use tidegate_containment::contained;
use tidegate_model::{CertificateNames, Refusal, TopicFilter, TopicLimits};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::answer::{self, Problem};
use crate::credential;
use crate::lent::Lent;
use crate::upgrade::{Received, Routes, Switch, Upgrade};

/// The prefix that an ingress would strip.
const PREFIX: &str = "/http";
/// Bytes that one unit of [`HttpLimits::bodies_bytes_max`] stands for.
const RESERVE_UNIT_BYTES: usize = 1_024;

/// Bounds on what one client, and all of them, may ask.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Topics and filters.
    pub topic: TopicLimits,
    /// How long a request's headers may take, and a connection may idle.
    pub head_read_max: Duration,
    /// Headers of a request.
    pub headers_max: usize,
    /// Bytes of a request's head: what one connection may cost before anybody knows whose it is.
    pub head_bytes_max: usize,
    /// How long a request's body may take.
    pub body_read_max: Duration,
    /// Bytes of a refused request's body that are read and thrown away, so that the connection can be kept.
    pub discarded_bytes_max: u64,
    /// Bytes of all bodies that are being read or published.
    pub bodies_bytes_max: usize,
    /// Streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// How long the reader of an event stream may take nothing.
    pub reader_stall_max: Duration,
    /// How long an event stream is silent before a comment is sent.
    pub event_keep_alive: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            topic: TopicLimits::default(),
            head_read_max: Duration::from_secs(30),
            headers_max: 100,
            // The parser takes request targets of 65,534 bytes; the rest is for headers.
            head_bytes_max: 80 * 1_024,
            body_read_max: Duration::from_secs(30),
            discarded_bytes_max: 64 * 1_024,
            bodies_bytes_max: 256 * 1_024 * 1_024,
            streams_max: 128,
            reader_stall_max: Duration::from_secs(30),
            event_keep_alive: Duration::from_secs(15),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnreadableLabels {
    reason: &'static str,
}

/// A connection, as its requests see it.
struct Line {
    routes: Routes,
    received: Received,
    certificate: Option<Arc<CertificateNames>>,
    /// What is done with it when it is HTTP's no more.
    session: Mutex<Option<BoxFuture<'static, Bytes>>>,
}

/// Serves devices over HTTP/1.1 and HTTP/2.
pub struct HttpFace {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) limits: HttpLimits,
    bodies: Arc<Semaphore>,
    departures: Arc<Departures>,
    requests: Family<RequestLabels, Counter>,
    unreadable: Family<UnreadableLabels, Counter>,
}

/// Runs what is done for one stream of HTTP/2, each in a task of its own.
#[derive(Clone, Copy)]
struct Streams;

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(contained(stream));
    }
}

impl HttpFace {
    /// A face in front of `bridge`, its metrics in `registry`.
    #[must_use]
    pub fn new(bridge: Arc<Bridge>, limits: HttpLimits, registry: &mut Registry) -> Arc<Self> {
        let requests = Family::default();
        registry.register("http_requests", "Requests to the HTTP face, by method and status", requests.clone());
        let unreadable = Family::default();
        let help = "Requests that could not be read, and were answered 400, 408, 414 or 431 without a problem document";
        registry.register("http_unreadable_requests", help, unreadable.clone());
        let units = limits.bodies_bytes_max / RESERVE_UNIT_BYTES;
        let bodies = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { bridge, limits, bodies, departures: Arc::default(), requests, unreadable })
    }

    /// Tells connections to finish, and ends event streams one after another.
    pub fn drain(&self, pace: DeparturePace) {
        self.departures.begin(pace);
    }

    pub(crate) fn departures(&self) -> Arc<Departures> {
        Arc::clone(&self.departures)
    }

    /// Serves one connection until either side ends it, also when it has become another protocol's. `certificate` is what
    /// the one says that its client showed and that was verified, if it did.
    pub async fn serve_connection<Io>(
        self: Arc<Self>,
        io: Io,
        routes: Routes,
        certificate: Option<Arc<CertificateNames>>,
    ) where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let received = Received::default();
        let (io, back) = Lent::new(io, received.clone());
        let line = Arc::new(Line { routes, received, certificate, session: Mutex::default() });
        // What only requests need is given back before a session, which may be long.
        Box::pin(self.exchange(io, Arc::clone(&line))).await;
        let session = line.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(line);
        let Some(session) = session else { return };
        let last_words = session.await;
        // Only its end needs the room for it.
        Box::pin(shut_down(back, last_words)).await;
    }

    /// Answers requests until either side ends that, or the connection is to become another protocol's.
    async fn exchange<Io>(self: Arc<Self>, io: Io, line: Arc<Line>)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (spoken, is_http2) = (AtomicBool::new(false), AtomicBool::new(false));
        let service = service_fn(|request: Request<Incoming>| {
            spoken.store(true, Ordering::Relaxed);
            is_http2.store(request.version() >= Version::HTTP_2, Ordering::Relaxed);
            let (face, line) = (Arc::clone(&self), Arc::clone(&line));
            async move { Ok::<_, Infallible>(face.respond(request.map(Body::new), &line).await) }
        });
        let builder = self.protocol();
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
        let mut draining = self.departures.subscribe();
        // Which protocol is spoken shows only with the first bytes, and nobody else waits for those with a clock.
        let mut silent = pin!(tokio::time::sleep(self.limits.head_read_max));
        loop {
            tokio::select! {
                outcome = connection.as_mut() => return self.ended(outcome),
                _ = draining.wait_for(Option::is_some) => break,
                () = &mut silent, if !spoken.load(Ordering::Relaxed) => {
                    if !spoken.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        }
        // A request may be on its way on a connection that looks idle: its answer says that it is the last one there. Only
        // who sends none for a while is closed without it. HTTP/2 has a word of its own for that.
        let is_http2 = is_http2.load(Ordering::Relaxed);
        if !is_http2 {
            tokio::select! {
                outcome = connection.as_mut() => return self.ended(outcome),
                () = tokio::time::sleep(self.last_request_max()) => {}
            }
        }
        connection.as_mut().graceful_shutdown();
        let outcome = connection.await;
        self.ended(outcome);
    }

    /// How long a connection over HTTP/1 may still bring a request when the process ends.
    fn last_request_max(&self) -> Duration {
        /// Kubernetes has told every node by then that the pod takes no more connections.
        const LAST_REQUEST_MAX: Duration = Duration::from_secs(3);
        let within = self.departures.subscribe().borrow().map_or(Duration::ZERO, |pace| pace.within);
        LAST_REQUEST_MAX.min(within / 2)
    }

    /// Counts what was no request that anybody could answer.
    fn ended(&self, outcome: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
        let Err(error) = outcome else { return };
        let reason = error.downcast_ref::<hyper::Error>().and_then(|error| match error {
            error if error.is_parse_too_large() => Some("too-large"),
            error if error.is_parse() => Some("malformed"),
            error if error.is_timeout() => Some("slow"),
            _ => None,
        });
        if let Some(reason) = reason {
            self.unreadable.get_or_create(&UnreadableLabels { reason }).inc();
        }
        tracing::trace!(error, "connection ended");
    }

    fn protocol(&self) -> auto::Builder<Streams> {
        let mut builder = auto::Builder::new(Streams);
        builder
            .http1()
            .timer(TokioTimer::new())
            // A client that has nothing more to say still waits for its answer.
            .half_close(true)
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

    async fn respond(self: Arc<Self>, request: Request<Body>, line: &Line) -> Response<Body> {
        let (mut head, mut body) = request.into_parts();
        if let Some(certificate) = line.certificate.as_ref().filter(|_| !credential::is_foreign(&head)) {
            head.extensions.insert(Arc::clone(certificate));
        }
        let response = match line.routes.upgrade_of(&head) {
            _ if !names_one_host(&head) => Err(Problem::BadHost),
            Some(taker) => hand_over(&**taker, &head, line).await,
            None if line.routes.requests => self.answer(&head, &mut body).await,
            None => Err(Refusal::UnknownPath.into()),
        };
        let mut response = response.unwrap_or_else(|problem| problem.answer());
        //= RFC9112 9.6
        let is_last = self.departures.subscribe().borrow().is_some();
        let stays_http = response.status() != StatusCode::SWITCHING_PROTOCOLS;
        // Over HTTP/2 a stream whose body is not read is reset, for which some clients forget the answer.
        if stays_http && (!self.discarded(&head, body).await || is_last) && head.version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if head.method == Method::HEAD {
            without_body(&mut response);
        }
        let labels = RequestLabels { method: known_method(&head.method), status: response.status().as_u16() };
        self.requests.get_or_create(&labels).inc();
        response
    }

    /// Answers a request that asks for nothing but HTTP.
    async fn answer(self: &Arc<Self>, head: &Parts, body: &mut Body) -> Result<Response<Body>, Problem> {
        let path = stripped(head.uri.path());
        match head.method {
            Method::POST => self.publish(path, head, body).await,
            Method::GET | Method::HEAD => self.subscribe(path, head).await,
            _ => match TopicFilter::parse_path(path, &self.limits.topic) {
                Err(Refusal::UnknownPath) => Err(Refusal::UnknownPath.into()),
                _ if head.method == Method::OPTIONS => Ok(answer::options()),
                _ => Err(Problem::MethodNotAllowed),
            },
        }
    }

    /// Reads what is left of a body and throws it away, where that is little and the client does not wait to be asked
    /// for it. Without this the connection must end, since nobody could tell where the next request begins.
    async fn discarded(&self, head: &Parts, mut body: Body) -> bool {
        let left = body.size_hint().upper().unwrap_or(u64::MAX);
        if body.is_end_stream() || left == 0 {
            return true;
        }
        if left > self.limits.discarded_bytes_max || head.headers.contains_key(header::EXPECT) {
            return false;
        }
        let discard = async {
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(self.limits.body_read_max, discard).await.unwrap_or(false)
    }

    /// Makes `room` large enough for a body of that many bytes, or refuses when all clients together send too much.
    /// Bytes count when they are here: one that is only announced costs nobody anything.
    pub(crate) fn reserve(&self, room: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Refusal> {
        let reserved = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(RESERVE_UNIT_BYTES).saturating_sub(reserved);
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.bodies)
            .try_acquire_many_owned(missing)
            .map_err(|_| Refusal::RateLimited { retry_after: Duration::from_secs(1) })?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}

/// Ends a connection in order, once it has come back: without this, a reset could overtake the last words of a session.
async fn shut_down<Io: AsyncWrite + Unpin>(back: oneshot::Receiver<Io>, last_words: Bytes) {
    let Ok(mut io) = back.await else { return };
    // One that is gone already has no order to keep.
    if io.write_all(&last_words).await.is_ok() {
        let _ = io.shutdown().await;
    }
}

/// Has a request answered by who takes its connection over.
async fn hand_over(taker: &dyn Upgrade, head: &Parts, line: &Line) -> Result<Response<Body>, Problem> {
    let mut asked = head.clone();
    asked.extensions.insert(line.received.clone());
    let Switch { response, session } = taker.upgrade(asked).await?;
    *line.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    Ok(response)
}

/// Leaves of an answer's body its length alone: over HTTP/2 nobody else sees to it that none is sent to who asked for none.
//= RFC9110 9.3.2
fn without_body(response: &mut Response<Body>) {
    if let Some(bytes) = response.body().size_hint().exact().filter(|bytes| *bytes > 0) {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
        *response.body_mut() = Body::empty();
    }
}

/// Whether an HTTP/1.1 request says, once, what host it is for.
//= RFC9112 3.2
fn names_one_host(head: &Parts) -> bool {
    let named = head.headers.get_all(header::HOST).iter().count();
    named == 1 || (named == 0 && head.version != Version::HTTP_11)
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

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Executor as _;
    use tidegate_containment::is_contained;

    #[tokio::test]
    async fn what_is_done_for_a_stream_is_contained() {
        let (tell, told) = tokio::sync::oneshot::channel();
        Streams.execute(async move { tell.send(is_contained()) });
        assert_eq!(told.await, Ok(true));
    }
}
