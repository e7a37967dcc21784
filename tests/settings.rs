// SPDX-License-Identifier: GPL-2.0-or-later

//! framework.conf, and the other files by which an administrator says what he wants.

use crate::support::{Layer, Root};

fn root(layer: Layer) -> Root {
    let mut root = Root::with(layer, &[]);
    root.sh("dkms generate_mok");
    root.quick("quick", "");
    root.sh("dkms add quick/1");
    root
}

fn set(root: &mut Root, settings: &str) {
    root.write("/etc/dkms/framework.conf.d/mine.conf", settings);
}

const BUILT: &str = "\
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
";
const INSTALLED: &str = "Installing /lib/modules/$K/updates/dkms/quick.ko\nRunning depmod... done.\n";
const UNINSTALLED: &str = "\
Module quick/1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/quick.ko
Running depmod... done.
";

#[test]
fn a_command_is_run_after_each_change() {
    let mut root = root(Layer::under_test());
    set(&mut root, "post_transaction='echo for $kernelver | tee -a /srv/ran'");
    let ran = "Executing post-transaction command... done.\n";
    root.says("dkms build quick/1", BUILT);
    root.says("dkms install quick/1", &format!("{INSTALLED}{ran}"));
    root.says(
        "grep -v elapsed /var/lib/dkms/post_transaction.log; stat -c %a /var/lib/dkms/post_transaction.log",
        "
Executing post-transaction command
# command: echo for $K | tee -a /srv/ran
for $K

# exit code: 0
----------------------------------------------------------------
644
",
    );
    // Also where there was nothing to change.
    root.says(
        "dkms install quick/1",
        &format!(
            "Module quick/1 already installed on kernel $K ($A), skip. You may override by specifying --force.\n{ran}"
        ),
    );
    root.says("dkms uninstall quick/1", &format!("{UNINSTALLED}{ran}"));
    root.says(
        "dkms unbuild quick/1",
        &format!("Module quick/1 is not installed for kernel $K ($A). Skipping...\n{ran}"),
    );
    root.says("dkms remove quick/1 --all", &format!("Deleting module quick/1 completely from the DKMS tree.\n{ran}"));
    root.sh("! dkms remove quick/1 && ! dkms install nosuch/1 && dkms add quick/1 && dkms status");
    // --all was for no kernel.
    root.says("cat /srv/ran; rm /srv/ran", "for $K\nfor $K\nfor $K\nfor $K\nfor\n");
    root.says("grep -c command: /var/lib/dkms/post_transaction.log", "1\n");

    // Its failure is told, no more.
    set(&mut root, "post_transaction='false'");
    root.says(
        "dkms install quick/1",
        &format!(
            "{BUILT}{INSTALLED}Executing post-transaction command...(bad exit status: 1)\nFailed command:\nfalse\n"
        ),
    );
    root.fails("dkms uninstall quick/1 --verbose | tail -n 2; exit ${PIPESTATUS[0]}", 0, "false\n(bad exit status: 1)");
    root.sh("post_transaction='touch /srv/too' dkms install quick/1; test ! -e /srv/too");
    root.sh("rm /etc/dkms/framework.conf.d/mine.conf; post_transaction='touch /srv/too' dkms uninstall quick/1; test -e /srv/too");
}

/// Of several kernels the first.
#[test]
fn that_command_is_told_what_was_changed() {
    let mut root = root(Layer::under_test());
    let told = "$action $module $module_version $kernelver $arch";
    set(&mut root, &format!("post_transaction='echo {told} | tee -a /srv/ran'"));
    root.sh("dkms install quick/1 -k $K -k $OLD && dkms uninstall quick/1 -k $OLD && dkms remove quick/1 --all");
    root.says("cat /srv/ran", "install quick 1 $K $A\nuninstall quick 1 $OLD $A\nremove quick 1 $OLD $A\n");
    // Debian's tells programs nothing.
    if root.layer == Layer::Ours {
        set(&mut root, "post_transaction=/srv/own");
        root.write("/srv/own", &format!("#!/bin/sh\necho {told} >/srv/ran"));
        root.sh("chmod 755 /srv/own; dkms install quick/1 -k $OLD -k $K");
        root.says("cat /srv/ran", "install quick 1 $OLD $A\n");
    }
}

