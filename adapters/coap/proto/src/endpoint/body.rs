//! Bodies that come and go in blocks.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::code::Code;
use crate::message::{Request, Response};
use crate::option::{Block, OptionNumber, Options};

use super::answer::{Unproven, Wanted};
use super::confirm::Of;
use super::exchange::Stage;
use super::peer::Peer;
use super::{Address, Held, Output, Scope, Shared, Ticket};

/// A peer's bodies, by the time they began.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    /// What it is sending.
    incoming: Vec<Incoming>,
    /// What it is fetching.
    snapshots: Vec<Snapshot>,
}

#[derive(Debug)]
struct Incoming {
    key: u64,
    bytes: BytesMut,
    bytes_max: usize,
    /// Where the last block began.
    last: usize,
    expires: Instant,
}

#[derive(Debug)]
struct Snapshot {
    key: u64,
    response: Response,
    expires: Instant,
}

impl Bodies {
    /// When the next of them is given up.
    pub(super) fn at(&self) -> Option<Instant> {
        let incoming = self.incoming.iter().map(|body| body.expires);
        incoming.chain(self.snapshots.iter().map(|snapshot| snapshot.expires)).min()
    }

    /// Gives up those whose blocks were waited for long enough; whether none is left.
    pub(super) fn expire(&mut self, now: Instant, held: &mut Held) -> bool {
        while let Some(at) = self.incoming.iter().position(|body| body.expires <= now) {
            self.drop_incoming(at, held);
        }
        while let Some(at) = self.snapshots.iter().position(|snapshot| snapshot.expires <= now) {
            self.drop_snapshot(at, held);
        }
        self.incoming.is_empty() && self.snapshots.is_empty()
    }

    pub(super) fn release(&mut self, held: &mut Held) {
        while !self.incoming.is_empty() {
            self.drop_incoming(0, held);
        }
        while !self.snapshots.is_empty() {
            self.drop_snapshot(0, held);
        }
    }

    fn drop_incoming(&mut self, at: usize, held: &mut Held) -> BytesMut {
        let body = self.incoming.remove(at);
        held.bodies_bytes -= body.bytes.len();
        body.bytes
    }

    fn drop_snapshot(&mut self, at: usize, held: &mut Held) {
        held.snapshots_bytes -= self.snapshots.remove(at).response.payload.len();
    }

    fn incoming_at(&self, key: u64) -> Option<usize> {
        self.incoming.iter().position(|body| body.key == key)
    }
}

impl<A> Shared<A> {
    /// Names what is asked, by whichever block of it: requests that differ only in what no cache looks at are the same, and so
    /// are those that ask for another block of it. Bodies of the same are told apart by their Request-Tag.
    //= RFC7959 2.4, 2.5
    //= RFC9175 3.3
    pub(super) fn key(&self, method: Code, options: &Options) -> u64 {
        let is_out = |number: OptionNumber| {
            let of_block = matches!(number, OptionNumber::BLOCK1 | OptionNumber::BLOCK2);
            let of_message = matches!(number, OptionNumber::OBSERVE | OptionNumber::NO_RESPONSE | OptionNumber::ETAG);
            of_block || of_message || (!number.is_unsafe() && number.is_no_cache_key())
        };
        let named: Vec<_> = options.iter().filter(|(number, _)| !is_out(*number)).collect();
        self.secret.sign("key", &(method, named))
    }
}

impl Peer {
    /// The request, if all of its body is here and it is not for a block of what is kept; else that is seen to.
    pub(super) fn take_block<A: Address>(
        &mut self,
        serial: u64,
        request: Request,
        scope: &mut Scope<'_, A>,
    ) -> Option<Request> {
        if let Some(block) = request.options.block1() {
            return self.take_body(serial, request, block, scope);
        }
        let wanted = request.options.block2().filter(|block| block.number > 0 && request.method == Code::GET);
        let Some(block) = wanted else { return Some(request) };
        let key = scope.shared.key(request.method, &request.options);
        let snapshots = self.bodies.as_ref().map_or(&[][..], |bodies| &bodies.snapshots);
        let found = snapshots.iter().find(|snapshot| snapshot.key == key).map(|snapshot| snapshot.response.clone());
        let Some(whole) = found else { return Some(request) };
        let (at, asked) = self.take(serial, scope)?;
        let wanted = Wanted { token: asked.token, block: Some(block), key: None, unproven: Unproven::Challenge };
        let response = self.slice(wanted, whole, scope);
        self.say(at, &asked, response, Of::Exchange, scope);
        None
    }

