// SPDX-License-Identifier: GPL-2.0-or-later
//! The processes that stay behind a command: they wait for it, and end what it leaves.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, fstatvfs};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};

use crate::system::directories::DEEPEST;
use crate::system::sys;

/// Process 1 of the namespace: waits for everyone, tells how the command ended, and ends the rest by ending.
pub fn reap(command: Pid, report: &OwnedFd) -> ! {
    sys::let_go_of_heap();
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => {
                let _ = rustix::io::write(report, &status.as_raw().to_ne_bytes());
                sys::exit(0);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => sys::exit(1),
        }
    }
}

/// How the guard ends for a command that took too long, and for one that took the last of a disk.
pub const TOO_LONG: libc::c_int = libc::SIGXCPU;
pub const TOO_LARGE: libc::c_int = libc::SIGXFSZ;

/// How often the guard looks.
const LOOK: Duration = Duration::from_millis(200);

/// How long a command may go on that has little itself on a disk that has nearly nothing left: whoever fills it is ended
/// by then.
const PATIENCE: Duration = Duration::from_secs(2);

/// More places than a command has to write to.
pub const MOST_PLACES: usize = 8;

/// What the guard looks at while a command runs. Nothing of it is on the heap, which the guard lets go of.
#[derive(Debug, Default)]
pub struct Watch {
    pub end: Option<Instant>,
    /// Since when it is stopped, if it is: time does not pass then.
    pub stopped: Option<Instant>,
    /// Since when a disk has nearly nothing left, if one has.
    pub nearly_full: Option<Instant>,
    /// Where it may write, and what has to stay free there.
    pub places: [Option<Place>; MOST_PLACES],
}

/// A place that a command may write.
#[derive(Debug)]
pub struct Place {
    pub dir: OwnedFd,
    /// Bytes that have to stay free.
    pub bytes: u64,
    /// Files that it has to be possible to make.
    pub files: u64,
}

impl Watch {
    /// What it needs to look.
    pub fn kept(&self) -> impl Iterator<Item = &OwnedFd> + Clone {
        self.places.iter().flatten().map(|place| &place.dir)
    }

    /// Small file systems are nobody's but the build's, and less than there is cannot be kept free.
    fn begin(&mut self) {
        for Place { dir, bytes, files } in self.places.iter_mut().flatten() {
            let Ok(stat) = fstatvfs(&*dir) else { continue };
            let kept = |all: u64, free: u64, reserve: u64| if all / 4 < reserve { 0 } else { reserve.min(free / 2) };
            *bytes = kept(stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize, *bytes);
            *files = kept(stat.f_files, stat.f_favail, *files);
        }
    }

    /// It goes on after a stop.
    fn go_on(&mut self) {
        let time = self.stopped.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.end = self.end.and_then(|end| end.checked_add(time));
    }

    /// Why it has to end, if it has. On a disk without room that is who takes much of it; where nobody does, everybody.
    fn verdict(&mut self) -> Option<libc::c_int> {
        if self.stopped.is_none() && self.end.is_some_and(|end| Instant::now() >= end) {
            return Some(TOO_LONG);
        }
        let places = || self.places.iter().flatten().map(|place| (place, place.left()));
        let nearly_full = places().any(|(_, left)| left == Left::NearlyNothing);
        if places().any(|(place, left)| left != Left::Enough && place.is_large()) {
            return Some(TOO_LARGE);
        }
        self.nearly_full = self.nearly_full.filter(|_| nearly_full).or_else(|| nearly_full.then(Instant::now));
        self.nearly_full.filter(|since| since.elapsed() >= PATIENCE).map(|_| TOO_LARGE)
    }
}

/// What is left on a disk of what has to stay free there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Enough,
    TooLittle,
    NearlyNothing,
}

impl Place {
    fn left(&self) -> Left {
        let Ok(stat) = fstatvfs(&self.dir) else { return Left::Enough };
        let (bytes, files) = (stat.f_bavail * stat.f_frsize, stat.f_favail);
        if bytes >= self.bytes && files >= self.files {
            Left::Enough
        } else if bytes >= self.bytes / 4 && files >= self.files / 4 {
            Left::TooLittle
        } else {
            Left::NearlyNothing
        }
    }

