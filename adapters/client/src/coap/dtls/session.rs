//! One session of DTLS, from its handshake to its end; sans-IO.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use dimpl::{Dtls, Error, Output, SecurityError};

use super::{DtlsConfig, Failure, Trust};

/// How long a handshake may take.
pub(in crate::coap) const HANDSHAKE_MAX: Duration = Duration::from_secs(20);
/// How long a server may say nothing to the proof that the device has its key: until that was sent four times. One that does
/// not know the key cannot read it, and most are silent then.
const FINISHED_MAX: Duration = Duration::from_secs(8);
/// Bytes of a datagram that is taken before the session stands.
pub(in crate::coap) const HANDSHAKE_BYTES_MAX: usize = 16 * 1_024;
/// Datagrams that the library keeps at once: no certificate is larger than all of them.
const HANDSHAKE_DATAGRAMS_MAX: usize = 30;
/// Bytes of a message: it goes in one record.
//= RFC6347 4.1.1
pub(in crate::coap) const MESSAGE_BYTES_MAX: usize = 16 * 1_024;
/// Messages that wait for who receives; what is newer takes the place of the oldest.
const MESSAGES_MAX: usize = 64;
/// Bytes of a record beyond its message, at most.
const RECORD_BYTES: usize = 64;
/// Bytes of the head of a record.
//= RFC6347 4.1
const HEAD_BYTES: usize = 13;
/// The type of records that only say that what follows is encrypted.
const CHANGE_CIPHER_SPEC: u8 = 20;

/// What a session has come to.
#[derive(Clone, Copy)]
enum Phase {
    /// Nothing has come from the server.
    Silent,
    /// The server has said something.
    Heard,
    /// The device has proved that it has its key, first at this time.
    Finished(Instant),
    /// Both know who the other is.
    Open,
}

/// A session, as the device's end of it. Not `Debug`: it holds the key.
pub(in crate::coap) struct Session {
    dtls: Dtls,
    trust: Option<Trust>,
    phase: Phase,
    failure: Option<Failure>,
    /// When a server that has said nothing is given up, and when a handshake is.
    silent_until: Instant,
    open_until: Instant,
    wake_at: Instant,
    outgoing: VecDeque<Vec<u8>>,
    received: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Session {
    /// Begins one. A server that says nothing for `silence_max` is given up.
    pub(in crate::coap) fn new(config: &DtlsConfig, silence_max: Duration, now: Instant) -> Self {
        let mut dtls = match &config.certificates {
            Some(certificates) => Dtls::new_12(config.config.clone(), certificates.own.clone(), now),
            None => Dtls::new_12_psk(config.config.clone(), now),
        };
        dtls.set_active(true);
        let mut session = Self {
            dtls,
            trust: config.certificates.as_ref().map(|certificates| certificates.server.clone()),
            phase: Phase::Silent,
            failure: None,
            silent_until: now + silence_max,
            open_until: now + HANDSHAKE_MAX,
            wake_at: now,
            outgoing: VecDeque::new(),
            received: VecDeque::new(),
            buffer: vec![0; HANDSHAKE_BYTES_MAX * HANDSHAKE_DATAGRAMS_MAX],
        };
        session.handle_timeout(now);
        session
    }

    /// Whether both know who the other is, or why they never will.
    pub(in crate::coap) fn outcome(&mut self) -> Option<Result<(), Failure>> {
        match self.failure.take() {
            Some(failure) => Some(Err(failure)),
            None => matches!(self.phase, Phase::Open).then_some(Ok(())),
        }
    }

    /// Whether anything has come from the server.
    pub(in crate::coap) const fn is_heard(&self) -> bool {
        !matches!(self.phase, Phase::Silent)
    }

    /// Why it is over.
    pub(in crate::coap) const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// A time has come.
    pub(in crate::coap) fn handle_timeout(&mut self, now: Instant) {
        if self.failure.is_none() {
            let outcome = self.dtls.handle_timeout(now);
            self.take(outcome, now);
        }
        // What answers at the last moment is in time.
        if self.failure.is_none()
            && let Some((deadline, failure)) = self.deadline()
            && now >= deadline
        {
            self.failure = Some(failure);
        }
    }

    /// A datagram has come from the server.
    pub(in crate::coap) fn handle_datagram(&mut self, bytes: &[u8], now: Instant) {
        let is_open = matches!(self.phase, Phase::Open);
        if self.failure.is_some() || !is_record(bytes) || (!is_open && bytes.len() > HANDSHAKE_BYTES_MAX) {
            return;
        }
        if !self.is_heard() {
            self.phase = Phase::Heard;
        }
        let outcome = self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(bytes));
        self.take(outcome, now);
    }

