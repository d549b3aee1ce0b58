//! The faces of the process: what each is served with, where, and how it ends.

use std::sync::Arc;

use anyhow::Result;
use prometheus_client::registry::Registry;
use tidegate_bridge::{Bridge, DeparturePace};
use tidegate_coap::CoapFace;
use tidegate_daemon::Stream;
use tidegate_daemon::config::Listen;
use tidegate_daemon::drain::Drain;
use tidegate_daemon::listen::{self, ListenLimits};
use tidegate_daemon::tls::{Tls, TlsFiles};
use tidegate_http::{HttpFace, HttpLimits, Routes, Upgrade};
use tidegate_model::CertificateNames;
use tidegate_mqtt::{Admission, MqttFace};
use tidegate_mqtt_proto::Limits;
use tidegate_ws::{Sockets, WsFace, WsLimits};
use tokio::net::{TcpListener, UdpSocket};

use crate::options::{self, Options, Spoken};
use crate::{coaps, shares};

/// All of them; which are served is decided by their listeners.
pub(crate) struct Faces {
    http: Arc<HttpFace>,
    ws: Arc<WsFace>,
    mqtt: Arc<MqttFace>,
    coap: Arc<CoapFace>,
}

/// Certificates for the faces, each with what its protocol is called in TLS, and that of DTLS.
pub(crate) struct Certificates {
    https: Option<Tls>,
    mqtts: Option<Tls>,
    mqtt_wss: Option<Tls>,
    coaps: Option<coaps::Watched>,
}

/// What a port is served by.
pub(crate) enum Served {
    Http(Arc<HttpFace>, Routes),
    Mqtt(Arc<MqttFace>),
}

/// A port that is bound.
pub(crate) enum Port {
    /// For connections.
    Tcp { listener: TcpListener, tls: Option<Tls>, served: Served },
    /// For datagrams: a socket for each core, over which the kernel spreads peers.
    Udp { sockets: Vec<UdpSocket>, is_dtls: bool, face: Arc<CoapFace> },
}

impl Certificates {
    /// Of the options' files; none where they name none, and none for what is not open. The files are read once for all.
    pub(crate) fn load(options: &Options) -> Result<Self> {
        let mut certificates = Self { https: None, mqtts: None, mqtt_wss: None, coaps: None };
        let (Some(cert), Some(key)) = (options.tls_cert.clone(), options.tls_key.clone()) else {
            return Ok(certificates);
        };
        let open = |listen: Listen| listen.address().is_some();
        let Options { listen_https, listen_mqtts, listen_mqtt_wss, listen_coaps, .. } = *options;
        if [listen_https, listen_mqtts, listen_mqtt_wss, listen_coaps].into_iter().any(open) {
            let files = TlsFiles { cert, key, client_auth: options.client_auth() };
            let watched = files.clone().watch()?;
            let tls = |listen, alpn| open(listen).then(|| watched.tls(alpn));
            certificates.https = tls(listen_https, &[b"h2", b"http/1.1"]);
            certificates.mqtts = tls(listen_mqtts, &[b"mqtt"]);
            // A handshake is of HTTP/1.1.
            certificates.mqtt_wss = tls(listen_mqtt_wss, &[b"http/1.1"]);
            certificates.coaps = open(listen_coaps).then(|| coaps::Watched::new(&watched, files)).transpose()?;
        }
        Ok(certificates)
    }
}

impl Faces {
    /// In front of `bridge`, their metrics in `registry`.
    pub(crate) fn new(bridge: &Arc<Bridge>, options: &Options, registry: &mut Registry) -> Self {
        let http = HttpLimits {
            event_keep_alive: options.http_keep_alive.0,
            head_read_max: options.http_timeout.0,
            body_read_max: options.http_timeout.0,
            reader_stall_max: options.http_timeout.0,
            bodies_bytes_max: options.http_bodies_bytes_max,
            ..HttpLimits::default()
        };
        let mqtt = Limits {
            // Both were checked: they fit.
            keep_alive_max: options
                .mqtt_keep_alive_max
                .and_then(|span| u16::try_from(span.0.as_secs()).ok()?.try_into().ok()),
            session_expiry_max: u32::try_from(options.mqtt_session_expiry_max.0.as_secs()).unwrap_or(u32::MAX),
            packet_bytes_max: options.mqtt_packet_bytes_max.get(),
            waiting_max: options.mqtt_waiting_max,
            waiting_bytes_max: options.mqtt_waiting_bytes_max,
            ..Limits::default()
        };
        let admission = Admission {
            half_open_max: options.mqtt_half_open_max,
            per_second_max: options.mqtt_connects_per_second_max,
        };
        let mqtt = MqttFace::new(Arc::clone(bridge), mqtt, admission, registry);
        let ws = WsLimits {
            ping_interval: options.websocket_ping_interval.0,
            idle_max: options.websocket_idle_timeout.0,
            in_flight_max: options.websocket_in_flight_max,
            // Packets may share a message.
            mqtt_message_bytes_max: (options.mqtt_packet_bytes_max.get() as usize).saturating_mul(2),
            origins: options
                .websocket_origins
                .as_ref()
                .map(|origins| origins.iter().filter_map(|origin| Some(options::origin(origin)?.into())).collect()),
            ..WsLimits::default()
        };
        Self {
            http: HttpFace::new(Arc::clone(bridge), http, registry),
            ws: WsFace::new(Arc::clone(bridge), Arc::clone(&mqtt), ws, registry),
            mqtt,
            coap: CoapFace::new(
                Arc::clone(bridge),
                shares::coap(options, cores()),
                shares::coaps(options, cores()),
                registry,
            ),
        }
    }

