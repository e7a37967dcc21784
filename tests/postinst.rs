// SPDX-License-Identifier: GPL-2.0-or-later

//! common.postinst, which every -dkms package calls, and the other programs beside dkms.

use crate::support::{Layer, Root};

/// With the exit codes that dkms has; what is there by default is in `hooks`.
fn root() -> Root {
    let mut root = Root::new();
    root.sh("dkms generate_mok; echo on_failure=original >/etc/dkms/framework.conf.d/original.conf");
    root.quick("quick", "AUTOINSTALL=yes");
    root
}

const POSTINST: &str = "/usr/lib/dkms/common.postinst quick 1 /usr/share/quick-dkms";
const LOADING: &str = "Loading new quick/1 DKMS files...\n";
const FORGET: &str = "dkms remove quick/1 --all >/dev/null";

/// The words on one kernel.
fn built(kernel: &str) -> String {
    format!(
        "
Building initial module quick/1 for {kernel}
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
Installing /lib/modules/{kernel}/updates/dkms/quick.ko
Running depmod... done.
"
    )
}

fn removed(kernel: &str) -> String {
    format!(
        "\
Module quick/1 for kernel {kernel} ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/{kernel}/updates/dkms/quick.ko
Running depmod... done.

"
    )
}

/// Only for the running kernel and the newest, as where no file of the package says otherwise.
const NOT_ALL: &str = "echo autoinstall_all_kernels= >/etc/dkms/framework.conf.d/z.conf";

#[test]
fn a_package_gets_its_modules_on_the_kernels_that_are_there() {
    let mut root = root();
    let both = format!("{LOADING}Building for $OLD and $K\n{}{}", built("$OLD"), built("$K"));
    root.says(&format!("{POSTINST} '' ''"), &both);
    // Again, after an upgrade or not.
    let again = format!(
        "Removing old quick/1 DKMS files...\n{}{}Deleting module quick/1 completely from the DKMS tree.\n{both}",
        removed("$OLD"),
        removed("$K")
    );
    root.says(&format!("{POSTINST} '' 0.9"), &again);
    root.says(POSTINST, &again);
    root.says("dkms status", "quick/1, $OLD, $A: installed\nquick/1, $K, $A: installed\n");

    root.says(
        &format!("{FORGET}; {NOT_ALL}; {POSTINST} $A"),
        &format!("{LOADING}Building for $K\nBuilding for architecture $A\n{}", built("$K")),
    );
    // The newest can be booted.
    root.sh(&format!("{FORGET}; touch /boot/config-$OLD /boot/config-9.9.9-none"));
    root.says(POSTINST, &format!("{LOADING}Building for $K\n{}", built("$K")));
}

#[test]
fn a_package_that_does_not_want_it_is_registered_only() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("echo AUTOINSTALL=yes >/etc/dkms/quick.conf");
    root.says(POSTINST, &format!("{LOADING}Not building the quick module which does not have AUTOINSTALL enabled.\n"));
    root.sh("rm /etc/dkms/quick.conf");
    root.says(&format!("dkms status; {FORGET}"), "quick/1: added\n");
    // That it says no was never looked at.
    root.quick("quick", "AUTOINSTALL=no");
    root.says(&format!("{NOT_ALL}; {POSTINST}"), &format!("{LOADING}Building for $K\n{}", built("$K")));
    // No source: what needs none has its say.
    root.says(
        "/usr/lib/dkms/common.postinst nosuch 1",
        "Not building the nosuch module which does not have AUTOINSTALL enabled.\n",
    );
}

#[test]
fn what_is_installed_stays_where_its_source_has_become_bad_or_is_gone() {
    let mut root = root();
    let modules = "for k in $OLD $K; do modprobe -n -S $k --show-depends quick; done";
    for (spoil, code) in [
        ("echo AUTOINSTALL=maybe >>dkms.conf", 8),
        ("printf 'AUTOINSTALL=\\nDEST_MODULE_LOCATION=/x\\n' >>dkms.conf", 8),
        ("rm dkms.conf", 4),
        ("rm -r /usr/src/quick-1", 4),
    ] {
        root.quick("quick", "AUTOINSTALL=yes");
        root.sh(POSTINST);
        let before = root.sh(modules);
        root.sh(&format!("cd /usr/src/quick-1 && {spoil}"));
        root.fails(&format!("{POSTINST} >/dev/null 2>&1"), code, "");
        root.unchanged(modules, &before);
    }
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh(POSTINST);
    root.says("dkms status", "quick/1, $OLD, $A: installed\nquick/1, $K, $A: installed\n");
}

