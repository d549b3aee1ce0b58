//! A table through bytes and back, however they are cut, and whatever is broken on the way.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_grants_proto::{
    Acknowledgement, Cursor, Epoch, Found, Journal, JournalLimits, Keys, Progress, Replica, Resume,
};
use tidegate_model::{
    Alias, CertificateName, ChannelEntry, ChannelId, ContentType, Delta, Generation, GrantEntry, KeyEntry, KeyHash,
    PayloadPolicy, Permissions, SharedKey, SubtopicFilter, ThingEntry, ThingId, Timestamp, TopicLimits, Validation,
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

/// What every key begins with, and nothing else has.
const SECRET: &[u8] = b"secret";

fn key(number: u8, version: u8) -> Vec<u8> {
    [SECRET, &[number, version]].concat()
}

/// Above, the versions have the same keys in clear too.
const VERSIONS: u8 = 4;

fn thing(number: u8, version: u8) -> ThingEntry {
    let (version, is_keyed) = (version % VERSIONS, version >= VERSIONS);
    let certificates = [
        None,
        CertificateName::subject("CN=pump-7,O=Acme").ok(),
        CertificateName::uri("urn:dev:7").ok(),
        CertificateName::dns("pump-7.example").ok(),
    ];
    let filters = |texts: &[&str]| {
        Some(texts.iter().map(|text| SubtopicFilter::parse(text, &TopicLimits::default()).unwrap()).collect())
    };
    ThingEntry {
        id: ThingId::new("lab", &format!("t{number}")).unwrap(),
        aliases: vec![],
        keys: vec![KeyEntry {
            hash: KeyHash::of(&key(number, version)),
            shared: is_keyed.then(|| SharedKey::new(&key(number, version))),
            not_before: (version > 1).then(|| Timestamp::from_secs(u64::from(version))),
            not_after: (version > 2).then(|| Timestamp::from_nanos(u64::MAX)),
        }],
        certificate: certificates[usize::from(version)].clone().filter(|_| number == 0),
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
    stream_with(journal, resume, Keys::Hashed)
}

fn stream_with(journal: &mut Journal, resume: Option<Resume>, keys: Keys) -> Vec<u8> {
    let (mut frames, cursor) = journal.open(resume, 3, keys);
    frames.extend(journal.since(cursor, keys).unwrap());
    frames.concat()
}

fn has_a_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET)
}

/// The numbers of the Things whose keys are known in clear.
fn shared(replica: &Replica) -> Vec<u8> {
    let table = replica.table(Generation(1), 1).unwrap();
    let known = |number: &u8| {
        let found: Vec<_> = table.shared_keys(thing(*number, 0).id.as_str(), Timestamp::from_secs(9)).collect();
        assert!(found.iter().all(|(key, _)| key.as_bytes().starts_with(SECRET) && key.as_bytes()[6] == *number));
        !found.is_empty()
    };
    (0..6).filter(known).collect()
}

