// SPDX-License-Identifier: GPL-2.0-or-later

//! What an upgrade leaves in place for a successor goes where none comes, and what it stood in for comes back.

use crate::support::{Layer, Root};

/// The package foo-dkms at `version`: a module of `id` that takes the place of the kernel's dummy.
fn package(root: &mut Root, version: &str, id: &str, conf: &str) {
    let (name, number) = id.split_once('/').expect("NAME/VERSION");
    let at = format!("/root/{version}");
    root.sh(&format!("mkdir -p {at}/usr/src/{name}-{number}"));
    root.write(
        &format!("{at}/usr/src/{name}-{number}/dkms.conf"),
        &format!(
            "PACKAGE_NAME={name}\nPACKAGE_VERSION={number}\nBUILT_MODULE_NAME={name}\nDEST_MODULE_NAME=dummy\n\
             DEST_MODULE_LOCATION=/updates\nMAKE=true\nAUTOINSTALL=yes\n{conf}"
        ),
    );
    root.sh(&format!("xz -dcf /lib/modules/$K/kernel/drivers/net/nlmon.ko* >{at}/usr/src/{name}-{number}/{name}.ko"));
    root.pack(version, "foo-dkms", version, id);
}

/// A root where foo-dkms 1 is installed, which has foo/1.
fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.write("/etc/dkms/framework.conf.d/one.conf", "autoinstall_all_kernels=''");
    // Nobody boots it.
    root.write("/usr/sbin/update-initramfs", "#!/bin/sh");
    root.sh("dkms generate_mok; depmod $K");
    package(&mut root, "1", "foo/1", "");
    root.sh("dpkg -i /root/1.deb");
    root.says(LOADED, "updates\n");
    root
}

/// Which of the two the kernel would load.
const LOADED: &str =
    "modprobe -n -S $K --show-depends dummy | tail -n 1 | sed -nE 's,^insmod /lib/modules/[^/]*/([a-z]*)/.*,\\1,p'";

/// The kernel's own is back, and nothing of ours is left.
#[track_caller]
fn is_as_before(root: &mut Root) {
    root.says(LOADED, "kernel\n");
    root.says("ls -A /var/lib/dkms; dkms status; ls -A /lib/modules/$K/updates 2>/dev/null || :", "mok.key\nmok.pub\n");
}

/// dpkg forgets triggers of packages that are not configured.
#[test]
fn what_was_left_while_this_package_was_unpacked_goes_when_it_is_configured() {
    let mut root = root();
    package(&mut root, "2", "foo/2", "");
    root.sh("cd /root/2 && rm -r usr DEBIAN/p* && dpkg-deb --build /root/2 /root/2.deb");
    root.sh("cd /var/cache/apt/archives && dpkg --unpack dkms-rs-under-test.deb /root/2.deb && dpkg --configure -a");
    is_as_before(&mut root);
}

#[test]
fn a_version_that_is_not_for_this_kernel_ends_what_was_there() {
    for (conf, state) in [("BUILD_EXCLUSIVE_KERNEL=^5", "foo/2: added\n"), ("AUTOINSTALL=", "foo/2: added\n")] {
        let mut root = root();
        package(&mut root, "2", "foo/2", conf);
        root.sh("dpkg -i /root/2.deb");
        root.says(LOADED, "kernel\n");
        root.says("dkms status; ls -A /var/lib/dkms", &format!("{state}foo\nmok.key\nmok.pub\n"));
        root.sh("dpkg -P foo-dkms");
        is_as_before(&mut root);
    }
}

#[test]
fn a_version_that_fails_does_not_and_goes_with_its_package() {
    let mut root = root();
    package(&mut root, "2", "foo/2", "MAKE=false");
    root.sh("dpkg -i /root/2.deb");
    root.says(LOADED, "updates\n");
    root.sh("/usr/lib/dkms/settle");
    root.says(LOADED, "updates\n");
    root.sh("dpkg -P foo-dkms");
    is_as_before(&mut root);
    // Nor does one that cannot be registered.
    root.sh("dpkg -i /root/1.deb");
    package(&mut root, "3", "foo/3", "DEST_MODULE_LOCATION=/x");
    root.sh("dpkg -i /root/3.deb");
    root.says(LOADED, "updates\n");
    root.sh("dpkg -P foo-dkms");
    is_as_before(&mut root);
}

/// What was left waits for its own successor, whichever other version is registered and goes.
#[test]
fn another_version_that_goes_takes_nothing_along() {
    for removal in ["remove", "remove --all", "unbuild", "uninstall"] {
        let mut root = root();
        root.sh("cp -r /usr/src/foo-1 /usr/src/foo-0; sed -i s/VERSION=1/VERSION=0/ /usr/src/foo-0/dkms.conf; dkms build foo/0");
        package(&mut root, "2", "foo/2", "MAKE=false");
        root.sh("dpkg -i /root/2.deb");
        root.says(LOADED, "updates\n");
        root.sh(&format!("dkms {removal} foo/0"));
        root.says(LOADED, "updates\n");
        root.sh("dkms remove foo/0 --all; dpkg -P foo-dkms");
        is_as_before(&mut root);
    }
}

/// One that was to take the place of another version, and did not get that far.
#[test]
fn an_installation_that_was_cut_off_leaves_the_other_version_to_be_removed() {
    let mut root = root();
    root.sh(
        "cp -r /usr/src/foo-1 /usr/src/foo-2; sed -i s/VERSION=1/VERSION=2/ /usr/src/foo-2/dkms.conf; dkms build foo/2",
    );
    root.sh("mkdir -p /var/lib/dkms/.pending/foo/$K; echo foo/2 >/var/lib/dkms/.pending/foo/$K/$A");
    root.sh("dkms remove foo/1 --all; dkms remove foo/2 --all");
    is_as_before(&mut root);
}

