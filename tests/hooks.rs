// SPDX-License-Identifier: GPL-2.0-or-later

//! Hooks that do not break apt: what becomes of a kernel's or a module's package when a module cannot be installed.

use crate::support::{Layer, Root};

fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    // Nobody boots them.
    root.write("/etc/initramfs-tools/conf.d/small", "MODULES=list\nCOMPRESS=gzip");
    root
}

/// A -dkms package NAME 1 that was made as dh_dkms makes them; its module is NAME, in C, with a line of `code`.
fn package(root: &mut Root, name: &str, code: &str) {
    let at = format!("/root/{name}");
    root.sh(&format!("rm -rf {at}; mkdir -p {at}/usr/src/{name}-1"));
    root.write(
        &format!("{at}/usr/src/{name}-1/dkms.conf"),
        &format!(
            "PACKAGE_NAME={name}\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates\nAUTOINSTALL=yes"
        ),
    );
    root.write(&format!("{at}/usr/src/{name}-1/Makefile"), &format!("obj-m := {name}.o"));
    root.write(
        &format!("{at}/usr/src/{name}-1/{name}.c"),
        &format!("#include <linux/module.h>\n{code}\nMODULE_LICENSE(\"GPL\");"),
    );
    root.pack(name, &format!("{name}-dkms"), "1", &format!("{name}/1"));
}

/// Installs packages that [`package`] made.
fn install(root: &mut Root, names: &[&str]) -> String {
    let debs: Vec<String> = names.iter().map(|name| format!("/root/{name}.deb")).collect();
    root.sh(&format!("apt-get -qq -y install {}", debs.join(" ")))
}

const NO_KERNEL: &str = "apt-get -qq -y purge linux-headers-$OLD";
const KERNEL: &str = "apt-get -qq -y install linux-image-$OLD linux-headers-$OLD";

/// Without the variables that tests have: a build sees them.
const CLEAN: &str = "env -u K -u OLD -u A";

/// The kernel is whole: configured, with an initramfs, and these modules.
#[track_caller]
fn kernel_is_whole(root: &mut Root, modules: &str) {
    root.says("dpkg --audit", "");
    root.says(
        "dpkg-query -W -f '${db:Status-Status}\\n' linux-image-$OLD linux-headers-$OLD",
        "installed\ninstalled\n",
    );
    root.says("ls /boot/vmlinuz-$OLD /boot/initrd.img-$OLD", "/boot/initrd.img-$OLD\n/boot/vmlinuz-$OLD\n");
    root.says("ls /lib/modules/$OLD/updates/dkms", modules);
}

const BAD: &str = "static nonsense bad(void) { }";

/// A package whose module compiles for $K and not for $OLD.
fn bad_for_old(root: &mut Root) -> String {
    let release = root.expand("$OLD");
    // Debian's ABI is in a string only.
    let code = format!(
        "#include <generated/utsrelease.h>\nstatic const char *release __attribute__((unused)) = UTS_RELEASE;\n\
         _Static_assert(__builtin_strcmp(UTS_RELEASE, \"{release}\") != 0, \"this kernel has changed\");"
    );
    package(root, "bad", &code);
    code
}

/// What is told of it.
const TOLD: &str = "\
dkms: modules that could not be installed:
  bad/1 for kernel $OLD ($A): bad.c:4:1: error: static assertion failed: \"this kernel has changed\"
    log: /var/lib/dkms/bad/1/build/make.log
    try again: dkms install bad/1 -k $OLD
";

/// What a login shows: the files of update-motd.d, as pam_motd(8) runs them.
const MOTD: &str = "rm -f /etc/update-motd.d/10-*; run-parts --lsbsysinit /etc/update-motd.d";

/// `dkms status` at a terminal.
const STATUS: &str = "script -qec 'dkms status bad' /dev/null | tr -d '\\r'";

#[test]
fn a_kernel_comes_whole_with_the_modules_that_can_be_built() {
    let mut root = root();
    root.sh(NO_KERNEL);
    package(&mut root, "good", "");
    package(&mut root, "well", "");
    bad_for_old(&mut root);
    install(&mut root, &["good", "bad", "well"]);
    root.says(&format!("{MOTD}; {STATUS}"), "bad/1, $K, $A: installed\n");

    let said = root.sh(&format!("{CLEAN} {KERNEL}"));
    kernel_is_whole(&mut root, "good.ko\nwell.ko\n");
    let told = root.expand(TOLD);
    assert!(said.contains(&format!("\n{told}Nothing else is held up.")), "{said}");
    assert!(said.contains("Autoinstall on") && said.contains("failed for module(s) bad(10).\n"), "{said}");

    // Shown to people: at a terminal, at the next login, and to whoever asks; to nobody else.
    let listed = "bad/1, $K, $A: installed\n";
    root.says(STATUS, &format!("{listed}{TOLD}"));
    root.says("dkms status bad 2>&1", listed);
    root.says(MOTD, TOLD);
    root.says("dkms status --failed", TOLD);
    root.says("dkms status --failed bad/1 -k $OLD", TOLD);
    root.says("dkms status --failed good; dkms status --failed -k $K; dkms status --failed bad/2", "");
    let said = root.sh("echo exit | TERM=dumb script -qec 'login -f root' /dev/null | tr -d '\\r'");
    assert!(said.contains(&told), "{said}");

    // Not built again as long as nothing changes, whoever comes by: the log is that of the first time.
    let log = "stat -c %y%i /var/lib/dkms/bad/1/build/make.log";
    let before = root.sh(log);
    let again = "Autoinstall of module bad/1 for kernel $OLD ($A)\nNot built again. It failed before, from the same source, headers and tools.\n\n";
    let again = root.expand(again);
    for occasion in [
        "/etc/kernel/header_postinst.d/dkms $OLD",
        "/etc/kernel/postinst.d/dkms $OLD /boot/vmlinuz-$OLD",
        // As systemd does at boot.
        "-i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LANG=C.UTF-8 INVOCATION_ID=1 JOURNAL_STREAM=1:2 \
         $(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/dkms.service | sed \"s/%v/$OLD/\")",
        "/usr/lib/kernel/install.d/40-dkms.install add $OLD",
        "apt-get -qq -y reinstall linux-headers-$OLD",
    ] {
        let said = root.sh(&format!("{CLEAN} {occasion} 2>&1"));
        assert!(said.contains(&again) && said.contains(&told), "{said}");
        assert_eq!(root.sh(log), before, "{occasion}");
    }
    kernel_is_whole(&mut root, "good.ko\nwell.ko\n");

    // A person always tries, and has the exit codes that he knows.
    root.fails("dkms install bad/1 -k $OLD >/dev/null 2>&1", 10, "");
    let tried = root.sh(log);
    assert_ne!(tried, before);
    root.fails("dkms autoinstall -k $OLD >/dev/null 2>&1", 11, "");
    root.fails("/usr/lib/dkms/dkms_autoinstaller start $OLD >/dev/null 2>&1", 1, "");
    let tried_again = root.sh(log);
    assert_ne!(tried_again, tried);
    root.says("dkms status --failed", TOLD);

    // Other source: tried again, whatever comes of it.
    root.sh("sed -i 's/has changed/is another one/' /usr/src/bad-1/bad.c; /etc/kernel/header_postinst.d/dkms $OLD");
    assert_ne!(root.sh(log), tried_again);
    root.says("dkms status --failed", &TOLD.replace("has changed", "is another one"));
    root.sh("sed -i /_Static_assert/d /usr/src/bad-1/bad.c; /etc/kernel/header_postinst.d/dkms $OLD");
    kernel_is_whole(&mut root, "bad.ko\ngood.ko\nwell.ko\n");
    root.says(&format!("dkms status --failed; {MOTD}; ls -A /var/lib/dkms"), "bad\ngood\nmok.key\nmok.pub\nwell\n");
}

