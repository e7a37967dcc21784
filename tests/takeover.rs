// SPDX-License-Identifier: GPL-2.0-or-later

//! Taking the place of Debian's dkms and giving it back, by apt, where nobody answers a question.

use std::collections::BTreeSet;

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
    // The real one takes its time.
    root.sh(
        r#"printf '#!/bin/sh\necho "$*" >>/root/initramfs\n' >/usr/sbin/update-initramfs; touch /boot/initrd.img-$OLD"#,
    );
    root.sh("printf '%s\\n' mok_signing_key=/root/mine.key mok_certificate=/root/mine.pub \
             >>/etc/dkms/framework.conf");
    root.sh("echo 'options hello answer=42' >>/etc/modprobe.d/dkms.conf");
    // The key that the settings name now is not there: this one stays, all the same.
    root.sh("echo secret >/var/lib/dkms/mok.key && echo enrolled >/var/lib/dkms/mok.pub");
    root.source("hello-0.1");
    root.source("apple-gmux-0.1");
    root.sh("sed -i /AUTOINSTALL/d /usr/src/apple-gmux-0.1/dkms.conf");
    root.sh("dkms install hello/0.1 -k $K && dkms add apple-gmux/0.1");
    root.sh("apt-get -qq -y install acpi-call-dkms");
    root.sh(&format!("{TREE} >/root/tree"));
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
    // Signed with one key, the one that the settings name.
    root.says("modinfo -F sig_key /lib/modules/*/updates/dkms/hello.ko | uniq | wc -l", "1\n");
}

/// The package gives its place to `debian`, and goes.
fn back(root: &mut Root, debian: &str) {
    root.sh(&format!("{TREE} >/root/tree"));
    root.sh(debian);
    everything_was_kept(root);
    root.sh("apt-get -qq -y purge dkms-rs");
    everything_was_kept(root);
    root.says("dpkg --verify dkms", "??5?????? c /etc/dkms/framework.conf\n??5?????? c /etc/modprobe.d/dkms.conf\n");
    root.sh("dkms remove hello/0.1 -k $OLD && dkms install hello/0.1 -k $OLD");
    hello_came_for_both_kernels(root);
}

#[test]
fn dkms_of_debian_13_gives_its_place_and_takes_it_back() {
    let mut root = peer();
    lived_in(&mut root);
    root.sh("rm -f /root/initramfs");
    root.sh(OURS);
    everything_was_kept(&mut root);
    root.says("cat /root/initramfs", "-u -k $OLD\n");
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
    root.sh(&format!("{OURS} linux-image-$OLD linux-headers-$OLD"));
    everything_was_kept(&mut root);
    root.says("dpkg --verify dkms-rs", "");
    hello_came_for_both_kernels(&mut root);
    back(&mut root, THIS_DEBIAN);
}

#[test]
fn settings_of_a_machine_that_only_knows_dkms_rs_outlive_it() {
    let mut root = Root::with(Layer::Ours, &[]);
    lived_in(&mut root);
    root.sh("dkms remove hello/0.1 -k $OLD");
    root.sh(THIS_DEBIAN);
    everything_was_kept(&mut root);
    root.sh("apt-get -qq -y purge dkms-rs && dkms install hello/0.1 -k $OLD");
    everything_was_kept(&mut root);
    hello_came_for_both_kernels(&mut root);
    root.sh(&format!("{OURS} && dpkg --purge dkms"));
    everything_was_kept(&mut root);
    hello_came_for_both_kernels(&mut root);
}

#[test]
fn hooks_of_a_package_that_was_removed_do_nothing_and_purging_keeps_modules_and_keys() {
    let mut root = peer();
    root.sh("dkms generate_mok");
    root.source("hello-0.1");
    root.sh("dkms install hello/0.1 -k $K");
    root.sh(&format!("{TREE} >/root/tree"));

    root.sh("apt-get -qq -y remove dkms");
    root.says(HOOKS, "");
    everything_is_there(&mut root);

    root.sh(&format!("{OURS} && mkdir -p /var/cache/dkms/hello && apt-get -qq -y remove dkms-rs"));
    root.says("ls /etc/kernel/*.d/dkms | wc -l", "4\n");
    root.says(HOOKS, "");
    everything_is_there(&mut root);

    root.sh("apt-get -qq -y purge dkms-rs dkms");
    everything_is_there(&mut root);
    root.says("find /etc /var/cache -name '*dkms*' -not -name '*.deb'", "");
    root.says("ls /var/lib/dkms", "hello\nmok.key\nmok.pub\n");
}

