// SPDX-License-Identifier: GPL-2.0-or-later
//! The actions: each makes a request of what was said on the command line, and speaks the words its callers know.

pub mod add;
pub mod autoinstall;
pub mod build;
pub mod export;
pub mod generate_mok;
pub mod kernel;
pub mod ldtarball;
pub mod matching;
pub mod mktarball;
pub mod packages;
pub mod plan;
pub mod postinst;
pub mod remove;
pub mod settle;
pub mod status;

use std::path::PathBuf;

use crate::error::{Doing, Error, Result, cannot};
use crate::model::compile_cache::CompileCache;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::request::{Announced, Goal, Modules, Request};
use crate::steps::package::about::Stated;
use crate::steps::post_transaction::Transaction;
use crate::steps::tarball::Content;
use crate::system::interrupt;
use crate::system::lock::Lock;

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Add,
    Remove,
    Build,
    Unbuild,
    Install,
    Uninstall,
    Match,
    Autoinstall,
    Mktarball,
    Ldtarball,
    Mkdeb,
    Mkdsc,
    Mkbmdeb,
    Mkrpm,
    Plan,
    Export,
    Status,
    GenerateMok,
    KernelPreinst,
    KernelPostinst,
    KernelPrerm,
}

impl Action {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 21] = [
        Self::Add,
        Self::Remove,
        Self::Build,
        Self::Unbuild,
        Self::Install,
        Self::Uninstall,
        Self::Match,
        Self::Autoinstall,
        Self::Mktarball,
        Self::Ldtarball,
        Self::Mkdeb,
        Self::Mkdsc,
        Self::Mkbmdeb,
        Self::Mkrpm,
        Self::Plan,
        Self::Export,
        Self::Status,
        Self::GenerateMok,
        Self::KernelPreinst,
        Self::KernelPostinst,
        Self::KernelPrerm,
    ];

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Build => "build",
            Self::Unbuild => "unbuild",
            Self::Install => "install",
            Self::Uninstall => "uninstall",
            Self::Match => "match",
            Self::Autoinstall => "autoinstall",
            Self::Mktarball => "mktarball",
            Self::Ldtarball => "ldtarball",
            Self::Mkdeb => "mkdeb",
            Self::Mkdsc => "mkdsc",
            Self::Mkbmdeb => "mkbmdeb",
            Self::Mkrpm => "mkrpm",
            Self::Plan => "plan",
            Self::Export => "export",
            Self::Status => "status",
            Self::GenerateMok => "generate_mok",
            Self::KernelPreinst => "kernel_preinst",
            Self::KernelPostinst => "kernel_postinst",
            Self::KernelPrerm => "kernel_prerm",
        }
    }

    /// The action called `word`.
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == word)
    }

    /// Whether dkms 3.4.3 does not have it.
    pub fn is_new(self) -> bool {
        matches!(self, Self::Mkdeb | Self::Mkdsc | Self::Mkbmdeb | Self::Mkrpm | Self::Plan | Self::Export)
    }

    /// Whether it is one of the three that the kernel's own hooks call.
    pub fn is_kernels(self) -> bool {
        matches!(self, Self::KernelPreinst | Self::KernelPostinst | Self::KernelPrerm)
    }
}

/// An action and all that was said with it.
#[derive(Debug)]
pub struct Invocation {
    /// The action.
    pub action: Action,
    /// The module's name, if one was said.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// A source tree that was named.
    pub source: Option<PathBuf>,
    /// A tarball that was named.
    pub archive: Option<PathBuf>,
    /// `--templatekernel`
    pub template: Option<String>,
    /// What goes into a tarball.
    pub content: Content,
    /// The kernels; none for `status` and with `--all`.
    pub targets: Vec<Target>,
    /// What a package says of itself.
    pub about: Stated,
    /// `--to`: the directory that results are exported to.
    pub to: Option<PathBuf>,
    /// `--gpg-key`: who signs the lists of what is exported.
    pub gpg_key: Option<String>,
    /// `--sign-modules`: what is exported is signed here.
    pub sign_modules: bool,
    /// Whether all kernels are meant for which something is built.
    pub all: bool,
    /// `--failed`: `status` tells only of what could not be installed.
    pub failed: bool,
    /// `--json`: for machines.
    pub json: bool,
    /// `-k` and `-a` as they were said: `status` takes them as patterns.
    pub kernels: Vec<String>,
    /// `-a`
    pub arches: Vec<String>,
    /// The rest.
    pub options: Options,
}

