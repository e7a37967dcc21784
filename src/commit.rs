// SPDX-License-Identifier: GPL-2.0-or-later
//! The only writer of /lib/modules and of the tree's lasting state.
//!
//! An installation is marked as pending first and unmarked last, after depmod: what a kill leaves in between counts
//! as not installed, so the same command mends it.

mod finishing;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result, cannot};
use crate::model::conf::Module;
use crate::model::failures::{self, Failure};
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::{NOT_KERNELS, State, Tree};
use crate::request::Goal;
use crate::steps::install::{self, Placed};
use crate::steps::installed::{self, stem};
use crate::steps::scripts::{self, Script};
use crate::steps::superseded::TRIGGER;
use crate::steps::uninstall::{self, Withdrawn};
use crate::steps::{Work, archive, depmod, superseded};
use crate::system::directories::{list, remove_any};
use crate::system::dpkg;
use crate::system::files::{publish, replace_with_copy};
use crate::system::output::Block;
use crate::system::paths::hidden;
use crate::system::root_fs::module_name;

/// What was done to one kernel since its last depmod.
#[derive(Debug, Default)]
struct Touched {
    /// Whether its directory is another one now: what is superseded stays in place.
    changed: bool,
    /// With the names of the modules and the kernel.
    placed: Vec<(String, Target, Placed)>,
    /// Originals that are back in their places, with the names of the modules and the kernel that had replaced them.
    restored: Vec<(String, Target, PathBuf)>,
    /// Modules of ours that go when depmod has found their successors.
    leaving: Vec<PathBuf>,
    /// Of what upgrades left in place, the files that have found their successors.
    given_up: Vec<(String, Target, Vec<PathBuf>)>,
    /// What the new version does not bring, while another package may.
    waiting: Vec<PathBuf>,
    /// Of these modules nothing is left then: no archive, no record of what is superseded.
    gone: Vec<(String, Target)>,
    marks: Vec<(PathBuf, Id)>,
    /// Whether something was uninstalled, in words at least.
    withdrawn: bool,
}

impl Touched {
    /// The originals that are back for one module.
    fn back(&self, name: &str, target: &Target) -> Vec<PathBuf> {
        let of_it = self.restored.iter().filter(|(other, on, _)| (other.as_str(), on) == (name, target));
        of_it.map(|(.., place)| place.clone()).collect()
    }

    fn put_back(&mut self, work: &Work, places: Vec<PathBuf>) {
        let named = |place| (work.id.name.clone(), work.kernel.target.clone(), place);
        self.restored.extend(places.into_iter().map(named));
    }
}

/// Changes on their way; [`Commit::finish`] ends those of one kernel.
#[derive(Debug)]
pub struct Commit<'a> {
    site: &'a Site,
    options: &'a Options,
    touched: BTreeMap<String, Touched>,
    /// Of each kernel that a module was taken out of, the names of which it had several files before.
    shared: BTreeMap<String, HashSet<String>>,
    /// The kernels whose changes depmod has not taken in, and why.
    stuck: BTreeMap<String, String>,
}

impl<'a> Commit<'a> {
    /// Nothing changed yet.
    pub fn new(site: &'a Site, options: &'a Options) -> Self {
        Self { site, options, touched: BTreeMap::new(), shared: BTreeMap::new(), stuck: BTreeMap::new() }
    }

    /// Installs what is built; what is installed already goes first, in words: its files stay until ours replace them.
    pub fn install(&mut self, work: &Work) -> Result<()> {
        let Work { site, id, kernel, say, .. } = work;
        if site.tree.state(id, &kernel.target) != State::Installed {
            return self.put_in(work);
        }
        let options = Options { supersede: true, ..work.options.clone() };
        self.uninstall(&Work { options: &options, ..*work })?;
        say.say("");
        self.put_in_again(work)
    }

    /// Installs what was built anew in place of itself. That it goes was told before.
    pub fn replace(&mut self, work: &Work) -> Result<()> {
        let Work { site, id, kernel, .. } = work;
        if site.tree.state(id, &kernel.target) != State::Installed {
            return self.put_in(work);
        }
        let quiet = site.output.errors_only_block();
        let options = Options { supersede: true, ..work.options.clone() };
        let quietly = Work { options: &options, say: &quiet, ..*work };
        let found = uninstall::find(&quietly)?;
        let unfinished = self.mark(&quietly, &found)?;
        uninstall::withdraw(&quietly, &found, unfinished, &mut |_| false)?;
        scripts::run(work, Script::PostRemove);
        self.put_in_again(work)
    }