#[test]
fn that_command_runs_for_each_kernel_of_a_package_that_is_configured() {
    let mut root = root(Layer::under_test());
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh("dkms remove quick/1 --all");
    set(
        &mut root,
        "autoinstall_all_kernels=yes\npost_transaction='echo $action $module/$module_version $kernelver >>/srv/ran'",
    );
    let ran = "Running depmod... done.\nExecuting post-transaction command... done.\n";
    let configured = "/usr/lib/dkms/common.postinst quick 1 /usr/share/quick-dkms '' ''";
    let said = root.sh(configured);
    assert_eq!(said.matches(&format!("{ran}\nBuilding initial module")).count(), 1, "{said}");
    assert!(said.ends_with(ran), "{said}");
    let installed = "install quick/1 $OLD\ninstall quick/1 $K\n";
    root.says("cat /srv/ran; rm /srv/ran", installed);
    let said = root.sh(configured);
    assert!(said.contains("the DKMS tree.\nExecuting post-transaction command... done.\nLoading new"), "{said}");
    root.says("cat /srv/ran; rm /srv/ran", &format!("remove quick/1 $OLD\n{installed}"));
    // Where nothing comes of it for a kernel, it does not run.
    root.sh(&format!("echo BUILD_EXCLUSIVE_KERNEL=^$OLD >>/usr/src/quick-1/dkms.conf; {configured}"));
    root.says("cat /srv/ran", "remove quick/1 $OLD\ninstall quick/1 $OLD\n");
}

#[test]
fn the_hooks_of_kernels_leave_that_command_alone_but_autoinstall_runs_it() {
    // Debian's says so of autoinstall, and does not do it.
    let mut root = root(Layer::Ours);
    set(&mut root, "post_transaction='echo for $kernelver >>/srv/ran'");
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh("dkms autoinstall && cat /srv/ran && rm /srv/ran");
    root.sh("dkms kernel_prerm -k $K && dkms kernel_postinst -k $K && /etc/kernel/prerm.d/dkms $K && /etc/kernel/postinst.d/dkms $K");
    root.says("ls /srv/ran 2>/dev/null; dkms status", "quick/1, $K, $A: installed\n");
}

#[test]
fn builds_have_the_environment_that_is_wanted_for_them() {
    // dkms 3.2.2 does not know of it.
    let mut root = root(Layer::Ours);
    root.quick("quick", "MAKE=./script\nPRE_BUILD=script");
    root.write("/usr/src/quick-1/script", "#!/bin/sh\necho \"seen: $EXPORTED, $LOCAL, $CC, $CFLAGS\"");
    root.write("/root/environment", "export EXPORTED='it is'; LOCAL=not; echo unheard\nexport CC=mycc");
    root.sh("chmod 755 /usr/src/quick-1/script");
    let log = "grep -E '^(seen|unheard)' /var/lib/dkms/quick/1/$K/$A/log/make.log";
    let seen = "seen: it is, , mycc, \n".repeat(2);
    root.sh("build_environment=/root/environment CC=theirs CFLAGS=-O9 dkms build quick/1");
    root.says(log, &seen);
    set(&mut root, "build_environment='/root/$nothing/environment'");
    root.sh("dkms build quick/1 --force");
    root.says(log, &seen);
    // One that is not there is told, no more.
    set(&mut root, "");
    let output = root.run("build_environment=/nowhere dkms build quick/1 --force");
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.text.contains("/nowhere"), "{output:?}");
}

#[test]
fn modules_can_be_links() {
    let mut root = root(Layer::under_test());
    let link = "readlink /lib/modules/$K/updates/dkms/quick.ko";
    let target = "/var/lib/dkms/quick/1/$K/$A/module/quick.ko\n";
    root.says("dkms install quick/1 --symlink-modules", &format!("{BUILT}{INSTALLED}"));
    root.says(link, target);
    root.says(
        "dkms status; modinfo -k $K -n quick",
        "quick/1, $K, $A: installed\n/lib/modules/$K/updates/dkms/quick.ko\n",
    );
    root.says("dkms uninstall quick/1", UNINSTALLED);
    root.says("ls -d /lib/modules/$K/updates/dkms 2>/dev/null; ls /var/lib/dkms/quick/1/$K/$A/module", "quick.ko\n");
    set(&mut root, "symlink_modules=yes");
    root.says("dkms install quick/1", INSTALLED);
    root.says(link, target);
    // Nothing else may tell that it is ours.
    root.sh("rm /var/lib/dkms/quick/kernel-*; dkms install quick/1");
    root.says(
        "dkms status; ls -d /var/lib/dkms/quick/original_module 2>/dev/null || :",
        "quick/1, $K, $A: installed\n",
    );
    // A copy takes its place.
    set(&mut root, "");
    root.sh("dkms install quick/1 --force");
    root.says("stat -c %F /lib/modules/$K/updates/dkms/quick.ko", "regular file\n");
}

