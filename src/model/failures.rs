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
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::model::tree::{State, Tree};
use crate::system::build_log::{first_error, full_disk, is_passing, one_line, text_of};
use crate::system::dpkg;

/// What stands above a list of them.
const HEAD: &str = "dkms: modules that could not be installed:";

/// More failures than these are not told at once.
const ONE_SCREEN: usize = 5;

/// Inputs that are remembered to have failed. apt and the boot give a build different ones, each the same every time.
const MOST_INPUTS: usize = 8;

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
        let build_dir = site.tree.build_dir(id);
        let shorter = |line: String| {
            let line = line.replace(&format!("cd {}/ && ", build_dir.display()), "");
            line.replace(&format!("{}/", build_dir.display()), "")
        };
        let said = first_error(&text).map(shorter);
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
        let inputs = inputs.filter(|_| log.is_some() && full.is_none() && !is_passing(&text));
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
            forget(&site.tree, &name, &target);
        }
    }
}

/// Forgets what is noted of a module for a kernel.
pub fn forget(tree: &Tree, name: &str, target: &Target) {
    // One that stays is found not to be so any more by whoever reads it.
    tree.forget(&tree.failure_record(name, target)).unwrap_or_else(|error| log::warn!("{error}"));
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
    fn damage_is_no_failure() {
        let target = Target::new("6.1", "x86_64");
        for text in ["", "\0", "module", "module hello", "module ../..", "why x\n", "module /1\n"] {
            assert_eq!(parse(text, &target), None, "{text:?}");
        }
        let little = parse("nonsense\nmodule a/1\ncode many\n", &target).map(|it| (it.code, it.why, it.log));
        assert_eq!(little, Some((1, String::new(), None)));
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