#[test]
fn a_kernel_that_cannot_have_it_is_skipped_or_told() {
    let mut root = root();
    root.quick("quick", "AUTOINSTALL=yes\nBUILD_EXCLUSIVE_KERNEL=$current_kernel");
    root.says(
        POSTINST,
        &format!(
            "\
{LOADING}Building for $OLD and $K

Building initial module quick/1 for $OLD
Warning: The /var/lib/dkms/quick/1/$OLD/$A/dkms.conf
for module quick/1 includes BUILD_EXCLUSIVE directives
which do not match this kernel/arch/config for any modules.
This indicates that it should not be built.
{}",
            built("$K")
        ),
    );
    root.sh(FORGET);

    root.quick("quick", "AUTOINSTALL=yes\nMAKE=\"test $kernelver = $current_kernel\"");
    let failed = format!(
        "\
{LOADING}Building for $OLD and $K

Building initial module quick/1 for $OLD
$SIGNING

Building module(s)...(bad exit status: 1)
Failed command:
test $OLD = $K

Error! Bad return status for module build on kernel: $OLD ($A)
Consult /var/lib/dkms/quick/1/build/make.log for more information.
"
    );
    // dkms 3.2.2 does not know that one may want the others all the same.
    if root.layer == Layer::Ours {
        root.fails(POSTINST, 10, &format!("{failed}{}", built("$K")));
        root.says(&format!("dkms status; {FORGET}"), "quick/1, $K, $A: installed\n");
        // The last failure counts.
        root.quick("quick", "AUTOINSTALL=yes\nMAKE=\"[ $kernelver = $current_kernel ] && rm quick.ko\"");
        root.fails(&format!("{POSTINST} >/dev/null 2>&1"), 7, "");
        root.says(&format!("dkms status; {FORGET}"), "quick/1: added\n");
        root.quick("quick", "AUTOINSTALL=yes\nMAKE=\"test $kernelver = $current_kernel\"");
    }
    root.sh("echo continue_on_error=false >/etc/dkms/framework.conf.d/z.conf");
    root.fails(POSTINST, 10, &failed);
    root.says(&format!("dkms status; {FORGET}"), "quick/1: added\n");
}

#[test]
fn in_a_chroot_the_running_kernel_is_another_ones() {
    let mut root = root();
    root.sh(&format!("{NOT_ALL}; mv /lib/modules/$K /srv"));
    let elsewhere = "It is likely that $K belongs to a chroot's host\n";
    root.says(POSTINST, &format!("{LOADING}{elsewhere}Building for $OLD\n{}", built("$OLD")));
    root.sh(&format!("{FORGET}; mv /lib/modules/$OLD /srv"));
    root.says(
        POSTINST,
        &format!(
            "\
{LOADING}{elsewhere}WARNING: No kernel headers were found, skipping module build.
         To get the headers for the running kernel ($K)
         please install the linux-headers-$K package.
"
        ),
    );
    root.says("dkms status", "quick/1: added\n");
}

#[test]
fn programs_that_are_called_wrongly_say_how() {
    let mut root = root();
    for command in ["", "quick", "'' 1"] {
        root.fails(
            &format!("/usr/lib/dkms/common.postinst {command}"),
            1,
            "Need NAME, and VERSION defined\nARCH is optional\n",
        );
    }
    let autoinstaller = "/usr/lib/dkms/dkms_autoinstaller";
    let usage = format!("Usage: {autoinstaller} {{start}}\n");
    root.fails(autoinstaller, 2, &usage);
    root.fails(&format!("{autoinstaller} frobnicate"), 2, &usage);
    for verb in ["stop", "restart", "force-reload", "status", "reload"] {
        root.says(&format!("{autoinstaller} {verb}"), "");
    }
    root.says(&format!("{autoinstaller} start"), "");
    for verb in ["", "inspect $K", "frobnicate"] {
        root.says(&format!("/usr/lib/kernel/install.d/40-dkms.install {verb}"), "");
    }
}

#[test]
fn words_come_while_it_builds_whether_it_was_registered_or_not() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("long", "MAKE=\"sleep 600\"\nAUTOINSTALL=yes");
    for before in ["", "dkms add long/1"] {
        root.sh(before);
        let seen = root.sh("rm -f /srv/said; /usr/lib/dkms/common.postinst long 1 '' '' '' >/srv/said 2>&1 & \
             while kill -0 $! && ! grep -q 'Building initial module' /srv/said; do sleep 0.1; done 2>/dev/null; \
             kill $!; wait $!; cat /srv/said");
        assert!(seen.contains("\nBuilding initial module long/1 for "), "{seen}");
        root.sh("dkms remove long/1 --all");
    }
}

/// Of what is said while it is registered the package's own words stand for the rest.
#[test]
fn what_a_script_after_the_registration_complains_of_is_seen() {
    let mut root = root();
    root.quick("quick", "AUTOINSTALL=yes\nPOST_ADD=post");
    root.write("/usr/src/quick-1/post", "#!/bin/sh\necho unheard; echo heard >&2");
    root.sh("chmod 755 /usr/src/quick-1/post");
    root.says(&format!("{POSTINST} 2>&1 >/dev/null"), "heard\n");
    root.says(&format!("{POSTINST} 2>/dev/null | grep -e heard -e post_add || true"), "");
}
