// SPDX-License-Identifier: GPL-2.0-or-later

//! What lies in a kernel's directory, what lay there before, and what is said of it.

use crate::support::{Layer, Root};

fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    root
}

/// Which modules there are by these names, and where the kernel finds them.
const MODULES: &str =
    "find /lib/modules \\( -name 'quick.*' -o -name 'apple-gmux.*' -o -name '8021q.*' \\) -type f | sort";

#[test]
fn modules_are_compressed_as_the_kernel_has_its_own() {
    let mut root = root();
    root.quick("quick", "");
    for (suffix, unpack, told) in [
        // By the options in framework.conf, as for a kernel's own.
        ("xz", "xz", "xz --robot --list /lib/modules/$OLD/updates/dkms/quick.ko.xz | grep -c '^file.*CRC32'"),
        ("zst", "zstd", "echo 1"),
        ("gz", "gzip", "echo 1"),
    ] {
        root.sh(&format!(
            "mkdir -p /lib/modules/$OLD/kernel; touch /lib/modules/$OLD/kernel/some.ko.{suffix}; dkms add quick/1"
        ));
        root.says(
            "dkms install quick/1 -k $OLD",
            &format!(
                "\
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
Installing /lib/modules/$OLD/updates/dkms/quick.ko.{suffix}
Running depmod... done.
"
            ),
        );
        root.says(told, "1\n");
        root.says(
            &format!(
                "cd /lib/modules/$OLD/updates/dkms && ls && {unpack} -dc quick.ko.{suffix} >/tmp/quick.ko && modinfo -F signer /tmp/quick.ko \
                 && cmp quick.ko.{suffix} /var/lib/dkms/quick/1/$OLD/$A/module/*.ko.*; stat -c %a *; dkms status"
            ),
            &format!("quick.ko.{suffix}\nDKMS module signing key\n644\nquick/1, $OLD, $A: installed\n"),
        );

        // A kernel that changes its mind.
        root.sh("rm /lib/modules/$OLD/kernel/some.*");
        root.sh(&format!("mv /lib/modules/$OLD/updates/dkms/quick.ko.{suffix} /tmp"));
        root.says(
            "dkms status",
            "quick/1, $OLD, $A: installed (Built modules are missing in the kernel modules folder)\n",
        );
        root.sh(&format!(
            "touch /lib/modules/$OLD/kernel/some.ko.{suffix}; mv /tmp/quick.ko.{suffix} /lib/modules/$OLD/updates/dkms"
        ));
        root.says(
            "dkms remove quick/1 --all",
            &format!(
                "\
Module quick/1 for kernel $OLD ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$OLD/updates/dkms/quick.ko.{suffix}
Running depmod... done.

Deleting module quick/1 completely from the DKMS tree.
"
            ),
        );
        root.says("find /lib/modules/$OLD/updates /var/lib/dkms/quick 2>/dev/null; rm -r /lib/modules/$OLD/kernel", "");
    }
}

