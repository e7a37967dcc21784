// SPDX-License-Identifier: GPL-2.0-or-later

//! Packages that dkms makes: of a source, of its source package, of built modules alone; installed by apt with either
//! dkms and with none.

use crate::support::{Layer, PACKAGES, Root};

const WHO: &str = "export DEBFULLNAME='Jane Doe' DEBEMAIL=jane@example.org";

/// A root with hello/0.1 built for the newest kernel.
fn built() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    root.source("hello-0.1");
    root.sh("dkms build hello/0.1 -k $K");
    root
}

/// Files of one root for another.
pub struct Parcel(String);

impl Parcel {
    pub fn of(root: &mut Root, files: &str) -> Self {
        Self(root.sh(&format!("tar -c --transform 's,.*/,,' {files} 2>/dev/null | base64 -w0")))
    }

    /// Puts them into /parcel, where apt may read them.
    pub fn unpack(&self, root: &mut Root) {
        // A command has no more room than this.
        for part in self.0.as_bytes().chunks(100_000) {
            root.sh(&format!("cat >>/tmp/parcel <<<'{}'", String::from_utf8_lossy(part)));
        }
        root.sh(
            "mkdir -p /parcel && base64 -di /tmp/parcel | tar -x -C /parcel && chmod 644 /parcel/* && rm /tmp/parcel",
        );
        // It takes longer than all the rest.
        root.sh("echo update_initramfs=no >/etc/initramfs-tools/update-initramfs.conf");
    }
}

#[test]
fn what_old_documents_teach_works() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.source("hello-0.1");
    root.source("ixgbe-3.12.6");
    root.sh("dkms add -m hello -v 0.1 && dkms build -m hello -v 0.1 -k $K && dkms add -m ixgbe -v 3.12.6");
    root.says(
        &format!("{WHO}; dkms mkdeb -m hello -v 0.1 2>/dev/null && dkms mkdeb -m ixgbe -v 3.12.6 --source-only"),
        "Package: /var/lib/dkms/hello/0.1/deb/hello-dkms_0.1_all.deb\n\
         Package: /var/lib/dkms/ixgbe/3.12.6/deb/ixgbe-dkms_3.12.6_all.deb\n",
    );
    root.says(
        "cd /var/lib/dkms/hello/0.1/deb && dpkg-deb -f *.deb | grep -v ^Installed-Size && stat -c %a *",
        "\
Package: hello-dkms
Version: 0.1
Architecture: all
Maintainer: Jane Doe <jane@example.org>
Depends: dkms (>= 2.1.0.0)
Section: kernel
Priority: optional
Description: hello kernel module (DKMS)
 This package has the source of the kernel module hello. DKMS builds and
 installs it for every kernel of this machine, those to come included, as
 soon as the kernel's headers are there.
644
",
    );
    root.says(
        "dpkg-deb -c /var/lib/dkms/hello/0.1/deb/*.deb | awk '{ print $1, $2, $6 }' | grep -v /$",
        "\
-rw-r--r-- root/root ./usr/share/doc/hello-dkms/changelog.gz
-rw-r--r-- root/root ./usr/share/doc/hello-dkms/copyright
-rw-r--r-- root/root ./usr/src/hello-0.1/Makefile
-rw-r--r-- root/root ./usr/src/hello-0.1/dkms.conf
-rw-r--r-- root/root ./usr/src/hello-0.1/hello.c
",
    );
    // Packages are no kernels that something was built for.
    root.says(
        "dkms status && dkms remove hello/0.1 --all >/dev/null && ls /var/lib/dkms",
        "hello/0.1, $K, $A: built\nixgbe/3.12.6: added\nixgbe\nmok.key\nmok.pub\n",
    );
}

