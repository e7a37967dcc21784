// SPDX-License-Identifier: GPL-2.0-or-later

//! The table of the differences that are meant: tests/differential/known.

use std::collections::BTreeSet;
use std::path::Path;

/// One difference, lines of the peer's that become lines of ours.
#[derive(Debug, Default)]
pub struct Entry {
    /// Where in the table it is.
    line: usize,
    scene: Option<String>,
    command: Option<String>,
    peer: Vec<String>,
    ours: Vec<String>,
}

#[derive(Debug)]
pub struct Known {
    entries: Vec<Entry>,
}

impl Known {
    pub fn read() -> Known {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/known");
        Known::parse(&std::fs::read_to_string(path).expect("tests/differential/known can be read"))
    }

    /// An empty line or a comment ends an entry; comments are its reason.
    fn parse(text: &str) -> Known {
        let mut entries = Vec::new();
        let mut entry = Entry::default();
        for (i, line) in text.lines().chain([""]).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                if entry.line > 0 {
                    entries.push(std::mem::take(&mut entry));
                }
                continue;
            }
            if entry.line == 0 {
                entry.line = i + 1;
            }
            match line.split_at(1) {
                ("@", rest) => entry.scene = Some(rest.trim_start().to_owned()),
                ("$", rest) => entry.command = Some(rest.trim_start().to_owned()),
                ("-", rest) => entry.peer.push(rest.trim_start().to_owned()),
                ("+", rest) => entry.ours.push(rest.trim_start().to_owned()),
                _ => panic!("tests/differential/known:{}: a line begins with #, @, $, - or +", i + 1),
            }
        }
        Known { entries }
    }

    /// Adds the entries that explain how one becomes the other to `used`; false if none do.
    pub fn explains(
        &self,
        scene: &str,
        command: &str,
        peer: &[&str],
        ours: &[&str],
        used: &mut BTreeSet<usize>,
    ) -> bool {
        if peer.is_empty() && ours.is_empty() {
            return true;
        }
        for (i, entry) in self.entries.iter().enumerate() {
            let fits = |pattern: &Option<String>, text| pattern.as_ref().is_none_or(|pattern| matches(pattern, text));
            if !fits(&entry.scene, scene) || !fits(&entry.command, command) {
                continue;
            }
            for peer_rest in rests(&entry.peer, peer) {
                for ours_rest in rests(&entry.ours, ours) {
                    let some = peer_rest.len() + ours_rest.len() < peer.len() + ours.len();
                    if some && self.explains(scene, command, peer_rest, ours_rest, used) {
                        used.insert(i);
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Entries that stand for nothing any more, by their lines. Those for random commands may wait for rare ones.
    pub fn unused(&self, used: &BTreeSet<usize>) -> Vec<usize> {
        let unused = |(i, entry): &(usize, &Entry)| {
            !used.contains(i) && !entry.scene.as_ref().is_some_and(|scene| scene.starts_with("random"))
        };
        self.entries.iter().enumerate().filter(unused).map(|(_, entry)| entry.line).collect()
    }
}

/// What may be left of the lines once the patterns have taken theirs from the front; `...` takes as many as it likes,
/// `changes ...` those that tell what became of files.
fn rests<'a, 'b>(patterns: &[String], lines: &'a [&'b str]) -> Vec<&'a [&'b str]> {
    match patterns.split_first() {
        None => vec![lines],
        Some((pattern, more)) if pattern == "..." || pattern == "changes ..." => {
            let is_change = |line: &&&str| ["new: ", "gone: ", "log: "].iter().any(|kind| line.starts_with(kind));
            let most = if pattern == "..." { lines.len() } else { lines.iter().take_while(is_change).count() };
            (0..=most).rev().flat_map(|n| rests(more, &lines[n..])).collect()
        }
        Some((pattern, more)) => match lines.split_first() {
            Some((line, others)) if matches(pattern, line) => rests(more, others),
            _ => Vec::new(),
        },
    }
}

/// Whether the text is the pattern's, where `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    text.strip_prefix(start).is_some_and(|text| {
        (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| matches(rest, &text[at..]))
    })
}

#[test]
fn the_table_explains_lines_by_entries_in_a_row() {
    let known = Known::parse("# Why\n- a *\n+ b\n\n@ usage, *\n$ dkms -h\n- ...\n+ ...\n");
    let explains = |command, peer: &[&str], ours: &[&str]| {
        known.explains("usage, no action", command, peer, ours, &mut BTreeSet::new())
    };
    assert!(explains("dkms", &["a 1", "a 2"], &["b", "b"]));
    assert!(!explains("dkms", &["a 1"], &["c"]));
    assert!(!explains("dkms", &["a 1", "x"], &["b"]));
    assert!(explains("dkms -h", &["x", "y"], &["z"]));
    assert_eq!(known.unused(&BTreeSet::from([0])), [5]);
}
