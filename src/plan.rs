// SPDX-License-Identifier: GPL-2.0-or-later
//! From a wish and the state of things to steps, one for each module and kernel, in the order of their dependencies.

mod abandoned;
pub mod dependents;
mod reading;

use std::collections::BTreeSet;

use crate::error::{Doing, Error, Result, cannot};
use crate::model::conf::Conf;
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::State;
use crate::policy::Critical;
use crate::request::{Announced, Goal, Modules, Request};
use crate::steps::prepare::check_source;
use crate::system::output::Block;
use crate::system::version::compare_padded;

use reading::Reading;
pub use reading::{question, read_conf};

/// What is to be done for one module and kernel.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing: it cannot be, and this is why.
    Refused(Error),
    /// Nothing: it is in the wanted state.
    Done(State),
    /// Nothing, which is no error of the package that is being configured; these words say why.
    PassedOver(String),
    /// Install what is built already.
    Install,
    /// Build, or get what was built, and whatever the goal asks for after it.
    Build,
    /// Undo what was done, as far as the goal says.
    Undo,
    /// Take away what an upgrade left in place for a successor that will not come.
    Settle,
}

/// One module for one kernel.
#[derive(Debug)]
pub struct Step {
    /// The module.
    pub id: Id,
    /// The kernel.
    pub kernel: Kernel,
    /// Its dkms.conf for this kernel, where it could be read.
    pub conf: Option<Conf>,
    /// What is to be done.
    pub verdict: Verdict,
    /// Indices of steps that must have succeeded before.
    pub after: Vec<usize>,
    /// Indices of steps of which one must have installed something, or there is nothing to do. Empty for all that was
    /// asked for.
    pub triggers: Vec<usize>,
    /// What reading the conf brought up, to be said on standard error.
    pub remarks: Vec<u8>,
    /// How it is announced.
    pub announced: Announced,
    /// Whether the signing of this kernel's modules is to be told, even if nothing gets built.
    pub signing_told: bool,
}

impl Step {
    /// Indices of the earlier steps that have to end before this one can begin.
    pub fn awaited(&self) -> impl Iterator<Item = &usize> {
        self.after.iter().chain(&self.triggers)
    }
}

/// The steps, and what is known without doing any.
#[derive(Debug, Default)]
pub struct Plan {
    /// In the order in which they are told of.
    pub steps: Vec<Step>,
    /// Names of modules that were installed already, per kernel of the request; only of automatic plans.
    pub installed: Vec<(Target, Vec<String>)>,
    /// Modules that wait for others which no step will install; only of automatic plans.
    pub waiting: Vec<Waiting>,
    /// Registered modules whose source has gone; only of automatic plans.
    pub broken: Vec<Id>,
}

/// A module that cannot be built, for want of others.
#[derive(Debug)]
pub struct Waiting {
    /// The module.
    pub id: Id,
    /// The kernel.
    pub kernel: Kernel,
    /// Its dkms.conf for this kernel, where it could be read.
    pub conf: Option<Conf>,
    /// The names it waits for.
    pub missing: Vec<String>,
    /// Whether nobody here has ever heard of any of them: another package may bring them yet.
    pub unknown: bool,
}

impl Plan {
    /// Makes the plan for a request. What is wrong with single modules is in their steps; an error where there may be more
    /// than could be seen.
    pub fn make(site: &Site, request: &Request, say: &Block) -> Result<Self> {
        let plan = Self::work_out(site, request, say)?;
        site.tree.check_listed().doing(cannot("list", site.tree.root()))?;
        Ok(plan)
    }

    fn work_out(site: &Site, request: &Request, say: &Block) -> Result<Self> {
        let mut plan = Self::default();
        if request.goal.undoes() {
            plan.removal(site, request, say);
            return Ok(plan);
        }
        if let Modules::Automatic = request.modules {
            let (newest, broken) = newest_versions(site);
            for id in &broken {
                say.error(&format!(
                    "{id} is broken! Missing the source directory or the symbolic link pointing to it.\nManual intervention \
                     is required!"
                ));
            }
            plan.broken = broken;
            for target in &request.targets {
                plan.automatic(site, request, target, &newest)?;
            }
            return Ok(plan);
        }
        for target in &request.targets {
            let first = plan.steps.len();
            plan.named(site, request, target);
            plan.add_dependents(site, request, target, first);
        }
        Ok(plan)
    }

