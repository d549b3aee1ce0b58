//! The rig keeps its promises.
#![expect(clippy::disallowed_methods, reason = "a deadline is real time")]

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;

use super::*;

/// Where a process that is to be killed says what it started.
const TELL: &str = "CLUSTER_RIG_TELL";

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Waits until this holds.
fn becomes(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        std::thread::yield_now();
    }
}

fn pids(folder: &Path) -> Vec<u32> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok();
    ["pid", "etcd.pid", "apiserver.pid", "controllers.pid"].iter().filter_map(|name| read(name)).collect()
}

#[test]
fn kubectl_reads_back_what_it_applied() {
    let cluster = shared();
    let lab = cluster.namespace("lab").unwrap();
    let manifest =
        format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, namespace: {lab}}}, data: {{k: v}}}}");
    assert_eq!(cluster.apply(&manifest).unwrap(), "configmap/a created\n");
    let read = cluster.kubectl(&["get", "configmap", "a", "-n", &lab, "-o", "jsonpath={.data.k}"]).unwrap();
    assert_eq!(read.ok().unwrap(), "v");
    let refused = cluster.kubectl(&["get", "configmap", "b", "-n", &lab]).unwrap();
    assert!(!refused.success && refused.stderr.contains("NotFound"), "{refused:?}");
}

#[test]
fn a_namespace_is_gone_after_its_value() {
    let cluster = shared();
    let lab = cluster.namespace("lab").unwrap();
    let name = lab.name().to_owned();
    assert_ne!(name, cluster.namespace("lab").unwrap().name());
    drop(lab);
    becomes("the namespace is gone", || !cluster.kubectl(&["get", "namespace", &name]).unwrap().success);
}

async fn review(token: &str, audience: &str) -> TokenReviewStatus {
    let reviews: Api<TokenReview> = Api::all(shared().client().await.unwrap());
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
    let asked = TokenReview { spec, ..TokenReview::default() };
    reviews.create(&PostParams::default(), &asked).await.unwrap().status.unwrap()
}

#[tokio::test]
async fn a_token_is_good_for_its_audience_alone() {
    let cluster = shared();
    let lab = cluster.namespace("lab").unwrap();
    cluster.kubectl(&["create", "serviceaccount", "adapter", "-n", &lab]).unwrap().ok().unwrap();
    let token = cluster.token_for(&lab, "adapter", Some("grants")).unwrap();
    let good = review(&token, "grants").await;
    assert_eq!(good.authenticated, Some(true));
    assert_eq!(good.user.unwrap().username.unwrap(), format!("system:serviceaccount:{lab}:adapter"));
    assert_ne!(review(&token, "others").await.authenticated, Some(true));
}

#[tokio::test]
async fn a_service_account_may_do_what_it_was_given_and_no_more() {
    let cluster = shared();
    let lab = cluster.namespace("lab").unwrap();
    for args in [
        vec!["create", "serviceaccount", "reader", "-n", &lab],
        vec!["create", "role", "read", "-n", &lab, "--verb=list", "--resource=configmaps"],
        vec!["create", "rolebinding", "read", "-n", &lab, "--role=read", &format!("--serviceaccount={lab}:reader")],
    ] {
        cluster.kubectl(&args).unwrap().ok().unwrap();
    }
    let client = cluster.client_for(&lab, "reader").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, &lab);
    maps.list(&kube::api::ListParams::default()).await.unwrap();
    let refused = maps.delete("kube-root-ca.crt", &kube::api::DeleteParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");

    let mut nobody: Value = serde_json::from_str(cluster.kubeconfig()).unwrap();
    nobody["users"][0]["user"] = serde_json::json!({});
    let client = client_of(&nobody.to_string()).await.unwrap();
    let refused = Api::<ConfigMap>::namespaced(client, &lab).get("a").await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
}

