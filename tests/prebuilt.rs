// SPDX-License-Identifier: GPL-2.0-or-later

//! Modules that were built elsewhere: exported, found, verified, and what becomes of those that are none of this.

use crate::support::{Layer, Root};

const CONF: &str = "/etc/dkms/framework.conf.d/prebuilt.conf";

/// Where results are exported to.
const LIST: &str = "/srv/www/$K/$A/manifest.asc";

/// Forgets what was built here, and that anything was.
const FORGET: &str = "rm -rf /var/cache/dkms; dkms unbuild wanted/1 --all >/dev/null";

/// Takes away what builds modules.
const NO_COMPILER: &str = "rm -r /lib/modules/*/build /usr/src/linux-headers-*; \
                           rm -f $(command -v gcc cc make); ! command -v gcc cc make";

/// A root that has installed a module, has a key, and fetches from /srv/www what it does not have any more.
fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[("--setenv"), "GNUPGHOME=/root/keys"]);
    root.same_key();
    root.sh("install -d -m 700 $GNUPGHOME");
    root.sh(&new_key("Fleet <fleet@example.org>", "never"));
    root.sh("gpg --export >/etc/dkms/prebuilt.gpg");
    root.quick("wanted", "AUTOINSTALL=yes");
    root.sh("dkms add wanted/1 && dkms install wanted/1 -k $K");
    root.write(CONF, "prebuilt=\"file:///srv/www\"");
    root
}

fn new_key(name: &str, expires: &str) -> String {
    format!("gpg --batch --quiet --passphrase '' --quick-generate-key '{name}' ed25519 sign {expires}")
}

/// What is installed for the newest kernel, to the byte.
const INSTALLED: &str = "sha256sum /lib/modules/$K/updates/dkms/*";

#[test]
fn what_was_built_elsewhere_is_installed_without_headers_or_compiler() {
    let mut root = root();
    let built = root.sh(INSTALLED);
    root.says("dkms export --to /srv/www", &format!("wanted/1, $K, $A: exported\nList: {LIST}\n"));
    root.says(
        "ls /srv/www /srv/www/objects | sed -E 's/[0-9a-f]{64}/KEY/'",
        "\
/srv/www:
$K
objects

/srv/www/objects:
KEY.tar.zst
",
    );
    root.sh(FORGET);
    root.sh(NO_COMPILER);

    // By the kernel's hook, in the words that a build has.
    root.says(
        "DEB_MAINT_PARAMS='configure ' /etc/kernel/postinst.d/dkms $K /boot/vmlinuz-$K",
        "\
$SIGNING

Autoinstall of module wanted/1 for kernel $K ($A)
Building module(s)... done.
Signing module /var/lib/dkms/wanted/1/build/wanted.ko
Installing /lib/modules/$K/updates/dkms/wanted.ko
Running depmod... done.

Autoinstall on $K succeeded for module(s) wanted.
",
    );
    root.says(INSTALLED, &built);
    root.says("dkms status", "wanted/1, $K, $A: installed\n");
    root.says(
        "tail -n 1 /var/lib/dkms/wanted/1/$K/$A/log/make.log | sed -E 's/[0-9a-f]{64}/KEY/'",
        "# That was elsewhere: the modules are from file:///srv/www/objects/KEY.tar.zst\n",
    );
    // Kept here, too: the object is not asked for again, but the list is.
    root.sh("dkms unbuild wanted/1 --all; rm -r /srv/www/objects; dkms install wanted/1 -k $K");
    root.says(INSTALLED, &built);
    // By a person, by a package that is configured, at boot.
    root.sh("dkms remove wanted/1 --all");
    root.sh("/usr/lib/dkms/common.postinst wanted 1 /usr/share/wanted-dkms");
    root.says("dkms status", "wanted/1, $K, $A: installed\n");
    root.sh("dkms unbuild wanted/1 --all; /usr/lib/dkms/header_postinst $K");
    root.says("dkms status", "wanted/1, $K, $A: installed\n");
}

