// SPDX-License-Identifier: GPL-2.0-or-later
//! How the command line is spelled: older than today's conventions, and brought into their form here.
//!
//! The action may stand anywhere, long options that take a value are known by how they begin, short ones need a word
//! of their own.

use crate::error::Result;

/// Long options that take a value, longest match first where one begins as another does.
const LONG_VALUES: [&str; 21] = [
    "--module",
    "--kernelver",
    "--templatekernel",
    "--config",
    "--archive",
    "--arch",
    "--kernelsourcedir",
    "--directive",
    "--dkmstree",
    "--sourcetree",
    "--installtree",
    "--maintainer",
    "--description",
    "--section",
    "--homepage",
    "--license",
    "--licence",
    "--package-version",
    "--from-plan",
    "--to",
    "--gpg-key",
];

const SHORT_VALUES: [&str; 6] = ["-m", "-v", "-k", "-a", "-c", "-j"];

const FLAGS: [&str; 15] = [
    "--force",
    "--force-version-override",
    "--all",
    "--verbose",
    "--debug",
    "--no-depmod",
    "--modprobe-on-install",
    "--symlink-modules",
    "--rpm_safe_upgrade",
    "--binaries-only",
    "--source-only",
    "--failed",
    "--json",
    "--sign-modules",
    "--quiet",
];

/// What a word is that is no option with a value; told of in the order of the words, as some of them are errors.
#[derive(Debug)]
pub enum Met<'a> {
    /// `--quiet`
    Quiet,
    /// An option of the past.
    Deprecated(&'a str),
    /// A word that is no option; and whether a module was named before it.
    Word(&'a str, bool),
}

/// Taken for the sake of old scripts.
pub(super) const DEPRECATED: [&str; 3] = ["--no-initrd", "--no-clean-kernel", "--no-prepare-kernel"];

/// What the words come down to before anything is done.
#[derive(Debug)]
pub enum Said {
    /// Arguments in today's form.
    Normal(Vec<String>),
    /// `--help`
    Help,
    /// `--version`
    Version,
    /// An option that nobody knows.
    Unknown(String),
}

/// Brings the words into today's form. `meet` is told of those that are no options with a value, and says which option
/// has one as its value, if one has.
pub fn normalize(
    words: impl Iterator<Item = String>,
    mut meet: impl FnMut(Met) -> Result<Option<&'static str>>,
) -> Result<Said> {
    let mut normal = vec!["dkms".to_owned()];
    let mut named = false;
    let mut words = words;
    while let Some(word) = words.next() {
        let long = LONG_VALUES.iter().find(|option| word.starts_with(**option));
        if DEPRECATED.contains(&word.as_str()) {
            meet(Met::Deprecated(&word))?;
        } else if matches!(word.as_str(), "-q" | "--quiet") {
            meet(Met::Quiet)?;
        } else if matches!(word.as_str(), "-h" | "--help") {
            return Ok(Said::Help);
        } else if matches!(word.as_str(), "-V" | "--version") {
            return Ok(Said::Version);
        } else if FLAGS.contains(&word.as_str()) {
            normal.push(word);
        } else if let Some(option) = long {
            let value =
                word.split_once('=').map(|(_, value)| value.to_owned()).or_else(|| words.next()).unwrap_or_default();
            named |= *option == "--module" && !value.is_empty();
            push_value(&mut normal, option, value.trim());
        } else if SHORT_VALUES.contains(&word.as_str()) {
            let value = words.next().unwrap_or_default();
            named |= word == "-m" && !value.is_empty();
            push_value(&mut normal, &word, value.trim());
        } else if word.starts_with('-') {
            return Ok(Said::Unknown(word));
        } else if let Some(option) = meet(Met::Word(&word, named))? {
            if option == "--module" {
                named = !word.is_empty();
            }
            push_value(&mut normal, option, &word);
        }
    }
    Ok(Said::Normal(normal))
}

/// An option with its value. What stands behind a slash is an option of its own: a module's version like that of
/// `-v`, the last of which counts, and a kernel's architecture like those of `-a`, in one list with them. Without a
/// value the option was not given, unless it names a module or a kernel: an empty one of these is an error.
fn push_value(normal: &mut Vec<String>, option: &str, value: &str) {
    let names = ["-m", "--module", "-v", "-k", "--kernelver", "-a", "--arch"];
    if value.is_empty() && !names.contains(&option) {
        return;
    }
    let second = match option {
        "-m" | "--module" => Some("-v"),
        "-k" | "--kernelver" => Some("--arch"),
        _ => None,
    };
    match second.zip(value.split_once('/')) {
        Some((second, (first, rest))) => normal.extend([format!("{option}={first}"), format!("{second}={rest}")]),
        None => normal.push(format!("{option}={value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Arguments;
    use clap::{CommandFactory, Parser};

    fn normal(line: &str) -> String {
        let meet = |met: Met| {
            Ok(match met {
                Met::Word(word, false) if word.contains('/') => Some("--module"),
                Met::Word(word, _) if word.ends_with(".tar") => Some("--archive"),
                _ => None,
            })
        };
        match normalize(line.split(' ').map(str::to_owned), meet) {
            Ok(Said::Normal(words)) => words[1..].join(" "),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn old_spellings_come_out_as_todays() {
        for (line, expected) in [
            ("-m hello -v 1.0 add", "-m=hello -v=1.0"),
            ("add --modulefoo hello/1.0", "--module=hello -v=1.0"),
            ("status -v 2.0 -m hello/1.0", "-v=2.0 -m=hello -v=1.0"),
            ("build --kernelver=6.1 --archive x.tar --arch y", "--kernelver=6.1 --archive=x.tar --arch=y"),
            ("status -m", "-m="),
            ("build -k --config= -c", "-k=--config="),
            ("mkdeb --licence MIT --license=GPL", "--licence=MIT --license=GPL"),
            ("build --dkmstree= -j", ""),
            ("status -k=1", "Ok(Unknown(\"-k=1\"))"),
            ("status -j4", "Ok(Unknown(\"-j4\"))"),
            ("status -h --nonsense", "Ok(Help)"),
            ("--version --nonsense", "Ok(Version)"),
            ("--no-initrd remove --all", "--all"),
            ("add hello/1.0 -v 2", "--module=hello -v=1.0 -v=2"),
            ("add -v 2 hello/1.0 -m foo", "-v=2 --module=hello -v=1.0 -m=foo"),
            ("add -m foo hello/1.0", "-m=foo"),
            ("ldtarball --archive=a b.tar", "--archive=a --archive=b.tar"),
            ("ldtarball b.tar --archive=a", "--archive=b.tar --archive=a"),
            ("build -k 6.1/x -a y --kernelver=5/z", "-k=6.1 --arch=x -a=y --kernelver=5 --arch=z"),
        ] {
            assert_eq!(normal(line), expected, "{line}");
        }
    }

    #[test]
    fn every_normal_form_is_understood() {
        for option in LONG_VALUES.iter().chain(&SHORT_VALUES) {
            let parsed = Arguments::try_parse_from(["dkms", &format!("{option}=x")]);
            assert!(parsed.is_ok(), "{option}: {parsed:?}");
        }
        for flag in FLAGS {
            assert!(Arguments::try_parse_from(["dkms", flag]).is_ok(), "{flag}");
        }
        let twice = Arguments::try_parse_from(["dkms", "--force", "--force", "-k=a", "-k=b", "-m=a", "-m=b"])
            .expect("understood");
        assert_eq!((twice.kernelver.len(), twice.module.as_deref()), (2, Some("b")), "the last one counts");
        Arguments::command().debug_assert();
    }
}
