// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs a command in a private view of the system: everything read-only, no other process, no network, no privilege.
//!
//! Three processes stand behind a confined command. The one that the standard library knows is the *guard*: it stays
//! outside, holds nothing but a pipe, and ends as the command ends. Its child is process 1 of the new process
//! namespace: it arranges the mounts, gives up every privilege, and reaps what loses its parent. The command itself is
//! its child, so that signals mean inside what they mean outside. When process 1 ends, the kernel ends whatever
//! the command left behind, and only then does the guard end.
//!
//! Without namespaces there is no process 1, and the guard collects what is left behind.

use std::ffi::{CStr, CString};
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, CWD, FileType, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount, open_tree,
    unmount,
};
use rustix::process::{
    DumpableBehavior, Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions, chdir, chroot, fchdir, geteuid, getgid, getpid,
    getppid, getuid, kill_process, kill_process_group, pidfd_open, pivot_root, set_child_subreaper,
    set_dumpable_behavior, set_parent_process_death_signal, setsid, umask, wait,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, ThreadNameSpaceType, UnshareFlags, clear_ambient_capability_set,
    move_into_thread_name_spaces, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::sys::{self, Fork, NO_DEV, NO_SUID, READ_ONLY, Signals};

/// How far a command can be kept apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces of its own for mounts, processes, IPC and network.
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
                .find(|&isolation| view.entry(isolation).and_then(Entry::rehearse).is_ok())
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
    /// Whether this user may pass through a directory, as far as its mode says.
    fn may_search(&self, dir: &Metadata) -> bool {
        let shift = match (dir.uid() == self.uid, dir.gid() == self.gid) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        self.uid == 0 || dir.mode() >> shift & 1 != 0
    }
}

/// One change to what the command sees. They are made in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// `from` (a file or directory outside, with all that is mounted in it) appears at `at`.
    Bind {
        /// Path outside.
        from: PathBuf,
        /// Path inside: exists, or is in an `Empty` or in the private `/tmp`, where it is made.
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

/// What a command is to see of the system.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// Who runs it; `None` is the caller himself, who loses all capabilities. Ignored if the caller is not root.
    pub user: Option<User>,
    /// What differs from the system outside, apart from `/run`, `/dev/shm` and `/dev/mqueue`, which are always empty.
    pub mounts: Vec<Mount>,
    /// The working directory as seen inside. `Command::current_dir` would mean one outside. It may be one that is
    /// closed to the user, who can read nothing in it then.
    pub cwd: PathBuf,
    /// A directory (mode 1777) that appears, writable, as `/tmp` and `/var/tmp`. Without namespaces it stays where it
    /// is, and `TMPDIR` names it.
    pub tmp: Option<PathBuf>,
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
    /// - Without namespaces only binds of a path to itself can be had; `Empty`, `Dir` and `Link` are passed over.
    pub fn confine(&self, isolation: Isolation, command: &mut Command) -> io::Result<()> {
        let mut entry = self.entry(isolation)?;
        match &self.tmp {
            Some(tmp) if isolation != Isolation::Namespaces => command.env("TMPDIR", tmp),
            Some(_) => command.env_remove("TMPDIR"),
            None => command,
        };
        sys::before_exec(command, move || entry.enter());
        Ok(())
    }

    /// Everything that needs memory, before the fork.
    fn entry(&self, isolation: Isolation) -> io::Result<Entry> {
        let root = geteuid().is_root();
        let steps = if isolation == Isolation::Namespaces { self.steps()? } else { Vec::new() };
        Ok(Entry {
            isolation,
            caller: getpid(),
            root,
            user: self.user.filter(|_| root),
            maps: [map(getuid().as_raw()), map(getgid().as_raw())],
            cwd: c_path(&self.cwd)?,
            trees: steps.iter().map(|_| None).collect(),
            steps,
            ruleset: if isolation == Isolation::Landlock { Some(self.ruleset()?) } else { None },
        })
    }

    fn steps(&self) -> io::Result<Vec<Step>> {
        let tmpfs =
            |at: &CStr, mode| Step::Tmpfs { at: at.into(), mode, optional: true, above: Vec::new(), make: Make::No };
        let mut steps = vec![tmpfs(c"/run", c"755"), tmpfs(c"/dev/shm", c"1777"), tmpfs(c"/dev/mqueue", c"1777")];
        let mut places = Places(vec![("/run".into(), true)]);
        if let Some(tmp) = &self.tmp {
            for at in ["/tmp", "/var/tmp"] {
                let (from, at_c) = (c_path(tmp)?, c_path(Path::new(at))?);
                let (above, make) = (Vec::new(), Make::No);
                steps.push(Step::Tree { from, at: at_c, writable: true, optional: true, above, make });
                places.0.push((at.into(), true));
            }
        }
        for mount in &self.mounts {
            let at = c_path(mount.at())?;
            let (inside, above) = places.above(mount.at())?;
            if matches!(mount, Mount::Empty { at } if places.is_open(at)) {
                continue;
            }
            steps.push(match mount {
                Mount::Bind { from, writable, .. } => {
                    let is_dir = std::fs::metadata(from)
                        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", from.display())))?
                        .is_dir();
                    let make = match (inside, is_dir) {
                        (false, _) => Make::No,
                        (true, true) => Make::Dir,
                        (true, false) => Make::File,
                    };
                    places.0.push((mount.at().into(), false));
                    Step::Tree { from: c_path(from)?, at, writable: *writable, optional: false, above, make }
                }
                Mount::Empty { .. } => {
                    places.0.push((mount.at().into(), true));
                    let make = if inside { Make::Dir } else { Make::No };
                    Step::Tmpfs { at, mode: c"755", optional: false, above, make }
                }
                Mount::Dir { .. } | Mount::Link { .. } if !inside => {
                    let text = format!("{} is in no empty directory of the sandbox", mount.at().display());
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                Mount::Dir { .. } => Step::Dir { at, above },
                Mount::Link { target, .. } => {
                    let target = CString::new(target.as_os_str().as_bytes())?;
                    Step::Link { at, above, target }
                }
            });
        }
        Ok(steps)
    }

    /// Reading everywhere, writing in the writable places, no TCP, no signals or abstract sockets outwards.
    fn ruleset(&self) -> io::Result<OwnedFd> {
        const KNOWN: ABI = ABI::V6;
        let refused = |error: landlock::RulesetError| io::Error::new(io::ErrorKind::Unsupported, error);
        let open = |path: &Path| PathFd::new(path).map_err(io::Error::other);
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))
            .map_err(refused)?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))
            .map_err(refused)?
            .handle_access(AccessNet::from_all(KNOWN))
            .map_err(refused)?
            .scope(Scope::from_all(KNOWN))
            .map_err(refused)?
            .create()
            .map_err(refused)?
            .add_rule(PathBeneath::new(open(Path::new("/"))?, AccessFs::from_read(KNOWN)))
            .map_err(refused)?;
        for device in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts"] {
            let path = Path::new("/dev").join(device);
            if let Ok(fd) = PathFd::new(&path) {
                let access = if path.is_dir() { AccessFs::from_all(KNOWN) } else { AccessFs::from_file(KNOWN) };
                rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(refused)?;
            }
        }
        for mount in &self.mounts {
            let Mount::Bind { from, at, writable } = mount else {
                continue;
            };
            if from != at {
                let text = format!("{} cannot be shown at {} without namespaces", from.display(), at.display());
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            if *writable {
                let access = if from.is_dir() { AccessFs::from_all(KNOWN) } else { AccessFs::from_file(KNOWN) };
                rules = rules.add_rule(PathBeneath::new(open(from)?, access)).map_err(refused)?;
            }
        }
        if let Some(tmp) = &self.tmp {
            rules = rules.add_rule(PathBeneath::new(open(tmp)?, AccessFs::from_all(KNOWN))).map_err(refused)?;
        }
        let fd: Option<OwnedFd> = rules.into();
        let fd = fd.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        // Not where the three streams of the command will be put.
        Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?)
    }
}

