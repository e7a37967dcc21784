// SPDX-License-Identifier: GPL-2.0-or-later

//! A kernel that had a working module has one at every moment: while packages and kernels are upgraded, and after a
//! run that was killed.

use crate::support::{Layer, Root};

/// The package apple-gmux-dkms, with maintainer scripts as dh_dkms makes them. They say which module the kernel would
/// load.
fn package(root: &mut Root, version: &str, source: &str) {
    let name = "apple-gmux";
    let at = format!("/root/{version}");
    root.sh(&format!(
        "mkdir -p {at}/DEBIAN {at}/usr/src && cp -r /srv/tests/modules/{name}-0.1 {at}/usr/src/{name}-{version}"
    ));
    root.sh(&format!(
        "cd {at}/usr/src/{name}-{version} && sed -i 's/0\\.1/{version}/' dkms.conf \
         && echo 'MODULE_VERSION(\"{version}\"); {source}' >>{name}.c"
    ));
    root.write(
        &format!("{at}/DEBIAN/control"),
        &format!("Package: {name}-dkms\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\nDepends: dkms\nDescription: a module"),
    );
    root.write(&format!("{at}/DEBIAN/preinst"), "#!/bin/sh\nwhich-module \"preinst $1\"");
    root.write(
        &format!("{at}/DEBIAN/postinst"),
        &format!(
            "#!/bin/sh\nset -e\ncase $1 in\nconfigure)\n    which-module postinst\n    \
             /usr/lib/dkms/common.postinst {name} {version} /usr/share/{name}-dkms \"\" $2\nesac"
        ),
    );
    root.write(
        &format!("{at}/DEBIAN/prerm"),
        &format!(
            "#!/bin/sh\nset -e\ncase $1 in\nremove|upgrade|deconfigure)\n    \
             if [ \"$(dkms status -m {name} -v {version})\" ]; then\n        dkms remove -m {name} -v {version} --all\n    fi\nesac\n\
             which-module \"prerm $1\""
        ),
    );
    root.sh(&format!("chmod 755 {at}/DEBIAN/p* && dpkg-deb --build {at} /root/{version}.deb"));
}

/// Only for the running kernel.
/// What was built before is no answer.
const ALWAYS_BUILD: &str = "echo result_store=no >/etc/dkms/framework.conf.d/off.conf";

fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.write("/etc/dkms/framework.conf.d/one.conf", "autoinstall_all_kernels=''\non_failure=original");
    root.write(
        "/usr/local/bin/which-module",
        "#!/bin/sh\necho \"$1: version $(modinfo -k $K -F version apple-gmux)\" \
         $(modprobe -n -S $K --show-depends apple-gmux | tail -n 1 | sed -n 's/^insmod .*\\/\\(kernel\\|updates\\)\\/.*/in \\1/p')",
    );
    root.sh("chmod 755 /usr/local/bin/which-module; dkms generate_mok; depmod $K");
    // Nobody boots it.
    root.write("/usr/sbin/update-initramfs", "#!/bin/sh\necho initramfs \"$@\"");
    root
}

/// What is there of modules and of our state, modules.dep and its like included.
const TRACE: &str = "find /var/lib/dkms /lib/modules/*/updates 2>/dev/null | grep -v mok; \
                     find /lib/modules -name 'apple-gmux.ko*' | xargs md5sum; md5sum /lib/modules/*/modules.*";

/// What dpkg says itself is its own business.
const DPKG: &str = "| grep -vE '^(\\(Reading|Selecting|Preparing|Unpacking|Setting up|Removing apple|dpkg: |Errors were|Processing|initramfs)'; exit ${PIPESTATUS[0]}";

