// SPDX-License-Identifier: GPL-2.0-or-later
//! bash evaluates configuration files: they are bash scripts, and real ones use all of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
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

    /// All of it as text, if it consists of plain text: a unit separator after name and index, a record separator
    /// after the value.
    pub fn to_text(&self) -> Option<String> {
        let mut text = String::new();
        for (name, values) in &self.0 {
            for (index, value) in values {
                let is_plain = |text: &str| !text.contains(|c: char| c.is_ascii_control() && !"\t\n".contains(c));
                if !is_plain(name) || !is_plain(value) {
                    return None;
                }
                text.push_str(&format!("{name}\x1f{index}\x1f{value}\x1e"));
            }
        }
        Some(text)
    }

    /// From what [`Values::to_text`] gave.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut values = Self::default();
        for record in text.split_terminator('\x1e') {
            let mut fields = record.splitn(3, '\x1f');
            values.set(fields.next()?, fields.next()?.parse().ok()?, fields.next()?);
        }
        Some(values)
    }

    /// The values of each question, then those whose end was not told.
    pub fn parse(records: &[u8]) -> Vec<Self> {
        let mut answers = Vec::new();
        let mut values = Self::default();
        let mut fields = records.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        while let (Some(name), Some(index), Some(value)) = (fields.next(), fields.next(), fields.next()) {
            match index.parse() {
                Ok(number) if name.is_empty() && number == answers.len() => {
                    answers.push(std::mem::take(&mut values));
                }
                // Files with DOS line ends are read as their authors meant them.
                Ok(index) => values.set(&name, index, value.strip_suffix('\r').unwrap_or(&value)),
                Err(_) => {}
            }
        }
        answers.push(values);
        answers
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
        let (records, mut errors) = ask(std::slice::from_ref(self), command)?;
        if let Some(end) = errors.iter().rposition(|byte| *byte == 0) {
            errors.remove(end);
        }
        let said = String::from_utf8_lossy(&errors);
        if let Some(reason) = said.lines().find_map(|line| self.unread(line)) {
            return Err(io::Error::other(reason.to_owned()));
        }
        let mut answers = Values::parse(&records).into_iter();
        match (answers.next(), answers.next()) {
            (Some(values), Some(_)) => Ok((values, without_locale(&errors))),
            _ => Err(io::Error::other(format!(
                "bash did not come to its end. {}",
                said.lines().last().unwrap_or_default()
            ))),
        }
    }

    /// The file that bash says it could not read, in whatever language, and why: in a function of the driver's.
    fn unread<'a>(&self, line: &'a str) -> Option<&'a str> {
        // One with many NUL bytes was read, and is refused for a program's: it sets nothing.
        let is_text = |file: &PathBuf| std::fs::read(file).map_or(true, |bytes| !bytes.contains(&0));
        let place = |file: &PathBuf| line.find(&format!(": {}: ", file.display())).filter(|_| is_text(file));
        let place = self.files.iter().find_map(place).filter(|_| line.starts_with("environment: "))?;
        Some(&line[place + 2..])
    }

    /// Evaluates all in one such `command`. All have the same names.
    ///
    /// None of them is disturbed by what another one does. But one that said something has to be evaluated alone, to tell
    /// what it was, and if one ended bash or filled the pipe, all have: these get `None`.
    pub fn run_all(all: &[Self], command: &mut Command) -> io::Result<Vec<Option<Values>>> {
        let (records, errors) = ask(all, command)?;
        let answers = Values::parse(&records);
        let said: Vec<&[u8]> = errors.split(|byte| *byte == 0).collect();
        // Both streams end with one more, that is of nobody.
        if answers.len() != all.len() + 1 || said.len() != all.len() + 1 {
            return Ok(all.iter().map(|_| None).collect());
        }
        let quiet = |said: &[u8]| without_locale(said).is_empty();
        Ok(answers.into_iter().zip(said).take(all.len()).map(|(values, said)| quiet(said).then_some(values)).collect())
    }
}

