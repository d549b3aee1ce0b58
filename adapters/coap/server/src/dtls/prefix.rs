//! How many handshakes a part of the network may begin: whoever has one address often has its neighbors too.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Instant;

use tidegate_coap_proto::{Rate, prefix_of};

/// A bound on what happens in each part of the network.
pub(super) struct PrefixRate {
    rate: Rate,
    hasher: RandomState,
}

impl PrefixRate {
    /// So many a second, and as many at once.
    pub(super) fn new(per_second: NonZeroU32, begun: Instant) -> Self {
        Self { rate: Rate::new(per_second, begun), hasher: RandomState::new() }
    }

    /// Whether one more may happen at `now`; if so, it counts.
    pub(super) fn admits(&mut self, address: IpAddr, now: Instant) -> bool {
        self.rate.take(self.hasher.hash_one(prefix_of(address)), now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_part_of_the_network_has_its_share_and_gets_it_again() {
        #[expect(clippy::disallowed_methods, reason = "any instant is good to begin with")]
        let begin = Instant::now();
        let mut rate = PrefixRate::new(NonZeroU32::new(10).unwrap(), begin);
        let admitted = |rate: &mut PrefixRate, address: &str, now| {
            (0..50).filter(|_| rate.admits(address.parse().unwrap(), now)).count()
        };
        assert_eq!(admitted(&mut rate, "192.0.2.1", begin), 10);
        assert_eq!(admitted(&mut rate, "::ffff:192.0.2.99", begin), 0, "a neighbor");
        assert_eq!(admitted(&mut rate, "198.51.100.1", begin), 10, "another");
        assert_eq!(admitted(&mut rate, "192.0.2.1", begin + Duration::from_millis(500)), 5);
        assert_eq!(admitted(&mut rate, "192.0.2.1", begin + Duration::from_mins(1)), 10);
    }
}
