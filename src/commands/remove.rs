// SPDX-License-Identifier: GPL-2.0-or-later
//! `uninstall`, `unbuild` and `remove`: each undoes a step more.

use std::fs;
use std::path::Path;

use crate::commands::{Action, Invocation, lock_added};
use crate::error::Result;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::plan::Plan;
use crate::request::{Announced, Goal, Modules, Request};
use crate::steps::prepare;
use crate::steps::superseded::TRIGGER;
use crate::system::directories::names;
use crate::system::dpkg;
use crate::system::version::sort_versions;
use crate::{report, run};

/// `uninstall`, `unbuild` and `remove`
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    let id = invocation.id(invocation.action.name())?;
    let may = || match invocation.action {
        Action::Uninstall => site.need_root(),
        _ => site.need_tree(),
    };
    let _lock = lock_added(site, &id, may)?;
    let targets = if invocation.all { built_for(site, &id) } else { invocation.targets.clone() };
    if invocation.action == Action::Remove {
        // A package's prerm removes before its new version builds.
        let options = Options { supersede: dpkg::is_to_be_replaced(), ..invocation.options.clone() };
        remove(site, id.clone(), targets.clone(), options)?;
        if !site.tree.all_superseded().is_empty() {
            // Where the new version does not come, that is the end of it; or of what waited for the one that goes.
            dpkg::activate_trigger(TRIGGER);
        }
    } else {
        let goal = if invocation.action == Action::Unbuild { Goal::Unbuilt } else { Goal::Uninstalled };
        let request =
            Request { targets: targets.clone(), announced: Announced::Apart, ..invocation.request(goal, id.clone()) };
        undo(site, &request)?;
    }
    invocation.transaction(Some(&id), &targets).end(site, &site.output.block());
    Ok(())
}

/// The kernels that a module is built for, or where something cut its installation or removal off; oldest first.
pub fn built_for(site: &Site, id: &Id) -> Vec<Target> {
    let targets = site.tree.targets(id).into_iter().chain(site.tree.unfinished(id));
    let mut pairs: Vec<String> = targets.map(|target| format!("{}/{}", target.release, target.arch)).collect();
    sort_versions(&mut pairs);
    pairs.dedup();
    pairs.iter().filter_map(|pair| pair.split_once('/')).map(|(release, arch)| Target::new(release, arch)).collect()
}

/// Forgets a module on some kernels, and altogether if it is built for none then.
pub fn remove(site: &Site, id: Id, targets: Vec<Target>, options: Options) -> Result<()> {
    clear_leftovers(&site.tree.version_dir(&id))?;
    let modules = Modules::Named(vec![id]);
    undo(site, &Request { goal: Goal::Absent, modules, targets, announced: Announced::Closed, options })
}

fn undo(site: &Site, request: &Request) -> Result<()> {
    let plan = Plan::make(site, request, &site.output.block())?;
    report::every_result(run::run(site, request, &plan)?)
}

/// What builds of Debian's dkms that were cut off left behind, and empty directories of kernels.
fn clear_leftovers(dir: &Path) -> Result<()> {
    for kernel in names(dir).into_iter().map(|name| dir.join(name)).filter(|path| path.is_dir() && !path.is_symlink()) {
        prepare::clear_leftovers(&kernel, ".tmp_")?;
        let _ = fs::remove_dir(&kernel);
    }
    Ok(())
}
