//! The query of a URL: percent-decoded, `+` stays `+`. What cannot be honored is refused, not passed over.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tidegate_model::QoS;

use crate::answer::Problem;

/// Longest expiry, in seconds: a broker counts milliseconds in 32 bits.
pub const EXPIRY_SECONDS_MAX: u32 = u32::MAX / 1_000;

/// A parameter was given more than once, with different values.
#[derive(Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// The value of `name`, decoded to bytes.
///
/// # Errors
/// [`Ambiguous`].
pub fn value<'a>(query: Option<&'a str>, name: &str) -> Result<Option<Cow<'a, [u8]>>, Ambiguous> {
    let pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let named = pairs.filter(|(key, _)| percent_decode_str(key).eq(name.bytes()));
    let mut values = named.map(|(_, value)| Cow::from(percent_decode_str(value)));
    let first = values.next();
    if values.all(|other| Some(&other) == first.as_ref()) { Ok(first) } else { Err(Ambiguous) }
}

/// The same, for who answers a request.
///
/// # Errors
/// [`Problem::BadQuery`].
pub fn once<'a>(query: Option<&'a str>, name: &str) -> Result<Option<Cow<'a, [u8]>>, Problem> {
    value(query, name).map_err(|Ambiguous| Problem::BadQuery("a parameter is given twice, with different values"))
}

/// How long the message is worth delivering, as `expiry=<seconds>` says.
pub(crate) fn expiry(query: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(text) = once(query, "expiry")? else { return Ok(None) };
    let digits = std::str::from_utf8(&text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = digits.and_then(|digits| digits.parse().ok());
    seconds
        .filter(|seconds| (1..=EXPIRY_SECONDS_MAX).contains(seconds))
        .map(|seconds| Some(Duration::from_secs(seconds.into())))
        .ok_or(Problem::BadQuery("expiry is a whole number of seconds, from 1 to 4294967"))
}

/// Every message is confirmed, whatever quality of service is asked for: it is for subscribers over MQTT.
pub(crate) fn qos(query: Option<&str>) -> Result<QoS, Problem> {
    let Some(asked) = once(query, "qos")? else { return Ok(QoS::default()) };
    let level = if let [digit @ b'0'..=b'9'] = *asked { QoS::from_level(digit - b'0') } else { None };
    level.ok_or(Problem::BadQuery("qos is 0, 1 or 2"))
}

/// Whether `name` is true; `absent` where nothing is said.
///
/// # Errors
/// [`Problem::BadQuery`] with these words.
pub fn flag(query: Option<&str>, name: &str, absent: bool, wrong: &'static str) -> Result<bool, Problem> {
    match once(query, name)?.as_deref() {
        None => Ok(absent),
        Some(b"false" | b"0") => Ok(false),
        Some(b"true" | b"1") => Ok(true),
        Some(_) => Err(Problem::BadQuery(wrong)),
    }
}

/// Whether the message is to be kept for those who subscribe later.
pub(crate) fn retain(query: Option<&str>) -> Result<bool, Problem> {
    flag(query, "retain", false, "retain is true or false")
}

/// Whether the message is asked for that is kept of the topic.
pub(crate) fn last(query: Option<&str>) -> Result<bool, Problem> {
    flag(query, "last", false, "last is true or false")
}

/// No history is kept yet, and who asks for it would wait for ever.
pub(crate) fn no_history(query: Option<&str>) -> Result<(), Problem> {
    for name in ["since", "limit"] {
        if once(query, name)?.is_some() {
            return Err(Problem::BadQuery("since and limit are not supported by this version"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_once_and_plus_stays_plus() {
        let check = |query: &str, expected: Result<Option<&str>, Ambiguous>| {
            let expected = expected.map(|value| value.map(|value| Cow::Owned(value.as_bytes().to_vec())));
            assert_eq!(value(Some(query), "a"), expected, "{query}");
        };
        check("a=x", Ok(Some("x")));
        check("b=1&a=x%2By+z", Ok(Some("x+y+z")));
        check("%61=x=y", Ok(Some("x=y")));
        check("a", Ok(Some("")));
        check("a=x&a=%78", Ok(Some("x")));
        check("a=x&a=y", Err(Ambiguous));
        check("aa=x", Ok(None));
        assert_eq!(value(None, "a"), Ok(None));
    }

    #[test]
    fn an_expiry_is_a_plain_number_that_a_broker_can_carry() {
        let check = |text: &str, expected: Option<u64>| {
            let read = expiry(Some(&format!("expiry={text}"))).ok().flatten();
            assert_eq!(read, expected.map(Duration::from_secs), "{text}");
        };
        check("1", Some(1));
        check("4294967", Some(4_294_967));
        for refused in ["0", "+5", "-1", "1.5", "", "4294968", "99999999999999999999", "1s"] {
            check(refused, None);
        }
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        let check = |query: &str, expected: [bool; 3]| {
            let query = Some(query);
            assert_eq!(
                [qos(query).is_ok(), retain(query).is_ok() && last(query).is_ok(), no_history(query).is_ok()],
                expected,
                "{query:?}"
            );
        };
        check("", [true, true, true]);
        check("qos=2&retain=false", [true, true, true]);
        check("qos=3", [false, true, true]);
        check("retain=true&last=0", [true, true, true]);
        check("retain=maybe", [true, false, true]);
        check("retain=false&retain=true", [true, false, true]);
        check("last=maybe", [true, false, true]);
        check("since=2026-01-01T00:00:00Z&limit=5", [true, true, false]);
    }
}
