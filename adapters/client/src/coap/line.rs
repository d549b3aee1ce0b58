//! One link to one server, and what makes messages over it sure: they are sent again, acknowledged, and told apart.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, ResponseType};
use rustls::crypto::SecureRandom;
use rustls::crypto::aws_lc_rs::default_provider;

use super::dtls::{DtlsConfig, Failure};
use super::link::{DATAGRAM_BYTES_MAX, Link};
use super::wire::{ECHO, Patience, about, datagram, is_response, is_understood};
use crate::error::ClientError;
use crate::http::PUBLISH_MAX;

/// How long a response may take; more than the server's own bound. It comes before the last patience ends.
const EXCHANGE_MAX: Duration = PUBLISH_MAX;
/// How long one of several addresses of a server may take to show that it is there.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// How long an answer to what is not to be acknowledged is waited for; then it is as good as lost.
const REMARK_MAX: Duration = Duration::from_secs(2);
/// How long the only one may take over DTLS: until it was asked four times.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often a request is repeated because the server asks for a proof of where it comes from.
const PROOFS_MAX: usize = 2;
/// Notifications that wait while something else is waited for; the oldest go first.
const INBOX_MAX: usize = 64;
/// Bytes of a token.
const TOKEN_BYTES: usize = 8;

/// A link, of which one exchange makes use at a time.
//= RFC7252 4.7
pub(super) struct Line {
    link: Arc<Link>,
    random: &'static dyn SecureRandom,
    next_id: u16,
    buffer: Box<[u8]>,
    /// The token of an observation, whose notifications are kept.
    observed: Option<Vec<u8>>,
    inbox: VecDeque<Packet>,
    /// The last message that was acknowledged: its acknowledgement may have been lost.
    acknowledged: Option<u16>,
}

/// How surely a request is to arrive, and what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// It is sent again until there is a sign that it is there.
    Sure,
    /// The same, and it is sent already.
    Begun,
    /// It is sent once.
    Once,
}

/// Which exchange a message belongs to.
struct Exchange<'a> {
    id: u16,
    token: &'a [u8],
    /// Whether it ends the observation of its token: then notifications do not answer it.
    is_farewell: bool,
}

/// What a message means to an exchange.
enum Meaning {
    Response,
    /// The request is there, and the response comes by itself.
    Acknowledged,
    /// The server does not know what to do with the request.
    Reset,
    /// It belongs to something else.
    Other,
}

impl Exchange<'_> {
    //= RFC7252 4.2, 5.2.1, 5.2.2, 5.3.2
    fn meaning(&self, packet: &Packet) -> Meaning {
        let is_about = packet.header.message_id == self.id;
        let is_empty = packet.header.code == MessageClass::Empty;
        let answers = is_response(packet) && packet.get_token() == self.token;
        match packet.header.get_type() {
            MessageType::Acknowledgement if is_about && is_empty => Meaning::Acknowledged,
            MessageType::Acknowledgement if is_about && answers => Meaning::Response,
            MessageType::Reset if is_about => Meaning::Reset,
            MessageType::Confirmable | MessageType::NonConfirmable
                if answers && !(self.is_farewell && packet.get_option(CoapOption::Observe).is_some()) =>
            {
                Meaning::Response
            }
            MessageType::Confirmable
            | MessageType::NonConfirmable
            | MessageType::Acknowledgement
            | MessageType::Reset => Meaning::Other,
        }
    }
}

impl Line {
    /// Of the server at HOST and a port; under DTLS where there is something to show and to trust.
    pub(super) async fn open(
        host: &str,
        port: u16,
        dtls: Option<&DtlsConfig>,
        operation: &'static str,
    ) -> Result<Self, ClientError> {
        let found = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<_> = found.map_err(|error| broken(operation, error))?.collect();
        let Some(dtls) = dtls else {
            return Self::open_clear(&addresses).await.map_err(|error| broken(operation, error));
        };
        let outcome = Self::open_dtls(&addresses, dtls).await;
        outcome.map_err(|failure| dtls.error(failure, operation, host, port))
    }

    async fn open_clear(addresses: &[SocketAddr]) -> io::Result<Self> {
        let mut outcome = Err(no_address());
        for address in addresses {
            let mut line = match Link::open(*address).await {
                Ok(link) => Self::over(link),
                Err(error) => {
                    outcome = outcome.or(Err(error));
                    continue;
                }
            };
            // Nothing but an answer tells which of them is the server's.
            if addresses.len() == 1 {
                return Ok(line);
            }
            match line.probe().await {
                Ok(()) => return Ok(line),
                Err(error) => outcome = outcome.or(Err(error)),
            }
        }
        outcome
    }

