// SPDX-License-Identifier: GPL-2.0-or-later

//! What comes after the modules: depmod, once for each kernel and command, and the initramfs, once for each kernel and
//! run of dpkg.

use crate::support::{Layer, Root};

/// Two kernels with modules.dep, three modules, and a depmod that writes down how it was called.
fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    // A kernel of which there are only headers has a module of its own now.
    root.sh("mkdir /lib/modules/$OLD/kernel && cp /lib/modules/$K/kernel/drivers/net/nlmon.ko* /lib/modules/$OLD/kernel && depmod $OLD");
    root.quick("first", "AUTOINSTALL=yes\nDEST_MODULE_NAME=apple-gmux");
    root.quick("second", "AUTOINSTALL=yes");
    root.quick("third", "AUTOINSTALL=yes\nBUILD_DEPENDS=second");
    root.write(
        "/usr/local/sbin/depmod",
        "#!/bin/sh\necho \"$@\" | sed 's|/tmp/dkms[^/]*|TMP|' >>/srv/calls\nexec /sbin/depmod \"$@\"",
    );
    root.sh("chmod 755 /usr/local/sbin/depmod");
    root
}

/// It goes on for a moment when what called it is ended, and must not write over what the next one wrote.
#[test]
fn a_depmod_that_is_left_behind_is_waited_for() {
    for signal in ["TERM", "KILL"] {
        let mut root = root();
        root.sh("dkms build first/1 -k $K; dkms build second/1 -k $K");
        root.write(
            "/usr/local/sbin/depmod",
            "#!/bin/sh\n[ -e /srv/slow ] || exec /sbin/depmod \"$@\"\nrm /srv/slow\ncp -r /lib/modules/$K /srv/was\n\
             touch /srv/runs\nsleep 2\ncp /srv/was/modules.* /lib/modules/$K\n",
        );
        root.sh("sed -i \"s/\\$K/$K/g\" /usr/local/sbin/depmod; touch /srv/slow");
        root.sh(&format!(
            "dkms install first/1 -k $K & until [ -e /srv/runs ]; do sleep 0.05; done; kill -{signal} $!; wait $!; \
             dkms install second/1 -k $K"
        ));
        root.sh("sleep 3; modprobe -n --set-version $K --show-depends second");
        root.says("dkms status second", "second/1, $K, $A: installed\n");
    }
}

/// What runs on for long when its caller is killed would block who comes next for as long.
#[test]
fn a_depmod_goes_with_who_called_it() {
    let mut root = root();
    root.sh("dkms build first/1 -k $K; dkms build second/1 -k $K");
    root.write(
        "/usr/local/sbin/depmod",
        "#!/bin/sh\n[ -e /srv/runs ] || { touch /srv/runs; exec sleep 1000; }\nexec /sbin/depmod \"$@\"",
    );
    root.sh("dkms install first/1 -k $K & until [ -e /srv/runs ]; do sleep 0.05; done; kill -KILL $!; wait $!; timeout 60 dkms install second/1 -k $K");
    root.says("pgrep -x sleep; dkms status second", "second/1, $K, $A: installed\n");
}

/// One kernel has a System.map, the other one has not.
const FOR_K: &str = "-a $K -F /boot/System.map-$K\n";
const FOR_OLD: &str = "-a $OLD\n";

/// The kernel's own module, for K alone there is one, is to be found before the one in its place goes.
const FOR_ORIGINAL: &str = "-C TMP/dkms.conf -a $K -F /boot/System.map-$K\n";

/// Runs a command that calls depmod like this, after which modules.dep is what depmod makes of what is there.
#[track_caller]
fn calls(root: &mut Root, command: &str, expected: &str) {
    root.sh(&format!("rm -f /srv/calls; touch /srv/calls; {command}"));
    root.says("cat /srv/calls", expected);
    for kernel in ["$K", "$OLD"].iter().filter(|kernel| expected.contains(*kernel)) {
        root.sh(&format!(
            "cd /lib/modules/{kernel} && cp modules.dep /srv && /sbin/depmod {kernel} && cmp modules.dep /srv/modules.dep"
        ));
    }
}

