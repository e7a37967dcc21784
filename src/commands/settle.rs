// SPDX-License-Identifier: GPL-2.0-or-later
//! What is done at the end of dpkg's run: modules that an upgrade left in place go where nothing came for them.

use crate::commands::{add, lock};
use crate::error::Result;
use crate::model::failures;
use crate::model::options::Options;
use crate::model::site::Site;
use crate::plan::Plan;
use crate::request::{Announced, Goal, Left, Modules, Request};
use crate::steps::superseded;
use crate::{report, run};

/// Registers modules again whose package was to be upgraded and was not, and takes away what is left of those that are gone;
/// with `all`, because nobody will look after them any more, of all.
pub fn run(site: &Site, all: bool) -> Result<()> {
    site.need_root()?;
    // Nobody waits for nothing.
    if site.tree.all_superseded().is_empty() && site.tree.all_failed().is_empty() {
        return Ok(());
    }
    let _lock = lock(site)?;
    if !all {
        register_again(site);
    }
    settle(site, if all { Left::All } else { Left::Abandoned })?;
    failures::prune(site);
    Ok(())
}

/// Takes away what upgrades left in place, as far as `left` says. To be called with the tree locked.
pub fn settle(site: &Site, left: Left) -> Result<()> {
    let request = Request {
        goal: Goal::Absent,
        modules: Modules::Left(left),
        targets: Vec::new(),
        announced: Announced::Not,
        options: Options { action: "remove".into(), ..Options::default() },
    };
    let plan = Plan::make(site, &request, &site.output.block())?;
    if plan.steps.is_empty() {
        return Ok(());
    }
    report::every_result(run::run(site, &request, &plan)?)
}

/// Of an upgrade that was given up the old version's files are there, and nobody registers them.
fn register_again(site: &Site) {
    let say = site.output.errors_only_block();
    for name in site.tree.all_superseded() {
        let origins = site.tree.superseded(&name).into_iter().map(|target| superseded::origin(site, &name, &target));
        for id in origins.filter_map(|origin| origin.id) {
            let source = site.tree.source_dir(&id);
            if site.tree.versions(&name).is_empty() && source.join("dkms.conf").is_file() {
                let registered = add::register(site, &id, &source, None, &say);
                registered.unwrap_or_else(|error| say.warn(error.to_string()));
            }
        }
    }
}
