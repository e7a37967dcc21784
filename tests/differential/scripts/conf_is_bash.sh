# SPDX-License-Identifier: GPL-2.0-or-later
#
# A dkms.conf is a script of bash.

# with TITLE LINE...: a module whose dkms.conf ends in these lines is added.
with() {
    scene "$1"
    module hello 1.0 "${@:2}"
    try dkms add hello/1.0
}

with 'a condition without an end' 'if [ x'
try dkms build hello/1.0 -k $K
with 'a string without an end' 'BUILT_MODULE_NAME="unterminated'
with 'exit at the end' 'exit 3'
with 'return, and errors after it' 'return 0' 'BUILT_MODULE_NAME[0]=x.ko'
with 'return with an error' 'return 5'
with 'words on both streams' 'echo to-stdout; echo to-stderr >&2' 'false'
try dkms status
try dkms build hello/1.0 -k $K
with 'set -e' 'set -e; false' 'BUILT_MODULE_NAME[0]=x.ko'
with 'a command that is not there' no_such_command_here

scene 'exit at the beginning'
module hello 1.0
sed -i '1i exit 0' /usr/src/hello-1.0/dkms.conf
try dkms add hello/1.0

scene 'lines that end as in DOS'
module hello 1.0
sed -i 's/$/\r/' /usr/src/hello-1.0/dkms.conf
try dkms install hello/1.0 -k $K
try dkms status
try dkms autoinstall -k $K

scene 'a byte order mark'
module hello 1.0
sed -i '1s/^/\xef\xbb\xbf/' /usr/src/hello-1.0/dkms.conf
try dkms add hello/1.0

with 'variables of dkms itself' dkms_tree=/tmp/hijack source_tree=/tmp/hijack kernelver=hijack module=hijack \
    module_version=hijack verbose=1 'error() { echo HIJACK; }' 'do_add() { echo HIJACK; }' 'unset PATH'
try dkms status
try dkms build hello/1.0 -k $K

with 'what it sees' 'echo "$kernelver|$arch|$kernel_source_dir|$dkms_tree|$source_tree|$install_tree|$module" >&2' \
    'echo "$module_version|$action|$(pwd)|$(umask)|$#|$PACKAGE_NAME|$MAKE|$CC" >&2'
try dkms status
try dkms build hello/1.0 -k $K
try dkms status
try dkms install hello/1.0 -k $K
try dkms status -k $K
try dkms status -m hello
try dkms uninstall hello/1.0 -k $K
try dkms remove hello/1.0 --all

with 'how often it is read' 'echo "read for $kernelver" >&2'
try dkms build hello/1.0 -k $K
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms status
try dkms uninstall hello/1.0 -k $K
try dkms unbuild hello/1.0 -k $K
try dkms install hello/1.0 -k $K -k $OLD
try dkms install hello/1.0 -k $K -k $OLD
try dkms status
try dkms status -k $K -k $OLD
try dkms unbuild hello/1.0 --all
try dkms build hello/1.0 -k $K -k $OLD
try dkms autoinstall -k $K
try dkms autoinstall -k $K
try dkms kernel_prerm -k $K
try dkms kernel_preinst -k $OLD
try dkms autoinstall -k $K
try dkms remove hello/1.0 --all
try dkms install hello/1.0 -k $K -k $OLD
try dkms remove hello/1.0 --all

for line in "CLEAN='make clean'" CLEAN=true CLEAN=: 'CLEAN=""' REMAKE_INITRD=yes REMAKE_INITRD=no REMAKE_INITRD= \
    'MODULES_CONF[0]=x' 'MODULES_CONF[1]=x' 'MODULES_CONF_OBSOLETES[0]=x' 'MODULES_CONF_ALIAS_TYPE[0]=x' \
    'MODULES_CONF_OBSOLETE_ONLY[0]=yes' UNKNOWN_DIRECTIVE=1 OBSOLETE_BY=9.9; do
    with "of the past: $line" "$line"
done

scene 'directives of the past, from beginning to end'
module hello 1.0 'CLEAN="echo ran >>/root/clean.log"' REMAKE_INITRD=yes 'MODULES_CONF[0]=a' 'MODULES_CONF[1]=b'
try dkms install hello/1.0 -k $K
try dkms status
try dkms install hello/1.0 -k $K --force
try dkms uninstall hello/1.0 -k $K
try dkms build hello/1.0 -k $K --force
try dkms autoinstall -k $K
try dkms remove hello/1.0 --all
try ls /root/clean.log
