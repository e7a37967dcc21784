// SPDX-License-Identifier: GPL-2.0-or-later

//! What a build is given, what configuration files see and cannot do, and how it is written down.

use crate::support::{Layer, Root};

fn root() -> Root {
    let mut root = Root::new();
    root.sh("dkms generate_mok");
    root
}

#[test]
fn a_build_has_the_compiler_of_its_kernel() {
    let mut root = root();
    root.quick("quick", "MAKE=env");
    root.sh("dkms add quick/1; mkdir /srv/headers && cp -rL /lib/modules/$K/build/include /srv/headers");
    // No compilers, but by their names.
    root.sh("cd /usr/local/bin && for name in clang ld.lld kernelcc; do ln -s $(type -P true) $name; done; ln -s $(type -P strip) llvm-strip");
    let config = "sed -i '/CONFIG_CC_/d;/CONFIG_LD_/d' /srv/headers/include/config/auto.conf && echo -e";
    for (settings, variables, command, expected) in [
        ("", "", "env", ""),
        ("CONFIG_CC_VERSION_TEXT=\"kernelcc (Debian) 12\"", "", "env", "CC=kernelcc\nKERNEL_CC=kernelcc\n"),
        ("CONFIG_CC_VERSION_TEXT=\"othercc (Debian) 12\"", "", "env", ""),
        ("", "CC := $(CCACHE)oldcc", "env", ""),
        ("", "CC := oldcc", "env", "CC=oldcc\n"),
        ("", "override CC = oldcc", "env", "CC=oldcc\n"),
        ("CONFIG_CC_VERSION_TEXT=\"kernelcc 12\"", "CC = oldcc", "env", "CC=kernelcc\nKERNEL_CC=kernelcc\n"),
        ("CONFIG_CC_IS_CLANG=y", "", "env LLVM=1", "CC=clang\nKERNEL_CC=clang\n"),
        (
            "CONFIG_CC_IS_CLANG=y\\nCONFIG_LD_IS_LLD=y",
            "",
            "env LLVM=1",
            "CC=clang\nKERNEL_CC=clang\nKERNEL_LD=ld.lld\nLD=ld.lld\n",
        ),
    ] {
        // The original asks make, which sees what is computed there.
        if variables.contains("CCACHE") && root.layer == Layer::Peer {
            continue;
        }
        root.sh(&format!(
            "{config} '{settings}' >>/srv/headers/include/config/auto.conf; rm -f /srv/headers/.kernelvariables"
        ));
        if !variables.is_empty() {
            root.write("/srv/headers/.kernelvariables", variables);
        }
        // Nothing of what the caller's shell has.
        root.sh(
            "CC=theirs CFLAGS=-O9 LDFLAGS=x CXX=y CXXFLAGS=z dkms build quick/1 --force --kernelsourcedir /srv/headers",
        );
        let log = "/var/lib/dkms/quick/1/$K/$A/log/make.log";
        root.says(
            &format!(
                "sed -n 's/^# command: //p' {log}; grep -E '^(CC|LD|KERNEL_|CFLAGS|LDFLAGS|CXX)[A-Z]*=' {log} | sort"
            ),
            &format!("{command}\n{expected}"),
        );
    }
}

#[test]
fn a_log_tells_what_was_run_and_how_it_went() {
    let mut root = root();
    root.quick("quick", "MAKE='echo out; echo error >&2; true'\nPRE_BUILD='script with words'");
    root.write("/usr/src/quick-1/script", "#!/bin/sh\nsleep 1.2");
    root.sh("chmod 755 /usr/src/quick-1/script; dkms build quick/1");
    let log = "/var/lib/dkms/quick/1/$K/$A/log/make.log";
    root.says(
        &format!("sed -E '1s/\\(dkms-3[^)]*\\)/(dkms-3)/; 2s/.* [0-9:]{{8}} .*/DATE/; s/00:00:0[1-9]/00:00:0N/' {log}"),
        "\
DKMS (dkms-3) make.log for quick/1 for kernel $K ($A)
DATE

Running the pre_build script
# command: cd /var/lib/dkms/quick/1/build/ && /var/lib/dkms/quick/1/build/script with words

# exit code: 0
# elapsed time: 00:00:0N
----------------------------------------------------------------

Building module(s)
# command: echo out; echo error >&2; true
out
error

# exit code: 0
# elapsed time: 00:00:00
----------------------------------------------------------------
",
    );
    root.says(&format!("head -n 1 {log} | grep -c \"($(dkms --version))\""), "1\n");
    root.says(&format!("stat -c '%a %U' {log} /var/lib/dkms/quick/1/$K/$A"), "644 root\n755 root\n");
}