/// Installs the package and goes through the life of one.
fn lives(root: &mut Root, parcel: &Parcel) {
    parcel.unpack(root);
    root.sh("apt-get -qq -y install /parcel/hello-dkms_0.1_all.deb");
    root.says("dkms status", "hello/0.1, $OLD, $A: installed\nhello/0.1, $K, $A: installed\n");
    root.sh("modprobe -n -S $K hello");
    root.sh("apt-get -qq -y reinstall /parcel/hello-dkms_0.1_all.deb");
    root.says("dkms status", "hello/0.1, $OLD, $A: installed\nhello/0.1, $K, $A: installed\n");
    root.sh("apt-get -qq -y install /parcel/hello-dkms_0.2_all.deb");
    root.says("dkms status", "hello/0.2, $OLD, $A: installed\nhello/0.2, $K, $A: installed\n");
    root.sh("apt-get -qq -y purge hello-dkms");
    root.says("dkms status; ls /usr/src | grep hello; modprobe -n -S $K hello 2>/dev/null || echo none", "none\n");
    root.says("dpkg --audit", "");
}

#[test]
fn its_packages_live_with_either_dkms() {
    let mut root = built();
    root.sh("cp -r /usr/src/hello-0.1 /usr/src/hello-0.2 && sed -i s/0.1/0.2/ /usr/src/hello-0.2/dkms.conf");
    root.sh("dkms add hello/0.2");
    root.sh(&format!("{WHO}; dkms mkdeb hello/0.1 -k $K && dkms mkdeb hello/0.2"));
    let parcel = Parcel::of(&mut root, "/var/lib/dkms/hello/0.?/deb/*.deb");
    for layer in [Layer::Ours, Layer::Peer] {
        let mut root = Root::with(layer, &[]);
        root.same_key();
        lives(&mut root, &parcel);
    }
}

#[test]
fn what_travels_with_a_package_is_not_compiled() {
    let mut root = built();
    root.sh(&format!("{WHO}; dkms mkdeb hello/0.1 -k $K && dkms mktarball hello/0.1 -k $K"));
    root.sh(&format!("{WHO}; cp /var/lib/dkms/hello/0.1/deb/* /root && dkms mkdeb hello/0.1 -k $K --binaries-only"));
    root.sh("cp /var/lib/dkms/hello/0.1/deb/* /root/only.deb");
    root.says("dpkg-deb -c /root/only.deb | grep -o 'usr/src/.*[^/]$'", "usr/src/hello-0.1/dkms.conf\n");
    let parcel = Parcel::of(&mut root, "/root/*.deb");
    let mut root = Root::with(Layer::Ours, &[]);
    parcel.unpack(&mut root);
    // No headers of the other kernel, no compiler, and then no headers at all.
    root.sh("rm /lib/modules/$OLD/{build,source} && rm -f /usr/bin/{gcc,cc,x86_64-linux-gnu-gcc}*");
    for headers in ["true", "rm /lib/modules/$K/{build,source}"] {
        root.sh(headers);
        for deb in ["hello-dkms_0.1_all.deb", "only.deb"] {
            let said = root.sh(&format!("apt-get -qq -y install /parcel/{deb}"));
            assert!(!said.contains("linux-headers"), "nothing lacks them: {said}");
            root.says("dkms status; dkms status --failed", "hello/0.1, $K, $A: installed\n");
            root.sh("modprobe -n -S $K hello && [ ! -e /var/lib/dkms/hello/0.1/$K/$A/log ]");
            root.sh("apt-get -qq -y purge hello-dkms");
            root.says("dkms status; modprobe -n -S $K hello 2>/dev/null || echo none", "none\n");
        }
    }
}

#[test]
fn a_package_without_source_leaves_other_kernels_alone() {
    let mut root = built();
    root.sh(&format!("{WHO}; dkms mkdeb hello/0.1 -k $K --binaries-only"));
    let parcel = Parcel::of(&mut root, "/var/lib/dkms/hello/0.1/deb/*.deb");
    for layer in [Layer::Ours, Layer::Peer] {
        let mut root = Root::with(layer, &[]);
        parcel.unpack(&mut root);
        root.sh("apt-get -qq -y install /parcel/*.deb");
        root.says("dkms status", "hello/0.1, $K, $A: installed\n");
        root.sh("dkms autoinstall -k $OLD && /etc/kernel/postinst.d/dkms $OLD");
        root.says("dkms status", "hello/0.1, $K, $A: installed\n");
        root.sh("apt-get -qq -y purge hello-dkms");
    }
}

