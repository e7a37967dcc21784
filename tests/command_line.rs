// SPDX-License-Identifier: GPL-2.0-or-later

//! What can be said on the command line, in which order, and what is said of the rest.

use crate::support::{Layer, Root};

fn root(layer: Layer) -> Root {
    let mut root = Root::with(layer, &[]);
    root.sh("dkms generate_mok");
    root.quick("quick", "");
    root
}

const BUILT: &str = "\
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
";

/// The command that built quick/1 last.
const COMMAND: &str = "sed -n 's/^# command: //p' /var/lib/dkms/quick/1/$K/$A/log/make.log";

#[test]
fn what_contradicts_itself_is_refused() {
    let mut root = root(Layer::under_test());
    for (command, code, words) in [
        ("add build quick/1", 4, "Cannot specify more than one action."),
        (
            "status --binaries-only --source-only",
            8,
            "You have specified both --binaries-only and --source-only.\nYou cannot do this.",
        ),
        (
            "build quick/1 -k 1 -k 2 -a x -a y -a z",
            1,
            "If more than one arch is specified on the command line, then there\n\
             must be an equal number of kernel versions also specified (1:1 relationship).",
        ),
        (
            "build quick/1 -k 1/x -a y",
            1,
            "If more than one arch is specified on the command line, then there\n\
             must be an equal number of kernel versions also specified (1:1 relationship).",
        ),
        (
            "remove quick/1 --all -k 1 -a x",
            2,
            "You cannot specify a kernel version and also specify\n--all on the command line.",
        ),
        ("remove quick/1 --all -a x", 3, "You cannot specify an arch and also specify\n--all on the command line."),
        ("add quick/1 --all", 5, "The action add does not support the --all parameter."),
        ("build quick/1 --all", 5, "The action build does not support the --all parameter."),
        ("--all install quick/1", 5, "The action install does not support the --all parameter."),
        ("autoinstall --all", 5, "The action autoinstall does not support the --all parameter."),
        ("kernel_prerm --all", 5, "The action kernel_prerm does not support the --all parameter."),
        (
            "autoinstall -k 1 -k 2",
            4,
            "The action autoinstall does not support multiple kernel version parameters on the command line.",
        ),
        (
            "kernel_prerm",
            4,
            "The action kernel_prerm requires exactly one kernel version parameter on the command line.",
        ),
        (
            "kernel_preinst -k 1 -k 2",
            4,
            "The action kernel_preinst requires exactly one kernel version parameter on the command line.",
        ),
        (
            "kernel_postinst",
            4,
            "The action kernel_postinst requires exactly one kernel version parameter on the command line.",
        ),
        ("build quick/1 -k", 16, "Empty kernelver[0]"),
        ("build quick/1 -k 1 -k /x", 16, "Empty kernelver[1]"),
        ("build quick/1 --arch ''", 16, "Empty arch[0]"),
        // That there is no action is looked for last.
        ("-k ''", 16, "Empty kernelver[0]"),
        ("frobnicate -a ''", 16, "Empty arch[0]"),
        ("-k 1 --all", 2, "You cannot specify a kernel version and also specify\n--all on the command line."),
        ("-a 1 --all", 3, "You cannot specify an arch and also specify\n--all on the command line."),
        (
            "remove -m quick",
            1,
            "Arguments <module> and <module-version> are not specified.\n\
             Usage: remove <module>/<module-version> or\n       remove -m <module>/<module-version> or\n       \
             remove -m <module> -v <module-version>",
        ),
    ] {
        root.fails(&format!("dkms {command}"), code, &format!("\nError! {words}\n"));
    }
    // The usage that comes along is our own.
    let unknown = [
        ("", 0, "Unknown action specified: \"\""),
        ("frobnicate", 0, "Unknown action specified: \"\""),
        ("add --frobnicate -q", 2, "Unknown option: --frobnicate"),
        ("status -k=1", 2, "Unknown option: -k=1"),
        ("build quick/1 -j4", 2, "Unknown option: -j4"),
    ];
    for (command, code, words) in unknown {
        let command = format!("dkms {command} 2>/tmp/errors >/tmp/usage; code=$?; cat /tmp/errors; exit $code");
        root.fails(&command, code, &format!("\nError! {words}\n"));
        root.says(
            "grep -o '^Usage:.* .action. .options.' /tmp/usage | sed 's|/usr/sbin/||'",
            "Usage: dkms [action] [options]\n",
        );
    }
    root.says("dkms status; ls -A /var/lib/dkms", "mok.key\nmok.pub\n");
}