/// Ends a confined command with all it started; `wait` for it then. (After `Child::kill` the last of its processes may
/// outlive `wait` by a moment, and without namespaces some for good.)
pub fn stop(child: &Child) -> io::Result<()> {
    Ok(kill_process(Pid::from_child(child), Signal::TERM)?)
}

/// The mounts that make `path` readable to `user` inside although a directory above it (say `/root`) is closed to it:
/// an empty directory in the place of the closed one, and in it `path` alone. None where nothing is closed.
pub fn expose(path: &Path, user: &User) -> Vec<Mount> {
    // By the name it was given, and where that leads through symbolic links.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for path in [path, &real] {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        let closed = |dir: &&Path| std::fs::metadata(dir).is_ok_and(|dir| !user.may_search(&dir));
        let Some(closed) = above.into_iter().find(closed) else {
            continue;
        };
        let mut mounts = vec![Mount::Empty { at: closed.to_owned() }];
        if let Some(parent) = path.parent().filter(|&parent| parent != closed) {
            mounts.push(Mount::Dir { at: parent.to_owned() });
        }
        mounts.push(Mount::Bind { from: path.to_owned(), at: path.to_owned(), writable: false });
        return mounts;
    }
    Vec::new()
}

/// The line of /proc/PID/uid_map that keeps the caller who he is.
fn map(id: u32) -> Vec<u8> {
    format!("{id} {id} 1").into_bytes()
}

