// SPDX-License-Identifier: GPL-2.0-or-later
//! `kernel_prerm` and `kernel_preinst`: a kernel goes, or is about to be replaced by another build of itself.

use std::fs;
use std::path::Path;

use crate::commands::{Action, Invocation, lock, remove};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::model::conf::Conf;
use crate::model::kernel::Kernel;
use crate::model::module::Id;
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::State;
use crate::steps::{Work, install};
use crate::system::dpkg;
use crate::system::files::names;

/// Takes out of one kernel what was built for it.
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    site.need_root()?;
    let Some(target) = invocation.targets.first() else {
        return Ok(());
    };
    let _lock = lock(site)?;
    // Another build of the same kernel: its modules are built again, and until then the old ones serve.
    let supersede = invocation.action == Action::KernelPreinst && dpkg::kernel_upgrade();
    let options = Options { depmod_later: true, supersede, ..invocation.options.clone() };
    let say = site.output.block();
    let mut commit = Commit::new(site, &options);
    let mut failed = Vec::new();
    let mut uninstalled = false;
    for name in site.tree.modules() {
        for version in names(&site.tree.module_root(&name)) {
            let id = Id::new(&name, version);
            if site.tree.state(&id, target) == State::Added && !site.tree.is_unfinished(&id, target) {
                continue;
            }
            let kernel = Kernel::new(site, target, options.headers.as_deref(), options.config.as_deref());
            let conf = crate::plan::read_conf(site, &options, &id, &kernel).unwrap_or_default();
            if invocation.action == Action::KernelPreinst && !conf.autoinstall() {
                continue;
            }
            say.complain(format!("dkms: removing module {id} for kernel {target}\n"));
            let work = Work { site, options: &options, id: &id, kernel: &kernel, conf: &conf, say: &say };
            uninstalled |= remove::is_active(&work);
            if let Err(error) = remove::unbuild(&work, &mut commit) {
                say.error(&error);
                failed.push(format!("{id}({})", error.code()));
            }
            if invocation.action == Action::KernelPrerm {
                say.say("");
            }
        }
    }
    if !supersede {
        for name in site.tree.superseded_on(target) {
            commit.forget_superseded(&name, target)?;
            let kernel = Kernel::new(site, target, options.headers.as_deref(), options.config.as_deref());
            let (id, conf) = (Id::new(name, ""), Conf::default());
            install::restore_originals(&Work {
                site,
                options: &options,
                id: &id,
                kernel: &kernel,
                conf: &conf,
                say: &say,
            })?;
        }
    }
    commit.finish(&target.release, &say);
    if uninstalled {
        let verbose = site.framework.verbose;
        say.print(if verbose {
            format!("do_depmod {}\n done.\n", target.release)
        } else {
            "Running depmod... done.\n".into()
        });
    }
    if invocation.action == Action::KernelPrerm {
        remove_empty_below(&site.modules(&target.release));
    }
    if failed.is_empty() {
        return Ok(());
    }
    let action = invocation.action.name().to_owned();
    Err(Error::KernelRemoval { action, kernel: target.to_string(), modules: failed.join(" ") })
}

/// Removes the directories below `dir`, and itself, that hold nothing: dpkg would leave them.
fn remove_empty_below(dir: &Path) {
    // Whatever was on its way here will not come any more.
    let _ = install::clear_staged(dir);
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_empty_below(&entry.path());
    }
    let _ = fs::remove_dir(dir);
}
