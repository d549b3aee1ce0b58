//! What an adapter asks: paths, queries and bodies.

use std::fmt::Write as _;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::{Cursor, Epoch};

/// Where the stream is.
pub const GRANTS_PATH: &str = "/v1/grants";
/// Where an adapter says which table is in force in it.
pub const ACKNOWLEDGED_PATH: &str = "/v1/grants/acknowledged";
/// Where an adapter says that it serves nobody any more.
pub const LEAVING_PATH: &str = "/v1/grants/leaving";
/// Where an adapter asks after a key that it does not know.
pub const LOOKUP_PATH: &str = "/v1/grants/lookup";

/// How a stream tells the keys of Things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// By their hashes alone.
    Hashed,
    /// Also in clear, as far as the operator has them: for who speaks DTLS with pre-shared keys.
    Shared,
}

impl Keys {
    /// The pair of [`GRANTS_PATH`]'s query that asks for keys in clear.
    pub const SHARED_QUERY: &str = "keys=shared";
    /// The pair that says that what is known has them.
    const HELD_QUERY: &str = "held=shared";

    /// What a query asks for.
    #[must_use]
    pub fn from_query(query: &str) -> Self {
        Self::of(query, Self::SHARED_QUERY)
    }

    fn of(query: &str, pair: &str) -> Self {
        if query.split('&').any(|other| other == pair) { Self::Shared } else { Self::Hashed }
    }
}

/// What an adapter has already: it needs only what came since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The history.
    pub epoch: Epoch,
    /// The last table of it.
    pub cursor: Cursor,
    /// Whether its keys are known in clear.
    pub keys: Keys,
}

impl Resume {
    /// As the query of [`GRANTS_PATH`].
    #[must_use]
    pub fn to_query(self) -> String {
        let mut epoch = String::with_capacity(32);
        for byte in self.epoch.0 {
            // Writing to a text cannot fail.
            let _ = write!(epoch, "{byte:02x}");
        }
        let held = match self.keys {
            Keys::Hashed => String::new(),
            Keys::Shared => format!("&{}", Keys::HELD_QUERY),
        };
        format!("epoch={epoch}&cursor={}{held}", self.cursor.0)
    }

    /// From the query; nothing when it says none, or something else.
    #[must_use]
    pub fn from_query(query: &str) -> Option<Self> {
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let (epoch, cursor) = (value("epoch")?, value("cursor")?);
        if epoch.len() != 32 || !epoch.is_ascii() {
            return None;
        }
        Some(Self {
            epoch: Epoch(u128::from_str_radix(epoch, 16).ok()?.to_be_bytes()),
            cursor: Cursor(cursor.parse().ok()?),
            keys: Keys::of(query, Keys::HELD_QUERY),
        })
    }
}

/// The table of `cursor` is in force, and whoever it revokes is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Acknowledgement {
    /// The stream, as its Hello named it.
    #[n(0)]
    pub stream: u64,
    /// The table.
    #[n(1)]
    pub cursor: u64,
}

/// Nobody is served any more by who has this stream: so it need not be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Leaving {
    /// The stream, as its Hello named it.
    #[n(0)]
    pub stream: u64,
}

/// Does anybody have this key?
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Lookup {
    /// SHA-256 of the key.
    #[n(0)]
    pub sha256: ByteArray<32>,
}

/// What a lookup is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Found {
    /// The first table to look in; nothing when nobody has the key.
    #[n(0)]
    pub cursor: Option<u64>,
    /// The history of that table: another replica of the operator has another one.
    #[n(1)]
    pub epoch: Option<ByteArray<16>>,
}

/// Encodes and decodes a body.
macro_rules! body {
    ($type:ident) => {
        impl $type {
            /// As CBOR.
            #[must_use]
            pub fn to_cbor(&self) -> Vec<u8> {
                minicbor::to_vec(self).expect("writing to memory cannot fail")
            }

            /// From CBOR; nothing when it is something else.
            #[must_use]
            pub fn from_cbor(bytes: &[u8]) -> Option<Self> {
                minicbor::decode(bytes).ok()
            }
        }
    };
}

body!(Acknowledgement);
body!(Leaving);
body!(Lookup);
body!(Found);
