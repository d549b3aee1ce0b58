//! A real Kubernetes control plane as a child of the test: started, stopped and paused at will, gone when the test is.
//!
//! Drives `control-plane.sh`, which builds etcd and Kubernetes once and keeps them under the user's cache.
//! Owns the control plane's life and who a suite is to it; must not know any resource of this project.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tempfile::TempDir;

mod namespace;
mod nodes;
#[cfg(test)]
mod tests;

pub use namespace::Namespace;
pub use nodes::Cluster;

/// The variable that names the kubeconfig of a cluster that is already there.
const PRESENT: &str = "TIDEGATE_TEST_KUBECONFIG";

/// The script beside this crate.
fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("control-plane.sh")
}

fn run(args: &[&str]) -> Result<String> {
    let output = Command::new(script()).args(args).output().with_context(|| format!("control-plane.sh {args:?}"))?;
    if !output.status.success() {
        bail!("control-plane.sh {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a control plane is to be started with.
#[derive(Debug, Default)]
pub struct Options {
    audit: bool,
    flags: Vec<(&'static str, String)>,
}

impl Options {
    /// Writes who asked for what to [`ControlPlane::audit_log`], one JSON object a line.
    #[must_use]
    pub fn audit(mut self) -> Self {
        self.audit = true;
        self
    }

    /// One more flag of kube-apiserver, such as `--max-requests-inflight=10`.
    #[must_use]
    pub fn api_server_flag(mut self, flag: &str) -> Self {
        self.flags.push(("--apiserver", flag.to_owned()));
        self
    }

    /// One more flag of kube-controller-manager.
    #[must_use]
    pub fn controllers_flag(mut self, flag: &str) -> Self {
        self.flags.push(("--controllers", flag.to_owned()));
        self
    }
}

/// What `kubectl` said.
#[derive(Debug)]
pub struct Answer {
    /// Whether it ended with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Answer {
    /// The standard output of a command that must have succeeded.
    ///
    /// # Errors
    /// What it said on standard error, where it failed.
    pub fn ok(self) -> Result<String> {
        ensure!(self.success, "kubectl: {}", self.stderr.trim());
        Ok(self.stdout)
    }
}

/// Ends the control plane when it goes.
#[derive(Debug)]
struct Owned {
    name: String,
    folder: PathBuf,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // One that is gone already is what is wanted; it ends with this process in any case.
        let _ = run(&["stop", &self.name]);
    }
}

/// A running control plane. Dropping it kills it and throws its state away, unless it was there before.
#[derive(Debug)]
pub struct ControlPlane {
    /// Nothing where the cluster was there before.
    owned: Option<Owned>,
    /// Where the cluster was there before.
    _temporary: Option<TempDir>,
    /// What `kubectl` remembers, and kubeconfigs that are made here. In the folder of what is owned, so that it goes
    /// with it even when this process is killed.
    scratch: PathBuf,
    kubeconfig: String,
    url: String,
    ca_pem: String,
}

impl ControlPlane {
    /// Starts etcd, kube-apiserver and kube-controller-manager on free ports of 127.0.0.1; returns when the API server
    /// is ready. With `TIDEGATE_TEST_KUBECONFIG` set, takes that cluster and starts nothing; the options are then moot.
    ///
    /// # Errors
    /// When the programs cannot be built or do not start; says what they said.
    pub fn start(options: Options) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if let Some(path) = std::env::var_os(PRESENT) {
            return Self::present(Path::new(&path));
        }
        let Options { audit, flags } = options;
        let owner = std::process::id().to_string();
        let name = format!("rig-{owner}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut args = vec!["start", &name, "--owner", &owner];
        if audit {
            args.push("--audit");
        }
        args.extend(flags.iter().flat_map(|(option, flag)| [option, flag.as_str()]));
        let folder = PathBuf::from(run(&args)?);
        let kubeconfig = folder.join("kubeconfig");
        Self::with(Some(Owned { name, folder }), &kubeconfig)
    }

    /// Takes a cluster that is already there, as the kubeconfig says.
    ///
    /// # Errors
    /// When the kubeconfig names no cluster.
    pub fn present(kubeconfig: &Path) -> Result<Self> {
        Self::with(None, kubeconfig)
    }

    fn with(owned: Option<Owned>, path: &Path) -> Result<Self> {
        let (temporary, scratch) = if let Some(owned) = &owned {
            (None, owned.folder.join("kubectl"))
        } else {
            let folder = TempDir::with_prefix("tidegate-kubectl-")?;
            let path = folder.path().to_owned();
            (Some(folder), path)
        };
        std::fs::create_dir_all(&scratch)?;
        let view = ["config", "view", "--raw", "--minify", "--flatten", "--output=json"];
        let kubeconfig = kubectl(&scratch, path, &view, "")?.ok()?;
        std::fs::write(scratch.join("kubeconfig"), &kubeconfig)?;
        let parsed: Value = serde_json::from_str(&kubeconfig)?;
        let cluster = &parsed["clusters"][0]["cluster"];
        let url = cluster["server"].as_str().context("a kubeconfig with a server")?.to_owned();
        let encoded = cluster["certificate-authority-data"].as_str().unwrap_or_default();
        let ca_pem = String::from_utf8(STANDARD.decode(encoded)?)?;
        Ok(Self { owned, _temporary: temporary, scratch, kubeconfig, url, ca_pem })
    }

    /// The administrator's kubeconfig, which needs no other file.
    #[must_use]
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// A file with [`ControlPlane::kubeconfig`]; it goes with this value.
    #[must_use]
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.scratch.join("kubeconfig")
    }

    /// `https://host:port` of the API server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The CA of the API server's certificate, in PEM; empty where the system's trust is meant.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A client with the administrator's rights.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Client> {
        client_of(&self.kubeconfig).await
    }

    /// A client with the rights of a ServiceAccount, see [`ControlPlane::kubeconfig_for`].
    ///
    /// # Errors
    /// As [`ControlPlane::kubeconfig_for`].
    pub async fn client_for(&self, namespace: &str, account: &str) -> Result<Client> {
        client_of(&self.kubeconfig_for(namespace, account)?).await
    }

    /// Runs `kubectl` as the administrator, with nothing on its standard input.
    ///
    /// # Errors
    /// When it cannot be run at all; its own failure is in the [`Answer`].
    pub fn kubectl(&self, args: &[&str]) -> Result<Answer> {
        self.kubectl_with(args, "")
    }

    /// Runs `kubectl` as the administrator, with this on its standard input.
    ///
    /// # Errors
    /// As [`ControlPlane::kubectl`].
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<Answer> {
        self.kubectl_as(&self.kubeconfig_path(), args, input)
    }

    /// Runs `kubectl` as whom that kubeconfig says.
    ///
    /// # Errors
    /// As [`ControlPlane::kubectl`].
    pub fn kubectl_as(&self, kubeconfig: &Path, args: &[&str], input: &str) -> Result<Answer> {
        kubectl(&self.scratch, kubeconfig, args, input)
    }

    /// `kubectl apply --filename -` of these manifests by the administrator; returns what it said of each.
    ///
    /// # Errors
    /// What the API server refused.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.kubectl_with(&["apply", "--filename=-"], manifests)?.ok()
    }

    /// A token of a ServiceAccount by TokenRequest, good for an hour, for this audience (nothing: the API server's own).
    ///
    /// # Errors
    /// When there is no such ServiceAccount.
    pub fn token_for(&self, namespace: &str, account: &str, audience: Option<&str>) -> Result<String> {
        let audience = audience.map(|audience| format!("--audience={audience}"));
        let namespace = format!("--namespace={namespace}");
        let mut args = vec!["create", "token", account, &namespace, "--duration=1h"];
        args.extend(audience.as_deref());
        Ok(self.kubectl(&args)?.ok()?.trim().to_owned())
    }

    /// A kubeconfig with the rights of a ServiceAccount and no others, good for an hour.
    ///
    /// # Errors
    /// As [`ControlPlane::token_for`].
    pub fn kubeconfig_for(&self, namespace: &str, account: &str) -> Result<String> {
        let token = self.token_for(namespace, account, None)?;
        let mut config: Value = serde_json::from_str(&self.kubeconfig)?;
        let user = config["contexts"][0]["context"]["user"].clone();
        config["users"] = serde_json::json!([{ "name": user, "user": { "token": token } }]);
        Ok(serde_json::to_string(&config)?)
    }

    /// Writes [`ControlPlane::kubeconfig_for`] to a file that goes with this value.
    ///
    /// # Errors
    /// As [`ControlPlane::kubeconfig_for`].
    pub fn kubeconfig_path_for(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let path = self.scratch.join(format!("{namespace}.{account}.kubeconfig"));
        std::fs::write(&path, self.kubeconfig_for(namespace, account)?)?;
        Ok(path)
    }

    /// A fresh namespace whose name begins so; it is deleted when the value goes.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn namespace(&self, prefix: &str) -> Result<Namespace<'_>> {
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "generateName": format!("{prefix}-") },
        });
        let create = ["create", "--filename=-", "--output=jsonpath={.metadata.name}"];
        let name = self.kubectl_with(&create, &manifest.to_string())?.ok()?;
        Ok(Namespace::of(self, name))
    }

    fn owned(&self) -> Result<&Owned> {
        let refused = || format!("the cluster that {PRESENT} names is not ours to stop, pause or look into");
        self.owned.as_ref().with_context(refused)
    }

    /// The folder with the logs of the three programs; it goes with this value.
    ///
    /// # Errors
    /// When the cluster was there before.
    pub fn folder(&self) -> Result<&Path> {
        Ok(&self.owned()?.folder)
    }

    /// Where the API server writes what [`Options::audit`] asked for; written before the request is answered.
    ///
    /// # Errors
    /// When the cluster was there before.
    pub fn audit_log(&self) -> Result<PathBuf> {
        Ok(self.folder()?.join("audit.log"))
    }

    /// The process id of kube-apiserver.
    ///
    /// # Errors
    /// When it does not run, or the cluster was there before.
    pub fn api_server_pid(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.folder()?.join("apiserver.pid")).context("the API server is down")?;
        Ok(text.trim().parse()?)
    }

    /// Kills the API server as a crash would, and keeps it down; etcd keeps every object.
    ///
    /// # Errors
    /// When the cluster was there before.
    pub fn stop_api_server(&self) -> Result<()> {
        run(&["api-down", &self.owned()?.name]).map(drop)
    }

    /// Starts the API server again after [`ControlPlane::stop_api_server`], on its port; returns when it is ready.
    ///
    /// # Errors
    /// When it does not come back, or the cluster was there before.
    pub fn start_api_server(&self) -> Result<()> {
        run(&["api-up", &self.owned()?.name]).map(drop)
    }

    /// Stops the API server in its tracks: its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run, or the cluster was there before.
    pub fn pause_api_server(&self) -> Result<()> {
        self.signal("-STOP")?;
        // Each thread stops by itself, and one that is at work may still answer.
        let tasks = Path::new("/proc").join(self.api_server_pid()?.to_string()).join("task");
        while !all_stopped(&tasks)? {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Lets the API server go on after [`ControlPlane::pause_api_server`].
    ///
    /// # Errors
    /// As [`ControlPlane::pause_api_server`].
    pub fn resume_api_server(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args([signal, &self.api_server_pid()?.to_string()]).status()?;
        ensure!(status.success(), "kill {signal}: {status}");
        Ok(())
    }
}

/// Runs `kubectl`, which remembers a server by its address: so its memory is in `scratch`, not in the user's home.
fn kubectl(scratch: &Path, kubeconfig: &Path, args: &[&str], input: &str) -> Result<Answer> {
    let mut command = Command::new(script());
    command.arg("kubectl").args(args);
    command.env("KUBECONFIG", kubeconfig).env("KUBECACHEDIR", scratch.join("cache"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("kubectl {args:?}"))?;
    let mut stdin = child.stdin.take().context("a pipe to kubectl")?;
    let output = std::thread::scope(|scope| {
        // One that ends without reading closes the pipe; what it says then is the answer.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    })?;
    Ok(Answer {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A client with the rights of this kubeconfig.
///
/// # Errors
/// When the kubeconfig cannot be used.
pub async fn client_of(kubeconfig: &str) -> Result<Client> {
    let parsed = Kubeconfig::from_yaml(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Whether every thread of a process is in the state `T`, which stands behind the name in parentheses.
fn all_stopped(tasks: &Path) -> Result<bool> {
    for task in std::fs::read_dir(tasks)? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        if !stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The control plane of this process for tests that need nothing of it but to be there, each in a namespace of its
/// own; it ends with this process.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn shared() -> &'static ControlPlane {
    static SHARED: OnceLock<ControlPlane> = OnceLock::new();
    SHARED.get_or_init(|| ControlPlane::start(Options::default()).expect("a control plane for tests"))
}
