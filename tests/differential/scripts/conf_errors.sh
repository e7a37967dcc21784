# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a dkms.conf may not say.

names=$'PACKAGE_NAME="hello"\nPACKAGE_VERSION="1.0"\n'
place=$'DEST_MODULE_LOCATION[0]="/kernel/drivers/misc"\n'

# with TITLE CONF: a module that has this dkms.conf, to the letter, is added.
with() {
    scene "$1"
    mkdir /usr/src/hello-1.0
    printf '%s' "$2" >/usr/src/hello-1.0/dkms.conf
    try dkms add hello/1.0
}

scene 'no dkms.conf'
module hello 1.0
rm /usr/src/hello-1.0/dkms.conf
try dkms add hello/1.0
try dkms build hello/1.0 -k $K
try dkms status

scene 'no dkms.conf, but added'
module hello 1.0
quietly dkms add hello/1.0
rm /usr/src/hello-1.0/dkms.conf
for action in status build install unbuild uninstall remove; do
    try dkms $action hello/1.0 -k $K
done

scene 'no dkms.conf, but built'
module hello 1.0
quietly dkms build hello/1.0 -k $K
rm /usr/src/hello-1.0/dkms.conf
for action in status build install uninstall unbuild remove; do
    try dkms $action hello/1.0 -k $K
done

with 'nothing in it' ''
try dkms build hello/1.0 -k $K
with 'names only' "$names"
try dkms build hello/1.0 -k $K
try dkms status
with 'no names' "$place"
with 'no version' "PACKAGE_NAME=hello
$place"
with 'no name' "PACKAGE_VERSION=1.0
$place"
with 'another name' "PACKAGE_NAME=other
PACKAGE_VERSION=1.0
$place"
try dkms status
with 'another version' "PACKAGE_NAME=hello
PACKAGE_VERSION=9
$place"
try dkms build hello/1.0 -k $K
with 'no module' "$names$place"
try dkms install hello/1.0 -k $K
with 'no place' "${names}BUILT_MODULE_NAME[0]=hello
"
for name in hello.ko hello.o; do
    with "built as $name" "${names}BUILT_MODULE_NAME[0]=$name
$place"
done
for name in hi.ko hi.o; do
    with "installed as $name" "${names}BUILT_MODULE_NAME[0]=hello
DEST_MODULE_NAME[0]=$name
$place"
done
for dest in /lib/x kernel/x /kernelx /updates /extra/../x; do
    with "installed in $dest" "${names}BUILT_MODULE_NAME[0]=hello
DEST_MODULE_LOCATION[0]=$dest
"
done
with 'two modules and one place' "${names}BUILT_MODULE_NAME[0]=a
BUILT_MODULE_NAME[1]=b
$place"
with 'the second module only' "${names}BUILT_MODULE_NAME[1]=b
DEST_MODULE_LOCATION[1]=/updates
"
with 'two places and no module' "${names}DEST_MODULE_LOCATION[0]=/updates
DEST_MODULE_LOCATION[1]=/updates
"
with 'a module twice' "${names}BUILT_MODULE_NAME[0]=a
BUILT_MODULE_NAME[1]=a
DEST_MODULE_LOCATION[0]=/updates
DEST_MODULE_LOCATION[1]=/updates
"
with 'a module twice, under two names' "${names}BUILT_MODULE_NAME[0]=a
BUILT_MODULE_NAME[1]=a
BUILT_MODULE_LOCATION[0]=x
BUILT_MODULE_LOCATION[1]=x/
DEST_MODULE_LOCATION[0]=/updates
DEST_MODULE_LOCATION[1]=/updates
DEST_MODULE_NAME[1]=b
"
with 'two modules of one name' "${names}BUILT_MODULE_NAME[0]=a
BUILT_MODULE_NAME[1]=b
DEST_MODULE_NAME[1]=a
DEST_MODULE_LOCATION[0]=/updates
DEST_MODULE_LOCATION[1]=/updates
"
with 'modules of one name in several places' "${names}BUILT_MODULE_NAME[0]=a
BUILT_MODULE_NAME[1]=a
BUILT_MODULE_NAME[2]=a
BUILT_MODULE_LOCATION[1]=x
BUILT_MODULE_LOCATION[2]=y
DEST_MODULE_LOCATION[0]=/updates
DEST_MODULE_LOCATION[1]=/updates
DEST_MODULE_LOCATION[2]=/extra
"
with 'many errors at once' "${names}BUILT_MODULE_LOCATION[2]=x
DEST_MODULE_NAME[0]=z.ko
BUILT_MODULE_NAME[3]=q.ko
AUTOINSTALL=maybe
NO_WEAK_MODULES=1
BUILD_DEPENDS_REBUILD=x
REMAKE_INITRD=perhaps
STRIP=sometimes
"
with 'all errors at once' 'PACKAGE_VERSION=
AUTOINSTALL=maybe
BUILT_MODULE_NAME[1]=b.ko
DEST_MODULE_LOCATION[1]=/x
'
for value in yes YES Yes y no NO No n "''" true 1; do
    with "AUTOINSTALL=$value" "${names}${place}AUTOINSTALL=$value
"
done

# bytes TITLE TEXT [FILE]: the same with printf's TEXT at the end of a good one.
bytes() {
    scene "$1"
    module hello 1.0
    # shellcheck disable=SC2059  # that is what it is
    printf "$2" >>"${3:-/usr/src/hello-1.0/dkms.conf}"
    try dkms add hello/1.0
    try dkms build hello/1.0 -k $K
}

scene 'lines as they end on DOS'
module hello 1.0 'PRE_BUILD="p.sh"' 'CLEAN="true"'
script /usr/src/hello-1.0/p.sh 'echo script'
sed -i 's/$/\r/' /usr/src/hello-1.0/dkms.conf
try dkms install hello/1.0 -k $K
bytes 'NUL bytes' 'PRE_BUILD="no\0thing"\nBUILT_MODULE_NAME="he\0llo"\n'
bytes 'many NUL bytes' "$(printf '\\0%.0s' {1..2000})"
bytes 'not UTF-8' '# \351\nPRE_BUILD="\351"\nCLEAN="true \377\376"\n'
bytes 'a name that is not UTF-8' 'BUILT_MODULE_NAME="\377\376"\n'
bytes 'a newline' "BUILT_MODULE_NAME=$'hel\\nlo'\n"
with 'a quote that is not closed' "${names}BUILT_MODULE_NAME='say \"'
"
bytes 'a glob' 'BUILT_MODULE_NAME="hell?"\n'
bytes 'another IFS' 'IFS=:\nPRE_BUILD="p:q"\n'
bytes 'a sparse array' 'BUILT_MODULE_NAME[3]=x\nDEST_MODULE_LOCATION[7]=/updates\n'
bytes 'NUL bytes of the administrator' 'PRE_BUILD="no\0thing"\r\nCLEAN="\377"\r\n' /etc/dkms/hello.conf
bytes 'no bash of the administrator' 'if [\n' /etc/dkms/hello.conf
bytes 'settings with NUL bytes' 'parallel_jobs="3\0"\r\nverbose="\0"\r\nsource_tree="/usr/sr\0c"\r\n' \
    /etc/dkms/framework.conf.d/x.conf
bytes 'settings that are no bash' 'if [\n' /etc/dkms/framework.conf.d/x.conf