#[test]
fn depmod_runs_once_for_each_kernel_and_command() {
    let both = &format!("{FOR_OLD}{FOR_K}");
    let both_go = &format!("{FOR_OLD}{FOR_ORIGINAL}");
    let mut root = root();
    for (command, expected) in [
        ("dkms add first/1; dkms build first/1 -k $OLD -k $K", ""),
        ("dkms install first/1", FOR_K),
        ("dkms install first/1", ""),
        ("dkms install first/1 --force", FOR_K),
        ("dkms build first/1 --force", ""),
        ("dkms install first/1 -k $OLD -k $K --force", both),
        ("dkms uninstall first/1", FOR_ORIGINAL),
        ("dkms uninstall first/1", ""),
        ("dkms unbuild first/1", ""),
        ("dkms install first/1", FOR_K),
        ("dkms unbuild first/1", FOR_ORIGINAL),
        ("dkms install first/1 -k $K --no-depmod && depmod $K; >/srv/calls", ""),
        ("dkms uninstall first/1 -k $K --no-depmod && depmod $K; >/srv/calls", ""),
        ("dkms install first/1", FOR_K),
        ("dkms remove first/1 --all", both_go),
        // A kernel that is not there has no modules.dep.
        ("dkms add first/1; mkdir /lib/modules/x; ! dkms install first/1 -k x; rmdir /lib/modules/x", ""),
        ("dkms add second/1; dkms add third/1; dkms autoinstall", FOR_K),
        ("dkms autoinstall", ""),
        ("dkms kernel_postinst -k $OLD", FOR_OLD),
        ("dkms kernel_prerm -k $K", FOR_ORIGINAL),
        ("dkms kernel_prerm -k $K", ""),
        ("dkms autoinstall -k $K && dkms kernel_preinst -k $K", &format!("{FOR_K}{FOR_ORIGINAL}")),
    ] {
        calls(&mut root, command, expected);
    }
}

#[test]
fn depmod_runs_once_for_each_kernel_and_hook() {
    let both = &format!("{FOR_OLD}{FOR_K}");
    let both_go = &format!("{FOR_OLD}{FOR_ORIGINAL}");
    let mut root = root();
    root.sh("for m in first second third; do dkms add $m/1 || exit; done");
    for (command, expected) in [
        ("/etc/kernel/postinst.d/dkms $K", FOR_K),
        ("/etc/kernel/postinst.d/dkms $K", ""),
        ("/etc/kernel/header_postinst.d/dkms $OLD", FOR_OLD),
        ("/etc/kernel/prerm.d/dkms $K", FOR_ORIGINAL),
        ("/usr/lib/dkms/dkms_autoinstaller start $K", FOR_K),
        ("/etc/kernel/preinst.d/dkms $K", FOR_ORIGINAL),
        ("/usr/lib/kernel/install.d/40-dkms.install add $K", FOR_K),
        // The modules of an upgraded kernel stay until their successors are there: nothing changes.
        ("DEB_MAINT_PARAMS='upgrade 1 2' /etc/kernel/preinst.d/dkms $K", ""),
        ("/etc/kernel/postinst.d/dkms $K", FOR_K),
        ("/usr/lib/kernel/install.d/40-dkms.install remove $K", FOR_ORIGINAL),
        // A package is configured, and again after an upgrade.
        ("dkms remove first/1 --all", FOR_OLD),
        ("/usr/lib/dkms/common.postinst first 1 /usr/share/first '' ''", both),
        ("/usr/lib/dkms/common.postinst first 1 /usr/share/first '' 0.9", both),
        ("dkms remove first/1 --all", both_go),
    ] {
        calls(&mut root, command, expected);
    }
}

