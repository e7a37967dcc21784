# SPDX-License-Identifier: GPL-2.0-or-later
#
# The hooks of the kernel packages and what they run.

autoinstaller=/usr/lib/dkms/dkms_autoinstaller
kernel_install=/usr/lib/kernel/install.d/40-dkms.install

without_initramfs

scene 'dkms_autoinstaller, without a module'
try $autoinstaller
for word in bogus stop restart force-reload status reload start; do
    try $autoinstaller $word
done
try $autoinstaller start $K

scene 'dkms_autoinstaller'
module hello 1.0
quietly dkms add hello/1.0
try $autoinstaller start 9.9.9
try $autoinstaller start $K
try $autoinstaller start $K
try $autoinstaller start ''
quietly dkms unbuild hello/1.0 -k $K
try $autoinstaller start $K extra
try $autoinstaller stop $K
(cd / && try setpriv --reuid=65534 --regid=65534 --clear-groups $autoinstaller start $K)

scene 'a module that fails'
module foo 1.0 MAKE=false
module hello 1.0
quietly dkms add foo/1.0
quietly dkms add hello/1.0
try $autoinstaller start $K
try /etc/kernel/postinst.d/dkms $K
try /etc/kernel/header_postinst.d/dkms $K
try $kernel_install add $K

scene 'a module that is well'
module hello 1.0
quietly dkms add hello/1.0
try /etc/kernel/postinst.d/dkms $K
try /etc/kernel/postinst.d/dkms $K /boot/vmlinuz-$K
try /etc/kernel/postinst.d/dkms
try /etc/kernel/postinst.d/dkms 9.9.9
try /etc/kernel/preinst.d/dkms $K
try dkms status
try /etc/kernel/header_postinst.d/dkms $K
try /etc/kernel/header_postinst.d/dkms
try /etc/kernel/prerm.d/dkms $K /boot/vmlinuz-$K
try dkms status
try /etc/kernel/prerm.d/dkms $K

scene 'hooks without a kernel, or with one that is not there'
module hello 1.0
quietly dkms add hello/1.0
for hook in preinst prerm; do
    try /etc/kernel/$hook.d/dkms
    try /etc/kernel/$hook.d/dkms nonexistent
done

scene 'kernel-install'
module hello 1.0
quietly dkms add hello/1.0
try $kernel_install add $K
try $kernel_install add $K /boot/x /lib/modules/$K/vmlinuz
try $kernel_install remove $K
try dkms status
try $kernel_install
try $kernel_install bogus $K
try $kernel_install add
try $kernel_install remove

for parameters in install remove "'upgrade' '6.1.192-3'" 'upgrade 1'; do
    scene "what dpkg does, as it is told to hooks: $parameters"
    module hello 1.0
    quietly dkms install hello/1.0 -k $K
    try env DEB_MAINT_PARAMS="$parameters" /etc/kernel/preinst.d/dkms $K
    try dkms status
    try env DEB_MAINT_PARAMS=configure /etc/kernel/postinst.d/dkms $K
    try env DEB_MAINT_PARAMS="$parameters" /etc/kernel/prerm.d/dkms $K
    try dkms status
done

scene 'switched off'
module hello 1.0
quietly dkms add hello/1.0
touch /etc/dkms/no-autoinstall
try $autoinstaller start $K
rm /etc/dkms/no-autoinstall
chmod 644 $autoinstaller
try /etc/kernel/postinst.d/dkms $K
try /etc/kernel/header_postinst.d/dkms $K
chmod 755 $autoinstaller
