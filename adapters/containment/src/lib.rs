//! What a panic may end: a program ends on one, whatever task it is of, but for what is contained. That is what is done for one
//! client, so that by what one sends others are not cut off.
//!
//! A panic hook asks [`is_contained`]: it runs on the thread that panics, before anything is unwound. What contained work
//! spawns is not contained by that.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Says that what runs is contained, for as long as it is there.
struct Containment {
    before: bool,
}

impl Containment {
    fn begin() -> Self {
        Self { before: CONTAINED.replace(true) }
    }
}

impl Drop for Containment {
    fn drop(&mut self) {
        CONTAINED.set(self.before);
    }
}

/// Does the same, contained.
pub async fn contained<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let _containment = Containment::begin();
        work.as_mut().poll(context)
    })
    .await
}

/// Whether what runs now on this thread is contained.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::panic::AssertUnwindSafe;

    #[test]
    fn work_is_contained_while_it_runs_and_nothing_else_is() {
        let nested = async { (is_contained(), contained(async { is_contained() }).await, is_contained()) };
        assert_eq!(nested.now_or_never(), Some((false, true, false)));
        let mut waits = Box::pin(contained(std::future::pending::<()>()));
        assert!(waits.as_mut().now_or_never().is_none() && !is_contained());
        let panics = AssertUnwindSafe(contained(async { panic!("it cannot be") })).catch_unwind();
        assert!(panics.now_or_never().is_some_and(|outcome| outcome.is_err()) && !is_contained());
    }
}
