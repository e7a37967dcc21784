// SPDX-License-Identifier: GPL-2.0-or-later

//! What others than root can change is nothing that root reads, runs or installs; and the key that signs is root's alone.

use crate::support::{Layer, Root};

const OTHER: &str = "setpriv --reuid=1000 --regid=1000 --clear-groups";

fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    root
}

/// The text of the error about a place that belongs to user 1000, or that others can write.
fn owned(place: &str, all: &str) -> String {
    format!("{place} belongs to user 1000, not to root.\nIf it is as it should be: chown {all}root:root {place}\n")
}

fn writable(place: &str, mode: &str, all: &str) -> String {
    format!(
        "{place} can be changed by others than root (mode {mode}).\nIf it is as it should be: chmod {all}go-w {place}\n"
    )
}

#[test]
fn a_source_that_others_can_change_is_refused() {
    let mut root = root();
    root.quick("quick", "POST_INSTALL=post");
    root.write("/usr/src/quick-1/post", "#!/bin/sh\ntouch /srv/ran");
    root.sh("chmod 755 /usr/src/quick-1/post");
    let dir = "/usr/src/quick-1";
    let conf = &format!("{dir}/dkms.conf");
    for (weaken, mend, words) in [
        (format!("chown 1000 {conf}"), format!("chown root {conf}"), owned(conf, "")),
        (format!("chmod 666 {conf}"), format!("chmod 644 {conf}"), writable(conf, "666", "")),
        (
            format!("chgrp 1000 {conf}; chmod 664 {conf}"),
            format!("chgrp root {conf}; chmod 644 {conf}"),
            writable(conf, "664", ""),
        ),
        (format!("chown 1000 {dir}"), format!("chown root {dir}"), owned(dir, "-R ")),
        (format!("chmod 777 {dir}"), format!("chmod 755 {dir}"), writable(dir, "777", "-R ")),
        ("chmod 777 /usr/src".into(), "chmod 755 /usr/src".into(), writable("/usr/src", "777", "")),
    ] {
        root.sh(&weaken);
        for action in ["add", "build", "install"] {
            root.fails(&format!("dkms {action} quick/1"), 8, &format!("\nError! {words}"));
        }
        root.sh(&mend);
    }
    // What was registered before, whatever command comes; and one module does not stop the others.
    root.quick("other", "AUTOINSTALL=yes");
    root.sh("dkms add quick/1; dkms add other/1; echo AUTOINSTALL=yes >>/usr/src/quick-1/dkms.conf; chmod 666 /usr/src/quick-1/dkms.conf");
    root.fails("dkms build quick/1", 8, &format!("\nError! {}", writable(conf, "666", "")));
    let output = root.run("dkms autoinstall");
    assert_eq!(output.code, 11, "{output:?}");
    assert!(output.text.contains(&writable(conf, "666", "")), "{output:?}");
    root.says("dkms status", "other/1, $K, $A: installed\nquick/1: added\n");
    // Not only the conf: whatever the build is made of, and what root would run.
    root.sh("chmod 644 /usr/src/quick-1/dkms.conf; chmod 666 /usr/src/quick-1/quick.ko");
    let output = root.run("dkms build quick/1");
    assert!(output.code == 8 && output.text.ends_with(&writable("/usr/src/quick-1/quick.ko", "666", "")), "{output:?}");
    root.sh("chmod 644 /usr/src/quick-1/quick.ko; dkms build quick/1; chown 1000 /usr/src/quick-1/post");
    let output = root.run("dkms install quick/1");
    assert!(output.text.contains(&owned("/usr/src/quick-1/post", "")), "{output:?}");
    root.sh("test ! -e /srv/ran");
    // It can be removed all the same, and nothing of it runs.
    root.sh("chmod -R 777 /usr/src/quick-1; dkms remove quick/1 --all");
    root.says("dkms status; ls /srv/ran 2>/dev/null; true", "other/1, $K, $A: installed\n");
}

