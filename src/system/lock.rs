// SPDX-License-Identifier: GPL-2.0-or-later
//! The lock between processes that change one tree: `flock(2)`.
//!
//! The kernel releases it when the holder dies, however it dies. Root's is on a file in /run, named after the tree, that
//! nobody else can open: whoever may read a directory may lock it, and keep root waiting. Who is not root locks the
//! directory of his tree.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};

use super::sys;

/// Set for programs that a holder runs: what they call of ours must not wait for the holder.
pub const HELD: &str = "DKMS_TREE_LOCKED";

/// A lock held until dropped.
#[derive(Debug)]
pub struct Lock {
    _directory: Arc<File>,
}

/// What [`HELD`] says for programs that we run: who holds the lock, which may be who runs us.
pub fn held_by() -> String {
    HOLDER.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_else(|| std::process::id().to_string())
}

/// Who holds the lock in our place, if somebody does.
static HOLDER: Mutex<Option<String>> = Mutex::new(None);

/// The last one that was taken.
static TAKEN: Mutex<Weak<File>> = Mutex::new(Weak::new());

/// Has a program hold the lock as well, for as long as it runs: what it changes is not for others while it does, also where
/// it outlives us.
pub fn share(command: &mut Command) {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
    if let Some(file) = taken {
        sys::before_exec(command, move || Ok(fcntl_setfd(&*file, FdFlags::empty())?));
    }
}

/// How often, and how long after each other, it is looked who holds a lock.
const GLANCES: u32 = 10;
const GLANCE: Duration = Duration::from_millis(10);

impl Lock {
    /// Locks `directory`; `waiting` is called, at most once, with the holder's command line before waiting for him.
    pub fn take(directory: &Path, waiting: impl FnOnce(&str)) -> io::Result<Self> {
        let file = open(directory)?;
        let mut glances = 0..GLANCES;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if runs_us(&file) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
            let holder = holder(&file);
            // Who was not seen has mostly ended by now.
            if holder.is_none() && glances.next().is_some() {
                std::thread::sleep(GLANCE);
                continue;
            }
            waiting(&holder.map_or_else(|| "another dkms".into(), |pid| described(&pid)));
            while let Err(error) = flock(&file, FlockOperation::LockExclusive) {
                if error != rustix::io::Errno::INTR {
                    return Err(error.into());
                }
            }
            break;
        }
        let file = Arc::new(file);
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&file);
        Ok(Self { _directory: file })
    }
}

/// What is locked for a tree.
fn open(directory: &Path) -> io::Result<File> {
    let dir = File::open(directory)?;
    if !rustix::process::geteuid().is_root() {
        return Ok(dir);
    }
    let meta = dir.metadata()?;
    let file = format!("/run/dkms-{:x}-{}.lock", meta.dev(), meta.ino());
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    // Where there is no /run, in the barest of chroots, nobody else is either.
    Ok(options.open(file).unwrap_or(dir))
}

/// Whether the lock on `file` is held by who runs us, and not by somebody since: what a script of his left in the background
/// has still been told of him. Where nobody can tell, he is believed to.
fn runs_us(file: &File) -> bool {
    let told = std::env::var(HELD).ok().filter(|told| passes(file, told));
    let ours = told.is_some();
    *HOLDER.lock().unwrap_or_else(PoisonError::into_inner) = told;
    ours
}

fn passes(file: &File, told: &str) -> bool {
    holder(file).is_none_or(|pid| pid == told)
}

/// The number of the process that holds the lock on `file`, from /proc/locks (see proc(5)).
fn holder(file: &File) -> Option<String> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"FLOCK") && fields.get(5)?.rsplit(':').next() == Some(&inode))
            .then(|| fields[4].to_owned())
    })
}

/// A process by its number and its command line.
fn described(pid: &str) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    format!("process {pid} ({})", words.join(" ").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_of_a_holder_passes_only_while_he_holds_it() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let first = Lock::take(dir.path(), |_| panic!("nobody else holds it"))?;
        let file = open(dir.path())?;
        let pid = holder(&file).expect("it is told who");
        assert_eq!(pid, std::process::id().to_string());
        assert!(passes(&file, &pid) && !passes(&file, "1"));
        drop(first);
        assert!(passes(&file, "1"), "nobody knows of another one");
        Ok(())
    }

    #[test]
    fn a_second_holder_waits_and_is_told_for_whom() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().to_owned();
        let first = Lock::take(&path, |_| panic!("nobody else holds it"))?;
        let (told, hears) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            Lock::take(&path, |holder| told.send(holder.to_owned()).expect("heard")).map(drop)
        });
        let holder = hears.recv().expect("the waiter says so before it waits");
        assert!(holder.starts_with(&format!("process {}", std::process::id())), "{holder}");
        drop(first);
        waiter.join().expect("no panic")
    }
}
