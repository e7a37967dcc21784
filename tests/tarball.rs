// SPDX-License-Identifier: GPL-2.0-or-later

//! Tarballs: made, loaded, and carried from one dkms to the other.

use crate::support::{Layer, Root};

/// What is in the tree and among the sources, without times.
const STATE: &str =
    "cd / && find var/lib/dkms usr/src/[a-z]*-1 -printf '%y %M %u %p %l\\n' | grep -v mok | LC_ALL=C sort -k 4";

const LISTING: &str = "LC_ALL=C sort -k 4 | sed -E 's/ +[0-9]+ [0-9-]+ [0-9:]+//'";

const LOADED: &str = "
Loading tarball for hello/1
Loading /var/lib/dkms/hello/1/$K/$A...
Creating symlink /var/lib/dkms/hello/1/source -> /usr/src/hello-1
";

const NOT_BUILT: &str = "
Error! No modules built for $K ($A).
Modules must already be in the built state before using mktarball.
";

/// A root with hello/1 built for the newest kernel.
fn built() -> Root {
    let mut root = Root::new();
    root.quick("hello", "AUTOINSTALL=yes");
    root.sh("ln -s hello.ko /usr/src/hello-1/link && mkdir /usr/src/hello-1/.sub && touch /usr/src/hello-1/.sub/x");
    root.sh("dkms build hello/1 -k $K");
    root
}

/// Forgets the module and its source.
fn forget(root: &mut Root) {
    root.sh("rm -rf /var/lib/dkms/hello /usr/src/hello-1");
}

#[track_caller]
fn makes(root: &mut Root, options: &str, marked: &str, place: &str) {
    root.says(
        &format!("cd /root && dkms mktarball hello/1 {options}"),
        &format!("{marked}\nMarking /var/lib/dkms/hello/1/source for archiving...\n\nTarball location: {place}\n"),
    );
}

const MARKED: &str = "Marking modules for $K ($A) for archiving...\n";
const DIR: &str = "/var/lib/dkms/hello/1/tarball/";

#[test]
fn mktarball_has_its_words_names_and_places() {
    let mut root = built();
    root.sh("dkms build hello/1 -k $OLD");
    makes(&mut root, "-k $K", MARKED, &format!("{DIR}/hello-1-kernel$K-$A.dkms.tar.gz"));
    let both = "Marking modules for $OLD ($A) for archiving...\nMarking modules for $K ($A) for archiving...\n";
    for which in ["-k $OLD -k $K", "--all"] {
        makes(&mut root, which, both, &format!("{DIR}/hello-1-kernel$OLD-$A-kernel$K-$A.dkms.tar.gz"));
    }
    makes(&mut root, "--source-only", "", &format!("{DIR}/hello-1-source-only.dkms.tar.gz"));
    makes(&mut root, "-k $K --archive=x.tar", MARKED, &format!("{DIR}/x.tar"));
    makes(&mut root, "-k $K --archive=new/dir/x.tar.xz", MARKED, "new/dir/x.tar.xz");
    makes(&mut root, "-k $K --archive /root/x.tgz", MARKED, "/root/x.tgz");
    makes(&mut root, "-k $K --archive=", MARKED, &format!("{DIR}/hello-1-kernel$K-$A.dkms.tar.gz"));
    root.says(
        "dkms mktarball hello/1 -k $K --binaries-only --archive=/root/b.tar.zst",
        &format!(
            "{MARKED}
Creating tarball structure to specifically accomodate binaries.

Tarball location: /root/b.tar.zst
"
        ),
    );
    // Each is what its name says, and nothing else was written.
    root.says(
        &format!("cd {DIR} && file -b -- * /root/new/dir/* /root/*.t* | cut -c -12 && stat -c %a -- * | uniq"),
        "gzip compres\ngzip compres\ngzip compres\nPOSIX tar ar\nXZ compresse\nZstandard co\ngzip compres\n644\n",
    );
    root.says(&format!("ls -A {DIR} | wc -l && ls -A /root/new/dir"), "4\nx.tar.xz\n");
    root.sh("for i in {1..7}; do cp -r /var/lib/dkms/hello/1/{$K,6.6.$i-a-very-long-name-of-a-kernel}; done");
    root.says(
        "dkms mktarball hello/1 --all | tail -n 1",
        &format!("Tarball location: {DIR}/hello-1-manykernels.dkms.tar.gz\n"),
    );
}