    /// Installs what is recorded as superseded by itself. Where that fails, what is in place still counts again.
    fn put_in_again(&mut self, work: &Work) -> Result<()> {
        let Work { site, id, kernel, .. } = work;
        self.put_in(work).inspect_err(|_| {
            if !superseded::is_recorded(site, &id.name, &kernel.target) {
                // There was nothing in place.
                return;
            }
            let back = install::flip_link(work).and_then(|()| superseded::forget(site, &id.name, &kernel.target));
            back.unwrap_or_else(|error| work.say.warn(error.to_string()));
        })
    }

    /// Installs what is built and was not installed, or is recorded as superseded.
    fn put_in(&mut self, work: &Work) -> Result<()> {
        let Work { site, id, kernel, .. } = work;
        let ready = install::prepare(work)?;
        if scripts::run(work, Script::PreInstall) != 0 && !self.options.force {
            return Err(Error::PreInstallFailed);
        }
        let mark = site.tree.pending_mark(&id.name, &kernel.target);
        let unfinished = mark.exists();
        let given_up = self.forget_superseded_by(work, &ready)?;
        let mut superseded = superseded::files(site, &id.name, &kernel.target)?;
        // Another package of this run of dpkg may bring what this one does no more; if none does, that goes at its end.
        let mut waiting: Vec<PathBuf> = superseded.iter().filter(|file| !ready.brings(file)).cloned().collect();
        if !waiting.is_empty() && dpkg::activate_trigger(TRIGGER) {
            superseded.retain(|file| ready.brings(file));
        } else {
            waiting.clear();
        }
        let chosen = install::choose(work, ready, unfinished, given_up.clone());
        let chosen = chosen.inspect_err(|_| self.take_back(&kernel.target, &given_up))?;
        site.tree.note(&mark, &format!("{id}\n")).doing(cannot("write", &mark))?;
        let mut placed = Placed::default();
        if let Err(error) = install::place(work, &chosen, &mut placed) {
            self.take_back(&kernel.target, &given_up);
            // Unless something is in place nothing was changed.
            if !unfinished && placed.files.is_empty() {
                site.tree.forget(&mark).unwrap_or_else(|error| log::warn!("{}: {error}", mark.display()));
            }
            return Err(error);
        }
        install::flip_link(work)?;
        // What the module brings no more gives its place back to what was there before.
        let mut restored = Vec::new();
        let brought: HashSet<String> = placed.files.iter().map(|file| stem(file)).collect();
        for file in superseded.iter().filter(|file| !brought.contains(&stem(file))) {
            restored.extend(archive::restore(work, &stem(file))?);
        }
        let touched = self.touched(&kernel.target);
        touched.put_back(work, restored);
        touched.changed = true;
        touched.leaving.extend(superseded);
        touched.waiting.extend(waiting);
        touched.placed.push((id.name.clone(), kernel.target.clone(), placed));
        touched.marks.push((mark, (*id).clone()));
        scripts::run(work, Script::PostInstall);
        self.tell_depmod(work);
        Ok(())
    }

    /// Undoes what was done for one module and kernel, as far as the goal says; says what there was not to undo.
    pub fn undo(&mut self, work: &Work, goal: Goal) -> Result<()> {
        let Work { site, id, kernel, say, .. } = work;
        let target = &kernel.target;
        self.forget_failure_of(id, target);
        // Also what another version was to take the place of, and did not.
        let linked = site.tree.state(id, target) != State::Added && site.tree.is_linked(id, target);
        if linked || site.tree.is_unfinished(id, target) {
            self.uninstall(work)?;
        } else {
            // What an upgrade of another version left in place waits for that one.
            let waits = || site.tree.versions(&id.name).iter().any(|other| other != *id);
            let own = || superseded::origin(site, &id.name, target).id.as_ref() == Some(*id);
            if !work.options.supersede && (own() || !waits()) {
                self.forget_superseded(work)?;
            }
            if !work.conf.is_exclusive() {
                say.say(format!("Module {id} is not installed for kernel {target}. Skipping..."));
            }
            let built = site.tree.state(id, target) == State::Built && !self.options.no_depmod;
            if built && !work.options.supersede && uninstall::is_gone_unnoticed(work)? {
                self.touched(target).changed = true;
            }
        }
        if goal == Goal::Uninstalled {
            return Ok(());
        }
        let built = site.tree.built_dir(id, target);
        if site.tree.state(id, target) == State::Added {
            say.say(format!("Module {id} is not built for kernel {target}. Skipping..."));
            // What a build that was cut off was shown goes all the same.
            if !site.tree.module_dir(id, target).is_dir() {
                return Ok(());
            }
        }
        site.tree.discard(&built, &site.tree.version_dir(id)).doing(cannot("remove", &built))
    }

