// SPDX-License-Identifier: GPL-2.0-or-later

//! The benchmark itself works; how long anything takes is not looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench")
}

/// A run that is too small to be kept.
fn bench(rows: &[&str]) -> Output {
    Command::new(directory().join("run"))
        .args(rows)
        .env("BENCH_ROUNDS", "1")
        .env("BENCH_MODULES", "2")
        .env("BENCH_LAYERS", "plain")
        .output()
        .expect("tests/bench/run should run")
}

#[test]
fn a_row_is_measured_on_both_sides() {
    let table = || fs::read_to_string(directory().join("table")).unwrap_or_default();
    let before = table();
    let output = bench(&["hook"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let text = String::from_utf8(output.stdout).expect("the table is text");
    let line =
        text.lines().find(|line| line.starts_with("hook ")).unwrap_or_else(|| panic!("no row in {text}\n{said}"));
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |field: usize| -> f64 { fields[field].parse().unwrap_or_else(|_| panic!("no number in {line}")) };
    // The name; ours and its processor time; the other side, its time and its processor time; their ratio.
    assert_eq!(fields[3], "peer", "{line}");
    let (ours, peer) = (number(1), number(4));
    assert!(ours > 0.0 && peer > 0.0, "{line}");
    assert!((number(6) - ours / peer).abs() < 0.001, "{line}");
    assert!(number(2) >= 0.0 && number(5) >= 0.0, "{line}");
    assert_eq!(table(), before, "a run this small is not kept");
}

#[test]
fn a_row_that_there_is_not_is_refused() {
    let output = bench(&["hook", "hok"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "bench: there is no row 'hok', see --list\n");
    assert_eq!(output.stdout, b"");
}
