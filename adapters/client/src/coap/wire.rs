//! What messages of CoAP say: where a request goes, blocks of a body, content formats, and which notification is newer.
//!
//! Pure: no socket, no clock, no randomness.

use std::time::Duration;

use coap_lite::option_value::{OptionValueU16, OptionValueU32};
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use crate::Address;
use crate::error::{ClientError, Status};

/// Proves that who asks gets what is sent to its address.
//= RFC9175 2.2.1
pub(super) const ECHO: CoapOption = CoapOption::Unknown(252);
/// Bytes of a segment of the path, of an argument of the query, and of a host.
//= RFC7252 5.10
const OPTION_BYTES_MAX: usize = 255;
/// Bytes of what precedes a block of payload in a datagram.
const HEAD_BYTES_MAX: usize = 32 * 1_024;
/// How long a notification holds if it does not say.
//= RFC7252 5.10.5
const MAX_AGE_SECONDS: u32 = 60;
/// How long it is believed to hold at most, in seconds.
const MAX_AGE_SECONDS_MAX: u32 = 86_400;

/// The content formats that are known, and what they are called elsewhere.
//= RFC7252 12.3
const FORMATS: [(u16, &str); 6] = [
    (110, "application/senml+json"),
    (112, "application/senml+cbor"),
    (50, "application/json"),
    (60, "application/cbor"),
    (42, "application/octet-stream"),
    (0, "text/plain"),
];

/// The number of a content type.
pub(super) fn content_format(content_type: &str) -> Result<u16, ClientError> {
    const NONE: ClientError = ClientError::Setup(
        "CoAP has no number for this content type: application/senml+json, application/senml+cbor, application/json, \
         application/cbor, application/octet-stream or text/plain in UTF-8 can be said",
    );
    let (name, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let found = FORMATS.iter().find(|(_, known)| known.eq_ignore_ascii_case(name.trim()));
    let (number, _) = found.ok_or(NONE)?;
    let parameters = parameters.trim().to_ascii_lowercase();
    let is_said = match number {
        0 | 50 => matches!(parameters.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\""),
        _ => parameters.is_empty(),
    };
    if is_said { Ok(*number) } else { Err(NONE) }
}

/// What a number is called elsewhere, if that is known here.
pub(super) fn content_type(number: u16) -> Option<&'static str> {
    if number == 0 {
        return Some("text/plain;charset=utf-8");
    }
    FORMATS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// The number of a message's content format.
pub(super) fn format_of(packet: &Packet) -> Option<u16> {
    packet.get_first_option_as::<OptionValueU16>(CoapOption::ContentFormat)?.ok().map(|value| value.0)
}

/// The code of a message, as it carries it.
pub(super) fn code_of(packet: &Packet) -> u8 {
    packet.header.code.into()
}

/// Whether a message answers a request.
//= RFC7252 12.1
pub(super) fn is_response(packet: &Packet) -> bool {
    matches!(code_of(packet) >> 5, 2 | 4 | 5)
}

/// Whether it is one that says yes.
pub(super) fn is_success(packet: &Packet) -> bool {
    code_of(packet) >> 5 == 2
}

/// Whether nothing in a response has to be understood that is not here.
//= RFC7252 5.4.1
pub(super) fn is_understood(packet: &Packet) -> bool {
    // Where it went is repeated by some, and blocks are read.
    packet.options().all(|(number, _)| number % 2 == 0 || matches!(number, 3 | 7 | 11 | 15 | 17 | 23 | 27))
}

/// What a response says that refuses, and why.
pub(super) fn refusal(packet: &Packet) -> (Status, String) {
    //= RFC7252 5.5.2
    let words = String::from_utf8_lossy(&packet.payload).into_owned();
    let detail = if words.is_empty() { "no reason given".to_owned() } else { words };
    (Status::Coap(code_of(packet)), detail)
}

/// The option, if it is a number of at most 24 bits.
pub(super) fn observe_of(packet: &Packet) -> Option<u32> {
    packet.get_observe_value()?.ok().filter(|number| *number < 1 << 24)
}

/// How long what a response says holds.
pub(super) fn max_age(packet: &Packet) -> Duration {
    let said = packet.get_first_option_as::<OptionValueU32>(CoapOption::MaxAge).and_then(Result::ok);
    let seconds = said.map_or(MAX_AGE_SECONDS, |value| value.0);
    Duration::from_secs(seconds.min(MAX_AGE_SECONDS_MAX).into())
}

/// A message without content, about another: an acknowledgement or a reset.
pub(super) fn about(kind: MessageType, id: u16) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = MessageClass::Empty;
    packet.header.message_id = id;
    packet
}