#[test]
fn words_may_come_in_any_order_and_long_options_by_their_beginnings() {
    let mut root = root(Layer::under_test());
    root.says(
        "dkms add quick/1 further",
        "\
Warning: I do not know how to handle further.
Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1
",
    );
    for command in [
        "-k $K -v 1 build -m quick",
        "--kernelver=$K --module=quick/1 build",
        "quick/1 --kernelver \" $K \" build",
        "build --modulename quick/1 --kernelversion=$K/$A",
        "build -k $K -a $A -m other -m quick -v 2 -v 1",
        "build quick/1 -k $K -k $K",
    ] {
        root.sh(&format!("dkms {command}"));
        root.says("dkms status", "quick/1, $K, $A: built\n");
        root.sh("dkms unbuild quick/1");
    }
    // An architecture after the kernel is the next of all that are named.
    root.sh("dkms build quick/1 -k $OLD/x -k $K -a y");
    root.says("dkms status", "quick/1, $OLD, x: built\nquick/1, $K, y: built\n");
    root.says("dkms status -k $OLD; dkms status -a y", "quick/1, $OLD, x: built\nquick/1, $K, y: built\n");
    root.sh("dkms remove quick/1 --all");
    // One is for all kernels.
    root.sh("dkms build quick/1 -k $OLD -k $K --arch z");
    root.says("dkms status", "quick/1, $OLD, z: built\nquick/1, $K, z: built\n");
    root.sh("dkms remove quick/1 --all");

    root.says(
        "dkms add quick/1 --no-initrd --no-clean-kernel --no-prepare-kernel",
        "\
Deprecated feature: --no-initrd
Deprecated feature: --no-clean-kernel
Deprecated feature: --no-prepare-kernel
Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1
",
    );
    root.says("dkms --version | grep -c '^dkms-3\\.'; dkms -V | grep -c '^dkms-3\\.'", "1\n1\n");
    root.sh("dkms --help --frobnicate && dkms -h");
}

#[test]
fn what_is_said_can_be_less_or_more() {
    // dkms 3.2.2 keeps to itself what commands print.
    let mut root = root(Layer::Ours);
    root.sh("dkms add quick/1");
    root.says("dkms build quick/1 -q; dkms status", "quick/1, $K, $A: built\n");
    root.fails("dkms build quick/1 --quiet --force --directive MAKE=false", 10, "");
    // From this word on.
    root.fails("dkms --no-initrd -q --no-clean-kernel install quick/2", 2, "Deprecated feature: --no-initrd\n");

    let verbose = "\
$SIGNING

echo hello
hello
 done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
";
    root.quick("quick", "MAKE='echo hello'");
    root.says("dkms build quick/1 --verbose --force", verbose);
    root.quick("quick", "MAKE='echo hello; exit 3'");
    root.write("/etc/dkms/framework.conf.d/verbose.conf", "verbose=yes");
    root.fails(
        "dkms build quick/1 -k $OLD",
        10,
        "\
$SIGNING

echo hello; exit 3
hello
(bad exit status: 3)
Error! Bad return status for module build on kernel: $OLD ($A)
Consult /var/lib/dkms/quick/1/build/make.log for more information.
",
    );
    root.says(
        "dkms install quick/1; dkms uninstall quick/1",
        "\
Installing /lib/modules/$K/updates/dkms/quick.ko
do_depmod $K
 done.
Module quick/1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/quick.ko
do_depmod $K
 done.
",
    );
}