#[test]
fn the_same_module_gives_the_same_packages() {
    let mut root = built();
    let make = format!(
        "{WHO}; for make in \"mkdeb -k $K\" mkdsc \"mkbmdeb -k $K\"; do dkms $make hello/0.1 >/dev/null 2>&1 || exit; done; \
         cd /var/lib/dkms/hello/0.1 && sha256sum {{deb,dsc,bmdeb}}/*"
    );
    let first = root.sh(&make);
    assert_eq!(first.lines().count(), 6, "{first}");
    // Another time, another umask, another zone.
    root.sh("dkms unbuild hello/0.1 -k $K >/dev/null && touch /usr/src/hello-0.1/hello.c && dkms build hello/0.1 -k $K --force");
    root.says(&format!("umask 077; export TZ=Asia/Tokyo LC_ALL=C.UTF-8; {make}"), &first);
    // And the time that was said.
    let said = root.sh(&format!("export SOURCE_DATE_EPOCH=1700000000; {make}"));
    assert!(said.lines().zip(first.lines()).all(|(said, first)| said != first), "{said}");
    root.says("dpkg-deb -c /var/lib/dkms/hello/0.1/deb/*.deb | awk '{ print $4 }' | uniq", "2023-11-14\n");
}

#[test]
fn eight_packages_of_debians_are_packaged_again() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh(&format!("cd /root && apt-get -qq -o APT::Sandbox::User=root download {}", PACKAGES.join(" ")));
    root.sh("for deb in /root/*.deb; do dpkg-deb -x $deb /; done && for conf in /usr/src/*/dkms.conf; do \
             dkms add ${conf%/dkms.conf} || exit; done");
    root.sh("dkms status | sed -E 's/:.*//' >/root/ids; [ $(wc -l </root/ids) = 8 ]");
    root.sh(&format!("{WHO}; while read id; do dkms mkdeb $id && dkms mkdsc $id || exit; done </root/ids"));
    root.sh("mkdir /made && cp /var/lib/dkms/*/*/deb/*.deb /made && [ $(ls /made | wc -l) = 8 ]");
    root.sh("lintian --fail-on error,warning /made/*.deb");
    // evdi's version is one of Debian's, which left something of the source out.
    root.sh("lintian --suppress-tags dfsg-version-in-native-package --fail-on error,warning \
             /var/lib/dkms/*/*/dsc/*.changes");
    // What each has below /usr/src is what Debian's has.
    root.sh("cd /made && for deb in *.deb; do dpkg-deb -x $deb /made/files || exit; done && \
             for dir in /usr/src/*/dkms.conf; do diff -r ${dir%/dkms.conf} /made/files/${dir%/dkms.conf} || exit; done");
    let parcel = Parcel::of(&mut root, "/made/*.deb");

    let mut root = Root::with(Layer::Ours, &[]);
    parcel.unpack(&mut root);
    // Two of them: what apt does with eight is tested with Debian's own.
    root.sh("rm /lib/modules/$OLD/{build,source} && apt-get -qq -y install /parcel/{bbswitch,v4l2loopback}-*.deb");
    root.says("dkms status | grep -c ': installed'; dkms status --failed", "2\n");
    root.sh("apt-get -qq -y purge bbswitch-dkms v4l2loopback-dkms");
    root.says("dkms status", "");
}

