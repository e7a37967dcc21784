// SPDX-License-Identifier: GPL-2.0-or-later
//! `autoinstall` and `kernel_postinst`: every module that wants to be installed by itself, on one kernel or several.

use crate::commands::lock;
use crate::error::Result;
use crate::model::module::Target;
use crate::model::options::Options;
use crate::model::site::Site;
use crate::plan::Plan;
use crate::request::{Announced, Goal, Modules, Request};
use crate::{policy, report, run};

/// Installs what is missing.
pub fn run(site: &Site, targets: &[Target], options: &Options) -> Result<()> {
    site.need_root()?;
    if site.paths.no_autoinstall().exists() {
        site.output.block().say("Automatic installation of modules has been disabled.");
        return Ok(());
    }
    let _lock = lock(site)?;
    let request = Request {
        goal: Goal::Installed,
        modules: Modules::Automatic,
        targets: targets.to_vec(),
        announced: Announced::Automatic,
        options: options.clone(),
    };
    let say = site.output.block();
    let plan = Plan::make(site, &request, &say)?;
    drop(say);
    let outcomes = run::run(site, &request, &plan)?;
    let ended = report::automatic(&plan, &outcomes, &site.output.block());
    policy::settle(site, options, &plan, &outcomes, ended)
}