/// The datagram of a message, of so many bytes at most.
pub(super) fn datagram(packet: &Packet, bytes_max: usize) -> Result<Vec<u8>, ClientError> {
    packet
        .to_bytes_with_limit(bytes_max.min(HEAD_BYTES_MAX + packet.payload.len()))
        .map_err(|_| ClientError::Setup("the topic is longer than a datagram of CoAP can say"))
}

/// What requests to one address have in common. Not `Debug`: it holds the key.
#[derive(Clone)]
pub(super) struct Target {
    /// The server's name, unless that is an address.
    host: Option<String>,
    path: Vec<String>,
    query: Option<String>,
}

impl Target {
    /// Of `address` on a server; with a key, where that is not said by other means.
    pub(super) fn new(host: Option<&str>, address: &Address, key: Option<&str>) -> Result<Self, ClientError> {
        let path: Vec<String> = address.segments().map(str::to_owned).collect();
        let query = key.map(|key| format!("auth={}", utf8_percent_encode(key, NON_ALPHANUMERIC)));
        if path.iter().any(|segment| segment.len() > OPTION_BYTES_MAX) {
            return Err(ClientError::Setup("over CoAP a channel and each level of a topic have at most 255 bytes"));
        }
        if query.as_ref().is_some_and(|query| query.len() > OPTION_BYTES_MAX) {
            return Err(ClientError::Setup("the key is longer than CoAP can say"));
        }
        Ok(Self { host: host.map(str::to_owned), path, query })
    }

    /// A request, without a token, a message id or content.
    //= RFC7252 6.4
    pub(super) fn request(&self, method: RequestType) -> Packet {
        let mut packet = Packet::new();
        packet.header.set_type(MessageType::Confirmable);
        packet.header.code = MessageClass::Request(method);
        if let Some(host) = &self.host {
            packet.add_option(CoapOption::UriHost, host.clone().into_bytes());
        }
        for segment in &self.path {
            packet.add_option(CoapOption::UriPath, segment.clone().into_bytes());
        }
        if let Some(query) = &self.query {
            packet.add_option(CoapOption::UriQuery, query.clone().into_bytes());
        }
        packet
    }
}

/// Which block of a body. The library's own counts no more than 4,096 of them.
//= RFC7959 2.2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) number: u32,
    pub(super) more: bool,
    /// 0 to 6, for 16 to 1,024 bytes.
    pub(super) exponent: u8,
}

impl Block {
    /// Of the largest blocks.
    pub(super) const EXPONENT_MAX: u8 = 6;
    const NUMBER_MAX: usize = (1 << 20) - 1;

    /// The one that a message carries.
    pub(super) fn of(packet: &Packet, option: CoapOption) -> Option<Self> {
        let OptionValueU32(value) = packet.get_first_option_as(option)?.ok()?;
        let exponent = u8::try_from(value & 7).ok().filter(|exponent| *exponent <= Self::EXPONENT_MAX)?;
        let number = value >> 4;
        (value < 1 << 24).then_some(Self { number, more: value & 8 != 0, exponent })
    }

    pub(super) fn add_to(self, packet: &mut Packet, option: CoapOption) {
        let value = self.number << 4 | u32::from(self.more) << 3 | u32::from(self.exponent);
        packet.clear_option(option);
        packet.add_option_as(option, OptionValueU32(value));
    }

    pub(super) const fn bytes(self) -> usize {
        16 << self.exponent
    }

    pub(super) const fn offset(self) -> usize {
        (self.number as usize) << (self.exponent + 4)
    }
}

/// A body on its way to the server.
//= RFC7959 2.5
pub(super) struct Body<'a> {
    bytes: &'a [u8],
    offset: usize,
    exponent: u8,
}

