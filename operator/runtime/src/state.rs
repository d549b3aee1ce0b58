//! What this replica knows: objects, the table that follows from them, who has it, and what is left to say.
//!
//! One lock around pure data: nobody waits for anything while holding it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidegate_api::{ConditionType, ObjectMeta};
use tidegate_grants_proto::{Cursor, Epoch, Journal, JournalLimits, Keys, Resume};
use tidegate_model::{ChannelId, KeyHash, ThingId};
use tidegate_plan::{BrokerState, Compiler, Heard, ObjectId, Programmed};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::adapters::{Adapters, Instance, LAGGING_AFTER};
use crate::fleet::Fleet;
use crate::peers::{Peers, Pods, QUESTIONS_MAX, Question, Report};

/// How long the adapters have to acknowledge a change before it is said that they have not.
const GRACE: Duration = Duration::from_secs(1);
/// How long adapters have after this process began to come back to it.
const GRACE_AT_START: Duration = Duration::from_secs(20);

/// How often an object is looked at that waits for who may never come.
const LOOK_AFTER: Duration = Duration::from_secs(10);

/// An object that there is something to say of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// A Thing.
    Thing(ObjectId),
    /// A Channel.
    Channel(ObjectId),
    /// An Adapter, and what it owns.
    Adapter(ObjectId),
}

/// An object that is there and cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    /// Which one.
    pub(crate) metadata: ObjectMeta,
    /// What is wrong with it; never what stands in it.
    pub(crate) why: String,
    told: bool,
}

/// When an object's part of the table last changed.
#[derive(Clone, Debug)]
struct Changed {
    cursor: Cursor,
    at: Instant,
    /// A digest of its entry.
    entry: u64,
    /// The other replicas whose adapters all have this entry.
    elsewhere: BTreeSet<String>,
}

/// What is known.
pub(crate) struct Known {
    /// The objects, and what follows from them.
    pub(crate) compiler: Compiler,
    journal: Journal,
    /// The adapters that are here.
    pub(crate) adapters: Adapters,
    /// The Adapters, and what they own.
    pub(crate) fleet: Fleet,
    /// The other replicas.
    pub(crate) peers: Peers,
    /// Objects whose change is not acknowledged by all adapters yet.
    changed: BTreeMap<Subject, Changed>,
    queue: Queue,
    /// The broker, where the operator was told of one.
    pub(crate) broker: Option<BrokerState>,
    /// Objects that are there and cannot be read.
    unreadable: BTreeMap<Subject, Unreadable>,
    /// Things whose generated Secret's name is in use.
    pub(crate) conflicts: BTreeSet<ObjectId>,
    began: Instant,
}

/// Objects to look at, each once, the newest first.
#[derive(Default)]
struct Queue {
    next: u64,
    order: BTreeMap<u64, Subject>,
    queued: BTreeMap<Subject, u64>,
    /// Objects to look at later.
    later: BTreeSet<(Instant, Subject)>,
    /// Objects that are being looked at, and whether to look at each once more then: never two at once at one.
    busy: BTreeMap<Subject, bool>,
}

impl Queue {
    fn push(&mut self, subject: Subject) {
        if let Some(again) = self.busy.get_mut(&subject) {
            *again = true;
            return;
        }
        self.next += 1;
        if let Some(before) = self.queued.insert(subject.clone(), self.next) {
            self.order.remove(&before);
        }
        self.order.insert(self.next, subject);
    }

    fn pop(&mut self, now: Instant) -> Option<Subject> {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            let due = self.later.pop_first().filter(|(_, subject)| !self.queued.contains_key(subject));
            due.into_iter().for_each(|(_, subject)| self.push(subject));
        }
        let (_, subject) = self.order.pop_last()?;
        self.queued.remove(&subject);
        self.busy.insert(subject.clone(), false);
        Some(subject)
    }

    fn done(&mut self, subject: Subject) {
        if self.busy.remove(&subject) == Some(true) {
            self.push(subject);
        }
    }
}

/// Shared by the parts of the operator.
pub(crate) struct State {
    known: Mutex<Known>,
    /// The newest table; told to streams.
    table: watch::Sender<Cursor>,
    /// Whether every kind was listed once.
    listed: watch::Sender<bool>,
    work: Notify,
}