/// What was root's when it was built need not be any more.
#[test]
fn what_others_could_change_since_it_was_built_is_neither_run_nor_installed() {
    let mut root = root();
    root.quick("quick", "POST_INSTALL=post\nPOST_REMOVE=post");
    root.write("/usr/src/quick-1/post", "#!/bin/sh\n. ./helper");
    root.write("/usr/src/quick-1/helper", "touch /srv/ran");
    root.sh("chmod 755 /usr/src/quick-1/post; dkms install quick/1; dkms uninstall quick/1; rm /srv/ran");
    root.sh("chmod 666 /usr/src/quick-1/helper");
    for command in ["dkms install quick/1", "dkms remove quick/1 --all"] {
        let output = root.run(command);
        assert!(output.text.contains(&writable("/usr/src/quick-1/helper", "666", "")), "{command}: {output:?}");
        root.sh("test ! -e /srv/ran");
    }
    for action in ["mkdeb", "mkdsc", "mkrpm", "mktarball"] {
        root.sh("dkms add quick/1 2>/dev/null || true");
        let output = root.run(&format!("dkms {action} quick/1 --source-only"));
        assert!(
            output.code == 8 && output.text.ends_with(&writable("/usr/src/quick-1/helper", "666", "")),
            "{output:?}"
        );
    }
    root.sh(
        "chmod 644 /usr/src/quick-1/helper; dkms build quick/1; chmod 666 /var/lib/dkms/quick/1/$K/$A/module/quick.ko",
    );
    let built = root.expand("/var/lib/dkms/quick/1/$K/$A/module/quick.ko");
    root.fails("dkms install quick/1", 8, &format!("\nError! {}", writable(&built, "666", "")));
    // Nor does it go where somebody else has it go.
    root.sh(&format!(
        "chmod 644 {built}; mkdir -p /srv/target /lib/modules/$K/updates; chmod 777 /lib/modules/$K/updates"
    ));
    root.sh("setpriv --reuid=1000 --regid=1000 --clear-groups ln -s /srv/target /lib/modules/$K/updates/dkms");
    let updates = root.expand("/usr/lib/modules/$K/updates");
    let output = root.run("dkms install quick/1");
    assert!(output.code == 8 && output.text.ends_with(&writable(&updates, "777", "")), "{output:?}");
    root.says("ls /srv/target; dkms status", "quick/1, $K, $A: built\n");
}

#[test]
fn what_debian_has_and_what_a_group_for_it_writes_is_fine() {
    let mut root = root();
    root.says("stat -c '%a %U:%G' /usr/src", "755 root:root\n");
    // Debian's groups for local sources and programs, and the mode that /usr/src has had.
    root.sh("chgrp src /usr/src && chmod 2775 /usr/src");
    root.quick("quick", "");
    root.sh("chgrp -R staff /usr/src/quick-1 && chmod -R g+w /usr/src/quick-1 && dkms install quick/1");
    // Files with the group root, as a umask of 002 makes them.
    root.sh("chgrp -R root /usr/src/quick-1 && dkms build quick/1 --force");
}

#[test]
fn what_root_copies_is_roots() {
    let mut root = root();
    root.quick("quick", "");
    // As a clone of a user's is: nobody else can change what root has of it afterwards.
    root.sh("mv /usr/src/quick-1 /home/q && mkdir /home/q/sub && cp /bin/true /home/q/sub/tool && chown -R 1000:1000 /home/q && chmod -R 6777 /home/q");
    root.sh("dkms add /home/q && dkms install quick/1");
    root.says("find /usr/src/quick-1 ! -user root -o ! -group root -o -perm /7002", "");
    root.sh("[ $(stat -c %a /home/q/dkms.conf) = 6777 ] && test -x /usr/src/quick-1/sub/tool");
    // Whoever is not root copies for himself.
    root.sh(&format!(
        "mkdir -p /home/t /home/s && chown 1000:1000 /home/t /home/s && chmod -R 755 /home/q && cd /home && {OTHER} dkms add /home/q --dkmstree /home/t --sourcetree /home/s"
    ));
    root.says("stat -c %u /home/s/quick-1", "1000\n");
    root.sh(&format!(
        "cd /home && chmod 777 /home/s && {OTHER} dkms build quick/1 --dkmstree /home/t --sourcetree /home/s"
    ));
}

