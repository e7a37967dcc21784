// SPDX-License-Identifier: GPL-2.0-or-later
//! The environment of whoever calls us, as far as a build can see it.

use std::collections::BTreeMap;

/// Variables that say who calls us, from where and how it shall look, and nothing about a module.
const CALLERS: [&str; 19] = [
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
];

/// The same, by how they begin.
const CALLERS_PREFIXES: [&str; 10] =
    ["SUDO_", "SSH_", "XDG_", "DBUS_", "DPKG_", "APT_", "DEBCONF_", "SYSTEMD_", "MEMORY_PRESSURE_", "DKMS_"];

/// Variables that matter to a script that looks at the system, not to make and the compiler.
const AROUND: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "LANG"];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_calls_does_not_matter_but_what_he_sets_does() {
        for (name, plain, around) in [
            ("TERM", false, false),
            ("DPKG_MAINTSCRIPT_NAME", false, false),
            ("PATH", false, true),
            ("LC_ALL", false, true),
            ("KCFLAGS", true, true),
            ("C_INCLUDE_PATH", true, true),
        ] {
            assert_eq!((matters(name, false), matters(name, true)), (plain, around), "{name}");
        }
    }
}
