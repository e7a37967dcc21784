// SPDX-License-Identifier: GPL-2.0-or-later
//! One pool of job tokens over all makes that run: never more jobs than it was made with.
//!
//! Every make brings one token by itself, taken here before it starts. Further ones it reads from a pipe (GNU make's
//! jobserver protocol); each job has a pipe of its own, into which free tokens are fed. What counts is not what is in
//! a pipe but what was put there: when a job ends, all of that is back in the pool, whatever became of the bytes. So a
//! make that is killed with tokens in hand, or one that drains or floods its pipe, takes nothing from the others.
//!
//! A token that lies unread in a pipe is an idle core: many times a second those are taken back for whoever waits to
//! start, or given to a job whose pipe is empty.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, fchmod};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, ioctl_fionread};

use super::memory::{Gauge, SHOWN};
use super::sys;

/// How long a token may lie idle.
const TICK: Duration = Duration::from_millis(20);

/// How old what is known of free memory may be. Compilers take some seconds to become large.
const LOOK: Duration = Duration::from_millis(200);

/// Scripts have no descriptors of their own with such numbers.
const OUT_OF_THE_WAY: i32 = 100;

/// At most so many tokens are out at any time. Clones are the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    owner: Arc<Owner>,
}

/// Ends the balancing thread with the last clone.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

impl Pool {
    /// A pool of `jobs` tokens, of which no more are out than there is memory for; 0 means as many as anybody wants, as far
    /// as there is memory for them now.
    pub fn new(jobs: usize, memory: Option<Gauge>) -> Pool {
        let room = || memory.as_ref().and_then(Gauge::room).unwrap_or(0);
        let jobs = if jobs == 0 { room() } else { jobs };
        let mut state = State { free: jobs, ..State::default() };
        // One always runs.
        let memory = memory.filter(|_| jobs > 1);
        if let Some(gauge) = &memory {
            state.allow(jobs, gauge.jobs(0, jobs));
        }
        let shared = Arc::new(Shared { jobs, memory, state: Mutex::new(state), changed: Condvar::new() });
        if jobs > 1 {
            let shared = Arc::clone(&shared);
            // Without it everything works, if not as evenly.
            let _ = std::thread::Builder::new().name("tokens".into()).spawn(move || shared.keep_balance());
        }
        Pool { owner: Arc::new(Owner(shared)) }
    }

    /// How many tokens there are; as many as there are cores where nothing limits them.
    pub fn at_most(&self) -> usize {
        self.owner.0.at_most()
    }

    /// A place in the queue for the token that a job's make brings by itself. The most urgent one is first, of those
    /// that are alike who came first.
    pub fn queue(&self, urgency: Duration) -> Place {
        let shared = Arc::clone(&self.owner.0);
        let mut state = shared.state();
        let id = state.next_id;
        state.next_id += 1;
        if shared.limited() {
            let place = state.waiting.partition_point(|(other, _)| *other >= urgency);
            state.waiting.insert(place, (urgency, id));
            state.balance();
        }
        drop(state);
        shared.changed.notify_all();
        Place { shared, id }
    }

    /// Takes a token, and waits for it.
    pub fn start(&self, urgency: Duration) -> io::Result<JobToken> {
        self.queue(urgency).start()
    }
}

/// A place in the queue for a token. Whoever has it may come later: a token is kept for him.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    id: u64,
}