#[test]
fn a_source_package_builds_the_same_binary_package() {
    let mut root = built();
    root.sh(&format!("{WHO}; dkms mkdeb hello/0.1 -k $K"));
    root.says(
        &format!("{WHO}; dkms mkdsc hello/0.1 -k $K 2>/dev/null"),
        "\
Tarball: /var/lib/dkms/hello/0.1/dsc/hello-dkms_0.1.tar.xz
Source package: /var/lib/dkms/hello/0.1/dsc/hello-dkms_0.1.dsc
Changes: /var/lib/dkms/hello/0.1/dsc/hello-dkms_0.1_source.changes
",
    );
    root.sh("apt-get -qq -y install debhelper dh-dkms");
    root.sh("mkdir /build && cd /build && dpkg-source --no-check -x /var/lib/dkms/hello/0.1/dsc/*.dsc && \
             cd hello-dkms-0.1 && dpkg-buildpackage -us -uc");
    root.sh("lintian --fail-on error,warning /build/*.changes");
    // debhelper has other words for the scripts and another gzip; what is installed and said of it is the same.
    let list = "dpkg-deb -c $deb | awk '{ print $1, $2, $6 }'; dpkg-deb -f $deb | \
                grep -Ev '^(Installed-Size|Depends|Source):'; dpkg-deb -x $deb /x && cd /x && gunzip usr/share/doc/*/*.gz && \
                find -type f | sort | xargs sha256sum; rm -r /x; dpkg-deb -I $deb | grep -oE '(postinst|prerm|conffiles)'";
    let ours = root.sh(&format!("deb=/var/lib/dkms/hello/0.1/deb/hello-dkms_0.1_all.deb; {list}"));
    root.says(&format!("deb=/build/hello-dkms_0.1_all.deb; {list}"), &ours);
    root.sh("dpkg-deb -f /build/hello-dkms_0.1_all.deb Depends | grep dkms");
    let parcel = Parcel::of(&mut root, "/build/*.deb");
    let mut root = Root::with(Layer::Peer, &[]);
    parcel.unpack(&mut root);
    root.sh("apt-get -qq -y install /parcel/*.deb");
    root.says("dkms status", "hello/0.1, $OLD, $A: installed\nhello/0.1, $K, $A: installed\n");
}

#[test]
fn a_revision_stays_out_of_source_packages() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.source("hello-0.1");
    root.sh("dkms add hello/0.1");
    root.says(
        &format!("{WHO}; dkms mkdsc hello/0.1 --package-version 1:0.1-2 2>/dev/null | head -n 2"),
        "The source package gets version 1:0.1+2, for it can have no revision.\n\
         Tarball: /var/lib/dkms/hello/0.1/dsc/hello-dkms_0.1+2.tar.xz\n",
    );
    root.sh("cd /root && dpkg-source --no-check -x /var/lib/dkms/hello/0.1/dsc/*.dsc && \
             cd hello-dkms-0.1+2 && dpkg-source -b . && dpkg-parsechangelog -S Version | grep -qxF 1:0.1+2");
    root.sh(&format!("{WHO}; dkms mkdeb hello/0.1 --package-version 1:0.1-2"));
    root.says("cd /var/lib/dkms/hello/0.1/deb && ls", "hello-dkms_0.1-2_all.deb\n");
    root.sh("cd /var/lib/dkms/hello/0.1/deb && lintian --fail-on error,warning *.deb");
}

