// SPDX-License-Identifier: GPL-2.0-or-later
//! What the builds made becomes the state of things, in the order of the plan but for what others wait for, and is told in
//! that order.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::PoisonError;

use super::{Made, Outcome, Progress, Shared, is_triggered};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::model::failures::Failure;
use crate::model::inputs::of_trial;
use crate::model::tree::State;
use crate::plan::{Step, Verdict};
use crate::request::{Announced, Goal, Modules};
use crate::steps::post_transaction::Transaction;
use crate::steps::{Work, apport};
use crate::system::output::Block;

impl Shared<'_> {
    /// Whether nothing was installed for whose sake a step was planned; those steps were committed.
    fn is_idle(&self, step: &Step) -> bool {
        !is_triggered(step, &self.lock())
    }

    pub(super) fn announce(&self, step: &Step, say: &Block) {
        if step.signing_told {
            self.tell_signing(step, say);
        }
        match step.announced {
            Announced::Not | Announced::Apart | Announced::Closed => {}
            Announced::Going | Announced::Replaced => {
                say.complain(format!("dkms: removing module {} for kernel {}\n", step.id, step.kernel.target))
            }
            Announced::Automatic => {
                say.say(format!("Autoinstall of module {} for kernel {}", step.id, step.kernel.target))
            }
            // What came built needs no words but those of its installation.
            Announced::Initial if matches!(step.verdict, Verdict::Install) => say.say(""),
            Announced::Initial => {
                say.say(format!("\nBuilding initial module {} for {}", step.id, step.kernel.target.release))
            }
            Announced::Dependent => {
                crate::plan::dependents::announce(&step.id, self.request.announced != Announced::Automatic, say);
            }
            Announced::Matching => say.say(format!("Module:  {}\nVersion: {}", step.id.name, step.id.version)),
        }
        say.complain(&step.remarks);
    }

    pub(super) fn tell_signing(&self, step: &Step, say: &Block) {
        let target = &step.kernel.target;
        if let Some(signing) = self.signing.get(target) {
            say.once(&format!("signing for {target}"), &signing.prologue);
        }
    }

    /// Whether an empty line ends what is said of a step.
    fn is_closed(&self, step: &Step) -> bool {
        let closed = matches!(self.request.announced, Announced::Automatic | Announced::Closed | Announced::Going);
        closed && !matches!(step.verdict, Verdict::Settle)
    }

    /// Whether all is there for a step to be committed. A build that cannot be tried is as ready as one that ended.
    fn is_ready(&self, index: usize, progress: &[Progress]) -> bool {
        let step = &self.steps[index];
        step.awaited().all(|&earlier| progress[earlier].has_ended())
            && (!matches!(step.verdict, Verdict::Build)
                || matches!(progress[index], Progress::Made(_))
                || step.after.iter().any(|&earlier| progress[earlier].has_failed())
                || !is_triggered(step, progress))
    }

    /// Waits for the next of the steps that are `left`: the first, or one that is `awaited`, lest whoever waits for it waits
    /// for a long build before it as well. What is of one module keeps its order, for it has one place.
    fn next_ready(&self, left: &VecDeque<usize>, awaited: &HashSet<usize>) -> usize {
        let name = |index: usize| &self.steps[index].id.name;
        let is_first_of_its_name = |at: usize| left.range(..at).all(|&earlier| name(earlier) != name(left[at]));
        let mut progress = self.lock();
        loop {
            let is_next = |&at: &usize| {
                (at == 0 || awaited.contains(&left[at]) && is_first_of_its_name(at))
                    && self.is_ready(left[at], &progress)
            };
            if let Some(at) = (0..left.len()).find(is_next) {
                return at;
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Commits all steps, each as soon as it can be.
    pub(super) fn commit_all(&self) -> Result<Vec<Outcome>> {
        let mut commit = Commit::new(self.site, &self.request.options);
        let mut outcomes = BTreeMap::new();
        let mut unfinished = Vec::new();
        let mut transactions = BTreeMap::new();
        let awaited: HashSet<usize> = self.steps.iter().flat_map(Step::awaited).copied().collect();
        let mut left: VecDeque<usize> = (0..self.steps.len()).collect();
        while !left.is_empty() {
            let Some(index) = left.remove(self.next_ready(&left, &awaited)) else { break };
            let (step, say) = (&self.steps[index], &self.blocks[index]);
            let release = &step.kernel.target.release;
            let last = !left.iter().any(|&other| self.steps[other].kernel.target.release == *release);
            let idle = self.is_idle(step);
            let result = if idle { Err(Error::silent(0)) } else { self.commit(index, step, say, &mut commit) };
            if result.is_ok() && matches!(step.verdict, Verdict::Build | Verdict::Install) {
                commit.forget_failure(&step.id.name, &step.kernel.target);
            }
            // Now, as the next build for another kernel takes the place of this one's log.
            let failure = result.as_ref().err().and_then(|error| self.failure(index, step, error));
            let stranded = matches!(result, Err(Error::Stranded { .. }));
            if let Some(error) = result.as_ref().err().filter(|error| !error.is_said()) {
                say.error(error);
            }
            if self.is_closed(step) && !stranded && !idle {
                say.say("");
            }
            if result.is_ok() && step.announced == Announced::Initial {
                transactions.insert(release, step);
            }
            if last {
                say.phase("running depmod");
                if !commit.finish(release, result.is_err(), say) {
                    unfinished.push(release);
                } else if let Some(Step { id, kernel, .. }) = transactions.remove(release) {
                    // A package's script has each kernel for itself.
                    Transaction { action: "install", id: Some(id), target: Some(&kernel.target) }.end(self.site, say);
                }
            }
            say.end();
            // Whoever builds upon a module that is not meant for this kernel is tried, and says what it lacks.
            let succeeded = result.as_ref().map_or_else(|error| error.code() == 77, |()| true);
            let installed = result.is_ok() && !matches!(step.verdict, Verdict::Done(_));
            self.set(index, Progress::Committed { succeeded, installed });
            if idle {
                continue;
            }
            outcomes
                .insert(index, Outcome { id: step.id.clone(), target: step.kernel.target.clone(), result, failure });
        }
        let mut outcomes: Vec<Outcome> = outcomes.into_values().collect();
        // That was told, and has never been an error; but who comes back to it must know.
        for outcome in outcomes.iter_mut().filter(|outcome| self.request.options.unattended && outcome.result.is_ok()) {
            let (id, target) = (&outcome.id, &outcome.target);
            if let Some(why) = commit.why_stuck(&target.release).filter(|_| self.site.tree.is_unfinished(id, target)) {
                let error = Error::NotFound(why.to_owned());
                outcome.failure = Some(Failure::new(self.site, id, target, &error, None));
            }
        }
        let of_these = |outcome: &&mut Outcome| outcome.result.is_ok() && unfinished.contains(&&outcome.target.release);
        outcomes.iter_mut().filter(of_these).for_each(|outcome| outcome.result = Err(Error::silent(1)));
        let gone = self.request.goal == Goal::Absent && outcomes.iter().all(|outcome| outcome.result.is_ok());
        if let (true, Modules::Named(ids)) = (gone, &self.request.modules) {
            for id in ids {
                commit.forget(id, &self.site.output.block())?;
            }
        }
        Ok(outcomes)
    }

    /// What is to be noted of a step that failed, where nobody waits for it.
    fn failure(&self, index: usize, step: &Step, error: &Error) -> Option<Failure> {
        if !self.request.options.unattended {
            return None;
        }
        let (id, target) = (&step.id, &step.kernel.target);
        if let Error::FailedBefore { .. } = error {
            return Failure::read(&self.site.tree, &id.name, target);
        }
        let error = match &step.verdict {
            Verdict::Refused(error) => error,
            _ => error,
        };
        let key = self.keys.lock().unwrap_or_else(PoisonError::into_inner)[index].clone();
        Some(Failure::new(self.site, id, target, error, key.map(|key| of_trial(self.site, id, &key))))
    }

    /// Names of the modules this step depends on that failed.
    fn failed_before(&self, step: &Step) -> Vec<String> {
        let progress = self.lock();
        step.after
            .iter()
            .filter(|&&earlier| progress[earlier].has_failed())
            .map(|&index| self.steps[index].id.name.clone())
            .collect()
    }

    fn commit(&self, index: usize, step: &Step, say: &Block, commit: &mut Commit) -> Result<()> {
        let missing = self.failed_before(step);
        if !missing.is_empty() {
            return Err(Error::Stranded { missing });
        }
        match &step.verdict {
            Verdict::Refused(error) => {
                self.announce(step, say);
                if !error.is_said() {
                    say.error(error);
                }
                Err(error.said())
            }
            Verdict::Done(state) => {
                if step.announced == Announced::Matching {
                    self.announce(step, say);
                }
                let (verb, place) = if *state == State::Installed { ("installed", "on") } else { ("built", "for") };
                say.say(format!(
                    "Module {} already {verb} {place} kernel {}, skip. You may override by specifying --force.",
                    step.id, step.kernel.target
                ));
                Ok(())
            }
            Verdict::PassedOver(words) => {
                say.say(format!("\n{words}"));
                Ok(())
            }
            Verdict::Install => {
                self.announce(step, say);
                self.install(step, say, commit)
            }
            Verdict::Undo | Verdict::Settle => {
                if step.announced == Announced::Apart && index > 0 {
                    say.say("");
                }
                self.announce(step, say);
                let work = self.work_on(step, say).ok_or(Error::silent(1))?;
                if matches!(step.verdict, Verdict::Settle) {
                    // Whoever removed it has said so.
                    let quiet = self.site.output.errors_only_block();
                    let by_itself = matches!(self.request.modules, Modules::Left(_));
                    return commit.forget_superseded(&Work { say: if by_itself { &quiet } else { say }, ..work });
                }
                commit.undo(&work, self.request.goal)
            }
            Verdict::Build => {
                let work = self.work_on(step, say).ok_or(Error::silent(1))?;
                self.wait_for(index).and_then(|made| self.keep(made, &work))?;
                if self.request.goal == Goal::Installed {
                    say.begin(&work.id.to_string(), &work.kernel.target.release, "installing");
                }
                match self.request.goal {
                    Goal::Installed if step.announced == Announced::Dependent => commit.replace(&work),
                    Goal::Installed => self.install(step, say, commit),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Makes what was built the state of things; of a build that failed, what helps to find out why.
    fn keep(&self, made: Made, work: &Work) -> Result<()> {
        let _turn = self.turns.get(work.id).map(|turns| turns.place.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = made.build {
            if let Err(untidy) = made.workshop.leave_behind(work) {
                work.say.warn(untidy.to_string());
            }
            apport::report(work, &error);
            return Err(error);
        }
        crate::steps::dependents::note(work, &made.workshop.result)?;
        if let Err(error) = made.after {
            // The modules are complete; what their package wanted to do with them can be looked into.
            made.workshop.publish(work)?;
            made.workshop.leave_behind(work)?;
            return Err(error);
        }
        made.workshop.file_log()?;
        // First, or a kill between the two would leave a directory beside what is built.
        made.workshop.clear(work)?;
        made.workshop.publish(work)
    }

    fn install(&self, step: &Step, say: &Block, commit: &mut Commit) -> Result<()> {
        let work = self.work_on(step, say).ok_or(Error::silent(1))?;
        commit.install(&work)
    }

    fn wait_for(&self, index: usize) -> Result<Made> {
        let mut progress = self.lock();
        loop {
            if matches!(progress[index], Progress::Made(_)) {
                if let Progress::Made(made) = std::mem::replace(&mut progress[index], Progress::Running) {
                    return *made;
                }
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
