// SPDX-License-Identifier: GPL-2.0-or-later
//! Namespaces, and what the file system looks like in them. Nothing here allocates.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount, open_tree,
    unmount,
};
use rustix::process::{PidfdFlags, chdir, chroot, fchdir, getpid, pidfd_open, pivot_root};
use rustix::system::sethostname;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

use super::doing::Doing;
use super::plan::{Missing, Step, What};
use crate::system::sys::{self, NO_DEV, NO_SUID, READ_ONLY};

/// New namespaces, whose mounts nobody else sees; a user namespace too, for a caller who needs `maps` for it. Says
/// whether this process lives in a chroot.
pub fn leave_namespaces(maps: Option<&[Vec<u8>; 2]>) -> io::Result<bool> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWNET;
    flags |= UnshareFlags::NEWUTS;
    if maps.is_some() {
        flags |= UnshareFlags::NEWUSER;
    }
    sys::unshare(flags).doing("namespaces", c"")?;
    if let Some([uid, gid]) = maps {
        write_to(c"/proc/self/setgroups", b"deny")?;
        write_to(c"/proc/self/uid_map", uid)?;
        write_to(c"/proc/self/gid_map", gid)?;
    }
    // What is built is the same whatever the machine is called. Containers may refuse it.
    let _ = sethostname(b"localhost");
    let private = || mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC);
    if private().is_ok() {
        return Ok(false);
    }
    // The root of a chroot need not be a mount point: the mount it is in has to be reached first.
    // A descriptor, opened here: one from before would be of the old namespace.
    let root = fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing("open", c"/")?;
    leave_chroot()?;
    private().doing("private mounts", c"/")?;
    fchdir(&root).and_then(|()| chroot(c".")).doing("chroot", c"/")?;
    Ok(true)
}

fn write_to(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    let file = fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).doing("open", path)?;
    rustix::io::write(&file, bytes).doing("write", path).map(drop)
}

/// Enters this process's own mount namespace once more: that resets the root directory to the namespace's.
fn leave_chroot() -> io::Result<()> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).doing("pidfd", c"")?;
    move_into_thread_name_spaces(this.as_fd(), ThreadNameSpaceType::MOUNT).doing("leave the chroot", c"/")
}

/// Builds the view and makes it the root. Sources are opened by their paths outside before that, places are found
/// by their paths inside after it, so that a symbolic link means on each side what it says there.
pub fn rearrange(steps: &mut [Step], chrooted: bool) -> io::Result<()> {
    let system = clone_tree(c"/", READ_ONLY | NO_SUID)?;
    for step in &mut *steps {
        step.tree = match &step.what {
            What::Tree { from, writable: true } => Some(clone_tree(from, NO_SUID | NO_DEV)?),
            What::Tree { from, writable: false } => Some(clone_tree(from, READ_ONLY | NO_SUID)?),
            What::Tmpfs(mode) => Some(tmpfs(mode).doing("tmpfs for", &step.at)?),
            // Containers may refuse it.
            What::Terminals => terminals().ok(),
            What::Dir | What::Link(_) => None,
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
    for step in &*steps {
        step.place().doing("mount", &step.at)?;
    }
    // Only now, since the steps worked in them.
    for step in steps {
        let tree = step.tree.take();
        if let (What::Tmpfs(mode), Some(tree)) = (&step.what, tree) {
            let attributes = if *mode == c"755" { READ_ONLY } else { 0 };
            sys::restrict_mount(tree, attributes, false).doing("protect", &step.at)?;
        }
    }
    Ok(())
}

/// A copy, not yet placed, of the mount at `path` and of all below it.
fn clone_tree(path: &CStr, attributes: u64) -> io::Result<OwnedFd> {
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
    // It is memory, which nobody's end gives back before the sandbox's.
    fsconfig_set_string(context.as_fd(), c"size", c"64m")?;
    fsconfig_set_string(context.as_fd(), c"nr_inodes", c"65536")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn terminals() -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), c"ptmxmode", c"666")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn attach(tree: &OwnedFd, at: &CStr) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(tree, c"", CWD, at, flags)
}

impl Step {
    fn place(&self) -> rustix::io::Result<()> {
        for dir in &self.above {
            make_dir(dir)?;
        }
        if let What::Link(target) = &self.what {
            return fs::symlink(&**target, &*self.at);
        }
        match self.missing {
            Missing::MakeDir => make_dir(&self.at)?,
            Missing::MakeFile => make_file(&self.at)?,
            Missing::Fail | Missing::Skip => {}
        }
        match self.tree.as_ref().map(|tree| attach(tree, &self.at)) {
            Some(Err(Errno::NOENT)) if self.missing == Missing::Skip => Ok(()),
            attached => attached.unwrap_or(Ok(())),
        }
    }
}

/// Makes a directory, unless something is there.
fn make_dir(path: &CStr) -> rustix::io::Result<()> {
    match fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Makes a file, unless something is there.
fn make_file(path: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    match fs::open(path, flags, Mode::from_raw_mode(0o644)) {
        Err(Errno::EXIST) => Ok(()),
        made => made.map(drop),
    }
}
