// SPDX-License-Identifier: GPL-2.0-or-later

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use super::*;

/// Something like a module: text, numbers, repetitions.
fn module() -> Vec<u8> {
    (0..60_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> (i % 24)).to_le_bytes()).collect()
}

fn opts(kind: usize, text: &str) -> [String; 3] {
    let mut opts = [const { String::new() }; 3];
    opts[kind] = text.to_owned();
    opts
}

fn stdout(program: &str, args: &[&str], file: &Path) -> Vec<u8> {
    let output = Command::new(program).args(args).arg(file).stderr(Stdio::inherit()).output().expect("it should run");
    assert!(output.status.success(), "{program} {args:?}");
    output.stdout
}

fn has(program: &str) -> bool {
    process::find_program(program).is_some()
}

/// Compresses a module in a directory of its own, in which it gets its name.
fn compressed(dir: &Path, kind: usize, text: &str) -> PathBuf {
    let file = dir.join("a.ko");
    fs::write(&file, module()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    let mut words = Words::default();
    compress(&file, COMPRESSIONS[kind].0, &opts(kind, text), &mut words);
    assert_eq!(format!("{words:?}"), "Words([])", "{text}");
    with_suffix(&file, COMPRESSIONS[kind].0)
}

#[test]
fn the_programs_read_what_we_write() {
    let dir = tempfile::tempdir().expect("a directory");
    for (kind, text) in [
        (0, ""),
        (0, "-9"),
        (0, "--best -nq"),
        (1, "--check=crc32 --lzma2=dict=1MiB"),
        (1, "-9e --check=none"),
        (1, "--lzma2=preset=6e,dict=512KiB,lc=4,mf=bt3,nice=100 -T0"),
        (1, ""),
        (2, "-q --rm -T0"),
        (2, "--rm -19"),
        (2, "--rm --ultra -22 --no-check"),
    ] {
        let (_, program) = COMPRESSIONS[kind];
        assert!(Recipe::parse(program, text).is_some(), "{program} {text}");
        let ours = compressed(dir.path(), kind, text);
        assert!(!dir.path().join("a.ko").exists(), "{program} {text}");
        assert_eq!(fs::metadata(&ours).expect("there").permissions().mode() & 0o777, 0o644);
        if has(program) {
            assert_eq!(stdout(program, &["-dc"], &ours), module(), "{program} {text}");
        }
        let first = fs::read(&ours).expect("there");
        assert_eq!(fs::read(compressed(dir.path(), kind, text)).expect("there"), first, "the same each time");
    }
}

#[test]
fn kernels_find_the_headers_that_they_can_read() {
    let dir = tempfile::tempdir().expect("a directory");
    // No flags (so no name), no time.
    let gz = fs::read(compressed(dir.path(), 0, "")).expect("there");
    assert_eq!(gz[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    // The check is in the second byte of the stream's flags; 1 is CRC32.
    let xz = fs::read(compressed(dir.path(), 1, "--check=crc32 --lzma2=dict=1MiB")).expect("there");
    assert_eq!(xz[6..8], [0, 1]);
    // The filter's only property is the size of its dictionary: 16 is 1 MiB. After size and flags of the block.
    assert_eq!(xz[14..17], [0x21, 1, 16]);
    // One frame, which says how much it holds.
    let zst = fs::read(compressed(dir.path(), 2, "--rm")).expect("there");
    assert_eq!(zstd::zstd_safe::find_frame_compressed_size(&zst), Ok(zst.len()));
    assert_eq!(zstd::zstd_safe::get_frame_content_size(&zst).ok().flatten(), Some(module().len() as u64));
}

#[test]
fn what_is_asked_for_is_what_the_programs_say_of_it() {
    let dir = tempfile::tempdir().expect("a directory");
    for (text, expected) in [
        ("--check=crc32 --lzma2=dict=1MiB", ("CRC32", "--lzma2=dict=1MiB")),
        ("--check=sha256 -3", ("SHA-256", "--lzma2=dict=4MiB")),
        // A preset before a filter says nothing, one after it everything.
        ("--check=none -9 --lzma2", ("None", "--lzma2=dict=8MiB")),
        ("--lzma2=dict=1MiB -0", ("CRC64", "--lzma2=dict=256KiB")),
    ] {
        let ours = compressed(dir.path(), 1, text);
        let listed = String::from_utf8(stdout("xz", &["-lvv"], &ours)).expect("text");
        let (check, filter) = expected;
        assert!(listed.contains(check) && listed.contains(filter), "{text}: {listed}");
    }
    if has("zstd") {
        let ours = compressed(dir.path(), 2, "-q --rm -T0");
        let listed = String::from_utf8(stdout("zstd", &["-l"], &ours)).expect("text");
        assert!(listed.contains("XXH64"), "{listed}");
    }
}

#[test]
fn levels_are_levels() {
    let size = |program: &str, text: &str| {
        let recipe = Recipe::parse(program, text).expect("known");
        recipe.compress(&module()).expect("compressed").len()
    };
    for program in ["gzip", "zstd"] {
        assert!(size(program, "-1") > size(program, "-9"), "{program}");
    }
    assert_eq!(size("zstd", "-22"), size("zstd", "-19"), "without --ultra");
    assert_eq!(size("gzip", ""), size("gzip", "-6"));
    assert_eq!(size("zstd", ""), size("zstd", "-3"));
}

#[test]
fn what_we_do_not_know_is_for_the_program() {
    for (program, text) in [
        ("gzip", "--rsyncable"),
        ("gzip", "-S .x"),
        ("gzip", "-d"),
        ("xz", "--x86 --lzma2"),
        ("xz", "--check=crc31"),
        ("xz", "--lzma2=dict=1"),
        ("xz", "--lzma2=size=1"),
        ("xz", "--lzma2 --lzma2"),
        ("xz", "--format=lzma"),
        ("xz", "file"),
        ("zstd", "--long=27"),
        ("zstd", "-o x"),
        ("zstd", "--adapt"),
    ] {
        assert!(Recipe::parse(program, text).is_none(), "{program} {text}");
    }
    // It is called then.
    let dir = tempfile::tempdir().expect("a directory");
    let ours = compressed(dir.path(), 1, "--check=crc32 --x86 --lzma2=dict=1MiB");
    assert!(String::from_utf8(stdout("xz", &["-lvv"], &ours)).expect("text").contains("--x86"));
}

#[test]
fn a_file_stays_where_the_options_say_so() {
    let dir = tempfile::tempdir().expect("a directory");
    for (kind, text) in [(0, "-k"), (1, "--keep"), (2, "-q -19")] {
        compressed(dir.path(), kind, text);
        assert!(dir.path().join("a.ko").exists(), "{text}");
    }
}
