// SPDX-License-Identifier: GPL-2.0-or-later
//! Modules that an upgrade left in place, and nothing is coming for.
//!
//! A package's prerm has its module removed before the new version comes, and the old one serves until then. But the new
//! one may have no such module any more, or not for this kernel, or never come.

use crate::model::failures::Failure;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::State;
use crate::plan::reading::Reading;
use crate::policy::{Critical, EXCLUDED};
use crate::request::Left;
use crate::steps::installed::stem;
use crate::steps::superseded::{self, Origin};
use crate::system::dpkg;
use crate::system::output::Block;

/// Those of `left` that nothing will come for. Those by which this machine boots are only told of.
pub fn find(site: &Site, options: &Options, left: &Left, say: &Block) -> Vec<(String, Target)> {
    let names = match left {
        Left::By(name) => vec![name.clone()],
        Left::Abandoned | Left::All => site.tree.all_superseded(),
    };
    let each = names.iter().flat_map(|name| site.tree.superseded(name).into_iter().map(move |on| (name.clone(), on)));
    let critical = Critical::of(site);
    let is_awaited = |name: &str, target: &Target| is_awaited(site, options, &critical, name, target, left);
    let mut abandoned: Vec<_> = each.filter(|(name, target)| *left == Left::All || !is_awaited(name, target)).collect();
    abandoned.retain(|(name, target)| {
        let module = critical.left(name, target);
        // The end of dpkg's run comes to what a package that is configured in it left.
        if let Some(module) = module.as_ref().filter(|_| !matches!(left, Left::By(_))) {
            let id = superseded::origin(site, name, target).id.map_or(name.clone(), |id| id.to_string());
            say.warn(format!(
                "{id} stays on kernel {target}: this machine boots by its {module}, and nothing takes its place."
            ));
        }
        module.is_none()
    });
    abandoned
}

fn is_awaited(site: &Site, options: &Options, critical: &Critical, name: &str, target: &Target, left: &Left) -> bool {
    let origin = superseded::origin(site, name, target);
    // Who has just been configured has said all.
    let comes = *left == Left::Abandoned && package_comes(&origin);
    let versions = site.tree.versions(name);
    let is_installed = |id: &Id| site.tree.state(id, target) == State::Installed;
    comes
        || is_taken_over(site, options, name, target)
        || if versions.is_empty() {
            is_kept_back(site, &origin) || has_failed(site, &origin, name, target)
        } else if versions.iter().any(is_installed) {
            // Other packages of dpkg's run may bring what that one does no more.
            matches!(left, Left::By(_))
        } else {
            versions.iter().any(|id| is_missed(site, id, target) || wants(site, options, critical, id, target))
        }
}

/// Whether the package that the module is of is on its way.
fn package_comes(origin: &Origin) -> bool {
    origin.package.as_ref().is_some_and(|package| dpkg::is_halfway(package))
}

/// Whether another module was to bring what is left, and could not yet.
fn is_taken_over(site: &Site, options: &Options, name: &str, target: &Target) -> bool {
    let left: Vec<String> =
        superseded::files(site, name, target).unwrap_or_default().iter().map(|it| stem(it)).collect();
    let mut missed = site.tree.all();
    missed.retain(|id| id.name != name && is_missed(site, id, target));
    let readings = Reading::all_for(site, options, &missed, target).into_iter();
    let mut modules = readings.filter_map(|reading| reading.conf.ok()).flat_map(|conf| conf.modules.clone());
    modules.any(|module| left.contains(&module.dest_name))
}

/// Whether nobody was to register the package's new version, so that it is left to the administrator.
fn is_kept_back(site: &Site, origin: &Origin) -> bool {
    let installed = || origin.package.as_ref().is_some_and(|package| dpkg::is_installed(package));
    site.paths.no_autoinstall().exists() && installed()
}

/// Whether the package's new version is there, and could not even be registered.
fn has_failed(site: &Site, origin: &Origin, name: &str, target: &Target) -> bool {
    let there = |package: &String| dpkg::is_installed(package) || dpkg::is_halfway(package);
    site.tree.failed(name).contains(target) && origin.package.as_ref().is_some_and(there)
}

/// Whether a registered module was to be installed for a kernel and could not be: what is there serves on, whatever is
/// wanted of it since.
fn is_missed(site: &Site, id: &Id, target: &Target) -> bool {
    let noted = Failure::read(&site.tree, &id.name, target);
    noted.is_some_and(|failure| failure.id == *id && failure.code != EXCLUDED)
}

/// Whether a registered module would be installed for a kernel by itself, if it can be. Of one that cannot be read nobody
/// knows.
fn wants(site: &Site, options: &Options, critical: &Critical, id: &Id, target: &Target) -> bool {
    let reading = Reading::all_for(site, options, std::slice::from_ref(id), target).pop();
    let wants = |Reading { kernel, conf }: Reading| {
        let Ok(conf) = conf else { return true };
        let by_itself = !conf.get("AUTOINSTALL").is_empty() || critical.wants(id, &conf, target);
        by_itself && (conf.modules.is_empty() || conf.included(&kernel).is_some())
    };
    reading.is_none_or(wants)
}
