//! How soon a device is cut off that loses a right: from the call to the API server to the end of its open stream.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use conformance::Adapter;
use kube::Client;
use kube::api::DeleteParams;
use operator_tests::Ground;
use serde_json::json;

use crate::fleet::{self, NAMESPACE};
use crate::{each, percentiles, row};

/// Adapter processes.
const ADAPTERS: usize = 10;
/// Trials, the ways by turns.
const TRIALS: usize = 200;
/// The ways to take a right away.
const WAYS: [&str; 5] =
    ["delete the Thing", "suspend it", "remove the connection", "remove the key", "withdraw consent"];

fn name(trial: usize) -> String {
    format!("trial-{trial}")
}

/// A device of its own for each trial, on a Channel of its own in another namespace.
async fn prepare(client: &Client) -> Result<()> {
    let (channels, things) = (fleet::api(client, "plant", "Channel"), fleet::things(client));
    each(TRIALS, |trial| {
        let (channels, things) = (&channels, &things);
        async move {
            let channel = json!({
                "apiVersion": "tidegate.io/v1alpha1", "kind": "Channel", "metadata": {"name": name(trial)},
                "spec": {"allowedThings": {"namespaces": "All"}},
            });
            fleet::make(channels, channel).await?;
            let connections = json!([{"namespace": "plant", "channel": name(trial)}]);
            fleet::make(things, fleet::thing(&name(trial), &connections)).await?;
            fleet::until(things, &name(trial), |thing| {
                let conditions = thing["status"]["conditions"].as_array();
                conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
            })
            .await
        }
    })
    .await
}

async fn take_away(client: &Client, trial: usize) -> Result<()> {
    let (channels, things) = (fleet::api(client, "plant", "Channel"), fleet::things(client));
    let name = name(trial);
    let change = match trial % WAYS.len() {
        0 => {
            things.delete(&name, &DeleteParams::default()).await?;
            return Ok(());
        }
        1 => json!({"spec": {"suspended": true}}),
        2 => json!({"spec": {"connections": []}}),
        3 => json!({"spec": {"credentials": {"keyHashes": []}}}),
        _ => {
            let change = json!({"spec": {"allowedThings": {"namespaces": "Same"}}});
            return fleet::merge(&channels, &name, &change).await.map(drop);
        }
    };
    fleet::merge(&things, &name, &change).await.map(drop)
}

fn attempt(adapter: &Adapter, client: &Client, runtime: &tokio::runtime::Runtime, trial: usize) -> Result<Duration> {
    let topic = format!("channels/plant.{}/messages/a", name(trial));
    let events = adapter.subscribe(&topic, &fleet::key(&name(trial)))?;
    let ended = std::thread::spawn(move || events.to_end().map(|_| Instant::now()));
    let begun = Instant::now();
    runtime.block_on(take_away(client, trial))?;
    let ended = ended.join().ok().context("the reader")??;
    Ok(ended.duration_since(begun))
}

/// Measures, and prints.
pub(crate) fn run(ground: &Ground, client: &Client, runtime: &tokio::runtime::Runtime, port: u16) -> Result<()> {
    let adapters = (0..ADAPTERS).map(|_| ground.adapter_at(port, &[])).collect::<Result<Vec<_>>>()?;
    runtime.block_on(prepare(client)).with_context(|| format!("devices in {NAMESPACE}"))?;
    let mut all = Vec::new();
    let mut by_way = vec![Vec::new(); WAYS.len()];
    for trial in 0..TRIALS {
        let span = attempt(&adapters[trial % ADAPTERS], client, runtime, trial)?;
        all.push(span);
        by_way[trial % WAYS.len()].push(span);
    }
    row(&format!("a right is taken away to the closed socket, {ADAPTERS} adapters: p50 / p99"), &percentiles(&mut all));
    for (way, spans) in WAYS.iter().zip(&mut by_way) {
        row(&format!("  {way}"), &percentiles(spans));
    }
    Ok(())
}