#[test]
fn one_version_of_a_module_is_installed() {
    let mut root = root();
    // One is as good as the other, but not the same.
    root.quick("quick", "MAKE='cp quick.ko apple-gmux.ko'\nBUILT_MODULE_NAME=apple-gmux");
    root.sh("cp -r /usr/src/quick-1 /usr/src/quick-2 && xz -dcf /lib/modules/$K/kernel/drivers/net/ifb.ko* >/usr/src/quick-2/quick.ko");
    root.sh("sed -i s/PACKAGE_VERSION=1/PACKAGE_VERSION=2/ /usr/src/quick-2/dkms.conf; dkms build quick/1 && dkms build quick/2");
    let before = root.sh(MODULES);
    let original = "/lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko";

    root.says(
        "dkms install quick/1",
        &format!(
            "\
Found pre-existing {original}, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/apple-gmux.ko
Running depmod... done.
"
        ),
    );
    root.says(
        "dkms install quick/2",
        "\
An original module was already stored during a previous install
Installing /lib/modules/$K/updates/dkms/apple-gmux.ko
Running depmod... done.
",
    );
    root.says(
        "dkms status; readlink /var/lib/dkms/quick/kernel-$K-$A; cmp /lib/modules/$K/updates/dkms/apple-gmux.ko \
         /var/lib/dkms/quick/2/$K/$A/module/apple-gmux.ko",
        "\
quick/1, $K, $A: built (Original modules exist)
quick/2, $K, $A: installed (Original modules exist)
2/$K/$A
",
    );
    root.says("dkms uninstall quick/1", "Module quick/1 is not installed for kernel $K ($A). Skipping...\n");
    root.says(
        "dkms remove quick/1 --all",
        "\
Module quick/1 is not installed for kernel $K ($A). Skipping...

Deleting module quick/1 completely from the DKMS tree.
",
    );
    root.says("dkms status", "quick/2, $K, $A: installed (Original modules exist)\n");
    root.says(
        "dkms uninstall quick/2",
        &format!(
            "\
Module quick/2 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/apple-gmux.ko
Restoring archived original module {original}
Running depmod... done.
"
        ),
    );
    root.says("dkms status; ls /var/lib/dkms/quick", "quick/2, $K, $A: built\n2\n");
    root.unchanged(MODULES, &before);
}

#[test]
fn the_module_that_would_have_been_loaded_is_kept_and_comes_back() {
    let mut root = root();
    root.quick("quick", "DEST_MODULE_NAME=apple-gmux");
    root.sh("dkms build quick/1");
    let original = "/lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko";
    let trace = "find /lib/modules/$K -name 'apple-gmux.*' | xargs md5sum; md5sum /lib/modules/$K/modules.*";
    // Somebody else's, of other contents, which is preferred to the kernel's.
    for place in ["extra", "updates"] {
        root.sh(&format!(
            "mkdir /lib/modules/$K/{place}; (cat {original}; echo {place}) >/lib/modules/$K/{place}/apple-gmux.ko; depmod $K"
        ));
        let before = root.sh(trace);
        root.says(
            "dkms install quick/1",
            &format!(
                "\
Found pre-existing /lib/modules/$K/{place}/apple-gmux.ko, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/apple-gmux.ko
Running depmod... done.
"
            ),
        );
        // It is the only one that went.
        root.says(
            "modinfo -k $K -n apple-gmux; find /lib/modules/$K -name 'apple-gmux.*' | sort",
            &format!(
                "/lib/modules/$K/updates/dkms/apple-gmux.ko\n{original}\n/lib/modules/$K/updates/dkms/apple-gmux.ko\n"
            ),
        );
        root.says(
            "cat /var/lib/dkms/quick/original_module/$K/$A/*.origin; dkms status",
            &format!("/lib/modules/$K/{place}/apple-gmux.ko\nquick/1, $K, $A: installed (Original modules exist)\n"),
        );
        root.sh("dkms uninstall quick/1");
        root.unchanged(trace, &before);
        root.sh(&format!("rm -r /lib/modules/$K/{place}"));
    }
}

