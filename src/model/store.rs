// SPDX-License-Identifier: GPL-2.0-or-later
//! Whole results, under the key of everything that made them: what was built once need not be built again.
//!
//! One directory for each key: the files, and beside them a manifest with their digests, by which an entry that is
//! damaged, or lies under a key that is not its own, is no entry. Modules are kept as they came out of the build,
//! stripped but neither signed nor compressed: that is this machine's own business, and is done each time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use crate::model::module::{Id, Target};
use crate::model::origin::Origin;
use crate::model::site::Site;
use crate::system::digest;
use crate::system::directories::{by_age, find};
use crate::system::files::{At, publish};
use crate::system::sandbox::Isolation;
use crate::system::scratch::Scratch;
use crate::system::trust;

/// What a build made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// What it was made of, where other machines can tell.
    pub origin: Option<Origin>,
    /// Whether its modules are signed already, by the machine that they are from.
    pub signed: bool,
    /// What it told: the descriptions of its commands, in their order.
    pub told: Vec<String>,
    /// Its files by their names below `TREE/M/V/K/A`, the log among them.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// In bytes.
    limit: u64,
}

/// The name of the list of all that is in a result.
pub const MANIFEST: &str = "manifest";

/// Where the log is among a result's files.
pub const LOG: &str = "log/make.log";

/// The directory of its files.
pub const FILES: &str = "files";

impl Store {
    /// The store of this machine; none where it is not wanted, or where builds are not kept apart: what they saw is not
    /// known then.
    pub fn of(site: &Site) -> Option<Self> {
        let framework = &site.framework;
        let usable = framework.result_store && Isolation::available() == Isolation::Namespaces;
        let caches = site.own_caches().filter(|_| usable)?;
        Some(Self { root: caches.join("results"), limit: framework.result_store_size })
    }

    /// What is kept under a key, if all of it is what it was.
    pub fn get(&self, key: &str) -> Option<Made> {
        let dir = self.root.join(key);
        if !dir.exists() {
            return None;
        }
        let made = self.look(key);
        match &made {
            // Used now: others go first.
            Some(_) => drop(fs::File::open(&dir).and_then(|dir| dir.set_modified(SystemTime::now()))),
            None => {
                log::warn!("{} is damaged", dir.display());
                let _ = fs::remove_dir_all(&dir);
            }
        }
        made
    }

    /// The same, without using it: it goes when it would have gone.
    pub fn look(&self, key: &str) -> Option<Made> {
        let dir = self.root.join(key);
        // What it says of itself is worth what whoever could write it is.
        trust::check_all(&dir).inspect_err(|weak| log::warn!("{weak}")).ok()?;
        let manifest = fs::read_to_string(dir.join(MANIFEST)).ok()?;
        Made::read(key, &manifest, |name| fs::read(dir.join(FILES).join(name)).ok())
    }

    /// Keeps a result. Of two that are kept at once one stays.
    pub fn put(&self, key: &str, made: &Made) -> io::Result<()> {
        fs::create_dir_all(&self.root).at(&self.root)?;
        let scratch = Scratch::new(self.root.parent().unwrap_or(&self.root))?;
        let new = scratch.path().join(key);
        fs::create_dir(&new).at(&new)?;
        let manifest = made.manifest(key)?;
        for (name, bytes) in &made.files {
            let file = new.join(FILES).join(name);
            file.parent().map_or(Ok(()), fs::create_dir_all).at(&file)?;
            fs::write(&file, bytes).at(&file)?;
        }
        let file = new.join(MANIFEST);
        fs::write(&file, manifest).at(&file)?;
        publish(&new, &self.root.join(key))?;
        self.collect();
        Ok(())
    }

    /// The keys of all that is kept, of what was used last first.
    pub fn keys(&self) -> Vec<String> {
        let name = |dir: &PathBuf| Some(dir.file_name()?.to_str()?.to_owned());
        by_age(&self.root).iter().rev().filter_map(name).collect()
    }

    /// What an entry was made of, by its own word.
    pub fn origin(&self, key: &str) -> Option<Origin> {
        origin(&fs::read_to_string(self.root.join(key).join(MANIFEST)).ok()?)
    }

    /// Makes room: what was longest not used goes until the rest is within the limit.
    fn collect(&self) {
        let size = |dir: &Path| -> u64 {
            find(dir, &mut |_| true).iter().filter_map(|file| Some(fs::symlink_metadata(file).ok()?.len())).sum()
        };
        let mut total = 0;
        for dir in by_age(&self.root).iter().rev() {
            let size = size(dir);
            if total + size > self.limit {
                let _ = fs::remove_dir_all(dir);
            } else {
                total += size;
            }
        }
    }
}

