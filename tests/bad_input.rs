// SPDX-License-Identifier: GPL-2.0-or-later

//! What cannot be done is said once, with the exit code that callers know, and changes nothing.

use crate::support::{Layer, Root};

/// All that a command may change: our state, what kernels have, what is registered. The key pair is made beforehand.
const TRACE: &str = "find /var/lib/dkms /lib/modules/*/updates /tmp -printf '%M %u %p %l ' 2>/dev/null \
                     \\( -type f -printf '%s\\n' -o -printf '\\n' \\) | sort";

/// Like a [`TRACE`], without what a failed build leaves for people to look at.
pub const STATE: &str = "find /var/lib/dkms /lib/modules/*/updates -not -path '*/build' -not -path '*/build/*' \
                     -type f 2>/dev/null | sort | xargs md5sum; find /var/lib/dkms -type l -not -path '*/build/*' | sort";

fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    root
}

#[test]
fn a_source_without_a_whole_dkms_conf_is_not_registered() {
    let mut root = root();
    let before = root.sh(TRACE);

    root.sh("mkdir -p /usr/src/none-1 && touch /usr/src/none-1/none.c");
    for action in ["add", "build", "install"] {
        root.fails(
            &format!("dkms {action} none/1"),
            4,
            "
Error! Could not locate dkms.conf file.
File: /usr/src/none-1/dkms.conf does not exist.
",
        );
    }
    const NOTHING_SAID: &str = "\
dkms.conf: Error! No 'PACKAGE_NAME' directive specified.
dkms.conf: Error! No 'PACKAGE_VERSION' directive specified.

Error! Bad conf file.
File: /usr/src/none-1/dkms.conf does not represent a valid dkms.conf file.
";
    root.sh("touch /usr/src/none-1/dkms.conf");
    root.fails("dkms add none/1", 8, NOTHING_SAID);
    root.fails("dkms install none/1", 8, NOTHING_SAID);
    root.fails("dkms add /usr/src/none-1", 8, NOTHING_SAID);

    let whole = "PACKAGE_NAME=none\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=none\nDEST_MODULE_LOCATION=/updates\n";
    root.write("/usr/src/none-1/dkms.conf", &format!("{whole}exit 0\n"));
    root.fails("dkms add none/1", 8, NOTHING_SAID);

    root.write("/usr/src/none-1/dkms.conf", "if then\nPACKAGE_NAME=none\nfi");
    root.fails(
        "dkms add none/1",
        8,
        &format!(
            "\
/usr/src/none-1/dkms.conf: line 1: syntax error near unexpected token `then'
/usr/src/none-1/dkms.conf: line 1: `if then'
{NOTHING_SAID}"
        ),
    );
    root.says("dkms status", "");
    root.unchanged(TRACE, &before);
}

#[test]
fn what_is_not_registered_is_not_found() {
    let mut root = root();
    let before = root.sh(TRACE);

    for action in ["add", "build", "install"] {
        root.fails(
            &format!("dkms {action} nosuch/1"),
            2,
            "
Error! Could not find module source directory.
Directory: /usr/src/nosuch-1 does not exist.
",
        );
    }
    for command in ["unbuild nosuch/1", "uninstall -m nosuch -v 1", "remove nosuch/1 --all", "remove nosuch/1 -k $OLD"]
    {
        root.fails(
            &format!("dkms {command}"),
            3,
            "
Error! The module/version combo: nosuch/1 is not located in the DKMS tree.
",
        );
    }
    root.says("dkms status nosuch/1", "");
    // A directory that holds no dkms.conf is taken for a name.
    root.fails(
        "dkms add /usr/src",
        1,
        "
Error! Arguments <module> and <module-version> are not specified.
Usage: add <module>/<module-version> or
       add -m <module>/<module-version> or
       add -m <module> -v <module-version>
",
    );
    root.unchanged(TRACE, &before);
}

#[test]
fn headers_that_are_missing_are_named_to_people() {
    const WORDS: &str = "
Error! Your kernel headers for kernel 9.9.9-none cannot be found at /lib/modules/9.9.9-none/build or /lib/modules/9.9.9-none/source.
Please install your distribution's kernel headers package matching 9.9.9-none, or use
the --kernelsourcedir option to tell DKMS where it's located.
";
    const PACKAGE: &str = "To install the headers: apt install linux-headers-9.9.9-none\n";
    let mut root = root();
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh("dkms add quick/1");
    let before = root.sh(TRACE);

    for command in ["build quick/1", "install quick/1", "autoinstall", "kernel_postinst"] {
        let command = format!("dkms {command} -k 9.9.9-none");
        root.fails(&command, 21, WORDS);
        // The same and a line more where somebody reads it.
        root.fails(
            &format!("set -o pipefail; script -qec '{command}' /dev/null | tr -d '\\r'"),
            21,
            &format!("{WORDS}{PACKAGE}"),
        );
    }
    for hook in ["postinst.d", "header_postinst.d"] {
        root.says(
            &format!("/etc/kernel/{hook}/dkms 9.9.9-none /boot/vmlinuz-9.9.9-none"),
            "\
Automatic installation of modules for kernel 9.9.9-none was skipped since the kernel headers for this kernel do not seem to be installed.
To have them: apt install linux-headers-9.9.9-none
",
        );
    }
    root.says("dkms status", "quick/1: added\n");
    root.unchanged(TRACE, &before);

    // Headers, but no such kernel to install into.
    root.fails(
        "dkms install quick/1 -k 9.9.9-none --kernelsourcedir /lib/modules/$K/build >/tmp/said 2>&1; \
         code=$?; tail -n 3 /tmp/said; exit $code",
        6,
        "
Error! The directory /lib/modules/9.9.9-none doesn't exist.
You cannot install a module onto a non-existent kernel.
",
    );
    root.says("dkms status", "quick/1, 9.9.9-none, $A: built\n");
}

/// Without it the module would be another one: not signed, or not for this kernel at all.
#[test]
fn a_configuration_that_cannot_be_read_is_not_one_that_is_not_there() {
    let mut root = root();
    root.quick("quick", "BUILD_EXCLUSIVE_CONFIG=CONFIG_MODULES");
    root.sh("dkms add quick/1; cd /lib/modules/$K/build && cp -r --remove-destination $(readlink -f include/config) /srv/config");
    root.sh("rm /srv/config/auto.conf; mkdir /srv/config/auto.conf");
    root.sh("mount --bind /srv/config /lib/modules/$K/build/include/config");
    root.fails(
        "dkms install quick/1 -k $K",
        1,
        "\nError! Cannot read /lib/modules/$K/build/include/config/auto.conf: Is a directory (os error 21)\n",
    );
    root.says("dkms status quick; umount /lib/modules/$K/build/include/config", "quick/1: added\n");
    root.sh("dkms install quick/1 -k $K");
}

#[test]
fn a_build_without_the_kernels_compiler_says_which_package_has_it() {
    let mut root = root();
    root.quick("quick", "MAKE=false");
    root.write("/tmp/gcc", "CONFIG_CC_VERSION_TEXT=\"x86_64-linux-gnu-gcc-9 (Debian 9.3.0-22) 9.3.0\"");
    root.write("/tmp/clang", "CONFIG_CC_VERSION_TEXT=\"clang version 19\"\nCONFIG_CC_IS_CLANG=y\nCONFIG_LD_IS_LLD=y");
    for (config, packages) in [("gcc", "gcc-9"), ("clang", "clang lld")] {
        root.fails(
            &format!("script -qec 'dkms build quick/1 --config /tmp/{config}' /dev/null >/tmp/said; code=$?; tail -n 1 /tmp/said | sed 's/.*\\x1b\\[J//' | tr -d '\\r'; exit $code"),
            10,
            &format!("Kernel $K ($A) was built with {packages}, not found here: apt install {packages}\n"),
        );
    }
    // Who is no terminal reads the contract's words alone.
    root.fails(
        "dkms build quick/1 --config /tmp/gcc 2>&1 | tail -n 1; exit ${PIPESTATUS[0]}",
        10,
        "Consult /var/lib/dkms/quick/1/build/make.log for more information.\n",
    );
}

#[test]
fn a_makefile_that_fails_leaves_its_log_and_what_there_was() {
    let mut root = root();
    root.quick("quick", "MAKE='cat why && test -e works && cp quick.ko built.ko'\nBUILT_MODULE_NAME=built");
    root.sh("touch /usr/src/quick-1/works; echo it works >/usr/src/quick-1/why; dkms install quick/1");
    let before = root.sh(STATE);
    root.sh("rm /usr/src/quick-1/works; echo Nothing works. >/usr/src/quick-1/why");

    root.fails(
        "dkms build quick/1 --force",
        10,
        "\
$SIGNING

Building module(s)...(bad exit status: 1)
Failed command:
cat why && test -e works && cp quick.ko built.ko

Error! Bad return status for module build on kernel: $K ($A)
Consult /var/lib/dkms/quick/1/build/make.log for more information.
",
    );
    root.says(
        "sed -n '4,8p' /var/lib/dkms/quick/1/build/make.log; stat -c '%A %U' /var/lib/dkms/quick/1/build/{,why,make.log}",
        "\
Building module(s)
# command: cat why && test -e works && cp quick.ko built.ko
Nothing works.

# exit code: 1
drwxr-xr-x root
-rw-r--r-- root
-rw-r--r-- root
",
    );
    // What was built and installed before still is.
    root.says("dkms status", "quick/1, $K, $A: installed\n");
    root.unchanged(STATE, &before);

    // A kernel for which nothing was built.
    root.sh("! dkms install quick/1 -k $OLD");
    root.says("grep -c 'Nothing works' /var/lib/dkms/quick/1/build/make.log", "1\n");
    root.says("dkms status", "quick/1, $K, $A: installed\n");
    root.unchanged(STATE, &before);

    // The log of a failure goes with the next success.
    root.sh("touch /usr/src/quick-1/works; dkms build quick/1 --force");
    root.says("ls /var/lib/dkms/quick/1; dkms status", "$K\nsource\nquick/1, $K, $A: installed\n");
}

#[test]
fn only_a_file_is_a_module() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("mkdir /root/elsewhere; echo secret >/root/elsewhere/quick.ko; dkms add quick/1");
    let before = root.sh(STATE);
    let mut refused = |make: &str| {
        root.quick("quick", &format!("MAKE='{make}'"));
        root.fails(
            "dkms install quick/1",
            7,
            "\
$SIGNING

Building module(s)... done.

Error! Build of quick.ko failed for: $K ($A)
Make sure the name and location of the generated module are correct,
or consult /var/lib/dkms/quick/1/build/make.log for more information.
",
        );
        root.says("dkms status", "quick/1: added\n");
        root.unchanged(STATE, &before);
    };

    refused("rm quick.ko");
    refused("mv quick.ko quick.o");
    refused("rm quick.ko; mkdir quick.ko");
    refused("rm quick.ko; mkfifo quick.ko");
    refused("ln -sf /root/elsewhere/quick.ko .");
    refused("ln -sf /lib/modules/$kernelver/modules.dep quick.ko");
    // Who builds as root can make devices, too.
    root.write("/etc/dkms/quick.conf", "BUILD_AS_ROOT=yes");
    let mut refused_as_root = |make: &str| {
        root.quick("quick", &format!("MAKE='{make}'"));
        let output = root.run("dkms install quick/1");
        assert_eq!(output.code, 7, "{output:?}");
        assert!(output.text.ends_with("build/make.log for more information.\n"), "{output:?}");
        root.unchanged(STATE, &before);
    };
    refused_as_root("rm quick.ko; mknod quick.ko c 1 3");
    refused_as_root("rm quick.ko; mkfifo quick.ko");
    refused_as_root("ln -sf /root/elsewhere/quick.ko .");
}

#[test]
fn a_patch_that_cannot_be_applied_stops_the_build() {
    let mut root = root();
    root.write("/usr/src/quick-1/patches/mends.patch", "--- a/text\n+++ b/text\n@@ -1 +1 @@\n-no\n+yes");
    root.write("/usr/src/quick-1/text", "neither");
    let mut refused = |conf: &str, code: i32, words: &str| {
        root.quick("quick", conf);
        root.fails("dkms add quick/1 >/dev/null 2>&1; dkms install quick/1", code, &format!("$SIGNING\n\n{words}"));
        root.says("dkms status; find /lib/modules -name quick.ko", "quick/1: added\n");
        root.sh("test -e /var/lib/dkms/quick/1/build/make.log");
    };

    refused(
        "PATCH=mends.patch",
        6,
        "\
Applying patch mends.patch...(bad exit status: 1)
Failed command:
patch -p1 < ./patches/mends.patch

Error! Application of patch mends.patch failed.
Consult /var/lib/dkms/quick/1/build/make.log for more information.
",
    );
    for name in ["missing.patch", "sub/mends.patch", "/usr/src/quick-1/patches/mends.patch"] {
        refused(
            &format!("PATCH={name}"),
            5,
            &format!(
                "
Error! Patch {name} as specified in dkms.conf cannot be
found in /var/lib/dkms/quick/1/build/patches/.
"
            ),
        );
    }
    for name in ["../mends.patch", "..", "sub/../mends.patch"] {
        refused(
            &format!("PATCH={name}"),
            5,
            &format!("\nError! Patch {name} as specified in dkms.conf contains '..' path component.\n"),
        );
    }
    // One that leads out of the tree when it is applied.
    root.write("/usr/src/quick-1/patches/mends.patch", "--- /dev/null\n+++ b/../../x\n@@ -0,0 +1 @@\n+x");
    let output = root.run("dkms install quick/1 --directive PATCH=mends.patch");
    assert_eq!(output.code, 6, "{output:?}");
    root.says("find /var/lib/dkms -name x", "");
}

#[test]
fn a_module_whose_source_has_gone_is_broken() {
    const BROKEN: &str = "
Error! quick/1 is broken!
Missing the source directory or the symbolic link pointing to it.
Manual intervention is required!
";
    const STATUS: &str = "\
quick/1: broken

Error! quick/1: Missing the module source directory or the symbolic link pointing to it.
Manual intervention is required!
";
    let mut root = root();
    root.quick("quick", "AUTOINSTALL=yes");
    root.quick("other", "AUTOINSTALL=yes");
    root.sh("dkms add quick/1 && dkms install quick/1 && dkms add other/1");
    root.sh("mv /usr/src/quick-1 /root");
    let before = root.sh(TRACE);

    root.says("dkms status quick", STATUS);
    for command in ["build", "install", "unbuild", "uninstall", "remove", "remove --all", "build --force"] {
        root.fails(&format!("dkms {command} quick/1"), 4, BROKEN);
    }
    root.fails(
        "dkms add quick/1",
        2,
        "
Error! Could not find module source directory.
Directory: /usr/src/quick-1 does not exist.
",
    );
    root.unchanged(TRACE, &before);
    root.sh("lsmod >/dev/null; test -e /lib/modules/$K/updates/dkms/quick.ko");

    // It is no obstacle to the others.
    root.says(
        "/etc/kernel/postinst.d/dkms $K",
        "
Error! quick/1 is broken! Missing the source directory or the symbolic link pointing to it.
Manual intervention is required!
$SIGNING

Autoinstall of module other/1 for kernel $K ($A)
Building module(s)... done.
Signing module /var/lib/dkms/other/1/build/other.ko
Installing /lib/modules/$K/updates/dkms/other.ko
Running depmod... done.

Autoinstall on $K succeeded for module(s) other.
",
    );

    // The link has gone, the source has not: adding it mends that.
    root.sh("mv /root/quick-1 /usr/src && rm /var/lib/dkms/quick/1/source");
    root.says("dkms status quick", STATUS);
    root.fails("dkms remove quick/1 --all", 4, BROKEN);
    root.says("dkms add quick/1", "Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1\n");
    root.says("dkms status quick", "quick/1, $K, $A: installed\n");
}

#[test]
fn who_is_not_root_is_told_so() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("dkms add quick/1 && dkms install quick/1");
    let before = root.sh(TRACE);
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";

    let not_root = "\nError! You must be root to use this command.\n";
    for action in [
        "install quick/1",
        "uninstall quick/1",
        "autoinstall",
        "kernel_postinst -k $K",
        "kernel_preinst -k $K",
        "kernel_prerm -k $K",
    ] {
        root.fails(&format!("{nobody} dkms {action}"), 1, not_root);
    }
    for action in ["build quick/1 -k $OLD", "build quick/1 --force", "unbuild quick/1", "remove quick/1 --all"] {
        root.fails(&format!("{nobody} dkms {action}"), 1, "\nError! No write access to DKMS tree at /var/lib/dkms\n");
    }
    // What is closed to him he is told of as of what is not there.
    root.sh("chmod 600 /usr/src/quick-1/dkms.conf");
    let output = root.run(&format!("{nobody} dkms status"));
    let closed = root.expand(
        "quick/1, $K, $A: installed\nError! Could not locate dkms.conf file.\nFile: /var/lib/dkms/quick/1/source/dkms.conf does not exist.\n",
    );
    assert_eq!(output.text.replace("\n\n", "\n"), closed);
    root.sh("chmod 644 /usr/src/quick-1/dkms.conf");
    // Those of the kernel's hooks that must not fail do not.
    let hint = format!("{not_root}Try again with sudo.\n");
    for (hook, code) in [("postinst.d", 1), ("header_postinst.d", 1), ("preinst.d", 0), ("prerm.d", 0)] {
        root.fails(&format!("{nobody} /etc/kernel/{hook}/dkms $K"), code, &hint);
    }
    root.fails(&format!("{nobody} /usr/lib/dkms/common.postinst quick 1 /usr/share/quick '' ''"), 1, &hint);
    root.unchanged(TRACE, &before);
    root.says(&format!("{nobody} dkms status"), "quick/1, $K, $A: installed\n");
}

#[test]
fn a_second_run_waits_and_says_for_whom() {
    let mut root = root();
    // It builds until it is told to end, each time anew.
    root.sh("echo result_store=no >/etc/dkms/framework.conf.d/off.conf");
    root.quick("slow", "MAKE='until [ -e /srv/end ]; do sleep 0.02; done'");
    root.quick("quick", "AUTOINSTALL=yes");

    for (second, last) in [
        (
            "dkms install slow/1",
            "Module slow/1 already installed on kernel $K ($A), skip. You may override by specifying --force.\n",
        ),
        ("dkms remove slow/1 --all", "Deleting module slow/1 completely from the DKMS tree.\n"),
        ("/etc/kernel/postinst.d/dkms $K", "Autoinstall on $K succeeded for module(s) slow quick.\n"),
        ("/usr/lib/dkms/common.postinst quick 1 /usr/share/quick '' ''", "Running depmod... done.\n"),
    ] {
        root.sh("rm -f /srv/*; for m in slow/1 quick/1; do dkms remove $m --all; dkms add $m || exit; done");
        root.sh("(dkms install slow/1 >/srv/first 2>&1; echo $? >/srv/first.code) &");
        root.wait_until("grep -q 'Building module' /srv/first");
        root.sh(&format!("({second} >/srv/second 2>&1; echo $? >/srv/second.code) &"));
        root.wait_until("[ -s /srv/second ]");
        // What only looks does not wait.
        root.says("dkms status slow", "slow/1: added\n");
        root.sh("sleep 0.3; touch /srv/end");
        root.wait_until("[ -s /srv/first.code ] && [ -s /srv/second.code ]");
        root.says("cat /srv/*.code; tail -n 1 /srv/first", "0\n0\nRunning depmod... done.\n");
        root.says(
            "sed -E 's/process [0-9]+/process N/' /srv/second | sed -n '1p;$p'",
            &format!("dkms: waiting for process N (dkms install slow/1) to finish\n{last}"),
        );
    }
}

/// Both find it there, and one of them comes to it first.
#[test]
fn two_that_remove_the_same_version_leave_the_other_one() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("cp -r /usr/src/quick-1 /usr/src/quick-2; sed -i s/VERSION=1/VERSION=2/ /usr/src/quick-2/dkms.conf");
    root.sh("dkms add quick/1; dkms add quick/2");
    root.sh("lock=$(echo /run/dkms-*.lock); (flock $lock sh -c 'until [ -e /srv/go ]; do sleep 0.02; done') & until ! flock -n $lock true; do :; done");
    root.sh("for n in 1 2; do (dkms remove quick/1 --all >/srv/said$n 2>&1; echo $? >/srv/code$n) & done");
    root.wait_until("grep -q waiting /srv/said1 && grep -q waiting /srv/said2");
    root.sh("touch /srv/go");
    root.wait_until("[ -s /srv/code1 ] && [ -s /srv/code2 ]");
    root.says("sort -n /srv/code1 /srv/code2; dkms status", "0\n3\nquick/2: added\n");
}

#[test]
fn names_do_not_lead_out_of_the_tree() {
    let mut root = root();
    root.quick("quick", "");
    let before = root.sh(TRACE);

    for (named, told) in [
        ("../quick/1", "../quick/1"),
        ("-m .. -v quick", "../quick"),
        ("-m quick -v ..", "quick/.."),
        ("-m quick -v ../../etc", "quick/../../etc"),
        ("-m quick/../1", "quick/../1"),
        ("./1", "./1"),
        ("-m . -v .", "./."),
        ("-m quick -v /etc", "quick//etc"),
        ("-m $'quick\\ntwo' -v 1", "quick\ntwo/1"),
    ] {
        for action in ["add", "build", "install", "uninstall", "unbuild", "remove --all", "remove"] {
            root.fails(
                &format!("dkms {action} {named}"),
                1,
                &format!(
                    "\nError! {told} is no module and version: neither may be empty, begin with a dot or contain a slash or the end of a line,\na name may not be mok.key, mok.pub or dkms_dbversion,\nand a version may not be original_module or begin with kernel-.\n"
                ),
            );
        }
    }
    root.fails(
        "/usr/lib/dkms/common.postinst .. 1 /usr/share/x '' ''",
        1,
        "\nError! ../1 is no module and version: neither may be empty, begin with a dot or contain a slash or the end of a line,\na name may not be mok.key, mok.pub or dkms_dbversion,\nand a version may not be original_module or begin with kernel-.\n",
    );
    root.unchanged(TRACE, &before);

    // A dkms.conf that would have root write elsewhere.
    for (directive, words) in [
        ("DEST_MODULE_NAME=../../../../../../root/quick", "'DEST_MODULE_NAME' directive is no file name in record #0."),
        ("DEST_MODULE_NAME=/root/quick", "'DEST_MODULE_NAME' directive is no file name in record #0."),
        ("DEST_MODULE_NAME=..", "'DEST_MODULE_NAME' directive is no file name in record #0."),
        ("BUILT_MODULE_NAME=../../../quick", "'DEST_MODULE_NAME' directive is no file name in record #0."),
    ] {
        root.quick("quick", directive);
        root.fails(
            "dkms add quick/1",
            8,
            &format!(
                "\
dkms.conf: Error! {words}

Error! Bad conf file.
File: /usr/src/quick-1/dkms.conf does not represent a valid dkms.conf file.
"
            ),
        );
    }
    root.unchanged(TRACE, &before);
    // What it names is only looked for in its own directory, wherever that is while it is built.
    for up in 1..12 {
        let lead = "../".repeat(up);
        let place = format!("BUILT_MODULE_LOCATION={lead}lib/modules/$kernelver/kernel/drivers/net/");
        root.quick("quick", &format!("{place}\nBUILT_MODULE_NAME=nlmon"));
        let output = root.run("dkms install quick/1");
        assert_eq!(output.code, 7, "{output:?}");
        root.says("dkms remove quick/1 --all", "Deleting module quick/1 completely from the DKMS tree.\n");
    }

    // A leading dash is only a letter to whom it is given as a value.
    root.fails(
        "dkms add -x/1 | head -n 1; exit ${PIPESTATUS[0]}",
        2,
        "\nError! Unknown option: -x/1\nUsage: dkms [action] [options]\n",
    );
    root.quick("-x", "DEST_MODULE_NAME=-f");
    root.sh("dkms install -m -x -v 1");
    root.says("dkms status -m -x; ls /lib/modules/$K/updates/dkms", "-x/1, $K, $A: installed\n-f.ko\n");
    root.sh("dkms remove -m -x/1 --all");
    root.unchanged(TRACE, &before);
}

#[test]
fn what_names_a_kernel_does_not_lead_out_of_the_trees_either() {
    let mut root = root();
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh("dkms install quick/1 && mkdir /lib/modules/../empty");
    let trace = format!("{TRACE}; ls -d /lib/empty");
    let before = root.sh(&trace);

    for (said, told) in [
        ("-k ..", ".. is no kernelver."),
        ("-k .", ". is no kernelver."),
        ("-k ../../etc", ".. is no kernelver."),
        ("-k /etc", "Empty kernelver[0]"),
        ("-k $K/..", ".. is no arch."),
        ("-k $K/../../../../etc", "../../../../etc is no arch."),
        ("-k $K -a ..", ".. is no arch."),
        ("-k $K -a /etc", "/etc is no arch."),
        ("-k $K -k $OLD -a $A -a $A/..", "$A/.. is no arch."),
    ] {
        for action in ["build", "install", "uninstall", "unbuild", "remove", "mktarball"] {
            root.fails(&format!("dkms {action} quick/1 {said}"), 16, &format!("\nError! {told}\n"));
        }
    }
    let words = "\nError! .. is no kernelver.\n";
    for action in ["autoinstall", "kernel_postinst", "kernel_preinst", "kernel_prerm", "match --templatekernel=$K"] {
        root.fails(&format!("dkms {action} -k .."), 16, words);
    }
    for hook in ["postinst.d", "header_postinst.d", "preinst.d", "prerm.d"] {
        root.says(&format!("/etc/kernel/{hook}/dkms .."), words);
        root.says(&format!("/etc/kernel/{hook}/dkms $K/../.."), "\nError! $K/../.. is no kernelver.\n");
    }
    root.unchanged(&trace, &before);
}

#[test]
fn what_is_no_text_is_told_or_names_nothing() {
    let mut root = root();
    root.quick("quick", "AUTOINSTALL=yes");
    root.sh("dkms install quick/1");
    let before = root.sh(TRACE);
    for said in [r"$'quick\xff/1'", r"quick/1 -k $'\xff'", r"quick/1 --dkmstree $'/root/\xff'", r"$'/root/\xff'"] {
        for action in ["add", "build", "remove --all", "status", "ldtarball"] {
            let output = root.run(&format!("dkms {action} {said}"));
            assert_eq!(output.code, 2, "{output:?}");
            assert!(
                output.text.starts_with("\nError! ") && output.text.ends_with("\u{fffd} is not UTF-8.\n")
                    || output.text.contains("\u{fffd}/1 is not UTF-8.\n"),
                "{output:?}"
            );
        }
    }
    for hook in ["postinst.d", "header_postinst.d", "preinst.d", "prerm.d"] {
        let output = root.run(&format!(r"/etc/kernel/{hook}/dkms $'\xff'"));
        assert!(output.code == 0 && !output.text.contains("panicked"), "{output:?}");
    }
    let output = root.run(r"/usr/lib/dkms/common.postinst $'\xff' $'\xfe' '' $'\xfd' $'\xfc'");
    assert!(output.code == 0 && !output.text.contains("panicked"), "{output:?}");
    root.fails(
        r"cd /; $'/usr/lib/dkms/dkms_autoinstaller' $'\xff'",
        2,
        "Usage: /usr/lib/dkms/dkms_autoinstaller {start}\n",
    );
    root.unchanged(TRACE, &before);
    root.says("ls /root", "");
}

#[test]
fn odd_places_of_the_tree_are_only_odd() {
    let mut root = root();
    root.quick("quick", "");
    for place in ["'/root/with blanks  here'", r"$'/root/two\nlines'", "'/root/*'", r#"'/root/"'"#, "'/root/$(id)'"] {
        let tree = &format!("--dkmstree {place}");
        root.sh(&format!("mkdir {place} && dkms install quick/1 {tree}"));
        root.says(&format!("dkms status {tree}"), "quick/1, $K, $A: installed\n");
        root.says(
            "ls /root | wc -l; ls /var/lib/dkms",
            &format!("{}\nmok.key\nmok.pub\n", if place.contains(r"\n") { 2 } else { 1 }),
        );
        root.sh(&format!("dkms remove quick/1 --all {tree}"));
        root.says(&format!("dkms status {tree}; rm -r {place}; ls /root"), "");
    }
}

#[test]
fn a_conf_may_have_thousands_of_modules_but_not_any_number() {
    let mut root = root();
    for (directive, what, most, index) in [
        ("DEST_MODULE_LOCATION", "Record", 65535, "65536"),
        ("DEST_MODULE_LOCATION", "Record", 65535, "3000000000"),
        ("DEST_MODULE_LOCATION", "Record", 65535, "9223372036854775807"),
        ("PATCH", "Patch", 1023, "1024"),
    ] {
        root.quick("quick", &format!("{directive}[{index}]=/updates"));
        root.fails(
            "dkms add quick/1",
            8,
            &format!(
                "\
dkms.conf: Error! {what} #{index} is one too many: the last can be #{most}.

Error! Bad conf file.
File: /usr/src/quick-1/dkms.conf does not represent a valid dkms.conf file.
"
            ),
        );
    }
    // Some seconds each; what looks at all of them for each of them would not end in time.
    root.quick(
        "quick",
        "STRIP=no\nBUILT_MODULE_NAME=(m{0..4999})\nfor i in {0..4999}; do DEST_MODULE_LOCATION[i]=/updates; done\n\
         MAKE='perl links'",
    );
    root.write("/usr/src/quick-1/links", "link 'quick.ko', \"m$_.ko\" for 0..4999;");
    root.write("/etc/dkms/framework.conf.d/unsigned.conf", "try_sign_modules=false");
    for command in ["install", "install --force", "uninstall", "install"] {
        root.sh(&format!("timeout 240 dkms {command} quick/1"));
    }
    root.says("timeout 60 dkms status; ls /lib/modules/$K/updates/dkms | wc -l", "quick/1, $K, $A: installed\n5000\n");
    root.sh("timeout 240 dkms kernel_preinst -k $K && timeout 240 dkms autoinstall -k $K && timeout 240 dkms remove quick/1 --all");
    root.says("find /lib/modules/$K/updates /var/lib/dkms/quick 2>/dev/null; true", "");
}

/// A root in which $TREE is on a small file system of its own, with as much room as `kilobytes`.
fn small_tree(kilobytes: u32) -> Root {
    let mut root = root();
    root.sh(&format!(
        "cp -a /var/lib/dkms /root/tree && mount -t tmpfs -o size={kilobytes}k,mode=755 tree /var/lib/dkms \
         && cp -a /root/tree/. /var/lib/dkms"
    ));
    root
}

/// Leaves so much room in a small file system.
fn fill(root: &mut Root, place: &str, kilobytes: u32) {
    root.sh(&format!(
        "rm -f {place}/filler; free=$(df --output=avail -k {place} | tail -n 1) \
         && head -c $(((free - {kilobytes}) * 1024)) /dev/zero >{place}/filler"
    ));
}

/// The one error that a command ends with, its numbers and temporary names left out.
fn only_error(root: &mut Root, command: &str) -> String {
    let output = root.run(command);
    assert_eq!(output.code, 1, "{output:?}");
    assert_eq!(output.text.matches("Error!").count(), 1, "{output:?}");
    let (_, error) = output.text.split_once("\nError! ").expect("an error");
    assert_eq!(error.lines().count(), 1, "{output:?}");
    assert!(error.contains(": No space left on device (os error 28)"), "{output:?}");
    error.to_owned()
}

#[test]
fn a_full_tree_keeps_its_state_while_building() {
    let mut root = small_tree(200);
    root.quick("quick", "");
    root.sh("dkms add quick/1");
    let before = root.sh(TRACE);

    let mut failures = 0;
    for room in (0..200).step_by(4) {
        fill(&mut root, "/var/lib/dkms", room);
        let output = root.run("dkms build quick/1 && rm -r /var/lib/dkms/quick/1/$K");
        root.sh("rm /var/lib/dkms/filler");
        if output.code == 0 {
            break;
        }
        failures += 1;
        assert_eq!((output.code, output.text.matches("Error!").count()), (1, 1), "{output:?}");
        assert!(output.text.ends_with(": No space left on device (os error 28)\n"), "{output:?}");
        assert!(output.text.contains("/var/lib/dkms/quick/1/"), "{output:?}");
        root.says("dkms status", "quick/1: added\n");
        root.sh("rm -rf /var/lib/dkms/quick/1/build; mkdir /var/lib/dkms/quick/1/build");
        root.unchanged(TRACE, &before);
    }
    assert!((5..40).contains(&failures), "{failures}");
    root.sh("dkms install quick/1");
    root.says("dkms status", "quick/1, $K, $A: installed\n");
}

#[test]
fn a_full_tree_keeps_its_state_while_installing() {
    let mut root = small_tree(200);
    // Its kernel has a module of this name, which is archived, to another file system here.
    root.quick("quick", "DEST_MODULE_NAME=apple-gmux");
    root.sh("dkms build quick/1");
    let trace = "find /var/lib/dkms /lib/modules/$K -name '*apple-gmux*' -o -name '.[a-z]*' -o -type l | sort; \
                 md5sum /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko*; true";
    let before = root.sh(trace);

    let mut failures = 0;
    for room in (0..100).step_by(4) {
        fill(&mut root, "/var/lib/dkms", room);
        let output = root.run("dkms install quick/1");
        root.sh("rm /var/lib/dkms/filler");
        if output.code == 0 {
            break;
        }
        failures += 1;
        assert_eq!((output.code, output.text.matches("Error!").count()), (1, 1), "{output:?}");
        assert!(output.text.ends_with(": No space left on device (os error 28)\n"), "{output:?}");
        root.says("dkms status", "quick/1, $K, $A: built\n");
        root.unchanged(trace, &before);
    }
    assert!((2..20).contains(&failures), "{failures}");

    // Installed, it stays so, whatever is tried without room.
    root.says("dkms status", "quick/1, $K, $A: installed (Original modules exist)\n");
    let installed = root.sh(trace);
    fill(&mut root, "/var/lib/dkms", 0);
    root.sh("! dkms install quick/1 --force");
    root.says("dkms status", "quick/1, $K, $A: installed (Original modules exist)\n");
    root.unchanged(trace, &installed);
    // And can be removed: that needs no room.
    root.sh("dkms uninstall quick/1");
    root.unchanged(trace, &before);
}

#[test]
fn a_full_module_directory_is_left_as_it_was() {
    let mut root = root();
    let updates = "/lib/modules/$K/updates";
    root.quick(
        "quick",
        "DEST_MODULE_NAME=apple-gmux\nBUILT_MODULE_NAME[1]=second\nDEST_MODULE_LOCATION[1]=/updates\nMAKE='cp quick.ko second.ko'",
    );
    root.sh(&format!(
        "dkms build quick/1 && mkdir {updates} && mount -t tmpfs -o mode=755,size=100k updates {updates}"
    ));
    let before = root.sh(TRACE);

    // No room at all, room for one of its two modules.
    for room in [0, 4] {
        fill(&mut root, updates, room);
        let error = only_error(&mut root, "dkms install quick/1");
        assert!(error.contains("/updates/dkms/"), "{error}");
        root.sh(&format!("rm {updates}/filler"));
        root.says("dkms status", "quick/1, $K, $A: built\n");
        root.unchanged(TRACE, &before);
        root.sh("test -e /lib/modules/$K/kernel/drivers/platform/x86/apple-gmux.ko*");
    }
    root.sh("dkms install quick/1");
    root.says("dkms status", "quick/1, $K, $A: installed (Original modules exist)\n");

    // The modules of an older version stay when those of a newer one have no room.
    root.sh("cp -r /usr/src/quick-1 /usr/src/quick-2; echo PACKAGE_VERSION=2 >>/usr/src/quick-2/dkms.conf; dkms build quick/2");
    let installed = root.sh(TRACE);
    fill(&mut root, updates, 0);
    only_error(&mut root, "dkms install quick/2 --force");
    root.sh(&format!("rm {updates}/filler"));
    root.says(
        "dkms status",
        "quick/1, $K, $A: installed (Original modules exist)\nquick/2, $K, $A: built (Original modules exist)\n",
    );
    root.unchanged(TRACE, &installed);
    root.sh("dkms install quick/2 --force");
}

#[test]
fn a_full_tmp_is_told_in_the_log() {
    let mut root = root();
    root.source("apple-gmux-0.1");
    root.sh("dkms add apple-gmux/0.1; mount -t tmpfs -o size=40k,mode=1777 tmp /tmp");
    let before = root.sh(TRACE);

    fill(&mut root, "/tmp", 0);
    root.fails(
        "dkms build apple-gmux/0.1 -j 1",
        10,
        "\
$SIGNING

Building module(s)...(bad exit status: 2)
Failed command:
make -j1 KERNELRELEASE=$K -C /lib/modules/$K/build M=/var/lib/dkms/apple-gmux/0.1/build

Error! Bad return status for module build on kernel: $K ($A)
Consult /var/lib/dkms/apple-gmux/0.1/build/make.log for more information.
",
    );
    root.sh("grep 'error writing to /tmp/.*: No space left on device' /var/lib/dkms/apple-gmux/0.1/build/make.log");
    root.says("dkms status; ls /tmp", "apple-gmux/0.1: added\nfiller\n");
    // A person need not look into it.
    let said = root.run("TERM=dumb script -qec 'dkms build apple-gmux/0.1 -j 1' /dev/null | tail -n 1");
    let named = said.text.contains("A disk is full: ") && said.text.contains("error writing to /tmp/");
    assert!(named && said.text.contains("No space left on device."), "{said:?}");
    // Not even a directory can be made.
    root.sh("umount /tmp && mount -t tmpfs -o nr_inodes=1,mode=1777 tmp /tmp");
    let error = only_error(&mut root, "dkms build apple-gmux/0.1");
    assert!(error.starts_with("Cannot make a temporary directory in /tmp"), "{error}");
    root.says("dkms status; ls /tmp", "apple-gmux/0.1: added\n");

    root.sh("umount /tmp; rm -r /var/lib/dkms/apple-gmux/0.1/build; mkdir /var/lib/dkms/apple-gmux/0.1/build");
    root.unchanged(TRACE, &before);
    root.sh("dkms build apple-gmux/0.1");
}

/// Also where the log has no room to say so.
#[test]
fn a_full_tree_is_named_to_people_and_by_hooks() {
    let mut root = small_tree(300);
    root.quick("quick", "MAKE='head -c 1M /dev/zero >big'\nAUTOINSTALL=yes");
    root.sh("dkms add quick/1");
    let words = "Consult /var/lib/dkms/quick/1/build/make.log for more information.\n";
    root.fails("dkms build quick/1 2>&1 | tail -n 1; exit ${PIPESTATUS[0]}", 10, words);
    for command in ["TERM=dumb script -qec 'dkms build quick/1' /dev/null", "/etc/kernel/postinst.d/dkms $K"] {
        root.sh("rm -r /var/lib/dkms/quick/1/build");
        let said = root.run(command);
        assert!(said.text.contains("The disk is full: no more than "), "{command}: {said:?}");
    }
}

#[test]
fn a_package_that_is_at_fault_is_reported_where_crashes_are() {
    let mut root = root();
    root.sh("mkdir -p /usr/share/apport; touch /usr/share/apport/apport");
    root.write(
        "/usr/share/apport/package-hooks/dkms_packages.py",
        "import sys\nopen('/srv/reports', 'a').write(' '.join(sys.argv[1:]) + '\\n')",
    );
    root.write("/usr/src/quick-1/patches/unfit.patch", "--- a/text\n+++ b/text\n@@ -1 +1 @@\n-no\n+yes");
    root.write("/usr/src/quick-1/script", "#!/bin/sh\nexit 10");
    root.sh("chmod 755 /usr/src/quick-1/script");
    for (conf, code, reported) in [
        ("PATCH=../a.patch", 5, true),
        ("PATCH=missing.patch", 5, true),
        ("PATCH=unfit.patch", 6, true),
        ("MAKE='rm quick.ko'", 7, true),
        ("MAKE=false", 10, true),
        // That is its script's own exit code, and the rest is not its fault.
        ("PRE_BUILD=script", 10, false),
        ("BUILD_DEPENDS=nosuch", 13, false),
        ("BUILD_EXCLUSIVE_ARCH=none", 77, false),
        ("", 0, false),
    ] {
        root.quick("quick", conf);
        root.fails("dkms build quick/1 >/dev/null 2>&1", code, "");
        root.says(
            "cat /srv/reports 2>/dev/null; rm -f /srv/reports",
            if reported { "-m quick -v 1 -k $K\n" } else { "" },
        );
    }
    root.quick("quick", "MAKE=false");
    root.fails("rm /usr/share/apport/apport; dkms build quick/1 --force >/dev/null 2>&1", 10, "");
    root.says("ls /srv", "tests\n");
}
