// SPDX-License-Identifier: GPL-2.0-or-later

//! BUILD_DEPENDS_REBUILD: modules that are built anew when another version comes of what they build upon.

use crate::support::{Layer, Root};

const NOTES: &str =
    "cd /var/lib/dkms && for note in $(ls -d */*/*/*/.dep_* 2>/dev/null); do echo $note $(cat $note); done";

/// Puts NAME/VERSION into /usr/src, with a module that is another one for each version.
fn source(root: &mut Root, name: &str, version: u32, conf: &str) {
    root.write(
        &format!("/usr/src/{name}-{version}/dkms.conf"),
        &format!(
            "PACKAGE_NAME={name}\nPACKAGE_VERSION={version}\nBUILT_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates\n\
             MAKE=true\n{conf}"
        ),
    );
    let module = ["veth", "nlmon", "dummy", "ifb"][version as usize % 4];
    root.sh(&format!("xz -dcf /lib/modules/$K/kernel/drivers/net/{module}.ko* >/usr/src/{name}-{version}/{name}.ko"));
}

/// A root where base/1 and `top`, which builds upon it, are installed, base/2 is a source, and keys are there.
fn prepared() -> Root {
    let mut root = Root::new();
    root.sh("dkms generate_mok");
    source(&mut root, "base", 1, "");
    source(&mut root, "base", 2, "");
    source(&mut root, "top", 1, "BUILD_DEPENDS_REBUILD=yes\nBUILD_DEPENDS[0]=base");
    root.sh("dkms install base/1 -k $K && dkms install top/1 -k $K");
    root
}

const INSTALLS_2: &str = "\
Creating symlink /var/lib/dkms/base/2/source -> /usr/src/base-2

$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/base/2/build/base.ko
Installing /lib/modules/$K/updates/dkms/base.ko
Running depmod... done.
";

/// What is said of a module that is built anew.
fn rebuilds(name: &str) -> String {
    format!(
        "
Rebuilding module {name}/1 due to updated dependencies

Module {name}/1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/{name}.ko
Running depmod... done.
{}",
        builds(name)
    )
}

fn builds(name: &str) -> String {
    format!(
        "\
Building module(s)... done.
Signing module /var/lib/dkms/{name}/1/build/{name}.ko
Installing /lib/modules/$K/updates/dkms/{name}.ko
Running depmod... done.
"
    )
}

#[test]
fn what_builds_upon_a_new_version_is_built_anew() {
    let mut root = prepared();
    root.says(NOTES, "top/1/$K/$A/.dep_base 1\n");
    source(&mut root, "plain", 1, "BUILD_DEPENDS[0]=base");
    root.sh("dkms install plain/1 -k $K");
    // Who does not ask for it is left alone.
    root.says("dkms install base/2 -k $K", &format!("{INSTALLS_2}{}", rebuilds("top")));
    root.says(NOTES, "top/1/$K/$A/.dep_base 2\n");
    root.says(
        "dkms status",
        "\
base/1, $K, $A: built
base/2, $K, $A: installed
plain/1, $K, $A: installed
top/1, $K, $A: installed
",
    );
    root.sh("modinfo -k $K top | grep updates/dkms/top.ko");
    // What is up to date is, whatever else is installed.
    source(&mut root, "other", 1, "");
    root.sh("dkms build other/1 -k $K");
    root.says(
        "dkms install other/1 -k $K",
        "Installing /lib/modules/$K/updates/dkms/other.ko\nRunning depmod... done.\n",
    );
    // Nothing but the note counts.
    root.sh("rm /var/lib/dkms/top/1/*/*/.dep_base && dkms uninstall top/1 -k $K && dkms uninstall other/1 -k $K");
    root.says(
        "dkms install other/1 -k $K",
        &format!(
            "\
Installing /lib/modules/$K/updates/dkms/other.ko
Running depmod... done.

Rebuilding module top/1 due to updated dependencies

Module top/1 for kernel $K ($A):
This module version was INACTIVE for this kernel.
Running depmod... done.
$SIGNING

{}",
            builds("top")
        ),
    );
    root.says("dkms status top", "top/1, $K, $A: installed\n");
    // A version that is registered counts, and one that is gone does not.
    root.sh("dkms remove base/2 --all");
    root.says(
        "dkms install base/1 -k $K",
        &format!(
            "Installing /lib/modules/$K/updates/dkms/base.ko\nRunning depmod... done.\n{}",
            rebuilds("top").replace("Building", "$SIGNING\n\nBuilding")
        ),
    );
    root.says(NOTES, "top/1/$K/$A/.dep_base 1\n");
}

#[test]
fn a_rebuild_that_was_cut_off_is_ended_by_the_same_command() {
    let mut root = prepared();
    source(&mut root, "top", 1, "BUILD_DEPENDS_REBUILD=yes\nBUILD_DEPENDS[0]=base\nPRE_INSTALL=kill");
    root.write("/usr/src/top-1/kill", "#!/bin/sh\n[ ! -e /srv/now ] || kill -9 $PPID; sleep 0.1");
    root.sh("chmod 755 /usr/src/top-1/kill; touch /srv/now; ! dkms install base/2 -k $K; rm /srv/now");
    root.says("dkms status top", "top/1, $K, $A: built\n");
    // Whoever asks for another module does not end it.
    source(&mut root, "other", 1, "");
    root.sh("dkms install other/1 -k $K");
    root.says("dkms status top", "top/1, $K, $A: built\n");
    let said = root.sh("dkms install base/2 -k $K");
    assert!(said.contains("Rebuilding module top/1 due to updated dependencies"), "{said}");
    root.says("dkms status top; ls -A /var/lib/dkms/.pending 2>/dev/null; :", "top/1, $K, $A: installed\n");
    // Once.
    let said = root.sh("dkms install base/2 -k $K");
    assert!(!said.contains("Rebuilding"), "{said}");
}

