//! A key that nobody is known by: perhaps its Thing is a moment old. The operator is asked, but not by everyone who
//! guesses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_bridge::{BoxFuture, KeyLookup};
use tidegate_grants_proto::{Cursor, Epoch};
use tidegate_model::KeyHash;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::stream::GrantStream;

/// What the operator says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is somebody's, by this table and all that follow.
    Known(Epoch, Cursor),
    /// It is nobody's.
    Nobody,
    /// It cannot be asked now.
    Unanswered,
}

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

#[derive(Debug)]
struct Asked {
    unknown_until: BTreeMap<KeyHash, Instant>,
    /// The questions that are out: whoever has the same waits for the same answer.
    out: BTreeMap<KeyHash, watch::Receiver<Option<bool>>>,
    allowance: f64,
    counted_at: Instant,
}

/// What becomes of a question.
enum Question {
    /// It is answered already, or there are too many.
    Refused,
    /// Somebody has asked it and waits.
    Out(watch::Receiver<Option<bool>>),
    /// It is to be asked, and the answer told here.
    New(watch::Sender<Option<bool>>),
}

impl Asked {
    const fn new(now: Instant) -> Self {
        Self { unknown_until: BTreeMap::new(), out: BTreeMap::new(), allowance: ASKED_PER_SECOND, counted_at: now }
    }

    fn question(&mut self, key: &KeyHash, now: Instant) -> Question {
        if let Some(out) = self.out.get(key) {
            return Question::Out(out.clone());
        }
        if !self.admits(key, now) {
            return Question::Refused;
        }
        let tell = watch::Sender::new(None);
        self.out.insert(*key, tell.subscribe());
        Question::New(tell)
    }

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
        Self { stream, asked: Mutex::new(Asked::new(now)) }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and waits until the table that knows the key is in force.
    async fn ask(&self, key: &KeyHash) -> bool {
        let answer = async {
            let answer = self.stream.ask(key).await;
            if let Answer::Known(epoch, cursor) = answer {
                self.stream.in_force(epoch, cursor).await;
            }
            answer
        };
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Answer::Known(..)) => true,
            Ok(Answer::Nobody) => {
                self.asked().remember(*key, now());
                false
            }
            // Nobody said that it is nobody's.
            Ok(Answer::Unanswered) | Err(_) => false,
        }
    }
}

/// A question that is out, until this is dropped.
struct Out<'a> {
    misses: &'a Misses,
    key: KeyHash,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.misses.asked().out.remove(&self.key);
    }
}

impl KeyLookup for Misses {
    fn look_up(&self, key: KeyHash) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            // Not within the match, where the lock would be held while the answer is awaited.
            let question = self.asked().question(&key, now());
            let tell = match question {
                Question::Refused => return false,
                Question::Out(mut answer) => {
                    let answer = answer.wait_for(Option::is_some).await;
                    return answer.is_ok_and(|answer| *answer == Some(true));
                }
                Question::New(tell) => tell,
            };
            let out = Out { misses: self, key };
            let found = self.ask(&key).await;
            drop(out);
            tell.send_replace(Some(found));
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
        let mut asked = Asked::new(start);
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

    #[test]
    fn one_question_is_asked_once_however_many_have_it() {
        let start = now();
        let mut asked = Asked::new(start);
        let key = KeyHash::of(b"a");
        let Question::New(tell) = asked.question(&key, start) else { unreachable!("nobody has asked it") };
        for _ in 0..1_000 {
            assert!(matches!(asked.question(&key, start), Question::Out(_)));
        }
        assert!(asked.allowance > ASKED_PER_SECOND - 2.0);
        drop(tell);
        asked.out.remove(&key);
        assert!(matches!(asked.question(&key, start), Question::New(_)), "who could not be asked may be asked again");
    }
}