#[test]
fn modules_alone_go_to_machines_without_a_compiler() {
    let mut root = built();
    root.quick("other", "");
    root.sh("dkms build hello/0.1 -k $OLD && dkms build other/1 -k $K");
    root.sh(&format!("{WHO}; dkms mkbmdeb other/1 -k $K"));
    root.says(
        &format!("{WHO}; dkms mkbmdeb hello/0.1 -k $OLD -k $K 2>/dev/null | sed -E 's/\\+[0-9.]+_/+V_/; s,.*/,,'"),
        "hello-modules-$OLD_0.1_amd64.deb\nhello-modules-$K_0.1_amd64.deb\nhello-modules-amd64_0.1+V_amd64.deb\n",
    );
    root.sh("lintian --fail-on error,warning /var/lib/dkms/hello/0.1/bmdeb/*.deb");
    let parcel = Parcel::of(&mut root, "/var/lib/dkms/*/*/bmdeb/*.deb /var/lib/dkms/hello/0.1/$K/$A/module/*.ko");

    let mut root = Root::with(Layer::Ours, &[]);
    parcel.unpack(&mut root);
    root.sh("echo update_initramfs=yes >/etc/initramfs-tools/update-initramfs.conf");
    root.sh("apt-get -qq -y purge dkms-rs linux-headers-$K linux-headers-$OLD");
    let deb = "/parcel/hello-modules-${K}_0.1_amd64.deb";
    let said = root.sh(&format!("apt-get -y install {deb}"));
    assert_eq!(said.matches("update-initramfs: Generating").count(), 1, "{said}");
    root.sh("modprobe -n -S $K hello && cmp /parcel/hello.ko /lib/modules/$K/updates/dkms/hello.ko");
    // Another one that comes with it costs no depmod more, and one that goes leaves it in peace.
    root.sh("apt-get -qq -y purge hello-modules-$K && ! modprobe -n -S $K hello 2>/dev/null");
    let said = root.sh(&format!("apt-get -y install {deb} /parcel/other-modules-${{K}}_1_amd64.deb"));
    assert_eq!(said.matches("update-initramfs: Generating").count(), 1, "{said}");
    root.sh("modprobe -n -S $K hello && modprobe -n -S $K other");
    root.sh("apt-get -qq -y purge other-modules-$K");
    root.sh("modprobe -n -S $K hello && ! grep other.ko /lib/modules/$K/modules.dep");

    // The kernel goes, and they with it; the new kernel comes with them.
    root.sh("apt-get -qq -y purge linux-image-$K hello-modules-$K && dpkg --audit && [ ! -e /lib/modules/$K ]");
    let said = root.sh("apt-get -y install /parcel/hello-modules-${K}_0.1_amd64.deb /parcel/hello-modules-amd64_*.deb");
    root.sh("modprobe -n -S $K hello && dpkg -s linux-image-amd64 linux-image-$K >/dev/null");
    assert_eq!(said.matches("update-initramfs: Generating").count(), 1, "{said}");
}

