//! A real API server with the definitions in it, a real operator that may do no more than its role says, and real
//! adapters that know nothing of Kubernetes but a URL, a CA and a token.
//!
//! Owns the operator's process. Must not share code with what it tests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_rig::{ControlPlane, Options};
use conformance::{Adapter, exchange, program, until};

/// The operator's namespace.
pub const NAMESPACE: &str = "tidegate";
/// The templates of the chart that say what the operator may do, and who may connect what.
const RIGHTS: [&str; 2] = ["templates/operator/rbac.yaml", "templates/admission.yaml"];
/// The ServiceAccount of adapters.
const ADAPTERS: &str = "apiVersion: v1
kind: ServiceAccount
metadata: {name: adapter, namespace: tidegate}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: tidegate-grants}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tidegate-tidegate-grants}
subjects: [{kind: ServiceAccount, name: adapter, namespace: tidegate}]
";

/// An API server that knows the resources.
pub struct Ground {
    /// The API server.
    pub cluster: ControlPlane,
    /// In the folder of the control plane, so that it goes with it even when this process is killed.
    folder: PathBuf,
    operators: AtomicU32,
    listeners: AtomicU32,
}

/// A control plane for one test alone, which it may break.
///
/// # Errors
/// When it does not come up, or does not take the definitions.
pub fn ground() -> Result<Ground> {
    ground_with(&[], &[])
}

/// The same with these namespaces too, and the rights that the chart gives for these values.
///
/// # Errors
/// As [`ground`].
pub fn ground_with(namespaces: &[&str], values: &[&str]) -> Result<Ground> {
    let cluster = ControlPlane::start(Options::default().audit())?;
    for namespace in [&[NAMESPACE], namespaces].concat() {
        cluster.kubectl(&["create", "namespace", namespace])?.ok()?;
    }
    let crds = chart_tests::in_tree("crds");
    let apply = ["apply", "--server-side", "--filename"];
    cluster.kubectl(&[&apply[..], &[&crds.display().to_string()]].concat())?.ok()?;
    let chart = chart_tests::chart();
    let rights = RIGHTS.map(|template| format!("--show-only={template}"));
    let mut template = vec!["template", "tidegate", &chart, "--namespace", NAMESPACE, &rights[0], &rights[1]];
    template.extend(values.iter().flat_map(|value| ["--set", value]));
    let rendered = chart_tests::helm(&template)?;
    ensure!(rendered.status.success(), "helm: {}", String::from_utf8_lossy(&rendered.stderr));
    cluster.kubectl_with(&[&apply[..], &["-"]].concat(), &String::from_utf8(rendered.stdout)?)?.ok()?;
    cluster.apply(ADAPTERS)?;
    let kinds = ["things.tidegate.io", "channels.tidegate.io", "adapters.tidegate.io"];
    for kind in kinds {
        cluster.kubectl(&["wait", "--for=condition=Established", "crd", kind, "--timeout=30s"])?.ok()?;
    }
    let folder = cluster.folder()?.join("operators");
    std::fs::create_dir(&folder)?;
    Ok(Ground { cluster, folder, operators: AtomicU32::new(0), listeners: AtomicU32::new(0) })
}

/// The control plane that the tests of one process share.
///
/// # Panics
/// When it does not come up.
pub fn shared() -> &'static Ground {
    static SHARED: OnceLock<Ground> = OnceLock::new();
    SHARED.get_or_init(|| ground().expect("a control plane"))
}

impl Ground {
    /// Starts an operator as its ServiceAccount, and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready within the deadline.
    pub fn operator(&self) -> Result<Operator> {
        self.operator_at(0)
    }

    /// The same, serving grants on a port that the caller knows.
    ///
    /// # Errors
    /// As [`Ground::operator`].
    pub fn operator_at(&self, port: u16) -> Result<Operator> {
        self.operator_with(port, &[])
    }

    /// The same, with more arguments.
    ///
    /// # Errors
    /// As [`Ground::operator`].
    pub fn operator_with(&self, port: u16, more: &[&str]) -> Result<Operator> {
        let operator = self.start_operator(port, more)?;
        until("the operator is ready", || operator.admin("/ready").is_ok_and(|a| a.starts_with("HTTP/1.1 200")));
        Ok(operator)
    }

