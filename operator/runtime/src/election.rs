//! Who may write: the rules of leader election, as client-go has them, without a clock or a client.
//!
//! A lease is judged by when *this* process saw it change, never by the times that its holder wrote: the clocks of two
//! nodes need not agree.

use std::time::Duration;

use tokio::time::Instant;

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ElectionTimes {
    /// How long a lease that is not renewed still stands.
    pub(crate) lease_duration: Duration,
    /// How long the holder tries to renew before it gives up. Shorter than `lease_duration` by more than a write may
    /// take, so that its last write has ended before the next holder's first.
    pub(crate) renew_deadline: Duration,
    /// How often the lease is looked at.
    pub(crate) retry_period: Duration,
}

impl Default for ElectionTimes {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// The lease as the API server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseRecord {
    /// Who holds it; nobody when empty.
    pub(crate) holder: String,
    /// How long it stands without renewal, as its holder says.
    pub(crate) duration: Duration,
    /// Changes with each write.
    pub(crate) resource_version: String,
    /// How often it changed hands.
    pub(crate) transitions: i32,
}

/// What to write to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Make the lease, held by us.
    Create,
    /// Take it over; only if it is still as it was seen.
    Take {
        /// What it is now.
        seen: LeaseRecord,
    },
    /// Renew what is ours.
    Renew {
        /// What it is now.
        seen: LeaseRecord,
    },
    /// Somebody else's, and alive.
    Wait,
}

/// One candidate's view.
#[derive(Debug)]
pub(crate) struct Election {
    identity: String,
    times: ElectionTimes,
    observed: Option<(LeaseRecord, Instant)>,
    held_since_renewal: Option<Instant>,
}

impl Election {
    /// A candidate that has seen nothing yet.
    #[must_use]
    pub(crate) const fn new(identity: String, times: ElectionTimes) -> Self {
        Self { identity, times, observed: None, held_since_renewal: None }
    }

    /// What to do about the lease as it was just read.
    pub(crate) fn handle_lease(&mut self, lease: Option<LeaseRecord>, now: Instant) -> Attempt {
        let Some(lease) = lease else { return Attempt::Create };
        if self.observed.as_ref().is_none_or(|(seen, _)| *seen != lease) {
            self.observed = Some((lease.clone(), now));
        }
        let seen_at = self.observed.as_ref().map_or(now, |(_, at)| *at);
        if lease.holder == self.identity {
            Attempt::Renew { seen: lease }
        } else if lease.holder.is_empty() || now >= seen_at + lease.duration {
            Attempt::Take { seen: lease }
        } else {
            Attempt::Wait
        }
    }

    /// The write went through; `begun` is when it was sent, since it counts from there.
    pub(crate) fn handle_written(&mut self, lease: LeaseRecord, begun: Instant) {
        self.observed = Some((lease, begun));
        self.held_since_renewal = Some(begun);
    }

    /// Until when this candidate may write, if it holds the lease.
    #[must_use]
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.held_since_renewal.map(|renewed| renewed + self.times.renew_deadline)
    }

    /// Whether the lease was held and could not be renewed in time.
    #[must_use]
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        self.held_until().is_some_and(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> LeaseRecord {
        LeaseRecord {
            holder: holder.to_owned(),
            duration: Duration::from_secs(15),
            resource_version: version.to_owned(),
            transitions: 0,
        }
    }

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
    fn candidate() -> (Election, Instant) {
        (Election::new("b".to_owned(), ElectionTimes::default()), Instant::now())
    }

    #[test]
    fn a_lease_that_nobody_made_is_made() {
        let (mut election, start) = candidate();
        assert_eq!(election.handle_lease(None, start), Attempt::Create);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let (mut election, start) = candidate();
        let free = lease("", "1");
        assert_eq!(election.handle_lease(Some(free.clone()), start), Attempt::Take { seen: free });
    }

    #[test]
    fn a_holder_counts_as_alive_from_when_its_last_renewal_was_seen() {
        let (mut election, start) = candidate();
        assert_eq!(election.handle_lease(Some(lease("a", "1")), start), Attempt::Wait);
        assert_eq!(election.handle_lease(Some(lease("a", "2")), seconds(start, 14)), Attempt::Wait);
        assert_eq!(election.handle_lease(Some(lease("a", "2")), seconds(start, 28)), Attempt::Wait);
        let last = election.handle_lease(Some(lease("a", "2")), seconds(start, 29));
        assert_eq!(last, Attempt::Take { seen: lease("a", "2") });
    }

    #[test]
    fn what_is_held_is_renewed_and_lost_before_another_may_take_it() {
        let (mut election, start) = candidate();
        election.handle_written(lease("b", "1"), start);
        assert_eq!(election.held_until(), Some(seconds(start, 10)));
        let seen = lease("b", "1");
        assert_eq!(election.handle_lease(Some(seen.clone()), seconds(start, 2)), Attempt::Renew { seen });
        assert!(!election.is_lost(seconds(start, 9)));
        assert!(election.is_lost(seconds(start, 10)));
    }

    #[test]
    fn a_candidate_that_never_held_it_has_nothing_to_lose() {
        let (election, start) = candidate();
        assert_eq!(election.held_until(), None);
        assert!(!election.is_lost(seconds(start, 1_000)));
    }
}
