//! A key that nobody is known by: perhaps its Thing is a moment old. The operator is asked, but not by everyone who
//! guesses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_bridge::{BoxFuture, KeyLookup};
use tidegate_grants_proto::Cursor;
use tidegate_model::KeyHash;
use tokio::time::Instant;

use crate::stream::GrantStream;

/// How long a key that nobody has is refused without asking again.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);
/// Keys that are remembered so.
const UNKNOWN_MAX: usize = 4_096;
/// Questions in a second, and at once.
const ASKED_PER_SECOND: f64 = 20.0;
/// How long the operator has to answer, and the table to come.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Asks the operator.
pub(crate) struct Misses {
    stream: Arc<GrantStream>,
    asked: Mutex<Asked>,
}

struct Asked {
    unknown_until: BTreeMap<KeyHash, Instant>,
    allowance: f64,
    counted_at: Instant,
}

impl Asked {
    /// Whether one more question may be asked.
    fn admits(&mut self, key: &KeyHash, now: Instant) -> bool {
        if self.unknown_until.get(key).is_some_and(|until| now < *until) {
            return false;
        }
        let since = now.saturating_duration_since(self.counted_at).as_secs_f64();
        self.allowance = (self.allowance + since * ASKED_PER_SECOND).min(ASKED_PER_SECOND);
        self.counted_at = now;
        if self.allowance < 1.0 {
            return false;
        }
        self.allowance -= 1.0;
        true
    }

    fn remember(&mut self, key: KeyHash, now: Instant) {
        if self.unknown_until.len() >= UNKNOWN_MAX {
            self.unknown_until.retain(|_, until| now < *until);
        }
        if self.unknown_until.len() < UNKNOWN_MAX {
            self.unknown_until.insert(key, now + UNKNOWN_FOR);
        }
    }
}

impl Misses {
    pub(crate) fn new(stream: Arc<GrantStream>, now: Instant) -> Self {
        let asked = Asked { unknown_until: BTreeMap::new(), allowance: ASKED_PER_SECOND, counted_at: now };
        Self { stream, asked: Mutex::new(asked) }
    }
}

impl KeyLookup for Misses {
    fn look_up(&self, key: KeyHash) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            if !self.asked.lock().unwrap_or_else(PoisonError::into_inner).admits(&key, now()) {
                return false;
            }
            let answer = async {
                let cursor = self.stream.ask(&key).await?;
                self.stream.in_force(Cursor(cursor)).await;
                Some(())
            };
            let found = matches!(tokio::time::timeout(ANSWER_MAX, answer).await, Ok(Some(())));
            if !found {
                self.asked.lock().unwrap_or_else(PoisonError::into_inner).remember(key, now());
            }
            found
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "questions are counted by the clock of this process")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_nobody_has_is_asked_after_now_and_then_and_guessing_has_its_bound() {
        let start = now();
        let mut asked = Asked { unknown_until: BTreeMap::new(), allowance: ASKED_PER_SECOND, counted_at: start };
        let key = KeyHash::of(b"a");
        assert!(asked.admits(&key, start));
        asked.remember(key, start);
        assert!(!asked.admits(&key, start + UNKNOWN_FOR / 2));
        assert!(asked.admits(&key, start + UNKNOWN_FOR));
        let later = start + 10 * UNKNOWN_FOR;
        let guesses = (0..100_u8).filter(|guess| asked.admits(&KeyHash::of(&[*guess]), later)).count();
        assert_eq!(guesses, 20);
        assert!(asked.admits(&key, later + Duration::from_secs(1)));
    }
}
