//! A whole cluster whose nodes run pods, for one process at a time: real kubelets, containerd, kube-proxy and DNS.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{ControlPlane, PRESENT};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster.sh")
}

fn run(args: &[&str]) -> Result<String> {
    // A node that is gone is known to be after 8 s, not after 50.
    let flags = "--node-monitor-grace-period=8s";
    let mut command = Command::new(script());
    let output =
        command.args(args).env("CLUSTER_FLAGS_KCM", flags).output().with_context(|| format!("cluster.sh {args:?}"))?;
    if !output.status.success() {
        bail!("cluster.sh {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A running cluster. It ends with this process, by whatever death, unless it was there before.
#[derive(Debug)]
pub struct Cluster {
    api: ControlPlane,
    owned: bool,
}

impl Cluster {
    /// Starts one with so many nodes, `tide1` and so on; waits while another process has one. With
    /// `TIDEGATE_TEST_KUBECONFIG` set, takes that cluster and starts nothing. Needs root.
    ///
    /// # Errors
    /// When it does not come up; says what the script said.
    pub fn start(nodes: u8) -> Result<Self> {
        if let Some(path) = std::env::var_os(PRESENT) {
            return Ok(Self { api: ControlPlane::present(Path::new(&path))?, owned: false });
        }
        let kubeconfig = run(&["start", "--owner", &std::process::id().to_string(), &nodes.to_string()])?;
        Ok(Self { api: ControlPlane::present(Path::new(&kubeconfig))?, owned: true })
    }

    /// Its API server.
    #[must_use]
    pub const fn api(&self) -> &ControlPlane {
        &self.api
    }

    /// Whether it was started here, and may be broken.
    #[must_use]
    pub const fn is_owned(&self) -> bool {
        self.owned
    }

    /// Brings an image, an OCI archive, to every node.
    ///
    /// # Errors
    /// When there is no such file, or the cluster was there before.
    pub fn load(&self, archive: &Path) -> Result<()> {
        self.command(&["load", &archive.display().to_string()]).map(drop)
    }

    /// Runs a command inside a node, by its number, and returns what it said.
    ///
    /// # Errors
    /// When it fails, or the cluster was there before.
    pub fn inside(&self, node: u8, command: &[&str]) -> Result<String> {
        self.command(&[&["in", &node.to_string()], command].concat())
    }

    /// Ends a node as a loss of power would.
    ///
    /// # Errors
    /// When the cluster was there before.
    pub fn crash(&self, node: u8) -> Result<()> {
        self.command(&["crash", &node.to_string()]).map(drop)
    }

    /// Brings a node back, with nothing of what was on it.
    ///
    /// # Errors
    /// When it does not come back, or the cluster was there before.
    pub fn bring_back(&self, node: u8) -> Result<()> {
        self.command(&["node-up", &node.to_string()]).map(drop)
    }

    /// Kills the API server, and keeps it down.
    ///
    /// # Errors
    /// When the cluster was there before.
    pub fn stop_api_server(&self) -> Result<()> {
        self.command(&["api-down"]).map(drop)
    }

    /// Starts the API server again; returns when it answers.
    ///
    /// # Errors
    /// When it does not come back, or the cluster was there before.
    pub fn start_api_server(&self) -> Result<()> {
        self.command(&["api-up"]).map(drop)
    }

    fn command(&self, args: &[&str]) -> Result<String> {
        if !self.owned {
            bail!("the cluster that {PRESENT} names is not ours to break");
        }
        run(args)
    }
}
