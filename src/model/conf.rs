// SPDX-License-Identifier: GPL-2.0-or-later
//! `dkms.conf`: what a package says of its modules and how they are built.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Doing, Error, Result};
use crate::model::closed::{Copies, is_open};
use crate::model::kernel::{Kernel, is_set};
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::system::process::plain_environment;
use crate::system::regex::{self, Match};
use crate::system::sandbox::{Isolation, Sandbox};
use crate::system::shell::{Evaluation, Values};
use crate::system::version::padded;

/// The directives; whatever else a dkms.conf sets is forgotten.
const DIRECTIVES: &[&str] = &[
    "PACKAGE_NAME",
    "PACKAGE_VERSION",
    "BUILT_MODULE_NAME",
    "BUILT_MODULE_LOCATION",
    "DEST_MODULE_NAME",
    "DEST_MODULE_LOCATION",
    "STRIP",
    "MAKE",
    "MAKE_MATCH",
    "PATCH",
    "PATCH_MATCH",
    "PRE_BUILD",
    "POST_BUILD",
    "PRE_INSTALL",
    "POST_INSTALL",
    "POST_ADD",
    "POST_REMOVE",
    "AUTOINSTALL",
    "NO_WEAK_MODULES",
    "BUILD_DEPENDS",
    "BUILD_DEPENDS_REBUILD",
    "BUILD_EXCLUSIVE_KERNEL",
    "BUILD_EXCLUSIVE_KERNEL_MIN",
    "BUILD_EXCLUSIVE_KERNEL_MAX",
    "BUILD_EXCLUSIVE_ARCH",
    "BUILD_EXCLUSIVE_CONFIG",
    "OBSOLETE_BY",
    "CLEAN",
    "REMAKE_INITRD",
    "MODULES_CONF",
    "MODULES_CONF_OBSOLETES",
    "MODULES_CONF_ALIAS_TYPE",
    "MODULES_CONF_OBSOLETE_ONLY",
];

const PER_MODULE: [&str; 4] =
    ["BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION"];

const EXCLUSIVE: [&str; 5] = [
    "BUILD_EXCLUSIVE_KERNEL",
    "BUILD_EXCLUSIVE_KERNEL_MIN",
    "BUILD_EXCLUSIVE_KERNEL_MAX",
    "BUILD_EXCLUSIVE_ARCH",
    "BUILD_EXCLUSIVE_CONFIG",
];

/// Directives that once did something.
const DEPRECATED: [&str; 5] = [
    "REMAKE_INITRD",
    "MODULES_CONF",
    "MODULES_CONF_OBSOLETES",
    "MODULES_CONF_ALIAS_TYPE",
    "MODULES_CONF_OBSOLETE_ONLY",
];

/// One module of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its index in dkms.conf.
    pub index: usize,
    /// BUILT_MODULE_NAME, without suffix.
    pub built_name: String,
    /// BUILT_MODULE_LOCATION: empty or ending in `/`.
    pub built_location: String,
    /// DEST_MODULE_NAME, without suffix.
    pub dest_name: String,
    /// DEST_MODULE_LOCATION as dkms.conf says, where an older tool may have installed it.
    pub original_location: String,
    /// Where this distribution wants it.
    pub dest_location: String,
    /// Whether debugging symbols are dropped.
    pub strip: bool,
}

impl Module {
    /// A module that only its file tells of.
    pub fn found(index: usize, name: &str, location: &str) -> Self {
        Self {
            index,
            built_name: name.to_owned(),
            built_location: String::new(),
            dest_name: name.to_owned(),
            original_location: location.to_owned(),
            dest_location: location.to_owned(),
            strip: true,
        }
    }

    /// The file a build makes, below its directory.
    pub fn built_file(&self) -> String {
        format!("{}{}.ko", self.built_location, self.built_name)
    }
}

/// What is asked of a dkms.conf.
#[derive(Debug)]
pub struct Question<'a> {
    /// The machine.
    pub site: &'a Site,
    /// The kernel asked about.
    pub kernel: &'a Kernel,
    /// Module and version, where they are known already: a new source tree is asked for them.
    pub id: Option<&'a Id>,
    /// The dkms.conf itself.
    pub file: PathBuf,
    /// `--directive`.
    pub directives: &'a [String],
    /// The action that asks, for the file to see.
    pub action: &'a str,
    /// Whether `--force` was given, for the file to see.
    pub force: bool,
}

