//! Which options have an effect. A flag that cannot have any is a mistake and said to be one. The environment and the file may
//! be those of several adapters: what this one does not serve is passed over there, but not a listener that asks for TLS where
//! there is no certificate.

use anyhow::{Result, bail, ensure};
use tidegate_daemon::config::{Given, Listen};

use super::{ClientCertificates, Options, Spoken};

/// A listener, by its option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Http,
    Https,
    Mqtt,
    Mqtts,
    MqttWs,
    MqttWss,
    Coap,
    Coaps,
}

use Listener::{Coap, Coaps, Http, Https, Mqtt, MqttWs, MqttWss, Mqtts};

const LISTENERS: [Listener; 8] = [Http, Https, Mqtt, Mqtts, MqttWs, MqttWss, Coap, Coaps];

/// One of the adapters: what it is called, and what it serves.
pub(super) struct Adapter {
    name: &'static str,
    listeners: &'static [Listener],
    pub(super) spoken: Spoken,
}

pub(super) const HTTP: Adapter =
    Adapter { name: "http", listeners: &[Http, Https], spoken: Spoken { requests: true, sockets: false } };
pub(super) const WS: Adapter = Adapter {
    name: "ws",
    listeners: &[Http, Https, MqttWs, MqttWss],
    spoken: Spoken { requests: false, sockets: true },
};
pub(super) const MQTT: Adapter = Adapter {
    name: "mqtt",
    listeners: &[Mqtt, Mqtts, MqttWs, MqttWss],
    spoken: Spoken { requests: false, sockets: false },
};
pub(super) const COAP: Adapter =
    Adapter { name: "coap", listeners: &[Coap, Coaps], spoken: Spoken { requests: false, sockets: false } };
pub(super) const ALL: Adapter =
    Adapter { name: "all", listeners: &LISTENERS, spoken: Spoken { requests: true, sockets: true } };

/// Options, and whether they count on a listener.
type Counting = (&'static [&'static str], fn(Listener, Spoken) -> bool);

/// The options that count on some listeners alone.
const COUNTING: [Counting; 8] = [
    (&["http-keep-alive", "http-bodies-bytes-max"], |listener, spoken| listener.is_http() && spoken.requests),
    (&["websocket-ping-interval", "websocket-idle-timeout", "websocket-in-flight-max"], |listener, spoken| {
        listener.is_http() && spoken.sockets
    }),
    (&["websocket-origins"], |listener, spoken| {
        (listener.is_http() && spoken.sockets) || matches!(listener, MqttWs | MqttWss)
    }),
    (
        &[
            "mqtt-keep-alive-max",
            "mqtt-session-expiry-max",
            "mqtt-packet-bytes-max",
            "mqtt-half-open-max",
            "mqtt-connects-per-second-max",
            "mqtt-waiting-max",
            "mqtt-waiting-bytes-max",
        ],
        |listener, spoken| {
            (listener.is_http() && spoken.sockets) || matches!(listener, Mqtt | Mqtts | MqttWs | MqttWss)
        },
    ),
    (&["coap-ping-period", "coap-requests-per-second-max"], |listener, _| matches!(listener, Coap | Coaps)),
    (&["coaps-sessions-max", "coaps-half-open-max", "coaps-handshakes-per-second-max"], |listener, _| {
        matches!(listener, Coaps)
    }),
    (&["http-timeout", "connections-max"], |listener, _| !matches!(listener, Coap | Coaps)),
    (&["tls-cert", "tls-key", "tls-client-ca", "tls-client-auth"], |listener, _| {
        listener.is_tls() || matches!(listener, Coaps)
    }),
];

/// The options that count with `--grants` alone.
const OF_GRANTS: [&str; 5] = ["grants-ca", "grants-token", "grants-cache", "grants-cache-key", "grants-max-staleness"];

/// The options that count with a broker outside of this process alone.
const OF_LINK: [&str; 4] = ["broker-ca", "broker-timeout", "exchange", "publish-timeout"];

