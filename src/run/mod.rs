// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs a plan: builds side by side, on one pool of job tokens; what they made is committed in plan order.

mod build;
mod committing;
mod finish;
mod had;
mod known;
mod order;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

pub use known::missing;

use build::{Build, build_environment};
use known::{Asking, Known};
use order::Times;

use crate::error::{Error, Result};
use crate::model::failures::Failure;
use crate::model::history::History;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::model::tree::State;
use crate::plan::{Plan, Step, Verdict};
use crate::request::{Announced, Request};
use crate::steps::Work;
use crate::steps::prepare::Workshop;
use crate::steps::sign::Signing;
use crate::system::memory::Gauge;
use crate::system::output::Block;
use crate::system::sandbox::Isolation;
use crate::system::tokens::{JobToken, Place, Pool};

/// How a step ended.
#[derive(Debug)]
pub struct Outcome {
    /// The module.
    pub id: Id,
    /// The kernel.
    pub target: Target,
    /// Whether it is in the wanted state now; the error was told already.
    pub result: Result<()>,
    /// What is to be noted of an error, where nobody waits for it to be mended.
    pub failure: Option<Failure>,
}

/// What a worker made of a step.
struct Made {
    workshop: Workshop,
    /// An error before the modules were complete.
    build: Result<()>,
    /// POST_BUILD's, which leaves the modules built.
    after: Result<()>,
}

enum Progress {
    Waiting,
    Running,
    Made(Box<Result<Made>>),
    /// Whoever builds upon it can be tried if it `succeeded`; `installed` if it is in place now and was not before.
    Committed {
        succeeded: bool,
        installed: bool,
    },
}

impl Progress {
    fn has_ended(&self) -> bool {
        matches!(self, Self::Committed { .. })
    }

    fn has_failed(&self) -> bool {
        matches!(self, Self::Committed { succeeded: false, .. })
    }
}

/// Which turns a module's builds take that have no view of their own.
#[derive(Default)]
struct Turns {
    /// Those of one module, at its place in the tree; whoever puts there what came of one takes these, too.
    place: Mutex<()>,
    /// Those that are one user's, for he may do to the others whatever he may do to himself.
    user: Option<Arc<Mutex<()>>>,
}

struct Shared<'a> {
    site: &'a Site,
    request: &'a Request,
    steps: &'a [Step],
    blocks: &'a [Block],
    signing: HashMap<Target, Signing>,
    known: Known,
    pool: Pool,
    times: Times,
    began: Mutex<Vec<Option<Instant>>>,
    /// The keys of the builds, as far as they are known.
    keys: Mutex<Vec<Option<String>>>,
    /// How long builds take, of which these are some.
    history: Mutex<History>,
    progress: Mutex<Vec<Progress>>,
    changed: Condvar,
    turns: HashMap<&'a Id, Turns>,
}

/// Runs all steps. Nothing a single step does stops the others.
pub fn run(site: &Site, request: &Request, plan: &Plan) -> Result<Vec<Outcome>> {
    let steps = plan.steps.as_slice();
    let blocks: Vec<Block> = steps.iter().map(|_| site.output.block()).collect();
    let mut signing = HashMap::new();
    for step in steps.iter().filter(|step| matches!(step.verdict, Verdict::Build) || step.signing_told) {
        if !signing.contains_key(&step.kernel.target) {
            signing.insert(step.kernel.target.clone(), Signing::decide(site, &step.kernel)?);
        }
    }
    // Who is not root uses no cache of the system.
    let history = site.own_caches().map(History::load).unwrap_or_default();
    let jobs = site.framework.parallel_jobs;
    let shared = Shared {
        site,
        request,
        steps,
        blocks: &blocks,
        signing,
        known: Known::new(site, steps)?,
        pool: Pool::new(jobs, Some(Gauge::new(&site.paths))),
        times: Times::of(site, steps, &history),
        began: Mutex::new(vec![None; steps.len()]),
        keys: Mutex::new(vec![None; steps.len()]),
        history: Mutex::new(history),
        progress: Mutex::new(steps.iter().map(|_| Progress::Waiting).collect()),
        changed: Condvar::new(),
        turns: turns(site, steps),
    };
    let builds = steps.iter().filter(|step| matches!(step.verdict, Verdict::Build)).count();
    if builds > 0 && site.root && Isolation::available() == Isolation::None {
        blocks[0].warn("Builds cannot be kept apart from this system: it allows neither namespaces nor Landlock.");
    }
    let _watch = site.output.watch(builds);
    // One more than there are tokens: it makes the next workshop ready while the others compile.
    let workers = match jobs {
        0 => builds,
        1 => builds.min(1),
        jobs => builds.min(jobs.saturating_add(1)),
    };
    let outcomes = thread::scope(|scope| {
        for number in 0..workers {
            match thread::Builder::new().spawn_scoped(scope, || shared.work()) {
                Ok(_) => {}
                Err(source) if number == 0 => {
                    return Err(Error::Io { what: "Cannot start a thread to build in".into(), source });
                }
                // Fewer do it too.
                Err(_) => break,
            }
        }
        // Who builds upon what is committed would wait for ever.
        catch_unwind(AssertUnwindSafe(|| shared.commit_all())).unwrap_or_else(|panic| {
            let steps = 0..shared.steps.len();
            steps.for_each(|index| shared.set(index, Progress::Committed { succeeded: false, installed: false }));
            resume_unwind(panic)
        })
    });
    shared.remember();
    if builds > 0 {
        shared.tell_of_ccache();
    }
    outcomes
}

