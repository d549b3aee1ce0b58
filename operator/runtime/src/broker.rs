//! The Secret with the broker's URL in the operator's own namespace: made for a broker that was installed with the operator,
//! and followed to know whether the broker is there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use serde_json::json;
use tidegate_plan::BrokerSecret;
use tokio::sync::watch;

use crate::lease::in_time;
use crate::run::{RunError, client};
use crate::writer::{FIELD_MANAGER, random};

/// How often the Secret is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked for while it is not there.
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(500);
/// The port of a broker that was installed with the operator.
const PORT: u16 = 5672;
/// The user that is made on it.
const USER: &str = "tidegate";

/// Where the Secret lies.
#[derive(Clone, Debug)]
pub struct BrokerSecretOptions {
    /// The operator's own namespace.
    pub namespace: String,
    /// The Secret.
    pub secret: BrokerSecret,
    /// The StatefulSet and the Service of a broker that was installed with the operator, whose Secret is made here.
    pub embedded: Option<String>,
}

/// How the broker is reached. Not shown by `Debug`: it holds a password.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerAccess {
    /// Its URL.
    pub url: String,
    /// The CA of its certificate, PEM.
    pub ca_pem: Option<String>,
}

impl fmt::Debug for BrokerAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerAccess(redacted)")
    }
}

/// Follows the Secret for ever, and makes it first where it is ours to make. Must be called within a tokio runtime.
///
/// # Errors
/// When there is no API server that it knows of.
pub async fn follow_broker_secret(
    options: BrokerSecretOptions,
) -> Result<watch::Receiver<Option<BrokerAccess>>, RunError> {
    let client = client().await?;
    let (tell, told) = watch::channel(None);
    tokio::spawn(async move {
        let api: Api<Secret> = Api::namespaced(client.clone(), &options.namespace);
        let mut in_trouble = false;
        loop {
            let looked = look(&client, &api, &options).await;
            let wait = match looked {
                Ok(access) => {
                    in_trouble = false;
                    let found = access.is_some();
                    tell.send_if_modified(|told| {
                        *told != access && {
                            *told = access;
                            true
                        }
                    });
                    if found { LOOK_EVERY } else { FIRST_LOOK_EVERY }
                }
                Err(error) => {
                    if !std::mem::replace(&mut in_trouble, true) {
                        let (error, name) = (&error as &dyn std::error::Error, &options.secret.name);
                        tracing::warn!(error, secret = name, "the broker's Secret cannot be read or made, trying on");
                    }
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = tell.closed() => return,
            }
        }
    });
    Ok(told)
}

async fn look(
    client: &Client,
    api: &Api<Secret>,
    options: &BrokerSecretOptions,
) -> Result<Option<BrokerAccess>, Error> {
    if let Some(secret) = in_time(api.get_opt(&options.secret.name)).await? {
        return Ok(access(&secret, &options.secret));
    }
    let Some(embedded) = &options.embedded else { return Ok(None) };
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &options.namespace);
    let owner = in_time(sets.get(embedded)).await?;
    let secret = made(options, embedded, &owner, &password());
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match in_time(api.create(&params, &secret)).await {
        Ok(secret) => Ok(access(&secret, &options.secret)),
        // Another replica was sooner.
        Err(Error::Api(status)) if status.is_already_exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a Secret says; nothing where the entry with the URL is missing.
fn access(secret: &Secret, options: &BrokerSecret) -> Option<BrokerAccess> {
    let entry = |name: &str| {
        let value = secret.data.as_ref()?.get(name)?;
        Some(String::from_utf8_lossy(&value.0).trim().to_owned())
    };
    let ca_pem = options.ca_entry.as_deref().and_then(entry);
    entry(&options.url_entry).map(|url| BrokerAccess { url, ca_pem })
}

/// A Secret of the form that RabbitMQ's own operator gives to the one of its default user; and the definitions by which the
/// broker has that user. It goes with the broker.
fn made(options: &BrokerSecretOptions, embedded: &str, owner: &StatefulSet, password: &str) -> Secret {
    let host = format!("{embedded}.{}.svc", options.namespace);
    let definitions = json!({
        "users": [{"name": USER, "password": password, "tags": ["administrator"]}],
        "vhosts": [{"name": "/"}],
        "permissions": [{"user": USER, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    });
    let data = BTreeMap::from([
        ("type", "rabbitmq".to_owned()),
        ("username", USER.to_owned()),
        ("password", password.to_owned()),
        ("host", host.clone()),
        ("port", PORT.to_string()),
        (options.secret.url_entry.as_str(), format!("amqp://{USER}:{password}@{host}:{PORT}/")),
        ("definitions.json", definitions.to_string()),
    ]);
    let data = data.into_iter().map(|(name, value)| (name.to_owned(), ByteString(value.into_bytes()))).collect();
    let owner = OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "StatefulSet".to_owned(),
        name: embedded.to_owned(),
        uid: owner.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        name: Some(options.secret.name.clone()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    Secret { metadata, data: Some(data), ..Secret::default() }
}

/// 256 bits as hexadecimal digits, which need no escape in a URL.
fn password() -> String {
    random().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> BrokerSecretOptions {
        let secret = BrokerSecret {
            name: "broker".to_owned(),
            url_entry: "connection_string".to_owned(),
            ca_entry: Some("ca.crt".to_owned()),
        };
        BrokerSecretOptions { namespace: "tidegate".to_owned(), secret, embedded: None }
    }

    #[test]
    fn what_is_made_is_understood_and_shown_to_nobody() {
        let options = options();
        let secret = made(&options, "rabbit", &StatefulSet::default(), "0123");
        let access = access(&secret, &options.secret).unwrap();
        assert_eq!(access.url, "amqp://tidegate:0123@rabbit.tidegate.svc:5672/");
        assert_eq!(access.ca_pem, None);
        assert!(!format!("{access:?}").contains("0123"));
        assert_eq!(password().len(), 64);
        assert_ne!(password(), password());
    }

    #[test]
    fn a_secret_without_the_url_says_nothing() {
        assert_eq!(access(&Secret::default(), &options().secret), None);
    }
}
