// SPDX-License-Identifier: GPL-2.0-or-later

//! What is to be built, as jobs for machines.

use crate::support::{Layer, Root};

/// A root with two modules that want to be installed, one that does not, and one that is not meant for the older kernel.
fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    root.quick("wanted", "AUTOINSTALL=yes");
    root.quick("newer", "AUTOINSTALL=yes\nBUILD_EXCLUSIVE_KERNEL=\"^$K\"");
    root.sh("sed -i s/'$K'/$K/ /usr/src/newer-1/dkms.conf");
    root.quick("unwanted", "");
    root.sh("for name in wanted newer unwanted; do dkms add $name/1 || exit; done");
    root
}

/// The jobs without their keys.
const WITHOUT_KEYS: &str = "sed -E 's/\"[0-9a-f]{64}\"/KEY/g'";

fn job(name: &str, kernel: &str) -> String {
    format!(r#"{{"arch":"$A","kernel":"{kernel}","key":KEY,"module":"{name}","version":"1"}}"#)
}

#[test]
fn what_is_missing_is_planned_and_what_was_built_is_not() {
    let mut root = root();
    root.says(
        "dkms plan",
        "wanted/1, $OLD, $A: to be built\nnewer/1, $K, $A: to be built\nwanted/1, $K, $A: to be built\n",
    );
    let all = [job("wanted", "$OLD"), job("newer", "$K"), job("wanted", "$K")].join(",");
    root.says(&format!("dkms plan --json | {WITHOUT_KEYS}"), &format!("{{\"jobs\":[{all}]}}\n"));
    root.says("dkms plan -k $OLD", "wanted/1, $OLD, $A: to be built\n");
    root.says("dkms plan unwanted/1 -k $K", "unwanted/1, $K, $A: to be built\n");
    root.says("dkms plan newer/1 -k $OLD; dkms plan newer/1 --json -k $OLD", "{\"jobs\":[]}\n");
    // The same question gets the same answer; another source another key.
    let keys = "dkms plan --json wanted/1 | grep -oE '[0-9a-f]{64}'";
    let first = root.sh(keys);
    root.says(keys, &first);
    root.sh("echo x >/usr/src/wanted-1/x");
    assert!(root.sh(keys).lines().zip(first.lines()).all(|(now, then)| now != then));
    // Built, and what is only kept, are not missing.
    root.sh("dkms build wanted/1 -k $K && dkms unbuild wanted/1 -k $K && dkms install newer/1 -k $K");
    root.says("dkms plan", "wanted/1, $OLD, $A: to be built\n");
}

#[test]
fn what_builds_upon_others_waits_for_these() {
    let mut root = root();
    root.quick("upon", "AUTOINSTALL=yes\nBUILD_DEPENDS=wanted");
    root.sh("dkms add upon/1");
    root.says("dkms plan -k $K", "newer/1, $K, $A: to be built\nwanted/1, $K, $A: to be built\n");
    root.sh("dkms install wanted/1 -k $K");
    root.says("dkms plan -k $K", "newer/1, $K, $A: to be built\nupon/1, $K, $A: to be built\n");
    // What cannot be planned is told, and the rest is planned.
    root.sh("echo BUILT_MODULE_NAME=x.ko >>/usr/src/newer-1/dkms.conf");
    let output = root.run("dkms plan -k $K");
    assert!(
        output.code == 8 && output.text.contains("upon/1, ") && output.text.contains("Error! Bad conf"),
        "{output:?}"
    );
}

#[test]
fn a_job_is_done_where_it_makes_what_was_planned() {
    let mut root = root();
    // As the manual has it. What is installed counts where MAKE is more than kbuild, so this comes before.
    root.sh("apt-get -qq -y install jq && dkms plan --json >/plan");
    let jobs = "jq -c '.jobs[]' /plan";
    root.sh(&format!("{jobs} | xargs -d '\\n' -P 4 -I {{}} sh -c 'echo \"$1\" | dkms build --from-plan -' sh {{}}"));
    root.says(
        "dkms status",
        "newer/1, $K, $A: built\nunwanted/1: added\nwanted/1, $OLD, $A: built\nwanted/1, $K, $A: built\n",
    );
    root.says("dkms plan --json", "{\"jobs\":[]}\n");
    // From a file, and a second time, which is told as always.
    root.sh(&format!("{jobs} | head -n 1 >/job"));
    root.sh("dkms unbuild wanted/1 -k $OLD && dkms build --from-plan=/job && dkms status | grep -F \"wanted/1, $OLD\"");
    // Another source makes something else.
    root.sh("dkms unbuild wanted/1 -k $OLD && echo x >/usr/src/wanted-1/x");
    root.fails(
        "dkms build --from-plan /job",
        1,
        "$SIGNING\n\n\nError! wanted/1 for kernel $OLD ($A) would not come out as it was planned: source, settings, headers or tools are \
         others here.\nMake them the same, or plan again: dkms plan --json\n",
    );
    root.says("dkms status wanted/1 -k $OLD", "wanted/1: added\n");
}

#[test]
fn what_is_no_job_is_not_done() {
    let mut root = root();
    let before = root.sh("dkms status");
    for (text, said) in [
        ("x", "expected value at line 1 column 1"),
        ("{}", "\"module\" is missing"),
        (r#"{"module":"wanted","version":1}"#, "\"version\" is missing"),
    ] {
        root.fails(
            &format!("echo '{text}' >/job; dkms build --from-plan /job"),
            1,
            &format!("\nError! /job holds no job: {said}.\n"),
        );
    }
    root.fails(
        r#"echo '{"module":"../x","version":"1","kernel":"k","arch":"a"}' | dkms build --from-plan -"#,
        1,
        "\nError! ../x/1 is no module and version: neither may be empty, begin with a dot or contain a slash or the end of a line,\na name may not be mok.key, mok.pub or dkms_dbversion,\nand a version may not be original_module or begin with kernel-.\n",
    );
    root.fails(
        "dkms build --from-plan /none",
        1,
        "\nError! Cannot read /none: No such file or directory (os error 2)\n",
    );
    root.sh(r#"echo '{"module":"wanted","version":"1","kernel":"'$K'","arch":"'$A'"}' >/job"#);
    root.fails(
        "dkms install --from-plan /job",
        5,
        "\nError! The action install does not support the --from-plan parameter.\n",
    );
    root.fails(
        "dkms build wanted/1 --from-plan /job",
        5,
        "\nError! You cannot name a module or a kernel and also specify\n--from-plan on the command line.\n",
    );
    root.fails("dkms plan none/1", 3, "\nError! The module/version combo: none/1 is not located in the DKMS tree.\n");
    root.says("dkms status", &before);
}