#[test]
fn an_upgraded_package_keeps_its_module_until_the_new_one_is_there() {
    let mut root = root();
    package(&mut root, "0.1", "");
    package(&mut root, "0.2", "");
    package(&mut root, "0.3", "not in C");
    let before = root.sh(TRACE);

    root.says(
        &format!("dpkg -i /root/0.1.deb 2>&1 {DPKG}"),
        "\
preinst install: version  in kernel
postinst: version  in kernel
Loading new apple-gmux/0.1 DKMS files...
Building for $K

Building initial module apple-gmux/0.1 for $K
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/apple-gmux/0.1/build/apple-gmux.ko
Found pre-existing /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/apple-gmux.ko
Running depmod... done.
",
    );
    root.says("which-module now", "now: version 0.1 in updates\n");

    // The old one's words, as if it went; the deed is the new one's.
    root.says(
        &format!("dpkg -i /root/0.2.deb 2>&1 {DPKG}"),
        "\
Module apple-gmux/0.1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/apple-gmux.ko
Restoring archived original module /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko
Running depmod... done.

Deleting module apple-gmux/0.1 completely from the DKMS tree.
prerm upgrade: version 0.1 in updates
preinst upgrade: version 0.1 in updates
postinst: version 0.1 in updates
Loading new apple-gmux/0.2 DKMS files...
Building for $K

Building initial module apple-gmux/0.2 for $K
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/apple-gmux/0.2/build/apple-gmux.ko
Found pre-existing /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko, archiving for uninstallation
Installing /lib/modules/$K/updates/dkms/apple-gmux.ko
Running depmod... done.
",
    );
    root.says(
        "which-module now; dkms status; ls -A /var/lib/dkms",
        "now: version 0.2 in updates\napple-gmux/0.2, $K, $A: installed (Original modules exist)\napple-gmux\nmok.key\nmok.pub\n",
    );

    // Configured again, without an upgrade.
    root.sh("dpkg -i /root/0.2.deb");
    root.says("which-module now; ls -A /var/lib/dkms", "now: version 0.2 in updates\napple-gmux\nmok.key\nmok.pub\n");

    // One that does not build.
    root.fails(
        &format!("dpkg -i /root/0.3.deb 2>&1 {DPKG}"),
        1,
        "\
Module apple-gmux/0.2 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/apple-gmux.ko
Restoring archived original module /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko
Running depmod... done.

Deleting module apple-gmux/0.2 completely from the DKMS tree.
prerm upgrade: version 0.2 in updates
preinst upgrade: version 0.2 in updates
postinst: version 0.2 in updates
Loading new apple-gmux/0.3 DKMS files...
Building for $K

Building initial module apple-gmux/0.3 for $K
$SIGNING

Building module(s)...(bad exit status: 2)
Failed command:
make -j$J KERNELRELEASE=$K -C /lib/modules/$K/build M=/var/lib/dkms/apple-gmux/0.3/build

Error! Bad return status for module build on kernel: $K ($A)
Consult /var/lib/dkms/apple-gmux/0.3/build/make.log for more information.
 installed apple-gmux-dkms package post-installation script subprocess returned error exit status 10
 apple-gmux-dkms
",
    );
    root.says("which-module now; dkms status", "now: version 0.2 in updates\napple-gmux/0.3: added\n");

    // And when the package goes, nothing of it is left.
    root.says(
        &format!("dpkg -r apple-gmux-dkms 2>&1 {DPKG}"),
        "\
Restoring archived original module /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko
Deleting module apple-gmux/0.3 completely from the DKMS tree.
prerm remove: version  in kernel
",
    );
    root.unchanged(TRACE, &before);
}

#[test]
fn the_kernels_module_comes_back_even_if_somebody_deleted_what_an_upgrade_had_left() {
    let mut root = root();
    package(&mut root, "0.1", "");
    package(&mut root, "0.3", "not in C");
    let before = root.sh(TRACE);
    root.sh("dpkg -i /root/0.1.deb; ! dpkg -i /root/0.3.deb");
    root.sh("rm /lib/modules/$K/updates/dkms/apple-gmux.ko");
    root.sh("dpkg -r apple-gmux-dkms");
    root.unchanged(TRACE, &before);
}