    //= RFC7959 2.3, 2.5
    fn take_body<A: Address>(
        &mut self,
        serial: u64,
        request: Request,
        block: Block,
        scope: &mut Scope<'_, A>,
    ) -> Option<Request> {
        let Request { method, options, payload } = request;
        let bytes = payload.len();
        if bytes > block.bytes() || (block.more && bytes < block.bytes()) {
            let response = Response::refusal(Code::BAD_REQUEST, "a block of another size than it says");
            self.respond(serial, response, scope);
            return None;
        }
        let key = scope.shared.key(method, &options);
        let size = options.size1().and_then(|size| usize::try_from(size).ok());
        let options = options.without(|number| number == OptionNumber::BLOCK1);
        if block.number > 0 {
            let payload = self.append(serial, key, block, &payload, scope)?;
            return Some(Request { method, options, payload });
        }
        // Whatever was begun of it begins anew.
        if let Some(bodies) = &mut self.bodies
            && let Some(at) = bodies.incoming_at(key)
        {
            bodies.drop_incoming(at, &mut scope.shared.held);
        }
        if !block.more {
            return Some(Request { method, options, payload });
        }
        let bytes_max = scope.shared.limits.body_bytes_max;
        if size.unwrap_or(bytes).max(bytes) > bytes_max {
            self.respond(serial, too_large(bytes_max), scope);
            return None;
        }
        let at = self.find(serial)?;
        if let Stage::Asked(asked) = &mut self.exchanges[at].stage {
            asked.first = Some(payload);
        }
        let ticket = Ticket { peer: scope.address.clone(), serial };
        scope.put(Output::Begin { ticket, request: Request { method, options, payload: Bytes::new() } });
        None
    }

    /// The body, if this was its last block.
    //= RFC7959 2.5, 2.9.2, 2.9.3
    fn append<A: Address>(
        &mut self,
        serial: u64,
        key: u64,
        block: Block,
        payload: &[u8],
        scope: &mut Scope<'_, A>,
    ) -> Option<Bytes> {
        let limits = scope.shared.limits;
        let found = self.bodies.as_mut().and_then(|bodies| bodies.incoming_at(key).map(|at| (bodies, at)));
        let Some((bodies, at)) = found else {
            self.respond(serial, incomplete(), scope);
            return None;
        };
        let body = &mut bodies.incoming[at];
        body.expires = scope.now + limits.body_lifetime;
        let is_again = block.offset() == body.last && body.last + payload.len() == body.bytes.len() && block.more;
        let (bytes, bytes_max) = (body.bytes.len() + payload.len(), body.bytes_max);
        let refusal = if is_again {
            Response::of(Code::CONTINUE)
        } else if block.offset() != body.bytes.len() {
            incomplete()
        } else if bytes > bytes_max {
            too_large(bytes_max)
        } else if scope.shared.held.bodies_bytes + payload.len() > limits.bodies_bytes_max {
            no_room(limits.retry_after_seconds)
        } else {
            body.last = body.bytes.len();
            body.bytes.extend_from_slice(payload);
            scope.shared.held.bodies_bytes += payload.len();
            if !block.more {
                let whole = bodies.drop_incoming(at, &mut scope.shared.held).freeze();
                self.tidy_bodies();
                return Some(whole);
            }
            Response::of(Code::CONTINUE)
        };
        if !refusal.code.is_success() {
            bodies.drop_incoming(at, &mut scope.shared.held);
            self.tidy_bodies();
        }
        self.respond(serial, refusal, scope);
        None
    }