#[test]
fn a_module_compressed_in_another_way_is_that_module() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("cd /lib/modules/$K/kernel; xz -f $(find . -name dummy.ko)");
    let trace = "find /lib/modules/$K -name 'quick.*' -type f | sort | xargs md5sum";
    let installed = "Installing /lib/modules/$K/updates/dkms/quick.ko.xz\nRunning depmod... done.\n";
    // Of several of them dkms speaks of the first.
    for theirs in [
        &["updates/quick.ko"][..],
        &["updates/dkms/quick.ko"],
        &["updates/dkms/quick.ko", "updates/dkms/quick.ko.xz"],
        &["extra/quick.ko", "updates/dkms/quick.ko.xz"],
    ] {
        root.sh("mkdir -p /lib/modules/$K/updates/dkms /lib/modules/$K/extra; dkms build quick/1");
        for file in theirs {
            let compress = if file.ends_with(".xz") { "xz --check=crc32" } else { "cat" };
            root.sh(&format!("(cat /usr/src/quick-1/quick.ko; echo {file}) | {compress} >/lib/modules/$K/{file}"));
        }
        root.sh("depmod $K");
        let before = root.sh(trace);
        let found = format!("Found pre-existing /lib/modules/$K/{}, archiving for uninstallation\n", theirs[0]);
        root.says("dkms install quick/1", &format!("{found}{installed}"));
        root.says(
            "modinfo -k $K -n quick; find /lib/modules/$K -name 'quick.*'; dkms status",
            "/lib/modules/$K/updates/dkms/quick.ko.xz\n/lib/modules/$K/updates/dkms/quick.ko.xz\n\
             quick/1, $K, $A: installed (Original modules exist)\n",
        );
        // Its successor leaves the archive as it is.
        root.says("dkms install quick/1 --force | tail -n 2", installed);
        root.says("dkms uninstall quick/1 | grep -c Restoring", "1\n");
        root.unchanged(trace, &before);
        let last = theirs.last().map(|file| file.trim_end_matches(".xz")).unwrap_or_default();
        root.says("modinfo -k $K -n quick | sed 's/.xz$//'", &format!("/lib/modules/$K/{last}\n"));
        root.sh("dkms remove quick/1 --all; rm -r /lib/modules/$K/updates /lib/modules/$K/extra");
    }
    // What it took the place of stays in the archive when a kernel changes its mind.
    root.quick("third", "DEST_MODULE_NAME=apple-gmux");
    let before = root.sh(MODULES);
    root.sh("mv $(find /lib/modules/$K/kernel -name dummy.ko.xz) /srv; dkms install third/1");
    root.sh("mv /srv/dummy.ko.xz /lib/modules/$K/kernel; dkms build third/1 --force; dkms install third/1 --force");
    root.says(
        "dkms status third; find /lib/modules -name 'apple-gmux.*'",
        "third/1, $K, $A: installed (Original modules exist)\n/lib/modules/$K/updates/dkms/apple-gmux.ko.xz\n",
    );
    root.sh("dkms remove third/1 --all");
    root.unchanged(MODULES, &before);
    // Its version counts as well.
    root.quick("other", "DEST_MODULE_NAME=8021q");
    root.sh("dkms build other/1");
    let version = root.sh("modinfo -k $K -F version 8021q");
    root.fails(
        "dkms install other/1",
        6,
        &format!(
            "
Error! Module version  for 8021q.ko.xz
is not newer than what is already found in kernel $K ({}).
You may override by specifying --force.

Error! Installation aborted.
",
            version.trim_end()
        ),
    );
}

#[test]
fn what_stands_beside_ours_serves_before_ours_goes() {
    let mut root = root();
    root.quick("quick", "");
    let trace = "find /lib/modules/$K -name 'apple[-_]gmux.*' | xargs md5sum; modinfo -k $K -n apple-gmux";
    let before = root.sh(trace);
    // To depmod they have one name.
    for name in ["apple_gmux", "apple-gmux.new"] {
        root.sh(&format!("echo DEST_MODULE_NAME={name} >>/usr/src/quick-1/dkms.conf; dkms install quick/1"));
        root.says("modinfo -k $K -n apple-gmux", &format!("/lib/modules/$K/updates/dkms/{name}.ko\n"));
        root.write("/usr/local/sbin/depmod", "#!/bin/sh\nexit 1");
        root.sh("chmod 755 /usr/local/sbin/depmod; dkms uninstall quick/1");
        root.sh("test -e $(modinfo -k $K -n apple-gmux)");
        root.sh("rm /usr/local/sbin/depmod; dkms uninstall quick/1");
        root.unchanged(trace, &before);
        root.says("dkms status", "quick/1, $K, $A: built\n");
        root.sh("dkms remove quick/1 --all");
    }
}

