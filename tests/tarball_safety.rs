// SPDX-License-Identifier: GPL-2.0-or-later

//! Tarballs that would write elsewhere, or be something else than sources and modules.

use crate::support::{Layer, Root};

/// Whatever a tarball could have changed.
const SURROUNDINGS: &str = "ls /usr/src && find /root/out /root/w /var/lib/dkms /tmp \
                            -printf '%y %M %u %s %T@ %p %l\\n' && stat -c '%y %n' /etc/hostname /root /usr";

/// A root with a tarball of dkms, /root/w/all.tar, a source beside it, and nothing registered.
fn prepared() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("hello", "");
    root.sh("dkms build hello/1 -k $K && mkdir /root/w /root/out && echo safe >/root/out/file");
    root.sh("dkms mktarball hello/1 -k $K --archive=/root/w/all.tar");
    root.sh("mv /usr/src/hello-1 /root/w/proj && rm -r /var/lib/dkms/hello");
    root
}

/// Refused by each action that takes a tarball, for this reason, and nothing has changed.
#[track_caller]
fn refused(root: &mut Root, make: &str, what: &str) {
    root.sh(&format!("cd /root/w && rm -rf t x.tar && mkdir t && tar -xf all.tar -C t && {make} && touch x.tar"));
    root.sh("cd /root/w && rm -rf t && touch -d @0 /var/lib/dkms");
    let before = root.sh(SURROUNDINGS);
    for action in ["ldtarball", "ldtarball --force", "add", "build -k $K", "install -k $K"] {
        root.fails(
            &format!("cd /root/w && dkms {action} x.tar"),
            7,
            &format!("\nError! {what}.\nx.tar is not a valid DKMS tarball; nothing of it was loaded.\n"),
        );
    }
    root.sh("touch -d @0 /var/lib/dkms");
    root.unchanged(SURROUNDINGS, &before);
}

#[test]
fn names_do_not_lead_out_of_a_tarball() {
    let mut root = prepared();
    for (make, what) in [
        ("tar -P -cf x.tar proj /etc/hostname", "/etc/hostname has an absolute name"),
        (
            "tar -P --transform 's,proj/hello.ko,proj/../../../../../root/out/file,' -cf x.tar proj",
            "proj/../../../../../root/out/file has a name with .. in it",
        ),
        (
            "tar -P --transform 's,hello.ko,../../../../source/x,' -cf x.tar -C t ./dkms_main_tree ./dkms_source_tree",
            "./dkms_main_tree/$K/$A/module/../../../../source/x has a name with .. in it",
        ),
    ] {
        refused(&mut root, make, what);
    }
    let long = "n".repeat(201);
    refused(
        &mut root,
        &format!("cp -r proj t/ && touch t/proj/{long} && tar -cf x.tar -C t proj"),
        &format!("proj/{} has a name that is too long", "n".repeat(195)),
    );
    refused(
        &mut root,
        "d=$(printf 'dir/%.0s' {1..600}) && tar --transform \"s,proj/hello.ko,proj/$d,\" -cf x.tar proj",
        &format!("proj/{}dir has a name that is too long", "dir/".repeat(48)),
    );
}

#[test]
fn links_do_not_lead_out_of_a_tarball() {
    let mut root = prepared();
    let pack = "tar -cf x.tar -C t proj";
    for (make, what) in [
        ("ln -s /root/out/file t/proj/link", "proj/link is a link out of it"),
        ("ln -s ../../out t/proj/link", "proj/link is a link out of it"),
        // Each of them is harmless by itself.
        ("ln -s . t/proj/here && ln -s here/here/here/../../.. t/proj/link", "proj/link is a link out of it"),
        ("ln -s loop t/proj/loop", "proj/loop is a link out of it"),
        ("mkdir t/proj/x && ln -s ../../other t/proj/x/link", "proj/x/link is a link out of the source"),
    ] {
        refused(&mut root, &format!("cp -r proj t/ && {make} && {pack}"), what);
    }
    // A file through a link.
    refused(
        &mut root,
        "cp -r proj t/ && ln -s ../../../out t/proj/link && tar -cf x.tar -C t proj && echo evil >file && \
         tar -P --transform 's,file,proj/link/file,' -rf x.tar file && rm file",
        "proj/link is a link and something else",
    );
    refused(
        &mut root,
        "cp -r proj t/ && ln t/proj/hello.ko t/proj/hard && \
         tar -P --transform 'flags=h;s,.*,/etc/hostname,' -cf x.tar -C t proj",
        "proj/hello.ko is a link to a file outside of it",
    );
    refused(
        &mut root,
        "cp -r proj t/ && ln t/proj/hello.ko t/proj/hard && tar --transform 'flags=h;s,.*,etc/x,' -cf x.tar -C t proj",
        "proj/hello.ko is a link to a file that is not in it",
    );
    // From one part of dkms' own tarballs to another.
    refused(
        &mut root,
        "ln -s ../dkms_main_tree t/dkms_source_tree/link && tar -cf x.tar -C t .",
        "dkms_source_tree/link is a link out of the source",
    );
    refused(
        &mut root,
        "ln -s ../../../../dkms_source_tree t/dkms_main_tree/$K/$A/module/link && tar -cf x.tar -C t .",
        "dkms_main_tree/$K/$A/module/link is a link out of the modules",
    );
}

