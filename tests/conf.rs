// SPDX-License-Identifier: GPL-2.0-or-later

//! What a package says in its dkms.conf, and what the administrator says instead.

use crate::support::{Layer, Root};

fn root() -> Root {
    let mut root = Root::new();
    root.sh("dkms generate_mok");
    root
}

/// The commands that the build of quick/1 for $OLD consisted of.
const COMMANDS: &str = "sed -n 's/^# command: //p' /var/lib/dkms/quick/1/$OLD/$A/log/make.log";

/// Where the modules of a package are, and there alone.
const INSTALLED: &str = "cd /lib/modules/$OLD/updates/dkms && ls";

#[test]
fn every_mistake_is_told_at_once() {
    let mut root = root();
    for (conf, words) in [
        ("PACKAGE_NAME=", "No 'PACKAGE_NAME' directive specified."),
        ("PACKAGE_VERSION=", "No 'PACKAGE_VERSION' directive specified."),
        (
            "BUILT_MODULE_NAME=quick.ko",
            "'BUILT_MODULE_NAME' directive ends in '.o' or '.ko' in record #0.\n\
             'DEST_MODULE_NAME' directive ends in '.o' or '.ko' in record #0.",
        ),
        ("DEST_MODULE_NAME=quick.o", "'DEST_MODULE_NAME' directive ends in '.o' or '.ko' in record #0."),
        ("DEST_MODULE_LOCATION=", "No 'DEST_MODULE_LOCATION' directive specified for record #0."),
        (
            "DEST_MODULE_LOCATION=/lib",
            "Directive 'DEST_MODULE_LOCATION' does not begin with\n '/kernel', '/updates', or '/extra' in record #0.",
        ),
        ("DEST_MODULE_LOCATION[1]=/extra", "No 'BUILT_MODULE_NAME' directive specified for record #1."),
        (
            "BUILT_MODULE_NAME[2]=third\nDEST_MODULE_LOCATION[2]=/extra\nAUTOINSTALL=maybe\nPACKAGE_NAME=",
            "No 'PACKAGE_NAME' directive specified.\n\
             No 'BUILT_MODULE_NAME' directive specified for record #1.\n\
             No 'DEST_MODULE_LOCATION' directive specified for record #1.\n\
             Unsupported AUTOINSTALL value 'maybe'",
        ),
        (
            "BUILT_MODULE_NAME[1]=quick\nDEST_MODULE_LOCATION[1]=/extra",
            "Duplicate module 'quick' in 'BUILT_MODULE_NAME[1]'.\nDuplicate module 'quick' in 'DEST_MODULE_NAME[1]'.",
        ),
        // These only where nothing else is wrong.
        (
            "BUILT_MODULE_NAME[1]=quick\nDEST_MODULE_LOCATION[1]=/extra\nAUTOINSTALL=maybe",
            "Unsupported AUTOINSTALL value 'maybe'",
        ),
        (
            "BUILT_MODULE_NAME[1]=other\nDEST_MODULE_NAME[1]=quick\nDEST_MODULE_LOCATION[1]=/extra",
            "Duplicate module 'quick' in 'DEST_MODULE_NAME[1]'.",
        ),
        (
            "AUTOINSTALL=1\nNO_WEAK_MODULES=true\nBUILD_DEPENDS_REBUILD=n",
            "Unsupported AUTOINSTALL value '1'\nUnsupported BUILD_DEPENDS_REBUILD value 'n'\n\
             Unsupported NO_WEAK_MODULES value 'true'",
        ),
    ] {
        root.quick("quick", conf);
        // A line that begins with a blank belongs to the one before.
        let lines: String = words
            .lines()
            .map(|line| {
                line.strip_prefix(' ').map_or(format!("dkms.conf: Error! {line}\n"), |rest| format!("{rest}\n"))
            })
            .collect();
        for action in ["add", "build", "install"] {
            root.fails(
                &format!("dkms {action} quick/1"),
                8,
                &format!("{lines}\nError! Bad conf file.\nFile: /usr/src/quick-1/dkms.conf does not represent a valid dkms.conf file.\n"),
            );
        }
        root.says("dkms status", "");
    }

    // One that was good when it was registered. Its name is not told then.
    root.quick("quick", "AUTOINSTALL=YES");
    root.sh("dkms add quick/1");
    root.quick("quick", "AUTOINSTALL=maybe");
    root.fails(
        "dkms build quick/1",
        8,
        "\
dkms.conf: Error! Unsupported AUTOINSTALL value 'maybe'

Error! Bad conf file.
File:  does not represent a valid dkms.conf file.
",
    );
}

