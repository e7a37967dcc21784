// SPDX-License-Identifier: GPL-2.0-or-later
//! What we ask of dpkg, where there is one.

use std::path::Path;
use std::process::{Command, Stdio};

/// The package that a maintainer script runs for, if one runs us (deb-postinst(5): DPKG_MAINTSCRIPT_PACKAGE).
pub fn maintainer_script() -> Option<String> {
    std::env::var("DPKG_MAINTSCRIPT_PACKAGE").ok().filter(|name| !name.is_empty())
}

/// Asks dpkg to run the trigger `name` at the end of its run, once, however often it is asked. Whether it will.
///
/// Only a maintainer script can do that, and only where a package waits for the trigger.
pub fn activate_trigger(name: &str) -> bool {
    let awaited = std::fs::read_to_string("/var/lib/dpkg/triggers/File").is_ok_and(|t| t.contains(name))
        || Path::new("/var/lib/dpkg/triggers").join(name).exists();
    awaited
        && Command::new("dpkg-trigger")
            .args(["--no-await", name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// The package that has the headers of `release`, by the names of Debian, Ubuntu and Raspberry Pi OS.
pub fn headers_package(release: &str) -> String {
    format!("linux-headers-{release}")
}