    pub(super) fn admit<A: Address>(&mut self, serial: u64, bytes_max: usize, scope: &mut Scope<'_, A>) -> bool {
        let limits = scope.shared.limits;
        let Some(at) = self.find(serial) else { return false };
        let Stage::Asked(asked) = &mut self.exchanges[at].stage else { return false };
        let Some(first) = asked.first.take() else { return false };
        let key = scope.shared.key(asked.method, &asked.options);
        let size = asked.options.size1().and_then(|size| usize::try_from(size).ok());
        let bytes_max = bytes_max.min(limits.body_bytes_max);
        let response = if size.unwrap_or(0).max(first.len()) > bytes_max {
            too_large(bytes_max)
        } else if scope.shared.held.bodies_bytes + first.len() > limits.bodies_bytes_max {
            no_room(limits.retry_after_seconds)
        } else {
            let bodies = self.bodies.get_or_insert_default();
            // Another first block may have come meanwhile.
            if let Some(at) = bodies.incoming_at(key) {
                bodies.drop_incoming(at, &mut scope.shared.held);
            }
            while bodies.incoming.len() >= limits.bodies_per_peer_max.max(1) {
                bodies.drop_incoming(0, &mut scope.shared.held);
            }
            scope.shared.held.bodies_bytes += first.len();
            let bytes = BytesMut::from(&first[..]);
            let expires = scope.now + limits.body_lifetime;
            bodies.incoming.push(Incoming { key, bytes, bytes_max, last: 0, expires });
            Response::of(Code::CONTINUE)
        };
        self.respond(serial, response, scope)
    }

    /// Keeps a body of which the first block was said, so that the others are of the same.
    //= RFC7959 2.4
    pub(super) fn keep<A: Address>(&mut self, key: u64, response: &Response, scope: &mut Scope<'_, A>) {
        let limits = scope.shared.limits;
        let held = &mut scope.shared.held;
        let bodies = self.bodies.get_or_insert_default();
        if let Some(at) = bodies.snapshots.iter().position(|snapshot| snapshot.key == key) {
            bodies.drop_snapshot(at, held);
        }
        let is_full = |bodies: &Bodies, held: &Held| {
            bodies.snapshots.len() >= limits.snapshots_per_peer_max
                || held.snapshots_bytes + response.payload.len() > limits.snapshots_bytes_max
        };
        while is_full(bodies, held) && !bodies.snapshots.is_empty() {
            bodies.drop_snapshot(0, held);
        }
        if !is_full(bodies, held) {
            // Which block it was, and of which notification, is not of the body.
            let options = response.options.without(|number| {
                matches!(number, OptionNumber::OBSERVE | OptionNumber::BLOCK1 | OptionNumber::BLOCK2)
            });
            let response = Response { options, ..response.clone() };
            held.snapshots_bytes += response.payload.len();
            bodies.snapshots.push(Snapshot { key, response, expires: scope.now + limits.body_lifetime });
        }
        self.tidy_bodies();
    }

    fn tidy_bodies(&mut self) {
        self.bodies.take_if(|bodies| bodies.incoming.is_empty() && bodies.snapshots.is_empty());
    }
}

//= RFC7959 2.9.2
fn incomplete() -> Response {
    Response::refusal(Code::REQUEST_ENTITY_INCOMPLETE, "a block is missing before this one")
}

//= RFC7959 2.9.3
fn too_large(bytes_max: usize) -> Response {
    let size = u32::try_from(bytes_max).unwrap_or(u32::MAX);
    let options = Options::NONE.with_uint(OptionNumber::SIZE1, size);
    Response { options, ..Response::refusal(Code::REQUEST_ENTITY_TOO_LARGE, "a body of too many bytes") }
}

fn no_room(retry_after_seconds: u32) -> Response {
    let options = Options::NONE.with_uint(OptionNumber::MAX_AGE, retry_after_seconds);
    Response { options, ..Response::refusal(Code::SERVICE_UNAVAILABLE, "no room for a body") }
}