/// An evaluated dkms.conf; the default is one that says nothing.
#[derive(Debug, Clone, Default)]
pub struct Conf {
    values: Values,
    /// PACKAGE_NAME and PACKAGE_VERSION, possibly empty.
    pub id: Id,
    /// The modules, in index order.
    pub modules: Vec<Module>,
    /// What is wrong with it, in the contract's words; empty if nothing is.
    pub problems: Vec<String>,
    /// What bash said while reading it.
    pub noise: Vec<u8>,
}

impl Question<'_> {
    /// Evaluates dkms.conf and the administrator's overrides in /etc/dkms.
    pub fn answer(&self) -> Result<Conf> {
        if !self.file.is_file() {
            return Err(Error::NoConf(self.file.clone()));
        }
        let mut files = vec![std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone())];
        files.extend(self.overrides());
        let target = &self.kernel.target;
        let framework = &self.site.framework;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let running = Target::running();
        let mut variables = vec![
            ("kernelver", target.release.clone()),
            ("arch", target.arch.clone()),
            ("kernel_source_dir", text(&self.kernel.build_dir)),
            ("kernel_config", text(&self.kernel.config)),
            ("dkms_tree", text(&framework.dkms_tree)),
            ("source_tree", text(&framework.source_tree)),
            ("install_tree", text(&framework.install_tree)),
            ("tmp_location", text(&framework.tmp_location)),
            ("parallel_jobs", framework.parallel_jobs.to_string()),
            ("verbose", if framework.verbose { "1" } else { "" }.into()),
            ("action", self.action.into()),
            ("force", if self.force { "true" } else { "" }.into()),
            ("conf", text(&self.file)),
            ("running_distribution", self.site.distribution.name().into()),
            ("current_kernel", running.release),
            ("current_os", "Linux".into()),
        ];
        if let Some(id) = self.id {
            variables.extend([("module", id.name.clone()), ("module_version", id.version.clone())]);
        }
        let mut evaluation = Evaluation { names: DIRECTIVES, variables, files, last: self.directives.to_vec() };
        let mut bash = Command::new("bash");
        plain_environment(&mut bash);
        for name in DIRECTIVES {
            bash.env_remove(name);
        }
        let copies = self.confine(&mut evaluation.files, &mut bash)?;
        let (values, mut noise) =
            evaluation.run(&mut bash).doing(|| format!("Cannot run bash to read {}", self.file.display()))?;
        if let Some(copies) = copies {
            noise = copies.rename(&noise);
        }
        let destination = match framework.addon_modules_dir.as_str() {
            "" => self.site.distribution.destination().map(str::to_owned),
            dir => Some(format!("/{dir}")),
        };
        Ok(Conf::new(values, noise, destination.as_deref()))
    }

    /// The administrator's files for this module, the more special the later; only those that exist.
    fn overrides(&self) -> Vec<PathBuf> {
        let Some(Id { name, version }) = self.id else {
            return Vec::new();
        };
        let Target { release, arch } = &self.kernel.target;
        [
            name.clone(),
            format!("{name}-{version}"),
            format!("{name}-{version}-{release}"),
            format!("{name}-{version}-{release}-{arch}"),
            format!("{name}--{release}"),
            format!("{name}--{release}-{arch}"),
        ]
        .into_iter()
        .map(|stem| self.site.paths.etc().join(format!("{stem}.conf")))
        .filter(|file| file.is_file())
        .collect()
    }

    /// A stranger's script is read without rights: another user, no network, nothing writable.
    ///
    /// What is closed to that user, because it lies below /root or was unpacked with a tight umask, he gets a copy of:
    /// `files` names it then, and what is given back keeps it.
    fn confine(&self, files: &mut [PathBuf], bash: &mut Command) -> Result<Option<Copies>> {
        let user = self.site.build_user();
        let tree = &self.site.tree;
        let own =
            |id: &Id| [tree.source_link(id), tree.source_dir(id)].map(|dir| dir.join("dkms.conf")).contains(&self.file);
        let registered = self.id.is_some_and(own);
        let mut copies = None;
        if let Some(user) = user {
            for (index, file) in files.iter_mut().enumerate().filter(|(_, file)| !is_open(file)) {
                let copies = match &mut copies {
                    Some(copies) => copies,
                    none => none.insert(Copies::begin(self.site)?),
                };
                // A registered package's conf may look at what lies beside it, which its build is given anyway; whatever
                // else is closed stands alone.
                copies.add(file, index == 0 && registered, user)?;
            }
        }
        let cwd = std::env::current_dir().unwrap_or_else(|_| "/".into());
        Sandbox { user, mounts: Vec::new(), cwd, tmp: None }
            .confine(Isolation::available(), bash)
            .doing(|| "Cannot set up the sandbox for dkms.conf".into())?;
        Ok(copies)
    }
}

