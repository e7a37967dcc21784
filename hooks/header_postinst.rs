// SPDX-License-Identifier: GPL-2.0-or-later
//! `/etc/kernel/header_postinst.d/dkms RELEASE`: a kernel's headers were installed, maybe after the kernel itself.

use std::process::ExitCode;

use dkms_rs::hooks::{self, Occasion};

fn main() -> ExitCode {
    hooks::kernel_arrived(dkms_rs::entry::words().next(), Occasion::Headers)
}
