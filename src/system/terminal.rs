// SPDX-License-Identifier: GPL-2.0-or-later
//! The terminal that a person may be sitting at.

use std::env;
use std::ffi::c_int;
use std::fs;
use std::io::IsTerminal;
use std::sync::Once;

use rustix::stdio::{stderr, stdout};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

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

/// How large it is now.
pub fn size() -> Size {
    let or = |size: u16, usual| if size == 0 { usual } else { usize::from(size) };
    let (rows, columns) = rustix::termios::tcgetwinsize(stdout()).map_or((0, 0), |size| (size.ws_row, size.ws_col));
    Size { rows: or(rows, 24), columns: or(columns, 80) }
}

/// From now on calls `clean` before a signal ends this process: what is drawn should not outlive it.
pub fn before_death(clean: impl Fn() + Send + 'static) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let deadly = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|&number| !is_ignored(&status, number));
        // Without it the words are as good.
        let Ok(mut signals) = signal_hook::iterator::Signals::new(deadly) else { return };
        let _ = std::thread::Builder::new().name("signals".into()).spawn(move || {
            for number in &mut signals {
                clean();
                let _ = signal_hook::low_level::emulate_default_handler(number);
            }
        });
    });
}

/// Whether whoever started us wants a signal to be ignored, see proc(5).
fn is_ignored(status: &str, number: c_int) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_known() {
        let status = "Name:\tx\nSigIgn:\t0000000000001002\nSigCgt:\t0000000000000001\n";
        for (number, expected) in [(SIGHUP, false), (SIGINT, true), (SIGQUIT, false), (13, true), (SIGTERM, false)] {
            assert_eq!(is_ignored(status, number), expected, "{number}");
        }
        assert!(!is_ignored("", SIGINT));
    }
}
