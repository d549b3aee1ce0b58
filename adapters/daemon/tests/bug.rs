//! A panic of a program, seen from outside: this test runs itself again, as the program.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output};

use tidegate_daemon::Stream;
use tidegate_daemon::config::Listen;
use tidegate_daemon::drain::Drain;
use tidegate_daemon::listen::{self, ListenLimits};
use tidegate_daemon::program::{self, ProcessOptions};
use tidegate_daemon::telemetry::LogFormat;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where it stands, the test runs as the program; its value is the program's log level.
const AS_PROGRAM: &str = "TEST_RUNS_AS_PROGRAM";

/// Runs the test of that name as the program.
fn played(test: &str, log_level: &str) -> Output {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args(["--exact", test, "--nocapture"]).env(AS_PROGRAM, log_level).output().unwrap()
}

fn options(log_level: String) -> ProcessOptions {
    ProcessOptions { config: None, admin: Listen::Off, log: LogFormat::Text, log_level }
}

#[test]
fn a_panic_of_any_task_is_logged_and_ends_the_process_with_70() {
    if let Ok(log_level) = std::env::var(AS_PROGRAM) {
        let _ended = program::run("program", &options(log_level), async {
            let secret = std::hint::black_box("a payload");
            // Nobody waits for it: what is waited for goes on for ever.
            tokio::spawn(async move { panic!("it cannot be: {secret}") });
            std::future::pending::<()>().await;
        });
        unreachable!("the process has ended");
    }
    for (log_level, expected) in
        [("info", "ERROR tidegate_daemon::bug: a bug: it cannot be"), ("off", "program: a bug at")]
    {
        let output = played("a_panic_of_any_task_is_logged_and_ends_the_process_with_70", log_level);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(70), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("tests/bug.rs:") && said.contains("it cannot be") && !said.contains("payload"), "{said}");
    }
}

#[test]
fn a_panic_of_a_connection_ends_that_one_alone() {
    if let Ok(log_level) = std::env::var(AS_PROGRAM) {
        let served = program::run("program", &options(log_level), async {
            let listener = listen::bind("--listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
            let address = listener.local_addr().unwrap();
            let serve = async |mut stream: Stream, _peer| {
                assert_ne!(stream.read_u8().await.unwrap(), b'x', "it cannot be");
                stream.write_all(b"well").await.unwrap();
            };
            tokio::spawn(listen::serve(listener, None, ListenLimits::default(), Drain::new(), serve));
            let mut answers = Vec::new();
            for first in *b"axb" {
                let mut client = TcpStream::connect(address).await.unwrap();
                client.write_all(&[first]).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                answers.push(answer);
            }
            answers
        });
        assert_eq!(served.unwrap(), ["well", "", "well"]);
        return;
    }
    let output = played("a_panic_of_a_connection_ends_that_one_alone", "info");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("a bug: assertion `left != right` failed").count(), 1, "{said}");
}

/// Where no program runs, a panic is what it always is.
#[test]
fn a_panic_after_a_program_has_ended_ends_no_process() {
    assert_eq!(program::run("program", &options("off".to_owned()), async { 7 }).unwrap(), 7);
    assert!(std::thread::spawn(|| panic!("this is meant")).join().is_err());
}