#[test]
fn many_failures_take_one_screen() {
    let mut root = root();
    root.sh("ln -s /bin/true /usr/local/sbin/update-initramfs");
    let failure = |number: usize| {
        format!(
            "  bad{number}/1 for kernel $K ($A): `false` ended with exit code 1\n    \
             log: /var/lib/dkms/bad{number}/1/build/make.log\n    try again: dkms install bad{number}/1 -k $K\n"
        )
    };
    for number in 1..=7 {
        root.quick(&format!("bad{number}"), "MAKE=false\nAUTOINSTALL=yes");
        root.sh(&format!("dkms add bad{number}/1"));
    }
    let said = root.sh("/etc/kernel/postinst.d/dkms $K");
    let of = |numbers: std::ops::RangeInclusive<usize>| numbers.map(failure).collect::<String>();
    let head = "dkms: modules that could not be installed:\n";
    let screen = format!("{head}{}  and 2 more: dkms status --failed\n", of(1..=5));
    assert!(said.contains(&root.expand(&screen)), "{said}");
    let added: String = (1..=7).map(|number| format!("bad{number}/1: added\n")).collect();
    root.says(&STATUS.replace(" bad", ""), &format!("{added}{screen}"));
    root.says(MOTD, &screen.replace("and 2 more", "and more"));
    root.says("dkms status --failed", &format!("{head}{}", of(1..=7)));
}

#[test]
fn what_goes_is_forgotten() {
    let mut root = root();
    root.sh("ln -s /bin/true /usr/local/sbin/update-initramfs");
    let hook = "/etc/kernel/header_postinst.d/dkms";
    let trace = "find /var/lib/dkms -path '*/.*' | sort";
    root.quick("bad", "MAKE=false\nAUTOINSTALL=yes");
    root.quick("late", "AUTOINSTALL=yes\nBUILD_DEPENDS=bad");
    let fail = format!("{hook} $K; {hook} $OLD; true");
    let both = "\
dkms: modules that could not be installed:
  bad/1 for kernel $OLD ($A): `false` ended with exit code 1
    log: /var/lib/dkms/bad/1/build/make.log
    try again: dkms install bad/1 -k $OLD
  bad/1 for kernel $K ($A): `false` ended with exit code 1
    try again: dkms install bad/1 -k $K
";
    let set_up = |root: &mut Root| {
        root.sh(&format!("dkms add bad/1; {fail}"));
        root.says("dkms status --failed", both);
    };
    set_up(&mut root);
    // The kernel goes.
    root.sh("/etc/kernel/prerm.d/dkms $OLD");
    root.says(
        "dkms status --failed | grep -c for.kernel; cat /var/lib/dkms/.failed/bad/*/* | sed -n '/^module/p; /^again/p'",
        "1\nmodule bad/1\nagain dkms install bad/1 -k $K\n",
    );
    // It is replaced by another build of itself, which may be the same to the module.
    root.sh("DEB_MAINT_PARAMS='upgrade 1 2' /etc/kernel/preinst.d/dkms $K");
    root.says("dkms status --failed | grep -c for.kernel", "1\n");
    // The module goes, for a kernel or altogether.
    for command in [
        "dkms remove bad/1 --all",
        "dkms remove bad/1 -k $K; dkms add bad/1; dkms unbuild bad/1 -k $OLD; dkms remove bad/1 --all",
    ] {
        root.sh(&format!("dkms add bad/1; {fail}"));
        root.sh(command);
        root.says(&format!("dkms status --failed; {trace}"), "");
    }
    // What is left of a module or a kernel that went in some other way is shown to nobody.
    set_up(&mut root);
    root.sh("mv /lib/modules/$OLD /srv");
    root.says("dkms status --failed | grep -c for.kernel", "1\n");
    root.sh("mv /srv/$OLD /lib/modules/; mv /var/lib/dkms/bad /usr/src/bad-1 /srv");
    root.says("dkms status --failed", "");
    root.sh("mv /srv/bad /var/lib/dkms; mv /srv/bad-1 /usr/src");
    // A success, of whomever's.
    root.sh("sed -i s/MAKE=false/MAKE=true/ /usr/src/bad-1/dkms.conf; dkms build bad/1 -k $OLD");
    root.says("dkms status --failed | grep -c for.kernel", "1\n");
    root.sh("/usr/lib/dkms/dkms_autoinstaller start $K");
    root.says(&format!("dkms status --failed; {trace}"), "");

    // Who builds upon it waits for it.
    root.sh("sed -i s/MAKE=true/MAKE=false/ /usr/src/bad-1/dkms.conf; dkms unbuild bad/1 --all; dkms add late/1");
    root.sh(&format!("{hook} $K"));
    root.says(
        "dkms status --failed late",
        "dkms: modules that could not be installed:\n  late/1 for kernel $K ($A): These modules it builds upon are not \
         installed: bad.\n    try again: dkms install late/1 -k $K\n",
    );
}

