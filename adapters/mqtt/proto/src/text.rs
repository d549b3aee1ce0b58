//! A string as MQTT has it: UTF-8 without U+0000, at most 65,535 bytes, in the buffer that it came in.

use std::fmt;

use bytes::Bytes;

/// A string of MQTT.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    /// Longest, in bytes: the length is said in two.
    pub const BYTES_MAX: usize = 65_535;

    /// A string of these bytes; nothing when they are none.
    //= MQTT5 1.5.4-3, 4.7.3-2, 4.7.3-3
    //= MQTT3 1.5.3-3, 4.7.3-2, 4.7.3-3
    #[must_use]
    pub fn new(bytes: Bytes) -> Option<Self> {
        //= MQTT5 1.5.4-1
        //= MQTT5 1.5.4-2
        //= MQTT3 1.5.3-1
        //= MQTT3 1.5.3-2
        let legal = bytes.len() <= Self::BYTES_MAX && !bytes.contains(&0) && std::str::from_utf8(&bytes).is_ok();
        legal.then_some(Self(bytes))
    }

    /// The same in a buffer of its own, to be kept: what it came in may be much larger.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// As text.
    ///
    /// # Panics
    /// Never: it was checked when it was made.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made")
    }

    /// The bytes, without the length before them.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl TryFrom<&str> for Text {
    type Error = ();

    fn try_from(text: &str) -> Result<Self, ()> {
        Self::new(Bytes::copy_from_slice(text.as_bytes())).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_string_is_refused() {
        for bytes in [b"a\0b".as_slice(), b"\xff", b"\xed\xa0\x80", b"\xc3\x28"] {
            assert_eq!(Text::new(Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
        assert_eq!(Text::new(Bytes::from(vec![b'a'; Text::BYTES_MAX + 1])), None);
    }

    //= MQTT5 1.5.4-3
    //= MQTT3 1.5.3-3
    #[test]
    fn a_byte_order_mark_is_a_character_like_any_other() {
        let text = Text::try_from("\u{feff}a").unwrap();
        assert_eq!(text.as_str().chars().count(), 2);
    }
}
