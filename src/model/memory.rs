// SPDX-License-Identifier: GPL-2.0-or-later
//! What was found out before and need not be found out again, below `cache_tree`: `known/M/V` for each package.
//!
//! It may be deleted at any time. Only root writes it, and nothing but what root wrote is believed. A file that is
//! damaged, or from another version of this program, is taken for one that is not there.
//!
//! Files in `known` have fields that end with NUL: the title; the number of evaluated confs, then a key and the values of each; the number of pairs of
//! equal files, then the path of one and what both looked like; a checksum of all that.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::module::Id;
use crate::system::directories::remove_empty_up_to;
use crate::system::shell::Values;
use crate::system::{files, scratch};

mod directories;
#[cfg(test)]
mod tests;

pub use directories::Visited;

/// First of a file, for those who read it.
const TITLE: &str = concat!("dkms-rs ", env!("CARGO_PKG_VERSION"), ": what is known of a package, 1");

/// Answers about one package that are kept even if this run has no use for them.
const KEPT: usize = 64;

/// A file that changed a shorter time ago may change again without looking different.
const SETTLED: Duration = Duration::from_secs(2);

/// What is known; loaded package by package, written by [`Memory::save`]. A clone is the same memory.
#[derive(Debug, Clone)]
pub struct Memory {
    caches: PathBuf,
    /// Of packages.
    dir: PathBuf,
    /// Of kernels, see `directories`.
    kernels: PathBuf,
    writable: bool,
    /// Whose files are believed: root's.
    writer: u32,
    packages: Arc<Mutex<HashMap<Id, Package>>>,
}

#[derive(Debug, Default)]
struct Package {
    confs: Vec<Known>,
    /// What two equal files looked like, by the path of the first.
    pairs: BTreeMap<String, String>,
    changed: bool,
}

/// An evaluated conf.
#[derive(Debug)]
struct Known {
    key: Vec<u8>,
    values: Vec<u8>,
    used: bool,
}

impl Memory {
    /// What is known below `cache_tree`. Only root adds to it.
    pub fn new(cache_tree: &Path, root: bool) -> Self {
        let (dir, kernels) = (cache_tree.join("known"), cache_tree.join("kernels"));
        Self { caches: cache_tree.to_owned(), dir, kernels, writable: root, writer: 0, packages: Arc::default() }
    }

    /// What knows nothing, and is not written.
    pub fn nowhere() -> Self {
        Self::new(Path::new("/nonexistent"), false)
    }

    /// What a conf said when it was evaluated with this key.
    pub fn values(&self, id: &Id, key: &[u8]) -> Option<Values> {
        let known = |package: &mut Package| {
            let known = package.confs.iter_mut().find(|known| known.key == key)?;
            known.used = true;
            Some(known.values.clone())
        };
        Values::from_text(std::str::from_utf8(&self.with(id, known)?).ok()?)
    }

    /// Remembers what a conf said, where there is a form for it.
    pub fn remember_values(&self, id: &Id, key: &[u8], values: &Values) {
        let Some(text) = values.to_text().filter(|text| !text.contains('\0') && !key.contains(&0)) else {
            return;
        };
        self.with(id, |package| {
            package.confs.retain(|known| known.key != key);
            package.confs.push(Known { key: key.to_vec(), values: text.into_bytes(), used: true });
            package.changed = true;
            Some(())
        });
    }

    /// Whether two files hold the same bytes. That they do is remembered as long as neither looks different.
    pub fn is_same(&self, id: &Id, a: &Path, b: &Path) -> bool {
        let looks = || Some((look(a)?, look(b)?));
        let Some(before) = looks() else {
            return false;
        };
        if before.0.file == before.1.file {
            return true;
        }
        let pair = format!("{} {}", before.0.text, before.1.text);
        let place = a.to_str().filter(|path| !path.contains('\0'));
        let known = |package: &mut Package| Some(package.pairs.get(place?)? == &pair);
        if self.with(id, known) == Some(true) {
            return true;
        }
        let same = files::same_content(a, b);
        if let (true, Some(place)) = (same && looks().as_ref() == Some(&before), place) {
            if before.0.is_settled() && before.1.is_settled() {
                self.with(id, |package| {
                    package.pairs.insert(place.to_owned(), pair);
                    package.changed = true;
                    Some(())
                });
            }
        }
        same
    }

    /// Forgets a package.
    pub fn forget(&self, id: &Id) {
        self.lock().remove(id);
        if let Some(file) = self.file(id).filter(|_| self.writable) {
            let _ = fs::remove_file(&file);
            remove_empty_up_to(file.parent().unwrap_or(&file), &self.dir);
        }
    }

