// SPDX-License-Identifier: GPL-2.0-or-later

//! What is noted of modules that could not be installed, until that is no failure any more.

use crate::support::{Layer, Root};

#[test]
fn what_nobody_wants_any_more_has_not_failed() {
    for mended in ["BUILD_EXCLUSIVE_KERNEL=^9", "AUTOINSTALL=", "MAKE=true\nDEST_MODULE_NAME=nlmon"] {
        let mut root = Root::with(Layer::Ours, &[]);
        root.quick("bad", "MAKE=false\nAUTOINSTALL=yes");
        root.quick("worse", "MAKE=false\nAUTOINSTALL=yes");
        root.sh("dkms generate_mok; dkms add bad/1; dkms add worse/1; /etc/kernel/postinst.d/dkms $K");
        root.says("dkms status --failed | grep -c ' for kernel '", "2\n");
        root.quick("bad", &format!("MAKE=false\nAUTOINSTALL=yes\n{mended}"));
        root.sh("/etc/kernel/postinst.d/dkms $K");
        root.says("dkms status --failed | grep ' for kernel ' | cut -d: -f1", "  worse/1 for kernel $K ($A)\n");
    }
}