#[test]
fn only_the_same_is_taken() {
    let mut root = root();
    root.sh("dkms export --to /srv/www");
    let taken = "dkms build wanted/1 -k $K >/dev/null 2>&1; \
                 grep -c elsewhere /var/lib/dkms/wanted/1/$K/$A/log/make.log; \
                 dkms unbuild wanted/1 --all >/dev/null; rm -r /var/cache/dkms";
    root.sh(FORGET);
    root.says(taken, "1\n");
    // Each of these makes another module, or could.
    for (change, back) in [
        ("echo x >/usr/src/wanted-1/x", "rm /usr/src/wanted-1/x"),
        ("echo STRIP=no >/etc/dkms/wanted.conf", "rm /etc/dkms/wanted.conf"),
        ("mkdir -p /etc/dkms/wanted/patches; echo >/etc/dkms/wanted/patches/x", "rm -r /etc/dkms/wanted"),
        (
            "echo 'export KCFLAGS=-O1' >/etc/x; echo build_environment=/etc/x >/etc/dkms/framework.conf.d/x.conf",
            "rm /etc/dkms/framework.conf.d/x.conf",
        ),
        // Of another version of the kernel's package.
        ("sed -i \"s/^Kernel-Version: .*/Kernel-Version: 1/\" /tmp/list", "true"),
    ] {
        root.sh(&format!("gpg --quiet --decrypt {LIST} >/tmp/list 2>/dev/null; {change}"));
        if change.contains("/tmp/list") {
            root.sh(&format!("sed -i 's/^Key: .*/Key: '$(printf %064d 0)/ /tmp/list; cp {LIST} /tmp/before; gpg --quiet --yes --clearsign --output {LIST} /tmp/list"));
        }
        root.says(taken, "0\n");
        root.sh(back);
    }
    root.sh(&format!("cp /tmp/before {LIST}"));
    root.says(taken, "1\n");
    // A variable of the caller's counts if it is named where it can be seen.
    root.says(&format!("export DEBUG=1; {taken}"), "1\n");
    root.says(&format!("export KCFLAGS=-O1; {taken}"), "0\n");
    root.says(&format!("export DKMS_DIRECTIVE_1=STRIP=no; {taken}"), "0\n");
    root.sh("echo 'ccflags-$(DEBUG) += -g' >/usr/src/wanted-1/Makefile && dkms build wanted/1 -k $K && dkms export --to /srv/www");
    root.sh(FORGET);
    root.says(taken, "1\n");
    root.says(&format!("export DEBUG=1; {taken}"), "0\n");
    // Who says how it is to be built, or wants to see it, has it built here.
    for option in ["--force", "--verbose", "--directive=STRIP=no"] {
        root.sh(&format!("dkms build wanted/1 -k $K {option}"));
        root.sh("! grep -q elsewhere /var/lib/dkms/wanted/1/$K/$A/log/make.log");
        root.sh(FORGET);
    }
}

/// What is said on standard error when the module is wanted; it is built here.
#[track_caller]
fn is_built_here(root: &mut Root, said: &str) {
    root.sh(FORGET);
    let strip = "sed -E 's/[0-9a-f]{64}/KEY/g'";
    root.says(&format!("dkms build wanted/1 -k $K 2>&1 >/dev/null | {strip}"), said);
    root.sh("! grep -q elsewhere /var/lib/dkms/wanted/1/$K/$A/log/make.log");
}

