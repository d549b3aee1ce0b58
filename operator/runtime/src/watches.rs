//! One kind of object, watched for ever: each change, and at the end of every list the whole, so that what vanished while
//! nobody looked is noticed.

mod merged;

use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, ObjectMeta};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Error, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_api::{Adapter, Channel, Stored, Thing};
use tidegate_plan::{ADAPTER_LABEL, MANAGED_BY, MANAGED_BY_LABEL, ObjectId, OwnedKind};
use tokio::sync::mpsc;

/// An object that was read, or of which no more than the metadata could be.
#[derive(Debug)]
pub(crate) enum Seen<K> {
    /// As the API server has it, without what nobody here reads.
    Object(K),
    /// It is there and is not what its kind asks for.
    Unreadable {
        /// Which one.
        metadata: Box<ObjectMeta>,
        /// What is wrong with it.
        why: String,
    },
}

/// What happened to one kind of object.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// One was made or changed.
    Applied(Seen<K>),
    /// One is gone.
    Gone(Box<ObjectMeta>),
    /// These are all that there are.
    All(Vec<Seen<K>>),
}

/// What a watch sends on.
pub(crate) trait Watched:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static
{
    /// How it is read: our own kinds without the fields of a newer version, which comes to the API server first.
    type Read: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Into<Self>
        + 'static;

    /// Takes off what nobody here reads, since it would be most of the memory.
    fn prune(&mut self) {
        prune_metadata(self.meta_mut());
    }
}

/// What kubectl keeps of what was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn prune_metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// The namespaces that are watched; every one where none is named.
pub(crate) type Namespaces = Arc<[String]>;

/// Watches until `to` is closed. `labels` selects, where it is not empty.
pub(crate) async fn watch<K: Watched>(
    client: Client,
    namespaces: Namespaces,
    labels: &str,
    to: mpsc::Sender<Change<K>>,
) {
    let (kind, wrap) = (K::kind(&()), |change| change);
    if namespaces.is_empty() {
        let api: Api<DeserializeGuard<K::Read>> = Api::all(client);
        return follow_either(&api, &kind, labels, seen, wrap, &to).await;
    }
    let each = |namespace: &String, to: mpsc::Sender<_>, index: usize| {
        let api: Api<DeserializeGuard<K::Read>> = Api::namespaced(client.clone(), namespace);
        let kind = &kind;
        async move { follow_either(&api, kind, labels, seen, move |change| (index, change), &to).await }
    };
    let id = |object: &K| ObjectId::of(object.meta());
    merged::merge(&namespaces, each, id, wrap, &to).await;
}

/// An object that an Adapter owns.
#[derive(Debug)]
pub(crate) struct Owned {
    /// Which one.
    pub(crate) id: ObjectId,
    /// As the API server has it.
    pub(crate) object: Value,
}

/// Watches one kind of what Adapters own until `to` is closed.
pub(crate) async fn watch_owned(
    client: Client,
    namespaces: Namespaces,
    kind: OwnedKind,
    to: mpsc::Sender<(OwnedKind, Change<Owned>)>,
) {
    let (resource, name) = (api_resource(kind), format!("{kind:?}"));
    let labels = format!("{MANAGED_BY_LABEL}={MANAGED_BY},{ADAPTER_LABEL}");
    let read = |object: DynamicObject| Seen::Object(owned(&object));
    let wrap = |change| (kind, change);
    if namespaces.is_empty() {
        return follow_either(&Api::all_with(client, &resource), &name, &labels, read, wrap, &to).await;
    }
    let each = |namespace: &String, to: mpsc::Sender<_>, index: usize| {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let (name, labels) = (&name, &labels);
        async move { follow_either(&api, name, labels, read, move |change| (index, change), &to).await }
    };
    merged::merge(&namespaces, each, |owned: &Owned| owned.id.clone(), wrap, &to).await;
}

/// An object as it is kept: what others manage of it too, since that tells whose a field is.
pub(crate) fn owned(object: &DynamicObject) -> Owned {
    let id = ObjectId::of(&object.metadata);
    Owned { id, object: serde_json::to_value(object).unwrap_or_default() }
}

