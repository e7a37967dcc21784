# SPDX-License-Identifier: GPL-2.0-or-later
#
# common.postinst, what a package of a module calls when it is configured.

postinst=/usr/lib/dkms/common.postinst
without_initramfs

# configure VERSION [UPGRADED_FROM]: as debhelper's snippets do.
configure() {
    try $postinst hello "$1" /usr/share/hello-dkms '' "$2"
}

scene 'arguments that are missing'
try $postinst
try $postinst hello
try $postinst nosuch 1.0 /usr/share/nosuch-dkms '' ''

scene 'installed, and configured again'
module hello 1.0
configure 1.0
try dkms status
configure 1.0 0.9-1
try dkms status

scene 'upgraded'
module hello 1.0
quietly $postinst hello 1.0 /usr/share/hello-dkms '' ''
quietly dkms remove hello/1.0 --all
module hello 1.1
configure 1.1 1.0-1
try dkms status

scene 'upgraded, while the old one is there'
module hello 1.0
quietly $postinst hello 1.0 /usr/share/hello-dkms '' ''
module hello 1.1
configure 1.1 1.0-1
try dkms status

scene 'with fewer arguments, or one more'
module hello 1.0
try $postinst hello 1.0
module hello 1.1
try $postinst hello 1.1 /usr/share/hello-dkms x86_64 ''

scene 'a build that fails'
module hello 1.0 MAKE=false
configure 1.0
try dkms status

scene 'AUTOINSTALL, absent and no'
module hello 1.0
sed -i /AUTOINSTALL/d /usr/src/hello-1.0/dkms.conf
configure 1.0
module hello 1.1 AUTOINSTALL=no
configure 1.1
try dkms status

scene 'not for this kernel'
module hello 1.0 'BUILD_EXCLUSIVE_KERNEL="^5"'
configure 1.0
try dkms status

scene 'the kernel has a newer one'
module hello 1.0
ready /lib/modules/$K/kernel/drivers/misc/hello.ko hello 2.0
configure 1.0
try dkms status

scene 'a dependency that is missing'
module hello 1.0 'BUILD_DEPENDS[0]="nosuch"'
configure 1.0

scene 'a bad dkms.conf'
module hello 1.0 DEST_MODULE_LOCATION=/x
configure 1.0

scene 'switched off'
module hello 1.0
touch /etc/dkms/no-autoinstall
configure 1.0
try dkms status

scene 'broken before'
module hello 1.0
quietly dkms add hello/1.0
rm /var/lib/dkms/hello/1.0/source
configure 1.0

scene 'the source is not there, the tree is'
module hello 1.0
quietly dkms add hello/1.0
rm -r /usr/src/hello-1.0
configure 1.0

scene 'scripts that fail'
module hello 1.0 PRE_INSTALL=s.sh
script /usr/src/hello-1.0/s.sh 'exit 9'
configure 1.0
module hello 1.1 POST_ADD=s.sh
script /usr/src/hello-1.1/s.sh 'exit 9'
configure 1.1

scene 'no kernel at all'
module hello 1.0
rm -r /lib/modules/* /boot/*
configure 1.0

scene 'all kernels, some of which fail'
module hello 1.0 'MAKE[0]="test $kernelver = '$K' && sh ./compile hello $kernelver"'
echo 'autoinstall_all_kernels=1' >/etc/dkms/framework.conf.d/a.conf
configure 1.0
try dkms status

scene 'all kernels, the last one fails'
module hello 1.0 'MAKE[0]="test $kernelver = '$OLD' && sh ./compile hello $kernelver"'
echo 'autoinstall_all_kernels=1' >/etc/dkms/framework.conf.d/a.conf
configure 1.0
try dkms status

scene 'all kernels, not for all of them'
module hello 1.0 "BUILD_EXCLUSIVE_KERNEL='^$K\$'"
echo 'autoinstall_all_kernels=1' >/etc/dkms/framework.conf.d/a.conf
configure 1.0
try dkms status

scene 'all kernels, installation fails for the first one'
module hello 1.0
echo 'autoinstall_all_kernels=1' >/etc/dkms/framework.conf.d/a.conf
ready /lib/modules/$OLD/kernel/hello.ko hello 2.0
configure 1.0
try dkms status
