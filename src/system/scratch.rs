// SPDX-License-Identifier: GPL-2.0-or-later
//! Directories for what is on its way: they vanish with their value, and where a kill prevents that, with the next run.
//!
//! A directory that is in use is locked, as flock(2) does it, so whoever finds one that is not knows that its user died.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::system::directories::remove_any;
use crate::system::files::At;

/// How the name of such a directory begins, where it stands among what is not ours to tidy.
pub const PREFIX: &str = ".dkms-work-";

/// So many letters and digits end it, at random.
const RANDOM: usize = 6;

/// Those that there are, and whether the directory that one is in goes with it.
static ALL: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());

fn all() -> MutexGuard<'static, BTreeMap<PathBuf, bool>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory, mode 700.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
    _in_use: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let parent_too = all().remove(self.dir.path()).unwrap_or_default();
        remove(self.dir.path(), parent_too);
    }
}

/// Removes all that this process has, because it ends.
pub fn remove_all() {
    for (dir, parent_too) in &*all() {
        // Threads of ours go on until they come upon the end: by this name they find nothing to add to.
        let moved = aside(dir).filter(|aside| fs::rename(dir, aside).is_ok());
        remove(moved.as_ref().unwrap_or(dir), *parent_too);
    }
}

/// A new name for a scratch directory, of the same kind.
fn aside(dir: &Path) -> Option<PathBuf> {
    let name = dir.file_name()?.to_str()?;
    let prefix = name.get(..name.len().checked_sub(RANDOM)?)?;
    let new = tempfile::Builder::new().prefix(prefix).rand_bytes(RANDOM).tempdir_in(dir.parent()?).ok()?;
    Some(new.keep())
}

fn remove(dir: &Path, parent_too: bool) {
    // A build may have made more levels than the standard library's way can remove.
    remove_any(dir).unwrap_or_else(|error| log::warn!("{error}; the next command removes it"));
    if let Some(parent) = dir.parent().filter(|_| parent_too) {
        // Fails where there is something else by now.
        let _ = fs::remove_dir(parent);
    }
}

impl Scratch {
    /// Makes one in `parent`.
    pub fn new(parent: &Path) -> io::Result<Self> {
        Self::named(parent, PREFIX)
    }

    /// The same with another beginning of the name.
    pub fn named(parent: &Path, prefix: &str) -> io::Result<Self> {
        let private = fs::Permissions::from_mode(0o700);
        loop {
            let dir = tempfile::Builder::new()
                .prefix(prefix)
                .rand_bytes(RANDOM)
                .permissions(private.clone())
                .tempdir_in(parent)
                .at(parent)?;
            // Between its making and its locking somebody may have taken it for one that nobody uses.
            if let Some(in_use) = lock(dir.path())? {
                all().insert(dir.path().to_owned(), false);
                return Ok(Self { dir, _in_use: in_use });
            }
        }
    }

    /// Makes one in `parent`, which is made too if it is missing, and goes again if nothing else came into it.
    pub fn with_parent(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent).at(parent)?;
        let scratch = Self::new(parent)?;
        all().insert(scratch.path().to_owned(), true);
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes a file or directory in one step: by its name it is there or not, never half. `parent` is a directory in the
/// same file system.
pub fn discard(parent: &Path, path: &Path) -> io::Result<()> {
    // What makes room on a full disk must not need any.
    let moved = Scratch::new(parent).and_then(|scratch| fs::rename(path, scratch.path().join("gone")));
    moved.or_else(|_| remove_any(path))
}

/// Removes the directories in `parent` that are ours, are called like this, and are not in use; whether there were any.
/// What cannot be removed stays.
pub fn sweep(parent: &Path, prefix: &str) -> bool {
    let named = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let random = name.as_encoded_bytes().strip_prefix(prefix.as_bytes());
        random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
    };
    let found: Vec<PathBuf> =
        fs::read_dir(parent).into_iter().flatten().flatten().filter(named).map(|entry| entry.path()).collect();
    let mut swept = false;
    for dir in found {
        // In a directory for all, others have theirs.
        let ours = fs::symlink_metadata(&dir)
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
        if !ours {
            continue;
        }
        let gone = lock(&dir).and_then(|nobodys| {
            swept |= nobodys.is_some();
            nobodys.map_or(Ok(()), |_| remove_any(&dir))
        });
        gone.unwrap_or_else(|error| log::info!("{}: {error}", dir.display()));
    }
    swept
}

/// Locks a directory, unless somebody has, or it is another one by now, or none.
fn lock(dir: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(dir);
    let file = match opened {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        opened => opened.at(dir)?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        locked => locked.map_err(io::Error::from).at(dir)?,
    }
    let locked = file.metadata().at(dir)?;
    let there = fs::symlink_metadata(dir).is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()));
    Ok(there.then_some(file))
}

/// Writes a file below `caches` in one step, readable by all; its directory is made if missing. It need not outlast a
/// power cut: who reads it can tell whether it is whole.
pub fn write(caches: &Path, file: &Path, bytes: &[u8]) -> io::Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all).at(file)?;
    let scratch = Scratch::new(caches)?;
    let new = scratch.path().join("new");
    fs::write(&new, bytes).at(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).at(&new)?;
    fs::rename(&new, file).at(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_nobody_uses_goes_and_nothing_else() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let used = Scratch::new(dir.path())?;
        fs::create_dir_all(at(".dkms-work-aB3dE6/below"))?;
        let others = ["other", ".dkms-backup", ".dkms-work-of-mine"];
        others.iter().try_for_each(|name| fs::create_dir(at(name)))?;
        fs::write(at(".dkms-work-aaaaaa"), "")?;
        symlink("other", at(".dkms-work-bbbbbb"))?;
        let another = Scratch::new(dir.path())?;
        assert!(sweep(dir.path(), PREFIX) && !sweep(dir.path(), PREFIX));
        assert!(!at(".dkms-work-aB3dE6").exists());
        assert!(used.path().is_dir() && another.path().is_dir());
        assert!(others.iter().all(|name| at(name).is_dir()));
        assert!(at(".dkms-work-aaaaaa").exists() && at(".dkms-work-bbbbbb").exists());
        let place = used.path().to_owned();
        drop(used);
        assert!(!place.exists());
        Ok(())
    }
}
