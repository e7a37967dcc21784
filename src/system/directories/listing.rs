// SPDX-License-Identifier: GPL-2.0-or-later
//! What directories hold: names, files below them, and how much all of it takes.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::{DEEPEST, too_deep};
use crate::system::files::At;

/// More than any directory has files that we look for something in.
pub const MOST_ENTRIES: usize = 200_000;

/// Bytes that the smallest file takes where an administrator cares: inodes are a part of a disk, too.
const SMALLEST: u64 = 4096;

/// What stands in a directory, and what kind of thing each is.
pub fn entries<F: AsFd>(dir: &F) -> io::Result<impl Iterator<Item = io::Result<(CString, FileType)>>> {
    let kind_of = move |entry: &rustix::fs::DirEntry| {
        Ok::<_, Errno>(match entry.file_type() {
            FileType::Unknown => {
                FileType::from_raw_mode(statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            kind => kind,
        })
    };
    let entries = Dir::read_from(dir)?
        .filter(|entry| !entry.as_ref().is_ok_and(|entry| [c".", c".."].contains(&entry.file_name())));
    Ok(entries.map(move |entry| {
        let entry = entry?;
        Ok((entry.file_name().to_owned(), kind_of(&entry)?))
    }))
}

/// The names in a directory, sorted as bytes, without those that begin with a dot; none if there is no such directory.
///
/// For who would take what is not there for a reason to delete something; who only looks has [`names`].
pub fn list(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let all = entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<String> = all.into_iter().flatten().filter(|name| !name.starts_with('.')).collect();
    names.sort();
    Ok(names)
}

/// As [`list`]; none in a directory that is closed to who asks.
pub fn list_if_open(dir: &Path) -> io::Result<Vec<String>> {
    match list(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Vec::new()),
        listed => listed,
    }
}

/// As [`list`]; none if it cannot be read.
pub fn names(dir: &Path) -> Vec<String> {
    let read = list(dir).inspect_err(|error| log::info!("{}: {error}", dir.display()));
    read.unwrap_or_default()
}

/// What stands in a directory, the one that was changed the longest time ago first.
pub fn by_age(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().and_then(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))))
        .collect();
    entries.sort();
    entries.into_iter().map(|(_, path)| path).collect()
}

/// Every file and link below `dir`, in name order, whose name `wanted` accepts; links to directories are not entered, nor is
/// what cannot be read. Of more than [`MOST_ENTRIES`] it is those that were come upon by then.
pub fn find(dir: &Path, wanted: &mut dyn FnMut(&str) -> bool) -> Vec<PathBuf> {
    let passed_over = &mut |error| {
        log::info!("{error}");
        Ok(())
    };
    let mut search = Search { found: Vec::new(), left: MOST_ENTRIES, wanted, failed: passed_over };
    let _ = search.look_into(dir, 0);
    search.found
}

/// As [`find`], for who would take what cannot be read for a reason to do something.
pub fn find_all(dir: &Path, wanted: &mut dyn FnMut(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut search = Search { found: Vec::new(), left: MOST_ENTRIES, wanted, failed: &mut Err };
    search.look_into(dir, 0).map(|()| search.found)
}

struct Search<'a> {
    found: Vec<PathBuf>,
    /// Entries that may be looked at yet.
    left: usize,
    wanted: &'a mut dyn FnMut(&str) -> bool,
    failed: &'a mut dyn FnMut(io::Error) -> io::Result<()>,
}

impl Search<'_> {
    fn look_into(&mut self, dir: &Path, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return (self.failed)(too_deep(dir));
        }
        let read = fs::read_dir(dir).and_then(|entries| entries.take(self.left + 1).collect::<io::Result<Vec<_>>>());
        let mut entries = match read.at(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return (self.failed)(error),
        };
        let left = self.left.checked_sub(entries.len());
        self.left = left.ok_or_else(|| io::Error::other(format!("{}: too many files", dir.display())))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.look_into(&entry.path(), depth + 1)?,
                Ok(_) if entry.file_name().to_str().is_some_and(&mut *self.wanted) => self.found.push(entry.path()),
                Ok(_) => {}
                Err(error) => (self.failed)(error)?,
            }
        }
        Ok(())
    }
}

/// How much all that is below a directory takes on its disk, in bytes, 4096 at least for whatever it is; more than can be
/// where it lies too deep, or cannot be looked at. No link is followed.
pub fn disk_usage(dir: &Path) -> u64 {
    let opened = openat(CWD, dir, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(io::Error::from).and_then(|dir| usage_below(&dir, 0)).unwrap_or(u64::MAX)
}

fn usage_below(dir: &OwnedFd, depth: usize) -> io::Result<u64> {
    let mut sum = 0_u64;
    for entry in entries(dir)? {
        let (name, kind) = entry?;
        let own = match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            // Others work there meanwhile.
            Err(Errno::NOENT) => continue,
            stat => stat?.st_blocks.unsigned_abs().saturating_mul(512),
        };
        let below = match kind {
            FileType::Directory if depth > DEEPEST => u64::MAX,
            FileType::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(dir, &name, flags, Mode::empty()) {
                    Err(Errno::NOENT) => 0,
                    below => usage_below(&below?, depth + 1)?,
                }
            }
            _ => 0,
        };
        sum = sum.saturating_add(own.max(SMALLEST)).saturating_add(below);
    }
    Ok(sum)
}
