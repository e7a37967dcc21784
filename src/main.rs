// SPDX-License-Identifier: GPL-2.0-or-later
//! `dkms`: see dkms(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    dkms_rs::cli::main(std::env::args_os())
}
