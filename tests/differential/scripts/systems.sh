# SPDX-License-Identifier: GPL-2.0-or-later
#
# What kind of system it is.

# The system calls itself so.
system() {
    rm -f /etc/os-release
    printf "$1" >/etc/os-release
}

for text in 'ID=debian\n' 'ID=mint\nID_LIKE="ubuntu debian"\n' 'ID=arch\n' ''; do
    scene "os-release: $text"
    module hello 1.0
    system "$text"
    try dkms install hello/1.0 -k $K
    try dkms status
    try dkms uninstall hello/1.0 -k $K
done

scene 'Ubuntu'
module hello 1.0
system 'ID=ubuntu\nID_LIKE=debian\n'
try dkms build hello/1.0 -k $K
mkdir -p /var/lib/shim-signed/mok
cp $pristine/var/lib/dkms/mok.key /var/lib/shim-signed/mok/MOK.priv
cp $pristine/var/lib/dkms/mok.pub /var/lib/shim-signed/mok/MOK.der
try dkms build hello/1.0 -k $K --force
printf '#!/bin/sh\necho kmodsign $# >&2; exit 0\n' >/usr/local/bin/kmodsign
chmod 755 /usr/local/bin/kmodsign
try dkms build hello/1.0 -k $K --force
rm /var/lib/shim-signed/mok/MOK.priv
printf '%s\n' '#!/bin/sh' 'echo usp "$@" notrigger=$SHIM_NOTRIGGER >>/root/usp.log' \
    'case $1 in --new-key) cp /run/pristine/var/lib/dkms/mok.key /var/lib/shim-signed/mok/MOK.priv;; esac' \
    >/usr/local/bin/update-secureboot-policy
chmod 755 /usr/local/bin/update-secureboot-policy
try dkms build hello/1.0 -k $K --force
try cat /root/usp.log
try dkms build hello/1.0 -k $K --force
rm /var/lib/shim-signed/mok/*
try dkms generate_mok
rm -r /usr/local/bin/kmodsign /usr/local/bin/update-secureboot-policy /var/lib/shim-signed

scene 'no os-release'
module hello 1.0
rm -f /etc/os-release /usr/lib/os-release
try dkms status
try dkms add hello/1.0
try dkms remove hello/1.0 --all
try dkms --version
try dkms autoinstall -k $K
