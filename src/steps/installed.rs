// SPDX-License-Identifier: GPL-2.0-or-later
//! Which files in a kernel's directory are a module's.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result, cannot};
use crate::model::conf::Module;
use crate::model::kernel::{COMPRESSIONS, module_stem};
use crate::steps::Work;
use crate::system::directories::{find, list, remove_any, remove_empty_up_to};
use crate::system::files::is_staged;
use crate::system::modinfo::ModInfo;
use crate::system::paths::below;
use crate::system::root_fs::module_name;

/// The modules that were built for this kernel: what dkms.conf says, and what else lies in the tree, built when it
/// said something different or before it was lost.
pub fn modules_of(work: &Work) -> Result<Vec<Module>> {
    let Work { site, id, kernel, conf, .. } = work;
    let dir = site.tree.module_dir(id, &kernel.target);
    let lying: BTreeSet<String> = list(&dir)
        .doing(cannot("read", &dir))?
        .iter()
        .filter_map(|name| module_stem(name).map(str::to_owned))
        .collect();
    // Excluded ones were not built, unless they lie there all the same.
    let included: HashSet<usize> = conf.included(kernel).into_iter().flatten().map(|module| module.index).collect();
    let built = |module: &&Module| included.contains(&module.index) || lying.contains(&module.dest_name);
    let mut modules: Vec<Module> = conf.modules.iter().filter(built).cloned().collect();
    let destination = site.distribution.destination().unwrap_or("/updates/dkms");
    let named: HashSet<&str> = modules.iter().map(|module| module.dest_name.as_str()).collect();
    let others = lying.iter().filter(|name| !named.contains(name.as_str())).enumerate();
    let others: Vec<Module> = others.map(|(index, name)| Module::found(index, name, destination)).collect();
    modules.extend(others);
    Ok(modules)
}

/// Where a built module is installed: at the distribution's place or at its own, whichever has that version.
pub fn file_of(work: &Work, module: &Module) -> Option<PathBuf> {
    Some(find_file_of(work, module)?.0)
}

/// Whether what is installed of a built module is what was built.
pub fn is_as_built(work: &Work, module: &Module) -> bool {
    find_file_of(work, module).is_some_and(|(_, same)| same)
}

/// Where a built module is installed, and whether that is what was built.
fn find_file_of(work: &Work, module: &Module) -> Option<(PathBuf, bool)> {
    let Work { site, id, kernel, .. } = work;
    let built_dir = site.tree.module_dir(id, &kernel.target);
    let version = |file: &Path| ModInfo::read(file).unwrap_or_default().version;
    // With the kernel's suffix first, then whatever there is.
    let suffixes = || std::iter::once(kernel.compression()).chain([""]).chain(COMPRESSIONS.iter().map(|kind| kind.0));
    let name = |suffix| format!("{}.ko{suffix}", module.dest_name);
    let built = suffixes().map(|suffix| built_dir.join(name(suffix))).find(|file| file.exists());
    let built_version = LazyCell::new(|| built.as_deref().map(version).unwrap_or_default());
    let same = |file: &Path| built.as_ref().is_some_and(|built| site.memory.is_same(id, built, file));
    let as_ours = |place: &str, file: PathBuf| {
        if same(&file) {
            return Some((file, true));
        }
        let foreign = place != module.dest_location;
        // At its own place, where the kernel's module may stand, two unversioned files have nothing in common.
        let ours = file.exists() && version(&file) == *built_version && !(foreign && built_version.is_empty());
        ours.then_some((file, false))
    };
    let mut places = vec![&module.dest_location, &module.original_location];
    places.dedup();
    places.into_iter().find_map(|place| {
        let dir = below(&kernel.modules, place);
        suffixes().find_map(|suffix| as_ours(place, dir.join(name(suffix))))
    })
}

/// Deletes a module, and the same compressed in another way, but none of those in `kept`; then the directories that held
/// no more.
pub fn delete(file: &Path, kept: &[PathBuf], modules: &Path) -> Result<()> {
    let is_same = |other: &PathBuf| {
        let infos = [file, other].map(|file| ModInfo::read(file).unwrap_or_default());
        infos[0] == infos[1] && !infos[0].srcversion.is_empty()
    };
    let twins = COMPRESSIONS.map(|kind| kind.0).into_iter().chain([""]);
    let twins = twins.map(|suffix| file.with_file_name(format!("{}.ko{suffix}", stem(file))));
    let twins: Vec<_> = twins.filter(|other| other.exists() && other != file && is_same(other)).collect();
    for file in twins.iter().map(PathBuf::as_path).chain([file]).filter(|file| !kept.iter().any(|it| it == file)) {
        remove_any(file).doing(cannot("delete", file))?;
    }
    remove_empty_up_to(file.parent().unwrap_or(file), modules);
    Ok(())
}

/// What a module file is called without its suffixes.
pub fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    module_stem(&name).unwrap_or(&name).to_owned()
}

/// The names by which the kernel has more than one module file.
pub fn shared_names(modules: &Path) -> HashSet<String> {
    let (mut seen, mut shared) = (HashSet::new(), HashSet::new());
    find(modules, &mut |file| {
        if let Some(name) = module_stem(file).map(module_name).filter(|name| !seen.insert(name.clone())) {
            shared.insert(name);
        }
        false
    });
    shared
}

/// The other files that the kernel could take for one of these modules.
pub fn namesakes(files: &[PathBuf], modules: &Path) -> Vec<PathBuf> {
    if files.is_empty() {
        return Vec::new();
    }
    let names: HashSet<String> = files.iter().map(|file| module_name(&stem(file))).collect();
    let mut found = find(modules, &mut |file| module_stem(file).is_some_and(|stem| names.contains(&module_name(stem))));
    found.retain(|file| !files.contains(file));
    found
}

/// Whether `other` is a module of the same name as `file` somewhere else, which depmod can be told to prefer.
pub fn is_succeeded(file: &Path, other: &Path) -> bool {
    are_one(file, other) && file.parent() != other.parent()
}

/// Whether `other` is `file` compressed in another way, or with other dashes, in the same directory.
pub fn is_beside(file: &Path, other: &Path) -> bool {
    are_one(file, other) && file.parent() == other.parent() && file != other
}

/// Whether the kernel takes two files for the same module.
fn are_one(file: &Path, other: &Path) -> bool {
    module_name(&stem(file)) == module_name(&stem(other))
}

/// Removes what an installation that was cut off had put beside its place.
pub fn clear_staged(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if is_staged(&entry.file_name()) {
            remove_any(&entry.path()).doing(cannot("delete", &entry.path()))?;
        }
    }
    Ok(())
}
