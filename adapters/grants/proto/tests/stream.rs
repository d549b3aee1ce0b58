//! A table through bytes and back, however they are cut, and whatever is broken on the way.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_grants_proto::{Acknowledgement, Cursor, Epoch, Found, Journal, JournalLimits, Progress, Replica, Resume};
use tidegate_model::{
    Alias, ChannelEntry, ChannelId, ContentType, Delta, Generation, GrantEntry, KeyEntry, KeyHash, PayloadPolicy,
    Permissions, SubtopicFilter, ThingEntry, ThingId, Timestamp, TopicLimits, Validation,
};

const EPOCH: Epoch = Epoch([7; 16]);

fn channel(number: u8, bytes_max: u32) -> ChannelEntry {
    ChannelEntry {
        id: ChannelId::new("lab", &format!("c{number}")).unwrap(),
        aliases: vec![Alias::parse(&format!("old-{number}")).unwrap()],
        payload: PayloadPolicy {
            content_type: ContentType::parse("application/senml+json").unwrap(),
            admit: vec![ContentType::parse("text/plain; charset=utf-8").unwrap()],
            validate: [Validation::None, Validation::Senml, Validation::Json][usize::from(number) % 3],
            bytes_max,
        },
    }
}

fn thing(number: u8, version: u8) -> ThingEntry {
    let filters = |texts: &[&str]| {
        Some(texts.iter().map(|text| SubtopicFilter::parse(text, &TopicLimits::default()).unwrap()).collect())
    };
    ThingEntry {
        id: ThingId::new("lab", &format!("t{number}")).unwrap(),
        aliases: vec![],
        keys: vec![KeyEntry {
            hash: KeyHash::of(&[number, version]),
            shared: None,
            not_before: (version > 1).then(|| Timestamp::from_secs(u64::from(version))),
            not_after: (version > 2).then(|| Timestamp::from_nanos(u64::MAX)),
        }],
        certificate: None,
        grants: vec![GrantEntry {
            channel: channel(0, 1).id,
            permissions: Permissions { publish: version.is_multiple_of(2), subscribe: true },
            publish: if version == 0 { None } else { filters(&["engine/#", "+/state", "a.b"]) },
            subscribe: if version == 1 { filters(&[]) } else { None },
        }],
    }
}

/// What the replica holds, as a snapshot of a journal of its own would say it.
fn said(replica: &Replica) -> Vec<u8> {
    replica.to_bytes().unwrap()
}

fn drive(replica: &mut Replica, bytes: &[u8]) -> Vec<Progress> {
    replica.handle_bytes(bytes);
    let mut seen = Vec::new();
    while let Some(progress) = replica.poll_progress().unwrap() {
        seen.push(progress);
    }
    seen
}

fn stream(journal: &mut Journal, resume: Option<Resume>) -> Vec<u8> {
    let (mut frames, cursor) = journal.open(resume, 3);
    frames.extend(journal.since(cursor).unwrap());
    frames.concat()
}

/// A change: which Thing, and its new version, or that it is gone.
fn changes() -> impl Strategy<Value = Vec<Vec<(u8, Option<u8>)>>> {
    let change = (0..6_u8, prop::option::of(0..4_u8));
    prop::collection::vec(prop::collection::vec(change, 1..4), 0..12)
}

fn delta(changes: &[(u8, Option<u8>)], table: &mut BTreeMap<u8, u8>) -> Delta {
    let distinct: BTreeMap<u8, Option<u8>> = changes.iter().copied().collect();
    let mut delta = Delta::default();
    for (number, version) in distinct {
        match version {
            Some(version) => {
                table.insert(number, version);
                delta.things.push(thing(number, version));
            }
            None => {
                table.remove(&number);
                delta.things_gone.push(thing(number, 0).id);
            }
        }
    }
    delta
}

fn journal(changes_max: usize) -> Journal {
    let mut journal = Journal::new(EPOCH, JournalLimits { changes_max });
    journal.apply(&Delta { channels: vec![channel(0, 1_000)], ..Delta::default() });
    journal
}

