// SPDX-License-Identifier: GPL-2.0-or-later

//! Four modules, as their authors' instructions tell users to install them, word for word.

use crate::support::Root;

#[test]
fn apple_gmux_is_added_built_and_installed_by_name_and_version() {
    let mut root = Root::new();
    root.source("apple-gmux-0.1");

    root.says(
        "dkms add apple-gmux/0.1",
        "Creating symlink /var/lib/dkms/apple-gmux/0.1/source -> /usr/src/apple-gmux-0.1\n",
    );
    root.says("dkms status", "apple-gmux/0.1: added\n");
    root.says(
        "dkms build apple-gmux/0.1",
        "\
$SIGNING
Certificate or key are missing, generating self signed certificate for MOK...

Building module(s)... done.
Signing module /var/lib/dkms/apple-gmux/0.1/build/apple-gmux.ko
",
    );
    root.says("dkms status", "apple-gmux/0.1, $K, $A: built\n");
    // Its kernel has a driver of this name.
    root.says(
        "dkms install apple-gmux/0.1",
        "\
Found pre-existing /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/apple-gmux.ko
Running depmod... done.
",
    );
    root.says("dkms status", "apple-gmux/0.1, $K, $A: installed (Original modules exist)\n");
    root.says(
        "modinfo -k $K -F filename apple-gmux; modinfo -k $K -F signer apple-gmux",
        "/lib/modules/$K/updates/dkms/apple-gmux.ko\nDKMS module signing key\n",
    );
}

#[test]
fn apple_gmux_is_built_and_installed_for_a_kernel_that_does_not_run() {
    let mut root = Root::new();
    root.source("apple-gmux-0.1");
    let kernel = root.sh("find /lib/modules/$K -name 'apple-gmux*'");

    root.sh("dkms add apple-gmux/0.1");
    root.says(
        "dkms build apple-gmux/0.1 -k $OLD",
        "\
$SIGNING
Certificate or key are missing, generating self signed certificate for MOK...

Building module(s)... done.
Signing module /var/lib/dkms/apple-gmux/0.1/build/apple-gmux.ko
",
    );
    root.says(
        "dkms build apple-gmux/0.1 -k $OLD",
        "Module apple-gmux/0.1 already built for kernel $OLD ($A), skip. \
         You may override by specifying --force.\n",
    );
    root.says(
        "dkms install apple-gmux/0.1 -k $OLD",
        "Installing /lib/modules/$OLD/updates/dkms/apple-gmux.ko\nRunning depmod... done.\n",
    );
    root.says(
        "dkms install apple-gmux/0.1 -k $OLD",
        "Module apple-gmux/0.1 already installed on kernel $OLD ($A), skip. \
         You may override by specifying --force.\n",
    );
    root.says("dkms status", "apple-gmux/0.1, $OLD, $A: installed\n");

    // The running kernel, in one go, and back.
    root.says(
        "dkms install apple-gmux/0.1",
        "\
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/apple-gmux/0.1/build/apple-gmux.ko
Found pre-existing /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/apple-gmux.ko
Running depmod... done.
",
    );
    root.says(
        "dkms remove apple-gmux/0.1 --all",
        "\
Module apple-gmux/0.1 for kernel $OLD ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$OLD/updates/dkms/apple-gmux.ko
Running depmod... done.

Module apple-gmux/0.1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/apple-gmux.ko
Restoring archived original module /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko
Running depmod... done.

Deleting module apple-gmux/0.1 completely from the DKMS tree.
",
    );
    assert_eq!(root.sh("find /lib/modules/$K -name 'apple-gmux*'"), kernel);
}

