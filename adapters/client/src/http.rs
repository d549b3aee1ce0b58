//! A device that speaks HTTP.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Client, RequestBuilder, Response};

use crate::event::{Event, EventParser, MalformedEvent};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a publish may take; more than the server's own bound.
const PUBLISH_MAX: Duration = Duration::from_secs(60);
/// How long nothing may come of a server: it sends a comment every 30 s, or is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// What went wrong. Never the key.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA or the URL cannot be used.
    #[error("{0}")]
    Setup(&'static str),
    /// The server cannot be reached, or the connection broke.
    #[error("cannot {operation}")]
    Connection {
        /// What was tried.
        operation: &'static str,
        /// Why it did not work.
        source: reqwest::Error,
    },
    /// The server refused.
    #[error("refused with {status}: {detail}")]
    Refused {
        /// The status.
        status: u16,
        /// The server's words.
        detail: String,
    },
    /// The server sent what is no event.
    #[error(transparent)]
    Malformed(MalformedEvent),
}

/// A device with its key. Not `Debug`: it holds the key.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    url: String,
    thing: String,
    key: String,
}

impl HttpClient {
    /// A device that shows `key` as the Thing `thing` (empty: the key alone says who) to the server at `url`; `ca_pem`
    /// is the CA that signed the server's certificate.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn new(url: &str, thing: &str, key: &str, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(ClientError::Setup("the URL must begin with http:// or https://"));
        }
        let roots = match ca_pem {
            Some(pem) => Certificate::from_pem_bundle(pem).map_err(|_| ClientError::Setup("the CA is not PEM"))?,
            None => Vec::new(),
        };
        let mut builder = Client::builder().connect_timeout(CONNECT_MAX).read_timeout(SILENCE_MAX).no_proxy();
        // A plain connection asks nothing of any CA, and a machine without one should not stand in its way.
        if ca_pem.is_some() || url.starts_with("http://") {
            builder = builder.tls_certs_only(roots);
        }
        let client = builder.build().map_err(|_| ClientError::Setup("no TLS with these certificates"))?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { client, url, thing: thing.to_owned(), key: key.to_owned() })
    }

    /// The URL of `path`, which is percent-encoded already, with the credential.
    fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).basic_auth(&self.thing, Some(&self.key))
    }

    /// Publishes, and returns when the server has accepted it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish(
        &self,
        path: &str,
        content_type: Option<&str>,
        payload: impl Into<Bytes>,
    ) -> Result<(), ClientError> {
        let mut request = self.request(reqwest::Method::POST, path).timeout(PUBLISH_MAX).body(payload.into());
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let sent = request.send().await.map_err(|source| ClientError::Connection { operation: "publish", source })?;
        accepted(sent).await.map(drop)
    }

    /// Subscribes, and returns when the server has accepted it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn subscribe(&self, path: &str) -> Result<Subscription, ClientError> {
        let request = self.request(reqwest::Method::GET, path).header(ACCEPT, "text/event-stream");
        let sent = request.send().await.map_err(|source| ClientError::Connection { operation: "subscribe", source })?;
        let response = accepted(sent).await?;
        Ok(Subscription { response, parser: EventParser::default(), events: VecDeque::new() })
    }
}

async fn accepted(response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let problem: serde_json::Value =
        response.bytes().await.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("no reason given").to_owned();
    Err(ClientError::Refused { status: status.as_u16(), detail })
}

/// An open subscription.
#[derive(Debug)]
pub struct Subscription {
    response: Response,
    parser: EventParser,
    events: VecDeque<Event>,
}

impl Subscription {
    /// Waits for the next event; `None` when the stream is over.
    ///
    /// # Errors
    /// [`ClientError`] when the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|source| ClientError::Connection { operation: "receive", source })? {
                Some(bytes) => self.events.extend(self.parser.feed(&bytes).map_err(ClientError::Malformed)?),
                None => return Ok(None),
            }
        }
    }
}