    /// A message is to go to the server. It has no more than [`MESSAGE_BYTES_MAX`].
    pub(in crate::coap) fn handle_message(&mut self, message: &[u8], now: Instant) {
        if self.failure.is_none() {
            let sent = self.dtls.handle_timeout(now).and_then(|()| self.dtls.send_application_data(message));
            self.take(sent.map(drop), now);
        }
    }

    /// The device takes leave.
    //= RFC5246 7.2.1
    pub(in crate::coap) fn handle_close(&mut self, now: Instant) {
        if self.failure.is_none() && matches!(self.phase, Phase::Open) {
            let outcome = self.dtls.handle_timeout(now).and_then(|()| self.dtls.close());
            self.take(outcome, now);
        }
    }

    /// The next datagram to send.
    pub(in crate::coap) fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// The next message that has come.
    pub(in crate::coap) fn poll_message(&mut self) -> Option<Vec<u8>> {
        self.received.pop_front()
    }

    /// When [`Session::handle_timeout`] is due.
    pub(in crate::coap) fn poll_timeout(&self) -> Instant {
        self.deadline().map_or(self.wake_at, |(deadline, _)| deadline.min(self.wake_at))
    }

    /// When the handshake is given up, and why then.
    fn deadline(&self) -> Option<(Instant, Failure)> {
        match self.phase {
            Phase::Silent => Some((self.silent_until, Failure::Silence)),
            Phase::Heard => Some((self.open_until, Failure::Late)),
            Phase::Finished(at) => Some((at + FINISHED_MAX, Failure::Unknown)),
            Phase::Open => None,
        }
    }

    /// Takes what comes of a step. After an error the library is not to be asked anything.
    fn take(&mut self, outcome: Result<(), Error>, now: Instant) {
        if let Err(error) = outcome {
            self.failure = Some(self.meaning(error));
            return;
        }
        loop {
            match self.dtls.poll_output(&mut self.buffer) {
                Output::Packet(bytes) => {
                    if is_encrypted(bytes) && matches!(self.phase, Phase::Silent | Phase::Heard) {
                        self.phase = Phase::Finished(now);
                    }
                    self.outgoing.push_back(bytes.to_vec());
                }
                Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.wake_at = at;
                    return;
                }
                Output::Connected => {
                    self.phase = Phase::Open;
                    // Nothing as large as a certificate comes any more.
                    self.buffer = vec![0; MESSAGE_BYTES_MAX + RECORD_BYTES];
                }
                // Before anything is said that only this server may know.
                Output::PeerCert(certificate) => {
                    let trusted = self.trust.as_ref().map_or(Ok(()), |trust| trust.verify(certificate));
                    if let Err(error) = trusted {
                        self.failure = Some(Failure::Untrusted(error));
                        return;
                    }
                }
                Output::ApplicationData(message) => {
                    if self.received.len() >= MESSAGES_MAX {
                        self.received.pop_front();
                    }
                    self.received.push_back(message.to_vec());
                }
                Output::CloseNotify => self.failure = Some(Failure::Closed),
                // It has outputs for other uses, and will have more.
                Output::KeyingMaterial(..) | _ => {}
            }
        }
    }

    fn meaning(&self, error: Error) -> Failure {
        let Error::SecurityError(SecurityError::FatalAlert { description }) = error else {
            return Failure::Broken(error);
        };
        // What speaks of a certificate, of a key, or of who somebody is.
        //= RFC5246 7.2
        //= RFC4279 2
        let is_about_proof = matches!(description, 20 | 21 | 40..=51 | 115 | 116);
        match self.phase {
            Phase::Finished(_) if is_about_proof => Failure::Refused(description),
            Phase::Finished(_) | Phase::Silent | Phase::Heard | Phase::Open => Failure::Alert(description),
        }
    }
}

/// Whether it begins as a record of DTLS does. What is something else is not the server's.
fn is_record(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=23, 0xfe, 0xff | 0xfd, ..])
}

/// Whether the datagram says that what follows is encrypted: that is the proof of the device's key.
fn is_encrypted(mut datagram: &[u8]) -> bool {
    while let Some((head, rest)) = datagram.split_first_chunk::<HEAD_BYTES>() {
        if head[0] == CHANGE_CIPHER_SPEC {
            return true;
        }
        let length = usize::from(u16::from_be_bytes([head[11], head[12]]));
        datagram = rest.get(length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests;
