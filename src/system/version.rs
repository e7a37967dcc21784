// SPDX-License-Identifier: GPL-2.0-or-later
//! The three ways in which versions are compared here.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Pads every number of one or two digits to three, so that strings compare as versions do: `3.5` gives `003.005`.
///
/// This is how BUILD_EXCLUSIVE_KERNEL_MIN and _MAX, and the versions of one module, have always been compared.
pub fn padded(version: &str) -> String {
    let mut result = String::with_capacity(version.len() * 2);
    let mut digits = String::new();
    for c in version.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if !digits.is_empty() && digits.len() < 3 {
            result.push_str(&"000"[digits.len()..]);
        }
        result.push_str(&digits);
        digits.clear();
        if c != '\0' {
            result.push(c);
        }
    }
    result
}

/// Compares as [`padded`] strings.
pub fn compare_padded(a: &str, b: &str) -> Ordering {
    padded(a).cmp(&padded(b))
}

/// Orders as `sort -V` does (coreutils' filevercmp), oldest first.
pub fn sort_versions(items: &mut Vec<String>) {
    if items.len() < 2 {
        return;
    }
    let input = items.join("\n");
    let sorted = crate::system::process::filter(Command::new("sort").arg("-V").env("LC_ALL", "C"), input.as_bytes());
    match sorted {
        Ok(text) => *items = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect(),
        Err(_) => items.sort(),
    }
}

/// Whether dpkg holds `a` for later than `b` (`dpkg --compare-versions a gt b`).
pub fn dpkg_later(a: &str, b: &str) -> bool {
    Command::new("dpkg")
        .args([OsStr::new("--compare-versions"), a.as_ref(), "gt".as_ref(), b.as_ref()])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether it may be a kernel's release: digits, a dot, and anything, as in `6.1.0-56-amd64`.
pub fn looks_like_release(name: &str) -> bool {
    let rest = name.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < name.len() && rest.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_to_three_digits() {
        for (version, expected) in [
            ("3.5", "003.005"),
            ("6.1.0-56-amd64", "006.001.000-056-amd064"),
            ("4.12", "004.012"),
            ("2017", "2017"),
            ("", ""),
        ] {
            assert_eq!(padded(version), expected);
        }
        assert_eq!(compare_padded("4.12.1", "4.12"), Ordering::Greater);
        assert_eq!(compare_padded("4.9", "4.12"), Ordering::Less);
    }

    #[test]
    fn versions_sort_as_sort_v_does() {
        let mut items = ["6.1.0-9", "6.1.0-10", "5.10"].map(str::to_owned).to_vec();
        sort_versions(&mut items);
        assert_eq!(items, ["5.10", "6.1.0-9", "6.1.0-10"]);
    }

    #[test]
    fn kernels_are_told_from_other_names() {
        for (name, expected) in
            [("6.1.0-56-amd64", true), ("6", false), ("build", false), (".6", false), ("weird-6.1", false)]
        {
            assert_eq!(looks_like_release(name), expected, "{name}");
        }
    }
}
