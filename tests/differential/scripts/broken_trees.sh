# SPDX-License-Identifier: GPL-2.0-or-later
#
# Trees that are not as they should be.

everything() {
    try dkms status
    for action in add build install uninstall unbuild remove; do
        try dkms $action hello/1.0 -k $K
    done
    for action in autoinstall kernel_postinst kernel_preinst kernel_prerm; do
        try dkms $action -k $K
    done
}

scene 'added, and the source is gone'
module hello 1.0
quietly dkms add hello/1.0
rm -r /usr/src/hello-1.0
everything
try dkms remove hello/1.0 --all
try dkms remove hello/1.0 --all --force
try dkms status

scene 'installed, and the source is gone'
module hello 1.0
quietly dkms install hello/1.0 -k $K
rm -r /usr/src/hello-1.0
try dkms status
for action in add build install uninstall unbuild remove; do
    try dkms $action hello/1.0 -k $K
done
for action in autoinstall kernel_postinst kernel_preinst; do
    try dkms $action -k $K
done
try dkms remove hello/1.0 --all
try dkms remove hello/1.0
try dkms kernel_prerm -k $K

scene 'a healthy one beside it'
module hello 1.0
module foo 1.0
quietly dkms add hello/1.0
quietly dkms add foo/1.0
rm -r /usr/src/hello-1.0
try dkms status
try dkms autoinstall -k $K
try dkms status -m foo
try dkms kernel_prerm -k $K

scene 'the link is gone, the source is there'
module hello 1.0
quietly dkms install hello/1.0 -k $K
rm /var/lib/dkms/hello/1.0/source
try dkms status
for action in build install uninstall unbuild remove; do
    try dkms $action hello/1.0 -k $K
done
try dkms autoinstall -k $K
try dkms add hello/1.0
try dkms status

scene 'the link is gone and the source too'
module hello 1.0
quietly dkms install hello/1.0 -k $K
rm -r /var/lib/dkms/hello/1.0/source /usr/src/hello-1.0
try dkms status
for action in build install uninstall unbuild remove add; do
    try dkms $action hello/1.0 -k $K
done
try dkms autoinstall -k $K

scene 'a directory in place of the link'
module hello 1.0
quietly dkms add hello/1.0
rm /var/lib/dkms/hello/1.0/source
mkdir /var/lib/dkms/hello/1.0/source
try dkms status
for action in build uninstall unbuild remove add; do
    try dkms $action hello/1.0 -k $K
done

scene 'a link to a file'
module hello 1.0
quietly dkms add hello/1.0
ln -sfn /etc/passwd /var/lib/dkms/hello/1.0/source
try dkms status
for action in build uninstall remove; do
    try dkms $action hello/1.0 -k $K
done

scene 'empty directories and strange files'
mkdir -p /var/lib/dkms/hello/1.0 /var/lib/dkms/empty /var/lib/dkms/hello/junk
touch /var/lib/dkms/file /var/lib/dkms/hello/afile
try dkms status
for action in build install uninstall unbuild remove; do
    try dkms $action hello/1.0 -k $K
done
module hello 1.0
try dkms status
try dkms add hello/1.0
try dkms status
try dkms remove hello/1.0 --all

scene 'a staging directory that a kill left'
module hello 1.0
quietly dkms add hello/1.0
mkdir -p /var/lib/dkms/hello/1.0/$K/.tmp_x86_64_abcdef
try dkms status
try dkms build hello/1.0 -k $K
try dkms remove hello/1.0 -k $K

scene 'no tree'
rm -r /var/lib/dkms
module hello 1.0
try dkms status
try dkms add hello/1.0
rm -rf /var/lib/dkms
try dkms build hello/1.0 -k $K
rm -rf /var/lib/dkms
try dkms remove hello/1.0 --all

scene 'a source that is a link elsewhere, with things in it'
at=/root/real module hello 1.0
ln -s /root/real /usr/src/hello-1.0
mkdir /root/real/build /root/real/.git
touch /root/real/.git/x
try dkms add hello/1.0
try dkms build hello/1.0 -k $K
try dkms remove hello/1.0 --all

scene 'a dkms.conf that went bad after the installation'
module hello 1.0
quietly dkms install hello/1.0 -k $K
echo 'if [' >>/usr/src/hello-1.0/dkms.conf
try dkms status
try dkms uninstall hello/1.0 -k $K
printf 'PACKAGE_NAME=\nDEST_MODULE_LOCATION=/x\n' >/usr/src/hello-1.0/dkms.conf
try dkms status
try dkms install hello/1.0 -k $K
try dkms uninstall hello/1.0 -k $K
try dkms remove hello/1.0 --all