    /// Adds the modules that were named. What is done already needs no dkms.conf.
    fn named(&mut self, site: &Site, request: &Request, target: &Target) {
        let options = &request.options;
        let enough = if request.goal == Goal::Built { State::Built } else { State::Installed };
        let done = |id: &Id| site.tree.state(id, target) >= enough && !options.force;
        let ids = named(site, request, target);
        let built = ids.iter().all(|id| site.tree.state(id, target) >= State::Built);
        let words = match request.announced {
            Announced::Initial => passed_over(&Kernel::new(site, target, None, None), built || site.fetches()),
            _ => None,
        };
        let read: Vec<Id> = ids.iter().filter(|id| words.is_none() && !done(id)).cloned().collect();
        let mut readings = Reading::all_for(site, options, &read, target).into_iter();
        for id in ids {
            let verdict = match &words {
                Some(words) => Verdict::PassedOver(words.clone()),
                None if done(&id) => Verdict::Done(enough),
                None => {
                    self.steps.extend(readings.next().map(|reading| reading.into_step(site, request, &id)));
                    continue;
                }
            };
            let kernel = Kernel::new(site, target, options.headers.as_deref(), options.config.as_deref());
            self.steps.push(Step::new(request, &id, kernel, verdict));
        }
    }

    /// Adds what is to be taken away. What was built is what counts: no dkms.conf is needed.
    fn removal(&mut self, site: &Site, request: &Request, say: &Block) {
        let options = &request.options;
        let on = |target: &Target| named(site, request, target).into_iter().map(|id| (id, target.clone())).collect();
        let present: Vec<(Id, Target)> = request.targets.iter().flat_map(|target| -> Vec<_> { on(target) }).collect();
        for ((id, _), Reading { kernel, conf }) in present.iter().zip(Reading::all(site, options, &present)) {
            let conf = conf.unwrap_or_default();
            if matches!(request.modules, Modules::Present { automatic: true }) && !conf.autoinstall() {
                continue;
            }
            let remarks = conf.noise.clone();
            let step = Step::new(request, id, kernel, Verdict::Undo);
            self.steps.push(Step { conf: Some(conf), remarks, ..step });
        }
        for (name, target) in leftovers(site, request, say) {
            let kernel = Kernel::new(site, &target, options.headers.as_deref(), options.config.as_deref());
            let step = Step::new(request, &Id::new(name, ""), kernel, Verdict::Settle);
            self.steps.push(Step { conf: Some(Conf::default()), announced: Announced::Not, ..step });
        }
    }

    /// Adds what is missing on one kernel, dependencies first.
    fn automatic(&mut self, site: &Site, request: &Request, target: &Target, newest: &[Id]) -> Result<()> {
        let known: BTreeSet<&str> = newest.iter().map(|id| id.name.as_str()).collect();
        let installed = |id: &&Id| site.tree.state(id, target) == State::Installed;
        let installed: Vec<String> = newest.iter().filter(installed).map(|id| id.name.clone()).collect();
        let missing = missing(site, &request.options, target, newest);
        let mut waiting: Vec<(&Id, Vec<String>, Reading)> = missing
            .into_iter()
            .map(|(id, reading)| (id, reading.conf.as_ref().map(Conf::depends).unwrap_or_default(), reading))
            .collect();
        // Rounds: whoever waits for nobody goes, until nobody can.
        let first = self.steps.len();
        loop {
            let placed: Vec<(usize, String)> =
                self.steps.iter().enumerate().skip(first).map(|(index, step)| (index, step.id.name.clone())).collect();
            let met = |name: &String| installed.contains(name) || placed.iter().any(|(_, done)| done == name);
            let (ready, rest): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(_, depends, _)| depends.iter().all(&met));
            let progress = !ready.is_empty();
            for (id, depends, reading) in ready {
                let after = placed.iter().filter(|(_, name)| depends.contains(name)).map(|(index, _)| *index).collect();
                let mut step = reading.into_step(site, request, id);
                step.after = after;
                step.signing_told = site.tree.state(id, target) == State::Added;
                self.steps.push(step);
            }
            waiting = rest;
            if !progress {
                break;
            }
        }
        // What waits for others waits for no headers.
        if let Some(step) = self.steps.get(first).filter(|_| !site.fetches()) {
            step.kernel.need_headers()?;
        }
        for (id, depends, reading) in waiting {
            let placed = |name: &String| self.steps[first..].iter().any(|step| step.id.name == *name);
            let missing: Vec<String> =
                depends.into_iter().filter(|name| !installed.contains(name) && !placed(name)).collect();
            let unknown = missing.iter().all(|name| !known.contains(name.as_str()));
            let conf = reading.conf.ok();
            self.waiting.push(Waiting { id: id.clone(), kernel: reading.kernel, conf, missing, unknown });
        }
        self.installed.push((target.clone(), installed));
        self.add_dependents(site, request, target, first);
        Ok(())
    }
}

