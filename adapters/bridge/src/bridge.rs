//! The path itself: each step takes what the step before yielded, so none can be left out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::registry::Registry;
use tidegate_model::{
    Action, CertificateNames, ChannelRef, ContentType, Credential, Extras, Generation, Message, MessageId, Operation,
    Permit, Principal, Protocol, QoS, Refusal, SharedKey, Timestamp, Topic, TopicFilter,
};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::grants::GrantSource;
use crate::metrics::{Metrics, OutcomeLabels, ProtocolLabels};
use crate::payload;
use crate::port::{Delivery, Publication, Publisher, Receipt, Retained, Subscriber, Terms, Unavailable};
use crate::presence::Presence;
use crate::subscription::{Subscription, SubscriptionParts};

/// When it is worth trying again to have a message kept where nothing more is.
const RETAIN_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What a bridge stands on.
pub struct BridgeParts {
    /// Who may do what.
    pub grants: Arc<dyn GrantSource>,
    /// Takes messages.
    pub publisher: Arc<dyn Publisher>,
    /// Delivers messages.
    pub subscriber: Arc<dyn Subscriber>,
    /// Keeps what is retained.
    pub retained: Arc<dyn Retained>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Bounds on what is read of a SenML pack.
    pub senml_limits: tidegate_senml::Limits,
}

/// What a face knows of a message before it is published.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    /// Unique per message.
    pub id: MessageId,
    /// The device's bytes.
    pub payload: Bytes,
    /// As [`Bridge::admit`] found it.
    pub content_type: ContentType,
    /// The face.
    pub protocol: Protocol,
    /// How surely the device wants it to arrive.
    pub qos: QoS,
    /// Whether it is to be kept for those who subscribe later; an empty payload takes away what is kept.
    pub retain: bool,
    /// How long the message is worth delivering, if not for ever.
    pub expires_in: Option<Duration>,
    /// The device's W3C trace context.
    pub traceparent: Option<Box<str>>,
    /// What else the device says of it.
    pub extras: Option<Box<Extras>>,
}

/// Takes devices' operations from every face to one broker.
pub struct Bridge {
    parts: BridgeParts,
    metrics: Arc<Metrics>,
}

impl Bridge {
    /// A bridge over `parts`, its metrics in `registry`.
    #[must_use]
    pub fn new(parts: BridgeParts, registry: &mut Registry) -> Self {
        let metrics = Arc::new(Metrics::default());
        metrics.register(registry);
        Self { parts, metrics }
    }

    /// The time of day, for what a face stamps.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Who shows this credential. A key that nobody is known by may be looked up first.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`].
    pub async fn authenticate(&self, credential: &Credential<'_>) -> Result<Principal, Refusal> {
        let known = self.parts.grants.table().authenticate(credential, self.now());
        if known.is_err() && self.parts.grants.missed(credential.key_hash()).await {
            return self.parts.grants.table().authenticate(credential, self.now());
        }
        known
    }

    /// Who a certificate that was verified belongs to.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`].
    pub fn identify(&self, certificate: &CertificateNames) -> Result<Principal, Refusal> {
        self.parts.grants.table().identify(certificate, self.now())
    }

    /// The keys in clear that the Thing `claimed` may use now, each with who it is that proves to have it.
    #[must_use]
    pub fn shared_keys(&self, claimed: &str) -> Vec<(SharedKey, Principal)> {
        let table = self.parts.grants.table();
        table.shared_keys(claimed, self.now()).map(|(key, principal)| (key.clone(), principal)).collect()
    }

