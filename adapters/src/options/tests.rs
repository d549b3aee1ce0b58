//! What goes together, and what can have an effect: from flags, environment and file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::CommandFactory;
use tidegate_daemon::config;

use super::*;

/// What an adapter makes of its command line, which needs no more to be whole.
pub(crate) fn options(adapter: &str, flags: &str) -> Result<Options, String> {
    parse(&format!("{adapter} --manifests /m {flags}"))
}

fn parse(words: &str) -> Result<Options, String> {
    let words = ["adapter"].into_iter().chain(words.split_whitespace());
    let (Program { face }, given) =
        config::parse_given(words.map(OsString::from)).map_err(|error| error.to_string())?;
    face.options(&given).map(|(options, _)| options).map_err(|error| format!("{error:#}"))
}

/// The same with a file beside the flags.
fn with_file(adapter: &str, file: &str, flags: &str) -> Result<Options, String> {
    let file = File::new(file);
    parse(&format!("{adapter} --config {} {flags}", file.0.display()))
}

/// A configuration file, which goes with it.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tidegate-options-{}-{}.yaml", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text.replace("; ", "\n")).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn wrong(outcome: Result<Options, String>) -> String {
    outcome.err().unwrap_or_else(|| "nothing is wrong".to_owned())
}

#[test]
fn an_origin_is_what_a_browser_would_say() {
    let check = |text: &str, expected: Option<&str>| assert_eq!(origin(text).as_deref(), expected, "{text}");
    check("https://app.example.com", Some("https://app.example.com"));
    check(" HTTPS://App.example.com:443", Some("https://app.example.com"));
    check("http://localhost:8080", Some("http://localhost:8080"));
    check("https://[::1]:8443", Some("https://[::1]:8443"));
    check("null", Some("null"));
    for none in ["", "app.example.com", "https://", "https://a/", "https://*.a", "https://a?b", "https://u@a", "1://a"]
    {
        check(none, None);
    }
}

#[test]
fn a_pair_may_come_from_wherever_and_half_of_one_is_named() {
    let check = |file: &str, flags: &str, expected: &str| {
        assert_eq!(wrong(with_file("all", &format!("manifests: /m; {file}"), flags)), expected, "{file}, {flags}");
    };
    check("tls-cert: /c", "", "--tls-cert: --tls-key is needed");
    check("tls-key: /k", "", "--tls-key: --tls-cert is needed");
    check("", "--tls-cert /c", "--tls-cert: --tls-key is needed");
    check("", "--tls-key /k", "--tls-key: --tls-cert is needed");
    check("grants-cache: /g", "", "--grants-cache: --grants-cache-key is needed");
    check("grants-cache-key: /g", "", "--grants-cache-key: --grants-cache is needed");

    let both = [("tls-cert: /c; tls-key: /k", ""), ("tls-cert: /c", "--tls-key /k"), ("tls-key: /k", "--tls-cert /c")];
    for (file, flags) in [both, both.map(|(file, _)| (file, "--tls-cert /c --tls-key /k"))].concat() {
        let options = with_file("all", &format!("manifests: /m; {file}"), flags).unwrap();
        assert_eq!(
            (options.tls_cert.unwrap(), options.tls_key.unwrap()),
            ("/c".into(), "/k".into()),
            "{file}, {flags}"
        );
    }
    let grants = "grants: https://a; grants-ca: /a; grants-token: /t; broker: 'memory:'; grants-cache: /g";
    let options = with_file("coap", grants, "--grants-cache-key /k").unwrap();
    assert_eq!((options.grants_cache, options.grants_cache_key), (Some("/g".into()), Some("/k".into())));
}

