// SPDX-License-Identifier: GPL-2.0-or-later

//! Signals that end a command: its builds end with it, and what is half done is gone.

use crate::support::{Layer, Root};

/// What there is in the trees and where things are made; of caches, what is on its way.
const TRACE: &str = "find /var/lib/dkms /lib/modules/$K/updates /tmp /usr/src/slow-1 2>/dev/null; \
                     find /var/cache/dkms -name '.*' 2>/dev/null || :";

#[test]
fn a_build_ends_with_the_command_and_leaves_nothing() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    // It does not want to end, and neither do those it leaves behind.
    root.quick("slow", "MAKE='trap \"\" TERM INT HUP; setsid sleep 1000 & touch started; sleep 1000; sleep 1000'");
    root.sh("dkms add slow/1");
    let before = root.sh(TRACE);
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        // A shell starts what goes on behind it deaf to SIGINT.
        root.sh(&format!(
            "(env --default-signal setsid dkms build slow/1 -k $K >/srv/said 2>&1; echo $? >/srv/code) & \
             until pid=$(pgrep -o -x dkms) && pgrep -x sleep >/dev/null; do sleep 0.05; done; kill -{signal} $pid"
        ));
        root.wait_until("[ -s /srv/code ]");
        root.fails("cat /srv/code; rm /srv/code; pgrep -x sleep; pgrep -u _dkms", 1, &format!("{code}\n"));
        root.says("dkms status slow", "slow/1: added\n");
        root.unchanged(TRACE, &before);
    }
}

#[test]
fn a_build_stops_and_goes_on_with_the_command() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    root.quick("slow", "MAKE='trap \"\" TSTP; (while [ ! -e /srv/go ]; do sleep 0.1; done) & wait'");
    root.sh("dkms add slow/1; echo build_time=9s >/etc/dkms/framework.conf.d/time.conf");
    root.sh("(env --default-signal setsid dkms build slow/1 -k $K >/srv/said 2>&1; echo $? >/srv/code) & \
         until pid=$(pgrep -o -x dkms) && pgrep -u _dkms sleep >/dev/null; do sleep 0.05; done; \
         echo $pid >/srv/pid; kill -TSTP $pid");
    // The process itself and all of the build, but not the one that would end it, were the first one killed.
    let states = "ps -o stat= -p $(cat /srv/pid) | cut -c 1; ps -o stat= -u _dkms | cut -c 1 | sort -u";
    root.wait_until(&format!("[ \"$({states})\" = $'T\\nT' ]"));
    root.sh("sleep 10");
    root.says(states, "T\nT\n");
    root.sh("touch /srv/go; kill -CONT $(cat /srv/pid)");
    root.wait_until("[ -s /srv/code ]");
    root.says("cat /srv/code", "0\n");
    root.says("dkms status slow", "slow/1, $K, $A: built\n");
}

#[test]
fn what_runs_as_root_ends_with_the_command() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    root.quick("slow", "POST_INSTALL=post\nPOST_REMOVE=post");
    for script in ["/usr/src/slow-1/post", "/etc/dkms/env", "/srv/sign"] {
        // One child after the other, and one that nobody waits for.
        root.write(
            script,
            "#!/bin/bash\n! grep -q deaf /etc/dkms/framework.conf.d/a.conf || trap '' TERM\n(sleep 1000; sleep 1000) & sleep 1000; sleep 1000",
        );
        root.sh(&format!("chmod 755 {script}"));
    }
    root.write("/srv/slow.conf", "build_environment=/etc/dkms/env");
    root.write("/srv/sign.conf", "sign_file=/srv/sign");
    root.write("/srv/transaction.conf", "post_transaction='sleep 1000; sleep 1000'");
    root.write("/srv/usual.conf", "");
    root.write("/srv/deaf.conf", "# deaf");
    root.sh("dkms build slow/1");
    for (conf, action) in [
        ("usual", "install slow/1 --force"),
        ("deaf", "install slow/1 --force"),
        ("slow", "build slow/1 --force"),
        ("sign", "build slow/1 --force"),
        ("usual", "uninstall slow/1"),
        ("transaction", "install slow/1 --force"),
    ] {
        root.sh(&format!("cp /srv/{conf}.conf /etc/dkms/framework.conf.d/a.conf"));
        if conf == "transaction" {
            root.sh("printf '#!/bin/sh\\n' >/usr/src/slow-1/post");
        }
        root.sh(&format!(
            "(env --default-signal setsid dkms {action} >/srv/said 2>&1; echo $? >/srv/code) & \
             until pid=$(pgrep -o -x dkms) && pgrep -x sleep >/dev/null; do sleep 0.05; done; kill -TERM $pid"
        ));
        root.wait_until("[ -s /srv/code ]");
        root.sh("sleep 2");
        root.fails("cat /srv/code; rm /srv/code; pgrep -x sleep", 1, "143\n");
    }
}
