// SPDX-License-Identifier: GPL-2.0-or-later

//! Taking the place of Debian's dkms and giving it back, by apt, where nobody answers a question.

use crate::support::{Layer, Root};

/// Every root has the package there that is under test, from the first of [`Layer::Ours`] on.
const OURS: &str = "apt-get -qq -y install /var/cache/apt/archives/dkms-rs-under-test.deb";

/// dkms of Debian 13; there from the first root of [`Layer::Peer`] on.
const DEBIAN_13: &str = "apt-get -qq -y install /var/cache/apt/archives/dkms-peer.deb";

/// dkms of this machine's Debian: 3.0.10 on Debian 12.
const THIS_DEBIAN: &str = "apt-get -qq -y install dkms";

/// All of the state, and of the modules that dkms installs.
const TREE: &str =
    "find /var/lib/dkms /lib/modules/*/updates -type f -exec md5sum {} + -o -type l -printf '%l %p\\n' | sort";

const STATUS: &str = "dkms status | sed -E 's|^([^/]+)/[^,:]+|\\1|'";

/// The hooks, as packages of kernels run them.
const HOOKS: &str = "for hook in /etc/kernel/*.d/dkms; do \
                     run-parts --report --exit-on-error --regex='^dkms$' --arg=$K ${hook%/dkms} || exit; done";

fn peer() -> Root {
    // Puts the package that is under test where OURS looks for it.
    drop(Root::with(Layer::Ours, &[]));
    Root::with(Layer::Peer, &[])
}

/// A machine as somebody left it. hello is installed for one kernel of two, acpi-call came with a
/// package, apple-gmux is registered and wants nothing.
fn lived_in(root: &mut Root) {
    // It takes its time, and is not what this is about.
    root.sh("sed -i s/=yes/=no/ /etc/initramfs-tools/update-initramfs.conf");
    edit_settings(root);
    // The key that the settings name now is not there: this one stays, all the same.
    root.sh("echo secret >/var/lib/dkms/mok.key && echo enrolled >/var/lib/dkms/mok.pub");
    root.source("hello-0.1");
    root.source("apple-gmux-0.1");
    root.sh("sed -i /AUTOINSTALL/d /usr/src/apple-gmux-0.1/dkms.conf");
    root.sh("dkms install hello/0.1 -k $K && dkms add apple-gmux/0.1");
    root.sh("apt-get -qq -y install acpi-call-dkms");
    root.sh(&format!("{TREE} >/root/tree"));
}

fn edit_settings(root: &mut Root) {
    root.sh("printf '%s\\n' mok_signing_key=/root/mine.key mok_certificate=/root/mine.pub \
             >>/etc/dkms/framework.conf");
    root.sh("echo 'options hello answer=42' >>/etc/modprobe.d/dkms.conf");
}

#[track_caller]
fn everything_is_there(root: &mut Root) {
    root.says(&format!("{TREE} | comm -23 /root/tree -"), "");
}

/// What there was is there, settings are in force, and nothing is left for apt to do.
#[track_caller]
fn everything_was_kept(root: &mut Root) {
    everything_is_there(root);
    root.says("modprobe --showconfig | grep '^options hello'", "options hello answer=42\n");
    root.says("dpkg --audit", "");
}

#[track_caller]
fn hello_came_for_both_kernels(root: &mut Root) {
    root.says(
        STATUS,
        "\
acpi-call, $OLD, $A: installed
acpi-call, $K, $A: installed
apple-gmux: added
hello, $OLD, $A: installed
hello, $K, $A: installed
",
    );
    // The one that settings name.
    let key = root.sh("modinfo -k $K -F sig_key hello");
    root.says("modinfo -k $OLD -F sig_key hello", &key);
}

/// The package gives its place to `debian`, and goes.
fn back(root: &mut Root, debian: &str) {
    root.sh(&format!("{TREE} >/root/tree"));
    root.sh(debian);
    everything_was_kept(root);
    root.sh("apt-get -qq -y purge dkms-rs");
    everything_was_kept(root);
    root.sh(HOOKS);
    root.sh("dkms remove hello/0.1 -k $OLD && dkms install hello/0.1 -k $OLD");
    hello_came_for_both_kernels(root);
}

#[test]
fn dkms_of_debian_13_gives_its_place_and_takes_it_back() {
    let mut root = peer();
    lived_in(&mut root);
    root.sh("dpkg --remove --force-depends dkms");
    root.says(HOOKS, "");
    everything_is_there(&mut root);
    root.sh(OURS);
    everything_was_kept(&mut root);
    root.says("dpkg --verify dkms-rs", "");
    hello_came_for_both_kernels(&mut root);
    back(&mut root, DEBIAN_13);
}

#[test]
fn dkms_of_this_debian_gives_its_place_while_a_kernel_comes() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh(&format!("apt-get -qq -y purge dkms-rs && {THIS_DEBIAN}"));
    lived_in(&mut root);
    root.sh("apt-get -qq -y purge linux-headers-$OLD && sed -i \"/$OLD/d\" /root/tree");
    root.sh(&format!("INITRD=No {OURS} linux-image-$OLD linux-headers-$OLD"));
    everything_was_kept(&mut root);
    root.says("dpkg --verify dkms-rs", "");
    hello_came_for_both_kernels(&mut root);
    back(&mut root, THIS_DEBIAN);
}