/// Packages whose modules build in no time. `dummy`, `nlmon` and `macvlan` are the newest kernel's own, too; the modules
/// of $OLD are compressed, and `dummy` is one of them.
const PACKAGES: &str = r#"
. /srv/tests/differential/lib.sh
module dummy 1 AUTOINSTALL=
module dummy 2 AUTOINSTALL=
module pair 1 AUTOINSTALL= 'BUILT_MODULE_NAME=(nlmon pair)' 'DEST_MODULE_LOCATION=(/extra /updates)' \
    'MAKE="sh ./compile nlmon $kernelver && sh ./compile pair $kernelver"'
module always 1
for name in macvlan torn built added; do
    module $name 1 AUTOINSTALL=
done
ready /lib/modules/$OLD/kernel/drivers/net/dummy.ko dummy 0.9
xz /lib/modules/$OLD/kernel/drivers/net/dummy.ko
touch /lib/modules/$OLD/modules.{order,builtin}
depmod $OLD
find /lib/modules/*/kernel -type f -exec sha256sum {} + >/root/originals"#;

/// Every state that a module can be in: with an original in the archive, of several versions, added, built, broken in
/// both ways.
const MAKE: &str = "
dkms generate_mok
for module in dummy/1 pair/1 macvlan/1 torn/1; do dkms install $module -k $K; done
for module in dummy/1 always/1; do dkms install $module -k $OLD -k $K; done
dkms build built/1 -k $OLD -k $K
dkms build dummy/2 -k $K
dkms add added/1
mv /usr/src/macvlan-1 /root
rm /var/lib/dkms/torn/1/source";

/// An upgrade, an original that comes back for a while, repairs, more kernels, a removal.
const WORK: &str = "
dkms install dummy/2 -k $K
dkms uninstall pair/1 -k $K
grep nlmon /root/originals | sha256sum --check --quiet
dkms install pair/1 -k $OLD -k $K
dkms install always/1 -k $K --force
mv /root/macvlan-1 /usr/src
dkms add torn/1
dkms install torn/1 -k $OLD
dkms remove built/1 -k $OLD
dkms install built/1 -k $K
dkms install added/1 -k $K";

/// Back to the older version, and to a machine without any.
const END: &str = "
dkms unbuild dummy/2 -k $K
dkms install dummy/1 -k $K --force
for module in {dummy,pair,macvlan,torn,always,built,added}/1 dummy/2; do dkms remove $module --all; done
sha256sum --check --quiet /root/originals";

/// What there is of modules. Sums of what was built are not the same: signatures are not.
const MODULES: &str = "
dkms status
find /var/lib/dkms /lib/modules/ -printf '%y %m %u %p %l\n' | sort
find /lib/modules/*/kernel /var/lib/dkms/*/original_module -type f -exec sha256sum {} + 2>/dev/null | sort
grep -E '(updates|dummy|macvlan|nlmon).*:' /lib/modules/*/modules.dep";

/// What there is of a dkms.
const DKMS: &str = "find / -xdev -path /var/cache/apt -prune -o -name '*dkms*' -print; dpkg-divert --list '*dkms*'";

/// A machine that has one dkms after the other: what there is when each of them has done its part.
fn life(layers: [Layer; 3]) -> [String; 3] {
    let mut root = if layers[0] == Layer::Peer { peer() } else { Root::with(Layer::Ours, &[]) };
    root.sh(PACKAGES);
    let mut last = layers[0];
    std::array::from_fn(|i| {
        if layers[i] != last {
            let (install, other) = if layers[i] == Layer::Peer { (DEBIAN_13, "dkms-rs") } else { (OURS, "dkms") };
            root.sh(&format!("{install} && dpkg --purge {other}"));
        }
        last = layers[i];
        root.sh(&format!("set -e{}", [MAKE, WORK, END][i]));
        // In the middle it is the other one that is there.
        root.sh(&format!("{MODULES}\n{}", if i == 1 { "" } else { DKMS }))
    })
}

