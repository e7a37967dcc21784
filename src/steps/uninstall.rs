// SPDX-License-Identifier: GPL-2.0-or-later
//! Taking modules out of a kernel's directory again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result, cannot};
use crate::model::conf::Module;
use crate::steps::installed::{clear_staged, delete, file_of, modules_of, stem};
use crate::steps::{Work, archive, depmod, superseded};
use crate::system::directories::{remove_any, remove_empty_up_to};
use crate::system::files::replace_with_copy;
use crate::system::paths::below;

/// Modules on their way out of the kernel's directory.
#[derive(Debug, Default)]
pub struct Withdrawn {
    /// Originals that are back in their places.
    pub restored: Vec<PathBuf>,
    /// Modules of ours that such a one succeeds, or another one of that name: they go when depmod has found it.
    pub leaving: Vec<PathBuf>,
}

/// The modules of what is installed, and where each lies; of a removal that was cut off what is left of it. An error where
/// one cannot be deleted, or its original not come back, as far as that can be told before: a directory is read-only.
pub fn find(work: &Work) -> Result<Vec<(Module, Option<PathBuf>)>> {
    let going = work.site.tree.going(work.id, &work.kernel.target);
    let look = |module: Module| {
        let is_left = |file: &&PathBuf| stem(file) == module.dest_name && file.symlink_metadata().is_ok();
        let file = match &going {
            Some(files) => files.iter().find(is_left).cloned(),
            None => file_of(work, &module),
        };
        (module, file)
    };
    let found: Vec<_> = modules_of(work)?.into_iter().map(look).collect();
    for (module, file) in found.iter().filter(|_| !work.options.supersede) {
        file.iter().try_for_each(|file| check_writable(file).doing(cannot("delete", file)))?;
        for (_, place) in archive::kept(work, &module.dest_name)? {
            check_writable(&place).doing(cannot("restore", &place))?;
        }
    }
    Ok(found)
}

/// Whether a file can be made or deleted, as far as the directory says where it is, or the first above that there is.
fn check_writable(file: &Path) -> std::io::Result<()> {
    let dir = file.ancestors().skip(1).find(|dir| dir.exists()).unwrap_or(file);
    Ok(rustix::fs::access(dir, rustix::fs::Access::WRITE_OK)?)
}

/// Takes the modules out of the kernel's directory and puts the originals back.
///
/// Which those are, `found`, is read from what was built, so that it works without the source. `unfinished`: an earlier
/// run was cut off here. `has_namesake`: whether there is another file of a module's name.
pub fn withdraw(
    work: &Work,
    found: &[(Module, Option<PathBuf>)],
    unfinished: bool,
    has_namesake: &mut dyn FnMut(&Path) -> bool,
) -> Result<Withdrawn> {
    let Work { site, options, id, kernel, say, .. } = work;
    say.say(format!(
        "Module {id} for kernel {}:\nBefore uninstall, this module version was ACTIVE on this kernel.",
        kernel.target
    ));
    let mut gone = Vec::new();
    let mut withdrawn = Withdrawn::default();
    // Whatever was cut off may have deleted the file, and not yet its directory.
    let places = found.iter().filter(|_| unfinished).map(|(module, _)| below(&kernel.modules, &module.dest_location));
    for (module, file) in found {
        tell_deletion(work, module, file.as_deref());
        let restored = archive::restore(work, &module.dest_name)?;
        match file.as_deref().filter(|_| !options.supersede) {
            Some(file) if !restored.is_empty() || has_namesake(file) => {
                copy_what_is_linked(file)?;
                withdrawn.leaving.push(file.to_owned());
            }
            Some(file) => delete(file, &[], &kernel.modules)?,
            None => {}
        }
        gone.extend(file.clone());
        withdrawn.restored.extend(restored);
    }
    if options.supersede {
        gone.iter().try_for_each(|file| copy_what_is_linked(file))?;
        superseded::record(site, id, &kernel.target, &gone)?;
    } else {
        for dir in
            gone.iter().filter_map(|file| file.parent().map(Path::to_owned)).chain(places).collect::<BTreeSet<_>>()
        {
            clear_staged(&dir)?;
            remove_empty_up_to(&dir, &kernel.modules);
        }
    }
    let link = site.tree.link(&id.name, &kernel.target);
    remove_any(&link).doing(cannot("remove", &link)).map(|()| withdrawn)
}

/// What a link leads to goes with what was built, and is to serve for longer.
fn copy_what_is_linked(file: &Path) -> Result<()> {
    match fs::canonicalize(file) {
        Ok(built) if file.is_symlink() => replace_with_copy(&built, file).doing(cannot("copy to", file)),
        _ => Ok(()),
    }
}

/// Whether depmod still names modules of ours that are gone: on a full disk they may have gone without its being told,
/// and without a mark that says so.
pub fn is_gone_unnoticed(work: &Work) -> Result<bool> {
    let modules = &work.kernel.modules;
    let place = |module: &Module| {
        below(modules, &module.dest_location).join(format!("{}.ko{}", module.dest_name, work.kernel.compression()))
    };
    let mut gone: Vec<PathBuf> = modules_of(work)?.iter().map(place).collect();
    gone.retain(|file| !file.exists());
    Ok(!depmod::named(modules, &gone).is_empty())
}

/// Says of a module that goes where it lies.
pub fn tell_deletion(work: &Work, module: &Module, found: Option<&Path>) {
    work.say.say(match found {
        Some(file) => format!("Deleting {}", file.display()),
        None => format!("Module {}.ko was not found within {}/", module.dest_name, work.kernel.modules.display()),
    });
}
