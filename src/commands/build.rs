// SPDX-License-Identifier: GPL-2.0-or-later
//! `build` and `install`: named modules, on named kernels.

use crate::commands::{Invocation, add, ldtarball, lock};
use crate::error::{Error, Result};
use crate::model::module::Id;
use crate::model::site::Site;
use crate::plan::Plan;
use crate::request::Goal;
use crate::{report, run};

/// `build` and `install`; what is not registered yet is added first.
pub fn run(site: &Site, invocation: &Invocation, goal: Goal) -> Result<()> {
    if let Some(id) = invocation.id("add").ok().filter(|id| site.tree.is_broken(id)) {
        return Err(Error::Broken(id.to_string()));
    }
    if goal == Goal::Installed {
        site.need_root()?;
    } else {
        site.need_tree()?;
    }
    if invocation.names_archive() {
        let package = ldtarball::checked(site, invocation)?;
        if ldtarball::is_rpm(&package) {
            return ldtarball::install_rpm(site, invocation, &package);
        }
    }
    let _lock = lock(site)?;
    let id = register(site, invocation)?;
    let request = invocation.request(goal, id.clone());
    let say = site.output.block();
    let plan = Plan::make(site, &request, &say)?;
    drop(say);
    report::last_result(run::run(site, &request, &plan)?)?;
    if goal == Goal::Installed {
        invocation.transaction(Some(&id), &invocation.targets).end(site, &site.output.block());
    }
    Ok(())
}

/// The module that was named, registered if it was not.
fn register(site: &Site, invocation: &Invocation) -> Result<Id> {
    if let Some(archive) = invocation.archive.as_ref().filter(|_| invocation.names_archive()) {
        let say = site.output.block();
        let id = ldtarball::load(site, invocation, archive, &say)?.id;
        say.say("");
        return Ok(id);
    }
    if invocation.source.is_none() {
        let id = invocation.id("add")?;
        if site.tree.is_added(&id) {
            return Ok(id);
        }
    }
    let say = site.output.block();
    let id = add::add(site, invocation, &say)?.id;
    say.say("");
    Ok(id)
}
