// SPDX-License-Identifier: GPL-2.0-or-later
//! What a person at a terminal sees below the words: a line for each job, and one for all of them.
//!
//! The cursor always stands at the begin of the first of these lines, with nothing of ours above it but words. So they
//! are gone with one sequence that clears to the end of the screen, however the window was resized meanwhile. Words go
//! out as whole lines; one that has just begun waits for its end, and the job's line says what it is about. Each frame
//! is one write, and there are ten of them in a second at most.

use std::time::{Duration, Instant};

/// The shortest time between two frames.
pub const FRAME: Duration = Duration::from_millis(100);

/// Clears what is right of the cursor, and what is below it.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many lines there is place for.
    pub rows: usize,
    /// How many characters in each.
    pub columns: usize,
}

/// A job that runs.
#[derive(Debug)]
struct Task {
    /// The number of its block.
    block: usize,
    module: String,
    kernel: String,
    phase: &'static str,
    since: Instant,
}

/// What all jobs together have reached.
#[derive(Debug, Clone, Copy)]
struct Total {
    done: usize,
    all: usize,
    /// When it will be over, if earlier runs say so.
    end: Option<Instant>,
}

/// The lines, and the words that are not out yet.
#[derive(Debug)]
pub struct Screen {
    tasks: Vec<Task>,
    total: Total,
    words: Vec<u8>,
    shown: Vec<String>,
    last: Option<Instant>,
    hidden: bool,
}

impl Screen {
    /// Nothing shown yet, of so many jobs.
    pub fn new(all: usize) -> Self {
        let total = Total { done: 0, all, end: None };
        Self { tasks: Vec::new(), total, words: Vec::new(), shown: Vec::new(), last: None, hidden: false }
    }

    /// A job enters another phase; it begins if it was not there.
    pub fn task(&mut self, block: usize, module: &str, kernel: &str, phase: &'static str, now: Instant) {
        match self.tasks.iter_mut().find(|task| task.block == block) {
            Some(task) => task.phase = phase,
            None => {
                self.tasks.push(Task { block, module: plain(module), kernel: plain(kernel), phase, since: now });
                self.tasks.sort_by_key(|task| task.block);
            }
        }
    }

    /// A job that was begun enters another phase.
    pub fn phase(&mut self, block: usize, phase: &'static str) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.block == block) {
            task.phase = phase;
        }
    }

    /// A job needs no line any more.
    pub fn rest(&mut self, block: usize) {
        self.tasks.retain(|task| task.block != block);
    }

    /// So many jobs are done, and so much time is left.
    pub fn total(&mut self, done: usize, left: Option<Duration>, now: Instant) {
        self.total.done = done;
        self.total.end = left.and_then(|left| now.checked_add(left));
    }

    /// Words, to be seen with the next frame.
    pub fn say(&mut self, text: &[u8]) {
        self.words.extend_from_slice(text);
    }

    /// Whether it is too early for the next frame.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < FRAME)
    }

    /// What to write for the screen to be as it should; nothing if it is. Without a size there is place for words only.
    pub fn frame(&mut self, size: impl Into<Option<Size>>, now: Instant) -> Vec<u8> {
        let complete = self.words.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let lines = size.into().filter(|_| !self.hidden).map_or(Vec::new(), |size| self.lines(size, now));
        if complete == 0 && lines == self.shown {
            return Vec::new();
        }
        self.last = Some(now);
        let mut frame = Vec::new();
        if complete > 0 && !self.shown.is_empty() {
            frame.extend_from_slice(CLEAR_BELOW.as_bytes());
        }
        frame.extend(self.words.drain(..complete));
        frame.extend_from_slice(lines.join(&format!("{CLEAR_LINE}\r\n")).as_bytes());
        if !(lines.is_empty() && self.shown.is_empty()) {
            frame.extend_from_slice(CLEAR_BELOW.as_bytes());
            frame.push(b'\r');
        }
        if lines.len() > 1 {
            frame.extend_from_slice(format!("\x1b[{}A", lines.len() - 1).as_bytes());
        }
        self.shown = lines;
        frame
    }

    /// What to write for nothing but words to be left.
    pub fn clear(&mut self) -> Vec<u8> {
        let mut last = Vec::new();
        if !std::mem::take(&mut self.shown).is_empty() {
            last.extend_from_slice(CLEAR_BELOW.as_bytes());
        }
        last.append(&mut self.words);
        last
    }

    /// [`Self::clear`], with only words to be seen from now on.
    pub fn hide(&mut self) -> Vec<u8> {
        self.hidden = true;
        self.clear()
    }

    /// The lines are to be seen again.
    pub fn show(&mut self) {
        self.hidden = false;
    }

    /// The lines, as many as there is place for below a line of words; the last one is the sum.
    fn lines(&self, size: Size, now: Instant) -> Vec<String> {
        if self.tasks.is_empty() && self.total.done == 0 {
            return Vec::new();
        }
        let place = size.rows.saturating_sub(2);
        let seen = if self.tasks.len() <= place { self.tasks.len() } else { place };
        let width = size.columns.saturating_sub(1);
        let mut lines: Vec<String> = self.tasks[..seen].iter().map(|task| task.line(width, now)).collect();
        lines.push(cut(&self.total.line(self.tasks.len() - seen, now), width));
        lines
    }
}

impl Task {
    /// With the kernel, if there is place for it; a long name is shortened rather than what is done.
    fn line(&self, width: usize, now: Instant) -> String {
        let Self { module, kernel, phase, since, .. } = self;
        let state = format!("{phase}, {}", clock(now.saturating_duration_since(*since)));
        let long = format!("  {module} for {kernel}: {state}");
        if long.chars().count() <= width {
            return long;
        }
        let place = width.saturating_sub(format!("  : {state}").chars().count());
        if module.chars().count() > place && place >= LEAST_OF_A_NAME {
            return format!("  {}..: {state}", cut(module, place - 2));
        }
        cut(&format!("  {module}: {state}"), width)
    }
}

impl Total {
    fn line(&self, unseen: usize, now: Instant) -> String {
        let mut line = format!("{} of {} done", self.done, self.all);
        if let Some(end) = self.end {
            // Nobody is told that it should be over by now.
            let left = end.saturating_duration_since(now).max(Duration::from_secs(1));
            line.push_str(&format!(", about {} left", clock(left)));
        }
        if unseen > 0 {
            line.push_str(&format!(", {unseen} more at work"));
        }
        line
    }
}

/// Nothing in a name moves the cursor.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

/// As many characters of a module's name tell which it is.
const LEAST_OF_A_NAME: usize = 8;

fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {:02} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
pub(crate) mod emulator;
#[cfg(test)]
mod tests;
