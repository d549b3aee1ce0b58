//! Bounds of an endpoint, and how long it waits for what.

use std::num::NonZeroU32;
use std::time::Duration;

/// Bounds of an endpoint. What is said of one peer holds for each.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the first answer to a confirmable message is waited for, at least; each time twice as long.
    pub ack_timeout: Duration,
    /// What is added to that, at most, at random.
    pub ack_jitter_max: Duration,
    /// How often a confirmable message is sent again.
    pub retransmits_max: u8,
    /// Confirmable messages of one peer that are not acknowledged yet.
    pub in_flight_max: usize,
    /// Confirmable messages of one peer that wait for their turn, beyond those of observations: as many as it can have asked
    /// for and as many last words as there may be to say, or some are lost.
    pub waiting_max: usize,
    /// How long a request waits for its response before it is acknowledged without one.
    pub ack_delay_max: Duration,
    /// How long a copy of a confirmable message may come after it.
    pub exchange_lifetime: Duration,
    /// How long a copy of a non-confirmable message may come after it.
    pub non_lifetime: Duration,
    /// Peers that something is known of.
    pub peers_max: usize,
    /// Requests that are not answered yet.
    pub requests_max: usize,
    /// The same of one peer.
    pub requests_per_peer_max: usize,
    /// New requests in a second, and at once, from one peer or one part of the network ([`crate::Endpoint::by_prefix`]). Those
    /// beyond are told to wait where they are to be acknowledged, of which there are at most as many. Nothing: any.
    pub requests_per_second_max: Option<NonZeroU32>,
    /// Requests that are remembered, so that copies of them are known.
    pub exchanges_max: usize,
    /// The same of one peer.
    pub exchanges_per_peer_max: usize,
    /// Bytes of a response to a GET that is remembered; beyond that a copy of the GET is asked again.
    pub reply_bytes_max: usize,
    /// What a client is told when there is no room, in seconds.
    pub retry_after_seconds: u32,
    /// Observations.
    pub observations_max: usize,
    /// The same of one peer.
    pub observations_per_peer_max: usize,
    /// Observations of peers that have not shown yet that they are where they say they are; beyond that who registers has to
    /// show it first, by an Echo option.
    pub observations_unproven_max: usize,
    /// After which time a notification is to be acknowledged.
    pub ping_period: Duration,
    /// Notifications of one peer whose reset is understood: as many as there may be since it acknowledged anything.
    pub notifications_remembered_max: usize,
    /// Non-confirmable notifications to one peer since it acknowledged anything, before one is to be acknowledged. As many again
    /// may follow until that would be sent again.
    pub notifications_unacknowledged_max: usize,
    /// Largest block, as the exponent of its size: 0 to 6 for 16 to 1,024 bytes.
    pub block_exponent_max: u8,
    /// Bytes of a body that comes in blocks.
    pub body_bytes_max: usize,
    /// Bodies of one peer of which blocks are here.
    pub bodies_per_peer_max: usize,
    /// Bytes of all bodies of which blocks are here.
    pub bodies_bytes_max: usize,
    /// Bodies that one peer is fetching.
    pub snapshots_per_peer_max: usize,
    /// Bytes of all bodies that are being fetched.
    pub snapshots_bytes_max: usize,
    /// How long the next block of a body is waited for.
    pub body_lifetime: Duration,
    /// How many times the bytes that came from it a peer is sent before it has shown that it is where it says it is. Nothing:
    /// the layer below has shown it.
    pub amplification_max: Option<usize>,
    /// Wrong acknowledgements after which a peer has to show that by an Echo option alone.
    pub wrong_acknowledgements_max: u8,
    /// How long an Echo option is good, at least; at most twice as long.
    pub echo_lifetime: Duration,
}

impl Default for Limits {
    //= RFC7252 4.8, 4.8.2
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(2),
            ack_jitter_max: Duration::from_secs(1),
            retransmits_max: 4,
            in_flight_max: 1,
            waiting_max: 128,
            ack_delay_max: Duration::from_secs(1),
            exchange_lifetime: Duration::from_secs(247),
            non_lifetime: Duration::from_secs(145),
            peers_max: 100_000,
            requests_max: 16_384,
            requests_per_peer_max: 64,
            requests_per_second_max: None,
            exchanges_max: 262_144,
            exchanges_per_peer_max: 128,
            reply_bytes_max: 128,
            retry_after_seconds: 5,
            observations_max: 100_000,
            observations_per_peer_max: 64,
            observations_unproven_max: 90_000,
            ping_period: Duration::from_hours(12),
            notifications_remembered_max: 200,
            notifications_unacknowledged_max: 100,
            block_exponent_max: 6,
            body_bytes_max: 1_024 * 1_024,
            bodies_per_peer_max: 4,
            bodies_bytes_max: 64 * 1_024 * 1_024,
            snapshots_per_peer_max: 4,
            snapshots_bytes_max: 64 * 1_024 * 1_024,
            body_lifetime: Duration::from_secs(247),
            amplification_max: Some(3),
            wrong_acknowledgements_max: 8,
            echo_lifetime: Duration::from_secs(120),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC7252 4.8, 4.8.2
    #[test]
    fn times_are_those_of_the_standard() {
        let limits = Limits::default();
        let longest = limits.ack_timeout + limits.ack_jitter_max;
        let transmit_span = longest * ((1 << limits.retransmits_max) - 1);
        let transmit_wait = longest * ((1 << (limits.retransmits_max + 1)) - 1);
        let latency = Duration::from_secs(100);
        assert_eq!((transmit_span.as_secs(), transmit_wait.as_secs()), (45, 93));
        assert_eq!(limits.exchange_lifetime, transmit_span + 2 * latency + limits.ack_timeout);
        assert_eq!(limits.non_lifetime, transmit_span + latency);
        assert!(limits.ack_delay_max < limits.ack_timeout, "else the client asks again first");
    }

    #[test]
    fn bounds_hold_what_others_let_in() {
        let limits = Limits::default();
        assert!(limits.waiting_max >= limits.requests_per_peer_max + limits.observations_per_peer_max);
        assert!(limits.notifications_remembered_max >= 2 * limits.notifications_unacknowledged_max);
    }
}
