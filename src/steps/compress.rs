// SPDX-License-Identifier: GPL-2.0-or-later
//! Compressing modules as the kernel's own are.

use std::path::Path;
use std::process::Command;

use crate::model::kernel::COMPRESSIONS;
use crate::system::output::Block;
use crate::system::process;

/// Compresses `file` in place, giving it `suffix`; without a suffix nothing is done.
///
/// `opts` are framework.conf's options for gzip, xz and zstd. A failure is told, and the module stays as it is:
/// kernels load either.
pub fn compress(file: &Path, suffix: &str, opts: &[String; 3], say: &Block) {
    let Some(kind) = COMPRESSIONS.iter().position(|(known, _)| *known == suffix) else { return };
    let program = COMPRESSIONS[kind].1;
    let mut command = Command::new(program);
    if program == "gzip" {
        // Without the time: the same input gives the same file.
        command.arg("-n");
    }
    command.args(opts[kind].split_whitespace()).arg("-f").arg(file);
    match process::merged_output(&mut command) {
        Ok((0, _)) => {}
        Ok((_, said)) => say.complain(said),
        Err(error) => say.warn(format!("Cannot run {program}: {error}")),
    }
}
