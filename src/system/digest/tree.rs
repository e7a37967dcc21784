// SPDX-License-Identifier: GPL-2.0-or-later
//! The files below directories, and digests of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, OFlags, Stat, readlinkat};
use sha2::Digest as _;

use super::Digest;
use super::walk::{Each, Found, MOST_SEEN, Walk, changed, kind_of};
use crate::system::directories::MOST_ENTRIES;
use crate::system::files::At;

/// Files below a directory, by their names relative to it. They are looked at anew for each question: of the headers of
/// a kernel there are more than is good to keep.
#[derive(Debug, Default)]
pub struct Tree {
    top: BTreeMap<OsString, PathBuf>,
    /// In which a stranger may have put anything.
    stranger: Option<PathBuf>,
}

impl Tree {
    /// All files and links below `dir`. Links to directories are entered, as kernel packages share directories by these, but
    /// for one that leads back to where it stands in.
    pub fn walk(dir: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        // One more than a walk goes through.
        for entry in fs::read_dir(dir).at(dir)?.take(MOST_ENTRIES + 1) {
            let entry = entry.at(dir)?;
            tree.top.insert(entry.file_name(), entry.path());
        }
        Ok(tree)
    }

    /// The same of a directory that a stranger has made: links show nothing that is not open to all.
    pub fn of_a_stranger(dir: &Path) -> io::Result<Self> {
        Ok(Self { stranger: Some(dir.to_owned()), ..Self::walk(dir)? })
    }

    /// Adds what is below another directory, under the name `name`.
    pub fn add(&mut self, dir: &Path, name: &str) {
        self.top.insert(name.into(), dir.to_owned());
    }

    /// What tells it from other trees, whatever is in it.
    pub(super) fn place(&self) -> String {
        let mut digest = Digest::new("place");
        for (name, path) in &self.top {
            digest.add(name.as_bytes()).add(path.as_os_str().as_bytes());
        }
        digest.finish()
    }

    /// Goes through all of them, and through directories that are empty, sorted by their names.
    pub(super) fn each(&self, each: &mut Each) -> io::Result<()> {
        self.go_through(None, each)
    }

    fn go_through(&self, passing: Option<&dyn Fn(&Path) -> bool>, each: &mut Each) -> io::Result<()> {
        let mut walk = Walk::new(self.stranger.as_deref(), passing, each);
        for (name, path) in &self.top {
            let name = Path::new(name);
            walk.look_at(&Found { dir: CWD, file_name: path.as_os_str(), name, path, linked: SystemTime::UNIX_EPOCH })?;
        }
        Ok(())
    }

    /// The digest of the names of files and links that `wanted` accepts.
    pub fn names(&self, wanted: impl Fn(&Path) -> bool) -> io::Result<String> {
        let mut digest = Digest::new("names");
        self.each(&mut |found, stat| {
            if kind_of(stat) != FileType::Directory && wanted(found.name) {
                digest.add(found.name.as_os_str().as_bytes());
            }
            Ok(())
        })?;
        Ok(digest.finish())
    }

    /// As [`Tree::names`], where others work: what goes meanwhile is not there. `look` sees of those files the ones that
    /// came or changed `since` then.
    pub fn names_now(
        &self,
        wanted: impl Fn(&Path) -> bool,
        since: SystemTime,
        mut look: impl FnMut(&Path, &[u8]),
    ) -> io::Result<String> {
        let mut digest = Digest::new("names");
        self.go_through(Some(&|name| !wanted(name)), &mut |found, stat| {
            if kind_of(stat) != FileType::Directory && wanted(found.name) {
                digest.add(found.name.as_os_str().as_bytes());
                if found.linked.max(changed(stat)) >= since && found.is_file(stat) {
                    look(found.name, &found.read()?);
                }
            }
            Ok(())
        })?;
        Ok(digest.finish())
    }

    /// The digest of names and contents, links by what they say and by what a file behind them holds; of directories the
    /// names of those that are empty.
    pub fn content(&self) -> io::Result<String> {
        Ok(self.summary(|_| None)?.0.content)
    }

