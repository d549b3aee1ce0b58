//! A stream that is lent to whoever speaks on it, and comes back when they are done: so that the connection can be closed in
//! order, whatever library held it last.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::upgrade::Received;

/// The stream, until it is dropped.
pub(crate) struct Lent<Io> {
    /// Absent only while it is dropped.
    io: Option<Io>,
    owner: Option<oneshot::Sender<Io>>,
    received: Received,
}

impl<Io> Lent<Io> {
    /// Lends `io`; the other end gets it back.
    pub(crate) fn new(io: Io, received: Received) -> (Self, oneshot::Receiver<Io>) {
        let (owner, back) = oneshot::channel();
        (Self { io: Some(io), owner: Some(owner), received }, back)
    }

    fn io(&mut self) -> &mut Io {
        self.io.as_mut().expect("it is there until it is dropped")
    }
}

impl<Io> Drop for Lent<Io> {
    fn drop(&mut self) {
        if let (Some(io), Some(owner)) = (self.io.take(), self.owner.take()) {
            // An owner who does not wait for it lets it go.
            let _ = owner.send(io);
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Lent<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.received.poll_released(cx));
        let before = buf.filled().len();
        ready!(Pin::new(self.io()).poll_read(cx, buf))?;
        self.received.count(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Lent<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.io()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.io()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io()).poll_shutdown(cx)
    }
}
