// SPDX-License-Identifier: GPL-2.0-or-later

//! What `dkms status` remembers, and that it shows what is true all the same.

use crate::support::{Layer, Root};

/// The lines of status, and on how many questions bash was asked.
const STATUS: &str = "DKMS_LOG=debug dkms status 2>&1";

/// The same with words that callers do not see.
fn asked(said: &str) -> usize {
    said.lines()
        .filter_map(|line| line.strip_prefix("dkms: debug: one bash for ")?.strip_suffix(" questions"))
        .map(|count| count.parse::<usize>().expect("a number"))
        .sum()
}

fn bashes(said: &str) -> usize {
    said.matches("dkms: debug: one bash for ").count()
}

/// The lines of status alone.
fn lines(said: &str) -> String {
    said.lines().filter(|line| !line.starts_with("dkms: ")).map(|line| format!("{line}\n")).collect()
}

/// `count` modules that look as if they were built and installed for `kernels` kernels. `conf` is in each dkms.conf.
fn made_up(root: &mut Root, count: usize, kernels: usize, conf: &str) {
    root.write("/tmp/conf", conf);
    root.sh(&format!(
        "for m in {{1..{count}}}; do
            src=/usr/src/made$m-1 dir=/var/lib/dkms/made$m/1
            mkdir -p $src $dir
            ln -sf $src $dir/source
            {{ echo PACKAGE_NAME=made$m; echo PACKAGE_VERSION=1; echo BUILT_MODULE_NAME=made$m
               echo DEST_MODULE_LOCATION=/updates; cat /tmp/conf; }} >$src/dkms.conf
            for k in {{1..{kernels}}}; do
                mkdir -p $dir/6.$k/$A/module /lib/modules/6.$k/updates/dkms
                echo $m.$k | tee $dir/6.$k/$A/module/made$m.ko >/lib/modules/6.$k/updates/dkms/made$m.ko
                ln -sfT 1/6.$k/$A /var/lib/dkms/made$m/kernel-6.$k-$A
            done
        done"
    ));
}

/// Files that were changed a moment ago may change again without looking different.
fn settle(root: &mut Root) {
    root.sh("sleep 2.1");
}

#[test]
fn bash_is_asked_once_and_for_many_at_a_time() {
    let mut root = Root::with(Layer::Ours, &[]);
    let mut first = Vec::new();
    for (modules, kernels) in [(16, 3), (32, 6)] {
        root.sh("rm -rf /var/lib/dkms/made* /usr/src/made* /var/cache/dkms/*");
        made_up(&mut root, modules, kernels, "MAKE=\"make KVER=$kernelver\"\nBUILD_EXCLUSIVE_KERNEL=\"^6\\..*\"");
        let said = root.sh(STATUS);
        assert_eq!(lines(&said).matches(": installed\n").count(), modules * kernels);
        assert_eq!(asked(&said), modules * kernels);
        // Every bash answers for at least 8, but for the last of a thread.
        assert!(bashes(&said) <= modules * kernels / 8 + 2, "{said}");
        first.push(lines(&said));
        let again = root.sh(STATUS);
        assert_eq!((asked(&again), lines(&again)), (0, lines(&said)));
        assert_eq!(root.sh("find /var/cache/dkms/known -type f | wc -l").trim(), modules.to_string());
    }
    // Who is not root reads what root remembered. Without it all is the same, and nothing is an error.
    for (command, questions) in [
        ("setpriv --reuid=nobody --regid=nogroup --clear-groups", 0),
        ("rm -rf /var/cache/dkms;", 192),
        ("rm -rf /var/cache/dkms; setpriv --reuid=nobody --regid=nogroup --clear-groups", 192),
        ("rm -rf /var/cache/dkms; touch /var/cache/dkms;", 192),
    ] {
        let said = root.sh(&format!("{command} {STATUS}", STATUS = STATUS.replace("DKMS_LOG", "env DKMS_LOG")));
        assert_eq!((asked(&said), lines(&said)), (questions, first[1].clone()), "{command}");
    }
    assert_eq!(root.sh("find /var/cache/dkms -type f -size +0").trim(), "");
    root.sh("rm /var/cache/dkms; echo cache_tree=/var/tmp/known >/etc/dkms/framework.conf.d/x.conf; dkms status");
    assert_eq!((asked(&root.sh(STATUS)), root.sh("ls /var/tmp/known").as_str()), (0, "kernels\nknown\n"));
}

