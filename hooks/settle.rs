// SPDX-License-Identifier: GPL-2.0-or-later
//! `/usr/lib/dkms/settle [all]`: for our own package's scripts, at the end of dpkg's run, and (`all`) when dkms goes.

use std::process::ExitCode;

use dkms_rs::commands::settle;
use dkms_rs::entry::{self, Reader};
use dkms_rs::model::site::Trees;

fn main() -> ExitCode {
    let all = entry::words().next().as_deref() == Some("all");
    entry::run(Trees::default(), Reader::Administrator, |site| settle::run(site, all))
}
