//! Requests for another protocol: who takes them, and what becomes of their connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Response, header};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tidegate_bridge::BoxFuture;

use crate::answer::Problem;

/// Takes connections over, by requests that ask for it.
pub trait Upgrade: Send + Sync + 'static {
    /// Whether a path is for this alone, also where a request asks for nothing else.
    fn owns(&self, path: &str) -> bool;

    /// Answers a request that is its own, or that asks for a WebSocket. The head holds a [`Received`], and what the
    /// connection's certificate says, if there is one.
    ///
    /// # Errors
    /// [`Problem`], which is the answer.
    fn upgrade(&self, head: Parts) -> BoxFuture<'_, Result<Switch, Problem>>;
}

/// A connection that is to be taken over.
pub struct Switch {
    /// The answer to the request.
    pub response: Response<Body>,
    /// What is done with the connection once the answer is out; the connection ends after it, with these last words.
    pub session: BoxFuture<'static, Bytes>,
}

/// What is served on a connection.
#[derive(Clone)]
pub struct Routes {
    /// Whether requests are answered that ask for nothing but HTTP.
    pub requests: bool,
    /// Who takes the others.
    pub upgrade: Option<Arc<dyn Upgrade>>,
}

impl Routes {
    /// Who is to answer this request, if it is not HTTP itself.
    pub(crate) fn upgrade_of(&self, head: &Parts) -> Option<&Arc<dyn Upgrade>> {
        let path = head.uri.path();
        let is_plain = path.starts_with(concat!("/http", "/"));
        self.upgrade.as_ref().filter(|upgrade| {
            upgrade.owns(path) || (!is_plain && (!self.requests || names(&head.headers, &header::UPGRADE, "websocket")))
        })
    }
}

/// Whether a header that lists words names this one, in whichever of its lines.
//= RFC9110 5.6.1, 7.8
#[must_use]
pub fn names(headers: &HeaderMap, header: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|named| named.trim().eq_ignore_ascii_case(word))
}

/// Bytes that a connection has brought, and may bring until more is known of who it is. A peer that sends a long message
/// slowly is not silent; one that nobody knows yet has no right to a long one.
#[derive(Clone, Default)]
pub struct Received(Arc<Counts>);

struct Counts {
    bytes: AtomicUsize,
    bytes_max: AtomicUsize,
    released: AtomicWaker,
}

impl Default for Counts {
    fn default() -> Self {
        let (bytes, bytes_max) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        Self { bytes, bytes_max, released: AtomicWaker::new() }
    }
}

impl Received {
    /// How many there are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Lets it bring so many more, and then no more until it is released.
    pub fn hold_after(&self, bytes: usize) {
        self.0.bytes_max.store(self.bytes().saturating_add(bytes), Ordering::Relaxed);
    }

    /// Lets it bring whatever it will.
    pub fn release(&self) {
        self.0.bytes_max.store(usize::MAX, Ordering::Relaxed);
        self.0.released.wake();
    }

    pub(crate) fn count(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Waits until it may bring more.
    pub(crate) fn poll_released(&self, cx: &mut Context<'_>) -> Poll<()> {
        let is_held = || self.bytes() >= self.0.bytes_max.load(Ordering::Relaxed);
        if is_held() {
            self.0.released.register(cx.waker());
        }
        if is_held() { Poll::Pending } else { Poll::Ready(()) }
    }
}
