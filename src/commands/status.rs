// SPDX-License-Identifier: GPL-2.0-or-later
//! `status`: what is registered, built and installed. Programs read it, so every blank counts.

use std::collections::HashMap;
use std::io::IsTerminal;

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
use crate::system::memory::have_heaps;
use crate::system::output::Block;
use crate::system::pattern::Shell;
use crate::system::side_by_side;
use crate::system::version::looks_like_release;

/// Modules that one thread works out at a time: many enough that one bash answers for all of them.
const TOGETHER: usize = 32;

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
    have_heaps(cores());
    let (name, version) = names(invocation);
    // What a module is made of is said by its own dkms.conf, whatever -c says.
    let options = &Options { conf: None, ..invocation.options.clone() };
    let mut list = List { site, options, say: site.output.block(), kernels: HashMap::new() };
    for pair in kernels(&invocation.kernels, &invocation.arches) {
        let mut modules = site.tree.modules();
        modules.retain(|module| name.matches(module));
        for modules in modules.chunks(TOGETHER * cores()) {
            let lines = |module: &String| lines_of(site, module, &version, &pair);
            list.print(evenly(modules, |modules| modules.iter().flat_map(lines).collect()));
        }
    }
}

/// What there is of a module's versions on the kernels that are asked for.
fn lines_of(site: &Site, module: &str, version: &Pattern, pair: &Pair) -> Vec<Line> {
    let mut lines = Vec::new();
    for id in site.tree.versions(module).into_iter().filter(|id| version.matches(&id.version)) {
        if site.tree.is_broken(&id) {
            lines.push(Line::Broken(id));
            continue;
        }
        let mut built = site.tree.built_targets(&id);
        built.retain(|(target, _)| pair.matches(target));
        if built.is_empty() {
            lines.push(Line::Added(id));
        } else {
            lines.extend(built.into_iter().map(|(target, state)| Line::Built(id.clone(), target, state)));
        }
    }
    lines
}

/// Works on as many cores as there are; all results in order.
fn evenly<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> Vec<R> + Sync) -> Vec<R> {
    side_by_side::parts(items, items.len().div_ceil(cores()).max(FEW), work)
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
}

impl List<'_> {
    /// Tells it, and lets go of what was remembered of these modules.
    fn print(&mut self, lines: Vec<Line>) {
        let Self { site, options, kernels, .. } = self;
        for line in &lines {
            if let Line::Built(_, target, _) = line {
                if !kernels.contains_key(target) {
                    let kernel = Kernel::new(site, target, options.headers.as_deref(), options.config.as_deref());
                    kernels.insert(target.clone(), kernel);
                }
            }
        }
        let list = &*self;
        let words = evenly(&lines, |lines| list.words(lines));
        // What stands in a row is one piece.
        let mut text = String::new();
        for words in words {
            text.push_str(&words.before);
            if words.error.is_some() || !words.noise.is_empty() {
                self.say.print(std::mem::take(&mut text));
                words.interrupt(&self.say);
            }
            text.push_str(&words.after);
        }
        self.say.print(text);
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
            if state == State::Installed && !installed::is_as_built(&work, &module) {
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
    fn interrupt(&self, say: &Block) {
        if let Some(error) = &self.error {
            say.error(error);
        }
        say.complain(&self.noise);
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
