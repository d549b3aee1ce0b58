//! One handshake, from its first ClientHello to its end.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use dimpl::{Config, Dtls, Error, Output, PskResolver};
use tidegate_model::{CertificateNames, Principal, SharedKey};

use super::Authority;
use super::identity::{HANDSHAKE_MAX, Identity, shared_key_config};
use super::record::{self, HELLO_VERIFY_REQUEST, Hello};
use super::trial::{Flights, Trial};

/// Alerts.
//= RFC5246 7.2
pub(super) const HANDSHAKE_FAILURE: u8 = 40;
const BAD_CERTIFICATE: u8 = 42;
//= RFC4279 2
const DECRYPT_ERROR: u8 = 51;

/// Datagrams that are held back at most until it is known which key the client has.
const HELD_MAX: usize = 8;

/// How handshakes with shared keys are made, and which key the one that is being dealt with has.
pub(super) struct SharedKeys {
    config: Arc<Config>,
    chosen: Arc<Chosen>,
}

#[derive(Default)]
struct Chosen(AssertUnwindSafe<Mutex<Option<SharedKey>>>);

impl PskResolver for Chosen {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        let chosen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.as_ref().map(|key| key.as_bytes().to_vec())
    }
}

impl SharedKeys {
    pub(super) fn new() -> Self {
        let chosen = Arc::<Chosen>::default();
        Self { config: shared_key_config(Arc::clone(&chosen) as Arc<dyn PskResolver>), chosen }
    }

    fn choose(&self, key: Option<SharedKey>) {
        *self.chosen.0.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

/// Who the client turns out to be.
enum Claim {
    SharedKey {
        flights: Flights,
        /// What is not handed on yet.
        held: Vec<Bytes>,
        /// Nothing while the client has not said who it is.
        resolved: Option<Option<Box<(SharedKey, Principal)>>>,
    },
    Certificate {
        identity: Arc<Identity>,
        /// What the one says that it has shown.
        shown: Option<CertificateNames>,
    },
}

pub(super) struct Handshake {
    dtls: Dtls,
    pub(super) random: [u8; 32],
    pub(super) number: u64,
    pub(super) begun: Instant,
    /// When it is to be looked at again.
    pub(super) again_at: Instant,
    /// Whether something else than a cookie was sent: the client has sent its cookie back, so it is where it says it is.
    pub(super) is_answered: bool,
    /// The same, as far as it counts among the others for that.
    pub(super) is_proven: bool,
    /// Whether somebody at its address has begun another: nothing is sent by itself then, which that one would take for its
    /// answer.
    pub(super) is_contested: bool,
    /// What came encrypted before it could be opened, the last of it: it is tried again behind what comes later.
    early: Option<Bytes>,
    /// Bytes that may wait in it.
    pub(super) waiting_bytes: usize,
    /// Bytes that its client may be sent before it is known to be there.
    credit_bytes: usize,
    claim: Claim,
}

/// What a step of a handshake has come to.
pub(super) enum Step {
    /// It goes on, and is to be looked at again then.
    Goes { again_at: Instant },
    /// It is over, by [`Handshake::into_session`].
    Done,
    /// Nothing comes of it. The client is to be told so, where it is known to be there.
    Failed { alert: u8 },
}

/// What a handshake needs of what is around it.
pub(super) struct Around<'a> {
    pub(super) keys: &'a SharedKeys,
    pub(super) authority: &'a dyn Authority,
    pub(super) now: Instant,
    /// Room for a datagram.
    pub(super) room: &'a mut Vec<u8>,
    pub(super) send: &'a mut dyn FnMut(Bytes),
}

impl Handshake {
    /// Begins one; nothing where the client wants what there is not.
    pub(super) fn begin(
        hello: &Hello,
        number: u64,
        keys: &SharedKeys,
        identity: Option<Arc<Identity>>,
        now: Instant,
    ) -> Option<Self> {
        let is_required = identity.as_ref().is_some_and(|identity| identity.is_required());
        let (dtls, claim) = if hello.offers_key && !is_required {
            // First, whichever order they are offered in: many offer certificates that have none.
            let claim = Claim::SharedKey { flights: Flights::default(), held: Vec::new(), resolved: None };
            (Dtls::new_12_psk(Arc::clone(&keys.config), now), claim)
        } else {
            let identity = identity.filter(|_| hello.offers_certificate)?;
            (identity.begin(now), Claim::Certificate { identity, shown: None })
        };
        let again_at = now + HANDSHAKE_MAX;
        Some(Self {
            dtls,
            random: hello.random,
            number,
            begun: now,
            again_at,
            is_answered: false,
            is_proven: false,
            is_contested: false,
            early: None,
            waiting_bytes: 0,
            credit_bytes: 0,
            claim,
        })
    }

