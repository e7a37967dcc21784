// SPDX-License-Identifier: GPL-2.0-or-later
//! What can go wrong when packages are made.

use crate::model::module::{Id, Target};

/// What went wrong; see [`super::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Nobody said whose package it is.
    #[error(
        "A package of {0} needs a maintainer.\nUse --maintainer 'NAME <ADDRESS>', set PACKAGE_MAINTAINER in its dkms.conf, or \
         DEBFULLNAME and DEBEMAIL in the environment."
    )]
    NoMaintainer(String),
    /// What was said is none.
    #[error("{0} is no maintainer: that is a name and an address, as in 'Jane Doe <jane@example.org>'.")]
    NoMailbox(String),
    /// A value that has to be one line is not.
    #[error("The {what} has several lines: {text}")]
    SeveralLines {
        /// Of what.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// The module's name makes no package's name.
    #[error(
        "{0} makes no name of a package: that has lower case letters, digits, plus and minus signs and dots, and begins \
         with a letter or digit."
    )]
    BadName(String),
    /// The version is none for the one who would install the package.
    #[error(
        "{manager} takes no version {version} of {id}: {why}.\nUse --package-version to give the package another one."
    )]
    BadVersion {
        /// dpkg or rpm.
        manager: &'static str,
        /// Module and version.
        id: String,
        /// What was to be the package's.
        version: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing was built for a kernel.
    #[error("No modules built for {kernel}.\nBuild them first: dkms build {id} -k {release}")]
    NothingBuilt {
        /// Module and version.
        id: String,
        /// Kernel and architecture.
        kernel: String,
        /// The kernel.
        release: String,
    },
    /// Another package has the name.
    #[error(
        "A package {package} is installed that has nothing of {id} in it.\nInstalling one of the same name would remove it: \
         remove it first, or rename the module."
    )]
    Collides {
        /// The package.
        package: String,
        /// The module.
        id: String,
    },
    /// It could not be made.
    #[error("Failed to make {file}.\n{why}.")]
    NotMade {
        /// The file.
        file: String,
        /// What the system said.
        why: String,
    },
}

impl Problem {
    /// Nothing was built of a module for a kernel.
    pub fn nothing_built(id: &Id, target: &Target) -> Self {
        Self::NothingBuilt { id: id.to_string(), kernel: target.to_string(), release: target.release.clone() }
    }

    /// See [`super::Error::code`].
    pub fn code(&self) -> u8 {
        match self {
            Self::NoMaintainer(_) | Self::NoMailbox(_) | Self::SeveralLines { .. } => 1,
            Self::Collides { .. } => 3,
            Self::NothingBuilt { .. } | Self::NotMade { .. } => 6,
            Self::BadName(_) | Self::BadVersion { .. } => 8,
        }
    }
}
