//! What a response becomes on its way to one peer: numbered, cut into blocks, left out where the client has it, and never more
//! than that peer may be sent.

use bytes::Bytes;

use crate::code::Code;
use crate::decode::HEADER_BYTES;
use crate::message::{Response, Token};
use crate::option::{Block, OptionNumber, Options};
use crate::secret::fingerprint;

use super::exchange::Asked;
use super::peer::Peer;
use super::{Address, Scope, Shared};

/// Bytes that a marker takes, and an `ETag`, a Block2 and a Size2 option at most.
const SLICE_BYTES_MAX: usize = 1 + 9 + 5 + 6;

/// What a response is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) token: Token,
    /// Which block of it.
    pub(super) block: Option<Block>,
    /// What was asked, where the other blocks are kept to be fetched.
    pub(super) key: Option<Key<'a>>,
    /// What is said where none of it may be.
    pub(super) unproven: Unproven,
}

/// What names what was asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'a> {
    Known(u64),
    /// Most responses are whole, and need no name.
    Of(&'a Asked),
}

impl Key<'_> {
    fn name<A>(self, shared: &Shared<A>) -> u64 {
        match self {
            Self::Known(key) => key,
            Self::Of(asked) => shared.key(asked.method, &asked.options),
        }
    }
}

/// What a peer is told that has not shown that it is where it says it is, where it may not be sent what it is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    /// To ask again, and show it: what it asked changes nothing.
    Challenge,
    /// How it went, and nothing else.
    Shorten,
    /// Nothing.
    Withhold,
}

impl Peer {
    /// The response to a request as it is said.
    pub(super) fn shape<A: Address>(
        &mut self,
        asked: &Asked,
        mut response: Response,
        sequence: Option<u32>,
        scope: &mut Scope<'_, A>,
    ) -> Response {
        //= RFC7252 5.10.6.2
        if response.code == Code::CONTENT && asked.options.etags().next().is_some() {
            response.options = tagged(response.options, &response.payload);
            let tag = response.options.first(OptionNumber::ETAG);
            if asked.options.etags().any(|known| Some(known) == tag) {
                response.code = Code::VALID;
                response.options = response.options.without(|number| number == OptionNumber::CONTENT_FORMAT);
                response.payload = Bytes::new();
            }
        }
        if let Some(sequence) = sequence {
            response.options = response.options.with_uint(OptionNumber::OBSERVE, sequence);
        }
        //= RFC7959 2.3, 2.5
        if let Some(block) = asked.block1 {
            let exponent = block.exponent.min(scope.shared.limits.block_exponent_max);
            response.options = response.options.with_uint(OptionNumber::BLOCK1, Block { exponent, ..block }.value());
        }
        let is_get = asked.method == Code::GET;
        let key = is_get.then_some(Key::Of(asked));
        let unproven = if is_get { Unproven::Challenge } else { Unproven::Shorten };
        // Whether there are more is for us to say.
        //= RFC7959 2.3
        let block = asked.options.block2();
        self.slice(Wanted { token: asked.token, block, key, unproven }, response, scope)
    }

    /// The block of a response that is wanted, or the first where it has more bytes than go at once.
    //= RFC7959 2.4, 2.6, 3.4
    pub(super) fn slice<A: Address>(
        &mut self,
        wanted: Wanted<'_>,
        response: Response,
        scope: &mut Scope<'_, A>,
    ) -> Response {
        let limits = scope.shared.limits;
        let bytes_max = self.trust.bytes_max(limits.amplification_max);
        let token = HEADER_BYTES + wanted.token.as_bytes().len();
        let head = token + response.options.as_bytes().len();
        let exponent_max =
            wanted.block.map_or(Block::EXPONENT_MAX, |block| block.exponent).min(limits.block_exponent_max);
        let (bytes, offset) = (response.payload.len(), wanted.block.map_or(0, Block::offset));
        if !response.code.is_success() || response.payload.is_empty() {
            return shortened(response, token, bytes_max);
        }
        if offset >= bytes {
            return shortened(Response::refusal(Code::BAD_REQUEST, "no such block"), token, bytes_max);
        }
        if wanted.block.is_none() && bytes <= 16 << exponent_max && head + 1 + bytes <= bytes_max {
            return response;
        }
        //= RFC9175 2.4
        // Who has not shown where it is gets no more than it pays for: smaller blocks, each for a request.
        let room = bytes_max.saturating_sub(head + SLICE_BYTES_MAX);
        let exponent = (0..=exponent_max).rev().find(|exponent| (bytes - offset).min(16 << exponent) <= room);
        let exponent = match (exponent, wanted.unproven) {
            (Some(exponent), _) => exponent,
            (None, Unproven::Challenge) => {
                return shortened(challenge(scope), token, bytes_max);
            }
            (None, Unproven::Shorten) => return shortened(response, token, bytes_max),
            // It is not sent.
            (None, Unproven::Withhold) => 0,
        };
        let end = bytes.min(offset + (16 << exponent));
        let number = u32::try_from(offset >> (exponent + 4)).ok().filter(|number| *number <= Block::NUMBER_MAX);
        let Some(number) = number else {
            return Response::refusal(Code::INTERNAL_SERVER_ERROR, "more blocks than can be said");
        };
        let block = Block { number, more: end < bytes, exponent };
        let whole = Response { options: tagged(response.options, &response.payload), ..response };
        if let Some(key) = wanted.key.filter(|_| block.more && offset == 0) {
            self.keep(key.name(scope.shared), &whole, scope);
        }
        let mut options = whole.options.with_uint(OptionNumber::BLOCK2, block.value());
        if offset == 0 {
            //= RFC7959 4
            options = options.with_uint(OptionNumber::SIZE2, u32::try_from(bytes).unwrap_or(u32::MAX));
        }
        Response { options, payload: whole.payload.slice(offset..end), ..whole }
    }
}

/// What is said to one that is to show where it is first.
//= RFC9175 2.3, 2.4
pub(super) fn challenge<A: Address>(scope: &mut Scope<'_, A>) -> Response {
    scope.shared.counts.unproven += 1;
    let options = Options::NONE.with(OptionNumber::ECHO, &scope.echo());
    Response { options, ..Response::of(Code::UNAUTHORIZED) }
}

/// With a name for the representation, the same wherever it is made.
//= RFC7252 5.10.6.1
fn tagged(options: Options, payload: &[u8]) -> Options {
    if options.first(OptionNumber::ETAG).is_some() {
        return options;
    }
    let format = options.first(OptionNumber::CONTENT_FORMAT).map(fingerprint);
    let tag = fingerprint(payload) ^ format.unwrap_or_default();
    options.with(OptionNumber::ETAG, &tag.to_be_bytes())
}

/// Without what would be more than may be sent: words for people first, then all but the outcome.
fn shortened(response: Response, head: usize, bytes_max: usize) -> Response {
    let head = head + response.options.as_bytes().len();
    if head + 1 + response.payload.len() <= bytes_max {
        response
    } else if head <= bytes_max {
        Response { payload: Bytes::new(), ..response }
    } else {
        Response::of(response.code)
    }
}