#[test]
fn what_a_package_says_comes_from_options_source_and_environment() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.source("hello-0.1");
    root.sh("dkms add hello/0.1");
    let fields = "dpkg-deb -f /var/lib/dkms/hello/0.1/deb/*.deb Maintainer Section Homepage Description";
    let make = |options: &str| format!("{WHO}; dkms mkdeb hello/0.1 {options} >/dev/null 2>&1 && {fields}");
    let text = " This package has the source of the kernel module hello. DKMS builds and\n \
                installs it for every kernel of this machine, those to come included, as\n \
                soon as the kernel's headers are there.\n";
    // dkms.conf before the environment.
    root.sh(
        "cat >>/usr/src/hello-0.1/dkms.conf <<<'PACKAGE_MAINTAINER=\"Conf <c@example.org>\"\nPACKAGE_SECTION=misc'",
    );
    root.says(
        &make(""),
        &format!("Maintainer: Conf <c@example.org>\nSection: misc\nDescription: hello kernel module (DKMS)\n{text}"),
    );
    // The source's debian before that.
    root.write(
        "/usr/src/hello-0.1/debian/control",
        "Source: hello\nMaintainer: Debian <d@example.org>\nSection: utils\nHomepage: https://example.org/\n\n\
         Package: hello-utils\nSection: net\nDescription: a\n\nPackage: hello-dkms\nDescription: greets\n It does so.\n",
    );
    root.says(
        &make(""),
        &format!(
            "Maintainer: Debian <d@example.org>\nSection: utils\nHomepage: https://example.org/\nDescription: greets (DKMS)\n \
             It does so.\n .\n{text}"
        ),
    );
    // Options before all.
    root.says(
        &make("--maintainer='Me <m@example.org>' --section kernel --homepage http://x.org --description 'says hello'"),
        &format!(
            "Maintainer: Me <m@example.org>\nSection: kernel\nHomepage: http://x.org\nDescription: says hello (DKMS)\n{text}"
        ),
    );
    // The licence is in the copyright, and may be spelled either way.
    let copyright =
        "dpkg-deb --fsys-tarfile /var/lib/dkms/hello/0.1/deb/*.deb | tar -xO ./usr/share/doc/hello-dkms/copyright";
    for option in ["--license", "--licence"] {
        root.sh(&make(&format!("{option}=GPL-3+")));
        root.says(
            &format!("{copyright} | tail -n 2"),
            "License: GPL-3+\n On Debian systems, its text is in /usr/share/common-licenses/GPL-3.\n",
        );
    }
    // A changelog counts if it is of this package and version, and says for whom it is.
    for (version, expected) in [
        ("0.1", "Distribution: backports\nUrgency: high\n   * Ours.\n"),
        ("0.2", "Distribution: unstable\nUrgency: medium\n   * Packaged from hello/0.1 by dkms.\n"),
    ] {
        root.write(
            "/usr/src/hello-0.1/debian/changelog",
            &format!(
                "hello-dkms ({version}) backports; urgency=high\n\n  * Ours.\n\n \
                 -- M <m@x.org>  Tue, 14 Nov 2023 22:13:20 +0000"
            ),
        );
        root.sh("dkms mkdsc hello/0.1");
        root.says("grep -hE '^(Distribution|Urgency):|^   \\*' /var/lib/dkms/hello/0.1/dsc/*.changes", expected);
    }
    // What is packaging is not in the package; what the source says of itself is.
    root.write("/usr/src/hello-0.1/debian/copyright", "Copyright 1999 Somebody");
    root.write("/usr/src/hello-0.1/debian/hello-dkms.modprobe", "options hello loud=1");
    root.sh(&make(""));
    root.says("dpkg-deb -c /var/lib/dkms/hello/0.1/deb/*.deb | grep -c usr/src/.*debian || :", "0\n");
    root.says(
        "cd /root && dpkg-deb -x /var/lib/dkms/hello/0.1/deb/*.deb x && cat x/usr/share/doc/hello-dkms/copyright \
         x/etc/modprobe.d/*.conf && dpkg-deb -I /var/lib/dkms/hello/0.1/deb/*.deb conffiles",
        "Copyright 1999 Somebody\noptions hello loud=1\n/etc/modprobe.d/hello-dkms.conf\n",
    );
}

#[test]
fn templates_of_old_times_are_honoured() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.source("hello-0.1");
    root.sh("dkms add hello/0.1");
    let dir = "/etc/dkms/template-dkms-mkdeb/debian";
    root.write(
        &format!("{dir}/control"),
        "Source: DEBIAN_PACKAGE-dkms\nSection: misc\nPriority: optional\nMaintainer: Team <team@example.org>\n\
         Build-Depends: debhelper (>= 7), dkms\nStandards-Version: 3.8.1\n\nPackage: DEBIAN_PACKAGE-dkms\n\
         Architecture: DEBIAN_BUILD_ARCH\nDepends: dkms (>= 1.95), ${misc:Depends}\n\
         Description: DEBIAN_PACKAGE driver in DKMS format.\n",
    );
    root.write(
        &format!("{dir}/postinst"),
        "#!/bin/sh\nset -e\n[ \"$1\" != configure ] || \
         /usr/lib/dkms/common.postinst MODULE_NAME MODULE_VERSION /usr/share/DEBIAN_PACKAGE-dkms \"\" $2\n\
         echo ours at work\n#DEBHELPER#",
    );
    root.write(&format!("{dir}/README.Debian"), "MODULE_NAME MODULE_VERSION DATE_STAMP");
    root.sh("SOURCE_DATE_EPOCH=1700000000 dkms mkdeb hello/0.1");
    let deb = "/var/lib/dkms/hello/0.1/deb/hello-dkms_0.1_all.deb";
    root.says(
        &format!("dpkg-deb -f {deb} Maintainer Section Description | head -n 3"),
        "Maintainer: Team <team@example.org>\nSection: misc\nDescription: hello driver in DKMS format\n",
    );
    root.says(
        &format!("dpkg-deb --fsys-tarfile {deb} | tar -xO ./usr/share/doc/hello-dkms/README.Debian"),
        "hello 0.1 Tue, 14 Nov 2023 22:13:20 +0000\n",
    );
    root.sh(&format!("cp {deb} / && dkms remove hello/0.1 --all && rm -r /usr/src/hello-0.1"));
    root.says("apt-get -y install /hello-dkms_0.1_all.deb 2>/dev/null | grep 'ours at work'", "ours at work\n");
    root.says("dkms status | grep -c installed", "2\n");
}