#[test]
fn symbols_for_debugging_are_dropped_unless_that_is_forbidden() {
    let mut root = root();
    root.sh("cp -r /srv/tests/modules/apple-gmux-0.1 /usr/src && cd /usr/src/apple-gmux-0.1 && sed -i '1i ccflags-y := -g' Makefile");
    root.sh("dkms add apple-gmux/0.1");
    let debug = "objdump -h /var/lib/dkms/apple-gmux/0.1/$K/$A/module/*.ko | grep -c debug_info; true";
    for (strip, left) in
        [("", 0), ("STRIP=no", 1), ("STRIP=NEVER", 1), ("STRIP[0]=n", 1), ("STRIP=yes", 0), ("STRIP=maybe", 0)]
    {
        root.sh(&format!(
            "dkms build apple-gmux/0.1 --force --directive '{}'",
            if strip.is_empty() { "X=" } else { strip }
        ));
        if !strip.contains('[') {
            root.says(debug, &format!("{left}\n"));
        }
    }
}

#[test]
fn symbols_that_will_be_dropped_are_not_made_and_the_module_is_the_same() {
    let mut root = root();
    root.sh("cp -r /srv/tests/modules/apple-gmux-0.1 /usr/src && cd /usr/src/apple-gmux-0.1 && sed -i '1i $(info <$(filter -DA -DB -DC -g1,$(KBUILD_CFLAGS))>)' Makefile");
    root.sh("dkms add apple-gmux/0.1; sed '/CONFIG_DEBUG_INFO/d' /lib/modules/$K/build/include/config/auto.conf >/srv/without");
    root.write("/srv/environment", "export KCFLAGS='-O2 -DB'");
    let built = "cd /var/lib/dkms/apple-gmux/0.1/$K/$A && objcopy -R .note.gnu.build-id module/*.ko";
    for (before, options, expected) in [
        ("", "", "-g1"),
        ("export KCFLAGS=-DA; ", "", "-DA -g1"),
        ("echo build_environment=/srv/environment >/etc/dkms/framework.conf.d/x.conf; ", "", "-DB -g1"),
        ("", "--directive STRIP=no", "-DB"),
        ("rm /etc/dkms/framework.conf.d/x.conf; ", "--config /srv/without", ""),
        // What a package says itself stays alone; and it hears nothing of ours.
        (
            "",
            "--directive \"MAKE=env; make -C /lib/modules/$K/build M=/var/lib/dkms/apple-gmux/0.1/build KCFLAGS=-DC\"",
            "-DC",
        ),
    ] {
        root.sh(&format!("{before}dkms build apple-gmux/0.1 --force {options}"));
        root.says(
            "grep -o '^<.*>$' /var/lib/dkms/apple-gmux/0.1/$K/$A/log/make.log | uniq",
            &format!("<{expected}>\n"),
        );
        root.sh(&format!("{built} '/srv/made{expected}'"));
    }
    root.says("grep -c -e ^kernelver= -e ^KCFLAGS= /var/lib/dkms/apple-gmux/0.1/$K/$A/log/make.log", "1\n");
    root.sh("cmp /srv/made /srv/made-g1");
}

