// SPDX-License-Identifier: GPL-2.0-or-later
//! What we ask of dpkg, where there is one.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

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

/// Names and versions of the packages whose files are here, asked once; none where there is no dpkg.
pub fn versions() -> &'static BTreeSet<(String, String)> {
    static VERSIONS: OnceLock<BTreeSet<(String, String)>> = OnceLock::new();
    VERSIONS.get_or_init(|| {
        let format = "--showformat=${db:Status-Status} ${binary:Package} ${Version}\\n";
        let output = Command::new("dpkg-query").args(["--show", format]).stderr(Stdio::null()).output();
        output.map(|output| parse_versions(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
    })
}

/// From lines of state, name and version. Of a package that was removed nothing is left but settings.
fn parse_versions(lines: &str) -> BTreeSet<(String, String)> {
    let package = |line: &str| {
        let mut words = line.split(' ');
        let (state, name, version) = (words.next()?, words.next()?, words.next()?);
        (state != "config-files" && state != "not-installed").then(|| (name.to_owned(), version.to_owned()))
    };
    lines.lines().filter_map(package).collect()
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
        let lines = "installed a 1:2-3\nconfig-files b 1\nunpacked c:amd64 4\nnot-installed d \n";
        let found = parse_versions(lines);
        let found: Vec<_> = found.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
        assert_eq!(found, [("a", "1:2-3"), ("c:amd64", "4")]);
    }
}
