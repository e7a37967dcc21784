// SPDX-License-Identifier: GPL-2.0-or-later
//! Compressing modules as the kernel's own are.

mod recipe;

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use recipe::Recipe;

use crate::model::kernel::COMPRESSIONS;
use crate::system::output::Words;
use crate::system::paths::with_suffix;
use crate::system::process;

/// Compresses `file` in place, giving it `suffix`; without a suffix nothing is done.
///
/// `opts` are framework.conf's options for gzip, xz and zstd. We compress ourselves as they say; where they say what we
/// do not know, the program does. A failure is told, and the module stays as it is: kernels load either.
pub fn compress(file: &Path, suffix: &str, opts: &[String; 3], words: &mut Words) {
    let Some(kind) = COMPRESSIONS.iter().position(|(known, _)| *known == suffix) else { return };
    let (_, program) = COMPRESSIONS[kind];
    match Recipe::parse(program, &opts[kind]) {
        Some(recipe) => {
            if let Err(error) = by_us(file, suffix, &recipe) {
                words.warn(format!("Cannot compress {}: {error}", file.display()));
            }
        }
        None => by_program(file, program, &opts[kind], words),
    }
}

fn by_us(file: &Path, suffix: &str, recipe: &Recipe) -> io::Result<()> {
    let compressed = recipe.compress(&fs::read(file)?)?;
    let place = with_suffix(file, suffix);
    let written =
        fs::write(&place, compressed).and_then(|()| fs::set_permissions(&place, fs::metadata(file)?.permissions()));
    if written.is_err() {
        // Half a module is none.
        let _ = fs::remove_file(&place);
        return written;
    }
    if recipe.keep { Ok(()) } else { fs::remove_file(file) }
}

fn by_program(file: &Path, program: &str, opts: &str, words: &mut Words) {
    let mut command = Command::new(program);
    if program == "gzip" {
        // Without the time: the same input gives the same file.
        command.arg("-n");
    }
    command.args(opts.split_whitespace()).arg("-f").arg(file);
    match process::merged_output(&mut command) {
        Ok((0, _)) => {}
        Ok((_, said)) => words.complain(said),
        Err(error) => words.warn(format!("Cannot run {program}: {error}")),
    }
}

#[cfg(test)]
mod tests;
