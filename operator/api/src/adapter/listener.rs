//! The ports of an Adapter, what carries the protocol there, and whose certificates count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::Check;

/// A port on which devices are served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.transport) && self.transport in ['WebSocket', 'DTLS']) || \
        has(self.tls) == (has(self.transport) && self.transport == 'TLS')",
    "message": "tls goes with transport: TLS, WebSocket and DTLS, and TLS needs it"
}]))]
pub struct Listener {
    /// Names the port of the Service.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The port of the Service; pods listen on one of their own.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// TCP for plain text, as behind an Ingress; TLS for an end of TLS in the pods; WebSocket, with tls or without, for MQTT
    /// over WebSocket; UDP and DTLS for CoAP. Default: TCP, which CoAP does not have.
    #[serde(default)]
    pub transport: Transport,
    /// The certificate, and whose certificates devices may show; for transport TLS, for WebSocket that is to be wss, and for
    /// DTLS that is to have more than pre-shared keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// What carries the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Transport {
    /// Plain text.
    #[default]
    TCP,
    /// TLS 1.2 or 1.3.
    TLS,
    /// WebSocket, for MQTT: with tls wss, without it ws.
    WebSocket,
    /// Datagrams in plain text, for CoAP.
    UDP,
    /// DTLS 1.2, for CoAP: with a Thing's id and key as identity and pre-shared key, and with tls by certificates too, or by
    /// them alone where clientAuth is Required.
    DTLS,
}

/// A certificate, and whose certificates devices may show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.clientAuth) || has(self.clientCaRef)",
    "message": "clientAuth needs clientCaRef: whose certificates devices may show"
}]))]
pub struct Tls {
    /// A Secret of the Adapter's namespace with `tls.crt` and `tls.key`, as cert-manager makes it; reloaded in place. DTLS takes
    /// keys of ECDSA alone.
    pub secret_ref: SecretName,
    /// A Secret of the Adapter's namespace with `ca.crt`, the authorities that sign devices' certificates, PEM; reloaded in
    /// place. A device that shows such a certificate is the Thing whose credentials.certificate names it, and needs no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_ref: Option<SecretName>,
    /// Whether devices are asked for a certificate. Goes with clientCaRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
}

/// Whether devices are asked for a certificate: None, Optional, or Required, and then who has none is not let in, over DTLS
/// with a pre-shared key neither. Default: Optional, where who has none shows a key; over DTLS a pre-shared one, since a
/// handshake with certificates needs one of a device of clientCaRef then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientAuth {
    /// No device is asked.
    None,
    /// Who has none shows a key; over DTLS a pre-shared one, in the handshake.
    Optional,
    /// Who has none is not let in; pre-shared keys of DTLS are refused.
    Required,
}

/// Names a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretName {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What is wrong with the listeners of an Adapter.
pub(super) fn check(listeners: &[Listener], check: &mut Check) {
    for (index, listener) in listeners.iter().enumerate() {
        let field = format!("spec.listeners[{index}]");
        let before = &listeners[..index];
        let same = |other: &Listener| other.transport == listener.transport;
        check.that(!before.iter().any(same), &field, "at most one listener of each transport");
        let same = |other: &Listener| other.port == listener.port;
        check.that(!before.iter().any(same), &field, "two listeners have the same port");
        let other = |other: &Listener| listener.tls.is_some() && other.tls.is_some() && other.tls != listener.tls;
        check.that(
            !before.iter().any(other),
            &field,
            "the listeners of an Adapter share one tls: the certificate, clientCaRef and clientAuth",
        );
        let tls = match listener.transport {
            Transport::TCP | Transport::UDP => listener.tls.is_none(),
            Transport::TLS => listener.tls.is_some(),
            Transport::WebSocket | Transport::DTLS => true,
        };
        check.that(tls, &field, "tls goes with transport: TLS, WebSocket and DTLS, and TLS needs it");
        let asked = listener.tls.as_ref().is_none_or(|tls| tls.client_auth.is_none() || tls.client_ca_ref.is_some());
        let whose = "clientAuth needs clientCaRef: whose certificates devices may show";
        check.that(asked, &format!("{field}.tls"), whose);
    }
}
