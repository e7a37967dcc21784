// SPDX-License-Identifier: GPL-2.0-or-later
//! Which versions of its BUILD_DEPENDS a module was built with: `TREE/M/V/K/A/.dep_NAME`, for BUILD_DEPENDS_REBUILD.

use std::fs;
use std::path::Path;

use crate::error::{Doing, Result, cannot};
use crate::model::conf::Conf;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::model::tree::State;
use crate::steps::{Work, archive, depmod, installed, uninstall};
use crate::system::version::sort_versions;

/// Writes down, beside what was built, with which versions it was; not where nobody insists on them.
pub fn note(work: &Work, result: &Path) -> Result<()> {
    if work.options.force || !work.conf.follows_depends() {
        return Ok(());
    }
    for name in names(work.conf) {
        if let Some(version) = newest(work.site, &name) {
            let file = result.join(format!(".dep_{name}"));
            fs::write(&file, format!("{version}\n")).doing(cannot("write", &file))?;
        }
    }
    Ok(())
}

/// Whether what was built is older than what it builds upon.
pub fn is_outdated(site: &Site, id: &Id, target: &Target, conf: &Conf) -> bool {
    let built = site.tree.built_dir(id, target);
    let noted = |name: &str| fs::read_to_string(built.join(format!(".dep_{name}"))).ok();
    names(conf).iter().any(|name| noted(name).as_deref().map(str::trim_end) != newest(site, name).as_deref())
}

/// The names in BUILD_DEPENDS, as far as they are a file's.
fn names(conf: &Conf) -> Vec<String> {
    let mut names = conf.depends();
    names.retain(|name| !name.contains('/'));
    names
}

/// The newest version of a module that is registered.
fn newest(site: &Site, name: &str) -> Option<String> {
    let mut versions = site.tree.versions(name).into_iter().map(|id| id.version).collect();
    sort_versions(&mut versions);
    versions.pop()
}

/// What a removal would say, in whose place the module stays until its successor is there.
pub fn tell_removal(work: &Work) {
    let Work { site, id, kernel, say, .. } = work;
    say.say(format!("Module {id} for kernel {}:", kernel.target));
    if site.tree.state(id, &kernel.target) == State::Installed {
        say.say("Before uninstall, this module version was ACTIVE on this kernel.");
        for module in installed::modules_of(work).unwrap_or_default() {
            uninstall::tell_deletion(work, &module, installed::file_of(work, &module).as_deref());
            if let Some((_, place)) = archive::kept(work, &module.dest_name).unwrap_or_default().first() {
                say.say(format!("Restoring archived original module {}", place.display()));
            }
        }
    } else {
        say.say("This module version was INACTIVE for this kernel.");
    }
    depmod::tell(site, &kernel.target.release, say);
}
