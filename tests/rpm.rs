// SPDX-License-Identifier: GPL-2.0-or-later

//! Packages for rpm: what is in them, by rpm's own word, and their lives with either dkms and with one that has no
//! common.postinst, as on systems that are rpm's.

use crate::packages::Parcel;
use crate::support::{Layer, PACKAGES, Root};

const WHO: &str = "export DEBFULLNAME='Jane Doe' DEBEMAIL=jane@example.org";

/// What rpmlint calls an error and we do not: signing is for whoever publishes a package; the `rpm` crate writes no
/// packager, and no group, which is out of use; what somebody's files say and begin with is in the source that is packaged.
const RPMLINT: &str = "printf 'addFilter(\"%s\")\\n' no-signature no-packager-tag no-group-tag \
                       incorrect-fsf-address non-executable-script >/root/rpmlintrc && \
                       rpmlint --ignore-unused-rpmlintrc -r /root/rpmlintrc";

/// A root with rpm and hello/0.1 built for the newest kernel.
fn built() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.same_key();
    root.sh("apt-get -qq -y install rpm");
    root.source("hello-0.1");
    root.sh("dkms build hello/0.1 -k $K");
    root
}

/// A root with rpm and the packages of the parcel.
fn receiver(layer: Layer, parcel: &Parcel) -> Root {
    let mut root = Root::with(layer, &[]);
    root.same_key();
    root.sh("apt-get -qq -y install rpm");
    parcel.unpack(&mut root);
    root
}

#[test]
fn rpm_finds_in_it_what_mkdeb_would_put_there() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("apt-get -qq -y install rpm rpmlint");
    root.source("hello-0.1");
    root.sh("dkms add hello/0.1");
    let rpm = "/var/lib/dkms/hello/0.1/rpm/hello-dkms-0.1-1.noarch.rpm";
    let make = "--homepage https://example.org/ --description 'says hello\nWhen it is loaded.'";
    root.says(&format!("{WHO}; dkms mkrpm hello/0.1 {make} 2>/dev/null"), &format!("Package: {rpm}\n"));
    root.says(&format!("rpm -K {rpm}; stat -c %a {rpm}"), &format!("{rpm}: digests OK\n644\n"));
    let fields = ["Name", "Version", "Release", "Architecture", "License", "Vendor", "URL", "Summary"];
    root.says(
        &format!(
            "rpm -qp --info {rpm} | grep -E '^({})' | tr -s ' '; rpm -qp --qf '%{{DESCRIPTION}}\\n' {rpm}",
            fields.join("|")
        ),
        "\
Name : hello-dkms
Version : 0.1
Release : 1
Architecture: noarch
License : GPL-2.0-only
Vendor : Jane Doe <jane@example.org>
URL : https://example.org/
Summary : says hello (DKMS)
When it is loaded.

This package has the source of the kernel module hello. DKMS builds and
installs it for every kernel of this machine, those to come included, as
soon as the kernel's headers are there.
",
    );
    root.says(
        &format!("rpm -qp --list -v {rpm} | awk '{{ print $1, $3, $4, $9 }}'; rpm -qp --licensefiles {rpm}"),
        "\
drwxr-xr-x root root /usr/share/licenses/hello-dkms
-rw-r--r-- root root /usr/share/licenses/hello-dkms/copyright
drwxr-xr-x root root /usr/src/hello-0.1
-rw-r--r-- root root /usr/src/hello-0.1/Makefile
-rw-r--r-- root root /usr/src/hello-0.1/dkms.conf
-rw-r--r-- root root /usr/src/hello-0.1/hello.c
/usr/share/licenses/hello-dkms/copyright
",
    );
    root.says(
        &format!("rpm -qp --requires {rpm} | grep -v ^rpmlib | uniq; rpm -qp --provides --obsoletes --conflicts {rpm}"),
        "/bin/sh\ndkms >= 2.1.0.0\ngcc\nmake\nhello-dkms = 0.1\nhello-dkms(noarch) = 0.1\n",
    );
    root.says(
        &format!(
            "rpm -qp --changelog {rpm} | sed 's/.* Jane/Jane/'; rpm -qp --scripts {rpm} | grep -E '^[a-z]+ scriptlet'"
        ),
        "Jane Doe <jane@example.org> - 0.1-1\n- Packaged from hello/0.1 by dkms.\n\n\
         preuninstall scriptlet (using /bin/sh):\nposttrans scriptlet (using /bin/sh):\n",
    );
    for scriptlet in ["POSTTRANS", "PREUN"] {
        root.sh(&format!("rpm -qp --qf '%{{{scriptlet}}}' {rpm} >/root/scriptlet && dash -n /root/scriptlet"));
    }
    // Whoever serves no text of licences has it from the source.
    root.says(
        &format!("rpm2cpio {rpm} | cpio -i --quiet --to-stdout ./usr/share/licenses/hello-dkms/copyright | tail -n 1"),
        " The files of hello/0.1 say what is allowed.\n",
    );
    root.sh(&format!("{RPMLINT} {rpm}"));
    // Packages are no kernels that something was built for.
    root.says("dkms status && dkms remove hello/0.1 --all >/dev/null && ls /var/lib/dkms", "hello/0.1: added\n");
}

