//! A folder of manifests, changed as people and kubelets change one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::symlink;
use std::path::Path;

use expect_test::{Expect, expect};
use tempfile::TempDir;
use tidegate_manifests::{Manifests, Reload};

const CHANNEL: &str =
    "apiVersion: tidegate.io/v1alpha1\nkind: Channel\nmetadata: {namespace: lab, name: telemetry}\nspec: {}\n";
const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata:\n  namespace: lab\n  name: keys\n  labels: {tidegate.io/credentials: \"true\"}\nstringData:\n  key: canary-0123456789abcdef\n";

fn thing(name: &str) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: Thing\nmetadata: {{namespace: lab, name: {name}}}\nspec:\n  connections: [{{channel: telemetry}}]\n  credentials: {{secretRefs: [{{id: a, name: keys, key: key}}]}}\n"
    )
}

fn say(reload: &Reload, folder: &Path) -> String {
    let mut text = match &reload.contents {
        None => "unchanged\n".to_owned(),
        Some(contents) => {
            let channels = contents.channels.iter().map(|c| format!("channel {}\n", c.id));
            let things = contents.things.iter().map(|t| format!("thing {} keys={}\n", t.id, t.keys.len()));
            channels.chain(things).collect()
        }
    };
    reload.findings.iter().for_each(|finding| text += &format!("{finding}\n"));
    reload.errors.iter().for_each(|error| text += &format!("{error}\n"));
    text.replace(&folder.display().to_string(), "DIR")
}

fn check(manifests: &mut Manifests, folder: &TempDir, expected: &Expect) {
    expected.assert_eq(&say(&manifests.reload(), folder.path()));
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        write(&folder, name, text);
    }
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn many_files_and_documents_make_one_table() {
    let all = [CHANNEL, &thing("dev")].join("---\n");
    let folder = folder(&[("a.yaml", &all), ("below/keys.yml", SECRET), ("notes.txt", "{"), (".hidden.yaml", "{")]);
    let mut manifests = Manifests::open(folder.path()).unwrap();
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
        channel lab.telemetry
        thing lab.dev keys=1
    "#]],
    );
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
        unchanged
    "#]],
    );
}

#[test]
fn a_file_that_does_not_parse_keeps_what_it_was_and_says_where() {
    let folder = folder(&[("a.yaml", &[CHANNEL, &thing("dev")].join("---\n")), ("keys.yaml", SECRET)]);
    let mut manifests = Manifests::open(folder.path()).unwrap();
    manifests.reload();
    write(&folder, "a.yaml", &[CHANNEL, &thing("dev").replace("connections: [", "connections: [[")].join("---\n"));
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
        unchanged
        DIR/a.yaml:11:3: not YAML: did not find expected ',' or ']'
    "#]],
    );
    write(&folder, "a.yaml", &[CHANNEL, &thing("dev").replace("credentials", "credentialz")].join("---\n"));
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
        unchanged
        DIR/a.yaml:11:3: not a Thing: spec: unknown field `credentialz`, expected one of `suspended`, `aliases`, `connections`, `credentials`
    "#]],
    );
    write(&folder, "a.yaml", &[CHANNEL, &thing("other")].join("---\n"));
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
        channel lab.telemetry
        thing lab.other keys=1
    "#]],
    );
}

#[test]
fn what_is_removed_is_gone() {
    let folder = folder(&[("a.yaml", CHANNEL), ("b.yaml", &thing("dev")), ("keys.yaml", SECRET)]);
    let mut manifests = Manifests::open(folder.path()).unwrap();
    manifests.reload();
    std::fs::remove_file(folder.path().join("keys.yaml")).unwrap();
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
            channel lab.telemetry
            thing lab.dev keys=0
            Thing lab/dev: NoCredentials: there is neither a key nor a certificate that the Thing could show
            Thing lab/dev: SecretNotFound: key a: there is no such Secret
        "#]],
    );
}

#[test]
fn a_folder_that_cannot_be_read_keeps_everything() {
    let folder = folder(&[("below/a.yaml", CHANNEL)]);
    let below = folder.path().join("below");
    let mut manifests = Manifests::open(&below).unwrap();
    manifests.reload();
    std::fs::remove_dir_all(&below).unwrap();
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
        unchanged
        DIR/below: No such file or directory (os error 2)
    "#]],
    );
    assert!(Manifests::open(&below).is_err());
}

#[test]
fn a_mounted_config_map_is_read_through_its_links() {
    let folder = folder(&[("..v1/a.yaml", CHANNEL), ("..v2/a.yaml", &CHANNEL.replace("telemetry", "orders"))]);
    symlink("..v1", folder.path().join("..data")).unwrap();
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    let mut manifests = Manifests::open(folder.path()).unwrap();
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
        channel lab.telemetry
    "#]],
    );
    symlink("..v2", folder.path().join("..next")).unwrap();
    std::fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
        channel lab.orders
    "#]],
    );
}

#[test]
fn no_value_of_a_secret_is_ever_said() {
    for broken in [
        SECRET.replace("key: canary", "key: [canary"),
        SECRET.replace("  key: canary-0123456789abcdef", "  - canary-0123456789abcdef"),
        SECRET.replace("key: canary-0123456789abcdef", "key: {a: canary-0123456789abcdef}"),
        SECRET.replace("stringData", "data"),
        SECRET.replace("key: canary", "key: \"canary"),
        SECRET.replace("stringData:\n  key: ", "stringData: "),
        SECRET.replace("apiVersion: v1", "apiVersion: v1\n canary-0123456789abcdef"),
    ] {
        let folder = folder(&[("keys.yaml", &broken)]);
        let reload = Manifests::open(folder.path()).unwrap().reload();
        assert_eq!(reload.errors.len(), 1, "{broken}");
        let said = format!("{reload:?} {}", reload.errors[0]);
        assert!(!said.contains("canary") && !said.contains("0123456789"), "{said}");
    }
    // Where nothing is broken the key is in what is to be in force, in clear, and still not in what is said of it.
    let folder = folder(&[("keys.yaml", SECRET), ("dev.yaml", &thing("dev"))]);
    let mut manifests = Manifests::open(folder.path()).unwrap();
    let reload = manifests.reload();
    let keys = &reload.contents.as_ref().unwrap().things[0].keys;
    assert!(keys[0].shared.as_ref().is_some_and(|key| key.as_bytes().starts_with(b"canary")));
    let bytes = b"canary".map(|byte| byte.to_string()).join(", ");
    let said = format!("{reload:?} {manifests:?}");
    assert!(!said.contains("canary-") && !said.contains(&bytes), "{said}");
}

#[test]
fn lists_and_foreign_kinds_are_taken_as_they_are() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}- apiVersion: v1\n  kind: Namespace\n",
        CHANNEL.trim_end().replace('\n', "\n  ") + "\n"
    );
    let folder = folder(&[
        ("a.yaml", &list),
        ("b.yaml", "kind: Thing\n"),
        ("d.yaml", "apiVersion: tidegate.io/v1alpha1\nkind: Thinge\n"),
        ("c.yaml", "# nothing\n---\n---\n"),
    ]);
    let mut manifests = Manifests::open(folder.path()).unwrap();
    check(
        &mut manifests,
        &folder,
        &expect![[r#"
            channel lab.telemetry
            DIR/b.yaml:1:1: apiVersion tidegate.io/v1alpha1 is needed
            DIR/d.yaml:1:1: tidegate.io has the kinds Channel, Thing and Adapter, and no "Thinge"
        "#]],
    );
}
