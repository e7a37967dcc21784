# SPDX-License-Identifier: GPL-2.0-or-later
#
# autoinstall: every module for one kernel.

# added NAME VERSION [CONF...]: a module that waits for its kernel.
added() {
    module "$@"
    quietly dkms add "$1/$2"
}

scene 'nothing to do'
try dkms autoinstall -k $K
try dkms autoinstall

scene 'two modules'
added hello 1.0
added foo 1.0
try dkms autoinstall -k $K
try dkms status
try dkms autoinstall -k $K
quietly dkms uninstall foo/1.0 -k $K
try dkms autoinstall -k $K
quietly dkms unbuild foo/1.0 -k $K
try dkms autoinstall -k $K --verbose
try dkms autoinstall -k $K --force

scene 'kernels without headers'
added hello 1.0
try dkms autoinstall -k 9.9.9-nothing
running 9.9.9
try dkms autoinstall

scene 'a module as argument'
added hello 1.0
added foo 1.0
try dkms autoinstall foo/1.0 -k $K

scene 'AUTOINSTALL=no'
added hello 1.0 AUTOINSTALL=no
try dkms autoinstall -k $K
try dkms autoinstall -k 9.9.9

scene 'one that fails'
added foo 1.0 MAKE=false
added hello 1.0
try dkms autoinstall -k $K
try dkms status
try dkms autoinstall -k $K

scene 'one that is for other kernels'
added foo 1.0 'BUILD_EXCLUSIVE_KERNEL="^5\."'
added hello 1.0
try dkms autoinstall -k $K
try dkms status
try dkms autoinstall -k $K
quietly dkms remove hello/1.0 --all
try dkms autoinstall -k $K

scene 'one that fails, one for other kernels, one good'
added foo 1.0 'BUILD_EXCLUSIVE_KERNEL="^5\."'
added hello 1.0
added two 2.0 MAKE=false
try dkms autoinstall -k $K

scene 'a chain'
added foo 1.0 'BUILD_DEPENDS[0]="hello"'
added hello 1.0 'BUILD_DEPENDS[0]="two"'
added two 1.0
try dkms build foo/1.0 -k $K
try dkms install foo/1.0 -k $K
try dkms autoinstall -k $K
try dkms status

scene 'a chain whose base fails'
added foo 1.0 'BUILD_DEPENDS[0]="hello"'
added hello 1.0 'BUILD_DEPENDS[0]="two"'
added two 1.0 MAKE=false
try dkms autoinstall -k $K

scene 'a chain whose base is for other kernels'
added foo 1.0 'BUILD_DEPENDS[0]="hello"'
added hello 1.0 'BUILD_DEPENDS[0]="two"'
added two 1.0 'BUILD_EXCLUSIVE_ARCH="i686"'
try dkms autoinstall -k $K

scene 'waiting for what dkms does not know'
added foo 1.0 'BUILD_DEPENDS[0]="nosuch"'
try dkms autoinstall -k $K
try dkms build foo/1.0 -k $K
try dkms build foo/1.0 -k $K --force
try dkms install foo/1.0 -k $K

scene 'waiting for what dkms does not know, beside a good one'
added foo 1.0 'BUILD_DEPENDS[0]="nosuch"'
added hello 1.0
try dkms autoinstall -k $K

scene 'waiting for what dkms does not know, beside one that fails'
added foo 1.0 'BUILD_DEPENDS[0]="nosuch"'
added hello 1.0 MAKE=false
try dkms autoinstall -k $K

scene 'installed, although it waits'
added foo 1.0 'BUILD_DEPENDS[0]="nosuch"'
quietly dkms build foo/1.0 -k $K --force
quietly dkms install foo/1.0 -k $K
try dkms autoinstall -k $K

scene 'waiting for one without AUTOINSTALL'
added foo 1.0 'BUILD_DEPENDS[0]="hello"'
added hello 1.0 AUTOINSTALL=
try dkms autoinstall -k $K
quietly dkms install hello/1.0 -k $K
try dkms autoinstall -k $K

scene 'a circle'
added foo 1.0 'BUILD_DEPENDS[0]="hello"'
added hello 1.0 'BUILD_DEPENDS[0]="foo"'
try dkms autoinstall -k $K

scene 'two versions'
added hello 1.9
added hello 1.10
try dkms autoinstall -k $K
try dkms status

scene 'the older version is installed'
added hello 1.9
added hello 1.10
quietly dkms install hello/1.9 -k $K
try dkms autoinstall -k $K
try dkms status

scene 'the newer version is without AUTOINSTALL'
added hello 1.9
added hello 1.10 AUTOINSTALL=
try dkms autoinstall -k $K

scene 'a broken one'
added foo 1.0
added hello 1.0
rm -r /usr/src/foo-1.0
try dkms autoinstall -k $K
try dkms autoinstall -k $K

scene 'switched off'
added hello 1.0
touch /etc/dkms/no-autoinstall
try dkms autoinstall -k $K
try dkms kernel_postinst -k $K

for bad in foo two; do
    scene "a bad dkms.conf, that of $bad"
    added hello 1.0
    added $bad 1.0
    echo 'DEST_MODULE_LOCATION[0]=/x' >>/usr/src/$bad-1.0/dkms.conf
    try dkms autoinstall -k $K
    try dkms status
done

scene 'PRE_INSTALL says no'
added hello 1.0 PRE_INSTALL=x.sh
script /usr/src/hello-1.0/x.sh 'exit 1'
try dkms autoinstall -k $K
try dkms status

scene 'the kernel has a newer one'
added hello 1.0
ready /lib/modules/$K/kernel/drivers/misc/hello.ko hello 2.0
try dkms autoinstall -k $K
try dkms status

scene 'who waits, without headers'
added foo 1.0 'BUILD_DEPENDS[0]="nosuch"'
mv /lib/modules/$K/build /root
try dkms autoinstall -k $K
added hello 1.0
try dkms autoinstall -k $K
