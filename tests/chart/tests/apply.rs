//! A real API server takes what the chart makes of values, without Helm too.

use chart_tests::in_tree;
use chart_tests::sets::{SETS, render_with};
use cluster_rig::{ControlPlane, Options};

/// Kinds of others, which this API server does not know.
const FOREIGN: [&str; 2] = ["apiVersion: cert-manager.io/", "apiVersion: monitoring.coreos.com/"];

fn known(rendered: &str) -> String {
    let documents = rendered.split("\n---\n").filter(|document| !FOREIGN.iter().any(|kind| document.contains(kind)));
    documents.collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn an_api_server_takes_what_is_rendered_and_the_same_again_changes_nothing() {
    let cluster = ControlPlane::start(Options::default()).unwrap();
    for namespace in ["tidegate", "plant-a", "plant-b"] {
        cluster.kubectl(&["create", "namespace", namespace]).unwrap().ok().unwrap();
    }
    let crds = in_tree("charts/tidegate/crds").display().to_string();
    let apply = ["apply", "--server-side", "--filename"];
    cluster.kubectl(&[&apply[..], &[&crds]].concat()).unwrap().ok().unwrap();
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "--filename", &crds];
    cluster.kubectl(&established).unwrap().ok().unwrap();
    for (name, sets) in SETS {
        let rendered = known(&render_with(sets, &["--no-hooks"]).unwrap());
        let dry = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-"];
        let answer = cluster.kubectl_with(&dry, &rendered).unwrap();
        assert!(answer.success, "{name}: {}", answer.stderr);
    }
    let rendered = render_with(&[], &["--no-hooks"]).unwrap();
    cluster.kubectl_with(&[&apply[..], &["-"]].concat(), &rendered).unwrap().ok().unwrap();
    let again = render_with(&[], &["--no-hooks"]).unwrap();
    let diff = cluster.kubectl_with(&["diff", "--server-side", "--filename=-"], &again).unwrap();
    assert!(diff.success && diff.stdout.is_empty(), "{}{}", diff.stdout, diff.stderr);
}
