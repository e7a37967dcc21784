// SPDX-License-Identifier: GPL-2.0-or-later
//! What happens behind the words, on standard error, where `DKMS_LOG` asks for it (`error` to `trace`).

use std::io::IsTerminal;

use log::{LevelFilter, Log, Metadata, Record};

use super::harmless::{Harmless, Reader};

struct Stderr;

impl Log for Stderr {
    /// Ours alone: a library may tell each byte that it sends, passwords and all.
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format!("dkms: {}: {}\n", record.level().as_str().to_lowercase(), record.args());
        let reader = if std::io::stderr().is_terminal() { Reader::Terminal } else { Reader::Other };
        let line = Harmless::default().pass(line.as_bytes(), reader);
        // Nobody is left to tell if this fails.
        let _ = rustix::io::write(rustix::stdio::stderr(), &line);
    }

    fn flush(&self) {}
}

/// Starts to listen, at the level that `DKMS_LOG` names; nothing without it.
pub fn start() {
    start_at(std::env::var("DKMS_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Off));
}

/// Starts to listen at `level`, or raises it.
pub fn start_at(level: LevelFilter) {
    // Set already: only the level changes.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level.max(log::max_level()));
}