#[test]
fn a_module_that_the_new_version_has_no_more_goes_when_that_is_installed() {
    let mut root = root();
    let two = "BUILT_MODULE_NAME[1]=second\nDEST_MODULE_LOCATION[1]=/updates\nMAKE='test ! -e /srv/broken && cp quick.ko second.ko'\nAUTOINSTALL=yes";
    root.quick("quick", &format!("DEST_MODULE_NAME=apple-gmux\n{two}"));
    let before = root.sh(TRACE);
    let configure = "/usr/lib/dkms/common.postinst quick 1 /usr/share/quick-dkms '' 0";
    root.sh(configure);
    let modules = "cd /lib/modules/$K/updates/dkms && ls -A; ls -A /var/lib/dkms";
    root.says(modules, "apple-gmux.ko\nsecond.ko\nmok.key\nmok.pub\nquick\n");

    root.quick("quick", &format!("DEST_MODULE_NAME=renamed\n{two}"));
    root.fails(&format!("touch /srv/broken; {configure} >/dev/null 2>&1"), 10, "");
    root.says(
        "ls /lib/modules/$K/updates/dkms; which-module now",
        "apple-gmux.ko\nsecond.ko\nnow: version  in updates\n",
    );
    root.sh(&format!("rm /srv/broken; {configure}"));
    root.says(modules, "renamed.ko\nsecond.ko\nmok.key\nmok.pub\nquick\n");
    // What it stood in for is back.
    root.says("which-module now; dkms status", "now: version  in kernel\nquick/1, $K, $A: installed\n");
    root.sh("dkms remove quick/1 --all");
    root.unchanged(TRACE, &before);
}

#[test]
fn a_module_that_moves_to_another_package_stays() {
    let mut root = root();
    let second = |number| format!("BUILT_MODULE_NAME[{number}]=second\nDEST_MODULE_LOCATION[{number}]=/updates");
    let make = "MAKE='cp *.ko second.ko || :'\nAUTOINSTALL=yes";
    root.quick("one", &format!("{}\n{make}", second(1)));
    let before = root.sh(TRACE);
    root.sh("dkms install one/1 -k $K");
    // As the package of the kernel's image does; and packages of modules meanwhile.
    root.sh("DEB_MAINT_PARAMS='upgrade 6.1.1-1 6.1.2-1' /etc/kernel/preinst.d/dkms $K /boot/vmlinuz-$K");
    root.quick("one", "AUTOINSTALL=yes");
    root.quick("two", &format!("{}\n{make}", second(1)));
    root.sh("dkms add two/1; /etc/kernel/postinst.d/dkms $K /boot/vmlinuz-$K");
    let modules = "cd /lib/modules/$K/updates/dkms && ls; ls -d /var/lib/dkms/*/original_module 2>/dev/null; true";
    root.says(modules, "one.ko\nsecond.ko\ntwo.ko\n");
    root.sh("modprobe -n -S $K second; dkms remove one/1 --all");
    root.says(modules, "second.ko\ntwo.ko\n");
    root.sh("dkms remove two/1 --all");
    root.unchanged(TRACE, &before);
}

/// A package NAME-dkms with these modules, in /root/NAME-VERSION.deb. Its build needs that `aa` and `bb` are there, once
/// somebody has said so, and may say more that `fails`.
fn drivers(root: &mut Root, name: &str, version: &str, modules: &[&str], relations: &str, fails: &str) {
    let at = format!("{name}-{version}");
    let mut conf = format!("PACKAGE_NAME={name}\nPACKAGE_VERSION={version}\nAUTOINSTALL=yes\n");
    for (number, module) in modules.iter().enumerate() {
        conf += &format!("BUILT_MODULE_NAME[{number}]={module}\nDEST_MODULE_LOCATION[{number}]=/updates\n");
    }
    let made: Vec<_> = modules.iter().map(|module| format!("cp /srv/some.ko {module}.ko")).collect();
    let made = made.join(" && ");
    conf += &format!("MAKE='if [ -e /srv/there ]; then modprobe -n -S $kernelver -a aa bb; fi {fails} && {made}'\n");
    root.write(&format!("/root/{at}/usr/src/{at}/dkms.conf"), &conf);
    root.write(&format!("/root/{at}/usr/src/{at}/Makefile"), "");
    root.pack(&at, &format!("{name}-dkms"), version, &format!("{name}/{version}"));
    root.sh(&format!(
        "cd /root && printf '{relations}' >>{at}/DEBIAN/control && dpkg-deb --build {at} {at}.deb >/dev/null"
    ));
}

