// SPDX-License-Identifier: GPL-2.0-or-later
//! A way through the files below directories, which ends, whoever made them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, Stat, fstatfs, openat, statat};

use crate::system::directories::{DEEPEST, MOST_ENTRIES, entries};
use crate::system::files::{At, time};

/// More links than a source has. Each may lead through many others, and what all of these lead through is looked at.
const MOST_LINKS: usize = 2000;

/// More than they hold together, in bytes; and than any source does.
const MOST_BYTES: u64 = 8 << 30;

/// So many bytes of a file are seen by who looks into all.
pub const MOST_SEEN: u64 = 16 << 20;

/// A file or link where it was found: by its directory, for the kernel takes as long for each part of a path as for the
/// rest of a question.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub dir: BorrowedFd<'a>,
    pub file_name: &'a OsStr,
    /// Relative to the top of the tree.
    pub name: &'a Path,
    pub path: &'a Path,
    /// When the last of the links on the way to it was made; the epoch without any.
    pub linked: SystemTime,
}

/// What is done with each file, link or empty directory.
pub(super) type Each<'a> = dyn FnMut(&Found, &Stat) -> io::Result<()> + 'a;

impl Found<'_> {
    /// What it is; `flags` say whether a link is asked for what is behind it.
    fn stat(&self, flags: AtFlags) -> io::Result<Stat> {
        statat(self.dir, self.file_name, flags).map_err(io::Error::from).at(self.path)
    }

    /// What is there in the end, if that is a `kind`.
    pub fn behind(&self, kind: FileType) -> Option<Stat> {
        self.stat(AtFlags::empty()).ok().filter(|stat| kind_of(stat) == kind)
    }

    /// Whether there is a file, or one behind the link.
    pub fn is_file(&self, stat: &Stat) -> bool {
        kind_of(stat) == FileType::RegularFile || self.behind(FileType::RegularFile).is_some()
    }

    pub fn open(&self, flags: OFlags) -> io::Result<File> {
        let opened = openat(self.dir, self.file_name, flags | OFlags::CLOEXEC, Mode::empty());
        opened.map(File::from).map_err(io::Error::from).at(self.path)
    }

    /// Its begin, and in most cases all of it.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(OFlags::empty())?.take(MOST_SEEN).read_to_end(&mut bytes).at(self.path)?;
        Ok(bytes)
    }

    fn refused(&self, why: &str) -> io::Error {
        io::Error::other(format!("{}: {why}", self.path.display()))
    }
}

pub(super) fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// When it changed last, itself or as it is called.
pub(super) fn changed(stat: &Stat) -> SystemTime {
    time(stat.st_ctime, stat.st_ctime_nsec)
}

/// Whether files there are questions to the kernel, of which some are never answered.
fn is_of_the_system(place: &File) -> io::Result<bool> {
    // sysfs, tracefs, debugfs, securityfs, configfs, both cgroups, bpf; see statfs(2).
    const OTHERS: [FsWord; 8] =
        [0x6265_6572, 0x7472_6163, 0x6462_6720, 0x7363_6673, 0x6265_6570, 0x0027_e0eb, 0x6367_7270, 0xcafe_4a11];
    let kind = fstatfs(place)?.f_type;
    Ok(kind == PROC_SUPER_MAGIC || OTHERS.contains(&kind))
}

/// A way through a tree, which ends: strangers may have made one without an end.
pub(super) struct Walk<'w, 'e> {
    /// The directories that it is in.
    inside: Vec<(u64, u64)>,
    entries: usize,
    links: usize,
    bytes: u64,
    stranger: Option<&'w Path>,
    /// Where others work: files that come and go, by their names. Those that go meanwhile are no error.
    passing: Option<&'w dyn Fn(&Path) -> bool>,
    each: &'w mut Each<'e>,
}

