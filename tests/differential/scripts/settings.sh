# SPDX-License-Identifier: GPL-2.0-or-later
#
# Places, settings and directives from outside of dkms.conf.

u=/tmp/dkms-u

# Trees of our own.
begin() {
    watch $u
    mkdir $u/tree $u/src $u/lib
    module hello 1.0
    cp -a /usr/src/hello-1.0 $u/src/
}

scene 'other trees'
begin
try dkms add hello/1.0 --dkmstree $u/tree --sourcetree $u/src
try dkms status --dkmstree $u/tree
try dkms status
try dkms build hello/1.0 -k $K --dkmstree=$u/tree --sourcetree=$u/src
mkdir -p $u/lib/$K
ln -s "$(readlink -f /lib/modules/$K/build)" $u/lib/$K/build
try dkms install hello/1.0 -k $K --dkmstree $u/tree --installtree $u/lib
try dkms status --dkmstree $u/tree
try dkms status --dkmstree $u/tree --installtree $u/lib
try dkms uninstall hello/1.0 -k $K --dkmstree $u/tree --installtree $u/lib
try dkms remove hello/1.0 --all --dkmstree $u/tree

scene 'a tree with a slash too many'
begin
try dkms add hello/1.0 --dkmstree $u/tree/ --sourcetree $u/src/
try dkms remove hello/1.0 --all --dkmstree $u/tree/

scene 'trees that are not there'
begin
try dkms add hello/1.0 --dkmstree $u/none
try dkms add hello/1.0 --sourcetree $u/none
try dkms install hello/1.0 -k $K --installtree $u/none

scene 'framework.conf'
begin
printf '%s\n' dkms_tree=$u/tree source_tree=$u/src 'echo words' 'foo=bar' >/etc/dkms/framework.conf.d/z.conf
try dkms add hello/1.0
try dkms status --dkmstree /var/lib/dkms
try dkms remove hello/1.0 --all
try env dkms_tree=/nowhere source_tree=/x dkms status

scene 'headers and configurations'
begin
try dkms build hello/1.0 -k $K --kernelsourcedir "$(readlink -f /lib/modules/$OLD/build)"
quietly dkms remove hello/1.0 --all
try dkms build hello/1.0 -k $K --kernelsourcedir=/nonexistent
grep -v MODULE_SIG /boot/config-$K >/root/nosig.config
try dkms build hello/1.0 -k $K --config /root/nosig.config
try dkms build hello/1.0 -k $K --force --config=/boot/config-$K

scene 'another dkms.conf'
begin
sed 's/^DEST_MODULE_L.*/DEST_MODULE_LOCATION[0]="\/updates"/; s/^AUTO.*/POST_ADD="nosuch.sh"/' \
    /usr/src/hello-1.0/dkms.conf >/root/c.conf
try dkms add hello/1.0 -c /root/c.conf
try dkms build hello/1.0 -k $K -c /root/c.conf
try dkms install hello/1.0 -k $K -c /root/c.conf
try dkms remove hello/1.0 --all -c /root/c.conf
try dkms add hello/1.0 -c /nonexistent
try dkms build hello/1.0 -k $K -c /nonexistent

scene 'directives on the command line'
module hello 1.0
try dkms add hello/1.0 --directive 'POST_ADD=x.sh'
quietly dkms remove hello/1.0 --all
try dkms add hello/1.0 --directive='BUILT_MODULE_NAME=bad.ko'
try dkms build hello/1.0 -k $K --directive 'MAKE=echo from-directive; false' --directive 'PRE_BUILD=p.sh'
try dkms build hello/1.0 -k $K --force --directive 'MAKE="true"'
try dkms build hello/1.0 -k $K --force --directive "MAKE='echo \$kernelver'; false"
try dkms status --directive 'X=1'