fn c_path(path: &Path) -> io::Result<CString> {
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        let text = format!("{} is no absolute path", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// What was mounted so far, and whether something can be made in it without a trace outside.
struct Places(Vec<(PathBuf, bool)>);

impl Places {
    /// Whether `at` is such a place itself.
    fn is_open(&self, at: &Path) -> bool {
        let seen = self.0.iter().rev().find(|(place, _)| at.starts_with(place));
        seen.is_some_and(|(place, open)| *open && at == place)
    }

    /// Whether `at` is in such a place, and the directories between the two. The last mount above `at` is what
    /// will be seen there.
    fn above(&self, at: &Path) -> io::Result<(bool, Vec<CString>)> {
        let Some((place, true)) = self.0.iter().rev().find(|(place, _)| at.starts_with(place) && at != place) else {
            return Ok((false, Vec::new()));
        };
        let mut dirs: Vec<&Path> = at.ancestors().skip(1).take_while(|dir| dir != place).collect();
        dirs.reverse();
        Ok((true, dirs.into_iter().map(c_path).collect::<io::Result<_>>()?))
    }
}

/// What a mount point may have to be made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Make {
    No,
    Dir,
    File,
}

/// A [`Mount`], ready for a process that cannot allocate.
#[derive(Debug)]
enum Step {
    Tree { from: CString, at: CString, writable: bool, optional: bool, above: Vec<CString>, make: Make },
    Tmpfs { at: CString, mode: &'static CStr, optional: bool, above: Vec<CString>, make: Make },
    Dir { at: CString, above: Vec<CString> },
    Link { at: CString, target: CString, above: Vec<CString> },
}

/// What could not be done on the way in.
#[derive(Debug)]
struct Failed<'a> {
    what: &'static str,
    path: &'a CStr,
    error: io::Error,
}

impl Failed<'_> {
    /// A line on standard error, since the caller learns no more than the error's number.
    fn say(&self) {
        let mut line = [0; 512];
        let mut length = 0;
        let mut add = |bytes: &[u8]| {
            let end = line.len().min(length + bytes.len());
            line[length..end].copy_from_slice(&bytes[..end - length]);
            length = end;
        };
        let mut digits = [0; 10];
        let mut number = self.error.raw_os_error().unwrap_or(0).unsigned_abs();
        let mut first = digits.len();
        while number > 0 || first == digits.len() {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        for part in
            [b"dkms: sandbox: ", self.what.as_bytes(), b" ", self.path.to_bytes(), b": error ", &digits[first..]]
        {
            add(part);
        }
        add(b"\n");
        let _ = rustix::io::write(rustix::stdio::stderr(), &line[..length]);
    }
}

/// Names the step that failed.
trait Doing<T> {
    fn doing<'a>(self, what: &'static str, path: &'a CStr) -> Result<T, Failed<'a>>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing<'a>(self, what: &'static str, path: &'a CStr) -> Result<T, Failed<'a>> {
        self.map_err(|error| Failed { what, path, error: error.into() })
    }
}

/// The way in. Everything after the fork happens here, and nothing of it allocates.
#[derive(Debug)]
struct Entry {
    isolation: Isolation,
    caller: Pid,
    /// Whether the caller is root.
    root: bool,
    user: Option<User>,
    /// For the user namespace of a caller who is not root.
    maps: [Vec<u8>; 2],
    cwd: CString,
    steps: Vec<Step>,
    /// One for each step: the mount, before it has its place.
    trees: Vec<Option<OwnedFd>>,
    ruleset: Option<OwnedFd>,
}

impl Entry {
    /// Goes in with nothing to do there.
    fn rehearse(mut self) -> io::Result<()> {
        let Fork::Parent(pid) = sys::fork()? else {
            sys::exit(if self.go().is_ok() { 0 } else { 1 });
        };
        match rustix::process::waitpid(Some(pid), WaitOptions::empty())? {
            Some((_, status)) if status.exit_status() == Some(0) => Ok(()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// In the process that is to execute the command, or an ancestor of it where it fails.
    fn enter(&mut self) -> io::Result<()> {
        self.go().map_err(|failed| {
            failed.say();
            failed.error
        })
    }

    /// Returns in the process that is to execute the command. The others never do, unless it is with an error.
    fn go(&mut self) -> Result<(), Failed<'_>> {
        // The guard ends the command when the caller is gone.
        set_parent_process_death_signal(Some(Signal::TERM)).doing("guard", c"")?;
        if getppid() != Some(self.caller) {
            sys::exit(1);
        }
        let signals = sys::block_signals();
        self.own_streams();
        match self.isolation {
            Isolation::Namespaces => self.go_apart(&signals),
            Isolation::Landlock | Isolation::None => self.go_watched(&signals),
        }
    }

    /// With namespaces.
    fn go_apart(&mut self, signals: &Signals) -> Result<(), Failed<'_>> {
        let chrooted = self.leave_namespaces()?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing("pipe", c"")?;
        if let Fork::Parent(init) = sys::fork().doing("fork", c"")? {
            sys::close_all_but(Some(&read));
            guard(init, Some(&read));
        }
        drop(read);
        setsid().doing("session", c"")?;
        umask(Mode::WGRP | Mode::WOTH);
        rearrange(&self.steps, &mut self.trees, chrooted)?;
        chdir(&*self.cwd).doing("chdir to", &self.cwd)?;
        // Before the change of user, who may have no way there: the caller's working directory may be in /root.
        self.drop_privileges()?;
        // This had to wait for the change of user, which forgets it; the guard may have gone in between.
        set_parent_process_death_signal(Some(Signal::KILL)).doing("guard", c"")?;
        let mut guard = [PollFd::new(&write, PollFlags::empty())];
        poll(&mut guard, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).doing("guard", c"")?;
        if guard[0].revents().contains(PollFlags::ERR) {
            sys::exit(1);
        }
        set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("process 1", c"")?;
        if let Fork::Parent(command) = sys::fork().doing("fork", c"")? {
            sys::close_all_but(Some(&write));
            reap(command, &write);
        }
        sys::restore_signals(signals);
        sys::close_at_exec();
        Ok(())
    }

    /// Without namespaces.
    fn go_watched(&mut self, signals: &Signals) -> Result<(), Failed<'_>> {
        let this = getpid();
        // What loses its parent becomes the guard's child.
        set_child_subreaper(Some(this)).doing("guard", c"")?;
        if let Fork::Parent(command) = sys::fork().doing("fork", c"")? {
            sys::close_all_but(None::<&OwnedFd>);
            guard(command, None);
        }
        setsid().doing("session", c"")?;
        umask(Mode::WGRP | Mode::WOTH);
        // Before the change of user, who may have no way there: the caller's working directory may be in /root.
        chdir(&*self.cwd).doing("chdir to", &self.cwd)?;
        self.drop_privileges()?;
        set_parent_process_death_signal(Some(Signal::KILL)).doing("guard", c"")?;
        if getppid() != Some(this) {
            sys::exit(1);
        }
        if let Some(ruleset) = &self.ruleset {
            sys::restrict_self(ruleset).doing("Landlock", c"")?;
        }
        sys::restore_signals(signals);
        sys::close_at_exec();
        Ok(())
    }

    /// Pipes are given to the user, who could not open `/dev/stderr` otherwise.
    fn own_streams(&self) {
        let Some(user) = self.user else { return };
        for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
            if fs::fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo) {
                let _ = fs::fchown(stream, Some(Uid::from_raw(user.uid)), None);
            }
        }
    }

    /// New namespaces, whose mounts nobody else sees. Says whether this process lives in a chroot.
    fn leave_namespaces(&self) -> Result<bool, Failed<'static>> {
        let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWNET;
        if !self.root {
            flags |= UnshareFlags::NEWUSER;
        }
        sys::unshare(flags).doing("namespaces", c"")?;
        if !self.root {
            write_to(c"/proc/self/setgroups", b"deny")?;
            write_to(c"/proc/self/uid_map", &self.maps[0])?;
            write_to(c"/proc/self/gid_map", &self.maps[1])?;
        }
        let private = || mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC);
        if private().is_ok() {
            return Ok(false);
        }
        // The root of a chroot need not be a mount point: the mount it is in has to be reached first.
        // A descriptor, opened here: one from before would be of the old namespace.
        let root =
            fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing("open", c"/")?;
        leave_chroot()?;
        private().doing("private mounts", c"/")?;
        fchdir(&root).and_then(|()| chroot(c".")).doing("chroot", c"/")?;
        Ok(true)
    }

    /// Nothing here or below will have a privilege again.
    fn drop_privileges(&self) -> Result<(), Failed<'static>> {
        if self.isolation == Isolation::None && self.user.is_none() {
            return Ok(());
        }
        set_no_new_privs(true).doing("privileges", c"")?;
        let _ = clear_ambient_capability_set();
        sys::empty_bounding_set();
        if let Some(user) = self.user {
            let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
            set_thread_groups(&[]).doing("groups", c"")?;
            set_thread_res_gid(gid, gid, gid).doing("group", c"")?;
            set_thread_res_uid(uid, uid, uid).doing("user", c"")?;
        }
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, none).doing("capabilities", c"")?;
        sys::leave_keyring();
        Ok(())
    }
}

fn write_to(path: &'static CStr, bytes: &[u8]) -> Result<(), Failed<'static>> {
    let file = fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).doing("open", path)?;
    rustix::io::write(&file, bytes).doing("write", path).map(drop)
}

/// Enters this process's own mount namespace once more: that resets the root directory to the namespace's.
fn leave_chroot() -> Result<(), Failed<'static>> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).doing("pidfd", c"")?;
    move_into_thread_name_spaces(this.as_fd(), ThreadNameSpaceType::MOUNT).doing("leave the chroot", c"/")
}

/// Builds the view and makes it the root. Sources are opened by their paths outside before that, places are found
/// by their paths inside after it, so that a symbolic link means on each side what it says there.
fn rearrange<'a>(steps: &'a [Step], trees: &mut [Option<OwnedFd>], chrooted: bool) -> Result<(), Failed<'a>> {
    let system = clone_tree(c"/", READ_ONLY | NO_SUID)?;
    for (step, tree) in steps.iter().zip(trees.iter_mut()) {
        *tree = match step {
            Step::Tree { from, writable: true, .. } => Some(clone_tree(from, NO_SUID | NO_DEV)?),
            Step::Tree { from, .. } => Some(clone_tree(from, READ_ONLY | NO_SUID)?),
            Step::Tmpfs { at, mode, .. } => Some(tmpfs(mode).doing("tmpfs for", at)?),
            Step::Dir { .. } | Step::Link { .. } => None,
        };
    }
    if chrooted {
        leave_chroot()?;
    }
    attach(&system, c"/").doing("mount", c"/")?;
    fchdir(&system).doing("chdir to", c"/")?;
    match pivot_root(c".", c".") {
        // The old root lies on the new one now.
        Ok(()) => unmount(c".", UnmountFlags::DETACH).doing("detach", c"/")?,
        // Of the first of all mounts, the initramfs, nobody gets rid; without privilege nobody gets back to it either.
        Err(_) => chroot(c".").doing("chroot", c"/")?,
    }
    chdir(c"/").doing("chdir to", c"/")?;
    // A fresh /proc shows the new process namespace only. Containers may refuse it: the old one is read-only.
    let proc_flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount(c"proc", c"/proc", c"proc", proc_flags, None);
    for (step, tree) in steps.iter().zip(trees.iter()) {
        place(step, tree.as_ref())?;
    }
    // Only now, since the steps worked in them.
    for (step, tree) in steps.iter().zip(trees.iter_mut()) {
        if let (Step::Tmpfs { at, mode, .. }, Some(tree)) = (step, tree.as_ref()) {
            let attributes = if *mode == c"755" { READ_ONLY } else { 0 };
            sys::restrict_mount(tree, attributes, false).doing("protect", at)?;
        }
        *tree = None;
    }
    Ok(())
}

