// SPDX-License-Identifier: GPL-2.0-or-later
//! What becomes of modules that could not be installed when nobody waited for them: `on_failure` of framework.conf.
//!
//! The kernel's packages stop at a hook that fails, and dpkg at a package whose script does: then there is no
//! initramfs, no boot entry, and nothing that depends on the package. That is too much for one module. So what failed
//! is noted, told in one screen, shown by `dkms status` and at the next login, and tried again when something has
//! changed of what it is built from; and the hook goes well. Unless the machine could not boot that kernel: then it
//! fails, before the boot loader hears of the kernel.

mod critical;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::model::conf::Conf;
use crate::model::failures::{self, Failure};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::State;
use crate::plan::{self, Plan};
use crate::run::Outcome;
use crate::steps::superseded;
use crate::system::dpkg;
use crate::system::output::Block;
use crate::system::paths::Paths;
use crate::system::root_fs::module_name;
use crate::system::trust;

pub(crate) use self::critical::Critical;
use self::critical::names_of;

/// The code of an error that says that a module is not meant for a kernel.
pub(crate) const EXCLUDED: u8 = 77;

/// A module that is not installed, and the reason why the machine cannot boot without it, if there is one.
struct Missing {
    failure: Failure,
    critical: Option<String>,
    /// Whether an older version serves until it is there.
    served: bool,
}

impl Missing {
    fn new(failure: Failure, critical: Option<String>, by: &Critical, conf: Option<&Conf>) -> Self {
        let served = critical.is_some() && by.is_served(&failure.id, conf, &failure.target);
        Self { failure, critical, served }
    }
}

/// Ends an installation whose words are out but for those of its error: as it always ended, unless nobody waits for it.
pub fn settle(site: &Site, options: &Options, plan: &Plan, outcomes: &[Outcome], ended: Result<()>) -> Result<()> {
    if !options.unattended {
        return ended;
    }
    if let Some(error) = ended.err().filter(|error| !error.is_said()) {
        site.output.block().error(&error);
    }
    let critical = Critical::of(site);
    let mut missing = Vec::new();
    for outcome in outcomes {
        let Some(failure) = outcome.failure.clone() else { continue };
        let step = plan.steps.iter().find(|step| (&step.id, &step.kernel.target) == (&failure.id, &failure.target));
        // For a kernel without headers there was nothing to plan.
        let kernel = || Kernel::new(site, &failure.target, None, None);
        let conf = match step {
            Some(step) => step.conf.clone(),
            None => plan::read_conf(site, options, &failure.id, &kernel()).ok(),
        };
        let conf = conf.as_ref();
        // What the kernel has already, as new or newer, has not failed, nor what is not meant for it; that may be needed,
        // if only by what an older version left.
        let passed_over = matches!(outcome.result, Err(Error::InstallAborted));
        let covered = passed_over && critical.is_covered(conf, &failure.target);
        let excluded = failure.code == EXCLUDED && critical.left(&failure.id.name, &failure.target).is_none();
        let reason = critical.reason(&failure.id, conf, &failure.target).filter(|_| !covered);
        if !(covered || excluded) || reason.is_some() {
            missing.push(Missing::new(failure, reason, &critical, conf));
        } else {
            failures::forget(&site.tree, &failure.id.name, &failure.target);
        }
    }
    for waiting in &plan.waiting {
        let reason = critical.reason(&waiting.id, waiting.conf.as_ref(), &waiting.kernel.target);
        if !waiting.unknown || reason.is_some() {
            let error = Error::Stranded { missing: waiting.missing.clone() };
            let failure = Failure::new(site, &waiting.id, &waiting.kernel.target, &error, None);
            missing.push(Missing::new(failure, reason, &critical, waiting.conf.as_ref()));
        }
    }
    // That they are broken was told, and would be no failure.
    for (id, (target, _)) in plan.broken.iter().flat_map(|id| plan.installed.iter().map(move |on| (id, on))) {
        if let Some(reason) =
            critical.reason(id, None, target).filter(|_| site.tree.state(id, target) != State::Installed)
        {
            let failure = Failure::new(site, id, target, &Error::Broken(id.to_string()), None);
            missing.push(Missing::new(failure, Some(reason), &critical, None));
        }
    }
    failures::prune(site);
    forget_unwanted(site, plan);
    end(site, options, missing)
}

