// SPDX-License-Identifier: GPL-2.0-or-later
//! Unpacking a tarball that a stranger made: only files, directories and links among them, and only below one
//! directory. Everything else is refused, with the name of what is wrong.

mod links;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::{Archive, Entry, EntryType};

use crate::error::tarball::Problem;
use crate::error::{Error, Result};
use crate::system::compressed;
pub use links::{Following, link_outside};

/// More than this is no module: the largest sources there are have some hundred megabytes.
const LARGEST: u64 = 8 << 30;

/// More than this is not unpacked where it would take more than half of what the disk has left: others need room, too, and
/// the source is copied once more from there.
const ORDINARY: u64 = 64 << 20;

/// Longer paths than these have no place in a file system, and none below the trees for certain.
const LONGEST_NAME: usize = 200;
const LONGEST_PATH: usize = 2048;

/// No source has more levels of directories.
const DEEPEST: usize = 64;

/// What precedes an entry, long names above all, is held in memory: it is not larger than this.
const LARGEST_HEAD: u64 = 1 << 20;

/// What an entry takes on a disk, whatever it holds.
const SMALLEST: u64 = 4096;

/// What a link says is a path to the kernel, which are no longer than this.
const LONGEST_TARGET: usize = 4095;

/// Why unpacking ended.
enum Trouble {
    /// It is not to be.
    Unsafe(String, &'static str),
    /// It cannot be read, or not be written.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Unpacks `file` into the empty directory `into`. What is unpacked belongs to us, and only we may write it.
pub fn unpack(file: &Path, into: &Path) -> Result<()> {
    let unpacked = compressed::Reader::open(file).map_err(Trouble::Io).and_then(|reader| {
        let mut unpacking = Unpacking::new(into);
        let budget = Cell::new(LARGEST_HEAD);
        let mut whole = Whole { reader, zeros: 0, budget: &budget };
        let mut archive = Archive::new(&mut whole);
        for entry in archive.entries()? {
            let entry = entry?;
            // What is left of it is passed over on the way to the next one.
            budget.set(entry.size().saturating_add(LARGEST_HEAD));
            unpacking.entry(entry)?;
        }
        unpacking.make_links()?;
        budget.set(LARGEST);
        whole.check()
    });
    unpacked.map_err(|trouble| match trouble {
        Trouble::Unsafe(entry, why) => Problem::Unsafe { file: file.to_owned(), entry, why }.into(),
        Trouble::Io(error) if is_the_tarballs(&error) => {
            let why = error.to_string().trim_end_matches('.').to_owned();
            Problem::Unreadable { file: file.to_owned(), why }.into()
        }
        Trouble::Io(source) => Error::Io { what: format!("Cannot unpack {}", file.display()), source },
    })
}

/// Whether it is about what the file holds, and not about this machine.
fn is_the_tarballs(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
}

/// Knows whether an archive came to its end, which is a block of zeros.
struct Whole<'a> {
    reader: compressed::Reader,
    zeros: usize,
    /// How much may be read up to the next entry.
    budget: &'a Cell<u64>,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let left = self.budget.get().checked_sub(read as u64);
        self.budget.set(left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a name in it is too long"))?);
        let zeros = buffer[..read].iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == read { self.zeros + zeros } else { zeros };
        Ok(read)
    }
}

impl Whole<'_> {
    /// Reads what follows the last entry: a compressed file says only at its end whether all of it was there.
    fn check(&mut self) -> std::result::Result<(), Trouble> {
        io::copy(&mut self.by_ref().take(LARGEST), &mut io::sink())?;
        if self.zeros < 512 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "It ends before its end").into());
        }
        Ok(())
    }
}

/// A link that is made when all files are there, so that none is written through it.
struct Link {
    target: PathBuf,
    name: String,
}

struct Unpacking<'a> {
    into: &'a Path,
    total: u64,
    /// What of it may be on the disk.
    room: u64,
    /// By their places.
    links: BTreeMap<PathBuf, Link>,
    /// What of them is held in memory.
    links_bytes: usize,
}

