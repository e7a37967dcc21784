// SPDX-License-Identifier: GPL-2.0-or-later
//! The calls that neither the standard library nor rustix offer as safe functions.
//!
//! The crate denies unsafe code everywhere else. What is here runs between fork and exec, so nothing in it allocates,
//! or wraps a C function; the reason stands beside each block.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// What a pattern says of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It matches.
    Yes,
    /// It does not.
    No,
    /// The pattern is not a regular expression.
    Invalid,
}

/// regcomp(3) with REG_EXTENDED and regexec(3).
pub fn regex(pattern: &CStr, text: &CStr) -> Match {
    let mut compiled = MaybeUninit::<libc::regex_t>::uninit();
    // SAFETY: both strings end in NUL; `compiled` is read only where regcomp says that it filled it, and freed once.
    unsafe {
        if libc::regcomp(compiled.as_mut_ptr(), pattern.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) != 0 {
            return Match::Invalid;
        }
        let found = libc::regexec(compiled.as_ptr(), text.as_ptr(), 0, std::ptr::null_mut(), 0);
        libc::regfree(compiled.as_mut_ptr());
        if found == 0 { Match::Yes } else { Match::No }
    }
}

/// Has all threads allocate from one heap, for they mostly wait for programs and a heap for each would hold what it has let
/// go of; and keeps that heap to what is in use, for each process that is forked holds it as it was. Other C libraries than
/// glibc have no such settings, and no such heaps.
pub fn keep_heap_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers. That it takes them or not changes nothing but the memory in use.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        // Whole files go back at once; glibc would raise this after the first.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_TOP_PAD, 4 << 10);
    }
    HEAP.store((&raw const *Box::new(0_u8)).addr().next_multiple_of(rustix::param::page_size()), Ordering::Relaxed);
}

/// Lets threads have so many heaps besides the first, where they do nothing but look at many things: they would wait for each
/// other. It comes too late where there was a thread already, and nothing is lost then but time.
#[cfg_attr(not(target_env = "gnu"), allow(unused_variables))]
pub fn have_heaps(many: usize) {
    #[cfg(target_env = "gnu")]
    // SAFETY: as in `keep_heap_small`.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(many).unwrap_or(libc::c_int::MAX).saturating_add(1));
    }
}

/// Gives back what the heap has let go of, also where something above it is in use.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// An address below which the heap of this process has nothing that was put there since [`keep_heap_small`].
static HEAP: AtomicUsize = AtomicUsize::new(0);

/// Gives back the heap, for a process that was forked and does nothing any more but make system calls, with what is on its
/// stack: it would hold a copy of whatever its parent has changed since. What is no heap by brk(2) stays.
pub fn let_go_of_heap() {
    let begin = HEAP.load(Ordering::Relaxed);
    if begin == 0 {
        return;
    }
    // SAFETY: the caller reads nothing from there any more, and what the C library has needs no heap where nothing is
    // allocated. sbrk(0) changes nothing, and madvise(2) takes no range that is not mapped.
    unsafe {
        let end = libc::sbrk(0) as usize;
        if begin < end {
            libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_DONTNEED);
        }
    }
}

/// Runs `hook` in the new process before it executes the program. `hook` must not allocate or take a lock.
pub fn before_exec(command: &mut Command, hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the hooks of all callers work on memory prepared beforehand and make system calls only.
    unsafe { command.pre_exec(hook) };
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's id.
    Parent(Pid),
}

/// fork(2). The child may not allocate as long as the parent could have other threads.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: the child's side makes system calls only, until it executes a program or ends by `exit`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent)),
    }
}

/// Ends this process at once: no destructors, nothing flushed twice.
pub fn exit(code: i32) -> ! {
    // SAFETY: never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// unshare(2), for a process that has one thread.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: no memory is passed, and no other thread could see a descriptor table change.
    match unsafe { libc::unshare(flags.bits() as c_int) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Nothing this process executes can ever have a capability again.
pub fn empty_bounding_set() {
    for capability in 0..64 {
        // SAFETY: no memory is passed. It fails after the last capability, or at once where this process may not do it.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
}

/// A set of blocked signals.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "sigset_t has none")]
pub struct Signals(libc::sigset_t);

/// Blocks every signal and gives back what was blocked before. SIGCHLD is no longer ignored, or nobody could be waited for.
pub fn block_signals() -> Signals {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigfillset fills `all`; `old` is valid as zeros even if sigprocmask failed; SIG_DFL runs none of our code.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        Signals(old.assume_init())
    }
}

/// Puts back what `block_signals` gave.
pub fn restore_signals(signals: &Signals) {
    // SAFETY: the set is initialised.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &signals.0, std::ptr::null_mut()) };
}

/// Waits for one of the blocked `numbers`, for so long at most.
pub fn wait_signal_for(numbers: &[c_int], time: Duration) -> Option<c_int> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    let time = libc::timespec {
        tv_sec: time.as_secs().min(1 << 30) as libc::time_t,
        tv_nsec: time.subsec_nanos() as libc::c_long,
    };
    // SAFETY: sigemptyset fills the set, sigtimedwait writes nothing for a null pointer.
    let number = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &number in numbers {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        libc::sigtimedwait(set.as_ptr(), std::ptr::null_mut(), &time)
    };
    (number > 0).then_some(number)
}

/// Ends this process as signal `number` would, without a core file.
pub fn die_by(number: c_int) -> ! {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: pointers to locals that outlive the calls; SIG_DFL runs none of our code.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::signal(number, libc::SIG_DFL);
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), number);
        libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::kill(libc::getpid(), number);
    }
    exit(128 + number)
}

