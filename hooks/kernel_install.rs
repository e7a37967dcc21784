// SPDX-License-Identifier: GPL-2.0-or-later
//! `/usr/lib/kernel/install.d/40-dkms.install add|remove RELEASE ...`: see kernel-install(8).

use std::process::ExitCode;

use dkms_rs::commands::Action;
use dkms_rs::hooks::{self, Occasion};

fn main() -> ExitCode {
    let mut words = dkms_rs::entry::words();
    match words.next().as_deref() {
        Some("add") => hooks::kernel_arrived(words.next(), Occasion::KernelInstall),
        Some("remove") => hooks::kernel_goes(words.next(), Action::KernelPrerm),
        _ => ExitCode::SUCCESS,
    }
}
