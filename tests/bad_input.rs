// SPDX-License-Identifier: GPL-2.0-or-later

//! What cannot be done is said once, with the exit code that callers know, and changes nothing.

use crate::support::{Layer, Root};

/// All that a command may change: our state, what kernels have, what is registered. The key pair is made beforehand.
const TRACE: &str = "find /var/lib/dkms /lib/modules/*/updates /tmp -ls 2>/dev/null | \
                     awk '{ print $3, $5, $6, $7, $11, $12, $13 }' | sort";

/// Like a [`TRACE`], without what a failed build leaves for people to look at.
const STATE: &str = "find /var/lib/dkms /lib/modules/*/updates -not -path '*/build' -not -path '*/build/*' \
                     -type f 2>/dev/null | sort | xargs md5sum; find /var/lib/dkms -type l | sort";

fn root() -> Root {
    let mut root = Root::new();
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
    assert_eq!(root.sh(TRACE), before);
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
    assert_eq!(root.sh(TRACE), before);
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
    assert_eq!(root.sh(TRACE), before);

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
    assert_eq!(root.sh(STATE), before);

    // A kernel for which nothing was built.
    root.sh("! dkms install quick/1 -k $OLD");
    root.says("grep -c 'Nothing works' /var/lib/dkms/quick/1/build/make.log", "1\n");
    root.says("dkms status", "quick/1, $K, $A: installed\n");
    assert_eq!(root.sh(STATE), before);

    // The log of a failure goes with the next success.
    root.sh("touch /usr/src/quick-1/works; dkms build quick/1 --force");
    root.says("ls /var/lib/dkms/quick/1; dkms status", "$K\nsource\nquick/1, $K, $A: installed\n");
}

#[test]
fn only_a_file_is_a_module() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("cp /usr/src/quick-1/dkms.conf /root; mkdir /root/elsewhere; echo secret >/root/elsewhere/quick.ko");
    root.sh("dkms add quick/1");
    let before = root.sh(STATE);

    for make in [
        "rm quick.ko",
        "rm quick.ko; mkdir quick.ko",
        "rm quick.ko; mkfifo quick.ko",
        "ln -sf /root/elsewhere/quick.ko .",
        "ln -sf /lib/modules/$kernelver/modules.dep quick.ko",
        "mv quick.ko quick.o",
    ] {
        root.write("/usr/src/quick-1/dkms.conf", &format!("source /root/dkms.conf; MAKE='{make}'"));
        root.sh("cat /root/dkms.conf >/usr/src/quick-1/dkms.conf");
        root.sh(&format!("echo \"MAKE='{make}'\" >>/usr/src/quick-1/dkms.conf"));
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
        assert_eq!(root.sh(STATE), before, "{make}");
    }
}
