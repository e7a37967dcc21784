// SPDX-License-Identifier: GPL-2.0-or-later
//! Which configuration files say the same whenever they are read: those of plain assignments.
//!
//! This is no reading of bash, which alone evaluates them. It is a filter that lets through what can depend on nothing
//! but the text and the variables that we pass: comments, and assignments of literals and `$name` to names that mean
//! nothing to bash itself. The values are evaluated twice (see evaluate.bash), so quotes hide little: what bash would
//! do anything with in either evaluation is not let through. But patterns are, in a value's first word: what that is
//! globbed as begins with the directive's name, an equals sign and a quote, and no file is called so.

use std::collections::BTreeSet;

use super::DIRECTIVES;
use super::question::VARIABLES;

/// Larger than any file of plain assignments.
pub const LARGEST: u64 = 1 << 16;

/// The variables of ours that a file mentions, if it consists of plain assignments.
pub fn mentions(text: &str) -> Option<BTreeSet<&'static str>> {
    let mut file = File { rest: text, one_word: true, assigned: BTreeSet::new(), mentioned: BTreeSet::new() };
    while !file.rest.is_empty() {
        file.line()?;
    }
    Some(file.mentioned)
}

/// Whether a variable's value is nothing but itself, wherever bash meets it.
pub fn is_plain_value(value: &str) -> bool {
    value.chars().all(|c| is_literal(c) || c == '~')
}

/// Characters that mean themselves, quoted or not.
fn is_literal(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./,:+%@^=-".contains(c)
}

/// Those that mean themselves in quotes, in the second evaluation too: no quote, no pattern, nor a backslash before what it
/// would hide.
fn is_quoted_literal(c: char) -> bool {
    is_literal(c) || " \t\n~!#&()<>;|{}]".contains(c)
}

/// What is left of a file.
struct File<'a> {
    rest: &'a str,
    /// Whether the value so far is of one word.
    one_word: bool,
    /// Names that this file has given a value, so that none comes from the environment.
    assigned: BTreeSet<&'a str>,
    mentioned: BTreeSet<&'static str>,
}

/// How a part of a value is quoted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Double,
    Single,
}

