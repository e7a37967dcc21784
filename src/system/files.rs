// SPDX-License-Identifier: GPL-2.0-or-later
//! Files: changes that are either made or not, and reading what somebody else wrote.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::directories::{find_all, remove_any};
use super::{interrupt, trust};

/// Adds the path to what the system said: "No space left on device" alone helps nobody.
pub trait At<T> {
    /// Names the path that was worked on.
    fn at(self, path: &Path) -> io::Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> io::Result<T> {
        self.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

/// A time as stat(2) says it.
pub fn time(seconds: i64, nanoseconds: impl TryInto<u32>) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(seconds.unsigned_abs(), nanoseconds.try_into().unwrap_or(0))
}

/// What a file says; None if there is no such file.
pub fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Makes what is written to a file, or into a directory, outlast a power cut.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|file| file.sync_all()).at(path)
}

/// Makes the rename of `path` outlast a power cut.
fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync)
}

/// Renames and makes it last.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).at(to)?;
    sync_parent(to)
}

/// Puts the finished directory `new` in place of `place`, in one step; what was there is removed.
///
/// What is in `new` is on disk before its name is.
pub fn publish(new: &Path, place: &Path) -> io::Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};
    for file in find_all(new, &mut |_| true)? {
        if !file.is_symlink() {
            sync(&file)?;
        }
    }
    interrupt::hold();
    if !place.exists() {
        return rename(new, place);
    }
    match renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Ok(()) => sync_parent(place)?,
        // A file system that cannot exchange: for a moment neither is there.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            remove_any(place)?;
            return rename(new, place);
        }
        Err(error) => return Err(io::Error::from(error)).at(place),
    }
    remove_any(new)
}

/// Exchanges two directories; if there is only one of them, it takes the other's name.
pub fn swap(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};
    match (a.exists(), b.exists()) {
        (true, true) => renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(io::Error::from).at(b),
        (true, false) => fs::rename(a, b).at(b),
        (false, _) => fs::rename(b, a).at(a),
    }
}

/// A name beside `path` under which its successor is made: in the same directory, so that it can be renamed.
///
/// It begins with a dot and does not end in `.ko`, so neither depmod nor a glob sees it.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".dkms-new");
    path.with_file_name(name)
}

/// Whether a name is one under which a successor is made.
pub fn is_staged(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".dkms-new")
}

/// Gives what was made beside `place` its name; if that cannot be, as over a mount, nothing of it is left.
pub fn unstage(new: &Path, place: &Path) -> io::Result<()> {
    rename(new, place).inspect_err(|_| drop(fs::remove_file(new)))
}

/// Makes a symbolic link beside `link`, to be renamed to it; gives its name.
pub fn stage_link(target: &Path, link: &Path) -> io::Result<PathBuf> {
    let new = beside(link);
    remove_any(&new)?;
    symlink(target, &new).at(&new)?;
    Ok(new)
}

/// Puts a symbolic link in place of whatever file or link `link` was, in one step.
pub fn replace_link(target: &Path, link: &Path) -> io::Result<()> {
    unstage(&stage_link(target, link)?, link)
}