#[test]
fn the_kernels_module_stays_if_it_is_newer_or_the_same() {
    let mut root = root();
    let kernels = root.sh("ls /lib/modules/$K/kernel/net/8021q/8021q.ko*");
    let kernels = kernels.trim_end();
    // Ours says no version, the kernel's does.
    root.quick("quick", "DEST_MODULE_NAME=8021q");
    root.sh("dkms build quick/1");
    let version = root.sh("modinfo -k $K -F version 8021q");
    let version = version.trim_end();
    assert!(!version.is_empty());
    let before = root.sh(MODULES);
    root.fails(
        "dkms install quick/1",
        6,
        &format!(
            "
Error! Module version  for 8021q.ko
is not newer than what is already found in kernel $K ({version}).
You may override by specifying --force.

Error! Installation aborted.
"
        ),
    );
    root.says("dkms status", "quick/1, $K, $A: built\n");
    root.unchanged(MODULES, &before);

    // The very same.
    root.sh(&format!("xz -dcf {kernels} >/usr/src/quick-1/quick.ko; dkms build quick/1 --force"));
    root.fails(
        "dkms install quick/1",
        6,
        &format!(
            "\
Module {kernels} already installed at version {version}, override by specifying --force

Error! Installation aborted.
"
        ),
    );
    root.unchanged(MODULES, &before);
    root.says("dkms status; ls -A /var/lib/dkms", "quick/1, $K, $A: built\nmok.key\nmok.pub\nquick\n");

    let installed = format!(
        "\
Found pre-existing {kernels}, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/8021q.ko
Running depmod... done.
"
    );
    root.says("dkms install quick/1 --force-version-override", &installed);
    root.sh("dkms uninstall quick/1");
    root.unchanged(MODULES, &before);
    root.says("dkms install quick/1 --force", &installed);
    root.sh("dkms uninstall quick/1");
    // By a list that a package or the administrator brings.
    root.write("/usr/share/dkms/modules_to_force_install/some", "other quick_version-override");
    root.says("dkms install quick/1", &format!("Forcing version override of quick\n{installed}"));
}

#[test]
fn status_tells_what_does_not_fit() {
    let mut root = root();
    root.quick("quick", "DEST_MODULE_NAME=apple-gmux");
    root.quick("other", "");
    root.sh("dkms install quick/1 && dkms install other/1 && dkms build other/1 -k $OLD");
    root.says(
        "dkms status",
        "\
other/1, $OLD, $A: built
other/1, $K, $A: installed
quick/1, $K, $A: installed (Original modules exist)
",
    );

    root.sh("echo >>/lib/modules/$K/updates/dkms/apple-gmux.ko; rm /lib/modules/$K/updates/dkms/other.ko");
    root.sh("rm /var/lib/dkms/other/1/$OLD/$A/module/other.ko");
    root.says(
        "dkms status",
        "\
other/1, $OLD, $A: built (Built modules are missing in the kernel modules folder)
other/1, $K, $A: installed (Differences between built and installed modules)
quick/1, $K, $A: installed (Original modules exist) (Differences between built and installed modules)
",
    );
    root.says("dkms status quick -k $OLD", "quick/1: added\n");
    root.says(
        "dkms status 'o*' -k '6*'; dkms status -m 'q*' -v '?'",
        "\
other/1, $OLD, $A: built (Built modules are missing in the kernel modules folder)
other/1, $K, $A: installed (Differences between built and installed modules)
quick/1, $K, $A: installed (Original modules exist) (Differences between built and installed modules)
",
    );
    // Installed again, all is well.
    root.sh("dkms install quick/1 --force && dkms install other/1 --force");
    root.says("dkms status -k $K", "other/1, $K, $A: installed\nquick/1, $K, $A: installed (Original modules exist)\n");
    root.fails(
        "dkms install other/1 -k $OLD",
        6,
        "\nError! Missing module other in /var/lib/dkms/other/1/$OLD/$A/module\n",
    );
}

