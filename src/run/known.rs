// SPDX-License-Identifier: GPL-2.0-or-later
//! What need not be done again: results in the store, and what is known of a kernel once for all its modules.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::Shared;
use super::build::{Build, build_environment};
use crate::error::Result;
use crate::model::caller;
use crate::model::compile_cache::CompileCache;
use crate::model::exchange::Exchange;
use crate::model::failures::Failure;
use crate::model::headers::{Headers, Seen};
use crate::model::inputs::{Inputs, Recipe, is_around, of_trial, takes_symbols};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::origin::Origin;
use crate::model::readings::{self, Doubt};
use crate::model::site::Site;
use crate::model::source::{Source, names_options};
use crate::model::store::{Made, Store};
use crate::model::tree::State;
use crate::plan::{Step, Verdict};
use crate::request::Request;
use crate::steps::fetch::{Places, Wanted};
use crate::steps::{Work, probes};
use crate::system::digest::{Digest, Notes};
use crate::system::dpkg;
use crate::system::process::find_program;
use crate::system::remote::Remote;

/// What is looked at once for each kernel, and only when something is built for it.
#[derive(Debug, Default)]
struct OfKernel {
    /// Its package's.
    version: OnceLock<Option<String>>,
    headers: OnceLock<Option<Seen>>,
    inputs: OnceLock<Option<Inputs>>,
    compile_cache: OnceLock<Option<CompileCache>>,
    asked: AtomicBool,
}

/// When the compiler is asked for the answers to a kernel's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// As a job beside the build that comes first: others profit, of this run or to come.
    Beside,
    /// Before this build, which is not the first for its kernel.
    Before,
    /// Not now.
    Not,
}

/// By what a result is known.
#[derive(Debug, Default)]
pub struct Identity {
    /// The key of all that makes it, where that is all here.
    pub key: Option<String>,
    source: Option<Source>,
    environment: BTreeMap<String, String>,
}

impl Identity {
    /// Whether nothing in the source, or in what its dkms.conf says, names options for kbuild, to which ours can be added.
    pub fn leaves_options(&self, work: &Work) -> bool {
        let named = |(_, _, value): (_, _, &str)| names_options(value.as_bytes());
        self.source.as_ref().is_some_and(|source| !source.names_options) && !work.conf.values().any(named)
    }

    /// By what it is known that this was tried. Where the key is known not to speak of all, what failed may go well on
    /// another machine, or when this one was started anew.
    pub fn trial(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        if self.source.as_ref().is_none_or(|source| source.asks.is_none()) {
            return Some(key.clone());
        }
        let mut trial = Digest::new("trial of what asks");
        trial.add(key).add(rustix::system::uname().nodename().to_bytes());
        trial.add(fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
        Some(trial.finish())
    }
}

/// The store, what others have, and what is known of kernels.
#[derive(Debug)]
pub struct Known {
    store: Option<Store>,
    pub(super) places: Option<Places>,
    notes: Notes,
    /// When it was begun to look.
    began: SystemTime,
    kernels: HashMap<Target, OfKernel>,
    /// What builders share.
    remote: Option<Arc<Remote>>,
    /// What other builders are to have of builds that ended.
    exchanges: Mutex<Vec<Exchange>>,
}

impl Known {
    /// Nothing yet, of the kernels of these steps.
    pub fn new(site: &Site, steps: &[Step]) -> Result<Self> {
        let builds = steps.iter().any(|step| matches!(step.verdict, Verdict::Build));
        Ok(Self {
            store: Store::of(site),
            places: if builds { Places::of(site)? } else { None },
            notes: Notes::new(site.own_caches().map(|caches| caches.join("digests"))),
            began: SystemTime::now(),
            kernels: steps.iter().map(|step| (step.kernel.target.clone(), OfKernel::default())).collect(),
            remote: site.framework.compile_cache_remote.as_ref().map(|address| Arc::new(Remote::new(address))),
            exchanges: Mutex::default(),
        })
    }
}

impl Known {
    /// What a build is made of and, if that is `asked_for`, by what its result will be known.
    fn identity(&self, work: &Work, environment: &BTreeMap<String, String>, asked_for: bool) -> Identity {
        let Work { site, options, id, kernel, conf, .. } = *work;
        let unknown = |error: &io::Error| log::info!("{id} is not kept: {error}");
        let Ok(source) = Source::of(site, id).inspect_err(unknown) else { return Identity::default() };
        let look = || {
            let looked = Inputs::of(kernel, self.headers(kernel)?, &self.notes);
            looked.inspect_err(|error| log::info!("nothing is kept for {}: {error}", kernel.target.release)).ok()
        };
        let known = self.kernels.get(&kernel.target).filter(|_| asked_for);
        let inputs = known.and_then(|known| known.inputs.get_or_init(look).as_ref());
        let recipe = Recipe { site, options, id, kernel, conf, environment };
        let key = inputs.and_then(|inputs| inputs.key(&recipe, &source).inspect_err(unknown).ok());
        Identity { key, source: Some(source), environment: environment.clone() }
    }

