// SPDX-License-Identifier: GPL-2.0-or-later

//! Modules that the machine boots by: they do not go where nothing takes their place, and no kernel becomes the default
//! without them.

use crate::support::{Layer, Root};

/// A machine with two kernels and no module by the name of what / of a throwaway root is.
fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    // Nobody boots them.
    root.write("/usr/sbin/update-initramfs", "#!/bin/sh");
    root.sh("dkms generate_mok; mkdir -p /lib/modules/$OLD/kernel");
    root.sh("find /lib/modules -name 'overlay.ko*' -delete; depmod $OLD; depmod $K");
    root
}

/// Makes /root/NAME-VERSION.deb of a module NAME that is built in no time.
fn package(root: &mut Root, name: &str, version: &str, conf: &str) {
    let at = format!("{name}-{version}");
    let source = format!("/root/{at}/usr/src/{name}-{version}");
    root.write(
        &format!("{source}/dkms.conf"),
        &format!(
            "PACKAGE_NAME={name}\nPACKAGE_VERSION={version}\nBUILT_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates\n\
             MAKE=true\nAUTOINSTALL=yes\n{conf}"
        ),
    );
    root.sh(&format!("xz -dcf /lib/modules/$K/kernel/drivers/net/nlmon.ko* >{source}/{name}.ko"));
    root.pack(&at, &format!("{name}-dkms"), version, &format!("{name}/{version}"));
}

/// The kernels for which modprobe finds a module.
fn kernels_with(module: &str) -> String {
    format!("for k in $OLD $K; do if modprobe -n -q -S $k {module}; then echo $k; fi; done")
}

const BOTH: &str = "$OLD\n$K\n";
const EXCLUDED: &str = "BUILD_EXCLUSIVE_KERNEL=^9";

/// The new version is not meant for the kernel, or for nobody, or there is none.
#[test]
fn what_the_root_file_system_stands_on_outlives_its_package() {
    for conf in [EXCLUDED, "AUTOINSTALL=", "none"] {
        let mut root = root();
        package(&mut root, "overlay", "1", "");
        package(&mut root, "overlay", "2", conf);
        if conf == "none" {
            root.sh("cd /root/overlay-2 && rm -r usr DEBIAN/p* && dpkg-deb --build . /root/overlay-2.deb");
        }
        root.sh("dpkg -i /root/overlay-1.deb");
        let said = root.sh("dpkg -i /root/overlay-2.deb 2>&1");
        let stays = root.expand(
            "Warning: overlay/1 stays on kernel $K ($A): this machine boots by its overlay, and nothing takes its place.\n",
        );
        assert_eq!(said.matches(&stays).count(), 1, "{said}");
        root.says(&kernels_with("overlay"), BOTH);
        let failed = if conf == EXCLUDED { "2\n" } else { "0\n" };
        root.says("dkms status --failed | grep -c 'overlay/2 for kernel .* is not meant for'; true", failed);
        // Until the kernel has one of its own.
        root.sh(
            "cp /lib/modules/$K/kernel/drivers/net/nlmon.ko /lib/modules/$K/kernel/overlay.ko; /usr/lib/dkms/settle",
        );
        root.says("ls /lib/modules/*/updates/dkms", "overlay.ko\n");
        root.says(&kernels_with("overlay"), BOTH);
    }
}

#[test]
fn what_is_called_critical_outlives_its_package() {
    let mut root = root();
    root.sh("echo critical_modules=foo >/etc/dkms/framework.conf.d/critical.conf");
    package(&mut root, "foo", "1", "");
    package(&mut root, "foo", "2", EXCLUDED);
    root.sh("dpkg -i /root/foo-1.deb");
    assert_eq!(root.run("dpkg -i /root/foo-2.deb").code, 1);
    root.says(&kernels_with("foo"), BOTH);
    root.sh("rm /etc/dkms/framework.conf.d/critical.conf; dpkg --configure -a");
    root.says(&kernels_with("foo"), "");
}

#[test]
fn what_is_called_critical_outlives_its_kernels_headers() {
    let mut root = root();
    root.sh("echo critical_modules=foo >/etc/dkms/framework.conf.d/critical.conf");
    package(&mut root, "foo", "1", "");
    root.sh("dpkg -i /root/foo-1.deb");
    root.sh("DEB_MAINT_PARAMS='upgrade 1 2' /etc/kernel/preinst.d/dkms $K");
    root.sh("echo BUILD_EXCLUSIVE_KERNEL=^9 >/etc/dkms/foo.conf");
    assert_eq!(root.run("/etc/kernel/postinst.d/dkms $K").code, 1);
    root.sh("/usr/lib/dkms/settle");
    root.says(&kernels_with("foo"), BOTH);
}

