//! What one can tell the command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use tidegate_client::QoS;

/// Speak to Tidegate as a device does
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about,
    after_help = "Exit codes: 0 done, 1 not received, 64 usage, 69 server not reached, 77 refused"
)]
pub(crate) struct Program {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Program {
    /// What these arguments say, and the environment, with which of them the one and which the other.
    pub(crate) fn of(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(arguments)?;
        let mut program = Self::from_arg_matches(&matches)?;
        if let Some((_, of_command)) = matches.subcommand() {
            program.command.device_mut().given = Given::of(of_command);
        }
        Ok(program)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send one message, and return when it is accepted
    Publish {
        #[command(flatten)]
        device: Device,
        /// The payload's content type; the channel's where absent
        #[arg(long, value_name = "TYPE")]
        content_type: Option<String>,
        /// How surely it is to arrive: 0, 1 or 2. Over MQTT and CoAP one of 0 is sent once; over CoAP 2 cannot be said
        #[arg(long, value_name = "LEVEL", default_value = "1", value_parser = qos)]
        qos: QoS,
        /// Have the server keep it for who subscribes later
        #[arg(long)]
        retain: bool,
        /// How many seconds it is worth delivering
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
        expiry: Option<u32>,
        /// A name and a value that subscribers get with it; may be given more than once
        #[arg(long = "user-property", value_name = "NAME=VALUE", value_parser = user_property)]
        user_properties: Vec<(String, String)>,
        /// The payload; `@FILE` for a file's, `-` for standard input's
        payload: String,
    },
    /// Print messages as they come
    Subscribe {
        #[command(flatten)]
        device: Device,
        /// The most that messages come with over MQTT: 0, 1 or 2
        #[arg(long, value_name = "LEVEL", default_value = "1", value_parser = qos)]
        qos: QoS,
        /// End after so many messages
        #[arg(long, value_name = "N")]
        count: Option<usize>,
        /// End after so long; with --count, fail when fewer came
        #[arg(long, value_name = "SPAN")]
        timeout: Option<humantime::Duration>,
        /// What to print of a message
        #[arg(long, default_value = "raw")]
        output: Output,
    },
    /// Send a message and see it come back: the Thing needs both permissions
    Check {
        #[command(flatten)]
        device: Device,
        /// How long the message may take
        #[arg(long, value_name = "SPAN", default_value = "10s")]
        timeout: humantime::Duration,
        /// Try again until it succeeds, for so long at most, as where the Thing or the server is new
        #[arg(long, value_name = "SPAN", default_value = "0s")]
        within: humantime::Duration,
    },
}

impl Command {
    const fn device_mut(&mut self) -> &mut Device {
        match self {
            Self::Publish { device, .. } | Self::Subscribe { device, .. } | Self::Check { device, .. } => device,
        }
    }
}

/// What is said on the command line itself, so that it has to be of use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given {
    ca: bool,
    cert: bool,
}

impl Given {
    fn of(matches: &ArgMatches) -> Self {
        let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        Self { ca: is_given("ca"), cert: is_given("cert") || is_given("cert_key") }
    }
}

/// Which device, and where.
#[derive(Debug, Args)]
pub(crate) struct Device {
    /// The server, and how to speak to it: http, https, ws, wss, mqtt, mqtts, coap or coaps
    #[arg(long, env = "TIDEGATE_URL", default_value = "http://localhost:8080")]
    url: String,
    /// Speak MQTT, whatever the URL says: as --url mqtt://HOST:PORT, with the host of the URL where none is given
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "",
        group = "protocol")]
    mqtt: Option<String>,
    /// The same over TLS: as --url mqtts://HOST:PORT
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "",
        group = "protocol")]
    mqtts: Option<String>,
    /// Speak WebSocket, whatever the URL says: as --url ws://HOST:PORT, with the host of the URL where none is given, and
    /// its port where the URL is of HTTP
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "",
        group = "protocol")]
    ws: Option<String>,
    /// The same over TLS: as --url wss://HOST:PORT
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "",
        group = "protocol")]
    wss: Option<String>,
    /// Speak CoAP, whatever the URL says: as --url coap://HOST:PORT, with the host of the URL where none is given. It
    /// tells of what is newest, and older messages may be left out
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "",
        group = "protocol")]
    coap: Option<String>,
    /// The same over DTLS, where the key is the one that both ends share, or both show certificates: as --url
    /// coaps://HOST:PORT
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "",
        group = "protocol")]
    coaps: Option<String>,
    /// The CA that signed the server's certificate, PEM; the machine's own CAs where absent. Of use over TLS, and over DTLS
    /// with --cert
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CA")]
    ca: Option<PathBuf>,
    /// The device's certificate, PEM, with those of intermediate CAs after it: over TLS and DTLS no key is needed then. Over
    /// DTLS it goes without the others, and is of ECDSA on P-256 or P-384
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CERT", requires = "cert_key")]
    cert: Option<PathBuf>,
    /// The private key of that certificate, PEM
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CERT_KEY", requires = "cert")]
    cert_key: Option<PathBuf>,
    /// The Thing: <namespace>.<name> or an alias; over HTTP and WebSocket the key alone says who where absent,
    /// over CoAP without DTLS always
    #[arg(long, value_name = "ID", env = "TIDEGATE_THING", default_value = "")]
    pub(crate) thing: String,
    /// A file with the Thing's key, `-` for standard input; else the key is in TIDEGATE_KEY. There is no flag for the key
    /// itself, since every user of the machine could read it there
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The Channel: <namespace>.<name>, an alias, or the name of one in the Thing's namespace
    #[arg(long, value_name = "ID")]
    pub(crate) channel: String,
    /// The levels below `messages`, as engine/oil; for a subscription a filter, as engine/+ or #
    #[arg(long, value_name = "LEVELS", default_value = "")]
    pub(crate) subtopic: String,
    #[arg(skip)]
    given: Given,
}

