// SPDX-License-Identifier: GPL-2.0-or-later
//! What came of it: for people, and as an exit code.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::model::module::{Id, Target};
use crate::plan::Plan;
use crate::run::Outcome;
use crate::system::output::Block;

/// What a command over several kernels ends with: the last kernel's result, and what to do next for each.
pub fn last_result(outcomes: Vec<Outcome>) -> Result<()> {
    let hint = hints(&outcomes);
    // Of the last kernel: what was asked for, or else what was to be built anew for its sake.
    let last = outcomes.last().map(|outcome| outcome.target.clone());
    let mut errors = outcomes.into_iter().filter(|outcome| Some(&outcome.target) == last.as_ref());
    match errors.find_map(|outcome| outcome.result.err()) {
        Some(error) => Err(Error::Said { code: error.code(), hint }),
        _ => Ok(()),
    }
}

/// What to do next, said once each.
fn hints(outcomes: &[Outcome]) -> Option<String> {
    let hints: BTreeSet<String> =
        outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err().and_then(Error::hint)).collect();
    (!hints.is_empty()).then(|| hints.into_iter().collect::<Vec<_>>().join("\n"))
}

/// What a command ends with for which every kernel counts: the first failure.
pub fn every_result(outcomes: Vec<Outcome>) -> Result<()> {
    let failure = outcomes.into_iter().find_map(|outcome| outcome.result.err());
    failure.map_or(Ok(()), |error| Err(error.said()))
}

/// The last failure; a kernel that a module is not meant for is none.
pub fn last_failure(outcomes: &[Outcome]) -> Result<()> {
    let mut failures = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err());
    failures.rfind(|error| error.code() != 77).map_or(Ok(()), |error| Err(error.said()))
}

/// Sums an automatic installation up for each kernel; an error if some module failed or waits for one that did.
pub fn automatic(plan: &Plan, outcomes: &[Outcome], say: &Block) -> Result<()> {
    let mut failed = false;
    for (target, installed) in &plan.installed {
        failed |= !sum_up(plan, outcomes, target, installed, say);
    }
    if failed { Err(Error::AutoinstallFailed { hint: hints(outcomes) }) } else { Ok(()) }
}

fn sum_up(plan: &Plan, outcomes: &[Outcome], target: &Target, installed: &[String], say: &Block) -> bool {
    let here: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.target == *target).collect();
    let mut waiting: Vec<(&Id, Vec<String>)> = Vec::new();
    let mut deferred: Vec<(&Id, &[String])> = Vec::new();
    for wait in plan.waiting.iter().filter(|wait| wait.kernel.target == *target) {
        if wait.unknown {
            deferred.push((&wait.id, &wait.missing));
        } else {
            waiting.push((&wait.id, wait.missing.clone()));
        }
    }
    let (mut succeeded, mut skipped, mut failed) = (installed.to_vec(), Vec::new(), Vec::new());
    for outcome in &here {
        match &outcome.result {
            Ok(()) if succeeded.contains(&outcome.id.name) => {}
            Ok(()) => succeeded.push(outcome.id.name.clone()),
            Err(Error::Stranded { missing }) => waiting.push((&outcome.id, missing.clone())),
            Err(error) if error.code() == 77 => skipped.push(outcome.id.name.clone()),
            Err(error) => {
                succeeded.retain(|name| *name != outcome.id.name);
                failed.push(format!("{}({})", outcome.id.name, error.code()));
            }
        }
    }
    if here.is_empty() && waiting.is_empty() && deferred.is_empty() {
        return true;
    }
    let release = &target.release;
    let line = |what: &str, names: &[String]| {
        if !names.is_empty() {
            say.say(format!("Autoinstall on {release} {what} for module(s) {}.", names.join(" ")));
        }
    };
    line("succeeded", &succeeded);
    line("was skipped", &skipped);
    line("failed", &failed);
    waiting.sort();
    for (id, missing) in &waiting {
        say.say(format!("{id} autoinstall failed due to missing dependencies: {}.", missing.join(" ")));
    }
    for (id, missing) in &deferred {
        say.say(format!("{id} autoinstall deferred: BUILD_DEPENDS not registered with DKMS: {}.", missing.join(" ")));
    }
    if !deferred.is_empty() {
        let names: Vec<String> = deferred.iter().map(|(id, _)| id.to_string()).collect();
        say.say(format!(
            "Autoinstall on {release} deferred module(s) {} due to BUILD_DEPENDS not yet registered with DKMS.\nThese may be \
             provided externally or by a package not yet configured; autoinstall will retry on the next trigger.",
            names.join(" ")
        ));
    }
    failed.is_empty() && waiting.is_empty()
}