#[test]
fn what_another_package_takes_over_is_there_at_every_moment() {
    let mut root = root();
    root.sh(
        "echo \"autoinstall_all_kernels=''\" >/etc/dkms/framework.conf.d/one.conf; xz -dcf /lib/modules/$K/kernel/drivers/net/nlmon.ko* >/srv/some.ko",
    );
    let breaks = "Breaks: duo-dkms (<< 2)\n";
    let replaces = "Conflicts: duo-dkms\nReplaces: duo-dkms\nProvides: duo-dkms\n";
    drivers(&mut root, "duo", "1", &["aa", "bb"], "", "");
    drivers(&mut root, "duo", "2", &["aa"], "", "");
    drivers(&mut root, "duo", "3", &["aa"], "", "&& false");
    drivers(&mut root, "trio", "1", &["bb"], breaks, "");
    drivers(&mut root, "trio", "2", &["bb"], breaks, "&& false");
    drivers(&mut root, "quad", "1", &["aa", "bb"], replaces, "");
    drivers(&mut root, "quad", "2", &["aa", "bb"], replaces, "&& false");
    let before = root.sh(TRACE);
    let now = "for it in aa bb; do modprobe -S $K -n -q $it || echo no $it; done; dkms status; \
                   cd /var/lib/dkms && find .superseded -type f 2>/dev/null | sed 's,/.*/,/,'";
    let installed = |id| format!("{id}, $K, $A: installed\n");
    let duo = installed("duo/2");
    for (packages, expected) in [
        // One of its modules has moved, which has its successor first, last, or not at all.
        ("duo-2 trio-1", format!("{duo}{}", installed("trio/1"))),
        ("trio-1 duo-2", format!("{duo}{}", installed("trio/1"))),
        ("duo-2 trio-2", format!("{duo}trio/2: added\n.superseded/$A\n")),
        ("trio-1 duo-3", format!("duo/3: added\n{}.superseded/$A\n", installed("trio/1"))),
        // Nothing brings it any more.
        ("duo-2", format!("no bb\n{duo}")),
        // It has another name now.
        ("quad-1", installed("quad/1")),
        ("quad-2", "quad/2: added\n.superseded/$A\n".into()),
        // There is no room for it.
        ("full quad-1", "quad/1, $K, $A: built\n.superseded/$A\n".into()),
    ] {
        root.sh("rm -f /srv/there; dpkg -i /root/duo-1.deb; touch /srv/there");
        let packages = packages.strip_prefix("full ").map_or(packages, |packages| {
            root.sh("cd /lib/modules/$K && cp -a updates /srv && mount -t tmpfs -o size=200k tmpfs updates && \
                 cp -a /srv/updates/. updates && ! dd if=/dev/zero of=updates/dkms/full status=none");
            packages
        });
        let files = packages.split(' ').map(|package| format!("/root/{package}.deb")).collect::<Vec<_>>().join(" ");
        root.sh(&format!("dpkg --auto-deconfigure -i {files}"));
        root.says(now, &expected);
        root.sh(
            "! mountpoint -q /lib/modules/$K/updates || { cd /srv/updates; rm -r *; umount /lib/modules/$K/updates; }",
        );
        root.sh("dpkg --purge $(dpkg-query -W -f '${Package} ' '*duo-dkms' '*trio-dkms' '*quad-dkms' 2>/dev/null)");
        root.unchanged(TRACE, &before);
    }
}

#[test]
fn a_removal_that_did_not_end_takes_away_what_it_was_to_and_no_more() {
    for settings in ["", "symlink_modules=yes"] {
        let mut root = root();
        package(&mut root, "0.1", "");
        let before = root.sh(TRACE);
        root.sh(&format!("echo '{settings}' >>/etc/dkms/framework.conf.d/one.conf; dpkg -i /root/0.1.deb"));
        // What was built, by which ours could be told, is gone by then.
        root.sh("mv /usr/sbin/depmod /srv; printf '#!/bin/sh\nexit 1\n' >/usr/sbin/depmod; chmod 755 /usr/sbin/depmod");
        root.fails("dkms remove apple-gmux/0.1 --all >/dev/null 2>&1", 1, "");
        root.says("which-module now", "now: version 0.1 in updates\n");
        root.sh("mv /srv/depmod /usr/sbin; dkms remove apple-gmux/0.1 --all");
        root.says("which-module now", "now: version  in kernel\n");
        root.unchanged(TRACE, &before);
    }

    // One that was killed when only its mark was left; the kernel's own module is of the same version.
    let mut root = root();
    package(&mut root, "0.1", "int other;");
    root.sh("dpkg -i /root/0.1.deb; cp /lib/modules/$K/updates/dkms/apple-gmux.ko /srv; dpkg --purge apple-gmux-dkms");
    root.sh("mv /srv/apple-gmux.ko /lib/modules/$K/kernel/drivers/platform/x86; depmod $K; rm -r /root/0.1");
    let before = root.sh(TRACE);
    package(&mut root, "0.1", "");
    root.sh("dpkg -i /root/0.1.deb; sed -i s,/updates,/kernel/drivers/platform/x86, /usr/src/apple-gmux-0.1/dkms.conf");
    root.sh("dkms uninstall apple-gmux/0.1 -k $K");
    root.write(
        "/var/lib/dkms/.pending/apple-gmux/$K/$A",
        "apple-gmux/0.1\nremoval\n/lib/modules/$K/updates/dkms/apple-gmux.ko\n",
    );
    root.sh("dkms uninstall apple-gmux/0.1 -k $K; dpkg --purge apple-gmux-dkms");
    root.unchanged(TRACE, &before);
}

