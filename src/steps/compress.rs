// SPDX-License-Identifier: GPL-2.0-or-later
//! Compressing modules as the kernel's own are.

use std::path::Path;
use std::process::Command;

use crate::error::{Doing, Error, Result};
use crate::model::kernel::COMPRESSIONS;
use crate::system::process;

/// Compresses `file` in place, giving it `suffix`; without a suffix nothing is done.
///
/// `opts` are framework.conf's options for gzip, xz and zstd.
pub fn compress(file: &Path, suffix: &str, opts: &[String; 3]) -> Result<()> {
    let Some(kind) = COMPRESSIONS.iter().position(|(known, _)| *known == suffix) else {
        return Ok(());
    };
    let program = COMPRESSIONS[kind].1;
    let mut command = Command::new(program);
    command
        .args(opts[kind].split_whitespace())
        .arg("-f")
        .arg(file);
    let what = || {
        format!(
            "Cannot compress {} with {program}; apt install {}",
            file.display(),
            package(program)
        )
    };
    match process::merged_output(&mut command).doing(what)? {
        (0, _) => Ok(()),
        (_, said) => Err(Error::Io {
            what: what(),
            source: std::io::Error::other(String::from_utf8_lossy(&said).trim().to_owned()),
        }),
    }
}

/// The package that has a program.
fn package(program: &str) -> &str {
    if program == "xz" { "xz-utils" } else { program }
}

/// Whether a name is that of a module, compressed or not.
pub fn is_module(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".ko")
        || COMPRESSIONS.iter().any(|(suffix, _)| {
            name.strip_suffix(suffix)
                .is_some_and(|n| n.ends_with(".ko"))
        })
}