/// A change: which Thing, and its new version, or that it is gone.
fn changes() -> impl Strategy<Value = Vec<Vec<(u8, Option<u8>)>>> {
    let change = (0..6_u8, prop::option::of(0..2 * VERSIONS));
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
            match journal.since(before, Keys::Hashed) {
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

    /// Keys in clear come and go with their Things, and by themselves, however often the stream is cut and asked for
    /// otherwise; and who does not ask for them never gets a byte of one.
    #[test]
    fn keys_in_clear_are_where_they_are_asked_for_and_nowhere_else(
        changes in changes(), opened in prop::collection::vec(prop::option::of(any::<bool>()), 12), changes_max in 0..20_usize,
    ) {
        let mut journal = journal(changes_max);
        let (mut replica, mut table, mut keys) = (Replica::new(), BTreeMap::new(), Keys::Shared);
        drive(&mut replica, &stream_with(&mut journal, None, keys));
        for (changes, opened) in changes.iter().zip(opened) {
            let before = journal.cursor();
            journal.apply(&delta(changes, &mut table));
            let bytes = match (journal.since(before, keys), opened) {
                (Some(frames), None) => frames.concat(),
                (_, opened) => {
                    if let Some(is_keyed) = opened {
                        keys = if is_keyed { Keys::Shared } else { Keys::Hashed };
                    }
                    replica.handle_disconnect();
                    stream_with(&mut journal, replica.resume(), keys)
                }
            };
            prop_assert!(keys == Keys::Shared || !has_a_secret(&bytes));
            drive(&mut replica, &bytes);
            let mut expected = Vec::new();
            if keys == Keys::Shared {
                expected.extend(table.iter().filter(|(_, version)| **version >= VERSIONS).map(|(number, _)| *number));
            }
            prop_assert_eq!(shared(&replica), expected);
            prop_assert_eq!(replica.resume().unwrap().cursor, journal.cursor());
        }
        let mut fresh = Replica::new();
        drive(&mut fresh, &stream_with(&mut journal, None, keys));
        prop_assert_eq!(said(&replica), said(&fresh));
        let kept = Replica::from_bytes(&said(&replica)).unwrap();
        prop_assert_eq!((said(&kept), kept.resume()), (said(&replica), replica.resume()));
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
    fn what_is_asked_for_survives_its_query(epoch in any::<[u8; 16]>(), cursor in any::<u64>(), is_keyed in any::<bool>()) {
        let keys = if is_keyed { Keys::Shared } else { Keys::Hashed };
        let resume = Resume { epoch: Epoch(epoch), cursor: Cursor(cursor), keys };
        prop_assert_eq!(Resume::from_query(&resume.to_query()), Some(resume));
        prop_assert_eq!(Keys::from_query(&resume.to_query()), Keys::Hashed, "what is known is not what is asked for");
        prop_assert_eq!(Keys::from_query(&format!("{}&{}", resume.to_query(), Keys::SHARED_QUERY)), Keys::Shared);
    }
}

#[test]
fn a_change_of_nothing_is_not_told() {
    let mut journal = journal(100);
    let same = Delta { things: vec![thing(1, 0)], things_gone: vec![thing(9, 0).id], ..Delta::default() };
    let cursor = journal.apply(&same);
    assert_eq!(journal.apply(&same), cursor);
    assert_eq!(journal.since(cursor, Keys::Shared), Some(vec![]));
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
        keys: vec![KeyEntry {
            hash: KeyHash::of(&number.to_be_bytes()),
            shared: Some(SharedKey::new(&number.to_be_bytes())),
            not_before: None,
            not_after: None,
        }],
        certificate: None,
        ..thing(0, 1)
    });
    journal.apply(&Delta { things: things.collect(), ..Delta::default() });
    let (frames, _) = journal.open(None, 1, Keys::Shared);
    assert!(frames.iter().all(|frame| frame.len() <= 256 * 1_024 + 4), "a frame is too long");
    let mut replica = Replica::new();
    drive(&mut replica, &frames.concat());
    assert_eq!(replica.len(), (20_000, 1));
    let kept = Replica::from_bytes(&said(&replica)).unwrap();
    assert_eq!((kept.len(), kept.resume()), (replica.len(), replica.resume()));
    let table = kept.table(Generation(1), 1).unwrap();
    assert_eq!(table.shared_keys("lab.thing-19999", Timestamp::from_secs(1)).count(), 1);
}

/// Whoever begins anew, as after the operator's replica that it had was lost, has no older table in force meanwhile.
#[test]
fn who_begins_anew_is_told_the_table_as_it_is_and_none_before() {
    let mut journal = Journal::new(Epoch([1; 16]), JournalLimits::default());
    let mut table = BTreeMap::new();
    journal.apply(&Delta { channels: vec![channel(0, 1)], ..delta(&[(1, Some(1))], &mut table) });
    for (number, keys) in [(2, Keys::Hashed), (3, Keys::Shared)] {
        // Somebody else began, and then something changed.
        journal.open(None, 1, keys);
        let cursor = journal.apply(&delta(&[(number, Some(1))], &mut table));
        let (frames, told) = journal.open(None, 2, keys);
        let progress = drive(&mut Replica::new(), &frames.concat());
        assert_eq!((progress, told), (vec![Progress::Opened { stream: 2 }, Progress::Settled(cursor)], cursor));
    }
}

/// A table of the same history that is older than the one that is known is refused, in whatever form it comes.
#[test]
fn an_older_table_of_the_same_history_is_refused() {
    let old = Journal::new(EPOCH, JournalLimits::default()).open(None, 1, Keys::Hashed).0.concat();
    let mut journal = Journal::new(EPOCH, JournalLimits::default());
    let channel = channel(1, 10);
    journal.apply(&Delta { channels: vec![channel], ..Delta::default() });
    let mut replica = Replica::new();
    for (bytes, taken) in [(journal.open(None, 1, Keys::Hashed).0.concat(), true), (old, false)] {
        replica.handle_disconnect();
        replica.handle_bytes(&bytes);
        let outcome = std::iter::repeat_with(|| replica.poll_progress()).find(|p| !matches!(p, Ok(Some(_))));
        assert_eq!(outcome.unwrap().is_ok(), taken);
    }
    replica.handle_disconnect();
    assert_eq!(replica.len(), (0, 1), "the newer one stays");
}

/// A key that the operator learns in clear, its hash being known, is told to those who ask for such, and forgotten by
/// them when it does. For all others nothing changed but the number.
#[test]
fn a_change_of_keys_in_clear_alone_is_a_change() {
    let mut journal = journal(100);
    journal.apply(&Delta { things: vec![thing(1, 0)], ..Delta::default() });
    let (mut keyed, mut open) = (Replica::new(), Replica::new());
    drive(&mut keyed, &stream_with(&mut journal, None, Keys::Shared));
    drive(&mut open, &stream(&mut journal, None));
    for (version, expected) in [(VERSIONS, vec![1]), (0, vec![]), (VERSIONS, vec![1])] {
        let before = journal.cursor();
        let cursor = journal.apply(&Delta { things: vec![thing(1, version)], ..Delta::default() });
        assert!(cursor > before, "{version}");
        for (replica, keys) in [(&mut keyed, Keys::Shared), (&mut open, Keys::Hashed)] {
            let bytes = journal.since(before, keys).unwrap().concat();
            assert_eq!(drive(replica, &bytes), [Progress::Settled(cursor)]);
        }
        assert_eq!((shared(&keyed), shared(&open)), (expected, vec![]), "{version}");
    }
}