/// Descriptors from `first` on: closed, or (`at_exec`) closed when a program is executed.
fn close_range(first: c_int, last: c_int, at_exec: bool) {
    if first > last {
        return;
    }
    let flags = if at_exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: only for processes that end by `exit` or execute a program: nobody uses a File whose number is closed here.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, flags) == 0 {
            return;
        }
        // Kernels before 5.9 and 5.11. A limit higher than this is no descriptor table but an "unlimited".
        let table = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 1 << 16) as c_int;
        for fd in first..=last.min(table) {
            if at_exec {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            } else {
                libc::close(fd);
            }
        }
    }
}

/// Closes every descriptor but `keep`. Allocates nothing.
pub fn close_all_but<'a>(keep: impl Iterator<Item = &'a OwnedFd> + Clone) {
    let mut from = 0;
    while let Some(next) = keep.clone().map(AsRawFd::as_raw_fd).filter(|next| *next >= from).min() {
        close_range(from, next - 1, false);
        from = next + 1;
    }
    close_range(from, c_int::MAX, false);
}

/// The program to be executed gets no descriptor but its three streams.
pub fn close_at_exec() {
    close_range(3, c_int::MAX, true);
}

/// Nothing can be written there (MOUNT_ATTR_RDONLY).
pub const READ_ONLY: u64 = 1;
/// Set-user-id programs are programs like others (MOUNT_ATTR_NOSUID).
pub const NO_SUID: u64 = 2;
/// Devices cannot be opened (MOUNT_ATTR_NODEV).
pub const NO_DEV: u64 = 4;

