// SPDX-License-Identifier: GPL-2.0-or-later

//! Foreign bytes: those that are kept in tests/fuzz/corpus, and some that are near, the same ones each time. `make torture`
//! looks for more.

#[path = "fuzz/checks.rs"]
mod checks;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How often each is changed.
const CASES: u32 = 3000;

/// A change: what to do, where, and with what.
type Change = (u8, prop::sample::Index, u8);

fn changed(seed: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (what, place, byte) in changes {
        let place = place.index(bytes.len() + 1);
        match (what % 4, bytes.get_mut(place)) {
            (0, Some(old)) => *old = *byte,
            (1, Some(_)) => drop(bytes.drain(place..(place + usize::from(*byte)).min(bytes.len()))),
            (2, Some(old)) => *old ^= 1 << (byte % 8),
            (3, Some(_)) => bytes.extend_from_within(..place),
            _ => bytes.push(*byte),
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

#[test]
fn no_bytes_are_anybodys_ruin() {
    for (name, check) in checks::ALL {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        let files = fs::read_dir(kept).expect("a directory of bytes");
        let seeds: Vec<Vec<u8>> =
            files.map(|file| fs::read(file.expect("a file").path()).expect("bytes")).chain([Vec::new()]).collect();
        let cases = if name == "tarball" { CASES / 10 } else { CASES };
        for seed in &seeds {
            check(seed);
        }
        let change = (any::<u8>(), any::<prop::sample::Index>(), any::<u8>());
        let bytes = (prop::sample::select(seeds), prop::collection::vec(change, 1..6));
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let run = TestRunner::new_with_rng(config, rng).run(&bytes, |(seed, changes)| {
            let bytes = changed(&seed, &changes);
            let held = catch_unwind(AssertUnwindSafe(|| check(&bytes)));
            prop_assert!(held.is_ok(), "{name}: {}", bytes.escape_ascii());
            Ok(())
        });
        run.unwrap_or_else(|error| panic!("{error}"));
    }
}
