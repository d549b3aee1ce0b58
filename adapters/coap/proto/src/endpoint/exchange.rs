//! Requests and what becomes of them: asked once however often they come, and answered in the message that is due.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::code::Code;
use crate::message::{Carried, Message, MessageId, Request, Response, Token};
use crate::option::{Block, Observe, OptionNumber, Options};

use super::confirm::Of;
use super::observe::Observation;
use super::peer::Peer;
use super::{Address, Ending, Head, Output, Scope, Shared, Ticket, bytes_of, is_quiet};

/// A request that came, as long as copies of it may come.
#[derive(Debug)]
pub(super) struct Exchange {
    id: MessageId,
    /// Of the whole datagram: a device that begins to count again after a restart sends no copies.
    fingerprint: u64,
    expires: Instant,
    pub(super) stage: Stage,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// It is being answered.
    Asked(Box<Asked>),
    /// It was answered, and this is what a copy is told: nothing, where it awaits nothing.
    Answered { reply: Bytes, is_refusal: bool },
}

impl Exchange {
    /// Whether it was refused before anything was done.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self.stage, Stage::Answered { is_refusal: true, .. })
    }

    fn is_asked(&self) -> bool {
        matches!(self.stage, Stage::Asked(_))
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) serial: u64,
    pub(super) token: Token,
    is_confirmable: bool,
    /// When it is acknowledged without a response; nothing once it is.
    acknowledge_at: Option<Instant>,
    pub(super) method: Code,
    pub(super) options: Options,
    /// Which block of its body has come with it.
    pub(super) block1: Option<Block>,
    /// That block, where it is the first of several.
    pub(super) first: Option<Bytes>,
}

impl Asked {
    /// Whether it asks to be told of what comes.
    //= RFC7641 2
    pub(super) fn registers(&self) -> bool {
        self.method == Code::GET && self.options.observe() == Some(Observe::Register)
    }
}

impl Peer {
    /// Whether this was asked before; then a copy is told what the first was told, or waits with it.
    //= RFC7252 4.2, 4.3, 4.5
    pub(super) fn handle_copy<A: Address>(&mut self, head: &Head, scope: &mut Scope<'_, A>) -> bool {
        let is_copy = |exchange: &&Exchange| {
            exchange.id == head.id && exchange.fingerprint == head.fingerprint && scope.now < exchange.expires
        };
        let Some(exchange) = self.exchanges.iter().rev().find(is_copy) else { return false };
        scope.shared.counts.copies += 1;
        let reply = match &exchange.stage {
            Stage::Asked(asked) if asked.is_confirmable && asked.acknowledge_at.is_none() => {
                bytes_of(&Message::Acknowledgement(head.id))
            }
            Stage::Asked(_) => Bytes::new(),
            Stage::Answered { reply, .. } => reply.clone(),
        };
        self.trust.earn(head.bytes, scope.shared.limits.amplification_max);
        if !reply.is_empty() {
            self.send(reply, scope);
        }
        true
    }

    pub(super) fn handle_request<A: Address>(&mut self, head: Head, request: Request, scope: &mut Scope<'_, A>) {
        self.trust.earn(head.bytes, scope.shared.limits.amplification_max);
        //= RFC9175 2.3
        if request.options.echo().is_some_and(|value| scope.is_echo(value)) {
            self.trust.show(scope.now + scope.shared.limits.exchange_lifetime);
        }
        //= RFC7641 3.6, 4.1
        if request.method == Code::GET && request.options.observe() == Some(Observe::Deregister) {
            self.end_token(head.token, Ending::Deregistered, scope);
            self.withdraw(head.token);
        }
        let serial = self.begin(&head, &request, scope);
        if let Some(request) = self.take_block(serial, request, scope) {
            let ticket = Ticket { peer: scope.address.clone(), serial };
            scope.put(Output::Request { ticket, request });
        }
    }

