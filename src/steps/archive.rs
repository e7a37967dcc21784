// SPDX-License-Identifier: GPL-2.0-or-later
//! Modules that were there before ours: kept while ours is installed, put back when it goes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result, cannot};
use crate::model::kernel::{is_module_file, module_stem};
use crate::model::module::Target;
use crate::model::site::Site;
use crate::steps::Work;
use crate::system::directories::{list, names, remove_any, remove_empty_up_to};
use crate::system::files::{read_if_there, replace_with_same, replace_with_text, same_content};
use crate::system::paths::{stays_below, with_suffix};

/// Where those are kept that stood beside the one that is archived, as dkms says it does.
const COLLISIONS: &str = "collisions";

/// A module that stands where ours will be taken for it.
#[derive(Debug)]
pub struct Original {
    path: PathBuf,
    archived: PathBuf,
    /// Whether there was no archive of it before.
    new: bool,
}

/// Archives the module at `path`: a second name for the file now; [`Original::give_way`] takes the first one away
/// when ours is in place, so that there is always one of them. `beside`: it goes as well as another one of its name, of
/// which alone is spoken.
///
/// What stands there counts: an older archive, of the kernel as it was before an upgrade, is replaced. One of another place
/// goes back there.
pub fn keep(work: &Work, path: &Path, beside: bool) -> Result<Original> {
    let mut dir = work.site.tree.original_dir(&work.id.name, &work.kernel.target);
    if beside {
        dir.push(COLLISIONS);
    }
    fs::create_dir_all(&dir).doing(cannot("make", &dir))?;
    let archived = dir.join(path.file_name().unwrap_or_default());
    let kept = with_place(archived.clone(), &work.kernel.modules)?;
    if let Some((_, place)) = kept.filter(|(_, place)| place != path && !place.exists()) {
        replace_with_same(&archived, &place).doing(cannot("restore", &place))?;
    }
    let original = Original { path: path.to_owned(), new: !archived.exists(), archived };
    let origin = format!("{}\n", path.display());
    let kept = replace_with_same(path, &original.archived)
        .and_then(|()| replace_with_text(origin.as_bytes(), &with_suffix(&original.archived, ".origin")))
        .doing(cannot("archive", path));
    match kept {
        Ok(()) => Ok(original),
        Err(error) => {
            original.forget();
            Err(error)
        }
    }
}

/// The archived originals of a module that still stand where they were, or a link to ours in their place: what archived
/// them was cut off before it took them away.
pub fn left_in_place(work: &Work, module: &str) -> Result<Vec<Original>> {
    let is_left = |(archived, path): &(PathBuf, PathBuf)| path.is_symlink() || same_content(archived, path);
    let left = kept(work, module)?.into_iter().filter(is_left);
    Ok(left.map(|(archived, path)| Original { path, archived, new: false }).collect())
}

impl Original {
    /// Where it stood.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Undoes [`keep`].
    pub fn forget(&self) {
        if !self.new {
            return;
        }
        let _ = fs::remove_file(&self.archived);
        let _ = fs::remove_file(with_suffix(&self.archived, ".origin"));
        let parents = self.archived.ancestors().skip(1).take(4);
        for dir in parents {
            let _ = fs::remove_dir(dir);
        }
    }

    /// Takes the original out of the kernel's directory, unless ours has taken its very name.
    pub fn give_way(&self, ours: &[PathBuf]) -> Result<()> {
        if !self.archived.exists() || ours.contains(&self.path) {
            return Ok(());
        }
        remove_any(&self.path).doing(cannot("remove", &self.path))
    }
}

/// Whether there is an archived original of a module, whatever its compression.
pub fn has(work: &Work, module: &str) -> Result<bool> {
    Ok(!archived(work.site, &work.id.name, &work.kernel.target, |stem| stem == module)?.is_empty())
}

/// The archived modules of module `name` whose own name is `wanted`, those that stood beside others last.
fn archived(site: &Site, name: &str, target: &Target, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let dir = site.tree.original_dir(name, target);
    let mut found = Vec::new();
    for dir in [dir.join(COLLISIONS), dir].into_iter().rev() {
        let all = list(&dir).doing(cannot("read", &dir))?;
        found.extend(all.iter().filter(|file| module_stem(file).is_some_and(&wanted)).map(|file| dir.join(file)));
    }
    Ok(found)
}