impl<'a> File<'a> {
    /// Takes the characters that `accept` accepts.
    fn take(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, text: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// A line: an assignment, a comment, or both.
    fn line(&mut self) -> Option<()> {
        self.take(is_blank);
        if !self.rest.starts_with(['#', '\n']) && !self.rest.is_empty() {
            self.assignment()?;
            let blanks = self.take(is_blank);
            if self.rest.starts_with('#') && blanks.is_empty() {
                return None;
            }
        }
        if self.rest.starts_with('#') && self.take(|c| c != '\n').contains('\0') {
            return None;
        }
        if self.rest.is_empty() { Some(()) } else { self.skip("\n") }
    }

    /// `NAME=value`, `NAME[0]=value`
    fn assignment(&mut self) -> Option<()> {
        let name = self.name()?;
        if !DIRECTIVES.contains(&name) && !is_helper(name) {
            return None;
        }
        if self.skip("[").is_some() {
            let index = self.take(|c| c.is_ascii_digit());
            // With a zero in front it would be octal.
            if index.is_empty() || index.len() > 5 || (index.len() > 1 && index.starts_with('0')) {
                return None;
            }
            self.skip("]")?;
        }
        self.skip("=")?;
        self.one_word = true;
        self.value()?;
        self.assigned.insert(name);
        Some(())
    }

    fn value(&mut self) -> Option<()> {
        loop {
            self.take(is_literal);
            match self.rest.chars().next() {
                Some('"') => self.quoted('"', Quotes::Double)?,
                Some('\'') => self.quoted('\'', Quotes::Single)?,
                Some('$') => self.variable(None)?,
                None | Some(' ' | '\t' | '\n') => return Some(()),
                Some(_) => return None,
            }
        }
    }

    fn quoted(&mut self, quote: char, quotes: Quotes) -> Option<()> {
        let mut buffer = [0; 4];
        let quote: &str = quote.encode_utf8(&mut buffer);
        self.skip(quote)?;
        loop {
            // In double quotes the single ones are literal, in both evaluations.
            let taken = self.take(|c| is_quoted_literal(c) || (quotes == Quotes::Double && c == '\''));
            self.one_word &= !taken.contains([' ', '\t', '\n']);
            if self.skip(quote).is_some() {
                return Some(());
            }
            if self.pattern().is_none() {
                self.variable(Some(quotes))?;
            }
        }
    }

    /// A character of a regular expression that a shell knows, too, in the first word.
    fn pattern(&mut self) -> Option<()> {
        let mut rest = self.rest.chars();
        let is_one = match rest.next()? {
            '*' | '?' | '[' => true,
            '\\' => rest.next().is_some_and(|c| is_literal(c) || "()[]{}*?|".contains(c)),
            _ => false,
        };
        (is_one && self.one_word).then(|| self.rest = &self.rest[1..])
    }

    /// `$name`, `${name}`
    fn variable(&mut self, quotes: Option<Quotes>) -> Option<()> {
        self.skip("$")?;
        // It may have blanks.
        self.one_word = false;
        let braces = self.skip("{").is_some();
        let name = self.name()?;
        if braces {
            self.skip("}")?;
        }
        // Not known yet in single quotes: the second evaluation finds it, when the file's own variables are forgotten.
        let own = quotes != Some(Quotes::Single) && self.assigned.contains(name);
        match VARIABLES.iter().find(|ours| **ours == name) {
            Some(ours) => _ = self.mentioned.insert(*ours),
            None if DIRECTIVES.contains(&name) || own => {}
            None => return None,
        }
        Some(())
    }

    fn name(&mut self) -> Option<&'a str> {
        let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some(name)
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// A name that a file may use for itself: bash's own are in capitals, but for these two, and the driver's begin with
/// underscores.
fn is_helper(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.contains(|c: char| c.is_ascii_uppercase())
        && !["auto_resume", "histchars"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_assignments_are_let_through() {
        for (text, expected) in [
            ("", ""),
            ("# `$(anything)` \\ \u{e4}\n\n \t# more", ""),
            ("PACKAGE_NAME=\"hello\"\nPACKAGE_VERSION=1.0~rc1", "no"),
            ("PACKAGE_NAME=hello # greets\n\tPACKAGE_VERSION='1.0~rc1'", ""),
            ("MAKE[0]=\"make -C $kernel_source_dir M=${dkms_tree}/hello\"", "dkms_tree kernel_source_dir"),
            ("MAKE[10]='make KVER=$kernelver' ", "kernelver"),
            ("BUILT_MODULE_NAME[0]=$PACKAGE_NAME", ""),
            ("CLEAN=\"(cd a; make && true) | cat > /dev/null\"", ""),
            ("MAKE=\"make 'A=b c' all\"", ""),
            ("MAKE='two\nlines'", ""),
            ("src=\"$dkms_tree/hello\"\nMAKE=\"make -C $src\"", "dkms_tree"),
            ("a=b\"c\"'d'$arch", "arch"),
            ("BUILD_EXCLUSIVE_CONFIG='!CONFIG_RT CONFIG_X'", ""),
            ("kernelver=6.1\nMAKE=$kernelver", "kernelver"),
            ("MAKE=", ""),
            ("BUILD_EXCLUSIVE_KERNEL=\"^(5\\.1[0-9]|6\\..*)\"\nPATCH_MATCH[0]='^6\\.\\d?'", ""),
            ("BUILD_EXCLUSIVE_KERNEL=\"a\"\"*\"", ""),
        ] {
            let found = mentions(text).map(|names| names.into_iter().collect::<Vec<_>>().join(" "));
            assert_eq!(found.unwrap_or("no".into()), expected, "{text}");
        }
    }

    #[test]
    fn what_bash_would_do_anything_with_is_not() {
        for text in [
            // Programs.
            "MAKE=$(date)",
            "MAKE=\"$(date)\"",
            "MAKE='$(date)'",
            "MAKE=`date`",
            "MAKE=\"`date`\"",
            "MAKE='`date`'",
            "MAKE=<(date)",
            "MAKE=a date",
            "MAKE=a; date",
            "MAKE=a;date",
            "MAKE=a && date",
            "MAKE=a | date",
            "MAKE=a & date",
            "MAKE=a\rdate",
            "date",
            "date=\ndate",
            "f() { date; }",
            "if true; then MAKE=a; fi",
            "[[ -e /x ]] && MAKE=a",
            "((MAKE=1))",
            "! MAKE=a",
            "{ MAKE=a; }",
            "(MAKE=a)",
            // Other files.
            ". /etc/os-release",
            "source /etc/os-release",
            "MAKE=a >/x",
            "MAKE=a</x",
            "MAKE=$(<x)",
            "MAKE=<<x",
            // Files by their names.
            "MAKE=*",
            "MAKE=\"a *\"",
            "MAKE='a b?'",
            "MAKE=' [a]'",
            "MAKE=$arch\"*\"",
            "MAKE=\"a \"'*'",
            "MAKE='a\\ *'",
            "MAKE=~/x",
            "MAKE=a:~/x",
            "MAKE={a,b}",
            // More than a variable's value.
            "MAKE=${x:-y}",
            "MAKE=\"${kernelver%-*}\"",
            "MAKE=${MAKE[0]}",
            "MAKE=${!kernelver}",
            "MAKE=$((1+1))",
            "MAKE=$[1+1]",
            "MAKE='$((1+1))'",
            "MAKE=\"${#kernelver}\"",
            "MAKE=$",
            "MAKE=\"a$\"",
            "MAKE=\"$ a\"",
            "MAKE=$'a'",
            "MAKE=$\"a\"",
            "MAKE=$1",
            "MAKE=$$",
            "MAKE=\"$?\"",
            "MAKE='$!'",
            "MAKE=$*",
            "MAKE=\"$@\"",
            "MAKE=$_x",
            // What the environment, or bash, says.
            "MAKE=$HOME",
            "MAKE=\"$HOME\"",
            "MAKE='$HOME'",
            "MAKE=$kernelverx",
            "MAKE=$RANDOM",
            "MAKE=$own",
            "MAKE=$own\nown=a",
            "own=a\nMAKE='$own'",
            "RANDOM=1",
            "SECONDS=0",
            "PATH=/x",
            "IFS=:",
            "BASH_ENV=x",
            "LC_ALL=C",
            "POSIXLY_CORRECT=1",
            "__v=a",
            "histchars=abc",
            "DKMS_DIRECTIVE=MAKE=a",
            // Other assignments.
            "MAKE+=a",
            "MAKE=(a b)",
            "MAKE[i]=a",
            "MAKE[08]=a",
            "MAKE[]=a",
            "MAKE[$arch]=a",
            "MAKE[0]+=a",
            "MAKE[1+1]=a",
            "MAKE [0]=a",
            "MAKE =a",
            "MAKE= a",
            "MAKE=a CLEAN=b",
            "export MAKE=a",
            "declare MAKE=a",
            "readonly MAKE",
            "unset MAKE",
            "0MAKE=a",
            // Quotes and backslashes, which the second evaluation sees.
            "MAKE=\"a \\\"b\\\"\"",
            "MAKE='a \"b\"'",
            "MAKE='a b\\nc'",
            "MAKE='a\\$b'",
            "MAKE=\"a\\`b\"",
            "MAKE='a\\\\b'",
            "MAKE=a\\",
            "MAKE=\"a\\\nb\"",
            "MA\\\nKE=a",
            "MAKE='a'\\''b'",
            "MAKE=\"a",
            "MAKE='a",
            "MAKE=\"a\"#b",
            "MAKE='\u{e4}'",
            "MAKE=\u{e4}",
            "MAKE='a\u{1e}b'",
            "MAKE='a\0b'",
            "# a\0b",
            "MAKE='a\r'",
            "\r\n",
            "\u{a0}MAKE=a",
            "\u{feff}MAKE=a",
        ] {
            assert_eq!(mentions(text), None, "{text}");
        }
    }
}