#[test]
fn what_has_no_effect_is_told_by_who_reads_it_first() {
    let mut root = root();
    root.quick("quick", "unset BUILT_MODULE_NAME DEST_MODULE_LOCATION");
    root.says(
        "dkms add quick/1",
        "\
dkms.conf: Warning! Zero modules specified.
Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1
",
    );
    root.says(
        "dkms build quick/1",
        "dkms.conf: Warning! Zero modules specified.\n$SIGNING\n\nBuilding module(s)... done.\n",
    );
    root.says("dkms status", "quick/1, $K, $A: built\n");
    root.sh("dkms remove quick/1 --all");

    root.quick("quick", "CLEAN=/bin/true\nREMAKE_INITRD=no\nMODULES_CONF[3]='alias'\nMODULES_CONF_OBSOLETES=x\nMODULES_CONF_ALIAS_TYPE=x\nMODULES_CONF_OBSOLETE_ONLY=x");
    root.says(
        "dkms add quick/1",
        "\
Deprecated feature: REMAKE_INITRD (/usr/src/quick-1/dkms.conf)
Deprecated feature: MODULES_CONF (/usr/src/quick-1/dkms.conf)
Deprecated feature: MODULES_CONF_OBSOLETES (/usr/src/quick-1/dkms.conf)
Deprecated feature: MODULES_CONF_ALIAS_TYPE (/usr/src/quick-1/dkms.conf)
Deprecated feature: MODULES_CONF_OBSOLETE_ONLY (/usr/src/quick-1/dkms.conf)
Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1
",
    );
    root.says(
        "dkms autoinstall; dkms status; dkms remove quick/1 --all | tail -n 1",
        "quick/1: added\nDeleting module quick/1 completely from the DKMS tree.\n",
    );

    // What it prints is not heard, what it complains of is; lines may end as on DOS.
    root.quick("quick", "echo out; echo complaint >&2\nPRE_BUILD=\"missing\"\r");
    root.says("dkms add quick/1", "complaint\nCreating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1\n");
    root.says(
        "dkms build quick/1",
        "\
complaint
$SIGNING


Warning: The pre_build script is not executable.
Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
",
    );
}

#[test]
fn what_a_kernel_is_called_decides_on_commands_and_patches() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("dkms add quick/1; mkdir /usr/src/quick-1/patches");
    for patch in ["a", "b", "c"] {
        root.write(
            &format!("/usr/src/quick-1/patches/{patch}.patch"),
            &format!("--- /dev/null\n+++ x/{patch}\n@@ -0,0 +1 @@\n+x"),
        );
    }
    let generic = "make -j1 KERNELRELEASE=$OLD -C /lib/modules/$OLD/build M=/var/lib/dkms/quick/1/build\n";
    for (conf, commands) in [
        // The last that matches.
        ("MAKE=(a 'echo b' 'echo c' 'echo d')\nMAKE_MATCH=('^5' '^6' 'amd64$' '^7')", "echo c\n"),
        ("MAKE=('echo a' b)\nMAKE_MATCH[1]='^5'", "echo a\n"),
        ("MAKE=(a 'echo b' c)\nMAKE_MATCH=('^5' '^6')", "echo b\n"),
        ("unset MAKE", generic),
        ("MAKE=(a b)\nMAKE_MATCH=('^5' '^7')", generic),
        ("MAKE='make --version'", "make -j1 KERNELRELEASE=$OLD --version\n"),
        // Quotes keep it as it is, and so does anything in front.
        ("MAKE=\"'make' --version\"", "'make' --version\n"),
        ("MAKE='V=1 make --version'", "V=1 make --version\n"),
        ("MAKE='makeinfo --version || true'", "make -j1 KERNELRELEASE=$OLDinfo --version || true\n"),
        (
            "PATCH=(b.patch a.patch c.patch)\nPATCH_MATCH=('' '^5' '^6[.]')",
            "patch -p1 < ./patches/b.patch\npatch -p1 < ./patches/c.patch\ntrue\n",
        ),
        // Neither is one that cannot be read.
        ("PATCH=b.patch\nPATCH_MATCH='('", "true\n"),
    ] {
        root.quick("quick", conf);
        if commands == generic {
            root.write("/usr/src/quick-1/Makefile", "obj-m :=\nall:");
        }
        root.sh("dkms build quick/1 -k $OLD --force -j 1");
        root.says(COMMANDS, commands);
    }
}