/// Nothing is lost on the way and nothing left over: it is as if there had always been one dkms.
#[track_caller]
fn goes_there_and_back(one: Layer, other: Layer) {
    for (stayed, went) in life([one; 3]).iter().zip(life([one, other, one])) {
        let (stayed, went): (BTreeSet<_>, BTreeSet<_>) = (stayed.lines().collect(), went.lines().collect());
        let (missing, new): (Vec<_>, Vec<_>) = (stayed.difference(&went).collect(), went.difference(&stayed).collect());
        assert!(missing.is_empty() && new.is_empty(), "missing: {missing:#?}, there: {new:#?}");
    }
}

#[test]
fn what_debians_dkms_made_goes_there_and_back() {
    goes_there_and_back(Layer::Peer, Layer::Ours);
}

#[test]
fn what_we_made_goes_there_and_back() {
    goes_there_and_back(Layer::Ours, Layer::Peer);
}

const FILES: &str = "\
644 root /etc/dkms/framework.conf.d/autoinstall_all_kernels.conf
755 root /etc/kernel/header_postinst.d/dkms
755 root /etc/kernel/postinst.d/dkms
755 root /etc/kernel/preinst.d/dkms
755 root /etc/kernel/prerm.d/dkms
755 root /etc/update-motd.d/95-dkms
755 root /usr/lib/dkms/common.postinst
755 root /usr/lib/dkms/dkms-autopkgtest
755 root /usr/lib/dkms/dkms_autoinstaller
755 root /usr/lib/dkms/header_postinst
755 root /usr/lib/dkms/kernel_postinst
755 root /usr/lib/dkms/kernel_preinst
755 root /usr/lib/dkms/kernel_prerm
755 root /usr/lib/dkms/sandbox-btf/pahole
755 root /usr/lib/dkms/sandbox/make
755 root /usr/lib/dkms/sandbox_cc
755 root /usr/lib/dkms/settle
755 root /usr/lib/kernel/install.d/40-dkms.install
644 root /usr/lib/systemd/system/dkms.service
755 root /usr/sbin/dkms
755 root /usr/share/apport/package-hooks/dkms_packages.py
644 root /usr/share/bash-completion/completions/dkms
644 root /usr/share/dkms/etc/dkms/framework.conf
644 root /usr/share/dkms/etc/modprobe.d/dkms.conf
644 root /usr/share/doc/dkms-rs/FLEET.md.gz
644 root /usr/share/doc/dkms-rs/changelog.gz
644 root /usr/share/doc/dkms-rs/copyright
644 root /usr/share/fish/vendor_completions.d/dkms.fish
644 root /usr/share/man/man8/dkms.8.gz
644 root /usr/share/zsh/vendor-completions/_dkms
";

#[test]
fn every_file_is_in_its_place_and_configuring_again_is_quiet() {
    let mut root = Root::with(Layer::Ours, &[]);
    // Where units are depends on the release of Debian that made the package; both are one directory.
    root.says(
        "dpkg --listfiles dkms-rs | xargs stat -c '%F:%a %U %n' | sed -n 's/^regular file://p' \
         | sed 's, /lib/, /usr/lib/,' | LC_ALL=C sort -k 3",
        FILES,
    );
    root.says(
        "stat -c '%a %U %n' /etc/dkms/framework.conf /etc/modprobe.d/dkms.conf /var/lib/dkms",
        "644 root /etc/dkms/framework.conf\n644 root /etc/modprobe.d/dkms.conf\n755 root /var/lib/dkms\n",
    );
    root.says("getent passwd _dkms | cut -d: -f2,6-", "x:/nonexistent:/usr/sbin/nologin\n");
    // Not asked of systemctl: a machine need not have systemd to build and test this.
    root.says("basename -a $(readlink /etc/systemd/system/*/dkms.service)", "dkms.service\n");
    root.says("DPKG_MAINTSCRIPT_PACKAGE=dkms-rs /var/lib/dpkg/info/dkms-rs.postinst configure 0.1.0", "");
}
