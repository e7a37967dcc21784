// SPDX-License-Identifier: GPL-2.0-or-later
//! DKMS for Debian and Ubuntu: builds, signs, installs and removes the kernel modules of registered source
//! trees, for every kernel that is installed.
//!
//! The folders are floors; a file imports from lower floors only:
//!
//! * `system`: paths, processes, the sandbox, locks, files;
//! * `model`: `dkms.conf`, `framework.conf`, the tree under `/var/lib/dkms`, kernels;
//! * `steps`: prepare, make, sign, compress, install, depmod: one thing each, for one module and kernel;
//! * [`request`], [`plan`], [`commit`], [`run`], [`report`]: the one flow that every entry point takes;
//! * `commands`: one file per action.

pub mod cli;
pub mod commands;
pub mod commit;
pub mod entry;
pub mod error;
pub mod hooks;
pub mod model;
pub mod plan;
pub mod policy;
pub mod report;
pub mod request;
pub mod run;
pub mod steps;
pub mod system;

/// What `dkms --version` prints and what heads a `make.log`: the version of dkms whose behaviour this is, and our own.
pub const VERSION: &str = concat!("dkms-3.4.3+rs", env!("CARGO_PKG_VERSION"));