    /// Binds every port that is not off.
    pub(crate) fn bind(&self, options: &Options, spoken: Spoken, certificates: Certificates) -> Result<Vec<Port>> {
        let with = |tls: &Option<Tls>, listen: Listen| if tls.is_some() { listen } else { Listen::Off };
        let Certificates { https, mqtts, mqtt_wss, coaps } = certificates;
        let sockets = |channels| Arc::new(Sockets { face: Arc::clone(&self.ws), channels }) as Arc<dyn Upgrade>;
        let http = || {
            let routes = Routes { requests: spoken.requests, upgrade: spoken.sockets.then(|| sockets(true)) };
            Served::Http(Arc::clone(&self.http), routes)
        };
        let mqtt_ws =
            || Served::Http(Arc::clone(&self.http), Routes { requests: false, upgrade: Some(sockets(false)) });
        let mqtt = || Served::Mqtt(Arc::clone(&self.mqtt));
        let ports = [
            ("--listen-http", options.listen_http, None, http()),
            ("--listen-https", with(&https, options.listen_https), https, http()),
            ("--listen-mqtt", options.listen_mqtt, None, mqtt()),
            ("--listen-mqtts", with(&mqtts, options.listen_mqtts), mqtts, mqtt()),
            ("--listen-mqtt-ws", options.listen_mqtt_ws, None, mqtt_ws()),
            ("--listen-mqtt-wss", with(&mqtt_wss, options.listen_mqtt_wss), mqtt_wss, mqtt_ws()),
        ];
        let mut bound = Vec::with_capacity(ports.len());
        for (option, listen, tls, served) in ports {
            bound.extend(open(option, listen)?.map(|listener| Port::Tcp { listener, tls, served }));
        }
        let udp = [("--listen-coap", options.listen_coap, false), ("--listen-coaps", options.listen_coaps, true)];
        for (option, listen, is_dtls) in udp {
            bound.push(Port::Udp { sockets: open_udp(option, listen)?, is_dtls, face: Arc::clone(&self.coap) });
        }
        if let Some(identity) = coaps {
            identity.keep(&self.coap);
        }
        Ok(bound)
    }

    /// Ends connections one after another.
    pub(crate) fn drain(&self, pace: DeparturePace) {
        self.http.drain(pace);
        self.ws.drain(pace);
        self.mqtt.drain(pace);
        self.coap.drain(pace);
    }
}

impl Port {
    /// Serves it until the drain begins.
    pub(crate) fn serve(self, limits: ListenLimits, drain: Drain) {
        let (listener, tls, served) = match self {
            Self::Tcp { listener, tls, served } => (listener, tls, served),
            Self::Udp { sockets, is_dtls, face } => {
                for socket in sockets {
                    let (face, at_work) = (Arc::clone(&face), drain.at_work());
                    tokio::spawn(async move {
                        let served = if is_dtls { face.serve_dtls(socket).await } else { face.serve(socket).await };
                        if let Err(error) = served {
                            tracing::error!(%error, "a socket cannot be served");
                        }
                        drop(at_work);
                    });
                }
                return;
            }
        };
        match served {
            Served::Http(face, routes) => {
                let serve = move |stream: Stream, _peer| {
                    let certificate = certificate(&stream);
                    Arc::clone(&face).serve_connection(stream, routes.clone(), certificate)
                };
                tokio::spawn(listen::serve(listener, tls, limits, drain, serve));
            }
            Served::Mqtt(face) => {
                let serve = move |stream: Stream, _peer| {
                    let certificate = certificate(&stream);
                    Arc::clone(&face).serve_connection(stream, certificate)
                };
                tokio::spawn(listen::serve(listener, tls, limits, drain, serve));
            }
        }
    }
}

/// What the certificate says that the client of a connection showed.
fn certificate(stream: &Stream) -> Option<Arc<CertificateNames>> {
    CertificateNames::of_der(stream.peer_certificate()?).map(Arc::new)
}

/// Binds a port, unless it is off.
pub(crate) fn open(option: &'static str, listen: Listen) -> Result<Option<TcpListener>> {
    let Some(address) = listen.address() else { return Ok(None) };
    let listener = listen::bind(option, address)?;
    tracing::info!(address = %listener.local_addr()?, "{option}");
    Ok(Some(listener))
}

/// Binds a socket for each core, unless it is off.
fn open_udp(option: &'static str, listen: Listen) -> Result<Vec<UdpSocket>> {
    let Some(address) = listen.address() else { return Ok(Vec::new()) };
    let sockets = listen::bind_datagrams(option, address, cores())?;
    if let Some(first) = sockets.first() {
        tracing::info!(address = %first.local_addr()?, "{option}");
    }
    Ok(sockets)
}

/// How many sockets there are for datagrams.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