#[test]
fn a_tarball_holds_what_it_always_did() {
    let mut root = built();
    root.sh("cd /root && dkms mktarball hello/1 -k $K --archive=/root/all.tar && \
             dkms mktarball hello/1 -k $K --binaries-only --archive=/root/bin.tar && \
             dkms mktarball hello/1 --source-only --archive=/root/src.tar");
    let own = if root.layer == Layer::Ours { "drwxr-xr-x" } else { "drwx------" };
    let main = "drwxr-xr-x root/root ./dkms_main_tree/\n";
    let modules = "\
drwxr-xr-x root/root ./dkms_main_tree/$K/
drwxr-xr-x root/root ./dkms_main_tree/$K/$A/
drwxr-xr-x root/root ./dkms_main_tree/$K/$A/log/
-rw-r--r-- root/root ./dkms_main_tree/$K/$A/log/make.log
drwxr-xr-x root/root ./dkms_main_tree/$K/$A/module/
-rw-r--r-- root/root ./dkms_main_tree/$K/$A/module/hello.ko
";
    let source = "\
drwxr-xr-x root/root ./dkms_source_tree/
drwxr-xr-x root/root ./dkms_source_tree/.sub/
-rw-r--r-- root/root ./dkms_source_tree/.sub/x
-rw-r--r-- root/root ./dkms_source_tree/dkms.conf
-rw-r--r-- root/root ./dkms_source_tree/hello.ko
lrwxrwxrwx root/root ./dkms_source_tree/link -> hello.ko
";
    let binaries = "\
drwxr-xr-x root/root ./dkms_binaries_only/
-rw-r--r-- root/root ./dkms_binaries_only/PACKAGE_NAME
-rw-r--r-- root/root ./dkms_binaries_only/PACKAGE_VERSION
-rw-r--r-- root/root ./dkms_binaries_only/dkms.conf
";
    for (name, content) in [
        ("all", format!("{main}{modules}{source}")),
        ("bin", format!("{binaries}{main}{modules}")),
        ("src", format!("{main}{source}")),
    ] {
        let sorted = LISTING.replace("-k 4", "-k 6");
        root.says(&format!("tar tvf /root/{name}.tar | {sorted}"), &format!("{own} root/root ./\n{content}"));
    }
    root.says(
        "cd /root && tar -xOf bin.tar ./dkms_binaries_only/PACKAGE_NAME && \
         tar -xOf bin.tar ./dkms_binaries_only/PACKAGE_VERSION",
        "hello\n1\n",
    );
    root.sh("cd /root && tar -xOf all.tar ./dkms_main_tree/$K/$A/module/hello.ko | \
             cmp - /var/lib/dkms/hello/1/$K/$A/module/hello.ko");
}

