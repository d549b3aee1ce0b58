//! The cases: where they are, how they are written, and how what is said is judged.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

/// What happens in a case.
pub(crate) enum Step {
    /// The client sends these bytes.
    Send(Vec<u8>),
    /// The server sends these.
    Receive(Vec<u8>),
    /// Another client publishes.
    Published { topic: String, qos: u8, payload: String },
}

pub(crate) struct Case {
    pub(crate) name: String,
    /// 3, 4 or 5.
    pub(crate) version: u8,
    /// Whether the client is let in before.
    pub(crate) connects: bool,
    /// Whether the server ends the connection.
    pub(crate) ends: bool,
    pub(crate) steps: Vec<Step>,
}

/// All cases; none where they are not on this machine, which is said.
pub(crate) fn load() -> Vec<Case> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let folder = std::env::var_os("TIDEGATE_VECTORS").map_or_else(beside, PathBuf::from).join("mqtt-wire");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: there are no mqtt-wire cases; TIDEGATE_VECTORS says where they are");
        return vec![];
    };
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let groups = files.iter().flat_map(|file| {
        let groups: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        groups
    });
    groups
        .flat_map(|group| group["tests"].as_array().unwrap().iter().map(|case| read(&group, case)).collect::<Vec<_>>())
        .collect()
}

fn read(group: &Value, case: &Value) -> Case {
    let of_both = |name: &str| case.get(name).or_else(|| group.get(name)).cloned().unwrap_or_default();
    let steps = case["msgs"].as_array().unwrap().iter().map(|message| {
        let payload = message["payload"].as_str().unwrap();
        match message["type"].as_str().unwrap() {
            "send" => Step::Send(bytes(payload)),
            "recv" => Step::Receive(bytes(payload)),
            _ => Step::Published {
                topic: message["topic"].as_str().unwrap().to_owned(),
                qos: u8::try_from(message["qos"].as_u64().unwrap()).unwrap(),
                payload: payload.to_owned(),
            },
        }
    });
    Case {
        name: format!("{} / {}", group["group"].as_str().unwrap(), case["name"].as_str().unwrap()),
        version: u8::try_from(of_both("ver").as_u64().unwrap_or(4)).unwrap(),
        connects: of_both("connect").as_bool().unwrap_or(true),
        ends: case["expect_disconnect"].as_bool().unwrap_or(true),
        steps: steps.collect(),
    }
}

/// The bytes that a case writes with its shorthands.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, part) in text.split('\'').enumerate() {
        if place % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        for word in part.split_whitespace() {
            let number = || word[1..].parse::<u32>().unwrap();
            match word.as_bytes()[0] {
                b'r' | b'v' => bytes.extend(variable(number())),
                b'm' | b's' | b'k' | b'H' => bytes.extend(u16::try_from(number()).unwrap().to_be_bytes()),
                b'i' => bytes.push(u8::try_from(number()).unwrap()),
                b'L' => bytes.extend(number().to_be_bytes()),
                _ => {
                    let digits = |at: usize| u8::from_str_radix(&word[at..at + 2], 16).unwrap();
                    bytes.extend((0..word.len()).step_by(2).map(digits));
                }
            }
        }
    }
    bytes
}

/// A number in the length form of the standard; one of more than four bytes is written as it would be.
pub(crate) fn variable(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = number > 127;
        bytes.push(u8::try_from(number % 128).unwrap() | if more { 128 } else { 0 });
        number /= 128;
        if !more {
            return bytes;
        }
    }
}

/// A number in that form, and how many bytes it takes; nothing where its end is not there.
pub(crate) fn number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 127) << (7 * index);
        if *byte < 128 {
            return Some((value, index + 1));
        }
    }
    None
}

/// How a case came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Byte for byte.
    Exact,
    /// The right outcome, in another order, with another or no reason, or with other properties.
    Lenient,
    Fail,
}

/// A server, as a case sees it.
pub(crate) trait Server {
    /// Takes the bytes of the client.
    fn send(&mut self, bytes: &[u8]);
    /// Has another client publish.
    fn publish(&mut self, topic: &str, qos: u8, payload: &str);
    /// Its next packet; nothing where it has no more to say or has ended the connection.
    fn receive(&mut self) -> Option<Vec<u8>>;
    /// Whether it has ended the connection by the end, and whatever else it said.
    fn end(&mut self, is_expected: bool) -> (bool, Vec<Vec<u8>>);
}