/// To depmod a directory that it cannot open is an empty one, and it says nothing.
#[test]
fn what_depmod_overlooks_is_not_lost() {
    let mut root = root();
    root.write(
        "/usr/local/sbin/depmod",
        "#!/bin/bash
left=$(cat /srv/blind)
updates=(/lib/modules/*/updates)
if [ $left -gt 0 ]; then echo $((left - 1)) >/srv/blind; mv ${updates[0]} /srv/updates; fi
/sbin/depmod \"$@\"
[ ! -e /srv/updates ] || mv /srv/updates ${updates[0]}",
    );
    let found = |root: &mut Root, module: &str, place: &str| {
        root.says(
            &format!("modprobe -S $K --show-depends {module} | sed -n '$s/insmod \\([^ ]*\\).*/\\1/p' | xargs ls"),
            &format!("/lib/modules/$K/{place}\n"),
        );
    };
    let theirs = "kernel/drivers/platform/x86/apple-gmux.ko";
    root.sh("dkms build first/1 -k $K; dkms build second/1 -k $K");
    root.says(
        "echo 1 >/srv/blind; dkms install second/1 -k $K",
        "Installing /lib/modules/$K/updates/dkms/second.ko\nRunning depmod... done.\n",
    );
    found(&mut root, "second", "updates/dkms/second.ko");
    root.sh("echo 1 >/srv/blind; dkms install first/1 -k $K");
    found(&mut root, "apple-gmux", "updates/dkms/apple-gmux.ko");
    root.sh(&format!("[ ! -e /lib/modules/$K/{theirs} ] && dkms uninstall first/1 -k $K"));
    // Where it never sees ours, theirs has to stay.
    let said = root.sh("echo 9 >/srv/blind; dkms install first/1 -k $K");
    let warning =
        root.expand(&format!("Warning: depmod failed for kernel $K: it still names /lib/modules/$K/{theirs}\n"));
    assert!(said.contains(&warning), "{said}");
    found(&mut root, "apple-gmux", theirs);
    root.says("dkms status first/1", "first/1, $K, $A: built (Original modules exist)\n");
    root.sh("echo 0 >/srv/blind; dkms install first/1 -k $K");
    found(&mut root, "apple-gmux", "updates/dkms/apple-gmux.ko");
    // A module that is none to depmod is installed all the same: so say all the words there are.
    root.sh("dkms uninstall second/1 -k $K && echo 9 >/srv/blind && dkms install second/1 -k $K");
    root.says("dkms status second/1", "second/1, $K, $A: installed\n");
}

/// Old and new lie in one directory then, and depmod may name either.
#[test]
fn a_module_that_is_compressed_in_another_way_is_found_all_the_time() {
    let mut root = root();
    root.sh("cp -r /usr/src/second-1 /usr/src/second-2 && sed -i s/PACKAGE_VERSION=1/PACKAGE_VERSION=2/ /usr/src/second-2/dkms.conf");
    root.sh("cat >/usr/local/sbin/depmod <<'END'\n#!/bin/sh\n/srv/look before; [ ! -e /srv/fail ] || exit 1; /sbin/depmod \"$@\"; /srv/look after\nEND");
    root.write(
        "/srv/look",
        "#!/bin/sh\nfile=$(modprobe -S $K -n --show-depends second | sed -n '$s/insmod \\([^ ]*\\).*/\\1/p')\n\
         case $(head -c 6 \"$file\" | od -An -c | tr -d ' \\n') in 177ELF*) kind=elf ;; 3757zXZ*) kind=xz ;; *) kind=none ;; esac\n\
         echo \"$1 $(basename $file) $kind\" >>/srv/seen",
    );
    let release = root.expand("$K");
    root.sh(&format!("sed -i 's/\\$K/{release}/' /srv/look; chmod +x /srv/look; dkms install second/1 -k $K"));
    root.sh("DPKG_MAINTSCRIPT_NAME=prerm /bin/sh -c 'dkms remove second/1 --all; exit' upgrade; ls /lib/modules/$K/updates/dkms/second.ko");
    // The kernel's own modules are compressed from now on.
    root.sh("rm -f /srv/seen; cd /lib/modules/$K/kernel && xz -k --check=crc32 $(find . -name nlmon.ko) && depmod $K; rm -f /srv/seen; touch /srv/fail");
    root.run("dkms install second/2 -k $K");
    root.sh("/srv/look failed; rm /srv/fail");
    root.sh("dkms install second/2 -k $K; /srv/look end");
    let seen = root.sh("cat /srv/seen");
    assert!(!seen.contains("none") && seen.lines().count() >= 4, "{seen}");
    assert!(seen.ends_with("end second.ko.xz xz\n"), "{seen}");
    root.says("ls /lib/modules/$K/updates/dkms; dkms status second", "second.ko.xz\nsecond/2, $K, $A: installed\n");
}

