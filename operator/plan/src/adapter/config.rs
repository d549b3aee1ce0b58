//! The configuration file of an Adapter's pods: its keys are the options of the program.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use tidegate_api::{Adapter, AdapterSpec, ClientAuth, Listener, LogFormat, Protocol, Tls, Transport};

use super::pods::container_port;
use super::{BrokerSecret, Installation, metadata};

/// Where the pods have what, by folder.
pub(super) const CONFIG_DIR: &str = "/etc/tidegate/config";
pub(super) const BROKER_DIR: &str = "/etc/tidegate/broker";
pub(super) const TLS_DIR: &str = "/etc/tidegate/tls";
pub(super) const CLIENT_CA_DIR: &str = "/etc/tidegate/client-ca";
pub(super) const TOKEN_DIR: &str = "/var/run/secrets/tidegate";
pub(super) const CACHE_DIR: &str = "/var/lib/tidegate";
pub(super) const RUN_DIR: &str = "/run/tidegate";
/// The entries of the ConfigMap.
pub(super) const CONFIG_ENTRY: &str = "adapter.yaml";
/// The entry with authorities, there and in the Secret of those of devices.
pub(super) const CA_ENTRY: &str = "ca.crt";
pub(super) const TOKEN_ENTRY: &str = "token";
/// The port of the pods for probes and metrics.
pub(super) const ADMIN_PORT: u16 = 9090;

/// The file, always in the same order.
pub(super) fn config(adapter: &Adapter, installation: &Installation, broker: &BrokerSecret) -> String {
    let spec = &adapter.spec;
    let mut options: BTreeMap<&str, String> = BTreeMap::from([
        ("admin", ADMIN_PORT.to_string()),
        ("broker-file", format!("{BROKER_DIR}/{}", broker.url_entry)),
        ("drain-timeout", format!("{}ms", spec.drain_timeout().as_millis())),
        ("exchange", installation.exchange.clone()),
        ("grants", installation.grants_url.clone()),
        ("grants-ca", format!("{CONFIG_DIR}/{CA_ENTRY}")),
        ("grants-cache", CACHE_DIR.to_owned()),
        ("grants-cache-key", format!("{RUN_DIR}/grants-cache.key")),
        ("grants-token", format!("{TOKEN_DIR}/{TOKEN_ENTRY}")),
        (
            "log",
            match spec.settings.log_format {
                LogFormat::Json => "json".to_owned(),
                LogFormat::Text => "text".to_owned(),
            },
        ),
    ]);
    if let Some(entry) = &broker.ca_entry {
        options.insert("broker-ca", format!("{BROKER_DIR}/{entry}"));
    }
    if let Some(tls) = tls(spec) {
        options.insert("tls-cert", format!("{TLS_DIR}/tls.crt"));
        options.insert("tls-key", format!("{TLS_DIR}/tls.key"));
        options.extend(tls.client_ca_ref.map(|_| ("tls-client-ca", format!("{CLIENT_CA_DIR}/{CA_ENTRY}"))));
        options.extend(tls.client_auth.map(|auth| ("tls-client-auth", client_auth(auth).to_owned())));
    }
    options.extend(listens(spec));
    options.extend(given(spec));
    // JSON texts are YAML texts, whatever is in them.
    options.iter().map(|(option, value)| format!("{option}: {}\n", serde_json::Value::from(value.as_str()))).collect()
}

/// The certificate that the listeners share, and whose certificates count; nothing where there is none.
pub(super) fn tls(spec: &AdapterSpec) -> Option<Tls> {
    spec.listeners_wanted().into_iter().find_map(|listener| listener.tls)
}

const fn client_auth(auth: ClientAuth) -> &'static str {
    match auth {
        ClientAuth::None => "none",
        ClientAuth::Optional => "optional",
        ClientAuth::Required => "required",
    }
}

