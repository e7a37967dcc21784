// SPDX-License-Identifier: GPL-2.0-or-later
//! The command line of `dkms`: what it says is brought into today's form, which clap reads and documents.

mod arguments;
#[cfg(test)]
mod manual;
mod spelling;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use self::arguments::Arguments;
use self::spelling::{Met, Said, normalize};
use crate::commands::plan::Job;
use crate::commands::{self, Action, Invocation};
use crate::entry::{self, Reader};
use crate::error::{Error, Result};
use crate::model::module::Target;
use crate::model::options::Options;
use crate::model::site::{Site, Trees};
use crate::steps::package::about::Stated;
use crate::steps::tarball::Content;
use crate::system::output::Output;

/// The usage, below an error.
fn usage() -> String {
    // The list that programs know; what it does not have is in --help.
    let known = |action: &&Action| !action.is_new();
    let names: Vec<&str> = Action::ALL.iter().filter(known).map(|action| action.name()).collect();
    format!("Usage: dkms [action] [options]\n  [action]  = {{ {} }}\n  [options]: see dkms --help\n", names.join(" | "))
}

/// `dkms`
pub fn main(said: impl Iterator<Item = OsString>) -> ExitCode {
    let output = Output::new();
    // What is no text would name another file than it was meant to.
    let said: Vec<String> = match said.skip(1).map(OsString::into_string).collect() {
        Ok(said) => said,
        Err(word) => {
            output.block().error(&format!("{} is not UTF-8.", word.to_string_lossy()));
            return ExitCode::from(2);
        }
    };
    let mut words = Words::default();
    let said = normalize(said.into_iter(), |met| match met {
        Met::Quiet => {
            be_quiet();
            Ok(None)
        }
        Met::Deprecated(option) => {
            output.block().complain(format!("Deprecated feature: {option}\n"));
            Ok(None)
        }
        Met::Word(word, named) => words.take(word, named, &output),
    });
    let normal = match said {
        Ok(Said::Normal(normal)) => normal,
        Ok(Said::Help) => {
            output.block().print(Arguments::command().render_help().to_string());
            return ExitCode::SUCCESS;
        }
        Ok(Said::Version) => {
            output.block().say(crate::VERSION);
            return ExitCode::SUCCESS;
        }
        Ok(Said::Unknown(option)) => {
            let say = output.block();
            say.error(&format!("Unknown option: {option}"));
            say.print(usage());
            return ExitCode::from(2);
        }
        Err(error) => {
            output.block().error(&error);
            return ExitCode::from(error.code());
        }
    };
    let arguments = match Arguments::try_parse_from(normal) {
        Ok(arguments) => arguments,
        Err(error) => {
            output.block().complain(error.to_string());
            return ExitCode::from(2);
        }
    };
    if words.action.is_none() && crate::system::paths::Paths::default().os_release().is_some() {
        let say = output.block();
        if let Err(error) = arguments.check_options().and_then(|()| arguments.targets()) {
            say.error(&error);
            return ExitCode::from(error.code());
        }
        say.error(&"Unknown action specified: \"\"");
        say.print(usage());
        return ExitCode::SUCCESS;
    }
    entry::run(arguments.trees(), Reader::Caller, |site| arguments.run(site, words))
}

/// From here on everything goes to /dev/null, what programs say that we run included.
fn be_quiet() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // Without it we are louder than asked; that is all.
        let _ = rustix::stdio::dup2_stdout(&null).and_then(|()| rustix::stdio::dup2_stderr(&null));
    }
}

/// What the words beside the options are, but for a module's name.
#[derive(Debug, Default)]
struct Words {
    action: Option<Action>,
    source: Option<PathBuf>,
}

