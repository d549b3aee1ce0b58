//! A WebSocket of `tidegate.v1`: its handshake, its frames, its silence and its end.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use reqwest::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{Method, Response, StatusCode, Upgraded};
use tokio::time::Sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::CLOSE_MAX;
use super::frame::Frame;
use crate::error::{ClientError, Status};
use crate::event::MalformedEvent;
use crate::http::{HttpClient, SILENCE_MAX, refusal};

/// The subprotocol.
const PROTOCOL: &str = "tidegate.v1";
/// How long a server may be silent before it is asked for a sign of life.
const ASK_AFTER: Duration = Duration::from_secs(30);
/// Bytes of a message that is received.
const MESSAGE_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Bytes that are read at once: every connection has this buffer.
const READ_BYTES: usize = 16 * 1_024;

/// Why a connection is over. Everybody who waits is told.
#[derive(Clone)]
pub(super) enum Failure {
    /// The server refused the handshake, or what was said.
    Refused(Status, String),
    /// The server closed it, with a code and in words, or with neither.
    Closed(Option<(u16, String)>),
    /// The server sent what is no frame.
    Malformed,
    /// It broke, or did not come about.
    Broken(Arc<dyn Error + Send + Sync>),
}

impl Failure {
    fn broken(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Broken(source.into().into())
    }

    /// What it means to who tried `operation`.
    pub(super) fn error(self, operation: &'static str) -> ClientError {
        match self {
            Self::Refused(status, detail) => ClientError::Refused { status, detail },
            Self::Closed(Some((code, detail))) => ClientError::Refused { status: Status::Closed(code), detail },
            Self::Closed(None) => {
                ClientError::Connection { operation, source: "the server closed the connection".into() }
            }
            Self::Malformed => MalformedEvent.into(),
            Self::Broken(source) => ClientError::Connection { operation, source: Box::new(source) },
        }
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        // Only the words of the others: one of them holds a message.
        let SocketError::Io(error) = error else { return Self::broken(error.to_string()) };
        Self::broken(error)
    }
}

/// A connection after its handshake.
pub(super) struct Socket {
    stream: WebSocketStream<Upgraded>,
    /// Over when the server was silent for so long that it is asked, and again when it was for too long.
    silence: Pin<Box<Sleep>>,
    is_asked: bool,
}

impl Socket {
    /// Opens one on a path.
    pub(super) async fn open(client: &HttpClient, path: &str) -> Result<Self, Failure> {
        let key = generate_key();
        let request = client
            .request(Method::GET, path)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .header(SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
        // Its URL is of HTTP, which nobody asked for.
        let response = request.send().await.map_err(|error| Failure::broken(error.without_url()))?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS && !status.is_success() {
            let (status, detail) = refusal(response).await;
            return Err(Failure::Refused(status, detail));
        }
        if !is_agreed(&response, &key) {
            return Err(Failure::broken("the server does not speak tidegate.v1 over WebSocket there"));
        }
        let upgraded = response.upgrade().await.map_err(Failure::broken)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let stream = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        Ok(Self { stream, silence: Box::pin(tokio::time::sleep(ASK_AFTER)), is_asked: false })
    }

    /// Whether it takes a text now.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.stream.poll_ready_unpin(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            // Where it cannot be written to, reading tells why.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Takes a text, which goes out while it is polled for frames.
    pub(super) fn send(&mut self, text: String) -> Result<(), Failure> {
        Ok(self.stream.start_send_unpin(Message::text(text))?)
    }

    /// Sends what is to be sent, and yields the next frame. Pings are answered meanwhile.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        // Where it cannot be written to, reading tells why.
        let _ = self.stream.poll_flush_unpin(cx);
        loop {
            let Poll::Ready(message) = self.stream.poll_next_unpin(cx) else {
                ready!(self.silence.as_mut().poll(cx));
                if std::mem::replace(&mut self.is_asked, true) {
                    return Poll::Ready(Err(Failure::broken(format!("the server was silent for {SILENCE_MAX:?}"))));
                }
                self.silence.set(tokio::time::sleep(SILENCE_MAX - ASK_AFTER));
                // Where it cannot be written to, reading tells why.
                let _ = self.stream.start_send_unpin(Message::Ping(Bytes::new()));
                let _ = self.stream.poll_flush_unpin(cx);
                continue;
            };
            self.silence.set(tokio::time::sleep(ASK_AFTER));
            self.is_asked = false;
            let Some(message) = message.transpose()? else { return Poll::Ready(Err(Failure::Closed(None))) };
            return Poll::Ready(match message {
                Message::Text(text) => Frame::parse(&text).map_err(|MalformedEvent| Failure::Malformed),
                Message::Binary(_) => Err(Failure::Malformed),
                Message::Close(frame) => Err(closed(frame)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            });
        }
    }

    /// The same as a future. Nothing is lost when it is dropped.
    pub(super) async fn frame(&mut self) -> Result<Frame, Failure> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Takes leave, or answers the server that does.
    pub(super) async fn close(mut self) {
        let farewell = async {
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            // Where that cannot be said, the server has said it, or the connection is gone already.
            let _ = self.stream.send(Message::Close(Some(frame))).await;
            while self.frame().await.is_ok() {}
        };
        let _ = tokio::time::timeout(CLOSE_MAX, farewell).await;
    }
}

/// Whether the server has agreed to what was asked for.
fn is_agreed(response: &Response, key: &str) -> bool {
    let says = |name, expected: &str| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.eq_ignore_ascii_case(expected))
    };
    let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        && says(UPGRADE, "websocket")
        && says(SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
        && accept.is_some_and(|accept| accept == derive_accept_key(key.as_bytes()).as_str())
}

fn closed(frame: Option<CloseFrame>) -> Failure {
    let said = frame.filter(|frame| frame.code != CloseCode::Normal);
    Failure::Closed(said.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned())))
}
