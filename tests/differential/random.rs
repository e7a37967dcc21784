// SPDX-License-Identifier: GPL-2.0-or-later

//! Commands in any order. The same ones each time, unless `DKMS_RANDOM_CASES` asks for more than there usually are.

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::{Pair, every_entry_is_used};

/// Two versions of one module, one that is built upon it, one for a single kernel, one that never succeeds.
const MODULES: &str = r#"
scene 'commands in any order'
watch /srv/out
module alpha 1
module alpha 2
module beta 1 'BUILD_DEPENDS[0]="alpha"'
module gamma 1 "BUILD_EXCLUSIVE_KERNEL='^$K\$'"
module omega 1 MAKE=false
"#;

fn on_modules() -> impl Strategy<Value = String> {
    let action = select(vec!["add", "build", "install", "install", "uninstall", "unbuild", "remove"]);
    let module = select(vec!["alpha/1", "alpha/1", "alpha/2", "beta/1", "gamma/1", "omega/1"]);
    let kernels = select(vec!["", "-k $K", "-k $K", "-k $OLD", "-k $K -k $OLD", "--all"]);
    let force = prop_oneof![4 => Just(""), 1 => Just(" --force")];
    (action, module, kernels, force)
        .prop_map(|(action, module, kernels, force)| format!("dkms {action} {module} {kernels}{force}"))
}

/// Two places for tarballs: what one command put there another one loads.
fn on_tarballs() -> impl Strategy<Value = String> {
    let place = select(vec!["/srv/out/a.tar.gz", "/srv/out/a.tar.gz", "/srv/out/b.tar"]);
    let module = select(vec!["alpha/1", "alpha/1", "alpha/2", "gamma/1"]);
    let content = select(vec!["", "", " --source-only", " --binaries-only"]);
    let kernels = select(vec!["", " -k $K", " -k $OLD", " -k $K -k $OLD", " --all"]);
    let made = (module, kernels, content, place.clone()).prop_map(|(module, kernels, content, place)| {
        format!("dkms mktarball {module}{kernels}{content} --archive={place}")
    });
    let loading = select(vec!["ldtarball", "ldtarball", "ldtarball --force", "add", "install -k $K"]);
    let loaded = (loading, place).prop_map(|(loading, place)| format!("dkms {loading} {place}"));
    prop_oneof![made, loaded]
}

fn on_kernels() -> impl Strategy<Value = String> {
    let action = select(vec!["autoinstall", "kernel_postinst", "kernel_preinst", "kernel_prerm"]);
    let kernel = select(vec!["$K", "$OLD"]);
    (action, kernel).prop_map(|(action, kernel)| format!("dkms {action} -k {kernel}"))
}

fn status() -> impl Strategy<Value = String> {
    select(vec!["", " alpha", " -k $OLD", " beta/1 -k $K"]).prop_map(|what| format!("dkms status{what}"))
}

fn sequences() -> impl Strategy<Value = Vec<String>> {
    vec(prop_oneof![6 => on_modules(), 2 => on_kernels(), 3 => on_tarballs(), 1 => status()], 1..10)
}

#[test]
fn random() {
    let cases = std::env::var("DKMS_RANDOM_CASES").map_or(24, |cases| cases.parse().expect("a number of cases"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let pair = RefCell::new(Pair::new());
    let used = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&sequences(), |commands| {
        let script: String = commands.iter().map(|command| format!("try {command}\n")).collect();
        let result = pair.borrow_mut().run("random", &format!("{MODULES}{script}"));
        used.borrow_mut().extend(result.used);
        if result.unexplained.is_empty() { Ok(()) } else { Err(TestCaseError::fail(result.unexplained.join("\n"))) }
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    every_entry_is_used("random", used.into_inner());
}
