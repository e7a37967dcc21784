// SPDX-License-Identifier: GPL-2.0-or-later
//! Modules that could not be installed when nobody waited for them: what is known of each, in the tree, until it is
//! installed or goes.
//!
//! A record is a line for each thing that is known, by a word; what is not understood is passed over.
//!
//! ```text
//! module hello/1.0
//! code 10
//! why hello.c:3:1: error: unknown type name 'nonsense'
//! log /var/lib/dkms/hello/1.0/build/make.log
//! again dkms install hello/1.0 -k 6.1.0-56-amd64
//! inputs 5fd3...
//! ```

use std::fmt::Write;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::model::tree::{State, Tree};
use crate::system::dpkg;
use crate::system::harmless::is_text;

/// What stands above a list of them.
const HEAD: &str = "dkms: modules that could not be installed:";

/// More failures than these are not told at once.
const ONE_SCREEN: usize = 5;

/// Inputs that are remembered to have failed. apt and the boot give a build different ones, each the same every time.
const MOST_INPUTS: usize = 8;

/// Bytes of a log that are looked at: more than any build says, unless it wants to hurt.
const LONGEST_LOG: u64 = 16 << 20;

/// Bytes of the end of a longer one.
const LONGEST_END: u64 = 1 << 20;

/// Characters of a reason: what fits in one line, with what is around it on the next.
const LONGEST_REASON: usize = 160;

/// What a log says where the machine is to blame: the same may work the next time.
const PASSING: [&str; 12] = [
    "No space left on device",
    "Disk quota exceeded",
    "Cannot allocate memory",
    // What gcc, ld and bash say of the same.
    "out of memory",
    "emory exhausted",
    "Resource temporarily unavailable",
    "Too many open files",
    "Killed signal terminated",
    "] Killed",
    "Error 137",
    // By SIGKILL, as when memory runs out, and by us when the last of a disk is taken.
    "code: 137",
    "code: 153",
];

/// What a log says where a disk is to blame.
const FULL: [&str; 2] = [PASSING[0], PASSING[1]];

/// No build gets far with so many bytes.
const HARDLY_ANY: u64 = 1 << 20;

/// Why a module is not installed for a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The module.
    pub id: Id,
    /// The kernel.
    pub target: Target,
    /// The exit code of a command that fails so.
    pub code: u8,
    /// In one line.
    pub why: String,
    /// Where more is said.
    pub log: Option<PathBuf>,
    /// The command that tries again.
    pub again: String,
    /// The keys of the builds that failed; empty if it was no build.
    pub inputs: Vec<String>,
}

impl Failure {
    /// Of what just failed, by the log as it is now; `inputs` is the key of the build, if it was one.
    pub fn new(site: &Site, id: &Id, target: &Target, error: &Error, inputs: Option<String>) -> Self {
        let log = error.log().map(Path::to_owned);
        let text = log.as_deref().map(text_of).unwrap_or_default();
        let build_dir = format!("{}/", site.tree.build_dir(id).display());
        let said = first_error(&text).map(|line| line.replace(&build_dir, ""));
        let full = log.as_deref().and_then(full_disk);
        let why = match error {
            _ if full.is_some() => full.clone(),
            Error::BuildFailed { tools, .. } if !tools.is_empty() => error.hint(),
            Error::NoHeaders { .. } => Some("the kernel's headers are not installed".into()),
            Error::NotPrebuilt { instead, .. } => Some(format!("it is not to be had, and {instead}")),
            _ => said,
        };
        let why = why.or_else(|| error.to_string().lines().next().map(str::to_owned));
        // Of what was said before only the exit code is left.
        let why = why.unwrap_or_else(|| format!("it ended with exit code {}", error.code()));
        let kernel = match &target.arch {
            arch if *arch == Target::running().arch => target.release.clone(),
            arch => format!("{}/{arch}", target.release),
        };
        let again = match error {
            Error::NoHeaders { release, .. } => format!("apt install {}", dpkg::headers_package(release)),
            _ => format!("dkms install {id} -k {kernel}"),
        };
        let inputs =
            inputs.filter(|_| log.is_some() && full.is_none() && !PASSING.iter().any(|word| text.contains(word)));
        Self {
            id: id.clone(),
            target: target.clone(),
            code: error.code(),
            why: one_line(&why),
            log,
            again,
            inputs: inputs.into_iter().collect(),
        }
    }

