//! The side of a replica that does not lead: it tells the one that does what its adapters have.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, StatusCode};
use tokio::sync::watch;

use crate::clock::now;
use crate::lease::Leadership;
use crate::peers::{Question, Questions, REPORT_PATH, Report};
use crate::state::State;

/// How often it is tried again to reach the one that leads.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How soon a question is looked at again that could not be answered.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the one that leads may take to answer; it waits for something to ask.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Reports while this process does not lead.
pub(crate) struct Reporter {
    /// What is told.
    pub(crate) state: Arc<State>,
    /// Whether it leads itself.
    pub(crate) leadership: Leadership,
    /// Where the one that leads is.
    pub(crate) leader: watch::Receiver<Option<SocketAddr>>,
    /// The authorities of its certificate, PEM.
    pub(crate) bundle: watch::Receiver<String>,
    /// The name in its certificate.
    pub(crate) name: String,
    /// This process.
    pub(crate) identity: String,
    /// The token that is shown to it; read again each time.
    pub(crate) token: PathBuf,
}

/// Why the one that leads did not hear.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("the token cannot be read")]
    Token(#[source] std::io::Error),
    #[error("the replica that leads cannot be reached")]
    Http(#[source] reqwest::Error),
    #[error("the replica that leads answered {0}")]
    Status(StatusCode),
}

impl Reporter {
    /// Reports for ever.
    pub(crate) async fn run(mut self) {
        let mut asked = Vec::new();
        let mut told = false;
        loop {
            let leader = *self.leader.borrow_and_update();
            let Some(leader) = leader.filter(|_| !self.leadership.is_held()) else {
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            };
            let report = self.state.report(&self.identity, &asked, now());
            let all_open = report.have.is_empty() && !asked.is_empty();
            if all_open {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            match self.tell(leader, &report).await {
                Ok(next) => (asked, told) = (next, false),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(error = &error as &dyn std::error::Error, "what adapters have here is not told");
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    async fn tell(&self, leader: SocketAddr, report: &Report) -> Result<Vec<Question>, Unheard> {
        let token = tokio::fs::read_to_string(&self.token).await.map_err(Unheard::Token)?;
        let bundle = self.bundle.borrow().clone();
        let certificates = Certificate::from_pem_bundle(bundle.as_bytes()).map_err(Unheard::Http)?;
        // The certificate has names, the other replica an address.
        let client = Client::builder()
            .tls_certs_only(certificates)
            .https_only(true)
            .no_proxy()
            .resolve(&self.name, leader)
            .timeout(ANSWER_MAX)
            .build()
            .map_err(Unheard::Http)?;
        let url = format!("https://{}:{}{REPORT_PATH}", self.name, leader.port());
        let body = serde_json::to_vec(report).unwrap_or_default();
        let answer = client.post(url).bearer_auth(token.trim()).body(body).send().await.map_err(Unheard::Http)?;
        if !answer.status().is_success() {
            return Err(Unheard::Status(answer.status()));
        }
        let bytes = answer.bytes().await.map_err(Unheard::Http)?;
        Ok(serde_json::from_slice::<Questions>(&bytes).unwrap_or_default().ask)
    }
}
