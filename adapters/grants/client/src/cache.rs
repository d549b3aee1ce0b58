//! The last table on disk: whole or not at all, ours or not at all, and not for ever.
//!
//! ```text
//! HMAC-SHA-256 of the rest (32 bytes) | when it was last known to be good, in nanoseconds since 1970 (8) | the table
//! ```

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::hmac;
use tidegate_grants_proto::Replica;
use tidegate_model::Timestamp;

use crate::CacheOptions;

/// The file in the folder.
const FILE: &str = "grants";
/// Fewest bytes of the key.
const KEY_BYTES_MIN: usize = 32;
const TAG_BYTES: usize = 32;
const TIME_BYTES: usize = 8;

/// Why there is no last table.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key is too short to be a secret.
    #[error("{}: a key of at least {KEY_BYTES_MIN} bytes is needed", .0.display())]
    ShortKey(PathBuf),
    /// The table was not written with this key, or is not as it was written.
    #[error("the table on disk is not as it was written")]
    NotOurs,
    /// The table is older than it may be.
    #[error("the table on disk is {0:?} old")]
    TooOld(Duration),
}

/// The last table on disk.
pub struct Cache {
    path: PathBuf,
    key: hmac::Key,
}

impl Cache {
    /// Reads the key, or makes one where there is none, and nothing else.
    ///
    /// # Errors
    /// [`CacheError`] when there is no key, or no folder.
    pub fn open(options: &CacheOptions) -> Result<Self, CacheError> {
        let fails = |path: &PathBuf| {
            let path = path.clone();
            move |source| CacheError::File { path, source }
        };
        let key = match std::fs::read(&options.key) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_key(&options.key),
            read => read,
        };
        let key = key.map_err(fails(&options.key))?;
        if key.len() < KEY_BYTES_MIN {
            return Err(CacheError::ShortKey(options.key.clone()));
        }
        std::fs::create_dir_all(&options.folder).map_err(fails(&options.folder))?;
        Ok(Self { path: options.folder.join(FILE), key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// The last table and when it was last known to be good; nothing when there is none.
    ///
    /// # Errors
    /// [`CacheError`] when it is not to be trusted.
    pub fn load(&self, now: Timestamp, age_max: Duration) -> Result<Option<(Replica, Timestamp)>, CacheError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CacheError::File { path: self.path.clone(), source }),
        };
        let (tag, rest) = bytes.split_at_checked(TAG_BYTES).ok_or(CacheError::NotOurs)?;
        hmac::verify(&self.key, rest, tag).map_err(|_| CacheError::NotOurs)?;
        let (time, table) = rest.split_first_chunk::<TIME_BYTES>().ok_or(CacheError::NotOurs)?;
        let at = Timestamp::from_nanos(u64::from_be_bytes(*time));
        let age = now.saturating_since(at);
        if !age_max.is_zero() && age > age_max {
            return Err(CacheError::TooOld(age));
        }
        let replica = Replica::from_bytes(table).map_err(|_| CacheError::NotOurs)?;
        Ok(Some((replica, at)))
    }

    /// Keeps a table, as [`Replica::to_bytes`] makes it, good at `now`.
    ///
    /// # Errors
    /// [`CacheError`]; the one before is still there then.
    pub fn store(&self, table: &[u8], now: Timestamp) -> Result<(), CacheError> {
        let fails = |source| CacheError::File { path: self.path.clone(), source };
        let rest = [&now.as_nanos().to_be_bytes()[..], table].concat();
        let tag = hmac::sign(&self.key, &rest);
        let new = self.path.with_extension("new");
        put(&new, &self.path, &[tag.as_ref(), &rest]).map_err(fails)
    }
}

/// A key that only this process's user can read.
fn make_key(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES_MIN];
    aws_lc_rs::rand::fill(&mut key).map_err(std::io::Error::other)?;
    put(&path.with_extension("new"), path, &[&key])?;
    Ok(key)
}

/// Writes a file whole or not at all, for this process's user alone; it is there after a crash too.
fn put(new: &Path, path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    // What a crash left behind may be another's to read.
    match std::fs::remove_file(new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    std::fs::rename(new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use tidegate_grants_proto::{Epoch, Journal, JournalLimits};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn table() -> Vec<u8> {
        let mut journal = Journal::new(Epoch([1; 16]), JournalLimits::default());
        let mut replica = Replica::new();
        replica.handle_bytes(&journal.open(None, 1).0.concat());
        while replica.poll_progress().unwrap().is_some() {}
        replica.to_bytes().unwrap()
    }

    fn cache(folder: &tempfile::TempDir, key: &[u8]) -> Result<Cache, CacheError> {
        let options = CacheOptions { folder: folder.path().join("tables"), key: folder.path().join("key") };
        std::fs::write(&options.key, key).unwrap();
        Cache::open(&options)
    }

    #[test]
    fn a_table_comes_back_until_it_is_too_old() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, &[7; 32]).unwrap();
        assert!(cache.load(NOW, HOUR).unwrap().is_none());
        cache.store(&table(), NOW).unwrap();
        let later = NOW.saturating_add(HOUR);
        assert_eq!(cache.load(later, HOUR).unwrap().unwrap().1, NOW);
        let too_late = later.saturating_add(Duration::from_secs(1));
        assert!(matches!(cache.load(too_late, HOUR), Err(CacheError::TooOld(_))));
        assert!(cache.load(too_late, Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn a_table_that_was_changed_or_cut_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, &[7; 32]).unwrap();
        cache.store(&table(), NOW).unwrap();
        let whole = std::fs::read(&cache.path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            for bytes in [&changed[..], &whole[..at]] {
                std::fs::write(&cache.path, bytes).unwrap();
                assert!(matches!(cache.load(NOW, HOUR), Err(CacheError::NotOurs)), "at {at}");
            }
        }
    }

    #[test]
    fn another_key_or_a_short_one_is_no_use() {
        let folder = tempfile::tempdir().unwrap();
        cache(&folder, &[7; 32]).unwrap().store(&table(), NOW).unwrap();
        assert!(matches!(cache(&folder, &[8; 32]).unwrap().load(NOW, HOUR), Err(CacheError::NotOurs)));
        assert!(matches!(cache(&folder, &[7; 31]), Err(CacheError::ShortKey(_))));
    }

    #[test]
    fn a_key_is_made_where_there_is_none_and_nobody_else_can_read_what_is_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let options = CacheOptions { folder: folder.path().join("tables"), key: folder.path().join("key") };
        Cache::open(&options).unwrap().store(&table(), NOW).unwrap();
        let again = Cache::open(&options).unwrap();
        assert!(again.load(NOW, HOUR).unwrap().is_some());
        for path in [&options.key, &again.path] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
        assert!(std::fs::read(&options.key).unwrap().iter().any(|byte| *byte != 0));
    }
}