#[test]
fn only_files_are_in_a_tarball() {
    let mut root = prepared();
    for (make, what) in [
        ("mknod t/proj/null c 1 3", "proj/null is a device"),
        ("mknod t/proj/disk b 7 0", "proj/disk is a device"),
        ("mkfifo t/proj/pipe", "proj/pipe is a pipe"),
        ("chmod u+s t/proj/hello.ko", "proj/hello.ko runs with the rights of another user (setuid)"),
        ("chmod g+s t/proj/hello.ko", "proj/hello.ko runs with the rights of another user (setuid)"),
        ("truncate -s 9G t/proj/big", "proj/big makes it larger than any module's source is"),
    ] {
        refused(&mut root, &format!("cp -r proj t/ && {make} && tar -S -cf x.tar -C t proj"), what);
    }
    // What is no kernel's must not be written over.
    for name in ["source", "build", "tarball"] {
        refused(
            &mut root,
            &format!("mv t/dkms_main_tree/$K t/dkms_main_tree/{name} && tar -cf x.tar -C t ."),
            &format!("dkms_main_tree/{name}/$A is not named after a kernel"),
        );
    }
    root.sh(
        "cd /root/w && cp -r proj t && sed -i s,NAME=hello,NAME=../../x, t/dkms.conf && tar -cf x.tar t && rm -r t",
    );
    root.fails(
        "dkms ldtarball /root/w/x.tar",
        1,
        "\nError! ../../x/1 is no module and version: neither may be empty, begin with a dot or contain a slash or the end of a line,\na name may not be mok.key, mok.pub or dkms_dbversion,\nand a version may not be original_module or begin with kernel-.\n",
    );
}

#[test]
fn a_small_tarball_takes_neither_memory_nor_disk() {
    let mut root = prepared();
    refused(
        &mut root,
        "cp -r proj t/ && mkdir -p t/proj/$(printf 'd/%.0s' {1..70}) && tar -cf x.tar -C t proj",
        &format!("proj/{} lies too deep", "d/".repeat(64)),
    );
    // A name without end, and a header: neither is held in memory.
    for kind in ["L", "K", "x"] {
        root.sh(&format!(
            "cd /root/w && rm -f x.tar.gz && perl -e 'my $h = pack(q(a100 a8 a8 a8 a12 a12 A8 a1 a100 a8 a32 a32 a8 a8 a167), q(././@LongLink), q(0000644), q(0), q(0), q(74000000000), q(0), q(), q({kind}), q(), qq(ustar  ));
             my $s = 0; $s += $_ for unpack(q(C*), $h); substr($h, 148, 8) = sprintf(qq(%06o\\0 ), $s); print $h; print qq(a) x (1 << 20) for 1..300' | gzip -1 >x.tar.gz"
        ));
        let output = root.run("ulimit -v 1000000; cd /root/w && dkms ldtarball x.tar.gz");
        assert!(output.code == 3 && output.text.contains("a name in it is too long"), "{kind}: {output:?}");
    }
    // Links: each has a long name in front of it, they are many, or lead through each other over and over.
    let head = "sub head { my ($kind, $name, $to, $size) = @_;
        my $h = pack(q(a100 a8 a8 a8 a12 a12 A8 a1 a100 a8 a32 a32 a8 a8 a167), $name, q(0000644), q(0), q(0),
            sprintf(q(%011o), $size), q(0), q(), $kind, $to, qq(ustar  ));
        my $s = 0; $s += $_ for unpack(q(C*), $h); substr($h, 148, 8) = sprintf(qq(%06o\\0 ), $s); print $h }
        sub long { my $to = shift; head(q(K), q(././@LongLink), q(), length $to); print $to, qq(\\0) x (-length($to) % 512) }";
    for (links, why) in [
        ("for (1..1200) { long(q(a) x 1000000); head(2, qq(p/l$_), q(a), 0) }", "is a link to a name that is too long"),
        ("for (1..400000) { head(2, qq(p/link$_), q(somewhere), 0) }", "is one link more than any module's source has"),
        (
            "head(5, q(p/d/), q(), 0); for (1..200) { long(q(d/../) x 800 . q(l) . ($_ + 1)); head(2, qq(p/l$_), q(a), 0) }",
            "is a link out of it",
        ),
    ] {
        root.sh(&format!("cd /root/w && perl -e '{head}; {links} print qq(\\0) x 1024' | gzip -1 >x.tar.gz"));
        let output = root.run("ulimit -v 1000000; cd /root/w && timeout 30 dkms ldtarball x.tar.gz");
        assert!(output.code == 7 && output.text.contains(why), "{why}: {output:?}");
    }
    root.says("find /var/lib/dkms -mindepth 1 ! -name 'mok.*'; ls -d /usr/src/hello* 2>/dev/null; true", "");
}