    /// As [`Tree::content`]; `look` sees each file's name and content, of large ones the begin.
    pub fn content_seen(&self, mut look: impl FnMut(&Path, &[u8])) -> io::Result<String> {
        let (mut digest, mut buffer) = (Digest::new(CONTENT), vec![0; 1 << 16]);
        self.each(&mut |found, stat| {
            digest.add_name(found, stat)?;
            if found.is_file(stat) {
                let bytes = found.read()?;
                look(found.name, &bytes);
                if (bytes.len() as u64) < MOST_SEEN {
                    digest.add(kind(stat)).add(bytes);
                } else {
                    digest.add_content(found, stat, &mut buffer)?;
                }
            }
            Ok(())
        })?;
        Ok(digest.finish())
    }

    /// A summary, and what it is true for. `part` says of each name whether it belongs to the part, and whether what is in
    /// the file does.
    pub(super) fn summary(&self, part: impl Fn(&Path) -> Option<bool>) -> io::Result<(Summary, Signature)> {
        let (mut content, mut digest_of_part) = (Digest::new(CONTENT), Digest::new("part"));
        let (mut signature, mut buffer) = (Signature::default(), vec![0; 1 << 16]);
        self.each(&mut |found, stat| {
            signature.add(found, stat);
            content.add_name(found, stat)?;
            if kind_of(stat) == FileType::Directory {
                return Ok(());
            }
            let part = part(found.name);
            if part.is_some() {
                digest_of_part.add(found.name.as_os_str().as_bytes());
            }
            if part != Some(true) {
                return content.add_content(found, stat, &mut buffer);
            }
            let mut one = Digest::new("file");
            one.add_content(found, stat, &mut buffer)?;
            let one = one.finish();
            digest_of_part.add(&one);
            content.add(one);
            Ok(())
        })?;
        Ok((Summary { content: content.finish(), part: digest_of_part.finish() }, signature))
    }

    /// What changes whenever a file does, here or behind a link, without a look into any.
    pub(super) fn signature(&self) -> io::Result<Signature> {
        let mut signature = Signature::default();
        self.each(&mut |found, stat| {
            signature.add(found, stat);
            Ok(())
        })?;
        Ok(signature)
    }

    /// Shows each file's name and content, of large ones the begin.
    pub fn look(&self, mut look: impl FnMut(&Path, &[u8])) -> io::Result<()> {
        self.each(&mut |found, stat| {
            if found.is_file(stat) {
                look(found.name, &found.read()?);
            }
            Ok(())
        })
    }
}

/// What counts of a file besides its content.
fn kind(stat: &Stat) -> &'static str {
    if stat.st_mode & 0o111 == 0 { "file" } else { "program" }
}

/// What a tree holds, as digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Of all of it: names and contents, links by what they say and by what a file behind them holds.
    pub content: String,
    /// Of what was called a part of it.
    pub part: String,
}

const CONTENT: &str = "content";

impl Digest {
    fn add_name(&mut self, found: &Found, stat: &Stat) -> io::Result<()> {
        self.add(found.name.as_os_str().as_bytes());
        if kind_of(stat) == FileType::Symlink {
            let target = readlinkat(found.dir, found.file_name, Vec::new());
            self.add(target.map_err(io::Error::from).at(found.path)?.as_bytes());
        } else if kind_of(stat) == FileType::Directory {
            // No link says nothing, and no file is nothing.
            self.add("");
        }
        Ok(())
    }

    /// Adds what a file is and holds; nothing for what is none.
    fn add_content(&mut self, found: &Found, stat: &Stat, buffer: &mut [u8]) -> io::Result<()> {
        let behind = match kind_of(stat) {
            FileType::RegularFile => None,
            _ => match found.behind(FileType::RegularFile) {
                None => return Ok(()),
                behind => behind,
            },
        };
        self.add(kind(stat));
        // Thousands of a kernel's headers are empty. Behind a link there may be what only says so.
        if behind.is_none() && stat.st_size == 0 {
            self.add("");
            return Ok(());
        }
        let size = behind.as_ref().unwrap_or(stat).st_size;
        self.add_file(found, size.unsigned_abs(), buffer)
    }

    /// Adds a file's content as one part, without holding all of it.
    fn add_file(&mut self, found: &Found, size: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut file = found.open(OFlags::empty())?;
        self.0.update(size.to_le_bytes());
        let mut left = size;
        loop {
            let read = file.read(buffer).at(found.path)?;
            left = match left.checked_sub(read as u64) {
                Some(left) if read > 0 || left == 0 => left,
                _ => return Err(io::Error::other(format!("{}: it changed while it was read", found.path.display()))),
            };
            self.0.update(&buffer[..read]);
            if left == 0 {
                return Ok(());
            }
        }
    }
}

