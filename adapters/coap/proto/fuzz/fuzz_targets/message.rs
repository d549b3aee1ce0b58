//! Whatever bytes come, they make a message or an error; and a message that was read is written as the bytes it was read from.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use tidegate_coap_proto::{Link, Message, OptionNumber, Options, Rejection, decode, encode, links};

fuzz_target!(|bytes: &[u8]| {
    let datagram = Bytes::copy_from_slice(bytes);
    match decode(&datagram) {
        Ok(message) => {
            let mut written = BytesMut::new();
            encode(&message, &mut written);
            assert_eq!(written, datagram);
            let Message::Request { request, .. } = message else { return };
            let options = request.options;
            assert_eq!(options.iter().collect::<Options>(), options);
            for (number, value) in options.iter().take(8) {
                assert!(options.values(number).any(|one| one == value));
                let _ = (options.first(number), options.uint(number), number.format());
            }
            let more = options.clone().with(OptionNumber::URI_PATH, b"x");
            assert_eq!(more.iter().count(), options.iter().count() + 1);
            assert_eq!(options.without(|_| false), options);
            let _ = links(&[Link { path: "/a".to_owned(), attributes: Vec::new() }], &options);
        }
        Err(error) => {
            let is_told = bytes.len() >= 4 && bytes[0] >> 4 == 4;
            assert_eq!(matches!(error.rejection, Rejection::Reset(_)), is_told);
        }
    }
});