/// Asks one bash: its records, and what was said on standard error.
fn ask(all: &[Evaluation], command: &mut Command) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (records, stdout) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (errors, stderr) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let names = all.first().map_or(&[][..], |evaluation| evaluation.names).join(" ");
    let mut child = command
        .args(["--norc", "--noprofile", "-c", DRIVER, "dkms", &names])
        .env_remove("BASH_ENV")
        .stdin(questions(all)?)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()?;
    // The write ends in `command` would keep the pipes open for ever.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let read_all = |pipe| {
        let mut bytes = Vec::new();
        File::from(pipe).take(LARGEST_ANSWER).read_to_end(&mut bytes).map(|_| bytes)
    };
    let (records, errors) =
        std::thread::scope(|scope| match std::thread::Builder::new().spawn_scoped(scope, || read_all(errors)) {
            Ok(errors) => (read_all(records), errors.join().unwrap_or_else(|_| Ok(Vec::new()))),
            Err(error) => (Err(error), Ok(Vec::new())),
        });
    let status = child.wait()?;
    // What it said until then is not what the files say, and must not be kept for that.
    match status.signal() {
        Some(signal) => Err(io::Error::other(format!("it was ended by signal {signal}"))),
        None => Ok((records?, errors?)),
    }
}

/// The questions as the driver reads them. There may be more than arguments have room for.
fn questions(all: &[Evaluation]) -> io::Result<File> {
    let mut fields = Vec::new();
    let mut field = |text: &str| {
        // No argument or variable can hold one either.
        fields.extend(text.bytes().take_while(|byte| *byte != 0));
        fields.push(0);
    };
    for Evaluation { variables, files, last, .. } in all {
        field(&variables.len().to_string());
        variables.iter().for_each(|(name, value)| field(&format!("{name}={value}")));
        field(&files.len().to_string());
        files.iter().for_each(|file| field(&file.to_string_lossy()));
        field(&last.len().to_string());
        last.iter().for_each(|line| field(line));
    }
    let mut file = File::from(rustix::fs::memfd_create("dkms", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(&fields)?;
    file.rewind()?;
    Ok(file)
}

/// Drops what bash says when the caller's locale is not installed here: that is not the files' doing.
fn without_locale(errors: &[u8]) -> Vec<u8> {
    let lines = errors.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"bash: warning: setlocale:")).flatten().copied().collect()
}

/// A word that a shell reads back as it is.
pub fn quoted(word: &str) -> String {
    String::from_utf8_lossy(&quoted_bytes(word.as_bytes())).into_owned()
}