#[test]
fn rpmlint_finds_no_errors_in_eight_packages_of_debians() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("apt-get -qq -y install rpm rpmlint");
    root.sh(&format!("cd /root && apt-get -qq -o APT::Sandbox::User=root download {}", PACKAGES.join(" ")));
    root.sh("for deb in /root/*.deb; do dpkg-deb -x $deb /; done && for conf in /usr/src/*/dkms.conf; do \
             dkms add ${conf%/dkms.conf} || exit; done");
    root.sh("dkms status | sed -E 's/:.*//' >/root/ids; [ $(wc -l </root/ids) = 8 ]");
    root.sh(&format!("{WHO}; while read id; do dkms mkrpm $id || exit; done </root/ids"));
    root.sh("mkdir /made && cp /var/lib/dkms/*/*/rpm/*.rpm /made && [ $(ls /made | wc -l) = 8 ] && rpm -K /made/*");
    root.sh(&format!("{RPMLINT} /made/*.rpm"));
    // What each has below /usr/src is what Debian's has.
    root.sh("mkdir /files && cd /files && for rpm in /made/*; do rpm2cpio $rpm | cpio -id --quiet || exit; done && \
             for dir in /usr/src/*/dkms.conf; do diff -r ${dir%/dkms.conf} /files/${dir%/dkms.conf} || exit; done");
}

/// Installs the package and goes through the life of one.
fn lives(root: &mut Root) {
    let installed =
        |version: &str| format!("hello/{version}, $OLD, $A: installed\nhello/{version}, $K, $A: installed\n");
    root.sh("rpm --nodeps -i /parcel/hello-dkms-0.1-1.noarch.rpm");
    root.says("dkms status", &installed("0.1"));
    root.sh("modprobe -n -S $K hello && rpm -V --nodeps hello-dkms");
    // The same once more, and another package of the same version.
    root.sh("rpm --nodeps -U --replacepkgs /parcel/hello-dkms-0.1-1.noarch.rpm");
    root.says("dkms status", &installed("0.1"));
    root.sh("rpm --nodeps -U /parcel/hello-dkms-0.1_2-1.noarch.rpm");
    root.says("dkms status", &installed("0.1"));
    // Another version, whose module says that it is of the same one, and back.
    for (version, file) in [("0.2", "0.2-1"), ("0.1", "0.1_2-1")] {
        root.sh(&format!("rpm --nodeps -U --oldpackage /parcel/hello-dkms-{file}.noarch.rpm"));
        root.says("dkms status; ls /usr/src | grep hello", &format!("{}hello-{version}\n", installed(version)));
        root.sh("modprobe -n -S $K hello");
    }
    root.says("rpm -qa", "hello-dkms-0.1_2-1.noarch\n");
    root.sh("rpm -e hello-dkms");
    root.says(
        "dkms status; ls /usr/src | grep hello; ls -A /usr/share/licenses; rpm -qa; \
         modprobe -n -S $K hello 2>/dev/null || echo none",
        "none\n",
    );
    // What is not registered any more, or whose dkms has gone, stops nobody who wants to be rid of the package.
    root.sh("rpm --nodeps -i /parcel/hello-dkms-0.1-1.noarch.rpm && dkms remove hello/0.1 --all && rpm -e hello-dkms");
    root.says("dkms status; rpm -qa", "");
    root.sh("rpm --nodeps -i /parcel/hello-dkms-0.1-1.noarch.rpm && rm /usr/sbin/dkms && rpm -e hello-dkms");
    root.says("rpm -qa", "");
}

