//! How the program of an Adapter behaves.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AdapterSpec, Protocol, Transport};
use crate::bounds::{Check, span};

/// How long an event stream may be silent at most: what proxies bear.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(30);
/// How often a WebSocket is pinged, and how long it may be silent, where nothing is said.
const PING_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// How long a WebSocket may be silent at most.
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// Any other span.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Origins of one Adapter.
const ORIGINS_MAX: usize = 64;
/// Characters of an origin.
const ORIGIN_CHARS_MAX: usize = 253;

/// How the adapter program behaves: its options, where their defaults stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// How long a publish may wait for the broker before it is refused: at most 10m. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) > duration('0s') && duration(self) <= duration('10m'))",
        "message": "more than 0 and at most 10m"
    }]))]
    pub publish_timeout: Option<String>,
    /// Open connections of one listener of one pod; more wait until one ends. CoAP has none. Default: 20000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i32>,
    /// What is logged: error, warn, info, debug, trace, or directives by module. Default: info.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub log_level: Option<String>,
    /// How logs are written: Json for machines, Text for people. Default: Json.
    pub log_format: LogFormat,
    /// What is HTTP's own, and how slow a connection may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
    /// What is MQTT's own, over WebSocket too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<MqttSettings>,
    /// What is WebSocket's own; of it, origins are MQTT's listener of transport WebSocket's too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocketSettings>,
    /// What is CoAP's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coap: Option<CoapSettings>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// What is HTTP's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpSettings {
    /// How long an event stream may be silent before a comment is sent: at most 30s. For protocol HTTP alone. Default: 15s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) > duration('0s') && duration(self) <= duration('30s'))",
        "message": "more than 0 and at most 30s"
    }]))]
    pub keep_alive: Option<String>,
    /// How long a client may take to send a request's head, or its body, or to take any of what it is sent: at most 10m. For
    /// every protocol that has connections, which CoAP has not. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) > duration('0s') && duration(self) <= duration('10m'))",
        "message": "more than 0 and at most 10m"
    }]))]
    pub timeout: Option<String>,
    /// Bytes of all bodies that one pod holds at once; beyond it requests are answered 429. For protocol HTTP alone. Default:
    /// 268435456.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 68_719_476_736_i64))]
    pub bodies_max_bytes: Option<i64>,
}

/// What is MQTT's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MqttSettings {
    /// The longest keep alive of a client; one that says more, or none, is told this: 1s to 18h. Default: as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) >= duration('1s') && duration(self) <= duration('18h'))",
        "message": "at least 1s and at most 18h"
    }]))]
    pub keep_alive_max: Option<String>,
    /// How long a session may outlive its connection: 0s to 8760h. Default: 168h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) >= duration('0s') && duration(self) <= duration('8760h'))",
        "message": "at most 8760h"
    }]))]
    pub session_expiry_max: Option<String>,
    /// Bytes of one packet. Default: 1048576.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 268_435_455))]
    pub packet_max_bytes: Option<i32>,
    /// Messages of QoS 1 and 2 that wait for one client, there or away; more are dropped and counted. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_waiting: Option<i32>,
    /// Bytes of them. Default: 1048576.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 1_073_741_824))]
    pub waiting_max_bytes: Option<i32>,
    /// Connections that one pod takes on in a second; more wait. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connects_per_second: Option<i32>,
    /// Connections of one pod that may wait at once to be let in; more are closed. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_half_open: Option<i32>,
}