impl<'a> Body<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, exponent: Block::EXPONENT_MAX }
    }

    /// The next block and which it is; nothing where the body goes as a whole.
    pub(super) fn next(&self) -> Result<(&'a [u8], Option<Block>), ClientError> {
        let size = 16 << self.exponent;
        let end = self.bytes.len().min(self.offset + size);
        let part = &self.bytes[self.offset..end];
        if part.len() == self.bytes.len() {
            return Ok((part, None));
        }
        let number = u32::try_from(self.offset / size).ok().filter(|number| *number as usize <= Block::NUMBER_MAX);
        let number = number.ok_or(ClientError::Setup("the payload has more blocks than CoAP can count"))?;
        Ok((part, Some(Block { number, more: end < self.bytes.len(), exponent: self.exponent })))
    }

    /// How large it is.
    pub(super) fn size(&self) -> OptionValueU32 {
        OptionValueU32(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX))
    }

    /// The server has this block, and answers with the size that it wants.
    pub(super) fn advance(&mut self, sent: Block, answered: Option<Block>) {
        self.offset = sent.offset() + sent.bytes();
        self.exponent = answered.map_or(sent.exponent, |answered| answered.exponent.min(sent.exponent));
    }

    /// The server takes the first block only if it is smaller; whether there is such a one.
    //= RFC7959 2.9.3
    pub(super) fn shrink(&mut self, wanted: Option<Block>) -> bool {
        let smaller = wanted.map(|block| block.exponent).filter(|exponent| *exponent < self.exponent);
        let is_first = self.offset == 0;
        self.exponent = smaller.filter(|_| is_first).unwrap_or(self.exponent);
        smaller.is_some() && is_first
    }
}

/// Which notification was the newest.
#[derive(Debug, Default)]
pub(super) struct Newest(Option<(u32, Instant)>);

impl Newest {
    /// After so long any number is newer.
    const AGE: Duration = Duration::from_secs(128);

    /// Whether one with this number is newer, which it is from now on.
    //= RFC7641 3.4
    pub(super) fn replace(&mut self, number: u32, now: Instant) -> bool {
        const HALF: u32 = 1 << 23;
        let is_newer = self.0.is_none_or(|(last, at)| {
            (last < number && number - last < HALF)
                || (last > number && last - number > HALF)
                || now.saturating_duration_since(at) > Self::AGE
        });
        if is_newer {
            self.0 = Some((number, now));
        }
        is_newer
    }
}

/// How long an acknowledgement is waited for, each time.
//= RFC7252 4.2
pub(super) struct Patience {
    next: Duration,
    left: u8,
}

impl Patience {
    const ACK_TIMEOUT: Duration = Duration::from_secs(2);
    /// What is added to that, at most, in halves of it.
    const ACK_RANDOM_PERCENT_MAX: u32 = 50;
    const RETRANSMITS_MAX: u8 = 4;

