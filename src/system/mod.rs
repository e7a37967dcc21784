// SPDX-License-Identifier: GPL-2.0-or-later
//! The ground floor: what the operating system offers, behind names of ours.

pub mod build_log;
pub mod compressed;
pub mod diagnostics;
pub mod digest;
pub mod directories;
pub mod download;
pub mod dpkg;
pub mod files;
pub mod harmless;
pub mod interrupt;
pub mod lock;
pub mod memory;
pub mod modinfo;
pub mod output;
pub mod paths;
pub mod pattern;
pub mod process;
pub mod regex;
pub mod remote;
pub mod renaming;
pub mod root_fs;
pub mod sandbox;
pub mod scratch;
pub mod screen;
pub mod shell;
pub mod side_by_side;
pub mod signature;
mod sys;
pub mod terminal;
pub mod tokens;
pub mod trust;
pub mod version;