#[test]
fn force_neither_notes_nor_rebuilds() {
    let mut root = prepared();
    root.sh("dkms remove top/1 --all");
    root.says("dkms build top/1 -k $K --force | tail -n 1", "Signing module /var/lib/dkms/top/1/build/top.ko\n");
    root.says(NOTES, "");
    root.says("dkms install base/2 -k $K --force", INSTALLS_2);
    root.says("dkms status top", "top/1, $K, $A: built\n");
    root.says(
        "dkms install base/2 -k $K",
        "Module base/2 already installed on kernel $K ($A), skip. You may override by specifying --force.\n",
    );
    root.says(NOTES, "");
}

#[test]
fn a_rebuild_that_fails_is_told() {
    let mut root = prepared();
    root.sh("echo MAKE=false >>/usr/src/top-1/dkms.conf");
    let said = rebuilds("top");
    let said = said.split_once("Building").expect("it builds").0;
    root.fails(
        "dkms install base/2 -k $K",
        10,
        &format!(
            "\
{INSTALLS_2}{said}\
Building module(s)...(bad exit status: 1)
Failed command:
false

Error! Bad return status for module build on kernel: $K ($A)
Consult /var/lib/dkms/top/1/build/make.log for more information.
"
        ),
    );
    if root.layer == Layer::Ours {
        // What worked works on, and the next installation tries again.
        root.says("dkms status top", "top/1, $K, $A: installed\n");
        root.sh("cmp /lib/modules/$K/updates/dkms/top.ko /var/lib/dkms/top/1/$K/$A/module/top.ko");
        root.sh("sed -i /false/d /usr/src/top-1/dkms.conf && dkms uninstall base/2 -k $K");
        root.sh("dkms install base/2 -k $K | grep 'Rebuilding module top/1'");
    }
}

/// The original begins again with every module that it rebuilds, and so builds some of them several times.
#[test]
fn each_is_built_once_and_after_what_it_builds_upon() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    source(&mut root, "base", 1, "AUTOINSTALL=yes");
    source(&mut root, "base", 2, "AUTOINSTALL=yes");
    source(&mut root, "zlow", 1, "BUILD_DEPENDS_REBUILD=yes\nBUILD_DEPENDS[0]=base");
    source(&mut root, "ahigh", 1, "BUILD_DEPENDS_REBUILD=YES\nBUILD_DEPENDS[0]=zlow\nBUILD_DEPENDS[1]=base");
    source(&mut root, "never", 1, "BUILD_DEPENDS_REBUILD=yes\nBUILD_DEPENDS[0]=base");
    root.sh("for name in base zlow ahigh never; do dkms install $name/1 -k $K || exit; done");
    root.sh("echo BUILD_EXCLUSIVE_ARCH=none >>/usr/src/never-1/dkms.conf");
    root.says("dkms install base/2 -k $K", &format!("{INSTALLS_2}{}{}", rebuilds("zlow"), rebuilds("ahigh")));
    root.says(
        NOTES,
        "\
ahigh/1/$K/$A/.dep_base 2
ahigh/1/$K/$A/.dep_zlow 1
never/1/$K/$A/.dep_base 1
zlow/1/$K/$A/.dep_base 2
",
    );
    // One that fails takes along those above it; what was installed stays.
    root.sh("dkms remove base/2 --all && echo MAKE=false >>/usr/src/zlow-1/dkms.conf");
    root.sh("! dkms install base/1 -k $K");
    root.says(
        "dkms status -k $K",
        "\
ahigh/1, $K, $A: installed
base/1, $K, $A: installed
never/1, $K, $A: installed
zlow/1, $K, $A: installed
",
    );
    root.sh("sed -i /false/d /usr/src/zlow-1/dkms.conf && dkms remove base/1 --all");
    // By whichever way base comes.
    source(&mut root, "base", 3, "AUTOINSTALL=yes");
    let installed = |release: &str| {
        format!(
            "\
Building module(s)... done.
Signing module /var/lib/dkms/base/3/build/base.ko
Installing /lib/modules/{release}/updates/dkms/base.ko
Running depmod... done.
"
        )
    };
    root.says(
        "dkms add base/3 >/dev/null && dkms autoinstall -k $K",
        &format!(
            "\
$SIGNING

Autoinstall of module base/3 for kernel $K ($A)
{}
{}
{}
Autoinstall on $K succeeded for module(s) ahigh never zlow base.
",
            installed("$K"),
            rebuilds("zlow").trim_start(),
            rebuilds("ahigh").trim_start(),
        ),
    );
    root.sh("dkms remove base/3 --all && rm /var/lib/dkms/ahigh/1/$K/$A/.dep_base");
    root.says(
        "/usr/lib/dkms/common.postinst base 3 '' '' ''",
        &format!(
            "\
Loading new base/3 DKMS files...
Building for $OLD and $K

Building initial module base/3 for $OLD
$SIGNING

{}
Building initial module base/3 for $K
$SIGNING

{}{}",
            installed("$OLD"),
            installed("$K"),
            rebuilds("ahigh")
        ),
    );
}

#[test]
fn a_module_from_a_tarball_was_built_with_another_machines() {
    let mut root = prepared();
    root.sh("dkms mktarball top/1 -k $K --archive=/root/top.tar.gz && dkms remove top/1 --all && rm -r /usr/src/top-1");
    root.sh("dkms ldtarball /root/top.tar.gz");
    root.says(NOTES, "");
    root.says("dkms status top", "top/1, $K, $A: built\n");
}
