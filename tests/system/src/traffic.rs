//! Devices at work while something happens, and the witnesses of what was accepted and delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use conformance::until;
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tidegate_client::{Address, Client, ClientError, Publication, QoS, Status};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Devices that publish at the same time.
const DEVICES: u64 = 4;
/// How often each of them does.
const EVERY: Duration = Duration::from_millis(10);
/// The exchange.
const EXCHANGE: &str = "messages";

/// What came of what devices sent.
#[derive(Debug, Default)]
pub struct Accepted {
    /// The numbers of the messages that were accepted.
    pub numbers: BTreeSet<u64>,
    /// How often which status refused.
    pub refused: BTreeMap<Status, usize>,
    /// How often there was no answer, by what went wrong.
    pub unanswered: BTreeMap<String, usize>,
    /// The longest time between two messages that were accepted, of all devices together.
    pub longest_gap: Duration,
}

struct Log {
    accepted: Accepted,
    last: Instant,
}

/// Devices that publish until they are told to stop, each message under a number of its own.
pub struct Traffic {
    runtime: Runtime,
    devices: Vec<JoinHandle<()>>,
    log: Arc<Mutex<Log>>,
}

impl Traffic {
    /// Starts them, and returns when messages are accepted.
    ///
    /// # Panics
    /// When none is within the deadline.
    #[must_use]
    pub fn start(device: &Client, address: &Address) -> Self {
        let traffic = Self::begin(device, address);
        traffic.goes_on(50);
        traffic
    }

    /// Starts them, and does not wait.
    ///
    /// # Panics
    /// When there is no runtime.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "gaps are measured in real time")]
    pub fn begin(device: &Client, address: &Address) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let log = Arc::new(Mutex::new(Log { accepted: Accepted::default(), last: Instant::now() }));
        let devices = (0..DEVICES).map(|number| {
            let (device, address, log) = (device.clone(), address.clone(), Arc::clone(&log));
            runtime.spawn(async move {
                let mut pace = tokio::time::interval(EVERY);
                pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                for count in 0.. {
                    pace.tick().await;
                    let message = count * DEVICES + number;
                    let sent = device.publish(&address, Publication::json(message.to_string())).await;
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    match sent {
                        Ok(()) => {
                            let gap = log.last.elapsed();
                            log.accepted.longest_gap = log.accepted.longest_gap.max(gap);
                            log.last = Instant::now();
                            log.accepted.numbers.insert(message);
                        }
                        Err(ClientError::Refused { status, .. }) => {
                            *log.accepted.refused.entry(status).or_default() += 1;
                        }
                        Err(error) => *log.accepted.unanswered.entry(with_causes(&error)).or_default() += 1,
                    }
                }
            })
        });
        let devices = devices.collect();
        Self { runtime, devices, log }
    }

    /// How many were accepted so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).accepted.numbers.len()
    }

    /// How many were refused with this status of HTTP so far.
    #[must_use]
    pub fn refused(&self, status: u16) -> usize {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.accepted.refused.get(&Status::Http(status)).copied().unwrap_or_default()
    }

    /// Waits until so many more are accepted.
    ///
    /// # Panics
    /// When they are not within the deadline.
    pub fn goes_on(&self, more: usize) {
        let before = self.count();
        until("messages are accepted", || self.count() >= before + more);
    }

    /// Stops, when what is being sent has been answered.
    ///
    /// # Panics
    /// When a device panicked.
    #[must_use]
    pub fn stop(self) -> Accepted {
        for device in &self.devices {
            device.abort();
        }
        // What was cut off in the middle counts for nothing: it may have been taken or not.
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut log.accepted)
    }
}

/// An error and what it comes from, down to what the system said.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// What a device heard.
#[derive(Debug, Default)]
struct Heard {
    numbers: BTreeSet<u64>,
    subscriptions: usize,
    open: bool,
    gaps: usize,
    lost_at: Option<Instant>,
    longest_absence: Duration,
    ends: Vec<String>,
}

/// A device that subscribes, and again at once when it is cut off, until the value goes.
pub struct Listener {
    _runtime: Runtime,
    heard: Arc<Mutex<Heard>>,
}