    /// What is asked under this token does not register any more.
    //= RFC7641 3.6
    fn withdraw(&mut self, token: Token) {
        for exchange in &mut self.exchanges {
            if let Stage::Asked(asked) = &mut exchange.stage
                && asked.token == token
                && asked.registers()
            {
                asked.options = asked.options.without(|number| number == OptionNumber::OBSERVE);
            }
        }
    }

    /// The observation of the same that a request is going to take the place of.
    //= RFC7641 3.3.1
    pub(super) fn renewed<A>(&self, serial: u64, shared: &Shared<A>) -> Option<&Observation> {
        let Stage::Asked(asked) = &self.exchanges.get(self.find(serial)?)?.stage else { return None };
        let key = asked.registers().then(|| shared.key(asked.method, &asked.options));
        let is_same = |of: &&Observation| of.token == asked.token && Some(of.key) == key;
        self.observations.iter().find(is_same)
    }

    /// Remembers a request from now on.
    fn begin<A: Address>(&mut self, head: &Head, request: &Request, scope: &mut Scope<'_, A>) -> u64 {
        let limits = scope.shared.limits;
        while self.exchanges.len() >= limits.exchanges_per_peer_max.max(1) && self.forget_oldest(scope.shared) {}
        let lifetime = if head.is_confirmable { limits.exchange_lifetime } else { limits.non_lifetime };
        let serial = scope.shared.serial();
        let asked = Asked {
            serial,
            token: head.token,
            is_confirmable: head.is_confirmable,
            acknowledge_at: head.is_confirmable.then(|| scope.now + limits.ack_delay_max),
            method: request.method,
            options: request.options.clone(),
            block1: request.options.block1(),
            first: None,
        };
        if self.exchanges.is_empty() {
            // Most have one at a time.
            self.exchanges.reserve_exact(1);
        }
        self.exchanges.push_back(Exchange {
            id: head.id,
            fingerprint: head.fingerprint,
            expires: scope.now + lifetime,
            stage: Stage::Asked(Box::new(asked)),
        });
        self.asked += 1;
        scope.shared.held.exchanges += 1;
        scope.shared.held.requests += 1;
        serial
    }

    /// Forgets the oldest request that is answered; whether there was one.
    pub(super) fn forget_oldest<A>(&mut self, shared: &mut Shared<A>) -> bool {
        let oldest = self.exchanges.iter().position(|exchange| !exchange.is_asked());
        let is_gone = oldest.and_then(|at| self.exchanges.remove(at)).is_some();
        shared.held.exchanges -= usize::from(is_gone);
        is_gone
    }

    /// Where the request of that name is, as long as it is not answered.
    pub(super) fn find(&self, serial: u64) -> Option<usize> {
        let is_it = |exchange: &Exchange| matches!(&exchange.stage, Stage::Asked(asked) if asked.serial == serial);
        // What is not answered is mostly what came last.
        self.exchanges.iter().rposition(is_it)
    }

    /// Takes a request to answer it: with where it is.
    pub(super) fn take<A: Address>(&mut self, serial: u64, scope: &mut Scope<'_, A>) -> Option<(usize, Box<Asked>)> {
        let at = self.find(serial)?;
        let answered = Stage::Answered { reply: Bytes::new(), is_refusal: false };
        let stage = std::mem::replace(&mut self.exchanges[at].stage, answered);
        self.asked -= 1;
        scope.shared.held.requests -= 1;
        match stage {
            Stage::Asked(asked) => Some((at, asked)),
            Stage::Answered { .. } => None,
        }
    }

    pub(super) fn respond<A: Address>(&mut self, serial: u64, response: Response, scope: &mut Scope<'_, A>) -> bool {
        let Some((at, asked)) = self.take(serial, scope) else { return false };
        if asked.registers() {
            // What is not confirmed is no observation, nor does the one before go on.
            //= RFC7641 4.1
            self.end_token(asked.token, Ending::Replaced, scope);
        }
        let response = self.shape(&asked, response, None, scope);
        self.say(at, &asked, response, Of::Exchange, scope);
        true
    }