/// The environment is a process's: so this test runs itself again in another one.
#[test]
fn a_pair_may_come_from_the_environment_and_a_file() {
    const AGAIN: &str = "TEST_RUNS_AGAIN";
    if let Ok(file) = std::env::var(AGAIN) {
        let outcome = with_file("mqtt", &format!("manifests: /m; {file}"), "");
        println!("outcome: {}", wrong(outcome));
        return;
    }
    let check = |(name, value): (&str, &str), file: &str, expected: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "options::tests::a_pair_may_come_from_the_environment_and_a_file", "--nocapture"])
            .env(AGAIN, file)
            .env(name, value)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&format!("outcome: {expected}\n")), "{said}");
    };
    check(("TIDEGATE_TLS_KEY", "/k"), "tls-cert: /c", "nothing is wrong");
    check(("TIDEGATE_TLS_CERT", "/c"), "tls-key: /k", "nothing is wrong");
    check(("TIDEGATE_TLS_CERT", "/c"), "", "--tls-cert: --tls-key is needed");
    check(("TIDEGATE_TLS_CERT", "/c"), "tls-cert: /d", "--tls-cert: --tls-key is needed");
    // What is for other adapters is passed over, but not TLS that cannot be had.
    check(("TIDEGATE_LISTEN_HTTPS", "443"), "coaps-sessions-max: 5", "nothing is wrong");
    check(("TIDEGATE_LISTEN_MQTTS", "off"), "", "nothing is wrong");
    check(("TIDEGATE_LISTEN_MQTTS", "8883"), "", "--listen-mqtts: --tls-cert is needed");
    check(("TIDEGATE_EXCHANGE", "messages"), "publish-timeout: 5s", "nothing is wrong");
}

#[test]
fn a_listener_of_tls_that_is_asked_for_needs_a_certificate() {
    for listener in ["listen-https", "listen-mqtts", "listen-mqtt-wss"] {
        let expected = format!("--{listener}: --tls-cert is needed");
        assert_eq!(wrong(options("all", &format!("--{listener} 127.0.0.1:0"))), expected);
        assert_eq!(wrong(with_file("all", &format!("manifests: /m; {listener}: 443"), "")), expected);
        assert!(options("all", &format!("--{listener} off")).is_ok());
        assert!(with_file("all", &format!("manifests: /m; {listener}: off"), "").is_ok());
        assert!(with_file("all", &format!("manifests: /m; {listener}: 443"), &format!("--{listener} off")).is_ok());
        assert!(options("all", &format!("--{listener} 443 --tls-cert /c --tls-key /k")).is_ok());
    }
    assert!(options("all", "").is_ok());
    assert!(options("coap", "--listen-coaps 5684").is_ok());
}

#[test]
fn what_an_adapter_does_not_serve_is_refused_as_a_flag_and_passed_over_elsewhere() {
    let check = |adapter: &str, option: &str, value: &str, expected: &str| {
        assert_eq!(wrong(options(adapter, &format!("--{option} {value}"))), format!("--{option}: {expected}"));
        let kept = with_file(adapter, &format!("manifests: /m; {option}: {value}"), "");
        assert!(kept.is_ok(), "{adapter}, {option}: {}", wrong(kept));
    };
    check("mqtt", "listen-http", "8080", "`adapter mqtt` does not serve it");
    check("mqtt", "listen-https", "8443", "`adapter mqtt` does not serve it");
    check("http", "listen-mqtt-ws", "8080", "`adapter http` does not serve it");
    check("ws", "listen-coaps", "5684", "`adapter ws` does not serve it");
    check("coap", "listen-mqtts", "8883", "`adapter coap` does not serve it");
    let nothing = |adapter: &str| format!("`adapter {adapter}` serves nothing that it counts for");
    check("mqtt", "http-keep-alive", "5s", &nothing("mqtt"));
    check("ws", "http-bodies-bytes-max", "5000", &nothing("ws"));
    check("mqtt", "websocket-ping-interval", "5s", &nothing("mqtt"));
    check("http", "mqtt-waiting-max", "5", &nothing("http"));
    check("http", "coaps-sessions-max", "5", &nothing("http"));
    check("coap", "connections-max", "5", &nothing("coap"));
    check("coap", "http-timeout", "5s", &nothing("coap"));
    let websocket = "one of its listeners has to be open: --listen-mqtt-ws, --listen-mqtt-wss";
    check("mqtt", "websocket-origins", "https://a", websocket);

    for fine in [
        "mqtt --listen-http off --listen-https off --listen-coap off --http-timeout 5s --connections-max 5",
        "mqtt --listen-mqtt-ws 80 --websocket-origins https://a",
        "ws --mqtt-waiting-max 5 --listen-mqtt-ws 80",
        "http --http-timeout 5s",
        "coap --coap-ping-period 1s --coaps-half-open-max 5",
        "coap --listen-coaps off --coap-ping-period 1s",
    ] {
        let outcome = parse(&format!("{fine} --manifests /m"));
        assert!(outcome.is_ok(), "{fine}: {}", wrong(outcome));
    }
}

