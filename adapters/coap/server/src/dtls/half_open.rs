//! The handshakes that have not ended: which of them gives way, and what all of them hold.
//!
//! Two kinds are kept apart, so that neither can keep the other out: those whose client has sent its cookie back, so that it
//! is where it says it is, and those whose has not.

use std::collections::BTreeMap;

use super::handshake::Handshake;
use crate::line::Peer;

/// What `dimpl` makes of a record that waits for others, in bytes.
pub(super) const RECORD_BYTES: usize = 5_632;
/// Bytes of records that wait, for each handshake that there may be, of either kind; and how many there may be at least.
const UNPROVEN_BYTES: usize = 1_024;
const PROVEN_BYTES: usize = 2_048;
const BYTES_MIN: usize = 256 * 1_024;

#[derive(Debug, Default)]
struct Kind {
    /// Oldest first.
    by_number: BTreeMap<u64, Peer>,
    bytes: usize,
}

pub(super) struct HalfOpen {
    handshakes_max: usize,
    unproven: Kind,
    proven: Kind,
}

impl HalfOpen {
    pub(super) fn new(handshakes_max: usize) -> Self {
        Self { handshakes_max: handshakes_max.max(1), unproven: Kind::default(), proven: Kind::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.unproven.by_number.len() + self.proven.by_number.len()
    }

    fn kind(&mut self, is_proven: bool) -> &mut Kind {
        if is_proven { &mut self.proven } else { &mut self.unproven }
    }

    pub(super) fn insert(&mut self, handshake: &Handshake, address: Peer) {
        self.kind(handshake.is_proven).by_number.insert(handshake.number, address);
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, handshake: &Handshake) {
        let kind = self.kind(handshake.is_proven);
        kind.by_number.remove(&handshake.number);
        kind.bytes -= handshake.waiting_bytes;
    }

    /// More waits in one.
    pub(super) fn hold(&mut self, handshake: &mut Handshake, bytes: usize) {
        handshake.waiting_bytes += bytes;
        self.kind(handshake.is_proven).bytes += bytes;
    }

    /// The client of one has just turned out to be there; what waited is dealt with.
    pub(super) fn prove(&mut self, handshake: &mut Handshake, address: Peer) {
        self.unproven.by_number.remove(&handshake.number);
        self.unproven.bytes -= std::mem::take(&mut handshake.waiting_bytes);
        handshake.is_proven = true;
        self.proven.by_number.insert(handshake.number, address);
    }

    /// Who gives way to one more.
    pub(super) fn gives_way(&self) -> Option<Peer> {
        let oldest = |kind: &Kind| kind.by_number.first_key_value().map(|(_, address)| *address);
        let (unproven, proven) = (oldest(&self.unproven), oldest(&self.proven));
        match self.len() {
            count if count < self.handshakes_max => None,
            _ if self.unproven.by_number.len() * 2 > self.handshakes_max => unproven,
            _ => proven.or(unproven),
        }
    }

    /// Who gives way since all of a kind hold too much.
    pub(super) fn is_too_much(&self) -> Option<Peer> {
        let of = |kind: &Kind, each: usize| {
            let bytes_max = self.handshakes_max.saturating_mul(each).max(BYTES_MIN);
            kind.by_number.first_key_value().filter(|_| kind.bytes > bytes_max).map(|(_, address)| *address)
        };
        of(&self.unproven, UNPROVEN_BYTES).or_else(|| of(&self.proven, PROVEN_BYTES))
    }
}

#[cfg(test)]
impl HalfOpen {
    /// How many of either kind there are, and what they hold.
    pub(super) fn held(&self) -> [(usize, usize); 2] {
        [&self.unproven, &self.proven].map(|kind| (kind.by_number.len(), kind.bytes))
    }
}
