//! The files of the chart that are made of code or of other files are as new as those.

use chart_tests::{documents, in_tree};
use expect_test::expect_file;

#[test]
fn the_values_are_those_of_the_code() {
    expect_file![in_tree("charts/tidegate/values.yaml")].assert_eq(&documents::yaml());
    expect_file![in_tree("charts/tidegate/values.schema.json")].assert_eq(&documents::schema());
}

#[test]
fn every_value_is_documented() {
    for line in documents::table().lines().skip(2) {
        assert!(!line.ends_with("|  |"), "{line}");
    }
}

#[test]
fn the_readme_has_the_table_of_values() {
    let path = in_tree("charts/tidegate/README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once("## Values\n").expect("a heading for the values");
    let note = "Made of `tests/chart/src/values.rs`; what is not named here is refused.";
    let whole = format!("{before}## Values\n\n{note}\n\n{}", documents::table());
    expect_file![path].assert_eq(&whole);
}

#[test]
fn the_definitions_are_those_of_the_operator() {
    for name in ["adapters", "channels", "things"] {
        let made = std::fs::read_to_string(in_tree(&format!("crds/{name}.yaml"))).unwrap();
        expect_file![in_tree(&format!("charts/tidegate/crds/{name}.yaml"))].assert_eq(&made);
    }
}
