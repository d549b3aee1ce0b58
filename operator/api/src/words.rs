//! The names by which objects of a cluster speak to the operator, and it to them.

/// The group of the resources.
pub const GROUP: &str = "tidegate.io";
/// The only version so far.
pub const API_VERSION: &str = "tidegate.io/v1alpha1";
/// The label, with the value `true`, of a Secret that may hold keys.
pub const CREDENTIALS_LABEL: &str = "tidegate.io/credentials";
/// The annotation of a Thing that asks for a new generated key: any value that was not there before.
pub const ROTATE_ANNOTATION: &str = "tidegate.io/rotate";
/// The annotation, with the value `true`, of an object for which the operator writes nothing.
pub const PAUSED_ANNOTATION: &str = "tidegate.io/paused";
/// The entry of a generated Secret that holds the key.
pub const KEY_ENTRY: &str = "key";
/// The entry of a generated Secret that holds the key before the last rotation, while it is valid.
pub const PREVIOUS_KEY_ENTRY: &str = "previousKey";
/// The annotation of a generated Secret that says until when the previous key is valid, as RFC 3339.
pub const PREVIOUS_KEY_NOT_AFTER_ANNOTATION: &str = "tidegate.io/previous-key-not-after";
/// The annotation of a generated Secret with the last value of [`ROTATE_ANNOTATION`] that was acted on.
pub const ROTATED_ANNOTATION: &str = "tidegate.io/rotated";