/// However it gives kbuild options by KCFLAGS, or asks whether there are any.
#[test]
fn a_package_that_gives_kbuild_options_has_them() {
    let mut root = root();
    root.write(
        "/usr/src/k-1/k.c",
        "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n#ifdef FOO\nconst char mark[] = \"FOO is here\";\n#endif",
    );
    let kbuild = "make -C $kernel_source_dir M=$dkms_tree/k/1/build";
    let wrapped = "ifeq ($(KERNELRELEASE),)\nmodules:\n\t$(MAKE) -C $(K) M=$(CURDIR) KCFLAGS+=-DFOO modules\nelse\nobj-m := k.o\nendif";
    for (makefile, make) in [
        ("obj-m := k.o", format!("{kbuild} KCFLAGS=-DFOO modules")),
        ("obj-m := k.o", format!("{kbuild} KCFLAGS+=-DFOO modules")),
        ("obj-m := k.o", format!("{kbuild} KCFLAGS:=-DFOO modules")),
        ("obj-m := k.o\nKCFLAGS := -DFOO\nccflags-y += $(KCFLAGS)", format!("{kbuild} modules")),
        ("obj-m := k.o\nKCFLAGS ?= -DFOO\nccflags-y += $(KCFLAGS)", format!("{kbuild} modules")),
        ("obj-m := k.o\nifndef KCFLAGS\nccflags-y += -DFOO\nendif", format!("{kbuild} modules")),
        (wrapped, "'make' K=$kernel_source_dir".into()),
    ] {
        root.write("/usr/src/k-1/Makefile", makefile);
        root.write(
            "/usr/src/k-1/dkms.conf",
            &format!(
                "PACKAGE_NAME=k\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=k\nDEST_MODULE_LOCATION=/updates\nMAKE=\"{make}\""
            ),
        );
        root.sh("dkms build k/1 -k $K --force");
        root.says("grep -c 'FOO is here' /var/lib/dkms/k/1/$K/$A/module/k.ko", "1\n");
    }
}

#[test]
fn configuration_files_see_their_surroundings_and_set_their_directives_only() {
    let mut root = root();
    root.write("/etc/dkms/framework.conf.d/hostile.conf", "mkdir() { echo mine; }; kernelver=9; cd /; HOME=/nowhere");
    root.quick(
        "quick",
        "cp() { echo mine; }; rm() { echo mine; }; dkms_tree=/nowhere; source_tree=/nowhere; install_tree=/nowhere\n\
         kernelver=9; arch=z; module=other; module_version=2; conf=x; shopt -s extglob; cd /",
    );
    root.says(
        "dkms install quick/1; dkms status",
        "\
Creating symlink /var/lib/dkms/quick/1/source -> /usr/src/quick-1

$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
Installing /lib/modules/$K/updates/dkms/quick.ko
Running depmod... done.
quick/1, $K, $A: installed
",
    );
    root.sh("dkms remove quick/1 --all; rm /etc/dkms/framework.conf.d/hostile.conf");

    let variables = "kernelver arch kernel_source_dir kernel_config dkms_tree source_tree install_tree tmp_location module \
                     module_version parallel_jobs action force running_distribution current_kernel current_os CC PACKAGE_NAME verbose conf";
    root.quick(
        "quick",
        &format!("for name in {variables}; do told+=\"${{!name}}, \"; done; told+=${{PWD}}; MAKE=\"echo $told\""),
    );
    root.sh("cd /srv; CC=gcc dkms build quick/1 -k $OLD -j 3");
    root.says(
        "sed -n 's/^# command: echo //p' /var/lib/dkms/quick/1/$OLD/$A/log/make.log",
        "$OLD, $A, /lib/modules/$OLD/build, /lib/modules/$OLD/build/include/config/auto.conf, /var/lib/dkms, /usr/src, \
         /lib/modules, /tmp, quick, 1, 3, build, , debian, $K, Linux, , quick, , , /srv\n",
    );
    root.sh("cp /usr/src/quick-1/dkms.conf /srv/other; dkms build quick/1 -k $OLD --force --verbose -c /srv/other");
    root.says(
        "sed -n 's/^# command: echo .*\\(build, .*\\)/\\1/p' /var/lib/dkms/quick/1/$OLD/$A/log/make.log",
        "build, true, debian, $K, Linux, , quick, true, /srv/other, /\n",
    );
}

