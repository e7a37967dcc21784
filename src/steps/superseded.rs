// SPDX-License-Identifier: GPL-2.0-or-later
//! Modules whose package or kernel is being replaced: what was built is forgotten, but the files stay in place, and on
//! record, until their successors are there or the package or kernel really goes.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use crate::error::{Doing, Result, cannot};
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::system::directories::{remove_any, remove_empty_up_to};
use crate::system::dpkg;
use crate::system::files::read_if_there;
use crate::system::paths::stays_below;

/// Whose the files on a record are.
#[derive(Debug, Default)]
pub struct Origin {
    /// The version that was installed.
    pub id: Option<Id>,
    /// The package that was being upgraded, if dpkg did that.
    pub package: Option<String>,
}

/// How the line of a record begins that says whose it is.
const ORIGIN: &str = "# ";

/// Whose the files on record of module `name` for a kernel are, as far as that is known.
pub fn origin(site: &Site, name: &str, target: &Target) -> Origin {
    let record = read_if_there(&site.tree.superseded_record(name, target)).ok().flatten().unwrap_or_default();
    let mut words = record.lines().find_map(|line| line.strip_prefix(ORIGIN)).unwrap_or_default().split(' ');
    let version = words.next().filter(|version| !version.is_empty());
    let id = version.map(|version| Id::new(name, version)).filter(Id::is_sane);
    Origin { id, package: words.next().map(str::to_owned) }
}

/// The files on record of module `name` for a kernel that are still there.
pub fn files(site: &Site, name: &str, target: &Target) -> Result<Vec<PathBuf>> {
    let mut files = on_record(site, name, target)?;
    files.retain(|file| fs::symlink_metadata(file).is_ok());
    Ok(files)
}

fn on_record(site: &Site, name: &str, target: &Target) -> Result<Vec<PathBuf>> {
    let place = site.tree.superseded_record(name, target);
    let record = read_if_there(&place).doing(cannot("read", &place))?;
    let files = record.unwrap_or_default().lines().map(PathBuf::from).collect::<Vec<_>>();
    // What else it might name is no module of ours.
    let modules = site.modules(&target.release);
    Ok(files.into_iter().filter(|file| stays_below(file, &modules)).collect())
}

/// Whether there is a record of module `name` for a kernel.
pub fn is_recorded(site: &Site, name: &str, target: &Target) -> bool {
    site.tree.superseded_record(name, target).exists()
}

/// What upgrades of others, and of this module for another architecture, left in place on a kernel: whose it is and the
/// files.
pub fn of_others(site: &Site, id: &Id, target: &Target) -> Result<Vec<(Id, Target, Vec<PathBuf>)>> {
    let mut others = Vec::new();
    for name in site.tree.all_superseded() {
        for on in site.tree.superseded(&name).into_iter().filter(|on| on.release == target.release) {
            if (&name, &on) != (&id.name, target) {
                let files = files(site, &name, &on)?;
                others.push((Id::new(&name, ""), on, files));
            }
        }
    }
    Ok(others)
}

/// Puts files of a version on record.
pub fn record(site: &Site, id: &Id, target: &Target, new: &[PathBuf]) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let name = &id.name;
    let mut all = files(site, name, target)?;
    all.extend(new.iter().cloned());
    all.sort();
    all.dedup();
    let package = dpkg::maintainer_script().map(|package| format!(" {package}")).unwrap_or_default();
    let mut lines = format!("{ORIGIN}{}{package}\n", id.version);
    for file in all {
        lines.push_str(&file.to_string_lossy());
        lines.push('\n');
    }
    let place = site.tree.superseded_record(name, target);
    site.tree.note(&place, &lines).doing(cannot("write", &place))
}

/// Ends a record: what is on it goes, but for the files in `kept`.
pub fn settle(site: &Site, name: &str, target: &Target, kept: &[PathBuf]) -> Result<()> {
    if !is_recorded(site, name, target) {
        return Ok(());
    }
    let kept: HashSet<&PathBuf> = kept.iter().collect();
    for file in on_record(site, name, target)?.iter().filter(|file| !kept.contains(file)) {
        remove_any(file).doing(cannot("delete", file))?;
        remove_empty_up_to(file.parent().unwrap_or(file), &site.modules(&target.release));
    }
    forget(site, name, target)
}

/// Ends a record; the files that are on it stay.
pub fn forget(site: &Site, name: &str, target: &Target) -> Result<()> {
    let place = site.tree.superseded_record(name, target);
    site.tree.forget(&place).doing(cannot("remove", &place))
}
