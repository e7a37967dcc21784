# SPDX-License-Identifier: GPL-2.0-or-later
#
# Command lines that say nothing sensible.

scene 'no action'
module hello 1.0
try dkms
try dkms -h
try dkms --help
try dkms -V
try dkms --version
try dkms version
try dkms help
try dkms frobnicate
try dkms frobnicate hello/1.0
try dkms hello/1.0 frobnicate
try dkms mkdeb hello/1.0

scene 'unknown options'
try dkms --frobnicate
try dkms status --frobnicate
try dkms status -x
try dkms status --
try dkms status -
try dkms -q frobnicate
try dkms -q --frobnicate
try dkms --frobnicate -q

scene 'two actions'
module hello 1.0
try dkms add build hello/1.0
try dkms add add hello/1.0

scene 'help and version beside an action'
try dkms status -h
try dkms -h status
try dkms status -V
try dkms --version --frobnicate
try dkms -h --frobnicate

scene 'no module'
for action in add build install uninstall unbuild remove; do
    try dkms $action
done

scene 'no version'
module hello 1.0
module hello 2.0
module foo 1.0
for action in add build install uninstall unbuild remove; do
    try dkms $action hello
    try dkms $action -m hello
    try dkms $action foo
done
try dkms add hello/
try dkms add /1.0
try dkms add -v 1.0
try dkms build -v 1.0

scene 'a module that is nowhere'
for action in add build install uninstall unbuild remove status; do
    try dkms $action nosuch/1.0
    try dkms $action -m nosuch -v 1.0 -k $K
    try dkms $action nosuch
done

scene 'a module that was not added'
module hello 1.0
for action in uninstall unbuild remove; do
    try dkms $action hello/1.0
    try dkms $action hello/1.0 --all
done
try dkms status hello/1.0

scene '--all beside -k or -a'
module hello 1.0
quietly dkms add hello/1.0
for action in add build install uninstall unbuild remove status autoinstall \
    kernel_prerm kernel_postinst kernel_preinst; do
    try dkms $action hello/1.0 -k $K --all
    try dkms $action hello/1.0 -a $A --all
done

scene '--all where it does not belong'
module hello 1.0
quietly dkms add hello/1.0
for action in add build install autoinstall kernel_prerm kernel_postinst kernel_preinst; do
    try dkms $action hello/1.0 --all
done
try dkms status --all

scene 'kernels, where just one is wanted'
module hello 1.0
quietly dkms add hello/1.0
for action in autoinstall kernel_prerm kernel_postinst kernel_preinst; do
    try dkms $action -k $K -k $OLD
done
for action in kernel_prerm kernel_postinst kernel_preinst; do
    try dkms $action
    try dkms $action -k ''
done

scene 'architectures that do not match the kernels'
module hello 1.0
quietly dkms add hello/1.0
try dkms status -k $K -a x86_64 -a i686
try dkms status -k $K -k $OLD -a x86_64 -a i686 -a arm
try dkms build hello/1.0 -k $K -a x86_64 -a i686
try dkms build hello/1.0 -k $K/x86_64 -a i686

scene 'flags that exclude each other'
module hello 1.0
quietly dkms add hello/1.0
try dkms status --binaries-only --source-only
try dkms status --binaries-only
