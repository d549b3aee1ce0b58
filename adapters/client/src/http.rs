//! A device that speaks HTTP.

use std::collections::VecDeque;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Client, ClientBuilder, Identity as TlsIdentity, RequestBuilder, Response};

use crate::error::{ClientError, Status};
use crate::event::{Event, EventParser};
use crate::{Address, Credential, Publication, QoS};

/// How long a connection may take to come about: behind a Service, the next try may lead to a pod that lives.
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// How long a publish may take; more than the server's own bound.
pub(crate) const PUBLISH_MAX: Duration = Duration::from_secs(60);
/// How long nothing may come of a server: it sends a comment or a ping every 30 s, or is gone.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(45);

/// A device with its key. Not `Debug`: it holds the key.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: Client,
    url: String,
    thing: String,
    key: Option<String>,
}

impl HttpClient {
    pub(crate) fn new(url: &str, credential: &Credential, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        Self::build(Client::builder(), url, credential, ca_pem)
    }

    /// One whose connections can become another protocol's.
    pub(crate) fn for_upgrades(url: &str, credential: &Credential, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        Self::build(Client::builder().http1_only(), url, credential, ca_pem)
    }

    fn build(
        builder: ClientBuilder,
        url: &str,
        credential: &Credential,
        ca_pem: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        const NO_TLS: ClientError = ClientError::Setup("no TLS with these certificates");
        let roots = match ca_pem {
            Some(pem) => Certificate::from_pem_bundle(pem).map_err(|_| ClientError::Setup("the CA is not PEM"))?,
            None => Vec::new(),
        };
        let mut builder = builder.connect_timeout(CONNECT_MAX).read_timeout(SILENCE_MAX).no_proxy();
        if let Some(identity) = &credential.identity {
            builder = builder.identity(TlsIdentity::from_pem(identity.pem()).map_err(|_| NO_TLS)?);
        }
        // A plain connection asks nothing of any CA, and a machine without one should not stand in its way.
        if ca_pem.is_some() || url.starts_with("http://") {
            builder = builder.tls_certs_only(roots);
        }
        let client = builder.build().map_err(|_| NO_TLS)?;
        let url = url.trim_end_matches('/').to_owned();
        if url.contains(['?', '#']) || client.get(&url).build().is_err() {
            return Err(ClientError::Setup("the URL must be SCHEME://HOST[:PORT][/PREFIX]"));
        }
        Ok(Self { client, url, thing: credential.thing.clone(), key: credential.key.clone() })
    }

    /// The URL of `path`, which is percent-encoded already, with the credential.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.basic_auth(&self.thing, Some(key)),
            None => request,
        }
    }

    pub(crate) async fn publish(&self, address: &Address, publication: Publication) -> Result<(), ClientError> {
        let Publication { content_type, qos, retain, expiry, user_properties, payload } = publication;
        let mut path = address.path();
        let mut separator = '?';
        let asked = [
            (qos != QoS::default()).then(|| format!("qos={}", qos.level())),
            retain.then(|| "retain=true".to_owned()),
            expiry.map(|seconds| format!("expiry={seconds}")),
        ];
        for parameter in asked.into_iter().flatten() {
            path.push(separator);
            path.push_str(&parameter);
            separator = '&';
        }
        let mut request = self.request(reqwest::Method::POST, &path).timeout(PUBLISH_MAX).body(payload);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        for (name, value) in user_properties {
            let encoded = [name, value].map(|text| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string());
            request = request.header("user-property", encoded.join("="));
        }
        accepted(request.send().await.map_err(broken("publish"))?).await.map(drop)
    }

    pub(crate) async fn subscribe(&self, address: &Address) -> Result<HttpSubscription, ClientError> {
        let request = self.request(reqwest::Method::GET, &address.path()).header(ACCEPT, "text/event-stream");
        let response = accepted(request.send().await.map_err(broken("subscribe"))?).await?;
        Ok(HttpSubscription { response, parser: EventParser::default(), events: VecDeque::new() })
    }
}

fn broken(operation: &'static str) -> impl Fn(reqwest::Error) -> ClientError {
    move |source| ClientError::Connection { operation, source: Box::new(source) }
}

async fn accepted(response: Response) -> Result<Response, ClientError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, detail) = refusal(response).await;
    Err(ClientError::Refused { status, detail })
}

/// What an answer says that refuses, and why.
pub(crate) async fn refusal(response: Response) -> (Status, String) {
    let status = response.status();
    let problem: serde_json::Value =
        response.bytes().await.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("no reason given").to_owned();
    (Status::Http(status.as_u16()), detail)
}

/// An open stream of events.
pub(crate) struct HttpSubscription {
    response: Response,
    parser: EventParser,
    events: VecDeque<Event>,
}

impl HttpSubscription {
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.response.chunk().await.map_err(broken("receive"))? {
                Some(bytes) => self.events.extend(self.parser.feed(&bytes)?),
                None => return Ok(None),
            }
        }
    }
}