#[test]
fn a_package_of_modules_is_configured_whatever_comes_of_them() {
    let mut root = root();
    package(&mut root, "good", "");
    package(&mut root, "bad", BAD);
    let said = install(&mut root, &["bad", "good"]);
    root.says("dpkg --audit", "");
    root.says("dkms status", "bad/1: added\ngood/1, $OLD, $A: installed\ngood/1, $K, $A: installed\n");
    let reason = "bad.c:2:8: error: unknown type name ‘nonsense’";
    let of = |kernel: &str, log: &str| {
        format!("  bad/1 for kernel {kernel} ($A): {reason}\n{log}    try again: dkms install bad/1 -k {kernel}\n")
    };
    let told = format!(
        "dkms: modules that could not be installed:\n{}{}",
        of("$OLD", ""),
        of("$K", "    log: /var/lib/dkms/bad/1/build/make.log\n")
    );
    assert!(said.contains(&root.expand(&told)), "{said}");
    root.says("dkms status --failed", &told);

    // Configured again: the same would come of it.
    let said = root.sh("apt-get -qq -y reinstall /root/bad.deb");
    assert_eq!(said.matches("Not built again. It failed before").count(), 2, "{said}");
    root.says("dkms status --failed | grep -c for.kernel; dpkg --audit", "2\n");
    root.sh("apt-get -qq -y purge bad-dkms");
    root.says("dkms status --failed; ls -A /var/lib/dkms", "good\nmok.key\nmok.pub\n");

    // One kernel after the other, until one fails.
    root.sh("echo continue_on_error=false >/etc/dkms/framework.conf.d/z.conf");
    install(&mut root, &["bad"]);
    root.says("dkms status --failed | grep -o 'for kernel.*):'; dpkg --audit", "for kernel $OLD ($A):\n");

    // What cannot even be registered.
    package(&mut root, "none", "");
    root.sh(
        "cd /root && echo DEST_MODULE_LOCATION=/x >>none/usr/src/none-1/dkms.conf && dpkg-deb --build none none.deb",
    );
    let said = install(&mut root, &["none"]);
    assert!(said.contains("\nError! Bad conf file.\n") && said.contains("\n  none/1 for kernel"), "{said}");
    root.says("dpkg --audit; dkms status --failed none | sed -n 2p", "  none/1 for kernel $K ($A): Bad conf file.\n");
    root.sh("apt-get -qq -y purge none-dkms");
    root.says("dkms status --failed none; dpkg --audit", "");
}

/// Makes bad-dkms 2 of what [`package`] made, with its source changed by a command.
fn second(root: &mut Root, change: &str) {
    root.sh(&format!(
        "cd /root && mv bad/usr/src/bad-1 bad/usr/src/bad-2 && sed -i 's/VERSION=1$/VERSION=2/' bad/usr/src/bad-2/dkms.conf \
         && sed -i 's/ 1$/ 2/; s/bad 1/bad 2/; s/-v 1/-v 2/; s,bad/1,bad/2,' bad/DEBIAN/* \
         && (cd bad/usr/src/bad-2 && {change}) && dpkg-deb --build bad bad.deb"
    ));
}

#[test]
fn an_upgrade_that_fails_leaves_the_old_module_and_says_so() {
    let mut root = root();
    root.sh("echo \"autoinstall_all_kernels=''\" >/etc/dkms/framework.conf.d/one.conf");
    package(&mut root, "bad", "");
    let trace = "find /var/lib/dkms /lib/modules/*/updates 2>/dev/null; true";
    let before = root.sh(trace);
    install(&mut root, &["bad"]);
    let module = "md5sum /lib/modules/$K/updates/dkms/bad.ko; modprobe -n -S $K --show-depends bad";
    let old = root.sh(module);
    second(&mut root, "echo 'not in C' >>bad.c");
    let said = install(&mut root, &["bad"]);
    assert!(said.contains("\nNothing else is held up."), "{said}");
    root.says(module, &old);
    root.says("dpkg --audit; dkms status", "bad/2: added\n");
    root.says("dkms status --failed | sed -n '2p' | cut -d: -f1", "  bad/2 for kernel $K ($A)\n");
    root.sh("/etc/kernel/header_postinst.d/dkms $K");
    root.says(module, &old);
    root.sh("apt-get -qq -y purge bad-dkms");
    root.unchanged(trace, &before);
}

/// Also on kernels that do not run, in a chroot for one; and where what is installed are links to what was built.
#[test]
fn an_upgrade_that_cannot_be_registered_leaves_the_old_module_on_every_kernel() {
    let module =
        "for k in $OLD $K; do f=$(modinfo -k $k -n bad) && stat -Lc %s $f; modprobe -n -S $k --show-depends bad; done";
    for before in ["true", "mv /lib/modules/$K /srv", "echo symlink_modules=yes >/etc/dkms/framework.conf.d/link.conf"]
    {
        let mut root = root();
        root.sh(before);
        package(&mut root, "bad", "");
        install(&mut root, &["bad"]);
        let old = root.run(module).text;
        second(&mut root, "echo DEST_MODULE_LOCATION=/x >>dkms.conf");
        let said = install(&mut root, &["bad"]);
        let told = root.expand("  bad/2 for kernel $OLD ($A): Bad conf file.\n");
        assert!(said.contains("\nError! Bad conf file.\n") && said.contains(&told), "{said}");
        assert_eq!(root.run(module).text, old, "{before}");
        root.says("dpkg --audit; dkms status", "");
        // Nor does the end of the next run of dpkg take it for nobody's.
        root.sh("dpkg-trigger --by-package=bad-dkms --no-await dkms-superseded; dpkg --configure --pending");
        assert_eq!(root.run(module).text, old, "{before}");
        root.sh("apt-get -qq -y purge bad-dkms");
        root.says("ls -A /var/lib/dkms; find /lib/modules -name 'bad.ko*'", "mok.key\nmok.pub\n");
    }
}

