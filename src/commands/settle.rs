// SPDX-License-Identifier: GPL-2.0-or-later
//! Modules that an upgrade left in place go where nothing came for them: at the end of dpkg's run, and of the package's
//! configuration.

use std::collections::BTreeSet;
use std::path::Path;

use crate::commands::{add, lock};
use crate::error::Result;
use crate::model::failures;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::plan::Plan;
use crate::policy::Critical;
use crate::request::{Announced, Goal, Left, Modules, Request};
use crate::steps::superseded;
use crate::system::dpkg;
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
    for name in site.tree.all_superseded() {
        let origins = site.tree.superseded(&name).into_iter().map(|target| superseded::origin(site, &name, &target));
        register_one(site, &name, origins.filter_map(|origin| origin.id));
    }
}

/// Of an upgrade that has not ended the new version's files are there, and wait to be registered when their package is
/// configured. A kernel that comes before that, and that this machine does not boot without them, has them at once.
pub fn register_unpacked(site: &Site, target: &Target) -> Result<()> {
    if site.tree.all_superseded().is_empty() || site.paths.no_autoinstall().exists() {
        return Ok(());
    }
    site.need_root()?;
    let _lock = lock(site)?;
    let critical = Critical::of(site);
    for name in site.tree.all_superseded() {
        if site.tree.versions(&name).is_empty() && critical.reason(&Id::new(&name, ""), None, target).is_some() {
            let origins = site.tree.superseded(&name).into_iter().map(|on| superseded::origin(site, &name, &on));
            let coming: BTreeSet<String> =
                origins.filter_map(|origin| origin.package).filter(|it| dpkg::is_halfway(it)).collect();
            register_one(site, &name, coming.iter().flat_map(|package| sources(site, &name, package)));
        }
    }
    Ok(())
}

/// The versions of module `name` whose sources are in a package.
fn sources(site: &Site, name: &str, package: &str) -> Vec<Id> {
    let version = |file: &String| {
        let dir = Path::new(file.strip_suffix("/dkms.conf")?);
        let id = Id::new(name, dir.file_name()?.to_str()?.strip_prefix(name)?.strip_prefix('-')?);
        (id.is_sane() && site.tree.source_dir(&id) == dir).then_some(id)
    };
    dpkg::files(package).iter().filter_map(version).collect()
}

/// Registers the first of several versions whose source is there, unless some version is registered.
fn register_one(site: &Site, name: &str, versions: impl Iterator<Item = Id>) {
    let say = site.output.errors_only_block();
    for id in versions {
        let source = site.tree.source_dir(&id);
        if site.tree.versions(name).is_empty() && source.join("dkms.conf").is_file() {
            let registered = add::register(site, &id, &source, None, &say);
            registered.unwrap_or_else(|error| say.warn(error.to_string()));
        }
    }
}
