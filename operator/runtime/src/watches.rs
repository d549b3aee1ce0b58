//! One kind of object, watched for ever: each change, and at the end of every list the whole, so that what vanished while
//! nobody looked is noticed.

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Error, Resource};
use serde::de::DeserializeOwned;
use tidegate_api::{Channel, Stored, Thing};
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
    type Read: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Into<Self> + 'static;

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

/// Watches until `to` is closed. `labels` selects, where it is not empty.
pub(crate) async fn watch<K: Watched>(client: Client, labels: &str, to: mpsc::Sender<Change<K>>) {
    let labels = Some(labels.to_owned()).filter(|labels| !labels.is_empty());
    let paged = watcher::Config { label_selector: labels, ..watcher::Config::default() };
    let config = paged.clone().streaming_lists();
    if follow(client.clone(), config, &to).await == Ended::StreamingRefused {
        tracing::info!(kind = %K::kind(&()), "the API server does not stream lists: reading them page by page");
        follow(client, paged, &to).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Nobody listens any more.
    Unheard,
    /// Lists are not streamed here.
    StreamingRefused,
}

async fn follow<K: Watched>(client: Client, config: watcher::Config, to: &mpsc::Sender<Change<K>>) -> Ended {
    let streaming = config.initial_list_strategy == watcher::InitialListStrategy::StreamingList;
    let api: Api<DeserializeGuard<K::Read>> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
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
                listed.push(seen(object));
                continue;
            }
            Some(Ok(Event::InitDone)) => Change::All(std::mem::take(&mut listed)),
            Some(Ok(Event::Apply(object))) => Change::Applied(seen(object)),
            Some(Ok(Event::Delete(object))) => Change::Gone(Box::new(metadata(&object))),
            Some(Err(error)) if streaming && is_refusal(&error) => return Ended::StreamingRefused,
            Some(Err(error)) => {
                tracing::warn!(kind = %K::kind(&()), error = &error as &dyn std::error::Error, "the watch is interrupted");
                continue;
            }
            None => return Ended::Unheard,
        };
        if to.send(change).await.is_err() {
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
            Seen::Unreadable { metadata }
        }
    }
}

fn metadata<K: Resource>(guard: &DeserializeGuard<K>) -> ObjectMeta {
    guard.meta().clone()
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