#[test]
fn the_same_module_gives_the_same_tarball() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("hello", "");
    root.sh("dkms build hello/1 -k $K && chmod 600 /usr/src/hello-1/hello.ko");
    for name in ["1.tar.gz", "2.tar.gz", "1.tar.xz", "2.tar.xz", "1.tar.zst", "2.tar.zst"] {
        root.sh(&format!("dkms mktarball hello/1 -k $K --archive=/root/{name}"));
        root.sh("cp -r /usr/src/hello-1 /usr/src/new && touch -r /usr/src/{hello-1,new}/dkms.conf && \
                 rm -r /usr/src/hello-1 && mv /usr/src/new /usr/src/hello-1 && \
                 find /var/lib/dkms /usr/src/hello-1 -not -name dkms.conf -exec touch {} + && chgrp -R 1 /usr/src/hello-1");
    }
    root.sh("cd /root && for kind in gz xz zst; do cmp {1,2}.tar.$kind || exit; done");
    root.sh("touch /usr/src/hello-1/dkms.conf && SOURCE_DATE_EPOCH=86400 dkms mktarball hello/1 -k $K --archive=/root/3.tar");
    root.says("tar tvf /root/3.tar | awk '{print $4}' | uniq", "1970-01-02\n");
    root.says(
        "tar tvf /root/3.tar | awk '{print $6}' | LC_ALL=C sort -c && tar tvf /root/3.tar | awk '{print $2}' | uniq",
        "root/root\n",
    );
}

/// Where anybody makes files, also where the kernel does not see to it.
#[test]
fn mktarball_follows_fills_and_waits_for_nothing_of_somebody_elses() {
    let mut root = built();
    root.sh("echo secret >/srv/victim");
    for (plant, name) in [
        ("ln -s /srv/victim", "link.tar"),
        ("ln -s /srv/new", "dangling.tar"),
        ("mkfifo", "pipe.tar"),
        ("cp /dev/null", "file.tar"),
    ] {
        root.sh(&format!("setpriv --reuid=1000 --regid=1000 --clear-groups {plant} /tmp/{name}"));
        let output = root.run(&format!("timeout 20 dkms mktarball hello/1 --source-only --archive=/tmp/{name}"));
        let planted = format!("/tmp/{name} belongs to user 1000, not to root");
        assert!(output.code == 6 && output.text.contains(&planted), "{plant}: {output:?}");
        root.says(
            "cat /srv/victim; ls /srv/new 2>/dev/null || true; stat -c %s /tmp/file.tar 2>/dev/null || true",
            if name == "file.tar" { "secret\n0\n" } else { "secret\n" },
        );
    }
}

#[test]
fn mktarball_says_what_it_cannot_do() {
    let mut root = Root::new();
    root.quick("hello", "");
    root.fails(
        "dkms mktarball",
        1,
        "
Error! Arguments <module> and <module-version> are not specified.
Usage: mktarball <module>/<module-version> or
       mktarball -m <module>/<module-version> or
       mktarball -m <module> -v <module-version>
",
    );
    root.fails(
        "dkms mktarball hello/1",
        3,
        "\nError! The module/version combo: hello/1 is not located in the DKMS tree.\n",
    );
    root.sh("dkms add hello/1");
    root.fails("dkms mktarball hello/1", 6, NOT_BUILT);
    root.fails("dkms mktarball hello/1 --binaries-only", 6, NOT_BUILT);
    root.fails(
        "dkms mktarball hello/1 --binaries-only --source-only",
        8,
        "\nError! You have specified both --binaries-only and --source-only.\nYou cannot do this.\n",
    );
    root.sh("dkms build hello/1 -k $K");
    root.fails("dkms mktarball hello/1 -k $K -k 9.9.9", 6, &format!("{MARKED}{}", NOT_BUILT.replace("$K", "9.9.9")));
    root.fails("dkms mktarball hello/1 -k $K/i686", 6, &NOT_BUILT.replace("$A", "i686"));
    let begun = format!("{MARKED}\nMarking /var/lib/dkms/hello/1/source for archiving...\n\nTarball location: ");
    root.fails(
        "dkms mktarball hello/1 -k $K --archive=/etc/passwd/x.tar",
        9,
        &format!("{begun}/etc/passwd/x.tar\n\nError! Missing write permissions for /etc/passwd.\n"),
    );
    root.fails(
        "setpriv --reuid 65534 --regid 65534 --clear-groups dkms mktarball hello/1 -k $K",
        9,
        &format!("{begun}{DIR}/hello-1-kernel$K-$A.dkms.tar.gz\n\nError! Missing write permissions for {DIR}.\n"),
    );
    root.sh("cd /tmp && setpriv --reuid 65534 --regid 65534 --clear-groups dkms mktarball hello/1 -k $K --archive=/tmp/x.tar");
    let output = root.run("dkms mktarball hello/1 -k $K --archive=/proc/x.tar");
    assert!(output.code == 6 && output.text.contains("\nError! Failed to make tarball.\n"), "{output:?}");
    root.sh("mv /usr/src/hello-1 /usr/src/gone");
    root.fails(
        "dkms mktarball hello/1 -k $K --binaries-only",
        4,
        "
Error! hello/1 is broken!
Missing the source directory or the symbolic link pointing to it.
Manual intervention is required!
",
    );
}

