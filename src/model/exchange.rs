// SPDX-License-Identifier: GPL-2.0-or-later
//! Objects that builders have from each other.
//!
//! A build talks to nobody, so what it may need is brought to it: for each set of objects there is a list of those that
//! builds used lately, in the order in which they did. While a build runs, what is on the list and not in its own cache is
//! put where it can read; afterwards what it used and nobody had goes the other way. A package's objects and lists are
//! kept under its name, which is put on here, where no build can choose it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::system::files::{At, open_foreign, read_foreign};
use crate::system::remote::{LARGEST, Off, PATIENCE, Remote};
use crate::system::scratch::Scratch;

/// What is brought to one build, or from it, is not more than this, in bytes,
const MOST_BYTES: u64 = 256 << 20;

/// nor are these more objects. A list has no more either: a few kernels' or versions' of the largest packages.
const MOST_NAMES: usize = 1 << 13;

/// A build's share of its own time that may go into giving what it made, at least [`PATIENCE`].
const TITHE: u32 = 10;

/// How long one object may be on its way while nobody waits for it,
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// and how long somebody waits: for a connection and an answer, each of which has its [`PATIENCE`].
const SOON: Duration = Duration::from_secs(2);

/// What a build has from other builders, and what they will have from it.
#[derive(Debug)]
pub struct Exchange {
    share: Arc<Share>,
    /// Goes with it.
    _place: Scratch,
    began: SystemTime,
    started: Instant,
}

/// What is brought to it, as far as the one who brings it knows.
#[derive(Debug)]
struct Share {
    remote: Arc<Remote>,
    owner: String,
    /// What the list is called.
    list: String,
    /// Its own cache.
    shelf: PathBuf,
    /// Where it finds what is brought.
    objects: PathBuf,
    /// What is on the list, and nowhere else.
    lost: Mutex<HashSet<String>>,
    /// Nothing is brought any more. Held while something is.
    over: Mutex<bool>,
}

impl Exchange {
    /// Begins to bring what `owner`'s list has and the cache at `shelf` has not, and waits for it, but not for long. None
    /// where nobody gives anything.
    pub fn begin(
        remote: &Arc<Remote>,
        caches: &Path,
        owner: &str,
        list: String,
        shelf: &Path,
    ) -> io::Result<Option<Self>> {
        if remote.why_not().is_some() {
            return Ok(None);
        }
        let place = Scratch::new(caches)?;
        let objects = place.path().join("objects");
        make_dir(&objects)?;
        let share = Arc::new(Share {
            remote: Arc::clone(remote),
            owner: owner.to_owned(),
            list,
            shelf: shelf.to_owned(),
            objects,
            lost: Mutex::default(),
            over: Mutex::new(false),
        });
        // A file system may keep times by a clock that is a little late.
        let began = SystemTime::now() - Duration::from_secs(1);
        let (end, ended) = mpsc::channel::<()>();
        let bringing = Arc::clone(&share);
        // Nobody waits for its end: to look up a name can take long, whatever the timeouts.
        thread::Builder::new().spawn(move || {
            let _end = end;
            bringing.bring().unwrap_or_else(|why| log::info!("what builders share: {why:?}"));
        })?;
        let exchange = Self { share, _place: place, began, started: Instant::now() };
        if ended.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout) {
            remote.has_to_answer();
        }
        Ok(Some(exchange).filter(|_| remote.why_not().is_none()))
    }

    /// The directory that the build is to see, as ccache keeps a storage of files.
    pub fn objects(&self) -> &Path {
        &self.share.objects
    }

    /// Whether this is by a list of that name.
    pub fn is_by(&self, list: &str) -> bool {
        self.share.list == list
    }

    /// Gives what the build used and nobody had. Takes a fraction of the time that the build took.
    pub fn give(self) {
        self.share.end();
        let most = PATIENCE.max(self.started.elapsed() / TITHE);
        let given = self.share.give(self.began, Instant::now() + most);
        log::info!("{}: gave {given:?} objects", self.share.owner);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.share.end();
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Share {
    /// The build needs no more.
    fn end(&self) {
        *hold(&self.over) = true;
    }

    fn bring(&self) -> Result<(), Off> {
        let names = self.list(ON_ITS_WAY)?;
        // Both the way here and the build's own cache are on this disk, which shall not be full of it.
        let free = rustix::fs::statvfs(&self.objects).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
        let mut left = MOST_BYTES.min(free / 8);
        for name in names {
            // What the other builders' manifests say is news even where there is one.
            if !is_manifest(&name) && has(&self.shelf, &name) {
                continue;
            }
            let Some(bytes) = self.remote.get(&self.owner, &name, Instant::now() + ON_ITS_WAY)? else {
                hold(&self.lost).insert(name);
                continue;
            };
            let over = hold(&self.over);
            left = left.saturating_sub(bytes.len() as u64);
            if *over || left == 0 || self.put_down(&name, &bytes).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The names that are on the list now.
    fn list(&self, within: Duration) -> Result<Vec<String>, Off> {
        let list = self.remote.get(&self.owner, &self.list, Instant::now() + within)?;
        Ok(names(&list.unwrap_or_default()))
    }

    /// Where the build finds an object: nobody sees half of one there. ccache keeps an object and its manifest apart by
    /// their keys alone, which are the same where an object reads no header that it looks into; such a one is compiled.
    fn at(&self, name: &str) -> PathBuf {
        let (dir, file) = name[..name.len() - 1].split_at(2);
        self.objects.join(dir).join(file)
    }

    fn put_down(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (place, new) = (self.at(name), self.objects.with_file_name("new"));
        place.parent().map_or(Ok(()), make_dir)?;
        fs::write(&new, bytes).at(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).at(&new)?;
        fs::rename(&new, &place).at(&place)
    }

    fn give(&self, began: SystemTime, until: Instant) -> Result<usize, Off> {
        let used = used_since(&self.shelf, began);
        if used.is_empty() {
            return Ok(0);
        }
        let mut known: HashSet<String> = self.list(SOON)?.into_iter().collect();
        known.retain(|name| !hold(&self.lost).contains(name));
        let (mut given, mut left) = (0, MOST_BYTES);
        for (name, path) in &used {
            let is_known = known.contains(name);
            if is_known && !is_manifest(name) {
                continue;
            }
            let Ok(bytes) = read_foreign(&self.shelf, path, LARGEST.min(left)) else { continue };
            if is_known && fs::read(self.at(name)).is_ok_and(|brought| brought == bytes) {
                continue;
            }
            if Instant::now() >= until {
                break;
            }
            left -= bytes.len() as u64;
            self.remote.put(&self.owner, name, &bytes, until + PATIENCE)?;
            known.insert(name.clone());
            given += 1;
        }
        if given > 0 {
            // Others wrote there meanwhile.
            let before = self.list(SOON)?;
            let used = used.iter().map(|(name, _)| name).filter(|name| known.contains(*name));
            let list = merged(used, &before);
            self.remote.put(&self.owner, &self.list, list.as_bytes(), Instant::now() + SOON)?;
        }
        Ok(given)
    }
}

/// The names on a list. Whatever else another machine may put there is passed over.
pub fn names(list: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(list);
    text.lines().filter(|name| is_object(name)).take(MOST_NAMES).map(str::to_owned).collect()
}

/// The list after a build: what it used comes first.
fn merged<'a>(used: impl Iterator<Item = &'a String>, before: &'a [String]) -> String {
    let mut seen = HashSet::new();
    let names = used.chain(before).filter(|name| seen.insert(name.as_str())).take(MOST_NAMES);
    names.flat_map(|name| [name, "\n"]).collect()
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o755))).at(dir),
    }
}

