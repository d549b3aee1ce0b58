//! The whole, as its users have it: the chart in a cluster, `kubectl`, devices and a back end.
//!
//! Owns the installation and what a test does to it. Must not share code with what it tests.

mod lab;
mod traffic;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chart_tests::{chart, helm_with, in_tree};
use cluster_rig::{Answer, Cluster};
use conformance::until;
use serde_json::Value;

pub use lab::{Lab, adapter, channel, thing};
pub use traffic::{Accepted, Listener, Traffic, Witness};

/// The namespace of the release.
pub const NAMESPACE: &str = "tidegate";
/// The release.
pub const RELEASE: &str = "tidegate";
/// Nodes of the cluster, `tide1` and `tide2`.
const NODES: u8 = 2;

/// The volume of the broker, so that what it confirmed outlives its pod. It lies on the first node.
const VOLUME: &str = "apiVersion: v1
kind: PersistentVolume
metadata: {name: broker}
spec:
  capacity: {storage: 8Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Delete
  storageClassName: tests
  hostPath: {path: VOLUME, type: DirectoryOrCreate}
  nodeAffinity:
    required:
      nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [tide1]}]}]
";

/// A cluster with the chart installed in it.
pub struct System {
    cluster: Cluster,
    /// Tidegate's and the broker's, as OCI archives.
    images: [PathBuf; 2],
}

