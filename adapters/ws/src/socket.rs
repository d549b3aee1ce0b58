//! A WebSocket as the face sees it: messages in, messages out without waiting for the peer, and an end in order.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tungstenite::error::{Error, ProtocolError};

use crate::close::Close;

/// Pings that are answered before what was said is on its way: more are not read.
const PONGS_MAX: usize = 16;
/// How long a peer may take to read our last words, and to answer them.
const LINGER: Duration = Duration::from_secs(2);

/// What came of a socket.
#[derive(Debug)]
pub enum Incoming {
    /// A message of text.
    Text(Utf8Bytes),
    /// A message of bytes.
    Binary(Bytes),
    /// A sign of life: a ping, which is answered, or a pong.
    Alive,
    /// The peer closes. Its close frame is answered by [`Socket::part`].
    Closing,
    /// All that was said is on its way.
    Flushed,
}

/// Why a socket can go on no more.
#[derive(Debug)]
pub enum Stopped {
    /// The connection is gone.
    Gone,
    /// The peer broke the rules, and is to be told so.
    Wrong(Close),
    /// It says more at once than there is room for.
    TooLarge(Close),
}

/// A socket with what is still to be written to it.
pub struct Socket {
    inner: WebSocket,
    is_unflushed: bool,
    /// Pings that were answered since all was on its way.
    pongs: usize,
}

impl Socket {
    pub(crate) const fn new(inner: WebSocket) -> Self {
        Self { inner, is_unflushed: false, pongs: 0 }
    }

    /// Waits for what comes, if it `reads`, and until all is on its way, if it is not. Nothing is lost when the future is
    /// dropped.
    ///
    /// # Errors
    /// [`Stopped`]; then it is to be closed.
    pub async fn next(&mut self, reads: bool) -> Result<Incoming, Stopped> {
        poll_fn(|cx| self.poll(cx, reads)).await
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, reads: bool) -> Poll<Result<Incoming, Stopped>> {
        let mut is_done = false;
        if self.is_unflushed
            && let Poll::Ready(flushed) = self.poll_flush(cx)
        {
            flushed?;
            is_done = true;
        }
        // Whoever always has something to write still reads.
        if reads
            && self.pongs < PONGS_MAX
            && let Poll::Ready(came) = self.poll_read(cx)
        {
            return Poll::Ready(came);
        }
        if is_done { Poll::Ready(Ok(Incoming::Flushed)) } else { Poll::Pending }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, Stopped>> {
        self.inner.poll_next_unpin(cx).map(|came| match came {
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(bytes))) => Ok(Incoming::Binary(bytes)),
            Some(Ok(Message::Ping(_))) => {
                // Its answer is written already, as far as the peer takes it.
                self.is_unflushed = true;
                self.pongs += 1;
                Ok(Incoming::Alive)
            }
            Some(Ok(Message::Pong(_))) => Ok(Incoming::Alive),
            Some(Ok(Message::Close(_))) => Ok(Incoming::Closing),
            Some(Err(error)) => Err(stopped(error.into_inner())),
            None => Err(Stopped::Gone),
        })
    }

    /// Waits until all that was said is on its way.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        let flushed = self.inner.poll_flush_unpin(cx).map_err(|error| stopped(error.into_inner()));
        self.is_unflushed = flushed.is_pending();
        if flushed.is_ready() {
            self.pongs = 0;
        }
        flushed
    }

    /// Waits until there is room for one more message. A socket that is broken has room, and shows it when it is used.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_ready_unpin(cx).map(drop)
    }

    /// Whether all that was said is on its way.
    #[must_use]
    pub const fn is_flushed(&self) -> bool {
        !self.is_unflushed
    }

    /// Whether there is room for one more message. Whoever finds none waits until all is flushed.
    pub fn has_room(&mut self) -> bool {
        poll_fn(|cx| self.poll_room(cx)).now_or_never().is_some()
    }

    /// Says it, where there is room; [`Socket::next`] sees to it that it gets on its way.
    ///
    /// # Errors
    /// [`Stopped::Gone`].
    pub fn say(&mut self, message: Message) -> Result<(), Stopped> {
        self.is_unflushed = true;
        self.inner.start_send_unpin(message).map_err(|_gone| Stopped::Gone)
    }

    /// Ends it with these words, and waits a moment for the answer, if the peer can still be understood.
    pub async fn close(mut self, close: &Close, is_understood: bool) {
        let ended = async {
            self.inner.send(Message::Close(Some(close.frame()))).await.ok()?;
            if is_understood {
                while self.inner.next().await?.is_ok() {}
            }
            Some(())
        };
        // A peer that takes nothing is left alone.
        let _ = tokio::time::timeout(LINGER, ended).await;
    }

    /// Answers the close frame of the peer.
    pub async fn part(mut self) {
        let answered = async { while self.inner.next().await.is_some_and(|came| came.is_ok()) {} };
        let _ = tokio::time::timeout(LINGER, answered).await;
    }
}

/// What an error means for the connection.
//= RFC6455 7.4.1
fn stopped(error: axum::BoxError) -> Stopped {
    let Ok(error) = error.downcast::<Error>() else { return Stopped::Gone };
    let (code, why) = match *error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return Stopped::Gone,
        Error::Protocol(violated) => (close_code::PROTOCOL, violated.to_string()),
        Error::Utf8(_) => (close_code::INVALID, "text is not UTF-8".to_owned()),
        Error::Capacity(_) => {
            return Stopped::TooLarge(Close::new(close_code::SIZE, "message too large for this socket"));
        }
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => return Stopped::Gone,
    };
    Stopped::Wrong(Close::new(code, why))
}