/// What stat(2) says of a tree's files.
#[derive(Debug)]
pub(super) struct Signature {
    digest: Digest,
    /// When one of them changed last, in seconds since 1970.
    newest: i64,
}

impl Default for Signature {
    fn default() -> Self {
        Self { digest: Digest::new("signature 3"), newest: 0 }
    }
}

impl Signature {
    fn add(&mut self, found: &Found, stat: &Stat) {
        self.digest.add(found.name.as_os_str().as_bytes()).add(found.path.as_os_str().as_bytes());
        self.digest.add(stat.st_dev.to_le_bytes()).add(stat.st_ino.to_le_bytes()).add(stat.st_size.to_le_bytes());
        self.digest.add(stat.st_mode.to_le_bytes());
        self.digest.add(stat.st_mtime.to_le_bytes()).add(stat.st_mtime_nsec.to_le_bytes());
        self.digest.add(stat.st_ctime.to_le_bytes()).add(stat.st_ctime_nsec.to_le_bytes());
        self.newest = self.newest.max(stat.st_ctime);
        if kind_of(stat) == FileType::Symlink {
            if let Some(behind) = found.behind(FileType::RegularFile) {
                self.add(found, &behind);
            }
        }
    }

    /// The signature, and when the last of the files changed.
    pub(super) fn finish(self) -> (String, SystemTime) {
        (self.digest.finish(), SystemTime::UNIX_EPOCH + Duration::from_secs(self.newest.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

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
    fn a_directory_counts_though_it_is_empty() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("tree/sub"))?;
        fs::create_dir(at("beside"))?;
        fs::write(at("tree/sub/a.c"), "")?;
        let look = || -> io::Result<_> {
            let tree = Tree::walk(&at("tree"))?;
            let (summary, signature) = tree.summary(|_| Some(false))?;
            assert_eq!(tree.content_seen(|name, _| assert!(name.ends_with("a.c")))?, summary.content);
            Ok(([summary.content, signature.finish().0], [summary.part, tree.names(|_| true)?]))
        };
        let (mut last, names) = look()?;
        for name in ["tree/sub/feature", "tree/other", "tree/link"] {
            if name.ends_with("link") {
                symlink("../beside", at(name))?
            } else {
                fs::create_dir(at(name))?
            }
            let (now, same) = look()?;
            assert!(now.iter().zip(&last).all(|(now, last)| now != last), "{name}");
            assert_eq!(same, names, "{name}");
            last = now;
        }
        Ok(())
    }

    #[test]
    fn a_part_is_its_names_and_some_contents() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let part = |name: &Path| Some(name.starts_with("core")).filter(|_| !name.ends_with("other"));
        let look = || Tree::walk(dir.path())?.summary(part).map(|(summary, _)| summary);
        fs::create_dir(at("core"))?;
        fs::write(at("core/a.h"), "1")?;
        fs::write(at("b.h"), "1")?;
        fs::write(at("other"), "1")?;
        let mut seen = vec![look()?];
        for (change, is_seen) in
            [("core/a.h", true), ("b.h", false), ("other", false), ("core/new.h", true), ("new.h", true)]
        {
            fs::write(at(change), "2")?;
            let now = look()?;
            let last = seen.last().expect("the one before");
            assert_ne!(now.content, last.content, "{change}");
            assert_eq!(now.part != last.part, is_seen, "{change}");
            seen.push(now);
        }
        Ok(())
    }

    #[test]
    fn links_are_entered_and_seen_to_change() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("tree/below"))?;
        fs::create_dir(at("beside"))?;
        fs::write(at("beside/a.h"), "1")?;
        fs::write(at("file.h"), "1")?;
        symlink("../../beside", at("tree/below/beside"))?;
        symlink("../file.h", at("tree/file.h"))?;
        // Back to where it stands in.
        symlink("..", at("tree/below/up"))?;
        let look = || {
            let (summary, signature) = Tree::walk(&at("tree"))?.summary(|_| None)?;
            io::Result::Ok((summary.content, signature.finish().0))
        };
        let mut before = look()?;
        for change in ["beside/a.h", "file.h", "beside/new.h"] {
            fs::write(at(change), "another")?;
            let now = look()?;
            assert!(now.0 != before.0 && now.1 != before.1, "{change}");
            before = now;
        }
        symlink("/proc", at("tree/below/proc"))?;
        assert!(look().is_err(), "nobody reads /proc/kmsg to its end");
        Ok(())
    }
}