    /// Takes a datagram of the client.
    pub(super) fn receive(&mut self, datagram: &[u8], around: &mut Around<'_>) -> Step {
        let datagram = Bytes::copy_from_slice(datagram);
        self.credit_bytes = self.credit_bytes.saturating_add(datagram.len());
        let datagrams = match &mut self.claim {
            Claim::Certificate { .. } => vec![datagram],
            Claim::SharedKey { flights, held, resolved } => {
                held.push(datagram.clone());
                if resolved.is_none()
                    && let Some(claimed) = flights.receive(datagram)
                {
                    let candidates = std::str::from_utf8(&claimed).map(|id| around.authority.shared_keys(id));
                    let mut candidates = candidates.unwrap_or_default();
                    let fits = match candidates.len() {
                        0 | 1 => Trial::Fits(0),
                        _ => flights.try_keys(candidates.iter().map(|(key, _)| key.as_bytes())),
                    };
                    let chosen = match fits {
                        Trial::Early if held.len() < HELD_MAX => {
                            return Step::Goes { again_at: self.begun + HANDSHAKE_MAX };
                        }
                        Trial::Fits(at) if at < candidates.len() => Some(candidates.swap_remove(at)),
                        Trial::Fits(_) | Trial::Early | Trial::Foreign => None,
                    };
                    *resolved = Some(chosen.map(Box::new));
                }
                let chosen = resolved.as_ref().and_then(|chosen| Some(chosen.as_ref()?.0.clone()));
                around.keys.choose(chosen);
                std::mem::take(held)
            }
        };
        let step = self.feed(&datagrams, around);
        around.keys.choose(None);
        step
    }

    /// Sends again what is due.
    pub(super) fn handle_timeout(&mut self, around: &mut Around<'_>) -> Step {
        if around.now >= self.begun + HANDSHAKE_MAX {
            return Step::Failed { alert: HANDSHAKE_FAILURE };
        }
        if self.is_contested {
            return Step::Goes { again_at: self.begun + HANDSHAKE_MAX };
        }
        self.feed(&[], around)
    }

    fn feed(&mut self, datagrams: &[Bytes], around: &mut Around<'_>) -> Step {
        // The clock first, as it is asked for. What is sent for that is no answer, and goes in a datagram of its own.
        let taken = self.dtls.handle_timeout(around.now);
        let mut step = self.step(around, taken);
        let early = self.early.clone().filter(|_| !datagrams.is_empty());
        for datagram in datagrams.iter().chain(&early) {
            if let Step::Goes { .. } = step {
                let taken = self.dtls.handle_packet(datagram);
                step = self.step(around, taken);
            }
        }
        //= RFC6347 4.2.4
        let is_encrypted = |datagram: &&Bytes| record::records(datagram).next().is_some_and(|record| record.epoch == 1);
        if let Some(encrypted) = datagrams.iter().rfind(is_encrypted) {
            self.early = Some(encrypted.clone());
        }
        step
    }

    fn step(&mut self, around: &mut Around<'_>, taken: Result<(), Error>) -> Step {
        if let Err(error) = taken {
            tracing::debug!(%error, "a handshake of DTLS failed");
            let is_keyed = matches!(&self.claim, Claim::SharedKey { resolved: Some(_), .. });
            return Step::Failed { alert: if is_keyed { DECRYPT_ERROR } else { HANDSHAKE_FAILURE } };
        }
        self.pump(around)
    }

    fn pump(&mut self, around: &mut Around<'_>) -> Step {
        loop {
            let needed = match self.dtls.poll_output(around.room) {
                Output::Packet(datagram) => {
                    let datagram = Bytes::copy_from_slice(datagram);
                    self.is_answered |= !is_cookie(&datagram);
                    // Who may be somewhere else gets no more than was sent in its name.
                    let credit_bytes = self.credit_bytes.checked_sub(datagram.len());
                    if !self.is_answered && credit_bytes.is_none() {
                        continue;
                    }
                    self.credit_bytes = credit_bytes.unwrap_or(0);
                    if let Claim::SharedKey { flights, resolved: None, .. } = &mut self.claim {
                        flights.send(datagram.clone());
                    }
                    (around.send)(datagram);
                    continue;
                }
                Output::PeerCert(der) => {
                    let Claim::Certificate { identity, shown } = &mut self.claim else { continue };
                    let Some(names) = identity.verify(der, around.authority.now()) else {
                        tracing::debug!("a device's certificate is not to be believed");
                        return Step::Failed { alert: BAD_CERTIFICATE };
                    };
                    *shown = Some(names);
                    continue;
                }
                Output::Connected => return Step::Done,
                Output::BufferTooSmall { needed } => needed,
                // A cookie is not sent again by itself: who has not sent it back may be somewhere else.
                //= RFC6347 4.2.1
                Output::Timeout(_) if !self.is_answered => {
                    return Step::Goes { again_at: self.begun + HANDSHAKE_MAX };
                }
                Output::Timeout(at) => return Step::Goes { again_at: at.min(self.begun + HANDSHAKE_MAX) },
                Output::CloseNotify => return Step::Failed { alert: HANDSHAKE_FAILURE },
                Output::KeyingMaterial(..) | Output::ApplicationData(_) | _ => continue,
            };
            around.room.resize(needed, 0);
        }
    }

    /// The session that came of it, and who proved to have its key, or else the certificate that was shown.
    pub(super) fn into_session(self) -> (Dtls, Option<Principal>, Option<CertificateNames>) {
        match self.claim {
            Claim::SharedKey { resolved, .. } => (self.dtls, resolved.flatten().map(|chosen| chosen.1), None),
            Claim::Certificate { shown, .. } => (self.dtls, None, shown),
        }
    }
}

/// Whether a datagram of the server asks for a cookie to be sent back, and does nothing else.
fn is_cookie(datagram: &[u8]) -> bool {
    record::records(datagram).all(|record| {
        let mut fragments = record.fragments().peekable();
        fragments.peek().is_some() && fragments.all(|fragment| fragment.kind == HELLO_VERIFY_REQUEST)
    })
}
