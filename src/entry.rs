// SPDX-License-Identifier: GPL-2.0-or-later
//! Where every program of ours begins and ends: the one place that prints an error.

use std::io::IsTerminal;
use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::model::site::{Site, Trees};
use crate::system::output::Output;
use crate::system::paths::Paths;

/// Who reads what we say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A program, unless standard error is a terminal: the words that callers know, no more.
    Caller,
    /// Somebody who watches a package being configured: the next command too.
    Administrator,
}

/// A hook's arguments. One that is no text names nothing that there could be.
pub fn words() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())
}

/// Looks at the machine, acts, prints the error if there is one, and gives the exit code.
pub fn run(trees: Trees, reader: Reader, act: impl FnOnce(&mut Site) -> Result<()>) -> ExitCode {
    run_or(trees, reader, act, |_, error| Err(error))
}

/// [`run`]; where settings keep it from looking, `otherwise` ends it, with the defaults in place of most.
pub fn run_or(
    trees: Trees,
    reader: Reader,
    act: impl FnOnce(&mut Site) -> Result<()>,
    otherwise: impl FnOnce(&Site, Error) -> Result<()>,
) -> ExitCode {
    crate::system::memory::keep_heap_small();
    // Files of ours are readable whatever the caller's shell says.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    crate::system::diagnostics::start();
    let output = Output::new();
    let result = match Site::look(Paths::default(), trees, output.clone()) {
        Ok(mut site) => {
            site.sweep();
            let result = act(&mut site);
            site.memory.save();
            result
        }
        Err(error) => otherwise(&Site::by_defaults(Paths::default(), output.clone()), error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let say = output.block();
            if !error.is_said() {
                say.error(&error);
            }
            if let Some(hint) =
                error.hint().filter(|_| reader == Reader::Administrator || std::io::stderr().is_terminal())
            {
                say.complain(format!("{hint}\n"));
            }
            ExitCode::from(error.code())
        }
    }
}
