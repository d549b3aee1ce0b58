//! Percent-encoding, once for URL path segments and once for the words of an AMQP key.

use std::borrow::Cow;

use super::TopicError;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn push_escaped(byte: u8, out: &mut String) {
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

/// Decodes one segment of a URL path; `+` stays `+`.
//= RFC3986 2.1
pub(super) fn decode_segment(raw: &str) -> Result<Cow<'_, str>, TopicError> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' { octet(bytes.next(), bytes.next())? } else { byte });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| TopicError::NotText)
}

fn octet(high: Option<u8>, low: Option<u8>) -> Result<u8, TopicError> {
    let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16)).ok_or(TopicError::NotText);
    Ok(u8::try_from(digit(high)? * 16 + digit(low)?).expect("two hex digits fit an octet"))
}

/// Appends one segment of a URL path.
//= RFC3986 3.3
pub(super) fn encode_segment(level: &str, out: &mut String) {
    for byte in level.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_escaped(byte, out);
        }
    }
}

/// Appends one word of an AMQP key: `.`, `*`, `#` and `%` are escaped, nothing else.
pub(super) fn escape_word(level: &str, out: &mut String) {
    for c in level.chars() {
        match c {
            '.' => push_escaped(b'.', out),
            '*' => push_escaped(b'*', out),
            '#' => push_escaped(b'#', out),
            '%' => push_escaped(b'%', out),
            other => out.push(other),
        }
    }
}

/// The level that a word stands for. Only what [`escape_word`] writes is accepted, so that a topic has one key.
pub(super) fn unescape_word(word: &str) -> Result<Cow<'_, str>, TopicError> {
    if word.contains(['*', '#']) {
        return Err(TopicError::Wildcard);
    }
    let level = decode_segment(word)?;
    let mut canonical = String::with_capacity(word.len());
    escape_word(&level, &mut canonical);
    if canonical == word { Ok(level) } else { Err(TopicError::NotText) }
}
