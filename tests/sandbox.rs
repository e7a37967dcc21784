// SPDX-License-Identifier: GPL-2.0-or-later

//! A package's build sees the system, and changes nothing of it.

use crate::support::{Layer, Root};

/// Says what it can do; told to PRE_BUILD, MAKE and POST_BUILD.
const PROBE: &str = r#"#!/bin/bash
exec 2>&1
echo "$1: $(id -un):$(id -gn) of $(id -Gn) in $PWD"
for place in /etc /usr/src /usr/src/quick-1 /var/lib/dkms /var/lib/dkms/quick /var/lib/dkms/probe /var/lib/dkms/probe/1 \
    /lib/modules/$kernelver /lib/modules/$kernelver/build/ /boot /root /home /srv /run /dev /proc/sys/kernel; do
    (echo >$place/left) 2>/dev/null && echo "$1: writes to $place"
done
for place in . ${TMPDIR:-/tmp} /var/tmp /dev/shm /usr/src/probe-1 /var/lib/dkms/probe/1/source /var/lib/dkms/probe/1/build; do
    (echo >$place/left) || echo "$1: cannot write to $place"
done
for file in /etc/shadow /var/lib/dkms/mok.key /root/secret /proc/1/environ; do
    (cat $file >/dev/null) 2>/dev/null && echo "$1: reads $file"
done
kill -0 $OUTSIDE 2>/dev/null && echo "$1: sees a process of the system"
ls /proc | grep -qx $OUTSIDE && echo "$1: sees a process of the system"
(exec 3<>/dev/tcp/127.0.0.1/$PORT) 2>/dev/null && echo "$1: talks to the system"
grep -q '^NoNewPrivs:.*1' /proc/self/status || echo "$1: may become root"
mount -t tmpfs probe /mnt 2>/dev/null && echo "$1: mounts"
unshare --user --map-root-user mount -t tmpfs probe /mnt 2>/dev/null && echo "$1: mounts as another root"
sleep 1000 &
exit 0
"#;

const PROBED: &str = "\
pre: _dkms:_dkms of _dkms in /var/lib/dkms/probe/1/build
make: _dkms:_dkms of _dkms in /var/lib/dkms/probe/1/build
post: _dkms:_dkms of _dkms in /var/lib/dkms/probe/1/build
";

/// A package that probes, and things for it to find.
fn prober(root: &mut Root) {
    root.sh("dkms generate_mok; echo secret >/root/secret; chmod 700 /root");
    root.quick("quick", "");
    root.quick("probe", "PRE_BUILD='probe pre'\nMAKE='./probe make'\nPOST_BUILD='probe post'");
    root.write("/usr/src/probe-1/probe", PROBE);
    root.sh("chmod +x /usr/src/probe-1/probe; dkms add quick/1; dkms add probe/1");
    // A process that the build must not see, which listens where it must not talk to.
    root.sh(
        "(exec -a listener perl -MIO::Socket -e '$s = IO::Socket::INET->new(Listen => 9, LocalAddr => \"127.0.0.1\"); \
         open F, \">/srv/port\"; print F $s->sockport; close F; 1 while $s->accept' >/dev/null 2>&1 & echo $! >/srv/pid)",
    );
    root.wait_until("[ -s /srv/port ]");
    root.sh("exec 3<>/dev/tcp/127.0.0.1/$(cat /srv/port)");
}

/// What is new in the system.
const CHANGES: &str =
    "find /usr/src/*-1 /etc /home /boot /root /var/lib/dkms -newer /srv/pid -not -path '*/probe/1*' -ls";

#[test]
fn a_build_reads_the_system_and_writes_its_own_directory() {
    let mut root = Root::with(Layer::Ours, &[]);
    prober(&mut root);
    let before = root.sh(CHANGES);

    root.says(
        "OUTSIDE=$(cat /srv/pid) PORT=$(cat /srv/port) dkms build probe/1",
        "\
$SIGNING

Running the pre_build script... done.
Building module(s)... done.
Signing module /var/lib/dkms/probe/1/build/probe.ko
Running the post_build script... done.
",
    );
    root.says("grep -aE '^(pre|make|post):' /var/lib/dkms/probe/1/$K/$A/log/make.log", PROBED);
    root.says("stat -c '%U %n' /proc/[0-9]* | grep '^_dkms'; true", "");
    root.unchanged(CHANGES, &before);
}

