//! What to do about the Secret of a generated key: made once, never made anew by itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use tidegate_api::{
    KEY_ENTRY, PAUSED_ANNOTATION, PREVIOUS_KEY_ENTRY, PREVIOUS_KEY_NOT_AFTER_ANNOTATION, ROTATE_ANNOTATION,
    ROTATED_ANNOTATION, Thing,
};

use crate::KeySecret;

/// The label of a Secret that the operator made: the name of its Thing. By it a Secret is known again that a backup
/// brought back.
pub const THING_LABEL: &str = "tidegate.io/thing";
/// Fewest bytes of a key that was generated, or of one that a backup brought back.
const KEY_BYTES_MIN: usize = 16;

/// What the entries and annotations of ours in a Secret should be.
#[derive(Clone, PartialEq, Eq)]
pub struct WantedSecret {
    /// [`KEY_ENTRY`].
    pub key: Vec<u8>,
    /// [`PREVIOUS_KEY_ENTRY`], and until when it is valid, as RFC 3339.
    pub previous: Option<(Vec<u8>, String)>,
    /// [`ROTATED_ANNOTATION`].
    pub rotated: Option<String>,
}

/// What to do.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretStep {
    /// It is as it should be, or nothing is to be written for now.
    Leave,
    /// Make it: there is none.
    Create(WantedSecret),
    /// Change it, only if it is still as it was found.
    Update(WantedSecret),
    /// The name is in use by a Secret that is not ours: it is left alone.
    Conflict,
}

/// Decides. `fresh` draws 32 random bytes and is asked only when a key is made.
pub fn secret_step(
    thing: &Thing,
    found: Option<&KeySecret>,
    now: Timestamp,
    fresh: impl FnOnce() -> [u8; 32],
) -> SecretStep {
    let annotations = thing.metadata.annotations.as_ref();
    let annotation = |name: &str| annotations.and_then(|annotations| annotations.get(name));
    let paused = annotation(PAUSED_ANNOTATION).is_some_and(|value| value == "true");
    let asked = annotation(ROTATE_ANNOTATION).cloned();
    let made = || URL_SAFE_NO_PAD.encode(fresh()).into_bytes();
    let Some(found) = found else {
        if paused {
            return SecretStep::Leave;
        }
        return SecretStep::Create(WantedSecret { key: made(), previous: None, rotated: asked });
    };
    if found.made_for != thing.metadata.name {
        return SecretStep::Conflict;
    }
    if paused {
        return SecretStep::Leave;
    }
    let was = held(found);
    let end_of_overlap = |now: Timestamp| {
        let overlap = SignedDuration::try_from(thing.spec.credentials.overlap_span()).ok()?;
        now.checked_add(overlap).ok().filter(|end| *end > now).map(|end| end.to_string())
    };
    let still_valid = |(_, end): &(Vec<u8>, String)| end.parse::<Timestamp>().is_ok_and(|end| end > now);
    let wanted = match was.clone() {
        None => WantedSecret { key: made(), previous: None, rotated: asked },
        Some(was) if asked.is_some() && asked != was.rotated => {
            let previous = end_of_overlap(now).map(|end| (was.key, end));
            WantedSecret { key: made(), previous, rotated: asked }
        }
        Some(was) => WantedSecret { previous: was.previous.filter(still_valid), ..was },
    };
    if was.as_ref() == Some(&wanted) && found.labelled && found.owner_uid == thing.metadata.uid {
        SecretStep::Leave
    } else {
        SecretStep::Update(wanted)
    }
}

