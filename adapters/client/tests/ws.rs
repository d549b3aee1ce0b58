//! The WebSocket client against a server of a few lines, which says what a real one rarely would.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tidegate_client::{Address, Client, ClientError, Event, Publication, QoS, Status, Subscription};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// A server that does what it is told.
struct Server {
    listener: TcpListener,
}

/// The server's end of a socket, and the handshake that it saw.
struct Peer {
    stream: WebSocketStream<TcpStream>,
    request: Request,
}

impl Server {
    async fn start(address: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self { listener: TcpListener::bind(address).await.unwrap() }
    }

    fn device(&self, prefix: &str) -> Client {
        let url = format!("ws://{}{prefix}", self.listener.local_addr().unwrap());
        Client::new(&url, "lab.sensor", "secret", None).unwrap()
    }

    /// Takes the next socket, and says that it may do everything.
    async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut seen = None;
        #[expect(clippy::result_large_err, reason = "the library asks for it")]
        let callback = |request: &Request, mut response: Response| {
            seen = Some(request.clone());
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("tidegate.v1"));
            Ok::<_, ErrorResponse>(response)
        };
        let stream = accept_hdr_async(stream, callback).await.unwrap();
        let mut peer = Peer { stream, request: seen.unwrap() };
        peer.say(json!({"type": "ready", "publish": true, "subscribe": true})).await;
        peer
    }

    /// Takes the next connection, reads a request and answers with these bytes, one piece after the other.
    async fn answer(&self, pieces: &[&str]) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}

impl Peer {
    async fn say(&mut self, frame: Value) {
        self.stream.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let Message::Text(text) = self.stream.next().await.unwrap().unwrap() else { unreachable!("no text") };
        serde_json::from_str(&text).unwrap()
    }

    async fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.stream.send(Message::Close(Some(frame))).await.unwrap();
        // The client's answer, and no frame before it.
        assert!(matches!(self.stream.next().await, Some(Ok(Message::Close(Some(_))))));
    }
}

fn publishing(device: &Client, subtopic: &str, payload: &str) -> JoinHandle<Result<(), ClientError>> {
    let (device, address, payload) = (device.clone(), Address::new("lab.telemetry", subtopic), payload.to_owned());
    tokio::spawn(async move { device.publish(&address, Publication::json(payload)).await })
}

fn subscribing(device: &Client) -> JoinHandle<Result<Subscription, ClientError>> {
    let device = device.clone();
    tokio::spawn(async move { device.subscribe(&Address::new("lab.telemetry", "#"), QoS::default()).await })
}

fn refused<T>(outcome: Result<T, ClientError>) -> (Status, String) {
    match outcome {
        Err(ClientError::Refused { status, detail }) => (status, detail),
        Err(other) => unreachable!("{other:?}"),
        Ok(_) => unreachable!("accepted"),
    }
}

fn word(code: &str) -> Status {
    Status::WebSocket(code.to_owned())
}

#[tokio::test]
async fn a_device_shows_its_key_and_waits_for_the_answer() {
    let server = Server::start("127.0.0.1:0").await;
    let sent = publishing(&server.device("/ws/"), "engine/oil", "1");
    let mut peer = server.accept().await;
    assert_eq!(peer.request.uri().path(), "/ws/channels/lab.telemetry/messages/engine/oil");
    let header = |name: &str| peer.request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("authorization"), "Basic bGFiLnNlbnNvcjpzZWNyZXQ=");
    assert_eq!(header("host"), server.listener.local_addr().unwrap().to_string());
    assert_eq!(header("sec-websocket-protocol"), "tidegate.v1");
    let frame = peer.hear().await;
    assert_eq!((&frame["contentType"], &frame["payload"]), (&json!("application/json"), &json!("1")));
    assert!(!sent.is_finished());
    peer.say(json!({"type": "accepted", "id": frame["id"]})).await;
    sent.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_ipv6_address_is_spoken_to_and_named_in_brackets() {
    let server = Server::start("[::1]:0").await;
    let sent = subscribing(&server.device(""));
    let peer = server.accept().await;
    assert_eq!(peer.request.uri().path(), "/channels/lab.telemetry/messages/%23");
    assert!(peer.request.headers()["host"].to_str().unwrap().starts_with("[::1]:"));
    sent.await.unwrap().unwrap();
}