#[test]
fn what_is_not_signed_or_was_changed_is_not_used_and_that_is_said() {
    let mut root = root();
    root.sh("dkms export --to /srv/www && cp -r /srv/www /srv/good");
    let said = |why: &str| {
        format!(
            "Warning: file://{LIST} {why}.\nNothing of what is there is used.\n\
             dkms: wanted/1 for kernel $K ($A) is built here: file:///srv/www is not to be believed\n"
        )
    };
    // By somebody else; by nobody; by a key that is no good any more; changed; for another kernel.
    root.sh("mv /etc/dkms/prebuilt.gpg /root");
    is_built_here(&mut root, &said("cannot be verified: there is no keyring /etc/dkms/prebuilt.gpg"));
    root.sh("cp /root/prebuilt.gpg /etc/dkms; chmod 666 /etc/dkms/prebuilt.gpg");
    is_built_here(
        &mut root,
        &said(
            "cannot be verified: /etc/dkms/prebuilt.gpg can be changed by others than root (mode 666). \
             If it is as it should be: chmod go-w /etc/dkms/prebuilt.gpg",
        ),
    );
    root.sh("chmod 644 /etc/dkms/prebuilt.gpg");
    let other = new_key("Other <other@example.org>", "never");
    root.sh(&format!(
        "export GNUPGHOME=/root/other; mkdir -m 700 $GNUPGHOME && {other} && gpg --export >/etc/dkms/prebuilt.gpg"
    ));
    is_built_here(&mut root, &said("was not signed by a key in /etc/dkms/prebuilt.gpg"));
    root.sh(&format!(
        "cp /root/prebuilt.gpg /etc/dkms; gpg --quiet --decrypt {LIST} 2>/dev/null >/tmp/list; cp /tmp/list {LIST}"
    ));
    is_built_here(&mut root, &said("is not one signed text"));
    root.sh(&format!("sed 's/^Size: .*/Size: 1/' /srv/good/$K/$A/manifest.asc >{LIST}"));
    is_built_here(&mut root, &said("was changed after it was signed"));
    root.sh(&format!("head -c 300 /srv/good/$K/$A/manifest.asc >{LIST}"));
    is_built_here(&mut root, &said("is not one signed text"));
    root.sh(&format!("(echo; cat /srv/good/$K/$A/manifest.asc) >{LIST}"));
    is_built_here(&mut root, &said("is not one signed text"));
    root.sh("dkms build wanted/1 -k $OLD --force && dkms export --to /srv/www wanted/1 -k $OLD");
    root.sh(&format!("cp /srv/www/$OLD/$A/manifest.asc {LIST}"));
    is_built_here(&mut root, &said("is that of another kernel"));
    let expired = new_key("Expired <expired@example.org>", "2020-02-01")
        .replace("gpg ", "gpg --faked-system-time 20200101T000000 ");
    root.sh(&format!("{expired} && gpg --export >/etc/dkms/prebuilt.gpg"));
    root.sh(&format!(
        "gpg --batch --yes --quiet --faked-system-time 20200102T000000 --local-user expired --clearsign --output {LIST} /tmp/list"
    ));
    is_built_here(&mut root, &said("was signed by a key that has expired"));
}

#[test]
fn an_object_that_is_not_what_was_signed_is_not_used() {
    let mut root = root();
    root.sh("dkms export --to /srv/www && cp -r /srv/www /srv/good");
    let said = |why: &str| {
        format!(
            "Warning: file:///srv/www/objects/KEY.tar.zst{why}.\n\
             dkms: wanted/1 for kernel $K ($A) is built here: what file:///srv/www has of it cannot be used\n"
        )
    };
    let changed = said(" is not what its signed list says: it was changed, or is not all there");
    // Cut off; another last byte, whichever it is.
    for change in [
        "head -c 100 /srv/good/objects/* >$object",
        r"(head -c -1 /srv/good/objects/*; tail -c 1 /srv/good/objects/* | tr '\0-\377' '\1-\377\0') >$object",
    ] {
        root.sh(&format!("object=$(ls /srv/www/objects/*); {change}"));
        is_built_here(&mut root, &changed);
    }
    root.sh("object=$(ls /srv/www/objects/*); cat /srv/good/objects/* >$object; echo >>$object");
    let size = root.sh("stat -c %s /srv/good/objects/*");
    is_built_here(&mut root, &said(&format!(": it is larger than {} bytes", size.trim())));
    root.sh("rm /srv/www/objects/*");
    is_built_here(&mut root, &said(": File not found - /srv/www/objects/KEY.tar.zst (2: No such file or directory)"));
    // Another place may have it.
    root.write(CONF, "prebuilt=\"file:///srv/none file:///srv/www/ file:///srv/good\"");
    root.sh(FORGET);
    root.sh("dkms install wanted/1 -k $K && grep /srv/good /var/lib/dkms/wanted/1/$K/$A/log/make.log");
}

