//! Every face, by every way that leads to it: what goes in on one comes out on all, and RabbitMQ has it.

use std::process::Command;

use conformance::until;
use serde_json::{Value, json};
use system_tests::{Lab, Listener, adapter, channel, system, thing};
use tidegate_client::{Address, Client, Publication, QoS, Subscription};
use tokio::runtime::Runtime;

/// A face, with an Adapter in the lab.
#[derive(Debug)]
struct Face {
    /// Of its URLs, and the name of its Adapter.
    scheme: &'static str,
    /// As an Adapter says it.
    protocol: &'static str,
    /// Its paths behind the proxy, and that of the prefix that needs none.
    prefixes: &'static [(&'static str, &'static str)],
}

/// The faces that there are. Each that lands joins here.
const FACES: [Face; 4] = [
    Face {
        scheme: "http",
        protocol: "HTTP",
        prefixes: &[
            ("a proxy that keeps the prefix", "/http"),
            ("a proxy that takes the prefix off", "/stripped/http"),
        ],
    },
    Face {
        scheme: "ws",
        protocol: "WebSocket",
        prefixes: &[("a proxy that keeps the prefix", "/ws"), ("a proxy that takes the prefix off", "/stripped/ws")],
    },
    Face { scheme: "mqtt", protocol: "MQTT", prefixes: &[] },
    Face { scheme: "coap", protocol: "CoAP", prefixes: &[] },
];

impl Face {
    /// Every way that leads to it: what it is, and its URL.
    fn ways(&self, lab: &Lab<'_>, proxied: &str) -> Vec<(String, String)> {
        let Self { scheme, prefixes, .. } = self;
        let service = ["--namespace", &lab.namespace, &format!("service/{scheme}")].map(str::to_owned);
        let service = service.each_ref().map(String::as_str);
        let direct = format!("{scheme}://{}", lab.system.address(&lab.namespace, scheme).unwrap());
        let port = lab.system.json(&service, "{.spec.ports[0].nodePort}").unwrap();
        let node = lab.system.json(&["nodes"], "{.items[0].status.addresses[0].address}").unwrap();
        let mut ways = vec![
            (format!("{scheme}: the Service"), direct.clone()),
            (format!("{scheme}: a port of a node"), format!("{scheme}://{node}:{port}")),
        ];
        if !prefixes.is_empty() {
            ways.push((format!("{scheme}: the Service, with the prefix"), format!("{direct}/{scheme}")));
        }
        if *scheme == "coap" {
            let host = lab.system.json(&service, "{.spec.clusterIP}").unwrap();
            ways.push((format!("{scheme}: the Service, over DTLS"), format!("coaps://{host}")));
        }
        let behind = |path: &str| format!("{scheme}://{proxied}{path}");
        ways.extend(prefixes.iter().map(|(way, path)| (format!("{scheme}: {way}"), behind(path))));
        ways
    }
}

/// A proxy as an Ingress controller sets it up, once with the prefix and once without it, and for sockets as nginx says it
/// is to be done; the rest is nginx' defaults.
const PROXY: &str = "pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3; uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;
  server {
    listen 8080;
    location /http/ { proxy_pass http://http:80; }
    location /stripped/http/ { proxy_pass http://http:80/; }
    location /ws/ {
      proxy_pass http://ws:80;
      proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }
    location /stripped/ws/ {
      proxy_pass http://ws:80/;
      proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }
  }
}
";

fn restricted_pod(name: &str, container: Value, volumes: &Value) -> Value {
    let mut container = container;
    container["name"] = "only".into();
    container["imagePullPolicy"] = "Never".into();
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false, "containers": [container],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": volumes,
        },
    })
}