/// Forgets that modules failed which nobody wants to be installed any more, unless what they were to succeed serves on.
fn forget_unwanted(site: &Site, plan: &Plan) {
    let tree = &site.tree;
    for (target, _) in &plan.installed {
        let planned = plan.steps.iter().map(|step| (&step.id, &step.kernel));
        let waiting = plan.waiting.iter().map(|waiting| (&waiting.id, &waiting.kernel));
        let here = planned.chain(waiting).filter(|(_, kernel)| kernel.target == *target);
        let wanted: BTreeSet<&str> = here.map(|(id, _)| id.name.as_str()).collect();
        for name in tree.all_failed().iter().filter(|name| !wanted.contains(name.as_str())) {
            // What could not even be registered is no less wanted.
            if !tree.versions(name).is_empty() && !superseded::is_recorded(site, name, target) {
                failures::forget(tree, name, target);
            }
        }
    }
}

/// Ends an installation that may not have got as far as to [`settle`], if nobody waits for it: then none of the `wanted`
/// modules is there, on none of the `targets`.
pub fn rescue(
    site: &Site,
    options: &Options,
    ended: Result<()>,
    targets: &[Target],
    wanted: impl FnOnce() -> Vec<(Id, Option<Conf>)>,
) -> Result<()> {
    match ended {
        Err(error) if options.unattended && !matches!(error, Error::Critical { .. }) => {
            if !error.is_said() {
                site.output.block().error(&error);
            }
            give_up(site, options, &wanted(), targets, &error)
        }
        ended => ended,
    }
}

/// Notes, and tells nobody yet, that modules are not installed for a kernel.
pub fn put_off(site: &Site, wanted: &[(Id, Option<Conf>)], target: &Target, error: &Error) {
    let failures: Vec<_> = wanted.iter().map(|(id, _)| Failure::new(site, id, target, error, None)).collect();
    note(site, failures.iter(), &site.output.block());
}

/// Notes failures for kernels that are there.
fn note<'a>(site: &Site, failures: impl Iterator<Item = &'a Failure>, say: &Block) {
    // Not in a tree that others can write.
    if trust::check(site.tree.root()).is_err() {
        return;
    }
    for failure in failures.filter(|failure| site.modules(&failure.target.release).is_dir()) {
        failure
            .note(&site.tree)
            .unwrap_or_else(|error| say.warn(format!("Cannot note that {} failed: {error}", failure.id)));
    }
}

/// Ends an installation of which nothing came, by the error that was told.
pub fn give_up(
    site: &Site,
    options: &Options,
    wanted: &[(Id, Option<Conf>)],
    targets: &[Target],
    error: &Error,
) -> Result<()> {
    let critical = &Critical::of(site);
    let on = |target| {
        wanted.iter().map(move |(id, conf)| {
            let failure = Failure::new(site, id, target, error, None);
            Missing::new(failure, critical.reason(id, conf.as_ref(), target), critical, conf.as_ref())
        })
    };
    end(site, options, targets.iter().flat_map(on).collect())
}

/// Notes and tells what is missing; an error if the machine cannot boot without it.
fn end(site: &Site, options: &Options, missing: Vec<Missing>) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let say = site.output.block();
    note(site, missing.iter().map(|it| &it.failure), &say);
    // On one screen, what matters most.
    let (mut first, others): (Vec<_>, Vec<_>) = missing.into_iter().partition(|it| it.critical.is_some());
    let way_out = way_out(site, &first, options.initramfs_follows);
    let code = first.first().map(|it| it.failure.code);
    first.extend(others);
    let failures: Vec<Failure> = first.into_iter().map(|it| it.failure).collect();
    say.complain(format!("\n{}", failures::screen(&failures)));
    match code {
        None => {
            say.complain(
                "Nothing else is held up. They are tried again when something has changed of what they are built from; until \
                 then\n'dkms status' and the next login tell of them.\n",
            );
            Ok(())
        }
        Some(code) => {
            say.complain(way_out);
            Err(Error::Critical { code })
        }
    }
}

