//! The rules of the house. Each is a function from text to violations, and is shown to find one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Longest source file, in lines.
const LINES_MAX: usize = 800;
/// Words that name nothing.
const EMPTY_WORDS: [&str; 7] = ["manager", "helper", "util", "common", "handler", "service", "info"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The files that git knows, with their text.
fn files(ends: &[&str]) -> Vec<(String, String)> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = git.output().unwrap();
    assert!(output.status.success(), "not a git checkout");
    let listed = String::from_utf8(output.stdout).unwrap();
    let wanted = listed.lines().filter(|path| ends.iter().any(|end| path.ends_with(end)));
    wanted.filter_map(|path| Some((path.to_owned(), std::fs::read_to_string(root().join(path)).ok()?))).collect()
}

/// Applies a rule to every source file.
fn none_breaks(rule: impl Fn(&str, &str) -> Vec<String>) {
    let sources = files(&[".rs"]);
    assert!(sources.len() > 40, "only {} sources found", sources.len());
    let broken: Vec<String> = sources
        .iter()
        .flat_map(|(path, text)| rule(path, text).into_iter().map(move |violation| format!("{path}: {violation}")))
        .collect();
    assert_eq!(broken, Vec::<String>::new());
}

fn header(_: &str, text: &str) -> Vec<String> {
    if text.starts_with("//! ") { vec![] } else { vec!["does not begin by saying what it is".to_owned()] }
}

fn length(_: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > LINES_MAX { vec![format!("{lines} lines")] } else { vec![] }
}

fn attributes(_: &str, text: &str) -> Vec<String> {
    let bare = concat!("#[", "allow");
    text.lines().filter(|line| line.trim_start().starts_with(bare)).map(|line| line.trim().to_owned()).collect()
}

fn names(path: &str, text: &str) -> Vec<String> {
    let named = |line: &str| {
        let line = line.trim_start();
        ["mod ", "pub mod ", "pub struct ", "struct ", "pub enum ", "enum ", "pub trait ", "trait "]
            .iter()
            .find_map(|keyword| line.strip_prefix(keyword))
            .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
    };
    let stem = Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let all = text.lines().filter_map(named).chain(stem);
    all.filter(|name| {
        let name = name.to_lowercase();
        EMPTY_WORDS.iter().any(|word| name == *word || name.ends_with(&format!("_{word}")))
    })
    .collect()
}

fn unowned_notes(_: &str, text: &str) -> Vec<String> {
    let note = concat!("TO", "DO");
    text.lines().filter(|line| line.contains(note) && !line.contains(&format!("{note}("))).map(str::to_owned).collect()
}

#[test]
fn every_source_begins_with_its_header() {
    assert!(!header("a.rs", "fn main() {}").is_empty());
    none_breaks(header);
}

#[test]
fn no_source_is_too_long() {
    assert!(!length("a.rs", &"\n".repeat(LINES_MAX + 1)).is_empty());
    none_breaks(length);
}

#[test]
fn an_exemption_is_expected_with_a_reason() {
    assert!(!attributes("a.rs", concat!("  #[", "allow(dead_code)]")).is_empty());
    none_breaks(attributes);
}

#[test]
fn names_say_something() {
    assert_eq!(names("src/util.rs", "struct Manager;\nmod key_helper {"), ["Manager", "key_helper", "util"]);
    none_breaks(names);
}

#[test]
fn a_note_has_an_owner() {
    assert!(!unowned_notes("a.rs", concat!("// TO", "DO: later")).is_empty());
    none_breaks(unowned_notes);
}