/// Puts the proxy into the lab, and returns its address.
fn proxy(lab: &Lab<'_>) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "proxy"}, "data": {"nginx.conf": PROXY},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "proxy"},
        "spec": {"selector": {"app": "proxy"}, "ports": [{"port": 8080}]},
    });
    let container = json!({
        "image": "localhost/tidegate-test/nginx:1",
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/nginx"}, {"name": "tmp", "mountPath": "/tmp"}],
    });
    let volumes = json!([{"name": "config", "configMap": {"name": "proxy"}}, {"name": "tmp", "emptyDir": {}}]);
    for object in [config, service, restricted_pod("proxy", container, &volumes)] {
        lab.apply(&object).unwrap();
    }
    lab.ready(&["pod/proxy"]);
    lab.system.address(&lab.namespace, "proxy").unwrap()
}

/// Publishes from a pod of the lab by the command line, and returns when that has ended well.
fn publish_from_a_pod(lab: &Lab<'_>, Face { scheme, .. }: &Face, payload: &str) {
    let image = lab.system.json(&["--namespace", "tidegate", "deployment", "tidegate-operator"], "{..image}").unwrap();
    let url = format!("--url={scheme}://{scheme}.{}.svc", lab.namespace);
    let (thing, name) = (format!("--thing={}.sensor", lab.namespace), format!("publisher-{scheme}"));
    let container = json!({
        "image": image, "command": ["tidegate", "publish"],
        "args": [url, thing, "--channel=telemetry", "--subtopic=ways", "--key-file=/key/key", "--content-type=application/json", payload],
        "volumeMounts": [{"name": "key", "mountPath": "/key"}],
    });
    let volumes = json!([{"name": "key", "secret": {"secretName": "sensor-credentials", "defaultMode": 288}}]);
    lab.apply(&restricted_pod(&name, container, &volumes)).unwrap();
    lab.system.wait(&lab.namespace, "jsonpath={.status.phase}=Succeeded", &[&format!("pod/{name}")]);
}

/// A subscriber, and by which way it came.
struct Heard {
    way: String,
    /// Over CoAP nobody is told on which topic a message came that a filter let through.
    is_told_topics: bool,
    subscription: Subscription,
}

impl Heard {
    fn next(&mut self, runtime: &Runtime) -> (String, String, String) {
        let next = async {
            loop {
                let event = self.subscription.next().await.unwrap().expect("a message");
                if event.kind == "message" {
                    let text = String::from_utf8(event.payload).unwrap();
                    return (text, event.content_type.unwrap_or_default(), event.topic.unwrap_or_default());
                }
            }
        };
        let next = async { tokio::time::timeout(std::time::Duration::from_secs(30), next).await };
        runtime.block_on(next).unwrap_or_else(|_| panic!("nothing within 30 s: {}", self.way))
    }
}

#[test]
fn what_goes_in_by_any_way_comes_out_by_every_way() {
    let system = system();
    let lab = system.lab().unwrap();
    lab.apply(&channel("telemetry")).unwrap();
    lab.apply(&thing("sensor", &["telemetry"])).unwrap();
    for Face { scheme, protocol, .. } in FACES {
        let spec = json!({"protocol": protocol, "replicas": 2, "service": {"type": "NodePort"}});
        lab.apply(&adapter(scheme, spec)).unwrap();
    }
    let adapters = FACES.map(|face| format!("adapter/{}", face.scheme));
    lab.ready(&["channel/telemetry", "thing/sensor"]);
    lab.ready(&adapters.each_ref().map(String::as_str));
    let proxied = proxy(&lab);
    let runtime = Runtime::new().unwrap();
    let id = format!("{}.telemetry", lab.namespace);
    let devices: Vec<(String, Client)> = FACES
        .iter()
        .flat_map(|face| face.ways(&lab, &proxied))
        .map(|(way, url)| (way, lab.device("sensor", &url)))
        .collect();
    let (everything, there) = (Address::new(&id, "#"), Address::new("telemetry", "ways"));
    let witness = lab.witness().unwrap();
    let subscribe = |(way, device): &(String, Client)| {
        let mut subscription = None;
        until("the way is open", || {
            let asked = device.subscribe(&everything, QoS::AtLeastOnce);
            subscription = runtime.block_on(asked).ok();
            subscription.is_some()
        });
        let subscription = subscription.expect("it was waited for");
        Heard { way: way.clone(), is_told_topics: device.face() != "coap", subscription }
    };
    let mut heard: Vec<Heard> = devices.iter().map(subscribe).collect();
    let mut sent = 0;
    for (way, device) in &devices {
        let payload = sent.to_string();
        let published = device.publish(&there, Publication::json(payload.clone()));
        runtime.block_on(published).unwrap_or_else(|error| panic!("{way}: {error}"));
        for listener in &mut heard {
            let topic = if listener.is_told_topics { format!("channels/{id}/messages/ways") } else { String::new() };
            let expected = (payload.clone(), "application/json".to_owned(), topic);
            assert_eq!(listener.next(&runtime), expected, "{way} to {}", listener.way);
        }
        sent += 1;
    }
    for face in FACES {
        publish_from_a_pod(&lab, &face, &sent.to_string());
        for listener in &mut heard {
            assert_eq!(listener.next(&runtime).0, sent.to_string(), "a pod to {}", listener.way);
        }
        sent += 1;
    }
    assert!(witness.missing(&(0..sent).collect()).unwrap().is_empty());
}