    /// What is to be known of a kernel's headers.
    fn headers(&self, kernel: &Kernel) -> Option<&Seen> {
        let look = || {
            let looked = Headers::of(&kernel.build_dir).and_then(|headers| headers.look(&self.notes));
            looked.inspect_err(|error| log::info!("the headers of {}: {error}", kernel.target.release)).ok()
        };
        self.kernels.get(&kernel.target)?.headers.get_or_init(look).as_ref()
    }

    /// What other machines know the result by, if they can.
    pub(super) fn origin(&self, work: &Work, identity: &Identity) -> Option<Origin> {
        let Work { site, options, id, kernel, conf, .. } = *work;
        let look = || dpkg::kernel_version(&kernel.target.release);
        let version = self.kernels.get(&kernel.target)?.version.get_or_init(look).as_ref();
        let version = version.filter(|_| options.are_everyday())?;
        let recipe = Recipe { site, options, id, kernel, conf, environment: &identity.environment };
        let origin = Origin::of(&recipe, identity.source.as_ref()?, version);
        origin.inspect_err(|error| log::info!("{id} is not for other machines: {error}")).ok()
    }

    /// Where results of a module are kept: not of one whose builds may depend on anything.
    fn store(&self, site: &Site, id: &Id) -> Option<&Store> {
        self.store.as_ref().filter(|_| !site.builds_as_root(id))
    }
}

/// The builds among the steps that cannot be spared, and the keys of what they will make, where there are any: neither the
/// store nor any other place has them. Of those that build upon others only the ones that can be done at once.
pub fn missing<'a>(site: &Site, request: &Request, steps: &'a [Step]) -> Result<Vec<(&'a Step, Option<String>)>> {
    let say = site.output.block();
    let environment = build_environment(&site.framework.build_environment, &say)?;
    let known = Known::new(site, steps)?;
    let look = |step: &'a Step| {
        let Step { id, kernel, conf, .. } = step;
        let Some(conf) = conf else { return Some(None) };
        let work = Work { site, options: &request.options, id, kernel, conf, say: &say };
        let store = known.store(site, id);
        if store.is_none() && known.places.is_none() {
            return Some(None);
        }
        let identity = known.identity(&work, &environment, true);
        let kept = store.zip(identity.key.as_ref()).is_some_and(|(store, key)| store.get(key).is_some());
        let elsewhere = |places: &Places| {
            let origin = known.origin(&work, &identity);
            places.have(Wanted { key: identity.key.as_ref(), origin: origin.as_ref(), target: &kernel.target }, &say)
        };
        let spared = kept || known.places.as_ref().is_some_and(elsewhere);
        (!spared).then_some(identity.key.filter(|_| store.is_some()))
    };
    let builds =
        |step: &&Step| matches!(step.verdict, Verdict::Build) && step.after.is_empty() && step.triggers.is_empty();
    Ok(steps.iter().filter(builds).filter_map(|step| Some((step, look(step)?))).collect())
}

