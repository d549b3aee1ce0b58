//! A wire that can be cut without a word: bytes go no further, and neither side is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// Forwards connections to one server.
pub struct Proxy {
    address: SocketAddr,
    cut: Arc<Cut>,
}

#[derive(Default)]
struct Cut {
    is_cut: Mutex<bool>,
    healed: Condvar,
}

impl Cut {
    fn set(&self, is_cut: bool) {
        *self.is_cut.lock().unwrap_or_else(PoisonError::into_inner) = is_cut;
        self.healed.notify_all();
    }

    /// Waits while the wire is cut.
    fn pass(&self) {
        let is_cut = self.is_cut.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.healed.wait_while(is_cut, |is_cut| *is_cut).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Proxy {
    /// Forwards from a port of its own to `server`.
    ///
    /// # Errors
    /// When no port can be opened.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let (address, cut) = (listener.local_addr()?, Arc::new(Cut::default()));
        let shared = Arc::clone(&cut);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                for (from, to) in [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())] {
                    let (Ok(from), Ok(to)) = (from, to) else { continue };
                    let cut = Arc::clone(&shared);
                    thread::spawn(move || forward(from, to, &cut));
                }
            }
        });
        Ok(Self { address, cut })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nothing through from now on, on any connection.
    pub fn cut(&self) {
        self.cut.set(true);
    }

    /// Lets everything through again, as TCP does that sends again what was dropped.
    pub fn heal(&self) {
        self.cut.set(false);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, cut: &Cut) {
    let mut buffer = [0; 16 * 1_024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        cut.pass();
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    cut.pass();
    // The other side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}
