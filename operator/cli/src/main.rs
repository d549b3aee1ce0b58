//! The command line for people: publish, subscribe and check as a device would.
//!
//! Owns arguments, output and the exit code; speaks to the server through the client crate alone.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to its user")]

mod options;

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tidegate_client::{Address, Client, ClientError, Credential, Event, Identity, Publication, QoS, Subscription};

use crate::options::{Command, Device, Output, Program, Trust};

/// Why it ends with an exit code that no error of the client stands for.
#[derive(Debug)]
struct Failure {
    exit: u8,
    text: String,
}

impl Failure {
    fn usage(text: impl Into<String>) -> Self {
        Self { exit: EXIT_USAGE, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A usage that is none.
const EXIT_USAGE: u8 = 64;
/// The server cannot be reached.
const EXIT_UNAVAILABLE: u8 = 69;
/// The server refused.
const EXIT_REFUSED: u8 = 77;

fn main() -> ExitCode {
    // Only a second call fails, and then it is in force already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let program = match Program::of(std::env::args_os()) {
        Ok(program) => program,
        Err(error) => {
            // Where even this cannot be written, the exit code remains.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let outcome =
        tokio::runtime::Runtime::new().context("no runtime").and_then(|runtime| runtime.block_on(run(program)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            if let Some(failure) = error.downcast_ref::<Failure>() {
                return ExitCode::from(failure.exit);
            }
            ExitCode::from(match error.downcast_ref::<ClientError>() {
                Some(ClientError::Refused { .. }) => EXIT_REFUSED,
                Some(ClientError::Connection { .. }) => EXIT_UNAVAILABLE,
                Some(ClientError::Setup(_)) => EXIT_USAGE,
                Some(ClientError::Malformed(_)) | None => 1,
            })
        }
    }
}

async fn run(program: Program) -> Result<()> {
    match program.command {
        Command::Publish { device, content_type, qos, retain, expiry, user_properties, payload } => {
            let payload = payload_of(&payload)?.into();
            let client = client(&device)?;
            let publication = Publication { content_type, qos, retain, expiry, user_properties, payload };
            client.publish(&address(&device), publication).await?;
            client.close().await;
            Ok(())
        }
        Command::Subscribe { device, qos, count, timeout, output } => {
            let subscription = client(&device)?.subscribe(&address(&device), qos).await?;
            let received = receive(subscription, count, output);
            match timeout {
                None => received.await,
                Some(span) => match tokio::time::timeout(*span, received).await {
                    Ok(outcome) => outcome,
                    Err(_elapsed) if count.is_none() => Ok(()),
                    Err(_elapsed) => bail!("not that many messages within {span}"),
                },
            }
        }
        Command::Check { device, timeout, within } => check_within(&device, *timeout, *within).await,
    }
}

fn client(device: &Device) -> Result<Client> {
    let Trust { ca, pair } = device.trust().map_err(|text| anyhow!(Failure::usage(text)))?;
    let identity = match pair {
        Some((cert, key)) => Some(Identity::from_pem(&file("--cert", cert)?, &file("--cert-key", key)?)?),
        None => None,
    };
    let key = match &device.key_file {
        Some(path) if path.as_os_str() == "-" => {
            Some(std::io::read_to_string(std::io::stdin()).context("standard input")?)
        }
        Some(path) => Some(
            std::fs::read_to_string(path).with_context(|| Failure::usage(format!("--key-file {}", path.display())))?,
        ),
        None => std::env::var("TIDEGATE_KEY").ok(),
    };
    if key.is_none() && identity.is_none() {
        return Err(anyhow!(Failure::usage(
            "a key is needed: --key-file FILE, or TIDEGATE_KEY; or a certificate: --cert FILE and --cert-key FILE"
        )));
    }
    let key = key.map(|key| key.strip_suffix('\n').map_or_else(|| key.clone(), str::to_owned));
    let ca = ca.map(|path| file("--ca", path)).transpose()?;
    let credential = Credential { thing: device.thing.clone(), key, identity };
    Ok(Client::with_credential(&device.url(), &credential, ca.as_deref())?)
}

fn file(option: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| Failure::usage(format!("{option} {}", path.display())))
}

fn address(device: &Device) -> Address {
    Address::new(&device.channel, &device.subtopic)
}

/// The payload as it stands, of a file after `@`, or of standard input for `-`.
fn payload_of(argument: &str) -> Result<Vec<u8>> {
    if argument == "-" {
        let mut payload = Vec::new();
        std::io::stdin().read_to_end(&mut payload).context("standard input")?;
        return Ok(payload);
    }
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read(path).with_context(|| Failure::usage(format!("@{path}"))),
        None => Ok(argument.as_bytes().to_vec()),
    }
}

async fn receive(mut subscription: Subscription, count: Option<usize>, output: Output) -> Result<()> {
    let mut left = count;
    while left != Some(0) {
        let Some(event) = subscription.next().await? else { bail!("the server ended the stream") };
        match event.kind.as_str() {
            "message" => print(&event, output),
            "gap" => eprintln!("tidegate: messages may be missing here"),
            "end" => {
                let text = format!("the server ended the subscription: {}", String::from_utf8_lossy(&event.payload));
                bail!(Failure { exit: EXIT_REFUSED, text });
            }
            _ => continue,
        }
        if event.kind == "message" {
            left = left.map(|left| left - 1);
        }
    }
    Ok(())
}

fn print(event: &Event, output: Output) {
    let payload = String::from_utf8_lossy(&event.payload);
    match output {
        Output::Raw => println!("{payload}"),
        Output::Json => println!(
            "{}",
            serde_json::json!({
                "id": event.id, "topic": event.topic, "contentType": event.content_type,
                "publisher": event.publisher, "userProperties": event.user_properties, "payload": payload,
            })
        ),
    }
}

/// Checks until it succeeds, or `within` is over. What can never succeed is not tried again.
async fn check_within(device: &Device, timeout: Duration, within: Duration) -> Result<()> {
    /// How long it waits between two attempts.
    const PAUSE: Duration = Duration::from_secs(1);
    device.trust().map_err(|text| anyhow!(Failure::usage(text)))?;
    let mut over = std::pin::pin!(tokio::time::sleep(within));
    loop {
        let error = match check(device, timeout).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if matches!(error.downcast_ref(), Some(ClientError::Setup(_))) {
            return Err(error);
        }
        tokio::select! {
            biased;
            () = &mut over => return Err(error),
            () = tokio::time::sleep(PAUSE) => eprintln!("tidegate: {error:#}; trying again"),
        }
    }
}

/// Publishes a message that is like no other and waits for it to come back by the device's own grants.
async fn check(device: &Device, timeout: Duration) -> Result<()> {
    let (client, address) = (client(device)?, address(device));
    let face = client.face();
    #[expect(clippy::disallowed_methods, reason = "a check names its message and measures its own time")]
    let (mark, begun) = (uuid::Uuid::new_v4(), std::time::Instant::now());
    let payload = format!(r#"[{{"n":"tidegate-check","vs":"{mark}"}}]"#);
    let mut subscription = client.subscribe(&address, QoS::AtLeastOnce).await?;
    let content_type = Some("application/senml+json".to_owned());
    let publication = Publication { content_type, payload: payload.clone().into(), ..Publication::default() };
    client.publish(&address, publication).await?;
    let accepted = begun.elapsed();
    let arrival = async {
        while let Some(event) = subscription.next().await? {
            if event.payload == payload.as_bytes() {
                return Ok(());
            }
        }
        bail!("the server ended the stream")
    };
    match tokio::time::timeout(timeout, arrival).await {
        Ok(outcome) => outcome?,
        Err(_elapsed) => bail!("{face}: accepted, and not received within {timeout:?}"),
    }
    println!("{face}: accepted after {accepted:.1?}, received after {:.1?}", begun.elapsed());
    client.close().await;
    Ok(())
}