impl Device {
    /// The CA and the certificate with its private key, as far as what is spoken makes use of them: what the environment says
    /// may be meant for another protocol.
    ///
    /// # Errors
    /// What is said on the command line and would have no effect, with the reason.
    pub(crate) fn trust(&self) -> Result<Trust<'_>, String> {
        let url = self.url();
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        // Another is told of later.
        let is_clear = matches!(scheme, "http" | "ws" | "mqtt" | "coap");
        let pair = self.cert.as_deref().zip(self.cert_key.as_deref()).filter(|_| !is_clear);
        if is_clear && self.given.cert {
            return Err(format!("--cert: over {scheme}:// no certificate is shown"));
        }
        let is_checked = !is_clear && (scheme != "coaps" || pair.is_some());
        if self.given.ca && !is_checked {
            let with_key = if is_clear { "" } else { " with a key" };
            return Err(format!("--ca: over {scheme}://{with_key} the server shows no certificate"));
        }
        Ok(Trust { ca: self.ca.as_deref().filter(|_| is_checked), pair })
    }

    /// The server's URL.
    pub(crate) fn url(&self) -> String {
        let given = [
            ("mqtt", &self.mqtt, self.host()),
            ("mqtts", &self.mqtts, self.host()),
            ("ws", &self.ws, self.web_address()),
            ("wss", &self.wss, self.web_address()),
            ("coap", &self.coap, self.host()),
            ("coaps", &self.coaps, self.host()),
        ];
        let spoken = given.into_iter().find_map(|(scheme, given, of_url)| Some((scheme, given.as_deref()?, of_url)));
        let Some((scheme, given, of_url)) = spoken else { return self.url.clone() };
        let address = if given.is_empty() { of_url } else { given };
        format!("{scheme}://{address}")
    }

    /// The host of the URL as it stands there, an IPv6 address in its brackets.
    fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        }
    }

    /// Where WebSocket is spoken: on the port of HTTP, and on none of MQTT or CoAP.
    fn web_address(&self) -> &str {
        if self.url.starts_with("mqtt") || self.url.starts_with("coap") { self.host() } else { self.authority() }
    }

    /// The host of the URL, with the port if there is one.
    fn authority(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.split_once('/').map_or(rest, |(authority, _)| authority)
    }
}

/// Files by which server and device know each other over TLS and DTLS.
pub(crate) struct Trust<'a> {
    /// The CA of the server.
    pub(crate) ca: Option<&'a Path>,
    /// The device's certificate and its private key.
    pub(crate) pair: Option<(&'a Path, &'a Path)>,
}

fn user_property(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn qos(text: &str) -> Result<QoS, &'static str> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("it is 0, 1 or 2"),
    }
}

