//! Transcripts of an endpoint: what peers and the others say, line by line, and what the endpoint says to that.
//!
//! `> a con 0001 t=01 post /x payload=hi` is a datagram of peer `a`, `! respond 1 2.04` the answer of another to the first
//! question, `+ 2s` time that passes; what is said in it comes with when.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use expect_test::Expect;
use tidegate_coap_proto::*;

/// Plays a script within the bounds that others have too, and compares all that is said.
pub(crate) fn check(script: &str, expected: &Expect) {
    check_within(Limits::default(), script, expected);
}

/// The same within these.
pub(crate) fn check_within(limits: Limits, script: &str, expected: &Expect) {
    expected.assert_eq(&played(limits, script, |_| None));
}

/// Plays a script in which peers also say what `answer` has to each message, when time passes, and returns all that is said.
#[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to have one")]
pub(crate) fn played(limits: Limits, script: &str, answer: fn(&Message) -> Option<Message>) -> String {
    let mut stage = Stage::new(limits, answer, Instant::now());
    stage.play(script);
    stage.said
}

struct Stage {
    endpoint: Endpoint<String>,
    begun: Instant,
    now: Instant,
    tickets: Vec<Ticket<String>>,
    observers: Vec<Observer<String>>,
    echo: Bytes,
    /// What a peer says to a message, beside the script.
    answer: fn(&Message) -> Option<Message>,
    /// What was not said yet of that: it is when time passes.
    answers: Vec<(String, Message)>,
    said: String,
}

impl Stage {
    fn new(limits: Limits, answer: fn(&Message) -> Option<Message>, now: Instant) -> Self {
        let endpoint = Endpoint::new(limits, *b"a seed of tests!", Duration::from_secs(1_000_000), now);
        let (tickets, observers, answers) = (Vec::new(), Vec::new(), Vec::new());
        Self { endpoint, begun: now, now, tickets, observers, echo: Bytes::new(), answer, answers, said: String::new() }
    }