#[test]
fn a_kernel_goes_with_its_modules_even_if_their_source_went_before() {
    let mut root = root();
    let before = root.sh(&format!("depmod $K; {MODULES}; md5sum /lib/modules/$K/modules.*"));
    let conf = "DEST_MODULE_NAME=apple-gmux\nBUILT_MODULE_NAME[1]=second\nDEST_MODULE_LOCATION[1]=/updates\nMAKE='cp quick.ko second.ko'";
    root.quick("quick", conf);
    root.quick("other", "");
    root.sh("dkms install quick/1 && dkms install other/1 && dkms build other/1 -k $OLD && rm -r /usr/src/*-1");
    root.says("dkms status 2>/dev/null", "other/1: broken\nquick/1: broken\n");

    root.says(
        "/etc/kernel/prerm.d/dkms $K",
        "\
dkms: removing module other/1 for kernel $K ($A)
Module other/1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/other.ko

dkms: removing module quick/1 for kernel $K ($A)
Module quick/1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/apple-gmux.ko
Restoring archived original module /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko
Deleting /lib/modules/$K/updates/dkms/second.ko

Running depmod... done.
",
    );
    root.unchanged(&format!("{MODULES}; md5sum /lib/modules/$K/modules.*"), &before);
    root.says(
        "find /var/lib/dkms -name \"*$K*\"; find /lib/modules -name 'other.ko'; ls -A /var/lib/dkms",
        "mok.key\nmok.pub\nother\nquick\n",
    );
    // The other kernel's are built still.
    root.says("ls /var/lib/dkms/other/1/$OLD/$A/module", "other.ko\n");
}

#[test]
fn modules_that_are_not_meant_for_a_kernel_are_left_out() {
    let mut root = root();
    let second = "BUILT_MODULE_NAME[1]=second\nDEST_MODULE_LOCATION[1]=/updates";
    root.quick("quick", &format!("{second}\nBUILD_EXCLUSIVE_CONFIG[1]='CONFIG_MODULES !CONFIG_X86'"));
    root.sh("dkms install quick/1");
    root.says(
        "ls /lib/modules/$K/updates/dkms /var/lib/dkms/quick/1/$K/$A/module; dkms status",
        "\
/lib/modules/$K/updates/dkms:
quick.ko

/var/lib/dkms/quick/1/$K/$A/module:
quick.ko
quick/1, $K, $A: installed
",
    );
    root.sh("dkms remove quick/1 --all");

    for directive in ["KERNEL='^5\\.'", "KERNEL_MAX=5.19", "KERNEL_MIN=7", "ARCH=sparc", "CONFIG='!CONFIG_MODULES'"] {
        root.quick("quick", &format!("BUILD_EXCLUSIVE_{directive}"));
        root.fails(
            "dkms add quick/1 >/dev/null; dkms install quick/1",
            77,
            "\
Warning: The /var/lib/dkms/quick/1/$K/$A/dkms.conf
for module quick/1 includes BUILD_EXCLUSIVE directives
which do not match this kernel/arch/config for any modules.
This indicates that it should not be built.
",
        );
        root.says(
            "dkms status; dkms remove quick/1 --all",
            "quick/1: added\nDeleting module quick/1 completely from the DKMS tree.\n",
        );
    }
}

#[test]
fn who_excludes_kernels_is_not_told_that_nothing_was_installed() {
    let mut root = root();
    root.quick("plain", "");
    root.quick("quick", "BUILD_EXCLUSIVE_KERNEL=^6");
    root.sh("dkms build plain/1 && dkms build quick/1");
    root.says("dkms uninstall plain/1", "Module plain/1 is not installed for kernel $K ($A). Skipping...\n");
    root.says("dkms uninstall quick/1", "");
    // Of whatever kind, and for whichever module.
    root.quick("quick", "BUILD_EXCLUSIVE_CONFIG[3]=CONFIG_MODULES");
    root.says("dkms uninstall quick/1", "");
    root.says("dkms unbuild quick/1 -k $OLD", "Module quick/1 is not built for kernel $OLD ($A). Skipping...\n");
    root.says("dkms unbuild quick/1; dkms status quick", "quick/1: added\n");
}