#[test]
fn a_module_whose_successor_failed_serves_on_whatever_is_wanted_then() {
    let mut root = root();
    package(&mut root, "foo", "1", "");
    package(&mut root, "foo", "2", "MAKE=false");
    root.sh("dpkg -i /root/foo-1.deb; dpkg -i /root/foo-2.deb");
    root.sh("echo AUTOINSTALL= >/etc/dkms/foo.conf; /etc/kernel/postinst.d/dkms $K");
    root.sh("dpkg-trigger --by-package=foo-dkms /usr/src; dpkg --configure -a");
    root.says(&kernels_with("foo"), BOTH);
}

#[test]
fn who_takes_our_place_finds_what_the_machine_boots_by() {
    let mut root = root();
    for name in ["foo", "overlay"] {
        package(&mut root, name, "1", "");
        package(&mut root, name, "2", "MAKE=false");
        root.sh(&format!("dpkg -i /root/{name}-1.deb; dpkg -i /root/{name}-2.deb"));
    }
    let said = root.sh("dpkg --force-depends -r dkms-rs 2>&1");
    assert!(said.contains(&root.expand("overlay/1 stays on kernel $OLD")), "{said}");
    root.says(&kernels_with("foo"), "");
    root.says(&kernels_with("overlay"), BOTH);
}

#[test]
fn what_the_root_file_system_stands_on_is_installed_whatever_its_package_thinks() {
    let mut root = root();
    root.quick("overlay", "AUTOINSTALL=");
    root.sh("dkms add overlay/1; dkms autoinstall -k $K; dkms status overlay/1 | grep ': added'");
    root.sh("/etc/kernel/postinst.d/dkms $K; dkms status overlay/1 -k $K | grep ': installed'");
    // Where the kernel has one, it is for its package to say.
    root.sh("dkms unbuild overlay/1 -k $K; cp /lib/modules/$K/kernel/drivers/net/nlmon.ko /lib/modules/$K/kernel/overlay.ko");
    root.sh("depmod $K; /etc/kernel/postinst.d/dkms $K; dkms status overlay/1 | grep ': added'");
}

/// It is called otherwise than its module, which is known by what was built.
#[test]
fn a_module_whose_conf_cannot_be_read_is_critical_all_the_same() {
    let mut root = root();
    root.quick("foo", "DEST_MODULE_NAME=overlay\nAUTOINSTALL=yes");
    root.sh("dkms install foo/1 -k $K");
    let hook = "/etc/kernel/postinst.d/dkms $OLD 2>&1";
    let reason =
        root.expand("This machine may not boot kernel $OLD without foo/1: its root file system stands on overlay.\n");
    for damage in ["chmod o+w /usr/src/foo-1", "mv /usr/src/foo-1 /srv"] {
        root.sh(damage);
        let output = root.run(hook);
        assert!(output.code == 1 && output.text.contains(&reason), "{damage}: {output:?}");
    }
    // As when it is configured: of the old one the files are there, and nothing of the new one.
    root.sh("mv /srv/foo-1 /usr/src; dkms remove foo/1 --all; chmod o-w /usr/src/foo-1");
    root.sh("dkms install foo/1 -k $OLD; chmod o+w /usr/src/foo-1");
    let output = root.run("/usr/lib/dkms/common.postinst foo 1 /usr/share/foo '' 1 2>&1");
    let reason =
        root.expand("This machine may not boot kernel $K without foo/1: its root file system stands on overlay.\n");
    assert!(output.code != 0 && output.text.contains(&reason), "{output:?}");
}

#[test]
fn a_module_that_lacks_headers_is_critical_by_its_conf() {
    let mut root = root();
    root.quick("foo", "DEST_MODULE_NAME=overlay\nAUTOINSTALL=yes");
    root.sh("mv /lib/modules/$K/build /srv");
    let output = root.run("/usr/lib/dkms/common.postinst foo 1 /usr/share/foo '' '' 2>&1");
    let reason = root.expand("without foo/1: its root file system stands on overlay.\n");
    assert!(output.code != 0 && output.text.contains(&reason), "{output:?}");
}

#[test]
fn the_ways_out_are_out() {
    let mut root = root();
    root.quick("bad", "MAKE=false\nAUTOINSTALL=yes");
    let said = root.run(
        "echo critical_modules=bad >/etc/dkms/framework.conf.d/zzz.conf; /usr/lib/dkms/common.postinst bad 1 '' '' ''",
    );
    let purge = root.expand("  without that kernel:     apt purge linux-image-$OLD linux-image-$K\n");
    assert!(said.code == 10 && said.text.contains(&purge), "{said:?}");
    // It has the last word, each time.
    for name in ["bad", "'bad other'"] {
        root.sh(&format!("sed -i \"s/=.*/={name}/\" /etc/dkms/framework.conf.d/z*.conf"));
        let said = root.run("/etc/kernel/postinst.d/dkms $K");
        let way =
            said.text.lines().find_map(|line| line.strip_prefix("  to boot it all the same: ")).unwrap_or_default();
        assert_eq!(said.code, 1, "{said:?}");
        root.sh(way);
        root.sh("/etc/kernel/postinst.d/dkms $K");
    }
    root.says("cd /etc/dkms/framework.conf.d; ls z*", "zzz.conf\nzzz.critical.conf\n");
}

