// SPDX-License-Identifier: GPL-2.0-or-later
//! `kernel_prerm` and `kernel_preinst`: a kernel goes, or is about to be replaced by another build of itself.

use std::fs;
use std::path::Path;

use crate::commands::{Action, Invocation, lock};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::plan::Plan;
use crate::request::{Announced, Goal, Modules, Request};
use crate::run;
use crate::system::directories::remove_any;
use crate::system::dpkg;
use crate::system::files::is_staged;

/// Takes out of one kernel what was built for it.
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    site.need_root()?;
    let _lock = lock(site)?;
    let replaced = invocation.action == Action::KernelPreinst;
    let request = Request {
        goal: Goal::Unbuilt,
        modules: Modules::Present { automatic: replaced },
        targets: invocation.targets.clone(),
        announced: if replaced { Announced::Replaced } else { Announced::Going },
        options: Options {
            depmod_later: true,
            // Another build of the same kernel: its modules are built again, and until then the old ones serve.
            supersede: replaced && dpkg::kernel_upgrade(),
            ..invocation.options.clone()
        },
    };
    let plan = Plan::make(site, &request, &site.output.block())?;
    let outcomes = run::run(site, &request, &plan)?;
    for target in &invocation.targets {
        let commit = Commit::new(site, &request.options);
        // What fails for a kernel fails for another build of it, as long as nothing else changes.
        for name in site.tree.all_failed().iter().filter(|_| !replaced) {
            commit.forget_failure(name, target);
        }
        remove_empty_below(&site.modules(&target.release));
    }
    let failed =
        |outcome: &run::Outcome| outcome.result.as_ref().err().map(|error| format!("{}({})", outcome.id, error.code()));
    let failed: Vec<String> = outcomes.iter().filter_map(failed).collect();
    match invocation.targets.first() {
        Some(target) if !failed.is_empty() => {
            let action = invocation.action.name().to_owned();
            Err(Error::KernelRemoval { action, kernel: target.to_string(), modules: failed.join(" ") })
        }
        _ => Ok(()),
    }
}

/// Removes the directories below `dir`, and itself, that hold nothing: dpkg would leave them. Whether it went.
fn remove_empty_below(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    let mut empty = true;
    for entry in entries.flatten() {
        let path = entry.path();
        empty &= if is_staged(&entry.file_name()) {
            // Whatever was on its way here will not come any more.
            remove_any(&path).is_ok()
        } else {
            entry.file_type().is_ok_and(|kind| kind.is_dir()) && remove_empty_below(&path)
        };
    }
    empty && fs::remove_dir(dir).is_ok()
}
