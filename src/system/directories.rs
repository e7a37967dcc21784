// SPDX-License-Identifier: GPL-2.0-or-later
//! Directories with what is in them: copies, whose they are, and removal.

mod listing;

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, chownat, fstat, openat, readlinkat, renameat,
    statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::{Gid, Uid};

use super::files::At;
use super::interrupt;
pub use listing::{MOST_ENTRIES, by_age, disk_usage, entries, find, find_all, list, list_if_open, names};

/// Deeper than any source has directories.
pub const DEEPEST: usize = 64;

/// So many names of a directory are held at once to be removed, whose number is anybody's.
const SOME: usize = 1 << 14;

/// How something is opened that may be another thing by then: no link is followed, and no pipe waited for.
const AS_IT_IS: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Who shall own a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As the original, where we may.
    Same,
    /// This user and group.
    Is(u32, u32),
}

/// Copies the content of directory `from` into `to` (made if missing), keeping modes, times and links, dotfiles
/// included; what is in `to` already stays unless a copied file has its name.
///
/// By descriptors: `from` may be somebody else's, who puts a link to a secret or a pipe where a file was a moment ago.
pub fn copy_tree(from: &Path, to: &Path, owner: Owner) -> io::Result<()> {
    let opened = openat(CWD, from, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    copy_below(&opened.map_err(io::Error::from).at(from)?, from, to, owner, 0)
}

fn copy_below(opened: &OwnedFd, from: &Path, to: &Path, owner: Owner, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(too_deep(from));
    }
    match fs::create_dir(to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && to.is_dir() => {}
        result => result.at(to)?,
    }
    for entry in entries(opened).at(from)? {
        interrupt::hold();
        let (name, kind) = entry.at(from)?;
        let below = Path::new(OsStr::from_bytes(name.to_bytes()));
        let (source, target) = (from.join(below), to.join(below));
        let open = |flags| openat(opened, below, flags | AS_IT_IS, Mode::empty()).map_err(io::Error::from).at(&source);
        match kind {
            FileType::Directory => {
                // Into a directory of that name, not into what a link of that name leads to.
                if target.is_symlink() {
                    remove_any(&target)?;
                }
                copy_below(&open(OFlags::DIRECTORY)?, &source, &target, owner, depth + 1)?;
            }
            FileType::RegularFile => copy_opened(File::from(open(OFlags::RDONLY)?), &source, &target, owner)?,
            FileType::Symlink => {
                remove_any(&target)?;
                let text = readlinkat(opened, below, Vec::new()).map_err(io::Error::from).at(&source)?;
                symlink(OsStr::from_bytes(text.to_bytes()), &target).at(&target)?;
                let stat = statat(opened, below, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from).at(&source)?;
                take_over_metadata(&stat, &target, owner)?;
            }
            // Sockets, pipes and devices are no source code.
            _ => {}
        }
    }
    take_over_metadata(&fstat(opened).map_err(io::Error::from).at(from)?, to, owner)
}

/// For what lies below more than [`DEEPEST`] directories.
pub fn too_deep(dir: &Path) -> io::Error {
    io::Error::other(format!("{}: more than {DEEPEST} directories in each other", dir.display()))
}

/// Copies one regular file in place of whatever `to` was, keeping mode and times; its directory is made if missing.
pub fn copy_file(from: &Path, to: &Path, owner: Owner) -> io::Result<()> {
    to.parent().map_or(Ok(()), fs::create_dir_all).at(to)?;
    copy_opened(File::open(from).at(from)?, from, to, owner)
}

