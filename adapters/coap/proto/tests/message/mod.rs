//! Any message that there can be.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_coap_proto::*;

fn options() -> impl Strategy<Value = Options> {
    let known = [1, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 17, 20, 23, 27, 28, 35, 39, 60, 252, 258, 292];
    let number = prop_oneof![proptest::sample::select(known.to_vec()), any::<u16>()];
    let value = prop_oneof![8 => vec(any::<u8>(), 0..16), 1 => vec(any::<u8>(), 0..600)];
    vec((number.prop_map(OptionNumber), value), 0..8).prop_map(|options| options.into_iter().collect())
}

fn content() -> impl Strategy<Value = (MessageId, Token, Options, Bytes)> {
    let token = vec(any::<u8>(), 0..=Token::BYTES_MAX).prop_map(|bytes| Token::new(&bytes).expect("short enough"));
    let payload = vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    (any::<u16>().prop_map(MessageId), token, options(), payload)
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    let empty = (any::<u16>().prop_map(MessageId), 0..3).prop_map(|(id, kind)| match kind {
        0 => Message::Ping(id),
        1 => Message::Acknowledgement(id),
        _ => Message::Reset(id),
    });
    let request = (content(), 1_u8..32, any::<bool>()).prop_map(|(content, method, is_confirmable)| {
        let (id, token, options, payload) = content;
        let request = Request { method: Code::new(0, method), options, payload };
        Message::Request { id, is_confirmable, token, request }
    });
    let carried = [Carried::Confirmable, Carried::NonConfirmable, Carried::Piggybacked];
    let response = (content(), 2_u8..6, 0_u8..32, proptest::sample::select(carried.to_vec()));
    let response = response.prop_map(|((id, token, options, payload), class, detail, carried)| {
        let response = Response { code: Code::new(class, detail), options, payload };
        Message::Response { id, carried, token, response }
    });
    prop_oneof![1 => empty, 4 => request, 4 => response]
}