    /// Says the response to a request that was taken, in the message that is due, and sees to what its copies are told.
    //= RFC7252 5.2.1, 5.2.2, 5.2.3
    //= RFC7641 4.5
    //= RFC7967 2
    pub(super) fn say<A: Address>(
        &mut self,
        at: usize,
        asked: &Asked,
        response: Response,
        of: Of,
        scope: &mut Scope<'_, A>,
    ) {
        let (id, token, code) = (self.exchanges[at].id, asked.token, response.code);
        let is_quiet = is_quiet(&asked.options, code);
        let acknowledgement = || bytes_of(&Message::Acknowledgement(id));
        let reply = match (asked.is_confirmable, asked.acknowledge_at) {
            (true, Some(_)) => {
                let piggybacked = || Message::Response { id, carried: Carried::Piggybacked, token, response };
                let reply = if is_quiet { acknowledgement() } else { bytes_of(&piggybacked()) };
                self.send(reply.clone(), scope);
                reply
            }
            (true, None) => {
                if !is_quiet {
                    let id = self.ids.next(scope.now);
                    let message = Message::Response { id, carried: Carried::Confirmable, token, response };
                    self.confirm(id, bytes_of(&message), of, scope);
                }
                acknowledgement()
            }
            (false, _) => {
                if !is_quiet {
                    let id = self.ids.next(scope.now);
                    if let Of::Registration(serial) = of {
                        self.notified.remember(id, serial, scope.shared.limits.notifications_remembered_max);
                    }
                    let message = Message::Response { id, carried: Carried::NonConfirmable, token, response };
                    self.send(bytes_of(&message), scope);
                }
                Bytes::new()
            }
        };
        // To ask again for what changes nothing is cheaper than to keep it.
        //= RFC7252 4.5
        if asked.method == Code::GET && reply.len() > scope.shared.limits.reply_bytes_max {
            self.exchanges.remove(at);
            scope.shared.held.exchanges -= 1;
        } else {
            self.exchanges[at].stage = Stage::Answered { reply, is_refusal: code.class() == 4 };
        }
    }

    /// Acknowledges what is not answered in time; the response will come in a message of its own.
    //= RFC7252 5.2.2
    pub(super) fn acknowledge_slow<A: Address>(&mut self, scope: &mut Scope<'_, A>) {
        if self.asked == 0 {
            return;
        }
        for at in 0..self.exchanges.len() {
            let Exchange { id, stage: Stage::Asked(asked), .. } = &mut self.exchanges[at] else { continue };
            if asked.acknowledge_at.take_if(|due| *due <= scope.now).is_some() {
                let datagram = bytes_of(&Message::Acknowledgement(*id));
                self.send(datagram, scope);
            }
        }
    }

    /// When the next of them is to be acknowledged or forgotten.
    pub(super) fn next_of_exchanges(&self) -> Option<Instant> {
        let oldest = self.exchanges.front().map(|exchange| exchange.expires);
        let asked = self.exchanges.iter().rev().filter_map(|exchange| match &exchange.stage {
            Stage::Asked(asked) => Some(asked.acknowledge_at),
            Stage::Answered { .. } => None,
        });
        // No further back than they go.
        oldest.into_iter().chain(asked.take(self.asked).flatten()).min()
    }

    /// Forgets what no copy of can come any more. One that nobody ever answered goes with them.
    pub(super) fn expire_exchanges<A: Address>(&mut self, scope: &mut Scope<'_, A>) {
        let before = self.exchanges.len();
        let now = scope.now;
        self.exchanges.retain(|exchange| now < exchange.expires);
        if self.exchanges.is_empty() {
            self.exchanges = VecDeque::new();
        }
        scope.shared.held.exchanges -= before - self.exchanges.len();
        let asked = self.exchanges.iter().filter(|exchange| exchange.is_asked()).count();
        scope.shared.held.requests -= self.asked - asked;
        self.asked = asked;
    }
}
