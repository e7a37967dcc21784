// SPDX-License-Identifier: GPL-2.0-or-later

//! A root in which scripts of the differential suite run, and the records of what they saw.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{self, Layer};

/// Runs in the root: a script up to each NUL on stdin; what lib.sh says, and `end` back.
const AGENT: &str = r#"
printf '\0end\0\0'
while IFS= read -r -d '' script; do
    timeout 1200 bash -c "$script" </dev/null
    printf '\0end\0\0'
done"#;

const LIBRARY: &str = ". /srv/tests/differential/lib.sh";

/// More than any write of a pipe's size.
const LARGEST_PIECE: usize = 1 << 18;

/// Whether all scenes of all scripts are to be tried, by `WHOLE`; or else every other one.
pub fn is_whole() -> bool {
    std::env::var_os("WHOLE").is_some()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// What was written, each piece to its stream, in the order in which it was.
pub type Pieces = Vec<(Stream, Vec<u8>)>;

/// One command of a script, or the beginning of a scene.
#[derive(Debug)]
pub struct Record {
    pub scene: String,
    /// Empty at the beginning of a scene.
    pub command: String,
    pub output: Pieces,
    pub code: String,
    pub state: BTreeSet<String>,
    pub logs: String,
}

/// A root whose commands' two streams come apart and yet in their order: they are sockets of their own that send to
/// one other.
#[derive(Debug)]
pub struct Side {
    pub layer: Layer,
    agent: Child,
    scripts: Option<ChildStdin>,
    said: UnixDatagram,
    _sockets: TempDir,
}

impl Side {
    pub fn new(layer: Layer) -> Side {
        // Whatever is said from here on is the root's.
        support::prepare(layer);
        let sockets = tempfile::tempdir().expect("a place for sockets");
        let path = |name| sockets.path().join(name);
        let said = UnixDatagram::bind(path("said")).expect("a socket");
        said.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let stream = |name| {
            let socket = UnixDatagram::bind(path(name)).expect("a socket");
            socket.connect(path("said")).expect("the socket is there");
            Stdio::from(OwnedFd::from(socket))
        };
        let sample = if is_whole() { [].as_slice() } else { &["--setenv", "SAMPLE=yes"] };
        let mut agent = support::in_root(layer, sample)
            .args(["bash", "-c", AGENT])
            .stdin(Stdio::piped())
            .stdout(stream("out"))
            .stderr(stream("err"))
            .spawn()
            .expect("tests/throwaway should run");
        let scripts = agent.stdin.take();
        let mut side = Side { layer, agent, scripts, said, _sockets: sockets };
        side.records();
        side
    }

    /// Runs a script to its end.
    pub fn run(&mut self, script: &str) -> Vec<Record> {
        self.send(script);
        self.records()
    }

    /// What a command that uses lib.sh prints; it has to go well.
    pub fn ask(&mut self, command: &str) -> String {
        self.send(&format!("try {command}"));
        let [answer] = &self.records()[..] else { panic!("one answer to `{command}`") };
        let text: Vec<u8> = answer.output.iter().flat_map(|(_, text)| text.clone()).collect();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(answer.code, "0", "{}: {command}: {text}", self.layer.name());
        text
    }

    fn send(&mut self, script: &str) {
        let pipe = self.scripts.as_mut().expect("open until the drop");
        write!(pipe, "{LIBRARY}\n{script}\0").and_then(|()| pipe.flush()).expect("the root should listen");
    }

    /// The next piece of what the root says.
    fn receive(&mut self, buffer: &mut [u8]) -> (Stream, usize) {
        loop {
            match self.said.recv_from(buffer) {
                Ok((size, sender)) => {
                    let is_out = sender.as_pathname().is_some_and(|path| path.ends_with("out"));
                    return (if is_out { Stream::Out } else { Stream::Err }, size);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let ended = self.agent.try_wait().expect("a child");
                    assert!(ended.is_none(), "the root of {} is gone: {ended:?}", self.layer.name());
                }
                Err(error) => panic!("the root of {} does not answer: {error}", self.layer.name()),
            }
        }
    }

    /// Reads up to the end of a script.
    fn records(&mut self) -> Vec<Record> {
        let mut buffer = vec![0; LARGEST_PIECE];
        let mut fields: Vec<Pieces> = vec![Vec::new()];
        let mut ended = false;
        while !ended {
            let (stream, size) = self.receive(&mut buffer);
            for (i, part) in buffer[..size].split(|byte| *byte == 0).enumerate() {
                if i > 0 {
                    // Two fields after the word, the second one empty.
                    ended = fields.len() > 1 && text(&fields[fields.len() - 2]) == "end";
                    fields.push(Vec::new());
                }
                match fields.last_mut().expect("never empty").last_mut() {
                    Some((last, text)) if *last == stream => text.extend(part),
                    _ if part.is_empty() => {}
                    _ => fields.last_mut().expect("never empty").push((stream, part.to_owned())),
                }
            }
        }
        self.parse(fields)
    }

    fn parse(&self, fields: Vec<Pieces>) -> Vec<Record> {
        let mut records = Vec::new();
        let mut fields = fields.into_iter();
        let mut scene = String::new();
        loop {
            let mut field = || fields.next().expect("the root keeps to the order of lib.sh");
            let stray = text(&field());
            assert!(
                stray.is_empty(),
                "{}: scene '{scene}': this was said outside of any `try`:\n{stray}",
                self.layer.name()
            );
            let (word, argument) = (text(&field()), text(&field()));
            let (command, output, code) = match word.as_str() {
                "end" => return records,
                "scene" => {
                    scene = argument;
                    (String::new(), Vec::new(), "0".to_owned())
                }
                "try" => (argument, field(), text(&field())),
                _ => panic!("{}: not a word of lib.sh: {word}", self.layer.name()),
            };
            let (state, logs) = (text(&field()), text(&field()));
            records.push(Record {
                scene: scene.clone(),
                command,
                output,
                code,
                state: state.lines().map(str::to_owned).collect(),
                logs,
            });
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // The agent ends with its input, and the root with the agent.
        drop(self.scripts.take());
        let _ = self.agent.wait();
    }
}

fn text(pieces: &Pieces) -> String {
    let bytes: Vec<u8> = pieces.iter().flat_map(|(_, text)| text.iter().copied()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
