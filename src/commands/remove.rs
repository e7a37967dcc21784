// SPDX-License-Identifier: GPL-2.0-or-later
//! `uninstall`, `unbuild` and `remove`: each undoes a step more.

use std::fs;

use crate::commands::{Action, Invocation, lock, need_added, post_transaction};
use crate::commit::Commit;
use crate::error::{Doing, Result, cannot};
use crate::model::kernel::Kernel;
use crate::model::module::Id;
use crate::model::module::Target;
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::State;
use crate::plan::read_conf;
use crate::steps::{Work, install, prepare};
use crate::system::dpkg;
use crate::system::files::{names, remove_any};
use crate::system::output::Block;
use crate::system::version::sort_versions;

/// Directories below `TREE/M/V` that are no kernel's.
const NOT_KERNELS: [&str; 6] = ["build", "tarball", "driver_disk", "rpm", "deb", "source"];

/// `uninstall`, `unbuild` and `remove`
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    let id = invocation.id(invocation.action.name())?;
    need_added(site, &id)?;
    match invocation.action {
        Action::Uninstall => site.need_root()?,
        _ => site.need_tree()?,
    }
    let _lock = lock(site)?;
    let say = site.output.block();
    // Looked up with the lock held: another run may just have built.
    let targets = if invocation.all { built_for(site, &id) } else { invocation.targets.clone() };
    match invocation.action {
        Action::Remove => {
            // A package's prerm removes before its new version builds.
            let options = Options { supersede: dpkg::is_upgrade(), ..invocation.options.clone() };
            remove(site, &id, &targets, &options, &say)?;
        }
        action => {
            let mut commit = Commit::new(site, &invocation.options);
            for (index, target) in targets.iter().enumerate() {
                if index > 0 {
                    say.say("");
                }
                with_work(site, &id, target, &invocation.options, &say, |work| {
                    let result = if action == Action::Unbuild {
                        unbuild(work, &mut commit)
                    } else {
                        uninstall(work, &mut commit)
                    };
                    commit.finish(&target.release, &say);
                    result
                })?;
            }
        }
    }
    post_transaction(site, targets.last(), &say)
}

/// The kernels that a module is built for, or where something cut its installation or removal off; oldest first.
pub fn built_for(site: &Site, id: &Id) -> Vec<Target> {
    let targets = site.tree.targets(id).into_iter().chain(site.tree.unfinished(id));
    let mut pairs: Vec<String> = targets.map(|target| format!("{}/{}", target.release, target.arch)).collect();
    sort_versions(&mut pairs);
    pairs.dedup();
    pairs.iter().filter_map(|pair| pair.split_once('/')).map(|(release, arch)| Target::new(release, arch)).collect()
}

/// Forgets a module on some kernels, and altogether if it is built for none then.
pub fn remove(site: &Site, id: &Id, targets: &[Target], options: &Options, say: &Block) -> Result<()> {
    let dir = site.tree.version_dir(id);
    clear_leftovers(&dir)?;
    let mut commit = Commit::new(site, options);
    for target in targets {
        with_work(site, id, target, options, say, |work| {
            let result = unbuild(work, &mut commit);
            commit.finish(&target.release, say);
            result
        })?;
        say.say("");
    }
    let others = site.tree.versions(&id.name).into_iter().any(|other| other != *id);
    if !options.supersede && !others {
        for target in site.tree.superseded(&id.name) {
            with_work(site, id, &target, options, say, |work| {
                commit.forget_superseded(&id.name, &target)?;
                let result = install::restore_originals(work);
                commit.finish(&target.release, say);
                result
            })?;
        }
    }
    let left = names(&dir).into_iter().any(|name| dir.join(&name).is_dir() && !NOT_KERNELS.contains(&name.as_str()));
    if left {
        return Ok(());
    }
    say.say(format!("Deleting module {id} completely from the DKMS tree."));
    remove_any(&dir).doing(cannot("delete", &dir))?;
    // Fails where other versions are left.
    let _ = fs::remove_dir(site.tree.module_root(&id.name));
    Ok(())
}

/// What builds that were cut off left behind, and empty directories of kernels.
fn clear_leftovers(dir: &std::path::Path) -> Result<()> {
    for kernel in names(dir).into_iter().map(|name| dir.join(name)).filter(|path| path.is_dir() && !path.is_symlink()) {
        prepare::clear_leftovers(&kernel, ".tmp_")?;
        let _ = fs::remove_dir(&kernel);
    }
    Ok(())
}

/// Reads what is needed to work on one kernel. Without a dkms.conf the tree itself says what was built.
fn with_work<T>(
    site: &Site,
    id: &Id,
    target: &Target,
    options: &Options,
    say: &Block,
    act: impl FnOnce(&Work) -> T,
) -> T {
    let kernel = Kernel::new(site, target, options.headers.as_deref(), options.config.as_deref());
    let conf = read_conf(site, options, id, &kernel).unwrap_or_default();
    say.complain(&conf.noise);
    act(&Work { site, options, id, kernel: &kernel, conf: &conf, say })
}

/// Whether the module is installed for the kernel, or was about to be when something cut it off.
pub fn is_active(work: &Work) -> bool {
    let Work { site, id, kernel, .. } = work;
    site.tree.state(id, &kernel.target) == State::Installed || site.tree.is_unfinished(id, &kernel.target)
}

fn uninstall(work: &Work, commit: &mut Commit) -> Result<()> {
    if is_active(work) {
        return commit.uninstall(work);
    }
    if !work.options.supersede {
        commit.forget_superseded(&work.id.name, &work.kernel.target)?;
    }
    if !work.conf.is_exclusive() {
        work.say.say(format!("Module {} is not installed for kernel {}. Skipping...", work.id, work.kernel.target));
    }
    Ok(())
}

/// Takes the module out of the kernel and forgets what was built for it.
pub fn unbuild(work: &Work, commit: &mut Commit) -> Result<()> {
    uninstall(work, commit)?;
    if work.site.tree.state(work.id, &work.kernel.target) == State::Added {
        work.say.say(format!("Module {} is not built for kernel {}. Skipping...", work.id, work.kernel.target));
        return Ok(());
    }
    commit.unbuild(work)
}
