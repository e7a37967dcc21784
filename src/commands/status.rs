// SPDX-License-Identifier: GPL-2.0-or-later
//! `status`: what is registered, built and installed. Programs read it, so every blank counts.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::commands::Invocation;
use crate::error::Result;
use crate::model::conf::{Conf, Question};
use crate::model::failures::{self, Failure};
use crate::model::framework::cores;
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::State;
use crate::plan::question;
use crate::steps::{Work, installed};
use crate::system::output::Block;
use crate::system::pattern::Shell;
use crate::system::side_by_side;
use crate::system::version::looks_like_release;

/// Lines that one thread works out at a time: many enough that one bash answers for all of them.
const TOGETHER: usize = 128;

/// Prints a line for each module, version and kernel that match what was said; all of it are patterns. What could not be
/// installed is told to people only, or to whoever asks for that alone.
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    if !invocation.failed {
        list(site, invocation);
    }
    if invocation.failed || std::io::stderr().is_terminal() {
        let failed = failed(site, invocation);
        let say = site.output.block();
        if invocation.failed {
            say.print(failures::tell(&failed));
        } else {
            say.complain(failures::screen(&failed));
        }
    }
    Ok(())
}

/// What could not be installed, of what is asked for.
fn failed(site: &Site, invocation: &Invocation) -> Vec<Failure> {
    let (name, version) = names(invocation);
    let kernels = kernels(&invocation.kernels, &invocation.arches);
    let mut failed = failures::standing(site);
    failed.retain(|failure| {
        name.matches(&failure.id.name)
            && version.matches(&failure.id.version)
            && kernels.iter().any(|pair| pair.matches(&failure.target))
    });
    failed
}

/// The module's name and version as they were said.
fn names(invocation: &Invocation) -> (Pattern, Pattern) {
    let pattern = |said: &Option<String>| Pattern::new(said.as_deref().unwrap_or_default());
    (pattern(&invocation.name), pattern(&invocation.version))
}

fn list(site: &Site, invocation: &Invocation) {
    let (name, version) = names(invocation);
    // What a module is made of is said by its own dkms.conf, whatever -c says.
    let options = &Options { conf: None, ..invocation.options.clone() };
    let mut list = List { site, options, say: site.output.block(), kernels: HashMap::new(), lines: Vec::new() };
    for kernel in kernels(&invocation.kernels, &invocation.arches) {
        for module in site.tree.modules().iter().filter(|module| name.matches(module)) {
            for id in site.tree.versions(module).into_iter().filter(|id| version.matches(&id.version)) {
                list.add(id, &kernel);
                if list.lines.len() >= TOGETHER * cores() {
                    list.print();
                }
            }
        }
    }
    list.print();
}

/// What there is to be told of, but for the words.
enum Line {
    Broken(Id),
    Added(Id),
    Built(Id, Target, State),
}

/// What is told, in its order.
struct List<'a> {
    site: &'a Site,
    options: &'a Options,
    say: Block,
    kernels: HashMap<Target, Kernel>,
    /// Not told yet.
    lines: Vec<Line>,
}