fn machine_paths(text: &str) -> Vec<String> {
    let paths = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    text.lines().filter(|line| paths.iter().any(|path| line.contains(path))).map(str::to_owned).collect()
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    assert!(!machine_paths(concat!("cd /wo", "rk/main")).is_empty());
    let all = files(&[".rs", ".md", ".toml", ".sh", ".yaml", "Makefile", ".ci/run"]);
    let broken: Vec<_> =
        all.iter().flat_map(|(path, text)| machine_paths(text).into_iter().map(move |l| (path, l))).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

/// Which of our crates each of our crates may name, and which of others' are for few.
const MAY_NAME: [(&str, &[&str]); 23] = [
    ("tidegate-containment", &[]),
    ("tidegate-mqtt", &["tidegate-bridge", "tidegate-containment", "tidegate-model", "tidegate-mqtt-proto"]),
    ("tidegate-mqtt-proto", &[]),
    ("tidegate-coap-proto", &[]),
    ("tidegate-coap", &["tidegate-bridge", "tidegate-coap-proto", "tidegate-model"]),
    ("tidegate-model", &[]),
    ("tidegate-senml", &[]),
    ("tidegate-grants-proto", &["tidegate-model"]),
    ("tidegate-bridge", &["tidegate-model", "tidegate-senml"]),
    ("tidegate-grants-client", &["tidegate-bridge", "tidegate-grants-proto", "tidegate-model"]),
    ("tidegate-memory", &["tidegate-bridge", "tidegate-model"]),
    ("tidegate-amqp", &["tidegate-bridge", "tidegate-model"]),
    ("tidegate-http", &["tidegate-bridge", "tidegate-containment", "tidegate-model"]),
    ("tidegate-ws", &["tidegate-bridge", "tidegate-http", "tidegate-model", "tidegate-mqtt"]),
    ("tidegate-daemon", &["tidegate-containment"]),
    ("tidegate-client", &["tidegate-model"]),
    ("tidegate-api", &[]),
    ("tidegate-plan", &["tidegate-api", "tidegate-model"]),
    ("tidegate-manifests", &["tidegate-plan", "tidegate-api", "tidegate-model"]),
    (
        "tidegate-runtime",
        &["tidegate-plan", "tidegate-api", "tidegate-model", "tidegate-grants-proto", "tidegate-daemon"],
    ),
    ("operator", &["tidegate-amqp", "tidegate-api", "tidegate-daemon", "tidegate-runtime"]),
    ("tidegate", &["tidegate-client"]),
    (
        "adapter",
        &[
            "tidegate-model",
            "tidegate-senml",
            "tidegate-bridge",
            "tidegate-memory",
            "tidegate-amqp",
            "tidegate-http",
            "tidegate-mqtt",
            "tidegate-mqtt-proto",
            "tidegate-ws",
            "tidegate-coap",
            "tidegate-coap-proto",
            "tidegate-daemon",
            "tidegate-grants-client",
            "tidegate-manifests",
            "tidegate-plan",
        ],
    ),
];
/// A crate of others, and who may name it.
const FOR_FEW: [(&str, &[&str]); 9] = [
    ("lapin", &["tidegate-amqp"]),
    ("kube", &["tidegate-api", "tidegate-runtime"]),
    ("k8s-openapi", &["tidegate-api", "tidegate-plan", "tidegate-runtime"]),
    ("axum", &["tidegate-http", "tidegate-ws", "tidegate-daemon", "tidegate-runtime"]),
    ("reqwest", &["tidegate-client", "tidegate-grants-client", "tidegate-runtime"]),
    ("rumqttc", &["tidegate-client"]),
    ("coap-lite", &["tidegate-client"]),
    ("tungstenite", &["tidegate-ws"]),
    ("tokio-tungstenite", &["tidegate-client"]),
];
/// What a pure core cannot name, since it could do I/O with it, read a clock or draw at random.
const IMPURE: [&str; 8] = ["tokio", "hyper", "axum", "lapin", "kube", "notify", "uuid", "socket2"];
const PURE: [&str; 9] = [
    "tidegate-containment",
    "tidegate-mqtt-proto",
    "tidegate-coap-proto",
    "tidegate-grants-proto",
    "tidegate-model",
    "tidegate-senml",
    "tidegate-api",
    "tidegate-plan",
    "tidegate-manifests",
];
const TESTS: [&str; 9] = [
    "tidy",
    "conformance",
    "bench",
    "rabbitmq-rig",
    "cluster-rig",
    "chart-tests",
    "system-tests",
    "operator-tests",
    "operator-bench",
];

/// What is wrong with a crate that names these.
fn dependencies(name: &str, named: &BTreeSet<String>) -> Vec<String> {
    let Some((_, may)) = MAY_NAME.iter().find(|(of, _)| *of == name) else {
        return if TESTS.contains(&name) {
            vec![]
        } else {
            vec![format!("{name} is not in the table of dependencies")]
        };
    };
    let ours = named.iter().filter(|n| MAY_NAME.iter().any(|(of, _)| of == n) && !may.contains(&n.as_str()));
    let few = named.iter().filter(|n| FOR_FEW.iter().any(|(of, who)| of == n && !who.contains(&name)));
    let impure =
        named.iter().filter(|n| PURE.contains(&name) && name != "tidegate-api" && IMPURE.contains(&n.as_str()));
    ours.chain(few).chain(impure).map(|n| format!("{name} names {n}")).collect()
}

#[test]
fn dependencies_point_one_way() {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(dependencies("tidegate-model", &names(&["tokio"])), ["tidegate-model names tokio"]);
    assert_eq!(dependencies("tidegate-bridge", &names(&["tidegate-amqp"])), ["tidegate-bridge names tidegate-amqp"]);
    assert_eq!(dependencies("tidegate-http", &names(&["lapin"])), ["tidegate-http names lapin"]);
    assert_eq!(dependencies("new", &names(&[])), ["new is not in the table of dependencies"]);

    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let mut broken = Vec::new();
    for package in metadata.workspace_packages() {
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        broken.extend(dependencies(&package.name, &normal.map(|d| d.name.clone()).collect()));
    }
    assert_eq!(broken, Vec::<String>::new());
}

/// Versions, features and lints stand in the workspace alone.
fn manifest(text: &str) -> Vec<String> {
    let own = text.lines().filter(|line| {
        let of_dependency = line.contains(" = \"") || line.contains(" = {");
        of_dependency && !line.starts_with("name") && !line.starts_with("path") && !line.starts_with("description")
    });
    let mut broken: Vec<String> = own.map(str::to_owned).collect();
    if !text.contains("[lints]\nworkspace = true") {
        broken.push("does not take the workspace's lints".to_owned());
    }
    broken
}

#[test]
fn members_leave_versions_features_and_lints_to_the_workspace() {
    assert_eq!(manifest("[lints]\nworkspace = true\nserde = \"1\""), ["serde = \"1\""]);
    assert_eq!(manifest("serde.workspace = true").len(), 1);
    for (path, text) in files(&["Cargo.toml"]) {
        if path != "Cargo.toml" && !path.contains("fuzz/") {
            assert_eq!(manifest(&text), Vec::<String>::new(), "{path}");
        }
    }
}

/// The sections that `//= SPEC SECTION, SECTION` cites, and whether that is in a test.
fn citations(text: &str) -> Vec<(String, String, bool)> {
    let mut all = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        is_test |= line.starts_with("#[cfg(test)]");
        let Some(citation) = line.trim().strip_prefix("//= ") else { continue };
        let (spec, sections) = citation.split_once(' ').unwrap_or((citation, ""));
        all.extend(sections.split(", ").map(|section| (spec.to_owned(), section.to_owned(), is_test)));
    }
    all
}

