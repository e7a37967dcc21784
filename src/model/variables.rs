// SPDX-License-Identifier: GPL-2.0-or-later
//! Variables that makefiles and scripts set to plain values, for what they name by them: `DIR := /usr/share`, then
//! `include $(DIR)/a.mk`. What functions, loops and callers make of them is not known here.

use std::collections::{BTreeMap, BTreeSet};

/// What is taken of each text and of all together: who has more wants it to take for ever.
const MOST_VARIABLES: usize = 2000;
const MOST_WORDS: usize = 2000;
const LONGEST: usize = 512;

/// So many values count that are set at different places.
const MOST_VALUES: usize = 8;

/// So deep variables are looked up in the values of others.
const DEEPEST: usize = 4;

/// So often one is looked up for all words together: those of one have others in them, and these have.
const MOST_LOOKED_UP: usize = 20_000;

/// What make and dkms.conf are told of: each kernel's release, whichever.
const RELEASE: [&[u8]; 2] = [b"KERNELRELEASE", b"kernelver"];

/// Variables, and the words that have some in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variables {
    values: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    words: BTreeSet<Vec<u8>>,
}

impl Default for Variables {
    fn default() -> Self {
        let values = RELEASE.iter().map(|name| (name.to_vec(), BTreeSet::from([b"*".to_vec()])));
        Self { values: values.collect(), words: BTreeSet::new() }
    }
}

