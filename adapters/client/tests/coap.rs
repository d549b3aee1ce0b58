//! The CoAP client against a server of a few lines, which says what a real one rarely would.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use coap_lite::option_value::OptionValueU32;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use tidegate_client::{Address, Client, ClientError, Event, Publication, QoS, Status, Subscription};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const ECHO: CoapOption = CoapOption::Unknown(252);
const CHANGED: u8 = 0x44;
const CONTENT: u8 = 0x45;
const CONTINUE: u8 = 0x5f;
const UNAUTHORIZED: u8 = 0x81;
const FORBIDDEN: u8 = 0x83;
const TOO_LARGE: u8 = 0x8d;

/// A server that does what it is told.
struct Server {
    socket: UdpSocket,
    peer: Option<SocketAddr>,
}

/// What a server says.
struct Say(Packet);

impl Say {
    fn new(kind: MessageType, id: u16, code: u8) -> Self {
        let mut packet = Packet::new();
        packet.header.set_type(kind);
        packet.header.message_id = id;
        packet.header.code = MessageClass::from(code);
        Self(packet)
    }

    /// The answer to a request, with its acknowledgement.
    fn piggybacked(request: &Packet, code: u8) -> Self {
        Self::new(MessageType::Acknowledgement, request.header.message_id, code).of(request)
    }

    /// The answer to a request by itself, or a notification.
    fn of(mut self, request: &Packet) -> Self {
        self.0.set_token(request.get_token().to_vec());
        self
    }

    fn number(mut self, option: CoapOption, value: u32) -> Self {
        self.0.add_option_as(option, OptionValueU32(value));
        self
    }

    fn option(mut self, option: CoapOption, value: &[u8]) -> Self {
        self.0.add_option(option, value.to_vec());
        self
    }

    fn payload(mut self, payload: &[u8]) -> Self {
        payload.clone_into(&mut self.0.payload);
        self
    }
}

impl Server {
    async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    async fn start_at(address: &str) -> Self {
        Self { socket: UdpSocket::bind(address).await.unwrap(), peer: None }
    }

    fn device(&self) -> Client {
        let url = format!("coap://{}", self.socket.local_addr().unwrap());
        Client::new(&url, "", "se=cret", None).unwrap()
    }

    async fn hear(&mut self) -> Packet {
        let mut bytes = [0; 4_096];
        let (length, peer) = self.socket.recv_from(&mut bytes).await.unwrap();
        self.peer = Some(peer);
        Packet::from_bytes(&bytes[..length]).unwrap()
    }

    async fn say(&self, Say(packet): Say) {
        self.socket.send_to(&packet.to_bytes_unlimited().unwrap(), self.peer.unwrap()).await.unwrap();
    }

    /// Hears a message without content about another.
    async fn hear_about(&mut self, kind: MessageType, id: u16) {
        let packet = self.hear().await;
        let heard = (packet.header.get_type(), packet.header.code, packet.header.message_id);
        assert_eq!(heard, (kind, MessageClass::Empty, id));
    }

    /// Takes a registration, and answers with this.
    async fn register(&mut self, subscribing: JoinHandle<Result<Subscription, ClientError>>) -> (Subscription, Packet) {
        let request = self.hear().await;
        assert_eq!(number(&request, CoapOption::Observe), Some(0));
        self.say(Say::piggybacked(&request, CONTENT).number(CoapOption::Observe, 10)).await;
        (subscribing.await.unwrap().unwrap(), request)
    }
}

fn number(packet: &Packet, option: CoapOption) -> Option<u32> {
    let OptionValueU32(value) = packet.get_first_option_as(option)?.ok()?;
    Some(value)
}

fn texts(packet: &Packet, option: CoapOption) -> Vec<String> {
    let values = packet.get_option(option).into_iter().flatten();
    values.map(|value| String::from_utf8(value.clone()).unwrap()).collect()
}

fn publishing(device: &Client, payload: &[u8]) -> JoinHandle<Result<(), ClientError>> {
    publishing_with(device, payload, QoS::default())
}

fn publishing_with(device: &Client, payload: &[u8], qos: QoS) -> JoinHandle<Result<(), ClientError>> {
    let (device, publication) = (device.clone(), Publication { qos, ..Publication::json(payload.to_vec()) });
    tokio::spawn(async move { device.publish(&Address::new("lab.telemetry", "a"), publication).await })
}