impl Step {
    fn new(request: &Request, id: &Id, kernel: Kernel, verdict: Verdict) -> Self {
        Self {
            id: id.clone(),
            kernel,
            conf: None,
            verdict,
            after: Vec::new(),
            triggers: Vec::new(),
            remarks: Vec::new(),
            announced: request.announced,
            signing_told: false,
        }
    }
}

/// What is said of a conf whenever it is read to do something: bash's words, deprecated directives, problems.
pub fn remarks_on(conf: &Conf, file: &str, action: &str) -> Vec<u8> {
    let mut remarks = conf.noise.clone();
    let mut add = |line: String| remarks.extend_from_slice(format!("{line}\n").as_bytes());
    // Who named the module can do something about it; a kernel's hook cannot.
    if matches!(action, "add" | "build" | "install") {
        for name in conf.deprecated() {
            add(format!("Deprecated feature: {name} ({file})"));
        }
        if !conf.get("OBSOLETE_BY").is_empty() {
            add(format!("Deprecated feature: OBSOLETE_BY ({file}): use BUILD_EXCLUSIVE_KERNEL_MAX instead"));
        }
    }
    if conf.modules.is_empty() && conf.problems.is_empty() {
        add("dkms.conf: Warning! Zero modules specified.".into());
    }
    for problem in conf.problems.iter().chain(&conf.duplicates()) {
        add(problem.clone());
    }
    remarks
}

/// The modules that are meant on one kernel, where that is not worked out from what they depend on.
fn named(site: &Site, request: &Request, target: &Target) -> Vec<Id> {
    match &request.modules {
        Modules::Named(ids) => ids.clone(),
        Modules::Present { .. } => site.tree.present(target),
        Modules::Automatic | Modules::Left(_) => Vec::new(),
    }
}

/// Modules, each for a kernel, whose files an upgrade left in place and that nothing will come for after this request.
fn leftovers(site: &Site, request: &Request, say: &Block) -> Vec<(String, Target)> {
    let tree = &site.tree;
    let mut left = Vec::new();
    match &request.modules {
        _ if request.options.supersede => {}
        Modules::Left(left_in_place) => left = abandoned::find(site, &request.options, left_in_place, say),
        Modules::Present { .. } => {
            for target in &request.targets {
                let present = tree.present(target);
                let mut names = tree.superseded_on(target);
                names.retain(|name| !present.iter().any(|id| id.name == *name));
                left.extend(names.into_iter().map(|name| (name, target.clone())));
            }
        }
        Modules::Named(ids) if request.goal == Goal::Absent => {
            for id in ids.iter().filter(|id| tree.versions(&id.name).iter().all(|other| other == *id)) {
                let mut targets = tree.superseded(&id.name);
                targets.retain(|target| !request.targets.contains(target));
                left.extend(targets.into_iter().map(|target| (id.name.clone(), target)));
            }
        }
        _ => {}
    }
    left
}