/// Whether this is ccache's name for an object, or for what says which object it is: a manifest. Only these are brought
/// and given.
fn is_object(name: &str) -> bool {
    let (key, kind) = name.split_at_checked(name.len().saturating_sub(1)).unwrap_or_default();
    let plain = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    plain && (16..=64).contains(&key.len()) && matches!(kind, "R" | "M")
}

fn is_manifest(name: &str) -> bool {
    name.ends_with('M')
}

/// Whether a cache has an object. The larger it is the more levels it has, of a letter each: `a/b/cdef`. A link, which a
/// build may have put there, is none, wherever it leads to.
fn has(shelf: &Path, name: &str) -> bool {
    let place = |levels: usize| {
        let (dirs, file) = name.split_at(levels);
        dirs.chars().fold(PathBuf::new(), |dir, letter| dir.join(letter.to_string())).join(file)
    };
    (1..=4).any(|levels| open_foreign(shelf, &place(levels)).is_ok())
}

/// The objects of a cache that were written or read since then, in this order, and where they are in it. A build may have
/// put anything there, and still be at it: another one of the same package.
fn used_since(shelf: &Path, began: SystemTime) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut dirs = vec![(String::new(), PathBuf::new())];
    while let Some((name, path)) = dirs.pop() {
        for entry in fs::read_dir(shelf.join(&path)).into_iter().flatten().flatten() {
            let (Ok(meta), Some(part)) = (entry.metadata(), entry.file_name().to_str().map(str::to_owned)) else {
                continue;
            };
            let (name, path) = (format!("{name}{part}"), path.join(&part));
            if meta.is_dir() && part.len() == 1 && name.len() <= 4 {
                dirs.push((name, path));
            } else if meta.is_file() && is_object(&name) {
                found.extend(meta.modified().ok().filter(|time| *time >= began).map(|time| (time, name, path)));
            }
            if found.len() >= MOST_NAMES {
                dirs.clear();
                break;
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, name, path)| (name, path)).collect()
}

#[cfg(test)]
mod tests;
