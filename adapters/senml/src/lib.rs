//! SenML (RFC 8428) in JSON and CBOR.

/// How a pack is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/senml+json`.
    Json,
    /// `application/senml+cbor`.
    Cbor,
}

/// Bounds on a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits {}

/// Why a pack is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenmlError;

impl std::fmt::Display for SenmlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not SenML")
    }
}

/// Whether `pack` is valid SenML.
///
/// # Errors
/// [`SenmlError`] when it is not.
pub fn validate(_pack: &[u8], _format: Format, _limits: &Limits) -> Result<(), SenmlError> {
    Err(SenmlError)
}