impl Words {
    /// Takes a word, or says of which option it is the value. `named`: there was a name of a module before.
    fn take(&mut self, word: &str, named: bool, output: &Output) -> Result<Option<&'static str>> {
        let path = Path::new(word);
        if let Some(action) = Action::from_name(word) {
            if self.action.replace(action).is_some() {
                return Err(Error::Usage { text: "Cannot specify more than one action.".into(), code: 4 });
            }
        } else if path.is_file() && word.ends_with("dkms.conf") {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            self.source = Some(dir.unwrap_or(Path::new(".")).to_owned());
        } else if path.is_dir() && path.join("dkms.conf").is_file() {
            self.source = Some(path.to_owned());
        } else if path.is_file() {
            // The one that was named last counts.
            return Ok(Some("--archive"));
        } else if named {
            output.block().warn(format!("I do not know how to handle {word}."));
        } else {
            return Ok(Some("--module"));
        }
        Ok(None)
    }
}

impl Arguments {
    fn trees(&self) -> Trees {
        Trees { dkms: self.dkmstree.clone(), source: self.sourcetree.clone(), install: self.installtree.clone() }
    }

    fn run(mut self, site: &mut Site, words: Words) -> Result<()> {
        let Some(action) = words.action else {
            return Ok(());
        };
        self.check(action)?;
        if self.debug {
            crate::system::diagnostics::start_at(log::LevelFilter::Debug);
        }
        site.framework.verbose |= self.verbose;
        site.framework.symlink_modules |= self.symlink_modules;
        site.framework.modprobe_on_install |= self.modprobe_on_install;
        if let Some(jobs) = self.jobs.as_deref() {
            site.framework.parallel_jobs = jobs
                .parse()
                .map_err(|_| Error::Usage { text: format!("-j needs a number of jobs, not {jobs}."), code: 1 })?;
        }
        let directives = self.directives(site);
        let planned = match self.from_plan.take() {
            Some(file) => self.take_job(action, Job::read(&file)?)?,
            None => None,
        };
        let (name, version) = (self.module.take(), self.module_version.take());
        let named = name.is_some();
        let mut invocation = Invocation {
            name,
            version,
            // Whoever names a module means that one.
            source: words.source.filter(|_| !named),
            archive: self.archive.take(),
            template: self.templatekernel.take(),
            content: match (self.binaries_only, self.source_only) {
                (true, _) => Content::BinariesOnly,
                (_, true) => Content::SourceOnly,
                _ => Content::Everything,
            },
            about: Stated {
                maintainer: self.maintainer.take(),
                description: self.description.take(),
                section: self.section.take(),
                homepage: self.homepage.take(),
                license: self.license.take(),
                version: self.package_version.take(),
            },
            to: self.to.take(),
            gpg_key: self.gpg_key.take(),
            sign_modules: self.sign_modules,
            all: self.all,
            failed: self.failed,
            json: self.json,
            ..Invocation::new(action)
        };
        invocation.options = Options {
            force: self.force,
            force_version: self.force_version_override,
            conf: self.conf.take(),
            headers: self.kernelsourcedir.take(),
            config: self.config.take(),
            directives,
            no_depmod: self.no_depmod,
            planned,
            ..invocation.options
        };
        self.choose_kernels(&mut invocation)?;
        commands::run(site, &invocation)
    }

    /// The job says which module and which kernel; nothing else may. Gives the key of what it is to make.
    fn take_job(&mut self, action: Action, job: Job) -> Result<Option<String>> {
        let text = if action != Action::Build {
            format!("The action {} does not support the --from-plan parameter.", action.name())
        } else if self.module.is_some() || !self.kernelver.is_empty() || !self.arch.is_empty() {
            "You cannot name a module or a kernel and also specify\n--from-plan on the command line.".into()
        } else {
            self.module = Some(job.id.name);
            self.module_version = Some(job.id.version);
            self.kernelver = vec![job.target.release];
            self.arch = vec![job.target.arch];
            return Ok(job.key);
        };
        Err(Error::Usage { text, code: 5 })
    }