/// The installation that the tests of one process share. They take turns, since most of them break something.
///
/// # Panics
/// When it does not come up.
pub fn system() -> MutexGuard<'static, System> {
    static SHARED: OnceLock<Mutex<System>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| Mutex::new(System::start().expect("the chart in a cluster")));
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a script of this checkout and returns what it said.
fn script(path: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(in_tree(path)).args(args).env("PROFILE", "dev").output().context(path.to_owned())?;
    ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl System {
    fn start() -> Result<Self> {
        // Only a second call fails, and then it is in force already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let image = script("charts/image/build.sh", &[])?;
        let (_, archive) = image.split_once(' ').context("an image and its file")?;
        let broker = in_tree("target/image/rabbitmq.tar");
        let name = "localhost/tidegate-test/rabbitmq:4";
        script("tests/rabbitmq/rabbitmq.sh", &["image", &broker.display().to_string(), name])?;
        let system = Self { images: [in_tree(archive), broker], cluster: Cluster::start(NODES)? };
        if system.cluster.is_owned() {
            system.load_images()?;
        }
        system.kubectl(&["create", "namespace", NAMESPACE])?.ok()?;
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        system.kubectl(&["label", "namespace", NAMESPACE, restricted])?.ok()?;
        system.make_volume()?;
        system.install(&chart())?;
        Ok(system)
    }

    /// Brings the images to every node, as to one that has come back with nothing.
    ///
    /// # Errors
    /// When the cluster was there before.
    pub fn load_images(&self) -> Result<()> {
        self.images.iter().try_for_each(|archive| self.cluster.load(archive))
    }

    /// Makes the broker's volume anew, empty.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn make_volume(&self) -> Result<()> {
        if !self.cluster.is_owned() {
            return Ok(());
        }
        let path = "/var/lib/kubelet/broker";
        self.cluster.inside(1, &["rm", "-rf", path])?;
        self.cluster.inside(1, &["install", "-d", "-m", "777", path])?;
        self.kubectl(&["delete", "persistentvolume", "broker", "--ignore-not-found", "--wait=true"])?.ok()?;
        self.api().apply(&VOLUME.replace("VOLUME", path)).map(drop)
    }

    /// Installs or upgrades the release to this chart, and waits until all of it is ready.
    ///
    /// # Errors
    /// What Helm said.
    pub fn install(&self, chart: &str) -> Result<()> {
        self.install_with(chart, &[])
    }

    /// The same with more arguments of Helm.
    ///
    /// # Errors
    /// What Helm said.
    pub fn install_with(&self, chart: &str, more: &[&str]) -> Result<()> {
        let values = in_tree("tests/cluster/values.yaml").display().to_string();
        let set = "broker.embedded.persistence.storageClassName=tests,broker.embedded.persistence.enabled=true";
        let args = ["upgrade", "--install", RELEASE, chart, "--values", &values, "--set", set, "--wait"];
        self.helm(&[&args[..], &["--timeout", "180s"], more].concat()).map(drop)
    }

    /// Runs Helm on the release's namespace, and returns what it said.
    ///
    /// # Errors
    /// What it said, where it failed.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        let kubeconfig = self.api().kubeconfig_path();
        let output = helm_with(&kubeconfig, &[args, &["--namespace", NAMESPACE]].concat())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "helm {args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The API server.
    #[must_use]
    pub const fn api(&self) -> &cluster_rig::ControlPlane {
        self.cluster.api()
    }

    /// Runs `kubectl` as the administrator.
    ///
    /// # Errors
    /// When it cannot be run; its own failure is in the answer.
    pub fn kubectl(&self, args: &[&str]) -> Result<Answer> {
        self.api().kubectl(args)
    }

    /// One value of an object: `json(&["-n", "lab", "service/http"], "{.spec.clusterIP}")`.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn json(&self, object: &[&str], path: &str) -> Result<String> {
        let path = format!("--output=jsonpath={path}");
        self.kubectl(&[&["get"], object, &[&path]].concat())?.ok()
    }

    /// The address of a Service: host and port of its first port.
    ///
    /// # Errors
    /// When there is no such Service.
    pub fn address(&self, namespace: &str, service: &str) -> Result<String> {
        self.json(&["--namespace", namespace, "service", service], "{.spec.clusterIP}:{.spec.ports[0].port}")
    }

    /// Waits until a condition holds of objects, and says which it was if it does not.
    ///
    /// # Panics
    /// When it does not within the deadline.
    pub fn wait(&self, namespace: &str, condition: &str, objects: &[&str]) {
        let of = format!("--namespace={namespace}");
        let condition = format!("--for={condition}");
        let wait = [&["wait", &of, &condition, "--timeout=90s"], objects].concat();
        let answer = self.kubectl(&wait).expect("kubectl");
        assert!(answer.success, "{objects:?} {condition}: {}", answer.stderr);
    }

    /// The names of the pods that a selector finds and that are not going away.
    ///
    /// # Errors
    /// When the API server does not say.
    pub fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<String>> {
        let get = ["--namespace", namespace, "get", "pods", "--selector", selector, "--output=json"];
        let list: Value = serde_json::from_str(&self.kubectl(&get)?.ok()?)?;
        let staying = list["items"].as_array().into_iter().flatten().map(|pod| &pod["metadata"]);
        let staying = staying.filter(|metadata| metadata["deletionTimestamp"].is_null());
        Ok(staying.filter_map(|metadata| metadata["name"].as_str().map(str::to_owned)).collect())
    }

    /// Kills pods without asking them, and returns when other ones are there and ready.
    ///
    /// # Panics
    /// When they are not within the deadline.
    pub fn replace(&self, namespace: &str, selector: &str, pods: &[String]) {
        let before = self.pods(namespace, selector).expect("pods").len();
        let of = format!("--namespace={namespace}");
        let kill = ["delete", "pod", &of, "--grace-period=0", "--force"];
        let names: Vec<&str> = pods.iter().map(String::as_str).collect();
        self.kubectl(&[&kill[..], &names].concat()).expect("kubectl").ok().expect("pods deleted");
        let mut now = Vec::new();
        until("other pods are there", || {
            now = self.pods(namespace, selector).unwrap_or_default();
            now.len() >= before && !now.iter().any(|pod| pods.contains(pod))
        });
        // By name: the selector finds those too that are still going away, and they may be gone before they are asked.
        let names = now.iter().map(String::as_str);
        self.wait(namespace, "condition=Ready", &["pod"].into_iter().chain(names).collect::<Vec<_>>());
    }

    /// A value of a Secret.
    ///
    /// # Errors
    /// When there is none.
    pub fn secret(&self, namespace: &str, name: &str, entry: &str) -> Result<String> {
        let entry = entry.replace('.', "\\.");
        let encoded = self.json(&["--namespace", namespace, "secret", name], &format!("{{.data.{entry}}}"))?;
        ensure!(!encoded.is_empty(), "the Secret {name} has no {entry}");
        Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
    }

    /// A namespace for one test, with the broker's Secret in it, under the restricted standard.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn lab(&self) -> Result<Lab<'_>> {
        Lab::new(self)
    }
}
