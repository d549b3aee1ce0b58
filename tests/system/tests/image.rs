//! What lies in the image, and beside it.

use std::process::Command;

use chart_tests::in_tree;
use serde_json::Value;

#[test]
fn the_image_holds_three_static_programs_and_says_what_they_are_made_of() {
    let build = Command::new(in_tree("charts/image/build.sh")).env("PROFILE", "dev").output().unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let said = String::from_utf8(build.stdout).unwrap();
    let archive = in_tree(said.trim().split_once(' ').unwrap().1);

    for program in ["adapter", "operator", "tidegate"] {
        let path =
            archive.parent().unwrap().join(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }).join(program);
        // Nothing of this machine: neither a loader nor a library is asked for.
        let loader = Command::new("readelf").args(["--program-headers", "--dynamic"]).arg(&path).output().unwrap();
        let headers = String::from_utf8(loader.stdout).unwrap();
        assert!(headers.contains("LOAD") && !headers.contains("INTERP") && !headers.contains("(NEEDED)"), "{program}");
        let version = Command::new(&path).arg("--version").env_clear().output().unwrap();
        assert!(String::from_utf8_lossy(&version.stdout).starts_with(program), "{program}");
    }

    let materials = archive.with_extension("cdx.json");
    let materials: Value = serde_json::from_slice(&std::fs::read(materials).unwrap()).unwrap();
    let components = materials["components"].as_array().unwrap();
    let named = |name: &str| components.iter().any(|component| component["name"] == name);
    // What is linked, and nothing that only tests or other platforms need.
    assert!(named("lapin") && named("tidegate-plan") && !named("proptest") && !named("windows-sys"));
    assert!(components.iter().all(|component| component["licenses"].is_array()), "a license is missing");
}
