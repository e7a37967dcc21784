// SPDX-License-Identifier: GPL-2.0-or-later
//! What can go wrong when results are put where other machines find them.

use std::path::PathBuf;

/// What went wrong; see [`super::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Nobody said where.
    #[error(
        "It was not said where to.\nUse --to DIRECTORY: one that a web server serves, or that is copied to where one does."
    )]
    NoPlace,
    /// Nothing is kept at all.
    #[error(
        "No results are kept here, so none can be exported.\nThat takes root, namespaces, and result_store=yes in framework.conf."
    )]
    NoStore,
    /// Nothing is kept of what was asked for.
    #[error(
        "No result of {what} is kept here for a kernel of a package.\nBuild it first: dkms build {what}, with --force if it is built."
    )]
    NothingKept {
        /// Module and version, or a word for all.
        what: String,
    },
    /// A list is there that nobody here has signed.
    #[error("{file} is there and {why}.\nNothing was exported. If all of it can go: rm {file}")]
    NotOurs {
        /// The list.
        file: PathBuf,
        /// What is wrong with it, as a clause.
        why: String,
    },
    /// The list could not be signed.
    #[error("Cannot sign the list of modules: {why}.\nName a key that gpg --list-secret-keys tells of: --gpg-key KEY")]
    NotSigned {
        /// What gpg said.
        why: String,
    },
    /// The modules could not be signed.
    #[error("Cannot sign modules for kernel {kernel}, as --sign-modules asks:\n{why}")]
    ModulesNotSigned {
        /// Kernel and architecture.
        kernel: String,
        /// What was said of it.
        why: String,
    },
}

impl Problem {
    /// See [`super::Error::code`].
    pub fn code(&self) -> u8 {
        match self {
            Self::NoPlace | Self::NoStore | Self::NotSigned { .. } | Self::ModulesNotSigned { .. } => 1,
            Self::NotOurs { .. } => 3,
            Self::NothingKept { .. } => 6,
        }
    }
}
