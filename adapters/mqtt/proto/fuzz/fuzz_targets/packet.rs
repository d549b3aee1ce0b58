//! Whatever bytes come, they make a packet or an error; and a packet that was read is written as what it was read from.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tidegate_mqtt_proto::{Packet, Sender, Version, decode, encode, split};

fuzz_target!(|bytes: &[u8]| {
    for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
        for sender in [Sender::Client, Sender::Server] {
            let mut buffer = BytesMut::from(bytes);
            while let Ok(Some(frame)) = split(&mut buffer, 1 << 20) {
                let Ok(packet) = decode(frame, version, sender) else { break };
                let spoken = if let Packet::Connect(connect) = &packet { connect.version } else { version };
                let mut written = BytesMut::new();
                encode(&packet, spoken, &mut written).expect("it was read");
                let frame = split(&mut written, usize::MAX).expect("a packet").expect("a whole one");
                assert!(written.is_empty());
                let again = decode(frame, spoken, sender).expect("it was written");
                assert_eq!(again, packet);
            }
        }
    }
});