    /// The Thing by what it proved who it is by, as far as that still stands: for those who are connected, at every
    /// [`Bridge::grant_changes`].
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`].
    pub fn refresh(&self, principal: &Principal) -> Result<Principal, Refusal> {
        self.parts.grants.table().refresh(principal, self.now())
    }

    /// Tells the number of each new grant table.
    #[must_use]
    pub fn grant_changes(&self) -> watch::Receiver<Generation> {
        self.parts.grants.changes()
    }

    /// Whether `claimed` is the id or an alias of a Thing, so that it may be named in a log: what somebody claims may be a
    /// key by mistake.
    #[must_use]
    pub fn has_thing(&self, claimed: &str) -> bool {
        self.parts.grants.table().has_thing(claimed)
    }

    /// Whether `claimed` is the id or an alias of the principal's Thing.
    #[must_use]
    pub fn is_named(&self, principal: &Principal, claimed: &str) -> bool {
        self.parts.grants.table().is_named(principal, claimed)
    }

    /// The right to publish to `topic`.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], or [`Refusal::Unauthenticated`] when the key has ended since.
    pub fn permit(&self, principal: &Principal, topic: Topic) -> Result<Permit, Refusal> {
        self.parts.grants.table().authorize(principal, Action::Publish, topic, self.now())
    }

    /// The Channel that a device's reference means, for one that goes on meaning it.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] where it means none, as without a right to it.
    pub fn channel(&self, principal: &Principal, reference: &ChannelRef) -> Result<ChannelRef, Refusal> {
        let channel = self.parts.grants.table().channel(principal, reference);
        channel.map(|id| ChannelRef::from(&id)).ok_or(Refusal::Forbidden)
    }

    /// Bytes of the payloads of a Channel to which there is a right to publish, wherever in it.
    ///
    /// # Errors
    /// As [`Bridge::permit`].
    pub fn payload_bytes_max(&self, principal: &Principal, channel: &ChannelRef) -> Result<u32, Refusal> {
        self.parts.grants.table().payload_bytes_max(principal, channel, self.now())
    }

    /// Everything that can be said of a payload before it is read: the content type it will carry, or why it is not
    /// wanted. `payload_bytes` is what the device announced, if it did.
    ///
    /// # Errors
    /// [`Refusal::ContentTypeNotAdmitted`], [`Refusal::PayloadTooLarge`].
    pub fn admit(
        &self,
        permit: &Permit,
        content_type: Option<&str>,
        payload_bytes: Option<u64>,
    ) -> Result<ContentType, Refusal> {
        let policy = permit.payload();
        let content_type = match content_type {
            None => policy.content_type.clone(),
            Some(text) => ContentType::parse(text)
                .ok()
                .filter(|parsed| policy.admits(parsed))
                .ok_or(Refusal::ContentTypeNotAdmitted)?,
        };
        payload::check_size(payload_bytes.unwrap_or(0), policy)?;
        Ok(content_type)
    }

    /// Publishes one message, and returns a receipt only when the broker has confirmed it.
    ///
    /// # Errors
    /// Whatever the payload, the grants in force by now, or the broker object to.
    pub async fn publish(&self, principal: &Principal, permit: Permit, draft: Draft) -> Result<Receipt, Refusal> {
        let protocol = draft.protocol;
        let payload_bytes = draft.payload.len() as u64;
        let outcome = self.try_publish(principal, permit, draft).await;
        if outcome.is_ok() {
            self.metrics.payload_bytes.get_or_create(&ProtocolLabels::of(protocol)).inc_by(payload_bytes);
        }
        self.count_publish(protocol, &outcome);
        outcome
    }

    /// Counts a publish that a face refused before it came to [`Bridge::publish`].
    pub fn count_refused_publish(&self, protocol: Protocol, refusal: &Refusal) {
        self.count_publish::<()>(protocol, &Err(refusal.clone()));
    }

    fn count_publish<T>(&self, protocol: Protocol, outcome: &Result<T, Refusal>) {
        self.metrics.publishes.get_or_create(&OutcomeLabels::of(protocol, outcome)).inc();
    }

    //= MQTT5 3.3.1-8
    //= MQTT3 3.3.1-12
    async fn try_publish(&self, principal: &Principal, permit: Permit, draft: Draft) -> Result<Receipt, Refusal> {
        let policy = permit.payload();
        if !policy.admits(&draft.content_type) && draft.content_type != policy.content_type {
            return Err(Refusal::ContentTypeNotAdmitted);
        }
        let extras_bytes = draft.extras.as_ref().map_or(0, |extras| extras.bytes());
        if extras_bytes > Extras::BYTES_MAX as usize {
            return Err(Refusal::PayloadTooLarge { bytes_max: Extras::BYTES_MAX });
        }
        // What takes a retained message away has no content to be checked.
        let is_clearing = draft.retain && draft.payload.is_empty();
        if !is_clearing {
            payload::check(&draft.payload, &draft.content_type, policy, &self.parts.senml_limits)?;
        }
        let now = self.now();
        let permit = self.parts.grants.table().renew(permit, principal, now)?;
        let Draft { id, payload, content_type, protocol, qos, retain, expires_in, traceparent, extras } = draft;
        let message = Message {
            id,
            payload,
            content_type,
            protocol,
            qos,
            retain,
            received_at: now,
            expires_in,
            traceparent,
            extras,
        };
        let publication = Publication::new(permit, message);
        let kept = retain.then(|| publication.to_delivery());
        if let Some(delivery) = &kept
            && !self.parts.retained.has_room(delivery)
        {
            return Err(Refusal::RateLimited { retry_after: RETAIN_RETRY_AFTER });
        }
        let published = self.parts.publisher.publish(publication).await;
        let receipt = published.map_err(|away| unavailable(away, Operation::Publish))?;
        if let Some(delivery) = kept {
            self.parts.retained.keep(delivery);
        }
        Ok(receipt)
    }

    /// The messages that are kept of what `filter` matches, the oldest first.
    ///
    /// # Errors
    /// As [`Bridge::may_subscribe`].
    pub fn retained(&self, principal: &Principal, filter: TopicFilter) -> Result<Vec<Arc<Delivery>>, Refusal> {
        let now = self.now();
        let permit = self.parts.grants.table().authorize_filter(principal, filter, now)?;
        Ok(self.parts.retained.matching(&permit, now))
    }

    /// Gives up what is kept of Channels that are gone, for as long as the grants change. To be spawned once.
    pub async fn forget_retained(self: Arc<Self>) {
        let mut changes = self.parts.grants.changes();
        while changes.changed().await.is_ok() {
            let table = self.parts.grants.table();
            self.parts.retained.keep_only(&|channel| table.has_channel(channel));
        }
    }

    /// Notices when a device that is connected loses its key or is disabled.
    #[must_use]
    pub fn presence(&self, principal: Principal) -> Presence {
        let grants = Arc::clone(&self.parts.grants);
        Presence::new(principal, grants, Arc::clone(&self.parts.clock))
    }

    /// The Thing without the key that it showed: for what is kept of a device while it is away.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when the Thing is gone or disabled by now.
    pub fn absent(&self, principal: &Principal) -> Result<Principal, Refusal> {
        self.parts.grants.table().absent(principal)
    }

    /// Whether a subscription to what `filter` matches would be allowed.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] or [`Refusal::Unauthenticated`].
    pub fn may_subscribe(&self, principal: &Principal, filter: TopicFilter) -> Result<(), Refusal> {
        self.parts.grants.table().authorize_filter(principal, filter, self.now()).map(drop)
    }

    /// Opens a subscription to what `filter` matches. It receives what is confirmed after this returns.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::Unauthenticated`], or [`Refusal::BrokerUnavailable`].
    pub async fn subscribe(
        &self,
        principal: &Principal,
        filter: TopicFilter,
        protocol: Protocol,
    ) -> Result<Subscription, Refusal> {
        self.subscribe_on(Terms::default(), principal, filter, protocol).await
    }

    /// The same on other terms. Each message is for one of a group; a group is of one Channel, one filter and one name, and
    /// who may receive what the filter matches may join.
    ///
    /// # Errors
    /// As [`Bridge::subscribe`].
    pub async fn subscribe_on(
        &self,
        terms: Terms,
        principal: &Principal,
        filter: TopicFilter,
        protocol: Protocol,
    ) -> Result<Subscription, Refusal> {
        let outcome = self.try_subscribe(principal, filter, terms, protocol).await;
        self.metrics.subscribes.get_or_create(&OutcomeLabels::of(protocol, &outcome)).inc();
        outcome
    }

    async fn try_subscribe(
        &self,
        principal: &Principal,
        filter: TopicFilter,
        terms: Terms,
        protocol: Protocol,
    ) -> Result<Subscription, Refusal> {
        let changes = self.parts.grants.changes();
        let permit = self.parts.grants.table().authorize_filter(principal, filter.clone(), self.now())?;
        let channel = permit.channel().clone();
        let subscribed = self.parts.subscriber.subscribe(permit, terms).await;
        let queue = subscribed.map_err(|away| unavailable(away, Operation::Subscribe))?;
        // By its id from now on: what the reference means may become another channel.
        let filter = TopicFilter { channel: ChannelRef::from(&channel), ..filter };
        Ok(Subscription::new(SubscriptionParts {
            queue,
            principal: principal.clone(),
            filter,
            channel,
            protocol,
            grants: Arc::clone(&self.parts.grants),
            changes,
            clock: Arc::clone(&self.parts.clock),
            metrics: Arc::clone(&self.metrics),
        }))
    }
}

fn unavailable(away: Unavailable, operation: Operation) -> Refusal {
    Refusal::BrokerUnavailable { operation, retry_after: away.retry_after }
}