/// What is shown of two kernels: their modules' names.
fn shown(said: &str) -> Vec<&str> {
    said.lines()
        .filter(|line| line.starts_with("made1/1, "))
        .map(|line| if line.contains("missing") { "missing" } else { "there" })
        .collect()
}

#[test]
fn what_is_shown_follows_every_file_and_variable() {
    let mut root = Root::with(Layer::Ours, &[]);
    // The name of the module that has to be there comes from all that the file sees.
    made_up(&mut root, 1, 2, "DEST_MODULE_NAME=made1");
    let mut look = |change: &str, expected: [&str; 2], questions: usize| {
        root.sh(change);
        let said = root.sh(STATUS);
        assert_eq!((shown(&said), asked(&said)), (expected.to_vec(), questions), "after `{change}`:\n{said}");
        let said = root.sh(STATUS);
        assert_eq!((shown(&said), asked(&said)), (expected.to_vec(), 0), "again after `{change}`:\n{said}");
    };
    let both = ["there", "there"];
    let conf = "/usr/src/made1-1/dkms.conf";
    // One text that mentions no kernel, but both are asked about before either is known.
    look("true", both, 2);
    look(
        &format!("cp -p {conf} /tmp/old; sed -i s/^DEST_MODULE_NAME=made1/DEST_MODULE_NAME=made2/ {conf}"),
        ["missing", "missing"],
        2,
    );
    // Back again, with all its times: the answer is remembered, and true.
    look(&format!("cp -p /tmp/old {conf}"), both, 0);
    look("echo DEST_MODULE_NAME=other >/etc/dkms/made1.conf", ["missing", "missing"], 2);
    look("echo DEST_MODULE_NAME=made1 >/etc/dkms/made1-1-6.2.conf", ["missing", "there"], 1);
    look("echo DEST_MODULE_NAME=other >/etc/dkms/made1-1-6.2.conf", ["missing", "missing"], 1);
    look("rm /etc/dkms/made1*.conf", both, 0);
    look(
        &format!(
            "echo 'DEST_MODULE_NAME=made$parallel_jobs' >>{conf}; echo parallel_jobs=1 >/etc/dkms/framework.conf.d/x.conf"
        ),
        both,
        2,
    );
    look("echo parallel_jobs=2 >/etc/dkms/framework.conf.d/x.conf", ["missing", "missing"], 2);
    look(
        &format!(
            "cp -p /tmp/old {conf}; echo 'DEST_MODULE_NAME=$kernelver' >>{conf}; touch /var/lib/dkms/made1/1/6.1/$A/module/6.1.ko /lib/modules/6.1/updates/dkms/6.1.ko"
        ),
        ["there", "missing"],
        2,
    );
    look(&format!("cp -p /tmp/old {conf}; rm /var/lib/dkms/made1/1/6.1/$A/module/6.1.ko"), both, 0);

    // Directives that come from elsewhere go to bash each time, and are not remembered.
    for command in
        ["dkms status --directive=DEST_MODULE_NAME=other", "DKMS_DIRECTIVE=DEST_MODULE_NAME=other dkms status"]
    {
        for _ in 0..2 {
            let said = root.sh(&format!("export DKMS_LOG=debug; {command} 2>&1"));
            assert_eq!((shown(&said), asked(&said)), (vec!["missing", "missing"], 2), "{said}");
        }
    }
    let said = root.sh(STATUS);
    assert_eq!((shown(&said), asked(&said)), (both.to_vec(), 0));
    // Damaged.
    root.sh("truncate -s -3 /var/cache/dkms/known/made1/1");
    let said = root.sh(STATUS);
    assert_eq!((shown(&said), asked(&said)), (both.to_vec(), 2));
}

