# SPDX-License-Identifier: GPL-2.0-or-later
#
# Modules that are built anew with what they build upon.

scene 'a new version below it'
module base 1.0
module top 1.0 'BUILD_DEPENDS="base"' 'BUILD_DEPENDS_REBUILD="yes"'
try dkms install top/1.0
quietly dkms install base/1.0
try dkms install top/1.0
try cat /var/lib/dkms/top/1.0/$K/$A/.dep_base
try dkms install base/1.0
module base 2.0
try dkms install base/2.0
try cat /var/lib/dkms/top/1.0/$K/$A/.dep_base
try dkms status
try dkms install base/2.0 --force
try dkms remove top/1.0 --all

scene 'by itself'
module base 1.0
module top 1.0 'BUILD_DEPENDS="base"' 'BUILD_DEPENDS_REBUILD="yes"'
quietly dkms add base/1.0
quietly dkms add top/1.0
try dkms autoinstall
module base 2.0
quietly dkms add base/2.0
try dkms autoinstall
try dkms status

scene 'not wanted'
module base 1.0
module top 1.0 'BUILD_DEPENDS="base"'
quietly dkms install base/1.0
quietly dkms install top/1.0
module base 2.0
try dkms install base/2.0
module firm 1.0 'BUILD_DEPENDS="base"' 'BUILD_DEPENDS_REBUILD="maybe"'
try dkms add firm/1.0

scene 'with force'
module base 1.0
module top 1.0 'BUILD_DEPENDS="base"' 'BUILD_DEPENDS_REBUILD="yes"'
quietly dkms install base/1.0
try dkms install top/1.0 --force
module base 2.0
try dkms install base/2.0 --force
try dkms status