    /// `chance` spreads the first over what is allowed.
    //= RFC7252 4.8
    pub(super) fn new(chance: u8) -> Self {
        let percent = u32::from(chance) * Self::ACK_RANDOM_PERCENT_MAX / u32::from(u8::MAX);
        Self { next: Self::ACK_TIMEOUT + Self::ACK_TIMEOUT * percent / 100, left: Self::RETRANSMITS_MAX + 1 }
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let now = self.next;
        self.next *= 2;
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_the_same_both_ways() {
        for (number, _) in FORMATS {
            assert_eq!(content_format(content_type(number).unwrap()).unwrap(), number);
        }
        assert_eq!(content_type(40), None);
        let check = |name: &str, expected: Option<u16>| assert_eq!(content_format(name).ok(), expected, "{name}");
        check("Application/JSON; charset=UTF-8", Some(50));
        check("application/senml+json", Some(110));
        check("text/plain;charset=iso-8859-1", None);
        check("application/cbor;a=b", None);
        check("image/png", None);
        check("", None);
    }

    #[test]
    fn a_request_says_where_it_goes_and_who_asks() {
        let address = Address::new("lab.telemetry", "a b//%");
        let target = Target::new(Some("gate.test"), &address, Some("k=%ü")).unwrap();
        let packet = Packet::from_bytes(&datagram(&target.request(RequestType::Get), 100).unwrap()).unwrap();
        let said = |option: CoapOption| {
            let values = packet.get_option(option).into_iter().flatten();
            values.map(|value| String::from_utf8(value.clone()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(said(CoapOption::UriHost), ["gate.test"]);
        assert_eq!(said(CoapOption::UriPath), ["channels", "lab.telemetry", "messages", "a b", "%"]);
        assert_eq!(said(CoapOption::UriQuery), ["auth=k%3D%25%C3%BC"]);
    }

    #[test]
    fn what_an_option_cannot_hold_is_not_sent() {
        let level = "x".repeat(256);
        assert!(Target::new(None, &Address::new("a.b", &level), None).is_err());
        assert!(Target::new(None, &Address::new("a.b", &level[1..]), None).is_ok());
        assert!(Target::new(None, &Address::new("a.b", ""), Some(&level[5..])).is_err());
        let long = vec![&level[1..]; 129].join("/");
        let packet = Target::new(None, &Address::new("a.b", &long), None).unwrap().request(RequestType::Post);
        assert!(datagram(&packet, 65_535).is_err());
        let packet = Target::new(None, &Address::new("a.b", &level[1..]), None).unwrap().request(RequestType::Post);
        let bytes = datagram(&packet, 65_535).unwrap().len();
        assert!(datagram(&packet, bytes).is_ok() && datagram(&packet, bytes - 1).is_err());
    }

    #[test]
    fn a_block_is_read_as_it_was_written() {
        for block in [
            Block { number: 0, more: false, exponent: 0 },
            Block { number: 1, more: true, exponent: 6 },
            Block { number: (1 << 20) - 1, more: true, exponent: 5 },
        ] {
            let mut packet = Packet::new();
            block.add_to(&mut packet, CoapOption::Block1);
            assert_eq!(Block::of(&packet, CoapOption::Block1), Some(block));
        }
        let mut packet = Packet::new();
        packet.add_option(CoapOption::Block2, vec![7]);
        assert_eq!(Block::of(&packet, CoapOption::Block2), None);
    }

    /// The blocks of a body, where the server answers each with the exponent that it wants.
    fn blocks(bytes: usize, exponent: u8) -> Vec<(u32, bool, usize, usize)> {
        let bytes = vec![0; bytes];
        let mut body = Body::new(&bytes);
        let mut said = Vec::new();
        loop {
            let (part, block) = body.next().unwrap();
            let Some(block) = block else { return vec![(0, false, part.len(), 0)] };
            said.push((block.number, block.more, part.len(), block.bytes()));
            if !block.more {
                return said;
            }
            body.advance(block, Some(Block { exponent, ..block }));
        }
    }

    //= RFC7959 2.3
    #[test]
    fn a_body_goes_in_blocks_of_the_size_that_the_server_wants() {
        assert_eq!(blocks(0, 6), [(0, false, 0, 0)]);
        assert_eq!(blocks(1_024, 6), [(0, false, 1_024, 0)]);
        assert_eq!(blocks(1_025, 6), [(0, true, 1_024, 1_024), (1, false, 1, 1_024)]);
        assert_eq!(blocks(2_048, 6), [(0, true, 1_024, 1_024), (1, false, 1_024, 1_024)]);
        assert_eq!(blocks(1_600, 5), [(0, true, 1_024, 1_024), (2, true, 512, 512), (3, false, 64, 512)]);
    }

    #[test]
    fn only_the_first_block_shrinks() {
        let bytes = [0; 3_000];
        let mut body = Body::new(&bytes);
        let block = body.next().unwrap().1.unwrap();
        assert!(!body.shrink(None) && !body.shrink(Some(block)));
        assert!(body.shrink(Some(Block { exponent: 2, ..block })));
        assert_eq!(body.next().unwrap().1, Some(Block { number: 0, more: true, exponent: 2 }));
        body.advance(Block { exponent: 2, ..block }, None);
        assert!(!body.shrink(Some(Block { exponent: 1, ..block })));
    }

    //= RFC7641 3.4
    #[test]
    fn a_notification_is_newer_within_half_the_round_or_after_a_while() {
        #[expect(clippy::disallowed_methods, reason = "some time has to be the first")]
        let begin = Instant::now();
        let check = |last: u32, number: u32, seconds: u64, expected: bool| {
            let mut newest = Newest::default();
            assert!(newest.replace(last, begin));
            let is_newer = newest.replace(number, begin + Duration::from_secs(seconds));
            assert_eq!(is_newer, expected, "{last} {number} {seconds}");
        };
        check(0, 1, 0, true);
        check(5, 5, 0, false);
        check(5, 4, 0, false);
        check((1 << 24) - 1, 0, 0, true);
        check(0, (1 << 24) - 1, 0, false);
        check(5, 4, 128, false);
        check(5, 4, 129, true);
    }

    //= RFC7252 4.8.2
    #[test]
    fn patience_doubles_and_ends() {
        let seconds = |chance| Patience::new(chance).map(|span| span.as_secs_f32()).collect::<Vec<_>>();
        assert_eq!(seconds(0), [2.0, 4.0, 8.0, 16.0, 32.0]);
        assert_eq!(seconds(255), [3.0, 6.0, 12.0, 24.0, 48.0]);
    }

    proptest::proptest! {
        #[test]
        fn no_datagram_breaks_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            if let Ok(packet) = Packet::from_bytes(&bytes) {
                let _ = (is_response(&packet), is_understood(&packet), refusal(&packet), observe_of(&packet));
                let _ = (max_age(&packet), format_of(&packet), Block::of(&packet, CoapOption::Block2));
            }
        }
    }
}
