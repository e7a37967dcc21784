// SPDX-License-Identifier: GPL-2.0-or-later

//! Who signs, and with what.

use crate::support::{Layer, Root};

#[test]
fn a_chroot_does_not_sign() {
    let mut root = Root::with(Layer::Ours, &["--chroot"]);
    root.source("apple-gmux-0.1");
    root.sh("dkms add apple-gmux/0.1");
    root.says(
        "dkms build apple-gmux/0.1",
        "Running in chroot, modules won't be signed\n\nBuilding module(s)... done.\n",
    );
    root.says("ls /var/lib/dkms", "apple-gmux\n");
}
