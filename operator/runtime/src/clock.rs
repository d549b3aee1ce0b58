//! The clocks of this process: the operator is a driver, and the only one here to read them.

use tidegate_model::Timestamp;
use tokio::time::Instant;

/// For spans and deadlines.
#[expect(clippy::disallowed_methods, reason = "the operator lives by the clock of its process")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day.
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::from_nanos(u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0))
}

/// The time of day in whole seconds, as a condition has it: what is read back must equal what was written.
pub(crate) fn whole_seconds() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}
