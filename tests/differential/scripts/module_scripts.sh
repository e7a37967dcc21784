# SPDX-License-Identifier: GPL-2.0-or-later
#
# The scripts that a dkms.conf names.

all=('PRE_BUILD="h.sh pre_build a b"' 'POST_BUILD="h.sh post_build"' 'PRE_INSTALL="h.sh pre_install"'
    'POST_INSTALL="h.sh post_install"' 'POST_ADD="h.sh post_add"' 'POST_REMOVE="h.sh post_remove"')

# The module with all scripts, one of which may fail.
scripted() {
    module hello 1.0 "${all[@]}"
    script /usr/src/hello-1.0/h.sh 'echo "script $* out"' 'echo "script $* err" >&2' "[ \"\$1\" != '$1' ] || exit 7"
}

scene 'all of them'
scripted
try dkms add hello/1.0
try dkms build hello/1.0 -k $K
try dkms install hello/1.0 -k $K
try dkms uninstall hello/1.0 -k $K
try dkms unbuild hello/1.0 -k $K
try dkms remove hello/1.0 --all
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms remove hello/1.0 --all

scene 'in many words'
scripted
try dkms install hello/1.0 -k $K --verbose
try dkms remove hello/1.0 --all --verbose

for failing in post_add pre_build post_build pre_install post_install post_remove; do
    scene "$failing fails, step by step"
    scripted $failing
    try dkms add hello/1.0
    try dkms build hello/1.0 -k $K
    try dkms status
    try dkms install hello/1.0 -k $K
    try dkms status
    [ $failing != pre_install ] || try dkms install hello/1.0 -k $K --force
    try dkms uninstall hello/1.0 -k $K
    try dkms remove hello/1.0 --all

    scene "$failing fails, all at once"
    scripted $failing
    try dkms install hello/1.0 -k $K
    [ $failing != pre_build ] || try dkms install hello/1.0 -k $K --verbose
    try dkms status
done

scene 'post_add fails, from a directory'
scripted post_add
mv /usr/src/hello-1.0 /root/here
try dkms install /root/here -k $K
try dkms status
try dkms remove hello/1.0 --all
try dkms add /root/here

scene 'not executable'
scripted
chmod 644 /usr/src/hello-1.0/h.sh
try dkms install hello/1.0 -k $K
try dkms remove hello/1.0 --all

scene 'not there'
scripted
rm /usr/src/hello-1.0/h.sh
try dkms install hello/1.0 -k $K
try dkms remove hello/1.0 --all

scene 'odd paths and arguments'
module hello 1.0 'POST_ADD="noshebang.sh x"' 'POST_INSTALL="/bin/echo abs"' \
    'POST_REMOVE="sub/x.sh \"two words\" \$kernelver"' 'PRE_BUILD="../source/noshebang.sh y"'
echo 'echo noshebang "$0" "$@"' >/usr/src/hello-1.0/noshebang.sh
chmod 755 /usr/src/hello-1.0/noshebang.sh
script /usr/src/hello-1.0/sub/x.sh 'echo "x.sh $# args: $1|$2|$3"; pwd'
try dkms install hello/1.0 -k $K
try dkms remove hello/1.0 --all

scene 'where they run and what they are told'
module hello 1.0 'PRE_BUILD="e.sh pre_build one two"' 'POST_BUILD="e.sh post_build"' \
    'PRE_INSTALL="e.sh pre_install"' 'POST_INSTALL="e.sh post_install"' 'POST_ADD="e.sh post_add"' \
    'POST_REMOVE="e.sh post_remove"'
script /usr/src/hello-1.0/e.sh 'echo "$1: $0 $# $* $(pwd) $(umask)"' \
    'env | grep -E "^(kernelver|arch|module|module_version|CC|CXX|C.*FLAGS|LDFLAGS|MYVAR)=" | sort'
try env CC=mycc CXX=mycxx CFLAGS=-x CXXFLAGS=-z LDFLAGS=-y MYVAR=1 dkms install hello/1.0 -k $K
try dkms remove hello/1.0 --all
try dkms add hello/1.0
try dkms build hello/1.0 -k $K
try dkms install hello/1.0 -k $K
try dkms uninstall hello/1.0 -k $K

scene 'the word of the administrator'
scripted
script /etc/dkms/hello/h.sh 'echo "override $* $0 $(pwd)"'
try dkms install hello/1.0 -k $K
try dkms remove hello/1.0 --all
