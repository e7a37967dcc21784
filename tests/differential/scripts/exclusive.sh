# SPDX-License-Identifier: GPL-2.0-or-later
#
# Modules that are not for every kernel.

for line in 'BUILD_EXCLUSIVE_KERNEL="^5\."' 'BUILD_EXCLUSIVE_ARCH="i686"' BUILD_EXCLUSIVE_KERNEL_MIN=99.2 \
    BUILD_EXCLUSIVE_KERNEL_MAX=5.10 'BUILD_EXCLUSIVE_CONFIG="CONFIG_NOPE"' \
    'BUILD_EXCLUSIVE_CONFIG="!CONFIG_MODULES"' OBSOLETE_BY=5.10 build_exclude=no \
    '[[ "$kernelver" =~ "-amd64" ]] && build_exclude="yes"'; do
    scene "not for this one: $line"
    module hello 1.0 "$line"
    try dkms add hello/1.0
    try dkms build hello/1.0 -k $K
    try dkms install hello/1.0 -k $K
    try dkms build hello/1.0 -k $K --force
    try dkms autoinstall -k $K
    try dkms status
    try dkms uninstall hello/1.0 -k $K
    try dkms unbuild hello/1.0 -k $K
    try dkms remove hello/1.0 --all
done

# The series, say 6.1, and the release without its flavour.
series=${K%"${K#*.*[.-]}"}
series=${series%[.-]}
release=${K%-*}
for line in "BUILD_EXCLUSIVE_KERNEL=\"^${K%%.*}\"" 'BUILD_EXCLUSIVE_ARCH="x86.*"' \
    "BUILD_EXCLUSIVE_KERNEL_MIN=$series" "BUILD_EXCLUSIVE_KERNEL_MAX=$series" "BUILD_EXCLUSIVE_KERNEL_MAX=$K" \
    "BUILD_EXCLUSIVE_KERNEL_MIN=$K" "BUILD_EXCLUSIVE_KERNEL_MAX=$release" "BUILD_EXCLUSIVE_KERNEL_MIN=${release}9" \
    "BUILD_EXCLUSIVE_KERNEL_MAX=${release}9" BUILD_EXCLUSIVE_KERNEL_MIN=006.001.000 \
    'BUILD_EXCLUSIVE_CONFIG="CONFIG_MODULES !CONFIG_NOPE"' OBSOLETE_BY=99.1 \
    $'OBSOLETE_BY=5\nBUILD_EXCLUSIVE_KERNEL_MAX=99'; do
    scene "at the boundary: $line"
    module hello 1.0 "$line"
    try dkms build hello/1.0 -k $K
    try dkms status
done

scene 'for one kernel of two'
module hello 1.0 "BUILD_EXCLUSIVE_KERNEL='^$OLD\$'"
try dkms install hello/1.0 -k $OLD -k $K
try dkms uninstall hello/1.0 -k $K
try dkms uninstall hello/1.0 -k $OLD
try dkms remove hello/1.0 --all
try dkms install hello/1.0 -k $K -k $OLD

scene 'not for this one any more'
module hello 1.0
quietly dkms install hello/1.0 -k $K
echo BUILD_EXCLUSIVE_ARCH=i686 >>/usr/src/hello-1.0/dkms.conf
try dkms status
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms autoinstall -k $K
try dkms uninstall hello/1.0 -k $K
try dkms install hello/1.0 -k $K
try dkms remove hello/1.0 --all

scene 'obsolete after it was built'
module hello 1.0
quietly dkms build hello/1.0 -k $K
echo OBSOLETE_BY=5.1 >>/usr/src/hello-1.0/dkms.conf
try dkms status
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms status

scene 'obsolete by both words'
module hello 1.0 OBSOLETE_BY=5 BUILD_EXCLUSIVE_KERNEL_MAX=99
try dkms install hello/1.0 -k $K
try dkms autoinstall -k $K

scene 'one module of two'
module hello 1.0 'BUILT_MODULE_NAME[1]=two' 'DEST_MODULE_LOCATION[1]=/updates' 'BUILD_EXCLUSIVE_KERNEL[1]="^5"' \
    'MAKE[0]="sh ./compile hello $kernelver; sh ./compile two $kernelver"'
try dkms install hello/1.0 -k $K