/// A root in which update-initramfs, which takes its time, only writes down how it was called.
fn with_initramfs() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    root.write(
        "/usr/sbin/update-initramfs",
        "#!/bin/sh\necho \"$@\" >>/srv/initramfs\n[ \"$1\" != -c ] || touch /boot/initrd.img-$3",
    );
    root
}

/// What is in the initramfs, of which a newer one is made.
#[track_caller]
fn refreshes(root: &mut Root, command: &str, expected: &str) {
    root.sh(&format!("rm -f /srv/initramfs; touch /srv/initramfs; {command}"));
    root.says("sort /srv/initramfs; ls -A /var/lib/dkms | grep initramfs; true", expected);
}

#[test]
fn the_initramfs_is_made_once_for_each_kernel_and_run_of_dpkg() {
    let mut root = with_initramfs();
    root.sh("touch /boot/initrd.img-$OLD");
    let apt = |command: &str| format!("apt-get -qq -y {command} acpi-call-dkms bbswitch-dkms tp-smapi-dkms");
    // The newest kernel by the trigger of initramfs-tools, the other one by ours.
    let both = "-u\n-u -k $OLD\n";
    refreshes(&mut root, &apt("install"), both);
    refreshes(&mut root, &apt("reinstall"), both);
    refreshes(&mut root, &apt("remove"), both);
    // A kernel that has none does not get one.
    root.sh("rm /boot/initrd.img-$OLD");
    refreshes(&mut root, &apt("install"), "-u\n");
    // Without dpkg a person decides.
    refreshes(&mut root, "dkms remove $(dkms status acpi-call -k $K | cut -d, -f1) --all", "");
}

#[test]
fn a_kernel_that_comes_makes_its_initramfs_after_its_modules() {
    let mut root = with_initramfs();
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh("apt-get -qq -y purge linux-headers-$OLD && dkms add quick/1");
    // The kernel's own hook comes after ours, and tells of the modules.
    root.write(
        "/usr/sbin/update-initramfs",
        "#!/bin/sh\necho $1 $(cd /lib/modules/$3/updates/dkms && ls) >>/srv/initramfs; touch /boot/initrd.img-$3",
    );
    refreshes(&mut root, "apt-get -qq -y install linux-image-$OLD linux-headers-$OLD", "-c quick.ko\n");
    // The headers' hook builds for a kernel that is still to be configured.
    refreshes(&mut root, "apt-get -qq -y reinstall linux-headers-$OLD linux-image-$OLD", "-c quick.ko\n");
}

/// As on a disk that was full to the last: no room for a mark, nor for what depmod writes.
#[test]
fn what_depmod_was_not_told_of_it_is_told_the_next_time() {
    let mut root = root();
    root.sh("dkms install second/1 -k $K; grep -q second.ko /lib/modules/$K/modules.dep");
    root.sh("rm /lib/modules/$K/updates/dkms/second.ko* /var/lib/dkms/second/kernel-$K-$A");
    calls(&mut root, "dkms uninstall second/1 -k $K", FOR_K);
    root.sh("! grep second.ko /lib/modules/$K/modules.dep");
    calls(&mut root, "dkms uninstall second/1 -k $K", "");
}

#[test]
fn what_depmod_warns_of_is_seen_by_who_wants_to_see_much() {
    let mut root = Root::new();
    root.sh("dkms generate_mok");
    root.quick("quick", "");
    root.write("/usr/local/sbin/depmod", "#!/bin/sh\necho 'depmod: WARNING: odd' >&2\nexec /sbin/depmod \"$@\"");
    root.sh("chmod 755 /usr/local/sbin/depmod; dkms build quick/1");
    root.says("dkms install quick/1 2>&1 >/dev/null", "");
    root.says("dkms install quick/1 --force --verbose 2>&1 >/dev/null | uniq", "depmod: WARNING: odd\n");
}