/// The sections that are cited, by standard: in code, and in tests.
fn cited() -> [BTreeMap<String, BTreeSet<String>>; 2] {
    let mut cited = [const { BTreeMap::<String, BTreeSet<String>>::new() }; 2];
    for (path, text) in files(&[".rs"]) {
        if path.starts_with("tests/tidy/") {
            continue;
        }
        let of_tests = path.contains("tests/") || path.ends_with("tests.rs");
        for (spec, section, is_test) in citations(&text) {
            cited[usize::from(of_tests || is_test)].entry(spec).or_default().insert(section);
        }
    }
    cited
}

#[test]
fn citations_are_counted_and_what_no_test_cites_is_named() {
    let one = |spec: &str, section: &str, is_test| (spec.to_owned(), section.to_owned(), is_test);
    assert_eq!(
        citations("  //= RFC8428 4.2\n#[cfg(test)]\n//= MQTT5 1.5.4-2, 1.5.4-3"),
        [one("RFC8428", "4.2", false), one("MQTT5", "1.5.4-2", true), one("MQTT5", "1.5.4-3", true)]
    );
    let [in_code, in_tests] = cited();
    assert!(in_code.contains_key("RFC8428"), "no citation was found at all");
    for (spec, sections) in &in_code {
        let tested = in_tests.get(spec).cloned().unwrap_or_default();
        let untested: Vec<_> = sections.difference(&tested).cloned().collect();
        eprintln!("{spec}: {} sections in code, {} in tests; not in tests: {untested:?}", sections.len(), tested.len());
    }
}

