// SPDX-License-Identifier: GPL-2.0-or-later
//! `/etc/kernel/preinst.d/dkms RELEASE`: another build of a kernel that may be here already is about to be unpacked.

use std::process::ExitCode;

use dkms_rs::commands::Action;

fn main() -> ExitCode {
    dkms_rs::hooks::kernel_goes(dkms_rs::entry::words().next(), Action::KernelPreinst)
}
