//! Where grants come from: a folder of manifests, or the operator's stream.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_bridge::Grants;
use tidegate_daemon::{self as daemon, admin::Readiness};
use tidegate_grants_client::{CacheOptions, GrantStream, GrantStreamOptions};
use tidegate_manifests::Manifests;
use tidegate_model::{Generation, GrantTableBuilder, TableContents};
use tokio::sync::watch;

use crate::options::Options;

/// Where grants come from, opened.
pub(crate) enum Source {
    /// A folder, and what tells of its changes.
    Manifests(Box<ManifestGrants>, watch::Receiver<u64>),
    /// The operator's stream, which runs by itself.
    Stream(Arc<GrantStream>),
}

/// Opens the source that the options ask for.
pub(crate) fn open(options: &Options, grants: &Arc<Grants>, registry: &mut Registry) -> Result<Source> {
    if let Some(folder) = &options.manifests {
        let manifests = Manifests::open(folder).context("--manifests")?;
        let changes = daemon::watch::watch(vec![folder.clone()]);
        return Ok(Source::Manifests(Box::new(ManifestGrants::new(manifests, Arc::clone(grants), registry)), changes));
    }
    let given = |option: &Option<PathBuf>| option.clone().unwrap_or_default();
    let cache = options.grants_cache.clone();
    let options = GrantStreamOptions {
        url: options.grants.clone().unwrap_or_default().trim_end_matches('/').to_owned(),
        ca: given(&options.grants_ca),
        token: given(&options.grants_token),
        cache: cache.map(|folder| CacheOptions { folder, key: given(&options.grants_cache_key) }),
        shared_keys: options.takes_shared_keys(),
        staleness_max: options.grants_max_staleness.0,
    };
    Ok(Source::Stream(GrantStream::start(options, grants, registry)?))
}

impl Source {
    /// Puts grants in force, and again at every change; `readiness` says whether there are any. The stream, where they come
    /// by one, is to be left at the end.
    pub(crate) fn run(self, readiness: &Readiness, condition: &'static str) -> Result<Option<Arc<GrantStream>>> {
        match self {
            Self::Manifests(mut manifests, changes) => {
                manifests.reload()?;
                readiness.set(condition, true);
                tokio::spawn(manifests.follow(changes));
                Ok(None)
            }
            Self::Stream(stream) => {
                let (mut table, readiness) = (stream.table(), readiness.clone());
                tokio::spawn(async move {
                    loop {
                        readiness.set(condition, table.borrow_and_update().is_some());
                        if table.changed().await.is_err() {
                            return;
                        }
                    }
                });
                Ok(Some(stream))
            }
        }
    }
}

/// Puts what the folder says in force, and again at every change. Logs each finding once, until it is mended.
pub(crate) struct ManifestGrants {
    manifests: Manifests,
    grants: Arc<Grants>,
    generation: u64,
    said: BTreeSet<String>,
    faulty: Gauge,
}

impl ManifestGrants {
    pub(crate) fn new(manifests: Manifests, grants: Arc<Grants>, registry: &mut Registry) -> Self {
        let faulty = Gauge::default();
        registry.register("manifests_faulty", "Files of --manifests that cannot be used", faulty.clone());
        Self { manifests, grants, generation: 0, said: BTreeSet::new(), faulty }
    }

    /// Reads the folder.
    pub(crate) fn reload(&mut self) -> Result<()> {
        let reload = self.manifests.reload();
        let findings = reload.findings.iter().map(ToString::to_string);
        let errors = reload.errors.iter().map(|error| format!("{error}; the file counts as it last was without fault"));
        let said: BTreeSet<String> = findings.chain(errors).collect();
        self.faulty.set(i64::try_from(reload.errors.len()).unwrap_or(i64::MAX));
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