/// What is WebSocket's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.pingInterval) ? self.pingInterval : '30s', has(self.idleTimeout) ? self.idleTimeout : '60s']\
        .exists(s, !s.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$')) || \
        duration(has(self.pingInterval) ? self.pingInterval : '30s') < \
        duration(has(self.idleTimeout) ? self.idleTimeout : '60s')",
    "message": "pingInterval must be below idleTimeout, since a client that has nothing to say answers pings alone"
}]))]
pub struct WebSocketSettings {
    /// How often a ping is sent: 1s to 10m, and below idleTimeout. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) >= duration('1s') && duration(self) <= duration('10m'))",
        "message": "at least 1s and at most 10m"
    }]))]
    pub ping_interval: Option<String>,
    /// How long a client may be silent, its pongs included, before its socket is closed: 1s to 1h. Default: 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) >= duration('1s') && duration(self) <= duration('1h'))",
        "message": "at least 1s and at most 1h"
    }]))]
    pub idle_timeout: Option<String>,
    /// The origins whose pages may open a socket, such as `https://app.example.com`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(max = 253), regex(pattern = "^(null|[a-z][-+.a-z0-9]*://[a-z0-9._:\\[\\]-]+)$"))
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub origins: Option<Vec<String>>,
    /// Messages of one socket that wait for the broker; no more of it are read meanwhile. Default: 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_in_flight: Option<i32>,
}

/// What is CoAP's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CoapSettings {
    /// After which time a notification has to be acknowledged, so that an observer that is gone is found out: 1h to 24h.
    /// Default: 12h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || (duration(self) >= duration('1h') && duration(self) <= duration('24h'))",
        "message": "at least 1h and at most 24h"
    }]))]
    pub ping_period: Option<String>,
    /// Requests that one socket, of which there is one a core, takes in a second from one part of the network, a /24 of IPv4 or
    /// a /56 of IPv6; more are told to come again. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests_per_second: Option<i32>,
    /// Sessions of DTLS of one pod, each of less than 8 kB; beyond it the one that was used least lately ends. Goes with a
    /// listener of transport DTLS, as the other bounds of DTLS do. Default: 50000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_sessions: Option<i32>,
    /// Handshakes of DTLS of one pod that have not ended, each of less than 8 kB; beyond it the oldest is given up. Default:
    /// 20000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_half_open: Option<i32>,
    /// Handshakes of DTLS that one core goes on with in a second for one part of the network, a /24 of IPv4 or a /56 of IPv6. More
    /// are needed where pods see the addresses of nodes instead of devices' own. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_handshakes_per_second: Option<i32>,
}

impl Settings {
    /// What is wrong with them.
    pub(super) fn check(&self, check: &mut Check) {
        let [hour, second, least] = [Duration::from_secs(3_600), Duration::from_secs(1), Duration::from_millis(1)];
        let Self { http, mqtt, websocket, coap, .. } = self.clone();
        let (http, mqtt, coap) = (http.unwrap_or_default(), mqtt.unwrap_or_default(), coap.unwrap_or_default());
        let websocket = websocket.unwrap_or_default();
        websocket.check(check);
        for (text, min, max, field) in [
            (&self.publish_timeout, least, TIMEOUT_MAX, "publishTimeout"),
            (&http.keep_alive, least, KEEP_ALIVE_MAX, "http.keepAlive"),
            (&http.timeout, least, TIMEOUT_MAX, "http.timeout"),
            (&mqtt.keep_alive_max, second, 18 * hour, "mqtt.keepAliveMax"),
            (&mqtt.session_expiry_max, Duration::ZERO, 8_760 * hour, "mqtt.sessionExpiryMax"),
            (&websocket.ping_interval, second, TIMEOUT_MAX, "websocket.pingInterval"),
            (&websocket.idle_timeout, second, IDLE_TIMEOUT_MAX, "websocket.idleTimeout"),
            (&coap.ping_period, hour, 24 * hour, "coap.pingPeriod"),
        ] {
            check.span(text, min..=max, &format!("spec.settings.{field}"));
        }
    }
}

