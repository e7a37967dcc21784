// SPDX-License-Identifier: GPL-2.0-or-later
//! A signal that ends us: what we run ends first, and what is half done is removed. One that stops us stops them as well.

use std::ffi::c_int;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

use super::scratch;

static NEAR: AtomicBool = AtomicBool::new(false);

/// What a signal is about to do to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It ends.
    End,
    /// It is stopped, by ^Z for one.
    Stop,
    /// It goes on after a stop.
    GoOn,
}

type Listener = Box<dyn Fn(Moment) + Send>;
static LISTENERS: Mutex<Vec<Listener>> = Mutex::new(Vec::new());

/// For how long this process was stopped.
static STOPPED: Mutex<Duration> = Mutex::new(Duration::ZERO);

fn stopped() -> Duration {
    *STOPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the time in which this process is not stopped: who stops it does not want its builds to run out of time.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    stopped: Duration,
}

impl Clock {
    /// From now on.
    pub fn start() -> Self {
        Self { started: Instant::now(), stopped: stopped() }
    }

    /// What it has counted.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed().saturating_sub(stopped() - self.stopped)
    }
}

/// How often, ten milliseconds apart, we look whether what we ran has ended. Builds are killed, so it does not take long.
const LOOKS: usize = 150;

/// From now on a signal that ends this process finds it tidied up, and one that stops it stops its builds.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let wanted =
            [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP].into_iter().filter(|&number| !is_ignored(&status, number));
        // Without it we die as untidily as by SIGKILL, which does no harm.
        let Ok(mut signals) = signal_hook::iterator::Signals::new(wanted) else { return };
        let _ = std::thread::Builder::new().name("signals".into()).spawn(move || {
            for number in &mut signals {
                if number == SIGTSTP {
                    stop();
                    continue;
                }
                NEAR.store(true, Ordering::SeqCst);
                tell(Moment::End);
                end_all();
                scratch::remove_all();
                let _ = signal_hook::low_level::emulate_default_handler(number);
            }
        });
    });
}

/// Something to be done before an end or a stop, such as the clearing of what is drawn, and after a stop.
pub fn at(listener: impl Fn(Moment) + Send + 'static) {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    watch();
}

fn tell(moment: Moment) {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|listener| listener(moment));
}

/// Stops this process and what runs in sandboxes, which has sessions of its own and hears of no terminal, until somebody
/// wants it to go on. Guards are left running: they end the rest if we are killed meanwhile.
fn stop() {
    tell(Moment::Stop);
    let stopped = stop_all(|| guards().into_iter().flat_map(|guard| descendants(guard, |_| true)).collect());
    let since = Instant::now();
    let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
    *STOPPED.lock().unwrap_or_else(PoisonError::into_inner) += since.elapsed();
    signal_all(&stopped, Signal::CONT);
    tell(Moment::GoOn);
}

/// Stops all that there are, and gives them.
fn stop_all(processes: impl Fn() -> Vec<i32>) -> Vec<i32> {
    let mut stopped = Vec::new();
    // A process may have started another one before its turn came.
    loop {
        let new: Vec<i32> = processes().into_iter().filter(|it| !stopped.contains(it)).collect();
        if new.is_empty() {
            return stopped;
        }
        signal_all(&new, Signal::STOP);
        stopped.extend(new);
    }
}

fn signal_all(processes: &[i32], signal: Signal) {
    for process in processes.iter().filter_map(|&process| Pid::from_raw(process)) {
        let _ = kill_process(process, signal);
    }
}

/// All that a process has started and these have, parents first; what is below one counts if `enters` says so.
fn descendants(process: i32, enters: impl Fn(i32) -> bool) -> Vec<i32> {
    with_descendants(children(&process.to_string()), enters)
}

fn with_descendants(mut all: Vec<i32>, enters: impl Fn(i32) -> bool) -> Vec<i32> {
    let mut next = 0;
    while let Some(&process) = all.get(next) {
        if enters(process) {
            all.extend(children(&process.to_string()));
        }
        next += 1;
    }
    all
}

/// The children of a process, or of `self`, see proc_pid_children(5).
fn children(process: &str) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    children
        .flat_map(|children| children.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Does not return once the end is near. To be called before anything that would be said or done because of it: a build
/// that was ended has not failed.
pub fn hold() {
    while NEAR.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Ends what runs in sandboxes and outside, scripts and programs of root's: a terminal would tell these, who kills us does
/// not. They are stopped before the first one ends, or its parent could go on with what comes next; those that do not want
/// to end are killed.
fn end_all() {
    let others = stop_all(others);
    signal_all(&others, Signal::TERM);
    signal_all(&others, Signal::CONT);
    let guards = guards();
    signal_all(&guards, Signal::TERM);
    let alive = |processes: &[i32]| processes.iter().copied().filter(|&it| is_alive(it)).collect::<Vec<_>>();
    for _ in 0..LOOKS {
        if alive(&guards).is_empty() && alive(&others).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    signal_all(&stop_all(|| with_descendants(alive(&others), |_| true)), Signal::KILL);
}

/// Our children but the guards, and theirs. A dkms that one of them runs ends its own.
fn others() -> Vec<i32> {
    let (guards, dkms) = (guards(), our_program());
    let children = children("self").into_iter().filter(|child| !guards.contains(child)).collect();
    with_descendants(children, |process| dkms.is_none() || program(process) != dkms)
}

/// Our children that are nothing but ourselves: they guard a confined command, see `sandbox`.
fn guards() -> Vec<i32> {
    let dkms = our_program();
    let is_ours = |child: &i32| dkms.is_some() && program(*child) == dkms;
    children("self").into_iter().filter(is_ours).collect()
}

/// What a process runs, by its place on a disk.
fn program(process: i32) -> Option<(u64, u64)> {
    fs::metadata(format!("/proc/{process}/exe")).map(|meta| (meta.dev(), meta.ino())).ok()
}

fn our_program() -> Option<(u64, u64)> {
    program(rustix::process::getpid().as_raw_nonzero().get())
}

/// Whether a process has not ended, see proc(5).
fn is_alive(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Whether whoever started us wants a signal to be ignored, see proc(5).
fn is_ignored(status: &str, number: c_int) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_known() {
        let status = "Name:\tx\nSigIgn:\t0000000000001002\nSigCgt:\t0000000000000001\n";
        for (number, expected) in [(SIGHUP, false), (SIGINT, true), (SIGQUIT, false), (13, true), (SIGTERM, false)] {
            assert_eq!(is_ignored(status, number), expected, "{number}");
        }
        assert!(!is_ignored("", SIGINT));
    }

    #[test]
    fn the_living_are_told_from_the_dead() {
        assert!(is_alive(std::process::id() as i32));
        assert!(!is_alive(i32::MAX));
        let mut child = std::process::Command::new("true").spawn().expect("true runs");
        let number = child.id() as i32;
        while is_alive(number) {
            std::thread::yield_now();
        }
        child.wait().expect("it has ended, and nobody waited for it yet");
    }
}