/// What to print of a message.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    /// The payload
    Raw,
    /// One line of JSON with the topic, the content type, and where the protocol tells them, the id and the publisher
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Program, clap::Error> {
        Program::of([&["tidegate", "publish", "--channel", "a", "1"], arguments].concat())
    }

    fn url(arguments: &[&str]) -> String {
        let Command::Publish { device, .. } = parse(arguments).unwrap().command else { unreachable!() };
        device.url()
    }

    #[test]
    fn mqtt_goes_to_the_host_of_the_url_unless_another_is_given() {
        assert_eq!(url(&["--url", "http://gate.test:8080/http"]), "http://gate.test:8080/http");
        assert_eq!(url(&["--url", "http://gate.test:8080/http", "--mqtt"]), "mqtt://gate.test");
        assert_eq!(url(&["--url", "https://[::1]", "--mqtts"]), "mqtts://[::1]");
        assert_eq!(url(&["--url", "https://[::1]:8443", "--mqtts"]), "mqtts://[::1]");
        assert_eq!(url(&["--url", "http://gate.test", "--mqtt=other.test:2883"]), "mqtt://other.test:2883");
    }

    #[test]
    fn websocket_goes_to_the_port_of_http_unless_another_is_given() {
        assert_eq!(url(&["--url", "ws://gate.test/ws"]), "ws://gate.test/ws");
        assert_eq!(url(&["--url", "http://gate.test:8080/http", "--ws"]), "ws://gate.test:8080");
        assert_eq!(url(&["--url", "https://[::1]:8443", "--wss"]), "wss://[::1]:8443");
        assert_eq!(url(&["--url", "https://[::1]", "--wss"]), "wss://[::1]");
        assert_eq!(url(&["--url", "mqtt://gate.test:1883", "--ws"]), "ws://gate.test");
        assert_eq!(url(&["--url", "http://gate.test", "--ws=other.test:81/ws"]), "ws://other.test:81/ws");
    }

    #[test]
    fn coap_goes_to_the_host_of_the_url_unless_another_is_given() {
        assert_eq!(url(&["--url", "coap://gate.test"]), "coap://gate.test");
        assert_eq!(url(&["--url", "http://gate.test:8080/http", "--coap"]), "coap://gate.test");
        assert_eq!(url(&["--url", "https://[::1]:8443", "--coap"]), "coap://[::1]");
        assert_eq!(url(&["--url", "http://gate.test", "--coap=other.test:5000"]), "coap://other.test:5000");
        assert_eq!(url(&["--url", "coap://gate.test:5683", "--coaps"]), "coaps://gate.test");
        assert_eq!(url(&["--url", "http://gate.test", "--coaps=other.test:5000"]), "coaps://other.test:5000");
        assert_eq!(url(&["--url", "coap://gate.test:5683", "--ws"]), "ws://gate.test");
        assert_eq!(url(&["--url", "coaps://gate.test:5684", "--ws"]), "ws://gate.test");
        assert_eq!(url(&["--url", "coap://gate.test:5683", "--mqtt"]), "mqtt://gate.test");
    }

    #[test]
    fn a_certificate_has_a_private_key() {
        for one in ["--cert", "--cert-key"] {
            let error = parse(&[one, "file.pem"]).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::MissingRequiredArgument, "{one}");
        }
        assert!(parse(&["--cert", "file.pem", "--cert-key", "file.pem"]).is_ok());
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let check = |arguments: &[&str], expected: Result<(bool, bool), &str>| {
            let Command::Publish { device, .. } = parse(arguments).unwrap().command else { unreachable!() };
            let found = device.trust().map(|Trust { ca, pair }| (ca.is_some(), pair.is_some()));
            assert_eq!(found, expected.map_err(str::to_owned), "{arguments:?}");
        };
        let (ca, cert) = (["--ca", "ca.pem"], ["--cert", "a.pem", "--cert-key", "a.key"]);
        for scheme in ["http", "ws", "mqtt", "coap"] {
            let url = ["--url", &format!("{scheme}://gate.test")];
            check(&url, Ok((false, false)));
            let no_ca = format!("--ca: over {scheme}:// the server shows no certificate");
            check(&[url, ca].concat(), Err(&no_ca));
            let no_cert = format!("--cert: over {scheme}:// no certificate is shown");
            check(&[&url[..], &cert].concat(), Err(&no_cert));
        }
        for scheme in ["https", "wss", "mqtts", "coaps"] {
            let url = ["--url", &format!("{scheme}://gate.test")];
            check(&[&url[..], &ca, &cert].concat(), Ok((true, true)));
        }
        check(&["--url", "https://gate.test", "--ca", "ca.pem"], Ok((true, false)));
        let no_ca = "--ca: over coaps:// with a key the server shows no certificate";
        check(&["--url", "coaps://gate.test", "--ca", "ca.pem"], Err(no_ca));
        check(&["--url", "https://gate.test", "--coaps", "--ca", "ca.pem"], Err(no_ca));
        check(
            &["--url", "https://gate.test", "--coap", "--ca", "ca.pem"],
            Err("--ca: over coap:// the server shows no certificate"),
        );
    }

    #[test]
    fn one_protocol_is_spoken() {
        for (one, other) in [
            ("--mqtt", "--mqtts"),
            ("--ws", "--wss"),
            ("--mqtt", "--ws=h:1"),
            ("--coap", "--ws"),
            ("--coap=h:1", "--mqtts"),
            ("--coap", "--coaps"),
        ] {
            let error = parse(&[one, other]).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict, "{one} {other}");
        }
    }
}
