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

/// What dpkg runs at the end of its run, once one of its scripts asked for it: what nothing came for goes.
pub const TRIGGER: &str = "dkms-superseded";

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
    write(site, name, target, &Origin { id: Some(id.clone()), package: dpkg::maintainer_script() }, &all)
}

fn write(site: &Site, name: &str, target: &Target, origin: &Origin, files: &[PathBuf]) -> Result<()> {
    let version = origin.id.as_ref().map_or("", |id| &id.version);
    let package = origin.package.iter().map(|package| format!(" {package}")).collect::<String>();
    let files: String = files.iter().map(|file| format!("{}\n", file.display())).collect();
    let place = site.tree.superseded_record(name, target);
    site.tree.note(&place, &format!("{ORIGIN}{version}{package}\n{files}")).doing(cannot("write", &place))
}

/// Ends a record: what is on it goes, but for the files in `kept`. Those in `waiting` stay, and on record.
pub fn settle(site: &Site, name: &str, target: &Target, kept: &[PathBuf], waiting: &[PathBuf]) -> Result<()> {
    if !is_recorded(site, name, target) {
        return Ok(());
    }
    let kept: HashSet<&PathBuf> = kept.iter().chain(waiting).collect();
    for file in on_record(site, name, target)?.iter().filter(|file| !kept.contains(file)) {
        remove_any(file).doing(cannot("delete", file))?;
        remove_empty_up_to(file.parent().unwrap_or(file), &site.modules(&target.release));
    }
    retain(site, name, target, |file| waiting.contains(file))
}

/// Takes files off the records of others, in whose place a module `name` has put its own.
pub fn take_over(site: &Site, name: &str, target: &Target, files: &[PathBuf]) -> Result<()> {
    for (other, on, on_record) in of_others(site, &Id::new(name, ""), target)? {
        if on_record.iter().any(|file| files.contains(file)) {
            retain(site, &other.name, &on, |file| !files.contains(file))?;
        }
    }
    Ok(())
}

/// Has those files stay on a record that `stay` says.
pub fn retain(site: &Site, name: &str, target: &Target, stay: impl Fn(&PathBuf) -> bool) -> Result<()> {
    let (all, origin) = (on_record(site, name, target)?, origin(site, name, target));
    let left: Vec<_> = all.iter().filter(|file| stay(file)).cloned().collect();
    if left.is_empty() {
        return forget(site, name, target);
    }
    write(site, name, target, &origin, &left)
}

/// Ends a record; the files that are on it stay.
pub fn forget(site: &Site, name: &str, target: &Target) -> Result<()> {
    let place = site.tree.superseded_record(name, target);
    site.tree.forget(&place).doing(cannot("remove", &place))
}