#[test]
fn a_flag_that_can_have_no_effect_is_refused() {
    let tls = "--tls-cert /c --tls-key /k";
    let check = |words: &str, expected: &str| assert_eq!(wrong(parse(words)), expected, "{words}");
    let closed =
        |option: &str, listeners: &str| format!("--{option}: one of its listeners has to be open: {listeners}");
    let words = format!("coap --manifests /m --listen-coaps off {tls}");
    check(&words, &closed("tls-cert", "--listen-coaps"));
    check(&format!("http --manifests /m --listen-https off {tls}"), &closed("tls-cert", "--listen-https"));
    check(
        "all --manifests /m --listen-coaps off --coaps-half-open-max 5",
        &closed("coaps-half-open-max", "--listen-coaps"),
    );
    check(
        "http --manifests /m --listen-http off --http-keep-alive 5s",
        &closed("http-keep-alive", "--listen-http, --listen-https"),
    );
    let none = "--tls-client-ca: with --tls-client-auth none nobody is asked for a certificate";
    check(&format!("http --manifests /m {tls} --tls-client-ca /a --tls-client-auth none"), none);

    check("http --manifests /m --grants-ca /a", "--grants-ca: --grants is needed");
    check("http --manifests /m --grants-token /a", "--grants-token: --grants is needed");
    check("http --manifests /m --grants-cache /a --grants-cache-key /b", "--grants-cache: --grants is needed");
    check("http --manifests /m --grants-max-staleness 1h", "--grants-max-staleness: --grants is needed");
    for (option, value) in [("broker-ca", "/a"), ("exchange", "a"), ("publish-timeout", "1s"), ("broker-timeout", "1s")]
    {
        let expected = format!("--{option}: the broker is in this process, memory:");
        check(&format!("http --manifests /m --{option} {value}"), &expected);
        check(&format!("http --manifests /m --broker memory: --{option} {value}"), &expected);
        for elsewhere in ["--broker amqps://b", "--broker-file /b"] {
            assert!(options("http", &format!("{elsewhere} --{option} {value}")).is_ok(), "{elsewhere}, {option}");
        }
    }
    check("http --manifests /m --broker amqp://b --broker-ca /a", "--broker-ca: --broker with amqps:// is needed");

    assert!(options("coap", &format!("--listen-coap off {tls}")).is_ok());
    assert!(options("http", "--tls-client-auth none").is_ok());
    let file = "manifests: /m; tls-cert: /c; tls-key: /k; tls-client-ca: /a; grants-cache: /g; grants-cache-key: /k";
    assert!(with_file("http", file, "--listen-https off --tls-client-auth none").is_ok());
}

/// Whoever adds an option has to say where it counts.
#[test]
fn it_is_known_of_every_option_where_it_counts() {
    const EVERYWHERE: [&str; 10] = [
        "admin",
        "broker",
        "broker-file",
        "config",
        "drain-connections-per-second",
        "drain-timeout",
        "grants",
        "log",
        "log-level",
        "manifests",
    ];
    let command = Program::command();
    let all = command.find_subcommand("all").unwrap();
    let options: BTreeSet<&str> = all.get_arguments().filter_map(clap::Arg::get_long).collect();
    let known: BTreeSet<&str> = effect::known().chain(EVERYWHERE).collect();
    assert_eq!(options, known);
}

#[test]
fn none_is_no_bound() {
    for option in
        ["connections-max", "coaps-sessions-max", "coaps-half-open-max", "mqtt-half-open-max", "mqtt-waiting-max"]
    {
        assert_eq!(wrong(options("all", &format!("--{option} 0"))), format!("--{option}: at least 1 is needed"));
    }
    assert_eq!(wrong(options("all", "--publish-timeout 0s")), "--publish-timeout: more than 0 is needed");
}

/// Shared keys are known to this process alone that can be shown to it.
#[test]
fn shared_keys_are_asked_for_where_they_count() {
    let check = |adapter: &str, flags: &str, expected: bool| {
        assert_eq!(options(adapter, flags).unwrap().takes_shared_keys(), expected, "{adapter} {flags}");
    };
    let tls = "--tls-cert /c --tls-key /k --tls-client-ca /a --tls-client-auth";
    check("coap", "", true);
    check("coap", &format!("{tls} optional"), true);
    check("coap", &format!("{tls} required"), false);
    check("all", "", true);
    check("all", "--listen-coaps off", false);
    check("mqtt", "", false);
}