impl State {
    /// Knows nothing yet. `epoch` is drawn at random.
    #[must_use]
    pub(crate) fn new(epoch: Epoch, now: Instant) -> Self {
        let known = Known {
            compiler: Compiler::new(),
            journal: Journal::new(epoch, JournalLimits::default()),
            adapters: Adapters::default(),
            fleet: Fleet::default(),
            peers: Peers::default(),
            changed: BTreeMap::new(),
            queue: Queue::default(),
            broker: None,
            unreadable: BTreeMap::new(),
            conflicts: BTreeSet::new(),
            began: now,
        };
        Self {
            known: Mutex::new(known),
            table: watch::Sender::new(Cursor(0)),
            listed: watch::Sender::new(false),
            work: Notify::new(),
        }
    }

    /// What is known, for as long as the guard is held.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest table, and each change of that.
    #[must_use]
    pub(crate) fn table(&self) -> watch::Receiver<Cursor> {
        self.table.subscribe()
    }

    /// Whether every kind was listed once, and the change of that.
    #[must_use]
    pub(crate) fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    /// Works out what follows from what was observed, and tells the streams. Before everything was listed once, nothing
    /// does: half of the objects would be a table that revokes.
    pub(crate) fn settle(&self, all_listed: bool, now: Instant) {
        if !all_listed {
            return;
        }
        let cursor = {
            let mut known = self.known();
            let settled = known.compiler.settle();
            let cursor = known.journal.apply(&settled.delta);
            if *self.table.borrow() != cursor {
                known.adapters.table_moved(cursor, now);
            }
            let subjects = settled.channels.into_iter().map(Subject::Channel);
            for subject in subjects.chain(settled.things.into_iter().map(Subject::Thing)) {
                let entry = known.entry(&subject);
                let changed = Changed { cursor, at: now, entry, elsewhere: BTreeSet::new() };
                known.changed.insert(subject.clone(), changed);
                known.queue.push(subject);
            }
            cursor
        };
        self.table.send_if_modified(|told| std::mem::replace(told, cursor) != cursor);
        self.listed.send_if_modified(|listed| !std::mem::replace(listed, true));
        self.work.notify_waiters();
    }

