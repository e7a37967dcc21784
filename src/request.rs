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
}

/// Which modules.
#[derive(Debug, Clone)]
pub enum Modules {
    /// These, by name.
    Named(Vec<Id>),
    /// The newest version of every registered module that wants to be installed by itself, in the order of their
    /// dependencies.
    Automatic,
}

/// How a module is announced before it is worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Announced {
    /// Not at all: the caller named it.
    #[default]
    Not,
    /// As one of those that want to be installed by themselves.
    Automatic,
    /// As a package's that is being configured.
    Initial,
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