    /// What is noted of a module, whatever its version, for a kernel.
    pub fn read(tree: &Tree, name: &str, target: &Target) -> Option<Self> {
        let text = fs::read(tree.failure_record(name, target)).ok()?;
        parse(&String::from_utf8_lossy(&text), target).filter(|failure| failure.id.name == name)
    }

    /// Notes it. Other inputs from which the same failed before stay noted.
    pub fn note(&self, tree: &Tree) -> io::Result<()> {
        let mut new = self.clone();
        let before = Self::read(tree, &self.id.name, &self.target).filter(|before| before.id == self.id);
        let known = before.as_ref().map(|before| before.inputs.clone()).unwrap_or_default();
        new.inputs.extend(known.into_iter().filter(|key| !self.inputs.contains(key)));
        new.inputs.truncate(MOST_INPUTS);
        if before.as_ref() == Some(&new) {
            return Ok(());
        }
        tree.note(&tree.failure_record(&self.id.name, &self.target), &new.text())
    }

    fn text(&self) -> String {
        let Self { id, code, why, again, .. } = self;
        let mut text = format!("module {id}\ncode {code}\nwhy {why}\n");
        if let Some(log) = &self.log {
            let _ = writeln!(text, "log {}", log.display());
        }
        let _ = writeln!(text, "again {again}");
        for key in &self.inputs {
            let _ = writeln!(text, "inputs {key}");
        }
        text
    }

    /// Whether it is so still: module and kernel are there, and nobody has installed the one for the other.
    fn stands(&self, site: &Site) -> bool {
        let Self { id, target, .. } = self;
        let known = site.tree.version_dir(id).is_dir() || site.tree.source_dir(id).is_dir();
        known && site.modules(&target.release).is_dir() && site.tree.state(id, target) != State::Installed
    }

    /// The log, while it is this failure's and not that of another kernel.
    fn own_log(&self) -> Option<&Path> {
        let log = self.log.as_deref()?;
        let kernel = format!(" for kernel {}", self.target);
        text_of(log).lines().next().is_some_and(|head| head.contains(&kernel)).then_some(log)
    }
}

/// All that is noted and is so still, by the names of the modules.
pub fn standing(site: &Site) -> Vec<Failure> {
    let read = |(name, target): (String, Target)| Failure::read(&site.tree, &name, &target);
    noted(&site.tree).filter_map(read).filter(|failure| failure.stands(site)).collect()
}

/// Forgets what is noted and is not so any more.
pub fn prune(site: &Site) {
    for (name, target) in noted(&site.tree) {
        if !Failure::read(&site.tree, &name, &target).is_some_and(|failure| failure.stands(site)) {
            let record = site.tree.failure_record(&name, &target);
            site.tree.forget(&record).unwrap_or_else(|error| log::warn!("{error}"));
        }
    }
}

fn noted(tree: &Tree) -> impl Iterator<Item = (String, Target)> + '_ {
    let targets = |name: String| tree.failed(&name).into_iter().map(move |target| (name.clone(), target));
    tree.all_failed().into_iter().flat_map(targets)
}

/// What is told of failures where there is room for so many; nothing of none.
pub fn screen(failures: &[Failure]) -> String {
    let (shown, rest) = failures.split_at(failures.len().min(ONE_SCREEN));
    match rest.len() {
        0 => tell(shown),
        more => format!("{}  and {more} more: dkms status --failed\n", tell(shown)),
    }
}

/// Failures for a person: what, why, where more is said and how to try again. What has the same reason and the same
/// remedy is told together.
pub fn tell(failures: &[Failure]) -> String {
    let mut text = if failures.is_empty() { String::new() } else { format!("{HEAD}\n") };
    let mut rest = failures;
    while let Some(first) = rest.first() {
        let same =
            |other: &&Failure| (&other.target, &other.why, &other.again) == (&first.target, &first.why, &first.again);
        let (alike, others) = rest.split_at(rest.iter().take_while(same).count());
        rest = others;
        let names: Vec<String> = alike.iter().map(|failure| failure.id.to_string()).collect();
        let _ = writeln!(text, "  {} for kernel {}: {}", names.join(", "), first.target, first.why);
        if let Some(log) = first.own_log() {
            let _ = writeln!(text, "    log: {}", log.display());
        }
        let _ = writeln!(text, "    try again: {}", first.again);
    }
    text
}

