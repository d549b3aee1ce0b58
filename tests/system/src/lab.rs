//! A namespace of one test, and typed objects to put into it.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_rig::Namespace;
use conformance::until;
use serde_json::{Value, json};
use tidegate_api::{Adapter, AdapterSpec, Channel, ChannelSpec, Thing, ThingSpec};
use tidegate_client::{Address, Client};

use crate::{Listener, NAMESPACE, System, Traffic, Witness};

/// The Secret with the broker's URL.
const BROKER: &str = "tidegate-broker";

/// A Channel that admits JSON.
///
/// # Panics
/// Never: what is written here can be read.
#[must_use]
pub fn channel(name: &str) -> Channel {
    let payload = json!({"contentType": "application/json"});
    let spec: ChannelSpec = serde_json::from_value(json!({"payload": payload})).expect("a spec");
    Channel::new(name, spec)
}

/// A Thing with a generated key, connected to Channels of its namespace.
///
/// # Panics
/// Never: what is written here can be read.
#[must_use]
pub fn thing(name: &str, channels: &[&str]) -> Thing {
    let connections: Vec<Value> = channels.iter().map(|channel| json!({"channel": channel})).collect();
    let spec: ThingSpec = serde_json::from_value(json!({"connections": connections})).expect("a spec");
    Thing::new(name, spec)
}

/// An Adapter with that spec, as YAML's flow form would say it.
///
/// # Panics
/// When that is no spec.
#[must_use]
pub fn adapter(name: &str, spec: Value) -> Adapter {
    let spec: AdapterSpec = serde_json::from_value(spec).expect("a spec");
    Adapter::new(name, spec)
}

/// A namespace of one test alone. It is deleted when the value goes.
pub struct Lab<'a> {
    /// Where it is.
    pub system: &'a System,
    /// Its name.
    pub namespace: Namespace<'a>,
}

impl<'a> Lab<'a> {
    pub(crate) fn new(system: &'a System) -> Result<Self> {
        let namespace = system.api().namespace("lab")?;
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        system.kubectl(&["label", "namespace", namespace.name(), restricted])?.ok()?;
        let url = system.secret(NAMESPACE, BROKER, "connection_string")?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": BROKER, "namespace": namespace.name()},
            "data": {"connection_string": STANDARD.encode(url)},
        });
        system.api().apply(&secret.to_string())?;
        Ok(Self { system, namespace })
    }

    /// Applies an object to this namespace.
    ///
    /// # Errors
    /// What the API server refused.
    pub fn apply(&self, object: &impl serde::Serialize) -> Result<()> {
        let mut object = serde_json::to_value(object)?;
        object["metadata"]["namespace"] = self.namespace.name().into();
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        self.system.api().apply(&object.to_string()).map(drop)
    }

    /// `kubectl` in this namespace; what it said.
    ///
    /// # Errors
    /// Where it failed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.system.kubectl(&[&["--namespace", self.namespace.name()], args].concat())?.ok()
    }

    /// Waits until objects of this namespace are Ready.
    ///
    /// # Panics
    /// When they are not within the deadline.
    pub fn ready(&self, objects: &[&str]) {
        self.system.wait(&self.namespace, "condition=Ready", objects);
    }

    /// The key of a Thing, as soon as it has one.
    ///
    /// # Panics
    /// When it has none within the deadline.
    #[must_use]
    pub fn key(&self, thing: &str) -> String {
        let mut key = String::new();
        until("there is a key", || {
            let found = self.system.secret(&self.namespace, &format!("{thing}-credentials"), "key");
            found.map(|found| key = found).is_ok()
        });
        key
    }

    /// Channel `telemetry` and Thing `sensor` on it, and an Adapter `http` of this namespace; all of them ready.
    ///
    /// # Errors
    /// What the API server refused.
    pub fn furnish(&self, spec: Value) -> Result<()> {
        self.apply(&channel("telemetry"))?;
        self.apply(&thing("sensor", &["telemetry"]))?;
        self.apply(&adapter("http", spec))?;
        self.ready(&["channel/telemetry", "thing/sensor", "adapter/http"]);
        self.reachable("http")
    }

    /// Waits until connections to an Adapter's Service come about. An Adapter is ready when its pods are; the node that
    /// the test goes through refuses them until kube-proxy has heard of that, which by default is up to 1 s later.
    ///
    /// # Errors
    /// When there is no such Service.
    fn reachable(&self, adapter: &str) -> Result<()> {
        /// How long a try may take: nodes answer the first few that they refuse, and leave others without an answer.
        const CONNECT_MAX: Duration = Duration::from_millis(200);
        let address: SocketAddr = self.system.address(&self.namespace, adapter)?.parse()?;
        until("the Service leads to a pod", || TcpStream::connect_timeout(&address, CONNECT_MAX).is_ok());
        Ok(())
    }

    /// The URL of an Adapter's Service.
    ///
    /// # Errors
    /// When there is none.
    pub fn url(&self, adapter: &str) -> Result<String> {
        Ok(format!("http://{}", self.system.address(&self.namespace, adapter)?))
    }

    /// A device of this namespace that calls that URL.
    ///
    /// # Panics
    /// When it is no URL.
    #[must_use]
    pub fn device(&self, thing: &str, url: &str) -> Client {
        self.device_trusting(thing, url, "")
    }

    /// The same that trusts this certificate, PEM, and no other.
    ///
    /// # Panics
    /// As [`Lab::device`].
    #[must_use]
    pub fn device_trusting(&self, thing: &str, url: &str, certificate: &str) -> Client {
        let id = format!("{}.{thing}", self.namespace);
        let trusted = Some(certificate.as_bytes()).filter(|pem| !pem.is_empty());
        Client::new(url, &id, &self.key(thing), trusted).expect("a device")
    }

    /// Devices `sensor` that publish on `telemetry` through the Adapter `http`, until they are told to stop.
    ///
    /// # Errors
    /// When there is no such Adapter.
    pub fn traffic(&self) -> Result<Traffic> {
        Ok(Traffic::start(&self.device("sensor", &self.url("http")?), &Address::new("telemetry", "load")))
    }

    /// A device `sensor` that subscribes to `telemetry` through the Adapter `http`, and again when it is cut off.
    ///
    /// # Errors
    /// When there is no such Adapter.
    pub fn listener(&self) -> Result<Listener> {
        Ok(Listener::start(&self.device("sensor", &self.url("http")?), &Address::new("telemetry", "#")))
    }

    /// A queue on the broker that takes everything of `telemetry`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn witness(&self) -> Result<Witness> {
        let key = format!("channels.{}.telemetry.#", self.namespace);
        Witness::bind(&broker_url(self.system)?, &format!("witness-{}", self.namespace), &key)
    }
}

/// The broker's URL, as it is reached from outside of the cluster's names.
fn broker_url(system: &System) -> Result<String> {
    let secret = |entry: &str| system.secret(NAMESPACE, BROKER, entry);
    let address = system.address(NAMESPACE, BROKER)?;
    Ok(format!("amqp://{}:{}@{address}/%2f", secret("username")?, secret("password")?))
}
