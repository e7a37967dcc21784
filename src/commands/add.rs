// SPDX-License-Identifier: GPL-2.0-or-later
//! `add`: registers a module's source.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::commands::{Invocation, ldtarball, lock};
use crate::error::{Doing, Error, Result, cannot};
use crate::model::conf::{Conf, Question};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::plan::remarks_on;
use crate::steps::Work;
use crate::steps::scripts::{self, Script};
use crate::system::directories::{Owner, copy_tree};
use crate::system::files::{self, rename, replace_link};
use crate::system::output::Block;
use crate::system::scratch::{self, Scratch};

/// `add`
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    if invocation.names_archive() {
        return ldtarball::run(site, invocation);
    }
    site.need_tree()?;
    let _lock = lock(site)?;
    add(site, invocation, &site.output.block())?.whole().map(drop)
}

/// A module that was registered.
#[derive(Debug)]
pub struct Added {
    /// Its name.
    pub id: Id,
    /// How its POST_ADD ended: `add` ends so, and nobody else.
    script: Result<()>,
}

impl Added {
    /// Its name, or the error of its POST_ADD.
    pub fn whole(self) -> Result<Id> {
        self.script.map(|()| self.id)
    }
}

/// Registers what the invocation names.
pub fn add(site: &Site, invocation: &Invocation, say: &Block) -> Result<Added> {
    add_with(site, invocation, None, say)
}

/// The same for a module that has been built elsewhere: `built` is what becomes `TREE/M/V`, but for the source.
pub fn add_with(site: &Site, invocation: &Invocation, built: Option<&Path>, say: &Block) -> Result<Added> {
    let id = match &invocation.source {
        Some(source) => take_in(site, invocation, source, say)?,
        None => invocation.id("add")?,
    };
    if site.tree.is_added(&id) {
        return Err(Error::AlreadyAdded(id.to_string()));
    }
    let source = site.tree.source_dir(&id);
    if !source.is_dir() {
        return Err(Error::NoSource(source));
    }
    let file = invocation.options.conf.clone().unwrap_or_else(|| source.join("dkms.conf"));
    let kernel = first_kernel(site, invocation);
    let conf = read(site, invocation, &kernel, Some(&id), file.clone())?;
    say.complain(remarks_on(&conf, &file.to_string_lossy(), &invocation.options.action));
    if !conf.problems.is_empty() || !conf.duplicates().is_empty() {
        return Err(Error::BadConf(file.to_string_lossy().into_owned()));
    }
    register(site, &id, &source, built, say)?;
    let work = Work { site, options: &invocation.options, id: &id, kernel: &kernel, conf: &conf, say };
    let script = match scripts::run(&work, Script::PostAdd) {
        0 => Ok(()),
        code => Err(Error::ScriptFailed { name: Script::PostAdd.name(), code }),
    };
    Ok(Added { id, script })
}

/// Puts a source into the tree as that of a module; with what has been built of it, if that came too.
pub(super) fn register(site: &Site, id: &Id, source: &Path, built: Option<&Path>, say: &Block) -> Result<()> {
    let link = site.tree.source_link(id);
    say.say(format!("Creating symlink {} -> {}", link.display(), source.display()));
    let (dir, build) = (site.tree.version_dir(id), site.tree.build_dir(id));
    if dir.exists() {
        // Of a source that has come back, perhaps under another name.
        fs::create_dir_all(&build).doing(cannot("make", &build))?;
        if link.is_dir() && !link.is_symlink() {
            // The dkms.conf of a module that had no source.
            site.tree.discard(&link, &dir).doing(cannot("replace", &link))?;
        }
        return replace_link(source, &link).doing(cannot("make", &link));
    }
    // A directory without the link would be a broken module.
    let scratch = Scratch::new(site.tree.root()).doing(cannot("write", site.tree.root()))?;
    let new = built.map_or_else(|| scratch.path().join("new"), Path::to_owned);
    let parent = site.tree.module_root(&id.name);
    fs::create_dir_all(new.join("build"))
        .and_then(|()| symlink(source, new.join("source")))
        .and_then(|()| fs::create_dir_all(&parent))
        .and_then(|()| rename(&new, &dir))
        .doing(cannot("make", &dir))
}

fn first_kernel(site: &Site, invocation: &Invocation) -> Kernel {
    let target = invocation.targets.first().cloned().unwrap_or_else(Target::running);
    let options = &invocation.options;
    Kernel::new(site, &target, options.headers.as_deref(), options.config.as_deref())
}

fn read(site: &Site, invocation: &Invocation, kernel: &Kernel, id: Option<&Id>, file: PathBuf) -> Result<Conf> {
    let options = &invocation.options;
    Question { site, kernel, id, file, directives: &options.directives, action: &options.action, force: options.force }
        .answer()
}

/// Copies a source tree from anywhere to where sources are, under the name that its dkms.conf gives.
pub fn take_in(site: &Site, invocation: &Invocation, source: &Path, say: &Block) -> Result<Id> {
    let source = fs::canonicalize(source).doing(cannot("find", source))?;
    let file = invocation.options.conf.clone().unwrap_or_else(|| source.join("dkms.conf"));
    if !source.join("dkms.conf").is_file() {
        return Err(Error::Usage { text: format!("{} must contain a dkms.conf file!", source.display()), code: 9 });
    }
    let kernel = first_kernel(site, invocation);
    let conf = read(site, invocation, &kernel, None, file.clone())?;
    if conf.id.name.is_empty() || conf.id.version.is_empty() {
        say.complain(remarks_on(&conf, &file.to_string_lossy(), &invocation.options.action));
        return Err(Error::BadConf(file.to_string_lossy().into_owned()));
    }
    let id = conf.id.clone();
    if !id.is_sane() {
        return Err(Error::BadName(id.to_string()));
    }
    let place = site.tree.source_dir(&id);
    let is = |path: &Path| fs::canonicalize(path).is_ok_and(|path| path == source);
    if is(&place) || is(&site.tree.source_link(&id)) || is(&site.tree.build_dir(&id)) {
        return Ok(id);
    }
    let replaced = invocation.options.force && place.exists();
    if replaced {
        say.complain(format!("\nForcing install of {id}\n"));
    }
    // Beside it first: what is there serves until all of the new one is. Where it is a link, what that leads to.
    let place = fs::canonicalize(&place).unwrap_or(place);
    let parent = place.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).doing(cannot("make", parent))?;
    scratch::sweep(parent, scratch::PREFIX);
    let beside = Scratch::new(parent).doing(cannot("write", parent))?;
    let new = beside.path().join("source");
    // Root's copies are root's: who owns the original could change what root will build and run.
    let owner = if site.root { Owner::Is(0, 0) } else { Owner::Same };
    if place.exists() && !replaced {
        copy_tree(&place, &new, owner).doing(|| format!("Cannot copy the source in {}", place.display()))?;
    }
    copy_tree(&source, &new, owner)
        .and_then(|()| files::publish(&new, &place))
        .doing(|| format!("Cannot copy the source to {}", place.display()))
        .map(|()| id)
}