#[test]
fn a_build_in_a_chroot_is_confined_as_well() {
    let mut root = Root::with(Layer::Ours, &["--chroot"]);
    prober(&mut root);
    let before = root.sh(CHANGES);

    root.sh("OUTSIDE=$(cat /srv/pid) PORT=$(cat /srv/port) dkms build probe/1");
    root.says("grep -aE '^(pre|make|post):' /var/lib/dkms/probe/1/$K/$A/log/make.log", PROBED);
    root.unchanged(CHANGES, &before);
}

#[test]
fn a_build_without_namespaces_writes_its_own_directory_only() {
    let mut root = Root::with(Layer::Ours, &[]);
    prober(&mut root);
    let before = root.sh(CHANGES);
    let without = "/tmp/no-namespaces";
    root.sh(&format!("gcc -o {without} /srv/tests/no-namespaces.c && ! {without} unshare --mount true"));

    root.sh(&format!("OUTSIDE=$(cat /srv/pid) PORT=$(cat /srv/port) {without} dkms build probe/1"));
    // Of the source there is no private copy; processes and, where the kernel is older than 6.7, sockets are seen.
    root.says(
        "grep -aE '^(pre|make|post):' /var/lib/dkms/probe/1/$K/$A/log/make.log | grep -vE 'sees a process|talks to'",
        &["pre", "make", "post"]
            .map(|step| {
                let mut text = format!("{step}: _dkms:_dkms of _dkms in /var/lib/dkms/probe/1/build\n");
                for place in ["/var/tmp", "/dev/shm", "/usr/src/probe-1", "/var/lib/dkms/probe/1/source"] {
                    text += &format!("{step}: cannot write to {place}\n");
                }
                text
            })
            .concat(),
    );
    root.says("stat -c '%U %n' /proc/[0-9]* | grep '^_dkms'; true", "");
    root.unchanged(CHANGES, &before);

    // One module for two kernels, one after the other; and one that has a script of its own put files into the tree.
    root.source("apple-gmux-0.1");
    root.source("zfs-2.1.11");
    root.sh(&format!("{without} dkms install apple-gmux/0.1 -k $OLD -k $K"));
    root.sh(&format!("{without} dkms install zfs/2.1.11"));
    root.says(
        "dkms status apple-gmux; dkms status zfs; ls /var/lib/dkms/zfs/2.1.11/$K/$A",
        "\
apple-gmux/0.1, $OLD, $A: installed
apple-gmux/0.1, $K, $A: installed (Original modules exist)
zfs/2.1.11, $K, $A: installed
Module.symvers
log
module
zfs_config.h
",
    );
}

#[test]
fn who_waits_for_a_build_holds_no_copy_of_what_dkms_has_in_memory() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("slow", "MAKE='until [ -e /srv/go ]; do sleep 0.1; done'");
    root.sh("dkms add slow/1");
    root.sh("(dkms build slow/1 -k $K >/srv/said 2>&1; echo $? >/srv/code) & until pgrep -u _dkms sleep; do sleep 0.05; done");
    // dkms, the guard, and process 1 of the build.
    let heaps = "for pid in $(pgrep -x dkms); do awk '/^[0-9a-f]+-/ { heap = $NF == \"[heap]\" } \
                 heap && /^Rss:/ { print $2 < 192 ? \"nothing\" : \"much\" }' /proc/$pid/smaps; done";
    root.says(heaps, "much\nnothing\nnothing\n");
    root.sh("touch /srv/go");
    root.wait_until("[ -s /srv/code ]");
    root.says("cat /srv/code", "0\n");
}

#[test]
fn a_package_that_writes_into_its_source_writes_into_a_copy() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    root.quick(
        "quick",
        "MAKE='cp quick.ko /usr/src/quick-1/built.ko && cp ../source/built.ko .'\nBUILT_MODULE_NAME=built",
    );
    root.sh("dkms install quick/1");
    root.says("dkms status; ls /usr/src/quick-1", "quick/1, $K, $A: installed\ndkms.conf\nquick.ko\n");
    // The next build finds nothing of it either.
    root.quick("quick", "MAKE='test ! -e /usr/src/quick-1/built.ko && cp quick.ko built.ko'\nBUILT_MODULE_NAME=built");
    root.sh("dkms build quick/1 --force");
}

