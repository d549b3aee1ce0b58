//! One socket, its sessions and its endpoint: takes datagrams in, does what the endpoint asks, and sends what it says.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tidegate_bridge::{BoxFuture, Delivery, DeparturePace, Subscription, SubscriptionEnd, SubscriptionEvent};
use tidegate_coap_proto::{
    Attribute, Code, ContentFormat, Endpoint, Link, Observe, Observer, OptionNumber, Options, Output, Request,
    Response, Ticket, links, prefix_of,
};
use tidegate_model::{Generation, Message, Principal, Protocol, Refusal};
use tokio::sync::watch;

use crate::CoapFace;
use crate::answer;
use crate::dtls::{self, Sessions};
use crate::line::{Line, Peer, Received};
use crate::observers::{Observed, Observers};
use crate::request;

/// Bursts that are taken before anything else is looked at.
const BURSTS_MAX: usize = 2;
/// Answers and messages that are handed on before the socket is looked at again.
const BATCH_MAX: usize = 64;
/// How long a socket goes on when all are told that the process ends: requests are on their way.
const LAST_REQUEST_MAX: Duration = Duration::from_secs(3);

/// What was waited for.
enum Done {
    Answer(Ticket<Peer>, Response),
    Admitted(Ticket<Peer>, Result<usize, Refusal>),
    Observed(Ticket<Peer>, Observed, Box<Subscription>),
}

/// What happens.
enum Event {
    Readable,
    Timeout,
    Done(Done),
    Told(Observer<Peer>, SubscriptionEvent),
    Departure(DeparturePace),
    /// The next observer is told that the process ends, or it is over.
    Farewell,
    /// There are other grants.
    Grants,
}

pub(crate) struct Driver {
    face: Arc<CoapFace>,
    line: Line,
    /// None where nothing is encrypted.
    sessions: Option<Sessions>,
    grants: watch::Receiver<Generation>,
    endpoint: Endpoint<Peer>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    observers: Observers,
    counted: (tidegate_coap_proto::Counts, tidegate_coap_proto::Held),
    counted_sessions: (dtls::Counts, (usize, usize)),
    /// How the process ends, and when the next observer is told; nothing while it does not.
    leaving: Option<(DeparturePace, Instant)>,
    burst: Vec<Received>,
    /// When what is done now came about: the clock is read for each event, not for each step.
    now: Instant,
}

#[expect(clippy::disallowed_methods, reason = "the face is a driver: it has the clock of its endpoint")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the face is a driver: it tells its endpoint what day it is")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seed() -> [u8; 16] {
    let mut seed = [0; 16];
    aws_lc_rs::rand::fill(&mut seed).expect("the system has randomness");
    seed
}

impl Driver {
    pub(crate) fn new(face: Arc<CoapFace>, line: Line, sessions: Option<Sessions>) -> Self {
        let mut limits = face.limits;
        if sessions.is_some() {
            // Its handshake has shown where a peer is.
            limits.amplification_max = None;
        }
        let now = now();
        let endpoint = Endpoint::new(limits, seed(), since_epoch(), now);
        let endpoint = endpoint.by_prefix(|peer: &Peer| prefix_of(peer.address.ip()));
        Self {
            line,
            sessions,
            grants: face.bridge.grant_changes(),
            face,
            endpoint,
            work: FuturesUnordered::new(),
            observers: Observers::default(),
            counted: Default::default(),
            counted_sessions: Default::default(),
            leaving: None,
            burst: Vec::new(),
            now,
        }
    }

