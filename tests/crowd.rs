// SPDX-License-Identifier: GPL-2.0-or-later

//! Many at once on one tree: hooks for two kernels, packages' scripts, people.

use crate::support::{Layer, MANY, Root, seconds_given};

/// What the eight do, each many times; the exit codes that it may have, and the errors that it may tell.
const DEEDS: &str = r#"
deeds=(
    'dkms add first/1|0 3|already contains'
    'dkms install first/1 -k $K|0 2 3|Could not find module source|not located in the DKMS tree|no installation'
    'dkms install second/1 -k $OLD -k $K|0|'
    'dkms uninstall second/1 -k $K|0|'
    'dkms unbuild second/1 -k $OLD|0|'
    'dkms remove first/1 --all|0 3|not located in the DKMS tree'
    'dkms build third/1 -k $K --force|0|'
    'dkms status|0|'
    'dkms status -k $K third/1|0|'
    '/etc/kernel/postinst.d/dkms $K|0|'
    '/etc/kernel/header_postinst.d/dkms $OLD|0|'
    '/etc/kernel/prerm.d/dkms $OLD|0|'
    '/usr/lib/dkms/common.postinst third 1 /usr/share/third|0|'
)
worker() { # NUMBER ROUNDS SECONDS
    local RANDOM=$1 round deed command codes errors said code
    for ((round = 0; round < $2 && SECONDS < $3; round++)); do
        deed=${deeds[RANDOM % ${#deeds[@]}]}
        IFS='|' read -r command codes errors <<<"$deed"
        said=$(eval "$command" 2>&1) && code=0 || code=$?
        if [[ " $codes " != *" $code "* ]] || grep 'Error!' <<<"$said" | grep -qvE "${errors:-nothing}" ||
            grep -q 'waiting for another dkms' <<<"$said"; then
            printf 'worker %s: %s: exit code %s\n%s\n' $1 "$command" $code "$said"
        fi
        echo >>/srv/done
    done
}
"#;

/// Lets eight at it, `rounds` times each if there are as many seconds; then all is as if they had come one after the other.
/// How many commands that were.
fn crowd(rounds: usize, seconds: u64) -> usize {
    let mut root = Root::with(Layer::Ours, &["--setenv", &format!("PATIENCE={}", seconds + 3600)]);
    root.same_key();
    for (name, conf) in
        [("first", "DEST_MODULE_NAME=nlmon"), ("second", "AUTOINSTALL=yes"), ("third", "AUTOINSTALL=yes")]
    {
        root.quick(name, conf);
    }
    // Two kernels with one module.
    root.sh("mkdir /srv/nlmon && mv /lib/modules/$K/kernel/drivers/net/nlmon.ko* /srv/nlmon");
    root.sh("for k in $K $OLD; do rm -rf /lib/modules/$k/kernel; mkdir /lib/modules/$k/kernel; \
         cp /srv/nlmon/* /lib/modules/$k/kernel; depmod $k; done");
    root.write("/etc/dkms/framework.conf.d/crowd.conf", "compile_cache=no");
    root.sh("dkms add second/1; dkms add third/1");
    let said = root.sh(&format!("{DEEDS}\nfor i in {{1..8}}; do worker $i {rounds} {seconds} & done; wait"));
    assert_eq!(said, "", "nobody complains");

    // In the end all of it can be had, and nothing is left over.
    root.sh("dkms add first/1 || :; dkms install first/1 -k $K -k $OLD; dkms install second/1 -k $K -k $OLD");
    root.sh("dkms install third/1 -k $K -k $OLD");
    root.says(
        "dkms status",
        "first/1, $OLD, $A: installed (Original modules exist)\nfirst/1, $K, $A: installed (Original modules exist)\n\
         second/1, $OLD, $A: installed\nsecond/1, $K, $A: installed\n\
         third/1, $OLD, $A: installed\nthird/1, $K, $A: installed\n",
    );
    for kernel in ["$K", "$OLD"] {
        root.says(
            &format!("cd /lib/modules/{kernel}; cp modules.dep /srv/dep; depmod {kernel} 2>/dev/null; cmp modules.dep /srv/dep; cut -d: -f1 modules.dep | sort"),
            "updates/dkms/nlmon.ko\nupdates/dkms/second.ko\nupdates/dkms/third.ko\n",
        );
    }
    root.says(
        "ls -A /tmp /var/lib/dkms; find /var/lib/dkms /var/cache/dkms -name '.*'",
        "/tmp:\n\n/var/lib/dkms:\nfirst\nmok.key\nmok.pub\nsecond\nthird\n",
    );
    root.sh("wc -l </srv/done").trim().parse().expect("a number")
}

#[test]
fn eight_at_once() {
    assert_eq!(crowd(8, 3600), 64);
}

/// `make torture`: for as long as it is given.
#[test]
#[ignore = "takes as long as it is given: make torture"]
fn eight_at_once_for_long() {
    let commands = crowd(MANY, seconds_given());
    println!("figure: {commands} commands by eight at once, {} rounds, 0 failed", commands / 8);
}

/// What is gone for a moment, for a package is being configured, is not gone.
#[test]
fn who_comes_in_the_middle_of_an_upgrade_waits_for_its_end() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    root.quick("two", "AUTOINSTALL=yes");
    root.write(
        "/etc/dkms/framework.conf.d/wait.conf",
        "post_transaction='[ $action != remove ] || [ -e /srv/go ] || { touch /srv/gone; until [ -e /srv/go ]; do sleep 0.05; done; }'",
    );
    for (command, left) in [
        ("dkms remove two/1 --all", ""),
        ("dkms uninstall two/1 -k $K", "two/1, $K, $A: built\n"),
        ("dkms mkdeb two/1 --source-only --maintainer 'A B <a@b.c>'", "two/1, $K, $A: installed\n"),
    ] {
        root.sh("touch /srv/go; dkms install two/1 -k $K; rm -f /srv/go /srv/gone /srv/said");
        root.sh("(/usr/lib/dkms/common.postinst two 1 '' $A 1 >/srv/log 2>&1; echo $? >/srv/code) & until [ -e /srv/gone ]; do sleep 0.05; done");
        root.sh(&format!("({command} >/srv/said 2>&1; echo $? >/srv/its) & until [ -s /srv/its ] || grep -q 'waiting for' /srv/said; do sleep 0.05; done"));
        root.sh("touch /srv/go");
        root.wait_until("[ -s /srv/code ] && [ -s /srv/its ]");
        root.says("cat /srv/code /srv/its; rm /srv/code /srv/its; dkms status -k $K", &format!("0\n0\n{left}"));
    }
}

/// Until it is written: what is packed is taken away by nobody meanwhile.
#[test]
fn a_package_is_made_with_the_tree_held() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    root.quick("quick", "");
    // Asked when all of the source has been looked at.
    root.write("/usr/local/bin/apt-cache", "#!/bin/sh\ntouch /srv/asked; until [ -e /srv/go ]; do sleep 0.05; done");
    root.sh("chmod 755 /usr/local/bin/apt-cache; dkms build quick/1 -k $K");
    root.sh("(dkms mkbmdeb quick/1 -k $K --maintainer 'A B <a@b.c>' >/srv/log 2>&1; echo $? >/srv/code) & until [ -e /srv/asked ]; do sleep 0.05; done");
    root.sh("(dkms remove quick/1 --all >/srv/said 2>&1; echo $? >/srv/its) & until [ -s /srv/its ] || grep -q 'waiting for process [0-9]* (dkms mkbmdeb' /srv/said; do sleep 0.05; done; test ! -e /srv/its");
    root.sh("touch /srv/go");
    root.wait_until("[ -s /srv/code ] && [ -s /srv/its ]");
    root.says("cat /srv/code /srv/its; dkms status", "0\n0\n");
}

#[test]
fn a_holder_that_is_killed_blocks_nobody() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    root.quick("slow", "MAKE='touch started; sleep 1000'");
    root.quick("quick", "");
    root.sh("dkms add slow/1; dkms add quick/1");
    root.sh("(dkms build slow/1 -k $K >/dev/null 2>&1 &); until pgrep -x sleep >/dev/null; do sleep 0.05; done");
    root.sh("(dkms build quick/1 -k $K >/srv/said 2>&1; echo $? >/srv/code) & until grep -q waiting /srv/said; do sleep 0.05; done");
    root.sh("pkill -KILL -o -x dkms");
    root.wait_until("[ -s /srv/code ]");
    root.says(
        "cat /srv/code; grep -c \"waiting for process [0-9]* (dkms build slow/1 -k $K) to finish\" /srv/said",
        "0\n1\n",
    );
    root.fails("pgrep -x sleep", 1, "");
    root.says("dkms status", "quick/1, $K, $A: built\nslow/1: added\n");
}
