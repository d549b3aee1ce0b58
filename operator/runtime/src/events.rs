//! Events: what `kubectl describe` shows of the moments at which an object began or ceased to be as it should.
//!
//! Transitions only, and never many: an event is for people, and a fleet must not fill the API server with them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tidegate_api::{API_VERSION, Condition, ConditionType, ObjectMeta, Reason};
use tokio::time::Instant;

use crate::clock::now;
use crate::lease::in_time;
use crate::metrics::Metrics;

/// Events in [`SPAN`], at most; those beyond are counted and not told.
const IN_SPAN_MAX: usize = 300;
const SPAN: Duration = Duration::from_secs(60);
/// Characters of a note, as the API server has it.
const NOTE_CHARS_MAX: usize = 1_000;

/// Tells events.
pub(crate) struct Events {
    recorder: Recorder,
    metrics: Metrics,
    told: Mutex<VecDeque<Instant>>,
}

impl Events {
    /// Told by the operator, by this process of it.
    #[must_use]
    pub(crate) fn new(client: Client, identity: String, metrics: Metrics) -> Self {
        let reporter = Reporter { controller: "tidegate.io/operator".to_owned(), instance: Some(identity) };
        Self { recorder: Recorder::new(client, reporter), metrics, told: Mutex::default() }
    }

    /// Tells that the condition `Ready` of an object changed, where that is worth an event.
    pub(crate) async fn ready_changed(&self, of: &ObjectReference, before: &[Condition], after: &[Condition]) {
        let Some((type_, condition)) = worth_telling(before, after) else { return };
        self.tell(of, type_, &condition.reason, &condition.message).await;
    }

    /// Tells of an object.
    pub(crate) async fn tell(&self, of: &ObjectReference, type_: EventType, reason: &str, note: &str) {
        if !self.has_room(now()) {
            self.metrics.untold_events.inc();
            return;
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.chars().take(NOTE_CHARS_MAX).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = in_time(self.recorder.publish(&event, of)).await {
            self.metrics.untold_events.inc();
            tracing::debug!(error = &error as &dyn std::error::Error, "an event could not be told");
        }
    }

    fn has_room(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        while told.front().is_some_and(|at| now >= *at + SPAN) {
            told.pop_front();
        }
        if told.len() >= IN_SPAN_MAX {
            return false;
        }
        told.push_back(now);
        true
    }
}

/// The object that an event is about.
#[must_use]
pub(crate) fn reference(kind: &str, metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(kind.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// An object that comes to be ready for the first time is as expected, and so is one that waits.
fn worth_telling<'a>(before: &[Condition], after: &'a [Condition]) -> Option<(EventType, &'a Condition)> {
    let kind = ConditionType::Ready.to_string();
    let ready = |conditions: &'a [Condition]| conditions.iter().find(|condition| condition.type_ == kind);
    let is = ready(after)?;
    let was = before.iter().find(|condition| condition.type_ == kind);
    if was.is_some_and(|was| was.status == is.status && was.reason == is.reason) {
        return None;
    }
    let lasting = |condition: &Condition| !passes(&condition.reason);
    match (is.status.as_str(), was) {
        ("True", Some(was)) if lasting(was) => Some((EventType::Normal, is)),
        ("False", _) if lasting(is) => Some((EventType::Warning, is)),
        _ => None,
    }
}

/// Whether an object is expected to come out of this by itself.
fn passes(reason: &str) -> bool {
    [Reason::Pending, Reason::NoAdapters, Reason::RollingOut, Reason::Unavailable, Reason::Ready]
        .iter()
        .any(|passing| passing.to_string() == reason)
}

#[cfg(test)]
mod tests {
    use tidegate_api::{ConditionStatus, Time, condition};

    use super::*;

    fn told(before: Option<(ConditionStatus, Reason)>, after: (ConditionStatus, Reason)) -> Option<EventType> {
        let ready = |(status, reason)| {
            let now = Time("2026-06-01T00:00:00Z".parse().unwrap());
            vec![condition(ConditionType::Ready, status, (reason, "said"), Some(1), now)]
        };
        let before = before.map(ready).unwrap_or_default();
        worth_telling(&before, &ready(after)).map(|(type_, _)| type_)
    }

    #[test]
    fn what_was_expected_is_not_told() {
        use ConditionStatus::{False, True};
        assert_eq!(told(None, (True, Reason::Ready)), None);
        assert_eq!(told(None, (False, Reason::Pending)), None);
        assert_eq!(told(Some((False, Reason::Pending)), (True, Reason::Ready)), None);
        assert_eq!(told(Some((True, Reason::Ready)), (True, Reason::Ready)), None);
    }

    #[test]
    fn what_goes_wrong_is_told_once_and_so_is_that_it_was_mended() {
        use ConditionStatus::{False, True};
        assert_eq!(told(None, (False, Reason::WeakKey)), Some(EventType::Warning));
        assert_eq!(told(Some((False, Reason::WeakKey)), (False, Reason::WeakKey)), None);
        assert_eq!(told(Some((False, Reason::WeakKey)), (False, Reason::IdConflict)), Some(EventType::Warning));
        assert_eq!(told(Some((False, Reason::IdConflict)), (True, Reason::Ready)), Some(EventType::Normal));
    }
}
