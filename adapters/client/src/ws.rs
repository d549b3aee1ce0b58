//! A device that speaks WebSocket, by the subprotocol `tidegate.v1`: publishes over one connection for each address, and
//! subscribes over one each.

mod frame;
mod socket;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::error::{ClientError, Status};
use crate::event::Event;
use crate::http::{HttpClient, PUBLISH_MAX};
use crate::{Address, Credential, Publication};

use frame::Frame;
use socket::{Failure, Socket};

/// Addresses whose connections are kept open; what is right for one may be forbidden for another of the same channel.
const PUBLISHERS_MAX: usize = 64;
/// Messages that wait for a connection; who has more waits with them.
const REQUESTS_MAX: usize = 1_024;
/// Messages on their way over one connection.
const UNANSWERED_MAX: usize = 65_536;
/// Events that wait for who subscribed; more wait with the server.
const EVENTS_MAX: usize = 64;
/// How long who leaves waits for answers, and then for the server's farewell.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A device with its key. Not `Debug`: it holds the key.
#[derive(Clone)]
pub(crate) struct WsClient {
    http: HttpClient,
    /// By the paths of addresses.
    publishers: Arc<Mutex<BTreeMap<String, Publisher>>>,
    /// The number of the next message.
    next: Arc<AtomicU64>,
}

impl WsClient {
    /// Of `address`, which is HOST, HOST:PORT or either with the beginning of a path.
    pub(crate) fn new(
        address: &str,
        is_tls: bool,
        credential: &Credential,
        ca_pem: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        let scheme = if is_tls { "https" } else { "http" };
        let http = HttpClient::for_upgrades(&format!("{scheme}://{address}"), credential, ca_pem)?;
        Ok(Self { http, publishers: Arc::default(), next: Arc::default() })
    }

    pub(crate) async fn publish(&self, address: &Address, publication: &Publication) -> Result<(), ClientError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let text = frame::publish(id, publication);
        let (answer, answered) = oneshot::channel();
        let request = Request { id, text, answer };
        let outcome = async {
            self.enqueue(&address.path(), request).await;
            answered.await
        };
        match tokio::time::timeout(PUBLISH_MAX, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(gone)) => Err(ClientError::Connection { operation: "publish", source: Box::new(gone) }),
            Err(elapsed) => Err(ClientError::Connection { operation: "publish", source: Box::new(elapsed) }),
        }
    }

    async fn enqueue(&self, path: &str, mut request: Request) {
        // What comes back was never taken, let alone sent: that connection was over before.
        while let Err(SendError(back)) = self.open_publisher(path).send(request).await {
            request = back;
        }
    }

    /// The connection that there is, or a new one.
    fn open_publisher(&self, path: &str) -> mpsc::Sender<Request> {
        let mut publishers = self.publishers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = publishers.get(path).filter(|open| !open.requests.is_closed()) {
            return open.requests.clone();
        }
        publishers.retain(|_, publisher| !publisher.requests.is_closed());
        if publishers.len() >= PUBLISHERS_MAX {
            // It takes leave once what it has is answered.
            publishers.pop_first();
        }
        let (requests, taken) = mpsc::channel(REQUESTS_MAX);
        let task = tokio::spawn(publish(self.http.clone(), path.to_owned(), taken));
        publishers.insert(path.to_owned(), Publisher { requests: requests.clone(), task });
        requests
    }

    pub(crate) async fn subscribe(&self, address: &Address) -> Result<WsSubscription, ClientError> {
        let failed = |failure: Failure| failure.error("subscribe");
        let mut socket = Socket::open(&self.http, &address.path()).await.map_err(failed)?;
        let can_receive = match socket.frame().await.map_err(failed)? {
            Frame::Ready { subscribe } => subscribe,
            Frame::Accepted(_) | Frame::Refused { .. } | Frame::Event(_) | Frame::Other => {
                return Err(failed(Failure::Malformed));
            }
        };
        if !can_receive {
            tokio::spawn(socket.close());
            let detail = "the Thing may not subscribe there".to_owned();
            return Err(ClientError::Refused { status: Status::WebSocket("forbidden".to_owned()), detail });
        }
        let (deliveries, events) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(deliver(socket, deliveries));
        Ok(WsSubscription { events })
    }

    pub(crate) async fn close(self) {
        let publishers = std::mem::take(&mut *self.publishers.lock().unwrap_or_else(PoisonError::into_inner));
        // Without anybody who could send, they take leave.
        let tasks: Vec<_> = publishers.into_values().map(|publisher| publisher.task).collect();
        let left = async {
            for task in tasks {
                // One that panicked has left too.
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_MAX, left).await;
    }
}

/// A message to publish, and who waits for what comes of it.
struct Request {
    id: u64,
    text: String,
    answer: oneshot::Sender<Result<(), ClientError>>,
}

