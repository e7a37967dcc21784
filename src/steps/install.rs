// SPDX-License-Identifier: GPL-2.0-or-later
//! Putting built modules into a kernel's directory.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result, cannot};
use crate::model::conf::Module;
use crate::model::kernel::module_stem;
use crate::model::module::Id;
use crate::model::site::Site;
use crate::steps::archive::{self, Original};
use crate::steps::installed::{is_succeeded, stem};
use crate::steps::{Work, superseded};
use crate::system::directories::{find_all, list, names, remove_empty_up_to};
use crate::system::files::{replace_link, same_content, stage_copy, stage_link, unstage};
use crate::system::modinfo::ModInfo;
use crate::system::paths::below;
use crate::system::trust;
use crate::system::version::compare_padded;

/// Modules in place, whose originals wait for depmod before they go.
#[derive(Debug, Default)]
pub struct Placed {
    /// Where they are.
    pub files: Vec<PathBuf>,
    originals: Vec<Original>,
}

impl Placed {
    /// Takes the originals away, when depmod has found ours.
    pub fn settle(&self) -> Result<()> {
        self.originals.iter().try_for_each(|original| original.give_way(&self.files))
    }

    /// Those originals that go then.
    pub fn giving_way(&self) -> impl Iterator<Item = PathBuf> {
        self.originals.iter().map(|original| original.path().to_owned()).filter(|path| !self.files.contains(path))
    }

    /// Those of ours that depmod would not take by itself, for their originals stand where they are preferred.
    pub fn contested(&self, modules: &Path) -> Vec<&PathBuf> {
        let kernels = modules.join("kernel");
        let stronger = |original: &Original| !original.path().starts_with(&kernels);
        let theirs: Vec<&Path> = self.originals.iter().filter(|it| stronger(it)).map(Original::path).collect();
        self.files.iter().filter(|file| theirs.iter().any(|other| is_succeeded(other, file))).collect()
    }

    /// Puts everything beside its place, where a full disk shows; then all of it in place.
    fn put(&mut self, candidates: &[Candidate], work: &Work, standing: &Standing, unfinished: bool) -> Result<()> {
        let mut staged = Vec::new();
        let result = candidates.iter().try_for_each(|candidate| {
            let file = announce(work, candidate, standing, unfinished, &mut self.originals)?;
            let dir = file.parent().unwrap_or(&work.kernel.modules);
            trust::check(dir)?;
            fs::create_dir_all(dir).doing(cannot("make", dir))?;
            let stage = if work.site.framework.symlink_modules { stage_link } else { stage_copy };
            staged.push((stage(&candidate.built, &file).doing(cannot("install", &file))?, file));
            Ok(())
        });
        if let Err(error) = result {
            for (new, _) in &staged {
                let _ = fs::remove_file(new);
            }
            for candidate in candidates {
                remove_empty_up_to(&candidate.place(work), &work.kernel.modules);
            }
            self.originals.iter().for_each(Original::forget);
            return Err(error);
        }
        let mut staged = staged.into_iter();
        let result = staged.by_ref().try_for_each(|(new, file)| {
            // First, for it may be there although that failed.
            self.files.push(file.clone());
            unstage(&new, &file).doing(cannot("install", &file))
        });
        staged.for_each(|(new, _)| drop(fs::remove_file(new)));
        result
    }
}

/// A module to be installed.
#[derive(Debug)]
struct Candidate<'a> {
    module: &'a Module,
    /// What was built.
    built: PathBuf,
    /// Its name when installed.
    name: String,
    /// The name that the kernel's own modules suggest: with their suffix.
    usual_name: String,
}

impl<'a> Candidate<'a> {
    /// A module whose compression failed stays as it is; kernels load either.
    fn find(module: &'a Module, dir: &Path, suffix: &str) -> Result<Self> {
        let usual_name = format!("{}.ko{suffix}", module.dest_name);
        let plain = format!("{}.ko", module.dest_name);
        let name = [&usual_name, &plain].into_iter().find(|name| dir.join(name).exists()).cloned();
        let missing = || Error::MissingModule { module: module.dest_name.clone(), dir: dir.to_owned() };
        let name = name.ok_or_else(missing)?;
        Ok(Self { module, built: dir.join(&name), name, usual_name })
    }

    /// The directory that it is installed into.
    fn place(&self, work: &Work) -> PathBuf {
        below(&work.kernel.modules, &self.module.dest_location)
    }
}

/// What stands in the kernel's directory before anything is installed, looked at once for all modules.
#[derive(Debug)]
struct Standing {
    /// The files that have a candidate's name, by that name without suffixes: whatever their compression.
    files: HashMap<String, Vec<PathBuf>>,
    /// Those that an upgrade left in place.
    superseded: Vec<PathBuf>,
}