/// As apt configures a kernel that comes in one run with a new version of the module.
#[test]
fn a_kernel_that_comes_before_its_module_is_configured_has_it() {
    for (name, critical) in [("foo", "foo"), ("overlay", "")] {
        let mut root = root();
        root.sh(&format!("echo critical_modules={critical} >/etc/dkms/framework.conf.d/c.conf"));
        let only_old = root.expand("MAKE=\"test $kernelver = $OLD\"");
        for (version, conf) in [("1", ""), ("2", ""), ("3", &only_old)] {
            package(&mut root, name, version, conf);
        }
        let before = "mv /lib/modules/$K/build /srv; dpkg -P NAME-dkms; dpkg -i /root/NAME-1.deb; mv /srv/build /lib/modules/$K; \
                      dpkg --unpack /root/NAME-VERSION.deb; dkms status NAME";
        let before = |version| before.replace("NAME", name).replace("VERSION", version);
        let hook = "/etc/kernel/postinst.d/dkms $K 2>&1";
        root.run(&before("2"));
        let said = root.sh(hook);
        assert!(!said.contains("Warning: critical"), "{said}");
        root.says(&kernels_with(name), BOTH);
        root.sh("dpkg --configure -a");
        root.says(&format!("dkms status | grep -c '{name}/2.*: installed'; dpkg --audit"), "2\n");

        root.run(&before("3"));
        let said = root.run(hook);
        let reason = root.expand(&format!("This machine may not boot kernel $K without {name}/3: "));
        assert!(said.code == 1 && said.text.contains(&reason), "{said:?}");
        assert!(!said.text.contains("Warning: critical"), "{said:?}");
    }
    // What the machine boots without waits for its package.
    let mut root = root();
    package(&mut root, "foo", "1", "");
    package(&mut root, "foo", "2", "");
    root.sh("dpkg -i /root/foo-1.deb; dpkg --unpack /root/foo-2.deb; /etc/kernel/postinst.d/dkms $K");
    root.says("dkms status", "");
}

/// What others could have written says nothing; what is root's does.
#[test]
fn settings_that_others_can_change_take_no_module_off_the_list() {
    let mut root = root();
    root.quick("foo", "AUTOINSTALL=yes\nMAKE=false");
    root.sh("dkms add foo/1; cd /etc/dkms/framework.conf.d; echo critical_modules=foo >critical.conf; echo '# none' >other.conf");
    root.sh("chmod 666 /etc/dkms/framework.conf.d/other.conf");
    for (files, code) in [("critical.conf", 1), ("other.conf", 0)] {
        let said = root.run("/etc/kernel/postinst.d/dkms $K 2>&1");
        let weak = "/etc/dkms/framework.conf.d/other.conf can be changed by others than root";
        assert!(said.code == code && said.text.contains(weak), "{files}: {said:?}");
        assert_eq!(said.text.contains("This machine may not boot"), code == 1, "{said:?}");
        root.sh("rm -f /etc/dkms/framework.conf.d/critical.conf; echo critical_modules=foo >>/etc/dkms/framework.conf.d/other.conf");
    }
}

#[test]
fn no_kernel_is_to_go_that_an_older_version_serves() {
    let mut root = root();
    root.write("/etc/dkms/framework.conf.d/critical.conf", "critical_modules=foo");
    package(&mut root, "foo", "1", "");
    package(&mut root, "foo", "2", "MAKE=false");
    root.sh("dpkg -i /root/foo-1.deb");
    let said = root.run("dpkg -i /root/foo-2.deb 2>&1");
    let boots =
        root.expand("This machine boots kernel $K by what is left of an older version until there is foo/2: foo is");
    assert!(said.code == 1 && said.text.contains(&boots) && !said.text.contains("apt purge"), "{said:?}");
    root.says(&kernels_with("foo"), BOTH);
    // One that has none is named alone.
    root.sh("rm -r /lib/modules/$OLD/updates; depmod $OLD");
    let said = root.run("dpkg --configure foo-dkms 2>&1");
    let purge = root.expand("apt purge linux-image-$OLD\n");
    assert!(said.code == 1 && said.text.contains(&boots) && said.text.contains(&purge), "{said:?}");
    root.sh("echo critical_modules=none >/etc/dkms/framework.conf.d/critical.conf && dpkg --configure -a");
    root.says("dpkg --audit; dkms status --failed | grep -c 'foo/2 for'", "2\n");
}