fn subscribing(device: &Client, subtopic: &str) -> JoinHandle<Result<Subscription, ClientError>> {
    let (device, address) = (device.clone(), Address::new("lab.telemetry", subtopic));
    tokio::spawn(async move { device.subscribe(&address, QoS::default()).await })
}

fn refused<T>(outcome: Result<T, ClientError>) -> String {
    match outcome {
        Err(error @ ClientError::Refused { .. }) => error.to_string(),
        Err(other) => unreachable!("{other:?}"),
        Ok(_) => unreachable!("it was not refused"),
    }
}

async fn next(subscription: &mut Subscription) -> Event {
    subscription.next().await.unwrap().unwrap()
}

async fn payload(subscription: &mut Subscription) -> String {
    String::from_utf8(next(subscription).await.payload).unwrap()
}

#[tokio::test]
async fn a_message_is_confirmable_and_says_who_and_what() {
    let mut server = Server::start().await;
    let device = server.device();
    let publishing_one = publishing(&device, b"1");
    let request = server.hear().await;
    assert_eq!(request.header.get_type(), MessageType::Confirmable);
    assert_eq!(request.header.get_code(), "0.02");
    assert_eq!(texts(&request, CoapOption::UriPath), ["channels", "lab.telemetry", "messages", "a"]);
    assert_eq!(texts(&request, CoapOption::UriQuery), ["auth=se%3Dcret"]);
    assert_eq!(request.get_option(CoapOption::UriHost), None);
    assert_eq!(number(&request, CoapOption::ContentFormat), Some(50));
    assert_eq!((request.payload.as_slice(), request.get_token().len()), (b"1".as_slice(), 8));
    server.say(Say::piggybacked(&request, CHANGED)).await;
    publishing_one.await.unwrap().unwrap();

    let publishing_other = publishing(&device, b"2");
    let other = server.hear().await;
    assert_ne!(other.get_token(), request.get_token());
    assert_ne!(other.header.message_id, request.header.message_id);
    server.say(Say::piggybacked(&other, FORBIDDEN).payload(b"no grant")).await;
    let outcome = publishing_other.await.unwrap();
    assert!(matches!(&outcome, Err(ClientError::Refused { status: Status::Coap(FORBIDDEN), .. })));
    assert_eq!(refused(outcome), "refused with 4.03: no grant");
}

/// It is sent once, and what the server has to say to it is told; where that is nothing, it is sent all the same.
//= RFC7252 4.3
#[tokio::test]
async fn a_message_of_qos_0_is_not_confirmable() {
    let mut server = Server::start().await;
    let device = server.device();
    let said = |request: &Packet, code| Say::new(MessageType::NonConfirmable, 1, code).of(request);
    for (code, expected) in [(Some(CHANGED), ""), (Some(FORBIDDEN), "refused with 4.03: no grant"), (None, "")] {
        let publishing = publishing_with(&device, b"1", QoS::AtMostOnce);
        let request = server.hear().await;
        assert_eq!((request.header.get_type(), &*request.payload), (MessageType::NonConfirmable, b"1".as_slice()));
        assert_eq!(request.get_option(CoapOption::NoResponse), None);
        if let Some(code) = code {
            server.say(said(&request, code).payload(b"no grant")).await;
        }
        let outcome = publishing.await.unwrap();
        assert_eq!(outcome.map_or_else(|error| error.to_string(), |()| String::new()), expected);
    }
    // Nor does a proof that is asked for make it so.
    let publishing = publishing_with(&device, b"2", QoS::AtMostOnce);
    let request = server.hear().await;
    assert_eq!(&*request.payload, b"2", "the one before was sent once");
    server.say(said(&request, UNAUTHORIZED).option(ECHO, b"one")).await;
    let again = server.hear().await;
    assert_eq!(
        (again.header.get_type(), again.get_first_option(ECHO)),
        (MessageType::NonConfirmable, Some(&b"one".to_vec()))
    );
    server.say(said(&again, CHANGED)).await;
    publishing.await.unwrap().unwrap();
}

/// Who has not taken a block has not taken the message.
#[tokio::test]
async fn a_block_of_qos_0_that_nobody_answers_is_told() {
    let mut server = Server::start().await;
    let publishing = publishing_with(&server.device(), &[0; 2_500], QoS::AtMostOnce);
    let request = server.hear().await;
    assert_eq!(request.header.get_type(), MessageType::NonConfirmable);
    let first = Say::new(MessageType::NonConfirmable, 1, CONTINUE).of(&request);
    server.say(first.number(CoapOption::Block1, number(&request, CoapOption::Block1).unwrap())).await;
    server.hear().await;
    let outcome = publishing.await.unwrap();
    assert!(matches!(outcome, Err(ClientError::Connection { operation: "publish", .. })));
}