#[test]
fn what_else_lies_in_an_archive_goes_with_the_original() {
    let mut root = Root::new();
    root.quick("quick", "DEST_MODULE_NAME=apple-gmux");
    root.sh("dkms install quick/1");
    root.sh("mkdir /var/lib/dkms/quick/original_module/$K/$A/collisions && touch /var/lib/dkms/quick/original_module/$K/$A/old.ko");
    root.says(
        "dkms uninstall quick/1",
        "\
Module quick/1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/apple-gmux.ko
Restoring archived original module /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko
Running depmod... done.
Removing original module(s) from DKMS tree for kernel $K ($A)
",
    );
    root.says("ls /var/lib/dkms/quick; dkms status", "1\nquick/1, $K, $A: built\n");
}

#[test]
fn a_kernel_that_cannot_lose_its_modules_says_whose() {
    let mut root = root();
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh("dkms install quick/1 && mount --bind -o ro /lib/modules/$K/updates /lib/modules/$K/updates");
    let before = root.sh("dkms status");
    for (command, code) in [
        ("dkms kernel_prerm -k $K", 14),
        ("dkms kernel_preinst -k $K", 14),
        ("/etc/kernel/prerm.d/dkms $K", 0),
        ("/etc/kernel/preinst.d/dkms $K", 0),
    ] {
        let output = root.run(command);
        let action = if command.contains("prerm") { "kernel_prerm" } else { "kernel_preinst" };
        let words =
            root.expand(&format!("\nError! dkms {action} for kernel $K ($A) failed for module(s) quick/1(1).\n"));
        assert!(output.code == code && output.text.contains(&words), "{command}: {output:?}");
    }
    root.unchanged("dkms status", &before);
    root.sh("umount /lib/modules/$K/updates && dkms kernel_prerm -k $K");
    root.says("dkms status", "quick/1: added\n");
}

#[test]
fn ours_stays_where_its_original_cannot_come_back() {
    let mut root = root();
    root.quick("quick", "DEST_MODULE_NAME=apple-gmux");
    root.sh("dkms install quick/1 && mount --bind -o ro /lib/modules/$K/kernel /lib/modules/$K/kernel");
    let trace = "dkms status; find /lib/modules/$K/updates /var/lib/dkms | xargs ls -d; modinfo -k $K -n apple-gmux";
    let before = root.sh(trace);
    let said = root.run("dkms uninstall quick/1 2>&1");
    assert!(said.code != 0 && said.text.contains("Error! Cannot restore"), "{said:?}");
    root.unchanged(trace, &before);
    root.sh("umount /lib/modules/$K/kernel; dkms uninstall quick/1");
    root.says("dkms status", "quick/1, $K, $A: built\n");
}

#[test]
fn modules_are_compressed_with_the_options_that_are_set() {
    let mut root = Root::new();
    root.quick("quick", "");
    root.sh("dkms add quick/1; mkdir -p /lib/modules/$OLD/kernel");
    for (suffix, setting, told) in [
        ("xz", "compress_xz_opts='--check=sha256'", "xz --robot --list quick.ko.xz | grep -c '^file.*SHA-256'"),
        ("zst", "compress_zstd_opts='-q --rm --no-check'", "zstd -l -v quick.ko.zst 2>&1 | grep -c 'Check: None'"),
        // The byte in the header that tells of the fastest compression.
        ("gz", "compress_gzip_opts=-1", "od -An -tu1 -j8 -N1 quick.ko.gz | grep -c 4"),
    ] {
        root.write("/etc/dkms/framework.conf.d/compress.conf", setting);
        root.sh(&format!("rm -f /lib/modules/$OLD/kernel/*; touch /lib/modules/$OLD/kernel/some.ko.{suffix}"));
        root.says(
            &format!(
                "dkms build quick/1 -k $OLD --force >/dev/null; cd /var/lib/dkms/quick/1/$OLD/$A/module && {told}"
            ),
            "1\n",
        );
    }
}