/// A certificate of its own for an address, and its key, PEM.
fn certificate(address: &str) -> [String; 2] {
    let folder = std::env::temp_dir().join(format!("tidegate-certificate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [cert, key] = ["cert", "key"].map(|name| folder.join(name).display().to_string());
    let name = format!("subjectAltName=IP:{address}");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]);
    openssl.args(["-subj", "/CN=test", "-addext", &name, "-addext", "basicConstraints=critical,CA:FALSE"]);
    assert!(openssl.args(["-keyout", &key, "-out", &cert]).output().unwrap().status.success());
    let pair = [&cert, &key].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::remove_dir_all(folder).unwrap();
    pair
}

#[test]
fn a_renewed_certificate_is_served_and_no_connection_dropped() {
    let system = system();
    if !system.cluster().is_owned() {
        return; // Other kubelets take a minute or two to bring it.
    }
    let lab = system.lab().unwrap();
    let listener =
        json!({"name": "https", "port": 443, "transport": "TLS", "tls": {"secretRef": {"name": "http-tls"}}});
    lab.apply(&channel("telemetry")).unwrap();
    lab.apply(&thing("sensor", &["telemetry"])).unwrap();
    lab.apply(&adapter("http", json!({"protocol": "HTTP", "replicas": 2, "listeners": [listener]}))).unwrap();
    let mut address = String::new();
    until("there is a Service", || {
        lab.system.address(&lab.namespace, "http").is_ok_and(|found| {
            address = found;
            address.starts_with(|first: char| first.is_ascii_digit())
        })
    });
    let (ip, _) = address.split_once(':').unwrap();
    let secret = |[cert, key]: &[String; 2]| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "http-tls"},
            "stringData": {"tls.crt": cert, "tls.key": key},
        })
    };
    let [first, second] = [certificate(ip), certificate(ip)];
    lab.apply(&secret(&first)).unwrap();
    lab.ready(&["adapter/http", "thing/sensor"]);
    let url = format!("https://{address}");
    let before = lab.device_trusting("sensor", &url, &first[0]);
    let listens = Listener::start(&before, &Address::new("telemetry", "#"));
    lab.apply(&secret(&second)).unwrap();
    let after = lab.device_trusting("sensor", &url, &second[0]);
    let runtime = Runtime::new().unwrap();
    // Each pod gets it in its own time: a row of new connections reaches both.
    let there = Address::new("telemetry", "");
    let publish = |number: u64| {
        let sent = after.publish(&there, Publication::json(number.to_string()));
        runtime.block_on(sent).is_ok()
    };
    until("the new one is served", || publish(1));
    listens.until_heard(1);
    assert_eq!(listens.subscriptions(), 1, "{:?}", listens.ends());
}
