// SPDX-License-Identifier: GPL-2.0-or-later
//! Every fixed place on the system, under one root, so that a test can stand on a tree of its own.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::directories::list_if_open;
use super::files::At;

/// The fixed places. What `framework.conf` can move (the three trees) is in [`Framework`](crate::model::framework::Framework).
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self::new("/")
    }
}

impl Paths {
    /// The places below `root`; `/` outside of tests.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Where an administrator says what he wants: overrides, framework.conf, scripts.
    pub fn etc(&self) -> PathBuf {
        self.at("etc/dkms")
    }

    /// `framework.conf`, then the files of `framework.conf.d` in name order: the order in which they are read.
    pub fn framework_confs(&self) -> io::Result<Vec<PathBuf>> {
        let further = self.etc().join("framework.conf.d");
        let names = list_if_open(&further).at(&further)?;
        let further = names.iter().filter(|name| name.ends_with(".conf")).map(|name| further.join(name));
        Ok([self.etc().join("framework.conf")].into_iter().chain(further).collect())
    }

    /// The first os-release that exists, see os-release(5).
    pub fn os_release(&self) -> Option<PathBuf> {
        ["etc/os-release", "usr/lib/os-release"].iter().map(|p| self.at(p)).find(|p| p.exists())
    }

    /// Present where the administrator wants no automatic installation.
    pub fn no_autoinstall(&self) -> PathBuf {
        self.etc().join("no-autoinstall")
    }

    /// Lists of modules whose installation is to be forced, one file per package.
    pub fn forced_lists(&self) -> PathBuf {
        self.at("usr/share/dkms/modules_to_force_install")
    }

    /// The programs that only we and the kernel's hooks call.
    pub fn libexec(&self) -> PathBuf {
        self.at("usr/lib/dkms")
    }

    /// The keys with which modules are signed where nothing else is configured; a fixed place, wherever the tree is.
    pub fn default_key(&self) -> (PathBuf, PathBuf) {
        (self.at("var/lib/dkms/mok.key"), self.at("var/lib/dkms/mok.pub"))
    }

    /// Kernel images, configurations and System.map files.
    pub fn boot(&self) -> PathBuf {
        self.at("boot")
    }

    /// Any other fixed place, written as on a system whose root is `/`.
    pub fn system(&self, absolute: &str) -> PathBuf {
        self.at(absolute.trim_start_matches('/'))
    }
}

/// A name that a shell's `*` does not match.
pub fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Appends `suffix` to the last component: `a/b.ko` and `.xz` give `a/b.ko.xz`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Joins a path that is written absolute but meant below `base`: `/updates/dkms` below `/lib/modules/K`.
pub fn below(base: &Path, absolute: &str) -> PathBuf {
    let relative = absolute.trim_matches('/');
    if relative.is_empty() { base.to_owned() } else { base.join(relative) }
}

/// Whether a path leads to something below `dir`, by its words.
pub fn stays_below(path: &Path, dir: &Path) -> bool {
    let is_name = |part: Component| matches!(part, Component::Normal(_));
    path.strip_prefix(dir).is_ok_and(|rest| rest.components().next().is_some() && rest.components().all(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_out() {
        let stays = |path: &str| stays_below(Path::new(path), Path::new("/lib/modules/6"));
        assert!(stays("/lib/modules/6/updates/a.ko"));
        for path in ["/lib/modules/6", "/lib/modules/60/a.ko", "/lib/modules/6/../5/a.ko", "/etc/passwd", "a.ko", ""] {
            assert!(!stays(path), "{path}");
        }
    }
}