    async fn open_dtls(addresses: &[SocketAddr], config: &DtlsConfig) -> Result<Self, Failure> {
        let silence_max = if addresses.len() == 1 { SILENCE_MAX } else { PROBE_MAX };
        let mut outcome = Err(Failure::Socket(no_address()));
        for address in addresses {
            match Link::open_dtls(*address, config, silence_max).await {
                Ok(link) => return Ok(Self::over(link)),
                Err(failure @ (Failure::Silence | Failure::Socket(_))) => outcome = outcome.or(Err(failure)),
                // Somebody is there, and it is not another that would know the device.
                Err(failure) => return Err(failure),
            }
        }
        outcome
    }

    fn over(link: Link) -> Self {
        let mut line = Self {
            link: Arc::new(link),
            random: default_provider().secure_random,
            next_id: 0,
            buffer: vec![0; DATAGRAM_BYTES_MAX].into(),
            observed: None,
            inbox: VecDeque::new(),
            acknowledged: None,
        };
        line.next_id = u16::from_be_bytes(line.random());
        line
    }

    /// Whether anybody is there.
    //= RFC7252 4.3
    async fn probe(&mut self) -> io::Result<()> {
        let ping = about(MessageType::Confirmable, self.id());
        let bytes = ping.to_bytes().map_err(|_| io::Error::other("no ping"))?;
        self.link.send(&bytes).await?;
        tokio::time::timeout(PROBE_MAX, self.packet()).await.map_err(|_| silence())?.map(drop)
    }