#[test]
fn the_api_server_goes_away_and_comes_back_with_every_object() {
    let started = Instant::now();
    let cluster = ControlPlane::start(Options::default().audit()).unwrap();
    let up = started.elapsed();
    eprintln!("up in {} ms", up.as_millis());
    if cluster.folder().is_err() {
        return; // a cluster that was there before; the next test says so
    }
    let lab = cluster.namespace("lab").unwrap();
    let manifest = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, namespace: {lab}}}}}");
    cluster.apply(&manifest).unwrap();
    let path = format!("/api/v1/namespaces/{lab}/configmaps/a");
    let identity = ["get", "--raw", &path, "--request-timeout=2s"];
    let before = cluster.kubectl(&identity).unwrap().ok().unwrap();

    let first = cluster.api_server_pid().unwrap();
    cluster.stop_api_server().unwrap();
    becomes("the API server is gone", || !is_alive(first));
    assert!(!cluster.kubectl(&identity).unwrap().success);
    let stopped = Instant::now();
    cluster.start_api_server().unwrap();
    eprintln!("back in {} ms", stopped.elapsed().as_millis());
    assert_eq!(cluster.kubectl(&identity).unwrap().ok().unwrap(), before);

    cluster.pause_api_server().unwrap();
    assert!(!cluster.kubectl(&identity).unwrap().success);
    cluster.resume_api_server().unwrap();
    assert_eq!(cluster.kubectl(&identity).unwrap().ok().unwrap(), before);
    let log = std::fs::read_to_string(cluster.audit_log().unwrap()).unwrap();
    assert!(log.lines().any(|line| line.contains("\"verb\":\"create\"") && line.contains(&*lab)), "no create in it");

    let (folder, pids) = (cluster.folder().unwrap().to_owned(), pids(cluster.folder().unwrap()));
    assert_eq!(pids.len(), 4);
    drop(lab);
    drop(cluster);
    assert!(!folder.exists());
    becomes("every process is gone", || !pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_cluster_that_was_there_before_is_not_stopped() {
    let there = shared();
    let cluster = ControlPlane::present(&there.kubeconfig_path()).unwrap();
    assert_eq!((cluster.url(), cluster.ca_pem()), (there.url(), there.ca_pem()));
    assert!(cluster.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(cluster.stop_api_server().unwrap_err().to_string().contains(PRESENT));
    drop(cluster);
    there.kubectl(&["get", "namespaces"]).unwrap().ok().unwrap();
}

#[test]
#[ignore = "runs as a process of its own, to be killed"]
fn starts_one_and_waits_for_its_end() {
    let cluster = ControlPlane::start(Options::default()).unwrap();
    let tell = PathBuf::from(std::env::var_os(TELL).expect("run by the test below"));
    std::fs::write(tell.with_extension("part"), cluster.folder().unwrap().display().to_string()).unwrap();
    std::fs::rename(tell.with_extension("part"), tell).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn it_ends_with_its_process_even_by_sigkill() {
    let scratch = TempDir::new().unwrap();
    let tell = scratch.path().join("tell");
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--ignored", "--exact", "tests::starts_one_and_waits_for_its_end"]);
    process.env(TELL, &tell).env_remove(PRESENT).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = process.spawn().unwrap();
    becomes("it has started one", || tell.exists());
    let folder = PathBuf::from(std::fs::read_to_string(&tell).unwrap());
    becomes("all of it runs", || pids(&folder).len() == 4);
    let pids = pids(&folder);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    process.kill().unwrap();
    process.wait().unwrap();
    becomes("every process is gone", || !pids.iter().any(|pid| is_alive(*pid)));
    becomes("its folder is gone", || !folder.exists());
}

#[test]
fn it_ends_with_its_supervisor() {
    let cluster = ControlPlane::start(Options::default()).unwrap();
    let Ok(folder) = cluster.folder() else { return };
    becomes("all of it runs", || pids(folder).len() == 4);
    let pids = pids(folder);
    assert!(Command::new("kill").args(["-KILL", &pids[0].to_string()]).status().unwrap().success());
    becomes("every process is gone", || !pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
#[ignore = "runs as a process of its own, to be killed"]
fn starts_one_with_a_node_and_waits_for_its_end() {
    let _cluster = Cluster::start(1).unwrap();
    let tell = PathBuf::from(std::env::var_os(TELL).expect("run by the test below"));
    std::fs::write(tell, "").unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_cluster_with_a_node_ends_with_its_process_even_by_sigkill() {
    let scratch = TempDir::new().unwrap();
    let tell = scratch.path().join("tell");
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--ignored", "--exact", "tests::starts_one_with_a_node_and_waits_for_its_end"]);
    process.env(TELL, &tell).env_remove(PRESENT).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = process.spawn().unwrap();
    while !tell.exists() {
        assert!(process.try_wait().unwrap().is_none(), "it did not come up");
        std::thread::yield_now();
    }
    let traces = || {
        let list = |command: &mut Command| String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
        let namespaces = list(Command::new("ip").arg("netns"));
        let routes = list(Command::new("ip").args(["route", "show", "table", "all"]));
        let processes = list(Command::new("ps").args(["-eo", "args"]));
        let cgroups = Path::new("/sys/fs/cgroup/memory/tide1").exists() || Path::new("/sys/fs/cgroup/tide1").exists();
        [
            namespaces.contains("tide"),
            routes.contains("10.89.0.0/16"),
            processes.contains("/run/tidegate-cluster/"),
            cgroups,
            Path::new("/run/tidegate-cluster").exists(),
        ]
    };
    assert_eq!(traces(), [true; 5]);
    process.kill().unwrap();
    process.wait().unwrap();
    becomes("nothing of it is left", || traces() == [false; 5]);
}