#[test]
fn a_tarball_cut_short_by_a_full_disk_is_none() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("hello", "");
    root.sh("dkms build hello/1 -k $K && mkdir /root/full && mount -t tmpfs -o mode=755,size=8k full /root/full");
    root.sh("echo old >/root/full/x.tar");
    let output = root.run("dkms mktarball hello/1 -k $K --archive=/root/full/x.tar");
    assert!(output.code == 6 && output.text.contains("No space left on device"), "{output:?}");
    root.says("ls -A /root/full && cat /root/full/x.tar", "x.tar\nold\n");
}

#[test]
fn ldtarball_brings_back_what_mktarball_took() {
    let mut root = built();
    root.sh("cd /root && dkms mktarball hello/1 -k $K --archive=/root/all.tar.gz && \
             dkms mktarball hello/1 --source-only --archive=/root/src.tar.xz");
    // A build directory that a build has used is gone, one of a module that was added is there.
    root.sh("mkdir /var/lib/dkms/hello/1/build");
    let before = root.sh(STATE);
    forget(&mut root);
    root.says("dkms ldtarball /root/all.tar.gz", LOADED);
    root.unchanged(STATE, &before);
    root.says("dkms status", "hello/1, $K, $A: built\n");

    let added = "\nError! hello/1 is already added!\nAborting.\n";
    for action in ["ldtarball", "add", "build -k $K", "install -k $K"] {
        root.fails(&format!("dkms {action} /root/all.tar.gz"), 8, added);
    }
    root.sh("dkms remove hello/1 --all");
    root.sh("echo old >/usr/src/hello-1/old && echo '#' >>/usr/src/hello-1/dkms.conf");
    root.says("dkms add --archive=/root/all.tar.gz", LOADED);
    root.says("cd /usr/src/hello-1 && ls && tail -n 1 dkms.conf", "dkms.conf\nhello.ko\nlink\nold\nAUTOINSTALL=yes\n");

    root.sh("echo changed >/var/lib/dkms/hello/1/$K/$A/module/hello.ko");
    root.fails(
        "dkms ldtarball /root/all.tar.gz --force",
        3,
        "
Loading tarball for hello/1

Forcing install of hello/1
Loading /var/lib/dkms/hello/1/$K/$A...

Error! DKMS tree already contains: hello/1
You cannot add the same module/version combo more than once.
",
    );
    root.unchanged(STATE, &before);
    root.sh("dkms install hello/1 -k $K && modinfo -k $K hello | grep updates/dkms/hello.ko");

    root.sh("dkms remove hello/1 --all");
    forget(&mut root);
    root.says(
        "cd /root && dkms ldtarball src.tar.xz",
        "\nLoading tarball for hello/1\nCreating symlink /var/lib/dkms/hello/1/source -> /usr/src/hello-1\n",
    );
    root.says("dkms status", "hello/1: added\n");
}

#[test]
fn modules_that_were_built_already_stay_as_they_are() {
    let mut root = built();
    root.sh("dkms mktarball hello/1 -k $K --archive=/root/all.tar.gz && rm /var/lib/dkms/hello/1/source");
    root.sh("echo mine >/var/lib/dkms/hello/1/$K/$A/module/hello.ko");
    root.says(
        "dkms ldtarball /root/all.tar.gz",
        "
Loading tarball for hello/1
Warning: /var/lib/dkms/hello/1/$K/$A already exists. Skipping...
Creating symlink /var/lib/dkms/hello/1/source -> /usr/src/hello-1
",
    );
    root.says("cat /var/lib/dkms/hello/1/$K/$A/module/hello.ko", "mine\n");
}