#[test]
fn what_cannot_be_written_is_told_once_and_stops_nothing() {
    let mut root = root(Layer::Ours);
    root.sh("dkms add quick/1");
    let told = "dkms: cannot write to standard output: No space left on device (os error 28)\n";
    // Half a plan is an error, as no plan of Debian's was ever read.
    for (command, code) in [("status", 0), ("--version", 0), ("plan quick/1 --json", 1), ("install quick/1", 0)] {
        root.fails(&format!("dkms {command} 2>&1 >/dev/full"), code, told);
    }
    root.says("dkms status", "quick/1, $K, $A: installed\n");
    root.fails("/usr/lib/dkms/dkms_autoinstaller 2>&1 >/dev/full", 2, told);
    // Who goes away knows.
    root.says("{ sleep 1; dkms status; echo $? >&2; } 2>/srv/said | true; cat /srv/said", "0\n");
    // A pipe that does not block is full: its reader is waited for.
    root.write(
        "/srv/slow",
        "use Fcntl; pipe(R, W); fcntl(W, 1031, 4096); syswrite(W, 'x' x 4000);
         if (fork) { close W; sleep 1; print <R>; exit }
         open(STDOUT, '>&', \\*W); fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK); exec 'dkms', '--help'",
    );
    root.sh("perl /srv/slow | tail -c +4001 | cmp - <(dkms --help)");
}

#[test]
fn depmod_can_be_left_out() {
    let mut root = root(Layer::under_test());
    root.sh("dkms build quick/1; depmod $K");
    let before = root.sh("md5sum /lib/modules/$K/modules.*");
    // The words are those of any other installation.
    root.says(
        "dkms install quick/1 --no-depmod",
        "Installing /lib/modules/$K/updates/dkms/quick.ko\nRunning depmod... done.\n",
    );
    root.unchanged("md5sum /lib/modules/$K/modules.*", &before);
    root.says(
        "dkms status; depmod $K; modinfo -k $K -n quick",
        "quick/1, $K, $A: installed\n/lib/modules/$K/updates/dkms/quick.ko\n",
    );
    let before = root.sh("md5sum /lib/modules/$K/modules.*");
    root.says(
        "dkms uninstall quick/1 --no-depmod",
        "\
Module quick/1 for kernel $K ($A):
Before uninstall, this module version was ACTIVE on this kernel.
Deleting /lib/modules/$K/updates/dkms/quick.ko
Running depmod... done.
",
    );
    root.unchanged("md5sum /lib/modules/$K/modules.*", &before);
}

#[test]
fn another_conf_configuration_and_headers_may_be_named() {
    let mut root = root(Layer::under_test());
    root.sh("cd /root && sed 's/MAKE=.*/MAKE=\"echo other\"/' /usr/src/quick-1/dkms.conf >other.conf && dkms add quick/1 -c other.conf");
    root.says("dkms build quick/1", BUILT);
    root.says(COMMAND, "true\n");
    root.says("cd /root && dkms build quick/1 --force -c other.conf", BUILT);
    root.says(COMMAND, "echo other\n");
    root.fails(
        "dkms build quick/1 --force -c /nowhere/else",
        4,
        "\nError! Could not locate dkms.conf file.\nFile: /nowhere/else does not exist.\n",
    );
    root.sh("echo AUTOINSTALL=maybe >>/root/other.conf");
    root.fails(
        "dkms build quick/1 --force -c /root/other.conf",
        8,
        "\
dkms.conf: Error! Unsupported AUTOINSTALL value 'maybe'

Error! Bad conf file.
File: /root/other.conf does not represent a valid dkms.conf file.
",
    );

    root.sh("echo CONFIG_MINE=y >/root/config");
    let excluded = "\
Warning: The /var/lib/dkms/quick/1/$K/$A/dkms.conf
for module quick/1 includes BUILD_EXCLUSIVE directives
which do not match this kernel/arch/config for any modules.
This indicates that it should not be built.
";
    root.quick(
        "quick",
        "BUILD_EXCLUSIVE_CONFIG='CONFIG_MINE !CONFIG_MODULES'\nMAKE=\"echo $kernel_config $kernel_source_dir\"",
    );
    root.fails("dkms build quick/1 --force", 77, excluded);
    for config in ["/root/config", "/nowhere"] {
        root.sh(&format!("dkms build quick/1 --force --config {config}"));
        root.says(COMMAND, &format!("echo {config} /lib/modules/$K/build\n"));
    }

    root.quick("quick", "unset MAKE");
    root.write("/usr/src/quick-1/Makefile", "obj-m :=\nall:");
    root.sh(
        "ln -s /lib/modules/$OLD/build /srv/headers; dkms build quick/1 --force -j 1 --kernelsourcedir=/srv/headers",
    );
    root.says(COMMAND, "make -j1 KERNELRELEASE=$K -C /srv/headers M=/var/lib/dkms/quick/1/build\n");
    root.quick("quick", "MAKE=\"echo $kernel_config $kernel_source_dir\"");
    root.sh("dkms build quick/1 --force --kernelsourcedir /srv/headers");
    root.says(COMMAND, "echo /srv/headers/include/config/auto.conf /srv/headers\n");
}

