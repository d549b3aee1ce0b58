//! The fleet: Things and Channels by their numbers.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::each;

/// Channels that the fleet is spread over.
pub(crate) const CHANNELS: usize = 100;
/// Where it is.
pub(crate) const NAMESPACE: &str = "fleet";

/// The name of a Thing.
pub(crate) fn name(number: usize) -> String {
    format!("dev-{number}")
}

/// The name of a Channel.
pub(crate) fn channel(number: usize) -> String {
    format!("line-{}", number % CHANNELS)
}

/// The key of whoever has this name.
pub(crate) fn key(name: &str) -> String {
    format!("key-of-{name}-0123456789")
}

/// Objects of a kind of ours.
pub(crate) fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "tidegate.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "tidegate.io/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// The Things of the fleet.
pub(crate) fn things(client: &Client) -> Api<DynamicObject> {
    api(client, NAMESPACE, "Thing")
}

/// A Thing with a key that is in no Secret.
pub(crate) fn thing(name: &str, connections: &Value) -> Value {
    let hash = Sha256::digest(key(name)).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "Thing", "metadata": {"name": name},
        "spec": {"connections": connections, "credentials": {"keyHashes": [{"id": "a", "sha256": hash}]}},
    })
}

/// Makes an object.
pub(crate) async fn make(api: &Api<DynamicObject>, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await.context("create")?;
    Ok(())
}

/// Changes an object.
pub(crate) async fn merge(api: &Api<DynamicObject>, name: &str, change: &Value) -> Result<DynamicObject> {
    Ok(api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await?)
}

/// Waits until an object is so.
pub(crate) async fn until(api: &Api<DynamicObject>, name: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
    /// Longer than anything takes that works.
    const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
    let condition = |object: Option<&DynamicObject>| object.is_some_and(|object| is_so(&object.data));
    match tokio::time::timeout(DEADLINE, await_condition(api.clone(), name, condition)).await {
        Ok(outcome) => outcome.map(drop).context("await"),
        Err(_elapsed) => bail!("{name} is not so within {DEADLINE:?}"),
    }
}

/// Makes the whole fleet.
pub(crate) async fn create(client: &Client, count: usize) -> Result<()> {
    for namespace in [NAMESPACE, "plant"] {
        let namespaces: Api<DynamicObject> = Api::all_with(
            client.clone(),
            &ApiResource {
                group: String::new(),
                version: "v1".to_owned(),
                api_version: "v1".to_owned(),
                kind: "Namespace".to_owned(),
                plural: "namespaces".to_owned(),
            },
        );
        make(&namespaces, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await?;
    }
    let channels = api(client, NAMESPACE, "Channel");
    each(CHANNELS, |number| {
        let channels = &channels;
        async move {
            let metadata = json!({"name": channel(number)});
            make(
                channels,
                json!({"apiVersion": "tidegate.io/v1alpha1", "kind": "Channel", "metadata": metadata, "spec": {}}),
            )
            .await
        }
    })
    .await?;
    let things = things(client);
    each(count, |number| {
        let things = &things;
        async move {
            let connections = [0, 1, 2].map(|more| json!({"channel": channel(number + more)}));
            make(things, thing(&name(number), &json!(connections))).await
        }
    })
    .await
}
