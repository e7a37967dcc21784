// SPDX-License-Identifier: GPL-2.0-or-later
//! The terminal that a person may be sitting at.

use std::env;
use std::io::IsTerminal;

use rustix::stdio::{stderr, stdout};

use super::screen::Size;

/// Whether lines may be drawn anew on standard output: it is a terminal, and standard error is the same one, for words
/// that take another way would go through what is drawn, and a stream that was redirected is kept by somebody. Not
/// while a package is being configured either: apt has a terminal of its own there, and keeps what it sees in a log.
pub fn is_redrawable() -> bool {
    let term = env::var("TERM").unwrap_or_default();
    let same = || match (rustix::fs::fstat(stdout()), rustix::fs::fstat(stderr())) {
        (Ok(out), Ok(err)) => out.st_rdev == err.st_rdev,
        _ => false,
    };
    !matches!(term.as_str(), "" | "dumb")
        && env::var_os("DPKG_MAINTSCRIPT_PACKAGE").is_none()
        // Diagnostics are written past everything.
        && log::max_level() == log::LevelFilter::Off
        && std::io::stdout().is_terminal()
        && std::io::stderr().is_terminal()
        && same()
}

/// How large it is now; nothing while it is another job's of the shell that started us, and we are in its background.
pub fn size() -> Option<Size> {
    if rustix::termios::tcgetpgrp(stdout()).is_ok_and(|foreground| foreground != rustix::process::getpgrp()) {
        return None;
    }
    let or = |size: u16, usual| if size == 0 { usual } else { usize::from(size) };
    let (rows, columns) = rustix::termios::tcgetwinsize(stdout()).map_or((0, 0), |size| (size.ws_row, size.ws_col));
    Some(Size { rows: or(rows, 24), columns: or(columns, 80) })
}