impl Place {
    /// Takes the token, and waits for it.
    pub fn start(self) -> io::Result<JobToken> {
        let shared = Arc::clone(&self.shared);
        if !shared.limited() {
            return Ok(JobToken { shared, id: 0, ends: None });
        }
        let (ends, pipe) = pipe()?;
        let mut state = shared.state();
        while state.place(self.id).is_none_or(|before| before >= state.free) {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.free -= 1;
        state.jobs.push(Job { id: self.id, pipe, fed: 0, lent: 0 });
        drop(state);
        Ok(JobToken { shared, id: self.id, ends: Some(Arc::new(ends)) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(place) = state.place(self.id) {
            state.waiting.remove(place);
            state.balance();
        }
        drop(state);
        // The next one in the queue may have a token, too.
        self.shared.changed.notify_all();
    }
}

/// What a job holds of the pool. To be dropped when the last of the job's processes is gone.
#[derive(Debug)]
pub struct JobToken {
    shared: Arc<Shared>,
    id: u64,
    /// What the makes read from and write to, and the same again, which no make is told of and so none closes; none where
    /// there is no limit.
    ends: Option<Arc<[[OwnedFd; 2]; 2]>>,
}

impl JobToken {
    /// How many tokens this job can have, its own included; as many as there are cores where nothing limits it.
    pub fn at_most(&self) -> usize {
        self.shared.at_most()
    }

    /// Waits for a further token, for work of ours on this job's behalf, as long as it is `wanted`.
    pub fn another(&self, wanted: &dyn Fn() -> bool) -> Option<Another<'_>> {
        let mut state = self.shared.state();
        while wanted() {
            if !self.shared.limited() || state.spare(self.id) {
                return Some(Another(self));
            }
            state = self.shared.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// Lets the makes below `command` take further tokens from the pool: sets MAKEFLAGS, and lets the pipe pass.
    /// To be called after whatever else closes descriptors or clears the environment.
    pub fn configure(&self, command: &mut Command) {
        command.env("MAKEFLAGS", self.makeflags());
        if let Some(ends) = self.ends.clone() {
            sys::before_exec(command, move || {
                ends.iter().flatten().try_for_each(|end| Ok(fcntl_setfd(end, FdFlags::empty())?))
            });
        }
    }

    /// What MAKEFLAGS is then.
    pub fn makeflags(&self) -> String {
        let named = self.ends.as_ref().map(|ends| format!("-j {}", named(&ends[0])));
        named.unwrap_or_else(|| "-j".into())
    }

    /// What names the pipe where no make has closed it; nothing where there is no limit.
    pub fn jobserver(&self) -> String {
        self.ends.as_ref().map(|ends| named(&ends[1])).unwrap_or_default()
    }
}

/// What tells makes of a pipe with tokens.
pub fn named(ends: &[impl AsRawFd; 2]) -> String {
    let numbers = format!("{},{}", ends[0].as_raw_fd(), ends[1].as_raw_fd());
    // Makes before 4.2 know the first name only.
    format!("--jobserver-fds={numbers} --jobserver-auth={numbers}")
}

impl Drop for JobToken {
    fn drop(&mut self) {
        if self.ends.is_some() {
            self.shared.state().end(self.id);
            self.shared.changed.notify_all();
        }
    }
}

/// A further token of a job, given back when dropped.
#[derive(Debug)]
pub struct Another<'a>(&'a JobToken);

impl Drop for Another<'_> {
    fn drop(&mut self) {
        let JobToken { shared, id, .. } = self.0;
        if shared.limited() {
            shared.state().give_back(*id);
            shared.changed.notify_all();
        }
    }
}

#[derive(Debug)]
struct Shared {
    /// The most tokens that are out at any time; 0 where there is no limit.
    jobs: usize,
    memory: Option<Gauge>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn limited(&self) -> bool {
        self.jobs > 0
    }

    fn at_most(&self) -> usize {
        match self.jobs {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread that looks at the pipes, and at what memory is left. It sleeps while there is nothing to balance.
    fn keep_balance(&self) {
        let mut state = self.state();
        let (mut looked, mut grown) = (Instant::now(), Instant::now());
        while !(state.closed && state.jobs.is_empty()) {
            let idle = state.jobs.is_empty();
            let busy = state.jobs.len() > 1 || !idle && !state.waiting.is_empty();
            if let Some(gauge) = self.memory.as_ref().filter(|_| !idle && looked.elapsed() >= LOOK) {
                let (running, before) = (state.running(), self.jobs - state.withheld);
                let mut allowed = gauge.jobs(running, self.jobs);
                looked = Instant::now();
                if allowed > before {
                    // The one that came last has not shown what it needs.
                    let is_early = allowed == running + 1 && grown.elapsed() < SHOWN;
                    if is_early { allowed = before } else { grown = looked }
                }
                state.allow(self.jobs, allowed);
            }
            state = if busy {
                state.balance();
                if state.free > 0 && !state.waiting.is_empty() {
                    self.changed.notify_all();
                }
                self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
            } else if !idle && self.memory.is_some() {
                self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    /// Tokens that nobody gets for want of memory.
    withheld: usize,
    /// The queue for tokens.
    waiting: Vec<(Duration, u64)>,
    next_id: u64,
    jobs: Vec<Job>,
    closed: bool,
}

impl State {
    /// How many are in the queue before this one.
    fn place(&self, id: u64) -> Option<usize> {
        self.waiting.iter().position(|(_, waiting)| *waiting == id)
    }

    /// Tokens that somebody uses.
    fn running(&self) -> usize {
        self.jobs.iter().map(|job| 1 + job.lent + job.fed - job.unread()).sum()
    }

    /// Withholds all of the pool's `jobs` tokens but `allowed` ones, as far as nobody uses them.
    fn allow(&mut self, jobs: usize, allowed: usize) {
        let surplus = jobs.saturating_sub(allowed);
        self.free += self.withheld.saturating_sub(surplus);
        self.withheld = self.withheld.min(surplus);
        while self.withheld < surplus && (self.free > 0 || self.take_back()) {
            self.free = self.free.saturating_sub(1);
            self.withheld += 1;
        }
        self.balance();
    }

    /// Gives every token its best place.
    fn balance(&mut self) {
        // Those who wait come first.
        while self.free < self.waiting.len() && self.take_back() {
            self.free += 1;
        }
        if !self.waiting.is_empty() {
            // Who has a place may come late, and needs no more than one.
            while self.free > self.waiting.len() && self.feed() {
                self.free -= 1;
            }
            return;
        }
        // Evenly, first to those who have nothing left to take.
        while self.free > 0 && self.feed() {
            self.free -= 1;
        }
        // A job that has nothing left to take gets one that lies idle elsewhere.
        let hungry: Vec<usize> = (0..self.jobs.len()).filter(|&job| self.jobs[job].unread() == 0).collect();
        for job in hungry {
            if self.take_back() && !self.jobs[job].put() {
                self.free += 1;
            }
        }
    }

    /// Takes a token from the job that has most of them lying unread.
    fn take_back(&mut self) -> bool {
        self.jobs.iter_mut().max_by_key(|job| job.unread()).is_some_and(Job::take)
    }

    /// Gives one token to the job that has least of them.
    fn feed(&mut self) -> bool {
        let mut order: Vec<&mut Job> = self.jobs.iter_mut().collect();
        order.sort_by_key(|job| (job.unread(), job.fed));
        order.into_iter().any(Job::put)
    }

    /// Gives a job a token that nobody uses, beside its pipe.
    fn spare(&mut self, id: u64) -> bool {
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else { return false };
        let spare = job.take();
        if !spare && (self.free == 0 || !self.waiting.is_empty()) {
            return false;
        }
        self.free -= usize::from(!spare);
        job.lent += 1;
        true
    }

    fn give_back(&mut self, id: u64) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) {
            job.lent -= 1;
            self.free += 1;
            self.balance();
        }
    }

    /// All that a job held is free again.
    fn end(&mut self, id: u64) {
        if let Some(place) = self.jobs.iter().position(|job| job.id == id) {
            let Job { fed, lent, .. } = self.jobs.swap_remove(place);
            self.free += 1 + fed + lent;
            self.balance();
        }
    }
}

#[derive(Debug)]
struct Job {
    id: u64,
    pipe: Option<Pipe>,
    /// Tokens that were put into the pipe and not taken back.
    fed: usize,
    /// Tokens that work of ours has on this job's behalf. No make hears of them, so none gives them back.
    lent: usize,
}

impl Job {
    /// Tokens that nobody has taken. Never more than were put there, even if a hostile make did it, too.
    fn unread(&self) -> usize {
        let bytes = self.pipe.as_ref().and_then(|pipe| ioctl_fionread(&pipe.read).ok()).unwrap_or(0);
        usize::try_from(bytes).unwrap_or(usize::MAX).min(self.fed)
    }

    fn put(&mut self) -> bool {
        let done = self.pipe.as_mut().is_some_and(|pipe| matches!(pipe.write.write(b"+"), Ok(1)));
        self.fed += usize::from(done);
        done
    }

    fn take(&mut self) -> bool {
        let done = self.fed > 0 && self.pipe.as_mut().is_some_and(|pipe| matches!(pipe.read.read(&mut [0]), Ok(1)));
        self.fed -= usize::from(done);
        done
    }
}

/// Our own ends of a job's pipe. They are opened anew, not duplicated: not to block is a property of the open file,
/// and the makes share theirs.
#[derive(Debug)]
struct Pipe {
    read: File,
    write: File,
}

/// A pipe without tokens: the makes' ends of it, twice, and ours. Without /proc there is no second way into it, and the job
/// stays with one token.
fn pipe() -> io::Result<([[OwnedFd; 2]; 2], Option<Pipe>)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // A build has another user, and opens it anew by its own /proc.
    let _ = fchmod(&read, Mode::from_raw_mode(0o666));
    let open = |end: &OwnedFd, options: &mut OpenOptions| {
        options.custom_flags(libc::O_NONBLOCK).open(format!("/proc/self/fd/{}", end.as_raw_fd()))
    };
    let ours = open(&read, OpenOptions::new().read(true)).and_then(|ours| {
        let write = open(&write, OpenOptions::new().write(true))?;
        Ok(Pipe { read: ours, write })
    });
    let again = [fcntl_dupfd_cloexec(&read, OUT_OF_THE_WAY)?, fcntl_dupfd_cloexec(&write, OUT_OF_THE_WAY)?];
    Ok(([[read, write], again], ours.ok()))
}

#[cfg(test)]
mod tests;