#[test]
fn settings_and_overrides_that_others_can_change_are_refused() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("dkms add quick/1; cp -a /etc/dkms /srv/dkms");
    for (file, mode) in [
        ("/etc/dkms/framework.conf", "666"),
        ("/etc/dkms/framework.conf.d/a.conf", "646"),
        ("/etc/dkms/framework.conf.d", "777"),
        ("/etc/dkms/quick.conf", "666"),
        ("/etc/dkms/quick-1.conf", "666"),
        ("/etc/dkms", "777"),
    ] {
        // It would be run by root, or by a build.
        root.sh("echo '[ \"$(id -u)\" != 0 ] || touch /srv/ran' >/etc/dkms/framework.conf.d/a.conf; rm -f /srv/ran");
        root.sh(&format!("[ -e {file} ] || echo MAKE=true >{file}; chmod {mode} {file}"));
        root.fails("dkms build quick/1", 8, &format!("\nError! {}", writable(file, mode, "")));
        if !file.contains("quick") {
            root.sh("test ! -e /srv/ran");
            root.fails("dkms status", 8, &format!("\nError! {}", writable(file, mode, "")));
        }
        root.sh("rm -r /etc/dkms && cp -a /srv/dkms /etc/dkms");
    }
    // The same for a file that build_environment names, and for links that somebody else can turn.
    root.sh("mkdir /home/x && echo 'touch /srv/ran' >/home/x/env && chown -R 1000 /home/x && ln -s /home/x/env /etc/dkms/env");
    root.write("/etc/dkms/framework.conf.d/a.conf", "build_environment=/etc/dkms/env");
    root.fails(
        "dkms build quick/1 2>&1 | tail -n 2; exit ${PIPESTATUS[0]}",
        8,
        &format!("Error! {}", owned("/home/x", "")),
    );
    root.sh("test ! -e /srv/ran");
}

#[test]
fn directories_that_others_can_change_hold_no_trees() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("mkdir -m 777 /home/open && mkdir -m 755 /home/his && chown 1000 /home/his");
    // Not even what is not there yet: somebody else could make it first.
    for (option, place, words) in [
        ("--dkmstree", "/home/open/tree", writable("/home/open", "777", "")),
        ("--dkmstree", "/home/open", writable("/home/open", "777", "")),
        ("--dkmstree", "/home/his/tree", owned("/home/his", "")),
        ("--sourcetree", "/home/open/src", writable("/home/open", "777", "")),
        ("--installtree", "/home/his/modules", owned("/home/his", "")),
        ("--dkmstree", "/tmp", writable("/tmp", "1777", "")),
    ] {
        root.fails(&format!("dkms status {option} {place}"), 8, &format!("\nError! {words}"));
    }
    // In /tmp nobody takes away what is root's.
    root.write("/etc/dkms/framework.conf.d/a.conf", "cache_tree=/tmp/cache");
    root.sh("mkdir /tmp/tree && dkms build quick/1 --dkmstree /tmp/tree");
    // But a link of somebody else's leads nowhere.
    root.sh(&format!("{OTHER} ln -s /var/lib/dkms /tmp/his"));
    root.fails("dkms status --dkmstree /tmp/his", 8, &format!("\nError! {}", owned("/tmp/his", "")));
    // Temporary files.
    root.fails(
        "TMPDIR=/home/open dkms build quick/1 2>&1 | tail -n 2; exit ${PIPESTATUS[0]}",
        8,
        &format!("Error! {}", writable("/home/open", "777", "")),
    );
    root.sh("TMPDIR=/var/tmp dkms build quick/1");
}

