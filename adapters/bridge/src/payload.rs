//! Whether a payload is what its channel asks for.

use serde::de::IgnoredAny;
use tidegate_model::{ContentType, PayloadPolicy, Refusal, Validation};
use tidegate_senml::{Format, Limits};

/// Checks size and form. Nothing is published that fails here.
pub(crate) fn check(
    payload: &[u8],
    content_type: &ContentType,
    policy: &PayloadPolicy,
    limits: &Limits,
) -> Result<(), Refusal> {
    check_size(payload.len() as u64, policy)?;
    match policy.validate {
        Validation::None => Ok(()),
        Validation::Senml => check_senml(payload, content_type, limits),
        Validation::Json => check_json(payload, content_type),
    }
}

pub(crate) fn check_size(payload_bytes: u64, policy: &PayloadPolicy) -> Result<(), Refusal> {
    if payload_bytes > u64::from(policy.bytes_max) {
        return Err(Refusal::PayloadTooLarge { bytes_max: policy.bytes_max });
    }
    Ok(())
}

fn check_senml(payload: &[u8], content_type: &ContentType, limits: &Limits) -> Result<(), Refusal> {
    let is_any = |types: [&str; 2]| types.iter().any(|t| content_type.is(t));
    let format = if is_any(["application/senml+json", "application/json"]) {
        Format::Json
    } else if is_any(["application/senml+cbor", "application/cbor"]) {
        Format::Cbor
    } else {
        return Err(invalid("this channel takes SenML, and the content type is neither SenML, JSON nor CBOR"));
    };
    tidegate_senml::validate(payload, format, limits).map_err(|error| invalid(&error.to_string()))
}

fn check_json(payload: &[u8], content_type: &ContentType) -> Result<(), Refusal> {
    let essence = content_type.essence().to_ascii_lowercase();
    if essence != "application/json" && !essence.ends_with("+json") {
        return Err(invalid("this channel takes JSON, and the content type is not JSON"));
    }
    serde_json::from_slice::<IgnoredAny>(payload)
        .map(|_| ())
        .map_err(|error| invalid(&format!("not JSON at line {}, column {}", error.line(), error.column())))
}

fn invalid(reason: &str) -> Refusal {
    Refusal::InvalidPayload(reason.into())
}