#[tokio::test]
async fn messages_of_an_address_share_a_socket_and_each_has_its_own_answer() {
    let server = Server::start("127.0.0.1:0").await;
    let device = server.device("");
    let first = publishing(&device, "a", "1");
    let mut peer = server.accept().await;
    let one = peer.hear().await;
    let second = publishing(&device, "a", "2");
    let two = peer.hear().await;
    assert_ne!(one["id"], two["id"]);
    // What others publish there is nothing to who publishes.
    peer.say(json!({"type": "message", "topic": "channels/lab.telemetry/messages", "payload": "x"})).await;
    peer.say(json!({"type": "refused", "id": two["id"], "code": "content-type-not-admitted", "detail": "no"})).await;
    assert_eq!(refused(second.await.unwrap()), (word("content-type-not-admitted"), "no".to_owned()));
    assert!(!first.is_finished());
    peer.say(json!({"type": "accepted", "id": one["id"]})).await;
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_under_way_when_it_broke_is_an_error_and_what_comes_next_opens_a_new_one() {
    let server = Server::start("127.0.0.1:0").await;
    let device = server.device("");
    let sent = publishing(&device, "", "1");
    let mut peer = server.accept().await;
    assert_eq!(peer.hear().await["payload"], "1");
    drop(peer);
    let Err(ClientError::Connection { operation, .. }) = sent.await.unwrap() else { unreachable!() };
    assert_eq!(operation, "publish");

    let sent = publishing(&device, "", "2");
    let mut peer = server.accept().await;
    let frame = peer.hear().await;
    assert_eq!(frame["payload"], "2", "the first must not be repeated");
    peer.close(1012, "this server ends").await;
    assert_eq!(refused(sent.await.unwrap()), (Status::Closed(1012), "this server ends".to_owned()));

    let sent = publishing(&device, "", "3");
    let mut peer = server.accept().await;
    let frame = peer.hear().await;
    peer.say(json!({"type": "accepted", "id": frame["id"]})).await;
    sent.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refusal_without_a_number_is_about_all() {
    let server = Server::start("127.0.0.1:0").await;
    let sent = publishing(&server.device(""), "", "1");
    let mut peer = server.accept().await;
    peer.hear().await;
    peer.say(json!({"type": "refused", "id": null, "code": "payload-too-large", "detail": "no"})).await;
    assert_eq!(refused(sent.await.unwrap()).0, word("payload-too-large"));
}

#[tokio::test]
async fn a_device_answers_pings_and_takes_leave_in_order() {
    let server = Server::start("127.0.0.1:0").await;
    let device = server.device("");
    let sent = publishing(&device, "", "1");
    let mut peer = server.accept().await;
    let frame = peer.hear().await;
    peer.say(json!({"type": "accepted", "id": frame["id"]})).await;
    sent.await.unwrap().unwrap();
    peer.stream.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(peer.stream.next().await.unwrap().unwrap(), Message::Pong("there?".into()));

    let late = publishing(&device, "", "2");
    let frame = peer.hear().await;
    let closing = tokio::spawn(device.close());
    // A server answers nothing after a close frame.
    peer.stream.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(peer.stream.next().await.unwrap().unwrap(), Message::Pong("there?".into()));
    peer.say(json!({"type": "accepted", "id": frame["id"]})).await;
    late.await.unwrap().unwrap();
    let Message::Close(Some(close)) = peer.stream.next().await.unwrap().unwrap() else { unreachable!() };
    assert_eq!(u16::from(close.code), 1000);
    // Reading it has the answer to it ready; what is read or flushed next sends it.
    assert!(!closing.is_finished());
    assert!(peer.stream.next().await.is_none());
    closing.await.unwrap();
}

#[tokio::test]
async fn of_many_addresses_one_takes_leave_for_the_next() {
    let server = Server::start("127.0.0.1:0").await;
    let device = server.device("");
    let mut peers = Vec::new();
    for number in 10..10 + 65 {
        let sent = publishing(&device, &number.to_string(), "1");
        let mut peer = server.accept().await;
        let frame = peer.hear().await;
        peer.say(json!({"type": "accepted", "id": frame["id"]})).await;
        sent.await.unwrap().unwrap();
        peers.push(peer);
    }
    assert!(matches!(peers[0].stream.next().await, Some(Ok(Message::Close(Some(_))))));
    // The others are there still.
    let sent = publishing(&device, "11", "2");
    let frame = peers[1].hear().await;
    peers[1].say(json!({"type": "accepted", "id": frame["id"]})).await;
    sent.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_handshake_is_refused_in_the_words_of_its_problem() {
    let server = Server::start("127.0.0.1:0").await;
    let head = "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/problem+json\r\ncontent-length: 20\r\n\r\n";
    let sent = publishing(&server.device(""), "", "1");
    server.answer(&[head, r#"{"detail":"#, r#""no key!"}"#]).await;
    assert_eq!(refused(sent.await.unwrap()), (Status::Http(401), "no key!".to_owned()));
    let subscribed = subscribing(&server.device(""));
    server.answer(&[head, r#"{"detail":"no key!"}"#]).await;
    assert_eq!(refused(subscribed.await.unwrap()), (Status::Http(401), "no key!".to_owned()));
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_no_server() {
    let server = Server::start("127.0.0.1:0").await;
    let device = server.device("");
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: subscribed\n\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-protocol: tidegate.v1\r\nsec-websocket-accept: wrong\r\n\r\n",
    ] {
        let sent = publishing(&device, "", "1");
        server.answer(&[head]).await;
        assert!(matches!(sent.await.unwrap(), Err(ClientError::Connection { .. })), "{head}");
    }
}

#[tokio::test]
async fn a_subscription_yields_messages_gaps_and_why_it_ended() {
    let server = Server::start("127.0.0.1:0").await;
    let subscribed = subscribing(&server.device(""));
    let mut peer = server.accept().await;
    let mut subscription = subscribed.await.unwrap().unwrap();
    peer.say(json!({"type": "message", "id": "1", "topic": "channels/lab.telemetry/messages/a", "payload": "x"})).await;
    peer.say(json!({"type": "message", "id": "2", "payloadBase64": "/w=="})).await;
    peer.say(json!({"type": "gap"})).await;
    let mut next = async || subscription.next().await.unwrap();
    let event = next().await.unwrap();
    assert_eq!(event.topic.as_deref(), Some("channels/lab.telemetry/messages/a"));
    assert_eq!((event.kind.as_str(), event.payload), ("message", b"x".to_vec()));
    assert_eq!(next().await.unwrap().payload, [0xff]);
    assert_eq!(next().await.unwrap().kind, "gap");
    peer.close(1008, "right withdrawn").await;
    let end = Event { kind: "end".to_owned(), payload: b"1008 right withdrawn".to_vec(), ..Event::default() };
    assert_eq!(next().await, Some(end));
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_subscription_that_breaks_is_an_error_and_one_that_is_dropped_takes_leave() {
    let server = Server::start("127.0.0.1:0").await;
    let device = server.device("");
    let subscribed = subscribing(&device);
    drop(server.accept().await);
    let mut subscription = subscribed.await.unwrap().unwrap();
    assert!(matches!(subscription.next().await, Err(ClientError::Connection { operation: "receive", .. })));

    let subscribed = subscribing(&device);
    let mut peer = server.accept().await;
    drop(subscribed.await.unwrap().unwrap());
    assert!(matches!(peer.stream.next().await, Some(Ok(Message::Close(Some(_))))));

    let subscribed = subscribing(&device);
    let mut peer = server.accept().await;
    let mut subscription = subscribed.await.unwrap().unwrap();
    peer.say(json!({"type": "message"})).await;
    assert!(matches!(subscription.next().await, Err(ClientError::Malformed(_))));
}

#[test]
fn a_url_names_a_server_and_maybe_a_prefix() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    for url in ["ws://localhost", "ws://localhost:8080/", "ws://[::1]/ws", "ws://10.0.0.1:80/a/b/"] {
        assert_eq!(Client::new(url, "", "secret", None).ok().map(|device| device.face()), Some("ws"), "{url}");
    }
    for url in ["ws:/localhost", "ws://", "ws://:80", "ws://host:99999", "ws://host/?a", "ws://host#a", "wsx://host"] {
        assert!(matches!(Client::new(url, "", "secret", None), Err(ClientError::Setup(_))), "{url}");
    }
    let not_pem = Client::new("wss://localhost", "", "secret", Some(b"-----BEGIN CERTIFICATE-----"));
    assert!(matches!(not_pem, Err(ClientError::Setup(_))));
}
