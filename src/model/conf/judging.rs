// SPDX-License-Identifier: GPL-2.0-or-later
//! What is wrong with a `dkms.conf`, and which kernels it is for.

use std::collections::HashSet;

use super::{Conf, EXCLUDE, MOST_MODULES, MOST_PATCHES, Module, PER_MODULE};
use crate::model::kernel::{Kernel, is_set};
use crate::model::module::Target;
use crate::system::regex::{self, Match};
use crate::system::version::padded;

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

impl Conf {
    /// What is wrong with it, in the order in which it is told.
    pub(super) fn find_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in [("PACKAGE_NAME", &self.id.name), ("PACKAGE_VERSION", &self.id.version)] {
            if value.is_empty() {
                problems.push(format!("dkms.conf: Error! No '{name}' directive specified."));
            }
        }
        if let Some(last) = self.values.last_index(&PER_MODULE).filter(|last| *last >= MOST_MODULES) {
            problems.push(format!(
                "dkms.conf: Error! Record #{last} is one too many: the last can be #{}.",
                MOST_MODULES - 1
            ));
        }
        if let Some(last) = self.values.last_index(&["PATCH"]).filter(|last| *last >= MOST_PATCHES) {
            problems.push(format!(
                "dkms.conf: Error! Patch #{last} is one too many: the last can be #{}.",
                MOST_PATCHES - 1
            ));
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

    /// What is wrong only where something is to be built or installed, and looked for where all else is right: two modules
    /// that are one.
    pub fn duplicates(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.problems.is_empty() {
            return problems;
        }
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

    /// Whether it says anything about which kernels it is for.
    pub fn is_exclusive(&self) -> bool {
        EXCLUSIVE.iter().any(|name| !self.values.list(name).is_empty())
            || !self.get("OBSOLETE_BY").is_empty()
            || !self.get(EXCLUDE).is_empty()
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
        if !self.get(EXCLUDE).is_empty() {
            return None;
        }
        let config = kernel.config_text();
        let included: Vec<_> =
            self.modules.iter().filter(|module| self.admits(module.index, &kernel.target, config)).collect();
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
    use crate::model::conf::tests::conf;

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
}