/// A packet without what is for people or of one server alone: its type, name, topic, payload, and how it ended.
fn outline(packet: &[u8], version: u8) -> String {
    let is_v5 = version == 5;
    let Some((length, length_bytes)) = packet.get(1..).and_then(number) else { return format!("{packet:02x?}") };
    let body = &packet[1 + length_bytes..];
    assert_eq!(body.len(), length, "{packet:02x?}");
    let id = |at: usize| body.get(at..at + 2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
    let refused = |code: Option<&u8>| code.is_some_and(|code| *code >= 0x80);
    match packet[0] >> 4 {
        2 if body[1] > 0 => "connack refused".to_owned(),
        2 => format!("connack {}", body[0]),
        3 => {
            let topic_end = 2 + usize::from(id(0));
            let named = if packet[0] & 6 == 0 { 0 } else { 2 };
            let after = topic_end + named;
            let (properties, bytes) = if is_v5 { number(&body[after..]).unwrap() } else { (0, 0) };
            let payload = &body[after + bytes + properties..];
            let name = if named > 0 { id(topic_end) } else { 0 };
            format!("publish {:02x} {:?} {name} {:?}", packet[0], &body[2..topic_end], payload)
        }
        4 | 5 => format!("{:x} {} refused {}", packet[0], id(0), refused(body.get(2))),
        // Whether its name was known is a courtesy.
        6 | 7 => format!("{:x} {}", packet[0], id(0)),
        9 | 11 => {
            let (properties, bytes) = if is_v5 { number(&body[2..]).unwrap() } else { (0, 0) };
            let codes: Vec<bool> = body[2 + bytes + properties..].iter().map(|code| *code >= 0x80).collect();
            format!("{:x} {} {codes:?}", packet[0], id(0))
        }
        _ => format!("{:x}", packet[0]),
    }
}

/// The properties of a PUBLISH of MQTT 5; nothing of other packets.
fn properties(packet: &[u8]) -> &[u8] {
    let Some((_, length_bytes)) = packet.get(1..).and_then(number).filter(|_| packet[0] >> 4 == 3) else { return &[] };
    let body = &packet[1 + length_bytes..];
    let after = 2 + usize::from(u16::from_be_bytes([body[0], body[1]])) + if packet[0] & 6 == 0 { 0 } else { 2 };
    let (length, bytes) = number(&body[after..]).unwrap();
    &body[after + bytes..][..length]
}

/// Whether a packet says what another says, and all the properties of a message among it.
fn says(said: &[u8], expected: &[u8], version: u8) -> bool {
    let has = |all: &[u8], part: &[u8]| part.is_empty() || all.windows(part.len()).any(|window| window == part);
    outline(said, version) == outline(expected, version) && (version < 5 || has(properties(said), properties(expected)))
}

/// Plays a case: how it came out, and what was said.
pub(crate) fn play(case: &Case, server: &mut dyn Server) -> (Verdict, String) {
    let (mut verdict, mut log, mut pool) = (Verdict::Exact, String::new(), Vec::<Vec<u8>>::new());
    for step in &case.steps {
        match step {
            Step::Send(bytes) => {
                writeln!(log, "    send {bytes:02x?}").unwrap();
                server.send(bytes);
            }
            Step::Published { topic, qos, payload } => server.publish(topic, *qos, payload),
            Step::Receive(expected) => {
                writeln!(log, "    expect {expected:02x?}").unwrap();
                loop {
                    if let Some(at) = pool.iter().position(|said| says(said, expected, case.version)) {
                        if at > 0 || pool[at] != *expected {
                            verdict = verdict.max(Verdict::Lenient);
                            writeln!(log, "      said {:02x?}", pool[at]).unwrap();
                        }
                        pool.remove(at);
                        break;
                    }
                    let Some(said) = server.receive() else {
                        // Whoever ends the connection need not say why.
                        let is_reason = expected[0] == 0xe0 || outline(expected, case.version) == "connack refused";
                        verdict = verdict.max(if is_reason && case.ends { Verdict::Lenient } else { Verdict::Fail });
                        writeln!(log, "      not said; instead {pool:02x?}").unwrap();
                        break;
                    };
                    pool.push(said);
                }
            }
        }
    }
    let (has_ended, more) = server.end(case.ends);
    pool.extend(more);
    if !pool.is_empty() {
        verdict = verdict.max(Verdict::Lenient);
        writeln!(log, "    said too {pool:02x?}").unwrap();
    }
    if has_ended != case.ends {
        verdict = Verdict::Fail;
        writeln!(log, "    ended: {has_ended}, expected: {}", case.ends).unwrap();
    }
    (verdict, log)
}