/// Until its package is purged.
#[test]
fn an_upgrade_that_fails_leaves_the_old_module_also_where_it_holds_up_apt() {
    let mut root = root();
    root.sh("echo on_failure=original >/etc/dkms/framework.conf.d/a.conf");
    package(&mut root, "bad", "");
    install(&mut root, &["bad"]);
    let modules = "for k in $OLD $K; do modprobe -n -S $k --show-depends bad; done";
    let old = root.sh(modules);
    second(&mut root, "echo DEST_MODULE_LOCATION=/x >>dkms.conf");
    root.fails("apt-get -qq -y install /root/bad.deb >/dev/null 2>&1", 100, "");
    root.says(modules, &old);
    root.sh("apt-get -qq -y purge bad-dkms");
    root.says("ls -A /var/lib/dkms; find /lib/modules -name 'bad.ko*'", "mok.key\nmok.pub\n");
}

/// What an older version left is looked after at the end of the next run of dpkg.
#[test]
fn an_old_module_that_cannot_go_holds_up_no_package() {
    let mut root = with_quick("");
    let postinst = "/usr/lib/dkms/common.postinst quick 1 /usr/share/quick $A ''";
    root.sh(&format!("{postinst}; echo BUILD_EXCLUSIVE_KERNEL=^$K >>/usr/src/quick-1/dkms.conf"));
    let updates = "/lib/modules/$OLD/updates";
    root.sh(&format!("mount --bind {updates} {updates} && mount -o remount,ro,bind {updates}"));
    let said = root.sh(postinst);
    assert!(said.contains("Error!") && said.contains("Read-only file system"), "{said}");
    root.sh(&format!("dkms status quick/1 -k $K | grep ': installed'; umount {updates}; /usr/lib/dkms/settle"));
    root.says("find /lib/modules/$OLD -name 'quick.ko*'; ls -A /var/lib/dkms", "mok.key\nmok.pub\nquick\n");
}

#[test]
fn as_it_always_was_where_that_is_wanted() {
    let mut root = root();
    root.sh(&format!("{NO_KERNEL}; echo on_failure=original >/etc/dkms/framework.conf.d/a.conf"));
    package(&mut root, "good", "");
    bad_for_old(&mut root);
    install(&mut root, &["good", "bad"]);
    let output = root.run(KERNEL);
    assert!(output.code == 100 && !output.text.contains("could not be installed"), "{output:?}");
    root.says("dpkg-query -W -f '${db:Status-Status}\\n' linux-image-$OLD", "half-configured\n");
    root.says(
        "ls /boot/initrd.img-$OLD 2>/dev/null; dkms status --failed; ls -d /var/lib/dkms/.f* 2>/dev/null; true",
        "",
    );
    for (command, code) in [
        ("/etc/kernel/postinst.d/dkms $OLD", 1),
        ("/etc/kernel/header_postinst.d/dkms $OLD", 1),
        ("/usr/lib/kernel/install.d/40-dkms.install add $OLD", 0),
        ("/usr/lib/dkms/common.postinst bad 1 /usr/share/bad-dkms '' ''", 10),
    ] {
        root.fails(&format!("{command} >/dev/null 2>&1"), code, "");
    }
    // The way out that there always was.
    root.sh("dkms remove bad/1 --all; dpkg --configure -a");
    kernel_is_whole(&mut root, "good.ko\n");
}

/// The way out of a kernel that the machine could not boot.
fn way_out(why: &str, stop: &str, image: &str) -> String {
    format!(
        "\
This machine may not boot kernel $OLD without bad/1: {why}.
{stop}
  when it is mended:       dkms install bad/1 -k $OLD && dpkg --configure -a
  without that kernel:     apt purge {image}
  to boot it all the same: echo critical_modules=none >/etc/dkms/framework.conf.d/critical.conf && dpkg --configure -a
"
    )
}

#[test]
fn a_kernel_that_the_machine_cannot_boot_does_not_become_the_default() {
    let mut root = root();
    root.sh(NO_KERNEL);
    root.write("/etc/dkms/framework.conf.d/critical.conf", "critical_modules=\"other bad\"");
    // What makes a kernel the default comes after us.
    root.write("/etc/kernel/postinst.d/zz-update-grub", "#!/bin/sh\ntouch /srv/default-$1");
    root.sh("chmod 755 /etc/kernel/postinst.d/zz-update-grub");
    package(&mut root, "good", "");
    bad_for_old(&mut root);
    install(&mut root, &["good", "bad"]);

    let output = root.run("apt-get -qq -y install linux-image-$OLD linux-headers-$OLD");
    let named = "bad is one of critical_modules in framework.conf";
    let before = "Its installation stops here, before the boot loader makes it the default.";
    let out = root.expand(&way_out(named, before, "linux-image-$OLD"));
    let told = root.expand(TOLD);
    assert!(output.code == 100 && output.text.contains(&format!("{told}{out}")), "{output:?}");
    root.says("ls /srv/default-$OLD /boot/initrd.img-$OLD 2>/dev/null; ls /lib/modules/$OLD/updates/dkms", "good.ko\n");
    // Not built again, and no less critical.
    for (hook, stop) in [
        ("DPKG_MAINTSCRIPT_PACKAGE=linux-image-$OLD /etc/kernel/postinst.d/dkms $OLD", before),
        ("/usr/lib/kernel/install.d/40-dkms.install add $OLD", before),
        ("/etc/kernel/header_postinst.d/dkms $OLD", "Do not boot that kernel before this is mended."),
    ] {
        let output = root.run(&format!("{hook} 2>&1"));
        let out = root.expand(&way_out(named, stop, "linux-image-$OLD"));
        assert!(output.code == 1 && output.text.ends_with(&format!("{told}{out}")), "{hook}: {output:?}");
    }
    // The package of the module, by the exit code of the build.
    root.fails("/usr/lib/dkms/common.postinst bad 1 /usr/share/bad-dkms '' '' >/dev/null 2>&1", 10, "");

    // One that is not meant for the kernel is as little there.
    let exclusive = root.expand("BUILD_EXCLUSIVE_KERNEL=^$K");
    root.sh(&format!("echo '{exclusive}' >>/usr/src/bad-1/dkms.conf"));
    let output = root.run("/etc/kernel/postinst.d/dkms $OLD 2>&1");
    assert!(output.code == 1 && output.text.contains("bad/1 is not meant for kernel"), "{output:?}");
    assert!(output.text.contains("This machine may not boot kernel"), "{output:?}");
    // Nor is one that waits for another.
    root.sh("sed -i '$d' /usr/src/bad-1/dkms.conf; echo BUILD_DEPENDS=nosuch >>/usr/src/bad-1/dkms.conf");
    let output = root.run("/etc/kernel/postinst.d/dkms $OLD 2>&1");
    assert!(output.code == 1 && output.text.contains("not installed: nosuch."), "{output:?}");
    root.sh("sed -i '$d' /usr/src/bad-1/dkms.conf");

    // The ways out. The first:
    root.sh("sed -i /_Static_assert/d /usr/src/bad-1/bad.c; dkms install bad/1 -k $OLD && dpkg --configure -a");
    kernel_is_whole(&mut root, "bad.ko\ngood.ko\n");
    root.says("ls /srv; dkms status --failed", "default-$OLD\ntests\n");
    // The second:
    bad_for_old(&mut root);
    root.sh("apt-get -qq -y purge linux-image-$OLD linux-headers-$OLD bad-dkms; rm /srv/default*");
    install(&mut root, &["bad"]);
    root.fails(&format!("{KERNEL} >/dev/null 2>&1"), 100, "");
    root.sh("apt-get -qq -y purge linux-image-$OLD");
    root.says("dpkg --audit; ls /srv", "tests\n");
    // The third:
    root.fails(&format!("{KERNEL} >/dev/null 2>&1"), 100, "");
    root.sh("echo critical_modules=none >/etc/dkms/framework.conf.d/critical.conf && dpkg --configure -a");
    kernel_is_whole(&mut root, "good.ko\n");
    root.says("ls /srv; dkms status --failed", &format!("default-$OLD\ntests\n{TOLD}"));
}

