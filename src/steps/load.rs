// SPDX-License-Identifier: GPL-2.0-or-later
//! Loading modules for the hardware that is there, on the running kernel.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use crate::system::directories::find;
use crate::system::process;

/// Asks modprobe for everything the devices of this machine want, then for what systemd is to load at boot.
pub fn modules() {
    let files = find(std::path::Path::new("/sys/devices"), &mut |name| name == "modalias");
    let aliases: BTreeSet<String> =
        files.iter().filter_map(|file| fs::read_to_string(file).ok()).map(|alias| alias.trim().to_owned()).collect();
    let quiet = |command: &mut Command| {
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        log::debug!("{command:?}: {status:?}");
    };
    if !aliases.is_empty() {
        quiet(process::program("modprobe").arg("-qab").args(aliases));
    }
    if std::path::Path::new("/run/systemd/system").exists() {
        quiet(process::program("systemctl").args(["restart", "systemd-modules-load.service"]));
    }
}
