// SPDX-License-Identifier: GPL-2.0-or-later
//! Modules that are built anew because one that they build upon was installed: those with BUILD_DEPENDS_REBUILD.

use crate::model::conf::Conf;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::model::tree::State;
use crate::plan::reading::Reading;
use crate::plan::{Plan, Step, Verdict, can_be_built};
use crate::request::{Announced, Goal, Request};
use crate::steps::dependents::is_outdated;
use crate::system::output::Block;

impl Plan {
    /// Adds the steps for one kernel whose own begin at `first`. They wait until one of these has installed something.
    ///
    /// Each is built once, after those that it builds upon.
    pub(super) fn add_dependents(&mut self, site: &Site, request: &Request, target: &Target, first: usize) {
        if request.goal != Goal::Installed || request.options.force {
            return;
        }
        let works = |step: &Step| matches!(step.verdict, Verdict::Install | Verdict::Build);
        let triggers: Vec<usize> = (first..self.steps.len()).filter(|&index| works(&self.steps[index])).collect();
        if triggers.is_empty() {
            return;
        }
        let planned: Vec<String> = triggers.iter().map(|&index| self.steps[index].id.name.clone()).collect();
        let mut left = outdated(site, request, target, &planned);
        let begin = self.steps.len();
        while !left.is_empty() {
            let waits = |conf: &Conf| conf.depends().iter().any(|name| left.iter().any(|(id, ..)| id.name == *name));
            // In a circle somebody has to be the first.
            let next = left.iter().position(|(_, conf, _)| !waits(conf)).unwrap_or_default();
            let (id, conf, reading) = left.remove(next);
            let depends = conf.depends();
            let before = |&index: &usize| depends.contains(&self.steps[index].id.name);
            let after = (begin..self.steps.len()).filter(before).collect();
            let ready = can_be_built(site, &id, &reading.kernel);
            let verdict = ready.map_or_else(Verdict::Refused, |()| Verdict::Build);
            self.steps.push(Step {
                conf: Some(conf),
                after,
                triggers: triggers.clone(),
                announced: Announced::Dependent,
                ..Step::new(request, &id, reading.kernel, verdict)
            });
        }
    }
}

/// The modules that were built for a kernel with other versions of what they build upon, or with what is `planned` by a
/// command that was cut off. Of several versions of one module it is the one that is installed, or else the newest.
fn outdated(site: &Site, request: &Request, target: &Target, planned: &[String]) -> Vec<(Id, Conf, Reading)> {
    let mut candidates = Vec::new();
    for name in site.tree.modules().into_iter().filter(|name| !planned.contains(name)) {
        let mut built = site.tree.versions(&name);
        built.retain(|id| site.tree.state(id, target) >= State::Built && !site.tree.is_broken(id));
        built.sort_by(|a, b| super::compare_padded(&a.version, &b.version));
        let installed = built.iter().find(|id| site.tree.state(id, target) == State::Installed);
        candidates.extend(installed.or(built.last()).cloned());
    }
    let mut found = Vec::new();
    for (id, mut reading) in candidates.iter().zip(Reading::all_for(site, &request.options, &candidates, target)) {
        // What cannot be read, or is not meant for this kernel any more, stays as it is.
        let Ok(conf) = std::mem::replace(&mut reading.conf, Err(crate::error::Error::silent(1))) else {
            continue;
        };
        let sound = conf.problems.is_empty() && conf.included(&reading.kernel).is_some();
        let was_cut_off = || {
            let is_installation = site.tree.is_unfinished(id, target) && site.tree.going(id, target).is_none();
            is_installation && conf.depends().iter().any(|name| planned.contains(name))
        };
        if sound && conf.follows_depends() && (is_outdated(site, id, target, &conf) || was_cut_off()) {
            found.push((id.clone(), conf, reading));
        }
    }
    found
}

/// What is said before one of them is built: that it goes, though it stays until its successor is there.
pub fn announce(id: &Id, alone: bool, say: &Block) {
    let before = if alone { "\n" } else { "" };
    say.say(format!("{before}Rebuilding module {id} due to updated dependencies\n"));
}
