// SPDX-License-Identifier: GPL-2.0-or-later

//! apt at work: packages that bring modules, kernels that come and go.

use crate::support::{Layer, Root};

/// What is there of modules and of our state.
const TRACE: &str = "find /var/lib/dkms /lib/modules -not -name 'modules.*' | sort";

/// `dkms status` without what the packages' next version would change.
const STATUS: &str = "dkms status | sed -E 's|^([^/]+)/[^,:]+|\\1|'";

/// Two of them replace modules of the kernel's.
const PACKAGES: &str = "acpi-call-dkms bbswitch-dkms ddcci-dkms gost-crypto-dkms tp-smapi-dkms";

const ALL_INSTALLED: &str = "\
acpi-call, $OLD, $A: installed
acpi-call, $K, $A: installed
bbswitch, $OLD, $A: installed
bbswitch, $K, $A: installed
ddcci, $OLD, $A: installed
ddcci, $K, $A: installed
gost-crypto, $OLD, $A: installed
gost-crypto, $K, $A: installed (Original modules exist)
tp_smapi, $OLD, $A: installed
tp_smapi, $K, $A: installed (Original modules exist)
";

#[test]
fn packages_are_installed_upgraded_removed_and_purged() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    let before = root.sh(TRACE);

    root.sh(&format!("apt-get -qq -y install {PACKAGES}"));
    root.says(STATUS, ALL_INSTALLED);
    let files = "find /lib/modules/*/updates -name '*.ko' | sort";
    let installed = root.sh(files);

    // To the maintainer scripts this is an upgrade: prerm, and postinst with the old version.
    root.sh(&format!("apt-get -qq -y reinstall {PACKAGES}"));
    root.says(STATUS, ALL_INSTALLED);
    assert_eq!(root.sh(files), installed);

    root.sh(&format!("apt-get -qq -y remove {PACKAGES}"));
    root.says(STATUS, "");
    assert_eq!(root.sh(TRACE), before);

    root.sh(&format!("apt-get -qq -y purge {PACKAGES}"));
    assert_eq!(root.sh(TRACE), before);
    root.says("dpkg --audit", "");
}

/// A root in which $OLD is not installed, with two modules that wait for it.
fn before_a_kernel_comes() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("apt-get -qq -y purge linux-headers-$OLD");
    root.says("ls /lib/modules", "$K\n");
    root.source("hello-0.1");
    root.sh("dkms add hello/0.1 && apt-get -qq -y install acpi-call-dkms");
    root
}

fn the_modules_came(root: &mut Root) {
    root.says(
        "dkms status -k $OLD | sed -E 's|^([^/]+)/[^,:]+|\\1|'",
        "acpi-call, $OLD, $A: installed\nhello, $OLD, $A: installed\n",
    );
    root.says("modinfo -F vermagic /lib/modules/$OLD/updates/dkms/*.ko | cut -d' ' -f1", "$OLD\n$OLD\n");
}

fn nothing_of_it_is_left(root: &mut Root) {
    root.says("ls /lib/modules", "$K\n");
    root.says("find /var/lib/dkms -name \"*$OLD*\"", "");
    root.says("dkms status | sed -E 's|^([^/]+)/[^,:]+|\\1|'", "acpi-call, $K, $A: installed\nhello: added\n");
    root.says("dpkg --audit", "");
}

#[test]
fn modules_come_with_headers_that_come_before_the_image() {
    let mut root = before_a_kernel_comes();
    root.sh("apt-get -qq -y install linux-headers-$OLD");
    the_modules_came(&mut root);
    root.sh("apt-get -qq -y install linux-image-$OLD");
    the_modules_came(&mut root);

    root.sh("apt-get -qq -y purge linux-headers-$OLD");
    root.sh("apt-get -qq -y purge linux-image-$OLD");
    nothing_of_it_is_left(&mut root);
}

#[test]
fn modules_come_with_headers_that_come_after_the_image() {
    let mut root = before_a_kernel_comes();
    root.sh("apt-get -qq -y install linux-image-$OLD");
    // It is noted that they could not be had, and no more.
    root.says("find /var/lib/dkms -name \"*$OLD*\" ! -path '*/.failed/*'", "");
    root.sh("apt-get -qq -y install linux-headers-$OLD");
    the_modules_came(&mut root);

    root.sh("apt-get -qq -y purge linux-image-$OLD");
    root.sh("apt-get -qq -y purge linux-headers-$OLD");
    nothing_of_it_is_left(&mut root);
}
