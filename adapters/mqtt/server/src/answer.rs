//! What each refusal is in MQTT: the face's column of the outcome table.

use tidegate_model::{Operation, Refusal};
use tidegate_mqtt_proto::Reason;

/// Why a client is not let in.
pub(crate) const fn of_connect(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::Unauthenticated | Refusal::Revoked => Reason::BadUserNameOrPassword,
        Refusal::Forbidden => Reason::NotAuthorized,
        Refusal::UnknownPath | Refusal::MalformedTopic(_) => Reason::TopicNameInvalid,
        Refusal::PayloadTooLarge { .. } => Reason::PacketTooLarge,
        Refusal::ContentTypeNotAdmitted | Refusal::InvalidPayload(_) => Reason::PayloadFormatInvalid,
        Refusal::BrokerUnavailable { .. } | Refusal::ShuttingDown => Reason::ServerUnavailable,
        Refusal::RateLimited { .. } => Reason::QuotaExceeded,
    }
}

/// Why a message is not taken. What PUBACK and PUBREC cannot say, and all of it before MQTT 5, ends the connection.
pub(crate) const fn of_publish(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::Unauthenticated | Refusal::Forbidden | Refusal::Revoked => Reason::NotAuthorized,
        Refusal::UnknownPath | Refusal::MalformedTopic(_) => Reason::TopicNameInvalid,
        Refusal::PayloadTooLarge { .. } => Reason::PacketTooLarge,
        Refusal::ContentTypeNotAdmitted | Refusal::InvalidPayload(_) => Reason::PayloadFormatInvalid,
        // A word that DISCONNECT has for it: the client comes back and sends again.
        Refusal::BrokerUnavailable { .. } => Reason::ServerBusy,
        Refusal::RateLimited { .. } => Reason::QuotaExceeded,
        Refusal::ShuttingDown => Reason::ServerShuttingDown,
    }
}

/// Why a subscription is not granted.
pub(crate) const fn of_subscribe(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::Unauthenticated | Refusal::Forbidden | Refusal::Revoked => Reason::NotAuthorized,
        Refusal::UnknownPath | Refusal::MalformedTopic(_) => Reason::TopicFilterInvalid,
        Refusal::BrokerUnavailable { operation: Operation::Publish | Operation::Subscribe, .. }
        | Refusal::ShuttingDown => Reason::ImplementationSpecificError,
        Refusal::RateLimited { .. } => Reason::QuotaExceeded,
        Refusal::PayloadTooLarge { .. } | Refusal::ContentTypeNotAdmitted | Refusal::InvalidPayload(_) => {
            Reason::UnspecifiedError
        }
    }
}