impl Conf {
    fn new(values: Values, noise: Vec<u8>, destination: Option<&str>) -> Self {
        let id = Id::new(values.get("PACKAGE_NAME"), values.get("PACKAGE_VERSION"));
        let count = values.last_index(&PER_MODULE).map_or(0, |last| last + 1);
        let strip = |index| match values.at("STRIP", index).or_else(|| values.at("STRIP", 0)) {
            Some(text) => !text.starts_with(['n', 'N']),
            None => true,
        };
        let mut modules = Vec::with_capacity(count);
        for index in 0..count {
            let value = |name| values.at(name, index).unwrap_or_default().to_owned();
            let mut built_name = value("BUILT_MODULE_NAME");
            if built_name.is_empty() && count == 1 {
                built_name.clone_from(&id.name);
            }
            let mut built_location = value("BUILT_MODULE_LOCATION");
            if !built_location.is_empty() && !built_location.ends_with('/') {
                built_location.push('/');
            }
            let dest_name = match value("DEST_MODULE_NAME") {
                name if name.is_empty() => built_name.clone(),
                name => name,
            };
            let original_location = value("DEST_MODULE_LOCATION");
            let dest_location = destination.map_or_else(|| original_location.clone(), str::to_owned);
            modules.push(Module {
                index,
                built_name,
                built_location,
                dest_name,
                original_location,
                dest_location,
                strip: strip(index),
            });
        }
        let mut conf = Self { values, id, modules, problems: Vec::new(), noise };
        conf.problems = conf.find_problems();
        conf
    }