#[test]
fn a_package_as_zfs_is_configures_itself_and_keeps_files_in_the_tree() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.source("zfs-2.1.11");
    root.sh("dkms generate_mok; echo ZFS_DKMS_ENABLE_DEBUG=Yes >/etc/default/zfs; dkms add zfs/2.1.11");

    root.says(
        "dkms install zfs/2.1.11 -k $OLD -k $K",
        "\
$SIGNING

Running the pre_build script... done.
Building module(s)... done.
Signing module /var/lib/dkms/zfs/2.1.11/build/module/zfs/zfs.ko
Running the post_build script... done.
Installing /lib/modules/$OLD/updates/dkms/zfs.ko
Running depmod... done.
$SIGNING

Running the pre_build script... done.
Building module(s)... done.
Signing module /var/lib/dkms/zfs/2.1.11/build/module/zfs/zfs.ko
Running the post_build script... done.
Installing /lib/modules/$K/updates/dkms/zfs.ko
Running depmod... done.
",
    );
    root.says(
        "cd /var/lib/dkms/zfs/2.1.11/$K/$A && stat -c '%A %U %n' * && cat zfs_config.h \
         && grep -c '\\szfs_answer\\s/var/lib/dkms/zfs/2.1.11/build/module/zfs/zfs\\sEXPORT_SYMBOL' Module.symvers",
        "\
-rw-r--r-- root Module.symvers
drwxr-xr-x root log
drwxr-xr-x root module
-rw-r--r-- root zfs_config.h
#define CONFIGURED_FOR \"$K\"
1
",
    );
    root.says("modinfo -k $K -F description zfs", "Stand-in for a file system, for $K\n");
    // Both evaluations of its dkms.conf took place.
    root.says(
        "grep '^# command.*configure' /var/lib/dkms/zfs/2.1.11/$K/$A/log/make.log",
        "# command: cd /var/lib/dkms/zfs/2.1.11/build/ && /var/lib/dkms/zfs/2.1.11/build/configure --prefix=/usr \
         --with-linux=/lib/modules/$K/source --with-linux-obj=/lib/modules/$K/build --with-accelerator= \
         --enable-debug\n",
    );
    root.sh("dkms remove zfs/2.1.11 --all");
    root.says("find /var/lib/dkms /lib/modules -name '*zfs*'", "");

    // A POST_BUILD that fails leaves the modules built, and its log where it says.
    root.sh("cd /usr/src/zfs-2.1.11/scripts && echo 'echo no post today; exit 7' >>dkms.postbuild && sed -i 's/^exec //' dkms.postbuild");
    let output = root.run("dkms install zfs/2.1.11");
    assert_eq!(output.code, 7, "{output:?}");
    let log = output
        .text
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("Consult ")?.strip_suffix(" for more information."));
    let log = log.unwrap_or_else(|| panic!("{output:?}"));
    root.says(&format!("grep '^no post' {log}; dkms status"), "no post today\nzfs/2.1.11, $K, $A: built\n");
}

#[test]
fn whatever_path_a_dkms_conf_spells_is_right() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    let build = |path: &str| {
        format!("MAKE='test {path} -ef . && cp {path}/quick.ko {path}/../build/built.ko'\nBUILT_MODULE_NAME=built")
    };
    for path in [
        "/var/lib/dkms/quick/1/build",
        "${dkms_tree}/quick/1/build",
        "${dkms_tree}/$module/$module_version/build/../build",
        "${dkms_tree}/../dkms/${PACKAGE_NAME}/${PACKAGE_VERSION}/build",
    ] {
        root.quick("quick", &build(path));
        root.sh("dkms build quick/1 --force -k $OLD -k $K");
    }
    // The trees of others are there to be read, at their own places.
    root.quick("quick", "");
    root.quick("other", "MAKE='cp ${dkms_tree}/quick/1/$kernelver/$arch/module/quick.ko other.ko'");
    root.sh("rm /usr/src/other-1/other.ko && touch /usr/src/other-1/other.c");
    root.sh("dkms build quick/1 --force && dkms install other/1");
    // And so is a source that is elsewhere.
    root.sh("mkdir /opt/sources && mv /usr/src/other-1 /opt/sources && ln -s /opt/sources/other-1 /usr/src");
    root.sh("sed -i 's|^MAKE=.c.*|MAKE=\"touch /opt/sources/other-1/x /usr/src/other-1/y \\&\\& cp /usr/src/quick-1/quick.ko other.ko\"|' /opt/sources/other-1/dkms.conf");
    root.sh("dkms build other/1 --force");
    root.says("ls /usr/src/other-1", "dkms.conf\nother.c\n");
}

