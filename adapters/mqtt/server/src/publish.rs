//! What clients send to the bridge: who they are, their messages and their wills.

use tidegate_bridge::{Draft, fresh_message_id};
use tidegate_model::{CertificateNames, Credential, MessageId, Permit, Principal, Protocol, Refusal, Topic};
use tidegate_mqtt_proto::{Connect, Delivery, PacketId, Property, Publish, QoS, Text, Will};

use crate::MqttFace;
use crate::message::{content_type, expiry, extras, message_qos};

impl MqttFace {
    /// Who the client is; and whether it may have the will that it wants.
    //= MQTT5 3.1.4-2
    pub(crate) async fn authenticate(
        &self,
        connect: &Connect,
        certificate: Option<&CertificateNames>,
    ) -> Result<Principal, Refusal> {
        let principal = self.principal(connect, certificate).await.inspect_err(|refusal| {
            // A client of MQTT 3 may not say what it was told.
            let thing = connect.user_name.as_ref().map(Text::as_str).filter(|user| self.bridge.has_thing(user));
            tracing::debug!(thing, %refusal, "a client is not let in");
        })?;
        if let Some(will) = &connect.will {
            let topic = Topic::parse_mqtt(will.topic.as_str(), &self.topic)?;
            let permit = self.bridge.permit(&principal, topic)?;
            let content_type = content_type(&will.properties);
            self.bridge.admit(&permit, content_type.as_ref().map(Text::as_str), Some(will.payload.len() as u64))?;
        }
        Ok(principal)
    }

    /// Whose the client is: by the key that it shows, or else by its certificate. A name may come with that, if it is that
    /// Thing's.
    async fn principal(&self, connect: &Connect, certificate: Option<&CertificateNames>) -> Result<Principal, Refusal> {
        let user = connect.user_name.as_ref().map(Text::as_str);
        match (user, &connect.password, certificate) {
            (Some(thing), Some(password), _) => {
                let credential = Credential::ThingKey { thing, key: &password.0 };
                self.bridge.authenticate(&credential).await
            }
            (user, None, Some(certificate)) => {
                let principal = self.bridge.identify(certificate)?;
                let is_own = user.is_none_or(|user| user.is_empty() || self.bridge.is_named(&principal, user));
                if is_own { Ok(principal) } else { Err(Refusal::Unauthenticated) }
            }
            (None, Some(_), _) | (_, None, None) => Err(Refusal::Unauthenticated),
        }
    }

    /// Publishes one message, and returns when the broker has confirmed it.
    pub(crate) async fn publish(&self, principal: &Principal, id: MessageId, publish: Publish) -> Result<(), Refusal> {
        let prepared = self.prepare(principal, id, publish);
        let (permit, draft) = prepared.inspect_err(|refusal| {
            tracing::debug!(thing = %principal.thing(), %refusal, "a message is refused");
            self.bridge.count_refused_publish(Protocol::Mqtt, refusal);
        })?;
        self.bridge.publish(principal, permit, draft).await.map(drop)
    }

    fn prepare(&self, principal: &Principal, id: MessageId, publish: Publish) -> Result<(Permit, Draft), Refusal> {
        let topic = Topic::parse_mqtt(publish.topic.as_str(), &self.topic)?;
        let permit = self.bridge.permit(principal, topic)?;
        let bytes = publish.payload.len() as u64;
        let content_type = content_type(&publish.properties);
        let content_type = self.bridge.admit(&permit, content_type.as_ref().map(Text::as_str), Some(bytes))?;
        let draft = Draft {
            id,
            payload: publish.payload,
            content_type,
            protocol: Protocol::Mqtt,
            qos: message_qos(publish.delivery.qos()),
            retain: publish.retain,
            expires_in: expiry(&publish.properties),
            traceparent: None,
            extras: extras(&publish.properties),
        };
        Ok((permit, draft))
    }

    /// Publishes a will by the right that its Thing has now.
    //= MQTT5 3.1.2-14, 3.1.2-15
    //= MQTT3 3.1.2-16, 3.1.2-17
    pub(crate) async fn publish_will(&self, principal: &Principal, will: Will) {
        let Will { qos, retain, properties, topic, payload } = will;
        let properties =
            properties.iter().filter(|property| !matches!(property, Property::WillDelayInterval(_))).collect();
        // Nobody waits for its acknowledgement, so any name will do.
        let name = PacketId::new(1).expect("1 is not 0");
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { id: name, dup: false },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id: name, dup: false },
        };
        let publish = Publish { delivery, retain, topic, properties, payload };
        if let Err(refusal) = self.publish(principal, fresh_message_id(), publish).await {
            tracing::debug!(%refusal, "a will is not published");
        }
    }
}