#[test]
fn modules_of_a_package_may_be_meant_for_different_kernels() {
    // dkms 3.2.2 knows the directives of packages alone.
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok; echo CONFIG_MINE=m >/root/config");
    let three = "MAKE='cp quick.ko second.ko; cp quick.ko third.ko'\nDEST_MODULE_LOCATION=(/updates /updates /updates)\n\
                 BUILT_MODULE_NAME=(quick second third)";
    root.quick("quick", three);
    root.sh("dkms add quick/1");
    for (conf, modules) in [
        ("BUILD_EXCLUSIVE_ARCH[1]=arm", "quick.ko\nthird.ko\n"),
        ("BUILD_EXCLUSIVE_ARCH[1]=arm\nBUILD_EXCLUSIVE_KERNEL[2]=^5", "quick.ko\n"),
        ("BUILD_EXCLUSIVE_KERNEL_MIN[1]=99\nBUILD_EXCLUSIVE_KERNEL_MAX[2]=99", "quick.ko\nthird.ko\n"),
        (
            "BUILD_EXCLUSIVE_CONFIG[1]=CONFIG_MINE\nBUILD_EXCLUSIVE_CONFIG[2]='CONFIG_MODULES !CONFIG_MINE'",
            "quick.ko\nthird.ko\n",
        ),
        // The first one speaks for all.
        (
            "BUILD_EXCLUSIVE_KERNEL[0]='^[56]'\nBUILD_EXCLUSIVE_KERNEL[1]=^6\nBUILD_EXCLUSIVE_KERNEL[2]=^5",
            "quick.ko\nsecond.ko\n",
        ),
    ] {
        root.quick("quick", &format!("{three}\n{conf}"));
        root.sh("dkms install quick/1 -k $OLD");
        root.says(INSTALLED, modules);
        root.says(
            "cd /var/lib/dkms/quick/1/$OLD/$A/module && ls; dkms status",
            &format!("{modules}quick/1, $OLD, $A: installed\n"),
        );
        root.sh("dkms unbuild quick/1 -k $OLD");
    }
    // What is excluded need not be made.
    root.quick("quick", &format!("{three}\nMAKE=true\nBUILD_EXCLUSIVE_ARCH[1]=arm\nBUILD_EXCLUSIVE_ARCH[2]=arm"));
    root.sh("dkms install quick/1 -k $OLD");
    root.says(&format!("{INSTALLED}; dkms unbuild quick/1 -k $OLD >/dev/null"), "quick.ko\n");
    // Of another configuration.
    root.quick(
        "quick",
        &format!("{three}\nBUILD_EXCLUSIVE_CONFIG[1]=CONFIG_MINE\nBUILD_EXCLUSIVE_CONFIG[2]=CONFIG_MODULES"),
    );
    root.sh("dkms install quick/1 -k $OLD --config /root/config");
    root.says(INSTALLED, "quick.ko\nsecond.ko\n");
}

#[test]
fn the_administrators_files_beat_the_packages_the_more_special_the_more() {
    let mut root = root();
    root.quick("quick", "MAKE=\"echo for $kernelver\"");
    root.sh("dkms add quick/1");
    let mut expected = "echo for $OLD".to_owned();
    // Each sees what the others have made of it.
    for (file, text) in [
        ("quick", "M"),
        ("quick-1", "M-V"),
        ("quick-1-$OLD", "M-V-K"),
        ("quick-1-$OLD-$A", "M-V-K-A"),
        ("quick--$OLD", "M--K"),
        ("quick--$OLD-$A", "M--K-A"),
    ] {
        root.write(&format!("/etc/dkms/{file}.conf"), &format!("MAKE=\"$MAKE, {text} for $module/$module_version\""));
        expected += &format!(", {text} for quick/1");
        root.sh("dkms build quick/1 -k $OLD --force");
        root.says(COMMANDS, &format!("{expected}\n"));
    }
    root.sh("dkms build quick/1 --force && dkms build quick/1 -k $OLD/other");
    root.says(
        "grep -h '^# command' /var/lib/dkms/quick/1/$K/$A/log/make.log",
        "# command: echo for $K, M for quick/1, M-V for quick/1\n",
    );
    root.says(
        "sed -n 's/^# command.* \\(M-.*\\)/\\1/p' /var/lib/dkms/quick/1/$OLD/other/log/make.log",
        "M--K for quick/1\n",
    );
    // Of others nothing is read.
    root.sh(
        "rm /etc/dkms/quick*; echo 'MAKE=false' >/etc/dkms/other.conf; cp /etc/dkms/other.conf /etc/dkms/quick-2.conf",
    );
    root.sh("dkms build quick/1 -k $OLD --force");
    root.says(COMMANDS, "echo for $OLD\n");
}