#[test]
fn binaries_without_their_source_are_kept_until_it_comes() {
    let mut root = built();
    root.sh("dkms mktarball hello/1 -k $K --binaries-only --archive=/root/bin.tar.gz");
    root.sh("rm -rf /var/lib/dkms/hello");
    root.says("dkms ldtarball /root/bin.tar.gz", LOADED);
    root.sh("cp -r /usr/src/hello-1 /root/source");
    forget(&mut root);
    root.fails(
        "dkms ldtarball /root/bin.tar.gz",
        1,
        "
Loading tarball for hello/1
Creating /var/lib/dkms/hello/1/source
Copying dkms.conf to /var/lib/dkms/hello/1/source ...
Loading /var/lib/dkms/hello/1/$K/$A...
",
    );
    root.says("dkms status; ls /var/lib/dkms/hello/1/source", "dkms.conf\n");
    if root.layer == Layer::Ours {
        root.sh("cp -r /root/source /usr/src/hello-1");
        root.says("dkms add hello/1", "Creating symlink /var/lib/dkms/hello/1/source -> /usr/src/hello-1\n");
        root.says("dkms status", "hello/1, $K, $A: built\n");
    }
}

#[test]
fn sources_come_in_every_wrapping() {
    let mut root = Root::new();
    root.quick("hello", "");
    root.sh("mkdir /root/w && cd /root/w && mv /usr/src/hello-1 proj && mkdir deep && cp -r proj deep/");
    root.sh(
        "cd /root/w && for kind in tar tar.gz tgz tar.bz2 tar.xz tar.zst; do tar -caf p.$kind proj || exit; done && \
             cp p.tar.gz p.whatever && tar -czf flat.tar.gz -C proj . && tar -czf deep.tar.gz deep",
    );
    let added = "Creating symlink /var/lib/dkms/hello/1/source -> /usr/src/hello-1\n";
    for name in
        ["p.tar", "p.tar.gz", "p.tgz", "p.tar.bz2", "p.tar.xz", "p.tar.zst", "p.whatever", "flat.tar.gz", "deep.tar.gz"]
    {
        root.says(&format!("cd /root/w && dkms ldtarball {name}"), added);
        root.says("cd /usr/src && ls hello-1 && cmp hello-1/hello.ko /root/w/proj/hello.ko", "dkms.conf\nhello.ko\n");
        forget(&mut root);
    }
    root.says("cd /root/w && dkms add p.tar", added);
    let already = "
Error! DKMS tree already contains: hello/1
You cannot add the same module/version combo more than once.
";
    for action in ["ldtarball", "add", "build -k $K", "install -k $K"] {
        root.fails(&format!("dkms {action} /root/w/p.tar"), 3, already);
    }
    root.fails("dkms ldtarball /root/w/p.tar --force", 3, &format!("\nForcing install of hello/1\n{already}"));
    forget(&mut root);
    root.sh("dkms generate_mok");
    root.says(
        "dkms install /root/w/p.tar -k $K",
        &format!(
            "\
{added}
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/hello/1/build/hello.ko
Installing /lib/modules/$K/updates/dkms/hello.ko
Running depmod... done.
"
        ),
    );
    root.fails(
        "dkms add /root/w/p.tar other/2",
        2,
        "\nError! Could not find module source directory.\nDirectory: /usr/src/other-2 does not exist.\n",
    );
}

