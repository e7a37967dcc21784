// SPDX-License-Identifier: GPL-2.0-or-later
//! What the small binaries have in common: a kernel came, or a kernel goes.

use std::cell::Cell;
use std::process::ExitCode;
use std::slice;

use crate::commands::{Action, Invocation, autoinstall, kernel, settle};
use crate::entry::{self, Reader};
use crate::error::{Error, Result};
use crate::model::framework::OnFailure;
use crate::model::kernel::Kernel;
use crate::model::module::Target;
use crate::model::options::Options;
use crate::model::site::{Site, Trees};
use crate::system::dpkg;
use crate::system::version::looks_like_release;
use crate::{plan, policy};

/// Why we look after a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Its package is being configured: the initramfs is made after us.
    Image,
    /// kernel-install(8) makes its initramfs and boot entry after us, and that is worth more than any module but one that
    /// the machine cannot boot without.
    KernelInstall,
    /// The package of its headers is, or the machine starts: an initramfs may be there already.
    Headers,
    /// A person asked, or a program that is none of ours.
    Asked,
}

/// Installs what is missing for a kernel. Exit code 1 if that failed in a way that counts: see [`policy`], and for whom
/// asks, if some module failed.
pub fn kernel_arrived(release: Option<String>, occasion: Occasion) -> ExitCode {
    let running = Target::running();
    let release = release.filter(|release| !release.is_empty()).unwrap_or(running.release);
    // No package of a kernel is held up by a name that no kernel has.
    let target = |site: &Site| match Target::named(&release, &running.arch, 0) {
        Err(error) if options(site, occasion).unattended => {
            site.output.block().error(&error);
            Ok(None)
        }
        named => named.map(Some),
    };
    let critical = Cell::new(false);
    let watch = |ended: Result<()>| {
        critical.set(matches!(ended, Err(Error::Critical { .. })));
        ended
    };
    let code = entry::run_or(
        Trees::default(),
        Reader::Administrator,
        |site| watch(target(site).and_then(|target| target.map_or(Ok(()), |target| arrived(site, target, occasion)))),
        |site, error| {
            let options = options(site, occasion);
            let Some(target) = target(site)? else { return Ok(()) };
            let wanted = || plan::wanted(site, &options, &target);
            watch(policy::rescue(site, &options, Err(error), slice::from_ref(&target), wanted))
        },
    );
    let counts = critical.get() || occasion != Occasion::KernelInstall;
    if code == ExitCode::SUCCESS || !counts { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(site: &Site, occasion: Occasion) -> Options {
    Options {
        action: Action::Autoinstall.name().into(),
        initramfs_follows: matches!(occasion, Occasion::Image | Occasion::KernelInstall),
        unattended: occasion != Occasion::Asked && site.framework.on_failure == OnFailure::Continue,
        ..Options::default()
    }
}

fn arrived(site: &Site, target: Target, occasion: Occasion) -> Result<()> {
    let options = options(site, occasion);
    if options.unattended {
        settle::register_unpacked(site, &target)?;
    }
    let kernel = Kernel::new(site, &target, None, None);
    // Who gets modules from elsewhere needs no headers; but with them all is done when they come.
    if !kernel.has_headers() {
        let coming = they_come(site, &kernel, &options);
        if coming || !site.fetches() {
            return without_headers(site, &kernel, &options, occasion, coming);
        }
    }
    site.need_root()?;
    let ended = autoinstall::run(site, slice::from_ref(&target), &options);
    let ended =
        policy::rescue(site, &options, ended, slice::from_ref(&target), || plan::wanted(site, &options, &target));
    // What is wrong with a critical module that there is comes last, with the way out.
    if ended.is_ok() {
        policy::warn_of_unknown(site, &options, &target);
    }
    ended
}

/// Whether a kernel's headers come in the run of apt that brings the kernel.
fn they_come(site: &Site, kernel: &Kernel, options: &Options) -> bool {
    options.initramfs_follows && dpkg::is_coming(&site.paths, &dpkg::headers_package(&kernel.target.release))
}

/// Says what is missing, and what brings it; `coming`: that this is about to be installed.
fn without_headers(site: &Site, kernel: &Kernel, options: &Options, occasion: Occasion, coming: bool) -> Result<()> {
    let target = &kernel.target;
    let say = site.output.block();
    say.say(format!(
        "Automatic installation of modules for kernel {} was skipped since the kernel headers for this kernel do not seem \
         to be installed.",
        target.release
    ));
    if occasion == Occasion::Asked || site.tree.all().is_empty() {
        return Ok(());
    }
    let package = dpkg::headers_package(&target.release);
    if coming {
        say.say(format!("They come with {package}, which is about to be installed."));
    } else if looks_like_release(&target.release) {
        // What does not look like a kernel has no package with headers either.
        say.say(format!("To have them: apt install {package}"));
    }
    let unwanted = site.paths.no_autoinstall().exists();
    match kernel.need_headers() {
        Err(error) if options.unattended && site.root && kernel.modules.is_dir() && !unwanted => {
            say.end();
            let wanted = plan::wanted(site, options, target);
            if coming {
                // Their own hook forgets it, unless they do not come after all.
                policy::put_off(site, &wanted, target, &error);
                return Ok(());
            }
            policy::give_up(site, options, &wanted, slice::from_ref(target), &error)
        }
        _ => Ok(()),
    }
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