#[test]
fn directives_beat_all_files() {
    let mut root = root(Layer::under_test());
    root.sh("dkms add quick/1; echo 'MAKE=\"echo override\"' >/etc/dkms/quick.conf");
    root.says(
        "dkms build quick/1 --directive MAKE='echo \"a  b\" $MINE' --directive MINE=mine",
        &format!("DIRECTIVE: MAKE=\"echo \"a  b\" $MINE\"\nDIRECTIVE: MINE=\"mine\"\n{BUILT}"),
    );
    root.says("sed -n '5,6p' /var/lib/dkms/quick/1/$K/$A/log/make.log", "# command: echo \"a  b\" $MINE\na  b mine\n");
    // One without a value has its name for that.
    root.says("dkms build quick/1 --force --directive MINE | head -n 1", "DIRECTIVE: MINE=\"MINE\"\n");
    // By the environment, after every file; the command line is stronger.
    root.sh("DKMS_DIRECTIVE=MAKE=uname dkms build quick/1 --force");
    root.says(COMMAND, "uname\n");
    root.sh("DKMS_DIRECTIVE_2=MAKE=false dkms build quick/1 --force --directive=MAKE=uname");
    root.says(COMMAND, "uname\n");
    // Nobody below is misled: $(MAKE) is make.
    root.write("/usr/src/quick-1/Makefile", "all:\n\t@$(MAKE) inner\ninner:\n\t@echo inner");
    root.sh("dkms build quick/1 --force --directive 'MAKE=make all'");
    root.says("grep -c '^inner$' /var/lib/dkms/quick/1/$K/$A/log/make.log", "1\n");
    // What is no name is told and left out.
    let output = root.run("dkms build quick/1 --force --directive 'MAKE[0]=false'");
    assert_eq!((output.code, output.text.contains("`MAKE[0]")), (0, true), "{output:?}");
    root.says(COMMAND, "echo override\n");

    // Scripts see what belongs to nobody else.
    root.quick("quick", "PRE_INSTALL=script");
    root.write("/usr/src/quick-1/script", "#!/bin/sh\necho MINE=$MINE MAKE=$MAKE");
    root.says(
        "chmod 755 /usr/src/quick-1/script; dkms install quick/1 --directive MINE=mine --directive MAKE=true",
        "\
DIRECTIVE: MINE=\"mine\"
DIRECTIVE: MAKE=\"true\"
Running the pre_install script:
MINE=mine MAKE=
Installing /lib/modules/$K/updates/dkms/quick.ko
Running depmod... done.
",
    );
}