fn parse(text: &str, target: &Target) -> Option<Failure> {
    let values = |word: &'static str| text.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '));
    let value = |word| values(word).next().map(str::to_owned);
    let (name, version) = values("module").next()?.split_once('/')?;
    let id = Id::new(name, version);
    id.is_sane().then(|| Failure {
        id,
        target: target.clone(),
        code: value("code").and_then(|code| code.parse().ok()).unwrap_or(1),
        why: value("why").unwrap_or_default(),
        log: value("log").map(PathBuf::from),
        again: value("again").unwrap_or_default(),
        inputs: values("inputs").map(str::to_owned).collect(),
    })
}

/// What a log says, or as much of it as is looked at: what it begins and ends with.
fn text_of(log: &Path) -> String {
    let mut bytes = Vec::new();
    let mut read = || {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        (&mut file).take(LONGEST_LOG).read_to_end(&mut bytes)?;
        file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_END).max(LONGEST_LOG)))?;
        file.take(LONGEST_END).read_to_end(&mut bytes)
    };
    // A log that cannot be read says nothing.
    let _ = read();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// That a disk is full, in one line, if a build that failed says so in its log, or has had no room even for that.
pub fn full_disk(log: &Path) -> Option<String> {
    let place = log.ancestors().skip(1).find(|place| place.is_dir())?;
    if let Ok(disk) = rustix::fs::statvfs(place) {
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if bytes < HARDLY_ANY {
            return Some(format!("The disk is full: no more than {} kB are free in {}", bytes >> 10, place.display()));
        }
        if disk.f_files > 0 && disk.f_favail == 0 {
            return Some(format!("The disk is full: it takes no more files in {}", place.display()));
        }
    }
    let text = text_of(log);
    let line = text.lines().find(|line| FULL.iter().any(|word| line.contains(word)))?;
    Some(one_line(&format!("A disk is full: {}", line.trim())))
}

/// The line of a build's log that says what went wrong: the first error, or else how the last command ended.
pub fn first_error(log: &str) -> Option<String> {
    let is_error = |line: &&str| line.to_ascii_lowercase().contains("error: ") && !line.starts_with("# command: ");
    let failed = |line: &&str| line.starts_with("make") && line.contains("*** ");
    let mut lines = log.lines();
    let ended = |line: &&str| line.starts_with("# ") && line.contains(" was ended: ");
    if let Some(line) = lines.clone().find(ended) {
        return Some(line.trim_start_matches("# ").to_owned());
    }
    if let Some(line) = lines.clone().find(is_error).or_else(|| lines.clone().find(failed)) {
        return Some(line.trim().to_owned());
    }
    let code = log.lines().rev().find_map(|line| line.strip_prefix("# exit code: "))?;
    let command = lines.rfind(|line| line.starts_with("# command: "))?.trim_start_matches("# command: ");
    Some(match code {
        "137" => format!("`{command}` was killed, as it happens when memory runs out"),
        _ => format!("`{command}` ended with exit code {code}"),
    })
}