    /// The same, where it serves grants and is not to be ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn operator_unready(&self) -> Result<Operator> {
        let operator = self.start_operator(0, &[])?;
        until("the operator is there", || operator.admin("/health").is_ok_and(|a| a.starts_with("HTTP/1.1 200")));
        let made = ["get", "secret", "-n", NAMESPACE, "tidegate-grants-ca"];
        until("there is an authority", || self.cluster.kubectl(&made).is_ok_and(|answer| answer.success));
        Ok(operator)
    }

    fn start_operator(&self, port: u16, more: &[&str]) -> Result<Operator> {
        let number = self.operators.fetch_add(1, Ordering::Relaxed);
        let kubeconfig = self.cluster.kubeconfig_path_for(NAMESPACE, "tidegate-operator")?;
        let log = self.folder.join(format!("operator-{number}.log"));
        let token = self.folder.join(format!("operator-{number}.token"));
        std::fs::write(&token, self.cluster.token_for(NAMESPACE, "tidegate-operator", Some("tidegate-grants"))?)?;
        let child = Command::new(program("operator")?)
            .args(["run", "--identity", &format!("operator-{number}"), "--log-level", "debug,hyper=info,h2=info"])
            .args(["--listen-grants", &format!("127.0.0.1:{port}"), "--admin", "127.0.0.1:0"])
            .args(["--adapter-image", "registry.test/tidegate:1", "--broker-secret", "broker"])
            .arg("--peer-token")
            .arg(token)
            .args(more)
            .env("KUBECONFIG", kubeconfig)
            .stderr(std::fs::File::create(&log)?)
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Operator { child, log })
    }

    /// Starts an adapter on an operator's grants, with more arguments, and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready within the deadline.
    pub fn adapter(&self, operator: &Operator, more: &[&str]) -> Result<Adapter> {
        self.adapter_at(operator.grants()?.port(), more)
    }

    /// The same, on the grants of whoever serves them, or will, on a port.
    ///
    /// # Errors
    /// As [`Ground::adapter`].
    pub fn adapter_at(&self, port: u16, more: &[&str]) -> Result<Adapter> {
        self.adapter_as((NAMESPACE, "adapter"), port, &[&["--broker", "memory:"], more].concat())
    }

    /// The same, as a ServiceAccount; the arguments say which broker.
    ///
    /// # Errors
    /// As [`Ground::adapter`].
    pub fn adapter_as(&self, account: (&str, &str), port: u16, more: &[&str]) -> Result<Adapter> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let ca = self.jsonpath(&["secret", "-n", NAMESPACE, "tidegate-grants-ca"], "{.data.ca\\.crt}")?;
        let (url, ca_path) = (format!("https://localhost:{port}"), path("ca.crt"));
        std::fs::write(&ca_path, STANDARD.decode(ca)?)?;
        let token = path(&format!("token.{}.{}", account.0, account.1));
        std::fs::write(&token, self.cluster.token_for(account.0, account.1, Some("tidegate-grants"))?)?;
        let arguments = ["--grants", &url, "--grants-ca", &ca_path, "--grants-token", &token];
        Adapter::start_with(&[&arguments, more].concat())
    }

    /// The status with which grants are answered to who shows a token.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn grants_status(&self, operator: &Operator, token: &str) -> Result<u16> {
        let url = format!("https://localhost:{}/v1/grants", operator.grants()?.port());
        let ca = self.folder.join("asked.crt");
        let pem = self.jsonpath(&["secret", "-n", NAMESPACE, "tidegate-grants-ca"], "{.data.ca\\.crt}")?;
        std::fs::write(&ca, STANDARD.decode(pem)?)?;
        // The answer has no end: its head is enough.
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "2", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"])
            .arg(&ca)
            .args(["--header", &format!("Authorization: Bearer {token}"), &url])
            .output()?;
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }

    /// Listens to the grants that whoever shows a token is told, in the bytes that are sent. `query` begins with a `?`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn told(&self, operator: &Operator, token: &str, query: &str) -> Result<Told> {
        let url = format!("https://localhost:{}/v1/grants{query}", operator.grants()?.port());
        let number = self.listeners.fetch_add(1, Ordering::Relaxed);
        let path = |name: &str| self.folder.join(format!("told-{number}.{name}"));
        let (ca, bytes) = (path("crt"), path("bytes"));
        let pem = self.jsonpath(&["secret", "-n", NAMESPACE, "tidegate-grants-ca"], "{.data.ca\\.crt}")?;
        std::fs::write(&ca, STANDARD.decode(pem)?)?;
        let child = Command::new("curl")
            .args(["--silent", "--no-buffer", "--fail", "--header", &format!("Authorization: Bearer {token}")])
            .arg("--cacert")
            .arg(&ca)
            .arg("--output")
            .arg(&bytes)
            .arg(url)
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Told { child, bytes })
    }

    /// What kubectl says of an object at a path.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn jsonpath(&self, object: &[&str], path: &str) -> Result<String> {
        let output = format!("jsonpath={path}");
        self.cluster.kubectl(&[&["get"], object, &["-o", &output]].concat())?.ok()
    }

    /// A key in a Secret.
    ///
    /// # Errors
    /// When there is none.
    pub fn key(&self, namespace: &str, secret: &str, entry: &str) -> Result<String> {
        let encoded = self.jsonpath(&["secret", "-n", namespace, secret], &format!("{{.data.{entry}}}"))?;
        ensure!(!encoded.is_empty(), "no {entry} in {namespace}/{secret}");
        Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
    }

    /// Waits until an object is Ready, by `kubectl wait`.
    ///
    /// # Errors
    /// When it is not within 20 s; says what its status is.
    pub fn ready(&self, namespace: &str, object: &str) -> Result<()> {
        let wait = ["wait", "-n", namespace, "--for=condition=Ready", object, "--timeout=20s"];
        let answer = self.cluster.kubectl(&wait)?;
        if !answer.success {
            let status = self.jsonpath(&["-n", namespace, object], "{.status}")?;
            anyhow::bail!("{object} is not ready: {status}");
        }
        Ok(())
    }

    /// `status/reason` of a condition.
    #[must_use]
    pub fn condition(&self, namespace: &str, object: &str, kind: &str) -> String {
        let path = format!("{{.status.conditions[?(@.type==\"{kind}\")]['status','reason']}}");
        self.jsonpath(&["-n", namespace, object], &path).unwrap_or_default().replace(' ', "/")
    }
}

