# SPDX-License-Identifier: GPL-2.0-or-later
#
# How options are spelled, and what stands beside them.

scene 'values and their absence'
module hello 1.0
module hello 2.0
quietly dkms add hello/1.0
quietly dkms add hello/2.0
try dkms status -k=1
try dkms status -m=hello
try dkms status -j4
for option in -j -m -v -k -a -c --module --module= --kernelver --kernelver= --config --dkmstree --dkmstree= \
    --directive --archive; do
    try dkms status $option
done
try dkms build -m hello -v
try dkms build hello/1.0 -k
try dkms build hello/1.0 -k ''
try dkms build hello/1.0 -k $K -a ''
try dkms status -k ''
try dkms status -m ''

scene 'prefixes'
module hello 1.0
quietly dkms add hello/1.0
try dkms status --module hello
try dkms status --module=hello
try dkms status --modulefoo hello
try dkms status --kernelversion 6.1
try dkms status --archfoo x86_64
try dkms status --archive x
try dkms status --templatekernel x
try dkms status --no-initrdX
try dkms status --forced
try dkms status --quietly
try dkms status --allx

scene 'module and version, here and there'
module hello 1.0
module hello 2.0
module foo 1.0
quietly dkms add hello/1.0
quietly dkms add hello/2.0
try dkms status -m hello -v 1.0
try dkms status -m hello/1.0
try dkms status -m hello/1.0 -v 2.0
try dkms status -v 2.0 -m hello/1.0
try dkms status -m '  hello  '
try dkms status --module='  hello  '
try dkms status hello 1.0
try dkms status hello 1.0 extra words
try dkms status hello/1.0 foo/2.0
try dkms status hello/1.0/x
try dkms status ''
try dkms '' status
try dkms hello/1.0 status
try dkms -m hello status
try dkms add -m foo hello/1.0
try dkms add -m foo -v 1.0 hello/1.0
try dkms add -m foo/1.0 -v 2.0

scene 'kernel and architecture in one'
module hello 1.0
quietly dkms build hello/1.0 -k $K
try dkms status -k $K/x86_64
try dkms status -k $K/i686

scene 'options that mean nothing to status'
module hello 1.0
quietly dkms build hello/1.0 -k $K
try dkms status -q
try dkms status --rpm_safe_upgrade
try dkms status --no-depmod --modprobe-on-install --symlink-modules --force-version-override --force --verbose
try dkms status --dkmstree /nonexistent
try dkms status --sourcetree /nonexistent
try dkms status --installtree /nonexistent
try dkms status -j abc
try bash -c 'dkms status --debug 2>/dev/null'

scene 'options of the past'
try dkms status --no-initrd --no-clean-kernel --no-prepare-kernel

scene 'things to add that need a kernel no more than once'
module hello 2.0
try dkms add hello/2.0 -k $K -k $OLD
try dkms remove hello/2.0 -a i686

scene 'a number of jobs that is none'
sources hello 1.0
try dkms build hello/1.0 -k $K -j abc

scene 'files and directories named like the argument'
module hello 1.0
module foo 1.0
quietly dkms add hello/1.0
mkdir -p cwd/hello
cd cwd
touch foo
try dkms status hello
try dkms status foo
