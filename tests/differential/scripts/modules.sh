# SPDX-License-Identifier: GPL-2.0-or-later
#
# Modules that are no modules, and several of one package.

for line in 'STRIP[0]=yes' 'STRIP[0]=no' STRIP=n STRIP=NO STRIP=sometimes; do
    scene "a text as a module, $line"
    module hello 1.0 'MAKE[0]="echo not-elf >hello.ko"' "$line"
    try dkms build hello/1.0 -k $K
    try dkms install hello/1.0 -k $K
    try dkms status
    try dkms install hello/1.0 -k $K --force
    try dkms uninstall hello/1.0 -k $K
    try dkms remove hello/1.0 --all
done

scene 'two modules'
module hello 1.0 'BUILT_MODULE_NAME[1]=two' 'DEST_MODULE_NAME[1]=two-renamed' 'BUILT_MODULE_LOCATION[1]=sub' \
    'DEST_MODULE_LOCATION[1]=/kernel/drivers/net' STRIP=no \
    'MAKE[0]="mkdir sub; sh ./compile hello $kernelver; sh ./compile two $kernelver; mv two.ko sub"'
try dkms install hello/1.0 -k $K
try dkms status
try dkms uninstall hello/1.0 -k $K
try dkms remove hello/1.0 --all

scene 'two modules of C'
sources hello 1.0 'BUILT_MODULE_NAME[1]=two' 'BUILT_MODULE_LOCATION[1]=sub' 'DEST_MODULE_LOCATION[1]=/updates' \
    'STRIP[1]=no'
mkdir /usr/src/hello-1.0/sub
cp /usr/src/hello-1.0/hello.c /usr/src/hello-1.0/sub/two.c
echo 'obj-m := hello.o sub/' >/usr/src/hello-1.0/Makefile
echo 'obj-m := two.o' >/usr/src/hello-1.0/sub/Makefile
try dkms install hello/1.0 -k $K -j 1
try dkms status
try dkms remove hello/1.0 --all

for line in 'BUILT_MODULE_NAME=./hello' 'DEST_MODULE_NAME=././hello'; do
    scene "a name that says that the module lies here, $line"
    module hello 1.0 "$line"
    try dkms install hello/1.0 -k $K
    try dkms status
    try dkms remove hello/1.0 --all
done