#[test]
fn what_the_root_file_system_stands_on_is_found() {
    let mut root = root();
    // What a throwaway root is.
    root.says("stat -f -c %T /", "overlayfs\n");
    root.quick("package", "BUILT_MODULE_NAME=overlay\nMAKE=false\nAUTOINSTALL=yes");
    root.sh("dkms add package/1");
    let hook = "/etc/kernel/postinst.d/dkms $K";
    // The kernel has one of its own.
    root.sh(hook);
    // As a file of whatever kind, or built in, or left in place for its successor.
    let own = "/lib/modules/$K/kernel/fs/overlayfs/overlay.ko";
    for place in ["kernel/overlay.ko.zst", "updates/dkms/overlay.ko"] {
        let index = |from: &str, to: &str| format!("sed -i s,^{from}:,{to}:, /lib/modules/$K/modules.dep");
        let named = "kernel/fs/overlayfs/overlay.ko";
        root.sh(&format!(
            "mkdir -p /lib/modules/$K/updates/dkms; mv {own} /lib/modules/$K/{place} && {} && {hook}",
            index(named, place)
        ));
        root.sh(&format!("mv /lib/modules/$K/{place} {own} && {}", index(place, named)));
    }
    root.sh(&format!("rm {own}"));
    let output = root.run(&format!("{hook} 2>&1"));
    let reason = root.expand(
        "This machine may not boot kernel $K without package/1: its root file system stands on overlay.\nIts installation stops here, \
         before the boot loader makes it the default.\n",
    );
    assert!(output.code == 1 && output.text.contains(&reason), "{output:?}");
    // One that was loaded as no module could be, by its headers.
    root.sh("mv /lib/modules/$K/build /srv");
    let output = root.run(&format!("{hook} 2>&1"));
    assert!(output.code == 1 && output.text.contains(&reason), "{output:?}");
    assert!(output.text.contains(&root.expand("    try again: apt install linux-headers-$K\n")), "{output:?}");
    // One that is built and lies there, but of which depmod did not tell modprobe.
    root.sh("mv /srv/build /lib/modules/$K; sed -i s/MAKE=false// /usr/src/package-1/dkms.conf; mv /usr/src/package-1/package.ko /usr/src/package-1/overlay.ko");
    root.sh("mv /usr/sbin/depmod /srv; ln -s /bin/false /usr/sbin/depmod");
    let output = root.run(&format!("{hook} 2>&1"));
    assert!(output.code == 1 && output.text.contains(&reason), "{output:?}");
    root.sh("rm /usr/sbin/depmod; mv /srv/depmod /usr/sbin; rm -r /var/lib/dkms/.failed");
    root.sh(hook);
    root.sh("dkms unbuild package/1 -k $K && echo MAKE=false >>/usr/src/package-1/dkms.conf");
    root.sh("echo kernel/fs/overlayfs/overlay.ko >>/lib/modules/$K/modules.builtin");
    root.sh(hook);
}

