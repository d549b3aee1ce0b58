//! From the folder of manifests to the grant table in force.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use anyhow::{Context, Result};
use tidegate_bridge::Grants;
use tidegate_manifests::Manifests;
use tidegate_model::{Generation, GrantTableBuilder, TableContents};
use tokio::sync::watch;

/// Puts what the folder says in force, and again at every change. Logs each finding once, until it is mended.
pub(crate) struct ManifestGrants {
    manifests: Manifests,
    grants: Arc<Grants>,
    generation: u64,
    said: BTreeSet<String>,
}

impl ManifestGrants {
    pub(crate) const fn new(manifests: Manifests, grants: Arc<Grants>) -> Self {
        Self { manifests, grants, generation: 0, said: BTreeSet::new() }
    }

    /// Reads the folder.
    pub(crate) fn reload(&mut self) -> Result<()> {
        let reload = self.manifests.reload();
        let findings = reload.findings.iter().map(ToString::to_string);
        let said: BTreeSet<String> = findings.chain(reload.errors.iter().map(ToString::to_string)).collect();
        for line in said.difference(&self.said) {
            tracing::warn!("{line}");
        }
        self.said = said;
        reload.contents.map_or(Ok(()), |contents| self.put_in_force(&contents))
    }

    fn put_in_force(&mut self, contents: &TableContents) -> Result<()> {
        self.generation += 1;
        // A fresh random state a table, so that nobody who chooses names can choose collisions.
        let hash_seed = RandomState::new().build_hasher().finish();
        let table = GrantTableBuilder::table_of(contents, Generation(self.generation), hash_seed)
            .context("the plan makes no table")?;
        tracing::info!(
            generation = self.generation,
            things = table.things(),
            channels = table.channels(),
            "grants in force"
        );
        self.grants.replace(table).context("the table cannot be put in force")
    }

    /// Reads the folder again whenever `changes` tells, for ever.
    pub(crate) async fn follow(mut self, mut changes: watch::Receiver<u64>) {
        while changes.changed().await.is_ok() {
            let reloaded = tokio::task::spawn_blocking(move || {
                let outcome = self.reload();
                (self, outcome)
            });
            let Ok((this, outcome)) = reloaded.await else { return };
            self = this;
            if let Err(error) = outcome {
                tracing::error!("{error:#}");
            }
        }
    }
}