#[test]
fn an_upgraded_kernel_keeps_its_modules_until_they_are_built_again() {
    let mut root = root();
    root.sh(ALWAYS_BUILD);
    root.quick("quick", "DEST_MODULE_NAME=apple-gmux\nAUTOINSTALL=yes\nMAKE='test ! -e /srv/broken'");
    root.sh("dkms add quick/1 && rmdir /var/lib/dkms/quick/1/build");
    let before = root.sh(TRACE);
    root.sh("dkms install quick/1");
    let installed = root.sh(TRACE);
    const REMOVED: &str = "\
dkms: removing module quick/1 for kernel $K ($A)
Module quick/1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/apple-gmux.ko
Restoring archived original module /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko
";
    const DEPMOD: &str = "Running depmod... done.\n";

    // As the package of the kernel's image does.
    let preinst =
        |parameters: &str| format!("DEB_MAINT_PARAMS='{parameters}' /etc/kernel/preinst.d/dkms $K /boot/vmlinuz-$K");
    root.says(&preinst("upgrade 6.1.1-1 6.1.2-1"), &format!("{REMOVED}{DEPMOD}"));
    root.says("which-module now; dkms status", "now: version  in updates\nquick/1: added\n");
    root.sh("/etc/kernel/postinst.d/dkms $K /boot/vmlinuz-$K");
    root.says("which-module now", "now: version  in updates\n");
    root.unchanged(TRACE, &installed);

    // The new kernel cannot have it: the old one stays.
    root.sh(&preinst("upgrade 6.1.1-1 6.1.2-1"));
    root.sh("touch /srv/broken; ! /etc/kernel/postinst.d/dkms $K /boot/vmlinuz-$K");
    root.says("which-module now; dkms status", "now: version  in updates\nquick/1: added\n");
    // Until it can.
    root.sh("rm /srv/broken; /etc/kernel/postinst.d/dkms $K /boot/vmlinuz-$K");
    root.unchanged(TRACE, &installed);

    // Upgraded, and removed before it was configured.
    root.sh(&preinst("upgrade 6.1.1-1 6.1.2-1"));
    root.sh("DEB_MAINT_PARAMS=remove /etc/kernel/prerm.d/dkms $K /boot/vmlinuz-$K");
    root.unchanged(TRACE, &before);

    // No upgrade: what is there belongs to a kernel that was removed long ago.
    for parameters in ["install", "install 6.1.1-1", ""] {
        root.sh("dkms install quick/1");
        root.says(&preinst(parameters), &format!("{REMOVED}{DEPMOD}"));
        root.unchanged(TRACE, &before);
    }
    root.sh("dkms install quick/1");
    root.says("/etc/kernel/prerm.d/dkms $K /boot/vmlinuz-$K", &format!("{REMOVED}\n{DEPMOD}"));
    root.unchanged(TRACE, &before);
}

/// A module that replaces one of the kernel's, and scripts of its own that stop where they are told to.
fn stops(root: &mut Root) {
    let scripts = ["PRE_BUILD", "POST_BUILD", "PRE_INSTALL", "POST_INSTALL", "POST_REMOVE"];
    let conf = scripts.map(|script| format!("{script}='stop {script}'\n")).concat();
    root.quick("quick", &format!("DEST_MODULE_NAME=apple-gmux\n{conf}"));
    root.write("/usr/src/quick-1/stop", "#!/bin/sh\nif [ -e /srv/stop-$1 ]; then\n    sleep 1000.5\nfi");
    root.sh("chmod 755 /usr/src/quick-1/stop; dkms add quick/1; rmdir /var/lib/dkms/quick/1/build");
    // depmod stops before and after it does its work.
    root.write(
        "/usr/local/sbin/depmod",
        "#!/bin/sh\n/usr/src/quick-1/stop before-depmod\n/sbin/depmod \"$@\"\n/usr/src/quick-1/stop after-depmod",
    );
    root.sh("chmod 755 /usr/local/sbin/depmod");
}

