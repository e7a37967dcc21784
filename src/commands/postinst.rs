// SPDX-License-Identifier: GPL-2.0-or-later
//! `/usr/lib/dkms/common.postinst`: what every `-dkms` package calls when it is configured.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::commands::add::Added;
use crate::commands::remove::built_for;
use crate::commands::{Action, Invocation, add, ldtarball, lock, remove, settle};
use crate::error::{Doing, Error, Result, cannot};
use crate::model::conf::Question;
use crate::model::failures::Failure;
use crate::model::framework::OnFailure;
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::State;
use crate::plan::Plan;
use crate::request::{Announced, Goal, Left, Modules, Request};
use crate::run::Outcome;
use crate::steps::post_transaction::Transaction;
use crate::system::directories::{list, names};
use crate::system::dpkg;
use crate::system::output::Block;
use crate::system::version::dpkg_later;
use crate::{policy, report, run};

/// The arguments, as dh_dkms writes them into a package's postinst.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    /// The module's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where the package may have a tarball of its modules, built already.
    pub tarballs: PathBuf,
    /// An architecture, if not the machine's.
    pub arch: String,
    /// The package's version before, if this is an upgrade.
    pub upgrade_from: String,
}

/// Registers the package's module and installs it for the kernels that are there.
pub fn run(site: &Site, arguments: &Arguments) -> Result<()> {
    let say = site.output.block();
    if arguments.name.is_empty() || arguments.version.is_empty() {
        say.say("Need NAME, and VERSION defined\nARCH is optional");
        return Err(Error::silent(1));
    }
    site.need_root()?;
    if site.paths.no_autoinstall().exists() {
        say.say("autoinstall for dkms modules has been disabled.");
        return Ok(());
    }
    let id = Id::new(&arguments.name, &arguments.version);
    if !id.is_sane() {
        return Err(Error::BadName(id.to_string()));
    }
    say.end();
    let unattended = site.framework.on_failure == OnFailure::Continue;
    let options = Options { action: "add".into(), unattended, ..Options::default() };
    let ended = configure(site, arguments, &id, &options);
    let ended = rescue(site, &id, &options, ended);
    if ended.is_err() && !unattended {
        // The package is configured again when that is mended; until then what there was serves.
        return ended;
    }
    // Where no new version is to come for a kernel, the old one goes now; the end of dpkg's run sees to it again.
    let settled = settle::run(site, Left::By(id.name));
    match settled {
        Err(error) if unattended => {
            if !error.is_said() {
                site.output.block().error(&error);
            }
            ended
        }
        settled => ended.and(settled),
    }
}

/// Ends what could not begin, for the settings cannot be read.
pub fn give_up(site: &Site, arguments: &Arguments, error: Error) -> Result<()> {
    let id = Id::new(&arguments.name, &arguments.version);
    let options = Options { action: "add".into(), unattended: site.root && id.is_sane(), ..Options::default() };
    rescue(site, &id, &options, Err(error))
}

/// Ends what could not begin. That is noted for each kernel that has an older version, which stays for that reason.
fn rescue(site: &Site, id: &Id, options: &Options, ended: Result<()>) -> Result<()> {
    let on: BTreeSet<Target> = site.tree.superseded(&id.name).into_iter().chain([Target::running()]).collect();
    let on: Vec<Target> = on.into_iter().collect();
    policy::rescue(site, options, ended, &on, || vec![(id.clone(), None)])
}

