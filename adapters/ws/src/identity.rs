//! Message ids by which a socket knows what it sent itself, however much of it is under way.

use tidegate_model::{MessageId, Timestamp};
use uuid::{Builder, Uuid};

/// Bits of an id that count within a millisecond.
const COUNT_BITS: u32 = 12;
/// Bits of an id that are the socket's own.
const MARK_BITS: u32 = 62;
/// Characters of a UUID before the socket's own.
const MARK_AT: usize = 19;

/// Makes the ids of one socket: UUIDs of version 7 whose last 62 bits are drawn once, and whose first ones only grow.
//= RFC9562 5.7, 6.2
pub(crate) struct MessageIds {
    mark: u64,
    /// Milliseconds since 1970 and the count within them, as one number.
    last: u64,
}

impl MessageIds {
    #[expect(clippy::disallowed_methods, reason = "the face is a driver: it names the messages that it takes in")]
    pub(crate) fn new() -> Self {
        let drawn = Uuid::new_v4().as_u64_pair().1;
        Self { mark: drawn & ((1 << MARK_BITS) - 1), last: 0 }
    }

    /// The next one.
    pub(crate) fn next(&mut self, now: Timestamp) -> MessageId {
        self.last = ((now.as_nanos() / 1_000_000) << COUNT_BITS).max(self.last + 1);
        let count = self.last & ((1 << COUNT_BITS) - 1);
        let id = u128::from(self.last >> COUNT_BITS) << 80 | u128::from(count) << 64 | u128::from(self.mark);
        let id = Builder::from_u128(id).with_version(uuid::Version::SortRand).with_variant(uuid::Variant::RFC4122);
        MessageId::parse(&id.into_uuid().to_string()).expect("a UUID has 36 characters")
    }

    /// Whether this socket made it.
    pub(crate) fn made(&self, id: &MessageId) -> bool {
        // The text up to there is the time and the version, which others may share.
        let Some((_, mark)) = id.as_str().split_at_checked(MARK_AT) else { return false };
        let of = Builder::from_u128(u128::from(self.mark)).with_variant(uuid::Variant::RFC4122).into_uuid();
        of.hyphenated().encode_lower(&mut [0; 36])[MARK_AT..] == *mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_socket_differ_grow_and_are_known_by_it_alone() {
        let (mut own, mut other) = (MessageIds::new(), MessageIds::new());
        let now = Timestamp::from_secs(1_800_000_000);
        let mut before = own.next(now);
        for _ in 0..10_000 {
            let id = own.next(now);
            assert!(id.as_str() > before.as_str(), "{id:?} after {before:?}");
            assert!(own.made(&id) && !other.made(&id));
            assert_eq!(Uuid::parse_str(id.as_str()).map(|id| id.get_version_num()), Ok(7));
            before = id;
        }
        assert!(!own.made(&other.next(now)));
        assert!(!own.made(&MessageId::parse("of a back end").unwrap()));
    }
}
