//! What each socket for datagrams may have of what the process may: a socket bounds what it holds by itself, and there is one a
//! core for CoAP, and as many for CoAP over DTLS.

use tidegate_coap::DtlsLimits;
use tidegate_coap_proto::Limits;
use tidegate_daemon::config::Listen;

use crate::options::Options;

/// The bounds of an endpoint where each port has so many sockets: its share of what is bounded in all, and room for one device
/// at least.
pub(crate) fn coap(options: &Options, cores: usize) -> Limits {
    let open = |listen: Listen| usize::from(listen.address().is_some());
    let sockets = (open(options.listen_coap) + open(options.listen_coaps)) * cores;
    let all = Limits::default();
    let share = |all: usize, least: usize| (all / sockets.max(1)).max(least);
    Limits {
        peers_max: share(all.peers_max, 1),
        requests_max: share(all.requests_max, all.requests_per_peer_max),
        exchanges_max: share(all.exchanges_max, all.exchanges_per_peer_max),
        observations_max: share(all.observations_max, all.observations_per_peer_max),
        observations_unproven_max: share(all.observations_unproven_max, 1),
        bodies_bytes_max: share(all.bodies_bytes_max, all.body_bytes_max),
        snapshots_bytes_max: share(all.snapshots_bytes_max, all.body_bytes_max),
        ping_period: options.coap_ping_period.0,
        requests_per_second_max: options.coap_requests_per_second_max,
        ..all
    }
}

/// The bounds of the sessions of one of so many sockets.
pub(crate) fn coaps(options: &Options, sockets: usize) -> DtlsLimits {
    let share = |all: usize| (all / sockets.max(1)).max(1);
    let defaults = DtlsLimits::default();
    DtlsLimits {
        sessions_max: share(options.coaps_sessions_max),
        half_open_max: share(options.coaps_half_open_max),
        handshakes_per_second_max: options.coaps_handshakes_per_second_max,
        // Between two that are to be acknowledged, an observation may be as silent as that.
        idle_max: defaults.idle_max.max(options.coap_ping_period.0 * 2),
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    /// What is bounded in all of a process, in the order of its declaration.
    fn bounds(limits: &Limits) -> [usize; 7] {
        let Limits { peers_max, requests_max, exchanges_max, observations_max, observations_unproven_max, .. } =
            *limits;
        let Limits { bodies_bytes_max, snapshots_bytes_max, .. } = *limits;
        let counts = [peers_max, requests_max, exchanges_max, observations_max, observations_unproven_max];
        [counts[0], counts[1], counts[2], counts[3], counts[4], bodies_bytes_max, snapshots_bytes_max]
    }

    #[test]
    fn all_sockets_together_have_no_more_than_the_process_may() {
        let whole = bounds(&Limits::default());
        let alone = ["--listen-coap 5683 --listen-coaps off", "--listen-coap off --listen-coaps 5684"];
        let both = "--listen-coap 5683 --listen-coaps 5684";
        for (listens, ports) in [(alone[0], 1), (alone[1], 1), (both, 2)] {
            let options = options("coap", listens).unwrap();
            for cores in [1, 2, 16, 32] {
                let share = bounds(&coap(&options, cores));
                for (share, whole) in share.into_iter().zip(whole) {
                    let all = share * ports * cores;
                    assert!(all <= whole && all > whole / 2, "{all} of {whole}, {cores} cores, {listens}");
                }
            }
            assert_eq!(bounds(&coap(&options, 1)).map(|share| share * ports), whole);
        }
    }

    #[test]
    fn however_many_sockets_there_are_each_has_room_for_one_device() {
        let options = options("coap", "--coaps-sessions-max 1 --coaps-half-open-max 1").unwrap();
        let limits = coap(&options, 1_000_000);
        assert_eq!(limits.requests_max, limits.requests_per_peer_max);
        assert_eq!(limits.exchanges_max, limits.exchanges_per_peer_max);
        assert_eq!(limits.observations_max, limits.observations_per_peer_max);
        assert_eq!(
            (limits.bodies_bytes_max, limits.snapshots_bytes_max),
            (limits.body_bytes_max, limits.body_bytes_max)
        );
        assert_eq!((limits.peers_max, limits.observations_unproven_max), (1, 1));
        let limits = coaps(&options, 1_000_000);
        assert_eq!((limits.sessions_max, limits.half_open_max), (1, 1));
    }

    #[test]
    fn a_session_outlives_two_pings() {
        let idle_max = |period| coaps(&options("coap", &format!("--coap-ping-period {period}")).unwrap(), 1).idle_max;
        assert_eq!(idle_max("12h").as_secs(), 25 * 3_600);
        assert_eq!(idle_max("24h").as_secs(), 48 * 3_600);
        assert_eq!(idle_max("100y").as_secs(), 200 * 31_557_600);
    }
}