impl List<'_> {
    /// Adds what there is of one module on the kernels that are asked for.
    fn add(&mut self, id: Id, pair: &Pair) {
        let Self { site, options, kernels, lines, .. } = self;
        if site.tree.is_broken(&id) {
            lines.push(Line::Broken(id));
            return;
        }
        let targets = site.tree.all_targets(&id).into_iter().filter(|target| pair.matches(target));
        let with_state = targets.map(|target| (site.tree.state(&id, &target), target));
        let targets: Vec<_> = with_state.filter(|(state, _)| *state != State::Added).collect();
        if targets.is_empty() {
            lines.push(Line::Added(id));
            return;
        }
        for (state, target) in targets {
            let new = || Kernel::new(site, &target, options.headers.as_deref(), options.config.as_deref());
            kernels.entry(target.clone()).or_insert_with(new);
            lines.push(Line::Built(id.clone(), target, state));
        }
    }

    /// Tells it, and lets go of what was remembered of these modules.
    fn print(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let list = &*self;
        let words = if lines.len() < 2 * FEW {
            list.words(&lines)
        } else {
            side_by_side::parts(&lines, lines.len().div_ceil(cores()).max(FEW), |part| list.words(part))
        };
        for words in words {
            words.say(&self.say);
        }
        self.site.memory.save();
    }

    /// What is to be said of some of the lines.
    fn words(&self, lines: &[Line]) -> Vec<Words> {
        let questions: Vec<Question> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Built(id, target, _) => Some(question(self.site, self.options, id, self.kernels.get(target)?)),
                _ => None,
            })
            .collect();
        let mut confs = Question::answer_all(&questions).into_iter();
        let words = |line: &Line| match line {
            Line::Broken(id) => Words {
                before: format!("{id}: broken\n"),
                error: Some(format!(
                    "{id}: Missing the module source directory or the symbolic link pointing to it.\nManual intervention is \
                     required!"
                )),
                ..Words::default()
            },
            Line::Added(id) => Words { before: format!("{id}: added\n"), ..Words::default() },
            Line::Built(id, target, state) => {
                let name = if *state == State::Installed { "installed" } else { "built" };
                let before = format!("{id}, {}, {}: {name}", target.release, target.arch);
                let conf = confs.next();
                let Some((kernel, conf)) = self.kernels.get(target).zip(conf) else {
                    return Words::default();
                };
                Words { before, ..self.remark(id, kernel, *state, conf) }
            }
        };
        lines.iter().map(words).collect()
    }

    /// What is to be said of a built module beside its state.
    fn remark(&self, id: &Id, kernel: &Kernel, state: State, conf: Result<Conf>) -> Words {
        let Self { site, options, say, .. } = self;
        let target = &kernel.target;
        let mut remark = String::new();
        if site.tree.original_dir(&id.name, target).is_dir() {
            remark.push_str(" (Original modules exist)");
        }
        let conf = match conf {
            Ok(conf) => conf,
            Err(error) => return Words { error: Some(error.to_string()), after: remark + "\n", ..Words::default() },
        };
        let work = Work { site, options, id, kernel, conf: &conf, say };
        let modules = match installed::modules_of(&work) {
            Ok(modules) => modules,
            Err(error) => return Words { error: Some(error.to_string()), after: remark + "\n", ..Words::default() },
        };
        let suffix = kernel.compression();
        for module in modules {
            let built = site.tree.module_dir(id, target).join(format!("{}.ko{suffix}", module.dest_name));
            if !built.exists() {
                remark.push_str(" (Built modules are missing in the kernel modules folder)");
                break;
            }
            let same = |file: PathBuf| site.memory.is_same(id, &built, &file);
            if state == State::Installed && !installed::file_of(&work, &module).is_some_and(same) {
                remark.push_str(" (Differences between built and installed modules)");
                break;
            }
        }
        Words { noise: conf.noise, after: remark + "\n", ..Words::default() }
    }
}

/// A line is not worth another thread.
const FEW: usize = 16;

/// A line, and what interrupts it.
#[derive(Default)]
struct Words {
    before: String,
    error: Option<String>,
    /// bash's words.
    noise: Vec<u8>,
    after: String,
}

impl Words {
    fn say(self, say: &Block) {
        if self.error.is_none() && self.noise.is_empty() {
            say.print(self.before + &self.after);
            return;
        }
        say.print(self.before);
        if let Some(error) = self.error {
            say.error(&error);
        }
        say.complain(self.noise);
        say.print(self.after);
    }
}

/// A shell pattern; an empty one matches everything.
struct Pattern(Shell, String);

impl Pattern {
    fn new(text: &str) -> Self {
        Self(Shell::new(text), text.to_owned())
    }

    fn matches(&self, text: &str) -> bool {
        self.1.is_empty() || self.1 == text || self.0.matches(text)
    }
}

/// A kernel and an architecture that are asked for.
struct Pair {
    release: Pattern,
    arch: Pattern,
}

/// What was said with -k and -a, in pairs; the list is told once for each.
fn kernels(kernels: &[String], arches: &[String]) -> Vec<Pair> {
    let arch = |index: usize| Pattern::new(arches.get(index).or(arches.first()).map_or("", String::as_str));
    if kernels.is_empty() {
        return vec![Pair { release: Pattern::new(""), arch: arch(0) }];
    }
    kernels.iter().enumerate().map(|(i, kernel)| Pair { release: Pattern::new(kernel), arch: arch(i) }).collect()
}

impl Pair {
    fn matches(&self, target: &Target) -> bool {
        // Without a kernel named, only directories that look like one are taken for it.
        let known = !self.release.1.is_empty() || looks_like_release(&target.release);
        known && self.release.matches(&target.release) && self.arch.matches(&target.arch)
    }
}
