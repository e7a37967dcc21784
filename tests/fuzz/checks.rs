// SPDX-License-Identifier: GPL-2.0-or-later

//! What holds for everything that reads foreign bytes, whatever these are. `make torture` looks for bytes for which it does
//! not; tests/fuzz.rs tries those in corpus/ and some that are near.

#![allow(dead_code, reason = "each program of tests/fuzz/targets has one of them")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dkms_rs::model::conf::{Conf, plain};
use dkms_rs::model::{exchange, headers, kernel};
use dkms_rs::steps::unpack;
use dkms_rs::system::build_log;
use dkms_rs::system::harmless::{Harmless, Reader, is_text};
use dkms_rs::system::modinfo::{self, ModInfo};
use dkms_rs::system::regex::{self, Match};
use dkms_rs::system::remote::{self, Address};
use dkms_rs::system::shell::Values;
use dkms_rs::system::{dpkg, version};

/// Panics where it does not hold.
pub type Check = fn(&[u8]);

/// By their names, which are those of the directories in corpus/.
pub const ALL: [(&str, Check); 9] = [
    ("answer", answer),
    ("dpkg", dpkg),
    ("kernel", kernel),
    ("modinfo", modinfo),
    ("pattern", pattern),
    ("remote", remote),
    ("tarball", tarball),
    ("text", text),
    ("version", version),
];

/// Directives with a value for each module.
const NAMES: [&str; 4] = ["BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION"];

fn two(bytes: &[u8]) -> (String, String) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let mut next = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    (next(), next())
}

/// What the bash that evaluates a dkms.conf answers, whose other end is in the package's hands.
pub fn answer(bytes: &[u8]) {
    for values in Values::parse(bytes) {
        if let Some(text) = values.to_text() {
            assert_eq!(Values::from_text(&text).as_ref(), Some(&values));
        }
        // Many modules take their time, which here would be all of it.
        if values.last_index(&NAMES) > Some(1000) {
            continue;
        }
        let conf = Conf::new(values, Vec::new(), None);
        assert!(conf.modules.len() <= 1 << 16);
        for module in &conf.modules {
            let _ = module.built_file();
        }
        let _ = (conf.duplicates(), conf.deprecated(), conf.depends(), conf.is_exclusive());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (plain::mentions(text), Values::from_text(text));
    }
}

/// What a machine answers that keeps objects for builders, what it may have for a list of them, and its address.
pub fn remote(bytes: &[u8]) {
    if let Ok(Some(value)) = remote::answer(&mut &*bytes) {
        assert!(value.len() < bytes.len());
    }
    for name in exchange::names(bytes) {
        assert!(name.len() > 16 && name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
    }
    if let Some(address) = std::str::from_utf8(bytes).ok().and_then(Address::parse) {
        let shown = address.to_string();
        assert_eq!(Address::parse(&shown), Some(Address { login: None, ..address }), "{shown}");
    }
}

/// A tarball for ldtarball. Its checksums are put right: anybody can do that, but chance cannot.
pub fn tarball(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok().and_then(|size| usize::from_str_radix(size, 8).ok());
        at += 512 + size.unwrap_or_default().min(1 << 20).next_multiple_of(512);
    }
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);

    let place = tempfile::tempdir().expect("a directory");
    let (file, into) = (place.path().join("tarball"), place.path().join("into"));
    fs::write(&file, bytes).expect("a tarball");
    fs::create_dir(&into).expect("a directory");
    // A refusal may leave what came before it: who unpacks does so in a directory that goes then.
    let done = unpack::unpack(&file, &into).is_ok();
    check(&into, &into, done);
    let left = fs::read_dir(place.path()).expect("a directory").count();
    assert_eq!(left, 2, "something was written beside it");
}

/// Only plain files, directories, and links that lead to one of those.
fn check(base: &Path, dir: &Path, done: bool) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let kind = meta.file_type();
        if kind.is_dir() {
            check(base, &path, done);
        } else if kind.is_symlink() {
            assert!(!done || unpack::Following::new(base).stays_within(&path), "{path:?} leads out");
        } else {
            assert!(kind.is_file() && meta.permissions().mode() & 0o7022 == 0, "{path:?}: {meta:?}");
        }
    }
}

/// A module.
pub fn modinfo(bytes: &[u8]) {
    let _ = modinfo::is_relocatable_elf(bytes);
    if let Ok(info) = ModInfo::parse(bytes) {
        assert!(info.vermagic.starts_with(info.release()));
    }
}

/// What comes with a kernel: its configuration, autoconf.h, Makefile, utsrelease.h.
pub fn kernel(bytes: &[u8]) {
    let (name, text) = two(bytes);
    if kernel::is_set(&text, &name) {
        assert!(text.contains(&name));
    }
    let _ = (kernel::setting(&text, &name), kernel::gcc_of(&text), kernel::utsrelease(&text));
    assert!(!headers::settings(bytes).any(|line| line.starts_with(b"#define CONFIG_BUILD_SALT ")));
    if let Some(dir) = headers::included(&text) {
        assert!(dir.starts_with('/'));
    }
}

/// What dpkg and apt say.
pub fn dpkg(bytes: &[u8]) {
    let (package, text) = two(bytes);
    let _ = dpkg::is_on_list(&text, &package);
    for (name, version) in dpkg::parse_versions(&text) {
        assert!(!name.contains(char::is_control) || text.contains(&name));
        assert!(text.contains(&version));
    }
}

/// Versions of modules and kernels.
pub fn version(bytes: &[u8]) {
    let (a, b) = two(bytes);
    let padded = version::padded(&a);
    assert_eq!(version::padded(&padded), padded);
    assert_eq!(version::compare_padded(&a, &b), version::compare_padded(&b, &a).reverse());
    assert!(version::compare_padded(&a, &a).is_eq());
}

/// A pattern of a dkms.conf that is left to our own process.
pub fn pattern(bytes: &[u8]) {
    let (pattern, text) = two(bytes);
    if regex::is_tame(pattern.as_bytes()) && text.len() < 100 {
        let found = regex::matches(&pattern, &text);
        assert!(!pattern.is_empty() || found == Match::Yes);
    }
}

/// What a build says, on its way to a terminal.
pub fn text(bytes: &[u8]) {
    let [_, whole] = [Reader::Other, Reader::Terminal].map(|reader| {
        let whole = Harmless::default().pass(bytes, reader);
        let mut pieces = Harmless::default();
        let passed: Vec<u8> = bytes.chunks(3).flat_map(|piece| pieces.pass(piece, reader)).collect();
        assert_eq!(whole, passed);
        whole
    });
    let shown = String::from_utf8(whole).expect("text");
    assert!(shown.chars().all(|c| is_text(c) || "\n\t".contains(c)));
    let line = build_log::first_error(&String::from_utf8_lossy(bytes)).map(|line| build_log::one_line(&line));
    assert!(line.is_none_or(|line| line.chars().all(is_text) && line.chars().count() < 1000));
}