#[test]
fn caches_that_others_can_change_are_not_used() {
    let mut root = root();
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh("dkms install quick/1; mkdir -m 777 /home/open; mkdir /srv/prebuilt");
    let caches = "/var/cache/dkms";
    for (weaken, conf, words) in [
        (format!("chown 1000 {caches}"), "", owned(caches, "")),
        (
            format!("chown 0 {caches}; mount -t tmpfs -o mode=1777 x {caches}"),
            "prebuilt=file:/srv/prebuilt",
            writable(caches, "1777", ""),
        ),
        ("true".into(), "cache_tree=/home/open/cache", writable("/home/open", "777", "")),
    ] {
        root.write("/etc/dkms/framework.conf.d/a.conf", conf);
        root.sh(&weaken);
        let trace = format!("find {caches} /home/open -printf '%p %s %T@\n'");
        let before = root.sh(&trace);
        let status = "quick/1, $K, $A: installed\n";
        root.says("dkms status", status);
        root.sh("dkms unbuild quick/1 -k $K && dkms build quick/1 && dkms plan");
        root.sh("/etc/kernel/prerm.d/dkms $K && /etc/kernel/postinst.d/dkms $K");
        root.says(
            "script -qec 'dkms status' /dev/null | tr -d '\\r'",
            &format!("{words}Until then nothing is cached there.\n{status}"),
        );
        root.unchanged(&trace, &before);
    }
}

#[test]
fn nobody_else_keeps_root_waiting() {
    let mut root = root();
    root.quick("quick", "");
    // Whoever may read a directory may lock it.
    root.sh(&format!("{OTHER} flock /var/lib/dkms sleep 1000 & {OTHER} flock /usr/src sleep 1000 & sleep 0.5; timeout 60 dkms add quick/1"));
    root.says("stat -c %a /run/dkms-*.lock", "600\n");
    root.fails(&format!("{OTHER} flock -n $(echo /run/dkms-*.lock) true 2>/dev/null"), 66, "");
}

#[test]
fn the_administrators_patches_are_not_copied_through_a_link() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("mkdir -p /etc/dkms/quick/patches/sub /srv/there/sub && echo x >/etc/dkms/quick/patches/sub/p");
    for link in ["ln -s /srv/there patches", "rm patches; mkdir patches; ln -s /srv/there/sub patches/sub"] {
        root.sh(&format!("cd /usr/src/quick-1; {link}; dkms build quick/1 --force"));
        root.says("find /srv/there -type f", "");
    }
}

#[test]
fn a_conf_that_is_a_link_shows_nothing_of_where_it_leads() {
    let mut root = root();
    root.sh("printf 'AUTOINSTALL=secret\\nPACKAGE_NAME=secret\\n' >/root/secret; chmod 600 /root/secret");
    for secret in ["/etc/shadow", "/var/lib/dkms/mok.key", "/root/secret"] {
        root.sh(&format!("rm -rf /root/d /usr/src/d-1; mkdir -p /root/d /usr/src/d-1; ln -s {secret} /root/d/dkms.conf; ln -s {secret} /usr/src/d-1/dkms.conf; touch /root/d/x"));
        let output = root.run("dkms add /root/d; dkms add d/1; dkms status");
        let shows = ["root:", "BEGIN", "secret/", "secret'"].iter().any(|it| output.text.contains(it));
        assert!(output.code == 0 && !shows, "{output:?}");
    }
    root.says("dkms status", "");
}