#[test]
fn modules_can_be_loaded_where_their_kernel_runs() {
    let mut root = root(Layer::under_test());
    root.sh("mkdir -p /run/systemd/system");
    root.write("/usr/local/sbin/systemctl", "#!/bin/sh\necho systemctl $* >>/srv/loaded");
    // Of what it was told only the options, in order.
    root.write(
        "/usr/local/sbin/modprobe",
        "#!/bin/bash\nfor word; do [[ $word != -* ]] || options+=${word#-}; done\n\
         echo modprobe $(grep -o . <<<$options | sort | tr -d '\\n') >>/srv/loaded",
    );
    root.sh("chmod 755 /usr/local/sbin/*");
    let loaded = "cat /srv/loaded 2>/dev/null; rm -f /srv/loaded";
    // Quietly, all that devices ask for, unless it is forbidden.
    let all = "modprobe abq\nsystemctl restart systemd-modules-load.service\n";
    root.sh("cat /sys/devices/*/modalias /sys/devices/*/*/modalias | grep .");
    root.sh("dkms install quick/1");
    root.says(loaded, "");
    root.sh("dkms install quick/1 --force --modprobe-on-install");
    root.says(loaded, all);
    root.sh("dkms uninstall quick/1 --modprobe-on-install && dkms install quick/1 -k $OLD --modprobe-on-install");
    root.says(loaded, "");
    for set_it in ["export modprobe_on_install=1", "echo modprobe_on_install=yes >/etc/dkms/framework.conf.d/mine.conf"]
    {
        root.sh(&format!("{set_it}; dkms install quick/1 --force"));
        root.says(loaded, all);
    }
}

#[test]
fn modules_that_are_listed_are_forced() {
    let mut root = root(Layer::under_test());
    // The kernel has the very same.
    root.quick("quick", "DEST_MODULE_NAME=nlmon\nSTRIP=no\nBUILT_MODULE_NAME=quick");
    root.sh("echo try_sign_modules=false >/etc/dkms/framework.conf.d/mine.conf; sign_file=/nowhere dkms build quick/1");
    let kernels = root.sh("modinfo -k $K -n nlmon");
    let kernels = kernels.trim_end();
    root.fails(
        "dkms install quick/1",
        6,
        &format!(
            "Module {kernels} already installed (unversioned module), override by specifying --force\n\nError! Installation aborted.\n"
        ),
    );
    let installed = format!(
        "\
Found pre-existing {kernels}, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/nlmon.ko
Running depmod... done.
"
    );
    root.write("/usr/share/dkms/modules_to_force_install/other", "quicker\nqui ck");
    for (words, told) in [("other\nquick another", "installation"), ("quick_version-override", "version override")] {
        root.sh("! dkms install quick/1");
        root.write("/usr/share/dkms/modules_to_force_install/mine", words);
        root.says("dkms install quick/1", &format!("Forcing {told} of quick\n{installed}"));
        root.sh("dkms uninstall quick/1; rm /usr/share/dkms/modules_to_force_install/mine");
    }
}

#[test]
fn nothing_is_installed_by_itself_where_that_is_not_wanted() {
    let mut root = root(Layer::Ours);
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh("touch /etc/dkms/no-autoinstall");
    for command in [
        "dkms autoinstall",
        "dkms kernel_postinst -k $K",
        "/etc/kernel/postinst.d/dkms $K",
        "/usr/lib/dkms/dkms_autoinstaller start",
    ] {
        root.says(command, "Automatic installation of modules has been disabled.\n");
        root.says("dkms status", "quick/1: added\n");
    }
    // That one has always had words of its own.
    let postinst = "/usr/lib/dkms/common.postinst quick 1 /usr/share/quick '' ''";
    root.says(postinst, "autoinstall for dkms modules has been disabled.\n");
    root.says("dkms status", "quick/1: added\n");
    // Who says it himself gets it.
    root.says("dkms install quick/1", &format!("{BUILT}{INSTALLED}"));
}

#[test]
fn modules_and_temporary_files_can_have_other_places() {
    let mut root = root(Layer::under_test());
    let other = INSTALLED.replace("updates/dkms", "mine");
    root.says("ADDON_MODULES_DIR=mine dkms install quick/1", &format!("{BUILT}{other}"));
    root.says("ADDON_MODULES_DIR=mine dkms unbuild quick/1", &UNINSTALLED.replace("updates/dkms", "mine"));
    root.write("/etc/sysconfig/module-init-tools", "ADDON_MODULES_DIR=mine");
    root.says("dkms install quick/1", &format!("{BUILT}{other}"));
    root.sh("dkms unbuild quick/1; rm /etc/sysconfig/module-init-tools; mkdir /srv/tmp");

    root.quick("quick", "MAKE=\"echo at $tmp_location\"");
    for command in [
        "TMPDIR=/srv/tmp dkms build quick/1",
        "echo tmp_location=/srv/tmp >/etc/dkms/framework.conf.d/mine.conf; dkms build quick/1",
    ] {
        root.sh(&format!("{command}; grep -q '^at /srv/tmp$' /var/lib/dkms/quick/1/$K/$A/log/make.log"));
        root.says("ls -A /srv/tmp; dkms unbuild quick/1 >/dev/null", "");
    }
    root.sh("rmdir /srv/tmp; dkms build quick/1");
}
