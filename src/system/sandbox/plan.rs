// SPDX-License-Identifier: GPL-2.0-or-later
//! Before the fork: everything that needs memory, or may be found wrong while it can still be explained.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::{geteuid, getgid, getpid, getuid};

use super::enter::Entry;
use super::guard::{MOST_PLACES, Place, Watch};
use super::{Isolation, Mount, Sandbox, landlock};

/// Places that are always empty, where they exist, and their modes: the sockets, devices and shared memory of the system.
pub const HIDDEN: [(&str, &CStr); 4] =
    [("/run", c"755"), ("/dev", c"755"), ("/dev/shm", c"1777"), ("/dev/mqueue", c"1777")];

/// What there is of `/dev` all the same, where it exists.
pub const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Where terminals of its own are.
const TERMINALS: &str = "/dev/pts";

/// And the links in it.
const LINKS: [(&str, &str); 5] = [
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// How many files it has to be possible to make beside those of a command, where bytes have to stay free.
const FILES_RESERVE: u64 = 4096;

/// One change to the view, ready for a process that cannot allocate.
#[derive(Debug)]
pub struct Step {
    /// What is to be there.
    pub what: What,
    /// Where, as seen inside.
    pub at: CString,
    /// Directories above it, outermost first, that are made if they are missing.
    pub above: Vec<CString>,
    /// What becomes of it if nothing is there to mount it on.
    pub missing: Missing,
    /// The mount, before it has its place.
    pub tree: Option<OwnedFd>,
}

/// What a step puts into its place.
#[derive(Debug)]
pub enum What {
    /// What is at `from` outside.
    Tree { from: CString, writable: bool },
    /// An empty directory of this mode.
    Tmpfs(&'static CStr),
    /// Pseudo-terminals of its own, if they can be had.
    Terminals,
    /// A plain directory.
    Dir,
    /// A symbolic link that says this.
    Link(CString),
}

/// What is done where nothing is to be mounted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Fail,
    /// The step is passed over.
    Skip,
    /// A directory is made.
    MakeDir,
    /// A file is made.
    MakeFile,
}

impl Sandbox {
    /// The way in, ready to be taken.
    pub(super) fn entry(&self, isolation: Isolation) -> io::Result<Entry> {
        let root = geteuid().is_root();
        // The line of /proc/PID/uid_map that keeps the caller who he is.
        let map = |id: u32| format!("{id} {id} 1").into_bytes();
        Ok(Entry {
            isolation,
            caller: getpid(),
            root,
            user: self.user.filter(|_| root),
            maps: [map(getuid().as_raw()), map(getgid().as_raw())],
            cwd: c_path(&self.cwd)?,
            steps: if isolation == Isolation::Namespaces { self.steps()? } else { Vec::new() },
            watch: Watch { places: self.places()?, ..Watch::default() },
            limits: self.limits.clone(),
            ruleset: if isolation == Isolation::Landlock { Some(landlock::ruleset(self)?) } else { None },
        })
    }

    /// Where it may write, and what has to stay free there. Directories, not names: what a name inside means changes on
    /// the way in, while the guard looks already.
    fn places(&self) -> io::Result<[Option<Place>; MOST_PLACES]> {
        let mounts = self.mounts.iter().filter_map(|mount| match mount {
            Mount::Bind { from, writable: true, .. } => Some(from),
            _ => None,
        });
        let open = |place| rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let (bytes, files) = (self.limits.disk_reserve, if self.limits.disk_reserve > 0 { FILES_RESERVE } else { 0 });
        let mut places = <[Option<Place>; MOST_PLACES]>::default();
        let mut free = places.iter_mut();
        for dir in self.tmp.iter().chain(mounts) {
            let place = free.next().ok_or_else(|| io::Error::other("too many places to write to"))?;
            *place = Some(Place { dir: open(dir)?, bytes, files });
        }
        Ok(places)
    }

    fn steps(&self) -> io::Result<Vec<Step>> {
        let mut places = Places(Vec::new());
        let mut steps = Vec::new();
        for (at, mode) in HIDDEN.map(|(at, mode)| (Path::new(at), mode)).into_iter().filter(|(at, _)| at.exists()) {
            let missing = if places.holding(at).is_some() { Missing::MakeDir } else { Missing::Skip };
            steps.push(places.step(at, What::Tmpfs(mode), missing)?);
        }
        if let Some(tmp) = &self.tmp {
            for at in ["/tmp", "/var/tmp"] {
                let what = What::Tree { from: c_path(tmp)?, writable: true };
                steps.push(places.step(Path::new(at), what, Missing::Skip)?);
            }
        }
        let mut devices = Vec::new();
        if places.holding(Path::new(TERMINALS)).is_some() {
            steps.push(places.step(Path::new(TERMINALS), What::Terminals, Missing::MakeDir)?);
            let there = DEVICES.into_iter().map(PathBuf::from).filter(|at| at.exists());
            devices.extend(there.map(|at| Mount::Bind { from: at.clone(), at, writable: false }));
            devices.extend(LINKS.map(|(at, target)| Mount::Link { at: at.into(), target: target.into() }));
        }
        for mount in devices.iter().chain(&self.mounts) {
            let at = mount.at();
            let inside = places.holding(at).is_some();
            let make = |kind| if inside { kind } else { Missing::Fail };
            steps.push(match mount {
                Mount::Bind { from, writable, .. } => {
                    let is_dir = std::fs::metadata(from)
                        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", from.display())))?
                        .is_dir();
                    let missing = make(if is_dir { Missing::MakeDir } else { Missing::MakeFile });
                    places.step(at, What::Tree { from: c_path(from)?, writable: *writable }, missing)?
                }
                Mount::Empty { .. } if places.is_empty(at) => continue,
                Mount::Empty { .. } => places.step(at, What::Tmpfs(c"755"), make(Missing::MakeDir))?,
                Mount::Dir { .. } | Mount::Link { .. } if !inside => {
                    let text = format!("{} is in no empty directory of the sandbox", at.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                Mount::Dir { .. } => places.step(at, What::Dir, Missing::MakeDir)?,
                Mount::Link { target, .. } => {
                    let target = CString::new(target.as_os_str().as_bytes())?;
                    places.step(at, What::Link(target), Missing::Fail)?
                }
            });
        }
        if places.holding(&self.cwd).is_some() {
            steps.push(places.step(&self.cwd, What::Dir, Missing::MakeDir)?);
        }
        Ok(steps)
    }
}

/// What was mounted so far, and whether something can be made in it without a trace outside.
struct Places(Vec<(PathBuf, bool)>);

impl Places {
    /// The step that puts `what` at `at`; from now on it is one of the places, if it is a mount.
    fn step(&mut self, at: &Path, what: What, missing: Missing) -> io::Result<Step> {
        let mut above = Vec::new();
        if let Some(place) = self.holding(at) {
            let dirs: Vec<&Path> = at.ancestors().skip(1).take_while(|dir| *dir != place).collect();
            above = dirs.into_iter().rev().map(c_path).collect::<io::Result<_>>()?;
        }
        // Empty places, and the private /tmp, which alone of all trees may be missing.
        let open = matches!(what, What::Tmpfs(_)) || missing == Missing::Skip;
        if !matches!(what, What::Dir | What::Link(_)) {
            self.0.push((at.into(), open));
        }
        Ok(Step { what, at: c_path(at)?, above, missing, tree: None })
    }

    /// What will be seen at `at`: the last mount there or above.
    fn seen(&self, at: &Path) -> Option<&(PathBuf, bool)> {
        self.0.iter().rev().find(|(place, _)| at.starts_with(place))
    }

    /// Whether `at` is an empty directory already.
    fn is_empty(&self, at: &Path) -> bool {
        self.seen(at).is_some_and(|(place, open)| *open && at == place)
    }

    /// The place above `at` in which it can be made.
    fn holding(&self, at: &Path) -> Option<&Path> {
        let (place, open) = self.seen(at.parent()?)?;
        open.then_some(place.as_path())
    }
}

/// A path inside or outside, as system calls take it.
pub fn c_path(path: &Path) -> io::Result<CString> {
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        let text = format!("{} is no absolute path", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