/// Where the pods listen. What is not asked for is closed.
fn listens(spec: &AdapterSpec) -> BTreeMap<&'static str, String> {
    let listeners = spec.listeners_wanted();
    let open = |is_it: &dyn Fn(&Listener) -> bool| {
        let listener = listeners.iter().find(|listener| is_it(listener));
        let port = listener.map(|listener| container_port(spec.protocol, listener).1.to_string());
        port.unwrap_or_else(|| "off".to_owned())
    };
    let of = |transport: Transport| open(&|listener| listener.transport == transport);
    let mut options = BTreeMap::from(match spec.protocol {
        // A socket begins as a request of HTTP.
        Protocol::HTTP | Protocol::WebSocket => {
            [("listen-http", of(Transport::TCP)), ("listen-https", of(Transport::TLS))]
        }
        Protocol::MQTT => [("listen-mqtt", of(Transport::TCP)), ("listen-mqtts", of(Transport::TLS))],
        Protocol::CoAP => [("listen-coap", of(Transport::UDP)), ("listen-coaps", of(Transport::DTLS))],
    });
    // Closed where nothing is said, so that pods without it are as they were.
    if listeners.iter().any(|listener| listener.transport == Transport::WebSocket) {
        let carried =
            |tls: bool| open(&|listener| listener.transport == Transport::WebSocket && listener.tls.is_some() == tls);
        options.insert("listen-mqtt-ws", carried(false));
        options.insert("listen-mqtt-wss", carried(true));
    }
    options
}

/// The options that the Adapter says, where their defaults do not count.
fn given(spec: &AdapterSpec) -> impl Iterator<Item = (&'static str, String)> {
    let settings = spec.settings.clone();
    let (http, mqtt) = (settings.http.unwrap_or_default(), settings.mqtt.unwrap_or_default());
    let (websocket, coap) = (settings.websocket.unwrap_or_default(), settings.coap.unwrap_or_default());
    let given = [
        ("coap-ping-period", coap.ping_period),
        ("coap-requests-per-second-max", coap.max_requests_per_second.map(|count| count.to_string())),
        ("coaps-half-open-max", coap.max_half_open.map(|count| count.to_string())),
        ("coaps-handshakes-per-second-max", coap.max_handshakes_per_second.map(|count| count.to_string())),
        ("coaps-sessions-max", coap.max_sessions.map(|count| count.to_string())),
        ("connections-max", settings.max_connections.map(|count| count.to_string())),
        ("drain-connections-per-second", spec.drain.connections_per_second.map(|count| count.to_string())),
        ("http-bodies-bytes-max", http.bodies_max_bytes.map(|count| count.to_string())),
        ("http-keep-alive", http.keep_alive),
        ("http-timeout", http.timeout),
        ("log-level", settings.log_level),
        ("mqtt-connects-per-second-max", mqtt.max_connects_per_second.map(|count| count.to_string())),
        ("mqtt-half-open-max", mqtt.max_half_open.map(|count| count.to_string())),
        ("mqtt-keep-alive-max", mqtt.keep_alive_max),
        ("mqtt-packet-bytes-max", mqtt.packet_max_bytes.map(|count| count.to_string())),
        ("mqtt-session-expiry-max", mqtt.session_expiry_max),
        ("mqtt-waiting-bytes-max", mqtt.waiting_max_bytes.map(|count| count.to_string())),
        ("mqtt-waiting-max", mqtt.max_waiting.map(|count| count.to_string())),
        ("publish-timeout", settings.publish_timeout),
        ("websocket-idle-timeout", websocket.idle_timeout),
        ("websocket-in-flight-max", websocket.max_in_flight.map(|count| count.to_string())),
        ("websocket-origins", websocket.origins.as_ref().map(|origins| origins.join(","))),
        ("websocket-ping-interval", websocket.ping_interval),
    ];
    given.into_iter().filter_map(|(option, value)| Some((option, value?)))
}

/// The ConfigMap: the file, a change of which replaces the pods, and the authorities, which are read again in place.
pub(super) fn config_map(adapter: &Adapter, installation: &Installation, config: &str) -> ConfigMap {
    let data = [(CONFIG_ENTRY, config), (CA_ENTRY, &*installation.grants_ca)];
    ConfigMap {
        metadata: metadata(adapter, &BTreeMap::new()),
        data: Some(data.into_iter().map(|(entry, text)| (entry.to_owned(), text.to_owned())).collect()),
        ..ConfigMap::default()
    }
}
