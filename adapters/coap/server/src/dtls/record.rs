//! What can be seen of a datagram of DTLS from outside: its first record, and the ClientHello in it.

/// Bytes before the fragment of a record.
pub(super) const RECORD_HEADER_BYTES: usize = 13;
/// Bytes before the body of a handshake message.
pub(super) const MESSAGE_HEADER_BYTES: usize = 12;

pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
const APPLICATION_DATA: u8 = 23;

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;

/// TLS_PSK_WITH_AES_128_CCM_8.
//= RFC7252 9.1.3.1
const PSK_AES128_CCM_8: u16 = 0xC0A8;
/// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, _AES_256_GCM_SHA384, _CHACHA20_POLY1305_SHA256.
const ECDHE_ECDSA: [u16; 3] = [0xC02B, 0xC02C, 0xCCA9];

/// A record, its fragment still as it came.
//= RFC6347 4.1
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) content_type: u8,
    pub(super) epoch: u16,
    /// With the epoch, as it stands in the header.
    pub(super) sequence: [u8; 8],
    pub(super) fragment: &'a [u8],
}

/// A fragment of a handshake message.
//= RFC6347 4.2.2
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub(super) kind: u8,
    pub(super) length: usize,
    pub(super) sequence: u16,
    pub(super) offset: usize,
    pub(super) bytes: &'a [u8],
}

/// The records of a datagram, up to the first that is none.
pub(super) fn records(mut datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (record, rest) = record(datagram)?;
        datagram = rest;
        Some(record)
    })
}

fn record(datagram: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (header, rest) = datagram.split_first_chunk::<RECORD_HEADER_BYTES>()?;
    let [content_type, major, minor, s0, s1, s2, s3, s4, s5, s6, s7, l0, l1] = *header;
    let is_known = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&content_type);
    if !is_known || major != 0xFE || !matches!(minor, 0xFD | 0xFF) {
        return None;
    }
    let (fragment, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
    let sequence = [s0, s1, s2, s3, s4, s5, s6, s7];
    Some((Record { content_type, epoch: u16::from_be_bytes([s0, s1]), sequence, fragment }, rest))
}

impl<'a> Record<'a> {
    /// The fragments of handshake messages in it, where they are not encrypted.
    pub(super) fn fragments(&self) -> impl Iterator<Item = Fragment<'a>> + use<'a> {
        let is_plain = self.content_type == HANDSHAKE && self.epoch == 0;
        let mut rest = if is_plain { self.fragment } else { &[] };
        std::iter::from_fn(move || {
            let (fragment, after) = fragment(rest)?;
            rest = after;
            Some(fragment)
        })
    }
}

fn fragment(bytes: &[u8]) -> Option<(Fragment<'_>, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<MESSAGE_HEADER_BYTES>()?;
    let [kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *header;
    let number = |high, middle, low| u32::from_be_bytes([0, high, middle, low]) as usize;
    let (length, offset) = (number(l0, l1, l2), number(o0, o1, o2));
    let (bytes, rest) = rest.split_at_checked(number(f0, f1, f2))?;
    let fits = offset.checked_add(bytes.len()).is_some_and(|end| end <= length);
    let sequence = u16::from_be_bytes([s0, s1]);
    fits.then_some((Fragment { kind, length, sequence, offset, bytes }, rest))
}

/// The beginning of a ClientHello.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hello {
    /// Tells one handshake from another.
    pub(super) random: [u8; 32],
    /// Whether it is the first of its handshake, not the one with a cookie.
    pub(super) is_first: bool,
    /// Whether the client may show a shared key, and a certificate. Where that is not in this fragment yet, it is taken to be
    /// a key: small datagrams are of small devices.
    pub(super) offers_key: bool,
    pub(super) offers_certificate: bool,
}

