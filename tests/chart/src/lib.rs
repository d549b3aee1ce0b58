//! What the chart may be told, and what it makes of that.
//!
//! Owns the values, of which files of the chart are made, and the call of Helm. Must not know what a template looks like.

pub mod documents;
pub mod sets;
pub mod values;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// A file or folder of this checkout.
#[must_use]
pub fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Runs Helm as `tests/cluster/build.sh` makes it.
///
/// # Errors
/// When it cannot be run; its own failure is in the output.
pub fn helm(args: &[&str]) -> Result<Output> {
    helm_with(Path::new("/dev/null"), args)
}

/// The same on the cluster of a kubeconfig. What Helm remembers lies beside that, since another cluster may have had its
/// address.
///
/// # Errors
/// As [`helm`].
pub fn helm_with(kubeconfig: &Path, args: &[&str]) -> Result<Output> {
    let build = in_tree("tests/cluster/build.sh");
    let home = Command::new(&build).arg("home").output().context("build.sh home")?;
    let helm = Path::new(String::from_utf8_lossy(&home.stdout).trim()).join("bin/helm");
    if !helm.exists() {
        ensure!(Command::new(&build).status()?.success(), "build.sh failed");
    }
    let mut command = Command::new(helm);
    command.args(args).env("KUBECONFIG", kubeconfig);
    if let Some(folder) = kubeconfig.parent().filter(|folder| *folder != Path::new("/dev")) {
        command.env("KUBECACHEDIR", folder.join("cache"));
        for (variable, name) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, folder.join("helm").join(name));
        }
    }
    command.output().context("helm")
}

/// The chart's folder.
#[must_use]
pub fn chart() -> String {
    in_tree("charts/tidegate").display().to_string()
}