#[test]
fn headers_that_are_missing_are_told_of_unless_they_come() {
    let mut root = root();
    root.sh(NO_KERNEL);
    package(&mut root, "good", "");
    package(&mut root, "well", "");
    install(&mut root, &["good", "well"]);

    let skipped = "Automatic installation of modules for kernel $OLD was skipped since the kernel headers for this kernel do \
                   not seem to be installed.\n";
    let said = root.sh("apt-get -qq -y install linux-image-$OLD");
    let told = "\
dkms: modules that could not be installed:
  good/1, well/1 for kernel $OLD ($A): the kernel's headers are not installed
    try again: apt install linux-headers-$OLD
";
    let both = root.expand(&format!("{skipped}To have them: apt install linux-headers-$OLD\n\n{told}"));
    assert!(said.contains(&both), "{said}");
    root.says(&format!("{MOTD}; ls /boot/initrd.img-$OLD; dpkg --audit"), &format!("{told}/boot/initrd.img-$OLD\n"));
    root.sh("apt-get -qq -y install linux-headers-$OLD");
    root.says("dkms status --failed", "");
    kernel_is_whole(&mut root, "good.ko\nwell.ko\n");
    // A package that comes then names them too, once each.
    let again = root.expand("good/1 for kernel $OLD ($A): the kernel's headers are not installed\n    try again: apt install linux-headers-$OLD\n");
    // What all flavours share is a package of its own.
    for part in ["/usr/src/linux-headers-$OLD/include", "/usr/src/linux-headers-${OLD%-amd64}-common"] {
        root.sh(&format!("mv {part} /srv/part"));
        let said = root.sh("apt-get -qq -y reinstall /root/good.deb");
        assert_eq!(said.matches(&again).count(), 1, "{said}");
        root.fails("dkms build good/1 -k $OLD 2>&1 | grep ^Error; exit ${PIPESTATUS[0]}", 21, "Error! Your kernel headers for kernel $OLD cannot be found at /lib/modules/$OLD/build or /lib/modules/$OLD/source.\n");
        root.sh(&format!("mv /srv/part {part}"));
    }

    // In one run of apt, the image first: headers that ask for it are not even unpacked when its hook runs.
    root.sh("apt-get -qq -y purge linux-image-$OLD linux-headers-$OLD");
    root.sh(
        "cd /root && dpkg-deb -R /var/cache/apt/archives/linux-headers-${OLD}_*.deb h \
         && sed -i \"s/^Depends: /Pre-Depends: linux-image-$OLD\\n&/\" h/DEBIAN/control && dpkg-deb -Znone --build h h.deb",
    );
    let said = root.sh("apt-get -qq -y install linux-image-$OLD /root/h.deb");
    let coming = format!("{skipped}They come with linux-headers-$OLD, which is about to be installed.\n");
    assert!(said.contains(&root.expand(&coming)) && !said.contains("could not be installed"), "{said}");
    kernel_is_whole(&mut root, "good.ko\nwell.ko\n");
    root.says("dkms status --failed", "");
    // Where they do not come after all, that is known.
    root.sh("apt-get -qq -y purge linux-image-$OLD linux-headers-$OLD");
    root.sh("cd /root && printf '#!/bin/sh\\nexit 1\\n' >h/DEBIAN/preinst && chmod 755 h/DEBIAN/preinst && dpkg-deb -Znone --build h h.deb");
    root.sh("! apt-get -qq -y install linux-image-$OLD /root/h.deb");
    let failed = root.sh("dkms status --failed");
    assert!(failed.contains(&root.expand(told)), "{failed}");
}

#[test]
fn what_a_log_says_does_nothing_to_a_terminal() {
    let mut root = root();
    root.quick("bad", "MAKE=\"printf 'error: \\\\033[2J\\\\r%0300d' 1; false\"\nAUTOINSTALL=yes");
    root.sh("dkms add bad/1; /etc/kernel/postinst.d/dkms $K");
    let reason = root.sh("dkms status --failed | sed -n 2p");
    assert!(!reason.contains('\x1b') && !reason.contains('\r') && reason.contains("): error:  [2J 000"), "{reason:?}");
    assert!(reason.len() < 250 && reason.ends_with("...\n"), "{reason:?}");
}

#[test]
fn a_machine_that_was_short_of_something_is_tried_again() {
    let mut root = root();
    let hook = "/etc/kernel/postinst.d/dkms $K 2>&1";
    for (make, code) in [("echo fatal error: x: No space left on device; false", 1), ("kill -9 $$", 137)] {
        root.quick("bad", &format!("MAKE='{make}'\nAUTOINSTALL=yes"));
        root.sh(&format!("dkms add bad/1; {hook}"));
        let said = root.sh(hook);
        assert!(said.contains(&format!("Building module(s)...(bad exit status: {code})")), "{said}");
        root.sh("dkms remove bad/1 --all");
    }
    root.quick("bad", "MAKE='kill -9 $$'\nAUTOINSTALL=yes");
    root.sh(&format!("dkms add bad/1; {hook}"));
    let reason = root.sh("dkms status --failed | sed -n 2p");
    assert!(reason.ends_with(" was killed, as it happens when memory runs out\n"), "{reason:?}");
    // And what cannot write its state says so, and holds nothing up.
    root.sh("mount -t tmpfs -o mode=755,size=4k,nr_inodes=1 full /var/lib/dkms; true");
    let output = root.run(hook);
    assert_eq!(output.code, 0, "{output:?}");
}

/// `quick`, which `dkms status` has as installed for the kernel of which there are headers alone.
fn with_quick(conf: &str) -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    root.quick("quick", &format!("AUTOINSTALL=yes\n{conf}"));
    root
}

#[test]
fn a_depmod_that_fails_is_a_module_that_fails() {
    for (critical, code) in [("none", 0), ("quick", 1)] {
        let mut root = with_quick("");
        root.sh(&format!(
            "dkms add quick/1; echo critical_modules={critical} >/etc/dkms/framework.conf.d/critical.conf"
        ));
        root.sh("printf '#!/bin/sh\\nexit 1\\n' >/usr/local/sbin/depmod; chmod 755 /usr/local/sbin/depmod");
        let said = root.run("/etc/kernel/postinst.d/dkms $K");
        assert_eq!(said.code, code, "{}", said.text);
        assert!(
            said.text.contains("dkms: modules that could not be installed:\n  quick/1 for kernel"),
            "{}",
            said.text
        );
        root.sh("dkms status --failed | grep 'depmod failed'");
        // By hand it is what it always was.
        root.sh("dkms install quick/1 -k $K");
        root.sh("rm /usr/local/sbin/depmod; /etc/kernel/postinst.d/dkms $K");
        root.says("dkms status --failed; dkms status quick", "quick/1, $K, $A: installed\n");
    }
}

/// Whatever ends the bash that reads its dkms.conf, before it is registered anew or after that.
#[test]
fn a_package_whose_conf_cannot_be_read_now_stays_registered() {
    for when in ["!", ""] {
        let mut root = with_quick("");
        root.sh("dkms install quick/1 -k $OLD");
        root.write(
            "/srv/bin/bash",
            &format!("#!/bin/sh\nif [ {when} -e /var/lib/dkms/quick/1 ]; then kill -9 $$; fi\nexec /bin/bash \"$@\""),
        );
        // What holds no program is read without one.
        root.sh("chmod 755 /srv/bin/bash; echo 'ANOTHER=$(echo 1)' >>/usr/src/quick-1/dkms.conf");
        root.sh("PATH=/srv/bin:$PATH /usr/lib/dkms/common.postinst quick 1 /usr/share/quick $A 1 >/srv/said 2>&1");
        root.sh("grep 'modules that could not be installed' /srv/said && ! grep 'does not have AUTOINSTALL' /srv/said");
        root.sh("/etc/kernel/postinst.d/dkms $K");
        root.sh("dkms status quick/1 -k $K | grep ': installed'");
    }
}