/// The numbers that `section:first-last` stands for.
fn numbers(ranges: &str) -> Vec<String> {
    let range = |range: &str| {
        let (section, numbers) = range.split_once(':').unwrap();
        let (first, last) = numbers.split_once('-').unwrap();
        let numbers = first.parse::<u32>().unwrap()..=last.parse().unwrap();
        numbers.map(|number| format!("{section}-{number}")).collect::<Vec<_>>()
    };
    ranges.split(' ').flat_map(range).collect()
}

/// What is wrong with the citations of a standard: statements that are cited by halves, or at all where they are excepted,
/// or that there are not. A section as a whole may be cited beside.
fn uncited(table: &str, spec: &str, cited: &[BTreeMap<String, BTreeSet<String>>; 2]) -> Vec<String> {
    let of_spec = |kind: &str| {
        let prefix = format!("{kind} {spec} ");
        table.lines().filter_map(|line| line.strip_prefix(&*prefix).map(str::to_owned)).collect::<Vec<_>>()
    };
    let all: BTreeSet<String> = of_spec("all").iter().flat_map(|ranges| numbers(ranges)).collect();
    let excepted = of_spec("except");
    let excepted: BTreeSet<String> =
        excepted.iter().map(|line| line.split_once(": ").expect("a reason").0.to_owned()).collect();
    let mut wrong = Vec::new();
    for (cited, side) in cited.iter().zip(["code", "tests"]) {
        let cited = cited.get(spec).cloned().unwrap_or_default();
        let cited: BTreeSet<String> = cited.into_iter().filter(|id| id.contains('-')).collect();
        let due: BTreeSet<String> = all.difference(&excepted).cloned().collect();
        wrong.extend(due.difference(&cited).map(|id| format!("{spec} {id} is not cited in {side}")));
        wrong.extend(
            cited.difference(&due).map(|id| format!("{spec} {id} is cited in {side}, and no statement or excepted")),
        );
    }
    wrong
}

#[test]
fn each_statement_of_mqtt_is_cited_in_code_and_in_a_test_or_excepted_with_a_reason() {
    let table = "all X 1.1:1-3\nexcept X 1.1-3: no";
    let set = |ids: &[&str]| BTreeMap::from([("X".to_owned(), ids.iter().map(|id| (*id).to_owned()).collect())]);
    let wrong = uncited(table, "X", &[set(&["1.1-1", "1.1-3", "1.1"]), set(&["1.1-1", "1.1-2"])]);
    assert_eq!(wrong, ["X 1.1-2 is not cited in code", "X 1.1-3 is cited in code, and no statement or excepted"]);

    let table = std::fs::read_to_string(root().join("adapters/mqtt/proto/statements.txt")).unwrap();
    for (spec, count) in [("MQTT5", 251), ("MQTT3", 141)] {
        let all = table.lines().filter_map(|line| line.strip_prefix(&*format!("all {spec} ")));
        assert_eq!(all.flat_map(numbers).count(), count);
        assert_eq!(uncited(&table, spec, &cited()), Vec::<String>::new());
    }
}

#[test]
fn the_readme_gives_the_two_commands_and_the_changelog_keeps_its_form() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let (readme, makefile, changelog) = (read("README.md"), read("Makefile"), read("CHANGELOG.md"));
    for target in ["quickstart", "test", "help"] {
        assert!(readme.contains(&format!("make {target}")), "README.md does not give make {target}");
        assert!(makefile.contains(&format!("\n{target}:")), "Makefile has no target {target}");
    }
    assert!(changelog.starts_with("# Changelog\n") && changelog.contains("\n## [Unreleased]\n"));
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for heading in changelog.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(kinds.contains(&heading), "CHANGELOG.md: {heading}");
    }
}
