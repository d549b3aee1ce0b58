//! Datagrams to messages and back: examples of the standards, wrong ones, whatever comes, and another codec beside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod message;

use bytes::{Bytes, BytesMut};
use message::message;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_coap_proto::*;

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn written(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    encode(message, &mut out);
    out.freeze()
}

//= RFC7252 3, 3.1, 4.1, 4.2, 4.3, 5.3.1
//= RFC8974 2.2.2
#[test]
fn each_vector_is_read_and_written_again_or_rejected_as_the_standard_says() {
    let vectors = include_str!("vectors.txt").lines().filter(|line| !line.starts_with('#'));
    for line in vectors {
        let (verdict, rest) = line.split_at(8);
        let (hex, _) = rest.split_at(rest.find("   ").unwrap_or(52));
        let datagram = bytes(hex);
        match (verdict.trim(), decode(&datagram)) {
            ("legal", Ok(message)) => assert_eq!(written(&message), datagram, "{line}"),
            ("silence", Err(error)) => assert_eq!(error.rejection, Rejection::Silence, "{line}"),
            ("reset", Err(error)) => {
                let id = MessageId(u16::from_be_bytes([datagram[2], datagram[3]]));
                assert_eq!(error.rejection, Rejection::Reset(id), "{line}");
            }
            (_, outcome) => panic!("{line}: {outcome:?}"),
        }
    }
}

//= RFC7252 5.4.1, 5.4.2, 5.4.6
#[test]
fn a_number_says_what_an_option_is_worth() {
    let told = |number: OptionNumber| (number.is_critical(), number.is_unsafe(), number.is_no_cache_key());
    // RFC 7252 5.10, RFC 7641 2, RFC 7959 2.1 and 4, RFC 7967 2, RFC 9175 2.2.1 and 3.2.1
    let table = [
        (OptionNumber::IF_MATCH, (true, false, false)),
        (OptionNumber::URI_HOST, (true, true, false)),
        (OptionNumber::ETAG, (false, false, false)),
        (OptionNumber::IF_NONE_MATCH, (true, false, false)),
        (OptionNumber::OBSERVE, (false, true, false)),
        (OptionNumber::URI_PORT, (true, true, false)),
        (OptionNumber::LOCATION_PATH, (false, false, false)),
        (OptionNumber::URI_PATH, (true, true, false)),
        (OptionNumber::CONTENT_FORMAT, (false, false, false)),
        (OptionNumber::MAX_AGE, (false, true, false)),
        (OptionNumber::URI_QUERY, (true, true, false)),
        (OptionNumber::ACCEPT, (true, false, false)),
        (OptionNumber::LOCATION_QUERY, (false, false, false)),
        (OptionNumber::BLOCK2, (true, true, false)),
        (OptionNumber::BLOCK1, (true, true, false)),
        (OptionNumber::SIZE2, (false, false, true)),
        (OptionNumber::PROXY_URI, (true, true, false)),
        (OptionNumber::PROXY_SCHEME, (true, true, false)),
        (OptionNumber::SIZE1, (false, false, true)),
        (OptionNumber::ECHO, (false, false, true)),
        (OptionNumber::NO_RESPONSE, (false, true, false)),
        (OptionNumber::REQUEST_TAG, (false, false, false)),
    ];
    for (number, expected) in table {
        assert_eq!(told(number), expected, "{number:?}");
    }
    let repeatable = (0..=300).map(OptionNumber).filter(|number| number.format().is_some() && number.is_repeatable());
    assert_eq!(repeatable.map(|number| number.0).collect::<Vec<_>>(), [1, 4, 8, 11, 15, 20, 292]);
}

