// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs a command in a private view of the system: everything read-only, no other process, no network, no
//! privilege, and not more of the machine than it may have.
//!
//! Three processes stand behind a confined command. The one that the standard library knows is the *guard*: it stays
//! outside, holds nothing but a pipe, and ends as the command ends. Its child is process 1 of the new process
//! namespace: it arranges the mounts, gives up every privilege, and reaps what loses its parent. The command itself is
//! its child, so that signals mean inside what they mean outside. When process 1 ends, the kernel ends whatever
//! the command left behind, and only then does the guard end.
//!
//! Without namespaces there is no process 1, and the guard collects what is left behind.
//!
//! * `plan` turns what is asked for into steps, before the fork: what comes after it cannot allocate.
//! * `enter` is the way in: processes, user, privileges.
//! * `view` makes the namespaces and the mounts.
//! * `landlock` makes the rules that stand in for them.
//! * `guard` waits, and ends what is left.

mod doing;
mod enter;
mod expose;
mod guard;
mod landlock;
mod plan;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::sys;
pub use expose::{expose, is_hidden};

/// How far a command can be kept apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces of its own for mounts, processes, IPC, network and the machine's name, which is `localhost` there.
    Namespaces,
    /// No private view: Landlock limits where it may write.
    Landlock,
    /// Only the change of user.
    None,
}

impl Isolation {
    /// What this process may use: tried once in a child, then remembered.
    pub fn available() -> Isolation {
        static FOUND: OnceLock<Isolation> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let view = Sandbox { cwd: PathBuf::from("/"), ..Sandbox::default() };
            [Isolation::Namespaces, Isolation::Landlock]
                .into_iter()
                .find(|&isolation| view.entry(isolation).is_ok_and(|entry| entry.rehearse()))
                .unwrap_or(Isolation::None)
        })
    }
}

/// The user a command runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id; there are no further groups.
    pub gid: u32,
}

impl User {
    /// The user of this name, by the text of passwd(5); not if it is root by another name, or nobody's number.
    pub fn named(name: &str, passwd: &str) -> Option<Self> {
        let user = passwd.lines().find_map(|line| {
            let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
            Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        });
        user.filter(|user| ![user.uid, user.gid].iter().any(|id| *id == 0 || *id == u32::MAX))
    }

    /// Whether this process can run a command as this user: root of a user namespace often knows no other, and root
    /// of a container may have lost the right. Tried once in a child, then remembered.
    pub fn is_available(self) -> bool {
        static FOUND: Mutex<Option<(User, bool)>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        match *found {
            Some((user, answer)) if user == self => answer,
            _ => {
                let view = Sandbox { user: Some(self), cwd: PathBuf::from("/"), ..Sandbox::default() };
                let answer = view.entry(Isolation::None).is_ok_and(|entry| entry.rehearse());
                *found = Some((self, answer));
                answer
            }
        }
    }
}

/// One change to what the command sees. They are made in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// `from` (a file or directory outside, with all that is mounted in it) appears at `at`.
    Bind {
        /// Path outside.
        from: PathBuf,
        /// Path inside: exists, or is in an `Empty`, in a place that is always empty or in the private `/tmp`, where
        /// it is made.
        at: PathBuf,
        /// Whether the command may write there, as far as the file modes allow its user.
        writable: bool,
    },
    /// An empty directory (tmpfs, mode 755) at `at`. The command itself cannot write to it. Asked for twice, it is
    /// made once, and what was put into it stays.
    Empty {
        /// Path inside.
        at: PathBuf,
    },
    /// A directory made in an `Empty` (mode 755; parents too).
    Dir {
        /// Path inside.
        at: PathBuf,
    },
    /// A symbolic link made in an `Empty`.
    Link {
        /// Path inside.
        at: PathBuf,
        /// What the link says.
        target: PathBuf,
    },
}

impl Mount {
    fn at(&self) -> &Path {
        match self {
            Mount::Bind { at, .. } | Mount::Empty { at } | Mount::Dir { at } | Mount::Link { at, .. } => at,
        }
    }
}

/// How much of the machine a command may take. What is none has no limit but that of the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Private memory of one process, in bytes (RLIMIT_DATA).
    pub memory: Option<u64>,
    /// Processes of the user, all that run as he taken together (RLIMIT_NPROC). Not for the caller himself.
    pub processes: Option<u64>,
    /// How long it may take.
    pub time: Option<Duration>,
    /// Bytes that it has to leave free where it may write; half of what is free there if that is less, and nothing on
    /// a file system that has less than four times as many.
    pub disk_reserve: u64,
}

/// Why a command ended that [`Limits`] ended, by its exit code as a shell tells it.
pub fn overstepped(code: i32) -> Option<Limit> {
    match code - 128 {
        guard::TOO_LONG => Some(Limit::Time),
        guard::TOO_LARGE => Some(Limit::Disk),
        _ => None,
    }
}

/// A limit that ends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::time`]
    Time,
    /// [`Limits::disk_reserve`]
    Disk,
}

/// What a command is to see of the system.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// Who runs it; `None` is the caller himself, who loses all capabilities. Ignored if the caller is not root.
    pub user: Option<User>,
    /// What differs from the system outside, apart from `/run`, `/dev/shm` and `/dev/mqueue`, which are always empty, and
    /// `/dev`, where only the devices are that every program may need.
    pub mounts: Vec<Mount>,
    /// The working directory as seen inside. `Command::current_dir` would mean one outside. It may be one that is
    /// closed to the user, who can read nothing in it then; in an empty place it is made.
    pub cwd: PathBuf,
    /// A directory (mode 1777) that appears, writable, as `/tmp` and `/var/tmp`. Without namespaces it stays where it
    /// is, and `TMPDIR` names it.
    pub tmp: Option<PathBuf>,
    /// How much it may take.
    pub limits: Limits,
}

impl Sandbox {
    /// Makes `command` run inside.
    ///
    /// - Descriptors other than the three streams are closed in the command; what adds one (`JobToken::configure`) has
    ///   to come after this.
    /// - Spawn and wait in one thread: the command is ended when the thread that spawned it ends.
    /// - When `wait` returns, nothing that the command started is alive. To end it early use [`stop`].
    /// - The command is in a session of its own and cannot reach the caller's terminal but through its streams.
    /// - If the view cannot be made, `spawn` fails, and a line on the command's standard error says why.
    /// - The keys in the caller's keyrings are not its own.
    /// - It can make no sockets, in no family, no keys and no mounts, where the kernel has filters for system calls.
    /// - Of all processes the kernel ends it first when memory runs out.
    /// - Without namespaces only binds of a path to itself can be had; `Empty`, `Dir` and `Link` are passed over.
    pub fn confine(&self, isolation: Isolation, command: &mut Command) -> io::Result<()> {
        let mut entry = self.entry(isolation)?;
        match &self.tmp {
            Some(tmp) if isolation != Isolation::Namespaces => command.env("TMPDIR", tmp),
            Some(_) => command.env_remove("TMPDIR"),
            None => command,
        };
        // For as long as the command runs there is little to do.
        sys::trim_heap();
        sys::before_exec(command, move || entry.enter());
        Ok(())
    }
}

/// Ends a confined command with all it started; `wait` for it then. (After `Child::kill` the last of its processes may
/// outlive `wait` by a moment, and without namespaces some for good.)
pub fn stop(child: &Child) -> io::Result<()> {
    Ok(kill_process(Pid::from_child(child), Signal::TERM)?)
}
