//! Whether a peer is where it says it is: an address is only a claim, and what answers it may hit another.

use std::hash::Hash;
use std::time::Instant;

use super::{Address, Scope, Shared};

/// Most bytes that a peer can have to its credit.
const CREDIT_BYTES_MAX: usize = 64 * 1_024;

/// What a peer has shown, and what it may be sent while it has not.
#[derive(Debug, Default)]
pub(super) struct Trust {
    is_shown: bool,
    /// Until when that is worth remembering by itself.
    kept_until: Option<Instant>,
    /// Bytes that it may still be sent.
    credit: usize,
    wrong_acknowledgements: u8,
}

impl Trust {
    /// So many bytes came from it.
    //= RFC7252 11.3
    //= RFC9175 2.4
    pub(super) fn earn(&mut self, bytes: usize, factor: Option<usize>) {
        let earned = bytes.saturating_mul(factor.unwrap_or(0));
        self.credit = self.credit.saturating_add(earned).min(CREDIT_BYTES_MAX);
    }

    /// Takes so many bytes off its credit; whether there were as many.
    pub(super) fn pay(&mut self, bytes: usize, factor: Option<usize>) -> bool {
        if self.is_shown || factor.is_none() {
            return true;
        }
        let rest = self.credit.checked_sub(bytes);
        self.credit = rest.unwrap_or(self.credit);
        rest.is_some()
    }

    /// Bytes that it may be sent.
    pub(super) const fn bytes_max(&self, factor: Option<usize>) -> usize {
        if self.is_shown || factor.is_none() { usize::MAX } else { self.credit }
    }

    /// Whether it has shown that it is there.
    pub(super) const fn is_shown(&self, factor: Option<usize>) -> bool {
        self.is_shown || factor.is_none()
    }

    /// It has, which is remembered until then at least.
    pub(super) const fn show(&mut self, until: Instant) {
        self.is_shown = true;
        self.kept_until = Some(until);
    }

    /// It has acknowledged what was sent to it. Ids have 16 bits, so that who guesses them is not believed any more.
    pub(super) const fn acknowledge(&mut self, wrong_max: u8, until: Instant) {
        if self.wrong_acknowledgements < wrong_max {
            self.show(until);
        }
    }

    /// Until when it is to be remembered.
    pub(super) const fn at(&self) -> Option<Instant> {
        self.kept_until
    }

    /// Forgets that, when it was long enough ago.
    pub(super) fn expire(&mut self, now: Instant) {
        self.kept_until.take_if(|until| *until <= now);
    }

    /// It has acknowledged what was not.
    pub(super) const fn acknowledge_wrong(&mut self) {
        self.wrong_acknowledgements = self.wrong_acknowledgements.saturating_add(1);
    }
}

impl<A: Hash> Shared<A> {
    /// What only who gets what is sent to this address can say, for a while.
    //= RFC9175 2.3, 2.4
    fn signed(&self, address: &A, window: u128) -> [u8; 8] {
        self.secret.sign("echo", &(address, window)).to_be_bytes()
    }

    fn window(&self, now: Instant) -> u128 {
        let age = now.saturating_duration_since(self.begun).as_nanos();
        age / self.limits.echo_lifetime.as_nanos().max(1)
    }
}

impl<A: Address> Scope<'_, A> {
    /// The Echo option that this peer is to send back.
    pub(super) fn echo(&self) -> [u8; 8] {
        self.shared.signed(self.address, self.shared.window(self.now))
    }

    /// Whether it is one that it was sent of late.
    pub(super) fn is_echo(&self, value: &[u8]) -> bool {
        let window = self.shared.window(self.now);
        let good = [Some(window), window.checked_sub(1)];
        good.into_iter().flatten().any(|window| self.shared.signed(self.address, window) == value)
    }
}
