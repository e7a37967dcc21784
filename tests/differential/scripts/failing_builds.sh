# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds that fail.

scene 'a compiler that complains'
sources hello 1.0
echo 'this is not C' >>/usr/src/hello-1.0/hello.c
try dkms build hello/1.0 -k $K -j 1
try dkms status
try dkms build hello/1.0 -k $K -k $OLD -j 1
try dkms install hello/1.0 -k $K -j 1
try dkms unbuild hello/1.0 -k $K
try dkms build hello/1.0 -k $K -j 1 --verbose
try dkms remove hello/1.0 --all

scene 'another module than the one that was promised'
module hello 1.0 'MAKE[0]="sh ./compile other $kernelver"'
try dkms build hello/1.0 -k $K
try dkms status

scene 'nothing is made, successfully'
module hello 1.0 'MAKE[0]="true"'
try dkms build hello/1.0 -k $K
try dkms install hello/1.0 -k $K

scene 'a module that is not where it should be'
module hello 1.0 'BUILT_MODULE_LOCATION[0]="sub"'
try dkms build hello/1.0 -k $K

scene 'a command that talks and fails'
module hello 1.0 'MAKE[0]="echo to-out; echo to-err >&2; exit 3"'
try dkms build hello/1.0 -k $K
try dkms build hello/1.0 -k $K --verbose
try dkms build hello/1.0 -k $OLD -k $K
try dkms install hello/1.0 -k $K

scene 'a command that is not there'
module hello 1.0 'MAKE[0]="no-such-command-x"'
try dkms build hello/1.0 -k $K

scene 'the last kernel decides'
module hello 1.0 'MAKE[0]="test $kernelver = '$OLD' && sh ./compile hello $kernelver"'
try dkms build hello/1.0 -k $OLD -k $K
try dkms remove hello/1.0 --all
try dkms build hello/1.0 -k $K -k $OLD
try dkms remove hello/1.0 --all
try dkms install hello/1.0 -k $K -k $OLD

scene 'a patch that is not there'
module hello 1.0 'PATCH[0]="nope.patch"'
try dkms build hello/1.0 -k $K

scene 'a patch that does not fit'
module hello 1.0 'PATCH[0]="bad.patch"'
mkdir /usr/src/hello-1.0/patches
printf -- '--- a/compile\n+++ b/compile\n@@ -1,3 +1,3 @@\n foo\n-bar\n+baz\n qux\n' >/usr/src/hello-1.0/patches/bad.patch
try dkms build hello/1.0 -k $K
try dkms build hello/1.0 -k $K --verbose

scene 'a patch from elsewhere'
module hello 1.0 'PATCH[0]="../../x.patch"'
mkdir /usr/src/hello-1.0/patches
try dkms build hello/1.0 -k $K

scene 'patches, one of them for other kernels'
module hello 1.0 'PATCH[0]="a.patch"' 'PATCH[1]="sub/b.patch"' 'PATCH_MATCH[1]="^6\."' \
    'PATCH[2]="c.patch"' 'PATCH_MATCH[2]="^5\."'
mkdir -p /usr/src/hello-1.0/patches/sub
printf -- '--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+a\n' >/usr/src/hello-1.0/patches/a.patch
printf -- '--- a/a\n+++ b/a\n@@ -1 +1,2 @@\n a\n+b\n' >/usr/src/hello-1.0/patches/sub/b.patch
try dkms build hello/1.0 -k $K
try dkms unbuild hello/1.0 -k $K
try dkms build hello/1.0 -k $K --verbose

scene 'patches, with a number left out'
module hello 1.0 'PATCH[0]="a.patch"' 'PATCH[2]="b.patch"'
mkdir /usr/src/hello-1.0/patches
printf -- '--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+a\n' >/usr/src/hello-1.0/patches/a.patch
printf -- '--- a/a\n+++ b/a\n@@ -1 +1,2 @@\n a\n+b\n' >/usr/src/hello-1.0/patches/b.patch
try dkms build hello/1.0 -k $K

scene 'patches of the administrator'
module hello 1.0 'PATCH[0]="a.patch"'
mkdir -p /etc/dkms/hello/patches
printf -- '--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+a\n' >/etc/dkms/hello/patches/a.patch
try dkms build hello/1.0 -k $K

scene 'two modules, the second one missing'
module hello 1.0 'BUILT_MODULE_NAME[1]=two' 'DEST_MODULE_LOCATION[1]=/updates'
try dkms build hello/1.0 -k $K

scene 'a source that is empty'
module hello 1.0
rm /usr/src/hello-1.0/compile
try dkms build hello/1.0 -k $K
