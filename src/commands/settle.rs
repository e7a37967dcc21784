// SPDX-License-Identifier: GPL-2.0-or-later
//! Modules that an upgrade left in place go where nothing came for them: at the end of dpkg's run, and of the package's
//! configuration.

use crate::commands::{add, lock};
use crate::error::Result;
use crate::model::failures;
use crate::model::options::Options;
use crate::model::site::Site;
use crate::plan::Plan;
use crate::request::{Announced, Goal, Left, Modules, Request};
use crate::steps::superseded;
use crate::{report, run};

/// Takes away what upgrades left in place, as far as `left` says; registers modules again whose package was to be upgraded
/// and was not.
pub fn run(site: &Site, left: Left) -> Result<()> {
    site.need_root()?;
    // Nobody waits for nothing.
    let is_idle = match &left {
        Left::By(name) => site.tree.superseded(name).is_empty(),
        Left::Abandoned | Left::All => site.tree.all_superseded().is_empty() && site.tree.all_failed().is_empty(),
    };
    if is_idle {
        return Ok(());
    }
    let _lock = lock(site)?;
    if left == Left::Abandoned {
        register_again(site);
    }
    let request = Request {
        goal: Goal::Absent,
        modules: Modules::Left(left),
        targets: Vec::new(),
        announced: Announced::Not,
        options: Options { action: "remove".into(), ..Options::default() },
    };
    let plan = Plan::make(site, &request, &site.output.block())?;
    report::every_result(run::run(site, &request, &plan)?)?;
    failures::prune(site);
    Ok(())
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