#[test]
fn what_the_kernel_has_as_new_is_not_missing() {
    let mut root = with_quick("DEST_MODULE_NAME=nlmon");
    root.sh("dkms add quick/1; echo critical_modules=nlmon >/etc/dkms/framework.conf.d/critical.conf");
    let said = root.sh("/etc/kernel/postinst.d/dkms $K");
    assert!(!said.contains("could not be installed"), "{said}");
    root.says("dkms status --failed", "");
}

/// Whose error has the same exit code.
#[test]
fn a_patch_that_does_not_apply_is_a_failure_also_where_the_kernel_has_such_a_module() {
    let mut root = with_quick("DEST_MODULE_NAME=nlmon\nPATCH=odd.patch");
    root.write("/usr/src/quick-1/patches/odd.patch", "--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+b\n");
    root.sh("dkms add quick/1");
    let said = root.sh("/etc/kernel/postinst.d/dkms $K");
    assert!(said.contains("Application of patch odd.patch failed.") && said.contains("  quick/1 for kernel"), "{said}");
    root.sh(
        "dkms status --failed | grep quick/1; echo critical_modules=nlmon >/etc/dkms/framework.conf.d/critical.conf",
    );
    assert_eq!(root.run("/etc/kernel/postinst.d/dkms $K").code, 1);
}

#[test]
fn a_kernel_that_is_passed_over_for_want_of_headers_is_named() {
    let mut root = with_quick("");
    root.sh("rm /lib/modules/$K/build");
    let said = root.sh("/usr/lib/dkms/common.postinst quick 1 /usr/share/quick $A ''");
    let hint = root.expand("\n    try again: apt install linux-headers-$K\n");
    assert!(said.contains("Building for") && said.contains(&hint), "{said}");
}

#[test]
fn a_failed_build_is_tried_again_with_another_user_or_other_limits() {
    let mut root = with_quick("");
    root.write("/usr/src/quick-1/mk", "#!/bin/sh\n[ $(id -u) = 0 ]");
    root.sh("sed -i 's/^MAKE=.*/MAKE=\"sh .\\/mk\"/' /usr/src/quick-1/dkms.conf; dkms add quick/1");
    root.sh("/etc/kernel/postinst.d/dkms $K; /etc/kernel/postinst.d/dkms $K | grep 'Not built again'");
    root.sh("echo build_time=1h >/etc/dkms/framework.conf.d/time.conf; ! /etc/kernel/postinst.d/dkms $K | grep 'Not built again'");
    root.sh("echo BUILD_AS_ROOT=yes >/etc/dkms/quick.conf; /etc/kernel/postinst.d/dkms $K");
    root.sh("dkms status quick/1 -k $K | grep ': installed'");
}

#[test]
fn a_failed_build_is_tried_again_where_it_was_ended_or_has_a_program_that_it_lacked() {
    let mut root = with_quick("");
    // As an alternative comes, when a package is configured.
    root.sh("sed -i 's/^MAKE=.*/MAKE=\"mytool\"/' /usr/src/quick-1/dkms.conf; dkms add quick/1");
    root.sh("/etc/kernel/postinst.d/dkms $K; /etc/kernel/postinst.d/dkms $K | grep 'Not built again'");
    root.sh(
        "ln -s true /usr/bin/mytool; /etc/kernel/postinst.d/dkms $K; dkms status quick/1 -k $K | grep ': installed'",
    );
    // Who watches over memory asks politely first.
    root.sh("dkms remove quick/1 --all; sed -i 's/^MAKE=.*/MAKE=\"sh .\\/mk\"/' /usr/src/quick-1/dkms.conf");
    root.write("/usr/src/quick-1/mk", "kill $$");
    root.sh("dkms add quick/1; /etc/kernel/postinst.d/dkms $K | grep 'exit status: 143'");
    root.sh("/etc/kernel/postinst.d/dkms $K | grep 'exit status: 143'");
}

#[test]
fn settings_that_cannot_be_read_hold_up_no_kernel_and_no_package() {
    let mut root = with_quick("");
    root.sh("dkms add quick/1");
    root.write("/srv/bin/bash", "#!/bin/sh\nkill -9 $$");
    let confs = "/etc/dkms/framework.conf.d";
    let short_of_memory = format!("chmod 755 /srv/bin/bash; echo 'verbose=$(true)' >{confs}/odd.conf");
    let open = format!("echo 'verbose=' >{confs}/odd.conf; chmod 666 {confs}/odd.conf");
    for (before, why) in [(short_of_memory, "Cannot run bash to read framework.conf"), (open, "odd.conf")] {
        root.sh(&before);
        for call in ["/etc/kernel/postinst.d/dkms $K", "/usr/lib/dkms/common.postinst quick 1 /usr/share/quick $A ''"] {
            let said = root.run(&format!("export PATH=/srv/bin:$PATH; {call}"));
            assert_eq!(said.code, 0, "{call}: {}", said.text);
            assert!(said.text.contains(why) && said.text.contains("quick/1 for kernel"), "{}", said.text);
        }
        // Who is at a terminal is to mend it first.
        assert_ne!(root.run("PATH=/srv/bin:$PATH dkms install quick/1 -k $K").code, 0);
    }
    root.sh(&format!("rm {confs}/odd.conf; dkms status --failed | grep quick/1; /etc/kernel/postinst.d/dkms $K"));
    root.sh("dkms status quick/1 -k $K | grep ': installed'");
}

#[test]
fn what_is_critical_is_installed_whatever_its_package_thinks() {
    let mut root = with_quick("AUTOINSTALL=");
    root.sh("dkms add quick/1; /etc/kernel/postinst.d/dkms $K; dkms status quick/1 | grep ': added'");
    root.sh("echo critical_modules=quick >/etc/dkms/framework.conf.d/critical.conf; dkms autoinstall -k $K");
    root.sh("dkms status quick/1 | grep ': added'");
    root.sh("/etc/kernel/postinst.d/dkms $K; dkms status quick/1 -k $K | grep ': installed'");
}

