// SPDX-License-Identifier: GPL-2.0-or-later
//! bash evaluates configuration files: they are bash scripts, and real ones use all of it.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// More than any real file sets or says; what says more is cut off, and ended by the closed pipe.
const LARGEST_ANSWER: u64 = 16 << 20;

const DRIVER: &str = include_str!("evaluate.bash");

/// What files set: for each name its values by index. A plain variable is index 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, BTreeMap<usize, String>>);

impl Values {
    /// `NAME` or `NAME[0]`; empty if not set.
    pub fn get(&self, name: &str) -> &str {
        self.at(name, 0).unwrap_or_default()
    }

    /// `NAME[index]`, if set.
    pub fn at(&self, name: &str, index: usize) -> Option<&str> {
        self.0.get(name)?.get(&index).map(String::as_str)
    }

    /// All values of `name`, by index.
    pub fn all(&self, name: &str) -> impl Iterator<Item = (usize, &str)> {
        self.0.get(name).into_iter().flatten().map(|(index, value)| (*index, value.as_str()))
    }

    /// The values that are not empty of `name`, in the order of their indices.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.all(name).map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty()).collect()
    }

    /// The highest index over the given names.
    pub fn last_index(&self, names: &[&str]) -> Option<usize> {
        names.iter().filter_map(|name| self.0.get(*name)?.keys().next_back().copied()).max()
    }

    /// Whether anything is set under `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets one value.
    pub fn set(&mut self, name: &str, index: usize, value: &str) {
        self.0.entry(name.to_owned()).or_default().insert(index, value.to_owned());
    }

    fn parse(records: &[u8]) -> Self {
        let mut values = Self::default();
        let mut fields = records.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        while let (Some(name), Some(index), Some(value)) = (fields.next(), fields.next(), fields.next()) {
            if let Ok(index) = index.parse() {
                // Files with DOS line ends are read as their authors meant them.
                values.set(&name, index, value.strip_suffix('\r').unwrap_or(&value));
            }
        }
        values
    }
}

/// One evaluation: which files, what they see, what is taken over.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// The names that are taken over; everything else the files set is forgotten.
    pub names: &'static [&'static str],
    /// Variables that the files see, none of them exported.
    pub variables: Vec<(&'static str, String)>,
    /// Read in this order, each seeing what the ones before it set; they must exist.
    pub files: Vec<PathBuf>,
    /// `NAME=VALUE`, beating all files; nothing in them is expanded.
    pub last: Vec<String>,
}

impl Evaluation {
    /// Evaluates in `command`, which is a `bash` without arguments, confined as the caller sees fit.
    ///
    /// Gives the values and what was said on standard error meanwhile.
    pub fn run(&self, command: &mut Command) -> io::Result<(Values, Vec<u8>)> {
        let (values, records) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (errors, stderr) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut args = vec![self.names.join(" "), self.variables.len().to_string()];
        args.extend(self.variables.iter().map(|(name, value)| format!("{name}={value}")));
        args.push(self.files.len().to_string());
        args.extend(self.files.iter().map(|file| file.to_string_lossy().into_owned()));
        args.extend(self.last.iter().cloned());
        let mut child = command
            .args(["--norc", "--noprofile", "-c", DRIVER, "dkms"])
            .args(&args)
            .env_remove("BASH_ENV")
            .stdin(Stdio::null())
            .stdout(records)
            .stderr(stderr)
            .spawn()?;
        // The write ends in `command` would keep the pipes open for ever.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let read_all = |pipe| {
            let mut bytes = Vec::new();
            std::fs::File::from(pipe).take(LARGEST_ANSWER).read_to_end(&mut bytes).map(|_| bytes)
        };
        let (values, errors) = std::thread::scope(|scope| {
            let errors = scope.spawn(|| read_all(errors));
            (read_all(values), errors.join().unwrap_or_else(|_| Ok(Vec::new())))
        });
        child.wait()?;
        Ok((Values::parse(&values?), without_locale(&errors?)))
    }
}

