// SPDX-License-Identifier: GPL-2.0-or-later
//! `/usr/lib/dkms/settle [all]`: for our own package's scripts, at the end of dpkg's run, and (`all`) when dkms goes.

use std::process::ExitCode;

use dkms_rs::commands::settle;
use dkms_rs::entry::{self, Reader};
use dkms_rs::model::site::Trees;
use dkms_rs::request::Left;

fn main() -> ExitCode {
    let left = if entry::words().next().as_deref() == Some("all") { Left::All } else { Left::Abandoned };
    entry::run(Trees::default(), Reader::Administrator, |site| settle::run(site, left))
}
