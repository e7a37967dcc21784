// SPDX-License-Identifier: GPL-2.0-or-later
//! `/etc/kernel/postinst.d/dkms RELEASE [IMAGE]`: a kernel was installed. Its own hooks make the initramfs after us.

use std::process::ExitCode;

use dkms_rs::hooks::{self, Occasion};

fn main() -> ExitCode {
    hooks::kernel_arrived(dkms_rs::entry::words().next(), Occasion::Image)
}
