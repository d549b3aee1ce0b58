//! An observation: its beginning, its notifications and its end.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coap_lite::{CoapOption, Packet, RequestType};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::line::{Line, broken};
use super::link::Link;
use super::wire::{Block, Newest, Target, content_type, datagram, format_of, is_success, max_age, observe_of, refusal};
use crate::error::ClientError;
use crate::event::{Event, MalformedEvent};

/// Values of the option in a request.
//= RFC7641 2
const REGISTER: u32 = 0;
const DEREGISTER: u32 = 1;
/// Events that wait for who subscribed; what is newer takes the place of the oldest.
const EVENTS_MAX: usize = 1_024;
/// Bytes of a notification that comes in blocks.
const BODY_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// How long after its value has ceased to hold the server is asked for another, at least.
//= RFC7641 3.3.1
const REFRESH_AFTER: Duration = Duration::from_secs(5);
/// What is added to that at most, at random.
const REFRESH_JITTER_MAX: Duration = Duration::from_secs(10);
/// How long who leaves waits until the server knows.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// An open subscription, with a link of its own.
pub(crate) struct CoapSubscription {
    queue: Arc<Queue>,
    link: Arc<Link>,
    /// The message that ends it.
    farewell: Vec<u8>,
    /// Tells the task that holds the link.
    _open: oneshot::Sender<()>,
}

impl CoapSubscription {
    /// Registers, and returns when the server says that it will notify.
    //= RFC7641 3.1
    pub(super) async fn open(line: Line, target: Target, topic: Option<String>) -> Result<Self, ClientError> {
        let mut observation = Observation::new(line, target, topic);
        let response = observation.register("subscribe").await?;
        if !is_success(&response) || observe_of(&response).is_none() {
            let (status, detail) = refusal(&response);
            let detail =
                if is_success(&response) { "the server does not notify of changes".to_owned() } else { detail };
            return Err(ClientError::Refused { status, detail });
        }
        let farewell = observation.farewell()?;
        let (link, queue) = (observation.line.link(), Arc::<Queue>::default());
        let (open, closed) = oneshot::channel();
        let task = watch(observation, response, Arc::clone(&queue), closed, farewell.clone());
        tokio::spawn(task);
        Ok(Self { queue, link, farewell, _open: open })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        self.queue.next().await.transpose()
    }
}

impl Drop for CoapSubscription {
    //= RFC7641 3.6
    fn drop(&mut self) {
        if !self.queue.is_over() {
            // At once, since the process may end; the task sends it again where it does not.
            self.link.try_send(&self.farewell);
        }
    }
}

/// What waits for who subscribed.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Result<Event, ClientError>>,
    is_over: bool,
}

impl Queue {
    fn push(&self, outcome: Result<Event, ClientError>) {
        let events = &mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner).events;
        while events.len() >= EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(outcome);
        self.news.notify_one();
    }

    fn end(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.news.notify_one();
    }

    fn is_over(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_over
    }

    /// What is there; nothing for ever when it is over.
    fn pop(&self) -> Option<Option<Result<Event, ClientError>>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.events.pop_front().map(Some).or(waiting.is_over.then_some(None))
    }

    async fn next(&self) -> Option<Result<Event, ClientError>> {
        loop {
            if let Some(outcome) = self.pop() {
                return outcome;
            }
            self.news.notified().await;
        }
    }
}

/// Brings what is notified to who subscribed, until they are gone or it is over.
async fn watch(
    mut observation: Observation,
    first: Packet,
    queue: Arc<Queue>,
    mut closed: oneshot::Receiver<()>,
    farewell: Vec<u8>,
) {
    let events = async {
        let mut step = observation.take(first, true).await;
        loop {
            match step {
                Ok(Step::News(event)) => queue.push(Ok(event)),
                Ok(Step::Nothing) => {}
                Ok(Step::Last(event)) => return queue.push(Ok(event)),
                Err(error) => return queue.push(Err(error)),
            }
            step = observation.step().await;
        }
    };
    tokio::select! {
        biased;
        _ = &mut closed => {
            let _ = tokio::time::timeout(CLOSE_MAX, observation.line.bid_farewell(&farewell)).await;
        }
        () = events => queue.end(),
    }
}

/// What happens to an observation.
enum Step {
    News(Event),
    Nothing,
    /// Nothing comes after it.
    Last(Event),
}

/// What was observed, as a number: what was said is not kept.
type Fingerprint = u64;

struct Observation {
    line: Line,
    target: Target,
    token: Vec<u8>,
    /// The topic, if it is one.
    topic: Option<String>,
    newest: Newest,
    /// When the server is asked again: it may have forgotten.
    refresh_at: Instant,
    /// What the last event said, and what the last registration was answered with.
    told: [Option<Fingerprint>; 2],
}