    /// The link, for who has to say something at once.
    pub(super) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).expect("the system has randomness");
        bytes
    }

    /// A number that nobody can foresee.
    pub(super) fn chance(&self) -> u8 {
        let [chance] = self.random();
        chance
    }

    /// A token that nobody can guess.
    //= RFC7252 5.3.1
    pub(super) fn token(&self) -> Vec<u8> {
        self.random::<TOKEN_BYTES>().to_vec()
    }

    /// The id of the next message.
    pub(super) const fn id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// From now on messages with this token are kept, whatever else is waited for.
    pub(super) fn observe(&mut self, token: Vec<u8>) {
        self.observed = Some(token);
    }

    /// Asks and waits for the response. One without a token gets one.
    pub(super) async fn ask(&mut self, request: Packet, operation: &'static str) -> Result<Packet, ClientError> {
        let response = self.converse(request, Sending::Sure, operation).await?;
        response.ok_or_else(|| broken(operation, silence()))
    }

    /// Says it once, without a sign that it is there, and waits a while for what the server may have to say to it.
    //= RFC7252 4.3
    pub(super) async fn mention(
        &mut self,
        mut request: Packet,
        operation: &'static str,
    ) -> Result<Option<Packet>, ClientError> {
        request.header.set_type(MessageType::NonConfirmable);
        self.converse(request, Sending::Once, operation).await
    }

    async fn converse(
        &mut self,
        mut request: Packet,
        sending: Sending,
        operation: &'static str,
    ) -> Result<Option<Packet>, ClientError> {
        if request.get_token().is_empty() {
            request.set_token(self.token());
        }
        let mut proofs = 0;
        loop {
            request.header.message_id = self.id();
            let bytes = datagram(&request, self.link.message_bytes_max())?;
            // An error that an earlier message met is none of this one's.
            self.link.forget_errors();
            let exchange = Exchange { id: request.header.message_id, token: request.get_token(), is_farewell: false };
            let response = self.exchange(&bytes, &exchange, sending).await.map_err(|error| broken(operation, error))?;
            let Some(response) = response else { return Ok(None) };
            //= RFC9175 2.3
            let is_challenge = response.header.code == MessageClass::Response(ResponseType::Unauthorized);
            let echo = response.get_first_option(ECHO).filter(|_| is_challenge && proofs < PROOFS_MAX);
            let Some(echo) = echo else { return Ok(Some(response)) };
            request.clear_option(ECHO);
            request.add_option(ECHO, echo.clone());
            proofs += 1;
        }
    }

    /// Waits until the server has this, which is sent already, and ends the observation of its token.
    pub(super) async fn bid_farewell(&mut self, bytes: &[u8]) {
        let Ok(packet) = Packet::from_bytes(bytes) else { return };
        self.observed = None;
        let exchange = Exchange { id: packet.header.message_id, token: packet.get_token(), is_farewell: true };
        // Where it does not come through, the server finds out by itself.
        let _ = self.exchange(bytes, &exchange, Sending::Begun).await;
    }

    /// The response; nothing where none is owed and none comes.
    async fn exchange(
        &mut self,
        bytes: &[u8],
        exchange: &Exchange<'_>,
        sending: Sending,
    ) -> io::Result<Option<Packet>> {
        if sending == Sending::Once {
            self.link.send(bytes).await?;
            return match tokio::time::timeout(REMARK_MAX, self.response(exchange)).await {
                Ok(response) => response.map(Some),
                Err(_elapsed) => Ok(None),
            };
        }
        let transmission = self.transmit(bytes, exchange, sending == Sending::Begun);
        tokio::time::timeout(EXCHANGE_MAX, transmission).await.map_err(|_| silence())?.map(Some)
    }

    /// Sends a message, and again until there is a sign that it is there.
    //= RFC7252 4.2
    async fn transmit(&mut self, bytes: &[u8], exchange: &Exchange<'_>, mut is_sent: bool) -> io::Result<Packet> {
        for patience in Patience::new(self.chance()) {
            if !std::mem::take(&mut is_sent) {
                self.link.send(bytes).await?;
            }
            match tokio::time::timeout(patience, self.answer(exchange)).await {
                Ok(Ok(Some(response))) => return Ok(response),
                //= RFC7252 5.2.2
                Ok(Ok(None)) => return self.response(exchange).await,
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => {}
            }
        }
        Err(silence())
    }

    /// The response, whatever acknowledges the request before.
    async fn response(&mut self, exchange: &Exchange<'_>) -> io::Result<Packet> {
        loop {
            if let Some(response) = self.answer(exchange).await? {
                return Ok(response);
            }
        }
    }

    /// The response, or nothing when the request is acknowledged.
    async fn answer(&mut self, exchange: &Exchange<'_>) -> io::Result<Option<Packet>> {
        loop {
            let packet = self.packet().await?;
            match exchange.meaning(&packet) {
                Meaning::Response if is_understood(&packet) => {
                    self.acknowledge(&packet);
                    return Ok(Some(packet));
                }
                Meaning::Acknowledged => return Ok(None),
                Meaning::Reset => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the server rejects the message"));
                }
                Meaning::Response | Meaning::Other => self.sort(packet),
            }
        }
    }

    /// Waits for the next notification. Nothing is lost when the future is dropped.
    pub(super) async fn notification(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.inbox.pop_front() {
                return Ok(packet);
            }
            let packet = self.packet().await?;
            self.sort(packet);
        }
    }

    /// Keeps a notification, and turns away what nobody waits for.
    //= RFC7641 3.5, 3.6
    fn sort(&mut self, packet: Packet) {
        let is_observed = self.observed.as_deref() == Some(packet.get_token());
        if is_observed && is_response(&packet) && is_understood(&packet) {
            self.acknowledge(&packet);
            if self.inbox.len() >= INBOX_MAX {
                self.inbox.pop_front();
            }
            self.inbox.push_back(packet);
            return;
        }
        //= RFC7252 4.2, 4.3
        match packet.header.get_type() {
            MessageType::Confirmable if self.acknowledged == Some(packet.header.message_id) => {
                self.acknowledge(&packet);
            }
            MessageType::Confirmable => self.say(MessageType::Reset, packet.header.message_id),
            // An observation that is over may not know.
            MessageType::NonConfirmable if is_response(&packet) => {
                self.say(MessageType::Reset, packet.header.message_id);
            }
            MessageType::NonConfirmable | MessageType::Acknowledgement | MessageType::Reset => {}
        }
    }

    fn acknowledge(&mut self, packet: &Packet) {
        if packet.header.get_type() == MessageType::Confirmable {
            self.acknowledged = Some(packet.header.message_id);
            self.say(MessageType::Acknowledgement, packet.header.message_id);
        }
    }

    fn say(&self, kind: MessageType, id: u16) {
        if let Ok(bytes) = about(kind, id).to_bytes() {
            // One that is lost is asked for again.
            self.link.try_send(&bytes);
        }
    }

    /// The next message that can be read.
    async fn packet(&mut self) -> io::Result<Packet> {
        loop {
            let bytes = self.link.receive(&mut self.buffer).await?;
            //= RFC7252 3
            match Packet::from_bytes(&self.buffer[..bytes]) {
                Ok(packet) if packet.header.get_version() == 1 => return Ok(packet),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the host has no address")
}

pub(super) fn silence() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")
}

pub(super) fn broken(operation: &'static str, error: io::Error) -> ClientError {
    ClientError::Connection { operation, source: Box::new(error) }
}