/// A grant stream as it comes, byte for byte. Dropping it ends it.
pub struct Told {
    child: Child,
    bytes: PathBuf,
}

impl Told {
    /// Whether a text was among the bytes so far.
    #[must_use]
    pub fn has(&self, text: &str) -> bool {
        let bytes = std::fs::read(&self.bytes).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Whether the operator has ended the stream.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running operator. Dropping it kills it.
pub struct Operator {
    child: Child,
    log: PathBuf,
}

impl Operator {
    fn address(&self, option: &str) -> Result<SocketAddr> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(&format!("{option} address="))).context("not bound yet")?;
        Ok(line.rsplit_once("address=").context("an address")?.1.trim().parse()?)
    }

    /// Where it serves grants.
    ///
    /// # Errors
    /// When it does not yet.
    pub fn grants(&self) -> Result<SocketAddr> {
        self.address("--listen-grants")
    }

    /// Asks the admin endpoint.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn admin(&self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        exchange(self.address("--admin")?, request.as_bytes())
    }

    /// The value of a metric.
    ///
    /// # Errors
    /// When there is none.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let text = self.admin("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {name}"))?.trim().parse()?)
    }

    /// All that it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as a crash would.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn terminate(&mut self) -> Result<Option<i32>> {
        Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        self.ended()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        let mut code = None;
        until("the operator ends", || match self.child.try_wait() {
            Ok(Some(status)) => {
                code = status.code();
                true
            }
            Ok(None) | Err(_) => false,
        });
        Ok(code)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.kill();
    }
}