//= RFC7252 3.2, 5.4.3, 5.4.5
#[test]
fn a_value_counts_when_it_is_legal_and_the_first() {
    let options: Options = [
        (OptionNumber::CONTENT_FORMAT, &[0, 110][..]),
        (OptionNumber::CONTENT_FORMAT, &[50]),
        (OptionNumber::MAX_AGE, &[0, 0, 0, 0, 60]),
        (OptionNumber::OBSERVE, &[]),
        (OptionNumber::SIZE1, &[0, 0, 1, 0]),
        (OptionNumber::NO_RESPONSE, &[26]),
        (OptionNumber::ETAG, b"123456789"),
        (OptionNumber::ETAG, b"12345678"),
    ]
    .into_iter()
    .collect();
    assert_eq!(options.content_format(), Some(ContentFormat::SENML_JSON));
    assert_eq!(options.max_age(), None, "five bytes");
    assert_eq!(options.observe(), Some(Observe::Register));
    assert_eq!(options.size1(), Some(256));
    assert_eq!(options.etags().collect::<Vec<_>>(), [b"12345678"]);
    let silent = [2, 4, 5].map(|class| options.no_response().has(class));
    assert_eq!((silent, options.no_response().has(3)), ([true; 3], false));
    assert_eq!(options.accept(), None);
}

//= RFC7959 2.2
#[test]
fn a_block_is_said_in_24_bits() {
    let block = Block::new(0x1a).unwrap();
    assert_eq!((block.number, block.more, block.bytes(), block.offset()), (1, true, 64, 64));
    assert_eq!(Block::new(0x0f), None, "the reserved size");
    assert_eq!(Block::new(1 << 24), None);
    for value in [0, 6, 8, 0xff_fff6, 0xff_fffe, 0x12_3452] {
        assert_eq!(Block::new(value).unwrap().value(), value);
    }
}

//= RFC7252 12.1.1, 12.1.2
#[test]
fn a_code_is_a_class_and_a_detail() {
    let said = [Code::GET, Code::IPATCH, Code::CONTENT, Code::CONTINUE, Code::TOO_MANY_REQUESTS, Code::from_byte(0xa5)];
    assert_eq!(said.map(|code| code.to_string()), ["0.01", "0.07", "2.05", "2.31", "4.29", "5.05"]);
    let of_class = |class: u8| (0..32).map(move |detail| Code::new(class, detail));
    assert!(of_class(0).skip(1).all(|code| code.is_request()) && !Code::EMPTY.is_request());
    assert!((2..6).flat_map(of_class).all(|code| code.is_response() && !code.is_request()));
    assert!([1, 6, 7].into_iter().flat_map(of_class).all(|code| !code.is_response() && !code.is_request()));
    assert!((0..=255).map(Code::from_byte).all(|code| Code::new(code.class(), code.detail()) == code));
    assert_eq!((0..=255).map(Code::from_byte).filter(|code| code.is_success()).count(), 32);
}

