// SPDX-License-Identifier: GPL-2.0-or-later
//! What a caller may say beside the action, the modules and the kernels.

use std::path::PathBuf;

/// The options that steps look at.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--force`
    pub force: bool,
    /// `--force-version-override`
    pub force_version: bool,
    /// `-c`: a dkms.conf in place of the source's.
    pub conf: Option<PathBuf>,
    /// `--kernelsourcedir`
    pub headers: Option<PathBuf>,
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--directive`
    pub directives: Vec<String>,
    /// `--no-depmod`
    pub no_depmod: bool,
    /// Whether depmod is told of once, after all modules, as when a kernel goes.
    pub depmod_later: bool,
    /// Whether the modules' successors are on their way, so that the files stay until these are there.
    pub supersede: bool,
    /// The action, for dkms.conf to see.
    pub action: String,
    /// Whether a kernel or headers package is being configured and its own hooks will make the initramfs.
    pub initramfs_follows: bool,
    /// Whether nobody waits for it: what fails is noted, is not built again from the same inputs, and is no reason to stop
    /// whoever called.
    pub unattended: bool,
    /// The key of what a build was planned to make; it makes nothing else.
    pub planned: Option<String>,
}

impl Options {
    /// Whether nothing was said by which a build would come out otherwise than on any day.
    pub fn are_everyday(&self) -> bool {
        let directed = || std::env::vars_os().any(|(name, _)| name.as_encoded_bytes().starts_with(b"DKMS_DIRECTIVE"));
        let said =
            self.conf.is_some() || self.headers.is_some() || self.config.is_some() || !self.directives.is_empty();
        !said && !directed()
    }

    /// The directives as variables for a package's programs.
    ///
    /// Not MAKE: make would run that for every `$(MAKE)` in a makefile.
    pub fn directive_variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.directives.iter().filter_map(|directive| directive.split_once('=')).filter(|(name, _)| *name != "MAKE")
    }
}