fn configure(site: &Site, arguments: &Arguments, id: &Id, options: &Options) -> Result<()> {
    let _lock = lock(site)?;
    let had = had(site, id);
    let tarball = arguments.tarballs.join(format!("{}.dkms.tar.gz", id.dashed()));
    let tarball = Some(tarball).filter(|file| !arguments.tarballs.as_os_str().is_empty() && file.is_file());
    if tarball.is_none() && !site.tree.source_dir(id).is_dir() && site.tree.is_broken(id) {
        return Err(Error::Broken(id.to_string()));
    }
    let source = fs::canonicalize(site.tree.source_link(id)).ok();
    // Who cannot be registered anew stays registered: what is in place is still his.
    let stay = |error: Error| {
        if let Some(source) = source.as_ref().filter(|_| !site.tree.version_dir(id).exists()) {
            let back = add::register(site, id, source, None, &site.output.errors_only_block());
            back.unwrap_or_else(|error| log::warn!("{error}"));
        }
        error
    };
    if site.tree.version_dir(id).is_dir() {
        let say = site.output.block();
        say.say(format!("Removing old {id} DKMS files..."));
        say.end();
        let options = Options { supersede: true, ..options.clone() };
        let targets = built_for(site, id);
        remove::remove(site, id.clone(), targets.clone(), options)?;
        let removal = Transaction { action: "remove", id: Some(id), target: targets.first() };
        removal.end(site, &site.output.block());
    }
    if let Some(tarball) = tarball {
        let invocation = Invocation {
            targets: vec![Target::running()],
            options: options.clone(),
            ..Invocation::new(Action::Ldtarball)
        };
        let say = site.output.block();
        if let Err(error) = ldtarball::load(site, &invocation, &tarball, &say).and_then(Added::whole) {
            if !error.is_said() {
                say.error(&error);
            }
            return Err(stay(Error::Said { code: 2, hint: error.hint() }));
        }
    } else if site.tree.source_dir(id).is_dir() {
        site.output.block().say(format!("Loading new {id} DKMS files..."));
        register(site, id, options).map_err(stay)?;
    }
    let say = site.output.block();
    if !wants_autoinstall(site, id)? {
        say.say(format!("Not building the {} module which does not have AUTOINSTALL enabled.", id.name));
        return Ok(());
    }
    let arch = match arguments.arch.as_str() {
        "" => Target::running().arch,
        arch => arch.to_owned(),
    };
    let releases = releases(site, id, &arch, !arguments.upgrade_from.is_empty(), &say)?;
    if releases.is_empty() {
        tell_no_headers(&say);
        say.end();
        let lacking = lacking(site, id, options, [Target::running()].into());
        return policy::settle(site, options, &Plan::default(), &lacking, Ok(()));
    }
    say.say(format!("Building for {}", enumerate(&releases)));
    if !arguments.arch.is_empty() {
        say.say(format!("Building for architecture {arch}"));
    }
    drop(say);
    let request = Request {
        goal: Goal::Installed,
        modules: Modules::Named(vec![id.clone()]),
        targets: releases.iter().map(|release| Target::named(release, &arch, 0)).collect::<Result<_>>()?,
        announced: Announced::Initial,
        options: Options { action: "build".into(), ..options.clone() },
    };
    let wanted = had.into_iter().chain(request.targets.iter().cloned()).chain(missed(site, &arch)).collect();
    install(site, id, request, wanted)
}

/// The kernels that had the module before, or should have had it.
fn had(site: &Site, id: &Id) -> BTreeSet<Target> {
    let of_others = site.tree.versions(&id.name).into_iter().flat_map(|other| built_for(site, &other));
    site.tree.superseded(&id.name).into_iter().chain(site.tree.failed(&id.name)).chain(of_others).collect()
}

/// The kernels that a person would miss: the running one and the newest in /boot.
fn missed(site: &Site, arch: &str) -> impl Iterator<Item = Target> {
    let releases = newest(bootable(site)).into_iter().chain([Target::running().release]);
    releases.map(|release| Target::new(release, arch)).collect::<Vec<_>>().into_iter()
}

/// What comes of a module on those kernels that cannot have it for want of headers: nothing. Headers that are on their
/// way bring it.
fn lacking(site: &Site, id: &Id, options: &Options, wanted: BTreeSet<Target>) -> Vec<Outcome> {
    let say = site.output.block();
    let outcome = |target: Target| {
        let kernel = Kernel::new(site, &target, None, None);
        let has_it = site.tree.state(id, &target) == State::Installed;
        let error = kernel.need_headers().err().filter(|_| !has_it && kernel.modules.join("kernel").is_dir())?;
        let package = dpkg::headers_package(&target.release);
        if dpkg::is_coming(&site.paths, &package) {
            say.say(format!("They come with {package}, which is about to be installed."));
            return None;
        }
        let failure = Some(Failure::new(site, id, &target, &error, None));
        Some(Outcome { id: id.clone(), target, result: Err(error.said()), failure })
    };
    wanted.into_iter().filter(|_| options.unattended && !site.fetches()).filter_map(outcome).collect()
}

