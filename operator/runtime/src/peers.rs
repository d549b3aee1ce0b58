//! What the other replicas say: adapters take grants from any of them, and only the one that leads says so in statuses.
//!
//! Each replica compiles for itself, so their tables have numbers of their own. What they compare is the content: the one
//! that leads asks after single objects by a digest of their entry in the table, and another answers once its own entry
//! is the same and every adapter of its own has acknowledged it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_plan::{Heard, ObjectId};
use tokio::time::Instant;

use crate::state::Subject;

/// Where a replica reports to the one that leads.
pub(crate) const REPORT_PATH: &str = "/v1/replicas/report";
/// How long a replica that is not heard of still counts: its adapters may go on with it.
const GONE_AFTER: Duration = Duration::from_secs(20);
/// Questions in one answer.
pub(crate) const QUESTIONS_MAX: usize = 512;
/// Replicas that are remembered.
const REPLICAS_MAX: usize = 64;

/// One object of which the one that leads wants to know whether everybody has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Thing or Channel.
    pub(crate) kind: AskedKind,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// A digest of its entry in the table; zero where it has none.
    pub(crate) entry: u64,
}

/// The kinds that the table has entries of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum AskedKind {
    /// A Thing.
    Thing,
    /// A Channel.
    Channel,
}

impl Question {
    /// About an object; nothing is asked about an Adapter, which is in no table.
    pub(crate) fn about(subject: &Subject, entry: u64) -> Option<Self> {
        let (kind, id) = match subject {
            Subject::Thing(id) => (AskedKind::Thing, id),
            Subject::Channel(id) => (AskedKind::Channel, id),
            Subject::Adapter(_) => return None,
        };
        Some(Self { kind, namespace: id.namespace.to_string(), name: id.name.to_string(), entry })
    }

    /// The object that it is about.
    pub(crate) fn subject(&self) -> Subject {
        let id = ObjectId::new(&self.namespace, &self.name);
        match self.kind {
            AskedKind::Thing => Subject::Thing(id),
            AskedKind::Channel => Subject::Channel(id),
        }
    }
}

/// What a replica says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Which one.
    pub(crate) replica: String,
    /// How many adapters take their grants from it and have some.
    pub(crate) serving: u64,
    /// The Adapters whose pods do, and whether one of those lags.
    pub(crate) pods: Vec<Pods>,
    /// Those of the last questions that are so by now.
    pub(crate) have: Vec<Question>,
}

/// Pods of an Adapter at one replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pods {
    /// The Adapter's namespace.
    pub(crate) namespace: String,
    /// The Adapter's name.
    pub(crate) name: String,
    /// Whether one has not had the newest table for a while.
    pub(crate) lagging: bool,
}

/// What the one that leads answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Questions {
    /// What it wants to know next.
    pub(crate) ask: Vec<Question>,
}

#[derive(Debug)]
struct Peer {
    heard_at: Instant,
    serving: u64,
    pods: BTreeMap<ObjectId, bool>,
}

/// The other replicas, as they reported last.
#[derive(Debug, Default)]
pub(crate) struct Peers(BTreeMap<String, Peer>);

impl Peers {
    /// One reported.
    pub(crate) fn observe(&mut self, report: &Report, now: Instant) {
        if self.0.len() >= REPLICAS_MAX && !self.0.contains_key(&report.replica) {
            return;
        }
        let pods = report.pods.iter().map(|pods| (ObjectId::new(&pods.namespace, &pods.name), pods.lagging)).collect();
        self.0.insert(report.replica.clone(), Peer { heard_at: now, serving: report.serving, pods });
    }

    /// Those that adapters take their grants from.
    pub(crate) fn serving(&mut self, now: Instant) -> impl Iterator<Item = &str> {
        self.0.retain(|_, peer| now < peer.heard_at + GONE_AFTER);
        self.0.iter().filter(|(_, peer)| peer.serving > 0).map(|(replica, _)| replica.as_str())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What the pods of an Adapter say, where `own` is what those here do.
    pub(crate) fn heard(&self, of: &ObjectId, own: Heard, now: Instant) -> Heard {
        let live = self.0.values().filter(|peer| now < peer.heard_at + GONE_AFTER);
        live.filter_map(|peer| peer.pods.get(of)).fold(own, |heard, lagging| match (heard, lagging) {
            (Heard::Lagging, _) | (_, true) => Heard::Lagging,
            (Heard::Nobody | Heard::All, false) => Heard::All,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_counts_while_it_is_heard_of_and_serves_anybody() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
        let now = Instant::now();
        let of = ObjectId::new("lab", "http");
        let report = |serving, lagging| Report {
            replica: "b".to_owned(),
            serving,
            pods: vec![Pods { namespace: "lab".to_owned(), name: "http".to_owned(), lagging }],
            have: vec![],
        };
        let mut peers = Peers::default();
        assert_eq!(peers.heard(&of, Heard::Nobody, now), Heard::Nobody);
        peers.observe(&report(1, false), now);
        assert_eq!(peers.serving(now).collect::<Vec<_>>(), ["b"]);
        assert_eq!(peers.heard(&of, Heard::Nobody, now), Heard::All);
        assert_eq!(peers.heard(&of, Heard::Lagging, now), Heard::Lagging);
        peers.observe(&report(0, true), now);
        assert_eq!(peers.serving(now).count(), 0);
        assert_eq!(peers.heard(&of, Heard::All, now), Heard::Lagging);
        let later = now + GONE_AFTER;
        assert_eq!(peers.heard(&of, Heard::All, later), Heard::All);
        assert_eq!((peers.serving(later).count(), peers.len()), (0, 0));
    }

    #[test]
    fn a_question_is_about_its_object() {
        let subject = Subject::Thing(ObjectId::new("lab", "dev"));
        assert_eq!(Question::about(&subject, 7).unwrap().subject(), subject);
        assert_eq!(Question::about(&Subject::Adapter(ObjectId::new("lab", "http")), 7), None);
    }
}
