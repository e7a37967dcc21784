# SPDX-License-Identifier: GPL-2.0-or-later
#
# Users that are not root.

# As nobody, where nobody may be.
nobody() {
    (cd / && try setpriv --reuid=65534 --regid=65534 --clear-groups "$@")
}

scene 'in the trees of the system'
module hello 1.0
module foo 1.0
quietly dkms install hello/1.0 -k $K
for action in status add build install uninstall unbuild remove; do
    nobody dkms $action hello/1.0 -k $K
    nobody dkms $action foo/1.0 -k $K
    nobody dkms $action nosuch/1.0
    nobody dkms $action
done
for action in autoinstall generate_mok kernel_prerm kernel_preinst kernel_postinst; do
    nobody dkms $action -k $OLD
done
nobody dkms --version
nobody dkms install --all hello/1.0
nobody dkms remove hello/1.0 --all

scene 'what comes first, a broken module or a user that may not'
module hello 1.0
quietly dkms add hello/1.0
rm -r /usr/src/hello-1.0
for action in status add build install uninstall unbuild remove; do
    nobody dkms $action hello/1.0 -k $K
done

scene 'in trees of their own'
module hello 1.0
watch /tmp/dkms-u
mkdir /tmp/dkms-u/tree /tmp/dkms-u/src /tmp/dkms-u/lib
cp -a /usr/src/hello-1.0 /tmp/dkms-u/src/
chown -R nobody /tmp/dkms-u
trees='--dkmstree /tmp/dkms-u/tree --sourcetree /tmp/dkms-u/src --installtree /tmp/dkms-u/lib'
nobody dkms add hello/1.0 $trees
nobody dkms status $trees
nobody dkms build hello/1.0 -k $K $trees
nobody dkms build hello/1.0 -k $K $trees --kernelsourcedir /lib/modules/$K/build
nobody dkms status $trees
nobody dkms install hello/1.0 -k $K $trees
nobody dkms unbuild hello/1.0 -k $K $trees
nobody dkms remove hello/1.0 --all $trees
