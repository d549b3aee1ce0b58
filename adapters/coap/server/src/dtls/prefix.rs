//! How many handshakes a part of the network may begin: whoever has one address often has its neighbors too.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tidegate_coap_proto::prefix_of;

/// Counters that parts of the network share, by chance.
const BUCKETS: usize = 4_096;
/// A bound on what happens in each part of the network. Its memory is fixed; parts that share a counter share the bound.
pub(super) struct PrefixRate {
    per_second: u32,
    hasher: RandomState,
    /// When the counter would be empty again.
    empty_at: Box<[Option<Instant>]>,
}

impl PrefixRate {
    /// So many a second, and as many at once.
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, hasher: RandomState::new(), empty_at: vec![None; BUCKETS].into() }
    }

    /// Whether one more may happen at `now`; if so, it counts.
    pub(super) fn admits(&mut self, address: IpAddr, now: Instant) -> bool {
        let bucket = usize::try_from(self.hasher.hash_one(prefix_of(address)) % BUCKETS as u64).unwrap_or_default();
        let each = Duration::from_secs(1) / self.per_second.max(1);
        let empty_at = self.empty_at[bucket].map_or(now, |at| at.max(now));
        let admits = self.per_second > 0 && empty_at + each <= now + Duration::from_secs(1);
        if admits {
            self.empty_at[bucket] = Some(empty_at + each);
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_network_has_its_share_and_gets_it_again() {
        let mut rate = PrefixRate::new(10);
        #[expect(clippy::disallowed_methods, reason = "any instant is good to begin with")]
        let begin = Instant::now();
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