#[test]
fn a_server_that_is_away_or_hangs_is_a_miss() {
    let mut root = root();
    root.quick("second", "AUTOINSTALL=yes");
    root.sh("dkms add second/1");
    let server = "use IO::Socket; $s = IO::Socket::INET->new(Listen => 9, LocalAddr => q(127.0.0.1)); \
                  open F, q(>/srv/port); print F $s->sockport; close F; push @c, $s->accept while 1";
    root.sh(&format!("perl -e '{server}' >/dev/null 2>&1 & while ! [ -s /srv/port ]; do sleep 0.1; done"));
    let port = root.sh("cat /srv/port");
    root.write(CONF, &format!("prebuilt=http://127.0.0.1:{port}/x\nprebuilt_timeout=1s"));
    root.sh(FORGET);
    // Asked once, by whichever module comes first.
    let said = root.sh("dkms autoinstall -k $K 2>&1 >/dev/null");
    let miss = |name: &str, why: &str| {
        format!(
            "dkms: {name}/1 for kernel $K ($A) is built here: http://127.0.0.1:{port}/x/$K/$A/manifest.asc: {why}\n"
        )
    };
    let both = |why: &str| miss("second", why) + &miss("wanted", why);
    assert_eq!(said, root.expand(&both(&format!("Connection failed [IP: 127.0.0.1 {port}]"))));
    root.sh("pkill perl; dkms unbuild second/1 --all");
    root.sh(FORGET);
    let said = root.sh("dkms autoinstall -k $K 2>&1 >/dev/null");
    let refused = format!("Could not connect to 127.0.0.1:{port} (127.0.0.1). - connect (111: Connection refused)");
    assert_eq!(said, root.expand(&both(&refused)));
}

#[test]
fn what_is_not_there_is_built_or_waited_for_or_fails() {
    let mut root = root();
    root.sh("dkms export --to /srv/www; mv /srv/www /srv/later");
    root.sh(FORGET);
    let not_there = format!("file://{LIST}: File not found - {LIST} (2: No such file or directory)");
    let miss = |instead: &str| {
        format!(
            "\nError! Module wanted/1 for kernel $K ($A) is not to be had, and {instead}.\n{not_there}.\n\
             Try again when it is there: dkms install wanted/1 -k $K\n"
        )
    };
    root.write(CONF, "prebuilt=file:///srv/www\non_miss=fail");
    let forbidden = miss("on_miss in framework.conf forbids to build it here");
    root.fails("dkms install wanted/1 -k $K", 10, &format!("$SIGNING\n\n{forbidden}"));
    // A hook notes it, and tries again whenever it runs.
    let hook = "DEB_MAINT_PARAMS='configure ' /etc/kernel/postinst.d/dkms $K /boot/vmlinuz-$K 2>/dev/null | tail -n 1";
    root.says(hook, "Autoinstall on $K failed for module(s) wanted(10).\n");
    root.says(
        "dkms status --failed",
        "\
dkms: modules that could not be installed:
  wanted/1 for kernel $K ($A): it is not to be had, and on_miss in framework.conf forbids to build it here
    try again: dkms install wanted/1 -k $K
",
    );
    root.sh("mv /srv/later /srv/www");
    root.says(hook, "Autoinstall on $K succeeded for module(s) wanted.\n");
    root.says("dkms status --failed; dkms status", "wanted/1, $K, $A: installed\n");

    root.sh("mv /srv/www /srv/later");
    root.sh(FORGET);
    root.write(CONF, "prebuilt=file:///srv/www\non_miss=wait\non_miss_wait=1s");
    let waiting = format!("dkms: waiting up to 1 min for wanted/1 for kernel $K ($A): {not_there}\n");
    let waited = miss("it was waited for as long as on_miss_wait in framework.conf says");
    root.fails("dkms install wanted/1 -k $K 2>&1 >/dev/null", 10, &format!("{waiting}{waited}"));
    root.write(CONF, "prebuilt=file:///srv/www\non_miss=wait\non_miss_wait=90s");
    root.sh("(sleep 1; mv /srv/later /srv/www) >/dev/null 2>&1 & dkms install wanted/1 -k $K");
    root.says("dkms status", "wanted/1, $K, $A: installed\n");

    // Nobody waits for who does not answer: at boot there is no network.
    root.sh(FORGET);
    root.write(CONF, "prebuilt=http://127.0.0.1:1/x\non_miss=wait\non_miss_wait=90s");
    let said = root.run("dkms install wanted/1 -k $K");
    let told = said.text.contains("is not to be had, and on_miss in framework.conf waits only for who answers.\n");
    assert!(said.code == 10 && told && !said.text.contains("waiting up to"), "{said:?}");

    // Without headers there is nothing else to do either.
    root.sh("mv /srv/www /srv/later");
    root.sh(FORGET);
    root.sh(NO_COMPILER);
    root.write(CONF, "prebuilt=file:///srv/www\non_miss=often");
    root.fails(
        "dkms install wanted/1 -k $K 2>&1 >/dev/null",
        21,
        &format!(
            "Warning: on_miss=\"often\" in framework.conf is not \"build\", \"wait\" or \"fail\"; the default is used.\n{}",
            miss("there are no headers to build it with")
        ),
    );
}

