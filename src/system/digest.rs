// SPDX-License-Identifier: GPL-2.0-or-later
//! Digests (SHA-256, in hexadecimal) of what things are made from, and notes of those of large directories.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
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

    /// Adds what a file is and holds; nothing for what is none.
    fn add_content(&mut self, path: &Path, meta: &Metadata) -> io::Result<()> {
        if !is_file(path, meta) {
            return Ok(());
        }
        self.add(kind(meta));
        let size = if meta.is_symlink() { fs::metadata(path).at(path)?.len() } else { meta.len() };
        // Thousands of a kernel's headers are empty. Behind a link there may be what only says so.
        if size == 0 && meta.is_file() {
            self.add("");
            return Ok(());
        }
        self.add_file(path, size)
    }

    /// Adds a file's content as one part, without holding all of it.
    fn add_file(&mut self, path: &Path, size: u64) -> io::Result<()> {
        let mut file = File::open(path).at(path)?;
        self.0.update(size.to_le_bytes());
        let mut buffer = [0; 1 << 15];
        let mut left = size;
        loop {
            let read = file.read(&mut buffer).at(path)?;
            left = match left.checked_sub(read as u64) {
                Some(left) if read > 0 || left == 0 => left,
                _ => return Err(io::Error::other(format!("{}: it changed while it was read", path.display()))),
            };
            self.0.update(&buffer[..read]);
            if left == 0 {
                return Ok(());
            }
        }
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

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files below a directory, by their names relative to it. They are looked at anew for each question: of the headers of
/// a kernel there are more than is good to keep.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<OsString, Top>);

/// What stands at the top of a tree.
#[derive(Debug)]
struct Top {
    path: PathBuf,
    /// Whether links in it are entered as links at the top are.
    is_top_too: bool,
}

/// More files than the headers of a kernel have. Who points at more does not mean headers.
const MOST_FILES: usize = 200_000;

/// What is done with each file or link: its name, its path, and what it is.
type Each<'a> = dyn FnMut(&Path, &Path, &Metadata) -> io::Result<()> + 'a;

impl Tree {
    /// All files and links below `dir`. Links to directories that stand in `dir` itself are entered, as kernel packages
    /// share directories by these; all others are what they say.
    pub fn walk(dir: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        for entry in fs::read_dir(dir).at(dir)? {
            let entry = entry.at(dir)?;
            tree.0.insert(entry.file_name(), Top { path: entry.path(), is_top_too: false });
        }
        Ok(tree)
    }

    /// Adds what is below another directory, under the name `name`.
    pub fn add(&mut self, dir: &Path, name: &str) {
        self.0.insert(name.into(), Top { path: dir.to_owned(), is_top_too: true });
    }

    /// Goes through all of them, sorted by their names.
    fn each(&self, each: &mut Each) -> io::Result<()> {
        let mut count = 0;
        for (name, Top { path, is_top_too }) in &self.0 {
            look_at(Path::new(name), path, true, *is_top_too, &mut count, each)?;
        }
        Ok(())
    }

    /// The digest of the names that `wanted` accepts.
    pub fn names(&self, wanted: impl Fn(&Path) -> bool) -> io::Result<String> {
        let mut digest = Digest::new("names");
        self.each(&mut |name, _, _| {
            if wanted(name) {
                digest.add(name.as_os_str().as_bytes());
            }
            Ok(())
        })?;
        Ok(digest.finish())
    }

    /// The digest of names and contents, links by what they say and by what a file behind them holds.
    pub fn content(&self) -> io::Result<String> {
        self.content_by(&mut |digest, _, path, meta| digest.add_content(path, meta))
    }

    /// The same, and the digest of a part: of the names for which `part` is Some, and of the contents where it is
    /// Some(true). An error where such a content cannot be had for the whole of it: behind a link to a directory.
    pub fn content_and_part(&self, part: impl Fn(&Path) -> Option<bool>) -> io::Result<[String; 2]> {
        let mut digest_of_part = Digest::new("part");
        let content = self.content_by(&mut |digest, name, path, meta| {
            let part = part(name);
            if part.is_some() {
                digest_of_part.add(name.as_os_str().as_bytes());
            }
            if part != Some(true) {
                return digest.add_content(path, meta);
            }
            if meta.is_symlink() && path.is_dir() {
                return Err(io::Error::other(format!("{}: a link to a directory", path.display())));
            }
            let mut one = Digest::new("file");
            one.add_content(path, meta)?;
            let one = one.finish();
            digest_of_part.add(&one);
            digest.add(one);
            Ok(())
        })?;
        Ok([content, digest_of_part.finish()])
    }

    /// As [`Tree::content`]; `look` sees each file's name and content.
    pub fn content_seen(&self, mut look: impl FnMut(&Path, &[u8])) -> io::Result<String> {
        self.content_by(&mut |digest, name, path, meta| {
            if is_file(path, meta) {
                let bytes = fs::read(path).at(path)?;
                look(name, &bytes);
                digest.add(kind(meta)).add(bytes);
            }
            Ok(())
        })
    }

    /// Shows each file's name and content.
    pub fn look(&self, mut look: impl FnMut(&Path, &[u8])) -> io::Result<()> {
        self.each(&mut |name, path, meta| {
            if is_file(path, meta) {
                look(name, &fs::read(path).at(path)?);
            }
            Ok(())
        })
    }

    fn content_by(
        &self,
        add: &mut dyn FnMut(&mut Digest, &Path, &Path, &Metadata) -> io::Result<()>,
    ) -> io::Result<String> {
        let mut digest = Digest::new("content");
        self.each(&mut |name, path, meta| {
            digest.add(name.as_os_str().as_bytes());
            if meta.is_symlink() {
                digest.add(fs::read_link(path).at(path)?.as_os_str().as_bytes());
            }
            add(&mut digest, name, path, meta)
        })?;
        Ok(digest.finish())
    }

    /// What changes whenever a file does, without a look into any; and when the last of them changed.
    fn signature(&self) -> io::Result<(String, SystemTime)> {
        let mut digest = Digest::new("signature");
        let mut newest = 0;
        self.each(&mut |name, path, meta| {
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
            Ok(())
        })?;
        Ok((digest.finish(), SystemTime::UNIX_EPOCH + Duration::from_secs(newest.unsigned_abs())))
    }
}

/// Whether there is a file, or one behind the link.
fn is_file(path: &Path, meta: &Metadata) -> bool {
    meta.is_file() || meta.is_symlink() && path.is_file()
}

/// What counts of a file besides its content.
fn kind(meta: &Metadata) -> &'static str {
    if meta.mode() & 0o111 == 0 { "file" } else { "program" }
}

