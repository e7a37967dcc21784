# SPDX-License-Identifier: GPL-2.0-or-later
#
# Kernels without headers, with strange names, of another architecture.

scene 'no headers'
module hello 1.0
try dkms build hello/1.0 -k 9.9.9
try dkms install hello/1.0 -k 9.9.9
try dkms install hello/1.0 -k 9.9.9 --force
try dkms build hello/1.0 -k 9.9.9 -k $K
try dkms build hello/1.0 -k $OLD -k 9.9.9

scene 'headers from elsewhere'
module hello 1.0
try dkms build hello/1.0 -k 9.9.9 --kernelsourcedir /lib/modules/$K/build
try dkms install hello/1.0 -k 9.9.9
try dkms install hello/1.0 -k 9.9.9 --force
try dkms status
try dkms uninstall hello/1.0 -k 9.9.9
try dkms unbuild hello/1.0 -k 9.9.9
try dkms build hello/1.0 -k 9.9.9 --kernelsourcedir /nonexistent

scene 'a kernel without a number'
module hello 1.0
try dkms build hello/1.0 -k weird-kernel --kernelsourcedir /lib/modules/$K/build
try dkms status
try dkms status -k weird-kernel
try dkms status -k 'weird*'
try dkms remove hello/1.0 --all
try dkms remove hello/1.0 -k weird-kernel

scene 'headers that are empty or not there'
module hello 1.0
mkdir -p /lib/modules/7.7.7/build
try dkms build hello/1.0 -k 7.7.7
rmdir /lib/modules/7.7.7/build
ln -s /nowhere /lib/modules/7.7.7/build
try dkms build hello/1.0 -k 7.7.7
rm /lib/modules/7.7.7/build
ln -s "$(readlink -f /lib/modules/$OLD/build)" /lib/modules/7.7.7/source
try dkms build hello/1.0 -k 7.7.7

scene 'another architecture'
module hello 1.0
try dkms build hello/1.0 -k $K -a i686
try dkms install hello/1.0 -k $K/i686
try dkms status
try dkms install hello/1.0 -k $K
try dkms status
try dkms status -a i686
try dkms status -k $K/i686
try dkms remove hello/1.0 --all

scene 'a kernel that has nothing but our module'
kernel 9.9.9
: >/lib/modules/9.9.9/modules.dep
module hello 1.0
try dkms install hello/1.0 -k 9.9.9
rm /lib/modules/9.9.9/build
try dkms uninstall hello/1.0 -k 9.9.9
try ls /lib/modules

scene 'the order of --all'
module hello 1.0
for kernel in 6.1.0-100-amd64 5.10.0-9-amd64 6.9.1; do
    kernel $kernel
done
all="-k 6.9.1 -k $K -k 5.10.0-9-amd64 -k 6.1.0-100-amd64 -k $OLD"
quietly dkms build hello/1.0 $all
try dkms status
try dkms uninstall hello/1.0 --all
quietly dkms install hello/1.0 -k $K -k 6.9.1
try dkms status
try dkms uninstall hello/1.0 --all
quietly dkms install hello/1.0 $all
try dkms uninstall hello/1.0 --all
quietly dkms install hello/1.0 $all
quietly dkms build hello/1.0 -k $OLD -a i686
quietly dkms build hello/1.0 -k $OLD -a zarch
try dkms status
try dkms remove hello/1.0 --all
