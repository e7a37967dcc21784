// SPDX-License-Identifier: GPL-2.0-or-later
//! What there is: configuration, the tree of registered modules, kernels.

pub mod closed;
pub mod conf;
pub mod framework;
pub mod history;
pub mod kernel;
pub mod module;
pub mod options;
pub mod site;
pub mod tree;