impl<'w, 'e> Walk<'w, 'e> {
    /// One that shows `each` what it finds; in the directory `stranger`, if there is one, a stranger may have put anything.
    pub fn new(stranger: Option<&'w Path>, passing: Option<&'w dyn Fn(&Path) -> bool>, each: &'w mut Each<'e>) -> Self {
        Self { inside: Vec::new(), entries: 0, links: 0, bytes: 0, stranger, passing, each }
    }

    /// Goes through what was found: itself, or all that is below it.
    pub fn look_at(&mut self, found: &Found) -> io::Result<()> {
        match self.look_into(found) {
            Err(error) if self.passing.is_some() && error.kind() == io::ErrorKind::NotFound => Ok(()),
            looked => looked,
        }
    }

    fn look_into(&mut self, found: &Found) -> io::Result<()> {
        let stat = found.stat(AtFlags::SYMLINK_NOFOLLOW)?;
        let behind = match kind_of(&stat) {
            FileType::Symlink => self.behind(found)?,
            _ => None,
        };
        let what = behind.as_ref().unwrap_or(&stat);
        let is_dir = kind_of(what) == FileType::Directory;
        let place = (what.st_dev, what.st_ino);
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(found.refused("too many files"));
        }
        if is_dir && !self.inside.contains(&place) {
            if self.inside.len() > DEEPEST {
                return Err(found.refused("too many directories in each other"));
            }
            let linked = if behind.is_some() { found.linked.max(changed(&stat)) } else { found.linked };
            self.enter(found, what, linked)
        } else if [FileType::RegularFile, FileType::Symlink].contains(&kind_of(&stat)) {
            if kind_of(what) == FileType::RegularFile {
                self.bytes = self.bytes.saturating_add(what.st_size.unsigned_abs());
            }
            if self.bytes > MOST_BYTES {
                return Err(found.refused("too large"));
            }
            (self.each)(found, &stat)
        } else {
            Ok(())
        }
    }

    fn enter(&mut self, found: &Found, stat: &Stat, linked: SystemTime) -> io::Result<()> {
        let place = (stat.st_dev, stat.st_ino);
        let dir = found.open(OFlags::DIRECTORY)?;
        if self.inside.last().is_none_or(|outer| outer.0 != place.0) && is_of_the_system(&dir)? {
            return Err(found.refused(NO_PLACE));
        }
        let some = entries(&dir).and_then(|entries| entries.take(MOST_ENTRIES + 1).collect::<io::Result<Vec<_>>>());
        let mut names = some.at(found.path)?;
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if names.is_empty() {
            // Makefiles ask whether it is there. As one that is not empty it is the same behind a link.
            return (self.each)(found, stat);
        }
        self.inside.push(place);
        for (below, kind) in &names {
            let below = OsStr::from_bytes(below.to_bytes());
            if *kind == FileType::RegularFile && self.passing.is_some_and(|is_passing| is_passing(Path::new(below))) {
                continue;
            }
            let (name, path) = (found.name.join(below), found.path.join(below));
            self.look_at(&Found { dir: dir.as_fd(), file_name: below, name: &name, path: &path, linked })?;
        }
        self.inside.pop();
        Ok(())
    }

    /// What a link leads to, if that is a file or a directory that can be looked into.
    fn behind(&mut self, link: &Found) -> io::Result<Option<Stat>> {
        self.links += usize::from(self.stranger.is_some());
        if self.links > MOST_LINKS {
            return Err(link.refused("too many links"));
        }
        // Who may not look learns nothing either, not even whether there is something.
        if self.stranger.is_some_and(|stranger| !is_open_to_all(link.path, stranger)) {
            return Err(link.refused("a link to what is not open to all"));
        }
        let Ok(stat) = link.stat(AtFlags::empty()) else { return Ok(None) };
        let is_file = kind_of(&stat) == FileType::RegularFile;
        // Without O_PATH to open one could be an answer by itself.
        if is_file && is_of_the_system(&link.open(OFlags::PATH)?)? {
            return Err(link.refused(NO_PLACE));
        }
        Ok(Some(stat))
    }
}