#[test]
fn the_administrators_patches_and_scripts_are_taken_in_place_of_the_packages() {
    // dkms 3.2.2 does not look there.
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    let scripts = ["PRE_BUILD", "POST_BUILD", "POST_ADD", "PRE_INSTALL", "POST_INSTALL", "POST_REMOVE"];
    let conf = scripts.map(|script| format!("{script}='script {script}'\n")).concat();
    root.quick("quick", &format!("{conf}PATCH=mine.patch"));
    root.write("/usr/src/quick-1/script", "#!/bin/sh\nexit 1");
    root.write("/etc/dkms/quick/script", "#!/bin/sh\necho $0 $* in $PWD");
    root.write("/etc/dkms/quick/patches/mine.patch", "--- /dev/null\n+++ x/mine\n@@ -0,0 +1 @@\n+x");
    root.sh("chmod 755 /usr/src/quick-1/script /etc/dkms/quick/script");
    let ran = |script: &str| {
        format!("Running the {} script:\n/etc/dkms/quick/script {script} in /etc/dkms/quick\n", script.to_lowercase())
    };

    root.says(
        "dkms install quick/1",
        &format!(
            "\
Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1
{}
$SIGNING

Applying patch mine.patch... done.
Running the pre_build script... done.
Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
Running the post_build script... done.
{}Installing /lib/modules/$K/updates/dkms/quick.ko
{}Running depmod... done.
",
            ran("POST_ADD"),
            ran("PRE_INSTALL"),
            ran("POST_INSTALL")
        ),
    );
    root.says(
        "grep -A1 '^# command: cd' /var/lib/dkms/quick/1/$K/$A/log/make.log",
        "\
# command: cd /etc/dkms/quick/ && /etc/dkms/quick/script PRE_BUILD
/etc/dkms/quick/script PRE_BUILD in /etc/dkms/quick
--
# command: cd /etc/dkms/quick/ && /etc/dkms/quick/script POST_BUILD
/etc/dkms/quick/script POST_BUILD in /etc/dkms/quick
",
    );
    root.says("dkms uninstall quick/1 | sed -n '4,5p'", &ran("POST_REMOVE"));
    // One that cannot be run is none.
    root.sh("chmod 644 /etc/dkms/quick/script");
    root.fails("dkms install quick/1 >/dev/null 2>&1", 101, "");
}

#[test]
fn scripts_have_their_say() {
    let mut root = root();
    root.quick("quick", "");
    root.write("/usr/src/quick-1/script", "#!/bin/sh\necho \"$1 of $module for $kernelver\"\nexit $2");
    root.sh("chmod 755 /usr/src/quick-1/script; dkms add quick/1");
    let built = "$SIGNING\n\nBuilding module(s)... done.\nSigning module /var/lib/dkms/quick/1/build/quick.ko\n";
    let installed = "Installing /lib/modules/$OLD/updates/dkms/quick.ko\n";
    let failed = |script: &str, code: u8| {
        format!(
            "\
Running the {script} script...(bad exit status: {code})
Failed command:
cd /var/lib/dkms/quick/1/build/ && /var/lib/dkms/quick/1/build/script {script} {code}
Consult /var/lib/dkms/quick/1/build/make.log for more information.
"
        )
    };
    for (conf, options, code, words, status) in [
        ("PRE_BUILD='script pre_build 3'", "", 3, format!("$SIGNING\n\n{}", failed("pre_build", 3)), "quick/1: added"),
        (
            "POST_BUILD='script post_build 4'",
            "",
            4,
            format!("{built}{}", failed("post_build", 4)),
            "quick/1, $OLD, $A: built",
        ),
        (
            "PRE_INSTALL='script before 5'",
            "",
            101,
            format!(
                "{built}Running the pre_install script:\nbefore of quick for $OLD\n\n\
                 Error! pre_install failed, aborting install.\nYou may override by specifying --force.\n"
            ),
            "quick/1, $OLD, $A: built",
        ),
        (
            "PRE_INSTALL='script before 5'",
            "--force",
            0,
            format!(
                "{built}Running the pre_install script:\nbefore of quick for $OLD\n{installed}Running depmod... done.\n"
            ),
            "quick/1, $OLD, $A: installed",
        ),
        (
            "POST_INSTALL='script after 6'\nPOST_REMOVE='script gone 7'",
            "",
            0,
            format!(
                "{built}{installed}Running the post_install script:\nafter of quick for $OLD\nRunning depmod... done.\n"
            ),
            "quick/1, $OLD, $A: installed",
        ),
    ] {
        root.quick("quick", conf);
        root.fails(&format!("dkms install quick/1 -k $OLD {options}"), code, &words);
        root.says("dkms status", &format!("{status}\n"));
        root.sh("dkms unbuild quick/1 -k $OLD; rm -rf /var/lib/dkms/quick/1/build/*");
    }

    // The exit code of one more is that of add, but not of what adds before it does its work.
    root.quick("quick", "POST_ADD='script new 8'");
    root.sh("dkms remove quick/1 --all");
    root.fails(
        "dkms add quick/1",
        8,
        "\
Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1
Running the post_add script:
new of  for 
",
    );
    root.says("dkms status; dkms remove quick/1 --all >/dev/null", "quick/1: added\n");
    root.sh("dkms install quick/1 -k $OLD");
}