#[test]
fn a_critical_module_that_nobody_has_is_named() {
    let mut root = with_quick("AUTOINSTALL=\nDEST_MODULE_NAME=other-name");
    root.sh("dkms add quick/1; builtin=$(sed -n '1s,.*/,,; s/\\.ko$//p' /lib/modules/$K/modules.builtin | head -n 1)
             echo critical_modules=\\\"nlmon $builtin quick other_name nosuchmod\\\" >/etc/dkms/framework.conf.d/critical.conf");
    let told = root.expand(
        "Warning: critical_modules in framework.conf names nosuchmod, but neither kernel $K nor a registered package has a \
         module of that name.\n",
    );
    for hook in ["/etc/kernel/postinst.d/dkms", "/etc/kernel/header_postinst.d/dkms"] {
        let said = root.sh(&format!("{hook} $K 2>&1"));
        assert!(said.ends_with(&told) && said.matches("Warning: critical").count() == 1, "{hook}: {said}");
    }
    // One that would bring it is registered, and is not meant for that kernel.
    let exclusive = root.expand("DEST_MODULE_NAME=nosuchmod\nBUILD_EXCLUSIVE_KERNEL=^$OLD");
    root.quick("late", &exclusive);
    let said = root.run("dkms add late/1; /etc/kernel/postinst.d/dkms $K 2>&1").text;
    assert!(!said.contains("Warning: critical"), "{said}");
    root.sh("dkms remove late/1 --all; echo critical_modules=none >/etc/dkms/framework.conf.d/critical.conf");
    root.says("/etc/kernel/postinst.d/dkms $K", "");
}

#[test]
fn what_is_no_kernel_holds_up_no_package_and_is_not_to_be_had_from_apt() {
    let mut root = with_quick("");
    root.sh("dkms add quick/1");
    let mut calls = vec!["/usr/lib/kernel/install.d/40-dkms.install add ../../etc".to_owned()];
    for hook in ["postinst.d", "header_postinst.d"] {
        calls.extend(["../../etc", "-k", "--all", "'a b'"].map(|name| format!("/etc/kernel/{hook}/dkms {name}")));
    }
    for call in calls {
        let said = root.run(&format!("{call} 2>&1"));
        assert!(said.code == 0 && !said.text.is_empty() && !said.text.contains("apt install"), "{call}: {said:?}");
    }
    root.sh("echo on_failure=original >/etc/dkms/framework.conf.d/a.conf");
    root.fails("/etc/kernel/postinst.d/dkms ../../etc", 1, "\nError! ../../etc is no kernelver.\n");
}

#[test]
fn a_limit_that_was_overstepped_is_named() {
    let mut root = with_quick("");
    root.sh("sed -i 's/^MAKE=.*/MAKE=\"sleep 60\"/' /usr/src/quick-1/dkms.conf; dkms add quick/1");
    root.sh("echo build_time=1s >/etc/dkms/framework.conf.d/time.conf");
    let said = root.sh("/etc/kernel/postinst.d/dkms $K");
    assert!(said.contains("it took too long, see build_time in /etc/dkms/framework.conf\n"), "{said}");
}

#[test]
fn a_system_without_a_name_holds_up_no_kernel() {
    let mut root = with_quick("");
    root.sh("dkms add quick/1; rm /etc/os-release; mv /usr/lib/os-release /srv");
    for call in ["/etc/kernel/postinst.d/dkms $K", "/usr/lib/dkms/common.postinst quick 1 /usr/share/quick $A ''"] {
        let said = root.run(call);
        assert!(said.code == 0 && said.text.contains("System is missing os-release file."), "{call}: {said:?}");
        assert!(said.text.contains("quick/1 for kernel"), "{call}: {said:?}");
    }
    root.sh(
        "mv /srv/os-release /usr/lib; /etc/kernel/postinst.d/dkms $K; dkms status quick/1 -k $K | grep ': installed'",
    );
}

/// Of what its Makefile asks no key speaks, but it will not be told otherwise before the machine was started anew.
#[test]
fn a_failing_build_that_asks_the_machine_is_not_repeated_either() {
    let mut root = with_quick("AUTOINSTALL=yes\nMAKE='make fail'");
    root.write("/usr/src/quick-1/Makefile", "NAME := $(shell uname -n)\nfail:\n\tfalse");
    root.sh("dkms add quick/1; /etc/kernel/postinst.d/dkms $K");
    root.sh("/etc/kernel/postinst.d/dkms $K | grep 'Not built again'");
    root.sh("! dkms install quick/1 -k $K | grep 'Not built again'");
    root.sh("hostname other; ! /etc/kernel/postinst.d/dkms $K | grep 'Not built again'");
}

#[test]
fn what_failed_is_told_wherever_the_tree_is() {
    let mut root = with_quick("AUTOINSTALL=yes\nMAKE=false");
    root.sh("echo dkms_tree=/srv/dkms >/etc/dkms/framework.conf.d/tree.conf; mkdir /srv/dkms; dkms add quick/1; /etc/kernel/postinst.d/dkms $K");
    let said = root.sh(MOTD);
    assert!(said.contains(&root.expand("quick/1 for kernel $K")), "{said}");
    // Whatever the boot service waits for is there.
    root.sh("for path in $(sed -n 's/^ConditionPathExists[A-Za-z]*=\\([^!]\\)/\\1/p' /usr/lib/systemd/system/dkms.service); do ls -d $path; done");
}

#[test]
fn trees_that_others_can_write_hold_up_no_kernel() {
    for tree in ["/usr/src", "/var/lib/dkms", "/lib/modules"] {
        let mut root = with_quick("");
        root.sh(&format!("dkms add quick/1; mkdir -p {tree}; chmod 777 {tree}"));
        for call in ["/etc/kernel/postinst.d/dkms $K", "/usr/lib/dkms/common.postinst quick 1 /usr/share/quick $A ''"] {
            let said = root.run(call);
            assert_eq!(said.code, 0, "{call}: {}", said.text);
            let why = format!("{tree} can be changed by others");
            assert!(said.text.contains(&why) && said.text.contains("quick/1 for kernel"), "{}", said.text);
        }
        root.sh(&format!(
            "chmod 755 {tree}; /etc/kernel/postinst.d/dkms $K; dkms status quick/1 -k $K | grep ': installed'"
        ));
    }
}
