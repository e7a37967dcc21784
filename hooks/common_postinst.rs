// SPDX-License-Identifier: GPL-2.0-or-later
//! `/usr/lib/dkms/common.postinst NAME VERSION [TARBALL_ROOT [ARCH [UPGRADE_FROM]]]`: what the maintainer scripts of
//! `-dkms` packages call, see dh_dkms(1).

use std::process::ExitCode;

use dkms_rs::commands::postinst::{self, Arguments};
use dkms_rs::entry::{self, Reader};
use dkms_rs::model::site::Trees;

fn main() -> ExitCode {
    let mut words = dkms_rs::entry::words();
    let mut next = || words.next().unwrap_or_default();
    let (name, version, tarballs, arch, upgrade_from) = (next(), next(), next(), next(), next());
    let arguments = Arguments { name, version, tarballs: tarballs.into(), arch, upgrade_from };
    entry::run_or(
        Trees::default(),
        Reader::Administrator,
        |site| postinst::run(site, &arguments),
        |site, error| postinst::give_up(site, &arguments, error),
    )
}
