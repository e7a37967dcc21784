// SPDX-License-Identifier: GPL-2.0-or-later
//! `/usr/lib/dkms/dkms_autoinstaller start [RELEASE]`: the interface of the boot script that dkms once was.

use std::process::ExitCode;

use dkms_rs::entry;
use dkms_rs::hooks::{self, Occasion};
use dkms_rs::system::output::Output;

fn main() -> ExitCode {
    let mut words = entry::words();
    match words.next().as_deref() {
        Some("start") => hooks::kernel_arrived(words.next(), Occasion::Asked),
        Some("stop" | "restart" | "force-reload" | "status" | "reload") => ExitCode::SUCCESS,
        _ => {
            let program = std::env::args_os().next().unwrap_or_default();
            Output::new().block().say(format!("Usage: {} {{start}}", program.to_string_lossy()));
            ExitCode::from(2)
        }
    }
}
