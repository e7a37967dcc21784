// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands of a build: told while they run, and written down in make.log.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::error::{Doing, Result, cannot};
use crate::model::site::Site;
use crate::steps::Work;
use crate::system::files::open_log;
use crate::system::output::Block;
use crate::system::process;
use crate::system::renaming::Renaming;
use crate::system::sandbox::{self, Limit};

/// How often a person at a terminal sees that a command still runs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// More than this of what a build prints is read by nobody, and fills a disk.
const LARGEST_LOG: u64 = 256 << 20;

/// What is said of the rest.
const LEFT_OUT: &[u8] = b"\n# what else it prints is left out\n";

/// Writes the head of a make.log.
pub fn begin(work: &Work, log: &Path) -> Result<()> {
    let date = Command::new("date").output().map(|output| output.stdout).unwrap_or_default();
    let date = String::from_utf8_lossy(&date);
    let (id, target) = (work.id, &work.kernel.target);
    append(log, format!("DKMS ({}) make.log for {id} for kernel {target}\n{}\n", crate::VERSION, date.trim_end()))
}

/// Adds to a make.log.
pub fn append(log: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    open_log(log).and_then(|mut file| file.write_all(text.as_ref())).doing(cannot("write", log))
}

/// How a command is told.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// What it does.
    pub description: &'a str,
    /// Itself.
    pub text: &'a str,
    /// Names that it knows, and what they are called outside.
    pub names: &'a [(String, String)],
}

/// Runs a command, tells of it and logs it; gives its exit code.
pub fn run(site: &Site, say: &Block, log: &Path, command: &mut Command, told: Told) -> Result<i32> {
    let Told { description, text, names } = told;
    let verbose = site.framework.verbose;
    say.print(if verbose { format!("{text}\n") } else { format!("{description}...") });
    append(log, format!("\n{description}\n# command: {text}\n"))?;
    let mut file = open_log(log).doing(cannot("write", log))?;
    let length = file.metadata().doing(cannot("read", log))?.len();
    let (mut written, mut left) = (Ok(()), LARGEST_LOG.saturating_sub(length));
    let started = Instant::now();
    let code = std::thread::scope(|scope| {
        let (ended, end) = channel::<()>();
        if !verbose {
            // No thread, no dots.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || show_life(say, &end));
        }
        let mut pass = |output: &[u8]| {
            if left == 0 {
                return;
            }
            left = left.saturating_sub(output.len() as u64);
            let rest = if left == 0 { LEFT_OUT } else { b"" };
            for output in [output, rest] {
                if written.is_ok() {
                    written = file.write_all(output);
                }
                // Where another block is told first it is kept in memory.
                if verbose {
                    say.print(output);
                }
            }
        };
        let mut renaming = Renaming::new(names);
        let code = process::merged(command, |output| pass(&renaming.pass(output)));
        pass(&renaming.end());
        drop(ended);
        code
    })
    .doing(|| format!("Cannot run {text}"))?;
    written.doing(cannot("write", log))?;
    let seconds = started.elapsed().as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let line = "-".repeat(64);
    if let Some(limit) = sandbox::overstepped(code) {
        let (why, setting) = match limit {
            Limit::Time => ("it took too long", "build_time"),
            Limit::Disk => ("it took the last of a disk", "build_disk_reserve"),
        };
        let why = format!("{description} was ended: {why}, see {setting} in /etc/dkms/framework.conf");
        append(log, format!("\n# {why}\n"))?;
        if std::io::stderr().is_terminal() {
            say.warn(&why);
        }
    }
    append(log, format!("\n# exit code: {code}\n# elapsed time: {hours:02}:{minutes:02}:{seconds:02}\n{line}\n"))?;
    tell_end(say, code, verbose, text);
    Ok(code)
}

/// What follows a command that was told as `text`.
fn tell_end(say: &Block, code: i32, verbose: bool, text: &str) {
    match (code, verbose) {
        (0, _) => say.print(" done.\n"),
        (_, true) => say.print(format!("(bad exit status: {code})")),
        (_, false) => say.print(format!("(bad exit status: {code})\nFailed command:\n{text}\n")),
    }
}

/// Dots for a person who waits.
fn show_life(say: &Block, end: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(SIGN_OF_LIFE) {
        if say.is_watched() {
            say.print(".");
        }
    }
}
