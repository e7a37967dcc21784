// SPDX-License-Identifier: GPL-2.0-or-later
//! What we say, in the order in which it is meant to be read.
//!
//! Callers merge our two streams into one pipe and compare the result, so nothing is buffered: a write to standard
//! output is out before the next one to standard error or the next child starts. Jobs run side by side, but each
//! one's words are a [`Block`]; the first unfinished block speaks at once, the later ones are kept until it is
//! their turn. With one job at a time that is simply the sequence of events.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::harmless::{Harmless, Reader};
use super::interrupt::{self, Moment};
use super::screen::{FRAME, Screen};
use super::terminal;

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

#[derive(Debug)]
enum Piece {
    Text(Stream, Vec<u8>),
    /// Said only if nothing was said under this name before.
    Once(String, Vec<u8>),
}

impl Piece {
    fn line(line: impl AsRef<str>) -> Self {
        Self::Text(Stream::Out, format!("{}\n", line.as_ref()).into_bytes())
    }

    fn warning(lines: impl AsRef<str>) -> Self {
        Self::Text(Stream::Err, format!("Warning: {}\n", lines.as_ref()).into_bytes())
    }
}

#[derive(Debug, Default)]
struct Queue {
    pieces: Vec<Piece>,
    ended: bool,
}

#[derive(Debug, Default)]
struct State {
    said: HashSet<String>,
    queues: Vec<Queue>,
    /// The block whose words go out at once.
    head: usize,
    /// Where a person sees the jobs at work: both streams are one terminal then.
    screen: Option<Screen>,
    /// Some of what was meant for standard output could not be written.
    lost: bool,
    /// By stream.
    harmless: [Harmless; 2],
}

impl State {
    fn write(&mut self, piece: Piece) {
        match piece {
            Piece::Text(stream, text) => self.put(stream, &text),
            Piece::Once(name, text) => {
                if self.said.insert(name) {
                    self.put(Stream::Out, &text);
                }
            }
        }
    }

    fn put(&mut self, stream: Stream, text: &[u8]) {
        // Much of it was written by others; what we draw ourselves does not come here.
        let is_terminal = match stream {
            Stream::Out => std::io::stdout().is_terminal(),
            Stream::Err => std::io::stderr().is_terminal(),
        };
        // A login shows what a file had, and people look at what pipes brought.
        let reader = if is_terminal { Reader::Terminal } else { Reader::Other };
        let text = self.harmless[stream as usize].pass(text, reader);
        match &mut self.screen {
            Some(screen) => screen.say(&text),
            None => {
                let written = write_all(stream, &text);
                self.note(stream, written);
            }
        }
        self.draw();
    }

    /// What could not be written is no reason to stop an installation half way, but it is told, once. Not of a reader that
    /// went away: it knows.
    fn note(&mut self, stream: Stream, written: Result<(), Errno>) {
        let Err(error) = written else { return };
        if stream == Stream::Out && error != Errno::PIPE && !std::mem::replace(&mut self.lost, true) {
            let error = std::io::Error::from(error);
            let _ = write_all(Stream::Err, format!("dkms: cannot write to standard output: {error}\n").as_bytes());
        }
    }

    /// Brings the screen up to date, unless it was not long ago: somebody will come again.
    fn draw(&mut self) {
        let now = Instant::now();
        if let Some(screen) = self.screen.as_mut().filter(|screen| !screen.is_fresh(now)) {
            let _ = write_all(Stream::Out, &screen.frame(terminal::size(), now));
        }
    }

    /// Leaves nothing but words on the screen.
    fn clear(&mut self) {
        if let Some(mut screen) = self.screen.take() {
            let _ = write_all(Stream::Out, &screen.clear());
        }
    }

    fn at(&mut self, moment: Moment) {
        match (moment, &mut self.screen) {
            (Moment::End, _) => self.clear(),
            (Moment::Stop, Some(screen)) => drop(write_all(Stream::Out, &screen.hide())),
            (Moment::GoOn, Some(screen)) => screen.show(),
            (_, None) => {}
        }
    }