#[expect(clippy::disallowed_methods, reason = "an observation is a driver: it has the clock of its notifications")]
fn now() -> Instant {
    Instant::now()
}

impl Observation {
    fn new(mut line: Line, target: Target, topic: Option<String>) -> Self {
        let token = line.token();
        line.observe(token.clone());
        Self { line, target, token, topic, newest: Newest::default(), refresh_at: now(), told: [None; 2] }
    }

    fn request(&self, observe: u32) -> Packet {
        let mut request = self.target.request(RequestType::Get);
        request.set_observe_value(observe);
        request.set_token(self.token.clone());
        request
    }

    async fn register(&mut self, operation: &'static str) -> Result<Packet, ClientError> {
        self.line.ask(self.request(REGISTER), operation).await
    }

    /// The message that ends it.
    fn farewell(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut request = self.request(DEREGISTER);
        request.header.message_id = self.line.id();
        datagram(&request, self.line.link().message_bytes_max())
    }

    /// Waits for what comes next.
    async fn step(&mut self) -> Result<Step, ClientError> {
        match tokio::time::timeout_at(self.refresh_at, self.line.notification()).await {
            Ok(Ok(packet)) => self.take(packet, false).await,
            Ok(Err(error)) => Err(broken("receive", error)),
            //= RFC7641 3.3.1
            Err(_elapsed) => {
                let response = self.register("receive").await?;
                self.take(response, true).await
            }
        }
    }

    /// Takes what the server says, as the answer to a registration or by itself.
    //= RFC7641 3.2, 3.4
    async fn take(&mut self, packet: Packet, is_answer: bool) -> Result<Step, ClientError> {
        if !is_success(&packet) {
            let (status, detail) = refusal(&packet);
            let payload = format!("{status} {detail}").into_bytes();
            return Ok(Step::Last(Event { kind: "end".to_owned(), payload, ..Event::default() }));
        }
        let Some(number) = observe_of(&packet) else {
            let payload = b"the server does not notify of changes any more".to_vec();
            return Ok(Step::Last(Event { kind: "end".to_owned(), payload, ..Event::default() }));
        };
        let jitter = REFRESH_JITTER_MAX * u32::from(self.line.chance()) / u32::from(u8::MAX);
        if !self.newest.replace(number, now()) {
            return Ok(Step::Nothing);
        }
        self.refresh_at = now() + max_age(&packet) + REFRESH_AFTER + jitter;
        let format = format_of(&packet);
        let payload = self.whole(packet).await?;
        // That is how a server says that nothing holds.
        let is_nothing = payload.as_ref().is_some_and(Vec::is_empty) && format.is_none();
        let Some(payload) = payload.filter(|_| !is_nothing) else { return Ok(Step::Nothing) };
        let said = Some(fingerprint(format, &payload));
        let is_known = self.told.contains(&said);
        if is_answer {
            self.told[1] = said;
            // It was told before that this holds.
            if is_known {
                return Ok(Step::Nothing);
            }
        }
        self.told[0] = said;
        Ok(Step::News(Event {
            kind: "message".to_owned(),
            topic: self.topic.clone(),
            content_type: format.and_then(content_type).map(str::to_owned),
            payload,
            ..Event::default()
        }))
    }

    /// The whole of what a notification has the first block of; nothing where something newer has taken its place.
    //= RFC7641 3.4, 4.3
    //= RFC7959 2.4, 2.6
    async fn whole(&mut self, first: Packet) -> Result<Option<Vec<u8>>, ClientError> {
        let tag = first.get_first_option(CoapOption::ETag).cloned();
        let mut block = Block::of(&first, CoapOption::Block2);
        let mut body = first.payload;
        while let Some(last) = block.filter(|block| block.more) {
            if body.len() != last.offset() + last.bytes() || body.len() > BODY_BYTES_MAX {
                return Err(MalformedEvent.into());
            }
            let mut request = self.target.request(RequestType::Get);
            let next = Block { number: last.number + 1, more: false, ..last };
            next.add_to(&mut request, CoapOption::Block2);
            let response = self.line.ask(request, "receive").await?;
            let answered = Block::of(&response, CoapOption::Block2);
            let is_same = response.get_first_option(CoapOption::ETag) == tag.as_ref();
            if !is_success(&response) || !is_same || answered.is_none_or(|block| block.offset() != body.len()) {
                return Ok(None);
            }
            body.extend_from_slice(&response.payload);
            block = answered;
        }
        Ok(Some(body))
    }
}

fn fingerprint(format: Option<u16>, payload: &[u8]) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    (format, payload).hash(&mut hasher);
    hasher.finish()
}
