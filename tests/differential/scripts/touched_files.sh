# SPDX-License-Identifier: GPL-2.0-or-later
#
# Files that somebody else touched, and compressed ones.

installed=/lib/modules/$K/updates/dkms

# A module that is installed.
begin() {
    module hello 1.0
    quietly dkms install hello/1.0 -k $K
}

scene 'the installed file is gone'
begin
rm $installed/hello.ko*
try dkms status
try dkms uninstall hello/1.0 -k $K

scene 'the installed file was appended to'
begin
echo junk >>$installed/hello.ko
try dkms status
try dkms install hello/1.0 -k $K
try dkms uninstall hello/1.0 -k $K

scene 'the installed file was replaced'
begin
echo replaced >$installed/hello.ko
try dkms status
try dkms uninstall hello/1.0 -k $K
try dkms status

scene 'the installed file was moved'
begin
mkdir -p /lib/modules/$K/kernel/drivers/misc
mv $installed/hello.ko* /lib/modules/$K/kernel/drivers/misc/
try dkms status
try dkms uninstall hello/1.0 -k $K

scene 'the built file is gone'
begin
rm /var/lib/dkms/hello/1.0/$K/$A/module/hello.ko*
try dkms status
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms uninstall hello/1.0 -k $K
try dkms status
try dkms install hello/1.0 -k $K
try dkms remove hello/1.0 --all

scene 'built again from another source'
begin
sed -i 's/0123/4567/' /usr/src/hello-1.0/compile
try dkms build hello/1.0 -k $K --force
try dkms status
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms status

# A kernel whose modules are compressed so.
for tool in xz zstd gzip; do
    scene "a kernel of files by $tool"
    module hello 1.0
    find /lib/modules/$K/kernel -name '*.xz' -exec unxz {} +
    case $tool in zstd) options=--rm ;; *) options= ;; esac
    find /lib/modules/$K/kernel -name '*.ko' -exec $tool -q $options {} +
    try dkms install hello/1.0 -k $K
    try dkms status
    try dkms install hello/1.0 -k $K --force
    # gzip writes the second into the file.
    sleep 1
    try dkms build hello/1.0 -k $K --force
    try dkms status
    try dkms uninstall hello/1.0 -k $K
    quietly dkms install hello/1.0 -k $K
    find /lib/modules/$K/kernel -name '*.xz' -exec unxz {} + -o -name '*.zst' -exec unzstd -q --rm {} + \
        -o -name '*.gz' -exec gunzip {} +
    try dkms status
    try dkms install hello/1.0 -k $K
    try dkms remove hello/1.0 --all
done

scene 'options of the compressor that are wrong'
module hello 1.0
find /lib/modules/$K/kernel -name '*.ko' -exec gzip {} +
echo 'compress_gzip_opts="-1"' >/etc/dkms/framework.conf.d/z.conf
try dkms install hello/1.0 -k $K
echo 'compress_gzip_opts="--bogus"' >/etc/dkms/framework.conf.d/z.conf
try dkms build hello/1.0 -k $K --force
