# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the scripts of the differential suite are written in. They run in a throwaway root, are given
# $K, $OLD and $A as all tests are, and speak to tests/differential/side.rs in fields that end in NUL.

# What a scene starts from.
pristine=/run/pristine

# scene TITLE: starts again from a clean machine; nothing of the scenes before it is left. With $SAMPLE every other one is
# passed over.
scene() {
    [ -z "${passed_over:-}" ] || exec >&3 2>&4
    scenes=$((${scenes:-0} + 1)) passed_over=
    if [ -n "${SAMPLE:-}" ] && [ $((scenes % 2)) = 0 ]; then
        # What only leads to its commands may not find what these would have made.
        passed_over=yes
        exec 3>&1 4>&2 >/dev/null 2>&1
        return
    fi
    printf '\0scene\0%s\0' "$1"
    cd /root || exit
    umask 022
    watched=
    [ "$(uname -r)" = "$K" ] || running "$K"
    local dir
    for dir in /var/lib/dkms /usr/src; do
        [ -d $dir ] || { rm -f $dir && mkdir $dir; }
        find $dir -mindepth 1 -maxdepth 1 ! -name 'linux-*' -exec rm -rf {} +
    done
    # shellcheck disable=SC2114  # not of this system
    rm -rf /lib/modules /etc/dkms /boot /root/* /tmp/dkms* /tmp/tmp.* /usr/share/dkms/modules_to_force_install
    cp -a $pristine/. /
    state
}

# try COMMAND...: runs it in both roots; what it says, its exit code and what it changed are compared.
try() {
    [ -z "${passed_over:-}" ] || return 0
    printf '\0try\0%s\0' "$*"
    "$@" </dev/null
    printf '\0%d\0' $?
    state
}

# quietly COMMAND...: runs it without comparing anything.
quietly() {
    [ -z "${passed_over:-}" ] || return 0
    "$@" >/dev/null 2>&1 </dev/null
    return 0
}

# Everything that dkms could have changed. Modules count by their content, which stays to be asked for.
state() {
    local sum file
    {
        find /var/lib/dkms /lib/modules/ /usr/src/ $watched -path '/usr/src/linux-*' -prune -o \
            -printf '%y %m %u %p -> %l\n' | sed 's/ -> $//'
        grep -sHE '^(updates|extra|addon)' /lib/modules/*/modules.dep | sed 's/:/: /; s/^/in /'
        find /var/lib/dkms /lib/modules/ $watched -type f -name '*.ko' -exec sha256sum {} + |
            while read -r sum file; do
                content "$sum" "$file" "$file"
            done
        find /var/lib/dkms /lib/modules/ $watched -type f -name '*.ko.[gxz]*' | while read -r file; do
            case $file in
            *.xz) xz -dc "$file" ;;
            *.gz) gzip -dc "$file" ;;
            *.zst) zstd -qdc "$file" ;;
            esac >/run/content
            content "$(sha256sum </run/content)" "$file" /run/content
        done
        printf '\0'
        find /var/lib/dkms $watched \( -name make.log -o -name post_transaction.log \) | sort | while read -r file; do
            echo "==> $file"
            sed -E '2s/^[A-Z][a-z]{2} .*[0-9:]{8}.*/DATE/; s/^(# elapsed time:) [0-9:]{8}$/\1 TIME/' "$file"
        done
        printf '\0'
    }
}

# content SUM FILE COPY: tells of a module, and keeps a copy of it.
content() {
    printf 'ko %s %s\n' "${1:0:16}" "$2"
    [ -e "/run/content.${1:0:16}" ] || cp "$3" "/run/content.${1:0:16}"
}

# watch DIRECTORY: makes one that the state of this scene includes.
watch() {
    rm -rf "$1"
    mkdir "$1"
    watched=$1
}

