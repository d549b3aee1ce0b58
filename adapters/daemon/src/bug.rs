//! A panic is a bug. It ends the process, whatever task or thread it is of: what goes on without that task would look well and
//! serve nobody. What is not missed is what is done for one client, which is contained.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use tidegate_containment::is_contained;
use tracing::Level;

use crate::Exit;
use crate::program::fail;

/// What is done on a panic.
type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// From now on a panic is logged, and ends the process with [`Exit::Bug`] unless it is contained. What was done before, to be
/// put back.
pub(crate) fn ends_the_process(name: &str) -> Hook {
    let (name, before) = (name.to_owned(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        tell(&name, panic);
        if !is_contained() {
            std::process::exit(Exit::Bug as i32);
        }
    }));
    before
}

fn tell(name: &str, panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let words = words(panic.payload());
    if tracing::enabled!(Level::ERROR) {
        // Where the environment asks for one.
        let backtrace = Backtrace::capture();
        let is_there = backtrace.status() == BacktraceStatus::Captured;
        let backtrace = is_there.then(|| tracing::field::display(&backtrace));
        tracing::error!(location, backtrace, "a bug: {words}");
    } else {
        let _ = fail(name, Exit::Bug, &format!("a bug at {location}: {words}"));
    }
}

/// What a panic says, up to where it may repeat what a device sent: the text in which a character was looked for, an error's
/// values.
fn words(payload: &dyn Any) -> &str {
    if let Some(constant) = payload.downcast_ref::<&'static str>() {
        return constant;
    }
    let composed = payload.downcast_ref::<String>().map_or("", String::as_str);
    let quoted = [": ", "\n", "\"", "'", "of `", "slicing `"];
    let end = quoted.iter().filter_map(|mark| composed.find(mark)).min().unwrap_or(composed.len());
    composed[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_composed_is_told_up_to_what_it_may_quote() {
        let check = |composed: &str, expected: &str| assert_eq!(words(&composed.to_owned()), expected);
        check("index out of bounds: the len is 3 but the index is 5", "index out of bounds");
        check("called `Result::unwrap()` on an `Err` value: Secret(1)", "called `Result::unwrap()` on an `Err` value");
        check("byte index 9 is out of bounds of `the payload`", "byte index 9 is out of bounds");
        check(
            "start byte index 1 is not a char boundary; it is inside 'é' (bytes 0..2) of `é`",
            "start byte index 1 is not a char boundary; it is inside",
        );
        check("begin > end (4 > 2) when slicing `text`", "begin > end (4 > 2) when");
        check("why it holds: ParseError", "why it holds");
        check("assertion `left == right` failed\n  left: 1\n right: 2", "assertion `left == right` failed");
        assert_eq!(words(&"internal error: 'x' cannot be"), "internal error: 'x' cannot be");
        assert_eq!(words(&7), "");
    }
}
