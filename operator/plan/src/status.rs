//! What is said of an object, as a value: the same failure always in the same words.

use jiff::Timestamp;
use tidegate_api::{
    Channel, ChannelStatus, Condition, ConditionStatus, ConditionType, ConnectionStatus, KeyState, KeyStatus,
    PAUSED_ANNOTATION, Reason, Thing, ThingStatus, Time, condition, keep_transitions,
};
use tidegate_model::KeyEntry;

use crate::compiler::{ChannelOutcome, ThingOutcome};
use crate::objects::{Fault, ObjectId};

/// What the adapters have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programmed {
    /// Every live adapter has acknowledged a table at least as new.
    Acknowledged,
    /// They are about to.
    Pending,
    /// There are none.
    NoAdapters,
    /// One has not for a while.
    Lagging,
}

impl Programmed {
    const fn said(self) -> (ConditionStatus, Reason, &'static str) {
        match self {
            Self::Acknowledged => (ConditionStatus::True, Reason::Programmed, "every live adapter has acknowledged it"),
            Self::Pending => (ConditionStatus::False, Reason::Pending, "it is on its way to the adapters"),
            Self::NoAdapters => (ConditionStatus::False, Reason::NoAdapters, "there is no live adapter"),
            Self::Lagging => {
                (ConditionStatus::False, Reason::AdapterLagging, "an adapter has not acknowledged it for a while")
            }
        }
    }
}

/// What a connection of the operator to the broker came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// Nothing yet.
    Unknown,
    /// It is there, and has what Channels need.
    Ready,
    /// No connection can be had.
    Unreachable,
    /// It refuses the operator, or what the operator may do.
    AuthFailed,
    /// It has an exchange of that name that is declared otherwise.
    Conflict,
}

impl BrokerState {
    const fn said(self) -> (ConditionStatus, Reason, &'static str) {
        match self {
            Self::Unknown => (ConditionStatus::Unknown, Reason::Pending, "the broker has not been reached yet"),
            Self::Ready => (ConditionStatus::True, Reason::BrokerReady, "the broker has what the Channel needs"),
            Self::Unreachable => {
                (ConditionStatus::False, Reason::BrokerUnreachable, "no connection to the broker can be had")
            }
            Self::AuthFailed => {
                (ConditionStatus::False, Reason::BrokerAuthFailed, "the broker refuses the operator's user")
            }
            Self::Conflict => {
                (ConditionStatus::False, Reason::BrokerConflict, "the broker's exchange is declared otherwise")
            }
        }
    }
}

/// Collects conditions of one object.
pub(crate) struct Conditions {
    generation: Option<i64>,
    now: Time,
    all: Vec<Condition>,
    /// The first that keeps the object from being ready.
    missing: Option<(Reason, String)>,
}

impl Conditions {
    pub(crate) const fn new(generation: Option<i64>, now: Timestamp) -> Self {
        Self { generation, now: Time(now), all: Vec::new(), missing: None }
    }

    pub(crate) fn add(&mut self, kind: ConditionType, status: ConditionStatus, reason: Reason, message: &str) {
        self.push(kind, status, (reason, message));
        if status != ConditionStatus::True && self.missing.is_none() {
            self.missing = Some((reason, message.to_owned()));
        }
    }

    /// One that is bad when it holds.
    pub(crate) fn add_bad(&mut self, kind: ConditionType, holds: bool, reason: Reason, message: &str) {
        self.add_neutral(kind, holds, reason, message);
        if holds {
            // What is wrong with the object itself explains what follows from it.
            self.missing = Some((reason, message.to_owned()));
        }
    }

    /// One that is neither good nor bad.
    pub(crate) fn add_neutral(&mut self, kind: ConditionType, holds: bool, reason: Reason, message: &str) {
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        self.push(kind, status, (reason, message));
    }

    fn push(&mut self, kind: ConditionType, status: ConditionStatus, said: (Reason, &str)) {
        self.all.push(condition(kind, status, said, self.generation, self.now.clone()));
    }

    /// True with `good`, or false with the fault.
    fn judge(&mut self, kind: ConditionType, fault: Option<Fault>, good: (Reason, &str)) {
        match fault {
            None => self.add(kind, ConditionStatus::True, good.0, good.1),
            Some((reason, message)) => self.add(kind, ConditionStatus::False, reason, &message),
        }
    }

    pub(crate) fn finish(mut self, before: &[Condition]) -> Vec<Condition> {
        match self.missing.take() {
            None => self.add(ConditionType::Ready, ConditionStatus::True, Reason::Ready, "it is in force"),
            Some((reason, message)) => self.add(ConditionType::Ready, ConditionStatus::False, reason, &message),
        }
        keep_transitions(&mut self.all, before);
        self.all
    }
}

/// Whether its author wants nothing to be written for it.
pub(crate) fn is_paused(annotations: Option<&std::collections::BTreeMap<String, String>>) -> bool {
    annotations.and_then(|annotations| annotations.get(PAUSED_ANNOTATION)).is_some_and(|value| value == "true")
}

