//! MQTT over WebSocket: messages of bytes as one stream of bytes, whatever their boundaries.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::extract::ws::{Message, close_code};
use bytes::{Buf, Bytes};
use tidegate_http::Received;
use tidegate_mqtt::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::close::Close;
use crate::socket::{Incoming, Socket, Stopped};

/// Bytes that a client may send before it is answered: MQTT takes a CONNECT of 4,096, and what comes right behind it waits.
const LOGIN_BYTES_MAX: usize = 8 * 1_024;

/// What WebSocket calls the reasons of MQTT that it has words for.
const CODES: [(Reason, u16); 7] = [
    (Reason::ServerShuttingDown, close_code::RESTART),
    (Reason::ServerBusy, close_code::AGAIN),
    (Reason::ServerUnavailable, close_code::AGAIN),
    (Reason::PacketTooLarge, close_code::SIZE),
    (Reason::MalformedPacket, close_code::PROTOCOL),
    (Reason::ProtocolError, close_code::PROTOCOL),
    (Reason::PayloadFormatInvalid, close_code::INVALID),
];

/// How a socket is closed that MQTT ends for this reason.
fn of_mqtt(reason: Reason) -> Close {
    let named = CODES.iter().find(|(known, _)| *known == reason);
    Close::new(named.map_or(close_code::POLICY, |(_, code)| *code), format!("MQTT: {reason:?}"))
}

/// How far a stream has come to its end.
enum Stage {
    Open,
    /// This is still to be said.
    Closing(Close),
    /// It was said, or the peer said so; it is still to get on its way.
    Closed,
    /// Nothing more is read.
    Ended,
}

/// A socket as a stream of bytes.
//= MQTT5 6.0.0-2
//= MQTT3 6.0.0-2
pub(crate) struct Bytestream {
    socket: Socket,
    /// Holds a client that is not let in yet to what a login needs.
    received: Received,
    /// Why MQTT ended it, if it did.
    ended_by: Arc<OnceLock<Reason>>,
    /// What is left of the last message.
    input: Bytes,
    stage: Stage,
}

impl Bytestream {
    /// A stream over `socket`, of which `received` says what its connection brings.
    pub(crate) fn new(socket: Socket, received: Received, ended_by: Arc<OnceLock<Reason>>) -> Self {
        received.hold_after(LOGIN_BYTES_MAX);
        Self { socket, received, ended_by, input: Bytes::new(), stage: Stage::Open }
    }

    /// Says what is to be said before the end of what is read.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Stage::Closing(close) = &self.stage {
            ready!(self.socket.poll_room(cx));
            // A peer that is gone needs no words.
            let _ = self.socket.say(Message::Close(Some(close.frame())));
            self.stage = Stage::Closed;
        }
        if matches!(self.stage, Stage::Closed) {
            let _ = ready!(self.socket.poll_flush(cx));
            self.stage = Stage::Ended;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Bytestream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.input.is_empty() {
            if !matches!(self.stage, Stage::Open) {
                ready!(self.poll_end(cx));
                return Poll::Ready(Ok(()));
            }
            match ready!(self.socket.poll(cx, true)) {
                Ok(Incoming::Binary(bytes)) => self.input = bytes,
                //= MQTT5 6.0.0-1
                //= MQTT3 6.0.0-1
                Ok(Incoming::Text(_)) => {
                    self.stage = Stage::Closing(Close::new(close_code::UNSUPPORTED, "MQTT is spoken in binary frames"));
                }
                Ok(Incoming::Closing) => self.stage = Stage::Closed,
                Ok(Incoming::Alive | Incoming::Flushed) => {}
                Err(Stopped::Wrong(close) | Stopped::TooLarge(close)) => self.stage = Stage::Closing(close),
                Err(Stopped::Gone) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let bytes = self.input.len().min(buf.remaining());
        buf.put_slice(&self.input[..bytes]);
        self.input.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bytestream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !matches!(self.stage, Stage::Open) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // The first that is said is the answer to the login.
        self.received.release();
        ready!(self.socket.poll_room(cx));
        let said = self.socket.say(Message::Binary(Bytes::copy_from_slice(buf)));
        Poll::Ready(said.map(|()| buf.len()).map_err(|_gone| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(cx).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }

    /// Closes the socket; what the peer still sends can be read until it has closed too.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.stage, Stage::Open) {
            ready!(self.socket.poll_room(cx));
            let close =
                self.ended_by.get().map_or_else(|| Close::new(close_code::NORMAL, ""), |reason| of_mqtt(*reason));
            let _ = self.socket.say(Message::Close(Some(close.frame())));
        }
        self.poll_flush(cx)
    }
}
