//! A real adapter as the server of a case: each client logs in, and each topic lies below a channel.

use std::io::{Read, Write};
use std::net::TcpStream;

use conformance::{Adapter, DEADLINE, until};

use crate::cases::{Case, Server, number, variable};

const KEY: &str = "key-wire-0123456789";
const PREFIX: &[u8] = b"channels/lab.wire/messages/";
const MANIFESTS: &str = "apiVersion: tidegate.io/v1alpha1
kind: Channel
metadata: {namespace: lab, name: wire}
spec: {}
---
apiVersion: tidegate.io/v1alpha1
kind: Thing
metadata: {namespace: lab, name: wire}
spec:
  connections: [{channel: wire}]
  credentials: {secretRefs: [{id: a, name: keys, key: wire}]}
---
apiVersion: v1
kind: Secret
metadata: {namespace: lab, name: keys, labels: {tidegate.io/credentials: \"true\"}}
stringData: {wire: key-wire-0123456789}
";

pub(crate) fn start() -> Adapter {
    let adapter = Adapter::start("memory:", &[]).unwrap();
    adapter.set_manifests(MANIFESTS).unwrap();
    until("its Thing is known", || {
        adapter.publish("channels/lab.wire/messages/x", KEY, "text/plain", b"x").is_ok_and(|status| status == 202)
    });
    adapter
}

pub(crate) struct Connection<'a> {
    adapter: &'a Adapter,
    stream: TcpStream,
    version: u8,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(case: &Case, adapter: &'a Adapter) -> Self {
        let stream = TcpStream::connect(adapter.mqtt()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut connection = Self { adapter, stream, version: case.version };
        if case.connects {
            let connect = match case.version {
                3 => "10 r15 s6 'MQIsdp' 03 02 k10 s1 'p'",
                5 => "10 r14 s4 'MQTT' 05 02 k10 v0 s1 'p'",
                _ => "10 r13 s4 'MQTT' 04 02 k10 s1 'p'",
            };
            connection.send(&crate::cases::bytes(connect));
            assert_eq!(connection.receive().unwrap()[3], 0, "{}", case.name);
        }
        connection
    }
}

impl Connection<'_> {
    /// The next packet; nothing at the end of the connection.
    fn read(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 1];
        self.stream.read_exact(&mut packet).ok()?;
        let length = loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            packet.push(byte[0]);
            if let Some((length, _)) = number(&packet[1..]) {
                break length;
            }
        };
        let at = packet.len();
        packet.resize(at + length, 0);
        self.stream.read_exact(&mut packet[at..]).ok()?;
        Some(packet)
    }
}

impl Server for Connection<'_> {
    fn send(&mut self, bytes: &[u8]) {
        // A server that has ended the connection need not take it.
        let _ = self.stream.write_all(&rewritten(bytes, self.version));
    }

    fn publish(&mut self, topic: &str, qos: u8, payload: &str) {
        let topic = format!("channels/lab.wire/messages/{topic}?qos={qos}");
        assert_eq!(self.adapter.publish(&topic, KEY, "text/plain", payload.as_bytes()).unwrap(), 202);
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        self.read().map(|packet| without_prefix(&packet))
    }

    fn end(&mut self, is_expected: bool) -> (bool, Vec<Vec<u8>>) {
        let mut more = vec![];
        if !is_expected && self.stream.write_all(&[0xc0, 0]).is_err() {
            return (true, more);
        }
        loop {
            match self.receive() {
                None => return (true, more),
                Some(packet) if !is_expected && packet[0] == 0xd0 => return (false, more),
                Some(packet) => more.push(packet),
            }
        }
    }
}

/// Bytes of a packet that are read one after another.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([length[0], length[1]])))
    }

    /// With its length.
    fn properties(&mut self, version: u8) -> Option<&'a [u8]> {
        if version < 5 {
            return Some(&[]);
        }
        let (length, bytes) = number(self.0)?;
        self.take(bytes + length)
    }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A topic or filter below the channel; within a group, if it is one's.