    /// What contradicts itself whatever the action, in the order in which it is looked for.
    fn check_options(&self) -> Result<()> {
        let usage = |text: String, code| Err(Error::Usage { text, code });
        if self.binaries_only && self.source_only {
            return usage("You have specified both --binaries-only and --source-only.\nYou cannot do this.".into(), 8);
        }
        if self.arch.len() > 1 && self.arch.len() != self.kernelver.len() {
            return usage("If more than one arch is specified on the command line, then there\nmust be an equal number of kernel versions also specified (1:1 relationship).".into(), 1);
        }
        if self.all && !self.kernelver.is_empty() {
            return usage("You cannot specify a kernel version and also specify\n--all on the command line.".into(), 2);
        }
        if self.all && !self.arch.is_empty() {
            return usage("You cannot specify an arch and also specify\n--all on the command line.".into(), 3);
        }
        Ok(())
    }

    /// The kernels that are named, with their architectures, or the running one.
    fn targets(&self) -> Result<Vec<Target>> {
        let running = Target::running();
        let releases = if self.kernelver.is_empty() { &vec![running.release] } else { &self.kernelver };
        let mut targets = Vec::new();
        for (index, release) in releases.iter().enumerate() {
            let arch = self.arch.get(index).or(self.arch.first()).unwrap_or(&running.arch);
            let target = Target::named(release, arch, index)?;
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        Ok(targets)
    }

    /// What contradicts itself, in the order in which it is looked for.
    fn check(&self, action: Action) -> Result<()> {
        self.check_options()?;
        let name = action.name();
        let usage = |text: String, code| Err(Error::Usage { text, code });
        let one_only = action.is_kernels() || matches!(action, Action::Autoinstall | Action::Match);
        if self.all && (one_only || matches!(action, Action::Add | Action::Build | Action::Install)) {
            return usage(format!("The action {name} does not support the --all parameter."), 5);
        }
        if action.is_kernels() && self.kernelver.len() != 1 {
            return usage(
                format!("The action {name} requires exactly one kernel version parameter on the command line."),
                4,
            );
        }
        Ok(())
    }

    /// `--directive`s, told of as they are taken. One without a value has its name for that.
    fn directives(&mut self, site: &Site) -> Vec<String> {
        let say = site.output.block();
        self.directive.retain_mut(|directive| {
            if !directive.contains('=') {
                *directive = format!("{directive}={directive}");
            }
            let (name, value) = directive.split_once('=').unwrap_or_default();
            let plain = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if plain {
                say.say(format!("DIRECTIVE: {name}=\"{value}\""));
            } else {
                say.complain(format!("dkms: `{directive}': not a valid identifier\n"));
            }
            plain
        });
        std::mem::take(&mut self.directive)
    }

    /// The kernels: those named, all that something is built for, or the running one.
    fn choose_kernels(&mut self, invocation: &mut Invocation) -> Result<()> {
        if invocation.action == Action::Status {
            invocation.kernels = std::mem::take(&mut self.kernelver);
            invocation.arches = std::mem::take(&mut self.arch);
            return Ok(());
        }
        if self.all {
            return Ok(());
        }
        // A package of the source is for all kernels alike, and has modules in it only where somebody wants that.
        let packs_source = matches!(invocation.action, Action::Mkdeb | Action::Mkdsc | Action::Mkrpm);
        let packs_source = packs_source && invocation.content != Content::BinariesOnly;
        if self.kernelver.is_empty() && (packs_source || matches!(invocation.action, Action::Plan | Action::Export)) {
            return Ok(());
        }
        invocation.targets = self.targets()?;
        if self.kernelver.len() > 1 && matches!(invocation.action, Action::Autoinstall | Action::Match) {
            let name = invocation.action.name();
            let text =
                format!("The action {name} does not support multiple kernel version parameters on the command line.");
            return Err(Error::Usage { text, code: 4 });
        }
        Ok(())
    }
}
