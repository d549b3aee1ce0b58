//! What changed between two tables, as plain data.

use crate::name::{ChannelId, ThingId};
use crate::table::{ChannelEntry, TableContents, ThingEntry};

/// The entries that are new or other than before, and the ids of those that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Channels to add or replace.
    pub channels: Vec<ChannelEntry>,
    /// Things to add or replace.
    pub things: Vec<ThingEntry>,
    /// Channels that are gone.
    pub channels_gone: Vec<ChannelId>,
    /// Things that are gone.
    pub things_gone: Vec<ThingId>,
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries it names.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.channels.len() + self.things.len() + self.channels_gone.len() + self.things_gone.len()
    }
}

impl From<TableContents> for Delta {
    /// All of a table, over an empty one.
    fn from(TableContents { channels, things }: TableContents) -> Self {
        Self { channels, things, ..Self::default() }
    }
}