    pub(crate) async fn run(mut self) {
        let departures = self.face.departures.subscribe();
        let mut begun = departures;
        let mut departure =
            pin!(async move { begun.wait_for(Option::is_some).await.ok().and_then(|pace| *pace) }.fuse());
        loop {
            self.act();
            self.count();
            let of_sessions = self.sessions.as_ref().and_then(Sessions::poll_timeout);
            let timeout = self.endpoint.poll_timeout().into_iter().chain(of_sessions).min();
            let farewell = self.leaving.map(|(_, at)| at);
            let Self { line, work, observers, grants, sessions, .. } = &mut self;
            let event = tokio::select! {
                biased;
                Some(pace) = &mut departure => Event::Departure(pace),
                () = sleep_until(farewell) => Event::Farewell,
                Ok(()) = grants.changed(), if sessions.is_some() => Event::Grants,
                () = sleep_until(timeout) => Event::Timeout,
                Some(done) = work.next(), if !work.is_empty() => Event::Done(done),
                () = line.readable() => Event::Readable,
                (observer, told) = observers.next() => Event::Told(observer, told),
            };
            self.now = now();
            match event {
                Event::Departure(pace) => self.leaving = Some((pace, self.now)),
                Event::Farewell if !self.bid_farewell() => break,
                Event::Farewell => {}
                Event::Timeout => self.handle_timeout(),
                Event::Grants => drop(self.sessions.as_mut().map(|sessions| sessions.handle_grants(self.now))),
                Event::Done(done) => self.handle_done(done),
                Event::Readable => self.take_in(),
                Event::Told(observer, told) => self.hear(&observer, told),
            }
            self.take_more();
        }
        if let Some(sessions) = &mut self.sessions {
            sessions.close_all(self.now);
        }
        self.act();
        self.face.metrics.add(&mut self.counted, self.endpoint.counts(), Default::default());
        if let Some(sessions) = &self.sessions {
            self.face.session_metrics.add(&mut self.counted_sessions, sessions.counts(), Default::default());
        }
    }

    fn count(&mut self) {
        self.face.metrics.add(&mut self.counted, self.endpoint.counts(), self.endpoint.held());
        if let Some(sessions) = &self.sessions {
            self.face.session_metrics.add(&mut self.counted_sessions, sessions.counts(), sessions.held());
        }
    }

    fn handle_timeout(&mut self) {
        self.endpoint.handle_timeout(self.now);
        if let Some(sessions) = &mut self.sessions {
            sessions.handle_timeout(self.now);
        }
    }

    fn take_in(&mut self) {
        for _ in 0..BURSTS_MAX {
            self.now = now();
            let mut burst = std::mem::take(&mut self.burst);
            let is_more = self.line.take(&mut burst);
            self.face.metrics.received(burst.len());
            for Received { peer, datagram } in burst.drain(..) {
                match &mut self.sessions {
                    Some(sessions) => sessions.handle_datagram(peer, &datagram, self.now),
                    None => self.endpoint.handle_datagram(peer, &datagram, self.now),
                }
                self.act();
            }
            self.burst = burst;
            if !is_more {
                break;
            }
        }
    }

    /// Takes what else is there by now.
    fn take_more(&mut self) {
        for _ in 0..BATCH_MAX {
            let Some(Some(done)) = self.work.next().now_or_never() else { break };
            self.handle_done(done);
        }
        for _ in 0..BATCH_MAX {
            let Some((observer, told)) = self.observers.next().now_or_never() else { break };
            self.hear(&observer, told);
        }
    }

    /// Does what the endpoint and the sessions ask, until they ask nothing more.
    fn act(&mut self) {
        loop {
            self.act_for_endpoint();
            let Some(output) = self.sessions.as_mut().and_then(Sessions::poll_output) else { break };
            match output {
                dtls::Output::Send { address, datagram } => {
                    self.face.metrics.sent();
                    self.line.send(&address, &datagram);
                }
                dtls::Output::Received { peer, datagram } => self.endpoint.handle_datagram(peer, &datagram, self.now),
                dtls::Output::Ended(peer) => {
                    self.endpoint.forget(&peer);
                    self.observers.remove_all_of(&peer);
                }
            }
        }
    }

