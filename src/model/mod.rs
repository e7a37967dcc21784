// SPDX-License-Identifier: GPL-2.0-or-later
//! What there is: configuration, the tree of registered modules, kernels.

pub mod assembler;
pub mod caller;
pub mod closed;
pub mod compile_cache;
pub mod conf;
pub mod exchange;
pub mod failures;
pub mod framework;
pub mod headers;
pub mod history;
pub mod inputs;
pub mod kernel;
pub mod manifest;
pub mod memory;
pub mod module;
pub mod opaque;
pub mod options;
pub mod origin;
pub mod outside;
pub mod probe;
pub mod readings;
pub mod search;
pub mod site;
pub mod source;
pub mod store;
pub mod tools;
pub mod tree;
mod variables;