impl Standing {
    fn look(work: &Work, candidates: &[Candidate], mut superseded: Vec<PathBuf>) -> Result<Self> {
        let names: HashSet<&str> = candidates.iter().map(|candidate| candidate.module.dest_name.as_str()).collect();
        let mut files: HashMap<_, Vec<_>> = HashMap::new();
        let modules = &work.kernel.modules;
        let mut wanted = |name: &str| module_stem(name).is_some_and(|stem| names.contains(stem));
        for file in find_all(modules, &mut wanted).doing(cannot("read", modules))? {
            files.entry(stem(&file)).or_default().push(file);
        }
        superseded.extend(superseded::files(work.site, &work.id.name, &work.kernel.target)?);
        Ok(Self { files, superseded })
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &PathBuf> {
        self.files.get(name).into_iter().flatten()
    }
}

/// What an administrator or a package listed as to be forced, in files of one word a line.
#[derive(Debug, Clone, Copy, Default)]
struct Forced {
    install: bool,
    version: bool,
}

fn forced(site: &Site, id: &Id) -> Result<Forced> {
    let dir = site.paths.forced_lists();
    let mut forced = Forced::default();
    for name in list(&dir).doing(cannot("read", &dir))? {
        let file = dir.join(name);
        let text = fs::read(&file).doing(cannot("read", &file))?;
        for word in String::from_utf8_lossy(&text).split_whitespace() {
            forced.install |= word == id.name;
            forced.version |= word.strip_suffix("_version-override") == Some(&id.name);
        }
    }
    Ok(forced)
}

/// What is to be installed, once it is known that it can be.
#[derive(Debug)]
pub struct Ready<'a> {
    forced: Forced,
    candidates: Vec<Candidate<'a>>,
}

impl Ready<'_> {
    /// Whether there is a module of this file's name among them.
    pub fn brings(&self, file: &Path) -> bool {
        let stem = stem(file);
        self.candidates.iter().any(|candidate| candidate.module.dest_name == stem)
    }
}

/// Looks whether kernel and modules are there.
pub fn prepare<'a>(work: &Work<'a>) -> Result<Ready<'a>> {
    let Work { site, options, id, kernel, conf, say } = work;
    let forced = forced(site, id)?;
    if forced.install {
        say.say(format!("Forcing installation of {}", id.name));
    }
    if forced.version {
        say.say(format!("Forcing version override of {}", id.name));
    }
    if !kernel.modules.is_dir() {
        return Err(Error::NoKernel(kernel.modules.clone()));
    }
    if let Some(release) = conf.obsolete_by(&kernel.target).filter(|_| !options.force && !forced.install) {
        say.complain(format!(
            "\nModule has been obsoleted due to being included in kernel {release}.\nWe will avoid installing for future \
             kernels above {release}.\nYou may override by specifying --force.\n"
        ));
        return Err(Error::InstallAborted);
    }
    let suffix = kernel.compression();
    let built = site.tree.module_dir(id, &kernel.target);
    trust::check_all(&built)?;
    // What was built is installed all the same when its package is not meant for this kernel any more.
    let modules = conf.included(kernel).unwrap_or_else(|| conf.modules.iter().collect());
    let find = |module| Candidate::find(module, &built, suffix);
    let candidates = modules.into_iter().map(find).collect::<Result<Vec<_>>>()?;
    Ok(Ready { forced, candidates })
}

/// What is to be installed, beside what stands there.
#[derive(Debug)]
pub struct Chosen<'a> {
    candidates: Vec<Candidate<'a>>,
    standing: Standing,
    unfinished: bool,
}

/// Leaves out what the kernel has already. `unfinished`: an earlier run was cut off here, so what stands there may be
/// ours. Of `given_up` it is all the same whose it was: nobody wants it any more.
pub fn choose<'a>(work: &Work, ready: Ready<'a>, unfinished: bool, given_up: Vec<PathBuf>) -> Result<Chosen<'a>> {
    let options = work.options;
    let Ready { forced, mut candidates } = ready;
    let standing = Standing::look(work, &candidates, given_up)?;
    if !(options.force || forced.install || options.force_version || forced.version || unfinished) {
        let some = !candidates.is_empty();
        let wanted = candidates.into_iter().map(|it| Ok(is_wanted(work, &it, &standing)?.then_some(it)));
        candidates = wanted.filter_map(Result::transpose).collect::<Result<_>>()?;
        if some && candidates.is_empty() {
            return Err(Error::InstallAborted);
        }
    }
    Ok(Chosen { candidates, standing, unfinished })
}

/// Puts the modules in place; where that fails `placed` has those that may be there.
pub fn place(work: &Work, chosen: &Chosen, placed: &mut Placed) -> Result<()> {
    placed.put(&chosen.candidates, work, &chosen.standing, chosen.unfinished)
}

