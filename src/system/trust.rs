// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether a file is root's alone: what others can change is nothing that root reads, runs or installs.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::fstat;
use rustix::process::geteuid;

use super::directories::DEEPEST;

/// Groups that may write: root's, and the two that Debian has for who looks after local sources and programs, `src` and
/// `staff` (their numbers are the same everywhere, see base-passwd).
const GROUPS: [u32; 3] = [0, 40, 50];

/// How many links may lead to each other.
const LINKS: usize = 40;

/// A place that somebody else than root can change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct WeakSpot {
    place: PathBuf,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Owner { uid: u32, all: bool },
    Mode { mode: u32, all: bool },
    Links,
    Unread,
}

impl WeakSpot {
    fn text(&self) -> String {
        let place = self.place.display();
        let option = |all| if all { "-R " } else { "" };
        match self.why {
            Why::Owner { uid, all } => {
                format!(
                    "{place} belongs to user {uid}, not to root.\nIf it is as it should be: chown {}root:root {place}",
                    option(all)
                )
            }
            Why::Mode { mode, all } => format!(
                "{place} can be changed by others than root (mode {mode:o}).\nIf it is as it should be: chmod {}go-w {place}",
                option(all)
            ),
            Why::Unread => format!("{place} cannot be read, and who can change what is in it is not known."),
            Why::Links => format!("{place} is a link that leads nowhere."),
        }
    }
}

/// Refuses `path` if somebody else than root can change what is there: it itself, or a directory or link on the way. What
/// does not exist can be made by nobody else. Whoever is not root has only himself to trust, and is refused nothing.
pub fn check(path: &Path) -> Result<(), WeakSpot> {
    walk(path, false)
}

/// The same for a directory that is one with all in it: a source.
pub fn check_source(dir: &Path) -> Result<(), WeakSpot> {
    walk(dir, true)
}

/// `whole`: what mends the last of the names is to mend what is in it, too.
fn walk(path: &Path, whole: bool) -> Result<(), WeakSpot> {
    if !geteuid().is_root() {
        return Ok(());
    }
    // What is left to walk, the next name last; and where we are.
    let names = |path: &Path| -> Vec<OsString> {
        let named = path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
        named.map(|c| c.as_os_str().to_owned()).collect::<Vec<_>>().into_iter().rev().collect()
    };
    let (mut left, mut here, mut links) = (names(path), PathBuf::from("/"), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        here.push(&name);
        let Ok(meta) = fs::symlink_metadata(&here) else {
            return Ok(());
        };
        judge(&here, &meta, left.is_empty(), whole)?;
        if meta.is_symlink() {
            links += 1;
            let Some(target) = fs::read_link(&here).ok().filter(|_| links < LINKS) else {
                return Err(WeakSpot { place: here, why: Why::Links });
            };
            here.pop();
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            left.append(&mut names(&target));
        }
    }
    Ok(())
}

/// The same for a directory in which anybody may make files, if only their owners can take them away: /tmp.
pub fn check_shared(dir: &Path) -> Result<(), WeakSpot> {
    // It is on the way to a file that is to be made there.
    check(&dir.join("new"))
}

/// Refuses what somebody else may have put where anybody makes files, /tmp above all, for us to follow, to fill or to wait
/// for: the kernel's `fs.protected_symlinks` and its like, also where they are off. `fd`: of the link or file at `path`,
/// itself.
pub fn check_planted(path: &Path, fd: impl AsFd) -> Result<(), WeakSpot> {
    let unread = || WeakSpot { place: path.to_owned(), why: Why::Unread };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = fs::metadata(dir).map_err(|_| unread())?;
    let owner = fstat(fd).map_err(|_| unread())?.st_uid;
    let is_shared = dir.mode() & 0o1002 == 0o1002;
    if is_shared && owner != geteuid().as_raw() && owner != dir.uid() {
        return Err(WeakSpot { place: path.to_owned(), why: Why::Owner { uid: owner, all: false } });
    }
    Ok(())
}

/// [`check_source`], and all that is below, with what links in it lead to.
pub fn check_all(dir: &Path) -> Result<(), WeakSpot> {
    check_source(dir)?;
    if !geteuid().is_root() {
        return Ok(());
    }
    // Told of by its own name, whatever link leads to it.
    check_below(&fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned()), 0)
}

/// Whether somebody else than root can read a file.
pub fn can_be_read(file: &Path) -> bool {
    let open =
        |meta: Metadata| meta.uid() != 0 || meta.mode() & 0o004 != 0 || meta.gid() != 0 && meta.mode() & 0o040 != 0;
    fs::metadata(file).is_ok_and(open)
}

