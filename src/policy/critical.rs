// SPDX-License-Identifier: GPL-2.0-or-later
//! The modules without which this machine cannot boot, or shall not: those that its root file system stands on, and
//! `critical_modules` of framework.conf.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::model::conf::Conf;
use crate::model::kernel::is_module_file;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::steps::superseded;
use crate::system::directories::{find, names};
use crate::system::root_fs::{self, module_name};

/// The modules without which this machine cannot boot.
pub struct Critical<'a> {
    site: &'a Site,
    /// By what the administrator says.
    called: BTreeSet<String>,
    /// By what the root file system stands on; looked up when it matters.
    needed: LazyCell<BTreeSet<String>, Box<dyn FnOnce() -> BTreeSet<String> + 'a>>,
}

impl<'a> Critical<'a> {
    pub fn of(site: &'a Site) -> Self {
        let called = &site.framework.critical_modules;
        let off = called.iter().any(|name| name == "none");
        let called = called.iter().filter(|_| !off).map(|name| module_name(name)).collect();
        let needed = move || if off { BTreeSet::new() } else { root_fs::modules(&site.paths) };
        Self { site, called, needed: LazyCell::new(Box::new(needed)) }
    }

    /// Why a kernel does not boot without a module package, if that is so. What the root file system stands on may still
    /// be there: as a module of the kernel's own, or of an older version that stays until its successor comes.
    pub fn reason(&self, id: &Id, conf: Option<&Conf>, target: &Target) -> Option<String> {
        if !self.is_bootable(target) {
            return None;
        }
        let names = names_of(self.site, id, conf);
        if let Some(name) = names.iter().find(|name| self.called.contains(*name)) {
            return Some(format!("{name} is one of critical_modules in framework.conf"));
        }
        let needed = names.iter().find(|name| self.needed.contains(*name) && !self.has(target, name))?;
        Some(format!("its root file system stands on {needed}"))
    }

    /// Whether what an upgrade left in place, and stays until its successor comes, has all modules of a package.
    pub fn is_served(&self, id: &Id, conf: Option<&Conf>, target: &Target) -> bool {
        let files = superseded::files(self.site, &id.name, target).unwrap_or_default();
        let left: BTreeSet<String> = files.iter().filter_map(|file| module_in(&file.to_string_lossy())).collect();
        let mut modules = conf.map_or(&[][..], |conf| &conf.modules).iter();
        !left.is_empty() && modules.all(|module| left.contains(&module_name(&module.dest_name)))
    }

    /// Whether a module package is installed for a kernel whatever it thinks of that: it is called critical, or the kernel
    /// does not boot without it.
    pub fn wants(&self, id: &Id, conf: &Conf, target: &Target) -> bool {
        names_of(self.site, id, Some(conf)).iter().any(|name| self.called.contains(name))
            || self.reason(id, Some(conf), target).is_some()
    }

    /// The module by which this machine boots a kernel among those that an upgrade of module `name` left in place, if there
    /// is no other such module.
    pub fn left(&self, name: &str, target: &Target) -> Option<String> {
        if !self.is_bootable(target) {
            return None;
        }
        let files = superseded::files(self.site, name, target).unwrap_or_default();
        let called = self.called.contains(&module_name(name));
        let is_critical = |module: &String| called || self.called.contains(module) || self.needed.contains(module);
        let mut modules = files.iter().filter_map(|file| module_in(&file.to_string_lossy()));
        modules.find(|module| is_critical(module) && !self.has_besides(&files, name, target, module))
    }

    /// Whether there is more than the headers: nobody boots these.
    fn is_bootable(&self, target: &Target) -> bool {
        self.site.modules(&target.release).join("kernel").is_dir()
    }

    /// Whether a kernel has modules of all names that a package would bring.
    pub fn is_covered(&self, conf: Option<&Conf>, target: &Target) -> bool {
        conf.is_some_and(|conf| conf.modules.iter().all(|module| self.has(target, &module_name(&module.dest_name))))
    }

    /// Whether a kernel has a module of this name, from wherever: one that modprobe finds, which after a depmod that failed
    /// is not what lies there.
    pub fn has(&self, target: &Target, module: &str) -> bool {
        let modules = self.site.modules(&target.release);
        // What is named may be gone, and a link lead nowhere.
        let there = |path: &str| modules.join(path).exists();
        self.has_builtin(target, module)
            || match std::fs::read_to_string(modules.join("modules.dep")) {
                Ok(index) => {
                    let mut paths = index.lines().filter_map(|line| line.split(':').next());
                    paths.any(|path| is_of(module, path) && there(path))
                }
                Err(_) => find(&modules, &mut |file| is_of(module, file)).iter().any(|file| file.exists()),
            }
    }

    /// Whether a kernel would have a module of this name without `files` of module `name`: also where these hide it from
    /// modprobe, or it is in the archive until they go.
    fn has_besides(&self, files: &[PathBuf], name: &str, target: &Target, module: &str) -> bool {
        let modules = self.site.modules(&target.release);
        let archived = names(&self.site.tree.original_dir(name, target));
        self.has_builtin(target, module)
            || archived.iter().any(|file| is_of(module, file))
            || find(&modules, &mut |file| is_of(module, file)).iter().any(|file| file.exists() && !files.contains(file))
    }

    fn has_builtin(&self, target: &Target, module: &str) -> bool {
        let builtin = std::fs::read_to_string(self.site.modules(&target.release).join("modules.builtin"));
        builtin.unwrap_or_default().lines().any(|path| is_of(module, path))
    }
}

/// The module in a file, as the kernel knows modules, if that is one.
fn module_in(path: &str) -> Option<String> {
    let file = path.rsplit('/').next().filter(|file| is_module_file(file))?;
    file.split(".ko").next().map(module_name)
}

fn is_of(module: &str, path: &str) -> bool {
    module_in(path).is_some_and(|name| name == module)
}

/// What a package and its modules are called, as the kernel knows modules. Of one whose dkms.conf cannot be read it is the
/// modules that were built of it.
pub fn names_of(site: &Site, id: &Id, conf: Option<&Conf>) -> BTreeSet<String> {
    let mut all = BTreeSet::from([module_name(&id.name)]);
    match conf {
        Some(conf) => all.extend(conf.modules.iter().map(|module| module_name(&module.dest_name))),
        None => all.extend(built(site, &id.name)),
    }
    all
}

/// The modules that were built of module `name` for any kernel, and those that upgrades left in place.
fn built(site: &Site, name: &str) -> Vec<String> {
    let tree = &site.tree;
    let mut files = Vec::new();
    for id in tree.versions(name) {
        files.extend(tree.all_targets(&id).iter().flat_map(|target| names(&tree.module_dir(&id, target))));
    }
    for target in tree.superseded(name) {
        let left = superseded::files(site, name, &target).unwrap_or_default();
        files.extend(left.iter().map(|file| file.to_string_lossy().into_owned()));
    }
    files.iter().filter_map(|file| module_in(file)).collect()
}
