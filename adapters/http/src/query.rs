//! The query of a URL: percent-decoded, `+` stays `+`.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::answer::Problem;

/// The first value of `name`, decoded to bytes.
pub(crate) fn value<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, [u8]>> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.into_iter().find(|(key, _)| percent_decode_str(key).eq(name.bytes()))?;
    Some(percent_decode_str(found.1).into())
}

/// How long the message is worth delivering, as `expiry=<seconds>` says.
pub(crate) fn expiry(query: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(text) = value(query, "expiry") else { return Ok(None) };
    let seconds = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<u32>().ok()).filter(|n| *n > 0);
    seconds
        .map(|seconds| Some(Duration::from_secs(seconds.into())))
        .ok_or(Problem::BadQuery("expiry is a whole number of seconds, at least 1"))
}

/// Retained messages are not kept yet, and a device that asks for one must not believe that it was.
pub(crate) fn no_retain(query: Option<&str>) -> Result<(), Problem> {
    match value(query, "retain").as_deref() {
        None | Some(b"false") => Ok(()),
        Some(_) => Err(Problem::BadQuery("retain is not supported by this version")),
    }
}
