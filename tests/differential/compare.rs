// SPDX-License-Identifier: GPL-2.0-or-later

//! What two roots saw, side by side, as text that a person reads.

use std::collections::BTreeSet;

use super::known::Known;
use super::side::{Pieces, Record, Stream};

/// What a command said and changed, a line each.
fn lines(before: Option<&Record>, record: &Record) -> Vec<String> {
    let mut lines = said(&record.output);
    lines.push(format!("exit: {}", record.code));
    let nothing = BTreeSet::new();
    let (state, logs) = before.map_or((&nothing, ""), |before| (&before.state, before.logs.as_str()));
    // By name, and only then by what became of it.
    let mut changes: Vec<(&str, String)> = Vec::new();
    changes.extend(state.difference(&record.state).map(|line| (name(line), format!("gone: {line}"))));
    changes.extend(record.state.difference(state).map(|line| (name(line), format!("new: {line}"))));
    changes.sort();
    lines.extend(changes.into_iter().map(|(_, line)| line));
    if record.logs != logs {
        lines.extend(record.logs.lines().map(|line| format!("log: {line}")));
    }
    lines
}

fn name(line: &str) -> &str {
    line.find('/').map_or(line, |at| &line[at..])
}

/// A line for each line and stream: one that does not end with the line of output ends in `\`.
fn said(output: &Pieces) -> Vec<String> {
    let mut lines = Vec::new();
    for (stream, text) in output {
        let stream = if *stream == Stream::Out { "out" } else { "err" };
        for line in String::from_utf8_lossy(text).split_inclusive('\n') {
            let mut line = line.strip_suffix('\n').map_or_else(|| format!("{line}\\"), str::to_owned);
            // The peer adds one every three seconds.
            while line.contains("....") {
                line = line.replace("....", "...");
            }
            lines.push(format!("{stream}: {line}"));
        }
    }
    lines
}

/// Two scripts side by side.
#[derive(Debug, Default)]
pub struct Comparison {
    /// All that was said and done, for a person; differences that are known stand in brackets.
    pub transcript: String,
    /// What of it differs for no reason that the table knows.
    pub unexplained: Vec<String>,
    /// The table's entries that explained something.
    pub used: BTreeSet<usize>,
}

impl Comparison {
    pub fn new(known: &Known, script: &str, peer: &[Record], ours: &[Record]) -> Comparison {
        let mut result = Comparison::default();
        let mut scene = None;
        for (i, (peer_record, our_record)) in peer.iter().zip(ours).enumerate() {
            let goes_on = scene == Some(&our_record.scene);
            scene = Some(&our_record.scene);
            let before = i.checked_sub(1).filter(|_| goes_on);
            let peer_lines = lines(before.map(|i| &peer[i]), peer_record);
            let our_lines = lines(before.map(|i| &ours[i]), our_record);
            let title = format!("{script}, {}", our_record.scene);
            let mut text = format!("{title}\n$ {}\n", our_record.command);
            let mut differs = peer_record.command != our_record.command;
            if differs {
                text += &format!("but the peer: $ {}\n", peer_record.command);
            }
            for hunk in hunks(&peer_lines, &our_lines) {
                match hunk {
                    // What a scene starts from is always the same, and long.
                    Hunk::Same(_) if our_record.command.is_empty() => {}
                    Hunk::Same(line) => text += &format!("   {line}\n"),
                    Hunk::Differs(peer, ours) => {
                        let reason = known.explains(&title, &our_record.command, &peer, &ours, &mut result.used);
                        differs |= !reason;
                        let mark = if reason { "(" } else { " " };
                        text.extend(peer.iter().map(|line| format!("{mark}- {line}\n")));
                        text.extend(ours.iter().map(|line| format!("{mark}+ {line}\n")));
                    }
                }
            }
            if differs {
                result.unexplained.push(text.clone());
            }
            result.transcript += &text;
            result.transcript.push('\n');
        }
        if peer.len() != ours.len() {
            result.unexplained.push(format!(
                "{script}: {} commands with the peer, {} with ours\n",
                peer.len(),
                ours.len()
            ));
        }
        result
    }
}

#[derive(Debug, PartialEq)]
enum Hunk<'a> {
    Same(&'a str),
    /// The peer's lines and ours.
    Differs(Vec<&'a str>, Vec<&'a str>),
}

/// The shortest way from one to the other.
fn hunks<'a>(peer: &'a [String], ours: &'a [String]) -> Vec<Hunk<'a>> {
    // common[i][j]: how many lines peer[i..] and ours[j..] have in common.
    let mut common = vec![vec![0_usize; ours.len() + 1]; peer.len() + 1];
    for i in (0..peer.len()).rev() {
        for j in (0..ours.len()).rev() {
            common[i][j] =
                if peer[i] == ours[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut hunks = Vec::new();
    let (mut i, mut j) = (0, 0);
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    loop {
        let same = i < peer.len() && j < ours.len() && peer[i] == ours[j];
        let ends = i == peer.len() && j == ours.len();
        if (same || ends) && !(gone.is_empty() && new.is_empty()) {
            hunks.push(Hunk::Differs(std::mem::take(&mut gone), std::mem::take(&mut new)));
        }
        if ends {
            return hunks;
        }
        if same {
            hunks.push(Hunk::Same(&peer[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == ours.len() || (i < peer.len() && common[i + 1][j] >= common[i][j + 1]) {
            gone.push(peer[i].as_str());
            i += 1;
        } else {
            new.push(ours[j].as_str());
            j += 1;
        }
    }
}

#[test]
fn hunks_are_the_shortest_way() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (peer, ours) = (lines("a b c"), lines("a x c d"));
    let expected =
        [Hunk::Same("a"), Hunk::Differs(vec!["b"], vec!["x"]), Hunk::Same("c"), Hunk::Differs(vec![], vec!["d"])];
    assert_eq!(hunks(&peer, &ours), expected);
}