#[test]
fn what_is_no_tarball_of_a_module_is_told() {
    let mut root = built();
    root.sh("mkdir /root/w && cd /root/w && dkms mktarball hello/1 -k $K --archive=/root/w/all.tar.gz");
    forget(&mut root);
    root.sh("rm -rf /usr/src/[a-z]*-1");
    for (command, missing) in
        [("ldtarball", ""), ("ldtarball nosuch.tar", ""), ("ldtarball --archive=nosuch.tar", "nosuch.tar")]
    {
        root.fails(&format!("cd /root/w && dkms {command}"), 2, &format!("\nError! {missing} does not exist.\n"));
    }
    root.sh("cd /root/w && mkdir none && touch none/file && tar -cf none.tar none");
    let formed = "\nError! Tarball does not appear to be a correctly formed DKMS archive";
    root.fails("dkms ldtarball /root/w/none.tar", 3, &format!("{formed}. No dkms.conf found within it.\n"));
    let mut repack = |change: &str, name: &str| {
        root.sh(&format!(
            "cd /root/w && rm -rf t && mkdir t && cd t && tar -xf ../all.tar.gz && {change} && tar -cf ../{name} ."
        ));
    };
    repack("rm dkms_source_tree/dkms.conf", "noconf.tar");
    repack("rm -r dkms_source_tree", "nosource.tar");
    for name in ["noconf.tar", "nosource.tar"] {
        root.fails(
            &format!("cd /root/w && dkms ldtarball {name}"),
            7,
            &format!(
                "
Error! No valid dkms.conf in dkms_source_tree or dkms_binaries_only.
{name} is not a valid DKMS tarball.
"
            ),
        );
    }
    root.sh("mkdir /root/w/bad && cd /root/w && echo PACKAGE_NAME=x >bad/dkms.conf && tar -cf bad.tar bad");
    let output = root.run("cd /root/w && dkms ldtarball bad.tar");
    assert_eq!(output.code, 8, "{output:?}");
    assert!(output.text.starts_with("dkms.conf: Error! No 'PACKAGE_VERSION' directive specified.\n"), "{output:?}");
    // Whatever is cut off says so, wherever that is.
    root.sh("cd /root/w && gzip -dc all.tar.gz >all.tar && xz -k all.tar && for at in 0 10 300 3000; do for kind in gz xz; \
             do head -c $at all.tar.$kind >cut-$at.$kind; done; done; head -c 11000 all.tar >cut-11000.plain; echo hi >text.plain");
    let cut = root.sh("ls /root/w/cut-* /root/w/text*");
    for file in cut.lines() {
        for action in ["ldtarball", "add", "install -k $K"] {
            let output = root.run(&format!("dkms {action} {file}"));
            assert!(output.code == 3 && output.text.contains(formed.trim_start()), "{file}: {output:?}");
        }
    }
    root.says("find /var/lib/dkms /usr/src -name '*hello*' -o -name '.loading*' -o -name '.dkms*'", "");
    root.fails("dkms ldtarball /root/w", 2, "\nError!  does not exist.\n");
}

#[test]
fn packages_of_rpm_are_left_to_rpm() {
    let mut root = Root::new();
    root.sh(
        "cd /root && touch x.rpm && printf '#!/bin/sh\\necho rpm \"$@\"; exit ${RC:-0}\\n' >/usr/local/bin/rpm && \
             chmod +x /usr/local/bin/rpm",
    );
    for action in ["ldtarball", "add", "install -k $K"] {
        root.says(&format!("cd /root && dkms {action} x.rpm"), "rpm -Uvh x.rpm\n");
    }
    root.fails(
        "cd /root && RC=3 dkms ldtarball --archive=./x.rpm",
        9,
        "rpm -Uvh ./x.rpm

Error! Unable to install ./x.rpm using rpm.
Check to ensure that your system can install .rpm files.
",
    );
}

/// The bytes of a file in one root, put into another.
fn carry(from: &mut Root, file: &str, to: &mut Root) {
    let text = from.sh(&format!("base64 -w 0 {file}"));
    to.sh(&format!("echo {text} | base64 -d >{file}"));
}