#[test]
fn confs_that_look_around_are_read_each_time() {
    let mut root = Root::with(Layer::Ours, &[]);
    for conf in [
        // As real packages have them.
        "if ! grep -q '^CONFIG_X=[ym]$' \"$kernel_source_dir/.config\"; then BUILD_EXCLUSIVE_ARCH=none; fi",
        "pushd `dirname $BASH_SOURCE` >/dev/null; popd >/dev/null",
        "[ ! -e $kernel_source_dir/.config ] || . $kernel_source_dir/.config",
        "MAKE=\"make -j$(nproc)\"",
        "MAKE='make -j$(nproc)'",
        "MAKE=\"make ${parallel_jobs+-j$parallel_jobs}\"",
        "[[ \"$kernelver\" =~ \"-rt-\" ]] && build_exclude=yes",
        "PATCH=( a b )",
        "i=0\nBUILT_MODULE_NAME[$i]=made1",
        "MAKE=\"make \\\n all\"",
        "PRE_BUILD=\"configure --with=\\\"x\\\"\"",
        "CLEAN=\"rm *\"",
        "MAKE=\"make $HOME\"",
        "shopt -q -s extglob",
    ] {
        root.sh("rm -rf /var/lib/dkms/made* /usr/src/made* /var/cache/dkms/*");
        made_up(&mut root, 1, 2, conf);
        for _ in 0..2 {
            // Twice over if bash says something.
            assert!(asked(&root.sh(STATUS)) >= 2, "{conf}");
        }
        let known = "grep -rqs DEST_MODULE_LOCATION /var/cache/dkms && echo yes || echo no";
        assert_eq!(root.sh(known), "no\n", "{conf}");
    }
    // What bash says is said each time.
    made_up(&mut root, 1, 1, "MAKE[1]='a'b=c\nPATCH[99999999999999999999]=x");
    root.sh("echo 'echo noise >&2' >>/usr/src/made1-1/dkms.conf");
    let first = root.sh("dkms status 2>&1");
    assert!(first.contains("noise"), "{first}");
    root.says("dkms status 2>&1", &first);
}

#[test]
fn modules_that_differ_are_seen_at_once() {
    let mut root = Root::with(Layer::Ours, &[]);
    made_up(&mut root, 1, 1, "");
    settle(&mut root);
    let same = "made1/1, 6.1, $A: installed\n";
    let differ = "made1/1, 6.1, $A: installed (Differences between built and installed modules)\n";
    root.says("dkms status", same);
    assert!(root.sh("tr '\\0' '\\n' </var/cache/dkms/known/made1/1").contains("/module/made1.ko\n"));
    let installed = "/lib/modules/6.1/updates/dkms/made1.ko";
    for (change, expected) in [
        // As long and as old as before.
        (format!("touch -r {installed} /tmp/old; echo 9.9 >{installed}; touch -r /tmp/old {installed}"), differ),
        (format!("echo 1.1 >{installed}"), same),
        ("for f in /var/lib/dkms/made1/1/6.1/*/module/made1.ko; do echo 2.2 >$f; done".into(), differ),
        (format!("echo 2.2 >/tmp/new; mv /tmp/new {installed}"), same),
        // The kernel's modules are compressed now, so that is missing here.
        (
            "mkdir -p /lib/modules/6.1/kernel/a/b; touch /lib/modules/6.1/kernel/a/b/c.ko.xz".into(),
            "made1/1, 6.1, $A: installed (Built modules are missing in the kernel modules folder)\n",
        ),
        ("mv /lib/modules/6.1/kernel/a/b/c.ko.xz /lib/modules/6.1/kernel/a/b/c.ko".into(), same),
    ] {
        root.sh(&change);
        root.says("dkms status", expected);
        // Remembered or not.
        settle(&mut root);
        root.says("dkms status", expected);
        root.says("dkms status", expected);
    }
}

#[test]
fn a_hook_with_nothing_to_do_starts_no_bash_and_needs_no_conf() {
    let mut root = Root::with(Layer::Ours, &[]);
    made_up(&mut root, 8, 1, "AUTOINSTALL=yes");
    root.sh("mkdir -p /lib/modules/6.1/build/include; touch /lib/modules/6.1/modules.order");
    let said = root.sh("DKMS_LOG=debug /etc/kernel/postinst.d/dkms 6.1 2>&1");
    assert_eq!(asked(&said), 0, "{said}");
    // One bash for all when the kernel goes.
    let said = root.sh("DKMS_LOG=debug /etc/kernel/prerm.d/dkms 6.1 2>&1");
    assert_eq!((asked(&said), bashes(&said)), (8, 1), "{said}");
    assert_eq!(root.sh("ls -d /lib/modules/6.1 /var/lib/dkms/made*/1/6.1 2>/dev/null | wc -l").trim(), "1");
}