impl<'a> Unpacking<'a> {
    fn new(into: &'a Path) -> Self {
        let free = rustix::fs::statvfs(into).map_or(LARGEST, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        let room = (free / 2).max(ORDINARY);
        Self { into, total: 0, room, links: BTreeMap::new(), links_bytes: 0 }
    }

    /// Counts what `name` brings to the disk, if there is room for it.
    fn grow(&mut self, bytes: u64, name: &str) -> std::result::Result<(), Trouble> {
        self.total = self.total.saturating_add(bytes.max(SMALLEST));
        if self.total > LARGEST {
            return Err(Trouble::Unsafe(name.to_owned(), "makes it larger than any module's source is"));
        }
        if self.total > self.room {
            let disk = self.into.parent().unwrap_or(self.into).display();
            let why = format!("it takes more than half of what is left free in {disk}: make room there");
            return Err(io::Error::new(io::ErrorKind::StorageFull, why).into());
        }
        Ok(())
    }

    fn entry(&mut self, mut entry: Entry<impl Read>) -> std::result::Result<(), Trouble> {
        let bytes = entry.path_bytes().into_owned();
        let name = shown(&bytes);
        // Old formats tell a directory by its name alone.
        let kind = match entry.header().entry_type() {
            EntryType::Regular if bytes.ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        if matches!(kind, EntryType::XGlobalHeader) {
            // What git adds: its commit.
            return Ok(());
        }
        let refused = |why| Err(Trouble::Unsafe(name.clone(), why));
        self.grow(entry.size(), &name)?;
        let place = match place(&bytes) {
            Ok(place) => self.into.join(place),
            Err(why) => return refused(why),
        };
        let mode = entry.header().mode()?;
        if mode & 0o6000 != 0 && !kind.is_dir() {
            return refused("runs with the rights of another user (setuid)");
        }
        if let Some(parent) = place.parent().filter(|_| place != self.into) {
            if let Err(why) = self.make_dir(parent) {
                return refused(why);
            }
        }
        match kind {
            EntryType::Directory => {
                if let Err(why) = self.make_dir(&place) {
                    return refused(why);
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                if place.is_dir() {
                    return refused("is a directory and a file");
                }
                remove(&place)?;
                let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
                let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&place)?;
                let size = entry.size();
                if io::copy(&mut entry, &mut file)? != size {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name} is cut off")).into());
                }
                file.set_permissions(fs::Permissions::from_mode(mode))?;
                let time = Duration::from_secs(entry.header().mtime().unwrap_or_default());
                if let Some(time) = SystemTime::UNIX_EPOCH.checked_add(time) {
                    // A time that the file system does not know is none that matters.
                    let _ = file.set_modified(time);
                }
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let Ok(target) = self::place(&target).map(|target| self.into.join(target)) else {
                    return refused("is a link to a file outside of it");
                };
                if !target.is_file() || place.is_dir() {
                    return refused("is a link to a file that is not in it");
                }
                if target != place {
                    // Each link becomes a file of its own.
                    self.grow(fs::metadata(&target)?.len(), &name)?;
                    remove(&place)?;
                    fs::copy(&target, &place)?;
                }
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                if target.len() > LONGEST_TARGET {
                    return refused("is a link to a name that is too long");
                }
                self.links_bytes += bytes.len() + target.len();
                if self.links_bytes > links::ALL {
                    return refused("is one link more than any module's source has");
                }
                self.links.insert(place, Link { target: PathBuf::from(std::ffi::OsStr::from_bytes(&target)), name });
            }
            EntryType::Fifo => return refused("is a pipe"),
            EntryType::Block | EntryType::Char => return refused("is a device"),
            _ => return refused("is neither a file nor a directory nor a link"),
        }
        Ok(())
    }

    /// Makes a directory below the base, and those above it.
    fn make_dir(&self, dir: &Path) -> std::result::Result<(), &'static str> {
        if dir.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).create(dir).map_err(|_| "stands below something that is no directory")
    }

    /// Makes the links, and looks where each ends.
    fn make_links(&self) -> std::result::Result<(), Trouble> {
        for (place, Link { target, name }) in &self.links {
            if fs::symlink_metadata(place).is_ok() {
                return Err(Trouble::Unsafe(name.clone(), "is a link and something else"));
            }
            symlink(target, place)?;
        }
        let mut following = Following::new(self.into);
        for (place, Link { name, .. }) in &self.links {
            if !following.stays_within(place) {
                return Err(Trouble::Unsafe(name.clone(), "is a link out of it"));
            }
        }
        Ok(())
    }
}