    fn act_for_endpoint(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Send { peer, datagram } => match &mut self.sessions {
                    Some(sessions) => sessions.send(&peer, &datagram, self.now),
                    None => {
                        self.face.metrics.sent();
                        self.line.send(&peer, &datagram);
                    }
                },
                Output::Request { ticket, request } => self.handle_request(ticket, request),
                Output::Begin { ticket, request } => self.begin(ticket, request),
                Output::Refresh(observer) => {
                    if let Some(Observed { last, accept }) = self.observers.get_mut(&observer).cloned() {
                        self.notify(&observer, last.as_deref(), accept);
                    }
                }
                Output::Ended(observer, _) => self.observers.remove(&observer),
            }
        }
    }

    //= RFC7252 5.8
    fn handle_request(&mut self, ticket: Ticket<Peer>, request: Request) {
        let (face, known) = (Arc::clone(&self.face), self.known(&ticket));
        let options = &request.options;
        match request.method {
            Code::GET if request::asks_for_resources(options) => {
                let found = answer::acceptable(options.accept(), resources(options));
                self.endpoint.respond(ticket, found, self.now);
            }
            Code::GET if options.observe() == Some(Observe::Register) && self.leaving.is_none() => {
                self.start(Box::pin(async move {
                    match face.observe(&request.options, known.as_ref()).await {
                        Ok((observed, subscription)) => Done::Observed(ticket, observed, Box::new(subscription)),
                        Err(refusal) => Done::Answer(ticket, answer::refused(&refusal)),
                    }
                }));
            }
            Code::GET => self.start(Box::pin(async move {
                let answered = face.last(&request.options, known.as_ref()).await;
                Done::Answer(ticket, answered.unwrap_or_else(|refusal| answer::refused(&refusal)))
            })),
            Code::POST | Code::PUT if !request::asks_for_resources(options) => self.start(Box::pin(async move {
                let published = face.publish(&request, known.as_ref()).await;
                let answer = published.map(|()| Response::of(Code::CHANGED));
                Done::Answer(ticket, answer.unwrap_or_else(|refusal| answer::refused(&refusal)))
            })),
            _ => {
                let words = "publish with POST or PUT, subscribe with GET and Observe";
                self.endpoint.respond(ticket, Response::refusal(Code::METHOD_NOT_ALLOWED, words), self.now);
            }
        }
    }

    /// Who it is that the session is with in which this is asked.
    fn known(&mut self, ticket: &Ticket<Peer>) -> Option<Principal> {
        self.sessions.as_mut()?.principal(ticket.peer(), self.now)
    }

    /// Decides on a body of which the first block is here.
    fn begin(&mut self, ticket: Ticket<Peer>, request: Request) {
        let publishes = matches!(request.method, Code::POST | Code::PUT);
        if !publishes || request::asks_for_resources(&request.options) {
            return self.handle_request(ticket, request);
        }
        let (face, known) = (Arc::clone(&self.face), self.known(&ticket));
        self.start(Box::pin(async move {
            let begun = face.begin(&request, request.options.size1().map(u64::from), known.as_ref()).await;
            let begun = begun.inspect_err(|refusal| face.bridge.count_refused_publish(Protocol::Coap, refusal));
            Done::Admitted(ticket, begun.map(|(_, permit, _)| permit.payload().bytes_max as usize))
        }));
    }

    /// Does what may have to wait; most of it need not.
    fn start(&mut self, mut work: BoxFuture<'static, Done>) {
        match work.as_mut().now_or_never() {
            Some(done) => self.settle(done),
            None => self.work.push(work),
        }
    }

    fn handle_done(&mut self, done: Done) {
        self.settle(done);
        self.act();
    }

    /// Tells the endpoint what was waited for.
    fn settle(&mut self, done: Done) {
        match done {
            Done::Answer(ticket, response) => drop(self.endpoint.respond(ticket, response, self.now)),
            Done::Admitted(ticket, Ok(bytes_max)) => drop(self.endpoint.admit(ticket, bytes_max, self.now)),
            Done::Admitted(ticket, Err(refusal)) => {
                self.endpoint.respond(ticket, answer::refused(&refusal), self.now);
            }
            Done::Observed(ticket, mut observed, subscription) => {
                let renewed = self.endpoint.renewed(&ticket);
                let before = renewed.as_ref().and_then(|renewed| self.observers.get_mut(renewed)?.last.clone());
                observed.last = observed.last.into_iter().chain(before).max_by_key(|last| last.message.received_at);
                let content = answer::content(observed.last.as_deref(), self.face.bridge.now());
                let response = answer::acceptable(observed.accept, content);
                // Where it does not come about, the subscription goes too.
                let Some(observer) = self.endpoint.observe(ticket, response, self.now) else { return };
                // The one before goes on: there may be something in it that was not told yet.
                let is_renewed =
                    renewed.is_some_and(|before| self.observers.renew(&before, observer.clone(), observed.clone()));
                if !is_renewed {
                    self.observers.add(observer, *subscription, observed);
                }
            }
        }
    }

    fn hear(&mut self, observer: &Observer<Peer>, told: SubscriptionEvent) {
        match told {
            SubscriptionEvent::Delivery(delivery) => {
                let Some(observed) = self.observers.get_mut(observer) else { return };
                // It was told that already, when it registered.
                let Message { id, received_at, .. } = &delivery.message;
                let is_it = |last: &Delivery| last.message.id == *id && last.message.received_at == *received_at;
                if observed.last.as_deref().is_some_and(is_it) {
                    return;
                }
                observed.last = Some(Arc::clone(&delivery));
                let accept = observed.accept;
                self.notify(observer, Some(&delivery), accept);
            }
            // CoAP has no word for it: what holds is told when it is known again.
            SubscriptionEvent::Gap => {}
            SubscriptionEvent::Ended(end) => self.end(
                observer,
                match end {
                    SubscriptionEnd::Revoked => answer::refused(&Refusal::Revoked),
                    SubscriptionEnd::Overrun => {
                        answer::refused(&Refusal::RateLimited { retry_after: Duration::from_secs(1) })
                    }
                },
            ),
        }
        self.act();
    }

    /// Tells an observer what holds, or that it is not to its liking, which is the last that it is told.
    //= RFC7641 4.2
    fn notify(&mut self, observer: &Observer<Peer>, last: Option<&Delivery>, accept: Option<ContentFormat>) {
        let content = answer::content(last, self.face.bridge.now());
        let told = answer::acceptable(accept, content);
        if told.code.is_success() {
            self.endpoint.notify(observer, told, self.now);
        } else {
            self.end(observer, told);
        }
    }

    /// Tells an observer that nothing more comes.
    //= RFC7641 4.2
    fn end(&mut self, observer: &Observer<Peer>, last_word: Response) {
        self.endpoint.notify(observer, last_word, self.now);
        self.observers.remove(observer);
    }

    /// Tells one more observer that the process ends; whether there is more to be done.
    fn bid_farewell(&mut self) -> bool {
        let Some((pace, at)) = &mut self.leaving else { return false };
        if let Some(observer) = self.observers.first() {
            *at += (Duration::from_secs(1) / pace.per_second.get()).min(pace.within);
            self.endpoint.dismiss(&observer, answer::refused(&Refusal::ShuttingDown), self.now);
            self.observers.remove(&observer);
            return true;
        }
        // Once more, when all are told: what is on its way is answered.
        let is_last = pace.within.is_zero();
        *at = self.now + LAST_REQUEST_MAX.min(pace.within / 2);
        pace.within = Duration::ZERO;
        !is_last
    }
}

