# SPDX-License-Identifier: GPL-2.0-or-later
#
# The plain way, step by step, and steps that were taken before.

scene 'one step at a time'
module hello 1.0
try dkms status
try dkms add -m hello -v 1.0
try dkms build -m hello -v 1.0 -k $K
try dkms status
try dkms install -m hello -v 1.0 -k $K
try dkms status
try dkms status -m hello
try dkms uninstall -m hello -v 1.0 -k $K
try dkms status hello/1.0
try dkms unbuild -m hello -v 1.0 -k $K
try dkms status
try dkms remove -m hello -v 1.0 --all

scene 'what a step implies'
module hello 1.0
try dkms install hello/1.0 -k $K
try dkms remove hello/1.0 --all
try dkms build hello/1.0 -k $K
try dkms unbuild hello/1.0 -k $K
try dkms install hello/1.0 -k $K
try dkms unbuild hello/1.0 -k $K

scene 'from C, by kbuild'
sources hello 1.0
try dkms install hello/1.0 -k $K -k $OLD
try dkms status
try dkms remove hello/1.0 --all

scene 'the running kernel, because none is named'
module hello 1.0
try dkms add hello/1.0
try dkms build hello/1.0
try dkms install hello/1.0
try dkms status
try dkms uninstall hello/1.0
try dkms unbuild hello/1.0
try dkms remove hello/1.0

scene 'a running kernel of which nothing is here'
running 9.9.9
module hello 1.0
try uname -r
try dkms add hello/1.0
try dkms build hello/1.0
try dkms install hello/1.0
try dkms status
try dkms uninstall hello/1.0
try dkms unbuild hello/1.0
try dkms remove hello/1.0

scene 'two kernels in one command'
module hello 1.0
try dkms install hello/1.0 -k $K -k $OLD
try dkms status
try dkms uninstall hello/1.0 -k $K -k $OLD
try dkms unbuild hello/1.0 -k $K -k $OLD
try dkms build hello/1.0 -k $K -k $OLD
try dkms install hello/1.0 -k $K -k $OLD
try dkms unbuild hello/1.0 --all
try dkms install hello/1.0 -k $K -k $OLD
try dkms uninstall hello/1.0 --all
try dkms uninstall hello/1.0 --all
try dkms remove hello/1.0 -k $K -k $OLD

scene 'steps that were taken before'
module hello 1.0
try dkms add hello/1.0
try dkms add hello/1.0
try dkms add hello/1.0 --force
try dkms unbuild hello/1.0 -k $K
try dkms uninstall hello/1.0 -k $K
try dkms build hello/1.0 -k $K
try dkms build hello/1.0 -k $K
try dkms add hello/1.0
try dkms uninstall hello/1.0 -k $K
try dkms build hello/1.0 -k $K --force
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K
try dkms build hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force
try dkms build hello/1.0 -k $K --force
try dkms status
try dkms install hello/1.0 -k $K
try dkms install hello/1.0 -k $K --force

scene 'one kernel done, the other not'
module hello 1.0
quietly dkms install hello/1.0 -k $K
try dkms build hello/1.0 -k $K -k $OLD
try dkms install hello/1.0 -k $K -k $OLD

scene 'removal kernel by kernel'
module hello 1.0
quietly dkms install hello/1.0 -k $K -k $OLD
try dkms remove hello/1.0 -k $K
try dkms status
try dkms remove hello/1.0 -k $OLD
try dkms status

scene 'removal for a kernel that has nothing'
module hello 1.0
quietly dkms build hello/1.0 -k $K
try dkms remove hello/1.0 -k $OLD
try dkms remove hello/1.0 -k $OLD --force
try dkms remove hello/1.0 -k nonexistent
try dkms remove hello/1.0 --all
try dkms remove hello/1.0 --all

scene 'removal of what was only added'
module hello 1.0
quietly dkms add hello/1.0
try dkms remove hello/1.0

scene 'removal without a kernel, where only another one was built'
module hello 1.0
quietly dkms build hello/1.0 -k $OLD
try dkms remove hello/1.0
try dkms status