/// What is said of the settings that pods of this protocol with these listeners do not read. The API server refuses to add one
/// in the same words, and keeps one that is there.
pub(super) fn check_effect(spec: &AdapterSpec, check: &mut Check) {
    let (protocol, settings) = (spec.protocol, &spec.settings);
    let has = |transport| spec.listeners_wanted().iter().any(|listener| listener.transport == transport);
    let is_coap = protocol == Protocol::CoAP;
    let connections =
        "settings.maxConnections and settings.http.timeout are of connections, which protocol: CoAP does not have";
    let slow = settings.http.as_ref().is_some_and(|http| http.timeout.is_some());
    check.that(!is_coap || (settings.max_connections.is_none() && !slow), "spec", connections);
    let bodies = settings.http.as_ref().is_none_or(|http| http.keep_alive.is_none() && http.bodies_max_bytes.is_none());
    let alone = "settings.http.keepAlive and settings.http.bodiesMaxBytes go with protocol: HTTP alone";
    check.that(protocol == Protocol::HTTP || bodies, "spec", alone);
    let carried = matches!(protocol, Protocol::MQTT | Protocol::WebSocket);
    let alone = "settings.mqtt goes with protocol: MQTT and WebSocket alone";
    check.that(carried || settings.mqtt.is_none(), "spec", alone);
    let is_websocket = protocol == Protocol::WebSocket;
    let of_sockets = |websocket: &WebSocketSettings| {
        let spans = [&websocket.ping_interval, &websocket.idle_timeout];
        spans.into_iter().any(Option::is_some) || websocket.max_in_flight.is_some()
    };
    let alone = "settings.websocket.pingInterval, idleTimeout and maxInFlight go with protocol: WebSocket alone";
    check.that(is_websocket || !settings.websocket.as_ref().is_some_and(of_sockets), "spec", alone);
    let asked = is_websocket || (protocol == Protocol::MQTT && has(Transport::WebSocket));
    let origins = settings.websocket.as_ref().is_some_and(|websocket| websocket.origins.is_some());
    let alone = "settings.websocket.origins goes with protocol: WebSocket, and with MQTT that has a listener of transport: WebSocket";
    check.that(asked || !origins, "spec", alone);
    let alone = "settings.coap goes with protocol: CoAP alone";
    check.that(is_coap || settings.coap.is_none(), "spec", alone);
    let bounds = |coap: &CoapSettings| [coap.max_sessions, coap.max_half_open, coap.max_handshakes_per_second];
    let bounded = settings.coap.as_ref().is_some_and(|coap| bounds(coap).iter().any(Option::is_some));
    let needed =
        "settings.coap.maxSessions, maxHalfOpen and maxHandshakesPerSecond go with a listener of transport: DTLS";
    check.that(!is_coap || has(Transport::DTLS) || !bounded, "spec", needed);
}

impl WebSocketSettings {
    fn check(&self, check: &mut Check) {
        let or = |given: &Option<String>, default| given.as_deref().map_or(Some(default), span);
        let spans = or(&self.ping_interval, PING_INTERVAL_DEFAULT).zip(or(&self.idle_timeout, IDLE_TIMEOUT_DEFAULT));
        let below =
            "pingInterval must be below idleTimeout, since a client that has nothing to say answers pings alone";
        check.that(spans.is_none_or(|(ping, idle)| ping < idle), "spec.settings.websocket", below);
        let (origins, field) = (self.origins.as_deref(), "spec.settings.websocket.origins");
        check.that(origins.is_none_or(|origins| !origins.is_empty()), field, "at least 1 item, or none of it");
        check.at_most(origins.map_or(0, <[String]>::len), ORIGINS_MAX, field);
        for (index, origin) in origins.unwrap_or_default().iter().enumerate() {
            let message = "an origin as https://app.example.com is needed";
            check.that(is_origin(origin), &format!("{field}[{index}]"), message);
        }
    }
}

/// As a browser says it, in lower case: a scheme and a host, perhaps a port, and no path; `null` of a page that has none.
fn is_origin(text: &str) -> bool {
    let of = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || more.contains(&b))
    };
    let named = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.split_once("://").is_some_and(|(scheme, host)| of(scheme, b"-+.") && of(host, b"-._:[]"));
    text.len() <= ORIGIN_CHARS_MAX && (named || text == "null")
}