    fn play(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.say(line);
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[0] {
                ">" => self.peer(&words[1..]),
                "!" => self.other(&words[1..]),
                "+" => self.wait(span(words[1])),
                _ => panic!("{line}"),
            }
            self.drain("");
        }
    }

    fn say(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
    }

    fn peer(&mut self, words: &[&str]) {
        let datagram = if words[1] == "hex" {
            let hex: String = words[2..].concat();
            let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
        } else {
            let mut bytes = BytesMut::new();
            encode(&self.message(&words[1..]), &mut bytes);
            bytes.freeze()
        };
        self.endpoint.handle_datagram(words[0].to_owned(), &datagram, self.now);
    }

    fn other(&mut self, words: &[&str]) {
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        let ticket = |stage: &Self| stage.tickets[number(1) - 1].clone();
        let is_done = match words[0] {
            "respond" => self.endpoint.respond(ticket(self), response(&words[2..]), self.now),
            "observe" => {
                let observer = self.endpoint.observe(ticket(self), response(&words[2..]), self.now);
                self.observers.extend(observer.clone());
                observer.is_some()
            }
            "admit" => self.endpoint.admit(ticket(self), number(2), self.now),
            "notify" => {
                let observer = self.observers[number(1) - 1].clone();
                self.endpoint.notify(&observer, response(&words[2..]), self.now)
            }
            "dismiss" => {
                let observer = self.observers[number(1) - 1].clone();
                self.endpoint.dismiss(&observer, response(&words[2..]), self.now)
            }
            "renewed" => {
                let renewed = self.endpoint.renewed(&ticket(self));
                let number = renewed.as_ref().map(|renewed| self.number_of(renewed));
                self.say(&format!("  {number:?}"));
                true
            }
            "forget" => {
                self.endpoint.forget(&words[1].to_owned());
                true
            }
            "held" => {
                self.say(&format!("  {:?}", self.endpoint.held()));
                true
            }
            "counts" => {
                self.say(&format!("  {:?}", self.endpoint.counts()));
                true
            }
            _ => panic!("{words:?}"),
        };
        if !is_done {
            self.say("  no");
        }
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((peer, answer)) = self.answers.pop() {
            let mut bytes = BytesMut::new();
            encode(&answer, &mut bytes);
            self.endpoint.handle_datagram(peer, &bytes.freeze(), self.now);
            self.drain("");
        }
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.endpoint.handle_timeout(at);
            let age = at.duration_since(self.begun).as_secs_f64();
            self.drain(&format!("  {age:.1} s "));
        }
        self.now = end;
    }

    fn drain(&mut self, when: &str) {
        while let Some(output) = self.endpoint.poll_output() {
            let line = match output {
                Output::Send { peer, datagram } => {
                    let message = decode(&datagram).expect("what an endpoint says can be read");
                    if let Message::Response { response, .. } = &message
                        && let Some(echo) = response.options.echo()
                    {
                        self.echo = Bytes::copy_from_slice(echo);
                    }
                    if let Some(answer) = (self.answer)(&message) {
                        self.answers.push((peer.clone(), answer));
                    }
                    format!("< {peer} {}", say(&message))
                }
                Output::Request { ticket, request } => {
                    self.tickets.push(ticket.clone());
                    format!("? {} {} {}", self.tickets.len(), ticket.peer(), asked(&request))
                }
                Output::Begin { ticket, request } => {
                    self.tickets.push(ticket.clone());
                    format!("? {} {} begins {}", self.tickets.len(), ticket.peer(), asked(&request))
                }
                Output::Refresh(observer) => format!("? refresh {}", self.number_of(&observer)),
                Output::Ended(observer, why) => format!("? ended {} {why:?}", self.number_of(&observer)),
            };
            self.say(&format!("{when}{line}"));
        }
    }

    fn number_of(&self, observer: &Observer<String>) -> usize {
        self.observers.iter().position(|known| known == observer).expect("an observer that was named") + 1
    }

    /// The message that these words say.
    fn message(&self, words: &[&str]) -> Message {
        let id = MessageId(u16::from_str_radix(words[1], 16).unwrap());
        let token = words.iter().find_map(|word| word.strip_prefix("t=")).map_or(Token::EMPTY, |hex| {
            let bytes = u64::from_str_radix(hex, 16).unwrap().to_be_bytes();
            Token::new(&bytes[8 - hex.len().div_ceil(2)..]).unwrap()
        });
        match words[0] {
            "ping" => Message::Ping(id),
            "ack" => Message::Acknowledgement(id),
            "rst" => Message::Reset(id),
            "con" | "non" => {
                let at = words.iter().position(|word| METHODS.contains(word)).expect("a method");
                let detail = u8::try_from(METHODS.iter().position(|word| *word == words[at]).unwrap()).unwrap();
                let mut options = options(&words[at + 1..]);
                if words.contains(&"echo") {
                    options = options.with(OptionNumber::ECHO, &self.echo);
                }
                let request = Request { method: Code::new(0, detail), options, payload: payload(words) };
                Message::Request { id, is_confirmable: words[0] == "con", token, request }
            }
            "response" => {
                let response = Response::of(Code::CONTENT);
                Message::Response { id, carried: Carried::Confirmable, token, response }
            }
            _ => panic!("{words:?}"),
        }
    }
}

const METHODS: [&str; 6] = ["empty", "get", "post", "put", "delete", "fetch"];

fn span(word: &str) -> Duration {
    let (number, unit) = word.split_at(word.find(|c: char| !c.is_ascii_digit()).expect("a unit"));
    let number: u64 = number.parse().unwrap();
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "h" => Duration::from_hours(number),
        _ => panic!("{word}"),
    }
}

/// `1/m/64`: number, whether there are more, bytes.
fn block(word: &str) -> u32 {
    let parts: Vec<&str> = word.split('/').collect();
    let bytes: u32 = parts[2].parse().unwrap();
    let exponent = u8::try_from(bytes.trailing_zeros() - 4).unwrap();
    Block { number: parts[0].parse().unwrap(), more: parts[1] == "m", exponent }.value()
}

