//! Watches of several namespaces as one: the whole is told once, when every namespace was listed, and what a later list of
//! one namespace no longer names is told as gone.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use kube::api::ObjectMeta;
use tidegate_plan::ObjectId;
use tokio::sync::mpsc;

use super::{Change, Seen};

/// Changes of all namespaces that wait to be merged.
const WAITING_MAX: usize = 256;

/// Runs `each` for each namespace, until `to` is closed.
pub(super) async fn merge<S, T, F>(
    namespaces: &[String],
    each: impl Fn(&String, mpsc::Sender<(usize, Change<S>)>, usize) -> F,
    id: impl Fn(&S) -> ObjectId,
    wrap: impl Fn(Change<S>) -> T,
    to: &mpsc::Sender<T>,
) where
    F: Future<Output = ()>,
{
    let (changes, mut merged) = mpsc::channel(WAITING_MAX);
    let follow = namespaces.iter().enumerate().map(|(index, namespace)| each(namespace, changes.clone(), index));
    let follow = join_all(follow.collect::<Vec<_>>());
    drop(changes);
    let tell = async {
        let mut merge = Merge::new(namespaces.len(), id);
        while let Some((index, change)) = merged.recv().await {
            for change in merge.take_in(index, change) {
                if to.send(wrap(change)).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        _ = follow => {}
        () = tell => {}
        () = to.closed() => {}
    }
}

/// What was told of each namespace.
struct Merge<S, I> {
    id: I,
    /// What the namespaces have that were listed, while not all of them were.
    first: Option<Vec<Seen<S>>>,
    /// What each namespace has; nothing before it was listed.
    present: Vec<Option<BTreeSet<ObjectId>>>,
}

impl<S, I: Fn(&S) -> ObjectId> Merge<S, I> {
    fn new(namespaces: usize, id: I) -> Self {
        Self { id, first: Some(Vec::new()), present: vec![None; namespaces] }
    }

    fn id(&self, seen: &Seen<S>) -> ObjectId {
        match seen {
            Seen::Object(object) => (self.id)(object),
            Seen::Unreadable { metadata, .. } => ObjectId::of(metadata),
        }
    }

    /// What is to be told.
    fn take_in(&mut self, index: usize, change: Change<S>) -> Vec<Change<S>> {
        if let Some(first) = self.first.take() {
            return self.take_in_first(first, index, change);
        }
        match change {
            Change::Applied(seen) => {
                let id = self.id(&seen);
                self.present[index].get_or_insert_default().insert(id);
                vec![Change::Applied(seen)]
            }
            Change::Gone(metadata) => {
                self.present[index].get_or_insert_default().remove(&ObjectId::of(&metadata));
                vec![Change::Gone(metadata)]
            }
            Change::All(all) => {
                let now: BTreeSet<_> = all.iter().map(|seen| self.id(seen)).collect();
                let before = self.present[index].replace(now.clone()).unwrap_or_default();
                let gone = before.difference(&now).map(|id| Change::Gone(Box::new(metadata(id))));
                let gone: Vec<_> = gone.collect();
                all.into_iter().map(Change::Applied).chain(gone).collect()
            }
        }
    }

    /// While not every namespace was listed, only lists are kept: nothing may follow from a part.
    fn take_in_first(&mut self, mut first: Vec<Seen<S>>, index: usize, change: Change<S>) -> Vec<Change<S>> {
        let id = |merge: &Self, seen: &Seen<S>| merge.id(seen);
        match change {
            Change::All(all) => {
                if let Some(before) = &self.present[index] {
                    first.retain(|seen| !before.contains(&id(self, seen)));
                }
                self.present[index] = Some(all.iter().map(|seen| self.id(seen)).collect());
                first.extend(all);
            }
            Change::Applied(seen) => {
                let of = id(self, &seen);
                first.retain(|other| id(self, other) != of);
                self.present[index].get_or_insert_default().insert(of);
                first.push(seen);
            }
            Change::Gone(metadata) => {
                let of = ObjectId::of(&metadata);
                first.retain(|other| id(self, other) != of);
                self.present[index].get_or_insert_default().remove(&of);
            }
        }
        if self.present.iter().all(Option::is_some) {
            return vec![Change::All(first)];
        }
        self.first = Some(first);
        vec![]
    }
}

fn metadata(id: &ObjectId) -> ObjectMeta {
    ObjectMeta { namespace: Some(id.namespace.to_string()), name: Some(id.name.to_string()), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(namespace: &str, name: &str) -> Seen<ObjectId> {
        Seen::Object(ObjectId::new(namespace, name))
    }

    fn told(changes: &[Change<ObjectId>]) -> Vec<String> {
        let name = |seen: &Seen<ObjectId>| match seen {
            Seen::Object(id) => format!("{}/{}", id.namespace, id.name),
            Seen::Unreadable { why, .. } => why.clone(),
        };
        let tell = |change: &Change<ObjectId>| match change {
            Change::Applied(seen) => format!("applied {}", name(seen)),
            Change::Gone(metadata) => format!("gone {}", ObjectId::of(metadata).name),
            Change::All(all) => format!("all {}", all.iter().map(name).collect::<Vec<_>>().join(" ")),
        };
        changes.iter().map(tell).collect()
    }

    #[test]
    fn the_whole_is_told_when_every_namespace_was_listed() {
        let mut merge = Merge::new(2, ObjectId::clone);
        assert!(merge.take_in(0, Change::All(vec![seen("a", "x"), seen("a", "y")])).is_empty());
        assert!(merge.take_in(0, Change::Applied(seen("a", "z"))).is_empty());
        assert!(merge.take_in(0, Change::Gone(Box::new(metadata(&ObjectId::new("a", "x"))))).is_empty());
        assert!(merge.take_in(0, Change::All(vec![seen("a", "z")])).is_empty());
        assert_eq!(told(&merge.take_in(1, Change::All(vec![seen("b", "x")]))), ["all a/z b/x"]);
    }

    #[test]
    fn what_a_later_list_of_one_namespace_lacks_is_gone_and_no_other() {
        let mut merge = Merge::new(2, ObjectId::clone);
        merge.take_in(0, Change::All(vec![seen("a", "x"), seen("a", "y")]));
        merge.take_in(1, Change::All(vec![seen("b", "w")]));
        assert_eq!(told(&merge.take_in(0, Change::All(vec![seen("a", "y")]))), ["applied a/y", "gone x"]);
        assert_eq!(told(&merge.take_in(1, Change::Gone(Box::new(metadata(&ObjectId::new("b", "w")))))), ["gone w"]);
        assert!(merge.take_in(1, Change::All(vec![])).is_empty());
    }
}
