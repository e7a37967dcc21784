# SPDX-License-Identifier: GPL-2.0-or-later
#
# One kernel's modules for another: what is said of requests that cannot be, or have nothing to do.

scene 'what cannot be'
try dkms match
try dkms match -k $K
try dkms match --templatekernel=$K -k $K
try dkms match --templatekernel=$OLD --all
try dkms match --templatekernel=$OLD -k $K -k $OLD
try dkms match --templatekernel=$OLD -k $K nosuch
try dkms match --templatekernel= -k $K

scene 'nothing to do'
try dkms match --templatekernel=$OLD -k $K
module hello 1.0
quietly dkms add hello/1.0
try dkms match --templatekernel=$OLD -k $K
quietly dkms build hello/1.0 -k $OLD
try dkms match --templatekernel=$OLD -k $K
try dkms match --templatekernel=$OLD -k $K hello