#[test]
fn a_module_of_another_name_takes_its_place() {
    let mut root = root();
    package(&mut root, "2", "bar/1", "");
    root.sh("dpkg -i /root/2.deb");
    root.says(LOADED, "updates\n");
    root.says(
        "dkms status; ls -A /var/lib/dkms",
        "bar/1, $K, $A: installed (Original modules exist)\nbar\nmok.key\nmok.pub\n",
    );
    root.sh("dpkg -P foo-dkms");
    is_as_before(&mut root);
    // Where it has other modules, too, the old one goes.
    root.sh("dpkg -i /root/1.deb");
    package(&mut root, "3", "baz/1", "DEST_MODULE_NAME=baz");
    root.sh("dpkg -i /root/3.deb");
    root.says(LOADED, "kernel\n");
    root.says("dkms status; ls /lib/modules/$K/updates/dkms", "baz/1, $K, $A: installed\nbaz.ko\n");
}

#[test]
fn a_package_that_has_none_any_more_leaves_none() {
    let mut root = root();
    package(&mut root, "2", "foo/2", "");
    root.sh("cd /root/2 && rm -r usr DEBIAN/p* && dpkg-deb --build /root/2 /root/2.deb && dpkg -i /root/2.deb");
    is_as_before(&mut root);
}

#[test]
fn an_upgrade_that_is_given_up_leaves_the_old_module_registered() {
    let mut root = root();
    package(&mut root, "2", "foo/2", "");
    root.write("/root/2/DEBIAN/preinst", "#!/bin/sh\nexit 1");
    root.sh("chmod 755 /root/2/DEBIAN/preinst; dpkg-deb --build /root/2 /root/2.deb");
    root.sh("! dpkg -i /root/2.deb");
    root.sh("dpkg --configure -a");
    root.says(LOADED, "updates\n");
    root.says("dkms status", "foo/1: added\n");
    root.sh("/etc/kernel/postinst.d/dkms $K");
    root.says("dkms status", "foo/1, $K, $A: installed (Original modules exist)\n");
    root.sh("dpkg -P foo-dkms");
    is_as_before(&mut root);
}

#[test]
fn an_upgrade_that_was_killed_is_ended_by_the_purge() {
    let mut root = root();
    package(&mut root, "2", "foo/2", "");
    root.write("/root/2/DEBIAN/preinst", "#!/bin/sh\nkill -9 $PPID");
    root.sh("chmod 755 /root/2/DEBIAN/preinst; dpkg-deb --build /root/2 /root/2.deb");
    root.sh("! dpkg -i /root/2.deb; dpkg -P --force-remove-reinstreq foo-dkms");
    is_as_before(&mut root);
}

#[test]
fn who_wants_nothing_installed_by_itself_keeps_what_is_there_with_the_package() {
    let mut root = root();
    package(&mut root, "2", "foo/2", "");
    root.sh("touch /etc/dkms/no-autoinstall; dpkg -i /root/2.deb");
    root.says(LOADED, "updates\n");
    root.sh("dpkg -P foo-dkms");
    is_as_before(&mut root);
}

#[test]
fn nothing_is_left_in_the_way_of_debians_dkms() {
    let mut root = root();
    package(&mut root, "2", "foo/2", "MAKE=false");
    root.sh("dpkg -i /root/2.deb; dpkg --force-depends -r dkms-rs");
    root.says(LOADED, "kernel\n");
    root.sh("! find /lib/modules/$K/updates -name '*.ko' | grep . && [ ! -e /var/lib/dkms/.superseded ]");
}

#[test]
fn the_name_of_the_architecture_may_change() {
    let mut root = root();
    root.sh("/usr/lib/dkms/common.postinst foo 1 /usr/share/foo-dkms amd64 1");
    root.says(
        "dkms status; ls -A /var/lib/dkms",
        "foo/1, $K, amd64: installed (Original modules exist)\nfoo\nmok.key\nmok.pub\n",
    );
    root.says(LOADED, "updates\n");
}

#[test]
fn missing_headers_are_noted_when_a_package_is_configured() {
    let mut root = root();
    root.sh("mkdir -p /lib/modules/$OLD/kernel; dkms install foo/1 -k $OLD; apt-get -qq -y purge linux-headers-$OLD");
    package(&mut root, "2", "foo/2", "");
    let said = root.sh("dpkg -i /root/2.deb 2>&1");
    assert!(said.contains(&root.expand("apt install linux-headers-$OLD")), "{said}");
    root.sh("dkms status --failed 2>&1 | grep -q $OLD");
    // As is a critical one's, and then the package says so.
    root.sh("apt-get -qq -y purge linux-headers-$K; rm -rf /lib/modules/$OLD");
    root.write("/etc/dkms/framework.conf.d/c.conf", "critical_modules=foo");
    package(&mut root, "3", "foo/3", "");
    let (code, said) = (root.sh("dpkg -i /root/3.deb >/srv/said 2>&1; echo $?"), root.sh("cat /srv/said"));
    assert!(code == "1\n" && said.contains("This machine boots kernel"), "{code}{said}");
    root.sh("dkms status --failed 2>&1 | grep -q foo/3");
}

#[test]
fn without_proc_what_may_be_needed_stays_until_it_is_known() {
    let mut root = root();
    let removal = "mount -t tmpfs none /proc && DPKG_MAINTSCRIPT_NAME=prerm dkms remove foo/1 --all";
    root.sh(&format!("unshare --mount sh -c '{removal}'"));
    root.says(LOADED, "updates\n");
    root.sh("rm -r /usr/src/foo-1; /usr/lib/dkms/settle");
    is_as_before(&mut root);
}
