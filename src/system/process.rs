// SPDX-License-Identifier: GPL-2.0-or-later
//! Running other programs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};

use super::{interrupt, sys};

/// The exit code as a shell tells it: 128 and the signal's number where a signal ended the program.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Has a program end when we do, also by a signal that leaves us no time for it.
pub fn end_with_us(command: &mut Command) {
    sys::before_exec(command, || Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
}

/// A pipe that programs started by others do not inherit: (read end, write end).
fn pipe() -> io::Result<(File, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((File::from(read), write))
}

/// Runs `command` with both streams going, in order, through `each`; standard input is empty. Gives the exit code.
///
/// What it leaves in the background is not waited for, as no shell would.
pub fn merged(command: &mut Command, each: impl FnMut(&[u8])) -> io::Result<i32> {
    let (read, write) = pipe()?;
    command.stdout(write.try_clone()?).stderr(write);
    followed(command, read, each)
}

/// The same without its standard output.
pub fn errors_of(command: &mut Command, each: impl FnMut(&[u8])) -> io::Result<i32> {
    let (read, write) = pipe()?;
    command.stdout(Stdio::null()).stderr(write);
    followed(command, read, each)
}

fn followed(command: &mut Command, mut read: File, mut each: impl FnMut(&[u8])) -> io::Result<i32> {
    let mut child = command.stdin(Stdio::null()).spawn()?;
    // The write ends in `command` would keep the pipe open for ever.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // Before Linux 5.3, or where that is forbidden, the pipe alone says when it is over.
    let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
    let mut buffer = [0; 16384];
    loop {
        let is_over = end.as_ref().map_or(Ok(false), |end| is_over(&read, end))?;
        if is_over {
            let mut left = ioctl_fionread(&read)?;
            while left > 0 {
                let most = buffer.len().min(usize::try_from(left).unwrap_or(buffer.len()));
                read.read_exact(&mut buffer[..most])?;
                each(&buffer[..most]);
                left -= most as u64;
            }
            break;
        }
        match read.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => each(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let status = child.wait()?;
    interrupt::hold();
    Ok(code(status))
}

/// Waits until there is something to read or the process is at its end; whether it is.
fn is_over(read: &File, end: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(read, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
    loop {
        match poll(&mut fds, None) {
            Ok(_) => return Ok(!fds[1].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// [`merged`], kept: (exit code, output).
pub fn merged_output(command: &mut Command) -> io::Result<(i32, Vec<u8>)> {
    let mut output = Vec::new();
    let code = merged(command, |bytes| output.extend_from_slice(bytes))?;
    Ok((code, output))
}

/// Sends `input` through `command` and gives what comes out; an exit code other than 0 is an error.
pub fn filter(command: &mut Command, input: &[u8]) -> io::Result<Vec<u8>> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut stdin = child.stdin.take();
    std::thread::scope(|scope| {
        std::thread::Builder::new().spawn_scoped(scope, move || stdin.as_mut().map(|pipe| pipe.write_all(input)))?;
        child.wait_with_output()
    })
    .and_then(|output| {
        interrupt::hold();
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(io::Error::other(format!("{} ended with {}", command.get_program().to_string_lossy(), output.status)))
        }
    })
}

/// The first executable called `name` on PATH, or where the system's own are: root's PATH need not name those.
pub fn find_program(name: &str) -> Option<PathBuf> {
    places_of(name).find(|file| is_executable(file))
}

/// All of them, by their real paths.
pub fn find_programs(name: &str) -> Vec<PathBuf> {
    places_of(name).filter(|file| is_executable(file)).filter_map(|file| std::fs::canonicalize(file).ok()).collect()
}

fn places_of(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).chain(system).collect();
    dirs.into_iter().map(move |dir| dir.join(name))
}

fn beginning(file: &Path) -> Vec<u8> {
    let mut start = [0; 4];
    let read = std::fs::File::open(file).and_then(|mut file| std::io::Read::read(&mut file, &mut start)).unwrap_or(0);
    start[..read].to_vec()
}

/// Whether a file is a program by itself, and no script.
pub fn is_elf(file: &Path) -> bool {
    beginning(file) == b"\x7fELF"
}

/// [`find_program`], as a command.
pub fn program(name: &str) -> Command {
    Command::new(find_program(name).unwrap_or_else(|| PathBuf::from(name)))
}

/// An executable file as a command. One that is neither a program nor names its interpreter is a script of the shell, as
/// it is for the shell that would start it.
pub fn script(file: &Path) -> Command {
    let mut command = if is_elf(file) || beginning(file).starts_with(b"#!") {
        Command::new(file)
    } else {
        let mut bash = Command::new("bash");
        bash.arg(file);
        bash
    };
    std::os::unix::process::CommandExt::arg0(&mut command, file);
    command
}

/// Whether `path` is a file that may be executed.
pub fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Compiler settings of the caller's shell are not meant for kernel modules.
pub const NOT_INHERITED: [&str; 9] =
    ["CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "KERNEL_CC"];

/// Takes the caller's compiler settings out of a command's environment, and his functions.
pub fn plain_environment(command: &mut Command) -> &mut Command {
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    without_functions(command)
}

/// Takes what the caller's shell exports as functions out of the environment of a bash: they could stand in the place of
/// whatever it is to run.
pub fn without_functions(command: &mut Command) -> &mut Command {
    let functions = std::env::vars_os().map(|(name, _)| name);
    for name in functions.filter(|name| name.as_encoded_bytes().starts_with(b"BASH_FUNC_")) {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_come_in_order_and_the_code_is_the_shells() -> io::Result<()> {
        let (code, output) = merged_output(Command::new("sh").args(["-c", "echo a; echo b >&2; echo c; kill -9 $$"]))?;
        assert_eq!((code, output.as_slice()), (137, &b"a\nb\nc\n"[..]));
        Ok(())
    }

    #[test]
    fn what_is_left_in_the_background_is_not_waited_for() -> io::Result<()> {
        let script = "head -c 60000 /dev/zero; (yes & exec sleep 100) & echo; echo end";
        let mut sh = Command::new("sh");
        std::os::unix::process::CommandExt::process_group(&mut sh, 0);
        let (code, output) = merged_output(sh.args(["-c", &format!("{script}; kill -9 0")]))?;
        assert!(code == 137 && output.len() > 60000, "{code}, {} bytes", output.len());
        let (code, output) = merged_output(Command::new("sh").args(["-c", "sleep 100 & echo $!; exit 3"]))?;
        assert_eq!(code, 3);
        let left = String::from_utf8_lossy(&output).trim().to_owned();
        assert!(Command::new("kill").arg(left).status()?.success(), "it goes on");
        Ok(())
    }

    #[test]
    fn a_filter_passes_more_than_a_pipe_holds() -> io::Result<()> {
        let input = vec![b'x'; 1 << 20];
        assert_eq!(filter(&mut Command::new("cat"), &input)?, input);
        assert!(filter(&mut Command::new("false"), b"").is_err());
        Ok(())
    }
}