#[test]
fn the_signing_key_is_roots_from_its_first_byte() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("rm -f /var/lib/dkms/mok.*");
    // What is there, and under which command line, while the key is made.
    root.sh("mv /usr/bin/openssl /usr/bin/openssl.real");
    root.write(
        "/usr/bin/openssl",
        "#!/bin/bash\n/usr/bin/openssl.real \"$@\" & while kill -0 $! 2>/dev/null; do find /var/lib/dkms -name '*key*' -printf '%m\\n' >>/srv/modes
         find /var/lib/dkms/.dkms-* -maxdepth 0 -printf '%m\\n' >>/srv/dirs; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' >>/srv/lines; done 2>/dev/null; wait $!",
    );
    root.sh("chmod 755 /usr/bin/openssl; umask 000; dkms generate_mok");
    root.says("sort -u /srv/dirs; sort -u /srv/modes | grep -v 600; stat -c '%a %U' /var/lib/dkms/mok.key; ls -A /var/lib/dkms", "700\n600 root\nmok.key\nmok.pub\n");
    root.sh("! grep -aF \"$(sed -n 2p /var/lib/dkms/mok.key)\" /srv/lines && [ -s /srv/lines ]");

    // Cut off between one file and the other: the next run has the pair.
    root.sh("cd /var/lib/dkms; mkdir -m 700 .mok-new; cp mok.pub .mok-new/pub; mv mok.key .mok-new/key; cksum <.mok-new/key >/srv/key");
    root.sh("dkms generate_mok && cksum </var/lib/dkms/mok.key | cmp - /srv/key");
    root.says("cd /var/lib/dkms; ls -A; stat -c %a mok.key", "mok.key\nmok.pub\n600\n");
    // And before that there is none.
    root.sh("rm /var/lib/dkms/mok.*; printf '#!/bin/sh\\nkill -9 $PPID' >/usr/bin/openssl; dkms generate_mok; mv /usr/bin/openssl.real /usr/bin/openssl");
    root.says("ls /var/lib/dkms", "");
    root.sh("dkms generate_mok");
}

#[test]
fn half_a_pair_is_not_written_over() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("cp -a /var/lib/dkms /srv/pair");
    let (key, certificate) = ("/var/lib/dkms/mok.key", "/var/lib/dkms/mok.pub");
    for (there, missing, what) in [(key, certificate, "Certificate"), (certificate, key, "Key")] {
        root.sh(&format!("rm {missing}; cksum {there} >/srv/before"));
        let told = format!(
            "Signing key: {key}\nPublic certificate (MOK): {certificate}\n{what} file {missing} not found and can't be generated, modules won't be signed\n"
        );
        let advice = format!(
            "{there} is there, but {missing} is not, and is not made without it.\nBring {missing} back, or make another pair: mv {there} {there}.old && dkms generate_mok\n"
        );
        root.fails("dkms generate_mok", 1, &format!("{told}\nError! {advice}"));
        root.says(
            "dkms build quick/1 --force",
            &format!("{}Sign command: /usr/lib/linux-kbuild-$SERIES/scripts/sign-file\n{told}{advice}\nBuilding module(s)... done.\n",
                if there == key { "Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1\n\n" } else { "" }),
        );
        root.says(&format!("cksum {there} | cmp - /srv/before; ls {missing} 2>/dev/null; true"), "");
        root.sh("cp -a /srv/pair/* /var/lib/dkms");
        // What it says helps.
        root.sh(&format!(
            "rm {missing}; mv {there} {there}.old && dkms generate_mok && rm {there}.old && ls {key} {certificate}"
        ));
    }
}

