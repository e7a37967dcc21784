// SPDX-License-Identifier: GPL-2.0-or-later

//! Tests through the installed commands, in throwaway roots with real kernels; they need root.
//!
//! Tests of words can be compared with Debian's own dkms:
//! `DKMS_UNDER_TEST=original cargo test --test main -- walkthrough add building command_line conf postinst settings signing`.

mod add;
mod apt;
mod attack;
mod bad_input;
mod bench;
mod boot;
mod building;
mod caches;
mod command_line;
mod completion;
mod conf;
mod contract;
mod corpus;
mod critical;
mod crowd;
mod depmod;
mod differential;
mod failures;
mod fleet;
mod fuzz;
mod hooks;
mod installed;
mod interrupt;
mod leftovers;
mod matching;
mod newer;
mod packages;
mod packaging;
mod parallel;
mod plan;
mod postinst;
mod powercut;
mod prebuilt;
mod progress;
mod rebuild;
mod remote_cache;
mod rpm;
mod same_ko;
mod sandbox;
mod settings;
mod signing;
mod status;
mod support;
mod surroundings;
mod takeover;
mod tarball;
mod tarball_safety;
mod toolchain;
mod torture;
mod trees;
mod upgrade;
mod walkthrough;
