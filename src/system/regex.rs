// SPDX-License-Identifier: GPL-2.0-or-later
//! POSIX extended regular expressions, as bash's `=~` reads them.

use super::sys;
pub use super::sys::Match;

/// What bash's `[[ text =~ pattern ]]` says: regcomp(3) and regexec(3) of the C library, which bash calls.
/// As in bash, nothing follows a NUL.
pub fn matches(pattern: &str, text: &str) -> Match {
    sys::regex(&sys::until_nul(pattern.as_bytes()), &sys::until_nul(text.as_bytes()))
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
    fn a_nul_ends_the_text() {
        assert_eq!(matches("b", "a\0b"), Match::No);
        assert_eq!(matches("a\0b", "a"), Match::Yes);
    }
}