fn prefixed(topic: &[u8]) -> Vec<u8> {
    if topic.is_empty() {
        return vec![];
    }
    if let Some(rest) = topic.strip_prefix(b"$share/")
        && let Some(slash) = rest.iter().position(|byte| *byte == b'/')
    {
        let (group, filter) = rest.split_at(slash + 1);
        return [b"$share/", group, PREFIX, filter].concat();
    }
    [PREFIX, topic].concat()
}

/// The packet with a login and with its topics below the channel, as far as it can be read; the rest as it is.
fn rewritten(packet: &[u8], version: u8) -> Vec<u8> {
    let whole = packet.get(1..).and_then(number).filter(|(length, bytes)| 1 + bytes + length == packet.len());
    let Some((_, length_bytes)) = whole else { return packet.to_vec() };
    let body = &packet[1 + length_bytes..];
    let rewritten = match packet[0] >> 4 {
        1 => connect(body),
        3 => publish(body),
        8 => filters(body, version, true),
        10 => filters(body, version, false),
        _ => None,
    };
    let Some(body) = rewritten else { return packet.to_vec() };
    [vec![packet[0]], variable(u32::try_from(body.len()).unwrap()), body].concat()
}

fn connect(body: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor(body);
    let (name, level) = (cursor.text()?, cursor.take(1)?[0]);
    let flags = cursor.take(1)?[0];
    let keep_alive = cursor.take(2)?;
    let properties = cursor.properties(level)?;
    let client_id = cursor.text()?;
    let mut will = vec![];
    if flags & 4 != 0 {
        let (properties, topic, payload) = (cursor.properties(level)?, cursor.text()?, cursor.text()?);
        will = [properties.to_vec(), text(&prefixed(topic)), text(payload)].concat();
    }
    let user = if flags & 0x80 != 0 { Some(cursor.text()?) } else { None };
    if flags & 0x40 != 0 {
        cursor.text()?;
    }
    // Who names a user in a way that no server may take is to be refused for that.
    let is_wrong =
        user.is_some_and(|user| std::str::from_utf8(user).map_or(true, |text| text.chars().any(char::is_control)));
    if !cursor.0.is_empty() || is_wrong || (level < 5 && flags & 0xc0 == 0x40) {
        return None;
    }
    let head = [text(name), vec![level, flags | 0xc0], keep_alive.to_vec(), properties.to_vec(), text(client_id)];
    Some([head.concat(), will, text(b"lab.wire"), text(KEY.as_bytes())].concat())
}

fn publish(body: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor(body);
    let topic = cursor.text()?;
    // What no client may publish to stays that.
    let is_refused = topic.starts_with(b"$share/") || (topic.starts_with(b"$SYS/") && !topic.ends_with(b"/state"));
    let topic = if is_refused { topic.to_vec() } else { prefixed(topic) };
    Some([text(&topic), cursor.0.to_vec()].concat())
}

fn filters(body: &[u8], version: u8, with_options: bool) -> Option<Vec<u8>> {
    let mut cursor = Cursor(body);
    let mut out = [cursor.take(2)?, cursor.properties(version)?].concat();
    while !cursor.0.is_empty() {
        let before = cursor.0;
        let Some(filter) = cursor.text() else { return Some([out, before.to_vec()].concat()) };
        out.extend(text(&prefixed(filter)));
        if with_options {
            out.extend(cursor.take(1).unwrap_or_default());
        }
    }
    Some(out)
}

/// What a server said, as if there were no channel.
fn without_prefix(packet: &[u8]) -> Vec<u8> {
    let Some((_, length_bytes)) = number(&packet[1..]).filter(|_| packet[0] >> 4 == 3) else { return packet.to_vec() };
    let mut cursor = Cursor(&packet[1 + length_bytes..]);
    let topic = cursor.text().unwrap();
    let topic = topic.strip_prefix(PREFIX).unwrap_or(topic);
    let body = [text(topic), cursor.0.to_vec()].concat();
    [vec![packet[0]], variable(u32::try_from(body.len()).unwrap()), body].concat()
}