#[test]
fn status_takes_patterns() {
    let mut root = root();
    root.quick("quick", "");
    root.quick("other", "");
    root.sh("for kernel in weird-kernel 6.0/i686; do dkms build quick/1 -k $kernel --kernelsourcedir /lib/modules/$K/build; done");
    root.sh("dkms build quick/1 && dkms add other/1");
    let (old, new) = ("quick/1, 6.0, i686: built\n", "quick/1, $K, $A: built\n");
    let weird = "quick/1, weird-kernel, $A: built\n";
    let (all, added) = (format!("{old}{new}"), "quick/1: added\n".to_owned());
    for (arguments, expected) in [
        ("", format!("other/1: added\n{all}")),
        ("'qu*'", all.clone()),
        ("-m 'q?ick' -v '[0-9]'", all.clone()),
        ("'q*/*'", all.clone()),
        // Which is none by its name, but for whoever asks for it.
        ("quick -k '*'", format!("{all}{weird}")),
        ("quick -k weird-kernel", weird.to_owned()),
        ("quick/1 -k '6*'", all.clone()),
        ("quick -a 'i*'", old.to_owned()),
        ("quick -k 6.0 -a $A", added.clone()),
        ("quick -k 6.0/i686 -k $K", format!("{old}{added}")),
        ("quick -k '6.0/i*'", old.to_owned()),
        ("quick/2", String::new()),
        ("nosuch", String::new()),
    ] {
        root.says(&format!("dkms status {arguments}"), &expected);
    }
    root.says("set -f; dkms status -k nosuch", "other/1: added\nquick/1: added\n");
    // What has no name of a kernel's is not removed with the others.
    root.says(
        "dkms remove quick/1 --all; dkms status quick; ls /var/lib/dkms/quick/1 | grep -v build",
        "\
Module quick/1 is not installed for kernel 6.0 (i686). Skipping...

Module quick/1 is not installed for kernel $K ($A). Skipping...

quick/1: added
source
weird-kernel
",
    );
}

#[test]
fn status_asks_a_dkms_conf_of_what_was_built_only() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("dkms add quick/1; echo 'echo complaint >&2' >>/usr/src/quick-1/dkms.conf");
    root.says("dkms status", "quick/1: added\n");
    root.sh("dkms build quick/1 -k $OLD");
    root.says("dkms status 2>/dev/null; dkms status 2>&1 >/dev/null", "quick/1, $OLD, $A: built\ncomplaint\n");
    root.says("dkms status -k $K", "quick/1: added\n");
}

#[test]
fn a_kernel_that_clang_made_is_known_by_its_image_or_its_configuration() {
    let mut root = root();
    root.quick("quick", "MAKE='echo made'");
    root.sh("dkms add quick/1; mkdir /srv/headers && cp -rL /lib/modules/$K/build/include /srv/headers");
    root.sh("cd /tmp && echo 'int x;' >x.c && gcc -c x.c && echo CONFIG_CC_IS_CLANG=y >>/srv/headers/include/config/auto.conf");
    let gcc = "cp /tmp/x.o /srv/headers/vmlinux";
    let clang = "printf 'clang version 19\\0' >/tmp/comment && objcopy --update-section .comment=/tmp/comment /tmp/x.o /srv/headers/vmlinux";
    // The image, where there is one, is believed.
    for (image, command) in [("true", "echo made LLVM=1"), (gcc, "echo made"), (clang, "echo made LLVM=1")] {
        root.sh(&format!("{image} && dkms build quick/1 --force --kernelsourcedir /srv/headers"));
        root.says("sed -n 's/^# command: //p' /var/lib/dkms/quick/1/$K/$A/log/make.log", &format!("{command}\n"));
    }
}