fn options(words: &[&str]) -> Options {
    let mut options = Options::NONE;
    for word in words {
        if let Some(path) = word.strip_prefix('/') {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            options = path.split('/').fold(options, |all, part| all.with(OptionNumber::URI_PATH, part.as_bytes()));
            let arguments = query.split('&').filter(|argument| !argument.is_empty());
            options = arguments.fold(options, |all, part| all.with(OptionNumber::URI_QUERY, part.as_bytes()));
        }
        let Some((name, value)) = word.split_once('=').filter(|_| !word.starts_with('/')) else { continue };
        let number = || value.parse::<u32>().unwrap();
        options = match name {
            "observe" => options.with_uint(OptionNumber::OBSERVE, number()),
            "format" => options.with_uint(OptionNumber::CONTENT_FORMAT, number()),
            "age" => options.with_uint(OptionNumber::MAX_AGE, number()),
            "block1" => options.with_uint(OptionNumber::BLOCK1, block(value)),
            "block2" => options.with_uint(OptionNumber::BLOCK2, block(value)),
            "size1" => options.with_uint(OptionNumber::SIZE1, number()),
            "quiet" => options.with_uint(OptionNumber::NO_RESPONSE, number()),
            "tag" => options.with(OptionNumber::REQUEST_TAG, value.as_bytes()),
            "etag" => options.with(OptionNumber::ETAG, value.as_bytes()),
            "option" => options.with(OptionNumber(u16::try_from(number()).unwrap()), b"x"),
            _ => options,
        };
    }
    options
}

/// `payload=abc`, or `payload=a*100` for many.
fn payload(words: &[&str]) -> Bytes {
    let Some(word) = words.iter().find_map(|word| word.strip_prefix("payload=")) else { return Bytes::new() };
    match word.split_once('*') {
        Some((one, count)) => Bytes::from(one.repeat(count.parse().unwrap())),
        None => Bytes::copy_from_slice(word.as_bytes()),
    }
}

fn response(words: &[&str]) -> Response {
    let (class, detail) = words[0].split_once('.').unwrap();
    let code = Code::new(class.parse().unwrap(), detail.parse().unwrap());
    Response { code, options: options(&words[1..]), payload: payload(words) }
}

fn asked(request: &Request) -> String {
    let path = request.options.uri_path().map(|part| format!("/{}", String::from_utf8_lossy(part)));
    let is_shown = |number: OptionNumber| !matches!(number, OptionNumber::URI_PATH | OptionNumber::ECHO);
    format!(
        "{} {}{}{}",
        METHODS[usize::from(request.method.detail())],
        path.collect::<String>(),
        shown(&request.options, is_shown),
        words_of(&request.payload)
    )
}

fn shown(options: &Options, is_shown: impl Fn(OptionNumber) -> bool) -> String {
    let one = |(number, value): (OptionNumber, &[u8])| {
        let value_of = |value: &[u8]| value.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        match (number, number.format()) {
            (OptionNumber::BLOCK1 | OptionNumber::BLOCK2, _) => {
                let block = Block::new(u32::try_from(value_of(value)).unwrap()).unwrap();
                let more = if block.more { "m" } else { "-" };
                format!(" {number:?}={}/{more}/{}", block.number, block.bytes())
            }
            (_, Some(Format::Uint)) => format!(" {number:?}={}", value_of(value)),
            (_, Some(Format::Text)) => format!(" {number:?}={}", String::from_utf8_lossy(value)),
            _ => format!(" {number:?}={}", value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        }
    };
    options.iter().filter(|(number, _)| is_shown(*number)).map(one).collect()
}

fn words_of(payload: &Bytes) -> String {
    match payload.len() {
        0 => String::new(),
        1..=40 => format!(" {:?}", String::from_utf8_lossy(payload)),
        bytes => format!(" {:?}.. {bytes} bytes", String::from_utf8_lossy(&payload[..4])),
    }
}

/// A message in a few words.
fn say(message: &Message) -> String {
    match message {
        Message::Ping(id) => format!("ping {id:?}"),
        Message::Acknowledgement(id) => format!("ack {id:?}"),
        Message::Reset(id) => format!("rst {id:?}"),
        Message::Request { id, .. } => format!("request {id:?}"),
        Message::Response { id, carried, token, response } => {
            let kind = match carried {
                Carried::Confirmable => "con",
                Carried::NonConfirmable => "non",
                Carried::Piggybacked => "ack",
            };
            let token = if token.length() > 0 { format!(" t={token:?}") } else { String::new() };
            let options = shown(&response.options, |_| true);
            format!("{kind} {id:?} {}{token}{options}{}", response.code, words_of(&response.payload))
        }
    }
}
