// SPDX-License-Identifier: GPL-2.0-or-later

//! Disks and programs that do not do their part: one clear error, and what there was is there.

use crate::bad_input::STATE;
use crate::support::{Layer, Root};

/// A root with one module installed, one only registered.
fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    for name in ["here", "coming"] {
        root.quick(name, "AUTOINSTALL=yes");
        root.sh(&format!("dkms add {name}/1"));
    }
    root.sh("dkms install here/1 -k $K; mkdir -p /var/cache/dkms");
    root
}

/// Puts a shell script on root's PATH, or where it is said.
fn program(root: &mut Root, path: &str, script: &str) {
    root.write(path, &format!("#!/bin/sh\n{script}"));
    root.sh(&format!("chmod 755 {path}"));
}

/// Runs commands that fail with this code and one error, which says why; nothing of state or modules changes.
#[track_caller]
fn fail(root: &mut Root, commands: &[(&str, i32)], why: &str) {
    let before = root.sh(STATE);
    for (command, code) in commands {
        let output = root.run(command);
        assert_eq!(output.code, *code, "{command}: {output:?}");
        assert!(output.text.contains(why), "{command}: {output:?}");
        // What is about several modules has a last one about all.
        let errors = output.text.matches("Error!").count();
        assert!(errors == 1 || command.contains("autoinstall") || command.contains("kernel_"), "{command}: {output:?}");
        root.sh("modprobe --set-version $K --show-depends here");
        root.unchanged(STATE, &before);
    }
}

#[test]
fn a_read_only_directory_of_modules_stays_as_it_is() {
    let mut root = root();
    root.sh("dkms build coming/1 -k $K; mount --bind -o ro /lib/modules /lib/modules");
    fail(
        &mut root,
        &[
            ("dkms install coming/1 -k $K", 1),
            ("dkms install here/1 -k $K --force", 1),
            ("dkms uninstall here/1 -k $K", 1),
            ("dkms unbuild here/1 -k $K", 1),
            ("dkms remove here/1 --all", 1),
            ("dkms autoinstall -k $K", 11),
        ],
        ": Read-only file system",
    );
    root.sh("umount /lib/modules; dkms autoinstall -k $K; modprobe --set-version $K --show-depends coming");
}

#[test]
fn a_read_only_tree_stays_as_it_is() {
    let mut root = root();
    root.sh("mount --bind -o ro /var/lib/dkms /var/lib/dkms");
    fail(
        &mut root,
        &[
            ("dkms install coming/1 -k $K", 1),
            ("dkms install here/1 -k $K --force", 1),
            ("dkms uninstall here/1 -k $K", 1),
            ("dkms kernel_prerm -k $K", 14),
        ],
        ": Read-only file system",
    );
    fail(
        &mut root,
        &[("dkms build coming/1 -k $K", 1), ("dkms unbuild here/1 -k $K", 1), ("dkms remove here/1 --all", 1)],
        "Error! No write access to DKMS tree at /var/lib/dkms\n",
    );
    root.sh("dkms status here/1 -k $K | grep ': installed$'");
}

#[test]
fn a_directory_of_caches_that_cannot_be_written_is_done_without() {
    let mut root = root();
    let install = "dkms install coming/1 -k $K";
    let said = root.sh(install);
    for how in
        ["-t tmpfs -o size=4k,nr_inodes=2,mode=755 x", "-t tmpfs -o ro,mode=755 x", "--bind -o ro /var/cache/dkms"]
    {
        root.sh(&format!("dkms unbuild coming/1 -k $K; rm -rf /var/cache/dkms/*; mount {how} /var/cache/dkms"));
        root.says(install, &said);
        root.says("dkms status coming", "coming/1, $K, $A: installed\n");
        root.sh("umount /var/cache/dkms");
    }
}

#[test]
fn a_ccache_that_does_not_work_is_done_without() {
    let mut root = root();
    root.source("hello-0.1");
    for ccache in ["exit 1", "kill -9 $$", "echo ccache version 3.7.7"] {
        program(&mut root, "/usr/local/bin/ccache", ccache);
        root.sh("dkms build hello/0.1 -k $K --force; rm -rf /var/cache/dkms/*");
    }
}