/// Without what a terminal would do something with, and not too long: a stranger wrote it.
pub fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if is_text(c) { c } else { ' ' }).collect();
    match plain.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}...", plain[..end].trim_end()),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(name: &str, inputs: &[&str]) -> Failure {
        Failure {
            id: Id::new(name, "1"),
            target: Target::new("6.1", "x86_64"),
            code: 10,
            why: "a.c:1: error: no".into(),
            log: Some("/nonexistent/make.log".into()),
            again: format!("dkms install {name}/1 -k 6.1"),
            inputs: inputs.iter().map(|key| (*key).to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_noted_is_read_again_and_inputs_add_up() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let tree = Tree::new(dir.path(), dir.path());
        let first = failure("hello", &["a"]);
        first.note(&tree)?;
        assert_eq!(Failure::read(&tree, "hello", &first.target), Some(first.clone()));
        assert_eq!((tree.all_failed(), tree.failed("hello")), (vec!["hello".into()], vec![first.target.clone()]));
        failure("hello", &["b"]).note(&tree)?;
        failure("hello", &[]).note(&tree)?;
        let inputs = |tree: &Tree| Failure::read(tree, "hello", &first.target).map(|failure| failure.inputs);
        assert_eq!(inputs(&tree), Some(vec!["b".into(), "a".into()]));
        // Another version's are its own.
        Failure { id: Id::new("hello", "2"), ..failure("hello", &["c"]) }.note(&tree)?;
        assert_eq!(inputs(&tree), Some(vec!["c".into()]));
        for n in 0..20 {
            Failure { id: Id::new("hello", "2"), ..failure("hello", &[&n.to_string()]) }.note(&tree)?;
        }
        assert_eq!(inputs(&tree).map(|inputs| (inputs.len(), inputs[0].clone())), Some((MOST_INPUTS, "19".into())));
        tree.forget(&tree.failure_record("hello", &first.target))?;
        assert_eq!(fs::read_dir(dir.path())?.count(), 0, "nothing is left of it");
        Ok(())
    }

    #[test]
    fn a_full_disk_is_named() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("make.log");
        fs::write(&log, "a.c:1: error: no\n")?;
        assert_eq!(full_disk(&log), None);
        fs::write(&log, "fatal error: error writing to a.s: No space left on device\n")?;
        let told = full_disk(&log);
        let line = "A disk is full: fatal error: error writing to a.s: No space left on device";
        assert_eq!(told.as_deref(), Some(line));
        let error = Error::BuildFailed { kernel: "6.1 (x86_64)".into(), log, tools: Vec::new() };
        assert_eq!(error.hint(), told.map(|told| told + "."));
        Ok(())
    }

    #[test]
    fn damage_is_no_failure() {
        let target = Target::new("6.1", "x86_64");
        for text in ["", "\0", "module", "module hello", "module ../..", "why x\n", "module /1\n"] {
            assert_eq!(parse(text, &target), None, "{text:?}");
        }
        let little = parse("nonsense\nmodule a/1\ncode many\n", &target).map(|it| (it.code, it.why, it.log));
        assert_eq!(little, Some((1, String::new(), None)));
    }

    #[test]
    fn the_first_error_of_a_log_is_the_reason() {
        let log = |output: &str| {
            format!(
                "DKMS (x) make.log for a/1\n\nBuilding module(s)\n# command: make -C x\n{output}\n# exit code: 2\n# elapsed time: 00:00:01\n"
            )
        };
        for (output, reason) in [
            ("CC a.o\na.c:3:1: error: unknown\nb.c: error: later\nmake[1]: *** [x] Error 1", "a.c:3:1: error: unknown"),
            ("a.c:1:10: fatal error: x.h: No such file", "a.c:1:10: fatal error: x.h: No such file"),
            ("ERROR: modpost: \"f\" [a.ko] undefined!", "ERROR: modpost: \"f\" [a.ko] undefined!"),
            (
                "make[1]: *** No rule to make target 'a'.  Stop.\nmake: *** [all] Error 2",
                "make[1]: *** No rule to make target 'a'.  Stop.",
            ),
            ("# command: echo error: x", "`echo error: x` ended with exit code 2"),
            (
                "a.c:3:1: error: no\n\n# Building module(s) was ended: it took too long, see x",
                "Building module(s) was ended: it took too long, see x",
            ),
            ("nothing of the kind", "`make -C x` ended with exit code 2"),
        ] {
            assert_eq!(first_error(&log(output)).as_deref(), Some(reason), "{output}");
        }
        assert_eq!(first_error(""), None);
    }

    #[test]
    fn reasons_do_nothing_to_a_terminal_and_fit_in_a_line() {
        assert_eq!(one_line("a\x1b[2Jb\tc\u{9b}d\u{202e}e"), "a [2Jb c d e");
        let long = one_line(&"ä ".repeat(1000));
        assert_eq!(long.chars().count(), LONGEST_REASON - 1 + 3);
    }

    #[test]
    fn what_has_one_remedy_is_told_once() {
        let no_headers =
            |name| Failure { why: "no headers".into(), again: "apt install h".into(), ..failure(name, &[]) };
        assert_eq!(
            tell(&[no_headers("a"), no_headers("b"), failure("c", &[])]),
            "dkms: modules that could not be installed:\n  a/1, b/1 for kernel 6.1 (x86_64): no headers\n    \
             try again: apt install h\n  c/1 for kernel 6.1 (x86_64): a.c:1: error: no\n    try again: dkms install c/1 -k 6.1\n"
        );
        assert_eq!(tell(&[]), "");
    }

    #[test]
    fn a_screen_has_an_end() {
        let failures: Vec<Failure> = (1..=7).map(|number| failure(&format!("m{number}"), &[])).collect();
        assert_eq!(screen(&failures[..5]), tell(&failures[..5]));
        assert_eq!(screen(&failures), tell(&failures[..5]) + "  and 2 more: dkms status --failed\n");
        assert_eq!(screen(&[]), "");
    }
}