/// Goes through what is at `path`: itself, or all that is below it. `enter` says whether a link to a directory counts as
/// one, here and for what is in it.
fn look_at(
    name: &Path,
    path: &Path,
    enter: bool,
    enter_below: bool,
    count: &mut usize,
    each: &mut Each,
) -> io::Result<()> {
    let meta = fs::symlink_metadata(path).at(path)?;
    if meta.is_dir() || enter && meta.is_symlink() && path.is_dir() {
        let names =
            fs::read_dir(path).at(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<BTreeSet<_>>>();
        for below in names.at(path)? {
            look_at(&name.join(&below), &path.join(&below), enter_below, false, count, each)?;
        }
    } else if meta.is_file() || meta.is_symlink() {
        *count += 1;
        if *count > MOST_FILES {
            return Err(io::Error::other(format!("{}: too many files", path.display())));
        }
        each(name, path, &meta)?;
    }
    Ok(())
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
        self.known(tree, || Ok([tree.content()?])).map(|[content]| content)
    }

    /// Digests of a tree as `look` finds them, which is asked only if they are not known. Of one tree always the same ones.
    pub fn known<const N: usize>(
        &self,
        tree: &Tree,
        look: impl FnOnce() -> io::Result<[String; N]>,
    ) -> io::Result<[String; N]> {
        let Some(dir) = &self.dir else {
            return look();
        };
        let (signature, changed) = tree.signature()?;
        let note = dir.join(&signature);
        if let Some(known) = fs::read_to_string(&note).ok().as_deref().and_then(digests) {
            return Ok(known);
        }
        let looked = SystemTime::now();
        let found = look()?;
        if looked.duration_since(changed).is_ok_and(|age| age > SETTLED) {
            // Whoever cannot remember reads again.
            let kept = scratch::write(dir.parent().unwrap_or(dir), &note, found.join("\n").as_bytes());
            kept.unwrap_or_else(|error| log::info!("{error}"));
            forget_oldest(dir);
        }
        Ok(found)
    }

    /// The digest of one file's content; of none where there is no such file.
    pub fn file(&self, file: &Path) -> io::Result<String> {
        let mut tree = Tree::default();
        match fs::canonicalize(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            real => tree.add(&real.at(file)?, "file"),
        }
        self.content(&tree)
    }
}

/// What a note says. What was cut off or has something else than digests is not believed.
fn digests<const N: usize>(note: &str) -> Option<[String; N]> {
    let is_digest = |line: &String| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines: Vec<String> = note.lines().map(str::to_owned).collect();
    lines.try_into().ok().filter(|lines: &[String; N]| lines.iter().all(is_digest))
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
        let content = |place: &str| Tree::walk(&dir.path().join(place)).and_then(|tree| tree.content());
        let before = content("a")?;
        assert_eq!(before, content("b")?);
        fs::write(dir.path().join("b/sub/x.h"), "two")?;
        assert_ne!(before, content("b")?);
        fs::write(dir.path().join("b/sub/x.h"), "one")?;
        fs::write(dir.path().join("b/sub/new.h"), "")?;
        assert_ne!(before, content("b")?);
        let names = |place: &str, end: &str| {
            Tree::walk(&dir.path().join(place))
                .and_then(|tree| tree.names(|name| name.to_string_lossy().ends_with(end)))
        };
        assert_ne!(names("a", ".h")?, names("b", ".h")?);
        assert_eq!(names("a", ".c")?, names("b", ".c")?);
        Ok(())
    }

    #[test]
    fn a_part_is_its_names_and_some_contents() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let part = |name: &Path| Some(name.starts_with("core")).filter(|_| !name.ends_with("other"));
        let look = || Tree::walk(dir.path())?.content_and_part(part);
        fs::create_dir(at("core"))?;
        fs::write(at("core/a.h"), "1")?;
        fs::write(at("b.h"), "1")?;
        fs::write(at("other"), "1")?;
        let mut seen = vec![look()?];
        for (change, is_seen) in
            [("core/a.h", true), ("b.h", false), ("other", false), ("core/new.h", true), ("new.h", true)]
        {
            fs::write(at(change), "2")?;
            let [content, of_part] = look()?;
            let last = seen.last().expect("the one before");
            assert_ne!(content, last[0], "{change}");
            assert_eq!(of_part != last[1], is_seen, "{change}");
            seen.push([content, of_part]);
        }
        symlink("/", at("core/link"))?;
        assert!(look().is_err(), "what is behind it is not looked at");
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
        for other in ["cut off".to_owned(), format!("{0}\n{0}", "f".repeat(64)), format!("x\n{}", "f".repeat(64))] {
            fs::write(&note, other)?;
            assert_eq!(notes.file(&file)?, one);
        }
        fs::write(&file, "two")?;
        assert_ne!(notes.file(&file)?, one);
        Ok(())
    }
}