/// Runs a command, kills it with all that it started in its process group where it stops, and looks that nothing of it
/// lives on.
fn killed(root: &mut Root, command: &str, place: &str) {
    root.sh(&format!(
        "rm -f /srv/stop*; touch /srv/stop-{place}; setsid {command} >/srv/out 2>&1 & echo $! >/srv/group"
    ));
    root.wait_until("grep -qszx '1000[.]5' /proc/[0-9]*/cmdline");
    root.sh("kill -KILL -$(cat /srv/group); rm -f /srv/stop*");
    root.wait_until("[ -z \"$(stat -c %U /proc/[0-9]* 2>/dev/null | grep _dkms)\" ]");
}

#[test]
fn an_installation_that_was_killed_is_ended_by_the_next() {
    let mut root = root();
    stops(&mut root);
    let before = root.sh(TRACE);
    let install = "dkms install quick/1";
    root.sh(install);
    let installed = root.sh(TRACE);
    root.sh("dkms uninstall quick/1");
    let built = root.sh(TRACE);

    for place in ["PRE_INSTALL", "POST_INSTALL", "before-depmod", "after-depmod"] {
        killed(&mut root, install, place);
        root.says("dkms status | sed 's/ (.*//'", "quick/1, $K, $A: built\n");
        // Its own or the kernel's: there is one.
        root.sh("test -e $(modinfo -k $K -n apple-gmux)");
        root.sh(install);
        root.unchanged(TRACE, &installed);
        root.sh("dkms uninstall quick/1");
        root.unchanged(TRACE, &built);
    }
    // Or undone.
    for (place, undo) in [("POST_INSTALL", "dkms unbuild quick/1"), ("before-depmod", "/etc/kernel/prerm.d/dkms $K")] {
        killed(&mut root, install, place);
        root.sh(undo);
        root.unchanged(TRACE, &before);
        root.sh("dkms build quick/1");
    }
}

#[test]
fn a_build_that_was_killed_leaves_nothing_to_the_next() {
    let mut root = root();
    root.sh(ALWAYS_BUILD);
    stops(&mut root);
    let before = root.sh(TRACE);
    let install = "dkms install quick/1";
    root.sh(install);
    let installed = root.sh(TRACE);
    root.sh("dkms unbuild quick/1");

    for place in ["PRE_BUILD", "POST_BUILD"] {
        killed(&mut root, install, place);
        root.says("dkms status", "quick/1: added\n");
        root.sh(install);
        root.unchanged(TRACE, &installed);
        // A module that is installed while it is built again stays so.
        killed(&mut root, "dkms build quick/1 --force", place);
        root.says("dkms status", "quick/1, $K, $A: installed (Original modules exist)\n");
        root.sh("dkms build quick/1 --force");
        root.unchanged(TRACE, &installed);
        // What is not built again is removed without a trace as well.
        killed(&mut root, "dkms build quick/1 --force", place);
        root.sh("dkms remove quick/1 --all");
        root.sh("dkms add quick/1; rmdir /var/lib/dkms/quick/1/build");
        root.unchanged(TRACE, &before);
    }
}

#[test]
fn a_removal_that_was_killed_is_ended_by_the_next() {
    let mut root = root();
    stops(&mut root);
    let before = root.sh(TRACE);

    for (place, remove) in [
        ("POST_REMOVE", "dkms remove quick/1 --all"),
        ("before-depmod", "dkms remove quick/1 -k $K"),
        ("after-depmod", "/etc/kernel/prerm.d/dkms $K"),
        ("before-depmod", "/etc/kernel/prerm.d/dkms $K"),
    ] {
        root.sh("dkms install quick/1");
        killed(&mut root, remove, place);
        root.says("dkms status | grep installed; true", "");
        root.run(remove);
        root.run("dkms remove quick/1 --all");
        root.sh("dkms add quick/1 && rmdir /var/lib/dkms/quick/1/build");
        root.unchanged(TRACE, &before);
    }
}