impl Hello {
    /// Reads one, or the first fragment of one, where the record holds it.
    //= RFC6347 4.2.1
    pub(super) fn of(record: &Record<'_>) -> Option<Self> {
        let fragment = record.fragments().next().filter(|f| f.kind == CLIENT_HELLO && f.offset == 0)?;
        let (_version, rest) = fragment.bytes.split_first_chunk::<2>()?;
        let (random, rest) = rest.split_first_chunk::<32>()?;
        let suites = || {
            let (_session, rest) = vector(rest)?;
            let (_cookie, rest) = vector(rest)?;
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes(*length));
            Some((rest.get(..length.min(rest.len()))?, length <= rest.len()))
        };
        let (suites, are_all) = suites().unwrap_or((&[], false));
        let offers =
            |known: &[u16]| suites.as_chunks::<2>().0.iter().any(|suite| known.contains(&u16::from_be_bytes(*suite)));
        Some(Self {
            random: *random,
            is_first: fragment.sequence == 0,
            offers_key: offers(&[PSK_AES128_CCM_8]) || !are_all,
            offers_certificate: offers(&ECDHE_ECDSA),
        })
    }
}

/// What follows its length in one byte.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// An alert that nobody has to be able to decrypt, fatal.
//= RFC5246 7.2
pub(super) fn alert(description: u8) -> [u8; RECORD_HEADER_BYTES + 2] {
    // Behind every record of the handshake, so that it is no copy of one.
    [ALERT, 0xFE, 0xFD, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 2, description]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(suites: &[u16], offset: u8) -> Vec<u8> {
        let mut body = vec![0xFE, 0xFD];
        body.extend([7; 32]);
        body.extend([0, 0]);
        body.extend(u16::try_from(2 * suites.len()).unwrap().to_be_bytes());
        body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
        body.extend([1, 0]);
        let length = u8::try_from(body.len()).unwrap();
        let mut fragment = vec![CLIENT_HELLO, 0, 0, length + offset, 0, 0, 0, 0, offset, 0, 0, length];
        fragment.extend(&body);
        let mut record = vec![HANDSHAKE, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, length + 12];
        record.extend(&fragment);
        record
    }

    /// Whether a key is offered, and a certificate; nothing of what is no hello.
    fn offered(datagram: &[u8]) -> Option<(bool, bool)> {
        let hello = records(datagram).next().and_then(|record| Hello::of(&record))?;
        Some((hello.offers_key, hello.offers_certificate))
    }

    #[test]
    fn suites_say_what_is_offered() {
        let check = |suites: &[u16], expected| assert_eq!(offered(&hello(suites, 0)), Some(expected), "{suites:x?}");
        check(&[0x00FF, PSK_AES128_CCM_8, 0xC02B], (true, true));
        check(&[PSK_AES128_CCM_8], (true, false));
        check(&[0xC02B, 0xC0AE], (false, true));
        check(&[0xC0AE, 0x00A8], (false, false));
        check(&[], (false, false));
    }

    #[test]
    fn what_is_no_record_is_none() {
        let whole = hello(&[PSK_AES128_CCM_8], 0);
        for end in 0..whole.len() {
            assert_eq!(offered(&whole[..end]), None, "{end} bytes");
        }
        let mut of_another_version = whole.clone();
        of_another_version[1] = 3;
        assert_eq!(offered(&of_another_version), None);
        assert_eq!(offered(&hello(&[PSK_AES128_CCM_8], 1)), None, "a later fragment");
        assert_eq!(records(&[0]).count(), 0);
        assert_eq!(records(&[whole.as_slice(), &whole, &[0]].concat()).count(), 2);
    }

    #[test]
    fn a_hello_that_is_cut_off_has_a_random_yet() {
        let mut cut = hello(&[PSK_AES128_CCM_8], 0);
        cut.truncate(RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES + 34);
        cut[RECORD_HEADER_BYTES - 1] = 46;
        cut[RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES - 1] = 34;
        let hello = Hello::of(&records(&cut).next().unwrap()).unwrap();
        assert_eq!((hello.random, hello.is_first, hello.offers_key), ([7; 32], true, true));
    }
}