#[test]
fn what_can_be_had_is_not_planned() {
    let mut root = root();
    root.sh("dkms export --to /srv/www");
    root.sh(FORGET);
    root.says("dkms plan", "wanted/1, $OLD, $A: to be built\n");
    root.sh("rm -r /srv/www");
    root.says("dkms plan", "wanted/1, $OLD, $A: to be built\nwanted/1, $K, $A: to be built\n");
}

#[test]
fn an_export_adds_to_what_the_same_caller_has_signed() {
    let mut root = root();
    root.quick("second", "");
    root.sh("dkms build wanted/1 -k $OLD && dkms build second/1 -k $K");
    root.says("dkms export --to /srv/www second", &format!("second/1, $K, $A: exported\nList: {LIST}\n"));
    root.says("dkms export --to=/srv/www -k $K -m wanted", &format!("wanted/1, $K, $A: exported\nList: {LIST}\n"));
    let modules = format!("gpg --quiet --decrypt {LIST} 2>/dev/null | grep ^Module");
    root.says(&modules, "Module: second\nModule: wanted\n");
    // The same again changes no object, and what is not there any more is not listed.
    let before = root.sh("stat -c '%n %i' /srv/www/objects/*");
    root.sh("dkms export --to /srv/www");
    root.says("ls /srv/www", "$OLD\n$K\nobjects\n");
    let after = root.sh("stat -c '%n %i' /srv/www/objects/*");
    assert!(before.lines().all(|line| after.contains(line)) && after.lines().count() == 3, "{before}{after}");
    root.sh("rm -r /srv/www/objects /var/cache/dkms; dkms build second/1 -k $K --force && dkms export --to /srv/www");
    root.says(&modules, "Module: second\n");
    // What no list names goes when nobody can have an older one any more.
    let name = |digit: &str| format!("/srv/www/objects/{}.tar.zst", digit.repeat(64));
    let (old, new) = (name("0"), name("1"));
    root.sh(&format!("touch {old} {new} /srv/www/objects/mine.tar.zst && touch -d '2 days ago' /srv/www/objects/*"));
    root.sh(&format!("touch {new}; dkms export --to /srv/www"));
    root.sh(&format!("! test -e {old} && rm {new} /srv/www/objects/mine.tar.zst"));
    // The same again changes nothing.
    let files = "find /srv/www -type f -printf '%p %i %T@\\n' | sort";
    let before = root.sh(files);
    root.sh("dkms export --to /srv/www");
    root.says(files, &before);
    // What is replaced is of age only from then on.
    root.sh("touch -d '2 days ago' /srv/www/objects/*; dkms export --to /srv/www --sign-modules");
    let after = root.sh("ls /srv/www/objects");
    assert_eq!(after.lines().count(), 2 * before.matches("/objects/").count(), "{before}{after}");
    // Somebody else's is not signed over, and nothing is written.
    root.sh(
        &new_key("Other <other@example.org>", "never").replace("gpg ", "mkdir -m 700 /root/o; GNUPGHOME=/root/o gpg ")
    );
    let trace = "find /srv/www -type f | sort | xargs sha256sum";
    let before = root.sh(trace);
    root.fails(
        "GNUPGHOME=/root/o dkms export --to /srv/www",
        3,
        &format!(
            "\nError! {LIST} is there and was signed by nobody who is known.\nNothing was exported. If all of it can go: rm {LIST}\n"
        ),
    );
    root.says(trace, &before);
    // Nor is one by somebody whose key we know.
    root.sh("GNUPGHOME=/root/o gpg --export | gpg --quiet --import");
    root.sh(&format!(
        "gpg --quiet --decrypt {LIST} >/tmp/list 2>/dev/null; GNUPGHOME=/root/o gpg --yes --clearsign --output {LIST} /tmp/list"
    ));
    let output = root.run("dkms export --to /srv/www");
    assert!(output.code == 3 && output.text.contains(" is there and was signed by somebody else.\n"), "{output:?}");
}