#[test]
fn tarballs_go_from_one_dkms_to_the_other_and_back() {
    let (mut ours, mut theirs) = (Root::with(Layer::Ours, &[]), Root::with(Layer::Peer, &[]));
    for root in [&mut ours, &mut theirs] {
        root.quick("hello", "");
        root.sh("mkdir /usr/src/hello-1/sub && ln -s ../hello.ko /usr/src/hello-1/sub/link");
        root.sh("dkms build hello/1 -k $K && mkdir /var/lib/dkms/hello/1/build");
    }
    let there = [theirs.sh(STATE), ours.sh(STATE)];
    assert_eq!(there[0], there[1]);
    let kinds = ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "src"];
    for kind in kinds {
        let what = if kind == "src" { "--source-only" } else { "-k $K" };
        ours.sh(&format!("dkms mktarball hello/1 {what} --archive=/root/ours.{kind}"));
        theirs.sh(&format!("dkms mktarball hello/1 {what} --archive=/root/theirs.{kind}"));
    }
    for kind in kinds {
        carry(&mut ours, &format!("/root/ours.{kind}"), &mut theirs);
        carry(&mut theirs, &format!("/root/theirs.{kind}"), &mut ours);
        for (root, file) in [(&mut ours, "theirs"), (&mut theirs, "ours")] {
            forget(root);
            root.sh(&format!("dkms ldtarball /root/{file}.{kind}"));
            if kind == "src" {
                root.says("dkms status", "hello/1: added\n");
            } else {
                root.unchanged(STATE, &there[0]);
            }
        }
    }
}

#[test]
fn a_package_may_bring_its_modules_built() {
    let mut root = built();
    root.sh("mkdir /usr/share/hello-dkms && dkms mktarball hello/1 -k $K --archive=/usr/share/hello-dkms/hello-1.dkms.tar.gz");
    forget(&mut root);
    let words = format!(
        "{LOADED}\
Building for $OLD and $K

Building initial module hello/1 for $OLD
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/hello/1/build/hello.ko
Installing /lib/modules/$OLD/updates/dkms/hello.ko
Running depmod... done.

Installing /lib/modules/$K/updates/dkms/hello.ko
Running depmod... done.
"
    );
    root.says("/usr/lib/dkms/common.postinst hello 1 /usr/share/hello-dkms '' ''", &words);
    root.says("dkms status", "hello/1, $OLD, $A: installed\nhello/1, $K, $A: installed\n");
    // The source that is there gives way to the tarball's.
    root.sh("dkms remove hello/1 --all && echo MAKE=false >>/usr/src/hello-1/dkms.conf");
    root.says("/usr/lib/dkms/common.postinst hello 1 /usr/share/hello-dkms '' ''", &words);
    root.sh("dkms remove hello/1 --all && echo >/usr/share/hello-dkms/hello-1.dkms.tar.gz");
    root.sh("echo on_failure=original >/etc/dkms/framework.conf.d/z.conf");
    let output = root.run("/usr/lib/dkms/common.postinst hello 1 /usr/share/hello-dkms '' ''");
    assert!(output.code == 2 && output.text.contains("\nError! Tarball does not appear"), "{output:?}");
    root.says("dkms status", "");
}

#[test]
fn who_is_not_root_loads_nothing() {
    let mut root = built();
    root.sh("dkms mktarball hello/1 -k $K --archive=/tmp/all.tar && chmod 644 /tmp/all.tar");
    forget(&mut root);
    let nobody = "cd / && setpriv --reuid 65534 --regid 65534 --clear-groups dkms ldtarball";
    root.fails(
        &format!("{nobody} /tmp/all.tar --force"),
        1,
        "\nError! You must be root to use this command with the --force option.\n",
    );
    root.fails(&format!("{nobody} /tmp/all.tar >/dev/null 2>&1"), 1, "");
    root.says("dkms status; ls /var/lib/dkms", "mok.key\nmok.pub\n");
}
