// SPDX-License-Identifier: GPL-2.0-or-later
//! Tests, each of which runs commands for real: they are nothing without root.

mod isolation;
mod lifetime;
mod limits;
mod places;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::process::{Gid, geteuid, umask};
use rustix::thread::set_thread_groups;
use tempfile::TempDir;

use super::*;

const USER: User = User { uid: 4242, gid: 4243 };
const ALL: [Isolation; 3] = [Isolation::Namespaces, Isolation::Landlock, Isolation::None];
const BOTH: [Isolation; 2] = [Isolation::Namespaces, Isolation::Landlock];

/// A directory that everyone may search.
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
    Sandbox { user: Some(USER), mounts, cwd: "/".into(), tmp: None, limits: Limits::default() }
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
    let root = geteuid().is_root() && USER.is_available();
    sys::before_exec(&mut command, move || {
        umask(Mode::RWXO);
        if root {
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
fn inner(dir: &Path, module: &str, name: &str) -> io::Result<Vec<String>> {
    let program = dir.join("tests");
    // By another process: a descriptor of ours, open for writing, would be inherited by the children of other
    // tests, and the copy be "busy".
    assert!(Command::new("cp").arg(std::env::current_exe()?).arg(&program).status()?.success());
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let module = module.split_once("::").map_or("", |(_, path)| path);
    let name = format!("{module}::{name}");
    Ok([&program.display().to_string(), "--ignored", "--exact", &name, "--nocapture"].map(String::from).into())
}
