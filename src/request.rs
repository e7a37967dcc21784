// SPDX-License-Identifier: GPL-2.0-or-later
//! What is wanted: which modules, for which kernels, in which state. Every entry point makes one of these.

use crate::model::module::{Id, Target};
use crate::model::options::Options;

/// The state that modules shall reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Built.
    Built,
    /// Built and installed.
    Installed,
    /// Out of the kernel's directory; what was built stays.
    Uninstalled,
    /// Not built either.
    Unbuilt,
    /// Not even registered, once nothing is built for any kernel.
    Absent,
}

impl Goal {
    /// Whether it is reached by taking away.
    pub fn undoes(self) -> bool {
        matches!(self, Self::Uninstalled | Self::Unbuilt | Self::Absent)
    }
}

/// Which modules.
#[derive(Debug, Clone)]
pub enum Modules {
    /// These, by name.
    Named(Vec<Id>),
    /// The newest version of every registered module that wants to be installed by itself, in the order of their
    /// dependencies.
    Automatic,
    /// None but what upgrades left in place, on whatever kernel.
    Left(Left),
    /// Every version of every module that is built for a kernel of the request.
    Present {
        /// Only those that would come back by themselves.
        automatic: bool,
    },
}

/// What upgrades left in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Of this module, whose package has just been configured, what nothing will come for.
    By(String),
    /// Of all modules what nothing will come for.
    Abandoned,
    /// All of it, but for what this machine boots by.
    All,
}

/// What is said around the work on a module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Announced {
    /// Nothing: the caller named it.
    #[default]
    Not,
    /// That it is one of those that want to be installed by themselves; an empty line closes it.
    Automatic,
    /// That it belongs to a package that is being configured.
    Initial,
    /// An empty line between it and the one before.
    Apart,
    /// An empty line closes it.
    Closed,
    /// That it goes with its kernel; an empty line closes it.
    Going,
    /// That it goes because its kernel is being replaced.
    Replaced,
    /// As one that another kernel has.
    Matching,
    /// As one that is built anew because another one was installed that it builds upon.
    Dependent,
}

/// A wish.
#[derive(Debug, Clone)]
pub struct Request {
    /// The state.
    pub goal: Goal,
    /// The modules.
    pub modules: Modules,
    /// The kernels, in the order in which they are told of.
    pub targets: Vec<Target>,
    /// How the modules are announced.
    pub announced: Announced,
    /// Whatever else was said.
    pub options: Options,
}