    fn find_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in [("PACKAGE_NAME", &self.id.name), ("PACKAGE_VERSION", &self.id.version)] {
            if value.is_empty() {
                problems.push(format!("dkms.conf: Error! No '{name}' directive specified."));
            }
        }
        let suffixed = |name: &str| name.ends_with(".o") || name.ends_with(".ko");
        for module in &self.modules {
            let i = module.index;
            if module.built_name.is_empty() {
                problems.push(format!("dkms.conf: Error! No 'BUILT_MODULE_NAME' directive specified for record #{i}."));
            }
            for (directive, name) in
                [("BUILT_MODULE_NAME", &module.built_name), ("DEST_MODULE_NAME", &module.dest_name)]
            {
                if suffixed(name) {
                    problems.push(format!(
                        "dkms.conf: Error! '{directive}' directive ends in '.o' or '.ko' in record #{i}."
                    ));
                }
            }
            // It becomes a file's name in the tree and in the kernel's directory.
            if module.dest_name.contains('/') || matches!(module.dest_name.as_str(), "." | "..") {
                problems
                    .push(format!("dkms.conf: Error! 'DEST_MODULE_NAME' directive is no file name in record #{i}."));
            }
            let location = &module.original_location;
            if location.is_empty() {
                problems
                    .push(format!("dkms.conf: Error! No 'DEST_MODULE_LOCATION' directive specified for record #{i}."));
            } else if !["/kernel", "/updates", "/extra"].iter().any(|start| location.starts_with(start))
                || location.split('/').any(|part| part == "..")
            {
                problems.push(format!(
                    "dkms.conf: Error! Directive 'DEST_MODULE_LOCATION' does not begin with\n'/kernel', '/updates', or '/extra' \
                     in record #{i}."
                ));
            }
        }
        for name in ["AUTOINSTALL", "BUILD_DEPENDS_REBUILD", "NO_WEAK_MODULES"] {
            let value = self.values.get(name);
            if !matches!(value.to_ascii_lowercase().as_str(), "" | "yes" | "no") {
                problems.push(format!("dkms.conf: Error! Unsupported {name} value '{value}'"));
            }
        }
        problems
    }

    /// What is wrong only where something is to be built or installed: two modules that are one.
    pub fn duplicates(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut seen = HashSet::new();
        let named = || self.modules.iter().filter(|module| !module.built_name.is_empty());
        for module in named() {
            if !seen.insert((&module.built_location, &module.built_name)) {
                let name = format!("{}{}", module.built_location, module.built_name);
                problems.push(format!(
                    "dkms.conf: Error! Duplicate module '{name}' in 'BUILT_MODULE_NAME[{}]'.",
                    module.index
                ));
            }
        }
        let mut seen = HashSet::new();
        for module in named() {
            if !seen.insert(&module.dest_name) {
                let (name, index) = (&module.dest_name, module.index);
                problems.push(format!("dkms.conf: Error! Duplicate module '{name}' in 'DEST_MODULE_NAME[{index}]'."));
            }
        }
        problems
    }

    /// Directives in it that have no effect any more, in the order in which they are told.
    pub fn deprecated(&self) -> Vec<&'static str> {
        let clean = self.values.get("CLEAN");
        let silent = ["", "true", "/bin/true", "/usr/bin/true"].contains(&clean);
        let set = |name: &&str| self.values.has(name);
        (!silent).then_some("CLEAN").into_iter().chain(DEPRECATED.into_iter().filter(set)).collect()
    }

    /// A directive's value; index 0 of an array.
    pub fn get(&self, name: &str) -> &str {
        self.values.get(name)
    }

    /// AUTOINSTALL
    pub fn autoinstall(&self) -> bool {
        self.get("AUTOINSTALL").eq_ignore_ascii_case("yes")
    }

    /// BUILD_DEPENDS
    pub fn depends(&self) -> Vec<String> {
        self.values.list("BUILD_DEPENDS")
    }

    /// BUILD_DEPENDS_REBUILD
    pub fn follows_depends(&self) -> bool {
        self.get("BUILD_DEPENDS_REBUILD").eq_ignore_ascii_case("yes")
    }

    /// The patches for this kernel, in index order.
    pub fn patches(&self, release: &str) -> Vec<&str> {
        let wanted = |index| match self.values.at("PATCH_MATCH", index) {
            None | Some("") => true,
            Some(pattern) => regex::matches(pattern, release) == Match::Yes,
        };
        self.values
            .all("PATCH")
            .filter(|(index, patch)| !patch.is_empty() && wanted(*index))
            .map(|(_, patch)| patch)
            .collect()
    }

    /// The command that builds for this kernel, before a word is changed in it; `None` for the usual one.
    pub fn make(&self, release: &str) -> Option<&str> {
        let mut command = self.values.at("MAKE", 0).filter(|_| self.values.get("MAKE_MATCH").is_empty());
        for (index, pattern) in self.values.all("MAKE_MATCH").filter(|(_, pattern)| !pattern.is_empty()) {
            if regex::matches(pattern, release) == Match::Yes {
                command = self.values.at("MAKE", index);
            }
        }
        command.filter(|command| !command.is_empty())
    }

    /// Whether it says anything about which kernels it is for.
    pub fn is_exclusive(&self) -> bool {
        EXCLUSIVE.iter().any(|name| !self.values.list(name).is_empty()) || !self.get("OBSOLETE_BY").is_empty()
    }

    /// OBSOLETE_BY, where that is older than this kernel.
    pub fn obsolete_by(&self, target: &Target) -> Option<&str> {
        let release = Some(self.get("OBSOLETE_BY")).filter(|release| !release.is_empty())?;
        (padded(&target.release) > padded(release)).then_some(release)
    }

    /// The modules that are meant for this kernel; `None` if the package is not meant for it at all.
    pub fn included(&self, kernel: &Kernel) -> Option<Vec<&Module>> {
        if !self.is_exclusive() {
            return Some(self.modules.iter().collect());
        }
        let config = kernel.config_text();
        let included: Vec<_> =
            self.modules.iter().filter(|module| self.admits(module.index, &kernel.target, config.as_deref())).collect();
        (!included.is_empty()).then_some(included)
    }

    /// Whether the module at `index` is meant for this kernel. Index 0 of a directive speaks for all modules.
    fn admits(&self, index: usize, target: &Target, config: Option<&str>) -> bool {
        let indices = if index == 0 { vec![0] } else { vec![0, index] };
        let value = |name, index| self.values.at(name, index).filter(|value| !value.is_empty());
        indices.into_iter().all(|i| {
            let matches =
                |name, text: &str| value(name, i).is_none_or(|pattern| regex::matches(pattern, text) == Match::Yes);
            let max = value("BUILD_EXCLUSIVE_KERNEL_MAX", i).or_else(|| value("OBSOLETE_BY", i));
            matches("BUILD_EXCLUSIVE_KERNEL", &target.release)
                && matches("BUILD_EXCLUSIVE_ARCH", &target.arch)
                && value("BUILD_EXCLUSIVE_KERNEL_MIN", i).is_none_or(|min| padded(&target.release) >= padded(min))
                && max.is_none_or(|max| padded(&target.release) <= padded(max))
                && config.is_none_or(|config| {
                    value("BUILD_EXCLUSIVE_CONFIG", i).unwrap_or_default().split_whitespace().all(|word| {
                        word.strip_prefix('!').map_or_else(|| is_set(config, word), |name| !is_set(config, name))
                    })
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(values: &[(&str, usize, &str)]) -> Conf {
        let mut set = Values::default();
        for (name, index, value) in values {
            set.set(name, *index, value);
        }
        Conf::new(set, Vec::new(), Some("/updates/dkms"))
    }

    #[test]
    fn one_module_may_go_without_a_name() {
        let conf =
            conf(&[("PACKAGE_NAME", 0, "p"), ("PACKAGE_VERSION", 0, "1"), ("DEST_MODULE_LOCATION", 0, "/updates")]);
        assert_eq!(conf.problems, [""; 0]);
        assert_eq!(
            (conf.modules[0].built_file().as_str(), conf.modules[0].dest_location.as_str()),
            ("p.ko", "/updates/dkms")
        );
    }

    #[test]
    fn every_problem_is_told_in_order() {
        let conf = conf(&[
            ("PACKAGE_NAME", 0, "p"),
            ("BUILT_MODULE_NAME", 0, "a.ko"),
            ("DEST_MODULE_LOCATION", 0, "/lib"),
            ("BUILT_MODULE_LOCATION", 1, "src"),
            ("AUTOINSTALL", 0, "maybe"),
        ]);
        let expected = [
            "dkms.conf: Error! No 'PACKAGE_VERSION' directive specified.",
            "dkms.conf: Error! 'BUILT_MODULE_NAME' directive ends in '.o' or '.ko' in record #0.",
            "dkms.conf: Error! 'DEST_MODULE_NAME' directive ends in '.o' or '.ko' in record #0.",
            "dkms.conf: Error! Directive 'DEST_MODULE_LOCATION' does not begin with\n'/kernel', '/updates', or '/extra' in record #0.",
            "dkms.conf: Error! No 'BUILT_MODULE_NAME' directive specified for record #1.",
            "dkms.conf: Error! No 'DEST_MODULE_LOCATION' directive specified for record #1.",
            "dkms.conf: Error! Unsupported AUTOINSTALL value 'maybe'",
        ];
        assert_eq!(conf.problems, expected);
    }

    #[test]
    fn exclusions() {
        let config = "CONFIG_X=y\nCONFIG_M=m\n";
        for (name, value, expected) in [
            ("BUILD_EXCLUSIVE_KERNEL", "^6\\.", true),
            ("BUILD_EXCLUSIVE_KERNEL", "^5\\.", false),
            ("BUILD_EXCLUSIVE_KERNEL", "(", false),
            ("BUILD_EXCLUSIVE_KERNEL_MIN", "6.1", true),
            ("BUILD_EXCLUSIVE_KERNEL_MIN", "6.10", false),
            ("BUILD_EXCLUSIVE_KERNEL_MAX", "6.1", false),
            ("BUILD_EXCLUSIVE_KERNEL_MAX", "6.9", true),
            ("OBSOLETE_BY", "5.0", false),
            ("BUILD_EXCLUSIVE_ARCH", "x86", true),
            ("BUILD_EXCLUSIVE_ARCH", "arm", false),
            ("BUILD_EXCLUSIVE_CONFIG", "CONFIG_X CONFIG_M !CONFIG_RT", true),
            ("BUILD_EXCLUSIVE_CONFIG", "CONFIG_X !CONFIG_M", false),
        ] {
            let conf = conf(&[("BUILT_MODULE_NAME", 0, "a"), ("BUILT_MODULE_NAME", 1, "b"), (name, 0, value)]);
            let target = Target::new("6.1.0-56-amd64", "x86_64");
            for index in [0, 1] {
                assert_eq!(conf.admits(index, &target, Some(config)), expected, "{name}={value}");
            }
        }
        let conf = conf(&[("BUILD_EXCLUSIVE_ARCH", 1, "arm"), ("BUILT_MODULE_NAME", 1, "b")]);
        let target = Target::new("6.1", "x86_64");
        assert!(conf.admits(0, &target, None) && !conf.admits(1, &target, None));
    }

    #[test]
    fn the_last_matching_make_wins() {
        let plain = conf(&[("MAKE", 0, "make all")]);
        assert_eq!(plain.make("6.1"), Some("make all"));
        let matched = conf(&[
            ("MAKE", 0, "a"),
            ("MAKE_MATCH", 0, "^5"),
            ("MAKE", 1, "b"),
            ("MAKE_MATCH", 1, "^6"),
            ("MAKE", 2, "c"),
            ("MAKE_MATCH", 2, "1$"),
        ]);
        assert_eq!((matched.make("6.1"), matched.make("6.2"), matched.make("4.0")), (Some("c"), Some("b"), None));
    }
}