/// The same of what need not be text.
fn quoted_bytes(word: &[u8]) -> Vec<u8> {
    let mut quoted = b"'".to_vec();
    for byte in word {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_evaluated_in_one_bash_and_disturb_each_other_in_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let texts = [
            "NAME=$BASHPID-$$; CLEAN=$$",
            "NAME=a; VERSION=1; f() { NAME=f; }; set -e; cd /; IFS=:",
            "NAME=${VERSION-none}; f; MAKE=$PWD",
            "NAME=$VERSION; exit 3",
            "NAME=b; MAKE='\"; exit; \"'",
            "NAME=c; echo noise >&2",
            "(sleep 20) 2>&- & NAME=d; exec 3>&-; exec >/dev/null",
            "NAME=$BASHPID-$$; CLEAN=$$",
        ];
        let evaluations: Vec<Evaluation> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| {
                let file = dir.path().join(format!("{i}.conf"));
                std::fs::write(&file, text).expect("written");
                let variables = vec![("number", i.to_string())];
                Evaluation { names: &["NAME", "MAKE", "CLEAN"], variables, files: vec![file], last: vec![] }
            })
            .collect();
        let bash = || {
            let mut bash = Command::new("bash");
            bash.current_dir(dir.path());
            bash
        };
        let answers = Evaluation::run_all(&evaluations, &mut bash()).expect("bash runs");
        let own = |values: &Values| values.get("CLEAN").to_owned();
        assert_eq!(answers[0].as_ref().map(own), answers[7].as_ref().map(own), "one bash");
        // Whoever said something is asked alone; that `f` is not known here has to be said.
        let asked_alone: Vec<usize> = (0..texts.len()).filter(|&i| answers[i].is_none()).collect();
        assert_eq!(asked_alone, [2, 5]);
        for (evaluation, answer) in evaluations[1..7].iter().zip(&answers[1..7]) {
            let (alone, _) = evaluation.run(&mut bash()).expect("bash runs");
            assert!(answer.as_ref().is_none_or(|answer| *answer == alone), "{:?}: {answer:?}", evaluation.files);
        }
    }

    #[test]
    fn what_was_killed_says_nothing() {
        for victim in ["$$", "$BASHPID", "0"] {
            let dir = tempfile::tempdir().expect("a directory");
            let file = |name: &str, text: &str| {
                let file = dir.path().join(name);
                std::fs::write(&file, text).expect("written");
                Evaluation { names: &["NAME"], files: vec![file], ..Evaluation::default() }
            };
            let both = [file("a", "NAME=a"), file("b", &format!("NAME=b; kill -9 {victim}"))];
            let bash = || {
                let mut bash = Command::new("bash");
                std::os::unix::process::CommandExt::process_group(&mut bash, 0);
                bash
            };
            let answers = Evaluation::run_all(&both, &mut bash()).unwrap_or_else(|_| vec![None, None]);
            assert_eq!(answers[1], None, "{victim}");
            let alone = both[1].run(&mut bash());
            assert!(alone.as_ref().map_or(true, |(_, said)| !said.is_empty()), "{victim}: {alone:?}");
        }
    }

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
            // What is looked for among files would be files' names.
            ("NAME='/etc/pass*'", "/etc/pass*"),
            ("NAME='^(5\\.1[0-9]|/et[c]|6\\..*)'", "^(5\\.1[0-9]|/et[c]|6\\..*)"),
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
    fn a_file_that_cannot_be_read_is_not_one_that_sets_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("conf");
        std::fs::write(&file, "NAME=a; return 1").expect("written");
        let evaluation = || Evaluation { names: &["NAME"], files: vec![file.clone()], ..Evaluation::default() };
        let confined = |limit: &str| {
            let mut bash = Command::new("sh");
            bash.args(["-c", &format!("{limit} && exec bash \"$@\""), "sh"]);
            bash
        };
        let (values, _) = evaluation().run(&mut confined("true")).expect("it is read");
        assert_eq!(values.get("NAME"), "a");
        // Room for fewer and fewer descriptors: at every number it is an error or right.
        for most in 1..24 {
            let limit = format!("ulimit -n {most}");
            for both in [false, true] {
                let all = [evaluation(), evaluation()];
                let values = match both {
                    false => all[0].run(&mut confined(&limit)).ok().map(|(values, _)| values),
                    true => Evaluation::run_all(&all, &mut confined(&limit)).ok().and_then(|mut all| all.pop()?),
                };
                assert!(values.as_ref().is_none_or(|values| values.get("NAME") == "a"), "{limit}: {values:?}");
                assert!(values.is_some() || most < 20, "{limit}");
            }
        }
        // What bash takes for a program was read all the same.
        std::fs::write(&file, [0; 2000]).expect("written");
        let (values, errors) = evaluation().run(&mut Command::new("bash")).expect("it is read");
        assert!(values.get("NAME").is_empty() && !errors.is_empty());
        std::fs::remove_file(&file).expect("removed");
        let error = evaluation().run(&mut Command::new("bash")).expect_err("it is gone");
        assert!(error.to_string().contains("conf: No such file"), "{error}");
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