#[test]
fn bad_input_gives_one_clear_error_and_no_package() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("hello", "");
    root.sh("dkms add hello/1");
    let state = "cd /var/lib/dkms && find hello -ls | awk '{ print $3, $11, $13 }'";
    let before = root.sh(state);
    root.fails(
        "dkms mkdeb hello/1",
        1,
        "\nError! A package of hello/1 needs a maintainer.\nUse --maintainer 'NAME <ADDRESS>', set PACKAGE_MAINTAINER in its \
         dkms.conf, or DEBFULLNAME and DEBEMAIL in the environment.\n",
    );
    root.fails(
        "dkms mkdeb hello/1 --maintainer jane@example.org",
        1,
        "\nError! jane@example.org is no maintainer: that is a name and an address, as in 'Jane Doe <jane@example.org>'.\n",
    );
    for action in ["mkdeb", "mkdsc", "mkbmdeb"] {
        root.fails(
            &format!("{WHO}; dkms {action} hello/1 -k $K"),
            6,
            "\nError! No modules built for $K ($A).\nBuild them first: dkms build hello/1 -k $K\n",
        );
        root.fails(
            &format!("{WHO}; dkms {action} hello/2"),
            3,
            "\nError! The module/version combo: hello/2 is not located in the DKMS tree.\n",
        );
    }
    root.fails(
        &format!("{WHO}; dkms mkdeb hello/1 --package-version v_1"),
        8,
        "\nError! dpkg takes no version v_1 of hello/1: version number does not start with digit.\n\
         Use --package-version to give the package another one.\n",
    );
    // The name is somebody else's, and no place for it.
    root.sh("mkdir -p /other/DEBIAN && printf 'Package: hello-dkms\\nVersion: 9\\nArchitecture: all\\nMaintainer: x <x@y>\\n\
             Description: x\\n' >/other/DEBIAN/control && touch /other/x && dpkg-deb -b /other && dpkg -i /other.deb");
    root.fails(
        &format!("{WHO}; dkms mkdeb hello/1"),
        3,
        "\nError! A package hello-dkms is installed that has nothing of hello/1 in it.\n\
         Installing one of the same name would remove it: remove it first, or rename the module.\n",
    );
    assert_eq!(root.sh(state), before);
    root.sh("dpkg --purge hello-dkms && touch /var/lib/dkms/hello/1/deb");
    root.fails(
        &format!("{WHO}; dkms mkdeb hello/1"),
        9,
        "\nError! Missing write permissions for /var/lib/dkms/hello/1/deb.\n",
    );
    root.sh("rm /var/lib/dkms/hello/1/deb && mkdir /var/lib/dkms/hello/1/deb && mount -t tmpfs -o size=4k none \
             /var/lib/dkms/hello/1/deb && head -c 4k /dev/zero >/var/lib/dkms/hello/1/deb/full");
    root.fails(
        &format!("{WHO}; dkms mkdeb hello/1"),
        6,
        "\nError! Failed to make /var/lib/dkms/hello/1/deb/hello-dkms_1_all.deb.\n\
         /var/lib/dkms/hello/1/deb/hello-dkms_1_all.deb: No space left on device (os error 28).\n",
    );
    root.says("ls -A /var/lib/dkms/hello/1/deb", "full\n");
}