impl Invocation {
    /// Nothing but the action was said.
    pub fn new(action: Action) -> Self {
        Self {
            action,
            name: None,
            version: None,
            source: None,
            archive: None,
            template: None,
            content: Content::default(),
            targets: Vec::new(),
            about: Stated::default(),
            to: None,
            gpg_key: None,
            sign_modules: false,
            all: false,
            failed: false,
            json: false,
            kernels: Vec::new(),
            arches: Vec::new(),
            options: Options { action: action.name().into(), ..Options::default() },
        }
    }

    /// The module and version that were named.
    fn id(&self, word: &str) -> Result<Id> {
        let part = |part: &Option<String>| part.clone().filter(|text| !text.is_empty());
        match (part(&self.name), part(&self.version)) {
            (Some(name), Some(version)) => {
                let id = Id::new(name, version);
                if id.is_sane() { Ok(id) } else { Err(Error::BadName(id.to_string())) }
            }
            _ => Err(Error::NoModule { action: word.to_owned() }),
        }
    }

    /// Whether a tarball is all that was named of a module.
    fn names_archive(&self) -> bool {
        self.archive.is_some() && self.source.is_none() && self.name.is_none()
    }

    /// What it has done when it went well.
    fn transaction<'a>(&self, id: Option<&'a Id>, targets: &'a [Target]) -> Transaction<'a> {
        Transaction { action: self.action.name(), id, target: targets.first() }
    }

    /// A request for named modules on the kernels that were said.
    fn request(&self, goal: Goal, id: Id) -> Request {
        Request {
            goal,
            modules: Modules::Named(vec![id]),
            targets: self.targets.clone(),
            announced: Announced::Not,
            options: self.options.clone(),
        }
    }
}

/// Does it. An error was not told yet, unless it says so.
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    match invocation.action {
        Action::Add => add::run(site, invocation),
        Action::Build => build::run(site, invocation, Goal::Built),
        Action::Install => build::run(site, invocation, Goal::Installed),
        Action::Uninstall | Action::Unbuild | Action::Remove => remove::run(site, invocation),
        Action::Status => status::run(site, invocation),
        Action::Autoinstall => {
            autoinstall::run(site, &invocation.targets, &invocation.options)?;
            invocation.transaction(None, &invocation.targets).end(site, &site.output.block());
            Ok(())
        }
        Action::KernelPostinst => autoinstall::run(site, &invocation.targets, &invocation.options),
        Action::KernelPreinst | Action::KernelPrerm => kernel::run(site, invocation),
        Action::GenerateMok => generate_mok::run(site),
        Action::Match => matching::run(site, invocation),
        Action::Mktarball => mktarball::run(site, invocation),
        Action::Ldtarball => ldtarball::run(site, invocation),
        Action::Mkdeb => packages::mkdeb(site, invocation),
        Action::Mkdsc => packages::mkdsc(site, invocation),
        Action::Mkbmdeb => packages::mkbmdeb(site, invocation),
        Action::Mkrpm => packages::mkrpm(site, invocation),
        Action::Plan => plan::run(site, invocation),
        Action::Export => export::run(site, invocation),
    }
}

/// Waits until nobody else changes the tree; says for whom.
fn lock(site: &Site) -> Result<Lock> {
    let say = site.output.block();
    let root = site.tree.root();
    std::fs::create_dir_all(root).doing(cannot("make", root))?;
    let lock = Lock::take(root, |holder| say.complain(format!("dkms: waiting for {holder} to finish\n")))
        .doing(cannot("lock", root))?;
    interrupt::watch();
    site.tree.sweep();
    CompileCache::forget_gone(site);
    Ok(lock)
}

/// The lock, with a module that is registered while it is held: another run may just be adding it, or removing. Who is not
/// root is refused what he `may` not do before he waits.
fn lock_added(site: &Site, id: &Id, may: impl Fn() -> Result<()>) -> Result<Lock> {
    if !site.root {
        need_added(site, id)?;
        may()?;
    }
    let lock = lock(site)?;
    need_added(site, id)?;
    may()?;
    Ok(lock)
}

/// Refuses a module that is not registered, or whose source has gone.
fn need_added(site: &Site, id: &Id) -> Result<()> {
    if site.tree.is_broken(id) {
        Err(Error::Broken(id.to_string()))
    } else if site.tree.is_added(id) {
        Ok(())
    } else {
        Err(Error::NotAdded(id.to_string()))
    }
}