    /// An object that there is something to say of, the one that changed last first; waits until there is one.
    pub(crate) async fn next_subject(&self, now: impl Fn() -> Instant) -> Subject {
        /// How often what waits for its time is looked at.
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        loop {
            let woken = self.work.notified();
            if let Some(subject) = self.known().queue.pop(now()) {
                return subject;
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// An object that [`State::next_subject`] gave has been looked at.
    pub(crate) fn looked_at(&self, subject: Subject) {
        self.known().queue.done(subject);
        self.wake();
    }

    /// Looks at an object once more, at `at`.
    pub(crate) fn look_again(&self, subject: Subject, at: Instant) {
        self.known().look_again(subject, at);
    }

    /// There is something to look at.
    pub(crate) fn wake(&self) {
        self.work.notify_waiters();
    }

    /// The broker is otherwise.
    pub(crate) fn broker_is(&self, broker: BrokerState) {
        {
            let mut known = self.known();
            if known.broker.replace(broker) == Some(broker) {
                return;
            }
            let channels: Vec<_> = known.compiler.channel_ids().cloned().collect();
            channels.into_iter().for_each(|id| known.queue.push(Subject::Channel(id)));
        }
        self.wake();
    }

    /// Looks at every Adapter once more: what its pods say changes with time alone.
    pub(crate) fn look_at_adapters(&self) {
        {
            let mut known = self.known();
            known.fleet.touch_all();
            known.queue_adapters();
        }
        self.wake();
    }

    /// Opens the stream of an adapter: its number, its first frames, and the table that they end with.
    /// `of` is the Adapter whose pod it is, `keys` how it is told keys.
    pub(crate) fn open_stream(
        &self,
        instance: Instance,
        of: Option<ObjectId>,
        resume: Option<Resume>,
        keys: Keys,
    ) -> (u64, Vec<Bytes>, Cursor) {
        let mut known = self.known();
        let stream = known.adapters.open(instance, of);
        let (frames, cursor) = known.journal.open(resume, stream, keys);
        (stream, frames, cursor)
    }

    /// What an adapter that has the table of `cursor` lacks; nothing when it must begin anew.
    pub(crate) fn since(&self, cursor: Cursor, keys: Keys) -> Option<(Vec<Bytes>, Cursor)> {
        let known = self.known();
        Some((known.journal.since(cursor, keys)?, known.journal.cursor()))
    }

    /// What is sent when nothing changed for a while.
    pub(crate) fn heartbeat(&self) -> Bytes {
        self.known().journal.heartbeat()
    }

    /// An adapter has the table of `cursor` in force.
    pub(crate) fn acknowledge(&self, stream: u64, cursor: Cursor, now: Instant) -> bool {
        let mut known = self.known();
        let newest = known.journal.cursor();
        let accepted = known.adapters.acknowledge(stream, cursor, newest, now);
        known.release(now);
        drop(known);
        self.work.notify_waiters();
        accepted
    }

    /// An adapter serves nobody any more.
    pub(crate) fn leave(&self, stream: u64, now: Instant) {
        let mut known = self.known();
        known.adapters.leave(stream);
        known.release(now);
        drop(known);
        self.work.notify_waiters();
    }

    /// Another replica reported. What is to be asked of it next.
    pub(crate) fn reported(&self, report: &Report, now: Instant) -> Vec<Question> {
        let ask = {
            let mut known = self.known();
            known.peers.observe(report, now);
            for had in &report.have {
                if let Some(changed) = known.changed.get_mut(&had.subject())
                    && changed.entry == had.entry
                {
                    changed.elsewhere.insert(report.replica.clone());
                }
            }
            known.release(now);
            known.questions(&report.replica)
        };
        self.work.notify_waiters();
        ask
    }

    /// What another replica is to be asked.
    pub(crate) fn questions(&self, replica: &str) -> Vec<Question> {
        self.known().questions(replica)
    }

    /// What this replica has to say to the one that leads, which asked this.
    pub(crate) fn report(&self, replica: &str, asked: &[Question], now: Instant) -> Report {
        let mut known = self.known();
        let serving = known.adapters.serving(now);
        let nobody = serving == 0;
        let is_so = |question: &&Question| {
            let subject = question.subject();
            known.entry(&subject) == question.entry && (nobody || !known.changed.contains_key(&subject))
        };
        Report {
            replica: replica.to_owned(),
            serving,
            pods: known
                .fleet
                .adapters()
                .filter_map(|id| {
                    let (namespace, name) = (id.namespace.to_string(), id.name.to_string());
                    match known.adapters.heard(id, now) {
                        Heard::Nobody => None,
                        Heard::All => Some(Pods { namespace, name, lagging: false }),
                        Heard::Lagging => Some(Pods { namespace, name, lagging: true }),
                    }
                })
                .collect(),
            have: asked.iter().filter(is_so).cloned().collect(),
        }
    }

    /// The stream ended.
    pub(crate) fn close_stream(&self, stream: u64, now: Instant) {
        self.known().adapters.close(stream, now);
    }

    /// The table to look for a key in, and its history, if anybody has it.
    pub(crate) fn lookup(&self, sha256: [u8; 32]) -> Option<(Epoch, Cursor)> {
        let known = self.known();
        known.compiler.owner(&KeyHash::from_bytes(sha256))?;
        Some((known.journal.epoch(), known.journal.cursor()))
    }

    /// How many Things and Channels are in the table.
    #[must_use]
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.known().journal.len()
    }
}

impl Known {
    /// Looks at an object once more, at `at`.
    pub(crate) fn look_again(&mut self, subject: Subject, at: Instant) {
        self.queue.later.insert((at, subject));
    }

    /// An object cannot be read, or can be again.
    pub(crate) fn observe_unreadable(&mut self, subject: Subject, found: Option<(ObjectMeta, String)>) {
        match found {
            None => drop(self.unreadable.remove(&subject)),
            Some((metadata, why)) => {
                let before = self.unreadable.get(&subject);
                let told = before.is_some_and(|was| {
                    was.told && was.metadata.resource_version == metadata.resource_version && was.why == why
                });
                self.unreadable.insert(subject.clone(), Unreadable { metadata, why, told });
                self.queue.push(subject);
            }
        }
    }

    /// What there is to tell of an object that cannot be read; once.
    pub(crate) fn take_untold(&mut self, subject: &Subject) -> Option<Unreadable> {
        let unreadable = self.unreadable.get_mut(subject).filter(|unreadable| !unreadable.told)?;
        unreadable.told = true;
        Some(unreadable.clone())
    }

    /// Queues the Adapters that there may be something to do about.
    pub(crate) fn queue_adapters(&mut self) {
        for id in self.fleet.take_touched() {
            self.queue.push(Subject::Adapter(id));
        }
    }

    /// What the pods of an Adapter say of grants, wherever they take them.
    #[must_use]
    pub(crate) fn heard(&self, id: &ObjectId, now: Instant) -> Heard {
        self.peers.heard(id, self.adapters.heard(id, now), now)
    }

    /// A digest of an object's entry in the table, and of its keys in clear; zero where it has none.
    fn entry(&self, subject: &Subject) -> u64 {
        let id = |id: &ObjectId| format!("{}.{}", id.namespace, id.name);
        let cbor = match subject {
            Subject::Thing(thing) => ThingId::parse(&id(thing)).ok().and_then(|id| self.journal.thing(&id)),
            Subject::Channel(channel) => {
                let entry = ChannelId::parse(&id(channel)).ok().and_then(|id| self.journal.channel(&id));
                entry.map(|entry| [entry, &[]])
            }
            Subject::Adapter(_) => None,
        };
        let digest = |parts: [&[u8]; 2]| {
            let digest = parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part)).finalize();
            digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
        };
        cbor.map_or(0, digest)
    }

