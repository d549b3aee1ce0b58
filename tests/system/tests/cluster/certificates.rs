//! Devices that show certificates: over every face, by an authority that is replaced in place.

use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::until;
use serde_json::{Value, json};
use system_tests::{Lab, adapter, channel, system};
use tidegate_client::{Address, Client, Credential, Identity, Publication};
use tokio::runtime::Runtime;

use crate::ADAPTER_PODS;

/// The faces: the scheme, which names the Adapter too, what an Adapter calls it, and what carries it.
const FACES: [(&str, &str, &str); 4] =
    [("https", "HTTP", "TLS"), ("wss", "WebSocket", "TLS"), ("mqtts", "MQTT", "TLS"), ("coaps", "CoAP", "DTLS")];

/// A folder for certificates and their keys, of names; it goes with the value.
pub(crate) struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-authorities-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str, kind: &str) -> String {
        Path::new(&self.0).join(format!("{name}.{kind}")).display().to_string()
    }

    pub(crate) fn read(&self, name: &str, kind: &str) -> String {
        std::fs::read_to_string(self.path(name, kind)).unwrap()
    }

    fn make(&self, name: &str, subject: &str, more: &[&str]) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]);
        openssl.args(["-subj", subject, "-keyout", &self.path(name, "key"), "-out", &self.path(name, "crt")]);
        let output = openssl.args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn authority(&self, name: &str) {
        let may = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
        self.make(name, &format!("/CN={name}"), &may);
    }

    /// A certificate of an authority.
    pub(crate) fn sign(&self, authority: &str, name: &str, subject: &str, more: &[&str]) {
        let by = ["-CA", &self.path(authority, "crt"), "-CAkey", &self.path(authority, "key")];
        let not = ["-addext", "basicConstraints=critical,CA:FALSE"];
        self.make(name, subject, &[&by[..], &not, more].concat());
    }

    /// A device that shows a certificate, and no key, to the Service of a face.
    fn device(&self, lab: &Lab<'_>, scheme: &str, name: &str) -> Client {
        let identity = Identity::from_pem(self.read(name, "crt").as_bytes(), self.read(name, "key").as_bytes());
        let credential =
            Credential { thing: format!("{}.pump", lab.namespace), key: None, identity: Some(identity.unwrap()) };
        let url = format!("{scheme}://{}", lab.system.address(&lab.namespace, scheme).unwrap());
        Client::with_credential(&url, &credential, Some(self.read("servers", "crt").as_bytes())).unwrap()
    }
}

/// The addresses of the Services, as soon as they have some.
fn addresses(lab: &Lab<'_>) -> Vec<String> {
    let mut found = Vec::new();
    until("there are Services", || {
        let address = |(scheme, _, _): &(&str, _, _)| {
            lab.system.json(&["--namespace", &lab.namespace, "service", scheme], "{.spec.clusterIP}").ok()
        };
        found = FACES.iter().filter_map(address).filter(|address| !address.is_empty()).collect();
        found.len() == FACES.len()
    });
    found
}

pub(crate) fn secret(name: &str, entries: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries})
}

#[test]
fn a_thing_is_known_by_its_certificate_over_every_face_and_authorities_are_replaced_in_place() {
    let system = system();
    if !system.cluster().is_owned() {
        return; // Other kubelets take a minute or two to bring what is renewed.
    }
    let (lab, folder) = (system.lab().unwrap(), Folder::new());
    lab.apply(&channel("telemetry")).unwrap();
    let spec = json!({
        "connections": [{"channel": "telemetry"}], "credentials": {"certificate": {"subject": "CN=pump-7,O=Acme"}},
    });
    let metadata = json!({"name": "pump"});
    lab.apply(&json!({"apiVersion": "tidegate.io/v1alpha1", "kind": "Thing", "metadata": metadata, "spec": spec}))
        .unwrap();
    for (scheme, protocol, transport) in FACES {
        let tls = json!({"secretRef": {"name": "servers"}, "clientCaRef": {"name": "devices"}});
        let listener = json!({"name": scheme, "port": 8443, "transport": transport, "tls": tls});
        lab.apply(&adapter(scheme, json!({"protocol": protocol, "replicas": 1, "listeners": [listener]}))).unwrap();
    }
    for authority in ["servers", "first", "second"] {
        folder.authority(authority);
    }
    let names: Vec<String> = addresses(&lab).iter().map(|address| format!("IP:{address}")).collect();
    folder.sign("servers", "server", "/CN=server", &["-addext", &format!("subjectAltName={}", names.join(","))]);
    for authority in ["first", "second"] {
        folder.sign(authority, &format!("of-{authority}"), "/O=Acme/CN=pump-7", &[]);
    }
    folder.sign("first", "stranger", "/O=Acme/CN=pump-8", &[]);
    let server = json!({"tls.crt": folder.read("server", "crt"), "tls.key": folder.read("server", "key")});
    // The key of the authority is none of the pods' business, and they do not get it.
    let devices = |authority: &str| {
        let entries = json!({"ca.crt": folder.read(authority, "crt"), "tls.key": folder.read(authority, "key")});
        secret("devices", &entries)
    };
    lab.apply(&secret("servers", &server)).unwrap();
    lab.apply(&devices("first")).unwrap();
    let adapters = FACES.map(|(scheme, _, _)| format!("adapter/{scheme}"));
    lab.ready(&adapters.each_ref().map(String::as_str));
    lab.ready(&["channel/telemetry", "thing/pump"]);

    let (witness, runtime) = (lab.witness().unwrap(), Runtime::new().unwrap());
    let there = Address::new(&format!("{}.telemetry", lab.namespace), "");
    let publish = |scheme: &str, name: &str, number: usize| {
        let device = folder.device(&lab, scheme, name);
        runtime
            .block_on(device.publish(&there, Publication::json(number.to_string())))
            .map_err(|error| error.to_string())
    };
    for (number, (scheme, _, _)) in FACES.into_iter().enumerate() {
        until("the Service leads to a pod", || publish(scheme, "of-first", number).is_ok());
        for other in ["of-second", "stranger"] {
            assert!(publish(scheme, other, 100).is_err(), "{scheme}: {other} is let in");
        }
    }
    let pods = system.pods(&lab.namespace, ADAPTER_PODS).unwrap();
    lab.apply(&devices("second")).unwrap();
    for (number, (scheme, _, _)) in FACES.into_iter().enumerate() {
        until("the other authority counts", || publish(scheme, "of-second", 10 + number).is_ok());
        assert!(publish(scheme, "of-first", 100).is_err(), "{scheme}: the first authority counts still");
    }
    assert_eq!(system.pods(&lab.namespace, ADAPTER_PODS).unwrap(), pods, "pods were replaced");
    assert!(witness.missing(&[0, 1, 2, 3, 10, 11, 12, 13].into()).unwrap().is_empty());
    assert!(!witness.missing(&[100].into()).unwrap().is_empty(), "somebody was let in");
}