fn turns<'a>(site: &Site, steps: &'a [Step]) -> HashMap<&'a Id, Turns> {
    let user = Arc::default();
    let mut turns = HashMap::new();
    let builds = steps.iter().filter(|step| matches!(step.verdict, Verdict::Build)).map(|step| &step.id);
    for id in builds.filter(|id| site.isolation_of(id) != Isolation::Namespaces) {
        let user = (site.root && !site.builds_as_root(id)).then(|| Arc::clone(&user));
        turns.entry(id).or_insert_with(|| Turns { user, ..Turns::default() });
    }
    turns
}

/// Whether a step was asked for, or one has installed something for whose sake it is.
fn is_triggered(step: &Step, progress: &[Progress]) -> bool {
    let ended = |&i: &usize| progress[i].has_ended();
    let installed = |&i: &usize| matches!(progress[i], Progress::Committed { installed: true, .. });
    step.triggers.is_empty() || (step.triggers.iter().all(ended) && step.triggers.iter().any(installed))
}

impl Shared<'_> {
    fn lock(&self) -> MutexGuard<'_, Vec<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, index: usize, progress: Progress) {
        self.lock()[index] = progress;
        self.changed.notify_all();
        self.show_total();
    }

    /// Tells a person who watches how far all of it is.
    fn show_total(&self) {
        let progress = self.lock();
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut done = 0;
        let mut left = Vec::new();
        for index in (0..self.steps.len()).filter(|&index| matches!(self.steps[index].verdict, Verdict::Build)) {
            match progress[index] {
                Progress::Committed { .. } | Progress::Made(_) => done += 1,
                Progress::Waiting | Progress::Running => {
                    let gone = began[index].map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
                    left.push(self.times.known[index].map(|time| time.saturating_sub(gone)));
                }
            }
        }
        self.site.output.total(done, order::left(&left, self.pool.at_most()));
    }

    /// Builds that have not ended.
    fn builds_left(&self) -> usize {
        let progress = self.lock();
        let left = |progress: &Progress| matches!(progress, Progress::Waiting | Progress::Running);
        let builds = |step: &Step| matches!(step.verdict, Verdict::Build);
        self.steps.iter().zip(&*progress).filter(|(step, progress)| builds(step) && left(progress)).count()
    }

    /// Keeps for the next time how long the builds took.
    fn remember(&self) {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = history.save() {
            log::warn!("build times: {error}");
        }
    }

    /// A worker: builds what is most urgent of the steps that can be built, until none is left.
    fn work(&self) {
        while let Some((index, place)) = self.next() {
            let step = &self.steps[index];
            let made = catch_unwind(AssertUnwindSafe(|| self.build(index, place)));
            let made = made.unwrap_or_else(|_| {
                let source = std::io::Error::other("a defect of dkms-rs; please report it");
                Err(Error::Io { what: format!("The build of {} was given up", step.id), source })
            });
            self.blocks[index].rest();
            self.set(index, Progress::Made(Box::new(made)));
            self.give_to_builders();
        }
    }

    /// The next step to build, with its place in the queue for tokens; waits while steps that others depend on are under
    /// way.
    fn next(&self) -> Option<(usize, Place)> {
        let mut progress = self.lock();
        loop {
            let mut left = false;
            let mut earlier_committed = true;
            let mut most_urgent = None;
            for (index, step) in self.steps.iter().enumerate() {
                if matches!(step.verdict, Verdict::Build) && matches!(progress[index], Progress::Waiting) {
                    left = true;
                    let met =
                        step.after.iter().all(|&i| matches!(progress[i], Progress::Committed { succeeded: true, .. }))
                            && is_triggered(step, &progress)
                            && !self.is_in_use(&step.id);
                    // One job at a time is one thing after the other, installations included.
                    if met && (self.site.framework.parallel_jobs != 1 || earlier_committed) {
                        // The first of those that are equally urgent.
                        let urgency = self.times.urgency[index];
                        if most_urgent.is_none_or(|(most, _)| urgency > most) {
                            most_urgent = Some((urgency, index));
                        }
                    }
                }
                earlier_committed &= progress[index].has_ended();
            }
            if let Some((urgency, index)) = most_urgent {
                progress[index] = Progress::Running;
                return Some((index, self.pool.queue(urgency)));
            }
            if !left {
                return None;
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work_on<'a>(&'a self, step: &'a Step, say: &'a Block) -> Option<Work<'a>> {
        let conf = step.conf.as_ref()?;
        Some(Work { site: self.site, options: &self.request.options, id: &step.id, kernel: &step.kernel, conf, say })
    }

    fn build(&self, index: usize, place: Place) -> Result<Made> {
        let (step, say) = (&self.steps[index], &self.blocks[index]);
        self.announce(step, say);
        let Some(work) = self.work_on(step, say) else {
            return Err(Error::silent(1));
        };
        if step.announced == Announced::Dependent {
            crate::steps::dependents::tell_removal(&work);
        }
        self.tell_signing(step, say);
        self.check_depends(&work)?;
        let environment = build_environment(&self.site.framework.build_environment, say)?;
        let default = Signing::default();
        let signing = self.signing.get(&step.kernel.target).unwrap_or(&default);
        let identity = self.identity(&work, &environment);
        let (key, trial) = (&identity.key, identity.trial());
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)[index].clone_from(&trial);
        if work.options.planned.is_some() && step.triggers.is_empty() && work.options.planned != *key {
            return Err(Error::OtherJob { id: step.id.to_string(), kernel: step.kernel.target.to_string() });
        }
        // Who waits for others' results, or for its turn, keeps nobody from a token.
        let place = Some(place).filter(|_| self.known.places.is_none() && !self.turns.contains_key(&step.id));
        let had = self.had(&identity, &work)?;
        if had.is_none() {
            step.kernel.need_headers()?;
            if let Some(failure) = self.known_to_fail(trial.as_deref(), &work) {
                let error = Error::FailedBefore { code: failure.code };
                say.say(format!("Not built again. {error}"));
                return Err(error);
            }
        }
        let _turn = self.turn(&step.id);
        let place = place.unwrap_or_else(|| self.pool.queue(self.times.urgency[index]));
        let mut workshop = Workshop::set_up(&work)?;
        if let Some(made) = had {
            let build = finish::again(&work, &workshop, &made, signing, &self.start(place)?);
            return Ok(Made { workshop, build, after: Ok(()) });
        }
        // Files are copied while others compile.
        workshop.fill(&work)?;
        let cache = self.compile_cache(&step.kernel).filter(|_| !self.site.builds_as_root(&step.id));
        let token = self.start(place)?;
        say.begin(&step.id.to_string(), &step.kernel.target.release, "beginning");
        let started = Instant::now();
        self.began.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(started);
        self.show_total();
        let (build, after) = thread::scope(|scope| {
            let token = token;
            if let Some(cache) = cache {
                match self.asking(step, cache) {
                    Asking::Beside => {
                        // They are asked by kbuild where there can be no thread.
                        let ask = || self.ask_probes_beside(&step.kernel, cache);
                        let _ = thread::Builder::new().spawn_scoped(scope, ask);
                    }
                    Asking::Before => self.ask_probes(&step.kernel, cache),
                    Asking::Not => {}
                }
            }
            let spares = identity.leaves_options(&work);
            let build = Build::new(work, &workshop, &token, environment, cache, spares)?;
            let built = build.run(signing);
            let after = if built.is_ok() { build.post_build() } else { Ok(()) };
            self.keep_for_builders(build.take_exchanges());
            if built.is_ok() && after.is_ok() {
                self.keep_made(&identity, &work, build);
            }
            // Here, for the probes may be waiting for it.
            drop(token);
            Ok::<_, Error>((built, after))
        })
        .unwrap_or_else(|error| (Err(error), Ok(())));
        if build.is_ok() {
            let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.note(&step.id, &step.kernel.target, started.elapsed());
        }
        workshop.take_aside()?;
        Ok(Made { workshop, build, after })
    }

    /// The token for a job.
    fn start(&self, place: Place) -> Result<JobToken> {
        place.start().map_err(|source| Error::Io { what: "Cannot get a job token".into(), source })
    }

    /// Waits for a build's turn, which lasts as long as what this gives.
    fn turn(&self, id: &Id) -> Option<(Option<MutexGuard<'_, ()>>, MutexGuard<'_, ()>)> {
        let lock = |turns| Mutex::lock(turns).unwrap_or_else(PoisonError::into_inner);
        self.turns.get(id).map(|turns| (turns.user.as_deref().map(lock), lock(&turns.place)))
    }

    /// Whether it is another build's turn now.
    fn is_in_use(&self, id: &Id) -> bool {
        let is_taken = |turns: &Mutex<()>| matches!(turns.try_lock(), Err(TryLockError::WouldBlock));
        self.turns.get(id).is_some_and(|turns| is_taken(&turns.place) || turns.user.as_deref().is_some_and(is_taken))
    }

    /// BUILD_DEPENDS, names or patterns of them, must be installed for this kernel.
    fn check_depends(&self, work: &Work) -> Result<()> {
        let (tree, target) = (&self.site.tree, &work.kernel.target);
        let built = |id: &Id| tree.state(id, target) >= State::Built && tree.link(&id.name, target).exists();
        let installed = |name: &str| tree.called(name).iter().any(built);
        let missing: Vec<String> = work.conf.depends().into_iter().filter(|name| !installed(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(" ");
        if !self.request.options.force {
            return Err(Error::MissingDepends { id: work.id.to_string(), kernel: target.to_string(), missing });
        }
        work.say.warn(format!(
            "Trying to build module {} for kernel {target} despite of missing BUILD_DEPENDS: {missing}.",
            work.id
        ));
        Ok(())
    }
}