#[test]
fn a_key_or_a_tool_that_others_can_change_signs_nothing() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("dkms add quick/1; cp /usr/lib/linux-kbuild-*/scripts/sign-file /srv/sign; chmod 777 /srv/sign");
    let output = root.run("sign_file=/srv/sign dkms build quick/1");
    let words = format!(
        "Sign command: /srv/sign\nBinary /srv/sign can be changed by others than root, modules won't be signed\n{}",
        writable("/srv/sign", "777", "")
    );
    assert!(output.code == 0 && output.text.starts_with(&words), "{output:?}");
    root.sh("mkdir /home/k; cp /var/lib/dkms/mok.* /home/k; chown -R 1000 /home/k");
    let output = root.run("mok_signing_key=/home/k/mok.key mok_certificate=/home/k/mok.pub dkms build quick/1 --force");
    let words = format!(
        "Key file /home/k/mok.key can be changed by others than root, modules won't be signed\n{}",
        owned("/home/k", "")
    );
    assert!(output.code == 0 && output.text.contains(&words), "{output:?}");
    // A PIN is for nobody's eyes.
    root.write("/srv/sign", "#!/bin/bash\necho \"$* pin=$KBUILD_SIGN_PIN\" >>/srv/signed");
    root.sh("chmod 755 /srv/sign");
    let key =
        "mok_signing_key='pkcs11:token=x;pin-value=ses%61me' mok_certificate=/var/lib/dkms/mok.pub sign_file=/srv/sign";
    let output = root.run(&format!("{key} dkms build quick/1 --force"));
    assert!(output.code == 0 && output.text.contains("Signing key: pkcs11:token=x\n"), "{output:?}");
    root.says("cut -d' ' -f2,5 /srv/signed", "pkcs11:token=x pin=sesame\n");
    root.sh("! grep -r sesame /var/lib/dkms /var/cache/dkms");
    // A build's neither, nor in a file that it could read.
    root.quick("curious", "MAKE='env; cat /etc/dkms/framework.conf.d/*'");
    let built = format!("export KBUILD_SIGN_PIN=sesame; {key} dkms build curious/1 --force");
    root.run(&built);
    let shown = "grep -c -e kernelver= -e same /var/lib/dkms/curious/1/$K/$A/log/make.log";
    root.says(shown, "1\n");
    root.write("/etc/dkms/framework.conf.d/pin.conf", "mok_signing_key='pkcs11:token=x;pin-value=sesame'");
    let output = root.run("dkms build curious/1 --force");
    let told = "Warning: /etc/dkms/framework.conf.d/pin.conf holds the password of mok_signing_key, and others can read it: \
                chmod 600 /etc/dkms/framework.conf.d/pin.conf\n";
    assert!(output.text.contains(told), "{output:?}");
    root.says(shown, "1\n");
}

#[test]
fn nobody_else_reaches_what_a_build_has() {
    let mut root = root();
    root.sh("gcc -o /tmp/no-namespaces /srv/tests/no-namespaces.c");
    root.quick("quick", "MAKE=./make.sh");
    root.write(
        "/usr/src/quick-1/make.sh",
        "#!/bin/bash\ncp /bin/sh . && chmod 6777 sh . && touch ${TMPDIR:-/tmp}/own && while ! [ -e /srv/go ]; do sleep 0.1; done",
    );
    root.sh("chmod 755 /usr/src/quick-1/make.sh");
    for without in ["", "/tmp/no-namespaces"] {
        root.sh(&format!("{without} dkms build quick/1 --force >/srv/out 2>&1 &"));
        root.wait_until("ls /tmp/dkms.*/tmp/own");
        root.fails(&format!("{OTHER} touch /tmp/dkms.*/tmp/x 2>/dev/null"), 1, "");
        root.fails(&format!("{OTHER} ls /tmp/dkms.*/tmp 2>/dev/null"), 2, "");
        if without.is_empty() {
            root.fails(&format!("{OTHER} ls /var/lib/dkms/quick/1/$K/.dkms-* 2>/dev/null"), 2, "");
        }
        root.sh("touch /srv/go");
        root.wait_until("! pgrep -x dkms");
        root.sh("rm /srv/go");
        root.says("cat /srv/out | grep -c 'done.'; ls /tmp | grep dkms; true", "1\n");
    }
}