/// Says what is about to be done, and archives the modules that stand in the way; gives the place of ours.
fn announce(
    work: &Work,
    candidate: &Candidate,
    standing: &Standing,
    unfinished: bool,
    originals: &mut Vec<Original>,
) -> Result<PathBuf> {
    let Work { site, id, kernel, say, .. } = work;
    let file = candidate.place(work).join(&candidate.name);
    let name = &candidate.module.dest_name;
    if fs::symlink_metadata(site.tree.link(&id.name, &kernel.target)).is_err() {
        let ours = &standing.superseded;
        // What stands there counts: the kernel may have been unpacked anew. Else what was archived before an upgrade.
        // What a run that was cut off has put in place is no original either.
        let is_ours = |file: &Path| {
            ours.iter().any(|o| o == file)
                || leads_to(file, &candidate.built)
                || unfinished && same_content(file, &candidate.built)
        };
        let is_theirs = |file: &PathBuf| file.exists() && !is_ours(file);
        for (index, original) in in_the_way(work, candidate, standing, is_theirs)?.iter().enumerate() {
            if index == 0 {
                say.say(format!("Found pre-existing {}, archiving for uninstallation", original.display()));
            }
            // Else it is in the archive already.
            if is_theirs(original) {
                originals.push(archive::keep(work, original, index > 0)?);
            }
        }
    } else if archive::has(work, name)? {
        say.say("An original module was already stored during a previous install");
        originals.extend(archive::left_in_place(work, name)?);
    }
    say.say(format!("Installing {}", file.display()));
    Ok(file)
}

/// The modules that a candidate stands against, of those that `is_theirs` says are no module of ours: the one that dkms
/// archives, then what depmod might take for it in the place of ours or beside it.
fn in_the_way(
    work: &Work,
    candidate: &Candidate,
    standing: &Standing,
    is_theirs: impl Fn(&PathBuf) -> bool,
) -> Result<Vec<PathBuf>> {
    let (name, dir, modules) = (&candidate.module.dest_name, candidate.place(work), &work.kernel.modules);
    let known = [modules.join("extra"), modules.join("updates"), dir.clone()];
    let kept = if standing.superseded.is_empty() { Vec::new() } else { archive::kept(work, name)? };
    let mut all: Vec<PathBuf> = kept.into_iter().map(|(_, place)| place).collect();
    let there = known.iter().flat_map(|dir| named(dir, name)).chain(standing.named(name).cloned());
    all.extend(there.filter(is_theirs));
    let is_in = |dir: &PathBuf| all.iter().find(|file| file.parent() == Some(dir));
    let first = known.iter().find_map(is_in).or(all.first()).cloned();
    let beside: BTreeSet<_> = all.into_iter().filter(|file| file.parent() == Some(&dir)).collect();
    let others = beside.into_iter().filter(|file| Some(file) != first.as_ref());
    Ok(first.iter().cloned().chain(others).collect())
}

/// The files of a module in one directory, whatever their compression.
fn named(dir: &Path, module: &str) -> Vec<PathBuf> {
    let names = names(dir).into_iter().filter(|name| module_stem(name) == Some(module));
    names.map(|name| dir.join(name)).collect()
}

/// Whether a file is our link to what was built, of an installation that nothing else tells of.
fn leads_to(file: &Path, built: &Path) -> bool {
    file.is_symlink() && fs::canonicalize(file).is_ok_and(|to| fs::canonicalize(built).is_ok_and(|built| to == built))
}

/// Whether the built module is to replace what the kernel has under its name; says why not.
fn is_wanted(work: &Work, candidate: &Candidate, standing: &Standing) -> Result<bool> {
    let Work { kernel, say, .. } = work;
    let (built, name) = (&candidate.built, &candidate.module.dest_name);
    let ours = &standing.superseded;
    let there = standing.named(name).find(|file| !ours.contains(file) && !leads_to(file, built)).cloned();
    let kept = if ours.is_empty() { Vec::new() } else { archive::kept(work, name)? };
    let Some(present) = there.or_else(|| kept.into_iter().next().map(|(file, _)| file)) else {
        return Ok(true);
    };
    let info = |file: &Path| ModInfo::read(file).unwrap_or_default();
    let (theirs, ours) = (info(&present), info(built));
    let (their_version, our_version) = (&theirs.version, &ours.version);
    if compare_padded(their_version, our_version).is_gt() {
        say.error(&format!(
            "Module version {our_version} for {}\nis not newer than what is already found in kernel {} ({their_version}).\n\
             You may override by specifying --force.",
            candidate.usual_name, kernel.target.release
        ));
        return Ok(false);
    }
    let unversioned = [&theirs, &ours].iter().all(|info| info.version.is_empty() && info.srcversion.is_empty());
    let same = if unversioned {
        same_content(&present, built)
    } else {
        their_version == our_version && theirs.srcversion == ours.srcversion
    };
    if same {
        let what = match their_version.as_str() {
            "" => "already installed (unversioned module)".to_owned(),
            version => format!("already installed at version {version}"),
        };
        say.complain(format!("Module {} {what}, override by specifying --force\n", present.display()));
    }
    Ok(!same)
}

/// Flips the link by which the module counts as installed.
pub fn flip_link(work: &Work) -> Result<()> {
    let Work { site, id, kernel, .. } = work;
    let link = site.tree.link(&id.name, &kernel.target);
    replace_link(&site.tree.link_target(id, &kernel.target), &link).doing(cannot("set", &link))
}