    /// Marks a change that begins with taking away what was `found` of a module; whether an earlier one had not ended.
    fn mark(&mut self, work: &Work, found: &[(Module, Option<PathBuf>)]) -> Result<bool> {
        let Work { site, id, kernel, .. } = work;
        let mark = site.tree.pending_mark(&id.name, &kernel.target);
        let unfinished = mark.exists();
        let mut going = site.tree.going(id, &kernel.target).unwrap_or_default();
        for (module, file) in found.iter().filter_map(|(module, file)| Some((module, file.clone()?))) {
            // In the place of which the original comes back.
            let kept = archive::kept(work, &module.dest_name)?;
            going.extend(Some(file).filter(|file| kept.iter().all(|(_, place)| place != file)));
        }
        going.sort();
        going.dedup();
        let text = if work.options.supersede { format!("{id}\n") } else { Tree::removal(id, &going) };
        match site.tree.note(&mark, &text) {
            // A full disk is no reason to keep what would make room on it.
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                log::warn!("{}: {error}", mark.display());
            }
            // One that cannot be written is: what goes could not be told from what is there.
            noted => noted.doing(cannot("write", &mark))?,
        }
        let touched = self.touched(&kernel.target);
        touched.changed |= unfinished || !work.options.supersede;
        touched.withdrawn = true;
        touched.marks.push((mark, (*id).clone()));
        Ok(unfinished)
    }

    /// Takes a module out of its kernel's directory.
    fn uninstall(&mut self, work: &Work) -> Result<()> {
        let found = uninstall::find(work)?;
        let unfinished = self.mark(work, &found)?;
        let withdrawn = uninstall::withdraw(work, &found, unfinished, &mut |file| self.has_namesake(work, file));
        if withdrawn.is_err() && found.iter().any(|(_, file)| file.as_ref().is_some_and(|file| !file.exists())) {
            // It is not what it was: the mark stays.
            let mark = work.site.tree.pending_mark(&work.id.name, &work.kernel.target);
            self.touched(&work.kernel.target).marks.retain(|(other, _)| *other != mark);
        }
        let Withdrawn { restored, leaving } = withdrawn?;
        scripts::run(work, Script::PostRemove);
        self.tell_depmod(work);
        if work.options.supersede {
            return Ok(());
        }
        let touched = self.touched(&work.kernel.target);
        touched.put_back(work, restored);
        touched.leaving.extend(leaving);
        self.forget_superseded(work)?;
        let touched = self.touched(&work.kernel.target);
        archive::tell_let_go(work, &touched.back(&work.id.name, &work.kernel.target));
        touched.gone.push((work.id.name.clone(), work.kernel.target.clone()));
        Ok(())
    }

    /// Whether the kernel has another file of a module's name; looked for once, for all of its modules.
    fn has_namesake(&mut self, work: &Work, file: &Path) -> bool {
        let known = self.shared.entry(work.kernel.target.release.clone());
        let shared = known.or_insert_with(|| installed::shared_names(&work.kernel.modules));
        shared.contains(&module_name(&stem(file)))
    }

    fn touched(&mut self, target: &Target) -> &mut Touched {
        self.touched.entry(target.release.clone()).or_default()
    }

    /// Deletes what an upgrade left in place and nothing has succeeded; the kernel's own modules come back.
    pub fn forget_superseded(&mut self, work: &Work) -> Result<()> {
        let target = &work.kernel.target;
        if !superseded::is_recorded(self.site, &work.id.name, target) {
            return Ok(());
        }
        let leaving = superseded::files(self.site, &work.id.name, target)?;
        let touched = self.touched(target);
        let restored = archive::restore_all(work, &touched.back(&work.id.name, target))?;
        touched.put_back(work, restored);
        touched.leaving.extend(leaving);
        touched.gone.push((work.id.name.clone(), target.clone()));
        touched.changed = true;
        Ok(())
    }

    /// What another module's upgrade left in place under the name of one of these has found its successor: what it had
    /// replaced is back, for these to replace it, unless that module is registered, is to be installed and sees to it by
    /// itself. Gives its files, which stay until then; others of that upgrade wait on.
    fn forget_superseded_by(&mut self, work: &Work, ready: &install::Ready) -> Result<Vec<PathBuf>> {
        let mut given_up = Vec::new();
        for (id, target, mut files) in superseded::of_others(work.site, work.id, &work.kernel.target)? {
            files.retain(|file| ready.brings(file));
            let tree = &work.site.tree;
            let versions = tree.versions(&id.name);
            let is_done = versions.is_empty() || versions.iter().any(|id| tree.state(id, &target) == State::Installed);
            if !files.is_empty() && (id.name == work.id.name || is_done) {
                let quiet = work.site.output.errors_only_block();
                let mut kernel = work.kernel.clone();
                kernel.target = target.clone();
                let of_other = Work { id: &id, kernel: &kernel, say: &quiet, ..*work };
                let restored = files.iter().map(|file| archive::restore(&of_other, &stem(file)));
                let restored = restored.collect::<Result<Vec<_>>>()?.concat();
                let touched = self.touched(&target);
                touched.put_back(&of_other, restored);
                touched.leaving.extend(files.iter().cloned());
                touched.given_up.push((id.name, target, files.clone()));
                touched.changed = true;
            }
            given_up.extend(files);
        }
        Ok(given_up)
    }

    /// What was given up has no successor after all.
    fn take_back(&mut self, target: &Target, files: &[PathBuf]) {
        let touched = self.touched(target);
        touched.leaving.retain(|file| !files.contains(file));
        touched.given_up.retain(|(.., given_up)| !given_up.iter().any(|file| files.contains(file)));
    }

    /// Forgets that this version of a module could not be installed: nobody wants it any more. Not for an upgrade, which
    /// may come back to the same build.
    fn forget_failure_of(&self, id: &Id, target: &Target) {
        let noted = Failure::read(&self.site.tree, &id.name, target);
        if !self.options.supersede && noted.is_some_and(|failure| failure.id == *id) {
            self.forget_failure(&id.name, target);
        }
    }

    /// Forgets that a module could not be installed for a kernel: it is, or the kernel goes.
    pub fn forget_failure(&self, name: &str, target: &Target) {
        failures::forget(&self.site.tree, name, target);
    }

    /// Forgets a module that is built for no kernel any more.
    pub fn forget(&mut self, id: &Id, say: &Block) -> Result<()> {
        let dir = self.site.tree.version_dir(id);
        let is_kernel = |name: &String| dir.join(name).is_dir() && !NOT_KERNELS.contains(&name.as_str());
        if list(&dir).doing(cannot("read", &dir))?.iter().any(is_kernel) {
            return Ok(());
        }
        // Who forgot it could not end that any more.
        let unfinished = self.site.tree.unfinished(id).first().map(Target::to_string);
        if let Some(kernel) = unfinished.or_else(|| self.stuck.keys().next_back().cloned()) {
            return Err(Error::Unfinished { id: id.to_string(), kernel });
        }
        say.say(format!("Deleting module {id} completely from the DKMS tree."));
        self.site.tree.discard(&dir, self.site.tree.root()).doing(cannot("delete", &dir))?;
        self.site.memory.forget(id);
        for target in self.site.tree.failed(&id.name) {
            self.forget_failure_of(id, &target);
        }
        Ok(())
    }

    /// Takes over what was built elsewhere, from a directory in the tree's own file system; but not with which versions
    /// of other modules it was built: those were another machine's. `version_dir` is `TREE/M/V`, or what becomes that.
    pub fn load(&self, id: &Id, target: &Target, built: &Path, version_dir: &Path, say: &Block) -> Result<()> {
        let place = self.site.tree.built_dir(id, target);
        if place.exists() && !self.options.force {
            say.warn(format!("{} already exists. Skipping...", place.display()));
            return Ok(());
        }
        say.say(format!("Loading {}...", place.display()));
        for entry in fs::read_dir(built).doing(cannot("read", built))?.flatten() {
            if hidden(&entry.path()) {
                remove_any(&entry.path()).doing(cannot("remove", &entry.path()))?;
            }
        }
        let parent = version_dir.join(&target.release);
        fs::create_dir_all(&parent).doing(cannot("make", &parent))?;
        publish(built, &parent.join(&target.arch)).doing(cannot("write", &place))
    }

    /// Keeps the dkms.conf of modules whose source is not here, where `status` does not look for modules.
    pub fn keep_conf(&self, id: &Id, conf: &Path, say: &Block) -> Result<()> {
        let place = self.site.tree.source_link(id);
        if place.is_symlink() {
            return Err(Error::Broken(id.to_string()));
        }
        say.say(format!("Creating {}", place.display()));
        fs::create_dir_all(&place).doing(cannot("make", &place))?;
        say.say(format!("Copying dkms.conf to {} ...", place.display()));
        replace_with_copy(conf, &place.join("dkms.conf")).doing(cannot("write", &place))
    }

    /// depmod's words, unless they come once for all modules; the deed is done once, by [`Commit::finish`].
    fn tell_depmod(&self, work: &Work) {
        if !self.options.depmod_later {
            depmod::tell(work.site, &work.kernel.target.release, work.say);
        }
    }
}
