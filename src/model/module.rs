// SPDX-License-Identifier: GPL-2.0-or-later
//! The names of things: a module package at a version, a kernel release for an architecture.

use std::fmt;
use std::process::Command;
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// Beside the modules: the keys that sign where nothing else is configured, and what Debian's dkms keeps of the tree's form.
pub const BESIDE_MODULES: [&str; 3] = ["mok.key", "mok.pub", "dkms_dbversion"];

/// Beside the versions of a module: what it has replaced.
pub const ORIGINALS: &str = "original_module";

/// How the links begin that say, beside the versions of a module, which one is installed: `kernel-K-A`.
pub const INSTALLED_LINK: &str = "kernel-";

/// A module package at a version: `M/V`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// PACKAGE_NAME.
    pub name: String,
    /// PACKAGE_VERSION.
    pub version: String,
}

impl Id {
    /// `name/version`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into() }
    }

    /// Whether name and version are each one component of a path that is free in the tree: not empty, without `/`, NUL or the
    /// end of a line, which separates names in lists, and none of the tree's own, which begin with a dot or stand beside the modules or the versions.
    pub fn is_sane(&self) -> bool {
        let is_own = BESIDE_MODULES.contains(&self.name.as_str())
            || self.version == ORIGINALS
            || self.version.starts_with(INSTALLED_LINK);
        let is_free = |part: &String| !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\0', '\n']);
        is_free(&self.name) && is_free(&self.version) && !is_own
    }

    /// `M-V`, as in `/usr/src/M-V`.
    pub fn dashed(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// A kernel release and the architecture to build for: `K (A)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// What `uname -r` says under that kernel.
    pub release: String,
    /// What `uname -m` says.
    pub arch: String,
}

impl Target {
    /// `release (arch)`.
    pub fn new(release: impl Into<String>, arch: impl Into<String>) -> Self {
        Self { release: release.into(), arch: arch.into() }
    }

    /// The same of somebody's words, the one with this index of several: each has to be one component of a path.
    pub fn named(release: impl Into<String>, arch: impl Into<String>, index: usize) -> Result<Self> {
        let target = Self::new(release, arch);
        for (what, value) in [("kernelver", &target.release), ("arch", &target.arch)] {
            let text = match value.as_str() {
                "" => format!("Empty {what}[{index}]"),
                ".." | "." => format!("{value} is no {what}."),
                _ if value.contains('/') => format!("{value} is no {what}."),
                _ => continue,
            };
            return Err(Error::Usage { text, code: 16 });
        }
        Ok(target)
    }

    /// The running kernel, by the word of uname(1): that is what image builders divert in a chroot.
    pub fn running() -> Self {
        static RUNNING: OnceLock<Target> = OnceLock::new();
        RUNNING
            .get_or_init(|| {
                let system = rustix::system::uname();
                let said = |option: &str| {
                    let output = Command::new("uname").arg(option).output().ok()?;
                    let word = String::from_utf8(output.stdout).ok()?.trim().to_owned();
                    (!word.is_empty()).then_some(word)
                };
                Self::new(
                    said("-r").unwrap_or_else(|| system.release().to_string_lossy().into_owned()),
                    said("-m").unwrap_or_else(|| system.machine().to_string_lossy().into_owned()),
                )
            })
            .clone()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.release, self.arch)
    }
}
