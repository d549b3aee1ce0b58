//! Programs with clients of others, told what to do and telling what happens, line by line in JSON.
//!
//! Owns their processes. Must not know what any of them does.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use serde_json::Value;

use crate::{DEADLINE, LOOK_EVERY};

/// Events of a device that nobody has looked at.
const EVENTS_MAX: usize = 1_000;

/// A device that is told what to do, and tells what happens. Dropping it ends its program.
pub struct Device {
    told: Box<dyn FnMut(&Value)>,
    events: Receiver<Value>,
    /// What came before it was waited for.
    passed: VecDeque<Value>,
    child: Option<Child>,
}

impl Drop for Device {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // Gone already is as good. Who is asked first takes away what it has laid down.
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).stderr(Stdio::null()).status();
        let deadline = Instant::now() + DEADLINE;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Where the clients are that are not of Rust; they are put there when they are not.
///
/// # Panics
/// When they cannot be had.
pub fn clients() -> &'static str {
    static CACHE: OnceLock<String> = OnceLock::new();
    CACHE.get_or_init(|| {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/clients.sh")).output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

/// Node on a script with npm's clients; a bare name is one of the folder `clients`.
#[must_use]
pub fn node(script: &str) -> Command {
    let mut node = Command::new("node");
    node.arg(place(script)).env("NODE_PATH", format!("{}/node/node_modules", clients()));
    node
}

/// Python on a script with PyPI's clients; a bare name is one of the folder `clients`.
#[must_use]
pub fn python(script: &str) -> Command {
    let mut python = Command::new(format!("{}/python/bin/python3", clients()));
    python.arg(place(script));
    python
}

fn place(script: &str) -> String {
    let folder = if script.contains('/') { "" } else { concat!(env!("CARGO_MANIFEST_DIR"), "/clients/") };
    format!("{folder}{script}")
}

impl Device {
    /// Starts a program that reads and writes lines of JSON.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (tell, events) = sync_channel(EVENTS_MAX);
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Who does not listen any more has seen enough.
                let _ = tell.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let mut stdin = child.stdin.take().expect("a pipe");
        let told = Box::new(move |said: &Value| writeln!(stdin, "{said}").expect("it listens"));
        Self { told, events, passed: VecDeque::new(), child: Some(child) }
    }

    /// A device in this process, made of what tells events.
    pub fn new<Told: FnMut(&Value) + 'static>(make: impl FnOnce(SyncSender<Value>) -> Told) -> Self {
        let (tell, events) = sync_channel(EVENTS_MAX);
        Self { told: Box::new(make(tell)), events, passed: VecDeque::new(), child: None }
    }

    /// Tells it what to do.
    ///
    /// # Panics
    /// When it has ended.
    pub fn tell(&mut self, said: &Value) {
        (self.told)(said);
    }

    /// Waits for an event of this name; others keep their turn.
    ///
    /// # Panics
    /// When it does not come within the deadline, the device ends, or tells before that it was `refused` or of a `fault`.
    pub fn next(&mut self, event: &str) -> Value {
        loop {
            if let Some(at) = self.passed.iter().position(|said| said["event"] == event) {
                return self.passed.remove(at).expect("it is there");
            }
            let said = self.events.recv_timeout(DEADLINE);
            assert!(said.is_ok(), "{said:?} before {event}, after {:?}", self.passed);
            let said = said.unwrap_or_default();
            assert!(said["event"] != "refused" && said["event"] != "fault" || said["event"] == event, "{said}");
            self.passed.push_back(said);
        }
    }
}
