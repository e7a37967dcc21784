// SPDX-License-Identifier: GPL-2.0-or-later
//! `/usr/lib/dkms/common.postinst`: what every `-dkms` package calls when it is configured.

use std::fs;
use std::path::PathBuf;

use crate::commands::remove::built_for;
use crate::commands::{Action, Invocation, add, ldtarball, lock, remove, settle};
use crate::error::{Doing, Error, Result, cannot};
use crate::model::conf::Question;
use crate::model::framework::OnFailure;
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::tree::State;
use crate::plan::{Plan, Verdict};
use crate::request::{Announced, Goal, Left, Modules, Request};
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
    // Where no new version is to come for a kernel, the old one goes now.
    let ended = match site.tree.superseded(&id.name).as_slice() {
        [] => ended,
        _ => ended.and(lock(site).and_then(|_lock| settle::settle(site, Left::By(id.name.clone())))),
    };
    policy::rescue(site, &options, ended, &Target::running(), || vec![(id, None)])
}

/// Ends what could not begin, for the settings cannot be read.
pub fn give_up(site: &Site, arguments: &Arguments, error: Error) -> Result<()> {
    let id = Id::new(&arguments.name, &arguments.version);
    let options = Options { action: "add".into(), unattended: site.root && id.is_sane(), ..Options::default() };
    policy::rescue(site, &options, Err(error), &Target::running(), || vec![(id, None)])
}

fn configure(site: &Site, arguments: &Arguments, id: &Id, options: &Options) -> Result<()> {
    let _lock = lock(site)?;
    let had = had(site, id);
    let say = site.output.block();
    let source = fs::canonicalize(site.tree.source_link(id)).ok().filter(|_| options.unattended);
    // Who cannot be registered anew stays registered, and is tried again when the next kernel comes.
    let stay = |error: Error| {
        if let Some(source) = source.as_ref().filter(|_| !site.tree.version_dir(id).exists()) {
            let back = add::register(site, id, source, None, &site.output.errors_only_block());
            back.unwrap_or_else(|error| log::warn!("{error}"));
        }
        error
    };
    if site.tree.version_dir(id).is_dir() {
        say.say(format!("Removing old {id} DKMS files..."));
        say.end();
        let options = Options { supersede: true, ..options.clone() };
        remove::remove(site, id.clone(), remove::built_for(site, id), options)?;
    }
    let say = site.output.block();
    let tarball = arguments.tarballs.join(format!("{}.dkms.tar.gz", id.dashed()));
    if !arguments.tarballs.as_os_str().is_empty() && tarball.is_file() {
        let invocation = Invocation {
            targets: vec![Target::running()],
            options: options.clone(),
            ..Invocation::new(Action::Ldtarball)
        };
        if let Err(error) = ldtarball::load(site, &invocation, &tarball, &say) {
            if !error.is_said() {
                say.error(&error);
            }
            return Err(stay(Error::Said { code: 2, hint: error.hint() }));
        }
        say.end();
    } else if site.tree.source_dir(id).is_dir() {
        say.say(format!("Loading new {id} DKMS files..."));
        say.end();
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
        return note_lacking(site, options, id, &[Target::running()]);
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
    let mut lacking: Vec<Target> = had.into_iter().filter(|target| !releases.contains(&target.release)).collect();
    lacking.extend(request.targets.iter().cloned());
    let ended = install(site, request);
    if !options.unattended || site.fetches() {
        return ended;
    }
    passed_over(site, &releases).iter().for_each(|release| name_package(site, release, &site.output.block()));
    lacking.retain(|target| site.tree.state(id, target) != State::Installed);
    ended.and(note_lacking(site, options, id, &lacking))
}

/// The kernels that had the module before, or should have had it.
fn had(site: &Site, id: &Id) -> Vec<Target> {
    let mut had = site.tree.superseded(&id.name);
    had.extend(site.tree.failed(&id.name));
    had.extend(site.tree.versions(&id.name).iter().flat_map(|other| built_for(site, other)));
    had.sort();
    had.dedup();
    had
}

/// Notes that a module is missing for kernels of which there are no headers, unless they are on their way.
fn note_lacking(site: &Site, options: &Options, id: &Id, targets: &[Target]) -> Result<()> {
    let mut ended = Ok(());
    for target in targets.iter().filter(|_| options.unattended) {
        let kernel = Kernel::new(site, target, None, None);
        let comes = dpkg::is_coming(&site.paths, &dpkg::headers_package(&target.release));
        if comes || !kernel.modules.join("kernel").is_dir() {
            continue;
        }
        if let Err(error) = kernel.need_headers() {
            ended = ended.and(policy::give_up(site, options, &[(id.clone(), None)], target, &error));
        }
    }
    ended
}

/// The kernels that a person would miss among those that are built for: the running one and the newest in /boot, where
/// they have modules and no headers.
fn passed_over(site: &Site, releases: &[String]) -> Vec<String> {
    let mut wanted: Vec<String> = newest(bootable(site)).into_iter().chain([Target::running().release]).collect();
    wanted.dedup();
    let lacks = |release: &String| {
        let modules = site.modules(release);
        modules.join("kernel").is_dir() && !modules.join("build").exists() && !releases.contains(release)
    };
    wanted.into_iter().filter(|_| !site.fetches()).filter(lacks).collect()
}

/// All kernels at once, or one after the other until one fails, as framework.conf's `continue_on_error` says.
fn install(site: &Site, mut request: Request) -> Result<()> {
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
    if request.options.unattended && !site.fetches() {
        name_headers(site, &plan);
    }
    policy::settle(site, &request.options, &plan, &outcomes, report::last_failure(&outcomes))
}

/// Names the packages that kernels lack for which nothing could be built.
fn name_headers(site: &Site, plan: &Plan) {
    let say = site.output.block();
    // What was built elsewhere needs none.
    let lacking = plan.steps.iter().filter(|step| !matches!(step.verdict, Verdict::Install));
    for kernel in lacking.map(|step| &step.kernel).filter(|kernel| !kernel.has_headers()) {
        name_package(site, &kernel.target.release, &say);
    }
}

/// Names the package that has the headers of a kernel.
fn name_package(site: &Site, release: &str, say: &Block) {
    let package = dpkg::headers_package(release);
    say.say(if dpkg::is_coming(&site.paths, &package) {
        format!("They come with {package}, which is about to be installed.")
    } else {
        format!("To have them: apt install {package}")
    });
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
    add::add(site, &invocation, &site.output.errors_only_block()).map(drop)
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
            || site.tree.module_dir(id, &Target::new(name, arch)).is_dir()
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