#[test]
fn what_stands_against_a_build_is_told_in_order() {
    let mut root = root();
    // Everything does; what was told is mended then.
    let faults = [
        ("DEST_MODULE_LOCATION=/bad", 8, "dkms.conf: Error! Directive 'DEST_MODULE_LOCATION' does not begin with"),
        ("BUILD_EXCLUSIVE_ARCH=none", 77, "Warning: The /var/lib/dkms/quick/1/$K/$A/dkms.conf"),
        ("", 8, "The directory /var/lib/dkms/quick/1/source does not appear to have module source located within it."),
        ("", 21, "Your kernel headers for kernel $K cannot be found"),
        ("BUILD_DEPENDS=nosuch", 13, "Aborting build of module quick/1"),
        ("PATCH=nosuch.patch", 5, "Patch nosuch.patch as specified in dkms.conf cannot be"),
        ("PRE_BUILD='script 9'", 9, "Running the pre_build script...(bad exit status: 9)"),
        ("MAKE=false", 10, "Bad return status for module build"),
        ("BUILT_MODULE_NAME=other", 7, "Build of other.ko failed"),
    ];
    root.quick("quick", "");
    root.sh("dkms add quick/1 && mv /usr/src/quick-1/quick.ko /srv && mv /lib/modules/$K/build/include /srv");
    for (index, (_, code, words)) in faults.iter().enumerate() {
        let left: Vec<&str> = faults[index..].iter().map(|fault| fault.0).collect();
        root.write(
            "/usr/src/quick-1/dkms.conf",
            &format!(
                "PACKAGE_NAME=quick\nPACKAGE_VERSION=1\nDEST_MODULE_LOCATION=/extra\nMAKE=true\n{}",
                left.join("\n")
            ),
        );
        match index {
            3 => {
                root.write("/usr/src/quick-1/script", "#!/bin/sh\nexit $1");
                root.sh("chmod 755 /usr/src/quick-1/script; mv /srv/quick.ko /usr/src/quick-1");
            }
            4 => drop(root.sh("mv /srv/include /lib/modules/$K/build/")),
            _ => {}
        }
        let output = root.run("dkms build quick/1");
        let told = root.expand(words);
        assert!(output.code == *code && output.text.contains(&told), "{words}: {output:?}");
        let others = faults[index + 1..].iter().find(|(.., words)| output.text.contains(&root.expand(words)));
        assert!(others.is_none(), "{others:?}: {output:?}");
    }
}

#[test]
fn a_script_after_the_build_finds_the_finished_modules_where_they_were_made() {
    let mut root = Root::new();
    root.sh("dkms generate_mok");
    root.quick("quick", "POST_BUILD=post\nDEST_MODULE_NAME=other\nBUILT_MODULE_LOCATION=sub\nMAKE='sh ./make'");
    root.write("/usr/src/quick-1/make", "mkdir sub; mv quick.ko sub");
    root.write("/usr/src/quick-1/post", "#!/bin/sh\nls sub\ncmp sub/quick.ko* ../$kernelver/$arch/module/other.ko*");
    root.sh("chmod 755 /usr/src/quick-1/post");
    let listed = |suffix: &str| {
        format!(
            "sed -n '/^# command.*post/,/^$/p' $LOG | grep ko; ls -A ${{LOG%/*}}/../module | grep -x other.ko{suffix}"
        )
    };
    let log = "LOG=/var/lib/dkms/quick/1/$K/$A/log/make.log";
    root.sh("dkms build quick/1");
    root.says(&format!("{log}; {}", listed("")), "quick.ko\nother.ko\n");
    root.sh("dkms unbuild quick/1; rm -rf /var/cache/dkms/*; touch /lib/modules/$K/kernel/x.ko.xz; dkms build quick/1");
    root.says(&format!("{log}; {}", listed(".xz")), "quick.ko.xz\nother.ko.xz\n");
}
