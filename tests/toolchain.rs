// SPDX-License-Identifier: GPL-2.0-or-later

//! Modules built by the compiler of their kernel, which is not always the machine's.

use crate::same_ko::same_sections;
use crate::support::{Layer, Root};

/// Headers of a small kernel, as clang and lld would leave them: of the source only what they are made of.
const BY_CLANG: &str = r#"
set -e -o pipefail
apt-get -qq -y install clang lld llvm flex bison bc libelf-dev
mkdir /srv/kernel && cd /srv/kernel
source=linux-source-$SERIES
parts=(Makefile Kbuild include scripts arch/x86 kernel/bounds.c kernel/time/timeconst.bc)
parts+=(tools/{Makefile,arch,build,include,lib,objtool,scripts} Kconfig '*/Kconfig*')
dpkg --fsys-tarfile /var/cache/apt/archives/${source}_*.deb | tar -xO ./usr/src/$source.tar.xz |
    tar -xJ --strip-components=1 --wildcards "${parts[@]/#/$source/}"
printf '%s\n' CONFIG_64BIT=y CONFIG_MODULES=y 'CONFIG_LOCALVERSION="-clang"' >few.config
make -s LLVM=1 KCONFIG_ALLCONFIG=few.config tinyconfig
make -s -j2 LLVM=1 modules_prepare
# Nobody built the kernel that would export it.
printf '0x00000000\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n' >Module.symvers
release=$(cat include/config/kernel.release)
mkdir /lib/modules/$release
ln -s /srv/kernel /lib/modules/$release/build
"#;

#[test]
fn modules_for_a_kernel_of_clang_and_lld_are_built_by_these() {
    let prepared = |layer| {
        let mut root = Root::with(layer, &[]);
        root.sh(&root.expand(BY_CLANG));
        root
    };
    let (mut ours, mut peer) = std::thread::scope(|scope| {
        let peer = scope.spawn(|| prepared(Layer::Peer));
        (prepared(Layer::Ours), peer.join().expect("prepared"))
    });
    let kernel = ours.sh("cat /srv/kernel/include/config/kernel.release");
    let kernel = kernel.trim_end();
    let installed = &format!("/lib/modules/{kernel}/updates/dkms/hello.ko");
    for root in [&mut ours, &mut peer] {
        root.source("hello-0.1");
        root.sh(
            "echo PRE_BUILD=variables >>/usr/src/hello-0.1/dkms.conf; sed -i /CLEAN/d /usr/src/hello-0.1/dkms.conf",
        );
        root.write("/usr/src/hello-0.1/variables", "#!/bin/sh\nenv | grep -E '^(KERNEL_)?(CC|LD)=' | sort");
        root.write("/usr/local/bin/llvm-strip", "#!/bin/sh\necho llvm-strip $1\nexec /usr/bin/llvm-strip \"$@\"");
        root.sh("chmod 755 /usr/src/hello-0.1/variables /usr/local/bin/llvm-strip");
        root.says(
            &format!("dkms install hello/0.1 -k {kernel}"),
            &format!(
                "\
Creating symlink /var/lib/dkms/hello/0.1/source -> /usr/src/hello-0.1

The kernel is built without module signing facility, modules won't be signed

Running the pre_build script... done.
Building module(s)... done.
llvm-strip -g
Installing {installed}
Running depmod... done.
"
            ),
        );
        root.says(
            &format!("grep -E '^# command: make|^(KERNEL_)?(CC|LD)=' /var/lib/dkms/hello/0.1/{kernel}/$A/log/make.log"),
            &format!(
                "\
CC=clang
KERNEL_CC=clang
KERNEL_LD=ld.lld
LD=ld.lld
# command: make -j$J KERNELRELEASE={kernel} all KVERSION={kernel} LLVM=1
"
            ),
        );
        root.says(&format!("modinfo -F vermagic {installed} | cut -d' ' -f1"), &format!("{kernel}\n"));
        let comment = root.sh(&format!("readelf -p .comment {installed}"));
        assert!(comment.contains("clang version") && !comment.contains("GCC"), "{comment}");
    }
    let module = format!("cat {installed}");
    assert!(same_sections(&ours.bytes(&module), &peer.bytes(&module)));
}

/// Programs that do what gcc does, and leave their name in the module.
fn another_gcc(root: &mut Root, name: &str) {
    root.write(&format!("/srv/{name}.h"), &format!("asm(\".ident \\\"by {name}\\\"\");"));
    root.write(
        &format!("/usr/local/bin/{name}"),
        &format!("#!/bin/sh\ncase $* in *hello.c) set -- -include /srv/{name}.h \"$@\" ;; esac\nexec gcc \"$@\""),
    );
    root.sh(&format!("chmod 755 /usr/local/bin/{name}"));
}

#[test]
fn a_makefile_finds_the_gcc_of_its_kernel_or_the_one_that_is_wished() {
    let built = "/var/lib/dkms/hello/0.1/$K/$A/module/hello.ko";
    let module = &format!("cat {built}");
    let by = &format!("readelf -p .comment {built} | grep -o 'by [a-z0-9-]*'; true");
    let [mut ours, mut peer] = [Layer::Ours, Layer::Peer].map(|layer| Root::with(layer, &[]));
    for root in [&mut ours, &mut peer] {
        root.sh("cp -r /usr/src/linux-headers-$K /srv/headers && cp -r /srv/tests/modules/hello-0.1 /usr/src");
        root.sh("sed -i 's/^\\(CONFIG_CC_VERSION_TEXT\\)=.*/\\1=gcc-3 (Debian 3.4) 3.4/' /srv/headers/include/config/auto.conf");
        root.sh("sed -i '/CLEAN/d; s/ KVERSION.*/\"/' /usr/src/hello-0.1/dkms.conf");
        root.write(
            "/usr/src/hello-0.1/Makefile",
            "obj-m := hello.o\nall:\n\t$(MAKE) -C /srv/headers M=$(CURDIR) CC=$(CC) modules",
        );
        root.sh("dkms add hello/0.1");
        another_gcc(root, "gcc-3");
    }
    for found in [true, false] {
        for root in [&mut ours, &mut peer] {
            root.sh("dkms build hello/0.1 --force --kernelsourcedir /srv/headers");
            root.says(by, if found { "by gcc-3\n" } else { "" });
            root.fails("grep LLVM /var/lib/dkms/hello/0.1/$K/$A/log/make.log", 1, "");
            root.sh("rm -f /usr/local/bin/gcc-3");
        }
        assert!(same_sections(&ours.bytes(module), &peer.bytes(module)));
    }
    // The administrator's word counts more. dkms 3.2.2 does not know of it.
    another_gcc(&mut ours, "gcc-3");
    another_gcc(&mut ours, "wished-gcc");
    ours.write("/srv/environment", "export CC=wished-gcc");
    ours.sh("build_environment=/srv/environment dkms build hello/0.1 --force --kernelsourcedir /srv/headers");
    ours.says(by, "by wished-gcc\n");
}