/// A file that comes twice: the last one counts.
fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// A name as it may be printed: a tarball's maker has no say in what a terminal does.
fn shown(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(LONGEST_NAME).collect();
    text.escape_debug().to_string()
}

/// Where an entry goes, below the base; or what is wrong with its name.
fn place(bytes: &[u8]) -> std::result::Result<PathBuf, &'static str> {
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    if bytes.contains(&0) {
        return Err("has a name with a NUL in it");
    }
    if bytes.len() > LONGEST_PATH || path.components().any(|c| c.as_os_str().len() > LONGEST_NAME) {
        return Err("has a name that is too long");
    }
    let mut place = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => place.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("has a name with .. in it"),
            _ => return Err("has an absolute name"),
        }
    }
    if place.components().count() > DEEPEST {
        return Err("lies too deep");
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_base() {
        for (name, expected) in [
            ("./a/./b", Some("a/b")),
            ("a//b/", Some("a/b")),
            ("./", Some("")),
            ("/a", None),
            ("a/../b", None),
            ("..", None),
            ("a\0b", None),
        ] {
            assert_eq!(place(name.as_bytes()).ok(), expected.map(PathBuf::from), "{name}");
        }
        assert!(place(&[b'x'; 201]).is_err() && place("x/".repeat(2000).as_bytes()).is_err());
        assert!(place("x/".repeat(64).as_bytes()).is_ok() && place("x/".repeat(65).as_bytes()).is_err());
    }

    #[test]
    fn old_formats_have_directories() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut builder = tar::Builder::new(Vec::new());
        for name in ["a/", "a/file"] {
            let mut header = tar::Header::new_old();
            header.set_entry_type(EntryType::Regular);
            header.set_size(0);
            header.set_mode(0o755);
            header.set_path(name)?;
            header.set_cksum();
            builder.append(&header, io::empty())?;
        }
        let bytes = builder.into_inner()?;
        let mut unpacking = Unpacking::new(dir.path());
        for entry in Archive::new(bytes.as_slice()).entries()? {
            assert!(unpacking.entry(entry?).is_ok());
        }
        assert!(dir.path().join("a/file").is_file());
        Ok(())
    }

    #[test]
    fn a_link_to_a_file_takes_as_much_as_the_file() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(100_000);
        header.set_mode(0o644);
        builder.append_data(&mut header, "file", io::repeat(b'x').take(100_000))?;
        for name in ["a", "b", "c"] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            header.set_mode(0o644);
            builder.append_link(&mut header, name, "file")?;
        }
        let bytes = builder.into_inner()?;
        let mut unpacking = Unpacking { total: LARGEST - 320_000, room: LARGEST, ..Unpacking::new(dir.path()) };
        let mut archive = Archive::new(bytes.as_slice());
        let refused: Vec<String> = archive
            .entries()?
            .filter_map(|entry| match unpacking.entry(entry.ok()?) {
                Err(Trouble::Unsafe(name, why)) => Some(format!("{name} {why}")),
                _ => None,
            })
            .collect();
        assert_eq!(refused, ["c makes it larger than any module's source is"]);
        Ok(())
    }
}
