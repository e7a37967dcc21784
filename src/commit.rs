// SPDX-License-Identifier: GPL-2.0-or-later
//! The only writer of /lib/modules and of the tree's lasting state.
//!
//! An installation is marked as pending first and unmarked last, after depmod: what a kill leaves in between counts
//! as not installed, so the same command mends it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Doing, Error, Result, cannot};
use crate::model::module::Target;
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::State;
use crate::steps::install::{self, Placed};
use crate::steps::scripts::{self, Script};
use crate::steps::{Work, archive, depmod, initramfs, superseded};
use crate::system::files::{remove_any, remove_empty_up_to};
use crate::system::output::Block;

/// What was changed on one kernel since its last depmod.
#[derive(Debug, Default)]
struct Touched {
    /// With the names of the modules and the kernel.
    placed: Vec<(String, Target, Placed)>,
    marks: Vec<PathBuf>,
}

/// Changes on their way; [`Commit::finish`] ends those of one kernel.
#[derive(Debug)]
pub struct Commit<'a> {
    site: &'a Site,
    options: &'a Options,
    touched: BTreeMap<String, Touched>,
}

impl<'a> Commit<'a> {
    /// Nothing changed yet.
    pub fn new(site: &'a Site, options: &'a Options) -> Self {
        Self { site, options, touched: BTreeMap::new() }
    }

    /// Installs what is built; what is installed already goes first, in words: its files stay until ours replace them.
    pub fn install(&mut self, work: &Work) -> Result<()> {
        let Work { site, id, kernel, say, .. } = work;
        if site.tree.state(id, &kernel.target) == State::Installed {
            let options = Options { supersede: true, ..work.options.clone() };
            self.uninstall(&Work { options: &options, ..*work })?;
            say.say("");
        }
        let ready = install::prepare(work)?;
        if scripts::run(work, Script::PreInstall) != 0 && !self.options.force {
            return Err(Error::PreInstallFailed);
        }
        let mark = site.tree.pending_mark(&id.name, &kernel.target);
        let unfinished = mark.exists();
        site.tree.note(&mark, &format!("{id}\n")).doing(cannot("write", &mark))?;
        let placed = match install::place(work, ready, unfinished) {
            Ok(placed) => placed,
            Err(error) => {
                // Nothing was changed: every check comes before the first file.
                if !unfinished {
                    site.tree.forget(&mark).doing(cannot("remove", &mark))?;
                }
                return Err(error);
            }
        };
        install::flip_link(work)?;
        // What the module brings no more gives its place back to what was there before.
        for file in superseded::files(site, &id.name, &kernel.target).iter().filter(|file| !placed.files.contains(file))
        {
            if let Some(name) = file.file_name().and_then(|name| name.to_str()) {
                archive::restore(work, name)?;
            }
        }
        let touched = self.touched.entry(kernel.target.release.clone()).or_default();
        touched.placed.push((id.name.clone(), kernel.target.clone(), placed));
        touched.marks.push(mark);
        scripts::run(work, Script::PostInstall);
        self.tell_depmod(say, &kernel.target.release);
        Ok(())
    }

    /// Takes a module out of its kernel's directory, if it is there; says which, or that it is not.
    pub fn uninstall(&mut self, work: &Work) -> Result<()> {
        let Work { site, id, kernel, say, .. } = work;
        let mark = site.tree.pending_mark(&id.name, &kernel.target);
        // A full disk is no reason to keep what would make room on it.
        if let Err(error) = site.tree.note(&mark, &format!("{id}\n")) {
            log::warn!("{}: {error}", mark.display());
        }
        self.touched.entry(kernel.target.release.clone()).or_default().marks.push(mark);
        install::withdraw(work)?;
        scripts::run(work, Script::PostRemove);
        self.tell_depmod(say, &kernel.target.release);
        if work.options.supersede {
            return Ok(());
        }
        self.forget_superseded(&id.name, &kernel.target)?;
        archive::clear(work)
    }

    /// Deletes what an upgrade left in place and nothing has succeeded.
    pub fn forget_superseded(&mut self, name: &str, target: &Target) -> Result<()> {
        if superseded::settle(self.site, name, target, &[])? {
            self.touched.entry(target.release.clone()).or_default();
        }
        Ok(())
    }

    /// Forgets what was built.
    pub fn unbuild(&mut self, work: &Work) -> Result<()> {
        let built = self.site.tree.built_dir(work.id, &work.kernel.target);
        remove_any(&built).doing(cannot("remove", &built))?;
        if let Some(release) = built.parent() {
            remove_empty_up_to(release, &self.site.tree.version_dir(work.id));
        }
        Ok(())
    }

    /// depmod's words, where each module has its own; the deed is done once, by [`Commit::finish`].
    fn tell_depmod(&self, say: &Block, release: &str) {
        if self.options.depmod_later || self.options.no_depmod {
            return;
        }
        say.print(if self.site.framework.verbose {
            format!("do_depmod {release}\n done.\n")
        } else {
            "Running depmod... done.\n".into()
        });
    }

    /// Runs depmod unless that is not wanted. Where it fails the marks stay: nothing counts as installed that modprobe
    /// does not know, and the same command again ends it.
    fn depmod(&self, release: &str, say: &Block) -> bool {
        let failed = if self.options.no_depmod { None } else { depmod::run(self.site, release).err() };
        if let Some(why) = &failed {
            say.warn(format!("depmod failed for kernel {release}: {why}"));
        }
        failed.is_none()
    }

    /// Ends the changes made to one kernel: depmod, then the originals go, then the marks.
    pub fn finish(&mut self, release: &str, say: &Block) {
        let Some(touched) = self.touched.remove(release) else {
            return;
        };
        let modules = self.site.modules(release);
        let mut again = false;
        let tell = |result: Result<bool>| match result {
            Ok(changed) => changed,
            Err(error) => {
                say.error(&error);
                false
            }
        };
        for (name, target, placed) in &touched.placed {
            tell(superseded::settle(self.site, name, target, &placed.files));
        }
        if !self.depmod(release, say) {
            return;
        }
        for (_, _, placed) in &touched.placed {
            again |= tell(placed.settle(&modules));
        }
        if again && !self.depmod(release, say) {
            return;
        }
        for mark in &touched.marks {
            if let Err(error) = self.site.tree.forget(mark).doing(cannot("remove", mark)) {
                say.error(&error);
            }
        }
        if !self.options.initramfs_follows {
            initramfs::refresh(self.site, release);
        }
        if self.site.framework.modprobe_on_install && !touched.placed.is_empty() && Target::running().release == release
        {
            crate::steps::load::modules();
        }
    }
}
