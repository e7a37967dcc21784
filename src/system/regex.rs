// SPDX-License-Identifier: GPL-2.0-or-later
//! POSIX extended regular expressions, as bash's `=~` reads them.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use super::process::without_functions;
use super::sys;
pub use super::sys::Match;

/// Longer than any that somebody wrote by hand, in bytes.
const LONGEST: usize = 1000;

/// As many bytes, with all copies that are made of them: for twice as many it takes four times as long, for these some
/// hundredths of a second.
const LONGEST_COPIED: usize = 1 << 12;

/// What bash's `[[ text =~ pattern ]]` says: regcomp(3) and regexec(3) of the C library, which bash calls.
/// As in bash, nothing follows a NUL.
///
/// The pattern may be a stranger's. One that takes more than its share of time, memory or stack counts as invalid.
pub fn matches(pattern: &str, text: &str) -> Match {
    let (pattern, text) = (sys::until_nul(pattern.as_bytes()), sys::until_nul(text.as_bytes()));
    if is_tame(pattern.to_bytes()) { sys::regex(&pattern, &text) } else { apart(&pattern, &text) }
}

/// Whether the C library can be trusted with a pattern. It makes copies of what is repeated, copies of the copies of what
/// is repeated again, calls itself for each parenthesis, and tries everything where a part is to come once more.
pub fn is_tame(pattern: &[u8]) -> bool {
    let again = pattern.windows(2).any(|pair| pair[0] == b'\\' && pair[1].is_ascii_digit());
    pattern.len() <= LONGEST && !again && pattern.len().saturating_mul(copies(pattern)) <= LONGEST_COPIED
}

/// How many copies of its parts a pattern may have made, if each repetition is within the ones before: `+` makes one
/// more, a number in braces that many.
fn copies(pattern: &[u8]) -> usize {
    let of = |(at, byte): (usize, &u8)| match byte {
        b'+' => 2,
        b'{' => {
            let inside = pattern[at + 1..].split(|byte| *byte == b'}').next().unwrap_or_default();
            let numbers = inside.split(|byte| *byte == b',').filter_map(|text| std::str::from_utf8(text).ok());
            numbers.map(|text| text.parse().unwrap_or(2)).max().unwrap_or(2).max(2)
        }
        _ => 1,
    };
    pattern.iter().enumerate().map(of).fold(1, usize::saturating_mul)
}

/// Asks a bash, which may die of it.
fn apart(pattern: &CStr, text: &CStr) -> Match {
    let as_argument = |text: &CStr| OsStr::from_bytes(text.to_bytes()).to_owned();
    let status = without_functions(&mut Command::new("bash"))
        .args(["--norc", "--noprofile", "-c", "ulimit -c 0 -v 1000000 -t 2; [[ $1 =~ $2 ]]", "dkms"])
        .args([as_argument(text), as_argument(pattern)])
        .env_remove("BASH_ENV")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status.ok().and_then(|status| status.code()) {
        Some(0) => Match::Yes,
        Some(1) => Match::No,
        _ => Match::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Pattern, text, and what is expected; bash is asked for its opinion, too.
    const CASES: &[(&str, &str, Match)] = &[
        ("", "6.1.0-13-amd64", Match::Yes),
        ("^6\\.1\\.", "6.1.0-13-amd64", Match::Yes),
        ("^(5|6)\\.[0-9]+", "6.12.9", Match::Yes),
        ("^(5|6)\\.[0-9]+$", "6.12.9", Match::No),
        ("^6.(1|6|12)\\b", "6.12.9", Match::Yes),
        ("^[6-9]\\.[1-9][0-9]*.*-(amd64|arm64)$", "6.10.1-cloud-amd64", Match::Yes),
        // What other engines read otherwise.
        ("\\d", "6.1", Match::No),
        ("\\d", "d", Match::Yes),
        ("^(6)\\.\\1", "6.6.3", Match::Yes),
        ("^(6)\\.\\1", "6.7.3", Match::No),
        ("a{,2}b", "aab", Match::Yes),
        // No expressions.
        ("(", "6.1", Match::Invalid),
        ("(?:6)", "6.1", Match::Invalid),
        ("[", "[", Match::Invalid),
        ("*", "6.1", Match::Invalid),
        ("a**", "aa", Match::Yes),
        ("6{2,1}", "66", Match::Invalid),
        ("\\", "\\", Match::Invalid),
        // What is not left to our own process.
        ("^6{1}[.]{1}1{1}", "6.1", Match::Yes),
        ("^6{1}[.]{1}1{1}$", "6.12", Match::No),
        ("^{1}{2}{3}(", "6.1", Match::Invalid),
        ("^6+++++++++++++++[.]", "66.1", Match::Yes),
        ("^6{300}{200}", "6.1", Match::No),
    ];

    #[test]
    fn patterns_mean_what_they_mean_in_bash() -> std::io::Result<()> {
        for &(pattern, text, expected) in CASES {
            assert_eq!(matches(pattern, text), expected, "{text} =~ {pattern}");
            let bash = Command::new("bash").args(["-c", "[[ $1 =~ $2 ]]", "-", text, pattern]).status()?.code();
            let expected = match expected {
                Match::Yes => 0,
                Match::No => 1,
                Match::Invalid => 2,
            };
            assert_eq!(bash, Some(expected), "bash on {text} =~ {pattern}");
        }
        Ok(())
    }

    #[test]
    fn nobody_dies_of_a_pattern() {
        let (open, close) = ("(".repeat(50_000), ")".repeat(50_000));
        assert_eq!(matches(&format!("{open}6{close}"), "6.1"), Match::Invalid);
        assert_eq!(matches(&format!("6{}", "{255}".repeat(8)), "6.1"), Match::Invalid);
        assert_eq!(matches(&format!("6{}", "+".repeat(40)), "6.1"), Match::Invalid);
        assert_eq!(matches("6{32767}{32767}", "6.1"), Match::Invalid);
        assert!(is_tame(b"^(5|6)\\.[0-9]+\\.[0-9]+-[0-9]+-.+$") && !is_tame(b".+*+++++++++++"));
        let again: String = (1..10).map(|i| format!("\\{i}")).collect();
        let text = "-".repeat(64);
        assert_eq!(matches(&format!("{}{again}{again}x", "(-*)".repeat(9)), &text), Match::Invalid);
        assert_eq!(matches(&"(".repeat(1 << 20), "6.1"), Match::Invalid);
        assert_eq!(matches(&"6?".repeat(1 << 10), "6.1"), Match::Yes);
    }

    #[test]
    fn a_nul_ends_the_text() {
        assert_eq!(matches("b", "a\0b"), Match::No);
        assert_eq!(matches("a\0b", "a"), Match::Yes);
    }
}
