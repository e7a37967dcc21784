// SPDX-License-Identifier: GPL-2.0-or-later
//! Modules that an upgrade left in place, and nothing is coming for.
//!
//! A package's prerm has its module removed before the new version comes, and the old one serves until then. But the new
//! one may have no such module any more, or not for this kernel, or never come.

use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::plan::reading::Reading;
use crate::policy::called_critical;
use crate::request::Left;
use crate::steps::superseded::{self, Origin};
use crate::system::dpkg;

/// Those of `left` that nothing will come for.
pub fn find(site: &Site, options: &Options, left: &Left) -> Vec<(String, Target)> {
    let names = match left {
        Left::By(name) => vec![name.clone()],
        Left::Abandoned | Left::All => site.tree.all_superseded(),
    };
    let each = names.iter().flat_map(|name| site.tree.superseded(name).into_iter().map(move |on| (name.clone(), on)));
    each.filter(|(name, target)| *left == Left::All || !is_awaited(site, options, name, target, left)).collect()
}

fn is_awaited(site: &Site, options: &Options, name: &str, target: &Target, left: &Left) -> bool {
    let origin = superseded::origin(site, name, target);
    // Who has just been configured has said all.
    let comes = *left == Left::Abandoned && package_comes(&origin);
    let versions = site.tree.versions(name);
    comes
        || if versions.is_empty() {
            is_kept_back(site, &origin) || has_failed(site, &origin, name, target)
        } else {
            versions.iter().any(|id| wants(site, options, id, target))
        }
}

/// Whether the package that the module is of is on its way.
fn package_comes(origin: &Origin) -> bool {
    origin.package.as_ref().is_some_and(|package| dpkg::is_halfway(package))
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

/// Whether a registered module would be installed for a kernel by itself, if it can be. Of one that cannot be read nobody
/// knows.
fn wants(site: &Site, options: &Options, id: &Id, target: &Target) -> bool {
    let reading = Reading::all_for(site, options, std::slice::from_ref(id), target).pop();
    let wants = |Reading { kernel, conf }: Reading| {
        let Ok(conf) = conf else { return true };
        let by_itself = !conf.get("AUTOINSTALL").is_empty() || called_critical(site, id, Some(&conf)).is_some();
        by_itself && (conf.modules.is_empty() || conf.included(&kernel).is_some())
    };
    reading.is_none_or(wants)
}
