// SPDX-License-Identifier: GPL-2.0-or-later
//! Crash reports, where the distribution collects them (Ubuntu's apport).

use std::process::{Command, Stdio};

use crate::error::Error;
use crate::steps::Work;
use crate::system::process::find_program;

/// Reports a build that failed through the package's own fault, as far as can be told.
pub fn report(work: &Work, error: &Error) {
    let paths = &work.site.paths;
    let hook = paths.system("/usr/share/apport/package-hooks/dkms_packages.py");
    let is_faulty = matches!(
        error,
        Error::PatchOutside(_)
            | Error::NoPatch { .. }
            | Error::PatchFailed { .. }
            | Error::NotProduced { .. }
            | Error::BuildFailed { .. }
    );
    if !is_faulty
        || !paths.system("/usr/share/apport/apport").exists()
        || !hook.exists()
        || find_program("python3").is_none()
    {
        return;
    }
    let status = Command::new("python3")
        .arg(hook)
        .args(["-m", &work.id.name, "-v", &work.id.version, "-k", &work.kernel.target.release])
        .stdin(Stdio::null())
        .status();
    log::debug!("apport's hook: {status:?}");
}
