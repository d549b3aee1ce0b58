//! The last table on disk: whole or not at all, ours or not at all, readable by nobody else, and not for ever.
//!
//! ```text
//! nonce (12 bytes) | AES-256-GCM of: when it was last known to be good, in nanoseconds since 1970 (8) | the table
//! ```
//!
//! Its key is derived from the one in the file, which is not kept beside the table; the nonce is drawn anew each time.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use tidegate_grants_proto::Replica;
use tidegate_model::Timestamp;

use crate::CacheOptions;

/// The file in the folder.
const FILE: &str = "grants";
/// Fewest bytes of the key.
const KEY_BYTES_MIN: usize = 32;
/// What keys are derived for, so that one file of a key may serve for something else too.
const PURPOSE: &[u8] = b"tidegate grants on disk, AES-256-GCM";
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
    /// The table was not written with this key, or not as it is written now, or is not as it was written.
    #[error("the table on disk is not as it was written")]
    NotOurs,
    /// The table is older than it may be.
    #[error("the table on disk is {0:?} old")]
    TooOld(Duration),
}

/// The last table on disk.
pub struct Cache {
    path: PathBuf,
    key: RandomizedNonceKey,
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
        let key = derived(&key).map_err(std::io::Error::other).map_err(fails(&options.key))?;
        Ok(Self { path: options.folder.join(FILE), key })
    }

    /// The last table and when it was last known to be good; nothing when there is none.
    ///
    /// # Errors
    /// [`CacheError`] when it is not to be trusted.
    pub fn load(&self, now: Timestamp, age_max: Duration) -> Result<Option<(Replica, Timestamp)>, CacheError> {
        let mut bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CacheError::File { path: self.path.clone(), source }),
        };
        let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>().ok_or(CacheError::NotOurs)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::empty(), sealed).map_err(|_| CacheError::NotOurs)?;
        let (time, table) = opened.split_first_chunk::<TIME_BYTES>().ok_or(CacheError::NotOurs)?;
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
        let mut sealed = [&now.as_nanos().to_be_bytes()[..], table].concat();
        let nonce = self.key.seal_in_place_append_tag(Aad::empty(), &mut sealed);
        let nonce = nonce.map_err(|error| fails(std::io::Error::other(error)))?;
        let new = self.path.with_extension("new");
        put(&new, &self.path, &[nonce.as_ref(), &sealed]).map_err(fails)
    }
}

/// The key that tables are sealed with, of the one in the file.
fn derived(key: &[u8]) -> Result<RandomizedNonceKey, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; 32];
    Salt::new(HKDF_SHA256, &[]).extract(key).expand(&[PURPOSE], &AES_256_GCM)?.fill(&mut bytes)?;
    RandomizedNonceKey::new(&AES_256_GCM, &bytes)
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
    use aws_lc_rs::hmac;
    use tidegate_grants_proto::{Epoch, Journal, JournalLimits, Keys};
    use tidegate_model::{Delta, KeyEntry, KeyHash, SharedKey, ThingEntry, ThingId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    const KEY: &[u8] = b"a key in clear";

    fn table() -> Vec<u8> {
        let mut journal = Journal::new(Epoch([1; 16]), JournalLimits::default());
        let shared = Some(SharedKey::new(KEY));
        let thing = ThingEntry {
            id: ThingId::new("lab", "dev").unwrap(),
            aliases: vec![],
            keys: vec![KeyEntry { hash: KeyHash::of(KEY), shared, not_before: None, not_after: None }],
            certificate: None,
            grants: vec![],
        };
        journal.apply(&Delta { things: vec![thing], ..Delta::default() });
        let mut replica = Replica::new();
        replica.handle_bytes(&journal.open(None, 1, Keys::Shared).0.concat());
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
    fn nobody_reads_a_key_or_a_name_on_disk_and_no_table_is_sealed_twice_alike() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, &[7; 32]).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..10 {
            cache.store(&table(), NOW).unwrap();
            let bytes = std::fs::read(&cache.path).unwrap();
            for secret in [KEY, KeyHash::of(KEY).as_bytes(), b"lab.dev"] {
                assert!(table().windows(secret.len()).any(|window| window == secret));
                assert!(!bytes.windows(secret.len()).any(|window| window == secret));
            }
            assert!(seen.insert(bytes[..NONCE_LEN].to_vec()), "a nonce was used twice");
        }
        let (replica, _) = cache.load(NOW, HOUR).unwrap().unwrap();
        assert_eq!(replica.to_bytes().unwrap(), table());
    }

    /// The form of versions that knew no keys in clear: the table, readable, behind its HMAC.
    #[test]
    fn a_table_of_the_form_before_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, &[7; 32]).unwrap();
        let rest = [&NOW.as_nanos().to_be_bytes()[..], &table()].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), &rest);
        std::fs::write(&cache.path, [tag.as_ref(), &rest].concat()).unwrap();
        assert!(matches!(cache.load(NOW, HOUR), Err(CacheError::NotOurs)));
        cache.store(&table(), NOW).unwrap();
        assert!(cache.load(NOW, HOUR).unwrap().is_some());
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
