//! Going away without cutting anyone off: stop taking, finish what is there, then end.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells every part of the process that it is going away, and counts what is still at work. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    draining: watch::Sender<bool>,
    at_work: watch::Sender<usize>,
}

/// Something at work; the drain waits until it is dropped.
#[derive(Debug)]
pub struct AtWork(watch::Sender<usize>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { draining: watch::Sender::new(false), at_work: watch::Sender::new(0) }
    }
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the drain, on SIGTERM and SIGINT too; a second signal ends the process at once, with the exit code of one
    /// that the signal ended.
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let drain = self.clone();
        tokio::spawn(async move {
            let next = async |term: &mut tokio::signal::unix::Signal, int: &mut tokio::signal::unix::Signal| {
                tokio::select! { _ = term.recv() => 143, _ = int.recv() => 130 }
            };
            next(&mut term, &mut int).await;
            tracing::info!("draining; a second signal ends at once");
            drain.begin();
            let code = next(&mut term, &mut int).await;
            std::process::exit(code);
        });
        Ok(())
    }

    /// Begins the drain.
    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until the drain begins.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut draining = self.draining.subscribe();
        async move {
            // The sender lives as long as any clone of the drain; without one there is nothing to wait for.
            let _ = draining.wait_for(|draining| *draining).await;
        }
    }

    /// Counts something as at work until the guard is dropped.
    #[must_use]
    pub fn at_work(&self) -> AtWork {
        self.at_work.send_modify(|count| *count += 1);
        AtWork(self.at_work.clone())
    }

    /// How much is at work.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.at_work.borrow()
    }

    /// Waits until nothing is at work, `timeout` at most; whether that came true.
    pub async fn finished(&self, timeout: Duration) -> bool {
        let mut at_work = self.at_work.subscribe();
        tokio::time::timeout(timeout, at_work.wait_for(|count| *count == 0)).await.is_ok()
    }
}