impl CoapFace {
    /// Subscribes, and finds what holds.
    async fn observe(&self, options: &Options, known: Option<&Principal>) -> Result<(Observed, Subscription), Refusal> {
        let filter = request::filter(options, &self.topic)?;
        let principal = self.authenticate(options, known).await?;
        let subscription = self.bridge.subscribe(&principal, filter.clone(), Protocol::Coap).await?;
        let last = self.bridge.retained(&principal, filter)?.pop();
        Ok((Observed { last, accept: options.accept() }, subscription))
    }

    /// The message that is kept of a topic; nothing is nothing.
    async fn last(&self, options: &Options, known: Option<&Principal>) -> Result<Response, Refusal> {
        let filter = request::filter(options, &self.topic)?;
        let principal = self.authenticate(options, known).await?;
        let last = self.bridge.retained(&principal, filter)?.pop();
        Ok(answer::acceptable(options.accept(), answer::content(last.as_deref(), self.bridge.now())))
    }
}

/// What can be asked for here: below this there is what each device has a right to, and no more is said of it to strangers.
//= RFC7252 7.2
fn resources(asked: &Options) -> Response {
    let kind = ("rt", Attribute::Text("tidegate.channels".to_owned()));
    let channels = Link { path: "/channels".to_owned(), attributes: vec![kind] };
    let options = Options::NONE.with_uint(OptionNumber::CONTENT_FORMAT, ContentFormat::LINK_FORMAT.0.into());
    Response { code: Code::CONTENT, options, payload: links(&[channels], asked).into() }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