#[test]
fn hello_is_added_built_and_installed_by_options() {
    let mut root = Root::new();
    root.source("hello-0.1");

    root.says(
        "dkms add -m hello -v 0.1",
        "\
Deprecated feature: CLEAN (/usr/src/hello-0.1/dkms.conf)
Creating symlink /var/lib/dkms/hello/0.1/source -> /usr/src/hello-0.1
",
    );
    root.says(
        "dkms build -m hello -v 0.1",
        "\
Deprecated feature: CLEAN (/var/lib/dkms/hello/0.1/source/dkms.conf)
$SIGNING
Certificate or key are missing, generating self signed certificate for MOK...

Building module(s)... done.
Signing module /var/lib/dkms/hello/0.1/build/hello.ko
",
    );
    root.says(
        "dkms install -m hello -v 0.1",
        "\
Deprecated feature: CLEAN (/var/lib/dkms/hello/0.1/source/dkms.conf)
Installing /lib/modules/$K/updates/dkms/hello.ko
Running depmod... done.
",
    );
    root.says("dkms status", "hello/0.1, $K, $A: installed\n");

    root.says(
        "dkms install -m hello -v 0.1 -k $OLD",
        "\
Deprecated feature: CLEAN (/var/lib/dkms/hello/0.1/source/dkms.conf)
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/hello/0.1/build/hello.ko
Installing /lib/modules/$OLD/updates/dkms/hello.ko
Running depmod... done.
",
    );
    root.says(
        "ls /lib/modules/*/updates/dkms/*",
        "/lib/modules/$OLD/updates/dkms/hello.ko\n/lib/modules/$K/updates/dkms/hello.ko\n",
    );
}

#[test]
fn hello_is_built_and_installed_for_two_kernels_in_one_command() {
    let mut root = Root::new();
    root.source("hello-0.1");
    root.sh("dkms generate_mok; dkms add -m hello -v 0.1");

    root.says(
        "dkms build -m hello -v 0.1 -k $OLD -k $K",
        "\
Deprecated feature: CLEAN (/var/lib/dkms/hello/0.1/source/dkms.conf)
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/hello/0.1/build/hello.ko
Deprecated feature: CLEAN (/var/lib/dkms/hello/0.1/source/dkms.conf)
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/hello/0.1/build/hello.ko
",
    );
    root.says(
        "dkms install -m hello -v 0.1 -k $OLD -k $K",
        "\
Deprecated feature: CLEAN (/var/lib/dkms/hello/0.1/source/dkms.conf)
Installing /lib/modules/$OLD/updates/dkms/hello.ko
Running depmod... done.
Deprecated feature: CLEAN (/var/lib/dkms/hello/0.1/source/dkms.conf)
Installing /lib/modules/$K/updates/dkms/hello.ko
Running depmod... done.
",
    );
    root.says("dkms status -m hello", "hello/0.1, $OLD, $A: installed\nhello/0.1, $K, $A: installed\n");
    // Each was made for its own kernel.
    root.says("modinfo -F vermagic /lib/modules/*/updates/dkms/hello.ko | cut -d' ' -f1", "$OLD\n$K\n");
}

#[test]
fn hello_is_removed_without_a_trace() {
    let mut root = Root::new();
    root.source("hello-0.1");
    root.sh("dkms generate_mok");
    // modules.dep and its like are only made anew, and byte for byte.
    root.sh("depmod $K");
    let trace = "find /var/lib/dkms /lib/modules | sort; md5sum /lib/modules/$K/modules.*";
    let before = root.sh(trace);

    root.sh("dkms install -m hello -v 0.1 -k $OLD -k $K");
    root.says(
        "dkms remove -m hello -v 0.1 --all",
        "\
Module hello/0.1 for kernel $OLD ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$OLD/updates/dkms/hello.ko
Running depmod... done.

Module hello/0.1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/hello.ko
Running depmod... done.

Deleting module hello/0.1 completely from the DKMS tree.
",
    );
    root.says("dkms status", "");
    assert_eq!(root.sh(trace), before);
}

