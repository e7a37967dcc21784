// SPDX-License-Identifier: GPL-2.0-or-later
//! Digests (SHA-256, in hexadecimal) of what things are made from, and notes of those of large directories.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::directories::by_age;
use super::files::At;
use super::scratch;

/// A digest in the making. Each part counts with its length, so that no two lists of parts are alike.
#[derive(Debug, Clone)]
pub struct Digest(Sha256);

impl Digest {
    /// Of nothing yet; `kind` keeps digests of different things apart.
    pub fn new(kind: &str) -> Self {
        let mut digest = Self(Sha256::new());
        digest.add(kind);
        digest
    }

    /// Adds one part.
    pub fn add(&mut self, part: impl AsRef<[u8]>) -> &mut Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// The digest, 64 digits.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The digest of some bytes.
pub fn of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files below a directory, by their names relative to it.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, (PathBuf, Metadata)>);

/// More files than the headers of a kernel have. Who points at more does not mean headers.
const MOST_FILES: usize = 200_000;

impl Tree {
    /// All files and links below `dir`. Links to directories that stand in `dir` itself are entered, as kernel packages
    /// share directories by these; all others are what they say.
    pub fn walk(dir: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.enter(dir, Path::new(""), true)?;
        Ok(tree)
    }

    /// Adds what is below another directory, under the name `name`.
    pub fn add(&mut self, dir: &Path, name: &str) -> io::Result<()> {
        self.enter(dir, Path::new(name), true)
    }

    /// Adds one file, if it is there.
    pub fn add_file(&mut self, file: &Path, name: &str) -> io::Result<()> {
        match fs::metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            meta => drop(self.0.insert(name.into(), (file.to_owned(), meta.at(file)?))),
        }
        Ok(())
    }

    fn enter(&mut self, dir: &Path, name: &Path, top: bool) -> io::Result<()> {
        for entry in fs::read_dir(dir).at(dir)? {
            let entry = entry.at(dir)?;
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            let kind = entry.file_type().at(&path)?;
            if kind.is_dir() || top && kind.is_symlink() && path.is_dir() {
                self.enter(&path, &name, false)?;
            } else if kind.is_file() || kind.is_symlink() {
                if self.0.len() == MOST_FILES {
                    return Err(io::Error::other(format!("{}: too many files", dir.display())));
                }
                let meta = entry.metadata().at(&path)?;
                self.0.insert(name, (path, meta));
            }
        }
        Ok(())
    }

    /// The digest of the names that `wanted` accepts.
    pub fn names(&self, wanted: impl Fn(&Path) -> bool) -> String {
        let mut digest = Digest::new("names");
        for name in self.0.keys().filter(|name| wanted(name)) {
            digest.add(name.as_os_str().as_bytes());
        }
        digest.finish()
    }

    /// The digest of names and contents, links by what they say and by what a file behind them holds. `look` sees each
    /// file's name and content.
    pub fn content(&self, mut look: impl FnMut(&Path, &[u8])) -> io::Result<String> {
        let mut digest = Digest::new("content");
        for (name, (path, meta)) in &self.0 {
            digest.add(name.as_os_str().as_bytes());
            if meta.is_symlink() {
                digest.add(fs::read_link(path).at(path)?.as_os_str().as_bytes());
            }
            if path.is_file() {
                let bytes = fs::read(path).at(path)?;
                look(name, &bytes);
                digest.add(if meta.mode() & 0o111 == 0 { "file" } else { "program" }).add(bytes);
            }
        }
        Ok(digest.finish())
    }

    /// What changes whenever a file does, without a look into any; and when the last of them changed.
    fn signature(&self) -> (String, SystemTime) {
        let mut digest = Digest::new("signature");
        let mut newest = 0;
        for (name, (path, meta)) in &self.0 {
            let numbers = [
                meta.dev() as i64,
                meta.ino() as i64,
                meta.len() as i64,
                meta.mode().into(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
            ];
            digest.add(name.as_os_str().as_bytes()).add(path.as_os_str().as_bytes());
            for number in numbers {
                digest.add(number.to_le_bytes());
            }
            newest = newest.max(meta.ctime());
        }
        (digest.finish(), SystemTime::UNIX_EPOCH + Duration::from_secs(newest.unsigned_abs()))
    }
}