fn check_below(dir: &Path, depth: usize) -> Result<(), WeakSpot> {
    // What lies too deep cannot be used either, and is told then.
    if depth > DEEPEST {
        return Ok(());
    }
    let unread = |_| WeakSpot { place: dir.to_owned(), why: Why::Unread };
    for entry in fs::read_dir(dir).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        // It may just have gone.
        let Ok(meta) = entry.metadata() else { continue };
        judge(&entry.path(), &meta, true, false)?;
        if meta.is_dir() {
            check_below(&entry.path(), depth + 1)?;
        } else if meta.is_symlink() {
            match check(&entry.path()) {
                // Nobody can change what a link to nowhere leads to.
                Err(WeakSpot { why: Why::Links, .. }) => {}
                checked => checked?,
            }
        }
    }
    Ok(())
}

/// `last`: it is what was asked for, and not only on the way there.
fn judge(path: &Path, meta: &Metadata, last: bool, whole: bool) -> Result<(), WeakSpot> {
    let weak = |why| Err(WeakSpot { place: path.to_owned(), why });
    let dir = meta.is_dir();
    if meta.uid() != 0 && !is_outside_of_namespace(meta.uid()) {
        return weak(Why::Owner { uid: meta.uid(), all: dir && last && whole });
    }
    if meta.is_symlink() || !meta.is_dir() && !meta.is_file() {
        return Ok(());
    }
    let mode = meta.mode() & 0o7777;
    let shared = dir && !last && mode & 0o1000 != 0;
    let writable = mode & 0o002 != 0 || mode & 0o020 != 0 && !GROUPS.contains(&meta.gid());
    if writable && !shared {
        return weak(Why::Mode { mode, all: dir && last && whole });
    }
    Ok(())
}

/// Whether this is how a container shows the files of a user whom it does not know, such as the root of its host.
fn is_outside_of_namespace(uid: u32) -> bool {
    const OVERFLOW: u32 = 65534;
    let map = || fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    uid == OVERFLOW && !map().split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn what_others_can_change_is_found_wherever_it_is_on_the_way() -> io::Result<()> {
        assert!(geteuid().is_root(), "this has to run as root");
        let base = tempfile::tempdir()?;
        let top = base.path();
        let dir = top.join("a/b");
        let file = dir.join("file");
        fs::create_dir_all(&dir)?;
        fs::write(&file, "")?;
        symlink("a/b/file", top.join("link"))?;
        symlink(top.join("a"), top.join("absolute"))?;
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        let names = [file.clone(), top.join("link"), top.join("absolute/b/file"), top.join("absolute/../a/b/file")];
        let all = |expected: bool, what: &str| {
            for name in &names {
                assert_eq!(check(name).is_ok(), expected, "{what}: {name:?} {:?}", check(name));
            }
        };
        all(true, "root's alone");
        for place in [&file, &dir, &top.join("a")] {
            let usual = if place.is_dir() { 0o755 } else { 0o644 };
            chown(place, Some(1000), None)?;
            all(false, "another owner");
            chown(place, Some(0), Some(1000))?;
            all(true, "another group");
            mode(place, usual | 0o020)?;
            all(false, "a group that may write");
            chown(place, None, Some(40))?;
            all(true, "src");
            mode(place, usual | 0o002)?;
            all(false, "all may write");
            mode(place, usual | 0o1002)?;
            all(place != &file, "all may write, but take nothing away");
            mode(place, usual)?;
        }
        std::os::unix::fs::lchown(top.join("link"), Some(1000), None)?;
        assert!(check(&top.join("link")).is_err(), "a link of somebody else's");
        symlink("loop", top.join("loop"))?;
        assert!(check(&top.join("loop")).is_err() && check(&dir.join("nothing")).is_ok());
        Ok(())
    }

    #[test]
    fn a_shared_directory_has_the_sticky_bit() -> io::Result<()> {
        let base = tempfile::tempdir()?;
        for (mode, good) in [(0o755, true), (0o1777, true), (0o777, false)] {
            fs::set_permissions(base.path(), fs::Permissions::from_mode(mode))?;
            assert_eq!(check_shared(base.path()).is_ok(), good, "{mode:o}");
            assert_eq!(check(base.path()).is_ok(), mode == 0o755, "{mode:o}");
        }
        Ok(())
    }

    #[test]
    fn a_whole_tree_is_looked_at() -> io::Result<()> {
        let base = tempfile::tempdir()?;
        fs::create_dir_all(base.path().join("a/b"))?;
        let file = base.path().join("a/b/file");
        fs::write(&file, "")?;
        assert_eq!(check_all(base.path()), Ok(()));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
        let text = check_all(base.path()).expect_err("writable").to_string();
        let expected = format!(
            "{0} can be changed by others than root (mode 666).\nIf it is as it should be: chmod go-w {0}",
            file.display()
        );
        assert_eq!(text, expected);
        Ok(())
    }
}
