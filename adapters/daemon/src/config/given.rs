//! Which options are given, and by what.

use std::collections::{BTreeMap, BTreeSet};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// By what an option is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag,
    /// A variable of the environment.
    Environment,
    /// The file that `--config` names.
    File,
}

/// The options that are given, by their long names. One that has its default is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(BTreeMap<String, Source>);

impl Given {
    /// Of what clap made of the arguments, where the options that are `in_file` have what the file says as defaults.
    pub(super) fn of(command: &Command, matches: &ArgMatches, in_file: &BTreeSet<String>) -> Self {
        let mut given = BTreeMap::new();
        let (mut command, mut matches) = (command, matches);
        loop {
            for (option, id) in command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg.get_id()))) {
                // Clap knows nothing of ids that it has no value of.
                let value = matches.ids().any(|known| known == id).then(|| matches.value_source(id.as_str())).flatten();
                let source = match value {
                    Some(ValueSource::CommandLine) => Some(Source::Flag),
                    Some(ValueSource::EnvVariable) => Some(Source::Environment),
                    _ => in_file.contains(option).then_some(Source::File),
                };
                given.extend(source.map(|source| (option.to_owned(), source)));
            }
            let below = matches.subcommand().and_then(|(name, below)| Some((command.find_subcommand(name)?, below)));
            let Some(below) = below else { return Self(given) };
            (command, matches) = below;
        }
    }

    /// By what an option is given; nothing where it has its default.
    #[must_use]
    pub fn source(&self, option: &str) -> Option<Source> {
        self.0.get(option).copied()
    }

    /// Whether an option is given by a flag.
    #[must_use]
    pub fn is_flag(&self, option: &str) -> bool {
        self.source(option) == Some(Source::Flag)
    }
}