impl Shared<'_> {
    /// What a build is made of, and by what its result will be known: by nothing where nobody asks for it.
    pub(super) fn identity(&self, work: &Work, environment: &BTreeMap<String, String>) -> Identity {
        let asked_for = self.store(work.id).is_some()
            || self.known.places.is_some()
            || work.options.unattended
            || work.options.planned.is_some();
        self.known.identity(work, environment, asked_for)
    }

    pub(super) fn store(&self, id: &Id) -> Option<&Store> {
        self.known.store(self.site, id)
    }

    /// Whether a build with this key failed before, and nobody waits for it to be tried again.
    pub(super) fn known_to_fail(&self, key: Option<&str>, work: &Work) -> Option<Failure> {
        let Work { site, options, id, kernel, .. } = work;
        let failure = Failure::read(&site.tree, &id.name, &kernel.target).filter(|_| options.unattended)?;
        let same = failure.id == **id && failure.inputs.contains(&of_trial(site, id, key?));
        same.then_some(failure)
    }

    /// Keeps what was made.
    pub(super) fn keep_made(&self, identity: &Identity, work: &Work, build: Build) {
        let store = self.store(work.id);
        // Also where no result is kept: what the compile cache has of it may have to go.
        let keeps = store.is_some() || self.compile_cache(work.kernel).is_some();
        if !keeps || self.is_doubtful(identity, work, &build) {
            return;
        }
        if let (Some(store), Some(key)) = (store, &identity.key) {
            let origin = self.known.origin(work, identity);
            // What cannot be kept is built again some day.
            let kept = build.into_made().and_then(|made| store.put(key, &Made { origin, ..made }));
            kept.unwrap_or_else(|error| log::warn!("{error}"));
        }
    }

    /// Whether what was made may hold what its key does not speak of.
    fn is_doubtful(&self, identity: &Identity, work: &Work, build: &Build) -> bool {
        let Work { site, options, id, kernel, conf, .. } = *work;
        let recipe = Recipe { site, options, id, kernel, conf, environment: &identity.environment };
        let compiler = kernel.toolchain().cc;
        let doubt = || -> io::Result<Option<Doubt>> {
            let mut others = Vec::new();
            for depended in recipe.depends() {
                let source = site.tree.source_link(&depended);
                others.extend([site.tree.version_dir(&depended), fs::canonicalize(&source)?]);
            }
            let places = readings::Places {
                build: [build.directory(), &site.tree.build_dir(id)],
                headers: &Headers::of(&kernel.build_dir)?,
                links: vec![kernel.build_dir.clone(), kernel.modules.join("build"), kernel.modules.join("source")],
                variables: caller::variables().into_keys().chain(identity.environment.keys().cloned()).collect(),
                others,
                tree: site.tree.root(),
                compiler: compiler.as_deref().unwrap_or("gcc"),
                symbols: identity
                    .source
                    .as_ref()
                    .is_some_and(|source| takes_symbols(&recipe, source, &caller::variables())),
                packages: identity.source.as_ref().is_some_and(|source| is_around(&recipe, source)),
            };
            // It was copied after its key was made.
            let is_another = |source: &&Source| Source::of(site, id).ok().as_ref() != Some(*source);
            let another =
                || identity.source.as_ref().filter(is_another).map(|_| Doubt::Elsewhere(site.tree.source_link(id)));
            let asks = || identity.source.as_ref().and_then(|source| source.asks.clone()).map(Doubt::Elsewhere);
            Ok(places.doubt(self.known.began)?.or_else(asks).or_else(another))
        };
        match doubt() {
            Ok(None) => false,
            Ok(Some(Doubt::Changed(file))) => {
                log::warn!("{id} is not kept: {} changed while it was built", file.display());
                // What was compiled meanwhile may be kept under what was there before.
                if let Some(cache) = self.compile_cache(kernel) {
                    cache.forget(id).unwrap_or_else(|error| log::warn!("{error}"));
                }
                true
            }
            Ok(Some(Doubt::Elsewhere(file))) => {
                log::info!("{id} is not kept: it was made with {}", file.display());
                true
            }
            Err(error) => {
                log::warn!("{id} is not kept: {error}");
                true
            }
        }
    }

    /// The compile cache of a kernel.
    pub(super) fn compile_cache(&self, kernel: &Kernel) -> Option<&CompileCache> {
        let known = &self.known;
        let seen = || known.headers(kernel);
        let look = || CompileCache::for_kernel(self.site, kernel, seen, &known.notes, known.remote.clone());
        known.kernels.get(&kernel.target)?.compile_cache.get_or_init(look).as_ref()
    }

    /// When it pays to ask the compiler what kbuild asks it before it builds a module, unless that was done.
    ///
    /// To ask takes longer than to do without the answers once, so for the first module of a kernel that is left to a core
    /// that has nothing else to do; and where there is no other module, its own answers are all it needs.
    pub(super) fn asking(&self, step: &Step, cache: &CompileCache) -> Asking {
        let target = &step.kernel.target;
        if cache.probes().is_dir() {
            return Asking::Not;
        }
        let tree = &self.site.tree;
        let alike = |other: &&Step| other.kernel.target == *target && matches!(other.verdict, Verdict::Build);
        if self.steps.iter().filter(alike).count() > 1 {
            return Asking::Beside;
        }
        let mut others = tree.all();
        others.retain(|id| *id != step.id);
        if others.iter().any(|id| tree.state(id, target) >= State::Built) {
            Asking::Before
        } else if !others.is_empty() && self.builds_left() < self.pool.at_most() {
            Asking::Beside
        } else {
            Asking::Not
        }
    }

    /// Asks once for all modules of a kernel; to be called with a job token.
    pub(super) fn ask_probes(&self, kernel: &Kernel, cache: &CompileCache) {
        let done = self.known.kernels.get(&kernel.target).is_none_or(|known| known.asked.swap(true, Ordering::Relaxed));
        if !done {
            // Every build asks for itself then.
            probes::ask(self.site, kernel, cache).unwrap_or_else(|error| log::warn!("{error}"));
        }
    }

    /// The same as a job of its own: those who wait meanwhile profit most.
    pub(super) fn ask_probes_beside(&self, kernel: &Kernel, cache: &CompileCache) {
        match self.start(self.pool.queue(Duration::MAX)) {
            Ok(_token) => self.ask_probes(kernel, cache),
            Err(error) => log::warn!("{error}"),
        }
    }

    /// What a build that ended, well or not, has for other builders.
    pub(super) fn keep_for_builders(&self, exchanges: Vec<Exchange>) {
        self.known.exchanges.lock().unwrap_or_else(PoisonError::into_inner).extend(exchanges);
    }

    /// Gives it to them, while what was built is installed.
    pub(super) fn give_to_builders(&self) {
        let exchanges = std::mem::take(&mut *self.known.exchanges.lock().unwrap_or_else(PoisonError::into_inner));
        exchanges.into_iter().for_each(Exchange::give);
    }

    /// Tells a person why nothing was shared with other builders.
    fn tell_of_remote(&self) {
        let why = self.known.remote.as_ref().and_then(|remote| remote.why_not());
        if let Some(why) = why.filter(|_| std::io::stderr().is_terminal()) {
            self.site.output.block().complain(format!("The shared compile cache {why}\n"));
        }
    }

    /// Tells a person, once and for all, what makes builds faster, and what should have and did not.
    pub(super) fn tell_of_ccache(&self) {
        self.tell_of_remote();
        let Some(note) = self.site.own_caches().map(|caches| caches.join("told-of-ccache")) else { return };
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
