// SPDX-License-Identifier: GPL-2.0-or-later
//! What we ask of dpkg, where there is one.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::system::paths::Paths;

/// The package that a maintainer script runs for, if one runs us (deb-postinst(5): DPKG_MAINTSCRIPT_PACKAGE).
pub fn maintainer_script() -> Option<String> {
    std::env::var("DPKG_MAINTSCRIPT_PACKAGE").ok().filter(|name| !name.is_empty())
}

/// Whether we were called by the prerm of a package whose successor is on its way: its new version (`prerm upgrade`), also
/// where another package has to come first (`prerm deconfigure`), or a package that takes its place (`prerm remove
/// in-favour`).
///
/// dpkg tells scripts their occasion as arguments, and us only that there is a script.
pub fn is_to_be_replaced() -> bool {
    if std::env::var("DPKG_MAINTSCRIPT_NAME").as_deref() != Ok("prerm") {
        return false;
    }
    let Some(parent) = rustix::process::getppid() else {
        return false;
    };
    // Where nothing can be known, as in a chroot without /proc, what may be needed stays: if nothing comes, it goes at the end
    // of dpkg's run.
    let Ok(command) = std::fs::read(format!("/proc/{}/cmdline", parent.as_raw_nonzero())) else {
        return true;
    };
    let occasions: [&[u8]; 3] = [b"upgrade", b"deconfigure", b"in-favour"];
    command.split(|byte| *byte == 0).any(|word| occasions.contains(&word))
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
/// Only a maintainer script has somebody run it soon. Nobody is told if no package waits for that trigger.
pub fn activate_trigger(name: &str) -> bool {
    maintainer_script().is_some()
        && quiet(Command::new("dpkg-trigger").args(["--no-await", name])).is_ok_and(|status| status.success())
}

/// Whether a package is installed; also while triggers wait for it, as they do once somebody asked for one.
pub fn is_installed(package: &str) -> bool {
    let installed: [&[u8]; 3] = [b"installed", b"triggers-pending", b"triggers-awaited"];
    installed.contains(&state(package).as_slice())
}

/// How far a package is that is on its way.
const HALFWAY: [&[u8]; 3] = [b"half-installed", b"unpacked", b"half-configured"];

/// Whether a package is on its way, and its scripts are still to run.
pub fn is_halfway(package: &str) -> bool {
    HALFWAY.contains(&state(package).as_slice())
}

/// dpkg's word for how far a package is installed; empty for one that it does not know.
fn state(package: &str) -> Vec<u8> {
    let format = "--showformat=${db:Status-Status}";
    let output = Command::new("dpkg-query").args(["--show", format, package]).stderr(Stdio::null()).output();
    output.map(|output| output.stdout).unwrap_or_default()
}

/// Whether a package that is not here yet comes in the same run of apt or dpkg that runs us: it is unpacked and waits to
/// be configured, or apt has it on its list and no end noted.
pub fn is_coming(paths: &Paths, package: &str) -> bool {
    if maintainer_script().is_none() {
        return false;
    }
    // apt says so to the dpkg that it runs, and notes what it is about to do before it begins.
    let by_apt = || {
        let history = std::fs::read(paths.system("/var/log/apt/history.log")).unwrap_or_default();
        std::env::var_os("DPKG_FRONTEND_LOCKED").is_some() && is_on_list(&String::from_utf8_lossy(&history), package)
    };
    is_halfway(package) || by_apt()
}

/// Whether the last run in apt's history has not ended and installs a package.
pub fn is_on_list(history: &str, package: &str) -> bool {
    let run = history.trim_end().rsplit("\n\n").next().unwrap_or_default();
    let installed =
        |line: &str| ["Install: ", "Reinstall: ", "Upgrade: ", "Downgrade: "].iter().any(|it| line.starts_with(it));
    let named = |word: &str| word.split(':').next() == Some(package);
    !run.lines().any(|line| line.starts_with("End-Date: "))
        && run.lines().filter(|line| installed(line)).any(|line| line.split(' ').skip(1).any(named))
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
pub fn parse_versions(lines: &str) -> BTreeSet<(String, String)> {
    let package = |line: &str| {
        let mut words = line.split(' ');
        let (state, name, version) = (words.next()?, words.next()?, words.next()?);
        (state != "config-files" && state != "not-installed").then(|| (name.to_owned(), version.to_owned()))
    };
    lines.lines().filter_map(package).collect()
}

/// The version of a kernel by its packages: of its headers, or of its image where those are not installed.
pub fn kernel_version(release: &str) -> Option<String> {
    let packages =
        [headers_package(release), format!("linux-image-{release}"), format!("linux-image-{release}-unsigned")];
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status} ${Package} ${Version}\\n"])
        .args(&packages)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let found = parse_versions(&String::from_utf8_lossy(&output.stdout));
    packages.iter().find_map(|package| Some(found.iter().find(|(name, _)| name == package)?.1.clone()))
}

/// Why dpkg takes no package of this version; `None` if it does.
pub fn refuses_version(version: &str) -> Option<String> {
    match Command::new("dpkg").args(["--validate-version", version]).env("LC_ALL", "C").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(said.trim().rsplit(": ").next().unwrap_or_default().to_owned())
        }
        Err(error) => Some(error.to_string()),
    }
}

/// The files of a package that is installed, or on its way, by dpkg's list; empty for one that is neither.
pub fn files(package: &str) -> Vec<String> {
    if !is_installed(package) && !is_halfway(package) {
        return Vec::new();
    }
    let output = Command::new("dpkg-query").args(["--listfiles", package]).stderr(Stdio::null()).output();
    let listed = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect()
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
    fn apts_list_is_that_of_a_run_that_has_not_ended() {
        let before = "\nStart-Date: 1\nInstall: x:amd64 (1)\nEnd-Date: 2\n";
        let run = "\nStart-Date: 3\nCommandline: apt install a\nInstall: a:amd64 (1), b-1:amd64 (2, automatic)\nUpgrade: c:all (1, 2)\nRemove: d:amd64 (1)\n";
        let history = format!("{before}{run}");
        for (package, expected) in [("a", true), ("b-1", true), ("c", true), ("b", false), ("d", false), ("x", false)] {
            assert_eq!(is_on_list(&history, package), expected, "{package}");
            assert!(!is_on_list(&format!("{history}End-Date: 4\n"), package), "{package}");
        }
        assert!(!is_on_list("", "a"));
    }

    #[test]
    fn what_was_removed_has_no_version() {
        let lines = "installed a 1:2-3\nconfig-files b 1\nunpacked c:amd64 4\nnot-installed d \n";
        let found = parse_versions(lines);
        let found: Vec<_> = found.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
        assert_eq!(found, [("a", "1:2-3"), ("c:amd64", "4")]);
    }
}
