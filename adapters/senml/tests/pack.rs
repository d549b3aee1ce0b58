//! SenML against the examples of RFC 8428, a table of cases, and what mutation makes of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tidegate_senml::{Decimal, Format, Limits, Pack, ResolvedRecord, Value, parse, validate};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(vectors().join(name)).unwrap()
}

fn json(text: &str) -> Result<Pack, String> {
    parse(text.as_bytes(), Format::Json, &Limits::default()).map_err(|error| error.to_string())
}

/// Seconds since the epoch at which the authors of the RFC resolved their examples.
fn resolved_at(example: usize) -> Decimal {
    Decimal::from(match example {
        7 => 1_499_109_309,
        _ => 1_498_780_179,
    })
}

fn say(records: &[ResolvedRecord]) -> Vec<String> {
    records
        .iter()
        .map(|r| {
            let value = match &r.value {
                Some(Value::Number(n)) => n.to_string(),
                other => format!("{other:?}"),
            };
            format!("{} {:?} {value} {:?} at {} {:?}", r.name, r.unit, r.sum, r.time, r.update_time)
        })
        .collect()
}

//= RFC8428 4.6
//= RFC8428 5
//= RFC8428 5.1.7
#[test]
fn every_example_of_the_rfc_resolves_as_the_rfc_says() {
    let mut compared = 0;
    for example in 1..=13 {
        let pack = parse(&read(&format!("ex{example}.json")), Format::Json, &Limits::default()).unwrap();
        let Ok(expected) = std::fs::read(vectors().join(format!("ex{example}.resolved.json"))) else { continue };
        let expected = parse(&expected, Format::Json, &Limits::default()).unwrap();
        let now = expected.records()[0].time.filter(|_| [1, 2, 4, 7, 9].contains(&example));
        let resolved = say(&pack.resolve(now.unwrap_or_else(|| resolved_at(example))));
        // The RFC leaves the data record of example 7 out.
        for (ours, theirs) in resolved.iter().zip(say(&expected.resolve(Decimal::ZERO))) {
            assert_eq!(*ours, theirs, "example {example}");
        }
        assert_eq!(resolved.len() - expected.records().len(), usize::from(example == 7), "example {example}");
        compared += 1;
    }
    assert_eq!(compared, 12, "the RFC resolves all of its examples but the last");
}

//= RFC8428 6
#[test]
fn the_cbor_examples_say_what_the_json_examples_say() {
    for example in [3, 5] {
        let from_json = parse(&read(&format!("ex{example}.json")), Format::Json, &Limits::default()).unwrap();
        let from_cbor = parse(&read(&format!("ex{example}.cbor")), Format::Cbor, &Limits::default()).unwrap();
        assert_eq!(from_json, from_cbor, "example {example}");
    }
}

