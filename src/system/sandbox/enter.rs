// SPDX-License-Identifier: GPL-2.0-or-later
//! After the fork: the way in. Nothing of it allocates.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::process::{
    DumpableBehavior, Gid, Pid, Resource, Rlimit, Signal, Uid, WaitOptions, chdir, getpid, getppid, getrlimit,
    set_child_subreaper, set_dumpable_behavior, set_parent_process_death_signal, setrlimit, setsid, umask, waitpid,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::doing::Doing;
use super::guard::{Watch, guard, reap};
use super::plan::Step;
use super::{Isolation, Limits, User, view};
use crate::system::sys::{self, Fork, Signals};

/// What is needed on the way in.
#[derive(Debug)]
pub struct Entry {
    pub isolation: Isolation,
    pub caller: Pid,
    /// Whether the caller is root.
    pub root: bool,
    pub user: Option<User>,
    /// For the user namespace of a caller who is not root.
    pub maps: [Vec<u8>; 2],
    pub cwd: CString,
    pub steps: Vec<Step>,
    pub ruleset: Option<OwnedFd>,
    pub limits: Limits,
    pub watch: Watch,
}

impl Entry {
    /// Goes in with nothing to do there, in a process of its own and in silence. Whether that can be done.
    pub fn rehearse(mut self) -> bool {
        match sys::fork() {
            Ok(Fork::Child) => {
                let null = fs::open(c"/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
                let _ = null.and_then(rustix::stdio::dup2_stderr);
                sys::exit(i32::from(self.enter().is_err()))
            }
            Ok(Fork::Parent(pid)) => waitpid(Some(pid), WaitOptions::empty())
                .is_ok_and(|ended| ended.is_some_and(|(_, status)| status.exit_status() == Some(0))),
            Err(_) => false,
        }
    }

    /// Returns in the process that is to execute the command. The others never do, unless it is with an error.
    pub fn enter(&mut self) -> io::Result<()> {
        // The guard ends the command when the caller is gone.
        set_parent_process_death_signal(Some(Signal::TERM)).doing("guard", c"")?;
        if getppid() != Some(self.caller) {
            sys::exit(1);
        }
        let signals = sys::block_signals();
        self.own_streams();
        self.offer_to_memory_killer();
        self.watch.end = self.limits.time.and_then(|time| Instant::now().checked_add(time));
        match self.isolation {
            Isolation::Namespaces => self.go_apart(&signals),
            Isolation::Landlock | Isolation::None => self.go_watched(&signals),
        }
    }

    /// With namespaces.
    fn go_apart(&mut self, signals: &Signals) -> io::Result<()> {
        let chrooted = view::leave_namespaces((!self.root).then_some(&self.maps))?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing("pipe", c"")?;
        if let Fork::Parent(init) = sys::fork().doing("fork", c"")? {
            let watch = mem::take(&mut self.watch);
            sys::close_all_but(watch.kept().chain([&read]));
            guard(init, Some(&read), watch);
        }
        drop(read);
        setsid().doing("session", c"")?;
        umask(Mode::WGRP | Mode::WOTH);
        view::rearrange(&mut self.steps, chrooted)?;
        self.settle()?;
        // It may have gone before that took effect.
        let mut guard = [PollFd::new(&write, PollFlags::empty())];
        poll(&mut guard, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).doing("guard", c"")?;
        if guard[0].revents().contains(PollFlags::ERR) {
            sys::exit(1);
        }
        set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("process 1", c"")?;
        if let Fork::Parent(command) = sys::fork().doing("fork", c"")? {
            sys::close_all_but([&write].into_iter());
            reap(command, &write);
        }
        sys::restore_signals(signals);
        sys::close_at_exec();
        Ok(())
    }

    /// Without namespaces.
    fn go_watched(&mut self, signals: &Signals) -> io::Result<()> {
        let this = getpid();
        // What loses its parent becomes the guard's child.
        set_child_subreaper(Some(this)).doing("guard", c"")?;
        if let Fork::Parent(command) = sys::fork().doing("fork", c"")? {
            let watch = mem::take(&mut self.watch);
            sys::close_all_but(watch.kept());
            guard(command, None, watch);
        }
        setsid().doing("session", c"")?;
        umask(Mode::WGRP | Mode::WOTH);
        self.settle()?;
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

    /// Takes up the working directory and the user, and ends with the guard from now on.
    fn settle(&self) -> io::Result<()> {
        // Before the change of user, who may have no way there: the caller's working directory may be in /root.
        chdir(&*self.cwd).doing("chdir to", &self.cwd)?;
        self.drop_privileges()?;
        // After it, because it makes the kernel forget this.
        set_parent_process_death_signal(Some(Signal::KILL)).doing("guard", c"")
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

    /// When memory runs out, the kernel ends this before anything else.
    fn offer_to_memory_killer(&self) {
        let file = fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        // Without it the kernel chooses by size alone.
        let _ = file.and_then(|file| rustix::io::write(file, b"1000"));
    }

    fn limit(&self) -> io::Result<()> {
        let processes = self.limits.processes.filter(|_| self.user.is_some());
        for (resource, limit) in
            [(Resource::Data, self.limits.memory), (Resource::Nproc, processes), (Resource::Core, Some(0))]
        {
            let Some(limit) = limit else { continue };
            // Never more than there was.
            let limit = getrlimit(resource).maximum.map_or(limit, |most| most.min(limit));
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }).doing("limit", c"")?;
        }
        Ok(())
    }

    /// Nothing here or below will have a privilege again.
    fn drop_privileges(&self) -> io::Result<()> {
        if self.isolation == Isolation::None && self.user.is_none() {
            return Ok(());
        }
        self.limit()?;
        set_no_new_privs(true).doing("privileges", c"")?;
        let _ = clear_ambient_capability_set();
        sys::empty_bounding_set();
        // Before the change of user: it counts for root, then, whose room for keys no build takes.
        leave_keyring()?;
        if let Some(user) = self.user {
            let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
            set_thread_groups(&[]).doing("groups", c"")?;
            set_thread_res_gid(gid, gid, gid).doing("group", c"")?;
            set_thread_res_uid(uid, uid, uid).doing("user", c"")?;
        }
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, none).doing("capabilities", c"")?;
        // Not every kernel and container has filters; namespaces and Landlock are what there is then.
        let _ = sys::refuse_calls();
        Ok(())
    }
}

/// The caller's keys are out of reach from now on. Where there are none, or a container keeps them from all that is in
/// it, they were before.
fn leave_keyring() -> io::Result<()> {
    match sys::leave_keyring() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES)) => Ok(()),
        left => left.doing("keyring", c""),
    }
}