#[test]
fn what_is_loaded_is_ours() {
    let mut root = prepared();
    root.sh("cd /root/w && mkdir proj/sub && echo >proj/sub/run && ln -s ../hello.ko proj/sub/link && \
             ln proj/hello.ko proj/hard && chown -R 1000:1000 proj && chmod 2777 proj/sub && chmod 777 proj/sub/run && \
             chmod 600 proj/hello.ko && touch -d @1000000000 proj/sub/run && tar -cf x.tar proj");
    root.sh("dkms ldtarball /root/w/x.tar");
    root.says(
        "cd /usr/src && find hello-1 -printf '%M %u %n %p %l\\n' | LC_ALL=C sort -k 4 && stat -c %Y hello-1/sub/run",
        "\
drwxr-xr-x root 3 hello-1 
-rw-r--r-- root 1 hello-1/dkms.conf 
-rw-r--r-- root 1 hello-1/hard 
-rw-r--r-- root 1 hello-1/hello.ko 
drwxr-xr-x root 2 hello-1/sub 
lrwxrwxrwx root 1 hello-1/sub/link ../hello.ko
-rwxr-xr-x root 1 hello-1/sub/run 
1000000000
",
    );
}

#[test]
fn a_link_that_will_not_be_loaded_is_told_when_the_tarball_is_made() {
    let mut root = prepared();
    root.sh("mv /root/w/proj /usr/src/hello-1 && ln -s /etc/hostname /usr/src/hello-1/link && dkms add hello/1");
    root.says(
        "dkms mktarball hello/1 --source-only --archive=/root/x.tar",
        "
Marking /var/lib/dkms/hello/1/source for archiving...

Tarball location: /root/x.tar
Warning: /usr/src/hello-1/link leads out of the source: dkms-rs will not load a tarball with it.
",
    );
}

/// Nothing in it but zeros: a few kilobytes for as much as the disk has.
#[test]
fn a_tarball_leaves_others_half_of_the_disk() {
    let mut root = prepared();
    root.sh("cd /root/w && truncate -s 150M proj/zeros && tar -czf plain.tar.gz proj && tar -cSzf sparse.tar.gz proj");
    root.sh("mkdir -p /var/lib/dkms && mount -t tmpfs -o mode=755,size=250m small /var/lib/dkms");
    for name in ["plain", "sparse"] {
        let output = root.run(&format!("cd /root/w && dkms ldtarball {name}.tar.gz"));
        let why = format!(
            "Cannot unpack {name}.tar.gz: it takes more than half of what is left free in /var/lib/dkms: make room there"
        );
        assert!(output.code == 1 && output.text.contains(&why), "{output:?}");
        root.says("ls -A /var/lib/dkms; dkms status", "");
    }
    root.sh("mount -o remount,size=400m /var/lib/dkms && cd /root/w && dkms ldtarball plain.tar.gz");
}

#[test]
fn a_load_that_cannot_end_leaves_nothing() {
    let mut root = prepared();
    // What a kill leaves is seen by nobody and goes with the next one.
    root.sh("mkdir -p /var/lib/dkms/.dkms-work-killed/dkms_main_tree");
    root.says("dkms status", "");
    for full in ["/var/lib/dkms", "/usr/src"] {
        root.sh(&format!("mkdir -p /var/lib/dkms && mount -t tmpfs -o mode=755,size=8k full {full}"));
        let output = root.run("dkms ldtarball /root/w/all.tar");
        assert!(output.code == 1 && output.text.contains("No space left on device"), "{full}: {output:?}");
        root.says(&format!("ls -A {full} && umount {full} && dkms status"), "");
    }
    root.sh("dkms ldtarball /root/w/all.tar");
    root.says("dkms status && ls /var/lib/dkms", "hello/1, $K, $A: built\nhello\nmok.key\nmok.pub\n");
    root.says("find /var/lib/dkms /usr/src -maxdepth 1 -name '.?*'", "");
}
