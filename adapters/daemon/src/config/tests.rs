//! Flag over environment over file, and one line for what is wrong.

use clap::{Args, Parser, Subcommand};
use expect_test::{Expect, expect};

use super::*;

#[derive(Debug, Parser)]
#[command(name = "program", version = "1.2.3")]
struct Program {
    #[command(subcommand)]
    face: Face,
}

#[derive(Debug, Subcommand)]
enum Face {
    Http(Options),
}

#[derive(Debug, Args)]
struct Options {
    #[arg(long, env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    #[arg(long, env = "TIDEGATE_TEST_LISTEN", default_value = "8080")]
    listen: Listen,
    #[arg(long, default_value = "10s")]
    timeout: Span,
    #[arg(long)]
    folder: PathBuf,
}

/// Parses `args` with `file` as the configuration file, and shows what comes of it.
fn check(file: &str, args: &str, expected: &Expect) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, file).unwrap();
    let words = format!("program http --config {} {args}", path.display());
    let outcome = match parse::<Program>(words.split_whitespace().map(OsString::from)) {
        Ok(Program { face: Face::Http(o) }) => format!("{} {} {}", o.listen, o.timeout, o.folder.display()),
        Err(ConfigError::Wrong(line)) => format!("wrong: {line}"),
        Err(ConfigError::Shown(text)) => format!("shown: {}", text.lines().next().unwrap_or_default()),
    };
    expected.assert_eq(&outcome.replace(&path.display().to_string(), "FILE"));
}

#[test]
fn the_file_gives_defaults_and_a_flag_wins() {
    check("folder: /a\ntimeout: 500ms\n", "", &expect!["[::]:8080 500ms /a"]);
    check("folder: /a\nlisten: 127.0.0.1:1\n", "--folder /b", &expect!["127.0.0.1:1 10s /b"]);
    check("listen: 9000\nfolder: /a", "--listen off", &expect!["off 10s /a"]);
    check("", "--folder /a --listen :80", &expect!["[::]:80 10s /a"]);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    check("folder: /a\nlissen: 1\n", "", &expect!["wrong: --config FILE: there is no option lissen"]);
    check("folder: [1]\n", "", &expect!["wrong: --config FILE: folder: a text, a number or true or false is needed"]);
    check("folder: /a\n  x: - {", "", &expect!["wrong: --config FILE:2:4: not YAML"]);
    check("- 1\n", "", &expect!["wrong: --config FILE: not a mapping of option names to values"]);
    check(
        "folder: /a\ntimeout: 5\n",
        "",
        &expect![
            "wrong: invalid value '5' for '--timeout <TIMEOUT>': a duration with its unit is needed, as 12h, 2s or 500ms"
        ],
    );
    check(
        "folder: /a",
        "--listen nowhere",
        &expect![
            "wrong: invalid value 'nowhere' for '--listen <LISTEN>': `off`, a port, or an address with a port is needed"
        ],
    );
    check("", "", &expect!["wrong: the following required arguments were not provided: --folder <FOLDER>"]);
    check("", "--flag", &expect!["wrong: unexpected argument '--flag' found"]);
}

/// Twice as long is still a time from now.
#[test]
fn a_span_is_no_longer_than_a_century() {
    for possible in ["100y", "36525d", "1ns", "0s"] {
        assert!(possible.parse::<Span>().is_ok(), "{possible}");
    }
    for too_long in ["100y 1s", "101y", "300000000000y", "99999999999999999999s", "18446744073709551615y"] {
        assert!(too_long.parse::<Span>().unwrap_err().starts_with("at most 100y"), "{too_long}");
    }
    check(
        "folder: /a\ntimeout: 300000000000y\n",
        "",
        &expect!["wrong: invalid value '300000000000y' for '--timeout <TIMEOUT>': at most 100y is possible"],
    );
}

#[test]
fn it_is_known_which_options_are_given_and_by_what() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, "folder: /a\ntimeout: 1s\n").unwrap();
    let words = format!("program http --config {} --timeout 2s", path.display());
    let (_, given) = parse_given::<Program>(words.split_whitespace().map(OsString::from)).unwrap();
    let source = |option| given.source(option);
    assert_eq!(source("config"), Some(Source::Flag));
    assert_eq!(source("timeout"), Some(Source::Flag));
    assert_eq!(source("folder"), Some(Source::File));
    assert_eq!(source("listen"), None);
    assert!(given.is_flag("timeout") && !given.is_flag("folder"));
}

#[test]
fn a_missing_file_is_named() {
    let outcome = parse::<Program>(["program", "http", "--config=/nowhere.yaml"].map(OsString::from));
    let Err(ConfigError::Wrong(line)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(line, "--config /nowhere.yaml: No such file or directory (os error 2)");
}

#[test]
fn help_and_version_are_no_errors() {
    check("folder: /a", "--help", &expect!["shown: Usage: program http [OPTIONS]"]);
}
