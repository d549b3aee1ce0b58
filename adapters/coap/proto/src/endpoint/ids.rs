//! Ids of messages to one peer: given out so that none is taken for a copy of another, and remembered as long as a reset to
//! one may come.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::message::MessageId;

/// All ids there are.
const IDS: u64 = 1 << 16;
/// When they were given out is known of each of so many parts of them.
const PARTS: u64 = 16;
const PART_IDS: u64 = IDS / PARTS;

/// Gives ids out, one after the other.
//= RFC7252 4.4
#[derive(Debug)]
pub(super) struct Ids {
    next: MessageId,
    given: u64,
    /// When the last id of each part was given out, last time. Most peers never see the end of the first part.
    ended: Vec<Instant>,
}

impl Ids {
    pub(super) const fn new(first: MessageId) -> Self {
        Self { next: first, given: 0, ended: Vec::new() }
    }

    /// How many were given out.
    pub(super) const fn given(&self) -> u64 {
        self.given
    }

    pub(super) fn next(&mut self, now: Instant) -> MessageId {
        let id = self.next;
        let part = self.part();
        self.next = id.next();
        self.given += 1;
        if self.given.is_multiple_of(PART_IDS) {
            match self.ended.get_mut(part) {
                Some(ended) => *ended = now,
                None => self.ended.push(now),
            }
        }
        id
    }

    /// Where the next one is.
    fn part(&self) -> usize {
        usize::try_from(self.given % IDS / PART_IDS).unwrap_or(0)
    }

    /// When the next one may be given out again, if it was before.
    pub(super) fn free_at(&self, lifetime: Duration) -> Option<Instant> {
        let ended = self.ended.get(self.part()).filter(|_| self.given >= IDS)?;
        Some(*ended + lifetime)
    }
}

/// Which notification was of which observation, the newest last. Most peers have one observation: so in runs.
#[derive(Debug, Default)]
pub(super) struct Notified {
    runs: VecDeque<Run>,
    count: usize,
}

/// Notifications one after the other of one observation.
#[derive(Debug)]
struct Run {
    first: MessageId,
    count: u16,
    serial: u64,
}

impl Notified {
    /// Remembers one more, and no more than that.
    pub(super) fn remember(&mut self, id: MessageId, serial: u64, count_max: usize) {
        match self.runs.back_mut().filter(|run| run.serial == serial && run.offset(id) == run.count) {
            Some(run) => run.count += 1,
            None => self.runs.push_back(Run { first: id, count: 1, serial }),
        }
        self.count += 1;
        while self.count > count_max.min(usize::from(u16::MAX))
            && let Some(oldest) = self.runs.front_mut()
        {
            oldest.first = oldest.first.next();
            oldest.count -= 1;
            self.count -= 1;
            if oldest.count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// The observation that was told under this id.
    pub(super) fn find(&self, id: MessageId) -> Option<u64> {
        self.runs.iter().rev().find(|run| run.offset(id) < run.count).map(|run| run.serial)
    }
}

impl Run {
    const fn offset(&self, id: MessageId) -> u16 {
        id.0.wrapping_sub(self.first.0)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
mod tests {
    use super::*;

    //= RFC7252 4.4
    #[test]
    fn no_id_is_given_out_twice_in_its_lifetime() {
        const LIFETIME: Duration = Duration::from_secs(247);
        let mut now = Instant::now();
        let mut ids = Ids::new(MessageId(65_000));
        let mut given = vec![None::<Instant>; usize::from(u16::MAX) + 1];
        let mut waits = 0;
        for number in 0..400_000_u64 {
            // Faster and slower than they last.
            now += Duration::from_micros(if number % 150_000 < 90_000 { 100 } else { 5_000 });
            if let Some(at) = ids.free_at(LIFETIME).filter(|at| *at > now) {
                now = at;
                waits += 1;
            }
            let MessageId(id) = ids.next(now);
            let before = given[usize::from(id)].replace(now);
            assert!(before.is_none_or(|before| now - before >= LIFETIME), "{id} after {number}");
        }
        assert!((1..=80).contains(&waits), "{waits}");
    }

    //= RFC7252 4.4
    #[test]
    fn who_is_told_slowly_never_waits_for_an_id() {
        let mut now = Instant::now();
        let mut ids = Ids::new(MessageId(7));
        for _ in 0..200_000 {
            assert!(ids.free_at(Duration::from_secs(247)).is_none_or(|at| at <= now));
            ids.next(now);
            // 240 in a second; of 16 parts one is lost.
            now += Duration::from_nanos(1_000_000_000 / 240);
        }
    }

    #[test]
    fn so_many_notifications_are_remembered_and_no_more() {
        let mut notified = Notified::default();
        for id in 65_500..=65_535 {
            notified.remember(MessageId(id), 1, 100);
        }
        for id in 0..100 {
            notified.remember(MessageId(id), if id < 50 { 1 } else { u64::from(id % 3) }, 100);
        }
        let check = |id: u16, expected: Option<u64>| assert_eq!(notified.find(MessageId(id)), expected, "{id}");
        check(65_535, None);
        check(0, Some(1));
        check(49, Some(1));
        check(50, Some(2));
        check(99, Some(0));
        check(100, None);
    }
}
