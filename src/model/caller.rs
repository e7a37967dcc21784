// SPDX-License-Identifier: GPL-2.0-or-later
//! The environment of whoever calls us, as far as a build can see it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::system::digest::Digest;
use crate::system::directories::names;
use crate::system::process::NOT_INHERITED;

/// Variables that say who calls us, from where and how it shall look, and nothing about a module.
const CALLERS: [&str; 61] = [
    "TERM",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    "MAIL",
    "SHELL",
    "DISPLAY",
    "LS_COLORS",
    "HOSTNAME",
    "EDITOR",
    "PAGER",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "DEBIAN_FRONTEND",
    "DEB_MAINT_PARAMS",
    "TMUX",
    "TMUX_PANE",
    "STY",
    "WINDOW",
    "WINDOWID",
    "VTE_VERSION",
    "LESS",
    "LESSOPEN",
    "LESSCLOSE",
    "VISUAL",
    "GPG_TTY",
    "GPG_AGENT_INFO",
    "HISTSIZE",
    "HISTFILE",
    "HISTCONTROL",
    "HISTFILESIZE",
    "HISTTIMEFORMAT",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "container",
    "CREDENTIALS_DIRECTORY",
    "KERNEL_PACKAGE_VERSION",
    "INITRD",
    "NO_COLOR",
    "FORCE_COLOR",
    "COLORFGBG",
    "DESKTOP_SESSION",
    "WAYLAND_DISPLAY",
    "SESSION_MANAGER",
    "WT_SESSION",
    "XAUTHORITY",
    "KRB5CCNAME",
    "LANGUAGE",
    // Of debconf's, for scripts that use it.
    "DEBIAN_PRIORITY",
    "DEBIAN_HAS_FRONTEND",
    "PERL_DL_NONLAZY",
];

/// The same, by how they begin.
const CALLERS_PREFIXES: [&str; 14] = [
    "SUDO_",
    "SSH_",
    "XDG_",
    "DBUS_",
    "DPKG_",
    "APT_",
    "DEBCONF_",
    "SYSTEMD_",
    "MEMORY_PRESSURE_",
    "DKMS_",
    "NEEDRESTART_",
    "TERM_",
    "KONSOLE_",
    "GNOME_",
];

/// Variables that matter to a script that looks at the system, not to make and the compiler.
const AROUND: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "LANG"];

/// Those that bash or make set anew before a build could see them.
const REPLACED: [&str; 5] = ["PWD", "OLDPWD", "SHLVL", "SHELL", "_"];

/// Whether a build sees what the caller set, by its words: PATH counts by what it leads to.
pub fn is_seen(name: &str) -> bool {
    !REPLACED.contains(&name) && !NOT_INHERITED.contains(&name) && name != "PATH"
}

/// All of them that are text.
pub fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Whether a variable of the caller's can be seen in what is built.
pub fn matters(name: &str, around: bool) -> bool {
    let callers = CALLERS.contains(&name) || CALLERS_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let locale = AROUND.contains(&name) || name.starts_with("LC_");
    !callers && (around || !locale)
}

/// Where packages have their programs, which count by the packages' versions.
const OF_PACKAGES: [&str; 2] = ["/usr/bin", "/usr/sbin"];

/// What a PATH leads to: apt's, a login's and a service's differ in their words more than in that. Directories by their
/// real names, each once, without those that are empty, and what is in those that are no package's.
pub fn programs(path: &str) -> String {
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in std::env::split_paths(path).filter_map(|dir| fs::canonicalize(dir).ok()) {
        if !dirs.contains(&dir) && fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
            dirs.push(dir);
        }
    }
    let of_packages = |dir: &PathBuf| OF_PACKAGES.iter().any(|place| dir == Path::new(place));
    let mut text = String::new();
    for dir in &dirs {
        text.push_str(&format!("{}:", dir.display()));
        for file in names(dir).iter().filter(|_| !of_packages(dir)) {
            // A copy may have the time of what was there before, but not of its change.
            let times = |meta: fs::Metadata| [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
            let stat = fs::metadata(dir.join(file)).map(|meta| (meta.len(), times(meta)));
            text.push_str(&format!("{file} {:?}:", stat.ok()));
        }
    }
    text
}

/// The digest of how the programs look that are where packages have theirs, looked at once: some are no package's, and some
/// are made when a package is configured, long after its version is known. The same on each machine for those that packages
/// bring.
pub fn packages_programs() -> &'static str {
    static LOOK: OnceLock<String> = OnceLock::new();
    LOOK.get_or_init(|| {
        let mut digest = Digest::new("programs");
        for dir in OF_PACKAGES.map(Path::new) {
            for name in names(dir) {
                let path = dir.join(&name);
                digest.add(name).add(match fs::read_link(&path) {
                    Ok(target) => target.display().to_string(),
                    // No time of change: of a package's it says when it came here.
                    Err(_) => format!("{:?}", fs::metadata(&path).ok().map(|meta| (meta.len(), meta.mtime()))),
                });
            }
        }
        digest.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_it_leads_to() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let empty = dir.path().join("empty");
        fs::create_dir(&empty)?;
        let usual = programs("/usr/sbin:/usr/bin");
        let more = format!("{}:/nonexistent:/usr/sbin:/usr/bin:/usr/sbin", empty.display());
        assert_eq!(programs(&more), usual);
        assert_ne!(programs("/usr/bin:/usr/sbin"), usual);
        fs::write(empty.join("gcc"), "")?;
        let with_one = programs(&more);
        assert_ne!(with_one, usual);
        fs::write(empty.join("gcc"), "another")?;
        let with_another = programs(&more);
        assert_ne!(with_another, with_one);
        // Of the same size, and dated back.
        let modified = fs::metadata(empty.join("gcc"))?.modified()?;
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(empty.join("gcc"), "changed")?;
        fs::File::options().write(true).open(empty.join("gcc"))?.set_modified(modified)?;
        assert_ne!(programs(&more), with_another);
        Ok(())
    }

    #[test]
    fn who_calls_does_not_matter_but_what_he_sets_does() {
        for (name, plain, around) in [
            ("TERM", false, false),
            ("DPKG_MAINTSCRIPT_NAME", false, false),
            ("TMUX", false, false),
            ("https_proxy", false, false),
            ("NEEDRESTART_MODE", false, false),
            ("TERM_PROGRAM", false, false),
            ("LESSONS", true, true),
            ("PATH", false, true),
            ("LC_ALL", false, true),
            ("KCFLAGS", true, true),
            ("C_INCLUDE_PATH", true, true),
        ] {
            assert_eq!((matters(name, false), matters(name, true)), (plain, around), "{name}");
        }
    }
}
