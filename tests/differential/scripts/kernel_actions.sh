# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the hooks call for one kernel: kernel_postinst, kernel_preinst, kernel_prerm.

scene 'nothing to do'
for action in kernel_postinst kernel_prerm kernel_preinst; do
    try dkms $action -k $K
    try dkms $action -k nonexistent
done

scene 'modules that were only added'
module hello 1.0
quietly dkms add hello/1.0
try dkms kernel_prerm -k $K
try dkms kernel_preinst -k $K

scene 'a kernel comes, is replaced and goes'
module hello 1.0
module foo 1.0 AUTOINSTALL=
quietly dkms add hello/1.0
quietly dkms install foo/1.0 -k $K
try dkms kernel_postinst -k $K
try dkms status
try dkms kernel_preinst -k $K
try dkms status
try dkms kernel_postinst -k $K
try dkms kernel_prerm -k $K
try dkms status

scene 'a kernel whose modules were only built'
module hello 1.0
quietly dkms build hello/1.0 -k $K
try dkms kernel_preinst -k $K
quietly dkms build hello/1.0 -k $K
try dkms kernel_prerm -k $K

scene 'one of two kernels goes'
module hello 1.0
module foo 1.0
quietly dkms install hello/1.0 -k $K -k $OLD
quietly dkms install foo/1.0 -k $K -k $OLD
try dkms kernel_prerm -k $OLD
try dkms status
try dkms kernel_prerm -k $OLD

scene 'directories that are left empty'
mkdir -p /lib/modules/$K/a/b/c /lib/modules/9.9.9/kernel/x
try dkms kernel_prerm -k $K
try dkms kernel_prerm -k 9.9.9

scene 'more on the command line'
module hello 1.0
module foo 1.0
quietly dkms install hello/1.0 -k $K
quietly dkms install foo/1.0 -k $K
try dkms kernel_prerm -k $K -a i686
try dkms kernel_prerm hello/1.0 -k $K --no-depmod

scene 'a broken one among them'
module hello 1.0
module foo 1.0
quietly dkms install hello/1.0 -k $K
quietly dkms install foo/1.0 -k $K
rm -r /usr/src/foo-1.0
try dkms kernel_prerm -k $K
try dkms status

scene 'an original comes back'
module hello 1.0
ready /lib/modules/$K/kernel/drivers/misc/hello.ko hello 0.9
quietly dkms install hello/1.0 -k $K
try dkms kernel_prerm -k $K
try dkms status

for action in kernel_prerm kernel_preinst; do
    scene "directories that are left empty, with a module, $action"
    module hello 1.0
    quietly dkms install hello/1.0 -k $K
    mkdir -p /lib/modules/$K/a/b/c /lib/modules/$K/updates/x/y
    try dkms $action -k $K
done