/// Drops what bash says when the caller's locale is not installed here: that is not the files' doing.
fn without_locale(errors: &[u8]) -> Vec<u8> {
    let lines = errors.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"bash: warning: setlocale:")).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(files: &[&str], last: &[&str]) -> (Values, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files
            .iter()
            .enumerate()
            .map(|(i, text)| {
                let file = dir.path().join(format!("{i}.conf"));
                std::fs::write(&file, text).expect("written");
                file
            })
            .collect();
        let evaluation = Evaluation {
            names: &["NAME", "MAKE", "CLEAN"],
            variables: vec![("kernelver", "6.1.0-1".into()), ("count", "2".into())],
            files,
            last: last.iter().map(|s| s.to_string()).collect(),
        };
        let (values, errors) = evaluation.run(Command::new("bash").current_dir(dir.path())).expect("bash runs");
        (values, String::from_utf8_lossy(&errors).into_owned())
    }

    #[test]
    fn values_are_evaluated_twice() {
        for (conf, expected) in [
            ("NAME=plain", "plain"),
            ("NAME='$kernelver'", "6.1.0-1"),
            ("NAME=$'a\\n  b'", "a b"),
            ("NAME='x --with=\"\"'", "x --with="),
            ("NAME='`echo hi`'", "hi"),
            ("NAME=dos\r", "dos"),
            ("NAME=a; return; NAME=b", "a"),
            ("f() { NAME=$1; }; f 'by function'", "by function"),
            ("NAME=a; exit 0", ""),
            ("NAME=a; set -e; false; NAME=b", "b"),
            ("NAME=x; shopt -s nullglob", ""),
            ("NAME=$'a:b\nc'; IFS=:", "a b\nc"),
            ("NAME[0]=a NAME[3]=b; echo noise", "a"),
            ("names=q args=q __x=1; NAME=\"$count\"", "2"),
        ] {
            let (values, errors) = evaluate(&[conf], &[]);
            assert_eq!(values.get("NAME"), expected, "{conf}: {errors}");
        }
    }

    #[test]
    fn arrays_keep_their_indices_and_later_files_see_earlier_values() {
        let (values, _) =
            evaluate(&["MAKE[0]=a\nMAKE[7]=b\nOTHER=c", "CLEAN=${MAKE[7]}${OTHER-none}"], &["NAME=$kernelver \"a b\""]);
        assert_eq!(values.all("MAKE").collect::<Vec<_>>(), [(0, "a"), (7, "b")]);
        assert_eq!(values.get("CLEAN"), "bnone");
        assert_eq!(values.get("NAME"), "$kernelver \"a b\"");
        assert_eq!(values.last_index(&["MAKE", "CLEAN"]), Some(7));
        assert!(!values.has("OTHER"));
    }

    #[test]
    fn a_value_that_falls_apart_is_dropped_and_said() {
        let (values, errors) = evaluate(&["MAKE='make X=\"a b\" all'\nNAME=kept"], &[]);
        assert!(!values.has("MAKE"));
        assert_eq!(values.get("NAME"), "kept");
        assert!(errors.contains("b all"), "{errors}");
        let (values, errors) = evaluate(&["CLEAN=a\nMAKE='quote \"'\nNAME=b"], &[]);
        assert_eq!((values.get("CLEAN"), values.has("MAKE"), values.get("NAME")), ("a", false, "b"));
        assert!(errors.lines().all(|line| line.contains("unexpected EOF")), "{errors}");
    }

    #[test]
    fn what_is_left_in_the_background_is_not_waited_for() {
        let late = tempfile::tempdir().expect("a directory");
        let background = format!("(sleep 20; touch {}/late) 2>&- &", late.path().display());
        let (values, errors) = evaluate(&[&format!("{background} NAME=a"), &format!("{background} exit")], &[]);
        assert_eq!((values.get("NAME"), errors.as_str()), ("a", ""));
        assert!(!late.path().join("late").exists());
    }

    #[test]
    fn a_syntax_error_names_file_and_line() {
        let (values, errors) = evaluate(&["NAME=a\nif then"], &[]);
        assert!(!values.has("MAKE"));
        assert!(errors.contains("0.conf: line 2"), "{errors}");
    }
}