# module NAME VERSION [CONF...]: a package of one module, in /usr/src or in $at, that builds in no time. CONF comes
# after the usual directives, a line each. $of is what modinfo calls the module's version; `none` for none.
module() {
    local name=$1 version=$2 dir=${at:-/usr/src/$1-$2}
    shift 2
    mkdir -p "$dir"
    {
        printf '%s\n' "PACKAGE_NAME=\"$name\"" "PACKAGE_VERSION=\"$version\"" "BUILT_MODULE_NAME[0]=\"$name\"" \
            'DEST_MODULE_LOCATION[0]="/kernel/drivers/misc"' 'AUTOINSTALL="yes"' \
            "MAKE[0]=\"sh ./compile $name \$kernelver\"" "$@"
    } >"$dir/dkms.conf"
    compiler "${of:-$version}" >"$dir/compile"
}

# What builds such a module, NAME.ko, for a kernel: all that modinfo and depmod want to know.
compiler() {
    local version="version=$1"
    [ "$1" != none ] || version=
    cat <<END
{
    echo '.section .modinfo,"a"'
    for field in license=GPL "$version" srcversion=${2:-0123456789ABCDEF} name="\$1" \
        "vermagic=\$2 SMP preempt mod_unload modversions "; do
        [ -z "\$field" ] || echo ".asciz \"\$field\""
    done
} | as -o "\$1.ko" -
END
}

# A ready module of this NAME and version at the path FILE: ready FILE NAME VERSION [SRCVERSION]
ready() {
    mkdir -p "${1%/*}"
    (cd /tmp && compiler "$3" "${4:-0123456789ABCDEF}" | sh -s "$2" "$K") && mv "/tmp/$2.ko" "$1"
}

# sources NAME VERSION [CONF...]: the same from C, by way of kbuild.
sources() {
    local name=$1 version=$2 dir=${at:-/usr/src/$1-$2}
    module "$@"
    sed -i '/^MAKE\[0\]="sh/d' "$dir/dkms.conf"
    rm "$dir/compile"
    echo "obj-m := $name.o" >"$dir/Makefile"
    cat >"$dir/$name.c" <<END
#include <linux/module.h>
static int __init start(void) { return 0; }
static void __exit end(void) { }
module_init(start);
module_exit(end);
MODULE_LICENSE("GPL");
MODULE_VERSION("$version");
END
}

# script FILE [LINE...]: an executable script, of sh.
script() {
    mkdir -p "$(dirname "$1")"
    { echo '#!/bin/sh' && printf '%s\n' "${@:2}"; } >"$1"
    chmod 755 "$1"
}

# running RELEASE: what uname(2) says from now on.
running() {
    gcc -shared -fPIC -O1 "-DRELEASE=\"$1\"" -o /usr/lib/throwaway-uname.new /srv/tests/uname.c
    mv /usr/lib/throwaway-uname.new /usr/lib/throwaway-uname.so
}

# without_initramfs: hooks ask for one, which is not of interest here and takes its time.
without_initramfs() {
    printf '#!/bin/sh\n' >/usr/sbin/update-initramfs
}

# kernel RELEASE: one with headers, those of $OLD, and nothing else.
kernel() {
    mkdir -p "/lib/modules/$1"
    ln -s "$(readlink -f "/lib/modules/$OLD/build")" "/lib/modules/$1/build"
}

# Once per root, before any script: a kernel small enough to be listed after each command, and what scenes start from.
prepare() {
    rm -f /boot/vmlinuz* /boot/initrd*
    find "/lib/modules/$K/kernel" -name '*.ko*' ! -name 'nlmon.*' ! -name 'dummy.*' -delete
    find "/lib/modules/$K" -mindepth 1 -type d -empty -delete
    depmod -a "$K"
    rm -f /etc/dkms/framework.conf.d/*
    # Ours goes on where dkms fails, unless it is told not to; dkms knows nothing of it.
    echo 'on_failure="original"' >/etc/dkms/framework.conf.d/original.conf
    mkdir -p $pristine/var/lib/dkms $pristine/etc $pristine/usr/lib
    cp -a /lib/modules $pristine/usr/lib/
    cp -a /etc/dkms $pristine/etc/
    cp -a /boot $pristine/
    base64 -d <<<"$1" | tar -x -C $pristine/var/lib/dkms
}