    /// Whether what lies here is at least as much as has to stay free. No more is looked at than that takes.
    fn is_large(&self) -> bool {
        let (mut bytes, mut files) = (0, 0);
        let mut add = |size: u64| {
            bytes += size;
            files += 1;
            (self.bytes > 0 && bytes >= self.bytes) || (self.files > 0 && files >= self.files)
        };
        open_dir(&self.dir, c".").is_some_and(|dir| any_below(&dir, 0, &mut add))
    }
}

fn open_dir(dir: &OwnedFd, name: &CStr) -> Option<OwnedFd> {
    fs::openat(dir, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Shows the bytes that each file below a directory takes, until one is enough.
fn any_below(dir: &OwnedFd, depth: usize, is_enough: &mut dyn FnMut(u64) -> bool) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        let Ok(stat) = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if name == c"." || name == c".." {
            continue;
        }
        let below = || open_dir(dir, name).filter(|_| is_dir && depth < DEEPEST);
        if is_enough(stat.st_blocks as u64 * 512)
            || below().is_some_and(|below| any_below(&below, depth + 1, is_enough))
        {
            return true;
        }
    }
    false
}

/// The process that the caller waits for: ends as the command did, after the last process of it is gone.
/// `main` is the command or the process 1 that reports on it.
pub fn guard(main: Pid, report: Option<&OwnedFd>, mut watch: Watch) -> ! {
    sys::let_go_of_heap();
    let mut told = None;
    watch.begin();
    let mut options = WaitOptions::NOHANG;
    if report.is_some() {
        // No build can stop a process 1. Whoever does so, as `interrupt` for a ^Z, does not want its time to pass.
        options |= WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    }
    let status = loop {
        match wait(options) {
            Ok(Some((pid, status))) if pid == main && status.stopped() => watch.stopped = Some(Instant::now()),
            Ok(Some((pid, status))) if pid == main && status.continued() => watch.go_on(),
            Ok(Some((pid, status))) if pid == main => break status,
            Ok(Some(_)) | Err(Errno::INTR) => continue,
            Ok(None) => {}
            Err(_) => sys::exit(1),
        }
        let signals = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
        match sys::wait_signal_for(&signals, LOOK).or_else(|| watch.verdict()) {
            None | Some(libc::SIGCHLD) => {}
            Some(signal) => {
                told = Some(signal);
                let _ = kill_process(main, Signal::KILL);
            }
        }
    };
    if report.is_none() {
        end_orphans(main);
    }
    let mut bytes = [0; 4];
    let status = match report.map(|pipe| rustix::io::read(pipe, &mut bytes)) {
        Some(Ok(4)) => i32::from_ne_bytes(bytes),
        _ => status.as_raw(),
    };
    match (told, libc::WIFSIGNALED(status)) {
        (Some(signal), _) => sys::die_by(signal),
        (None, true) => sys::die_by(libc::WTERMSIG(status)),
        (None, false) => sys::exit(libc::WEXITSTATUS(status)),
    }
}

/// Ends what the command left behind, all of it children of this process or their descendants.
fn end_orphans(command: Pid) {
    loop {
        let mut text = [0; 4096];
        let children = fs::open(c"/proc/thread-self/children", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::read(file, &mut text));
        let options = match children {
            Ok(length) => {
                let ended = text[..length].split_inclusive(|&byte| byte == b' ').filter(|word| word.ends_with(b" "));
                ended.filter_map(|word| std::str::from_utf8(word).ok()?.trim().parse().ok()).for_each(|pid| {
                    Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
                });
                WaitOptions::empty()
            }
            // No /proc here: those that did not leave the command's process group, at least.
            Err(_) => {
                let _ = kill_process_group(command, Signal::KILL);
                WaitOptions::NOHANG
            }
        };
        match wait(options) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
