//! Datagrams to one server and back, in the clear or under DTLS: who exchanges messages over it does not know which.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::dtls::{DtlsConfig, Failure, MESSAGE_BYTES_MAX, Session};

/// Bytes of a datagram.
pub(super) const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A socket that hears one server alone.
pub(super) enum Link {
    Clear(UdpSocket),
    Dtls(Box<SecureLink>),
}

impl Link {
    /// In the clear: whether anybody is there is not known.
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        connect(address).await.map(Self::Clear)
    }

    /// Under DTLS: the server is there, and both know who the other is. One that says nothing for `silence_max` is given up.
    pub(super) async fn open_dtls(
        address: SocketAddr,
        config: &DtlsConfig,
        silence_max: Duration,
    ) -> Result<Self, Failure> {
        let socket = connect(address).await.map_err(Failure::Socket)?;
        let session = handshake(&socket, config, silence_max).await?;
        Ok(Self::Dtls(Box::new(SecureLink { socket, session: Mutex::new(session) })))
    }

    /// Bytes of the largest message that it takes.
    pub(super) const fn message_bytes_max(&self) -> usize {
        match self {
            Self::Clear(_) => DATAGRAM_BYTES_MAX,
            Self::Dtls(_) => MESSAGE_BYTES_MAX,
        }
    }

    pub(super) async fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.send(message).await.map(drop),
            Self::Dtls(link) => {
                link.say(|session| session.handle_message(message, now()));
                link.flush().await
            }
        }
    }

    /// Sends it if that is possible at once.
    pub(super) fn try_send(&self, message: &[u8]) {
        match self {
            Self::Clear(socket) => drop(socket.try_send(message)),
            Self::Dtls(link) => {
                link.say(|session| session.handle_message(message, now()));
                link.try_flush();
            }
        }
    }

    /// The next message. Nothing is lost when the future is dropped.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.recv(buffer).await,
            Self::Dtls(link) => link.receive(buffer).await,
        }
    }

    /// Whatever an earlier datagram met is none of the next one's.
    pub(super) fn forget_errors(&self) {
        let socket = match self {
            Self::Clear(socket) => socket,
            Self::Dtls(link) => &link.socket,
        };
        let _ = socket.take_error();
    }
}

/// A socket with a session of DTLS on it.
pub(super) struct SecureLink {
    socket: UdpSocket,
    session: Mutex<Session>,
}

impl SecureLink {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, step: impl FnOnce(&mut Session)) {
        step(&mut self.session());
    }

    /// Sends what the session has to say; why it is over, if it is.
    async fn flush(&self) -> io::Result<()> {
        loop {
            let datagram = {
                let mut session = self.session();
                match (session.poll_datagram(), session.failure()) {
                    (Some(datagram), _) => datagram,
                    (None, Some(failure)) => return Err(failure.into()),
                    (None, None) => return Ok(()),
                }
            };
            self.socket.send(&datagram).await?;
        }
    }

    /// The same as far as it is possible at once: what is lost is said again, or does not matter any more.
    fn try_flush(&self) {
        let mut session = self.session();
        while let Some(datagram) = session.poll_datagram() {
            let _ = self.socket.try_send(&datagram);
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let wake_at = {
                let mut session = self.session();
                if let Some(message) = session.poll_message() {
                    // As a socket does with what is too long.
                    let length = message.len().min(buffer.len());
                    buffer[..length].copy_from_slice(&message[..length]);
                    return Ok(length);
                }
                session.poll_timeout()
            };
            self.flush().await?;
            match tokio::time::timeout_at(wake_at.into(), self.socket.recv(buffer)).await {
                Ok(length) => {
                    let length = length?;
                    self.session().handle_datagram(&buffer[..length], now());
                }
                Err(_elapsed) => self.session().handle_timeout(now()),
            }
        }
    }
}

impl Drop for SecureLink {
    fn drop(&mut self) {
        self.say(|session| session.handle_close(now()));
        self.try_flush();
    }
}

#[expect(clippy::disallowed_methods, reason = "a link is a driver: it has the clock of its session")]
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Makes a session, or finds out why there will be none.
async fn handshake(socket: &UdpSocket, config: &DtlsConfig, silence_max: Duration) -> Result<Session, Failure> {
    // Whatever fills it is too long for a handshake, and no part of it.
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut session = Session::new(config, silence_max, now());
    loop {
        while let Some(datagram) = session.poll_datagram() {
            socket.send(&datagram).await.map_err(|error| absence(&session, error))?;
        }
        if let Some(outcome) = session.outcome() {
            return outcome.map(|()| session);
        }
        match tokio::time::timeout_at(session.poll_timeout().into(), socket.recv(&mut buffer)).await {
            Ok(length) => {
                let length = length.map_err(|error| absence(&session, error))?;
                session.handle_datagram(&buffer[..length], now());
            }
            Err(_elapsed) => session.handle_timeout(now()),
        }
    }
}

/// What an error of the socket means while there is no session yet.
fn absence(session: &Session, error: io::Error) -> Failure {
    let is_nobody = error.kind() == io::ErrorKind::ConnectionRefused && !session.is_heard();
    if is_nobody { Failure::Silence } else { Failure::Socket(error) }
}