#[test]
fn its_packages_live_with_every_dkms() {
    let mut root = built();
    root.sh("cp -r /usr/src/hello-0.1 /usr/src/hello-0.2 && sed -i s/0.1/0.2/ /usr/src/hello-0.2/dkms.conf");
    root.sh("dkms add hello/0.2");
    root.sh(&format!("{WHO}; dkms mkrpm hello/0.1 && dkms mkrpm hello/0.2"));
    root.says(
        &format!("{WHO}; dkms mkrpm hello/0.1 --package-version 0.1-2 2>/dev/null"),
        "The package gets version 0.1_2, for with rpm a hyphen ends it.\n\
         Package: /var/lib/dkms/hello/0.1/rpm/hello-dkms-0.1_2-1.noarch.rpm\n",
    );
    let parcel = Parcel::of(&mut root, "/var/lib/dkms/hello/0.?/rpm/*.rpm");
    for layer in [Layer::Ours, Layer::Peer] {
        lives(&mut receiver(layer, &parcel));
    }
}

#[test]
fn what_travels_with_a_package_is_not_compiled() {
    let mut root = built();
    let rpm = "/var/lib/dkms/hello/0.1/rpm/hello-dkms-0.1-1.noarch.rpm";
    root.sh(&format!("{WHO}; dkms mkrpm hello/0.1 -k $K --source-only && ! rpm -qp --list {rpm} | grep tar.gz"));
    root.sh(&format!("{WHO}; dkms mkrpm hello/0.1 -k $K && cp {rpm} /root/both.rpm"));
    root.sh(&format!("{WHO}; dkms mkrpm hello/0.1 -k $K --binaries-only && cp {rpm} /root/only.rpm"));
    root.says(
        "for rpm in both only; do rpm -qp --list /root/$rpm.rpm | grep -E '(hello.c|tar.gz)$'; \
         rpm -qp --requires /root/$rpm.rpm | grep -c gcc || :; done",
        "/usr/share/hello-dkms/hello-0.1.dkms.tar.gz\n/usr/src/hello-0.1/hello.c\n1\n\
         /usr/share/hello-dkms/hello-0.1.dkms.tar.gz\n0\n",
    );
    let parcel = Parcel::of(&mut root, "/root/*.rpm");
    for (layer, rpm) in [(Layer::Ours, "both"), (Layer::Ours, "only"), (Layer::Peer, "both"), (Layer::Peer, "only")] {
        let mut root = receiver(layer, &parcel);
        root.sh("rm -f /usr/bin/{gcc,cc,x86_64-linux-gnu-gcc}*");
        if layer == Layer::Ours {
            root.sh("rm /lib/modules/{$OLD,$K}/{build,source}");
        } else {
            // And one that has nothing to be called by packages.
            root.sh("rm /usr/lib/dkms/common.postinst /lib/modules/$OLD/{build,source}");
        }
        root.sh(&format!("rpm --nodeps -i /parcel/{rpm}.rpm"));
        root.says("dkms status", "hello/0.1, $K, $A: installed\n");
        root.sh("modprobe -n -S $K hello && [ ! -e /var/lib/dkms/hello/0.1/$K/$A/log ]");
        root.sh(&format!("rpm --nodeps -U --replacepkgs /parcel/{rpm}.rpm"));
        root.says("dkms status", "hello/0.1, $K, $A: installed\n");
        root.sh("rpm -e hello-dkms");
        root.says("ls /var/lib/dkms | grep hello; modprobe -n -S $K hello 2>/dev/null || echo none", "none\n");
    }
}

