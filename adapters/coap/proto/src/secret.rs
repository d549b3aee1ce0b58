//! What is drawn at random, from one seed, and what only its holder can say.

use std::hash::{BuildHasher, Hash, Hasher};

use siphasher::sip::{SipHasher13, SipHasher24};

/// Draws numbers and signs them; whoever sees some of them cannot tell the others.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    seed: [u8; 16],
    drawn: u64,
}

impl Secret {
    pub(crate) const fn new(seed: [u8; 16]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next number.
    pub(crate) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.sign("draw", &self.drawn)
    }

    /// A number below `bound`, or 0 where that is 0. How much it favours small ones is of no account here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw().checked_rem(bound).unwrap_or(0)
    }

    /// What nobody else can say of this, for this purpose.
    pub(crate) fn sign(&self, purpose: &str, value: &impl Hash) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.seed);
        purpose.hash(&mut hasher);
        value.hash(&mut hasher);
        hasher.finish()
    }
}

/// Hashes keys of maps so that nobody outside can make them collide.
#[derive(Clone, Debug)]
pub(crate) struct Keyed(pub(crate) [u8; 16]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// The same of the same bytes wherever and whenever it is asked.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}