#[test]
fn hello_that_does_not_compile_leaves_its_log() {
    let mut root = Root::new();
    root.source("hello-0.1");
    root.sh("echo '#error not today' >>/usr/src/hello-0.1/hello.c");
    root.sh("dkms generate_mok; dkms add -m hello -v 0.1");

    root.fails(
        "dkms build -m hello -v 0.1 -j 1",
        10,
        "\
Deprecated feature: CLEAN (/var/lib/dkms/hello/0.1/source/dkms.conf)
$SIGNING

Building module(s)...(bad exit status: 2)
Failed command:
make -j1 KERNELRELEASE=$K all KVERSION=$K

Error! Bad return status for module build on kernel: $K ($A)
Consult /var/lib/dkms/hello/0.1/build/make.log for more information.
",
    );
    let log = "/var/lib/dkms/hello/0.1/build/make.log";
    let version = root.sh("dkms --version");
    root.says(
        &format!("head -n 1 {log}; sed -n '3,5p' {log}"),
        &format!(
            "DKMS ({}) make.log for hello/0.1 for kernel $K ($A)

Building module(s)
# command: make -j1 KERNELRELEASE=$K all KVERSION=$K
",
            version.trim_end()
        ),
    );
    root.sh(&format!("grep -q 'hello.c:.* #error not today' {log}"));
    root.sh(&format!("grep -qx '# exit code: 2' {log}"));
    root.says("dkms status", "hello/0.1: added\n");
    root.says("find /lib/modules -name 'hello*'", "");
}

#[test]
fn r8169_takes_the_action_after_the_options() {
    let mut root = Root::new();
    root.source("r8169-2.2LK");
    root.sh("dkms generate_mok");

    root.says(
        "dkms -m r8169 -v 2.2LK add",
        "\
Deprecated feature: OBSOLETE_BY (/usr/src/r8169-2.2LK/dkms.conf): use BUILD_EXCLUSIVE_KERNEL_MAX instead
Creating symlink /var/lib/dkms/r8169/2.2LK/source -> /usr/src/r8169-2.2LK
",
    );
    // Of its two patches one is for other kernels.
    root.says(
        "dkms -m r8169 -v 2.2LK build",
        "\
Deprecated feature: OBSOLETE_BY (/var/lib/dkms/r8169/2.2LK/source/dkms.conf): use BUILD_EXCLUSIVE_KERNEL_MAX instead
$SIGNING

Applying patch r8169-8.04.1.patch... done.
Building module(s)... done.
Signing module /var/lib/dkms/r8169/2.2LK/build/r8169.ko
",
    );
    root.says(
        "dkms -m r8169 -v 2.2LK install",
        "\
Deprecated feature: OBSOLETE_BY (/var/lib/dkms/r8169/2.2LK/source/dkms.conf): use BUILD_EXCLUSIVE_KERNEL_MAX instead
Found pre-existing /lib/modules/$K/kernel/drivers/net/ethernet/realtek/r8169.ko, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/r8169.ko
Running depmod... done.
",
    );
    root.says("modinfo -k $K -F version r8169", "2.2LK-8.04.1\n");
}

#[test]
fn r8169_is_completed_by_bash() {
    let mut root = Root::new();
    root.source("r8169-2.2LK");
    root.source("hello-0.1");
    root.sh("dkms add r8169/2.2LK && dkms add hello/0.1");

    root.says(
        "/srv/tests/complete bash 'dkms build -m ' 'dkms build -m r8' 'dkms -m r8169 -v ' 'dkms build -m r8169 -v 2.' \
         'dkms build -m r8169 -v 2.2LK -k ' 'dkms unin'",
        "\
# dkms build -m 
hello
r8169
# dkms build -m r8
r8169
# dkms -m r8169 -v 
2.2LK
# dkms build -m r8169 -v 2.
2.2LK
# dkms build -m r8169 -v 2.2LK -k 
$OLD
$K
# dkms unin
uninstall
",
    );
}

