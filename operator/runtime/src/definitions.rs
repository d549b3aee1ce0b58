//! Whether the API server knows every field that this program honors: one that it does not know is dropped without a
//! word when somebody applies it, a limit for example.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, Error, Resource};
use tidegate_api::{crds, missing_fields};
use tidegate_daemon::admin::Readiness;

use crate::events::Events;
use crate::lease::{Leadership, in_time};
use crate::run::{RunError, client};
use crate::writer::FIELD_MANAGER;

/// The condition that the API server knows every field.
pub(crate) const KNOWN: &str = "definitions as new as the operator";
/// How often the definitions are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How soon they are looked at again when they could not be read, or nobody could be told.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a definition may take to come into force.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);
/// Fields that are named.
const NAMED_MAX: usize = 10;

/// A definition, and what it lacks.
type Missing = (ObjectReference, String);

/// Looks at the definitions for ever. Grants are served all the same.
pub(crate) async fn watch(client: Client, readiness: Readiness, events: Events, leadership: Leadership) {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let (mut logged, mut told) = (None, None);
    loop {
        let Some(missing) = look(&api).await else {
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        };
        readiness.set(KNOWN, missing.is_none());
        if let Some((definition, note)) = missing.as_ref().filter(|_| logged != missing) {
            tracing::error!(definition = definition.name, "{note}");
        }
        logged.clone_from(&missing);
        if leadership.is_held() {
            if let Some((definition, note)) = missing.as_ref().filter(|_| told != missing) {
                events.tell(definition, EventType::Warning, "DefinitionOutdated", note).await;
            }
            told.clone_from(&missing);
        }
        let wait = if told == missing { LOOK_EVERY } else { LOOK_AGAIN };
        tokio::time::sleep(wait).await;
    }
}

/// What is missing; nothing at all when the API server does not say.
async fn look(api: &Api<CustomResourceDefinition>) -> Option<Option<Missing>> {
    let looked = missing(api).await;
    looked
        .inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "the definitions cannot be read");
        })
        .ok()
}

/// What became of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is as this program has it.
    AsBuilt,
    /// It has fields that this program does not know and lacks none: it is newer, and stays.
    Newer,
}

/// Why the definitions are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// There is no API server that it knows of.
    #[error(transparent)]
    Client(RunError),
    /// The API server refused.
    #[error("the definition {name}")]
    Api {
        /// Which one.
        name: String,
        /// Why.
        source: Error,
    },
    /// It was taken and does not come into force.
    #[error("the definition {0} is not established in time")]
    NotEstablished(String),
}

/// Brings the definitions to the API server, and returns when they are in force. One that is newer stays as it is, since
/// the fields that it has more would be dropped from every object.
///
/// # Errors
/// [`ApplyError`].
pub async fn apply() -> Result<Vec<(String, Applied)>, ApplyError> {
    let client = client().await.map_err(ApplyError::Client)?;
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let mut done = Vec::new();
    for built in crds() {
        let name = built.metadata.name.clone().unwrap_or_default();
        let failed = |source| ApplyError::Api { name: name.clone(), source };
        let served = in_time(api.get_opt(&name)).await.map_err(failed)?;
        let newer = served.as_ref().is_some_and(|served| {
            missing_fields(&built, served).is_empty() && !missing_fields(served, &built).is_empty()
        });
        if newer {
            done.push((name, Applied::Newer));
            continue;
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        in_time(api.patch(&name, &params, &Patch::Apply(&built))).await.map_err(failed)?;
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        let in_force = tokio::time::timeout(ESTABLISHED_WITHIN, established).await;
        if !matches!(in_force, Ok(Ok(_))) {
            return Err(ApplyError::NotEstablished(name));
        }
        done.push((name, Applied::AsBuilt));
    }
    Ok(done)
}

/// The first definition that lacks anything, and what.
async fn missing(api: &Api<CustomResourceDefinition>) -> Result<Option<Missing>, Error> {
    for built in crds() {
        let name = built.metadata.name.clone().unwrap_or_default();
        let served = in_time(api.get(&name)).await?;
        let missing = missing_fields(&built, &served);
        if missing.is_empty() {
            continue;
        }
        let more = missing.len().saturating_sub(NAMED_MAX);
        let named: Vec<_> = missing.into_iter().take(NAMED_MAX).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let note = format!("the API server drops fields that the operator honors: {}{more}", named.join(", "));
        let reference = ObjectReference {
            api_version: Some(CustomResourceDefinition::api_version(&()).into_owned()),
            kind: Some(CustomResourceDefinition::kind(&()).into_owned()),
            name: Some(name),
            uid: served.metadata.uid,
            ..ObjectReference::default()
        };
        return Ok(Some((reference, note)));
    }
    Ok(None)
}
