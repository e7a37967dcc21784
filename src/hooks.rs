// SPDX-License-Identifier: GPL-2.0-or-later
//! What the small binaries have in common: a kernel came, or a kernel goes.

use std::process::ExitCode;

use crate::commands::{Action, Invocation, autoinstall, kernel};
use crate::entry::{self, Reader};
use crate::error::Result;
use crate::model::kernel::Kernel;
use crate::model::module::Target;
use crate::model::options::Options;
use crate::model::site::{Site, Trees};

/// Why we look after a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Its package is being configured: the initramfs is made after us.
    Image,
    /// The package of its headers is: an initramfs may be there already.
    Headers,
    /// The machine starts, or a person asked.
    Boot,
}

/// Installs what is missing for a kernel. Exit code 1 if some module failed: that is what callers know.
pub fn kernel_arrived(release: Option<String>, occasion: Occasion) -> ExitCode {
    let code = entry::run(Trees::default(), Reader::Administrator, |site| arrived(site, release, occasion));
    if code == ExitCode::SUCCESS { code } else { ExitCode::FAILURE }
}

fn arrived(site: &Site, release: Option<String>, occasion: Occasion) -> Result<()> {
    let running = Target::running();
    let release = release.filter(|release| !release.is_empty()).unwrap_or(running.release);
    let target = Target::named(release, running.arch, 0)?;
    if !Kernel::new(site, &target, None, None).has_headers() {
        let say = site.output.block();
        let release = &target.release;
        say.say(format!(
            "Automatic installation of modules for kernel {release} was skipped since the kernel headers for this kernel do \
             not seem to be installed."
        ));
        if occasion != Occasion::Boot && !site.tree.all().is_empty() {
            say.say(format!("To have them: apt install {}", crate::system::dpkg::headers_package(release)));
        }
        return Ok(());
    }
    let options = Options {
        action: Action::Autoinstall.name().into(),
        initramfs_follows: occasion == Occasion::Image,
        ..Options::default()
    };
    autoinstall::run(site, &[target], &options)
}

/// Takes our modules out of a kernel that goes. Never fails: the kernel's removal does not depend on us.
pub fn kernel_goes(release: Option<String>, action: Action) -> ExitCode {
    entry::run(Trees::default(), Reader::Administrator, |site| {
        let mut invocation = Invocation::new(action);
        invocation.targets = vec![Target::named(release.unwrap_or_default(), Target::running().arch, 0)?];
        // A kernel that goes takes its initramfs along, one that is replaced makes a new one.
        invocation.options.initramfs_follows = true;
        kernel::run(site, &invocation)
    });
    ExitCode::SUCCESS
}