/// A connection that messages go over.
struct Publisher {
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

/// Runs a publisher's connection from its beginning to its end.
async fn publish(http: HttpClient, path: String, mut requests: mpsc::Receiver<Request>) {
    // What is published there by others goes to subscriptions.
    let (failure, socket) = match Socket::open(&http, &format!("{path}?subscribe=false")).await {
        Ok(mut socket) => (exchange(&mut socket, &mut requests).await, Some(socket)),
        Err(failure) => (failure, None),
    };
    // Who is still in the queue was never heard, and is told why.
    requests.close();
    while let Some(request) = requests.recv().await {
        let _ = request.answer.send(Err(failure.clone().error("publish")));
    }
    if let Some(socket) = socket {
        socket.close().await;
    }
}

/// What happens on a publisher's connection.
enum Step {
    /// Somebody has a message, or nobody can have one any more.
    Request(Option<Request>),
    /// The server said something, or the connection is over.
    Frame(Result<Frame, Failure>),
    /// Nobody waits any more, or has waited for too long.
    Leave,
}

/// Exchanges messages for answers until the connection is over, or all is said and answered.
async fn exchange(socket: &mut Socket, requests: &mut mpsc::Receiver<Request>) -> Failure {
    let mut unanswered = Unanswered::default();
    let mut leaving: Option<Pin<Box<Sleep>>> = None;
    loop {
        // Messages first: how many there can be is bounded by who waits for answers. What has gathered goes out at once.
        let step = poll_fn(|cx| {
            if let Some(deadline) = &mut leaving {
                if unanswered.is_empty() || deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Step::Leave);
                }
            } else if socket.poll_ready(cx).is_ready()
                && let Poll::Ready(request) = requests.poll_recv(cx)
            {
                return Poll::Ready(Step::Request(request));
            }
            socket.poll_frame(cx).map(Step::Frame)
        });
        let outcome = match step.await {
            Step::Request(Some(request)) => unanswered.send(socket, request),
            // The server answers nothing after a close frame.
            Step::Request(None) => {
                leaving = Some(Box::pin(tokio::time::sleep(CLOSE_MAX)));
                Ok(())
            }
            Step::Frame(frame) => frame.and_then(|frame| unanswered.settle(frame)),
            Step::Leave => Err(Failure::Closed(None)),
        };
        if let Err(failure) = outcome {
            unanswered.fail(&failure);
            return failure;
        }
    }
}

/// Who waits for an answer of the server, by the number of the message.
#[derive(Default)]
struct Unanswered(BTreeMap<u64, oneshot::Sender<Result<(), ClientError>>>);

impl Unanswered {
    /// Whether nobody waits.
    fn is_empty(&self) -> bool {
        self.0.values().all(oneshot::Sender::is_closed)
    }

    fn send(&mut self, socket: &mut Socket, request: Request) -> Result<(), Failure> {
        if self.0.len() >= UNANSWERED_MAX {
            self.0.retain(|_, answer| !answer.is_closed());
        }
        if self.0.len() >= UNANSWERED_MAX {
            let _ = request.answer.send(Err(ClientError::Setup("too many messages at once")));
            return Ok(());
        }
        self.0.insert(request.id, request.answer);
        socket.send(request.text)
    }

    fn settle(&mut self, frame: Frame) -> Result<(), Failure> {
        let (id, outcome) = match frame {
            Frame::Accepted(id) => (id, Ok(())),
            Frame::Refused { id, code, detail } => {
                let refused = Failure::Refused(Status::WebSocket(code), detail);
                // Without a number it is about any of them, and none can be waited for any more.
                let Some(id) = id else { return Err(refused) };
                (id, Err(refused.error("publish")))
            }
            Frame::Ready { .. } | Frame::Event(_) | Frame::Other => return Ok(()),
        };
        if let Some(answer) = self.0.remove(&id) {
            // Who does not wait any more need not be told.
            let _ = answer.send(outcome);
        }
        Ok(())
    }

    fn fail(self, failure: &Failure) {
        for answer in self.0.into_values() {
            let _ = answer.send(Err(failure.clone().error("publish")));
        }
    }
}

/// Brings events to who subscribed, until they are gone or the connection is over.
async fn deliver(mut socket: Socket, events: mpsc::Sender<Result<Event, Failure>>) {
    // A reader who is behind holds the server up, as over HTTP.
    while let Ok(slot) = events.reserve().await {
        let frame = tokio::select! {
            biased;
            () = events.closed() => break,
            frame = socket.frame() => frame,
        };
        match frame {
            Ok(Frame::Event(event)) => slot.send(Ok(event)),
            Ok(Frame::Ready { .. } | Frame::Accepted(_) | Frame::Refused { .. } | Frame::Other) => {}
            Err(failure) => {
                slot.send(Err(failure));
                break;
            }
        }
    }
    drop(events);
    socket.close().await;
}

/// An open subscription, with a connection of its own.
pub(crate) struct WsSubscription {
    events: mpsc::Receiver<Result<Event, Failure>>,
}

impl WsSubscription {
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        match self.events.recv().await {
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(Failure::Closed(Some((code, reason))))) => {
                let payload = format!("{code} {reason}").into_bytes();
                Ok(Some(Event { kind: "end".to_owned(), payload, ..Event::default() }))
            }
            Some(Err(Failure::Closed(None))) | None => Ok(None),
            Some(Err(failure)) => Err(failure.error("receive")),
        }
    }
}