/// The same, into a directory that is there. What is no file by now is not copied.
fn copy_opened(mut file: File, from: &Path, to: &Path, owner: Owner) -> io::Result<()> {
    let stat = fstat(&file).map_err(io::Error::from).at(from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    remove_any(to)?;
    // As private as the original from its first byte.
    let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let copy = openat(CWD, to, flags, mode).map_err(io::Error::from).at(to)?;
    io::copy(&mut file, &mut File::from(copy)).at(to)?;
    take_over_metadata(&stat, to, owner)
}

/// Owner, mode and times as of an original for `to`, which is not followed.
fn take_over_metadata(original: &Stat, to: &Path, owner: Owner) -> io::Result<()> {
    let (uid, gid) = match owner {
        Owner::Same => (original.st_uid, original.st_gid),
        Owner::Is(uid, gid) => (uid, gid),
    };
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from).at(to)?;
    }
    let kind = FileType::from_raw_mode(original.st_mode);
    if kind != FileType::Symlink {
        // After the change of owner, which clears the setuid bit; a copy for somebody else loses it for good, and is not
        // for all to write.
        let mode = match owner {
            Owner::Same => original.st_mode & 0o7777,
            Owner::Is(..) if kind == FileType::Directory => original.st_mode & 0o775 | 0o700,
            Owner::Is(..) => original.st_mode & 0o775 | 0o600,
        };
        fs::set_permissions(to, fs::Permissions::from_mode(mode)).at(to)?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(original.st_atime, original.st_atime_nsec as _),
        last_modification: time(original.st_mtime, original.st_mtime_nsec as _),
    };
    utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from).at(to)
}

/// Access control lists, as acl(5) has them: of what there is, and of what will be made in a directory.
const ACCESS_LISTS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// Makes everything in `dir`, and itself, ours, and nobody else's to write. Nothing is followed; what is neither file nor
/// directory nor link goes, and so does what lies too deep.
pub fn take_ownership(dir: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(CWD, dir, flags, Mode::empty()).map_err(io::Error::from).at(dir)?;
    take_over(&opened, 0).at(dir)
}

/// By descriptors, so that it does not matter who else has one: names may change meanwhile, what was opened does not.
fn take_over(opened: &OwnedFd, depth: usize) -> io::Result<()> {
    take_over_one(opened)?;
    for entry in entries(opened)? {
        let (name, _) = entry?;
        let flags = AS_IT_IS;
        match FileType::from_raw_mode(statat(opened, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) {
            FileType::Directory if depth < DEEPEST => {
                take_over(&openat(opened, &name, flags | OFlags::DIRECTORY, Mode::empty())?, depth + 1)?;
            }
            FileType::RegularFile => take_over_one(&openat(opened, &name, flags, Mode::empty())?)?,
            FileType::Symlink => chownat(opened, &name, Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)?,
            FileType::Directory => remove_tree(opened, &name)?,
            _ => unlinkat(opened, &name, AtFlags::empty())?,
        }
    }
    Ok(())
}

fn take_over_one(file: &OwnedFd) -> io::Result<()> {
    rustix::fs::fchown(file, Some(Uid::ROOT), Some(Gid::ROOT))?;
    // What others may do to it, and to whatever is made in it one day. Most files, and some file systems, have none.
    for list in ACCESS_LISTS {
        let _ = rustix::fs::fremovexattr(file, list);
    }
    let mode = fstat(file)?.st_mode & 0o755;
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Makes a directory that everybody may write, like /tmp.
pub fn make_open_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir).and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o1777))).at(dir)
}

/// Removes a file, a link or a whole directory; nothing there is fine.
pub fn remove_any(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => remove_tree(CWD, path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at(path),
    }
}

/// Removes a directory with all that is in it; no link is followed.
///
/// What lies too deep is moved to its top first: a stranger may have made more levels than there are descriptors, or
/// stack, for the standard library's way.
fn remove_tree(parent: impl AsFd, name: impl Arg + Copy) -> io::Result<()> {
    let top = openat(&parent, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let mut moved = 0;
    while remove_below(&top, &top, 0, &mut moved)? {}
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Empties a directory; says whether something was moved to the top.
fn remove_below(dir: &OwnedFd, top: &OwnedFd, depth: usize, moved: &mut u64) -> io::Result<bool> {
    let before = *moved;
    loop {
        let some = entries(dir)?.take(SOME).collect::<io::Result<Vec<_>>>()?;
        for (name, kind) in &some {
            if *kind != FileType::Directory {
                unlinkat(dir, name, AtFlags::empty())?;
            } else if depth < DEEPEST {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                remove_below(&openat(dir, name, flags, Mode::empty())?, top, depth + 1, moved)?;
                unlinkat(dir, name, AtFlags::REMOVEDIR)?;
            } else {
                move_up(dir, name, top, moved)?;
            }
        }
        if some.len() < SOME {
            return Ok(*moved > before);
        }
    }
}

/// Moves a directory to the top, under a name that is free there.
fn move_up(dir: &OwnedFd, name: &CString, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        // Nothing has such a name, or it is one of ours from a removal that was cut off.
        match renameat(dir, name, top, format!(".removed-{moved}")) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            renamed => return Ok(renamed?),
        }
    }
}

