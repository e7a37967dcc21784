# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sources that are added from a directory.

# A source with all that can be lost on the way.
begin() {
    at=/root/w/hello module hello 1.0
    touch w/hello/.dot
    mkdir w/hello/sub
    chmod 700 w/hello/sub
    ln -s compile w/hello/link
    touch -d 2020-01-02 w/hello/compile
    chown nobody w/hello/compile
    chmod 600 w/hello/compile
}

scene 'a directory'
begin
try dkms add /root/w/hello
try stat -c '%A %U %.4y %N' /usr/src/hello-1.0/{.dot,compile,link,sub}
try dkms add /root/w/hello
try dkms add /root/w/hello --force
try dkms status
try dkms remove hello/1.0 --all
try dkms add /root/w/hello

scene 'over what is there'
begin
module hello 1.0
touch /usr/src/hello-1.0/stale
echo old >/usr/src/hello-1.0/compile
try dkms add /root/w/hello
try cat /usr/src/hello-1.0/compile
quietly dkms remove hello/1.0 --all
try dkms add /root/w/hello --force

scene 'its dkms.conf'
begin
try dkms add /root/w/hello/dkms.conf

for name in hello ./hello hello/ hello/dkms.conf; do
    scene "from where one is: $name"
    begin
    cd w
    try dkms add $name
done

for name in . dkms.conf; do
    scene "from inside: $name"
    begin
    cd w/hello
    try dkms add $name
done

scene 'built from there'
begin
try dkms build /root/w/hello -k $K
try dkms build /root/w/hello -k $K
try dkms install /root/w/hello -k $K
quietly dkms remove hello/1.0 --all
rm -r /usr/src/hello-1.0
try dkms install /root/w/hello -k $K

scene 'the directory that it goes to'
module hello 1.0
try dkms add /usr/src/hello-1.0
quietly dkms remove hello/1.0 --all
try dkms add /usr/src/hello-1.0
try dkms status /usr/src/hello-1.0
try dkms uninstall /usr/src/hello-1.0 -k $K
try dkms remove /usr/src/hello-1.0 --all
try dkms remove hello/1.0 --all

scene 'what is no source'
begin
mkdir -p w/empty
echo x >w/my-dkms.conf
try dkms add /root/w/empty
try dkms add /root/w/nonexistent
try dkms add /root/w/my-dkms.conf
try dkms add w/empty
try dkms add empty/1
try dkms add /root/w/hello /root/w/empty

scene 'a name beside the directory'
begin
try dkms add -m hello /root/w/hello
quietly dkms remove hello/1.0 --all
rm -rf /usr/src/hello-1.0
try dkms add -m other -v 9 /root/w/hello
try dkms status

scene 'a bad dkms.conf'
begin
echo 'DEST_MODULE_LOCATION[0]=/bad' >>w/hello/dkms.conf
try dkms add /root/w/hello

scene 'a dkms.conf without a name'
begin
sed -i 's/^PACKAGE_NAME.*/PACKAGE_NAME=/' w/hello/dkms.conf
try dkms add /root/w/hello

scene 'names with blanks'
begin
printf 'PACKAGE_NAME="a b"\nPACKAGE_VERSION="1 2"\nDEST_MODULE_LOCATION=/extra\n' >w/hello/dkms.conf
try dkms add /root/w/hello
try dkms status

scene 'what it sees'
begin
printf '%s\n' PACKAGE_NAME=hello PACKAGE_VERSION=1.0 DEST_MODULE_LOCATION=/extra \
    'echo "$module|$module_version|$kernelver|$kernel_source_dir|$PWD" >&2' >w/hello/dkms.conf
try dkms add /root/w/hello
