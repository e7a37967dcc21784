// SPDX-License-Identifier: GPL-2.0-or-later
//! `dkms.conf`: what a package says of its modules and how they are built.

mod judging;
pub mod plain;
mod question;

use crate::model::module::Id;
use crate::system::regex::{self, Match};
use crate::system::shell::Values;

pub use question::{Question, overrides};

/// The directives; whatever else a dkms.conf sets is forgotten.
pub(crate) const DIRECTIVES: &[&str] = &[
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
    "PACKAGE_MAINTAINER",
    "PACKAGE_DESCRIPTION",
    "PACKAGE_SECTION",
    "PACKAGE_HOMEPAGE",
    "PACKAGE_LICENSE",
    EXCLUDE,
    "CLEAN",
    "REMAKE_INITRD",
    "MODULES_CONF",
    "MODULES_CONF_OBSOLETES",
    "MODULES_CONF_ALIAS_TYPE",
    "MODULES_CONF_OBSOLETE_ONLY",
];

/// What dkms itself calls its verdict on the directives before this one. Confs set it where these do not suffice: nvidia's
/// on real-time kernels.
const EXCLUDE: &str = "build_exclude";

const PER_MODULE: [&str; 4] =
    ["BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION"];

/// More modules than any package has. What lies between the first index and one beyond would be told record by record.
const MOST_MODULES: usize = 1 << 16;

/// More patches than any package has.
const MOST_PATCHES: usize = 1 << 10;

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

impl Conf {
    /// From what bash made of the files, and what it said meanwhile; `destination` is where all modules go, whatever the
    /// conf says.
    pub fn new(values: Values, noise: Vec<u8>, destination: Option<&str>) -> Self {
        let id = Id::new(values.get("PACKAGE_NAME"), values.get("PACKAGE_VERSION"));
        let count = values.last_index(&PER_MODULE).filter(|last| *last < MOST_MODULES).map_or(0, |last| last + 1);
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
            // It names a file, and some write so where that lies.
            let dest_name = dest_name.trim_start_matches("./").to_owned();
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

    /// A directive's value; index 0 of an array.
    pub fn get(&self, name: &str) -> &str {
        self.values.get(name)
    }

    /// All directives that are set, with their indices.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, usize, &str)> {
        DIRECTIVES.iter().flat_map(|name| self.values.all(name).map(move |(index, value)| (*name, index, value)))
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
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn conf(values: &[(&str, usize, &str)]) -> Conf {
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