#[test]
fn jobs_are_as_many_as_said_or_set_or_there_are() {
    let mut root = root(Layer::under_test());
    root.quick("quick", "MAKE='make --version'");
    root.sh("dkms add quick/1");
    let mut jobs = |command: &str, expected: &str| {
        root.sh(&format!("{command} --force"));
        root.says(COMMAND, &format!("make {expected} KERNELRELEASE=$K --version\n"));
    };
    jobs("dkms build quick/1", "-j$J");
    jobs("dkms build quick/1 -j 7", "-j7");
    jobs("dkms build quick/1 -j 0", "-j");
    jobs("parallel_jobs=3 dkms build quick/1", "-j3");
    jobs("parallel_jobs=3 dkms build quick/1 -j 5", "-j5");
    jobs("echo parallel_jobs=4 >/etc/dkms/framework.conf.d/jobs.conf; dkms build quick/1", "-j4");
    jobs("parallel_jobs=3 dkms build quick/1 -j 2", "-j2");
}

#[test]
fn trees_may_be_elsewhere() {
    let mut root = root(Layer::under_test());
    root.sh("mkdir -p /srv/tree /srv/src /srv/lib/modules/$OLD && mv /usr/src/quick-1 /srv/src");
    root.sh("ln -s /usr/src/linux-headers-$OLD /srv/lib/modules/$OLD/build");
    let installed = "\
Creating symlink /srv/tree/quick/1/source -> /srv/src/quick-1

$SIGNING

Building module(s)... done.
Signing module /srv/tree/quick/1/build/quick.ko
Installing /srv/lib/modules/$OLD/updates/dkms/quick.ko
Running depmod... done.
";
    let options = "--dkmstree=/srv/tree --sourcetree /srv/src --installtree /srv/lib/modules";
    root.says(&format!("dkms install quick/1 -k $OLD {options}"), installed);
    root.says(&format!("dkms status {options}; dkms status"), "quick/1, $OLD, $A: installed\n");
    root.says("ls /srv/lib/modules/$OLD/updates/dkms", "quick.ko\n");
    root.sh(&format!("dkms remove quick/1 --all {options}"));
    root.says("find /srv/tree /srv/lib/modules/$OLD -mindepth 1", "/srv/lib/modules/$OLD/build\n");

    let settings = "dkms_tree=/srv/tree\nsource_tree=/srv/src\ninstall_tree=/srv/lib/modules";
    root.write("/etc/dkms/framework.conf.d/trees.conf", settings);
    root.says("dkms install quick/1 -k $OLD", installed);
    // Who says something else is believed.
    root.says("dkms status; dkms status --dkmstree /var/lib/dkms", "quick/1, $OLD, $A: installed\n");
    root.fails(
        "dkms add quick/1 --dkmstree /var/lib/dkms --sourcetree /usr/src",
        2,
        "\nError! Could not find module source directory.\nDirectory: /usr/src/quick-1 does not exist.\n",
    );
}

#[test]
fn words_are_told_of_in_their_order() {
    let mut root = root(Layer::under_test());
    root.sh("dkms add quick/1");
    let unhandled = |word: &str| format!("Warning: I do not know how to handle {word}.\n");
    let two = "\nError! Cannot specify more than one action.\n";
    let unknown = "\nError! Unknown option: --frobnicate\n";
    for (words, code, said) in [
        ("add build --frobnicate", 4, two.to_owned()),
        ("--frobnicate add build", 2, unknown.to_owned()),
        ("add build --help", 4, two.to_owned()),
        ("status quick further --frobnicate", 2, format!("{}{unknown}", unhandled("further"))),
        (
            "status quick a --no-initrd b",
            0,
            format!("{}Deprecated feature: --no-initrd\n{}", unhandled("a"), unhandled("b")),
        ),
        ("status quick a -q b", 0, unhandled("a")),
        // An option may come after the name, and then counts; a second name does not.
        ("status -m other quick/1", 0, unhandled("quick/1")),
        ("status quick/1 -m other", 0, String::new()),
        ("status quick/1 -v 2", 0, String::new()),
    ] {
        root.fails(&format!("dkms {words} 2>&1 >/dev/null"), code, &said);
    }
    root.says(
        "dkms status quick/2 -v 1; dkms status -v 1 quick/2; dkms status -m '' quick",
        &"quick/1: added\n".repeat(2),
    );
}

