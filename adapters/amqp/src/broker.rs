//! RabbitMQ as the bridge sees it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tidegate_bridge::{
    BoxFuture, Broker, DeliveryQueue, Fanout, FanoutMetrics, Publication, Publisher, Receipt, Subscriber, Terms,
    Unavailable,
};
use tidegate_model::{ChannelId, FilterPermit};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::config::{AmqpConfig, AmqpError, check_ca, uri};
use crate::metrics::Metrics;
use crate::subscriber::Reader;
use crate::writer::{Job, RETRY_AFTER, Writer};

/// Longest name of an exchange, so that the alternate exchange's fits an AMQP short string.
const EXCHANGE_BYTES_MAX: usize = 240;

/// A RabbitMQ, or several, behind one URL.
pub struct AmqpBroker {
    config: Arc<AmqpConfig>,
    writers: Vec<mpsc::Sender<Job>>,
    fanout: Arc<Fanout>,
    wake: Arc<Notify>,
    bound: watch::Sender<BTreeSet<ChannelId>>,
    link_up: watch::Sender<bool>,
    metrics: Metrics,
}

impl AmqpBroker {
    /// Begins to connect, and goes on until it succeeds; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`AmqpError`] when the configuration cannot be right.
    pub fn start(config: AmqpConfig, registry: &mut Registry) -> Result<Arc<Self>, AmqpError> {
        uri(&config.url)?;
        check_ca(config.ca_pem.as_deref())?;
        if !(1..=EXCHANGE_BYTES_MAX).contains(&config.exchange.len()) {
            return Err(AmqpError::Exchange);
        }
        let config = Arc::new(config);
        let metrics = Metrics::registered(registry);
        let wake = Arc::new(Notify::new());
        let abandoned = Arc::clone(&wake);
        let fanout =
            Fanout::new(config.queue_limits, FanoutMetrics::registered(registry), move |_| abandoned.notify_one());
        let bound = watch::Sender::new(BTreeSet::new());

        let mut links = Vec::new();
        let mut writers = Vec::new();
        for _ in 0..config.publisher_connections.max(1) {
            let (sender, jobs) = mpsc::channel(config.window.max(1));
            let up = watch::Sender::new(false);
            links.push(up.subscribe());
            writers.push(sender);
            tokio::spawn(Writer { config: Arc::clone(&config), jobs, metrics: metrics.clone(), up }.run());
        }
        let up = watch::Sender::new(false);
        links.push(up.subscribe());
        let reader = Reader {
            config: Arc::clone(&config),
            fanout: Arc::clone(&fanout),
            wake: Arc::clone(&wake),
            bound: bound.clone(),
            metrics: metrics.clone(),
            up,
        };
        tokio::spawn(reader.run());
        let link_up = watch::Sender::new(false);
        tokio::spawn(follow(links, link_up.clone(), metrics.clone()));
        Ok(Arc::new(Self { config, writers, fanout, wake, bound, link_up, metrics }))
    }

    /// The writer of a publisher's messages to a channel: always the same, so that they keep their order.
    fn writer(&self, publication: &Publication) -> &mpsc::Sender<Job> {
        let mut hasher = DefaultHasher::new();
        (publication.publisher(), publication.channel()).hash(&mut hasher);
        let index = hasher.finish() % self.writers.len() as u64;
        &self.writers[usize::try_from(index).unwrap_or_default()]
    }

    fn unavailable(&self) -> Unavailable {
        self.metrics.unavailable.inc();
        Unavailable { retry_after: RETRY_AFTER }
    }
}

/// The link is up when every connection is.
async fn follow(mut links: Vec<watch::Receiver<bool>>, link_up: watch::Sender<bool>, metrics: Metrics) {
    loop {
        let all_up = links.iter_mut().all(|link| *link.borrow_and_update());
        metrics.link_up.set(i64::from(all_up));
        link_up.send_if_modified(|up| std::mem::replace(up, all_up) != all_up);
        let changes = links.iter_mut().map(|link| Box::pin(link.changed()));
        let (changed, ..) = futures_util::future::select_all(changes).await;
        if changed.is_err() {
            return;
        }
    }
}

impl Publisher for AmqpBroker {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Receipt, Unavailable>> {
        Box::pin(async move {
            let (verdict, answer) = oneshot::channel();
            let writer = self.writer(&publication);
            let answer = async {
                writer.send(Job { publication, verdict }).await.ok()?;
                answer.await.ok()
            };
            match tokio::time::timeout(self.config.publish_timeout, answer).await {
                Ok(Some(verdict)) => verdict,
                Ok(None) | Err(_) => Err(self.unavailable()),
            }
        })
    }
}

impl Subscriber for AmqpBroker {
    fn subscribe(&self, permit: FilterPermit, terms: Terms) -> BoxFuture<'_, Result<DeliveryQueue, Unavailable>> {
        Box::pin(async move {
            let (queue, _attachment) = self.fanout.attach(&permit, terms);
            self.wake.notify_one();
            let mut bound = self.bound.subscribe();
            let ready = bound.wait_for(|bound| bound.contains(permit.channel()));
            match tokio::time::timeout(self.config.subscribe_timeout, ready).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Err(self.unavailable()),
            }
            Ok(queue)
        })
    }
}

impl Broker for AmqpBroker {
    fn link_up(&self) -> watch::Receiver<bool> {
        self.link_up.subscribe()
    }
}
