// SPDX-License-Identifier: GPL-2.0-or-later

//! The power goes while dkms works: on a real ext4 in a machine that boots again, every module is the old one or the new
//! one, and the service that runs at boot does the rest.

use std::collections::BTreeMap;

use crate::support::{Layer, MANY, Root, seconds_given};

/// Cuts the power so often, if there are as many seconds; what was done at that moment.
fn cut(times: usize, seconds: u64) -> BTreeMap<String, usize> {
    let mut root = Root::with(Layer::Ours, &["--setenv", &format!("PATIENCE={}", seconds + 3600)]);
    root.same_key();
    for (package, module) in [("first", "nlmon"), ("second", "second"), ("third", "third")] {
        root.quick(package, &format!("BUILT_MODULE_NAME={module}\nAUTOINSTALL=yes"));
        // Two versions, whose modules differ.
        root.sh(&format!(
            "cd /usr/src && mv -T {package}-1/{package}.ko /tmp/it && mv /tmp/it {package}-1/{module}.ko && cp -r {package}-1 {package}-2 && \
             sed -i s/PACKAGE_VERSION=1/PACKAGE_VERSION=2/ {package}-2/dkms.conf && \
             for v in 1 2; do echo {package} $v >/tmp/it && objcopy --add-section .it=/tmp/it {package}-$v/{module}.ko || exit; done"
        ));
    }
    let told = root.sh(&format!("/srv/tests/powercut/run {times} {seconds}"));
    let mut during = BTreeMap::new();
    for line in told.lines() {
        *during.entry(line.to_owned()).or_default() += 1;
    }
    during
}

#[test]
fn after_a_cut_every_module_is_old_or_new() {
    let during = cut(2, 3600);
    assert_eq!(during.values().sum::<usize>(), 2, "{during:?}");
}

/// `make torture`: as often as `CUTS` says, or for as long as it is given.
#[test]
#[ignore = "takes as long as it is given: make torture"]
fn many() {
    let times = std::env::var("CUTS").ok().and_then(|times| times.parse().ok());
    let seconds = times.map_or(seconds_given(), |times: usize| 300 * times as u64);
    let during = cut(times.unwrap_or(MANY), seconds);
    let cuts: usize = during.values().sum();
    assert!(times.map_or(cuts > 0, |times| times == cuts), "{during:?}");
    println!("figure: {cuts} power cuts, after 0 of which a module was neither old nor new; they were during");
    during.iter().for_each(|(command, count)| println!("figure: {count:>6} {command}"));
}
