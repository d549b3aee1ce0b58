//! The TCP listener that every face shares: accept, agree on TLS, hand over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tidegate_containment::contained;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::drain::Drain;
use crate::stream::{Lingering, Stream};
use crate::tls::Tls;

/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long to wait when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1_024;
/// Bytes of datagrams that the kernel is asked to hold for a socket.
const RECEIVE_BYTES: usize = 4 * 1_024 * 1_024;

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{option} {address}")]
pub struct BindError {
    /// The option that names the address.
    pub option: &'static str,
    /// The address.
    pub address: SocketAddr,
    source: io::Error,
}

/// Bounds on one listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenLimits {
    /// Open connections; more wait in the kernel.
    pub connections_max: usize,
    /// TLS handshakes at the same time; each costs about 0.1 ms of a core.
    pub handshakes_max: usize,
    /// How long a peer may take nothing of what is written to it.
    pub write_stall_max: Duration,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self { connections_max: 20_000, handshakes_max: 256, write_stall_max: Duration::from_secs(30) }
    }
}

/// Opens the listener that `option` asks for. `[::]` takes IPv4 too.
///
/// # Errors
/// [`BindError`], as when the port is taken.
pub fn bind(option: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    or_ipv4(address, open).map_err(|source| BindError { option, address, source })
}

/// Opens so many sockets for datagrams that share the address that `option` asks for, so that the kernel spreads peers over
/// them. `[::]` takes IPv4 too.
///
/// # Errors
/// [`BindError`], as when the port is taken.
pub fn bind_datagrams(option: &'static str, address: SocketAddr, count: usize) -> Result<Vec<UdpSocket>, BindError> {
    // Whoever shares an address may take it beside others, of whatever process: so it is asked for alone first.
    let alone = or_ipv4(address, |address| open_datagrams(address, false));
    let shared = alone
        .and_then(|alone| alone.local_addr())
        .and_then(|address| (0..count).map(|_| open_datagrams(address, true)).collect());
    shared.map_err(|source| BindError { option, address, source })
}

/// Opens an address, or that of IPv4 where every address is meant and the machine has no IPv6.
fn or_ipv4<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    open(address).or_else(|error| match error.raw_os_error() {
        Some(97) if address.ip().is_unspecified() && address.is_ipv6() => {
            open(SocketAddr::from(([0, 0, 0, 0], address.port())))
        }
        _ => Err(error),
    })
}

fn open_datagrams(address: SocketAddr, is_shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(is_shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // As much as the system lets it have.
    let _ = socket.set_recv_buffer_size(RECEIVE_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Hands every connection to `serve`, each in a task of its own, until the drain begins. A TLS handshake is done before,
/// outside of the loop.
pub async fn serve<F, Served>(listener: TcpListener, tls: Option<Tls>, limits: ListenLimits, drain: Drain, serve: F)
where
    F: Fn(Stream, SocketAddr) -> Served + Clone + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes_max.min(Semaphore::MAX_PERMITS)));
    let mut draining = std::pin::pin!(drain.draining());
    loop {
        let accepted = async {
            let slot = Arc::clone(&connections).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = accepted => accepted,
        };
        let (tcp, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let (tls, handshakes, serve, at_work) = (tls.clone(), Arc::clone(&handshakes), serve.clone(), drain.at_work());
        tokio::spawn(contained(async move {
            // Its future is large, and as long as the connection is there, nobody needs it.
            if let Some(stream) = Box::pin(agree(tcp, tls, &handshakes, limits.write_stall_max)).await {
                serve(stream, peer).await;
            }
            drop((slot, at_work));
        }));
    }
}

async fn pause_after(error: &io::Error) {
    /// EMFILE and ENFILE.
    const OUT_OF_FILES: [i32; 2] = [24, 23];
    if error.raw_os_error().is_some_and(|code| OUT_OF_FILES.contains(&code)) {
        tracing::warn!(%error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn agree(tcp: TcpStream, tls: Option<Tls>, handshakes: &Semaphore, write_stall_max: Duration) -> Option<Stream> {
    // Fails only on a connection that is gone.
    let _ = tcp.set_nodelay(true);
    let tcp = Lingering::new(tcp, write_stall_max);
    let Some(tls) = tls else { return Some(Stream::plain(tcp)) };
    let handshake = async {
        let _slot = handshakes.acquire().await;
        tls.acceptor().accept(tcp).await
    };
    match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(stream)) => Some(Stream::tls(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_elapsed) => None,
    }
}