#[test]
fn symbols_are_dropped_for_each_module_as_it_says_or_as_the_first() {
    let mut root = root();
    root.sh("cp -r /srv/tests/modules/apple-gmux-0.1 /usr/src/quick-1 && cd /usr/src/quick-1 && sed -i '1i ccflags-y := -g' Makefile");
    for (strip, left) in
        [("", ""), ("STRIP=no", "a b"), ("STRIP=(no yes)", "a"), ("STRIP=(y No)", "b"), ("STRIP[1]=n", "b")]
    {
        root.write(
            "/usr/src/quick-1/dkms.conf",
            &format!(
                "PACKAGE_NAME=quick\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=(a b)\nDEST_MODULE_LOCATION=(/extra /extra)\n{strip}\n\
                 MAKE=\"make -C $kernel_source_dir M=$dkms_tree/quick/1/build && cp apple-gmux.ko a.ko && mv apple-gmux.ko b.ko\""
            ),
        );
        root.sh("dkms build quick/1 --force");
        root.says(
            "cd /var/lib/dkms/quick/1/$K/$A/module && for m in a b; do objdump -h $m.ko | grep -q debug_info && echo $m; done | xargs",
            &format!("{left}\n"),
        );
    }
}

#[test]
fn scripts_are_told_of_the_kernel_where_there_is_one() {
    // dkms 3.2.2 tells those of an installation of the compiler only where it has built, too.
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    let scripts = ["PRE_BUILD", "POST_BUILD", "POST_ADD", "PRE_INSTALL", "POST_INSTALL", "POST_REMOVE"];
    let conf = scripts.map(|script| format!("{script}=script\n")).concat();
    root.quick("quick", &format!("{conf}MAKE=./script"));
    root.write(
        "/usr/src/quick-1/script",
        "#!/bin/sh\nenv | grep -E '^(kernelver|arch|module|module_version|CC|KERNEL_CC|LD|KERNEL_LD)=' | sort",
    );
    root.write("/root/config", "CONFIG_CC_IS_CLANG=y\nCONFIG_LD_IS_LLD=y");
    root.sh("chmod 755 /usr/src/quick-1/script; cd /usr/local/bin && for name in clang ld.lld; do ln -s $(type -P true) $name; done; ln -s $(type -P strip) llvm-strip");
    let module = "module=quick\nmodule_version=1\n";
    let all = format!("CC=clang\nKERNEL_CC=clang\nKERNEL_LD=ld.lld\nLD=ld.lld\narch=$A\nkernelver=$OLD\n{module}");

    root.says("dkms add quick/1 | tail -n +2", "Running the post_add script:\n");
    root.sh("dkms build quick/1 -k $OLD --config /root/config");
    root.says("grep -E '^[[:alnum:]_]+=' /var/lib/dkms/quick/1/$OLD/$A/log/make.log", &all.repeat(3));
    root.says(
        "dkms install quick/1 -k $OLD --config /root/config",
        &format!(
            "Running the pre_install script:\n{all}Installing /lib/modules/$OLD/updates/dkms/quick.ko\n\
             Running the post_install script:\n{all}Running depmod... done.\n"
        ),
    );
    root.says(
        "dkms uninstall quick/1 -k $OLD | tail -n 2",
        "Running the post_remove script:\nRunning depmod... done.\n",
    );
    root.sh("dkms install quick/1 -k $OLD");
    root.says(
        "dkms kernel_prerm -k $OLD 2>/dev/null | grep -A 2 script",
        &format!("Running the post_remove script:\n{module}"),
    );
}