#[test]
fn r8169_is_not_built_for_kernels_that_made_it_obsolete() {
    let mut root = Root::new();
    root.source("r8169-2.2LK");
    root.sh("sed -i 's/^OBSOLETE_BY=.*/OBSOLETE_BY=\"6.0\"/' /usr/src/r8169-2.2LK/dkms.conf");
    root.sh("dkms generate_mok; dkms -m r8169 -v 2.2LK add");

    for action in ["build", "install"] {
        root.fails(
            &format!("dkms -m r8169 -v 2.2LK {action}"),
            77,
            "\
Deprecated feature: OBSOLETE_BY (/var/lib/dkms/r8169/2.2LK/source/dkms.conf): use BUILD_EXCLUSIVE_KERNEL_MAX instead
Warning: The /var/lib/dkms/r8169/2.2LK/$K/$A/dkms.conf
for module r8169/2.2LK includes BUILD_EXCLUSIVE directives
which do not match this kernel/arch/config for any modules.
This indicates that it should not be built.
",
        );
    }
    // No failure of a kernel's installation.
    root.says(
        "/etc/kernel/postinst.d/dkms $K",
        "\
$SIGNING

Autoinstall of module r8169/2.2LK for kernel $K ($A)
Warning: The /var/lib/dkms/r8169/2.2LK/$K/$A/dkms.conf
for module r8169/2.2LK includes BUILD_EXCLUSIVE directives
which do not match this kernel/arch/config for any modules.
This indicates that it should not be built.

Autoinstall on $K was skipped for module(s) r8169.
",
    );
    root.says("dkms status", "r8169/2.2LK: added\n");
}

#[test]
fn r8169_comes_with_a_new_kernel_and_ixgbe_which_did_not_ask_for_it_does_not() {
    let mut root = Root::new();
    root.source("r8169-2.2LK");
    root.source("ixgbe-3.12.6");
    root.sh("dkms generate_mok; dkms add r8169/2.2LK && dkms add ixgbe/3.12.6");
    root.says("dkms status", "ixgbe/3.12.6: added\nr8169/2.2LK: added\n");

    // As the package of the kernel's image does.
    root.says(
        "DEB_MAINT_PARAMS='configure ' run-parts --report --exit-on-error --regex=dkms \
         --arg=$K --arg=/boot/vmlinuz-$K /etc/kernel/postinst.d",
        "\
/etc/kernel/postinst.d/dkms:
$SIGNING

Autoinstall of module r8169/2.2LK for kernel $K ($A)
Applying patch r8169-8.04.1.patch... done.
Building module(s)... done.
Signing module /var/lib/dkms/r8169/2.2LK/build/r8169.ko
Found pre-existing /lib/modules/$K/kernel/drivers/net/ethernet/realtek/r8169.ko, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/r8169.ko
Running depmod... done.

Autoinstall on $K succeeded for module(s) r8169.
",
    );
    root.says(
        "dkms status",
        "\
ixgbe/3.12.6: added
r8169/2.2LK, $K, $A: installed (Original modules exist)
",
    );
    // Once is enough.
    root.says("/etc/kernel/postinst.d/dkms $K /boot/vmlinuz-$K", "");
}

#[test]
fn ixgbe_is_registered_by_its_directory_whatever_its_conf_calls_it() {
    let mut root = Root::new();
    root.source("ixgbe-3.12.6");
    root.sh("dkms generate_mok");

    root.says(
        "dkms add -m ixgbe -v 3.12.6",
        "\
Deprecated feature: REMAKE_INITRD (/usr/src/ixgbe-3.12.6/dkms.conf)
Creating symlink /var/lib/dkms/ixgbe/3.12.6/source -> /usr/src/ixgbe-3.12.6
",
    );
    root.says(
        "dkms build -m ixgbe -v 3.12.6",
        "\
Deprecated feature: REMAKE_INITRD (/var/lib/dkms/ixgbe/3.12.6/source/dkms.conf)
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/ixgbe/3.12.6/build/src/ixgbe.ko
",
    );
    root.says(
        "dkms install -m ixgbe -v 3.12.6",
        "\
Deprecated feature: REMAKE_INITRD (/var/lib/dkms/ixgbe/3.12.6/source/dkms.conf)
Found pre-existing /lib/modules/$K/kernel/drivers/net/ethernet/intel/ixgbe/ixgbe.ko, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/ixgbe.ko
Running depmod... done.
",
    );
    root.says("dkms status ixgbe/3.12.6", "ixgbe/3.12.6, $K, $A: installed (Original modules exist)\n");
    root.says(
        "grep '^# command' /var/lib/dkms/ixgbe/3.12.6/$K/$A/log/make.log | sed 's/-j[0-9]*/-jN/'",
        "# command: make -jN KERNELRELEASE=$K -C src/ KERNELDIR=/lib/modules/$K/build\n",
    );
}
