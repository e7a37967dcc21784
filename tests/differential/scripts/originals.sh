# SPDX-License-Identifier: GPL-2.0-or-later
#
# Modules that the kernel has already.

misc=/lib/modules/$K/kernel/drivers/misc

# All that may be done to a module of which the kernel has another.
everything() {
    try dkms install hello/1.0 -k $K
    try dkms status
    try dkms install hello/1.0 -k $K --force
    try dkms uninstall hello/1.0 -k $K
    try dkms status
    try dkms install hello/1.0 -k $K --force-version-override
    try dkms status
    try dkms install hello/1.0 -k $K --force
    try dkms remove hello/1.0 --all
}

for version in 0.9 1.0 1.1 none; do
    scene "an original of version $version"
    module hello 1.0
    ready $misc/hello.ko hello $version
    everything
done

scene 'an original of the same version from another source'
module hello 1.0
ready $misc/hello.ko hello 1.0 FEDCBA9876543210
everything

scene 'the very same file'
module hello 1.0
quietly dkms build hello/1.0 -k $K
mkdir -p $misc
cp /var/lib/dkms/hello/1.0/$K/$A/module/hello.ko* $misc/
everything

for version in none 1.0; do
    scene "ours is without a version, the original of version $version"
    of=none module hello 1.0
    ready $misc/hello.ko hello $version
    try dkms install hello/1.0 -k $K
    try dkms status
    try dkms uninstall hello/1.0 -k $K
done

scene 'an original in several places'
module hello 1.0
for place in kernel/drivers/misc extra updates/dkms; do
    ready /lib/modules/$K/$place/hello.ko hello 0.9
done
try dkms install hello/1.0 -k $K
try dkms status
try dkms uninstall hello/1.0 -k $K
try dkms status

scene 'a leftover where we install'
module hello 1.0
ready /lib/modules/$K/updates/dkms/hello.ko hello 0.9
try dkms install hello/1.0 -k $K
try dkms uninstall hello/1.0 -k $K
try dkms remove hello/1.0 --all

scene 'a newer leftover where we install'
module hello 1.0
ready /lib/modules/$K/updates/dkms/hello.ko hello 1.1
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms status

scene 'two modules, one of which the kernel has newer'
module hello 1.0 'BUILT_MODULE_NAME[1]=two' 'DEST_MODULE_LOCATION[1]=/updates' \
    'MAKE[0]="sh ./compile hello $kernelver; sh ./compile two $kernelver"'
ready $misc/hello.ko hello 1.1
try dkms install hello/1.0 -k $K
try dkms status
try dkms uninstall hello/1.0 -k $K
try dkms status

scene 'scripts of an installation that is refused'
module hello 1.0 PRE_INSTALL=p.sh POST_INSTALL=p.sh
script /usr/src/hello-1.0/p.sh 'echo script'
ready $misc/hello.ko hello 1.1
try dkms install hello/1.0 -k $K

for word in hello hello_version-override; do
    scene "on the list of what is forced: $word"
    module hello 1.0
    ready $misc/hello.ko hello 1.1
    mkdir -p /usr/share/dkms/modules_to_force_install
    echo $word >/usr/share/dkms/modules_to_force_install/x
    try dkms install hello/1.0 -k $K
done

scene 'two versions of ours'
module hello 1.0
module hello 2.0
try dkms install hello/1.0 -k $K
try dkms install hello/2.0 -k $K
try dkms status
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms status
try dkms install hello/2.0 -k $K
try dkms uninstall hello/1.0 -k $K
try dkms remove hello/1.0 --all
try dkms status
try dkms remove hello/2.0 --all

scene 'two versions of ours, and an original'
module hello 1.0
module hello 2.0
ready $misc/hello.ko hello 0.9
try dkms install hello/1.0 -k $K
try dkms install hello/2.0 -k $K
try dkms status
try dkms uninstall hello/2.0 -k $K
try dkms status

scene 'an original that came back'
module hello 1.0
ready $misc/hello.ko hello 0.9
try dkms install hello/1.0 -k $K
ready $misc/hello.ko hello 0.9 FEDCBA9876543210
try dkms status
try dkms install hello/1.0 -k $K --force
try dkms status
try dkms uninstall hello/1.0 -k $K
try dkms status
