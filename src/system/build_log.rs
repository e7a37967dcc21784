// SPDX-License-Identifier: GPL-2.0-or-later
//! What the log of a build that failed says: why, and whether the machine is to blame.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::harmless::is_text;

/// Bytes of a log that are looked at: more than any build says, unless it wants to hurt.
const LONGEST_LOG: u64 = 16 << 20;

/// Bytes of the end of a longer one.
const LONGEST_END: u64 = 1 << 20;

/// Characters of a reason: what fits in one line, with what is around it on the next.
const LONGEST_REASON: usize = 160;

/// What a log says where the machine is to blame: the same may work the next time.
const PASSING: [&str; 16] = [
    "No space left on device",
    "Disk quota exceeded",
    "Cannot allocate memory",
    // What gcc, ld and bash say of the same.
    "out of memory",
    "emory exhausted",
    "Resource temporarily unavailable",
    "Too many open files",
    "Killed signal terminated",
    "] Killed",
    "Error 137",
    // By SIGKILL, as when memory runs out, and by us when the last of a disk is taken.
    "code: 137",
    "code: 153",
    // By SIGTERM, as who watches over memory, or over the machine's end, sends it.
    "Terminated signal terminated",
    "] Terminated",
    "Error 143",
    "code: 143",
];

/// Whether a log says that the machine is to blame. A source that a compiler quotes says nothing.
pub fn is_passing(text: &str) -> bool {
    let is_quoted = |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(" | ");
    text.lines().filter(|line| !is_quoted(line)).any(|line| PASSING.iter().any(|word| line.contains(word)))
}

/// What a log says where a disk is to blame.
const FULL: [&str; 2] = [PASSING[0], PASSING[1]];

/// No build gets far with so many bytes.
const HARDLY_ANY: u64 = 1 << 20;

/// What a log says, or as much of it as is looked at: what it begins and ends with.
pub fn text_of(log: &Path) -> String {
    let mut bytes = Vec::new();
    let mut read = || {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        (&mut file).take(LONGEST_LOG).read_to_end(&mut bytes)?;
        file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_END).max(LONGEST_LOG)))?;
        file.take(LONGEST_END).read_to_end(&mut bytes)
    };
    // A log that cannot be read says nothing.
    let _ = read();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// That a disk is full, in one line, if a build that failed says so in its log, or has had no room even for that.
pub fn full_disk(log: &Path) -> Option<String> {
    let place = log.ancestors().skip(1).find(|place| place.is_dir())?;
    if let Ok(disk) = rustix::fs::statvfs(place) {
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if bytes < HARDLY_ANY {
            return Some(format!("The disk is full: no more than {} kB are free in {}", bytes >> 10, place.display()));
        }
        if disk.f_files > 0 && disk.f_favail == 0 {
            return Some(format!("The disk is full: it takes no more files in {}", place.display()));
        }
    }
    let text = text_of(log);
    let line = text.lines().find(|line| FULL.iter().any(|word| line.contains(word)))?;
    Some(one_line(&format!("A disk is full: {}", line.trim())))
}

/// The line of a build's log that says what went wrong: the first error, or else how the last command ended.
pub fn first_error(log: &str) -> Option<String> {
    let is_error = |line: &&str| line.to_ascii_lowercase().contains("error: ") && !line.starts_with("# command: ");
    let failed = |line: &&str| line.starts_with("make") && line.contains("*** ");
    let mut lines = log.lines();
    let ended = |line: &&str| line.starts_with("# ") && line.contains(" was ended: ");
    if let Some(line) = lines.clone().find(ended) {
        return Some(line.trim_start_matches("# ").to_owned());
    }
    if let Some(line) = lines.clone().find(is_error).or_else(|| lines.clone().find(failed)) {
        return Some(line.trim().to_owned());
    }
    let code = log.lines().rev().find_map(|line| line.strip_prefix("# exit code: "))?;
    let command = lines.rfind(|line| line.starts_with("# command: "))?.trim_start_matches("# command: ");
    Some(match code {
        "137" => format!("`{command}` was killed, as it happens when memory runs out"),
        _ => format!("`{command}` ended with exit code {code}"),
    })
}

/// Without what a terminal would do something with, and not too long: a stranger wrote it.
pub fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if is_text(c) { c } else { ' ' }).collect();
    match plain.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}...", plain[..end].trim_end()),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::error::Error;

    #[test]
    fn what_a_compiler_quotes_is_no_reason() {
        for (text, expected) in [
            ("cc1: out of memory allocating 65536 bytes", true),
            ("a.c:7:1: error: no\n    7 |   pr_err(\"out of memory\");\n      |   ^~~~~~", false),
            ("make: fork: Resource temporarily unavailable", true),
            ("a.c:1: error", false),
        ] {
            assert_eq!(is_passing(text), expected, "{text}");
        }
    }

    #[test]
    fn a_full_disk_is_named() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("make.log");
        fs::write(&log, "a.c:1: error: no\n")?;
        assert_eq!(full_disk(&log), None);
        fs::write(&log, "fatal error: error writing to a.s: No space left on device\n")?;
        let told = full_disk(&log);
        let line = "A disk is full: fatal error: error writing to a.s: No space left on device";
        assert_eq!(told.as_deref(), Some(line));
        let error = Error::BuildFailed { kernel: "6.1 (x86_64)".into(), log, tools: Vec::new() };
        assert_eq!(error.hint(), told.map(|told| told + "."));
        Ok(())
    }

    #[test]
    fn the_first_error_of_a_log_is_the_reason() {
        let log = |output: &str| {
            format!(
                "DKMS (x) make.log for a/1\n\nBuilding module(s)\n# command: make -C x\n{output}\n# exit code: 2\n# elapsed time: 00:00:01\n"
            )
        };
        for (output, reason) in [
            ("CC a.o\na.c:3:1: error: unknown\nb.c: error: later\nmake[1]: *** [x] Error 1", "a.c:3:1: error: unknown"),
            ("a.c:1:10: fatal error: x.h: No such file", "a.c:1:10: fatal error: x.h: No such file"),
            ("ERROR: modpost: \"f\" [a.ko] undefined!", "ERROR: modpost: \"f\" [a.ko] undefined!"),
            (
                "make[1]: *** No rule to make target 'a'.  Stop.\nmake: *** [all] Error 2",
                "make[1]: *** No rule to make target 'a'.  Stop.",
            ),
            ("# command: echo error: x", "`echo error: x` ended with exit code 2"),
            (
                "a.c:3:1: error: no\n\n# Building module(s) was ended: it took too long, see x",
                "Building module(s) was ended: it took too long, see x",
            ),
            ("nothing of the kind", "`make -C x` ended with exit code 2"),
        ] {
            assert_eq!(first_error(&log(output)).as_deref(), Some(reason), "{output}");
        }
        assert_eq!(first_error(""), None);
    }

    #[test]
    fn reasons_do_nothing_to_a_terminal_and_fit_in_a_line() {
        assert_eq!(one_line("a\x1b[2Jb\tc\u{9b}d\u{202e}e"), "a [2Jb c d e");
        let long = one_line(&"ä ".repeat(1000));
        assert_eq!(long.chars().count(), LONGEST_REASON - 1 + 3);
    }
}