/// The status of a Thing. `secret_conflict` says that the name of its generated Secret is in use.
#[must_use]
pub fn thing_status(
    thing: &Thing,
    outcome: &ThingOutcome,
    secret_conflict: bool,
    programmed: Programmed,
    now: Timestamp,
) -> ThingStatus {
    let id = ObjectId::of(&thing.metadata);
    let secret = thing.spec.credentials.generated_secret(&id.name);
    let before = thing.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let mut conditions = Conditions::new(thing.metadata.generation, now);
    let accepted = (Reason::Accepted, "it is valid, and its ids, keys and certificate are its own");
    let paused = is_paused(thing.metadata.annotations.as_ref())
        .then(|| (Reason::ReconciliationPaused, format!("the annotation {PAUSED_ANNOTATION} is true")));
    let certificate = || outcome.certificate.as_ref()?.as_ref().err().cloned();
    let refused = outcome.fault.clone().or_else(|| key_fault(outcome, is_own_fault)).or_else(certificate).or(paused);
    conditions.judge(ConditionType::Accepted, refused, accepted);
    let conflict = || {
        let name = secret.as_ref().filter(|_| secret_conflict)?;
        Some((Reason::SecretConflict, format!("a Secret {name} is there already that is not of this Thing")))
    };
    let unresolved = conflict()
        .or_else(|| key_fault(outcome, |reason| !is_own_fault(reason)))
        .or_else(|| outcome.connections.iter().find_map(|connection| connection.fault.clone()));
    conditions.judge(ConditionType::ResolvedRefs, unresolved, (Reason::ResolvedRefs, "all that it names is there"));
    let (status, reason, message) = programmed.said();
    conditions.add(ConditionType::Programmed, status, reason, message);

    let counts = outcome.fault.as_ref().is_none_or(|(reason, _)| *reason == Reason::Suspended);
    let keys: Vec<KeyStatus> = outcome
        .keys
        .iter()
        .filter_map(|key| key.key.as_ref().ok().map(|entry| key_status(&key.id, entry, now)))
        .collect();
    let usable = keys.iter().filter(|key| matches!(key.state, KeyState::Active | KeyState::Retiring)).count();
    let connections = outcome.connections.iter();
    ThingStatus {
        observed_generation: thing.metadata.generation,
        conditions: conditions.finish(before),
        id: Some(format!("{}.{}", id.namespace, id.name)),
        credentials_secret: secret.filter(|_| !secret_conflict && counts),
        keys,
        keys_usable: i32::try_from(usable).ok(),
        connections_resolved: i32::try_from(connections.clone().filter(|c| c.fault.is_none()).count()).ok(),
        connections: connections
            .filter_map(|connection| {
                let (reason, message) = connection.fault.clone()?;
                let (namespace, channel) = (connection.namespace.clone(), connection.channel.clone());
                Some(ConnectionStatus { namespace, channel, reason: reason.to_string(), message })
            })
            .collect(),
    }
}

/// The first key that is not used for such a reason.
fn key_fault(outcome: &ThingOutcome, wanted: impl Fn(Reason) -> bool) -> Option<Fault> {
    let mut faults = outcome.keys.iter().filter_map(|key| Some((&key.id, key.key.as_ref().err()?)));
    let (id, (reason, message)) = faults.find(|(_, (reason, _))| wanted(*reason))?;
    Some((*reason, format!("key {id}: {message}")))
}

/// Whether what is wrong with a key is in the Thing, and not in what it names.
fn is_own_fault(reason: Reason) -> bool {
    [Reason::DuplicateKey, Reason::WeakKey, Reason::InvalidSpec].contains(&reason)
}

fn key_status(id: &str, entry: &KeyEntry, now: Timestamp) -> KeyStatus {
    let time = |at: tidegate_model::Timestamp| Timestamp::from_nanosecond(i128::from(at.as_nanos())).ok();
    let (begin, end) = (entry.not_before.and_then(time), entry.not_after.and_then(time));
    let state = match (begin, end) {
        (_, Some(end)) if end < now => KeyState::Expired,
        (Some(begin), _) if begin > now => KeyState::Pending,
        (_, Some(_)) => KeyState::Retiring,
        (_, None) => KeyState::Active,
    };
    KeyStatus { id: id.to_owned(), state, not_after: end.map(|end| end.to_string()) }
}

/// The next time at which the status of a Thing changes by itself, since a key begins or ends.
#[must_use]
pub fn thing_changes_at(outcome: &ThingOutcome, now: tidegate_model::Timestamp) -> Option<tidegate_model::Timestamp> {
    let keys = outcome.keys.iter().filter_map(|key| key.key.as_ref().ok());
    keys.flat_map(|key| [key.not_before, key.not_after]).flatten().filter(|at| *at >= now).min()
}

/// The status of a Channel. Of the broker nothing is said where the operator was told of none.
#[must_use]
pub fn channel_status(
    channel: &Channel,
    outcome: &ChannelOutcome,
    (exchange, broker): (&str, Option<BrokerState>),
    programmed: Programmed,
    now: Timestamp,
) -> ChannelStatus {
    let id = ObjectId::of(&channel.metadata);
    let before = channel.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let mut conditions = Conditions::new(channel.metadata.generation, now);
    let accepted = (Reason::Accepted, "it is valid, and its ids are its own");
    conditions.judge(ConditionType::Accepted, outcome.fault.clone(), accepted);
    if let Some((status, reason, message)) = broker.map(BrokerState::said) {
        conditions.add(ConditionType::BrokerReady, status, reason, message);
    }
    let (status, reason, message) = programmed.said();
    conditions.add(ConditionType::Programmed, status, reason, message);
    ChannelStatus {
        observed_generation: channel.metadata.generation,
        conditions: conditions.finish(before),
        id: Some(format!("{}.{}", id.namespace, id.name)),
        things: i32::try_from(outcome.things).ok(),
        exchange: Some(exchange.to_owned()),
        routing_key: Some(format!("channels.{}.{}.#", id.namespace, id.name)),
    }
}