//= RFC7252 5.10, 5.10.1, 5.10.2, 5.10.3, 5.10.4, 5.10.5, 5.10.6, 5.10.7, 5.10.8.1, 5.10.8.2, 6.5, 12.3
//= RFC7641 2
//= RFC7959 2.1, 4
//= RFC9175 2.2.1, 3.2.1
#[test]
fn each_option_is_read_as_what_it_means() {
    let none = Options::NONE;
    assert!(none.accept().is_none() && none.max_age().is_none() && none.observe().is_none() && none.echo().is_none());
    assert!(none.block1().is_none() && none.size1().is_none() && !none.if_none_match() && !none.asks_proxy());
    let options = none
        .with(OptionNumber::URI_QUERY, b"auth=a=b")
        .with(OptionNumber::URI_PATH, b"channels")
        .with(OptionNumber::URI_PATH, b"a/b")
        .with(OptionNumber::URI_PATH, b"")
        .with(OptionNumber::URI_QUERY, b"")
        .with_uint(OptionNumber::CONTENT_FORMAT, 112)
        .with_uint(OptionNumber::ACCEPT, 0)
        .with_uint(OptionNumber::MAX_AGE, 86_400)
        .with_uint(OptionNumber::OBSERVE, 1)
        .with_uint(OptionNumber::BLOCK1, 0x1e)
        .with_uint(OptionNumber::BLOCK2, 0x06)
        .with_uint(OptionNumber::SIZE1, 1 << 20)
        .with_uint(OptionNumber::SIZE2, 0)
        .with(OptionNumber::ETAG, b"v1")
        .with(OptionNumber::IF_MATCH, b"")
        .with(OptionNumber::IF_NONE_MATCH, b"")
        .with(OptionNumber::LOCATION_PATH, b"here")
        .with(OptionNumber::LOCATION_QUERY, b"now")
        .with(OptionNumber::ECHO, b"12345678")
        .with(OptionNumber::REQUEST_TAG, b"")
        .with(OptionNumber::PROXY_SCHEME, b"http");
    let list = |values: &mut dyn Iterator<Item = &[u8]>| {
        values.map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>().join("|")
    };
    assert_eq!(list(&mut options.uri_path()), "channels|a/b|");
    assert_eq!(list(&mut options.uri_query()), "auth=a=b|");
    assert_eq!(list(&mut options.location_path().chain(options.location_query())), "here|now");
    assert_eq!(list(&mut options.etags().chain(options.if_match()).chain(options.request_tags())), "v1||");
    let formats = (options.content_format(), options.accept());
    assert_eq!(formats, (Some(ContentFormat::SENML_CBOR), Some(ContentFormat::TEXT)));
    assert_eq!((options.max_age(), options.observe()), (Some(86_400), Some(Observe::Deregister)));
    assert_eq!((options.size1(), options.size2()), (Some(1 << 20), Some(0)));
    let blocks = (options.block1().unwrap(), options.block2().unwrap());
    assert_eq!((blocks.0.number, blocks.0.more, blocks.0.bytes(), blocks.1.bytes()), (1, true, 1_024, 1_024));
    assert!(options.if_none_match() && options.asks_proxy());
    assert_eq!(options.echo(), Some(&b"12345678"[..]));
    assert_eq!(options.with_uint(OptionNumber::OBSERVE, 9).observe(), Some(Observe::Deregister), "the first counts");
}

#[test]
fn nothing_is_copied_and_no_credential_is_shown() {
    let datagram = bytes("40020001 b161 4d0b 617574683d6b65792d646576312d30313233343536373839 ff 7061796c6f6164");
    let within = datagram.as_ptr_range();
    let Message::Request { request, .. } = decode(&datagram).unwrap() else { panic!("no request") };
    assert!(within.contains(&request.payload.as_ptr()));
    let query = request.options.value_bytes(OptionNumber::URI_QUERY).next().unwrap();
    assert_eq!(query, "auth=key-dev1-0123456789");
    assert!(within.contains(&query.as_ptr()));
    let shown = format!("{request:?} {:?}", request.options);
    assert_eq!(shown, "Request { method: 0.02, .. } {Uri-Path: 1, Uri-Query: 24}");
}

/// What coap-lite makes of these bytes, written again.
fn by_another_codec(datagram: &[u8]) -> Option<Vec<u8>> {
    coap_lite::Packet::from_bytes(datagram).ok()?.to_bytes_with_limit(1 << 20).ok()
}

/// Where coap-lite takes what is no message, with the section that says so.
#[test]
fn another_codec_is_laxer_and_in_this() {
    let lax = [
        ("00010001", "3: a version other than 1 is ignored"),
        ("40010001ff", "3: a marker without a payload is a format error"),
        ("4100000120", "4.1: an empty message has no token"),
        ("4000000160", "4.1: and nothing else"),
        ("40200001", "4.2: class 1 is reserved"),
        ("70450001", "4.3: a reset is empty"),
        ("60010001", "4.3: an acknowledgement asks for nothing"),
    ];
    for (hex, why) in lax {
        let datagram = bytes(hex);
        assert!(decode(&datagram).is_err(), "{why}");
        // Should it learn: the row goes.
        assert!(coap_lite::Packet::from_bytes(&datagram).is_ok(), "{why}");
    }
}

