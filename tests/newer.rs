// SPDX-License-Identifier: GPL-2.0-or-later

//! Kernels from 6.13 on, on Debian 13: they compile in the module's directory, and the Makefile of their headers says where
//! it stands.

use crate::support::{Layer, Root, prepare};

/// A Debian 13 with our package and the module `marked`, and a second kernel that is a respin of the first: nothing but
/// its name is another. Both are in `$kernels`.
fn newer() -> Root {
    // It brings our package.
    prepare(Layer::Ours);
    let mut root = Root::with(Layer::Newer, &[]);
    root.sh("cd /srv/newer && mount --rbind /dev dev && mount --rbind /sys sys && mount -t proc proc proc \
         && cp /var/cache/apt/archives/dkms-rs-under-test.deb root/");
    root.write(
        "/srv/newer/root/set-up",
        r#"set -e
dpkg -i /root/dkms-rs-under-test.deb
kernel=$(cat /etc/throwaway-kernels) abi=${kernel%-*} flavour=${kernel##*-}
cd /usr/src
for part in $flavour common; do cp -a linux-headers-$abi-$part linux-headers-$abi.1-$part; done
grep -rlIF $abi- linux-headers-$abi.1-$flavour | xargs sed -i s/$abi-/$abi.1-/g
mkdir /lib/modules/$abi.1-$flavour
ln -s /usr/src/linux-headers-$abi.1-$flavour /lib/modules/$abi.1-$flavour/build
mkdir marked-1
cd marked-1
printf '%s=%s\n' PACKAGE_NAME marked PACKAGE_VERSION 1 BUILT_MODULE_NAME marked DEST_MODULE_LOCATION /updates >dkms.conf
printf '%s\n' 'obj-m := marked.o' 'marked-y := one.o two.o' >Makefile
printf '%s\n' '#include <linux/module.h>' 'MODULE_LICENSE("GPL");' >one.c
printf '%s\n' '#include <linux/netdevice.h>' 'const char mark[] = "mark " MARK;' >two.c
echo '#define MARK "one"' >>/usr/src/linux-headers-$abi.1-common/include/linux/netdevice.h
echo '#define MARK "one"' >>/usr/src/linux-headers-$abi-common/include/linux/netdevice.h
dkms add marked/1"#,
    );
    inside(&mut root, "bash /root/set-up >/root/said 2>&1 || { cat /root/said; exit 1; }");
    root
}

/// Runs a command in that Debian; `$KERNEL` is its kernel and `$RESPIN` the other one.
#[track_caller]
fn inside(root: &mut Root, command: &str) -> String {
    let kernels = "KERNEL=$(cat /etc/throwaway-kernels); RESPIN=${KERNEL%-*}.1-${KERNEL##*-}";
    root.sh(&format!("chroot /srv/newer bash -c '{kernels}; {command}'"))
}

/// How often ccache had to compile since it was asked last.
fn misses(root: &mut Root) -> String {
    inside(
        root,
        "export CCACHE_DIR=$(echo /var/cache/dkms/ccache/marked/*); ask() { setpriv --reuid _dkms --clear-groups ccache $*; }; \
         ask --print-stats | grep -P ^cache_miss; ask -z >/dev/null",
    )
}

#[test]
fn a_respin_compiles_what_names_it_and_nothing_else() {
    let mut root = newer();
    inside(&mut root, "dkms build marked/1 -k $KERNEL");
    let cold = misses(&mut root);
    inside(&mut root, "dkms build marked/1 -k $RESPIN");
    assert_eq!(misses(&mut root), "cache_miss\t0\n", "but for the .mod.c; before: {cold}");
    assert_ne!(cold, "cache_miss\t0\n");
    inside(
        &mut root,
        "[ \"$(modinfo -F vermagic /var/lib/dkms/marked/1/$RESPIN/*/module/marked.ko | cut -d\" \" -f1)\" = $RESPIN ]",
    );
    // And it is what would have been compiled.
    inside(
        &mut root,
        "cp -r /var/lib/dkms/marked/1/$RESPIN /root/warm; echo compile_cache=no >/etc/dkms/framework.conf.d/off.conf
         dkms build marked/1 -k $RESPIN --force >/dev/null; rm /etc/dkms/framework.conf.d/off.conf
         cmp /root/warm/*/module/marked.ko /var/lib/dkms/marked/1/$RESPIN/*/module/marked.ko",
    );
    // So it is where another version was compiled from the same files before, in another directory.
    inside(
        &mut root,
        "cp -r /usr/src/marked-1 /usr/src/marked-2; sed -i s/VERSION=1/VERSION=2/ /usr/src/marked-2/dkms.conf
         dkms build marked/2 -k $KERNEL >/dev/null
         cp -r /var/lib/dkms/marked/2/$KERNEL /root/second; echo compile_cache=no >/etc/dkms/framework.conf.d/off.conf
         dkms build marked/2 -k $KERNEL --force >/dev/null; rm /etc/dkms/framework.conf.d/off.conf
         cmp /root/second/*/module/marked.ko /var/lib/dkms/marked/2/$KERNEL/*/module/marked.ko",
    );
    // A header that changed is seen.
    inside(
        &mut root,
        "sed -i \"s/MARK.*one/&-and-two/\" /usr/src/linux-headers-${RESPIN%-*}-common/include/linux/netdevice.h
         dkms unbuild marked/1 -k $RESPIN && dkms build marked/1 -k $RESPIN >/dev/null
         grep -q one-and-two /var/lib/dkms/marked/1/$RESPIN/*/module/marked.ko",
    );
}

/// Names in kbuild's notes are from the module's directory there, which is often one in that of the build.
#[test]
fn what_reads_beside_its_directory_is_kept() {
    let mut root = newer();
    root.write(
        "/srv/newer/root/parted",
        r#"set -e
mkdir -p /usr/src/parted-1/src
cd /usr/src/parted-1
printf '%s=%s\n' PACKAGE_NAME parted PACKAGE_VERSION 1 BUILT_MODULE_NAME parted BUILT_MODULE_LOCATION src \
    DEST_MODULE_LOCATION /updates MAKE '"make -C $kernel_source_dir M=$dkms_tree/parted/1/build/src"' >dkms.conf
echo '#define MARK "one"' >own.h
echo 'obj-m := parted.o' >src/Makefile
printf '%s\n' '#include <linux/module.h>' '#include "../own.h"' 'const char mark[] = MARK;' 'MODULE_LICENSE("GPL");' >src/parted.c
dkms add parted/1
dkms build parted/1 -k $(cat /etc/throwaway-kernels)"#,
    );
    inside(&mut root, "bash /root/parted >/root/said 2>&1 || { cat /root/said; exit 1; }");
    inside(&mut root, "grep -l parted.ko /var/cache/dkms/results/*/manifest");
}