/// Makes a copy of `from` beside `to`, on disk, to be renamed to it; gives its name.
pub fn stage_copy(from: &Path, to: &Path) -> io::Result<PathBuf> {
    let new = beside(to);
    remove_any(&new)?;
    let copied = fs::copy(from, &new)
        .and_then(|_| fs::set_permissions(&new, fs::Permissions::from_mode(0o644)))
        .at(to)
        .and_then(|()| sync(&new));
    if let Err(error) = copied {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    Ok(new)
}

/// Makes `to` a second name for `from`, or a copy where that cannot be, in one step.
pub fn replace_with_same(from: &Path, to: &Path) -> io::Result<()> {
    let file = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    // Renaming one name of a file to another one does nothing, rename(2) says.
    if file(from).is_some() && file(from) == file(to) {
        return Ok(());
    }
    let new = beside(to);
    remove_any(&new)?;
    let staged = fs::hard_link(from, &new).map(|()| new).or_else(|_| stage_copy(from, to))?;
    unstage(&staged, to)
}

/// Puts a copy of `from` in place of whatever file `to` was, in one step: old or new at every instant.
pub fn replace_with_copy(from: &Path, to: &Path) -> io::Result<()> {
    unstage(&stage_copy(from, to)?, to)
}

/// Writes `text` in place of whatever file `to` was, in one step.
pub fn replace_with_text(text: &[u8], to: &Path) -> io::Result<()> {
    let new = beside(to);
    remove_any(&new)?;
    let written = fs::write(&new, text).at(to).and_then(|()| sync(&new)).and_then(|()| rename(&new, to));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Where a file goes whose path somebody said: as any program's `>` would have it, but in one step where that can be.
#[derive(Debug)]
pub enum Place {
    /// A pipe or a device is there and takes the bytes itself.
    Through(File),
    /// A regular file, or nothing yet: the end of the links that the path leads through.
    File {
        /// That end.
        path: PathBuf,
        /// What is there already.
        there: Option<fs::Metadata>,
    },
}

impl Place {
    /// What `said` leads to, if nobody else planted it. A pipe is waited for until somebody reads it.
    pub fn of(said: &Path) -> io::Result<Self> {
        let path = end_of_links(said)?;
        let through = || fs::OpenOptions::new().write(true).truncate(true).open(said).map(Self::Through).at(said);
        let there = match fs::metadata(said) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            there => Some(there.at(said)?),
        };
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            return through();
        }
        let file = |meta: &fs::Metadata| (meta.dev(), meta.ino());
        // What the kernel makes up of an open file, as /dev/stdout, need not lead to its name.
        if there.as_ref().map(file) != fs::symlink_metadata(&path).ok().as_ref().map(file) {
            return through();
        }
        // Renaming would ask its directory only.
        if there.is_some() {
            rustix::fs::access(&path, rustix::fs::Access::WRITE_OK).map_err(io::Error::from).at(said)?;
        }
        Ok(Self::File { path, there })
    }
}

/// The path at the end of the links that `path` is one of, whether anything is there or not. None of them, nor what is at
/// their end, may be somebody else's who put it there for us.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut end = path.to_owned();
    // As many as the kernel follows.
    for _ in 0..=40 {
        let here = match rustix::fs::open(&end, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(end),
            here => here.map_err(io::Error::from).at(path)?,
        };
        trust::check_planted(&end, &here).map_err(io::Error::other)?;
        match rustix::fs::readlinkat(&here, "", Vec::new()) {
            Ok(target) => end = end.parent().unwrap_or(Path::new("")).join(OsStr::from_bytes(target.to_bytes())),
            // It is no link.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => return Ok(end),
            Err(error) => return Err(io::Error::from(error)).at(path),
        }
    }
    Err(io::Error::from(rustix::io::Errno::LOOP)).at(path)
}

/// Gives `new` the mode and owner of the file that it replaces; 644 where there was none.
pub fn succeed(new: &Path, there: Option<&fs::Metadata>) -> io::Result<()> {
    if let Some(there) = there {
        // Only root can.
        let _ = std::os::unix::fs::chown(new, Some(there.uid()), Some(there.gid()));
    }
    let mode = there.map_or(0o644, |there| there.mode() & 0o777);
    fs::set_permissions(new, fs::Permissions::from_mode(mode)).at(new)
}

/// Opens a regular file that somebody else made, for reading: links are not followed.
///
/// `relative` is looked up below `base` one component at a time, so that no directory on the way is a link either, and
/// may not lead out of it.
pub fn open_foreign(base: &Path, relative: &Path) -> io::Result<File> {
    let path = base.join(relative);
    let mut dir = openat(CWD, base, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .at(base)?;
    let mut components = relative.components().filter(|c| *c != Component::CurDir).peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(io::Error::other(format!("{} leaves {}", relative.display(), base.display())));
        };
        let kind = if components.peek().is_some() { OFlags::DIRECTORY | OFlags::PATH } else { OFlags::RDONLY };
        // Non-blocking: opening a pipe that nobody writes to would wait for ever.
        let flags = kind | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        dir = openat(&dir, name, flags, Mode::empty()).map_err(io::Error::from).at(&path)?;
    }
    let file = File::from(dir);
    if file.metadata().at(&path)?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")).at(&path) }
}

