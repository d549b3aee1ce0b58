//! What is counted of MQTT.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_mqtt_proto::{Dropped, Packet, PacketType, Reason};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PacketLabels {
    direction: &'static str,
    packet: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    direction: &'static str,
    packet: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

/// One of the two directions: what is counted of each packet has its counter at hand.
#[derive(Debug)]
pub(crate) struct Direction {
    name: &'static str,
    packets: [Counter; PacketType::ALL.len()],
    bytes: Counter,
    reasons: Family<ReasonLabels, Counter>,
}

impl Direction {
    fn new(
        name: &'static str,
        packets: &Family<PacketLabels, Counter>,
        bytes: &Family<DirectionLabels, Counter>,
        reasons: &Family<ReasonLabels, Counter>,
    ) -> Self {
        let of = |kind| packets.get_or_create_owned(&PacketLabels { direction: name, packet: said(kind) });
        let bytes = bytes.get_or_create_owned(&DirectionLabels { direction: name });
        Self { name, packets: PacketType::ALL.map(of), bytes, reasons: reasons.clone() }
    }

    /// One more packet.
    pub(crate) fn count(&self, packet: &Packet) {
        let kind = packet.kind();
        self.packets[kind as usize - 1].inc();
        for reason in reasons(packet).iter().filter(|reason| reason.is_error()) {
            let (packet, reason) = (said(kind), format!("{reason:?}"));
            self.reasons.get_or_create(&ReasonLabels { direction: self.name, packet, reason }).inc();
        }
    }

    /// So many more bytes.
    pub(crate) fn count_bytes(&self, count: usize) {
        self.bytes.inc_by(count as u64);
    }
}

fn said(kind: PacketType) -> String {
    format!("{kind:?}").to_lowercase()
}

/// The reasons that a packet bears.
fn reasons(packet: &Packet) -> &[Reason] {
    match packet {
        Packet::ConnAck(ack) => std::slice::from_ref(&ack.reason),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            std::slice::from_ref(&ack.reason)
        }
        Packet::SubAck(ack) => &ack.reasons,
        Packet::UnsubAck(ack) => &ack.reasons,
        Packet::Disconnect(end) => std::slice::from_ref(&end.reason),
        Packet::Auth(auth) => std::slice::from_ref(&auth.reason),
        Packet::Connect(_)
        | Packet::Publish(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::PingResp => &[],
    }
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Metrics {
    connections: Gauge,
    sessions_away: Gauge,
    waiting: Gauge,
    half_open_refused: Counter,
    pub(crate) received: Direction,
    pub(crate) sent: Direction,
    dropped: Family<CauseLabels, Counter>,
}

/// Counts one as long as it is there.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How many messages wait in one session, as long as it is there.
#[derive(Debug)]
pub(crate) struct Depth {
    all: Gauge,
    own: i64,
}

impl Depth {
    pub(crate) fn set(&mut self, waiting: usize) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        if waiting != self.own {
            self.all.inc_by(waiting - self.own);
            self.own = waiting;
        }
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        self.all.dec_by(self.own);
    }
}

impl Metrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let (packets, bytes, reasons) = (Family::default(), Family::default(), Family::default());
        let metrics = Self {
            connections: Gauge::default(),
            sessions_away: Gauge::default(),
            waiting: Gauge::default(),
            half_open_refused: Counter::default(),
            received: Direction::new("received", &packets, &bytes, &reasons),
            sent: Direction::new("sent", &packets, &bytes, &reasons),
            dropped: Family::default(),
        };
        registry.register("mqtt_connections", "Clients that are let in", metrics.connections.clone());
        let help = "Sessions whose clients are away";
        registry.register("mqtt_sessions_away", help, metrics.sessions_away.clone());
        let help = "Messages of QoS 1 and 2 that clients do not have yet";
        registry.register("mqtt_waiting_messages", help, metrics.waiting.clone());
        let help = "Connections refused since too many are not let in yet";
        registry.register("mqtt_half_open_refused", help, metrics.half_open_refused.clone());
        registry.register("mqtt_packets", "Packets, by direction and type", packets);
        registry.register("mqtt_bytes", "Bytes, by direction", bytes);
        let help = "Packets with a reason that is an error, by direction, type and reason";
        registry.register("mqtt_error_reasons", help, reasons);
        let help = "Messages that were not sent to their subscriber, by cause";
        registry.register("mqtt_dropped", help, metrics.dropped.clone());
        metrics
    }

    /// One more client that is let in.
    pub(crate) fn connection(&self) -> Counted {
        self.connections.inc();
        Counted(self.connections.clone())
    }

    /// One more session whose client is away.
    pub(crate) fn session_away(&self) -> Counted {
        self.sessions_away.inc();
        Counted(self.sessions_away.clone())
    }

    /// One more session in which messages may wait.
    pub(crate) fn depth(&self) -> Depth {
        Depth { all: self.waiting.clone(), own: 0 }
    }

    /// A connection more than may wait to be let in.
    pub(crate) fn half_open_refused(&self) {
        self.half_open_refused.inc();
    }

    /// What was dropped since `before`.
    pub(crate) fn dropped(&self, before: Dropped, now: Dropped) {
        for (cause, count) in [
            ("full", now.full - before.full),
            ("too-large", now.too_large - before.too_large),
            ("expired", now.expired - before.expired),
        ] {
            if count > 0 {
                self.dropped.get_or_create(&CauseLabels { cause }).inc_by(count);
            }
        }
    }
}
