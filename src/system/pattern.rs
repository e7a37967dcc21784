// SPDX-License-Identifier: GPL-2.0-or-later
//! Shell patterns, as bash's `case` reads them without its extensions.

use glob::{MatchOptions, Pattern};

/// What `[[:NAME:]]` stands for, in the C locale.
const CLASSES: [(&str, &str); 12] = [
    ("alnum", "0-9A-Za-z"),
    ("alpha", "A-Za-z"),
    ("blank", " \t"),
    ("cntrl", "\u{1}-\u{1f}\u{7f}"),
    ("digit", "0-9"),
    ("graph", "!-~"),
    ("lower", "a-z"),
    ("print", " -~"),
    ("punct", "!-/:-@[-`{-~"),
    ("space", " \t\n\r\u{b}\u{c}"),
    ("upper", "A-Z"),
    ("xdigit", "0-9A-Fa-f"),
];

/// A pattern that names are compared with.
#[derive(Debug)]
pub struct Shell(Option<Pattern>);

impl Shell {
    /// As somebody wrote it.
    pub fn new(pattern: &str) -> Self {
        Self(Pattern::new(&translated(pattern)).ok())
    }

    /// Whether it is a name's.
    pub fn matches(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|pattern| pattern.matches_with(name, MatchOptions::new()))
    }
}

/// As the library has it: no backslash, no classes, `!` alone for what is not meant, and an error for what is not closed.
fn translated(pattern: &str) -> String {
    let mut rest = pattern;
    let mut text = String::new();
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            // Many are as good as one.
            '*' if text.ends_with('*') => {}
            '\\' => {
                let meant = rest.chars().next().unwrap_or('\\');
                rest = rest.strip_prefix(meant).unwrap_or(rest);
                text.push_str(&Pattern::escape(meant.encode_utf8(&mut [0; 4])));
            }
            '[' => match bracket(rest) {
                Some((set, behind)) => {
                    text.push_str(&set);
                    rest = behind;
                }
                None => text.push_str("[[]"),
            },
            ']' => text.push_str("[]]"),
            other => text.push(other),
        }
    }
    text
}

/// What follows a `[`, up to what closes it, and what is behind that; nothing if nothing closes it.
fn bracket(rest: &str) -> Option<(String, &str)> {
    let inside = rest.strip_prefix(['!', '^']);
    let (mut set, mut rest) = (String::from(if inside.is_some() { "[!" } else { "[" }), inside.unwrap_or(rest));
    let (mut first, mut members) = (true, String::new());
    loop {
        let character = rest.chars().next()?;
        rest = &rest[character.len_utf8()..];
        let class = rest.strip_prefix(':').filter(|_| character == '[').and_then(|inside| inside.split_once(":]"));
        match (character, class) {
            (']', _) if !first => break,
            // It counts as a member where it stands first.
            (']', _) => set.push(']'),
            ('[', Some((name, behind))) => {
                members.push_str(CLASSES.iter().find(|class| class.0 == name)?.1);
                rest = behind;
            }
            ('\\', _) => {
                let meant = rest.chars().next()?;
                rest = &rest[meant.len_utf8()..];
                if meant == ']' { set.push(meant) } else { members.push(meant) }
            }
            (other, _) => members.push(other),
        }
        first = false;
    }
    set.push_str(&members);
    set.push(']');
    Some((set, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn patterns_are_bashs() -> std::io::Result<()> {
        let patterns = [
            "",
            "*",
            "?",
            "a*",
            "hello**",
            "**o",
            "6.[^1]*",
            "6.[!1]*",
            "[[:digit:]]*",
            "[^[:digit:]]*",
            "foo\\*",
            "\\foo",
            "a[b",
            "[]]",
            "[!]]",
            "[]a]*",
            "[a-c]*",
            "a]b",
            "a]",
            "[[:alpha:][:digit:]]*",
            "[[:nonsense:]]",
            "[a\\]b]*",
            "\\",
            "6.?2*",
            "*[0-9]",
            "[-a]*",
            "[a-]*",
            "[[]*",
            "[[a]*",
        ];
        let names = [
            "",
            "a",
            "b",
            "]",
            "[",
            "-",
            "hello",
            "hello-world",
            "6.1.0-1",
            "6.12",
            "foo*",
            "foo",
            "fooo",
            "a[b",
            "a]b",
            "a]",
            "\\",
            "[a-",
            "9",
            "A",
            "!",
            "^1",
        ];
        for pattern in patterns {
            let shell = Shell::new(pattern);
            for name in names {
                let bash = Command::new("bash")
                    .args(["-c", "case $1 in ($2) exit 0 ;; esac; exit 1", "bash", name, pattern])
                    .env("LC_ALL", "C.UTF-8")
                    .status()?;
                assert_eq!(shell.matches(name), bash.success(), "{pattern} {name}");
            }
        }
        // bash goes by the locale, we by characters.
        assert!(Shell::new("[é]?").matches("éa") && !Shell::new("?").matches("éa"));
        Ok(())
    }
}