/// Archived modules and where they stood, as far as that is known.
fn with_places(files: Vec<PathBuf>, modules: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    files.into_iter().filter_map(|file| with_place(file, modules).transpose()).collect()
}

fn with_place(file: PathBuf, modules: &Path) -> Result<Option<(PathBuf, PathBuf)>> {
    let origin = with_suffix(&file, ".origin");
    let place = read_if_there(&origin).doing(cannot("read", &origin))?;
    let place = place.map(|place| PathBuf::from(place.trim_end_matches('\n')));
    // It is a module of this kernel, whatever else might be said to be one.
    let is_module = |place: &PathBuf| stays_below(place, modules) && is_module_file(&place.to_string_lossy());
    Ok(place.filter(is_module).map(|place| (file, place)))
}

/// The archived originals of a module: where they are kept and where they stood. First the one of which dkms speaks.
pub fn kept(work: &Work, module: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let Work { site, id, kernel, .. } = work;
    with_places(archived(site, &id.name, &kernel.target, |stem| stem == module)?, &kernel.modules)
}

/// Puts the archived originals of a module back where they were; not yet if its successor is on its way. Gives their places.
///
/// They stay in the archive too, until [`let_go`] ends that: whoever is cut off finds them there again.
pub fn restore(work: &Work, module: &str) -> Result<Vec<PathBuf>> {
    put_back(work, kept(work, module)?)
}

/// Puts back every original that is archived for this kernel, but for those that are `back` already; gives their places.
pub fn restore_all(work: &Work, back: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let Work { site, id, kernel, .. } = work;
    let mut originals = with_places(archived(site, &id.name, &kernel.target, |_| true)?, &kernel.modules)?;
    originals.retain(|(_, place)| !back.contains(place));
    put_back(work, originals)
}

fn put_back(work: &Work, originals: Vec<(PathBuf, PathBuf)>) -> Result<Vec<PathBuf>> {
    let mut places = Vec::new();
    for (file, place) in originals {
        if !is_beside(&file) {
            work.say.say(format!("Restoring archived original module {}", place.display()));
        }
        if !work.options.supersede {
            let parent = place.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(parent).doing(cannot("make", parent))?;
            replace_with_same(&file, &place).doing(cannot("restore", &place))?;
            places.push(place);
        }
    }
    Ok(places)
}

/// Whether an archived module stood beside another one of its name.
fn is_beside(file: &Path) -> bool {
    file.parent().is_some_and(|dir| dir.ends_with(COLLISIONS))
}

/// Says that what is left in the archive for this kernel goes, if there is more than what was just restored.
pub fn tell_let_go(work: &Work, restored: &[PathBuf]) {
    let dir = work.site.tree.original_dir(&work.id.name, &work.kernel.target);
    let back = |name: &str| restored.iter().any(|place| place.file_name().is_some_and(|it| it == name));
    let mut left = names(&dir.join(COLLISIONS));
    left.extend(names(&dir).into_iter().filter(|name| name != COLLISIONS));
    if left.iter().any(|name| !back(name.strip_suffix(".origin").unwrap_or(name))) {
        work.say.say(format!("Removing original module(s) from DKMS tree for kernel {}", work.kernel.target));
    }
}

/// Drops the originals of module `name` for a kernel from the archive: of those in these places, or all.
pub fn let_go(site: &Site, name: &str, target: &Target, places: Option<&[PathBuf]>) -> Result<()> {
    let dir = site.tree.original_dir(name, target);
    let Some(places) = places else {
        return site.tree.discard(&dir, site.tree.root()).doing(cannot("remove", &dir));
    };
    for (file, _) in with_places(archived(site, name, target, |_| true)?, &site.modules(&target.release))?
        .iter()
        .filter(|(_, place)| places.contains(place))
    {
        remove_any(file).doing(cannot("remove", file))?;
    }
    for dir in [dir.join(COLLISIONS), dir] {
        // A name without its file is what a kill has left.
        let all = list(&dir).doing(cannot("read", &dir))?;
        for origin in all.iter().filter(|name| name.ends_with(".origin")).map(|name| dir.join(name)) {
            if !origin.with_extension("").exists() {
                remove_any(&origin).doing(cannot("remove", &origin))?;
            }
        }
        // Of a module that is registered no more it is the last.
        remove_empty_up_to(&dir, site.tree.root());
    }
    Ok(())
}