#[tokio::test]
async fn an_ipv6_address_is_spoken_to() {
    let mut server = Server::start_at("[::1]:0").await;
    let publishing = publishing(&server.device(), b"1");
    let request = server.hear().await;
    assert_eq!(request.get_option(CoapOption::UriHost), None);
    server.say(Say::piggybacked(&request, CHANGED)).await;
    publishing.await.unwrap().unwrap();
}

//= RFC7252 4.2
#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again() {
    let mut server = Server::start().await;
    let publishing = publishing(&server.device(), b"1");
    let first = server.hear().await;
    // What is about another message does not count, nor what is no message at all.
    server.say(Say::new(MessageType::Acknowledgement, first.header.message_id.wrapping_add(1), 0)).await;
    server.say(Say::piggybacked(&first, CHANGED).option(CoapOption::Unknown(0x7ff), b"who knows?")).await;
    server.socket.send_to(b"\x00\x01", server.peer.unwrap()).await.unwrap();
    let again = server.hear().await;
    assert_eq!(first.to_bytes().unwrap(), again.to_bytes().unwrap());
    server.say(Say::piggybacked(&again, CHANGED)).await;
    publishing.await.unwrap().unwrap();
}

//= RFC7252 5.2.2
#[tokio::test]
async fn a_response_by_itself_is_acknowledged_as_often_as_it_comes() {
    let mut server = Server::start().await;
    let device = server.device();
    let publishing_one = publishing(&device, b"1");
    let request = server.hear().await;
    server.say(Say::new(MessageType::Acknowledgement, request.header.message_id, 0)).await;
    server.say(Say::new(MessageType::Confirmable, 7, CHANGED).of(&request)).await;
    server.hear_about(MessageType::Acknowledgement, 7).await;
    publishing_one.await.unwrap().unwrap();

    server.say(Say::new(MessageType::Confirmable, 7, CHANGED).of(&request)).await;
    server.say(Say::new(MessageType::Confirmable, 8, CHANGED).of(&request)).await;
    let publishing_other = publishing(&device, b"2");
    let mut heard = Vec::new();
    let mut other = None;
    while heard.len() < 2 || other.is_none() {
        let packet = server.hear().await;
        if packet.header.code == MessageClass::Empty {
            heard.push((packet.header.message_id, packet.header.get_type()));
        } else {
            other = Some(packet);
        }
    }
    assert_eq!(heard, [(7, MessageType::Acknowledgement), (8, MessageType::Reset)]);
    // Before its acknowledgement, and not to be acknowledged itself.
    server.say(Say::new(MessageType::NonConfirmable, 9, CHANGED).of(&other.unwrap())).await;
    publishing_other.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reset_and_a_port_where_nobody_listens_are_told_at_once() {
    let mut server = Server::start().await;
    let device = server.device();
    let publishing_one = publishing(&device, b"1");
    let request = server.hear().await;
    server.say(Say::new(MessageType::Reset, request.header.message_id, 0)).await;
    let outcome = publishing_one.await.unwrap();
    assert!(matches!(outcome, Err(ClientError::Connection { operation: "publish", .. })));

    drop(server);
    let outcome = publishing(&device, b"1").await.unwrap();
    assert!(matches!(outcome, Err(ClientError::Connection { operation: "publish", .. })));
}

//= RFC9175 2.3
#[tokio::test]
async fn a_proof_is_given_when_the_server_asks_for_it() {
    let mut server = Server::start().await;
    let publishing = publishing(&server.device(), b"1");
    for proof in [None, Some(b"one".to_vec()), Some(b"two".to_vec())] {
        let request = server.hear().await;
        assert_eq!(request.get_first_option(ECHO), proof.as_ref());
        let asked: &[u8] = if proof.is_none() { b"one" } else { b"two" };
        server.say(Say::piggybacked(&request, UNAUTHORIZED).option(ECHO, asked)).await;
    }
    // It does not go on for ever.
    assert_eq!(refused(publishing.await.unwrap()), "refused with 4.01: no reason given");
}

//= RFC7959 2.3, 2.5, 2.9.3
#[tokio::test]
async fn a_large_payload_goes_in_blocks_as_large_as_the_server_takes() {
    let mut server = Server::start().await;
    let body: Vec<u8> = (0..2_500_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let device = server.device();
    let publishing_one = publishing(&device, &body);
    let (mut taken, mut said) = (Vec::new(), Vec::new());
    for code in [TOO_LARGE, CONTINUE, CONTINUE, CONTINUE, CONTINUE, CHANGED] {
        let request = server.hear().await;
        let block = number(&request, CoapOption::Block1).unwrap();
        said.push((block >> 4, block & 8 != 0, block & 7, number(&request, CoapOption::Size1)));
        if code != TOO_LARGE {
            taken.extend_from_slice(&request.payload);
        }
        // Of 512 bytes each.
        server.say(Say::piggybacked(&request, code).number(CoapOption::Block1, block & !7 | 5)).await;
    }
    publishing_one.await.unwrap().unwrap();
    let first = [(0, true, 6, Some(2_500)), (0, true, 5, Some(2_500))];
    assert_eq!(
        said,
        [&first[..], &[(1, true, 5, None), (2, true, 5, None), (3, true, 5, None), (4, false, 5, None)]].concat()
    );
    assert_eq!(taken, body);

    let publishing_other = publishing(&device, &body);
    let request = server.hear().await;
    server.say(Say::piggybacked(&request, CHANGED)).await;
    assert_eq!(refused(publishing_other.await.unwrap()), "refused with 2.04: the server took a part for the whole");
}

//= RFC7641 3.4, 3.5
#[tokio::test]
async fn newer_notifications_arrive_and_older_ones_do_not() {
    let mut server = Server::start().await;
    let subscribing = subscribing(&server.device(), "a");
    let (mut subscription, request) = server.register(subscribing).await;
    let notify = |kind, id, sequence: u32, payload: &str| {
        let say = Say::new(kind, id, CONTENT).of(&request).number(CoapOption::Observe, sequence);
        say.number(CoapOption::ContentFormat, 110).payload(payload.as_bytes())
    };
    server.say(notify(MessageType::NonConfirmable, 1, 12, "twelve")).await;
    server.say(notify(MessageType::NonConfirmable, 2, 11, "eleven")).await;
    server.say(notify(MessageType::Confirmable, 3, 13, "thirteen")).await;
    server.say(notify(MessageType::Confirmable, 3, 13, "thirteen")).await;
    server.hear_about(MessageType::Acknowledgement, 3).await;
    server.hear_about(MessageType::Acknowledgement, 3).await;
    let event = next(&mut subscription).await;
    assert_eq!((event.kind.as_str(), event.payload.as_slice()), ("message", b"twelve".as_slice()));
    assert_eq!(event.content_type.as_deref(), Some("application/senml+json"));
    assert_eq!(event.topic.as_deref(), Some("channels/lab.telemetry/messages/a"));
    assert_eq!((event.publisher, event.id), (None, None));
    assert_eq!(payload(&mut subscription).await, "thirteen");

    let last = Say::new(MessageType::Confirmable, 4, FORBIDDEN).of(&request).payload(b"withdrawn");
    server.say(last).await;
    server.hear_about(MessageType::Acknowledgement, 4).await;
    let end = next(&mut subscription).await;
    assert_eq!((end.kind.as_str(), end.payload.as_slice()), ("end", b"4.03 withdrawn".as_slice()));
    assert_eq!(subscription.next().await.unwrap(), None);
}

#[tokio::test]
async fn what_holds_at_first_arrives_and_a_filter_names_no_topic() {
    let mut server = Server::start().await;
    let subscribing = subscribing(&server.device(), "#");
    let request = server.hear().await;
    server.say(Say::piggybacked(&request, CONTENT).number(CoapOption::Observe, 1).payload(b"kept")).await;
    let event = next(&mut subscribing.await.unwrap().unwrap()).await;
    assert_eq!((event.payload.as_slice(), event.topic, event.content_type), (b"kept".as_slice(), None, None));
}

#[tokio::test]
async fn a_server_may_refuse_to_notify() {
    let mut server = Server::start().await;
    let subscribing_one = subscribing(&server.device(), "a");
    let request = server.hear().await;
    server.say(Say::piggybacked(&request, CONTENT).payload(b"1")).await;
    assert_eq!(refused(subscribing_one.await.unwrap()), "refused with 2.05: the server does not notify of changes");

    let subscribing_other = subscribing(&server.device(), "a");
    let request = server.hear().await;
    server.say(Say::piggybacked(&request, UNAUTHORIZED).payload(b"no valid credential")).await;
    assert_eq!(refused(subscribing_other.await.unwrap()), "refused with 4.01: no valid credential");
}

//= RFC7641 3.6
#[tokio::test]
async fn who_leaves_says_so_and_turns_away_what_still_comes() {
    let mut server = Server::start().await;
    let subscribing = subscribing(&server.device(), "a");
    let (subscription, request) = server.register(subscribing).await;
    drop(subscription);
    let farewell = server.hear().await;
    assert_eq!((farewell.header.get_code().as_str(), number(&farewell, CoapOption::Observe)), ("0.01", Some(1)));
    assert_eq!(farewell.get_token(), request.get_token());
    assert_eq!(texts(&farewell, CoapOption::UriPath), texts(&request, CoapOption::UriPath));
    let late = Say::new(MessageType::NonConfirmable, 5, CONTENT).of(&request).number(CoapOption::Observe, 11);
    server.say(late).await;
    server.hear_about(MessageType::Reset, 5).await;
    // It was not answered.
    let again = server.hear().await;
    assert_eq!(again.header.message_id, farewell.header.message_id);
    server.say(Say::piggybacked(&again, CONTENT)).await;
}

//= RFC7959 2.6
#[tokio::test]
async fn a_large_notification_is_fetched_and_nothing_is_missed_meanwhile() {
    let mut server = Server::start().await;
    let subscribing = subscribing(&server.device(), "a");
    let (mut subscription, request) = server.register(subscribing).await;
    let first = |id, sequence| {
        let say = Say::new(MessageType::NonConfirmable, id, CONTENT).of(&request).number(CoapOption::Observe, sequence);
        // The first of 16 bytes each.
        say.option(CoapOption::ETag, b"v1").number(CoapOption::Block2, 0b1000).payload(b"0123456789abcdef")
    };
    server.say(first(1, 11)).await;
    let fetch = server.hear().await;
    assert_eq!((number(&fetch, CoapOption::Block2), fetch.get_option(CoapOption::Observe)), (Some(0b1_0000), None));
    assert_ne!(fetch.get_token(), request.get_token());
    let meanwhile = Say::new(MessageType::Confirmable, 2, CONTENT).of(&request).number(CoapOption::Observe, 12);
    server.say(meanwhile.payload(b"newer")).await;
    server.hear_about(MessageType::Acknowledgement, 2).await;
    let rest = Say::piggybacked(&fetch, CONTENT).option(CoapOption::ETag, b"v1").number(CoapOption::Block2, 0b1_0000);
    server.say(rest.payload(b"ghi")).await;
    assert_eq!(payload(&mut subscription).await, "0123456789abcdefghi");
    assert_eq!(payload(&mut subscription).await, "newer");

    // What has changed before it was fetched is not told in pieces.
    server.say(first(3, 13)).await;
    let fetch = server.hear().await;
    let other = Say::piggybacked(&fetch, CONTENT).option(CoapOption::ETag, b"v2").number(CoapOption::Block2, 0b1_0000);
    server.say(other.payload(b"xyz")).await;
    let newest = Say::new(MessageType::NonConfirmable, 4, CONTENT).of(&request).number(CoapOption::Observe, 14);
    server.say(newest.payload(b"newest")).await;
    assert_eq!(payload(&mut subscription).await, "newest");
}

//= RFC7641 3.3.1
#[tokio::test]
async fn a_server_that_is_silent_for_too_long_is_asked_again() {
    let mut server = Server::start().await;
    let subscribing = subscribing(&server.device(), "a");
    let (mut subscription, request) = server.register(subscribing).await;
    let notify = |id, sequence: u32, payload: &[u8]| {
        let say = Say::new(MessageType::NonConfirmable, id, CONTENT).of(&request).number(CoapOption::Observe, sequence);
        // It holds for no time at all.
        say.number(CoapOption::MaxAge, 0).payload(payload)
    };
    server.say(notify(1, 11, b"one")).await;
    assert_eq!(payload(&mut subscription).await, "one");
    let again = server.hear().await;
    assert_eq!((again.get_token(), number(&again, CoapOption::Observe)), (request.get_token(), Some(0)));
    // What is known is not told again.
    server.say(Say::piggybacked(&again, CONTENT).number(CoapOption::Observe, 12).payload(b"one")).await;
    server.say(notify(2, 13, b"two")).await;
    assert_eq!(payload(&mut subscription).await, "two");
}