proptest! {
    #[test]
    fn a_snapshot_and_what_follows_is_the_table_however_often_the_stream_is_cut(
        changes in changes(), cuts in prop::collection::vec(any::<bool>(), 12), changes_max in 0..20_usize,
    ) {
        let mut journal = journal(changes_max);
        let (mut replica, mut table) = (Replica::new(), BTreeMap::new());
        drive(&mut replica, &stream(&mut journal, None));
        for (changes, cut) in changes.iter().zip(cuts) {
            let before = journal.cursor();
            journal.apply(&delta(changes, &mut table));
            match journal.since(before) {
                Some(frames) if !cut => drop(drive(&mut replica, &frames.concat())),
                _ => {
                    replica.handle_disconnect();
                    let bytes = stream(&mut journal, replica.resume());
                    drive(&mut replica, &bytes);
                }
            }
        }
        let mut fresh = Replica::new();
        drive(&mut fresh, &stream(&mut journal, None));
        prop_assert_eq!(replica.len(), (table.len(), 1));
        prop_assert_eq!(said(&replica), said(&fresh));
        prop_assert!(replica.table(Generation(1), 1).is_ok());
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_leaves_the_table_before_or_the_one_after(at in any::<prop::sample::Index>()) {
        let mut journal = journal(100);
        journal.apply(&Delta { things: vec![thing(1, 0)], ..Delta::default() });
        let mut replica = Replica::new();
        drive(&mut replica, &stream(&mut journal, None));
        let before = said(&replica);
        let resume = replica.resume();
        replica.handle_disconnect();
        journal.apply(&Delta { things: vec![thing(1, 1), thing(2, 2)], ..Delta::default() });
        let whole = stream(&mut journal, resume);
        drive(&mut replica, &whole[..at.index(whole.len())]);
        replica.handle_disconnect();
        let mut after = Replica::new();
        drive(&mut after, &stream(&mut journal, None));
        prop_assert!([before, said(&after)].contains(&said(&replica)));
    }

    #[test]
    fn where_the_pieces_of_a_stream_end_makes_no_difference(cut in any::<prop::sample::Index>()) {
        let mut journal = journal(100);
        let things = (0..6).map(|number| thing(number, number % 4)).collect();
        journal.apply(&Delta { things, ..Delta::default() });
        let bytes = stream(&mut journal, None);
        let (first, second) = bytes.split_at(cut.index(bytes.len()));
        let mut replica = Replica::new();
        let seen = [drive(&mut replica, first), drive(&mut replica, second)].concat();
        prop_assert_eq!(seen, vec![Progress::Opened { stream: 3 }, Progress::Settled(Cursor(2))]);
    }

    #[test]
    fn bytes_that_are_no_stream_are_an_error_and_nothing_else(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut replica = Replica::new();
        replica.handle_bytes(&bytes);
        while let Ok(Some(_)) = replica.poll_progress() {}
        prop_assert!(replica.resume().is_none());
        prop_assert!(Replica::from_bytes(&bytes).is_err());
        let _ = (Acknowledgement::from_cbor(&bytes), Found::from_cbor(&bytes));
    }

    #[test]
    fn a_stream_with_a_bit_turned_never_makes_a_table_that_cannot_be(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut journal = journal(100);
        journal.apply(&Delta { things: vec![thing(1, 3)], ..Delta::default() });
        let mut bytes = stream(&mut journal, None);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut replica = Replica::new();
        replica.handle_bytes(&bytes);
        while let Ok(Some(_)) = replica.poll_progress() {}
        // It may be another table, or one whose parts do not go together: TLS is what keeps bits as they were.
        let _ = replica.table(Generation(1), 1);
    }

    #[test]
    fn what_is_asked_for_survives_its_query(epoch in any::<[u8; 16]>(), cursor in any::<u64>()) {
        let resume = Resume { epoch: Epoch(epoch), cursor: Cursor(cursor) };
        prop_assert_eq!(Resume::from_query(&resume.to_query()), Some(resume));
    }
}

#[test]
fn a_change_of_nothing_is_not_told() {
    let mut journal = journal(100);
    let same = Delta { things: vec![thing(1, 0)], things_gone: vec![thing(9, 0).id], ..Delta::default() };
    let cursor = journal.apply(&same);
    assert_eq!(journal.apply(&same), cursor);
    assert_eq!(journal.since(cursor), Some(vec![]));
}

#[test]
fn another_history_is_told_whole() {
    let mut first = journal(100);
    let mut replica = Replica::new();
    drive(&mut replica, &stream(&mut first, None));
    replica.handle_disconnect();
    let mut second = Journal::new(Epoch([8; 16]), JournalLimits::default());
    second.apply(&Delta { channels: vec![channel(5, 5)], ..Delta::default() });
    let bytes = stream(&mut second, replica.resume());
    drive(&mut replica, &bytes);
    assert_eq!(replica.len(), (0, 1));
    assert_eq!(replica.resume().unwrap().epoch, Epoch([8; 16]));
}

#[test]
fn a_large_table_comes_in_frames_that_are_not_too_long() {
    let mut journal = journal(100);
    let things = (0..20_000_u32).map(|number| ThingEntry {
        id: ThingId::new("lab", &format!("thing-{number}")).unwrap(),
        keys: vec![KeyEntry { hash: KeyHash::of(&number.to_be_bytes()), shared: None, not_before: None, not_after: None }],
        certificate: None,
        ..thing(0, 1)
    });
    journal.apply(&Delta { things: things.collect(), ..Delta::default() });
    let (frames, _) = journal.open(None, 1);
    assert!(frames.iter().all(|frame| frame.len() <= 256 * 1_024 + 4), "a frame is too long");
    let mut replica = Replica::new();
    drive(&mut replica, &frames.concat());
    assert_eq!(replica.len(), (20_000, 1));
    let kept = Replica::from_bytes(&said(&replica)).unwrap();
    assert_eq!((kept.len(), kept.resume()), (replica.len(), replica.resume()));
}

/// A table of the same history that is older than the one that is known is refused, in whatever form it comes.
#[test]
fn an_older_table_of_the_same_history_is_refused() {
    let old = Journal::new(EPOCH, JournalLimits::default()).open(None, 1).0.concat();
    let mut journal = Journal::new(EPOCH, JournalLimits::default());
    let channel = channel(1, 10);
    journal.apply(&Delta { channels: vec![channel], ..Delta::default() });
    let mut replica = Replica::new();
    for (bytes, taken) in [(journal.open(None, 1).0.concat(), true), (old, false)] {
        replica.handle_disconnect();
        replica.handle_bytes(&bytes);
        let outcome = std::iter::repeat_with(|| replica.poll_progress()).find(|p| !matches!(p, Ok(Some(_))));
        assert_eq!(outcome.unwrap().is_ok(), taken);
    }
    replica.handle_disconnect();
    assert_eq!(replica.len(), (0, 1), "the newer one stays");
}