#[test]
fn the_seed_message_is_valid() {
    let seed = r#"[{"bn":"some-base-name:","bt":1.276020076001e+09, "bu":"A","bver":5, "n":"voltage","u":"V","v":120.1},
        {"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}]"#;
    let resolved = json(seed).unwrap().resolve(Decimal::ZERO);
    assert_eq!(resolved[1].name, "some-base-name:current");
    assert_eq!(resolved[1].time.to_string(), "1276020071.001");
}

/// A pack and what is said of it; "" means that it is valid.
fn check(format: Format, cases: &[(&str, &str)]) {
    for (pack, said) in cases {
        let bytes = match format {
            Format::Json => pack.as_bytes().to_vec(),
            Format::Cbor => hex(pack),
        };
        let verdict = validate(&bytes, format, &Limits::default()).err().map_or(String::new(), |e| e.to_string());
        assert_eq!(verdict, *said, "{pack}");
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

//= RFC8259 6
//= RFC8428 4.1
//= RFC8428 4.2
//= RFC8428 4.3
//= RFC8428 4.4
//= RFC8428 4.5.1
//= RFC9100 2
#[test]
fn json_packs_are_valid_or_say_why_not() {
    check(
        Format::Json,
        &[
            (r#"[{"n":"a","v":1}]"#, ""),
            (r#"[{"bn":"a:","v":1e-3,"ut":5},{"n":"b","s":2}]"#, ""),
            (r#"[{"n":"a","v":1,"anything":{"deep":[1,{}]}}]"#, ""),
            (r#"[{"n":"a","bver":26,"v":1}]"#, ""),
            (r#"[{"n":"a","vd":""}]"#, ""),
            (r#"[{"\u006e":"a","v":1}]"#, ""),
            (r#"[{"n":"0-9:./_","v":18446744073709551615}]"#, ""),
            ("", "not a JSON array of objects (line 1, column 0)"),
            ("{}", "not a JSON array of objects (line 1, column 0)"),
            ("[1]", "not a JSON array of objects (line 1, column 2)"),
            ("[]", "a pack has at least one record"),
            ("[{}]", "record 1: the base name and the name make no legal name"),
            (r#"[{"bn":"a"},{"v":1}]"#, ""),
            (r#"[{"n":"a"}]"#, "record 1: no value and no sum"),
            (r#"[{"bn":"x:","bt":1621778032},{"n":"p","v":2}]"#, "record 1: no value and no sum"),
            (r#"[{"n":"a","v":1}] x"#, "not a JSON array of objects (line 1, column 19)"),
            (r#"[{"n":"a","v":1},]"#, "not a JSON array of objects (line 1, column 18)"),
            (r#"[{"n":"a","v":1},{"n":"b","vs":5}]"#, "record 2: 'vs' has the wrong type"),
            (r#"[{"n":"a","v":"1"}]"#, "record 1: 'v' has the wrong type"),
            (r#"[{"n":"a","v":null}]"#, "record 1: 'v' has the wrong type"),
            (r#"[{"n":"a","vb":0}]"#, "record 1: 'vb' has the wrong type"),
            (r#"[{"n":"a","v":1e999}]"#, "record 1: 'v' is no finite number"),
            (r#"[{"n":"a","v":NaN}]"#, "not a JSON array of objects (line 1, column 15)"),
            (r#"[{"n":"a","v":1,"vs":"b"}]"#, "record 1: more than one value"),
            (r#"[{"n":"a","v":1,"n":"b"}]"#, "record 1: a label stands twice"),
            (r#"[{"n":"a","v":1,"\u0076":2}]"#, "record 1: a label stands twice"),
            (r#"[{"n":"a","v":1,"must_":2}]"#, "record 1: a label that ends in '_' is not known here"),
            (r#"[{"n":"_a","v":1}]"#, "record 1: the base name and the name make no legal name"),
            (r#"[{"bn":"a","n":"ü","v":1}]"#, "record 1: the base name and the name make no legal name"),
            (r#"[{"n":"a","vd":"aGkgCg=="}]"#, "record 1: 'vd' is not base64url without padding"),
            (r#"[{"n":"a","vd":"+/"}]"#, "record 1: 'vd' is not base64url without padding"),
            (r#"[{"n":"a","bver":0,"v":1}]"#, "record 1: version not supported"),
            (r#"[{"n":"a","bver":11,"v":1}]"#, "record 1: version not supported"),
            (r#"[{"n":"a","bver":42,"v":1}]"#, "record 1: version not supported"),
            (r#"[{"n":"a","bver":5.5,"v":1}]"#, "record 1: version not supported"),
            (
                r#"[{"n":"a","bver":5,"v":1},{"n":"b","bver":10,"v":1}]"#,
                "record 2: the version changes within the pack",
            ),
            (r#"[{"n":"a","v":1},{"n":"b","bver":5,"v":1}]"#, "record 2: the version changes within the pack"),
            (r#"[{"n":"a","v":1},{"n":"b","bver":10,"v":1}]"#, ""),
            (r#"[{"n":"a","bver":-10,"v":1}]"#, "record 1: version not supported"),
            (r#"[{"n":"a","v":01}]"#, "not a JSON array of objects (line 1, column 16)"),
            (r#"[{"n":"a","v":1,"secret_":"x"},"#, "record 1: a label that ends in '_' is not known here"),
            ("\u{feff}[]", "not a JSON array of objects (line 1, column 1)"),
        ],
    );
}

//= RFC8949 3.4.4
//= RFC8428 6
#[test]
fn cbor_packs_are_valid_or_say_why_not() {
    check(
        Format::Cbor,
        &[
            ("81 a2 00 61 61 02 01", ""),
            ("9f bf 00 7f 61 61 61 62 ff 02 f9 3c00 ff ff", ""),
            ("81 a2 00 61 61 02 fb 3ff199999999999a", ""),
            ("81 a2 00 61 61 02 fa 3dcccccd", ""),
            ("81 a2 00 61 61 02 1b ffffffffffffffff", ""),
            ("81 a2 00 61 61 02 c4 82 21 19 6ab3", ""),
            ("81 a2 00 61 61 08 5f 41 01 41 02 ff", ""),
            ("81 a3 00 61 61 02 01 61 78 82 01 a1 01 02", ""),
            ("", "not a CBOR array of maps (byte 0)"),
            ("80", "a pack has at least one record"),
            ("a0", "not a CBOR array of maps (byte 1)"),
            ("81 a2 00 61 61 02", "record 1: not a CBOR array of maps (byte 6)"),
            ("81 a2 00 61 61 02 01 00", "bytes follow the pack"),
            ("81 a2 00 61 61 02 f9 7e00", "record 1: 'v' is no finite number"),
            ("81 a2 00 61 61 02 fa 7f800000", "record 1: 'v' is no finite number"),
            ("81 a2 00 61 61 02 f5", "record 1: 'v' has the wrong type"),
            ("81 a2 00 61 61 02 61 31", "record 1: 'v' has the wrong type"),
            ("81 a3 00 61 61 02 01 02 01", "record 1: a label stands twice"),
            ("81 a3 00 61 61 02 01 09 01", "record 1: a label that is not of this format"),
            ("81 a2 61 6e 61 61 02 01", "record 1: a label that is not of this format"),
            ("81 a3 00 61 61 02 01 62 78 5f 01", "record 1: a label that ends in '_' is not known here"),
            ("81 a2 00 62 c3 28 02 01", "record 1: 'n' has the wrong type"),
            ("81 a3 00 61 61 02 01 61 78 ff", "record 1: not a CBOR array of maps (byte 9)"),
        ],
    );
    let deep = format!("81 a3 00 61 61 02 01 61 78 {} 01", "81 ".repeat(100_000));
    check(Format::Cbor, &[(&deep, "record 1: nested too deeply")]);
    let deep = format!(r#"[{{"n":"a","v":1,"x":{}{}}}]"#, "[".repeat(20), "]".repeat(20));
    check(Format::Json, &[(&deep, "record 1: nested too deeply")]);
    let many = format!("[{}]", vec![r#"{"n":"a","v":1}"#; 10_001].join(","));
    check(Format::Json, &[(&many, "record 10001: too many records")]);
}

//= RFC8428 4.5.3
#[test]
fn times_keep_their_fractions_and_small_ones_are_relative() {
    let now = Decimal::from(2_000_000_000);
    let times =
        |text: &str| json(text).unwrap().resolve(now).iter().map(|r| r.time.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(
        times(r#"[{"bt":1554381569.992,"n":"x","v":1},{"n":"y","t":0.004,"v":2}]"#),
        "1554381569.992 1554381569.996"
    );
    assert_eq!(times(r#"[{"n":"a","t":60,"v":1}]"#), "2000000060");
    assert_eq!(times(r#"[{"bn":"x:","bt":-5,"n":"a","v":1}]"#), "1999999995");
    assert_eq!(
        times(r#"[{"n":"a","v":1},{"n":"a","t":268435455,"v":1},{"n":"a","t":268435456,"v":1}]"#),
        "2000000000 2268435455 268435456"
    );
}

#[test]
fn base_values_and_sums_are_added_exactly() {
    let resolved = json(r#"[{"bn":"a","bv":0.1,"bs":1,"v":0.2},{"v":-0.1,"s":2},{"vs":"x"}]"#).unwrap();
    let said: Vec<String> = resolved
        .resolve(Decimal::from(2_000_000_000))
        .iter()
        .map(|r| match &r.value {
            Some(Value::Number(n)) => format!("{n} {}", r.sum.unwrap()),
            other => format!("{other:?} {}", r.sum.unwrap()),
        })
        .collect();
    assert_eq!(said, ["0.3 1", "0 3", "Some(Text(\"x\")) 1"]);
}

/// A pack in JSON, of records that are valid by themselves.
fn some_pack() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        any::<i64>().prop_map(|n| format!(r#""v":{n}"#)),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!(r#""v":{n:e}"#)),
        "[a-z\\\\\"\n]{0,5}".prop_map(|s| format!(r#""vs":{}"#, serde_json::Value::from(s))),
        any::<bool>().prop_map(|b| format!(r#""vb":{b}"#)),
        (0_i64..1_000, 0_u8..100).prop_map(|(n, frac)| format!(r#""s":{n}.{frac:02}"#)),
    ];
    let record = (value, prop::option::of(-500_i32..2_000_000_000), prop::option::of("[A-Za-z0-9][a-z:]{0,3}"));
    prop::collection::vec(record, 1..6).prop_map(|records| {
        let records: Vec<String> = records
            .into_iter()
            .map(|(value, time, base)| {
                let time = time.map_or(String::new(), |t| format!(r#","t":{t}.25"#));
                let base = base.map_or(String::new(), |b| format!(r#","bn":"{b}""#));
                format!(r#"{{"n":"a",{value}{time}{base}}}"#)
            })
            .collect();
        format!("[{}]", records.join(","))
    })
}

proptest! {
    #[test]
    fn a_pack_says_the_same_in_both_formats(text in some_pack()) {
        let pack = json(&text).unwrap();
        prop_assert_eq!(&json(&pack.to_json()).unwrap(), &pack);
        prop_assert_eq!(&parse(&pack.to_cbor(), Format::Cbor, &Limits::default()).unwrap(), &pack);
    }

    #[test]
    fn what_is_resolved_stays_as_it_is(text in some_pack()) {
        let now = Decimal::from(2_000_000_000);
        let once = json(&text).unwrap().resolve(now);
        prop_assert_eq!(&Pack::of_resolved(once.clone()).resolve(now), &once);
    }
}

/// A generator of pseudo-random numbers that gives the same ones on every run.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1)).min(bytes.len());
            let byte = u8::try_from(self.below(256)).unwrap();
            match self.below(4) {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.extend_from_within(at.min(bytes.len())..),
            }
            bytes.truncate(65_536);
        }
    }
}

/// The fewest bytes of a valid record: `{2: 1}` in CBOR, under a base name.
const RECORD_BYTES_MIN: usize = 3;

/// What the fuzz target starts from: the examples of the RFC and our own cases, in the order of their names.
fn corpus() -> Vec<(Format, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = ["tests/vectors", "tests/corpus"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let format_of =
        |path: &Path| if path.extension().is_some_and(|e| e == "cbor") { Format::Cbor } else { Format::Json };
    let mut corpus = Vec::new();
    for path in paths {
        let (format, bytes) = (format_of(&path), std::fs::read(&path).unwrap());
        if let (Format::Json, Ok(pack)) = (format, parse(&bytes, format, &Limits::default())) {
            corpus.push((Format::Cbor, pack.to_cbor()));
        }
        corpus.push((format, bytes));
    }
    corpus
}

#[test]
fn ten_thousand_mutated_packs_get_a_verdict() {
    let corpus = corpus();
    let (mut random, mut valid) = (Xorshift(0x9e37_79b9_7f4a_7c15), 0);
    for round in 0..10_000 {
        let (format, seed) = &corpus[round % corpus.len()];
        let mut bytes = seed.clone();
        random.mutate(&mut bytes);
        let parsed = parse(&bytes, *format, &Limits::default());
        let verdict = validate(&bytes, *format, &Limits::default());
        assert_eq!(parsed.as_ref().map(|_| ()).map_err(Clone::clone), verdict);
        if let Ok(pack) = parsed {
            valid += 1;
            assert!(pack.records().len() <= bytes.len() / RECORD_BYTES_MIN);
            assert!(validate(&pack.to_cbor(), Format::Cbor, &Limits::default()).is_ok());
            assert!(validate(pack.to_json().as_bytes(), Format::Json, &Limits::default()).is_ok());
            assert!(pack.resolve(Decimal::from(2_000_000_000)).len() <= pack.records().len());
        }
    }
    assert!((100..9_900).contains(&valid), "{valid} of 10,000 mutated packs are valid");
}
