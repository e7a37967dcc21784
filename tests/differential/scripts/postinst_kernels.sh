# SPDX-License-Identifier: GPL-2.0-or-later
#
# For which kernels common.postinst builds.

without_initramfs
settings=/etc/dkms/framework.conf.d/a.conf

# Once as an installation, once as an upgrade, from what was prepared.
configure() {
    module hello 1.0
    try /usr/lib/dkms/common.postinst hello 1.0 /usr/share/hello-dkms '' ''
    try dkms status
    quietly dkms remove hello/1.0 --all
    try /usr/lib/dkms/common.postinst hello 1.0 /usr/share/hello-dkms '' 0.9
    try dkms status
}

scene 'the running one is the newest'
configure

scene 'the running one is the older one'
running $OLD
touch /boot/config-$OLD
configure

scene 'the running one is not here'
running 9.9.9
configure

scene 'the running one is in /boot only'
running 9.9.9
touch /boot/config-9.9.9
configure

scene 'the running one has no headers'
running 9.9.9
mkdir /lib/modules/9.9.9
configure

scene 'the running one has headers, and is not in /boot'
running 9.9.9
kernel 9.9.9
configure

scene 'a newer one in /boot has nothing else'
touch /boot/config-99.9.9
configure

scene 'a newer one in /boot has headers'
kernel 99.9.9
touch /boot/config-99.9.9
configure

scene 'a newer one in /boot has no headers'
mkdir /lib/modules/99.9.9
touch /boot/config-99.9.9
configure

scene 'a newer one has headers, and is not in /boot'
kernel 99.9.9
configure

scene 'nothing in /boot'
rm -r /boot/*
configure

for value in '' no yes; do
    scene "autoinstall_all_kernels=$value"
    echo "autoinstall_all_kernels=$value" >$settings
    configure
done

scene 'all kernels, one without headers'
echo 'autoinstall_all_kernels=1' >$settings
rm /lib/modules/$OLD/build
configure

scene 'no headers anywhere'
rm /lib/modules/*/build
configure

scene 'a kernel for installers'
kernel 6.1.0-57BOOT
echo 'autoinstall_all_kernels=yes' >$settings
configure