/// Removes `dir` and then its parents, up to but without `stop`, as long as they are empty, or are gone already.
pub fn remove_empty_up_to(dir: &Path, stop: &Path) {
    let mut dir = Some(dir);
    while let Some(path) = dir.filter(|d| *d != stop && d.starts_with(stop)) {
        if fs::remove_dir(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            return;
        }
        dir = path.parent();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{RenameFlags, renameat_with};

    use super::*;

    #[test]
    fn a_copied_tree_keeps_modes_times_links_and_dotfiles() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub"))?;
        fs::write(from.join("sub/.hidden"), "x")?;
        fs::set_permissions(from.join("sub/.hidden"), fs::Permissions::from_mode(0o751))?;
        symlink("sub/.hidden", from.join("link"))?;
        fs::create_dir(&to)?;
        fs::write(to.join("stays"), "")?;
        copy_tree(&from, &to, Owner::Same)?;
        let (a, b) = (fs::metadata(from.join("sub/.hidden"))?, fs::metadata(to.join("sub/.hidden"))?);
        assert_eq!((a.mode(), a.mtime(), a.mtime_nsec()), (b.mode(), b.mtime(), b.mtime_nsec()));
        assert_eq!(fs::read_link(to.join("link"))?, Path::new("sub/.hidden"));
        assert!(to.join("stays").exists());
        Ok(())
    }

    #[test]
    fn a_tree_goes_however_deep_it_is_and_links_stay_what_they_are() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
        fs::create_dir(&outside)?;
        fs::write(outside.join("file"), "")?;
        fs::create_dir_all(tree.join(".removed-1/a"))?;
        fs::create_dir_all(tree.join("b/c"))?;
        fs::write(tree.join(".removed-2"), "")?;
        symlink(&outside, tree.join("b/c/link"))?;
        let mut deep = openat(CWD, &tree, OFlags::DIRECTORY, Mode::empty())?;
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU)?;
            rustix::fs::openat(&deep, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU)?;
            deep = openat(&deep, "d", OFlags::DIRECTORY, Mode::empty())?;
        }
        remove_any(&tree)?;
        assert!(!tree.exists() && outside.join("file").exists());
        Ok(())
    }

    #[test]
    fn what_was_a_strangers_is_ours_and_no_others_to_write() -> io::Result<()> {
        assert!(rustix::process::geteuid().is_root(), "this has to run as root");
        let dir = tempfile::tempdir()?;
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(tree.join("d/e"))?;
        fs::write(&outside, "")?;
        let file = tree.join("d/e/setuid");
        fs::write(&file, "")?;
        symlink(&outside, tree.join("link"))?;
        rustix::fs::mknodat(CWD, tree.join("pipe"), FileType::Fifo, Mode::RWXU, 0)?;
        fs::create_dir_all(tree.join("x/".repeat(DEEPEST + 2)))?;
        let stranger = |path: &Path, mode| {
            std::os::unix::fs::lchown(path, Some(1000), Some(1000))
                .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        };
        stranger(&file, 0o6777)?;
        stranger(&tree.join("d"), 0o2777)?;
        stranger(&tree, 0o777)?;
        stranger(&outside, 0o666)?;
        // Version 2: the owner, user 1000, the group, the mask and others, what each may, and the number of who has one.
        let entries = [(1, 7, u32::MAX), (2, 7, 1000), (4, 7, u32::MAX), (0x10, 7, u32::MAX), (0x20, 7, u32::MAX)];
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, may, id) in entries {
            list.extend([u16::to_le_bytes(tag), u16::to_le_bytes(may)].concat());
            list.extend(id.to_le_bytes());
        }
        for name in ACCESS_LISTS {
            rustix::fs::setxattr(tree.join("d"), name, &list, rustix::fs::XattrFlags::empty())?;
        }
        take_ownership(&tree)?;
        fs::create_dir(tree.join("d/new"))?;
        for (place, name) in [("d", ACCESS_LISTS[0]), ("d", ACCESS_LISTS[1]), ("d/new", ACCESS_LISTS[0])] {
            let left = rustix::fs::getxattr_query(tree.join(place), name);
            assert_eq!(left, Err(Errno::NODATA), "{place}: {name}");
        }
        for (path, mode) in [(&tree, 0o755), (&tree.join("d"), 0o755), (&file, 0o755)] {
            let meta = fs::metadata(path)?;
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 0, mode), "{path:?}");
        }
        assert_eq!((fs::metadata(&outside)?.uid(), fs::metadata(&outside)?.mode() & 0o7777), (1000, 0o666));
        assert_eq!(fs::symlink_metadata(tree.join("link"))?.uid(), 0);
        assert!(!tree.join("pipe").exists());
        assert!(tree.join("x/".repeat(DEEPEST)).exists() && !tree.join("x/".repeat(DEEPEST + 1)).exists());
        Ok(())
    }

    #[test]
    fn what_becomes_a_link_while_it_is_copied_shows_nothing() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let [from, to, secret] = ["from", "to", "secret"].map(|name| dir.path().join(name));
        fs::create_dir_all(from.join("sub"))?;
        fs::create_dir(&secret)?;
        fs::write(secret.join("file"), "secret")?;
        for name in ["file", "sub/file"] {
            fs::write(from.join(name), "source")?;
        }
        symlink(secret.join("file"), dir.path().join("link"))?;
        symlink(&secret, dir.path().join("sub-link"))?;
        let ended = AtomicBool::new(false);
        let copied = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    for (one, other) in [("link", "from/file"), ("sub-link", "from/sub")] {
                        let (one, other) = (dir.path().join(one), dir.path().join(other));
                        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("both are there");
                    }
                }
            });
            let copied: Vec<bool> = (0..3000)
                .map(|_| {
                    let _ = remove_any(&to);
                    // It may say that something is a link by now.
                    let _ = copy_tree(&from, &to, Owner::Same);
                    let is_file = |name| fs::symlink_metadata(to.join(name)).is_ok_and(|meta| meta.is_file());
                    let is_dir = fs::symlink_metadata(to.join("sub")).is_ok_and(|meta| meta.is_dir());
                    let shown =
                        [is_file("file").then_some("file"), (is_dir && is_file("sub/file")).then_some("sub/file")];
                    shown.into_iter().flatten().any(|name| fs::read(to.join(name)).is_ok_and(|text| text == b"secret"))
                })
                .collect();
            ended.store(true, Ordering::Relaxed);
            copied
        });
        assert!(!copied.contains(&true));
        Ok(())
    }

    #[test]
    fn nothing_is_copied_through_a_link() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let [from, to, outside] = ["from", "to", "outside"].map(|name| dir.path().join(name));
        fs::create_dir_all(from.join("sub"))?;
        fs::write(from.join("sub/file"), "ours")?;
        fs::create_dir(&to)?;
        fs::create_dir(&outside)?;
        symlink(&outside, to.join("sub"))?;
        copy_tree(&from, &to, Owner::Same)?;
        assert_eq!(fs::read_to_string(to.join("sub/file"))?, "ours");
        assert_eq!(fs::read_dir(&outside)?.count(), 0);
        Ok(())
    }

    #[test]
    fn empty_parents_go_up_to_the_stop() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        fs::create_dir_all(dir.path().join("a/b/c"))?;
        fs::write(dir.path().join("a/file"), "")?;
        remove_empty_up_to(&dir.path().join("a/b/c"), dir.path());
        assert_eq!(names(&dir.path().join("a")), ["file"]);
        Ok(())
    }
}