/// Reads such a file, unless it is larger than `limit` bytes.
pub fn read_foreign(base: &Path, relative: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let path = base.join(relative);
    let file = open_foreign(base, relative)?;
    let size = file.metadata().at(&path)?.len();
    if size > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes"))).at(&path);
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(limit).read_to_end(&mut bytes).at(&path)?;
    Ok(bytes)
}

/// Opens `path` for appending, made with mode 644 if missing; a link in its place is refused.
pub fn open_log(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .at(path)
}

/// Whether two files hold the same bytes.
pub fn same_content(a: &Path, b: &Path) -> bool {
    let same_size = |a: &Path, b: &Path| Some(fs::metadata(a).ok()?.len() == fs::metadata(b).ok()?.len());
    same_size(a, b) == Some(true) && matches!((fs::read(a), fs::read(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_are_read_without_following_links() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("real"))?;
        fs::write(dir.path().join("real/a.ko"), "module")?;
        symlink("real", dir.path().join("linked"))?;
        symlink("a.ko", dir.path().join("real/link.ko"))?;
        let read = |path: &str, limit| read_foreign(dir.path(), Path::new(path), limit);
        assert_eq!(read("./real/a.ko", 100)?, b"module");
        for path in ["linked/a.ko", "real/link.ko", "../x", "real", "missing"] {
            assert!(read(path, 100).is_err(), "{path}");
        }
        assert!(read("real/a.ko", 5).is_err(), "larger than the limit");
        Ok(())
    }

    #[test]
    fn a_path_that_was_said_leads_where_writing_to_it_would() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "old")?;
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o440))?;
        fs::create_dir(at("sub"))?;
        symlink("../file", at("sub/link"))?;
        symlink("sub/link", at("link"))?;
        symlink("sub/new", at("dangling"))?;
        symlink("loop", at("loop"))?;
        // Where anybody makes files.
        fs::create_dir(at("shared"))?;
        fs::set_permissions(at("shared"), fs::Permissions::from_mode(0o1777))?;
        for (name, owner) in [("shared/planted", 1000), ("shared/own", 0)] {
            symlink("../file", at(name))?;
            std::os::unix::fs::lchown(at(name), Some(owner), None)?;
        }
        fs::write(at("shared/filled"), "")?;
        std::os::unix::fs::chown(at("shared/filled"), Some(1000), None)?;
        for planted in ["shared/planted", "shared/filled"] {
            let error = Place::of(&at(planted)).expect_err("somebody else's").to_string();
            assert!(error.contains(&format!("{planted} belongs to user 1000")), "{error}");
        }
        for (said, end, mode) in [
            ("file", "file", Some(0o440)),
            ("link", "sub/../file", Some(0o440)),
            ("dangling", "sub/new", None),
            ("new", "new", None),
            ("shared/own", "shared/../file", Some(0o440)),
            ("shared/new", "shared/new", None),
        ] {
            let Place::File { path, there } = Place::of(&at(said))? else { panic!("{said} is no file") };
            assert_eq!((path, there.map(|there| there.mode() & 0o777)), (at(end), mode), "{said}");
        }
        assert!(matches!(Place::of(Path::new("/dev/null"))?, Place::Through(_)));
        let held = File::create(at("held"))?;
        fs::remove_file(at("held"))?;
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
        assert!(matches!(Place::of(Path::new(&name))?, Place::Through(_)));
        assert!(Place::of(&at("loop")).is_err() && Place::of(&at("sub")).is_err());
        Ok(())
    }

    #[test]
    fn what_cannot_take_a_place_leaves_nothing_beside_it() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (file, place) = (dir.path().join("file"), dir.path().join("place"));
        fs::write(&file, "new")?;
        // As good as a mount, which takes more to make.
        fs::create_dir(&place)?;
        assert!(replace_with_copy(&file, &place).is_err());
        assert!(replace_with_same(&file, &place).is_err());
        assert!(replace_link(&file, &place).is_err());
        assert_eq!(fs::read_dir(dir.path())?.count(), 2);
        Ok(())
    }
}
