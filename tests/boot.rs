// SPDX-License-Identifier: GPL-2.0-or-later

//! What the hook installs for a kernel, that kernel loads.

use crate::support::Root;

#[test]
fn a_kernel_boots_and_loads_what_its_hook_installed() {
    let mut root = Root::new();
    root.source("hello-0.1");
    root.sh("apt-get -qq -y install v4l2loopback-dkms");
    root.sh("dkms add hello/0.1");
    root.sh("DEB_MAINT_PARAMS='configure ' /etc/kernel/postinst.d/dkms $K /boot/vmlinuz-$K");

    let console = root.sh("/srv/tests/boot $K hello v4l2loopback");
    let (log, loaded) = console.split_once("boot: /proc/modules\n").expect("the list of loaded modules comes last");
    assert!(log.lines().any(|line| line.ends_with("] Hello world.")), "{log}");
    for module in ["hello", "v4l2loopback"] {
        // O: out of tree. E: signed by a key that this kernel was not told of.
        let line = loaded
            .lines()
            .find(|line| line.split(' ').next() == Some(module))
            .unwrap_or_else(|| panic!("{module} is not among\n{loaded}"));
        assert!(line.contains(" Live ") && line.ends_with("(OE)"), "{line}");
    }
}