scene 'directives of the environment'
module hello 1.0
try env DKMS_DIRECTIVE_A=POST_ADD=x.sh dkms add hello/1.0
try env DKMS_DIRECTIVE=MAKE=false dkms build hello/1.0 -k $K
try env DKMS_DIRECTIVE_A=MAKE=false DKMS_DIRECTIVE_B=MAKE=true dkms build hello/1.0 -k $K
try env DKMS_DIRECTIVE_A=STRIP=no dkms build hello/1.0 -k $K --force
try env XDKMS_DIRECTIVE_A=MAKE=false dkms build hello/1.0 -k $K --force
try env DKMS_DIRECTIVE_A=noequals dkms build hello/1.0 -k $K --force
try env DKMS_DIRECTIVE_A=MAKE=false dkms build hello/1.0 -k $K --force --directive 'MAKE=echo from-cli; false'

scene 'the files of the administrator'
module hello 1.0
for file in hello hello-1.0 hello-1.0-$K hello-1.0-$K-$A hello--$K hello--$K-$A; do
    echo "echo 'reading $file: '\${MAKE[0]} >&2; MAKE[0]='echo $file; false'" >/etc/dkms/$file.conf
done
try dkms add hello/1.0
try dkms build hello/1.0 -k $K
try dkms build hello/1.0 -k $OLD
try dkms status
try dkms unbuild hello/1.0 -k $K
try dkms build hello/1.0 -k $K --directive 'MAKE=echo cli; false'
try dkms remove hello/1.0 --all

scene 'the files of the administrator, when they are wrong'
module hello 1.0
echo 'DEST_MODULE_LOCATION[0]=/bad' >/etc/dkms/hello.conf
try dkms add hello/1.0
echo 'exit 1' >/etc/dkms/hello.conf
try dkms add hello/1.0
try dkms build hello/1.0 -k $K

scene 'AUTOINSTALL by the administrator'
module hello 1.0
sed -i /AUTO/d /usr/src/hello-1.0/dkms.conf
echo AUTOINSTALL=yes >/etc/dkms/hello.conf
quietly dkms add hello/1.0
try dkms autoinstall -k $K
try dkms remove hello/1.0 --all

scene '--no-depmod'
module hello 1.0
try dkms install hello/1.0 -k $K --no-depmod
try dkms status
try dkms uninstall hello/1.0 -k $K --no-depmod
try dkms install hello/1.0 -k $K --no-depmod --verbose
try dkms remove hello/1.0 --all --no-depmod --verbose

scene '--symlink-modules'
module hello 1.0
try dkms install hello/1.0 -k $K --symlink-modules
try dkms status
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms uninstall hello/1.0 -k $K
echo 'symlink_modules=yes' >/etc/dkms/framework.conf.d/s.conf
try dkms install hello/1.0 -k $K
rm /etc/dkms/framework.conf.d/s.conf
try env symlink_modules=1 dkms install hello/1.0 -k $K --force
try dkms remove hello/1.0 --all

scene 'after the transaction'
module hello 1.0
printf 'post_transaction="echo pt \\$kernelver; exit 3"\n' >/etc/dkms/framework.conf.d/z.conf
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K
try dkms build hello/1.0 -k $K --force
try dkms uninstall hello/1.0 -k $K
try dkms status
try dkms unbuild hello/1.0 -k $K
printf 'post_transaction="echo pt $kernelver"\n' >/etc/dkms/framework.conf.d/z.conf
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --verbose
try dkms remove hello/1.0 --all

scene 'an addon directory'
module hello 1.0
try env ADDON_MODULES_DIR=addon dkms install hello/1.0 -k $K
try dkms status
try dkms uninstall hello/1.0 -k $K

scene 'depmod, failing and missing'
module hello 1.0
printf '#!/bin/sh\necho depmod "$@" >>/root/depmod.log; echo dm-out; echo dm-err >&2; exit 5\n' >/root/depmod
chmod 755 /root/depmod
mv /sbin/depmod /sbin/depmod.real
cp /root/depmod /sbin/depmod
try dkms install hello/1.0 -k $K
try dkms status
try dkms uninstall hello/1.0 -k $K --verbose
try cat /root/depmod.log
rm /sbin/depmod /boot/System.map-$K
try dkms install hello/1.0 -k $K
mv /sbin/depmod.real /sbin/depmod
