// SPDX-License-Identifier: GPL-2.0-or-later
//! What we ask of dpkg, where there is one.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// The package that a maintainer script runs for, if one runs us (deb-postinst(5): DPKG_MAINTSCRIPT_PACKAGE).
pub fn maintainer_script() -> Option<String> {
    std::env::var("DPKG_MAINTSCRIPT_PACKAGE").ok().filter(|name| !name.is_empty())
}

/// Whether we were called by the prerm of a package that is being upgraded (`prerm upgrade NEW-VERSION`): its new
/// version's postinst comes next.
///
/// dpkg tells scripts their occasion as arguments, and us only that there is a script.
pub fn is_upgrade() -> bool {
    if std::env::var("DPKG_MAINTSCRIPT_NAME").as_deref() != Ok("prerm") {
        return false;
    }
    let Some(parent) = rustix::process::getppid() else {
        return false;
    };
    let command = std::fs::read(format!("/proc/{}/cmdline", parent.as_raw_nonzero())).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|word| word == b"upgrade")
}

/// Whether the kernel's preinst runs us for an upgrade of the same kernel package (DEB_MAINT_PARAMS).
pub fn kernel_upgrade() -> bool {
    // Newer kernels' hooks quote each parameter.
    std::env::var("DEB_MAINT_PARAMS").is_ok_and(|parameters| {
        parameters.split_whitespace().next().is_some_and(|first| first.trim_matches('\'') == "upgrade")
    })
}

/// Asks dpkg to run the trigger `name` at the end of its run, once, however often it is asked; whether it took that.
///
/// Only a maintainer script can ask. Nobody is told if no package waits for that trigger.
pub fn activate_trigger(name: &str) -> bool {
    quiet(Command::new("dpkg-trigger").args(["--no-await", name])).is_ok_and(|status| status.success())
}

/// Whether a package is installed; also while triggers wait for it, as they do once somebody asked for one.
pub fn is_installed(package: &str) -> bool {
    let format = "--showformat=${db:Status-Status}";
    let status = Command::new("dpkg-query").args(["--show", format, package]).stderr(Stdio::null()).output();
    let installed: [&[u8]; 3] = [b"installed", b"triggers-pending", b"triggers-awaited"];
    status.is_ok_and(|output| installed.contains(&output.stdout.as_slice()))
}

/// Names and versions of the packages whose files are here, from the text of /var/lib/dpkg/status.
pub fn versions(status: &str) -> BTreeSet<(&str, &str)> {
    let package = |paragraph| {
        let field = |name: &str| str::lines(paragraph).find_map(|line| line.strip_prefix(name));
        // Of a package that was removed nothing is left but settings.
        let gone = |status: &str| status.ends_with(" config-files") || status.ends_with(" not-installed");
        let package = (field("Package: ")?, field("Version: ")?);
        field("Status: ").is_some_and(|status| !gone(status)).then_some(package)
    };
    status.split("\n\n").filter_map(package).collect()
}

fn quiet(command: &mut Command) -> std::io::Result<std::process::ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
}

/// The package that has the headers of `release`, by the names of Debian, Ubuntu and Raspberry Pi OS.
pub fn headers_package(release: &str) -> String {
    format!("linux-headers-{release}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_has_no_version() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nDescription: x\n Version: 9\n\n\
                      Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                      Package: c\nStatus: install ok unpacked\nVersion: 4\n\nPackage: d\nStatus: unknown ok not-installed\n";
        assert_eq!(versions(status), BTreeSet::from([("a", "1:2-3"), ("c", "4")]));
    }
}