    fn advance(&mut self) {
        while let Some(queue) = self.queues.get_mut(self.head) {
            let ended = queue.ended;
            for piece in std::mem::take(&mut queue.pieces) {
                self.write(piece);
            }
            if !ended {
                break;
            }
            self.head += 1;
        }
    }
}

/// Writes all of it, whatever the stream is; a stream that does not block is waited for.
fn write_all(stream: Stream, mut text: &[u8]) -> Result<(), Errno> {
    while !text.is_empty() {
        let written = match stream {
            Stream::Out => rustix::io::write(rustix::stdio::stdout(), text),
            Stream::Err => rustix::io::write(rustix::stdio::stderr(), text),
        };
        match written {
            Ok(n) => text = &text[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let (out, err) = (rustix::stdio::stdout(), rustix::stdio::stderr());
                let stream = if stream == Stream::Out { &out } else { &err };
                match poll(&mut [PollFd::new(stream, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The one writer to our two streams.
#[derive(Debug, Clone, Default)]
pub struct Output {
    state: Arc<Mutex<State>>,
}

impl Output {
    /// Nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new block, read after all earlier ones.
    pub fn block(&self) -> Block {
        let mut state = self.lock();
        state.queues.push(Queue::default());
        Block { output: self.clone(), index: state.queues.len() - 1, errors_only: false }
    }

    /// A block that says on standard error what there is, and nothing on standard output.
    pub fn errors_only_block(&self) -> Block {
        let mut block = self.block();
        block.errors_only = true;
        block
    }

    /// Shows `jobs` jobs at work for as long as the value lives, where a person may see them.
    pub fn watch(&self, jobs: usize) -> Watch {
        let ticker = (jobs > 0 && terminal::is_redrawable()).then(|| {
            self.lock().screen = Some(Screen::new(jobs));
            let output = self.clone();
            interrupt::at(move |moment| output.at(moment));
            let (output, (end, ended)) = (self.clone(), channel());
            let tick = move || {
                while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(FRAME) {
                    output.lock().draw();
                }
            };
            // What nobody would draw or clear is no screen.
            std::thread::Builder::new()
                .spawn(tick)
                .inspect_err(|_| self.lock().clear())
                .ok()
                .map(|thread| (end, thread))
        });
        Watch { output: self.clone(), ticker: ticker.flatten() }
    }

    /// So many of the jobs are done, and so much time is left, if that is known.
    pub fn total(&self, done: usize, left: Option<Duration>) {
        if let Some(screen) = &mut self.lock().screen {
            screen.total(done, left, Instant::now());
        }
    }

    /// Whether some of what was meant for standard output could not be written, which was told.
    pub fn is_lost(&self) -> bool {
        self.lock().lost
    }

    /// Clears the screen before an end or a stop; but not at any price: whoever holds the lock may be waiting for the
    /// terminal.
    fn at(&self, moment: Moment) {
        for _ in 0..100 {
            match self.state.try_lock() {
                Ok(mut state) => return state.at(moment),
                Err(TryLockError::Poisoned(state)) => return state.into_inner().at(moment),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A screen of jobs at work, if there is one. Dropping it leaves nothing but the words.
#[derive(Debug)]
pub struct Watch {
    output: Output,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((end, ticker)) = self.ticker.take() {
            drop(end);
            let _ = ticker.join();
            self.output.lock().clear();
        }
    }
}

/// Words that wait until it is known where they belong.
#[derive(Debug, Default)]
pub struct Words(Vec<Piece>);

impl Words {
    /// A line on standard output.
    pub fn say(&mut self, line: impl AsRef<str>) {
        self.0.push(Piece::line(line));
    }

    /// Text on standard error, as it is.
    pub fn complain(&mut self, text: impl AsRef<[u8]>) {
        self.0.push(Piece::Text(Stream::Err, text.as_ref().to_vec()));
    }

    /// `Warning: ` and its lines, on standard error.
    pub fn warn(&mut self, lines: impl AsRef<str>) {
        self.0.push(Piece::warning(lines));
    }
}

/// The words of one job. Dropping it ends it.
#[derive(Debug)]
pub struct Block {
    output: Output,
    index: usize,
    errors_only: bool,
}

impl Block {
    fn push(&self, piece: Piece) {
        interrupt::hold();
        if self.errors_only && !matches!(piece, Piece::Text(Stream::Err, _)) {
            return;
        }
        let mut state = self.output.lock();
        if state.head == self.index {
            state.write(piece);
        } else {
            state.queues[self.index].pieces.push(piece);
        }
    }

    /// Text on standard output, as it is.
    pub fn print(&self, text: impl AsRef<[u8]>) {
        self.push(Piece::Text(Stream::Out, text.as_ref().to_vec()));
    }

    /// A line on standard output.
    pub fn say(&self, line: impl AsRef<str>) {
        self.push(Piece::line(line));
    }

    /// Text on standard error, as it is.
    pub fn complain(&self, text: impl AsRef<[u8]>) {
        if text.as_ref().is_empty() {
            return;
        }
        self.push(Piece::Text(Stream::Err, text.as_ref().to_vec()));
    }

    /// `Warning: ` and its lines, on standard error.
    pub fn warn(&self, lines: impl AsRef<str>) {
        self.push(Piece::warning(lines));
    }

    /// An error in the form that callers know: an empty line, `Error! `, then the lines.
    pub fn error(&self, error: &dyn std::fmt::Display) {
        self.complain(format!("\nError! {error}\n"));
    }

    /// Words that were said elsewhere.
    pub fn pass_on(&self, words: Words) {
        words.0.into_iter().for_each(|piece| self.push(piece));
    }

    /// Text on standard output, unless a block before said something under the same name.
    pub fn once(&self, name: &str, text: &str) {
        self.push(Piece::Once(name.to_owned(), text.as_bytes().to_vec()));
    }

    /// Its job begins, or goes on with something else.
    pub fn begin(&self, module: &str, kernel: &str, phase: &'static str) {
        if let Some(screen) = &mut self.output.lock().screen {
            screen.task(self.index, module, kernel, phase, Instant::now());
        }
    }

    /// Its job, if it has begun, goes on with something else.
    pub fn phase(&self, phase: &'static str) {
        if let Some(screen) = &mut self.output.lock().screen {
            screen.phase(self.index, phase);
        }
    }

    /// Nobody works on its job for now.
    pub fn rest(&self) {
        if let Some(screen) = &mut self.output.lock().screen {
            screen.rest(self.index);
        }
    }

    /// Nothing more will be said: the next block's turn.
    pub fn end(&self) {
        let mut state = self.output.lock();
        if let Some(screen) = &mut state.screen {
            screen.rest(self.index);
        }
        state.queues[self.index].ended = true;
        if state.head == self.index {
            state.advance();
        }
    }

    /// Whether what is said now is out at once, so that a child may write to our streams itself.
    pub fn is_live(&self) -> bool {
        let state = self.output.lock();
        !self.errors_only && state.head == self.index && state.screen.is_none()
    }

    /// Whether nothing is told but what goes to standard error.
    pub fn has_errors_only(&self) -> bool {
        self.errors_only
    }

    /// Whether a person may be watching this block's standard output now, with nothing else to see.
    pub fn is_watched(&self) -> bool {
        self.is_live() && std::io::stdout().is_terminal()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_block_waits_for_the_earlier_one() {
        let output = Output::new();
        let (first, second) = (output.block(), output.block());
        assert!(first.is_live() && !second.is_live());
        second.once("prologue", "");
        assert!(output.lock().said.is_empty(), "a waiting block has said nothing yet");
        drop(first);
        assert!(second.is_live());
        assert!(output.lock().said.contains("prologue"));
    }

    #[test]
    fn ended_blocks_are_passed_over() {
        let output = Output::new();
        let (first, second, third) = (output.block(), output.block(), output.block());
        drop(second);
        drop(first);
        assert!(third.is_live());
    }
}