#[test]
fn a_key_that_comes_before_its_thing_or_without_a_hash_of_it_does_no_harm() {
    let mut journal = journal(100);
    journal.apply(&Delta { things: vec![thing(1, VERSIONS), thing(2, VERSIONS)], ..Delta::default() });
    let (mut frames, _) = journal.open(None, 3, Keys::Shared);
    assert_eq!(frames.len(), 4, "a beginning, entries, keys, an end");
    frames.swap(1, 2);
    let mut replica = Replica::new();
    drive(&mut replica, &frames.concat());
    assert_eq!(shared(&replica), [1, 2]);

    // Entries of another history beside these keys: a Thing whose key is another, and one that is not there.
    let mut other = Journal::new(EPOCH, JournalLimits::default());
    other.apply(&Delta { channels: vec![channel(0, 1)], things: vec![thing(2, 1 + VERSIONS)], ..Delta::default() });
    let (mut mixed, _) = other.open(None, 3, Keys::Shared);
    mixed[2] = frames[1].clone();
    let mut replica = Replica::new();
    drive(&mut replica, &mixed.concat());
    assert_eq!((replica.len(), shared(&replica)), ((1, 1), vec![]));
}

/// A frame: its length, and as much CBOR.
fn framed(write: impl FnOnce(&mut minicbor::Encoder<Vec<u8>>)) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    write(&mut encoder);
    let body = encoder.into_writer();
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

/// What every version says and understands, byte for byte: three fields of a Hello, four lists of Entries.
#[test]
fn older_and_newer_versions_understand_each_other() {
    let hello = |more: bool| {
        framed(|e| {
            e.array(if more { 6 } else { 4 }).unwrap().u32(0).unwrap().bytes(&EPOCH.0).unwrap();
            e.u64(3).unwrap().u32(0).unwrap();
            if more {
                e.bool(true).unwrap().str("of tomorrow").unwrap();
            }
        })
    };
    let entries = |more: bool| {
        framed(|e| {
            e.array(if more { 7 } else { 5 }).unwrap().u32(1).unwrap().array(0).unwrap();
            e.array(1).unwrap().array(if more { 6 } else { 4 }).unwrap().str("lab.t1").unwrap().array(0).unwrap();
            e.array(1).unwrap().array(1).unwrap().bytes(KeyHash::of(&key(1, 0)).as_bytes()).unwrap();
            e.array(0).unwrap();
            if more {
                // A certificate of a kind that is not known, and a field that is not.
                e.array(2).unwrap().u8(9).unwrap().str("x").unwrap().bool(true).unwrap();
            }
            e.array(0).unwrap().array(0).unwrap();
            if more {
                e.array(1).unwrap().array(2).unwrap().str("lab.t1").unwrap();
                e.array(1).unwrap().bytes(&key(1, 0)).unwrap();
                e.array(1).unwrap().str("of tomorrow").unwrap();
            }
        })
    };
    let end = framed(|e| drop(e.array(2).unwrap().u32(2).unwrap().u64(1)));
    for (more, expected) in [(false, vec![]), (true, vec![1])] {
        let mut replica = Replica::new();
        drive(&mut replica, &[hello(more), entries(more), end.clone()].concat());
        assert_eq!((replica.len(), shared(&replica)), ((1, 0), expected), "{more}");
    }
    // And what is told to who asks for no keys is what it always was.
    let bare = ThingEntry { certificate: None, aliases: vec![], grants: vec![], ..thing(1, VERSIONS) };
    let mut journal = Journal::new(EPOCH, JournalLimits::default());
    journal.apply(&Delta { things: vec![bare], ..Delta::default() });
    assert_eq!(journal.open(None, 3, Keys::Hashed).0.concat(), [hello(false), entries(false), end].concat());
}

/// What is put into words of keys in clear: nothing.
#[test]
fn no_key_is_in_what_is_said_of_a_frame() {
    let mut journal = journal(100);
    journal.apply(&Delta { things: vec![thing(1, VERSIONS)], ..Delta::default() });
    let mut reader = tidegate_grants_proto::FrameReader::default();
    reader.handle_bytes(&stream_with(&mut journal, None, Keys::Shared));
    let frames: Vec<_> = std::iter::from_fn(|| reader.poll_frame().unwrap()).collect();
    let said = format!("{frames:?}");
    assert!(said.contains("WireSharedKeys { id: \"lab.t1\"") && !said.contains("115, 101, 99"), "{said}");
}
