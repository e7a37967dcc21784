# SPDX-License-Identifier: GPL-2.0-or-later
#
# status: names, patterns and their order.

scene 'names and patterns'
for name in hello foo two; do
    for version in 1.0 1.10 1.9; do
        module $name $version
        quietly dkms add $name/$version
    done
done
quietly dkms build hello/1.0 -k $K
quietly dkms install hello/1.10 -k $K -k $OLD
quietly dkms build foo/1.9 -k $OLD -a i686
quietly dkms build foo/1.9 -k $OLD
try dkms status
for name in hello hello/1.10 'h*' '*' '?oo' '[ht]*' '*/1.9' 'hello/1.*' 'hello/1.1*' hello/ /1.10 hel nosuch/1; do
    try dkms status "$name"
done
for name in 'h[^x]*' 'h[!e]*' 'hello**' '[[:alpha:]]*' 'hell\o' 'h[e' '[]h]ello'; do
    try dkms status "$name"
done
try dkms status -k '6.[^0]*'
try dkms status -k '[[:digit:]]*'
try dkms status -m hello
try dkms status -m nosuch
try dkms status -m hello -v 1.10
try dkms status -v 1.10
for kernel in $K $OLD $OLD/i686 '6*' '*-amd64' '*'; do
    try dkms status -k "$kernel"
done
for arch in i686 x86_64 '*' 'i*'; do
    try dkms status -a "$arch"
    try dkms status -k $OLD -a "$arch"
done
try dkms status -k $K -k $OLD
try dkms status -k $K -k $OLD -a x86_64 -a i686
try dkms status hello/1.10 -k $K
try dkms status hello -k 9.9
try dkms status nosuch -k $K
try dkms status foo two
try dkms status --all
try dkms status -c /nonexistent
try sh -c 'dkms status 2>/dev/null >/dev/full'
try dkms status --verbose
try dkms status --force

scene 'the order of odd names'
for name in Zed _u zed zed-a zed.b zed_c 9lives; do
    for version in 1.0 1.0-1 1.0.1 1.0+b; do
        module $name $version
        quietly dkms add $name/$version
    done
done
quietly mkdir -p /var/lib/dkms/zed/1.0/{6.1,6.1.1,6.1-1,6.1+1}/{x86,x86-y}/module
try dkms status
try env LC_ALL=C.UTF-8 dkms status
try env LC_ALL=C dkms status
try env LANG=de_DE.UTF-8 dkms status

scene 'names with blanks and signs'
module 'a b' 1.0
try dkms add 'a b/1.0'
try dkms status
try dkms status 'a b'
try dkms remove 'a b/1.0' --all
module 'c++' '1.0~rc1+b'
try dkms add 'c++/1.0~rc1+b'
try dkms status