impl Listener {
    const fn option(self) -> &'static str {
        match self {
            Http => "listen-http",
            Https => "listen-https",
            Mqtt => "listen-mqtt",
            Mqtts => "listen-mqtts",
            MqttWs => "listen-mqtt-ws",
            MqttWss => "listen-mqtt-wss",
            Coap => "listen-coap",
            Coaps => "listen-coaps",
        }
    }

    const fn of(self, options: &mut Options) -> &mut Listen {
        match self {
            Http => &mut options.listen_http,
            Https => &mut options.listen_https,
            Mqtt => &mut options.listen_mqtt,
            Mqtts => &mut options.listen_mqtts,
            MqttWs => &mut options.listen_mqtt_ws,
            MqttWss => &mut options.listen_mqtt_wss,
            Coap => &mut options.listen_coap,
            Coaps => &mut options.listen_coaps,
        }
    }

    const fn is_on(self, options: &Options) -> bool {
        let listen = match self {
            Http => options.listen_http,
            Https => options.listen_https,
            Mqtt => options.listen_mqtt,
            Mqtts => options.listen_mqtts,
            MqttWs => options.listen_mqtt_ws,
            MqttWss => options.listen_mqtt_wss,
            Coap => options.listen_coap,
            Coaps => options.listen_coaps,
        };
        listen.address().is_some()
    }

    /// Whether it needs a certificate.
    const fn is_tls(self) -> bool {
        matches!(self, Https | Mqtts | MqttWss)
    }

    const fn is_http(self) -> bool {
        matches!(self, Http | Https)
    }

    fn is_served(self, options: &Options) -> bool {
        self.is_on(options) && (!self.is_tls() || options.tls_cert.is_some())
    }
}

/// Closes what an adapter does not serve.
pub(super) fn close_others(options: &mut Options, adapter: &Adapter) {
    for listener in LISTENERS.into_iter().filter(|listener| !adapter.listeners.contains(listener)) {
        *listener.of(options) = Listen::Off;
    }
}

/// Whether what is given can have an effect.
pub(super) fn check(options: &Options, given: &Given, adapter: &Adapter) -> Result<()> {
    check_listeners(options, given, adapter)?;
    check_sources(options, given)?;
    // As `off` does, it says what is not to be.
    let is_none = options.tls_client_auth == Some(ClientCertificates::None);
    let has_say = |option: &str| given.is_flag(option) && !(option == "tls-client-auth" && is_none);
    let pointless = is_none && given.is_flag("tls-client-ca");
    ensure!(!pointless, "--tls-client-ca: with --tls-client-auth none nobody is asked for a certificate");
    for (counting, counts) in COUNTING {
        let Some(option) = counting.iter().find(|option| has_say(option)) else { continue };
        let on = adapter.listeners.iter().copied().filter(|listener| counts(*listener, adapter.spoken));
        let on: Vec<Listener> = on.collect();
        ensure!(!on.is_empty(), "--{option}: `adapter {}` serves nothing that it counts for", adapter.name);
        if !on.iter().any(|listener| listener.is_served(options)) {
            let listeners: Vec<String> = on.iter().map(|listener| format!("--{}", listener.option())).collect();
            bail!("--{option}: one of its listeners has to be open: {}", listeners.join(", "));
        }
    }
    Ok(())
}

fn check_listeners(options: &Options, given: &Given, adapter: &Adapter) -> Result<()> {
    for listener in LISTENERS.into_iter().filter(|listener| listener.is_on(options)) {
        let (option, name) = (listener.option(), adapter.name);
        if adapter.listeners.contains(&listener) {
            let is_asked_for = listener.is_tls() && given.source(option).is_some();
            ensure!(!is_asked_for || options.tls_cert.is_some(), "--{option}: --tls-cert is needed");
        } else {
            ensure!(!given.is_flag(option), "--{option}: `adapter {name}` does not serve it");
        }
    }
    Ok(())
}

fn check_sources(options: &Options, given: &Given) -> Result<()> {
    for option in OF_GRANTS {
        ensure!(!given.is_flag(option) || options.grants.is_some(), "--{option}: --grants is needed");
    }
    for option in OF_LINK {
        let is_moot = given.is_flag(option) && options.has_own_broker();
        ensure!(!is_moot, "--{option}: the broker is in this process, memory:");
    }
    let is_plain = options.broker.as_ref().is_some_and(|url| url.starts_with("amqp://"));
    ensure!(!is_plain || !given.is_flag("broker-ca"), "--broker-ca: --broker with amqps:// is needed");
    Ok(())
}

#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    let counting = COUNTING.into_iter().flat_map(|(options, _)| options.iter().copied());
    counting.chain(OF_GRANTS).chain(OF_LINK).chain(LISTENERS.map(Listener::option))
}