#[test]
fn of_several_contradictions_the_first_is_told() {
    let mut root = root(Layer::under_test());
    // Each command has all faults of those after it in the list, as far as they go together.
    for (words, code, said) in [
        ("build build --all -k 1 -a x -a y --binaries-only --source-only", 4, "Cannot specify more than one action."),
        ("build --all -k 1 -a x -a y --binaries-only --source-only", 8, "You have specified both"),
        ("build --all -k 1 -a x -a y", 1, "If more than one arch is specified"),
        ("build --all -k 1 -a x", 2, "You cannot specify a kernel version and also specify"),
        ("build --all -a x", 3, "You cannot specify an arch and also specify"),
        ("kernel_prerm --all -k 1", 2, "You cannot specify a kernel version and also specify"),
        ("autoinstall -k 1 -k 2 -a x -a y -a z", 1, "If more than one arch is specified"),
        ("autoinstall -k '' -k ''", 16, "Empty kernelver[0]"),
        ("kernel_prerm -k '' -k ''", 4, "The action kernel_prerm requires exactly one kernel version parameter"),
        ("match -k 1 -k 2", 4, "The action match does not support multiple kernel version parameters"),
        ("build --all", 5, "The action build does not support the --all parameter."),
        ("build -k '' -a ''", 16, "Empty kernelver[0]"),
        ("kernel_prerm -k ''", 16, "Empty kernelver[0]"),
        ("build", 1, "Arguments <module> and <module-version> are not specified."),
    ] {
        let output = root.run(&format!("dkms {words}"));
        assert!(output.code == code && output.text.starts_with(&format!("\nError! {said}")), "{words}: {output:?}");
    }
}

#[test]
fn what_is_gone_is_unknown() {
    let mut root = root(Layer::under_test());
    for option in [
        "--spec=x",
        "--distro=x",
        "--release=x",
        "--media=x",
        "--size",
        "--legacy-postinst=1",
        "--dkmsframework=/dev/null",
    ] {
        root.fails(
            &format!("dkms status {option} 2>&1 >/dev/null"),
            2,
            &format!("\nError! Unknown option: {option}\n"),
        );
    }
    for action in ["mkkmp", "mkdriverdisk"] {
        for words in [action.to_owned(), format!("{action} -m quick -v 1")] {
            let output = root.run(&format!("dkms {words} 2>&1 >/dev/null"));
            assert!(
                output.code == 0 && output.text.ends_with("\nError! Unknown action specified: \"\"\n"),
                "{output:?}"
            );
        }
    }
    root.says("dkms add quick/1 >/dev/null; ls -A /var/lib/dkms", "mok.key\nmok.pub\nquick\n");
}

#[test]
fn the_version_says_whose_behaviour_it_is() {
    let mut root = root(Layer::Ours);
    let version = format!("dkms-3.4.3+rs{}", env!("CARGO_PKG_VERSION"));
    root.says("dkms -V; dkms status --version", &format!("{version}\n{version}\n"));
    root.sh("dkms build quick/1");
    root.says(
        "head -n 1 /var/lib/dkms/quick/1/$K/$A/log/make.log",
        &format!("DKMS ({version}) make.log for quick/1 for kernel $K ($A)\n"),
    );
}

#[test]
fn variables_named_like_settings_do_not_leak_in() {
    let mut root = root(Layer::under_test());
    root.sh("find /lib/modules/$K/kernel -name '*.ko' -exec gzip -f {} + && depmod $K");
    let variables = "dkms_tree=/nowhere source_tree=/nowhere install_tree=/nowhere verbose=1 symlink_modules=1 \
                     compress_gzip_opts=--nonsense PACKAGE_NAME=other MAKE=false AUTOINSTALL=yes kernelver=9 module=other";
    root.says(
        &format!("{variables} dkms install quick/1"),
        &format!(
            "\
Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1

{BUILT}Installing /lib/modules/$K/updates/dkms/quick.ko.gz
Running depmod... done.
"
        ),
    );
    root.says(
        "cd /lib/modules/$K/updates/dkms && stat -c %F quick.ko.gz && gzip -t quick.ko.gz; AUTOINSTALL=yes dkms autoinstall",
        "regular file\n",
    );
}
