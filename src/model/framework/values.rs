// SPDX-License-Identifier: GPL-2.0-or-later
//! What values of framework.conf mean, and the words for those that mean nothing.

use std::path::{Component, Path};
use std::time::Duration;

use super::FROM_ENVIRONMENT;
use super::secret::REMOTE;
use crate::system::remote::Address;
use crate::system::shell::Values;

/// Words for values that mean nothing, of keys that dkms never had, and of parallel_jobs, which it hands to make as it is.
/// What else dkms has, it reads as it always did.
pub(super) fn misspelt(values: &Values) -> String {
    type Means<'a> = &'a dyn Fn(&str) -> bool;
    let is_size: (&str, Means) = ("a size, such as 500M", &|text| size(text).is_some());
    let is_time: (&str, Means) = ("a time, such as 90s, 30m or 12h", &|text| duration(text).is_some());
    let is_switch: (&str, Means) = ("\"yes\" or \"no\"", &|text| switch(text).is_some());
    let is_number: (&str, Means) = ("a number", &|text| text.parse::<u64>().is_ok());
    let is_place = |_: &str| cache_tree(values).is_some();
    let keys = [
        ("parallel_jobs", is_number),
        (
            "cache_tree",
            ("an absolute path without \"..\" to a place without the system's directories and dkms' trees", &is_place),
        ),
        ("compile_cache", is_switch),
        ("result_store", is_switch),
        ("on_failure", ("\"continue\" or \"original\"", &|text| matches!(text, "continue" | "original"))),
        ("on_miss", ("\"build\", \"wait\" or \"fail\"", &|text| matches!(text, "build" | "wait" | "fail"))),
        ("on_miss_wait", is_time),
        ("prebuilt_timeout", is_time),
        ("build_memory", is_size),
        ("build_processes", is_number),
        ("build_time", is_time),
        ("build_disk_reserve", is_size),
        ("compile_cache_size", is_size),
        (REMOTE, ("an address, such as redis://:PASSWORD@HOST", &|text| Address::parse(text).is_some())),
        ("result_store_size", is_size),
    ];
    let wrong = keys.into_iter().filter(|(key, (_, means))| !values.get(key).is_empty() && !means(values.get(key)));
    let words = |(key, (wanted, _))| {
        let value = if key == REMOTE { "..." } else { values.get(key) };
        let place =
            if FROM_ENVIRONMENT.contains(&key) { "framework.conf or the environment" } else { "framework.conf" };
        format!("Warning: {key}=\"{value}\" in {place} is not {wanted}; the default is used.\n")
    };
    wrong.map(words).collect()
}

/// Whether something is wanted, if that is said.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "y" | "yes" | "true" => Some(true),
        "0" | "n" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// Directories of the system that builds look into.
const SYSTEM: &str =
    "/bin /dev /etc /lib /lib64 /proc /run /sbin /sys /usr/bin /usr/include /usr/lib /usr/local/bin /usr/share";

/// The trees, with where they are unless it is said.
pub(super) const TREES: [(&str, &str); 3] =
    [("dkms_tree", "/var/lib/dkms"), ("source_tree", "/usr/src"), ("install_tree", "/lib/modules")];

/// Where the caches are to be: a path that means the same for whoever has it, in a sandbox too, from which they are hidden
/// with all that is below.
pub(super) fn cache_tree(values: &Values) -> Option<&Path> {
    let place = Path::new(values.get("cache_tree"));
    let tree = |(key, default)| if values.get(key).is_empty() { default } else { values.get(key) };
    let mut needed = SYSTEM.split(' ').chain(TREES.map(tree));
    let is_one = place.is_absolute() && !place.components().any(|part| part == Component::ParentDir);
    (is_one && !needed.any(|dir| Path::new(dir).starts_with(place))).then_some(place)
}

/// A number of bytes, possibly in units of 1024: `20M`, `1.5G`.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let bytes = digits.parse::<f64>().ok().filter(|_| plain)? * (1_u64 << unit) as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// A time in seconds, or in units: `90s`, `30m`, `2h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, text.as_bytes()[number.len()]),
        None => (text, b's'),
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(match unit {
        b'h' => 3600,
        b'm' => 60,
        _ => 1,
    })?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_units() {
        for (text, bytes) in [("7", Some(7)), ("2k", Some(2048)), ("3MiB", Some(3 << 20)), ("1.5G", Some(3 << 29))] {
            assert_eq!(size(text), bytes, "{text}");
        }
        assert_eq!([size(""), size("G"), size("1X"), size("-1"), size("1e3"), size("9999999999T")], [None; 6]);
    }

    #[test]
    fn times_are_said_in_units() {
        for (text, seconds) in [("7", Some(7)), ("90s", Some(90)), ("2m", Some(120)), ("3h", Some(10800))] {
            assert_eq!(duration(text), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!([duration(""), duration("h"), duration("1d"), duration("-1"), duration("1 h")], [None; 5]);
    }
}
