// SPDX-License-Identifier: GPL-2.0-or-later
//! What need not be done again: results in the store, and what is known of a kernel once for all its modules.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::build::Build;
use super::{Shared, finish};
use crate::model::compile_cache::CompileCache;
use crate::model::failures::Failure;
use crate::model::inputs::{self, Inputs, Recipe};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::model::store::{Made, Store};
use crate::model::tree::State;
use crate::plan::{Step, Verdict};
use crate::steps::{Work, probes};
use crate::system::digest::Notes;
use crate::system::process::find_program;
use crate::system::tokens::JobToken;

/// What is looked at once for each kernel, and only when something is built for it.
#[derive(Debug, Default)]
struct OfKernel {
    inputs: OnceLock<Option<Inputs>>,
    compile_cache: OnceLock<Option<CompileCache>>,
    asked: AtomicBool,
}

/// Whom the answers to a kernel's probes serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serve {
    /// Other builds, of this run or to come.
    Many,
    /// This build, which is not the first for its kernel, and those to come.
    This,
    /// No build that is known of, while others need the cores.
    Nobody,
}

/// The store, and what is known of kernels.
#[derive(Debug)]
pub struct Known {
    store: Option<Store>,
    notes: Notes,
    kernels: HashMap<Target, OfKernel>,
}

impl Known {
    /// Nothing yet, of the kernels of these steps.
    pub fn new(site: &Site, steps: &[Step]) -> Self {
        Self {
            store: Store::of(site),
            notes: inputs::notes(site),
            kernels: steps.iter().map(|step| (step.kernel.target.clone(), OfKernel::default())).collect(),
        }
    }
}

impl Shared<'_> {
    /// The key of what a build will make; none where nobody asks for it.
    pub(super) fn key(&self, work: &Work, environment: &BTreeMap<String, String>) -> Option<String> {
        let Work { site, options, id, kernel, conf, .. } = *work;
        let known = &self.known;
        if self.store(id).is_none() && !options.unattended {
            return None;
        }
        let look = || {
            let looked = Inputs::of(kernel, &known.notes);
            looked.inspect_err(|error| log::info!("nothing is kept for {}: {error}", kernel.target.release)).ok()
        };
        let of_kernel = known.kernels.get(&kernel.target)?.inputs.get_or_init(look).as_ref()?;
        let key = of_kernel.key(&Recipe { site, options, id, kernel, conf, environment });
        key.inspect_err(|error| log::info!("{id} is not kept: {error}")).ok()
    }

    /// Where results of a module are kept: not of one whose builds may depend on anything.
    fn store(&self, id: &Id) -> Option<&Store> {
        self.known.store.as_ref().filter(|_| !self.site.builds_as_root(id))
    }

    /// Whether a build with this key failed before, and nobody waits for it to be tried again.
    pub(super) fn known_to_fail(&self, key: Option<&str>, work: &Work) -> Option<Failure> {
        let Work { site, options, id, kernel, .. } = work;
        let failure = Failure::read(&site.tree, &id.name, &kernel.target).filter(|_| options.unattended)?;
        let same = failure.id == **id && failure.inputs.iter().any(|known| Some(known.as_str()) == key);
        same.then_some(failure)
    }

    /// What was made of the same before. Who asks for a build by force, or wants to see it, gets one.
    pub(super) fn kept(&self, key: Option<&str>, work: &Work) -> Option<Made> {
        let wanted = !work.options.force && !self.site.framework.verbose;
        let made = self.store(work.id).filter(|_| wanted)?.get(key?)?;
        let complete = |module| made.files.contains_key(&finish::place(module));
        work.conf.included(work.kernel)?.into_iter().all(complete).then_some(made)
    }

    /// Keeps what was made.
    pub(super) fn keep_made(&self, key: Option<&str>, id: &Id, build: Build) {
        if let (Some(store), Some(key)) = (self.store(id), key) {
            // What cannot be kept is built again some day.
            let kept = build.into_made().and_then(|made| store.put(key, &made));
            kept.unwrap_or_else(|error| log::warn!("{error}"));
        }
    }

    /// The compile cache of a kernel.
    pub(super) fn compile_cache(&self, kernel: &Kernel) -> Option<&CompileCache> {
        let look = || CompileCache::for_kernel(self.site, kernel, &self.known.notes);
        self.known.kernels.get(&kernel.target)?.compile_cache.get_or_init(look).as_ref()
    }

    /// For whom it pays to have the compiler's answers to kbuild's probes, when this step is built.
    ///
    /// To have them takes longer than to do without them once, so for the first module of a kernel they are asked for where
    /// a core has nothing else to do.
    pub(super) fn probes_serve(&self, step: &Step) -> Serve {
        let target = &step.kernel.target;
        let also = |other: &&Step| other.kernel.target == *target && matches!(other.verdict, Verdict::Build);
        if self.steps.iter().filter(also).count() > 1 {
            return Serve::Many;
        }
        let tree = &self.site.tree;
        let built = |id: &Id| *id != step.id && tree.state(id, target) >= State::Built;
        if tree.all().iter().any(built) {
            Serve::This
        } else if self.builds_left() < self.pool.at_most() {
            Serve::Many
        } else {
            Serve::Nobody
        }
    }

    /// Answers for all modules what kbuild asks the compiler before it builds one, unless that was done: with the token of
    /// a build that waits for it, or as a job of its own beside one.
    pub(super) fn ask_probes(&self, kernel: &Kernel, cache: &CompileCache, token: Option<&JobToken>) {
        let done = self.known.kernels.get(&kernel.target).is_none_or(|known| known.asked.swap(true, Ordering::Relaxed));
        if done || cache.probes().is_dir() {
            return;
        }
        let asked = match token {
            Some(_) => probes::ask(self.site, kernel, cache),
            // Those who wait meanwhile profit most.
            None => self.start(self.pool.queue(Duration::MAX)).and_then(|_token| probes::ask(self.site, kernel, cache)),
        };
        // Every build asks for itself then.
        asked.unwrap_or_else(|error| log::warn!("{error}"));
    }

    /// Tells a person, once and for all, what makes builds faster.
    pub(super) fn tell_of_ccache(&self) {
        let note = self.site.framework.cache_tree.join("told-of-ccache");
        if std::io::stderr().is_terminal()
            && CompileCache::is_wanted(self.site)
            && find_program("ccache").is_none()
            && !note.exists()
        {
            self.site.output.block().complain("Modules are built faster with ccache: apt install ccache\n");
            // Who cannot note it tells it again.
            let noted = note.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&note, ""));
            noted.unwrap_or_else(|error| log::info!("{}: {error}", note.display()));
        }
    }
}