#[test]
fn what_cannot_be_exported_leaves_nothing_half_written() {
    let mut root = root();
    root.fails(
        "dkms export",
        1,
        "\nError! It was not said where to.\nUse --to DIRECTORY: one that a web server serves, or that is copied to where one does.\n",
    );
    root.fails(
        "dkms export --to /srv/www none/1",
        6,
        "\nError! No result of none/1 is kept here for a kernel of a package.\nBuild it first: dkms build none/1, with --force if it is built.\n",
    );
    root.fails(
        "echo >/srv/file; dkms export --to /srv/file/x",
        9,
        "\nError! Missing write permissions for /srv/file/x.\n",
    );
    let output = root.run("mkdir -m 777 /srv/open; dkms export --to /srv/open");
    assert!(output.code == 8 && output.text.contains("/srv/open can be changed by others than root"), "{output:?}");
    let output = root.run("GNUPGHOME=/nowhere dkms export --to /srv/www");
    assert!(output.code == 1 && output.text.starts_with("\nError! Cannot sign the list of modules: "), "{output:?}");
    let output = root.run("dkms export --to /srv/www --gpg-key nobody");
    assert!(output.code == 1 && output.text.contains("nobody"), "{output:?}");
    root.says("find /srv/www", "/srv/www\n");
    root.sh("mkdir /srv/small; mount -t tmpfs -o size=4k,mode=755 small /srv/small");
    let output = root.run("dkms export --to /srv/small");
    assert!(output.code == 1 && output.text.contains("No space left on device"), "{output:?}");
    // An object is whole or not there; one that no list names is nobody's.
    root.says("find /srv/small -name 'manifest*' -o -name '.*' -type f", "");
    root.write(CONF, "result_store=no");
    root.fails(
        "dkms export --to /srv/www",
        1,
        "\nError! No results are kept here, so none can be exported.\nThat takes root, namespaces, and result_store=yes in framework.conf.\n",
    );
}

#[test]
fn modules_are_signed_by_the_builder_where_he_is_asked_to() {
    let mut root = root();
    let built = root.sh(INSTALLED);
    root.sh("dkms export --to /srv/www --sign-modules --gpg-key fleet@example.org");
    root.sh(FORGET);
    root.sh(NO_COMPILER);
    // Neither its key nor what signs.
    root.sh("rm /var/lib/dkms/mok.* /usr/lib/linux-kbuild-*/scripts/sign-file");
    root.sh("dkms install wanted/1 -k $K");
    root.says(INSTALLED, &built);
    root.fails(
        "dkms export --to /srv/www --sign-modules -k $K",
        1,
        "\nError! Cannot sign modules for kernel $K ($A), as --sign-modules asks:\nSign command: \
         /lib/modules/$K/build/scripts/sign-file\nBinary /lib/modules/$K/build/scripts/sign-file not found, modules won't \
         be signed\n",
    );
}