/// mount_setattr(2): adds `attributes` to the mount that `fd` stands for (and to all below it) and takes it out of
/// its peer group.
pub fn restrict_mount(fd: impl AsFd, attributes: u64, recursive: bool) -> io::Result<()> {
    const AT_RECURSIVE: c_int = 0x8000;
    // struct mount_attr: to set, to clear, propagation, user namespace.
    let attr: [u64; 4] = [attributes, 0, libc::MS_PRIVATE, 0];
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` and the empty path live through the call, which reads as many bytes as it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// landlock_restrict_self(2): the crate's own way allocates, and this has to happen after the change of user.
pub fn restrict_self(ruleset: impl AsFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_fd().as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Leaves the caller's session keyring, whose keys are readable to whoever possesses it, for an empty one. It counts as a
/// key of whoever this process is by then.
pub fn leave_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name is allowed and means a new, nameless keyring.
    match unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// This machine's kind in what the kernel shows to filters of system calls: AUDIT_ARCH of linux/audit.h.
const ARCH: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xc000_00f3)
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    Some(0xc000_0015)
} else if cfg!(target_arch = "s390x") {
    Some(0x8000_0016)
} else if cfg!(target_arch = "loongarch64") {
    Some(0xc000_0102)
} else if cfg!(target_arch = "x86") {
    Some(0x4000_0003)
} else if cfg!(target_arch = "arm") {
    Some(0x4000_0028)
} else {
    None
};

/// What System V has of memory, semaphores and queues; with socketcall(2) and ipc(2), which make sockets and those, where
/// there are such. The numbers there are the same for all, and libc does not name them.
#[cfg(any(target_arch = "x86", target_arch = "s390x", target_arch = "powerpc64"))]
const SYSTEM_V: [libc::c_long; 5] = [libc::SYS_socketcall, libc::SYS_ipc, 395, 393, 399];
#[cfg(not(any(target_arch = "x86", target_arch = "s390x", target_arch = "powerpc64")))]
const SYSTEM_V: [libc::c_long; 3] = [libc::SYS_shmget, libc::SYS_semget, libc::SYS_msgget];

/// What no build has any business with.
const REFUSED: [libc::c_long; 26] = [
    libc::SYS_socket,
    // Goes around this very list.
    libc::SYS_io_uring_setup,
    // Outlives who made it.
    libc::SYS_mq_open,
    // Keys, which are the user's: the next build of another package would have them, and their number is limited.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The mounts and namespaces that it has are what it is kept apart by.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    // Parts of the kernel that are large, and were a way to its memory more than once.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_kexec_load,
    // memfd_secret(2), of one number everywhere: memory that not even root can look at.
    447,
];

/// The flags of clone(2) that make namespaces.
const NEW_NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Where the lower half of these flags is in struct seccomp_data, whose arguments begin at 16.
const FLAGS: u32 =
    16 + if cfg!(target_arch = "s390x") { 8 } else { 0 } + if cfg!(target_endian = "big") { 4 } else { 0 };

/// Nothing this process executes can make a socket again (but for socketpair(2)), nor a namespace, nor what else is
/// `REFUSED`: seccomp(2) answers with "permission denied". clone3(2), whose flags it cannot see, is not there: C libraries
/// take clone(2) then. System calls of another architecture are refused altogether. It needs "no new privileges".
pub fn refuse_calls() -> io::Result<()> {
    const CALLS: usize = REFUSED.len() + SYSTEM_V.len();
    let Some(arch) = ARCH else { return Err(io::ErrorKind::Unsupported.into()) };
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let jump = |kind, k, jt, jf| step(libc::BPF_JMP | kind | libc::BPF_K, jt, jf, k);
    let end = |k| step(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    // struct seccomp_data: the number of the call, then the architecture. Jumps are relative; refused is what gets to
    // the end. From 1 << 30 on are calls of x32.
    const LAST: u8 = CALLS as u8 + 10;
    let error = |number: c_int| end(libc::SECCOMP_RET_ERRNO | number as u32);
    let mut code = [error(libc::EACCES); LAST as usize + 1];
    let refuse = |at: u8| LAST - at - 1;
    code[0] = load(4);
    code[1] = jump(libc::BPF_JEQ, arch, 0, refuse(1));
    code[2] = load(0);
    code[3] = jump(libc::BPF_JGE, 1 << 30, refuse(3), 0);
    for (at, &call) in (4..).zip(REFUSED.iter().chain(&SYSTEM_V)) {
        code[usize::from(at)] = jump(libc::BPF_JEQ, call as u32, refuse(at), 0);
    }
    let (allowed, absent) = (end(libc::SECCOMP_RET_ALLOW), error(libc::ENOSYS));
    code[CALLS + 4..CALLS + 10].copy_from_slice(&[
        jump(libc::BPF_JEQ, libc::SYS_clone as u32, 0, 2),
        load(FLAGS),
        jump(libc::BPF_JSET, NEW_NAMESPACES as u32, refuse(LAST - 4), 1),
        jump(libc::BPF_JEQ, libc::SYS_clone3 as u32, 1, 0),
        allowed,
        absent,
    ]);
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    // SAFETY: the program and its steps live through the call, which copies them.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `text` up to its first NUL, as a C string.
pub fn until_nul(text: &[u8]) -> CString {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Closes one descriptor of a new process.
#[cfg(test)]
pub fn close_one(fd: c_int) {
    close_range(fd, fd, false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitOptions, waitpid};

    #[test]
    fn a_child_ends_as_it_is_told() -> io::Result<()> {
        for (number, code) in [(0, Some(7)), (libc::SIGTERM, None), (libc::SIGSEGV, None)] {
            match fork()? {
                Fork::Child if number == 0 => exit(7),
                Fork::Child => {
                    block_signals();
                    die_by(number)
                }
                Fork::Parent(pid) => {
                    let status = waitpid(Some(pid), WaitOptions::empty())?.map(|(_, status)| status);
                    assert_eq!(status.and_then(|s| s.exit_status()), code);
                    assert_eq!(status.and_then(|s| s.terminating_signal()), (number != 0).then_some(number));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_blocked_signal_waits_for_its_reader() -> io::Result<()> {
        let Fork::Parent(pid) = fork()? else {
            block_signals();
            // SAFETY: sends a signal to this very process.
            unsafe { libc::kill(libc::getpid(), libc::SIGHUP) };
            exit(wait_signal_for(&[libc::SIGTERM, libc::SIGHUP], Duration::from_secs(60)).unwrap_or(0));
        };
        let status = waitpid(Some(pid), WaitOptions::empty())?.map(|(_, status)| status);
        assert_eq!(status.and_then(|s| s.exit_status()), Some(libc::SIGHUP));
        Ok(())
    }

    #[test]
    fn descriptors_do_not_reach_a_program() -> io::Result<()> {
        let (read, _write) = rustix::pipe::pipe()?;
        let number = read.as_raw_fd();
        assert!(number > 2);
        let test = format!("test -e /proc/self/fd/{number}");
        assert!(Command::new("sh").args(["-c", &test]).status()?.success(), "the pipe is inherited without more");
        let mut command = Command::new("sh");
        before_exec(&mut command, || {
            close_at_exec();
            Ok(())
        });
        assert!(!command.args(["-c", &test]).status()?.success());
        Ok(())
    }

    #[test]
    fn all_but_one_are_closed() -> io::Result<()> {
        let (read, write) = rustix::pipe::pipe()?;
        let Fork::Parent(pid) = fork()? else {
            close_all_but([&write].into_iter());
            let gone = rustix::io::fcntl_getfd(&read).is_err();
            let kept = rustix::io::fcntl_getfd(&write).is_ok();
            exit(i32::from(gone) + 2 * i32::from(kept));
        };
        let status = waitpid(Some(pid), WaitOptions::empty())?.map(|(_, status)| status);
        assert_eq!(status.and_then(|s| s.exit_status()), Some(3));
        Ok(())
    }
}
