//! Watched files and folders: told of any change within a second, through swapped symbolic links too.
//!
//! A mounted ConfigMap or Secret changes by a new target of its `..data` link, a network file system tells nothing at
//! all: so the kernel's notifications only make it faster, and a look at what the paths resolve to decides.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::{Notify, watch};

/// How long a change may go unseen where the kernel does not tell of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Changes that come together are told together.
const SETTLE: Duration = Duration::from_millis(50);
/// Folders below a watched one are followed this deep, so that a link to a parent ends.
const DEPTH_MAX: usize = 16;

/// What tells one state of a file from another.
type Look = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

/// Watches `paths`, folders with all below them, until the receiver is dropped. Each change raises the number.
///
/// Must be called within a tokio runtime.
#[must_use]
pub fn watch(paths: Vec<PathBuf>) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    // Taken before this returns, so that whatever the caller reads afterwards is not older than it.
    let mut last = look(&paths);
    tokio::spawn(async move {
        let hint = Arc::new(Notify::new());
        let watcher = watcher(&paths, &hint);
        loop {
            tokio::select! {
                () = sender.closed() => break,
                () = hint.notified() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let seen_paths = paths.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || look(&seen_paths)).await else { break };
            if now != last {
                last = now;
                sender.send_modify(|changes| *changes += 1);
            }
        }
        drop(watcher);
    });
    receiver
}

fn watcher(paths: &[PathBuf], hint: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let told = Arc::clone(hint);
    let mut watcher = notify::recommended_watcher(move |_event| told.notify_one()).ok()?;
    for path in paths {
        let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
        // Where this fails, as beyond the kernel's number of watches, the regular look remains.
        let _ = folder.map(|folder| watcher.watch(folder, RecursiveMode::Recursive));
    }
    Some(watcher)
}

fn look(paths: &[PathBuf]) -> Look {
    let mut seen = Look::new();
    paths.iter().for_each(|path| look_below(path, DEPTH_MAX, &mut seen));
    seen
}

fn look_below(path: &Path, depth_left: usize, seen: &mut Look) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let state = (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    seen.insert(path.to_owned(), state);
    if metadata.is_dir() && depth_left > 0 {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            look_below(&entry.path(), depth_left - 1, seen);
        }
    }
}
