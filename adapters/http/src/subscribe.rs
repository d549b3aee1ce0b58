//! GET and HEAD: an endless answer of server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::stream;
use tidegate_bridge::{Departures, Subscription, SubscriptionEnd, SubscriptionEvent};
use tidegate_containment::contained;
use tidegate_model::{Principal, Protocol, Refusal, TopicFilter};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::answer::{Problem, empty};
use crate::credential::Proof;
use crate::event;
use crate::face::HttpFace;
use crate::query;

impl HttpFace {
    pub(crate) async fn subscribe(self: &Arc<Self>, path: &str, head: &Parts) -> Result<Response<Body>, Problem> {
        let filter = TopicFilter::parse_path(path, &self.limits.topic)?;
        let principal = Proof::read(head)?.principal(&self.bridge).await?;
        query::no_history(head.uri.query())?;
        if query::last(head.uri.query())? {
            return self.last(&principal, filter, head.method == Method::HEAD);
        }
        if !accepts_events(&head.headers) {
            self.bridge.may_subscribe(&principal, filter)?;
            return Err(Problem::NotAcceptable);
        }
        let mut response = if head.method == Method::HEAD {
            self.bridge.may_subscribe(&principal, filter)?;
            // As long as what GET answers: nobody knows.
            //= RFC9110 9.3.2
            Response::new(Body::from_stream(stream::empty::<Result<Bytes, Infallible>>()))
        } else {
            let subscription = self.bridge.subscribe(&principal, filter, Protocol::Http).await?;
            let resumes = head.headers.contains_key("last-event-id");
            Response::new(self.events(subscription, resumes))
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }

    /// The message that is kept of a topic.
    fn last(&self, principal: &Principal, filter: TopicFilter, is_head: bool) -> Result<Response<Body>, Problem> {
        if filter.subtopic.levels().any(|level| level == "+" || level == "#") {
            return Err(Problem::BadQuery("last is of one topic, without wildcards"));
        }
        let kept = self.bridge.retained(principal, filter)?.pop();
        let Some(kept) = kept else { return Ok(empty(StatusCode::NO_CONTENT)) };
        let message = &kept.message;
        let payload = message.payload.clone();
        let length = HeaderValue::from(payload.len());
        let mut response = Response::new(if is_head { Body::empty() } else { Body::from(payload) });
        let headers = response.headers_mut();
        // It was checked when it came in; what a back-end service made up may be none.
        if let Ok(content_type) = HeaderValue::from_str(message.content_type.as_str()) {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        headers.insert(header::CONTENT_LENGTH, length);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    }

    fn events(&self, subscription: Subscription, resumes: bool) -> Body {
        let first = if resumes { [event::SUBSCRIBED, event::NO_REPLAY].concat() } else { event::SUBSCRIBED.to_owned() };
        let events = Events {
            subscription,
            first: Some(first.into()),
            departures: self.departures(),
            leaving: None,
            keep_alive: self.limits.event_keep_alive,
            ended: false,
        };
        let (chunks, taken) = mpsc::channel(1);
        tokio::spawn(contained(events.hand_over(chunks, self.limits.reader_stall_max)));
        Body::from_stream(stream::unfold(taken, async |mut taken: mpsc::Receiver<Bytes>| {
            let chunk = taken.recv().await?;
            Some((Ok::<_, Infallible>(chunk), taken))
        }))
    }
}

struct Events {
    subscription: Subscription,
    first: Option<Bytes>,
    departures: Arc<Departures>,
    /// When it is to end, once that is known.
    leaving: Option<Pin<Box<Sleep>>>,
    keep_alive: Duration,
    ended: bool,
}

impl Events {
    /// Hands each chunk to the connection, until either side ends the stream, or the reader takes none for too long:
    /// a connection whose reader stalls is not even asked for more.
    async fn hand_over(mut self, chunks: mpsc::Sender<Bytes>, reader_stall_max: Duration) {
        loop {
            let chunk = tokio::select! {
                chunk = self.next() => chunk,
                () = chunks.closed() => return,
            };
            let Some(chunk) = chunk else { return };
            let Ok(Ok(())) = tokio::time::timeout(reader_stall_max, chunks.send(chunk)).await else { return };
        }
    }

    /// The next chunk; nothing after the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let Self { subscription, departures, leaving, keep_alive, .. } = self;
        let next = tokio::select! {
            biased;
            () = departure(departures, leaving) => Next::End(Refusal::ShuttingDown),
            event = subscription.next() => Next::of(event),
            () = tokio::time::sleep(*keep_alive) => Next::Chunk(Bytes::from_static(event::KEEP_ALIVE.as_bytes())),
        };
        let chunk = match next {
            Next::Chunk(chunk) => chunk,
            Next::End(refusal) => {
                self.ended = true;
                event::end(&Problem::from(refusal).json()).into()
            }
        };
        Some(chunk)
    }
}

/// Waits until the process ends and it is this subscription's turn, which is kept in `leaving`.
async fn departure(departures: &Departures, leaving: &mut Option<Pin<Box<Sleep>>>) {
    if leaving.is_none() {
        *leaving = Some(Box::pin(tokio::time::sleep(departures.turn_of_one().await)));
    }
    if let Some(turn) = leaving {
        turn.await;
    }
}

enum Next {
    Chunk(Bytes),
    End(Refusal),
}

impl Next {
    fn of(event: SubscriptionEvent) -> Self {
        match event {
            SubscriptionEvent::Delivery(delivery) => Self::Chunk(event::message(&delivery)),
            SubscriptionEvent::Gap => Self::Chunk(Bytes::from_static(event::GAP.as_bytes())),
            SubscriptionEvent::Ended(SubscriptionEnd::Revoked) => Self::End(Refusal::Revoked),
            SubscriptionEvent::Ended(SubscriptionEnd::Overrun) => {
                Self::End(Refusal::RateLimited { retry_after: Duration::from_secs(1) })
            }
        }
    }
}

/// Whether the client takes an event stream: it says so, or takes anything, or says nothing. What names the type best
/// decides.
//= RFC9110 12.5.1
fn accepts_events(headers: &HeaderMap) -> bool {
    let mut ranges = headers.get_all(header::ACCEPT).iter().peekable();
    if ranges.peek().is_none() {
        return true;
    }
    let ranges = ranges.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let named = ranges.filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let known = ["*/*", "text/*", "text/event-stream"];
        let precision = known.iter().position(|taken| media.eq_ignore_ascii_case(taken))?;
        let refused = parts.any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, q)| {
                name.eq_ignore_ascii_case("q") && q.parse::<f32>().is_ok_and(|quality| quality <= 0.0)
            })
        });
        Some((precision, !refused))
    });
    named.max().is_some_and(|(_, accepted)| accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_that_names_event_streams_best_decides() {
        let check = |accept: &[&'static str], expected: bool| {
            let values = accept.iter().map(|value| (header::ACCEPT, HeaderValue::from_static(value)));
            assert_eq!(accepts_events(&values.collect()), expected, "{accept:?}");
        };
        check(&[], true);
        check(&["text/event-stream"], true);
        check(&["TEXT/*"], true);
        check(&["application/json, */*;q=0.1"], true);
        check(&["application/json", "text/event-stream"], true);
        check(&["application/json"], false);
        check(&["text/event-stream;q=0, */*"], false);
        check(&["*/*;q=0, text/event-stream; q=0.5"], true);
        check(&["text/*;q=0, */*"], false);
        check(&[""], false);
    }
}