/// A copy, not yet placed, of the mount at `path` and of all below it.
fn clone_tree(path: &CStr, attributes: u64) -> Result<OwnedFd, Failed<'_>> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_NO_AUTOMOUNT;
    let tree = open_tree(CWD, path, flags).doing("open", path)?;
    sys::restrict_mount(&tree, attributes, true).doing("protect", path)?;
    Ok(tree)
}

fn tmpfs(mode: &CStr) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), c"mode", mode)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn attach(tree: &OwnedFd, at: &CStr) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(tree, c"", CWD, at, flags)
}

fn place<'a>(step: &'a Step, tree: Option<&OwnedFd>) -> Result<(), Failed<'a>> {
    let (Step::Tree { at, above, .. }
    | Step::Tmpfs { at, above, .. }
    | Step::Dir { at, above }
    | Step::Link { at, above, .. }) = step;
    let dir = |path: &CStr| match fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => other,
    };
    let parents = || above.iter().try_for_each(|path| dir(path));
    match (step, tree) {
        (Step::Dir { .. }, _) => parents().and_then(|()| dir(at)).doing("make", at),
        (Step::Link { target, .. }, _) => parents().and_then(|()| fs::symlink(&**target, &**at)).doing("link", at),
        (Step::Tree { make, optional, .. } | Step::Tmpfs { make, optional, .. }, Some(tree)) => {
            let made = match (attach(tree, at), make) {
                (Err(rustix::io::Errno::NOENT), Make::No) if *optional => return Ok(()),
                (Err(rustix::io::Errno::NOENT), Make::Dir) => parents().and_then(|()| dir(at)),
                (Err(rustix::io::Errno::NOENT), Make::File) => parents().and_then(|()| {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                    fs::open(&**at, flags, Mode::from_raw_mode(0o644)).map(drop)
                }),
                (other, _) => return other.doing("mount", at),
            };
            made.and_then(|()| attach(tree, at)).doing("mount", at)
        }
        // Every tree and tmpfs was opened.
        (Step::Tree { .. } | Step::Tmpfs { .. }, None) => Ok(()),
    }
}

/// Process 1 of the namespace: waits for everyone, tells how the command ended, and ends the rest by ending.
fn reap(command: Pid, report: &OwnedFd) -> ! {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => {
                let _ = rustix::io::write(report, &status.as_raw().to_ne_bytes());
                sys::exit(0);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => sys::exit(1),
        }
    }
}

