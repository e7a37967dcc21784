// SPDX-License-Identifier: GPL-2.0-or-later

//! Registering sources, and modules that build upon others.

use crate::support::{Layer, Root};

fn root(layer: Layer) -> Root {
    let mut root = Root::with(layer, &[]);
    root.sh("dkms generate_mok");
    root.quick("quick", "AUTOINSTALL=yes");
    root
}

const ADDED: &str = "Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1\n";
const TWICE: &str = "
Error! DKMS tree already contains: quick/1
You cannot add the same module/version combo more than once.
";
const INSTALLED: &str = "\
Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
Installing /lib/modules/$K/updates/dkms/quick.ko
Running depmod... done.
";

#[test]
fn sources_come_from_anywhere_and_once() {
    let mut root = root(Layer::under_test());
    root.says("dkms add quick/1", ADDED);
    for source in ["quick/1", "-m quick -v 1", "/usr/src/quick-1", "/var/lib/dkms/quick/1/source"] {
        root.fails(&format!("dkms add {source}"), 3, TWICE);
    }
    root.says(
        "readlink /var/lib/dkms/quick/1/source; ls -A /var/lib/dkms/quick/1",
        "/usr/src/quick-1\nbuild\nsource\n",
    );
    let forget = "dkms remove quick/1 --all >/dev/null";

    // All of it is copied.
    root.sh(&format!("{forget}; mv /usr/src/quick-1 /srv/source && cd /srv/source && mkdir sub && touch .hidden sub/deep -d @86400 && chmod 750 sub && ln -s deep sub/link"));
    let content = "find . -printf '%P %M %T@ %l\\n' | sort";
    let source = root.sh(&format!("cd /srv/source && {content}"));
    root.says("dkms add /srv/source", ADDED);
    root.unchanged(&format!("cd /usr/src/quick-1 && {content}"), &source);
    root.fails("dkms add /srv/source", 3, TWICE);
    // By its dkms.conf, into what is there; what it has no more stays.
    root.sh(&format!("{forget}; rm /srv/source/.hidden; touch /srv/source/new"));
    root.says("dkms add /srv/source/dkms.conf", ADDED);
    root.says("ls -A /usr/src/quick-1", ".hidden\ndkms.conf\nnew\nquick.ko\nsub\n");
    // Unless that is forced away.
    root.says(
        &format!("{forget}; cd /srv/source; dkms add . --force"),
        &format!("\nForcing install of quick/1\n{ADDED}"),
    );
    root.says("ls -A /usr/src/quick-1", "dkms.conf\nnew\nquick.ko\nsub\n");
    // And on with what follows.
    root.says(
        &format!("{forget}; cd /srv/source; dkms install dkms.conf"),
        &format!("{ADDED}\n$SIGNING\n\n{INSTALLED}"),
    );
    root.says("dkms status", "quick/1, $K, $A: installed\n");
    root.sh("dkms remove quick/1 --all");
    root.says("ls /usr/src/quick-1 | wc -l; ls /var/lib/dkms", "4\nmok.key\nmok.pub\n");
}

#[test]
fn a_source_that_is_none_is_not_built() {
    let mut root = root(Layer::under_test());
    root.sh("dkms add quick/1; rm /usr/src/quick-1/quick.ko");
    let empty = "
Error! The directory /var/lib/dkms/quick/1/source does not appear to have module source located within it.
Build halted.
";
    for action in ["build", "install"] {
        root.fails(&format!("dkms {action} quick/1"), 8, empty);
    }
    root.says("dkms status", "quick/1: added\n");
}

#[test]
fn a_system_without_a_name_is_left_alone() {
    let mut root = root(Layer::under_test());
    root.sh("dkms add quick/1; rm /etc/os-release; mv /usr/lib/os-release /srv");
    let words = "\nError! System is missing os-release file.\n";
    for command in [
        "status",
        "add quick/1",
        "install quick/1",
        "autoinstall",
        "remove quick/1 --all",
        "generate_mok",
        "",
        "frobnicate",
    ] {
        root.fails(&format!("dkms {command}"), 4, words);
    }
    root.sh("mkdir -p /etc/dkms/framework.conf.d; echo on_failure=original >/etc/dkms/framework.conf.d/original.conf");
    root.fails("/etc/kernel/postinst.d/dkms $K", 1, words);
    root.says("mv /srv/os-release /usr/lib; dkms status", "quick/1: added\n");
}

#[test]
fn what_is_built_upon_must_be_installed() {
    let mut root = root(Layer::under_test());
    root.quick("upon", "BUILD_DEPENDS=(quick nosuch)");
    root.sh("dkms add upon/1");
    root.fails(
        "dkms build upon/1",
        13,
        "\
$SIGNING


Error! Aborting build of module upon/1 for kernel $K ($A) due to missing BUILD_DEPENDS: quick nosuch.
You may override by specifying --force.
",
    );
    root.sh("dkms install quick/1");
    // A pattern is met by whatever it fits.
    root.quick("pattern", "BUILD_DEPENDS='q?ic*'");
    root.says(
        "dkms build pattern/1 | tail -n 1; dkms status pattern",
        "Signing module /var/lib/dkms/pattern/1/build/pattern.ko\npattern/1, $K, $A: built\n",
    );
    root.says(
        "dkms build upon/1 --force",
        "\
$SIGNING

Warning: Trying to build module upon/1 for kernel $K ($A) despite of missing BUILD_DEPENDS: nosuch.
Building module(s)... done.
Signing module /var/lib/dkms/upon/1/build/upon.ko
",
    );
}

#[test]
fn what_nobody_knows_may_come_yet() {
    // dkms 3.2.2 calls it a failure.
    let mut root = root(Layer::Ours);
    root.quick("upon", "AUTOINSTALL=yes\nBUILD_DEPENDS=nosuch");
    root.quick("both", "AUTOINSTALL=yes\nBUILD_DEPENDS=(quick nosuch)");
    root.sh("for m in quick upon both; do dkms add $m/1; done");
    let deferred = "\
both/1 autoinstall deferred: BUILD_DEPENDS not registered with DKMS: nosuch.
upon/1 autoinstall deferred: BUILD_DEPENDS not registered with DKMS: nosuch.
Autoinstall on $K deferred module(s) both/1 upon/1 due to BUILD_DEPENDS not yet registered with DKMS.
These may be provided externally or by a package not yet configured; autoinstall will retry on the next trigger.
";
    root.says(
        "dkms autoinstall",
        &format!(
            "\
$SIGNING

Autoinstall of module quick/1 for kernel $K ($A)
{INSTALLED}
Autoinstall on $K succeeded for module(s) quick.
{deferred}"
        ),
    );
    root.says(
        "/etc/kernel/postinst.d/dkms $K",
        &format!("Autoinstall on $K succeeded for module(s) quick.\n{deferred}"),
    );
    // Somebody knows it, and it is not for this kernel.
    root.quick("nosuch", "");
    root.fails(
        "dkms add nosuch/1; dkms autoinstall",
        11,
        "\
Creating symlink /var/lib/dkms/nosuch/1/source -> /usr/src/nosuch-1
Autoinstall on $K succeeded for module(s) quick.
both/1 autoinstall failed due to missing dependencies: nosuch.
upon/1 autoinstall failed due to missing dependencies: nosuch.

Error! One or more modules failed to install during autoinstall.
Refer to previous errors for more information.
",
    );
    root.sh("dkms install nosuch/1 && dkms autoinstall");
    root.says("dkms status | grep -c installed", "4\n");
}
