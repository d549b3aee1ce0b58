//! Channels, Things and Secrets from the YAML files of a folder, compiled by the very same code as in a cluster.
//!
//! Owns what was last good of each file. Reads files when told to; must not watch, know a clock, or print a value of a
//! Secret.

mod document;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use tidegate_model::TableContents;
use tidegate_plan::{Finding, Observed, plan};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1_024 * 1_024;
/// Folders within each other, so that a link to a parent ends.
const DEPTH_MAX: usize = 16;

/// A file that cannot be used; what was last good of it stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// Where in it, as line and column counted from 1, if that is known.
    pub place: Option<(usize, usize)>,
    /// What is wrong. Never a value of a Secret.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for FileError {}

/// What a look at the folder yielded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// What is to be in force; absent when that did not change.
    pub contents: Option<TableContents>,
    /// What the authors of the objects should know.
    pub findings: Vec<Finding>,
    /// Files that could not be used.
    pub errors: Vec<FileError>,
}

/// The files of a folder, as they were last good.
#[derive(Debug)]
pub struct Manifests {
    folder: PathBuf,
    files: BTreeMap<PathBuf, Observed>,
    in_force: Option<TableContents>,
}

impl Manifests {
    /// Takes a folder; reads nothing of it yet.
    ///
    /// # Errors
    /// When it is no folder.
    pub fn open(folder: &Path) -> Result<Self, FileError> {
        match std::fs::read_dir(folder) {
            Ok(_) => Ok(Self { folder: folder.to_owned(), files: BTreeMap::new(), in_force: None }),
            Err(error) => Err(unreadable(folder, &error)),
        }
    }

    /// Reads every `*.yaml`, `*.yml` and `*.json` below the folder, following links. Entries that begin with a dot are
    /// passed over, so that a mounted ConfigMap is read once.
    pub fn reload(&mut self) -> Reload {
        let mut errors = Vec::new();
        let mut found = BTreeMap::new();
        let complete = find(&self.folder, DEPTH_MAX, &mut found, &mut errors);
        if complete {
            self.files.retain(|path, _| found.contains_key(path));
        }
        for path in found.into_keys() {
            match read(&path) {
                Ok(observed) => {
                    self.files.insert(path, observed);
                }
                Err(error) => errors.push(error),
            }
        }
        let mut all = Observed::default();
        for observed in self.files.values().cloned() {
            all.channels.extend(observed.channels);
            all.things.extend(observed.things);
            all.secrets.extend(observed.secrets);
        }
        let plan = plan(all);
        let changed = self.in_force.as_ref() != Some(&plan.contents);
        if changed {
            self.in_force = Some(plan.contents.clone());
        }
        Reload { contents: changed.then_some(plan.contents), findings: plan.findings, errors }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> FileError {
    FileError { path: path.to_owned(), place: None, message: error.to_string() }
}

/// Collects the files below `folder`; `false` when some of it could not be looked at.
fn find(folder: &Path, depth_left: usize, found: &mut BTreeMap<PathBuf, ()>, errors: &mut Vec<FileError>) -> bool {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            errors.push(unreadable(folder, &error));
            return false;
        }
    };
    let mut complete = true;
    for entry in entries {
        let Ok(entry) = entry else {
            complete = false;
            continue;
        };
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        let is_manifest = path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known));
        if path.is_dir() {
            complete &= depth_left == 0 || find(&path, depth_left - 1, found, errors);
        } else if is_manifest {
            found.insert(path, ());
        }
    }
    complete
}

fn read(path: &Path) -> Result<Observed, FileError> {
    let fails = |message: String| FileError { path: path.to_owned(), place: None, message };
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(fails(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|_| fails("not UTF-8".to_owned()))?;
    document::read_all(&text).map_err(|fault| FileError {
        path: path.to_owned(),
        place: Some((fault.line, fault.column)),
        message: fault.message,
    })
}