#[test]
fn names_and_records_of_the_trees_own_lead_root_nowhere() {
    let mut root = root();
    root.quick("quick", "");
    let trace = "find /var/lib/dkms /etc/dkms; ls -A /usr/src";
    let before = root.sh(trace);
    for (name, version) in [
        (".superseded", "1"),
        (".pending", "1"),
        (".failed", "1"),
        ("mok.key", "1"),
        ("mok.pub", "1"),
        ("dkms_dbversion", "1"),
        ("quick", "original_module"),
        ("quick", "kernel-x"),
    ] {
        let words = format!(
            "\nError! {name}/{version} is no module and version: neither may be empty, begin with a dot or contain a slash or the end of a line,\na name may not be mok.key, mok.pub or dkms_dbversion,\nand a version may not be original_module or begin with kernel-.\n"
        );
        let source = format!("/usr/src/{name}-{version}");
        root.sh(&format!(
            "mkdir /root/w; cp -r /usr/src/quick-1 {source}; cd {source}; sed -i 's/_NAME=quick/_NAME={name}/; s/_VERSION=1/_VERSION={version}/' dkms.conf; sed -i 's/^BUILT.*/BUILT_MODULE_NAME=quick/' dkms.conf"
        ));
        for action in ["add", "build", "install", "remove --all"] {
            root.fails(&format!("dkms {action} -m {name} -v {version}"), 1, &words);
        }
        root.sh(&format!("mv {source} /root/w/s; tar -cf /root/w/x.tar -C /root/w s"));
        root.fails("dkms add /root/w/s", 1, &words);
        root.fails("dkms ldtarball /root/w/x.tar", 1, &words);
        root.sh("rm -r /root/w");
        root.unchanged(trace, &before);
    }
    // Records that name something else than modules of their kernel, whoever wrote them.
    for place in ["/etc/keepme", "/lib/modules/$K/../../../etc/keepme", "/etc/keepme.ko"] {
        root.sh(&format!(
            "dkms install quick/1; echo x >/etc/keepme; echo x >/etc/keepme.ko; mkdir -p /var/lib/dkms/.superseded/quick/$K; echo {place} >/var/lib/dkms/.superseded/quick/$K/$A; dkms remove quick/1 --all"
        ));
        root.sh("ls /etc/keepme /etc/keepme.ko && ! ls /var/lib/dkms/.superseded");
    }
    for place in ["/etc/cron.d/evil", "/etc/cron.d/evil.ko", "/lib/modules/$K/../../../etc/cron.d/evil.ko"] {
        root.sh(&format!(
            "mkdir -p /etc/cron.d; dkms install quick/1; o=/var/lib/dkms/quick/original_module/$K/$A; mkdir -p $o; cp /usr/src/quick-1/quick.ko $o; echo {place} >$o/quick.ko.origin; dkms remove quick/1 --all"
        ));
        root.says("ls /etc/cron.d | grep evil; true", "");
    }
}

#[test]
fn what_is_named_or_linked_to_is_roots_as_well() {
    let mut root = root();
    root.quick("quick", "PRE_BUILD=pre");
    let conf = "/home/conf";
    root.sh(&format!("dkms add quick/1; cp /usr/src/quick-1/dkms.conf {conf}"));
    let refused = |root: &mut Root, command: &str, words: &str| {
        let output = root.run(command);
        assert!(output.code == 8 && output.text.ends_with(&format!("Error! {words}")), "{command}: {output:?}");
    };
    for (weaken, words) in
        [("chown 1000", owned(conf, "")), ("chown 0 /home/conf; chmod 666", writable(conf, "666", ""))]
    {
        root.sh(&format!("{weaken} {conf}"));
        for action in ["build", "install"] {
            refused(&mut root, &format!("dkms {action} quick/1 -c {conf}"), &words);
        }
    }
    root.sh("echo x >/home/x.h; chown 1000 /home/x.h; ln -s /home/x.h /usr/src/quick-1/x.h");
    refused(&mut root, "dkms build quick/1", &owned("/home/x.h", ""));
    // One to nowhere leads to nothing that anybody could change.
    root.sh("ln -sf /nowhere /usr/src/quick-1/x.h; dkms build quick/1");
    let pre = "/etc/dkms/quick/pre";
    root.write(pre, "#!/bin/sh\ntouch ran");
    root.sh(&format!("chmod 777 {pre}"));
    refused(&mut root, "dkms build quick/1 --force", &writable(pre, "777", ""));
    root.sh("test ! -e /var/lib/dkms/quick/1/build/ran");
}
