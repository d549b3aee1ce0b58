//! A UDP socket as the driver sees it: datagrams with whom they are of and which address they came to, in bursts.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Bytes of the longest datagram, or train of them.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Who speaks, and which of our addresses they speak to: answers come from that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Theirs.
    pub address: SocketAddr,
    /// Ours, where it is known.
    pub local: Option<IpAddr>,
    /// The session of DTLS in which they speak; 0 where it is none.
    pub session: u64,
}

impl Peer {
    /// Who speaks from there, in whatever session.
    pub(crate) const fn address_alone(&self) -> Self {
        Self { session: 0, ..*self }
    }
}

pub(crate) struct Line {
    socket: UdpSocket,
    state: UdpSocketState,
    /// The one address of ours that it has, where it has one alone.
    bound: Option<IpAddr>,
    buffers: Box<[u8]>,
}

/// A datagram that is worth to be looked at.
pub(crate) struct Received {
    pub(crate) peer: Peer,
    pub(crate) datagram: Bytes,
}

impl Line {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let bound = Some(socket.local_addr()?.ip()).filter(|address| !address.is_unspecified());
        // Pages of it that nothing comes to take no memory.
        Ok(Self { socket, state, bound, buffers: vec![0; BATCH_SIZE * DATAGRAM_BYTES_MAX].into() })
    }

    /// Waits until there is something to take.
    pub(crate) async fn readable(&self) {
        // An error shows when it is read.
        let _ = self.socket.readable().await;
    }

    /// Takes a burst. What is of no peer that could be answered, or not to us alone, is passed over.
    //= RFC7252 8
    pub(crate) fn take(&mut self, into: &mut Vec<Received>) -> bool {
        let Self { socket, state, buffers, .. } = self;
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let count = {
            let mut slices = buffers.chunks_exact_mut(DATAGRAM_BYTES_MAX).map(IoSliceMut::new).collect::<Vec<_>>();
            socket.try_io(Interest::READABLE, || state.recv((&*socket).into(), &mut slices, &mut metas))
        };
        let Ok(count) = count else { return false };
        for (meta, buffer) in metas.iter().zip(buffers.chunks_exact(DATAGRAM_BYTES_MAX)).take(count) {
            let peer = Peer { address: meta.addr, local: meta.dst_ip, session: 0 };
            if !is_one(&peer) {
                continue;
            }
            let datagrams = buffer[..meta.len].chunks(meta.stride.max(1));
            into.extend(datagrams.map(|datagram| Received { peer, datagram: Bytes::copy_from_slice(datagram) }));
        }
        true
    }

    /// Sends one, or loses it.
    pub(crate) fn send(&self, peer: &Peer, datagram: &[u8]) {
        let sent = match peer.local.filter(|local| Some(*local) != self.bound) {
            Some(local) => self.send_from(local, peer.address, datagram),
            // To say what goes without saying costs the kernel a look at it.
            None => self.socket.try_send_to(datagram, peer.address).map(drop),
        };
        if let Err(error) = sent {
            tracing::trace!(%error, "a datagram is not sent");
        }
    }

    fn send_from(&self, local: IpAddr, destination: SocketAddr, contents: &[u8]) -> io::Result<()> {
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: Some(local) };
        self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit))
    }
}

/// Whether a peer is one that can be answered, and spoke to us alone.
fn is_one(peer: &Peer) -> bool {
    let is_many = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_multicast() || v4 == Ipv4Addr::BROADCAST,
        IpAddr::V6(v6) => v6.is_multicast(),
    };
    let source = peer.address.ip();
    peer.address.port() != 0
        && !is_many(source)
        && !source.to_canonical().is_unspecified()
        && !peer.local.is_some_and(is_many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_one_device_is_passed_over() {
        let check = |address: &str, local: Option<&str>, expected: bool| {
            let (address, local) = (address.parse().unwrap(), local.map(|local| local.parse().unwrap()));
            let peer = Peer { address, local, session: 0 };
            assert_eq!(is_one(&peer), expected, "{peer:?}");
        };
        check("192.0.2.1:5683", Some("192.0.2.2"), true);
        check("[2001:db8::1]:61616", None, true);
        check("192.0.2.1:0", None, false);
        check("255.255.255.255:5683", None, false);
        check("[::ffff:224.0.1.187]:5683", None, false);
        check("0.0.0.0:5683", None, false);
        check("192.0.2.1:5683", Some("224.0.1.187"), false);
        check("[2001:db8::1]:5683", Some("ff02::fd"), false);
        check("[2001:db8::1]:5683", Some("::ffff:255.255.255.255"), false);
    }
}
