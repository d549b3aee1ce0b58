//! The server's certificate: from the authority in its Secret, renewed in place.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use tidegate_daemon::tls::Tls;
use tidegate_model::Timestamp;
use tokio::sync::watch;

use crate::authority::{self, Entries, SERVING_DAYS};
use crate::clock::timestamp;
use crate::lease::{Leadership, in_time};
use crate::writer::FIELD_MANAGER;

/// How often the authority is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked for at the start.
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(300);

/// Where the authority lies, and the names of this server.
#[derive(Clone, Debug)]
pub(crate) struct IdentityOptions {
    /// The operator's namespace.
    pub(crate) namespace: String,
    /// The Secret's name.
    pub(crate) secret: String,
    /// DNS names and addresses.
    pub(crate) names: Vec<String>,
}

/// Keeps the identity.
pub(crate) struct Identity {
    api: Api<Secret>,
    options: IdentityOptions,
    leadership: Leadership,
    /// Those that adapters trust, PEM; empty while none is known.
    bundle: watch::Sender<String>,
    /// The authority that the certificate is of, and when it was made.
    made: Option<(Entries, Timestamp)>,
}

impl Identity {
    /// Of this server; nothing is read yet.
    #[must_use]
    pub(crate) fn new(client: Client, options: IdentityOptions, leadership: Leadership) -> Self {
        let api = Api::namespaced(client, &options.namespace);
        Self { api, options, leadership, bundle: watch::Sender::default(), made: None }
    }

    /// Those that adapters are to trust, PEM, and the change of that; empty while none is known.
    pub(crate) fn bundle(&self) -> watch::Receiver<String> {
        self.bundle.subscribe()
    }

    /// The first certificate, as soon as there is an authority: the holder of the lease makes it.
    pub(crate) async fn first(&mut self) -> Tls {
        loop {
            match self.look().await {
                Ok(Some(config)) => return Tls::of(config),
                Ok(None) => {}
                Err(error) => tracing::warn!(error = &*error, "no certificate yet"),
            }
            tokio::time::sleep(FIRST_LOOK_EVERY).await;
        }
    }

    /// Renews the authority and the certificate for ever.
    pub(crate) async fn keep(mut self, tls: Tls) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.look().await {
                Ok(Some(config)) => tls.replace(config),
                Ok(None) => {}
                Err(error) => tracing::warn!(error = &*error, "the certificate is not renewed"),
            }
        }
    }

    /// A new certificate, if there should be one.
    async fn look(&mut self) -> Result<Option<rustls::ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
        let found = in_time(self.api.get_opt(&self.options.secret)).await?;
        let mut entries = found.as_ref().map(entries_of).unwrap_or_default();
        let now = timestamp();
        if self.leadership.is_held()
            && let Some(renewed) = authority::renewed(&entries, now)?
        {
            if !self.write(found, &renewed).await? {
                return Ok(None);
            }
            entries = renewed;
        }
        let bundle = entries.get(authority::BUNDLE).map(|pem| String::from_utf8_lossy(pem).into_owned());
        let bundle = bundle.unwrap_or_default();
        self.bundle.send_if_modified(|told| {
            *told != bundle && {
                *told = bundle;
                true
            }
        });
        let half = Duration::from_secs(u64::from(SERVING_DAYS) * 12 * 60 * 60);
        let fresh = self.made.as_ref().is_some_and(|(of, at)| *of == entries && now.saturating_since(*at) < half);
        if fresh || entries.is_empty() {
            return Ok(None);
        }
        let config = authority::identity(&entries, &self.options.names, now)?;
        self.made = Some((entries, now));
        Ok(Some(config))
    }

    /// Whether it was written as it was found.
    async fn write(&self, found: Option<Secret>, entries: &Entries) -> Result<bool, Error> {
        let data = entries.iter().map(|(name, value)| (name.clone(), ByteString(value.clone()))).collect();
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let written = match found {
            Some(found) => {
                let secret = Secret { data: Some(data), ..found };
                in_time(self.api.replace(&self.options.secret, &params, &secret)).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.options.secret.clone()), ..ObjectMeta::default() };
                let secret = Secret { metadata, data: Some(data), ..Secret::default() };
                in_time(self.api.create(&params, &secret)).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn entries_of(secret: &Secret) -> Entries {
    secret.data.iter().flatten().map(|(name, value)| (name.clone(), value.0.clone())).collect()
}