/// The process that the caller waits for: ends as the command did, after the last process of it is gone.
/// `main` is the command or the process 1 that reports on it.
fn guard(main: Pid, report: Option<&OwnedFd>) -> ! {
    let mut told = None;
    let status = loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == main => break status,
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => continue,
            Ok(None) => {}
            Err(_) => sys::exit(1),
        }
        match sys::wait_signal(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT]) {
            libc::SIGCHLD => {}
            signal => {
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
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    use tempfile::TempDir;

    const USER: User = User { uid: 4242, gid: 4243 };
    const ALL: [Isolation; 3] = [Isolation::Namespaces, Isolation::Landlock, Isolation::None];
    const BOTH: [Isolation; 2] = [Isolation::Namespaces, Isolation::Landlock];

    /// A directory that everyone may search. These tests are nothing without root.
    fn place() -> io::Result<TempDir> {
        assert!(geteuid().is_root(), "the tests of the sandbox have to run as root");
        let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir_in("/var/tmp")?;
        Ok(dir)
    }

    fn own(path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(USER.uid), Some(USER.gid))
    }

    fn bind(path: &Path, writable: bool) -> Mount {
        Mount::Bind { from: path.into(), at: path.into(), writable }
    }

    fn view(mounts: Vec<Mount>) -> Sandbox {
        Sandbox { user: Some(USER), mounts, cwd: "/".into(), tmp: None }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/bash");
        command.args(["-c", script]).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// Exit code, 128 and more for signals, and output with errors.
    fn run(isolation: Isolation, view: &Sandbox, script: &str) -> io::Result<(i32, String)> {
        let mut command = shell(&format!("exec 2>&1; {script}"));
        // What a caller may bring along.
        sys::before_exec(&mut command, || {
            umask(Mode::RWXO);
            if geteuid().is_root() {
                set_thread_groups(&[Gid::ROOT, Gid::from_raw(8)])?;
            }
            Ok(())
        });
        view.confine(isolation, &mut command)?;
        let output = command.output()?;
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Ok((code, String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }

    /// Whether a process with this argument is alive anywhere.
    fn alive(argument: &str) -> bool {
        let word = format!("\0{argument}\0");
        fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
            fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&word))
        })
    }

    fn wait_until(what: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if what() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// A test below that is run by another one, in a process of its own: a copy of this program.
    fn inner(dir: &Path, name: &str) -> io::Result<Vec<String>> {
        let program = dir.join("tests");
        // By another process: a descriptor of ours, open for writing, would be inherited by the children of other
        // tests, and the copy be "busy".
        assert!(Command::new("cp").arg(std::env::current_exe()?).arg(&program).status()?.success());
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let module = module_path!().split_once("::").map_or("", |(_, path)| path);
        let name = format!("{module}::{name}");
        Ok([&program.display().to_string(), "--ignored", "--exact", &name, "--nocapture"].map(String::from).into())
    }

    #[test]
    fn here_are_namespaces() {
        assert!(geteuid().is_root(), "the tests of the sandbox have to run as root");
        assert_eq!(Isolation::available(), Isolation::Namespaces);
    }

    #[test]
    fn only_what_is_bound_writable_can_be_written() -> io::Result<()> {
        let dir = place()?;
        for name in ["work", "seen"] {
            fs::create_dir(dir.path().join(name))?;
            own(&dir.path().join(name))?;
        }
        let (work, seen) = (dir.path().join("work"), dir.path().join("seen"));
        for isolation in BOTH {
            let view = Sandbox { cwd: work.clone(), ..view(vec![bind(&work, true), bind(&seen, false)]) };
            let script =
                format!("echo a > file && mkdir -p d && mv file d/f && rm d/f && echo {isolation:?} > done; pwd");
            assert_eq!(run(isolation, &view, &script)?, (0, work.display().to_string()));
            assert_eq!(fs::read_to_string(work.join("done"))?.trim(), format!("{isolation:?}"));
            // As root without privileges, too: not the modes alone protect the rest.
            for user in [Some(USER), None] {
                let view = Sandbox { user, ..view.clone() };
                for path in [&seen.join("file"), Path::new("/etc/dkms-rs-test"), &dir.path().join("file")] {
                    let (code, text) = run(isolation, &view, &format!("echo > {}", path.display()))?;
                    assert!(code != 0 && !path.exists(), "{isolation:?} {user:?} {}: {text}", path.display());
                }
            }
        }
        let (code, text) = run(Isolation::Namespaces, &view(vec![]), &format!("touch {}/x", seen.display()))?;
        assert!(code != 0 && text.contains("Read-only file system"), "{text}");
        Ok(())
    }

    #[test]
    fn user_and_privileges_are_gone() -> io::Result<()> {
        place()?;
        let script = "id -u; id -G; grep -h -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|SigBlk)' /proc/self/status; umask";
        let none = "0000000000000000";
        for isolation in ALL {
            let (code, text) = run(isolation, &view(vec![]), script)?;
            let status = format!(
                "SigBlk:\t{none}\nCapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1\n0022"
            );
            assert_eq!((code, text), (0, format!("4242\n4243\n{status}")), "{isolation:?}");
            if isolation != Isolation::None {
                let root = Sandbox { user: None, ..view(vec![]) };
                let (_, text) = run(isolation, &root, script)?;
                assert!(text.starts_with("0\n") && text.ends_with(&status), "{isolation:?}: {text}");
            }
        }
        // What is to run as root without isolation keeps what root has.
        let (_, text) = run(Isolation::None, &Sandbox { user: None, ..view(vec![]) }, script)?;
        assert!(text.contains("NoNewPrivs:\t0") && !text.contains(&format!("CapEff:\t{none}")), "{text}");
        Ok(())
    }

    #[test]
    fn no_process_is_seen_but_its_own() -> io::Result<()> {
        place()?;
        let (code, text) = run(Isolation::Namespaces, &view(vec![]), "echo /proc/[0-9]* $$")?;
        assert_eq!((code, text.as_str()), (0, "/proc/1 /proc/2 2"));
        for user in [Some(USER), None] {
            let script = "grep -h CapPrm /proc/1/status; cat /proc/1/environ; echo > /proc/1/comm";
            let (code, text) = run(Isolation::Namespaces, &Sandbox { user, ..view(vec![]) }, script)?;
            assert!(code != 0 && text.starts_with("CapPrm:\t0000000000000000\n"), "{text}");
            assert_eq!(text.matches("denied").count() + text.matches("Read-only").count(), 2, "{text}");
        }
        Ok(())
    }

    #[test]
    fn the_session_is_its_own() -> io::Result<()> {
        place()?;
        let outside = rustix::process::getsid(None)?.as_raw_pid().to_string();
        for isolation in ALL {
            // 0 would be a session of a process that cannot be seen.
            let (code, session) = run(isolation, &view(vec![]), "cut -d' ' -f6 /proc/self/stat")?;
            assert!(code == 0 && session != "0" && session != outside, "{isolation:?}: {session}");
        }
        Ok(())
    }

    #[test]
    fn no_network() -> io::Result<()> {
        place()?;
        let (_, text) = run(Isolation::Namespaces, &view(vec![]), "tail -n +3 /proc/net/dev | cut -d: -f1")?;
        assert_eq!(text, "lo");
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}", listener.local_addr()?.port());
        assert_eq!(run(Isolation::None, &view(vec![]), &script)?, (0, String::new()));
        for (isolation, words) in [(Isolation::Namespaces, "Network is unreachable"), (Isolation::Landlock, "denied")] {
            let (code, text) = run(isolation, &view(vec![]), &script)?;
            assert!(code != 0 && text.contains(words), "{isolation:?}: {text}");
        }
        Ok(())
    }

    #[test]
    fn sockets_and_shared_memory_of_the_system_are_out_of_sight() -> io::Result<()> {
        place()?;
        let (_, text) = run(
            Isolation::Namespaces,
            &view(vec![]),
            "ls -A /run /dev/shm; echo a > /dev/shm/a && cat /dev/shm/a; touch /run/a",
        )?;
        assert!(text.starts_with("/dev/shm:\n\n/run:\na\ntouch: "), "{text}");
        assert!(!Path::new("/dev/shm/a").exists());
        Ok(())
    }

    #[test]
    fn a_setuid_program_gives_nothing() -> io::Result<()> {
        let dir = place()?;
        let program = dir.path().join("id");
        assert!(Command::new("cp").arg("/usr/bin/id").arg(&program).status()?.success());
        fs::set_permissions(&program, Permissions::from_mode(0o4755))?;
        let script = format!("{} -u", program.display());
        let plain = shell(&script).output()?;
        assert_eq!(plain.stdout, b"0\n");
        for isolation in ALL {
            for mounts in [vec![], vec![bind(dir.path(), true)]] {
                assert_eq!(run(isolation, &view(mounts), &script)?, (0, "4242".into()), "{isolation:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_outlives_the_command() -> io::Result<()> {
        place()?;
        for (n, isolation) in ALL.into_iter().enumerate() {
            let mark = format!("{}.{n}", 90_000 + std::process::id() % 1000);
            let script = format!(
                "sleep {mark} & setsid sleep {mark} & (trap '' TERM HUP; (setsid sh -c 'sleep {mark}; :' &) &); sleep 0.3; exit 5"
            );
            let start = Instant::now();
            assert_eq!(run(isolation, &view(vec![]), &script)?.0, 5);
            assert!(!alive(&mark), "{isolation:?}");
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        Ok(())
    }

    #[test]
    fn stop_ends_everything() -> io::Result<()> {
        place()?;
        for (n, isolation) in ALL.into_iter().enumerate() {
            let mark = format!("{}.{n}", 80_000 + std::process::id() % 1000);
            let mut command = shell(&format!("trap '' TERM; setsid sleep {mark} & sleep {mark}; sleep {mark}"));
            view(vec![]).confine(isolation, &mut command)?;
            let mut child = command.spawn()?;
            assert!(wait_until(|| alive(&mark)));
            stop(&child)?;
            assert_eq!(child.wait()?.signal(), Some(libc::SIGTERM));
            assert!(!alive(&mark), "{isolation:?}");
        }
        Ok(())
    }

    #[test]
    fn it_ends_with_its_caller() -> io::Result<()> {
        let dir = place()?;
        let words = inner(dir.path(), "inner_caller")?;
        for isolation in ALL {
            let mark = format!("{}.{}", 70_000 + std::process::id() % 1000, isolation as u8);
            let mut caller = Command::new(&words[0])
                .args(&words[1..])
                .env("MARK", &mark)
                .env("ISOLATION", format!("{isolation:?}"))
                .stdout(Stdio::null())
                .spawn()?;
            assert!(wait_until(|| alive(&mark)), "{isolation:?} did not start");
            caller.kill()?;
            caller.wait()?;
            assert!(wait_until(|| !alive(&mark)), "{isolation:?} outlived its caller");
        }
        Ok(())
    }

    #[test]
    #[ignore = "run by it_ends_with_its_caller"]
    fn inner_caller() -> io::Result<()> {
        let wanted = std::env::var("ISOLATION").unwrap_or_default();
        let mark = std::env::var("MARK").unwrap_or_default();
        let isolation = ALL.into_iter().find(|isolation| format!("{isolation:?}") == wanted);
        let mut command = shell(&format!("setsid sleep {mark} & sleep {mark}; :"));
        view(vec![]).confine(isolation.unwrap_or(Isolation::None), &mut command)?;
        command.status().map(drop)
    }

    #[test]
    fn exit_codes_and_signals_pass() -> io::Result<()> {
        place()?;
        for isolation in ALL {
            for (script, code) in [
                ("exit 0", 0),
                ("exit 7", 7),
                ("exit 255", 255),
                ("kill -TERM $$", 143),
                ("kill -9 $$", 137),
                ("kill -SEGV $$", 139),
                ("kill -INT $$; exit 3", 130),
            ] {
                assert_eq!(run(isolation, &view(vec![]), script)?.0, code, "{isolation:?}: {script}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_cannot_start_is_an_error_of_spawn() -> io::Result<()> {
        place()?;
        for isolation in ALL {
            let mut command = Command::new("/nonexistent/program");
            view(vec![]).confine(isolation, &mut command)?;
            assert_eq!(command.spawn().err().map(|error| error.kind()), Some(io::ErrorKind::NotFound), "{isolation:?}");
            let mut command = shell("exit 0");
            Sandbox { cwd: "/nonexistent".into(), ..view(vec![]) }.confine(isolation, &mut command)?;
            let error = command.stderr(Stdio::null()).spawn().err();
            assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::NotFound), "{isolation:?}");
        }
        let missing = view(vec![bind(Path::new("/nonexistent"), false)]);
        assert!(missing.confine(Isolation::Namespaces, &mut shell("")).is_err());
        let relative = view(vec![bind(Path::new("etc"), false)]);
        assert!(relative.confine(Isolation::Namespaces, &mut shell("")).is_err());
        Ok(())
    }

    #[test]
    fn the_working_directory_may_be_closed_to_the_user() -> io::Result<()> {
        let dir = place()?;
        let closed = dir.path().join("closed");
        fs::create_dir(&closed)?;
        fs::write(closed.join("file"), "text")?;
        fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
        for isolation in ALL {
            let view = Sandbox { cwd: closed.clone(), ..view(vec![]) };
            let (code, text) = run(isolation, &view, "pwd; cat file; ls .; echo $?")?;
            let closed = closed.display();
            let refused = "cat: file: Permission denied\nls: cannot access '.': Permission denied";
            assert_eq!((code, text), (0, format!("{closed}\n{refused}\n2")), "{isolation:?}");
        }
        Ok(())
    }

    #[test]
    fn a_failing_step_is_named() -> io::Result<()> {
        let dir = place()?;
        let log = dir.path().join("log");
        let mut command = shell("exit 0");
        let at = PathBuf::from("/etc/nothing/here");
        view(vec![Mount::Bind { from: dir.path().into(), at, writable: false }])
            .confine(Isolation::Namespaces, &mut command)?;
        assert!(command.stderr(fs::File::create(&log)?).spawn().is_err());
        assert_eq!(fs::read_to_string(&log)?, "dkms: sandbox: mount /etc/nothing/here: error 2\n");
        Ok(())
    }

    #[test]
    fn places_are_made_in_empty_directories() -> io::Result<()> {
        let dir = place()?;
        let (tree, file) = (dir.path().join("tree"), dir.path().join("one"));
        fs::create_dir(&tree)?;
        fs::write(tree.join("a"), "tree")?;
        fs::write(&file, "file")?;
        own(&tree)?;
        let at = |path: &str| PathBuf::from(path);
        let view = Sandbox {
            cwd: at("/usr/src/some/where"),
            ..view(vec![
                Mount::Empty { at: at("/usr/src") },
                Mount::Dir { at: at("/usr/src/deep/er") },
                Mount::Bind { from: tree.clone(), at: at("/usr/src/some/where/tree"), writable: true },
                Mount::Bind { from: file, at: at("/usr/src/one"), writable: false },
                Mount::Link { at: at("/usr/src/links/l"), target: at("/usr/src/one") },
                Mount::Empty { at: at("/usr/src/again") },
            ])
        };
        let script = "ls -A /usr/src; stat -c %a /usr/src /usr/src/deep/er; cat tree/a /usr/src/links/l; echo x > tree/b; touch /usr/src/n /usr/src/again/n";
        let (code, text) = run(Isolation::Namespaces, &view, script)?;
        let expected = "again\ndeep\nlinks\none\nsome\n755\n755\ntreefiletouch: cannot touch '/usr/src/n': Read-only file system\ntouch: cannot touch '/usr/src/again/n': Read-only file system";
        assert_eq!((code, text.as_str()), (1, expected));
        assert_eq!(fs::read_to_string(tree.join("b"))?, "x\n");
        // Root without privileges cannot write there either.
        let root = Sandbox { user: None, ..view };
        assert_ne!(run(Isolation::Namespaces, &root, "touch /usr/src/n")?.0, 0);
        Ok(())
    }

    #[test]
    fn nothing_is_made_outside() -> io::Result<()> {
        let dir = place()?;
        let at = |path: &str| PathBuf::from(path);
        let tree = |at| Mount::Bind { from: dir.path().into(), at, writable: true };
        let empty = Mount::Empty { at: at("/usr/src") };
        for last in [tree(at("/usr/src/t/new")), Mount::Empty { at: at("/usr/src/t/new") }] {
            let mut command = shell("exit 0");
            view(vec![empty.clone(), tree(at("/usr/src/t")), last]).confine(Isolation::Namespaces, &mut command)?;
            assert_eq!(
                command.stderr(Stdio::null()).spawn().err().map(|error| error.kind()),
                Some(io::ErrorKind::NotFound)
            );
        }
        for last in [Mount::Dir { at: at("/mnt/d") }, Mount::Link { at: at("/mnt/d"), target: at("x") }] {
            let mounts = vec![empty.clone(), tree(at("/mnt")), last];
            assert!(view(mounts).confine(Isolation::Namespaces, &mut shell("")).is_err());
        }
        assert_eq!(fs::read_dir(dir.path())?.count(), 0);
        Ok(())
    }

    #[test]
    fn places_are_found_through_links() -> io::Result<()> {
        let dir = place()?;
        for name in ["real", "private"] {
            fs::create_dir_all(dir.path().join(name).join("sub"))?;
            fs::write(dir.path().join(name).join("sub/name"), name)?;
        }
        symlink(dir.path().join("real"), dir.path().join("link"))?;
        let (link, private) = (dir.path().join("link"), dir.path().join("private"));
        for (from, at) in [(private.clone(), link.clone()), (private.join("sub"), link.join("sub"))] {
            let view = view(vec![Mount::Bind { from, at, writable: false }]);
            let script = format!("cat {0}/link/sub/name; echo; cat {0}/real/sub/name", dir.path().display());
            assert_eq!(run(Isolation::Namespaces, &view, &script)?, (0, "private\nprivate".into()));
        }
        Ok(())
    }

    #[test]
    fn tmp_is_private() -> io::Result<()> {
        let dir = place()?;
        let tmp = dir.path().join("tmp");
        fs::create_dir(&tmp)?;
        fs::set_permissions(&tmp, Permissions::from_mode(0o1777))?;
        let work = TempDir::new_in("/tmp")?;
        own(work.path())?;
        let view = Sandbox { tmp: Some(tmp.clone()), cwd: work.path().into(), ..view(vec![bind(work.path(), true)]) };
        let script = "echo a > /tmp/a && cat /var/tmp/a && mktemp -u | cut -c-5 && echo b > b && pwd";
        let (code, text) = run(Isolation::Namespaces, &view, script)?;
        assert_eq!((code, text), (0, format!("a\n/tmp/\n{}", work.path().display())));
        assert_eq!(fs::read_to_string(tmp.join("a"))?, "a\n");
        assert!(!Path::new("/tmp/a").exists() && work.path().join("b").exists());
        // In place, without namespaces.
        assert_eq!(run(Isolation::Landlock, &view, "dirname $(mktemp)")?, (0, tmp.display().to_string()));
        assert_ne!(run(Isolation::Landlock, &view, "echo > /tmp/dkms-rs-landlock")?.0, 0);
        Ok(())
    }

    #[test]
    fn streams_and_devices_work() -> io::Result<()> {
        place()?;
        for isolation in ALL {
            let mut command =
                shell("echo a > /dev/stderr; echo b > /dev/stdout; cat /dev/stdin > /dev/null; : < /dev/zero");
            view(vec![]).confine(isolation, &mut command)?;
            let output = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?
                .wait_with_output()?;
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                (text.trim(), output.stdout.as_slice(), output.status.code()),
                ("a", &b"b\n"[..], Some(0)),
                "{isolation:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn other_descriptors_stay_outside() -> io::Result<()> {
        place()?;
        // Not close-on-exec, and of a number that nobody else uses.
        let stray = rustix::io::dup(rustix::stdio::stdin())?;
        let high = rustix::io::fcntl_dupfd_cloexec(&stray, 700)?;
        rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty())?;
        let script = "[ -e /proc/$$/fd/700 ]";
        assert!(shell(script).status()?.success());
        for isolation in ALL {
            assert_eq!(run(isolation, &view(vec![]), script)?.0, 1, "{isolation:?}");
        }
        Ok(())
    }

    #[test]
    fn closed_streams_do_no_harm() -> io::Result<()> {
        place()?;
        for isolation in ALL {
            let mut command = shell("[ ! -e /proc/$$/fd/0 ] && [ ! -e /proc/$$/fd/2 ] && echo fine");
            sys::before_exec(command.stdin(Stdio::inherit()).stdout(Stdio::piped()), || {
                for stream in [0, 2] {
                    // Closes one of the child's own streams.
                    sys::close_one(stream);
                }
                Ok(())
            });
            view(vec![]).confine(isolation, &mut command)?;
            let output = command.spawn()?.wait_with_output()?;
            assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"fine\n"[..]), "{isolation:?}");
        }
        Ok(())
    }

    #[test]
    fn the_output_ends_with_the_command() -> io::Result<()> {
        place()?;
        for isolation in ALL {
            let mut command = shell("echo a; exec > /dev/null; sleep 60000");
            view(vec![]).confine(isolation, &mut command)?;
            let mut child = command.stdout(Stdio::piped()).spawn()?;
            let mut text = String::new();
            // Neither the guard nor process 1 holds the pipe.
            child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut text)).transpose()?;
            assert_eq!(text, "a\n", "{isolation:?}");
            stop(&child)?;
            child.wait()?;
        }
        Ok(())
    }

    #[test]
    fn many_at_once() -> io::Result<()> {
        let dir = place()?;
        let before = fs::read_to_string("/proc/self/mountinfo")?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let own_dir = dir.path().join(n.to_string());
                    scope.spawn(move || -> io::Result<()> {
                        fs::create_dir(&own_dir)?;
                        own(&own_dir)?;
                        let place = Mount::Bind { from: own_dir, at: "/mnt".into(), writable: true };
                        let view = Sandbox { cwd: "/mnt".into(), ..view(vec![place]) };
                        for round in 0..6 {
                            let (code, text) = run(
                                Isolation::Namespaces,
                                &view,
                                &format!("echo {round} >> log; cat log | wc -l; exit {n}"),
                            )?;
                            assert_eq!((code, text), (n, (round + 1).to_string()));
                        }
                        Ok(())
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))))
        })?;
        assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, before);
        Ok(())
    }

    #[test]
    fn a_large_environment_passes() -> io::Result<()> {
        place()?;
        for isolation in ALL {
            let mut command = shell("echo ${#V0} ${#V9}");
            for n in 0..10 {
                command.env(format!("V{n}"), "x".repeat(100_000));
            }
            view(vec![]).confine(isolation, &mut command)?;
            assert_eq!(command.output()?.stdout, b"100000 100000\n", "{isolation:?}");
        }
        Ok(())
    }

    #[test]
    fn a_command_can_be_run_twice() -> io::Result<()> {
        let dir = place()?;
        let mut command = shell("cat /mnt/file");
        fs::write(dir.path().join("file"), "text")?;
        let place = Mount::Bind { from: dir.path().into(), at: "/mnt".into(), writable: false };
        view(vec![place]).confine(Isolation::Namespaces, &mut command)?;
        for _ in 0..2 {
            assert_eq!(command.output()?.stdout, b"text");
        }
        Ok(())
    }

    #[test]
    fn binds_elsewhere_need_namespaces() -> io::Result<()> {
        let dir = place()?;
        let elsewhere = view(vec![Mount::Bind { from: dir.path().into(), at: "/mnt".into(), writable: false }]);
        assert!(elsewhere.confine(Isolation::Landlock, &mut shell("")).is_err());
        Ok(())
    }

    /// In a chroot whose root is no mount point, on a system whose mounts are shared with other namespaces, as
    /// systemd has them: nothing may show outside.
    #[test]
    fn it_works_in_a_chroot() -> io::Result<()> {
        let dir = place()?;
        let root = dir.path().join("root");
        for name in ["usr", "proc", "dev", "etc", "tmp", "run", "var/tmp"] {
            fs::create_dir_all(root.join(name))?;
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            symlink(format!("usr/{name}"), root.join(name))?;
        }
        fs::write(root.join("etc/name"), "chroot")?;
        let words = inner(&root, "inner_chroot")?;
        let script = format!(
            "set -e; cd {0}; mount --rbind /usr usr; mount --rbind /dev dev; mount -t proc proc proc; \
             cat /proc/self/mountinfo > ../before; chroot . /tests {1}; cat /proc/self/mountinfo | cmp - ../before",
            root.display(),
            words[1..].join(" ")
        );
        let output =
            Command::new("unshare").args(["--mount", "--propagation", "shared", "sh", "-c", &script]).output()?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        Ok(())
    }

    #[test]
    #[ignore = "run by it_works_in_a_chroot"]
    fn inner_chroot() -> io::Result<()> {
        let before = fs::read_to_string("/proc/self/mountinfo")?;
        assert!(
            !before.lines().any(|line| line.split(' ').nth(4) == Some("/")),
            "the chroot is a mount point: {before}"
        );
        assert!(before.contains("shared:"), "{before}");
        assert_eq!(Isolation::available(), Isolation::Namespaces);
        let place = Mount::Bind { from: "/etc".into(), at: "/run/etc".into(), writable: true };
        let script = "cat /etc/name; echo; ls /; echo /proc/[0-9]*; echo > /etc/x; ls /run; ls /../..; exit 4";
        let (code, text) = run(Isolation::Namespaces, &view(vec![place]), script)?;
        let list = "bin\ndev\netc\nlib\nlib64\nproc\nrun\nsbin\ntests\ntmp\nusr\nvar";
        let expected =
            format!("chroot\n{list}\n/proc/1 /proc/2\n/bin/bash: line 1: /etc/x: Read-only file system\netc\n{list}");
        assert_eq!((code, text), (4, expected));
        assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, before);
        Ok(())
    }

    /// A caller who is not root keeps his user, and has a user namespace instead of privileges.
    #[test]
    fn it_works_without_root() -> io::Result<()> {
        let dir = place()?;
        let words = inner(dir.path(), "inner_user")?;
        let work = dir.path().join("work");
        fs::create_dir(&work)?;
        own(&work)?;
        let output = Command::new("setpriv")
            .args(["--reuid=4242", "--regid=4243", "--clear-groups"])
            .args(words)
            .env("WORK", &work)
            .current_dir("/")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        Ok(())
    }

    #[test]
    #[ignore = "run by it_works_without_root"]
    fn inner_user() -> io::Result<()> {
        assert_eq!(geteuid().as_raw(), 4242);
        assert_eq!(Isolation::available(), Isolation::Namespaces);
        let work = PathBuf::from(std::env::var_os("WORK").unwrap_or_default());
        let other = User { uid: 1, gid: 1 };
        for isolation in BOTH {
            let view = Sandbox { user: Some(other), cwd: work.clone(), ..view(vec![bind(&work, true)]) };
            let script = "id -u; id -g; echo a > a; grep -h CapEff /proc/self/status; echo > ../b; exit 6";
            let (code, text) = run(isolation, &view, script)?;
            assert_eq!(code, 6, "{text}");
            assert!(text.starts_with("4242\n4243\nCapEff:\t0000000000000000\n"), "{isolation:?}: {text}");
        }
        let (_, text) = run(
            Isolation::Namespaces,
            &view(vec![]),
            "echo /proc/[0-9]*; tail -n +3 /proc/net/dev | cut -d: -f1; touch /etc/x",
        )?;
        assert!(text.starts_with("/proc/1 /proc/2\n    lo\ntouch: "), "{text}");
        Ok(())
    }

    #[test]
    fn a_closed_directory_shows_only_what_is_exposed() -> io::Result<()> {
        let dir = place()?;
        let closed = dir.path().join("closed");
        let tree = closed.join("a/b/tree");
        fs::create_dir_all(&tree)?;
        fs::write(tree.join("file"), "text")?;
        fs::write(closed.join("secret"), "text")?;
        let link = dir.path().join("link");
        symlink(&tree, &link)?;
        assert_eq!(expose(&tree, &USER), [], "nothing is closed yet");
        fs::set_permissions(&closed, Permissions::from_mode(0o750))?;
        assert_eq!(expose(&tree, &User { uid: 0, gid: 0 }), [], "root is never locked out");
        for path in [&tree, &link] {
            let script = format!("cat {}/file", path.display());
            assert_ne!(run(Isolation::Namespaces, &view(vec![]), &script)?.0, 0);
            let mounts = expose(path, &USER);
            assert_eq!(mounts.len(), 3);
            assert_eq!(run(Isolation::Namespaces, &view(mounts.clone()), &script)?, (0, "text".into()));
            let (_, text) = run(Isolation::Namespaces, &view(mounts), &format!("ls {}", closed.display()))?;
            assert_eq!(text, "a");
            // One after the other does not hide the first.
            let both = [expose(path, &USER), expose(&closed.join("secret"), &USER)].concat();
            let script = format!("{script}; cat {}/secret", closed.display());
            assert_eq!(run(Isolation::Namespaces, &view(both), &script)?, (0, "texttext".into()));
        }
        std::os::unix::fs::chown(&closed, None, Some(USER.gid))?;
        assert_eq!(expose(&tree, &USER), [], "the group may pass");
        std::os::unix::fs::chown(&closed, Some(USER.uid), None)?;
        fs::set_permissions(&closed, Permissions::from_mode(0o055))?;
        assert_eq!(expose(&tree, &USER).len(), 3, "the owner may not, although others may");
        // The closed directory is the parent.
        fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
        own(dir.path())?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700))?;
        let stranger = User { uid: 4244, gid: 4244 };
        let mounts = expose(&closed, &stranger);
        assert_eq!(mounts, [Mount::Empty { at: dir.path().into() }, bind(&closed, false)]);
        Ok(())
    }
}