/// Numbers of options that are anything but equal are said in one way only.
fn option_bytes(options: &[(u16, Vec<u8>)]) -> Options {
    options.iter().map(|(number, value)| (OptionNumber(*number), value)).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(message in message()) {
        prop_assert_eq!(decode(&written(&message)), Ok(message));
    }

    /// There is one spelling of each message, so that the bytes are the same too.
    #[test]
    fn what_is_read_is_written_as_it_was_and_nothing_panics(datagram in vec(any::<u8>(), 0..40), first in any::<u8>()) {
        let mut datagram = datagram;
        if let Some(byte) = datagram.first_mut() {
            // Of the right version, mostly.
            *byte = if first < 250 { 0x40 | first & 0x3f } else { first };
        }
        let datagram = Bytes::from(datagram);
        if let Ok(message) = decode(&datagram) {
            prop_assert_eq!(&written(&message), &datagram);
            prop_assert_eq!(decode(&written(&message)), Ok(message));
        }
    }

    #[test]
    fn a_message_that_is_changed_anywhere_is_read_or_refused(message in message(), at in any::<usize>(), to in any::<u8>()) {
        let mut datagram = written(&message).to_vec();
        let at = at % datagram.len();
        datagram[at] = to;
        let datagram = Bytes::from(datagram);
        match decode(&datagram) {
            Ok(message) => prop_assert_eq!(written(&message), datagram),
            // RFC 7252 4.2: what came as an acknowledgement or a reset, or of another version, is never answered.
            Err(error) => prop_assert_eq!(error.rejection == Rejection::Silence, datagram.len() < 4 || datagram[0] >> 4 != 4),
        }
    }

    #[test]
    fn options_are_kept_in_their_order(options in vec((any::<u16>(), vec(any::<u8>(), 0..300)), 0..8), one in any::<u16>()) {
        let mut sorted = options.clone();
        sorted.sort_by_key(|(number, _)| *number);
        let all = option_bytes(&options);
        let read: Vec<_> = all.iter().map(|(number, value)| (number.0, value.to_vec())).collect();
        prop_assert_eq!(&read, &sorted);
        let one_by_one = options.iter().fold(Options::NONE, |some, (number, value)| some.with(OptionNumber(*number), value));
        prop_assert_eq!(&one_by_one, &all);
        let kept: Vec<_> = sorted.into_iter().filter(|(number, _)| *number >= one).collect();
        prop_assert_eq!(all.without(|number| number.0 < one), option_bytes(&kept));
    }

    #[test]
    fn another_codec_reads_what_is_written_and_writes_the_same(message in message()) {
        let datagram = written(&message);
        let theirs = by_another_codec(&datagram);
        prop_assert_eq!(theirs.as_deref(), Some(&datagram[..]), "{:?}", message);
    }

    /// What coap-lite accepts and this does not is of the kinds that its table above names; the other way there is nothing.
    #[test]
    fn two_codecs_read_the_same(message in message(), at in any::<usize>(), to in any::<u8>(), cut in 0_usize..4) {
        let mut datagram = written(&message).to_vec();
        let at = at % datagram.len();
        datagram[at] = to;
        datagram.truncate(datagram.len() - cut.min(datagram.len()));
        let ours = decode(&Bytes::from(datagram.clone()));
        let theirs = coap_lite::Packet::from_bytes(&datagram);
        match (ours, theirs) {
            (Ok(_), theirs) => {
                let again = theirs.ok().and_then(|packet| packet.to_bytes_with_limit(1 << 20).ok());
                prop_assert_eq!(again, Some(datagram));
            }
            (Err(error), Ok(_)) => prop_assert!(matches!(
                error.malformed,
                Malformed::Version | Malformed::Marker | Malformed::Empty | Malformed::Code | Malformed::Type
            ), "{:?}", error),
            (Err(_), Err(_)) => {}
        }
    }
}
