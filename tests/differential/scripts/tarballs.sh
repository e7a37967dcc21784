# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tarballs: made, listed, loaded again, and refused.

# What is in a tarball: names, each once.
names() {
    tar -tf "$1" | sort -u
}

# gone NAME/VERSION: neither registered nor there.
gone() {
    quietly dkms remove "$1" --all
    rm -rf "/usr/src/${1/\//-}"
}

scene 'of what is built for a kernel'
module hello 1.0
try dkms mktarball
try dkms mktarball hello/1.0
quietly dkms add hello/1.0
try dkms mktarball hello/1.0
try dkms mktarball hello/1.0 -k $OLD
quietly dkms build hello/1.0
try dkms mktarball hello/1.0
try names /var/lib/dkms/hello/1.0/tarball/hello-1.0-kernel$K-$A.dkms.tar.gz
try dkms mktarball hello/1.0
try dkms mktarball hello/1.0 -k $K -k $OLD
try dkms mktarball hello/1.0 -k $K -a i686
try dkms remove hello/1.0 --all

scene 'of all kernels, the source alone, and what was built alone'
module hello 1.0
quietly dkms build hello/1.0 -k $OLD -k $K
quietly dkms install hello/1.0 -k $K
try dkms mktarball hello/1.0 -k $OLD -k $K
try dkms mktarball hello/1.0 --source-only
try names /var/lib/dkms/hello/1.0/tarball/hello-1.0-source-only.dkms.tar.gz
try dkms mktarball hello/1.0 --binaries-only --archive=binaries.tar.gz
try names /var/lib/dkms/hello/1.0/tarball/binaries.tar.gz
try dkms mktarball hello/1.0 --binaries-only --source-only

scene 'at other places, by other programs'
module hello 1.0
quietly dkms build hello/1.0
watch /srv/out
for name in plain.tar a.tar.xz a.tar.bz2 a.tgz a.tar.zst; do
    try dkms mktarball hello/1.0 --archive=/srv/out/$name
    try names /srv/out/$name
done
try dkms mktarball hello/1.0 --archive=/srv/out/not/there.tar.gz
try dkms mktarball hello/1.0 --archive=/dev/null/there.tar.gz
touch /root/here.tar.gz
try dkms mktarball hello/1.0 --archive=here.tar.gz
# What is there takes it as it would take any program's output.
mkdir /root/there
: >/root/there/closed.tar
chmod 440 /root/there/closed.tar
ln -s closed.tar /root/there/link.tar
ln -s new.tar /root/there/dangling.tar.gz
mkfifo /root/there/pipe.tgz
mknod /root/there/null.tar.xz c 1 3
cat /root/there/pipe.tgz >/root/there/read.tgz &
for name in closed.tar link.tar dangling.tar.gz pipe.tgz null.tar.xz; do
    try timeout 60 dkms mktarball hello/1.0 --archive=/root/there/$name
done
wait
try stat -c '%A %N' /root/there/*
try names /root/there/closed.tar
try names /root/there/new.tar
try names /root/there/read.tgz
for name in plain.tar a.tar.xz a.tar.bz2 a.tgz a.tar.zst; do
    gone hello/1.0
    try dkms ldtarball /srv/out/$name
    try dkms status
done

scene 'loaded'
module hello 1.0
quietly dkms build hello/1.0
quietly dkms mktarball hello/1.0 --archive=/root/hello.tar.gz
try dkms ldtarball /root/hello.tar.gz
gone hello/1.0
try dkms ldtarball /root/hello.tar.gz
try dkms status
try dkms ldtarball --archive=/root/hello.tar.gz
gone hello/1.0
try dkms ldtarball /root/hello.tar.gz --archive=nope
try dkms ldtarball --archive=nope /root/hello.tar.gz
try dkms install hello/1.0
try dkms status
quietly dkms uninstall hello/1.0
quietly dkms unbuild hello/1.0
try dkms build hello/1.0
try dkms remove hello/1.0 --all

scene 'loaded where the source is'
module hello 1.0
quietly dkms build hello/1.0
quietly dkms mktarball hello/1.0 --archive=/root/hello.tar.gz
quietly dkms remove hello/1.0 --all
try dkms ldtarball /root/hello.tar.gz
try dkms status

scene 'source alone'
module hello 1.0 'POST_ADD="post"'
script /usr/src/hello-1.0/post 'echo post' 'exit 3'
quietly dkms add hello/1.0
quietly dkms mktarball hello/1.0 --source-only --archive=/root/hello.tar.gz
gone hello/1.0
try dkms ldtarball /root/hello.tar.gz
try dkms status

scene 'a plain source'
at=/root/w/hello-1.0 module hello 1.0
tar -C /root/w -czf /root/hello.tar.gz .
try dkms add /root/hello.tar.gz
try dkms add /root/hello.tar.gz
gone hello/1.0
try dkms ldtarball /root/hello.tar.gz
gone hello/1.0
try dkms install /root/hello.tar.gz
try dkms status

scene 'a plain source whose POST_ADD fails'
at=/root/w/hello-1.0 module hello 1.0 'POST_ADD="post"'
script /root/w/hello-1.0/post 'echo post' 'exit 3'
tar -C /root/w -czf /root/hello.tar.gz .
try dkms install /root/hello.tar.gz
try dkms status

scene 'none'
try dkms ldtarball
try dkms ldtarball /root/none.tar.gz
echo text >/root/text.tar.gz
try dkms ldtarball /root/text.tar.gz
mkdir /root/empty
tar -C /root -czf /root/empty.tar.gz empty
try dkms ldtarball /root/empty.tar.gz
try dkms add /root/empty.tar.gz