impl Made {
    /// The list of all that is in it.
    pub fn manifest(&self, key: &str) -> io::Result<String> {
        let mut manifest = format!("key {key}\n");
        let mut add = |word: &str, value: &str| {
            if value.contains('\n') {
                return Err(io::Error::other(format!("{value:?} cannot be noted")));
            }
            manifest.push_str(&format!("{word} {value}\n"));
            Ok(())
        };
        if let Some(Origin { id, target, kernel_version, source }) = &self.origin {
            let known = [&id.name, &id.version, &target.release, &target.arch, kernel_version, source];
            ORIGIN.iter().zip(known).try_for_each(|(word, value)| add(word, value))?;
        }
        if self.signed {
            add("signed", "yes")?;
        }
        self.told.iter().try_for_each(|told| add("told", told))?;
        for (name, bytes) in &self.files {
            let name = name.to_str().ok_or_else(|| io::Error::other(format!("{name:?} cannot be noted")))?;
            add("file", &format!("{} {name}", digest::of(bytes)))?;
        }
        Ok(manifest)
    }

    /// What stands under a key, with all its files, if each is what the manifest says.
    pub fn read(key: &str, manifest: &str, mut file: impl FnMut(&str) -> Option<Vec<u8>>) -> Option<Self> {
        let mut lines = manifest.lines();
        if lines.next()?.strip_prefix("key ")? != key || !manifest.ends_with('\n') {
            return None;
        }
        let mut made = Self { origin: origin(manifest), ..Self::default() };
        for line in lines {
            match line.split_once(' ')? {
                ("signed", "yes") => made.signed = true,
                ("told", told) => made.told.push(told.to_owned()),
                ("file", rest) => {
                    let (known, name) = rest.split_once(' ')?;
                    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
                        return None;
                    }
                    let bytes = file(name)?;
                    if digest::of(&bytes) != known {
                        return None;
                    }
                    made.files.insert(name.into(), bytes);
                }
                (word, _) if ORIGIN.contains(&word) => {}
                _ => return None,
            }
        }
        Some(made)
    }
}

/// What the manifest says of an origin, word by word.
const ORIGIN: [&str; 6] = ["module", "version", "kernel", "arch", "kernel-version", "source"];

fn origin(manifest: &str) -> Option<Origin> {
    let mut values =
        ORIGIN.map(|word| manifest.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))).into_iter();
    let mut next = || values.next()?.map(str::to_owned);
    Some(Origin {
        id: Id::new(next()?, next()?),
        target: Target::new(next()?, next()?),
        kernel_version: next()?,
        source: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Made {
        let target = Target::new("6.1", "x86_64");
        let origin = Origin { id: Id::new("a", "1 0"), target, kernel_version: "2".into(), source: "s".into() };
        Made {
            origin: Some(origin),
            signed: true,
            told: vec!["Building module(s)".into()],
            files: BTreeMap::from([
                ("module/a b.ko".into(), text.as_bytes().to_vec()),
                ("log/make.log".into(), b"log\n".to_vec()),
            ]),
        }
    }

    fn store(limit: u64) -> io::Result<(tempfile::TempDir, Store)> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().join("results");
        Ok((dir, Store { root, limit }))
    }

    #[test]
    fn what_was_put_is_got_and_what_was_touched_is_not() -> io::Result<()> {
        let (_dir, store) = store(1 << 20)?;
        assert_eq!(store.get("k"), None);
        store.put("k", &made("one"))?;
        assert_eq!(store.get("k"), Some(made("one")));
        assert_eq!(store.origin("k"), made("one").origin);
        store.put("k", &made("two"))?;
        assert_eq!(store.get("k"), Some(made("two")));
        // Under a key that is not its own.
        fs::rename(store.root.join("k"), store.root.join("other"))?;
        assert_eq!(store.get("other"), None);
        let outside = format!("key k\nfile {} ../manifest\n", digest::of(b""));
        for (file, text) in [
            ("files/module/a b.ko", "evil"),
            ("manifest", "key k\nfile"),
            ("manifest", "key k\nfile x"),
            ("manifest", &outside),
        ] {
            store.put("k", &made("one"))?;
            fs::write(store.root.join("k").join(file), text)?;
            assert_eq!(store.get("k"), None, "{file}");
            assert!(!store.root.join("k").exists());
        }
        Ok(())
    }

    #[test]
    fn the_longest_not_used_goes_first() -> io::Result<()> {
        let (_dir, store) = store(5000)?;
        let large = made(&"x".repeat(2000));
        for key in ["a", "b"] {
            store.put(key, &large)?;
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(store.get("a").is_some());
        store.put("c", &large)?;
        assert_eq!(["a", "b", "c"].map(|key| store.get(key).is_some()), [true, false, true]);
        // One that is larger than all of it is not kept, and sends nobody away.
        store.put("d", &made(&"x".repeat(6000)))?;
        assert_eq!(["a", "c", "d"].map(|key| store.get(key).is_some()), [true, true, false]);
        Ok(())
    }
}
