// SPDX-License-Identifier: GPL-2.0-or-later
//! The initramfs of a kernel whose modules changed.

use std::process::{ExitStatus, Stdio};

use crate::model::site::Site;
use crate::system::directories::names;
use crate::system::dpkg;
use crate::system::process;
use crate::system::version::dpkg_later;

/// The trigger that our own package waits for.
const OUR_TRIGGER: &str = "dkms-initramfs";

/// Refreshes the initramfs of `release` where dpkg runs us and that kernel has one: once, at the end of dpkg's run,
/// however many packages ask for it. Without dpkg a person decides.
///
/// A kernel whose package is still to be configured in this run gets its own then.
///
/// initramfs-tools' own trigger serves the newest kernel alone. For another one a mark is left for our package's.
pub fn refresh(site: &Site, release: &str) {
    let boot = site.paths.boot();
    if dpkg::maintainer_script().is_none() || !boot.join(format!("initrd.img-{release}")).exists() {
        return;
    }
    if ["", "-unsigned"].iter().any(|end| dpkg::is_halfway(&format!("linux-image-{release}{end}"))) {
        return;
    }
    let newer = |other: &str| other != release && dpkg_later(other, release);
    let newest = !names(&boot).iter().filter_map(|name| name.strip_prefix("initrd.img-")).any(newer);
    if newest && dpkg::is_installed("initramfs-tools") && dpkg::activate_trigger("update-initramfs") {
        return;
    }
    // A fixed place, wherever the tree is: our package's postinst looks there.
    let mark = site.paths.system(&format!("/var/lib/dkms/.initramfs-{release}"));
    if std::fs::write(&mark, "").is_ok() && dpkg::activate_trigger(OUR_TRIGGER) {
        return;
    }
    // Left for nobody otherwise.
    let _ = std::fs::remove_file(&mark);
    let status = process::program("update-initramfs")
        .args(["-u", "-k", release])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !status.as_ref().is_ok_and(ExitStatus::success) {
        log::warn!("The initramfs of kernel {release} is not new; to try again: update-initramfs -u -k {release}");
    }
}
