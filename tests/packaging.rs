// SPDX-License-Identifier: GPL-2.0-or-later

//! Packages that `dh --with dkms` makes, which is Debian's: their life with us, and how they are tested.

use crate::support::{Layer, Root};

/// The package try-dkms in /srv/try, and a repository of its own for what is built there.
fn source(root: &mut Root) {
    // Nobody boots it.
    root.write("/usr/sbin/update-initramfs", "#!/bin/sh");
    root.sh("apt-get -qq -y install debhelper dh-dkms");
    root.write(
        "/srv/try/debian/control",
        "\
Source: try
Section: kernel
Priority: optional
Maintainer: Nobody <nobody@example.org>
Build-Depends: debhelper-compat (= 13), dh-dkms
Standards-Version: 4.6.2
Testsuite: autopkgtest-pkg-dkms

Package: try-dkms
Architecture: all
Depends: ${misc:Depends}
Description: module that does nothing

Package: try-tools
Architecture: all
Description: tool that does nothing",
    );
    root.write(
        "/srv/try/debian/rules",
        "\
#!/usr/bin/make -f
include /usr/share/dpkg/pkg-info.mk
%:
\tdh $@ --with dkms
override_dh_dkms:
\tdh_dkms -V $(DEB_VERSION_UPSTREAM)
override_dh_install:
\tdh_install -p try-dkms 'module/*' usr/src/try-$(DEB_VERSION_UPSTREAM)",
    );
    root.sh("chmod 755 /srv/try/debian/rules");
    root.write(
        "/srv/try/debian/try-dkms.dkms",
        "\
PACKAGE_NAME=\"try\"
PACKAGE_VERSION=\"#MODULE_VERSION#\"
BUILT_MODULE_NAME=\"try\"
DEST_MODULE_LOCATION=\"/updates\"
AUTOINSTALL=\"yes\"",
    );
    root.write("/srv/try/module/Makefile", "obj-m := try.o");
    root.write("/etc/apt/sources.list.d/try.list", "deb [trusted=yes] file:/srv ./");
}

/// Builds a version of it, with this line in its module.
fn build(root: &mut Root, version: &str, code: &str) {
    let changelog = "\n\n  * New.\n\n -- Nobody <nobody@example.org>  Thu, 01 Jan 2026 00:00:00 +0000";
    root.write("/srv/try/debian/changelog", &format!("try ({version}-1) unstable; urgency=medium{changelog}"));
    root.write("/srv/try/module/try.c", &format!("#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n{code}"));
    root.sh("cd /srv/try && dpkg-buildpackage -b -us -uc");
    publish(root);
}

fn publish(root: &mut Root) {
    root.sh("cd /srv && dpkg-scanpackages -m . >Packages && apt-get -qq update -o APT::Get::List-Cleanup=0 \
         -o Dir::Etc::SourceList=/etc/apt/sources.list.d/try.list -o Dir::Etc::SourceParts=-");
}

#[test]
fn a_package_of_dh_dkms_is_installed_upgraded_and_purged() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    source(&mut root);
    build(&mut root, "1", "");
    build(&mut root, "2", "");
    let trace = "ls /usr/src; find /var/lib/dkms /lib/modules -not -name 'modules.*' | sort";
    let before = root.sh(trace);

    for version in ["1", "2"] {
        root.sh(&format!("apt-get -qq -y install try-dkms={version}-1"));
        root.says(
            "dkms status; find /lib/modules -name 'try.ko*' | sort",
            &format!(
                "\
try/{version}, $OLD, $A: installed
try/{version}, $K, $A: installed
/lib/modules/$OLD/updates/dkms/try.ko
/lib/modules/$K/updates/dkms/try.ko
"
            ),
        );
    }
    root.sh("apt-get -qq -y remove try-dkms");
    root.unchanged(trace, &before);
    root.sh("apt-get -qq -y purge try-dkms");
    root.unchanged(trace, &before);
    root.says("dpkg --audit; dkms status", "");
}

/// `DKMS_UNDER_TEST=original` shows Debian's doing the same; it fetches dctrl-tools.
#[test]
fn such_a_package_is_tested_by_dkms_autopkgtest() {
    let mut root = Root::new();
    root.sh("dkms generate_mok");
    source(&mut root);
    build(&mut root, "1", "");
    let said = "grep -E '^(E:|I: (PASS|FAIL|SKIP|Summary|Skipping|Package))' /srv/said";
    let autopkgtest = |packages: &str| {
        format!(
            "cd /srv/try && AUTOPKGTEST_ARTIFACTS=/srv/artifacts /usr/lib/dkms/dkms-autopkgtest {packages} >/srv/said 2>&1"
        )
    };
    let command = |packages| format!("{}; code=$?; {said}; exit $code", autopkgtest(packages));
    root.sh("mkdir /srv/artifacts");

    root.says(&command(""), "I: Summary:\nI: PASS try/1 $OLD\nI: PASS try/1 $K\n");
    root.says(
        "tar -tf /srv/artifacts/try-dkms-make-logs.tar.gz | sed 's,^\\./,,' | sort",
        "try/1/$OLD/$A/log/make.log\ntry/1/$K/$A/log/make.log\n",
    );
    if root.layer == Layer::Ours {
        root.says("dkms status; dpkg-query -W try-dkms 2>/dev/null; true", "");
    }
    // On another architecture it may not be there.
    root.says(&command("nosuch-dkms"), "I: Skipping unavailable package nosuch-dkms\n");
    root.says(&command("try-tools"), "I: Package try-tools has no dkms.conf, skipping.\n");

    root.sh("echo 'BUILD_EXCLUSIVE_KERNEL=\"^2\"' >>/srv/try/debian/try-dkms.dkms");
    build(&mut root, "2", "");
    root.says(&command(""), "I: Summary:\nI: SKIP try/2 $OLD\nI: SKIP try/2 $K\n");

    root.sh("sed -i /EXCLUSIVE/d /srv/try/debian/try-dkms.dkms");
    build(&mut root, "3", "#error no");
    let failing = root.run(&command(""));
    assert_eq!(failing.code, 1, "{failing:?}");
    for line in [
        "E: try/3 failed to build for $OLD",
        "E: try/3 failed to build for $K",
        "I: FAIL try/3 $OLD",
        "I: FAIL try/3 $K",
    ] {
        assert!(failing.text.lines().any(|said| said == root.expand(line)), "{line}: {failing:?}");
    }
    // Debian's dkms is removed, which ends in the same way.
    build(&mut root, "4", "");
    root.sh(
        "cd /srv && dpkg-deb -R try-dkms_4-1_all.deb x && sed -i '/^Depends/d; s/^Version.*/Version: 5/' x/DEBIAN/control \
         && dpkg-deb -b x try-dkms_5_all.deb && rm -r x",
    );
    publish(&mut root);
    let alone = root.run(&command(""));
    assert_eq!(alone.code, 1, "{alone:?}");
    if root.layer == Layer::Ours {
        assert!(alone.text.contains("E: try-dkms does not depend on dkms\n"), "{alone:?}");
    }
}