/// How the API server knows a kind.
pub(crate) fn api_resource(kind: OwnedKind) -> ApiResource {
    let (group, version, plural) = kind.resource();
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: format!("{kind:?}"),
        plural: plural.to_owned(),
    }
}

/// Follows by streaming lists, or page by page where the API server has none.
async fn follow_either<R, S, T>(
    api: &Api<R>,
    kind: &str,
    labels: &str,
    read: impl Fn(R) -> Seen<S>,
    wrap: impl Fn(Change<S>) -> T,
    to: &mpsc::Sender<T>,
) where
    R: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let labels = Some(labels.to_owned()).filter(|labels| !labels.is_empty());
    let paged = watcher::Config { label_selector: labels, ..watcher::Config::default() };
    let config = paged.clone().streaming_lists();
    if follow(api, kind, config, &read, &wrap, to).await == Ended::StreamingRefused {
        tracing::info!(kind, "the API server does not stream lists: reading them page by page");
        follow(api, kind, paged, &read, &wrap, to).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Nobody listens any more.
    Unheard,
    /// Lists are not streamed here.
    StreamingRefused,
}

async fn follow<R, S, T>(
    api: &Api<R>,
    kind: &str,
    config: watcher::Config,
    read: &impl Fn(R) -> Seen<S>,
    wrap: &impl Fn(Change<S>) -> T,
    to: &mpsc::Sender<T>,
) -> Ended
where
    R: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let streaming = config.initial_list_strategy == watcher::InitialListStrategy::StreamingList;
    let mut events = std::pin::pin!(watcher(api.clone(), config).default_backoff());
    let mut listed = Vec::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = to.closed() => return Ended::Unheard,
        };
        let change = match event {
            Some(Ok(Event::Init)) => {
                listed.clear();
                continue;
            }
            Some(Ok(Event::InitApply(object))) => {
                listed.push(read(object));
                continue;
            }
            Some(Ok(Event::InitDone)) => Change::All(std::mem::take(&mut listed)),
            Some(Ok(Event::Apply(object))) => Change::Applied(read(object)),
            Some(Ok(Event::Delete(object))) => Change::Gone(Box::new(object.meta().clone())),
            Some(Err(error)) if streaming && is_refusal(&error) => return Ended::StreamingRefused,
            Some(Err(error)) => {
                tracing::warn!(kind, error = &error as &dyn std::error::Error, "the watch is interrupted");
                continue;
            }
            None => return Ended::Unheard,
        };
        if to.send(wrap(change)).await.is_err() {
            return Ended::Unheard;
        }
    }
}

/// Whether the API server said that it does not know `sendInitialEvents`.
fn is_refusal(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(Error::Api(status)) if [400, 422].contains(&status.code))
}

fn seen<K: Watched>(DeserializeGuard(read): DeserializeGuard<K::Read>) -> Seen<K> {
    match read {
        Ok(object) => {
            let mut object: K = object.into();
            object.prune();
            Seen::Object(object)
        }
        Err(invalid) => {
            let mut metadata = Box::new(invalid.metadata);
            prune_metadata(&mut metadata);
            Seen::Unreadable { metadata, why: without_values(&invalid.error) }
        }
    }
}

impl Watched for Secret {
    type Read = Self;
}
impl Watched for Thing {
    type Read = Stored<Self>;
}
impl Watched for Channel {
    type Read = Stored<Self>;
}
impl Watched for Adapter {
    type Read = Stored<Self>;
}

/// What a parser says without what it quotes: that stands in the object, and may be a secret.
fn without_values(said: &str) -> String {
    let quoted = |part: (usize, &str)| if part.0.is_multiple_of(2) { part.1.to_owned() } else { "…".to_owned() };
    said.split('"').enumerate().map(quoted).collect::<Vec<_>>().join("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_parser_quotes_is_not_repeated() {
        let said = "invalid type: string \"secret\", expected a boolean";
        assert_eq!(without_values(said), "invalid type: string \"…\", expected a boolean");
    }
}