#[test]
fn only_the_administrator_makes_a_build_run_as_root() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    let conf = "MAKE='id -un; touch /srv/touched || true'\nBUILD_AS_ROOT=yes";
    let user = "sed -n '6p' /var/lib/dkms/quick/1/$K/$A/log/make.log; ls /srv/touched 2>/dev/null; rm -f /srv/touched";
    root.quick("quick", conf);
    root.sh("dkms build quick/1");
    root.says(user, "_dkms\n");

    for file in ["quick.conf", "quick-1.conf"] {
        root.write(&format!("/etc/dkms/{file}"), "BUILD_AS_ROOT=yes");
        root.sh("dkms build quick/1 --force");
        root.says(user, "root\n/srv/touched\n");
        root.sh(&format!("rm /etc/dkms/{file}"));
    }
    root.write("/etc/dkms/quick.conf", "BUILD_AS_ROOT=no");
    root.write("/etc/dkms/other.conf", "BUILD_AS_ROOT=yes");
    root.sh("dkms build quick/1 --force");
    root.says(user, "_dkms\n");

    root.source("zfs-2.1.11");
    root.write("/etc/dkms/zfs.conf", "BUILD_AS_ROOT=yes");
    root.sh("dkms install zfs/2.1.11");
    root.says("cd /var/lib/dkms/zfs/2.1.11/$K/$A && ls", "Module.symvers\nlog\nmodule\nzfs_config.h\n");
}

#[test]
fn a_source_that_only_root_can_read_is_built() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok; mkdir /root/src; chmod 700 /root /root/src");
    root.quick("quick", "");
    root.sh("cp -r /usr/src/quick-1 /root/src/quick-2; echo PACKAGE_VERSION=2 >>/root/src/quick-2/dkms.conf");
    root.sh("mv /usr/src/quick-1 /root/src");

    root.says("dkms add /root/src/quick-1", "Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1\n");
    root.sh("dkms install quick/1");
    // It stays where it is.
    root.sh("ln -s /root/src/quick-2 /usr/src && dkms install quick/2 --force");
    root.sh("dkms remove quick/2 --all && rm /usr/src/quick-2");
    root.sh("dkms install quick/2 --force --sourcetree /root/src && dkms remove quick/2 --all");
    // So does the tree.
    root.sh("mkdir /root/tree && cd /root && dkms build quick/2 --sourcetree /root/src --dkmstree /root/tree");
    root.says("dkms status --dkmstree /root/tree", "quick/2, $K, $A: built\n");

    // Not even its own files are for others, nor what the administrator adds to them.
    root.sh("chmod -R go= /root/src/quick-2 && dkms add /root/src/quick-2");
    root.says("stat -c %A /usr/src/quick-2 /usr/src/quick-2/dkms.conf", "drwx------\n-rw-------\n");
    root.write("/etc/dkms/quick-2.conf", "DEST_MODULE_NAME=closed");
    root.sh(
        "chmod 600 /etc/dkms/quick-2.conf && dkms install quick/2 && test -e /lib/modules/$K/updates/dkms/closed.ko",
    );
    root.says("stat -c %A /usr/src/quick-2 /usr/src/quick-2/dkms.conf", "drwx------\n-rw-------\n");
    root.says("dkms status", "quick/1, $K, $A: built\nquick/2, $K, $A: installed\n");
}

#[test]
fn who_is_not_root_builds_in_trees_of_his_own() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("quick", "MAKE='id -un; touch /home/mine/out /home/mine/src/quick-1/out || true'");
    root.sh("cd /home && mkdir -p mine/tree mine/src mine/modules && cp -r /usr/src/quick-1 mine/src \
         && ln -s /lib/modules/$K mine/modules/$K && chown -R nobody mine");
    let dkms = "setpriv --reuid=65534 --regid=65534 --clear-groups dkms";
    let trees = "--dkmstree /home/mine/tree --sourcetree /home/mine/src --installtree /home/mine/modules";

    root.says(
        &format!("{dkms} add quick/1 {trees}"),
        "Creating symlink /home/mine/tree/quick/1/source -> /home/mine/src/quick-1\n",
    );
    root.sh(&format!("{dkms} build quick/1 {trees}"));
    root.says(&format!("{dkms} status {trees}"), "quick/1, $K, $A: built\n");
    root.says(
        "cd /home/mine && sed -n '6p' tree/quick/1/$K/$A/log/make.log; stat -c %U tree/quick/1/$K/$A/module/*; ls . src/quick-1",
        "nobody\nnobody\n.:\nmodules\nsrc\ntree\n\nsrc/quick-1:\ndkms.conf\nquick.ko\n",
    );
    root.fails(&format!("{dkms} install quick/1 {trees}"), 1, "\nError! You must be root to use this command.\n");
    root.sh(&format!("{dkms} remove quick/1 --all {trees}"));
    root.says("find /home/mine/tree /var/lib/dkms -mindepth 1", "");
}