#[test]
fn the_same_module_gives_the_same_package() {
    let mut root = built();
    root.sh("ln -s hello.c /usr/src/hello-0.1/link.c");
    let make = format!(
        "{WHO}; dkms mkrpm -k $K hello/0.1 >/dev/null 2>&1 || exit; cd /var/lib/dkms/hello/0.1/rpm && ls -A && sha256sum *"
    );
    let first = root.sh(&make);
    // Another time, another umask, another zone.
    root.sh("dkms unbuild hello/0.1 -k $K >/dev/null && touch /usr/src/hello-0.1/hello.c && dkms build hello/0.1 -k $K --force");
    root.says(&format!("umask 077; export TZ=Asia/Tokyo LC_ALL=C.UTF-8; {make}"), &first);
    // And the time that was said.
    let said = root.sh(&format!("export SOURCE_DATE_EPOCH=1700000000; {make}"));
    assert_ne!(said, first);
    root.says(
        "cd /var/lib/dkms/hello/0.1/rpm && rpm -qp --qf '%{BUILDTIME} %{CHANGELOGTIME}[ %{FILEMTIMES}]\\n' *.rpm | xargs -n 1 | \
         uniq; rpm -qp --list -v *.rpm | grep -o 'link.c.*'",
        "1700000000\nlink.c -> hello.c\n",
    );
}

#[test]
fn bad_input_gives_one_clear_error_and_no_package() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.quick("hello", "");
    root.sh("dkms add hello/1");
    let state = "cd /var/lib/dkms && find hello -ls | awk '{ print $3, $11, $13 }'";
    let before = root.sh(state);
    root.fails(
        "dkms mkrpm hello/1",
        1,
        "\nError! A package of hello/1 needs a maintainer.\nUse --maintainer 'NAME <ADDRESS>', set PACKAGE_MAINTAINER in its \
         dkms.conf, or DEBFULLNAME and DEBEMAIL in the environment.\n",
    );
    root.fails(
        &format!("{WHO}; dkms mkrpm hello/1 -k $K"),
        6,
        "\nError! No modules built for $K ($A).\nBuild them first: dkms build hello/1 -k $K\n",
    );
    root.fails(
        &format!("{WHO}; dkms mkrpm hello/2"),
        3,
        "\nError! The module/version combo: hello/2 is not located in the DKMS tree.\n",
    );
    root.fails(
        &format!("{WHO}; dkms mkrpm hello/1 --package-version 1,5"),
        8,
        "\nError! rpm takes no version 1,5 of hello/1: it may have letters, digits and the characters . _ + ~ ^.\n\
         Use --package-version to give the package another one.\n",
    );
    assert_eq!(root.sh(state), before);
    // A name that rpm cannot write, and a place that cannot be written: what was made before stays.
    root.sh(&format!("{WHO}; dkms mkrpm hello/1 && cd /var/lib/dkms/hello/1/rpm && sha256sum * >/root/sums"));
    root.sh("touch /usr/src/hello-1/$'\\xff'");
    let output = root.run(&format!("{WHO}; dkms mkrpm hello/1 2>&1"));
    assert!(output.code == 6 && output.text.contains("\nError! Failed to make "), "{output:?}");
    root.sh("rm /usr/src/hello-1/$'\\xff' && cd /var/lib/dkms/hello/1/rpm && sha256sum -c /root/sums && [ $(ls -A | wc -l) = 1 ]");
}
