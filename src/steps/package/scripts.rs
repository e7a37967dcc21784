// SPDX-License-Identifier: GPL-2.0-or-later
//! Maintainer scripts.

use crate::model::module::{Id, Target};
use crate::system::shell::quoted;

/// Registers and installs the package's module, as dh_dkms(1) has packages do it: whichever dkms is installed serves it.
pub fn dkms_postinst(package: &str, id: &Id) -> String {
    let (name, version) = (quoted(&id.name), quoted(&id.version));
    format!(
        r#"#!/bin/sh
set -e

case "$1" in
    configure)
        if [ ! -f /usr/lib/dkms/common.postinst ]; then
            echo "{package}: there is no /usr/lib/dkms/common.postinst; try: apt install --reinstall dkms" >&2
            exit 1
        fi
        /usr/lib/dkms/common.postinst {name} {version} /usr/share/{package} "" "$2"
        ;;
esac
"#
    )
}

/// Takes the module out of all kernels before its source goes.
pub fn dkms_prerm(id: &Id) -> String {
    let (name, version) = (quoted(&id.name), quoted(&id.version));
    format!(
        r#"#!/bin/sh
set -e

case "$1" in
    remove|upgrade|deconfigure)
        if [ "$(dkms status -m {name} -v {version})" ]; then
            dkms remove -m {name} -v {version} --all
        fi
        ;;
esac
"#
    )
}

/// Registers and installs the module of one of rpm's packages, at the end of rpm's work.
///
/// An upgrade runs %post before the %preun of the package that goes: a version that is not newer could not be installed
/// yet, and the same version would be taken away again. Whichever dkms is installed serves it.
pub fn rpm_posttrans(package: &str, id: &Id) -> String {
    let (name, version) = (quoted(&id.name), quoted(&id.version));
    let tarball = quoted(&format!("/usr/share/{package}/{}.dkms.tar.gz", id.dashed()));
    format!(
        r#"if [ -e /usr/lib/dkms/common.postinst ]; then
    exec /usr/lib/dkms/common.postinst {name} {version} /usr/share/{package}
fi

if [ "$(dkms status -m {name} -v {version})" ]; then
    dkms remove -m {name} -v {version} --all
fi
if [ -e {tarball} ]; then
    dkms ldtarball --archive={tarball} || exit
else
    dkms add -m {name} -v {version} || exit
fi
code=0
for kernel in /lib/modules/*; do
    if [ -e "$kernel/build" ] || [ -d /var/lib/dkms/{name}/{version}/"${{kernel##*/}}" ]; then
        dkms install -m {name} -v {version} -k "${{kernel##*/}}" || case $? in
            # dkms.conf says that it is not for this kernel.
            77) ;;
            *) code=1 ;;
        esac
    fi
done
exit $code
"#
    )
}

/// Takes the module out of all kernels before its source goes.
///
/// It never fails: after an upgrade, a package that cannot go would be there twice. The option is for upgrades to somebody
/// else's package, which may have registered the same version in its %post.
pub fn rpm_preun(id: &Id) -> String {
    let (name, version) = (quoted(&id.name), quoted(&id.version));
    format!(
        r#"if [ "$(dkms status -m {name} -v {version})" ]; then
    dkms remove -m {name} -v {version} --all --rpm_safe_upgrade
fi
exit 0
"#
    )
}

/// A script of a package of built modules: what it does, and before that what is to be done when modules have come to a
/// kernel or gone: depmod, and the kernel's initramfs if it has one.
fn modules_script(target: &Target, what: &str) -> String {
    let release = quoted(&target.release);
    format!(
        r#"#!/bin/sh
set -e

kernel={release}
modules=/lib/modules/$kernel

refresh() {{
    depmod "$kernel"
    if [ -e "/boot/initrd.img-$kernel" ] && command -v update-initramfs >/dev/null; then
        update-initramfs -u -k "$kernel"
    fi
}}

{what}"#
    )
}

/// Makes built modules in these directories, written from the kernel's own on, known to their kernel.
///
/// Once for all packages that brought some, and not at all where the kernel itself has come after them: whoever runs
/// depmod takes in all that is there. dash's -nt compares whole seconds, so what is as old counts as older.
pub fn modules_postinst(target: &Target, dirs: &[&str]) -> String {
    let what = format!(
        r#"case "$1" in
    configure|triggered)
        for dir in {}; do
            if ! [ "$modules/modules.dep" -nt "$modules/$dir" ]; then
                refresh
                break
            fi
        done
        ;;
esac
"#,
        all_quoted(dirs)
    );
    modules_script(target, &what)
}

/// Makes it known that these modules went, unless somebody has, or the kernel went too.
pub fn modules_postrm(target: &Target, modules: &[&str]) -> String {
    let what = format!(
        r#"if [ "$1" = remove ] && [ -e "$modules/modules.order" ]; then
    for module in {}; do
        if [ ! -e "$modules/$module" ] && grep -qF "$module:" "$modules/modules.dep"; then
            refresh
            break
        fi
    done
fi
"#,
        all_quoted(modules)
    );
    modules_script(target, &what)
}

fn all_quoted(words: &[&str]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}