#[test]
fn a_shell_that_is_killed_fails_what_needs_it_and_nothing_else() {
    let mut root = root();
    root.quick("asks", "AUTOINSTALL=yes\nX=$(echo x)");
    root.sh("dkms add asks/1");
    let status = root.sh("dkms status");
    program(&mut root, "/srv/bin/bash", "kill -9 $$");
    let killed = "PATH=/srv/bin:$PATH dkms";
    let build = format!("{killed} build asks/1 -k $K");
    let autoinstall = format!("{killed} autoinstall -k $K");
    let why = "Error! Cannot run bash to read /var/lib/dkms/asks/1/source/dkms.conf: it was ended by signal 9";
    fail(&mut root, &[(&build, 1), (&autoinstall, 11)], why);
    root.says(&format!("{killed} status"), &status);
    root.sh(&format!(
        "{killed} uninstall here/1 -k $K && {killed} remove here/1 --all && {killed} remove asks/1 --all"
    ));
    root.sh("dkms autoinstall -k $K");
    root.says("dkms status", "coming/1, $K, $A: installed\n");
}

#[test]
fn a_program_that_does_not_sign_leaves_the_module_whole() {
    let mut root = root();
    root.sh("echo sign_file=/srv/sign >/etc/dkms/framework.conf.d/sign.conf");
    root.sh("echo result_store=no >/etc/dkms/framework.conf.d/store.conf; strip -g -o /tmp/original /usr/src/coming-1/coming.ko");
    for sign in [
        "kill -9 $$",
        // As the kernel's does on a full disk.
        "head -c 1000 $4 >$4.~signed~; mv $4.~signed~ $4",
        "cp $4 $4.~signed~; exit 1",
        "head -c 100 $4 >>$4",
        "rm $4",
    ] {
        program(&mut root, "/srv/sign", sign);
        let said = root.sh("dkms install coming/1 -k $K --force");
        let told = "Warning: Failed to sign module '/var/lib/dkms/coming/1/build/coming.ko'!\n";
        assert_eq!(said.matches(told).count(), 1, "{sign}: {said}");
        root.says("dkms status coming", "coming/1, $K, $A: installed\n");
        root.sh("cmp /tmp/original /lib/modules/$K/updates/dkms/coming.ko");
        root.says("ls /var/lib/dkms/coming/1/$K/$A/module; dkms unbuild coming/1 -k $K >/dev/null", "coming.ko\n");
    }
}

#[test]
fn a_program_that_strips_and_fails_leaves_the_module_whole() {
    let mut root = root();
    // It leaves half a file where it was to write: beside the module, or, called otherwise, in its place.
    let half =
        "case \"$*\" in *' -o '*) out=$3 ;; *) out=$2 ;; esac; echo half >$out; echo 'strip: no room' >&2; exit 1";
    program(&mut root, "/usr/local/bin/strip", half);
    let said = root.sh("dkms install coming/1 -k $K");
    assert_eq!(said.matches("strip: no room\n").count(), 1, "{said}");
    root.sh("cp /lib/modules/$K/updates/dkms/coming.ko /tmp && rm /usr/local/bin/strip");
    root.sh("strip -g -o /tmp/it /tmp/coming.ko && strip -g -o /tmp/original /usr/src/coming-1/coming.ko");
    root.sh("cmp /tmp/it /tmp/original");
    // It is not kept for the next time; what is as it should be is.
    root.says("ls /var/cache/dkms/results | wc -l", "1\n");
    root.sh("dkms unbuild coming/1 -k $K && dkms install coming/1 -k $K");
    root.says("ls /var/cache/dkms/results | wc -l", "2\n");
}

/// As where RLIMIT_AS or a cgroup's pids.max has none left.
#[test]
fn without_threads_nothing_begins_and_what_needs_none_works() {
    let mut root = root();
    let none = "RUST_MIN_STACK=100000000000000";
    fail(&mut root, &[(&format!("{none} dkms build coming/1 -k $K"), 1)], "Cannot start a thread to build in: ");
    root.says(&format!("{none} dkms status coming/1"), "coming/1: added\n");
    root.sh(&format!("{none} dkms uninstall here/1 -k $K"));
}

#[test]
fn a_compile_cache_that_is_closed_to_its_user_is_made_anew() {
    let mut root = root();
    root.source("hello-0.1");
    root.sh("dkms build hello/0.1 -k $K; chmod -R 0 /var/cache/dkms/ccache; dkms build hello/0.1 -k $K --force");
}

#[test]
fn functions_of_the_callers_shell_change_nothing() {
    let mut root = root();
    root.quick("asks", "X=$(echo x)");
    let names = ["read", "printf", "declare", "unset", "source", "eval", "make", "cd", "ulimit"];
    let hang: String = names.iter().map(|name| format!("{name}() {{ sleep 600; }}; export -f {name}; ")).collect();
    root.sh(&format!("{hang} exec timeout 60 dkms install asks/1 -k $K"));
    root.sh("dkms status asks/1 -k $K | grep ': installed'");
}