impl Listener {
    /// Starts it, and returns when it is subscribed.
    ///
    /// # Panics
    /// When it is not within the deadline.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "absences are measured in real time")]
    pub fn start(device: &Client, address: &Address) -> Self {
        /// How long it waits before it tries again.
        const AGAIN: Duration = Duration::from_millis(100);
        let runtime = Runtime::new().expect("a runtime");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (device, address, told) = (device.clone(), address.clone(), Arc::clone(&heard));
        let tell = move |change: &mut dyn FnMut(&mut Heard)| {
            change(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
        };
        runtime.spawn(async move {
            loop {
                let Ok(mut subscription) = device.subscribe(&address, QoS::AtLeastOnce).await else {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                };
                tell(&mut |heard| {
                    heard.subscriptions += 1;
                    heard.open = true;
                    let absence = heard.lost_at.take().map_or(Duration::ZERO, |at| at.elapsed());
                    heard.longest_absence = heard.longest_absence.max(absence);
                });
                while let Ok(Some(event)) = subscription.next().await {
                    let text = String::from_utf8_lossy(&event.payload).into_owned();
                    tell(&mut |heard| match event.kind.as_str() {
                        "message" => drop(text.parse().map(|number| heard.numbers.insert(number))),
                        "gap" => heard.gaps += 1,
                        "end" => heard.ends.push(text.clone()),
                        _ => {}
                    });
                }
                tell(&mut |heard| {
                    heard.open = false;
                    heard.lost_at = Some(Instant::now());
                });
            }
        });
        let listener = Self { _runtime: runtime, heard };
        until("the device is subscribed", || listener.is_open());
        listener
    }

    fn look<T>(&self, at: impl FnOnce(&Heard) -> T) -> T {
        at(&self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is subscribed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.look(|heard| heard.open)
    }

    /// How often it was.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.look(|heard| heard.subscriptions)
    }

    /// How long it was not, at most.
    #[must_use]
    pub fn longest_absence(&self) -> Duration {
        self.look(|heard| heard.longest_absence)
    }

    /// The numbers of the messages that it got.
    #[must_use]
    pub fn numbers(&self) -> BTreeSet<u64> {
        self.look(|heard| heard.numbers.clone())
    }

    /// What it was told at the ends.
    #[must_use]
    pub fn ends(&self) -> Vec<String> {
        self.look(|heard| heard.ends.clone())
    }

    /// Waits until it has this message.
    ///
    /// # Panics
    /// When it does not come within the deadline.
    pub fn until_heard(&self, number: u64) {
        until("the message arrives", || self.look(|heard| heard.numbers.contains(&number)));
    }
}

/// A durable queue of a back end.
pub struct Witness {
    runtime: Runtime,
    url: String,
    queue: String,
}

impl Witness {
    /// Declares and binds it.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn bind(url: &str, queue: &str, key: &str) -> Result<Self> {
        let runtime = Runtime::new()?;
        runtime.block_on(async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.into(), durable, FieldTable::default()).await?;
            let bind = QueueBindOptions::default();
            channel.queue_bind(queue.into(), EXCHANGE.into(), key.into(), bind, FieldTable::default()).await?;
            connection.close(200, "bound".into()).await?;
            anyhow::Ok(())
        })?;
        Ok(Self { runtime, url: url.to_owned(), queue: queue.to_owned() })
    }

    /// Takes what is in the queue until all of `expected` came; what did not come within the deadline.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn missing(&self, expected: &BTreeSet<u64>) -> Result<BTreeSet<u64>> {
        /// How long nothing may come before the rest counts as lost.
        const SILENCE: Duration = Duration::from_secs(5);
        self.runtime.block_on(async {
            let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let queue = self.queue.as_str();
            let consume = BasicConsumeOptions::default();
            let mut deliveries =
                channel.basic_consume(queue.into(), "witness".into(), consume, FieldTable::default()).await?;
            let mut missing = expected.clone();
            while !missing.is_empty() {
                let Ok(delivery) = tokio::time::timeout(SILENCE, deliveries.next()).await else { break };
                let delivery = delivery.context("the broker ended the delivery")??;
                if let Ok(number) = String::from_utf8_lossy(&delivery.data).parse() {
                    missing.remove(&number);
                }
                delivery.ack(BasicAckOptions::default()).await?;
            }
            Ok(missing)
        })
    }
}
