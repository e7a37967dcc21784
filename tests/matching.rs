// SPDX-License-Identifier: GPL-2.0-or-later

//! `match`. The original reads what its own `status` said years ago, so that it matches nothing; its words are
//! compared where it has any.

use crate::support::{Layer, Root};

const USAGE: &str = "
Error! Invalid number of parameters passed.
Usage: match --templatekernel=<kernel-version> -k <kernel-version>
   or: match --templatekernel=<kernel-version> -k <kernel-version> <module>
";

fn heads(kernel: &str, template: &str) -> String {
    format!("\nMatching modules in kernel: {kernel} ($A)\nto the configuration of kernel: {template} ($A)\n")
}

const NOTHING: &str = "\nThere is nothing to be done for this match.\n";

#[test]
fn match_says_what_it_cannot_do() {
    let mut root = Root::new();
    for options in ["", "-k $OLD", "--templatekernel= -k $OLD"] {
        root.fails(&format!("dkms match {options}"), 1, USAGE);
    }
    root.fails(
        "dkms match --templatekernel=$K -k $K",
        2,
        "\nError! The templatekernel and the specified kernel version are the same.\n",
    );
    root.fails(
        "dkms match --templatekernel $K -k $OLD nosuch",
        3,
        "\nError! The module: nosuch is not located in the DKMS tree.\n",
    );
    root.fails(
        "dkms match --templatekernel=$K -k $OLD -k 9.9.9",
        4,
        "\nError! The action match does not support multiple kernel version parameters on the command line.\n",
    );
    root.fails(
        "dkms match --templatekernel=$K --all",
        5,
        "\nError! The action match does not support the --all parameter.\n",
    );
    root.fails(
        "setpriv --reuid 65534 --regid 65534 --clear-groups dkms match --templatekernel=$K -k $OLD",
        1,
        "\nError! You must be root to use this command.\n",
    );
    root.says("dkms match --templatekernel=$OLD -k $K", &format!("{}{NOTHING}", heads("$K", "$OLD")));
    root.says("dkms match --templatekernel=nosuch", &format!("{}{NOTHING}", heads("$K", "nosuch")));
    root.quick("hello", "");
    root.sh("dkms build hello/1 -k $K && dkms generate_mok");
    // Built is not installed.
    root.says("dkms match --templatekernel=$K -k $OLD hello", &format!("{}{NOTHING}", heads("$OLD", "$K")));
    root.sh("dkms install hello/1 -k $K");
    let output = root.run("dkms match --templatekernel=$K -k 9.9.9");
    let expected = root.expand(&format!("{}\nError! Your kernel headers for kernel 9.9.9", heads("9.9.9", "$K")));
    assert!(output.code == 21 && output.text.starts_with(&expected), "{output:?}");
}

#[test]
fn match_installs_what_another_kernel_has() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("foo", "");
    root.quick("hello", "");
    root.quick("other", "");
    root.sh("dkms generate_mok");
    for name in ["foo", "hello"] {
        root.sh(&format!("dkms install {name}/1 -k $K"));
    }
    root.sh("dkms build other/1 -k $K && dkms install other/1 -k $OLD && dkms build foo/1 -k $OLD");
    root.says(
        "dkms match --templatekernel=$K -k $OLD hello",
        &format!(
            "{}\
Module:  hello
Version: 1
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/hello/1/build/hello.ko
Installing /lib/modules/$OLD/updates/dkms/hello.ko
Running depmod... done.
",
            heads("$OLD", "$K")
        ),
    );
    root.says(
        "dkms match --templatekernel=$K -k $OLD",
        &format!(
            "{}\
Module:  foo
Version: 1
Installing /lib/modules/$OLD/updates/dkms/foo.ko
Running depmod... done.
Module:  hello
Version: 1
Module hello/1 already installed on kernel $OLD ($A), skip. You may override by specifying --force.
",
            heads("$OLD", "$K")
        ),
    );
    root.says(
        "dkms status",
        "\
foo/1, $OLD, $A: installed
foo/1, $K, $A: installed
hello/1, $OLD, $A: installed
hello/1, $K, $A: installed
other/1, $OLD, $A: installed
other/1, $K, $A: built
",
    );
}

#[test]
fn a_match_that_fails_for_one_module_goes_on_and_says_so() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("bad", "");
    root.quick("good", "");
    root.sh("dkms install bad/1 -k $K && dkms install good/1 -k $K && echo MAKE=false >>/usr/src/bad-1/dkms.conf");
    let output = root.run("dkms match --templatekernel=$K -k $OLD");
    assert_eq!(output.code, 10, "{output:?}");
    root.says("dkms status -k $OLD", "bad/1: added\ngood/1, $OLD, $A: installed\n");
}