/// What to do about modules that the machine cannot boot without. `before`: the boot loader does not know the kernel yet.
fn way_out(site: &Site, critical: &[Missing], before: bool) -> String {
    if critical.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    for Missing { failure: Failure { id, target, .. }, critical, served } in critical {
        let reason = critical.as_deref().unwrap_or_default();
        let boots = match served {
            true => format!("boots kernel {} by what is left of an older version until there is {id}", target.release),
            false => format!("may not boot kernel {} without {id}", target.release),
        };
        text.push_str(&format!("This machine {boots}: {reason}.\n"));
    }
    let again: BTreeSet<&str> = critical.iter().map(|it| it.failure.again.as_str()).collect();
    let again: Vec<&str> = again.into_iter().collect();
    let again = again.join(" && ");
    let configure = format!("{again} && dpkg --configure -a");
    let none = format!("echo critical_modules=none >{} && dpkg --configure -a", last_word(&site.paths).display());
    let images: BTreeSet<String> = critical
        .iter()
        .filter(|it| !it.served)
        .map(|it| format!("linux-image-{}", it.failure.target.release))
        .collect();
    if images.is_empty() {
        return text + &format!("  when it is mended:  {configure}\n  if it can wait:     {none}\n");
    }
    let images: Vec<String> = images.into_iter().collect();
    let images = dpkg::maintainer_script().filter(|_| before).unwrap_or_else(|| images.join(" "));
    let stop = if before {
        "Its installation stops here, before the boot loader makes it the default."
    } else {
        "Do not boot that kernel before this is mended."
    };
    text + &format!(
        "{stop}\n  \
         when it is mended:       {configure}\n  \
         without that kernel:     apt purge {images}\n  \
         to boot it all the same: {none}\n"
    )
}

/// A file for settings whose critical_modules count, whatever the files say that there are.
fn last_word(paths: &Paths) -> PathBuf {
    let own = paths.etc().join("framework.conf.d/critical.conf");
    let says =
        |file: &PathBuf| fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains("critical_modules"));
    let others = paths.framework_confs().unwrap_or_default().into_iter().filter(says);
    let last = others.chain([own]).max().unwrap_or_default();
    // That one sorts behind the other.
    if last.to_string_lossy().ends_with("critical.conf") { last } else { last.with_extension("critical.conf") }
}

/// Warns of names in critical_modules that neither the kernel has nor a registered package would bring: what is misspelt
/// there guards nothing.
pub fn warn_of_unknown(site: &Site, options: &Options, target: &Target) {
    let called = &site.framework.critical_modules;
    if !options.unattended || called.iter().any(|name| name == "none") || site.paths.no_autoinstall().exists() {
        return;
    }
    // Of headers without a kernel nobody knows what it would have.
    if !site.modules(&target.release).join("kernel").is_dir() {
        return;
    }
    let critical = Critical::of(site);
    let mut unknown: Vec<&String> =
        called.iter().filter(|name| !critical.has(target, &module_name(name.as_str()))).collect();
    if unknown.is_empty() {
        return;
    }
    let wanted = plan::wanted(site, options, target);
    // Of what cannot be read nobody knows what it would bring.
    if wanted.iter().any(|(_, conf)| conf.is_none()) {
        return;
    }
    let registered = site.tree.all().into_iter().map(|id| (id, None));
    let names: BTreeSet<String> =
        wanted.into_iter().chain(registered).flat_map(|(id, conf)| names_of(site, &id, conf.as_ref())).collect();
    unknown.retain(|name| !names.contains(&module_name(name.as_str())));
    for name in unknown {
        site.output.block().warn(format!(
            "critical_modules in framework.conf names {name}, but neither kernel {} nor a registered package has a module \
             of that name.",
            target.release
        ));
    }
}