/// What a Secret of ours holds; nothing when it holds no key.
fn held(found: &KeySecret) -> Option<WantedSecret> {
    let key = found.entries.get(KEY_ENTRY).filter(|key| key.len() >= KEY_BYTES_MIN)?.clone();
    let previous = found.entries.get(PREVIOUS_KEY_ENTRY).cloned();
    let end = found.annotations.get(PREVIOUS_KEY_NOT_AFTER_ANNOTATION).cloned();
    let previous = previous.map(|previous| (previous, end.unwrap_or_default()));
    Some(WantedSecret { key, previous, rotated: found.annotations.get(ROTATED_ANNOTATION).cloned() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: &str = "2026-06-01T00:00:00Z";

    fn thing(annotations: &[(&str, &str)], overlap: &str) -> Thing {
        let mut thing: Thing = serde_yaml::from_str(
            "apiVersion: tidegate.io/v1alpha1\nkind: Thing\nmetadata: {namespace: lab, name: dev, uid: u1}\nspec: {}",
        )
        .unwrap();
        thing.spec.credentials.overlap = Some(overlap.to_owned());
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        thing.metadata.annotations = Some(annotations.collect());
        thing
    }

    fn step(thing: &Thing, found: Option<&KeySecret>, now: &str) -> SecretStep {
        secret_step(thing, found, now.parse().unwrap(), || [7; 32])
    }

    /// The Secret after a step, as the API server then has it.
    fn after(step: SecretStep, before: Option<KeySecret>) -> KeySecret {
        let (SecretStep::Create(wanted) | SecretStep::Update(wanted)) = step else { return before.unwrap() };
        let mut secret = KeySecret {
            namespace: "lab".to_owned(),
            name: "dev-credentials".to_owned(),
            made_for: Some("dev".to_owned()),
            labelled: true,
            owner_uid: Some("u1".to_owned()),
            entries: [(KEY_ENTRY.to_owned(), wanted.key)].into(),
            annotations: BTreeMap::new(),
        };
        if let Some((previous, end)) = wanted.previous {
            secret.entries.insert(PREVIOUS_KEY_ENTRY.to_owned(), previous);
            secret.annotations.insert(PREVIOUS_KEY_NOT_AFTER_ANNOTATION.to_owned(), end);
        }
        secret.annotations.extend(wanted.rotated.map(|rotated| (ROTATED_ANNOTATION.to_owned(), rotated)));
        secret
    }

    fn shown(step: &SecretStep) -> String {
        match step {
            SecretStep::Leave => "leave".to_owned(),
            SecretStep::Conflict => "conflict".to_owned(),
            SecretStep::Create(wanted) => format!("create {} {:?}", wanted.key.len(), wanted.rotated),
            SecretStep::Update(wanted) => {
                format!("update {:?} {:?}", wanted.previous.as_ref().map(|(_, end)| end), wanted.rotated)
            }
        }
    }

    fn made() -> KeySecret {
        after(step(&thing(&[], "24h"), None, NOW), None)
    }

    fn check(thing: &Thing, found: Option<&KeySecret>, expected: &str) {
        assert_eq!(shown(&step(thing, found, NOW)), expected);
    }

    #[test]
    fn a_key_is_made_once_and_no_number_of_looks_changes_it() {
        check(&thing(&[], "24h"), None, "create 43 None");
        let mut secret = made();
        for day in 1..28 {
            let step = step(&thing(&[], "24h"), Some(&secret), &format!("2027-02-{day:02}T00:00:00Z"));
            assert_eq!(shown(&step), "leave");
            secret = after(step, Some(secret));
        }
        assert!(secret == made());
    }

    #[test]
    fn a_rotation_keeps_the_key_before_for_the_overlap_and_happens_once() {
        let asks = thing(&[(ROTATE_ANNOTATION, "1")], "24h");
        check(&asks, Some(&made()), "update Some(\"2026-06-02T00:00:00Z\") Some(\"1\")");
        let rotated = after(step(&asks, Some(&made()), NOW), None);
        assert_eq!(rotated.entries[PREVIOUS_KEY_ENTRY], made().entries[KEY_ENTRY]);
        check(&asks, Some(&rotated), "leave");
        // After the overlap the key before is taken out.
        let later = step(&asks, Some(&rotated), "2026-06-02T00:00:01Z");
        assert_eq!(shown(&later), "update None Some(\"1\")");
        // A Thing that is made with the annotation has nothing to rotate.
        check(&asks, None, "create 43 Some(\"1\")");
    }

    #[test]
    fn without_an_overlap_the_key_before_ends_at_once() {
        check(&thing(&[(ROTATE_ANNOTATION, "1")], "0h"), Some(&made()), "update None Some(\"1\")");
    }

    #[test]
    fn a_secret_that_is_not_ours_is_left_alone() {
        check(&thing(&[], "24h"), Some(&KeySecret { made_for: None, ..made() }), "conflict");
        check(&thing(&[], "24h"), Some(&KeySecret { made_for: Some("other".to_owned()), ..made() }), "conflict");
    }

    #[test]
    fn one_that_comes_back_from_a_backup_is_adopted_with_its_key() {
        let stale = KeySecret { owner_uid: Some("u0".to_owned()), ..made() };
        let adopted = step(&thing(&[], "24h"), Some(&stale), NOW);
        assert_eq!(shown(&adopted), "update None None");
        assert!(after(adopted, None) == made());
    }

    #[test]
    fn one_without_a_key_gets_a_new_one() {
        let empty = KeySecret { entries: BTreeMap::new(), ..made() };
        check(&thing(&[], "24h"), Some(&empty), "update None None");
    }

    #[test]
    fn nothing_is_written_for_a_thing_that_is_paused() {
        let paused = thing(&[(PAUSED_ANNOTATION, "true"), (ROTATE_ANNOTATION, "1")], "24h");
        check(&paused, None, "leave");
        check(&paused, Some(&made()), "leave");
    }
}