    /// Writes what is new, and lets go of the rest. It is a cache: that it cannot be written is no error.
    pub fn save(&self) {
        for (id, mut package) in std::mem::take(&mut *self.lock()) {
            if !package.changed || !self.writable {
                continue;
            }
            if let Some(file) = self.file(&id) {
                package.tidy();
                if let Err(error) = scratch::write(&self.caches, &file, &package.to_bytes()) {
                    log::info!("{}: {error}", file.display());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Package>> {
        self.packages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, id: &Id) -> Option<PathBuf> {
        id.is_sane().then(|| self.dir.join(&id.name).join(&id.version))
    }

    /// Looks at a package, or changes it; it is read if that was not done yet.
    fn with<T>(&self, id: &Id, act: impl FnOnce(&mut Package) -> Option<T>) -> Option<T> {
        if let Some(package) = self.lock().get_mut(id) {
            return act(package);
        }
        // Read while others go on.
        let read = self.file(id).and_then(|file| Package::parse(&read(&file, self.writer)?)).unwrap_or_default();
        act(self.lock().entry(id.clone()).or_insert(read))
    }
}

impl Package {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = whole(bytes, TITLE)?;
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
        let mut package = Self::default();
        for _ in 0..text(fields.next()?)?.parse().ok()? {
            let (key, values) = (fields.next()?.to_vec(), fields.next()?.to_vec());
            package.confs.push(Known { key, values, used: false });
        }
        for _ in 0..text(fields.next()?)?.parse().ok()? {
            package.pairs.insert(text(fields.next()?)?, text(fields.next()?)?);
        }
        Some(package)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |field: &[u8]| {
            bytes.extend_from_slice(field);
            bytes.push(0);
        };
        field(TITLE.as_bytes());
        field(self.confs.len().to_string().as_bytes());
        for known in &self.confs {
            field(&known.key);
            field(&known.values);
        }
        field(self.pairs.len().to_string().as_bytes());
        for (place, pair) in &self.pairs {
            field(place.as_bytes());
            field(pair.as_bytes());
        }
        finish(bytes)
    }

    /// Drops what nobody is likely to ask for again: files that are gone, confs of old that were not used now.
    fn tidy(&mut self) {
        self.confs.sort_by_key(|known| !known.used);
        let used = self.confs.iter().filter(|known| known.used).count();
        self.confs.truncate(used.max(KEPT));
        self.pairs.retain(|place, _| Path::new(place).exists());
    }
}

/// The fields of a file that is whole, after its title.
fn whole<'a>(bytes: &'a [u8], title: &str) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
    let end = bytes.strip_suffix(&[0])?.iter().rposition(|byte| *byte == 0)? + 1;
    let (fields, sum) = bytes.split_at(end);
    let mut fields =
        Some(fields.split(|byte| *byte == 0)).filter(|_| sum[..sum.len() - 1] == *checksum(fields).as_bytes())?;
    (fields.next()? == title.as_bytes()).then_some(fields)
}

/// Fields made whole.
fn finish(mut fields: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&fields);
    fields.extend_from_slice(sum.as_bytes());
    fields.push(0);
    fields
}

fn checksum(bytes: &[u8]) -> String {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    format!("{:08x}", sum.sum())
}

/// Reads what root wrote, and nobody else can have.
fn read(file: &Path, writer: u32) -> Option<Vec<u8>> {
    let mut open = fs::File::open(file).ok()?;
    let meta = open.metadata().ok()?;
    if !meta.is_file() || meta.uid() != writer || meta.mode() & 0o022 != 0 {
        return None;
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
    std::io::Read::read_to_end(&mut open, &mut bytes).ok()?;
    Some(bytes)
}

/// What a file looks like without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    file: (u64, u64),
    text: String,
    changed: SystemTime,
}

impl Look {
    /// Whether whatever changes it from now on will show, because the last change is some time ago.
    fn is_settled(&self) -> bool {
        self.is_settled_at(SystemTime::now())
    }

    fn is_settled_at(&self, now: SystemTime) -> bool {
        now.duration_since(self.changed).is_ok_and(|age| age > SETTLED)
    }
}

fn look(file: &Path) -> Option<Look> {
    let meta = fs::metadata(file).ok()?;
    let text = format!(
        "{}:{}:{}:{}.{:09}:{}.{:09}",
        meta.dev(),
        meta.ino(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    );
    let seconds = Duration::from_secs(meta.ctime().try_into().ok()?);
    let changed = UNIX_EPOCH + seconds + Duration::from_nanos(meta.ctime_nsec().try_into().ok()?);
    Some(Look { file: (meta.dev(), meta.ino()), text, changed })
}