const NO_PLACE: &str = "not a place for files to build from";

/// Whether a link stays in `dir`, or all may look at every directory on its way and at what is at its end. What is not
/// there is as good as closed: only who may look could tell them apart.
fn is_open_to_all(link: &Path, dir: &Path) -> bool {
    let allows = |path: &Path, wanted: u32| fs::metadata(path).is_ok_and(|meta| meta.mode() & wanted == wanted);
    let (Some(place), Ok(text)) = (link.parent(), fs::read_link(link)) else { return false };
    let said = place.join(&text);
    if !said.ancestors().skip(1).all(|on_the_way| place.starts_with(on_the_way) || allows(on_the_way, 0o001)) {
        return false;
    }
    let Ok(real) = fs::canonicalize(&said) else {
        return text.components().all(|part| matches!(part, Component::Normal(_)));
    };
    fs::canonicalize(dir).is_ok_and(|dir| real.starts_with(dir))
        || allows(&real, if real.is_dir() { 0o005 } else { 0o004 })
            && real.ancestors().skip(1).all(|on_the_way| allows(on_the_way, 0o001))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::system::digest::Tree;

    #[test]
    fn what_has_no_end_is_not_gone_through() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let look = || Tree::walk(dir.path())?.content();
        // So many ways that nobody would come to their end. No path has more than half of the links that the kernel follows:
        // while others rename files it may begin again, and counts on.
        for number in 0..20 {
            fs::create_dir(at(&number.to_string()))?;
            for way in ["a", "b"] {
                symlink(format!("../{}", number + 1), at(&number.to_string()).join(way))?;
            }
        }
        fs::create_dir(at("20"))?;
        assert!(look().is_err());
        let error = Tree::of_a_stranger(dir.path())?.content().expect_err("each link takes long");
        assert!(error.to_string().ends_with("too many links"), "{error}");
        fs::remove_file(at("10/a"))?;
        fs::remove_file(at("10/b"))?;
        look()?;
        for target in ["/proc/kmsg", "/sys/kernel/notes"] {
            symlink(target, at("x.c"))?;
            assert!(look().is_err(), "{target}");
            fs::remove_file(at("x.c"))?;
        }
        File::create(at("x.c"))?.set_len(MOST_BYTES + 1)?;
        assert!(look().is_err(), "one with a hole that takes no place");
        fs::remove_file(at("x.c"))?;
        fs::create_dir_all(at("x/".repeat(DEEPEST + 2).as_str()))?;
        assert!(look().is_err());
        Ok(())
    }

    #[test]
    fn a_strangers_link_shows_nothing_that_is_closed() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (tree, closed, open) = (dir.path().join("tree"), dir.path().join("closed"), dir.path().join("open"));
        for place in [&tree, &closed, &open] {
            fs::create_dir(place)?;
            fs::write(place.join("file"), "1")?;
        }
        for (place, mode) in [(dir.path(), 0o755), (&tree, 0o700), (&closed, 0o700), (&open, 0o755)] {
            fs::set_permissions(place, fs::Permissions::from_mode(mode))?;
        }
        fs::write(open.join("secret"), "")?;
        fs::set_permissions(open.join("secret"), fs::Permissions::from_mode(0o600))?;
        for (text, shown) in [
            ("file", true),
            ("nothing", true),
            ("../open/file", true),
            ("../open", true),
            ("../open/nothing", false),
            ("../open/secret", false),
            ("../closed", false),
            ("../closed/file", false),
            ("../closed/nothing", false),
            ("../closed/../open/file", false),
            ("../nothing/../open/file", false),
            ("../closed/../tree/file", false),
        ] {
            symlink(text, tree.join("link"))?;
            let looked = Tree::of_a_stranger(&tree)?.content();
            // What is closed in a place that is open to all shows itself, but not what it holds.
            assert_eq!(looked.is_ok(), shown, "{text}: {looked:?}");
            fs::remove_file(tree.join("link"))?;
        }
        Ok(())
    }
}