    /// What all adapters have, here and elsewhere, is looked at: there is something new to say of it.
    fn release(&mut self, now: Instant) {
        let Self { adapters, peers, changed, queue, .. } = self;
        let least = adapters.least();
        let elsewhere: Vec<String> = peers.serving(now).map(str::to_owned).collect();
        if least.is_none() && elsewhere.is_empty() {
            return;
        }
        changed.retain(|subject, change| {
            let waits = least.is_some_and(|least| change.cursor > least)
                || elsewhere.iter().any(|replica| !change.elsewhere.contains(replica));
            if !waits {
                queue.push(subject.clone());
            }
            waits
        });
    }

    fn questions(&self, replica: &str) -> Vec<Question> {
        let open = self.changed.iter().filter(|(_, change)| !change.elsewhere.contains(replica));
        open.filter_map(|(subject, change)| Question::about(subject, change.entry)).take(QUESTIONS_MAX).collect()
    }

    /// Whether the status of an object says that adapters had it.
    fn was_programmed(&self, subject: &Subject) -> bool {
        let conditions = match subject {
            Subject::Thing(id) => {
                self.compiler.thing(id).and_then(|thing| thing.status.as_ref()).map(|status| &status.conditions)
            }
            Subject::Channel(id) => {
                self.compiler.channel(id).and_then(|channel| channel.status.as_ref()).map(|status| &status.conditions)
            }
            Subject::Adapter(id) => {
                self.fleet.adapter(id).and_then(|adapter| adapter.status.as_ref()).map(|status| &status.conditions)
            }
        };
        let kind = ConditionType::Programmed.to_string();
        conditions.into_iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
    }

    /// What the adapters say of an object. Nothing while it is too early to say: it is looked at again then. Adapters
    /// that are coming back after this process began anew are not taken for gone.
    pub(crate) fn programmed(&mut self, subject: &Subject, now: Instant) -> Option<Programmed> {
        let Some(Changed { cursor, at, elsewhere, .. }) = self.changed.get(subject).cloned() else {
            return Some(Programmed::Acknowledged);
        };
        let returning = !self.adapters.ever_acknowledged() && self.was_programmed(subject);
        let patient_until = (at + GRACE).max(if returning { self.began + GRACE_AT_START } else { at });
        let here = self.adapters.least_at(now);
        let serving: Vec<&str> = self.peers.serving(now).collect();
        let anybody = here.is_some() || !serving.is_empty();
        let everybody = here.is_none_or(|least| least >= cursor) && serving.iter().all(|r| elsewhere.contains(*r));
        if anybody && everybody {
            self.changed.remove(subject);
            Some(Programmed::Acknowledged)
        } else if now < patient_until {
            self.look_again(subject.clone(), patient_until);
            None
        } else if !anybody {
            self.look_again(subject.clone(), now + LOOK_AFTER);
            Some(Programmed::NoAdapters)
        } else if now < at + LAGGING_AFTER {
            self.look_again(subject.clone(), at + LAGGING_AFTER);
            Some(Programmed::Pending)
        } else {
            self.look_again(subject.clone(), now + LOOK_AFTER);
            Some(Programmed::Lagging)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_looked_at_by_one_at_a_time_and_again_when_it_changed_meanwhile() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
        let now = Instant::now();
        let subject = |name: &str| Subject::Thing(ObjectId::new("lab", name));
        let mut queue = Queue::default();
        queue.push(subject("a"));
        queue.push(subject("b"));
        queue.push(subject("a"));
        assert_eq!(queue.pop(now), Some(subject("a")), "the one that changed last comes first");
        queue.push(subject("a"));
        assert_eq!(queue.pop(now), Some(subject("b")));
        assert_eq!(queue.pop(now), None, "it is being looked at");
        queue.done(subject("b"));
        queue.done(subject("a"));
        assert_eq!(queue.pop(now), Some(subject("a")));
        queue.done(subject("a"));
        assert_eq!(queue.pop(now), None);
    }
}