impl Variables {
    /// Adds those of a text.
    pub fn add(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            for (name, value) in assignments(line) {
                self.set(name, value);
            }
            if line.contains(&b'$') {
                let words = line.split(|byte| !is_of_word(*byte));
                let words = words.filter(|word| word.len() <= LONGEST && word.contains(&b'$') && word.contains(&b'/'));
                let left = MOST_WORDS.saturating_sub(self.words.len());
                self.words.extend(words.take(left).map(<[u8]>::to_vec));
            }
        }
    }

    fn set(&mut self, name: &[u8], value: &[u8]) {
        if self.values.len() < MOST_VARIABLES || self.values.contains_key(name) {
            let values = self.values.entry(name.to_vec()).or_default();
            let words = value.split(|byte| !is_of_word(*byte)).filter(|word| !word.is_empty() && word.len() <= LONGEST);
            let left = MOST_VALUES.saturating_sub(values.len());
            values.extend(words.take(left).map(<[u8]>::to_vec));
        }
    }

    /// The words by all values that their variables may have, one on each line.
    pub fn expanded(&self) -> Vec<u8> {
        let mut left = MOST_LOOKED_UP;
        let words = self.words.iter().flat_map(|word| self.expand(word, DEEPEST, &mut left));
        words.flat_map(|word| [word, b"\n".to_vec()]).flatten().collect()
    }

    /// What a word may come to: up to the first variable that is not known, and, if it is a path by then, with anything in
    /// the place of that; no further than a variable of more than are `left` to be looked up.
    fn expand(&self, word: &[u8], depth: usize, left: &mut usize) -> Vec<Vec<u8>> {
        let (mut made, mut cut, mut rest) = (vec![Vec::new()], Vec::new(), word);
        let any = BTreeSet::from([b"*".to_vec()]);
        while let Some(at) = rest.iter().position(|byte| b"$(){}".contains(byte)) {
            let (before, from) = rest.split_at(at);
            made.iter_mut().for_each(|word| word.extend_from_slice(before));
            let Some((name, after)) = reference(from).filter(|_| depth > 0 && *left > 0) else {
                made.extend(cut);
                return made;
            };
            let values = self.values.get(name).unwrap_or_else(|| {
                cut.extend_from_slice(&made);
                // Of a name of which nothing is known many are.
                made.retain(|word| word.starts_with(b"/") && !(after.is_empty() && word.ends_with(b"/")));
                &any
            });
            *left -= 1;
            let values: Vec<_> = values.iter().flat_map(|value| self.expand(value, depth - 1, left)).collect();
            let with = |word: &Vec<u8>| values.iter().map(|value| [&**word, value].concat()).collect::<Vec<_>>();
            made = made.iter().flat_map(with).filter(|word| word.len() <= 2 * LONGEST).take(MOST_VALUES).collect();
            rest = after;
        }
        made.iter_mut().for_each(|word| word.extend_from_slice(rest));
        made.extend(cut);
        made
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@~*?[]$(){}".contains(&byte)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What a line sets, `NAME := VALUE` or `NAME=VALUE`: all that follows is of the value, and each word may be an assignment of
/// its own, for a make that is called.
fn assignments(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let signs = line.iter().take(LONGEST).enumerate().filter(|(_, byte)| **byte == b'=');
    signs.take(MOST_VALUES).filter_map(|(at, _)| {
        let (before, value) = (&line[..at], &line[at + 1..]);
        let end = before.iter().rposition(|byte| !b":?+! \t".contains(byte))? + 1;
        let start = before[..end].iter().rposition(|byte| !is_of_name(*byte)).map_or(0, |at| at + 1);
        let name = &before[start..end];
        (!name.is_empty()).then_some((name, value))
    })
}

/// The name of the variable that a text begins with, and what follows it.
fn reference(text: &[u8]) -> Option<(&[u8], &[u8])> {
    // For a shell that make runs there are two.
    let rest = text.strip_prefix(b"$")?;
    let rest = rest.strip_prefix(b"$").unwrap_or(rest);
    let (name, close) = match rest.first()? {
        b'(' => (&rest[1..], Some(b')')),
        b'{' => (&rest[1..], Some(b'}')),
        _ => (rest, None),
    };
    let length = name.iter().position(|byte| !is_of_name(*byte)).unwrap_or(name.len());
    let after = &name[length..];
    let after = match close {
        Some(close) => after.strip_prefix(&[close])?,
        None => after,
    };
    Some((&name[..length], after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_variables_name_is_found() {
        for (text, expected) in [
            ("DIR := /usr/share\ninclude $(DIR)/x.mk", "/usr/share/x.mk\n"),
            ("A=/opt\n  B ?= $(A)/b\nexport C = ${B}/c\n-include $(C)/x.mk", "/opt/b/c/x.mk\n/opt/b\n/opt/b/c\n"),
            ("dir='/etc/x'\n. \"$dir/y\"", "/etc/x/y\n"),
            ("DIR += /a\nDIR += /b\nx: $(wildcard $(DIR)/*.mk)", "/a/*.mk\n/b/*.mk\n"),
            ("NAME := x\ninclude /usr/share/$(NAME).mk", "/usr/share/x.mk\n"),
            ("\tcp $$dir/x .; dir=/srv", "/srv/x\n"),
            ("include $(DIR)/x.mk", "\n"),
            ("include /usr/src/$(V)/x.mk", "/usr/src/\n/usr/src/*/x.mk\n"),
            ("cp /opt/x-$(V) /opt/$(V) .", "/opt/x-\n/opt/x-*\n/opt/\n"),
            ("make -C /a M=/b V=/c X=1\ninclude $(V)/x.mk", "/c/x.mk\n1/x.mk\nX/x.mk\n"),
            ("include /boot/config-$(KERNELRELEASE)", "/boot/config-*\n"),
            ("A = $(A)/x\ninclude $(A)/y", "/x/x/x/x\n/x/x/x/y\n"),
        ] {
            let mut variables = Variables::default();
            variables.add(text.as_bytes());
            let said = variables.expanded();
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
            assert_eq!(lines(&String::from_utf8_lossy(&said)), lines(expected), "{text}");
        }
    }

    #[test]
    fn it_ends_whatever_they_are_set_to() {
        let mut variables = Variables::default();
        for name in ["A", "B", "C", "D"] {
            let values: Vec<String> =
                (0..MOST_VALUES).map(|end| "$(A)$(B)$(C)$(D)".repeat(30) + &format!("/{end}")).collect();
            variables.add(format!("{name} = {}\n", values.join(" ")).as_bytes());
        }
        assert!(variables.expanded().len() < 1 << 20);
    }
}