/// All kernels at once, or one after the other until one fails, as framework.conf's `continue_on_error` says.
/// What the kernels in `wanted` lack is told with what failed.
fn install(site: &Site, id: &Id, mut request: Request, wanted: BTreeSet<Target>) -> Result<()> {
    let mut left = if site.framework.continue_on_error {
        Vec::new()
    } else {
        request.targets.split_off(1.min(request.targets.len()))
    };
    let (mut plan, mut outcomes) = (Plan::default(), Vec::new());
    loop {
        let next = Plan::make(site, &request, &site.output.block())?;
        outcomes.extend(run::run(site, &request, &next)?);
        plan.steps.extend(next.steps);
        if left.is_empty() || report::last_failure(&outcomes).is_err() {
            break;
        }
        request.targets = vec![left.remove(0)];
    }
    let ended = report::last_failure(&outcomes);
    outcomes.extend(lacking(site, id, &request.options, wanted));
    policy::settle(site, &request.options, &plan, &outcomes, ended)
}

/// Adds without the words on standard output: the package's own stand for them.
fn register(site: &Site, id: &Id, options: &Options) -> Result<()> {
    let invocation = Invocation {
        name: Some(id.name.clone()),
        version: Some(id.version.clone()),
        targets: vec![Target::running()],
        options: options.clone(),
        ..Invocation::new(Action::Add)
    };
    add::add(site, &invocation, &site.output.errors_only_block())?.whole().map(drop)
}

/// Whether the package's dkms.conf says anything of AUTOINSTALL; that it says `no` was never looked at, nor what an
/// administrator's override says.
fn wants_autoinstall(site: &Site, id: &Id) -> Result<bool> {
    let question = Question {
        site,
        kernel: &Kernel::new(site, &Target::running(), None, None),
        // Overrides are a named module's.
        id: None,
        file: site.tree.source_link(id).join("dkms.conf"),
        directives: &[],
        action: "add",
        force: false,
    };
    match question.answer() {
        Ok(conf) => Ok(!conf.get("AUTOINSTALL").is_empty()),
        // What there is none of wants nothing; of one that cannot be read nobody knows.
        Err(error @ Error::Io { .. }) => Err(error),
        Err(_) => Ok(false),
    }
}

/// The kernels to build for: all that have a build directory, or the running one and the newest. What is built elsewhere,
/// and came with the package or can be had, needs no such directory.
fn releases(site: &Site, id: &Id, arch: &str, upgrade: bool, say: &Block) -> Result<Vec<String>> {
    let tree = &site.framework.install_tree;
    let can_be_had = |name: &String| {
        tree.join(name).join("build").exists()
            || site.tree.is_built(id, &Target::new(name, arch))
            || (site.fetches() && tree.join(name).join("kernel").is_dir())
    };
    let all = || -> Result<Vec<String>> {
        Ok(list(tree).doing(cannot("read", tree))?.into_iter().filter(can_be_had).collect())
    };
    if site.framework.autoinstall_all_kernels {
        return all();
    }
    let running = Target::running().release;
    if tree.join(&running).is_dir() {
        let newest = newest(bootable(site)).filter(|release| *release != running && tree.join(release).is_dir());
        return Ok(std::iter::once(running).chain(newest).collect());
    }
    say.say(format!("It is likely that {running} belongs to a chroot's host"));
    Ok(if upgrade { newest(all()?).into_iter().collect() } else { all()? })
}

/// The kernels in /boot.
fn bootable(site: &Site) -> Vec<String> {
    let files = names(&site.paths.boot());
    files.iter().filter_map(|name| name.strip_prefix("config-")).map(str::to_owned).collect()
}

fn newest(mut among: Vec<String>) -> Option<String> {
    among.sort_by(|a, b| if dpkg_later(a, b) { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less });
    among.pop()
}

fn tell_no_headers(say: &Block) {
    let running = Target::running().release;
    say.say(format!(
        "WARNING: No kernel headers were found, skipping module build.\n         To get the headers for the running kernel \
         ({running})\n         please install the {} package.",
        dpkg::headers_package(&running)
    ));
}

/// `a`, `a and b`, `a, b and c`.
fn enumerate(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_sentences() {
        let list = |items: &[&str]| enumerate(&items.iter().map(|item| item.to_string()).collect::<Vec<_>>());
        assert_eq!([list(&["a"]), list(&["a", "b"]), list(&["a", "b", "c"])], ["a", "a and b", "a, b and c"]);
    }
}
