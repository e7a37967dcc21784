// SPDX-License-Identifier: GPL-2.0-or-later
//! `status`: what is registered, built and installed. Programs read it, so every blank counts.

use std::collections::HashMap;

use crate::commands::Invocation;
use crate::error::Result;
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::{State, looks_like_release};
use crate::plan::read_conf;
use crate::steps::{Work, install};
use crate::system::files::same_content;
use crate::system::output::Block;

/// Prints a line for each module, version and kernel that match what was said; all of it are patterns.
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    let say = site.output.block();
    let pattern = |said: &Option<String>| Pattern::new(said.as_deref().unwrap_or_default());
    let (name, version) = (pattern(&invocation.name), pattern(&invocation.version));
    let mut known = HashMap::new();
    for kernel in kernels(&invocation.kernels, &invocation.arches) {
        for module in site.tree.modules().iter().filter(|module| name.matches(module)) {
            for id in site.tree.versions(module).iter().filter(|id| version.matches(&id.version)) {
                one(site, id, &kernel, &invocation.options, &mut known, &say);
            }
        }
    }
    Ok(())
}

fn one(site: &Site, id: &Id, pair: &Pair, options: &Options, known: &mut HashMap<Target, Kernel>, say: &Block) {
    if site.tree.is_broken(id) {
        say.say(format!("{id}: broken"));
        say.error(&format!(
            "{id}: Missing the module source directory or the symbolic link pointing to it.\nManual intervention is required!"
        ));
        return;
    }
    let mut found = false;
    for target in site.tree.all_targets(id).iter().filter(|target| pair.matches(target)) {
        found = true;
        let state = if site.tree.state(id, target) == State::Installed { "installed" } else { "built" };
        say.print(format!("{id}, {}, {}: {state}", target.release, target.arch));
        let kernel = known
            .entry(target.clone())
            .or_insert_with(|| Kernel::new(site, target, options.headers.as_deref(), options.config.as_deref()));
        let remark = remark(site, id, kernel, options, say);
        say.say(remark);
    }
    if !found {
        say.say(format!("{id}: added"));
    }
}

/// What is to be said of a built module beside its state.
fn remark(site: &Site, id: &Id, kernel: &Kernel, options: &Options, say: &Block) -> String {
    let target = &kernel.target;
    let mut remark = String::new();
    if site.tree.original_dir(&id.name, target).is_dir() {
        remark.push_str(" (Original modules exist)");
    }
    let conf = match read_conf(site, options, id, kernel) {
        Ok(conf) => conf,
        Err(error) => {
            say.error(&error);
            return remark;
        }
    };
    say.complain(&conf.noise);
    let work = Work { site, options, id, kernel, conf: &conf, say };
    let installed = site.tree.state(id, target) == State::Installed;
    let suffix = kernel.compression();
    for module in install::modules_of(&work) {
        let built = site.tree.module_dir(id, target).join(format!("{}.ko{suffix}", module.dest_name));
        if !built.exists() {
            remark.push_str(" (Built modules are missing in the kernel modules folder)");
            break;
        }
        if installed && !install::installed_file(&work, &module).is_some_and(|file| same_content(&file, &built)) {
            remark.push_str(" (Differences between built and installed modules)");
            break;
        }
    }
    remark
}

/// A shell pattern; an empty one matches everything.
struct Pattern(Option<glob::Pattern>, String);

impl Pattern {
    fn new(text: &str) -> Self {
        Self(glob::Pattern::new(text).ok(), text.to_owned())
    }

    fn matches(&self, text: &str) -> bool {
        self.1.is_empty() || self.1 == text || self.0.as_ref().is_some_and(|pattern| pattern.matches(text))
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