/// Why a package that is being configured does not build for a kernel. What is built elsewhere takes no headers.
fn passed_over(kernel: &Kernel, elsewhere: bool) -> Option<String> {
    let release = &kernel.target.release;
    if release.contains("BOOT") {
        return Some(format!("Module build and install for {release} was skipped as \nit is a BOOT variant"));
    }
    let words = "was skipped since the\nkernel headers for this kernel do not seem to be installed.";
    (!elsewhere && !kernel.has_headers()).then(|| format!("Module build for kernel {release} {words}"))
}

/// The checks before a build, in the order in which they are made.
fn judge(
    site: &Site,
    request: &Request,
    id: &Id,
    kernel: &Kernel,
    conf: &Conf,
    remarks: &mut Vec<u8>,
) -> Result<Verdict> {
    if !conf.problems.is_empty() || !conf.duplicates().is_empty() {
        return Err(Error::BadConf(
            request.options.conf.as_ref().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default(),
        ));
    }
    let state = site.tree.state(id, &kernel.target);
    if request.goal == Goal::Installed && state >= State::Built {
        return Ok(Verdict::Install);
    }
    kernel.check_config()?;
    if conf.included(kernel).is_none() {
        let place = site.tree.built_dir(id, &kernel.target).join("dkms.conf");
        remarks.extend_from_slice(
            format!(
                "Warning: The {}\nfor module {id} includes BUILD_EXCLUSIVE directives\nwhich do not match this \
                 kernel/arch/config for any modules.\nThis indicates that it should not be built.\n",
                place.display()
            )
            .as_bytes(),
        );
        return Err(Error::Excluded { id: id.to_string(), kernel: kernel.target.to_string() });
    }
    can_be_built(site, id, kernel)?;
    Ok(Verdict::Build)
}

/// Whether a build can be tried, or its result perhaps be had without.
fn can_be_built(site: &Site, id: &Id, kernel: &Kernel) -> Result<()> {
    check_source(&site.tree.source_link(id))?;
    if site.fetches() { Ok(()) } else { kernel.need_headers() }
}

/// What an automatic installation would have to do for one kernel, whether or not it can: modules, and each one's
/// dkms.conf where it could be read.
pub fn wanted(site: &Site, options: &Options, target: &Target) -> Vec<(Id, Option<Conf>)> {
    let (newest, _) = newest_versions(site);
    let missing = missing(site, options, target, &newest);
    missing.into_iter().map(|(id, reading)| (id.clone(), reading.conf.ok())).collect()
}

/// Those of the modules that want to be installed by themselves and are not installed for a kernel.
fn missing<'a>(site: &Site, options: &Options, target: &Target, newest: &'a [Id]) -> Vec<(&'a Id, Reading)> {
    let missing: Vec<&Id> = newest.iter().filter(|id| site.tree.state(id, target) != State::Installed).collect();
    let ids: Vec<Id> = missing.iter().map(|id| (*id).clone()).collect();
    let readings = Reading::all_for(site, options, &ids, target);
    // What the machine shall not boot without is installed before it does, whatever its package thinks of that.
    let critical = Critical::of(site);
    let critical = |id: &Id, conf: &Conf| options.unattended && critical.wants(id, conf, target);
    let wants = |(id, reading): &(&Id, Reading)| {
        reading.conf.as_ref().map_or(true, |conf| conf.autoinstall() || critical(id, conf))
    };
    missing.into_iter().zip(readings).filter(wants).collect()
}

/// The newest version of each registered module, and those that are broken, which do not count.
fn newest_versions(site: &Site) -> (Vec<Id>, Vec<Id>) {
    let (broken, sound): (Vec<Id>, Vec<Id>) = site.tree.all().into_iter().partition(|id| site.tree.is_broken(id));
    let mut newest: Vec<Id> = Vec::new();
    for id in sound {
        match newest.iter_mut().find(|other| other.name == id.name) {
            Some(other) if compare_padded(&id.version, &other.version).is_gt() => *other = id,
            Some(_) => {}
            None => newest.push(id),
        }
    }
    (newest, broken)
}
