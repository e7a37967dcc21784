// SPDX-License-Identifier: GPL-2.0-or-later
//! What can go wrong with tarballs.

use std::path::PathBuf;

/// What went wrong; see [`super::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is no such file.
    #[error("{0} does not exist.")]
    Missing(String),
    /// It cannot be read to its end.
    #[error(
        "Tarball does not appear to be a correctly formed DKMS archive: {why}.\nNothing of {file} was loaded: make or \
         fetch it again."
    )]
    Unreadable {
        /// The tarball.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It holds no source.
    #[error("Tarball does not appear to be a correctly formed DKMS archive. No dkms.conf found within it.")]
    NoConf,
    /// It holds modules, but nothing that says what they are.
    #[error("No valid dkms.conf in dkms_source_tree or dkms_binaries_only.\n{0} is not a valid DKMS tarball.")]
    Nameless(PathBuf),
    /// It holds what would end up elsewhere, or be something else than files.
    #[error("{entry} {why}.\n{file} is not a valid DKMS tarball; nothing of it was loaded.")]
    Unsafe {
        /// The tarball.
        file: PathBuf,
        /// What in it.
        entry: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// The module is registered already.
    #[error("{0} is already added!\nAborting.")]
    AlreadyAdded(String),
    /// Modules without a source to register. They are in the tree now.
    #[error("The source of {id} is missing.")]
    NoSource {
        /// Module and version.
        id: String,
        /// Where it belongs.
        place: PathBuf,
    },
    /// Replacing what is there is for root.
    #[error("You must be root to use this command with the --force option.")]
    ForceNeedsRoot,
    /// rpm failed, or is not there.
    #[error("Unable to install {0} using rpm.\nCheck to ensure that your system can install .rpm files.")]
    Rpm(PathBuf),
    /// There is nothing to put into a tarball.
    #[error("No modules built for {0}.\nModules must already be in the built state before using mktarball.")]
    NothingBuilt(String),
    /// The tarball's directory cannot be written.
    #[error("Missing write permissions for {0}.")]
    NotWritable(String),
    /// The tarball could not be made.
    #[error("Failed to make tarball.\n{0}.")]
    NotMade(String),
}

impl Problem {
    /// See [`super::Error::code`].
    pub fn code(&self) -> u8 {
        match self {
            Self::NoSource { .. } | Self::ForceNeedsRoot => 1,
            Self::Missing(_) => 2,
            Self::Unreadable { .. } | Self::NoConf => 3,
            Self::NothingBuilt(_) | Self::NotMade(_) => 6,
            Self::Nameless(_) | Self::Unsafe { .. } => 7,
            Self::AlreadyAdded(_) => 8,
            Self::Rpm(_) | Self::NotWritable(_) => 9,
        }
    }

    /// See [`super::Error::hint`].
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSource { id, place } => Some(format!(
                "The modules are kept, but the source of {id} is missing: put it into {} and run: dkms add {id}",
                place.display()
            )),
            Self::AlreadyAdded(id) => Some(format!("To load it anew: dkms remove {id} --all")),
            Self::NothingBuilt(_) => Some("Build it for that kernel first, or use --source-only.".into()),
            Self::ForceNeedsRoot => Some("Try again with sudo.".into()),
            _ => None,
        }
    }

    /// See [`super::Error::is_said`]: that there is no source has never been told to callers.
    pub fn is_said(&self) -> bool {
        matches!(self, Self::NoSource { .. })
    }
}
