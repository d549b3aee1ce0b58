//! The page of the examples in a real Chromium, as a user has it, against a real adapter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use conformance::device::{Device, node};
use conformance::{Adapter, Certificate, KEY_1, KEY_2, MANIFESTS};
use serde_json::{Value, json};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../adapters/examples/browser.html");
const TELEMETRY: &str = "channels/lab.telemetry/messages";
/// What Chromium itself writes on the console when a server refuses.
const REFUSAL: &str = "WebSocket connection to";
/// A picture of less shows nothing.
const PICTURE_BYTES_MIN: usize = 8_192;

/// How the page is looked at.
struct Look {
    name: &'static str,
    width: u32,
    dark: bool,
    over_tls: bool,
}

const LOOKS: [Look; 4] = [
    Look { name: "light", width: 1_100, dark: false, over_tls: false },
    Look { name: "dark", width: 1_100, dark: true, over_tls: true },
    Look { name: "phone-light", width: 360, dark: false, over_tls: true },
    Look { name: "phone-dark", width: 360, dark: true, over_tls: false },
];

fn user() -> Device {
    Device::start(&mut node("page.js"))
}

fn page() -> String {
    format!("file://{}", Path::new(PAGE).canonicalize().unwrap().display())
}

/// Does it, waits until it is done, and says what it yields. An error in the page or on its console ends the test.
#[expect(clippy::needless_pass_by_value, reason = "a script reads better")]
fn act(user: &mut Device, said: Value) -> Value {
    user.tell(&said);
    user.next(said["do"].as_str().unwrap())
}

fn open(user: &mut Device, url: &str, expected: &str) {
    let expected = Some(expected).filter(|text| !text.is_empty());
    act(user, json!({"do": "open", "url": url, "width": 800, "height": 800, "dark": false, "expected": expected}));
}

fn fill(user: &mut Device, fields: &[(&str, &str)]) {
    for (label, value) in fields {
        act(user, json!({"do": "fill", "label": label, "value": value}));
    }
}

fn press(user: &mut Device, button: &str) {
    act(user, json!({"do": "press", "button": button}));
}

fn see(user: &mut Device, text: &str) {
    act(user, json!({"do": "see", "text": text}));
}

/// Presses Connect for a Thing with this key, on everything of the channel.
fn connect(user: &mut Device, server: &str, key: &str) {
    fill(user, &[("Server", server), ("Channel", "lab.telemetry"), ("Key", key), ("Subtopic", "#")]);
    press(user, "Connect");
}

/// Takes a picture of the whole page.
fn shoot(user: &mut Device, name: &str, width: u32) {
    let path = format!("{}/browser-{name}.png", env!("CARGO_TARGET_TMPDIR"));
    let _ = std::fs::remove_file(&path);
    act(user, json!({"do": "shot", "path": path}));
    let picture = std::fs::read(&path).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n") && picture.len() > PICTURE_BYTES_MIN, "{path}");
    assert_eq!(picture[16..20], width.to_be_bytes(), "{path}");
}

#[test]
fn the_page_sends_says_what_became_of_it_and_shows_what_comes() {
    let tls = Certificate::new().unwrap();
    let adapter = Adapter::start("memory:", &["--tls-cert", &tls.cert(), "--tls-key", &tls.key()]).unwrap();
    let mut user = user();
    for look in LOOKS {
        let mut events = adapter.subscribe(&format!("{TELEMETRY}/engine/oil"), KEY_1).unwrap();
        act(&mut user, json!({"do": "open", "url": page(), "width": look.width, "height": 800, "dark": look.dark}));
        let (scheme, address) = if look.over_tls { ("wss", adapter.https().unwrap()) } else { ("ws", adapter.http()) };
        connect(&mut user, &format!("{scheme}://localhost:{}", address.port()), KEY_1);
        see(&mut user, "Connected: may send and receive");

        fill(&mut user, &[("To subtopic", "engine/oil"), ("Message", "[{\"n\":\"oil\",\"v\":1}]")]);
        press(&mut user, "Send");
        see(&mut user, "accepted");
        events.until("data: [{\"n\":\"oil\",\"v\":1}]").unwrap();

        fill(&mut user, &[("Content type", "text/html"), ("Message", "<p>no</p>")]);
        act(&mut user, json!({"do": "key", "keys": "Control+Enter"}));
        see(&mut user, "refused: content-type-not-admitted");

        // What others send is shown as the text that it is.
        let markup = format!("{{\"look\":\"{}<img src=x onerror=alert(1)>\"}}", look.name);
        let publish =
            |content_type, payload: &[u8]| adapter.publish(&format!("{TELEMETRY}/hall"), KEY_1, content_type, payload);
        assert_eq!(publish("application/json", markup.as_bytes()).unwrap(), 202);
        see(&mut user, &markup);
        assert_eq!(publish("application/octet-stream", b"\x00\xff").unwrap(), 202);
        see(&mut user, "2 bytes: 00 ff");

        let seen = act(&mut user, json!({"do": "look"}));
        assert_eq!((&seen["overflows"], &seen["unlabeled"]), (&json!(false), &json!(0)), "{}", look.name);
        shoot(&mut user, look.name, look.width);
        press(&mut user, "Disconnect");
        see(&mut user, "Closed (1000)");
    }
}

#[test]
fn the_page_says_in_words_why_it_is_not_connected() {
    let mut adapter = Adapter::start("memory:", &[]).unwrap();
    let server = format!("ws://localhost:{}", adapter.http().port());
    let mut user = user();
    open(&mut user, &page(), REFUSAL);
    connect(&mut user, &server, "key-none-0123456789");
    see(&mut user, "Not let in");

    connect(&mut user, &server, KEY_2);
    see(&mut user, "Connected: may receive");
    let without = MANIFESTS.replace("connections: [{channel: telemetry, permissions: [Subscribe]}]", "connections: []");
    adapter.set_manifests(&without).unwrap();
    see(&mut user, "Closed (1008): not allowed");

    connect(&mut user, &server, KEY_1);
    see(&mut user, "Connected: may send and receive");
    assert_eq!(adapter.terminate().unwrap(), Some(0));
    see(&mut user, "Closed (1012): the server ends");
    shoot(&mut user, "closed", 800);
}

#[test]
fn pages_of_other_origins_are_kept_out_where_origins_are_named() {
    let mut user = user();
    let origin = act(&mut user, json!({"do": "serve", "file": PAGE}))["origin"].as_str().unwrap().to_owned();
    let adapter = Adapter::start("memory:", &["--websocket-origins", &origin]).unwrap();
    let server = format!("ws://localhost:{}", adapter.http().port());
    open(&mut user, &format!("{origin}/browser.html"), "");
    connect(&mut user, &server, KEY_1);
    see(&mut user, "Connected: may send and receive");

    open(&mut user, &page(), REFUSAL);
    connect(&mut user, &server, KEY_1);
    see(&mut user, "Not let in");
}