/// How old a change must be to be sure that none came after it with the same time.
const SETTLED: Duration = Duration::from_secs(2);

/// How many digests are remembered.
const MOST_NOTES: usize = 512;

/// Remembers the digests of directories' contents, under what stat(2) says of their files.
#[derive(Debug, Clone)]
pub struct Notes {
    dir: Option<PathBuf>,
}

impl Notes {
    /// One that keeps its notes in `dir`, which need not exist; without, it remembers nothing.
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    /// The digest of a tree's content, read only if it is not known.
    pub fn content(&self, tree: &Tree) -> io::Result<String> {
        let Some(dir) = &self.dir else {
            return tree.content(|_, _| {});
        };
        let (signature, changed) = tree.signature();
        let note = dir.join(&signature);
        if let Ok(known) = fs::read_to_string(&note) {
            // What was cut off or is nobody's digest is not believed.
            if known.len() == 64 && known.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Ok(known);
            }
        }
        let looked = SystemTime::now();
        let content = tree.content(|_, _| {})?;
        if looked.duration_since(changed).is_ok_and(|age| age > SETTLED) {
            // Whoever cannot remember reads again.
            let kept = scratch::write(dir.parent().unwrap_or(dir), &note, content.as_bytes());
            kept.unwrap_or_else(|error| log::info!("{error}"));
            forget_oldest(dir);
        }
        Ok(content)
    }

    /// The digest of one file's content; of none where there is no such file.
    pub fn file(&self, file: &Path) -> io::Result<String> {
        let mut tree = Tree::default();
        tree.add_file(file, "file")?;
        self.content(&tree)
    }
}

fn forget_oldest(dir: &Path) {
    let notes = by_age(dir);
    for note in notes.iter().take(notes.len().saturating_sub(MOST_NOTES)) {
        let _ = fs::remove_file(note);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let digest = |parts: &[&str]| {
            let mut digest = Digest::new("test");
            for part in parts {
                digest.add(part);
            }
            digest.finish()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["a"]), digest(&["a", ""]));
        assert_eq!(of(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_tree_is_what_it_holds_and_not_where_it_lies() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        for place in ["a", "b"] {
            fs::create_dir_all(dir.path().join(place).join("sub"))?;
            fs::write(dir.path().join(place).join("sub/x.h"), "one")?;
            symlink("sub/x.h", dir.path().join(place).join("y.h"))?;
        }
        let content = |place: &str| Tree::walk(&dir.path().join(place)).and_then(|tree| tree.content(|_, _| {}));
        let before = content("a")?;
        assert_eq!(before, content("b")?);
        fs::write(dir.path().join("b/sub/x.h"), "two")?;
        assert_ne!(before, content("b")?);
        fs::write(dir.path().join("b/sub/x.h"), "one")?;
        fs::write(dir.path().join("b/sub/new.h"), "")?;
        assert_ne!(before, content("b")?);
        let names = |place: &str, end: &str| {
            Tree::walk(&dir.path().join(place)).map(|tree| tree.names(|name| name.to_string_lossy().ends_with(end)))
        };
        assert_ne!(names("a", ".h")?, names("b", ".h")?);
        assert_eq!(names("a", ".c")?, names("b", ".c")?);
        Ok(())
    }

    #[test]
    fn notes_are_believed_only_for_files_that_did_not_change() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (file, place) = (dir.path().join("f"), dir.path().join("notes"));
        fs::write(&file, "one")?;
        let notes = Notes::new(Some(place.clone()));
        let one = notes.file(&file)?;
        // Just written: nothing is remembered, for it could change again unseen.
        assert!(!place.exists());
        std::thread::sleep(SETTLED + Duration::from_millis(1100));
        assert_eq!(notes.file(&file)?, one);
        let note = fs::read_dir(&place)?.next().expect("a note")?.path();
        fs::write(&note, "f".repeat(64))?;
        assert_eq!(notes.file(&file)?, "f".repeat(64), "read from the note");
        fs::write(&note, "cut off")?;
        assert_eq!(notes.file(&file)?, one);
        fs::write(&file, "two")?;
        assert_ne!(notes.file(&file)?, one);
        Ok(())
    }
}
