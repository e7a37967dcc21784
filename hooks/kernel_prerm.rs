// SPDX-License-Identifier: GPL-2.0-or-later
//! `/etc/kernel/prerm.d/dkms RELEASE`: a kernel is about to be removed.

use std::process::ExitCode;

use dkms_rs::commands::Action;

fn main() -> ExitCode {
    dkms_rs::hooks::kernel_goes(dkms_rs::entry::words().next(), Action::KernelPrerm)
}
