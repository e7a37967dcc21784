// SPDX-License-Identifier: GPL-2.0-or-later
//! One job: patches, PRE_BUILD, make, and bringing the modules out of the sandbox.

mod collect;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::finish;
use crate::error::{Doing, Error, Result, cannot};
use crate::model::compile_cache::{CompileCache, Share};
use crate::model::exchange::Exchange;
use crate::model::kernel::{Toolchain, is_module_file};
use crate::model::store::{LOG, Made};
use crate::steps::Work;
use crate::steps::logged::{self, Told};
use crate::steps::prepare::{ForMakes, Workshop};
use crate::steps::scripts::{self, Script};
use crate::steps::sign::Signing;
use crate::system::directories::find;
use crate::system::files::read_foreign;
use crate::system::interrupt::{self, Clock};
use crate::system::output::Block;
use crate::system::process;
use crate::system::sandbox::{self, Isolation, Limit};
use crate::system::shell;
use crate::system::tokens::JobToken;
use crate::system::trust;

/// What a build makes is no larger than this, all of it together: nvidia's modules, unstripped, have some 100 MiB. It is
/// held in memory.
const LARGEST_RESULT: u64 = 1 << 30;

/// Nor is it more files than this.
const MOST_FILES: usize = 1 << 16;

/// Nor is a result kept whose log has more than this: who finds it holds that in memory, too.
const LARGEST_KEPT_LOG: u64 = 32 << 20;

/// Variables that may hold the PIN of a signing key: what the kernel's sign-file takes it from, and our own setting.
const SECRET: [&str; 2] = ["KBUILD_SIGN_PIN", "mok_signing_key"];

/// Builds `work`'s modules for its kernel into the workshop's result.
#[derive(Debug)]
pub struct Build<'a> {
    work: Work<'a>,
    clock: Clock,
    workshop: &'a Workshop,
    token: &'a JobToken,
    toolchain: Toolchain,
    environment: BTreeMap<String, String>,
    compile_cache: Option<&'a CompileCache>,
    /// What was done so far.
    made: Mutex<Made>,
    /// It is good enough, but another time it may be better.
    spoilt: AtomicBool,
    /// What the commands had from other builders.
    exchanges: Mutex<Vec<Exchange>>,
}

impl<'a> Build<'a> {
    /// Looks up the toolchain and writes the log's head.
    pub fn new(
        work: Work<'a>,
        workshop: &'a Workshop,
        token: &'a JobToken,
        environment: BTreeMap<String, String>,
        compile_cache: Option<&'a CompileCache>,
        spares: bool,
    ) -> Result<Self> {
        let toolchain = work.kernel.toolchain();
        let build = Self {
            work,
            clock: Clock::start(),
            workshop,
            token,
            toolchain,
            environment,
            compile_cache,
            made: Mutex::default(),
            spoilt: AtomicBool::new(false),
            exchanges: Mutex::default(),
        };
        logged::begin(&work, &workshop.log)?;
        let stripped = work.conf.modules.iter().all(|module| module.strip);
        let sparing = work.kernel.sparing().filter(|_| stripped && spares).map(str::to_owned);
        workshop.tell_makes(&ForMakes { jobserver: token.jobserver(), sparing })?;
        Ok(build)
    }

    /// Where it is built.
    pub fn directory(&self) -> &Path {
        &self.workshop.build
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was made, with the log; an error where it shall not be kept.
    pub fn into_made(self) -> io::Result<Made> {
        if self.spoilt.into_inner() {
            return Err(io::Error::other(format!("{} is not kept: its modules are not stripped", self.work.id)));
        }
        let mut made = self.made.into_inner().unwrap_or_else(PoisonError::into_inner);
        if fs::metadata(&self.workshop.log)?.len() > LARGEST_KEPT_LOG {
            return Err(io::Error::other(format!("{} is not kept: it says too much", self.work.id)));
        }
        made.files.insert(PathBuf::from(LOG), fs::read(&self.workshop.log)?);
        Ok(made)
    }

    /// What other builders may have of it, now that it ended, whether well or not.
    pub fn take_exchanges(&self) -> Vec<Exchange> {
        if let Some(cache) = self.compile_cache {
            cache.limit(self.work.id, self.workshop.is_overgrown());
        }
        std::mem::take(&mut self.exchanges.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is left of the time that all of it may take.
    fn time_left(&self) -> Option<Duration> {
        self.work.site.framework.build_limits.time.map(|time| time.saturating_sub(self.clock.elapsed()))
    }

    /// Where people will look for the log of a build that failed.
    fn log_as_told(&self) -> PathBuf {
        self.work.site.tree.build_dir(self.work.id).join("make.log")
    }

    /// Runs one command of the build with its progress told and its output logged; gives its exit code.
    ///
    /// `compiles`: it may run a compiler. `result` is what it sees as `TREE/M/V/K/A`, if anything.
    fn command(
        &self,
        description: &str,
        text: &str,
        script: &str,
        compiles: bool,
        result: Option<&Path>,
    ) -> Result<i32> {
        let Work { options, id, kernel, .. } = self.work;
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]);
        let mut share = if compiles { self.share() } else { Share::default() };
        let confined = self.workshop.confine(&self.work, self.time_left(), result, &share.mounts, &mut command);
        // Somebody may have deleted the caches since.
        if confined.is_err() && !share.mounts.is_empty() {
            share = Share::default();
            self.workshop.confine(&self.work, self.time_left(), result, &[], &mut command)?;
        } else {
            confined?;
        }
        command
            .envs(options.directive_variables())
            .env("PATH", self.path(share.programs.clone()))
            .env("kernelver", &kernel.target.release)
            .env("arch", &kernel.target.arch)
            .env("module", &id.name)
            .env("module_version", &id.version)
            .envs(self.toolchain.variables())
            .envs(&self.environment);
        // Modules are signed where no build reaches.
        for name in SECRET {
            command.env_remove(name);
        }
        // Last: what else would set MAKEFLAGS would take the build out of the pool.
        self.token.configure(&mut command);
        command.env_remove("CARGO_MAKEFLAGS");
        self.made().told.push(description.to_owned());
        let told = Told { description, text, names: &self.workshop.names };
        let code = logged::run(self.work.site, self.work.say, &self.workshop.log, &mut command, told)?;
        drop(share.in_use);
        if sandbox::overstepped(code) == Some(Limit::Disk) {
            self.workshop.has_overgrown();
        }
        Ok(code)
    }

    /// How a command that runs now takes part in the compile cache: what lies in the build directory decides.
    fn share(&self) -> Share {
        let mut exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        let (build, compilers) = (&self.workshop.build, self.workshop.compilers());
        let seen = self.work.site.tree.build_dir(self.work.id);
        let share = |cache: &CompileCache| cache.share(self.work.id, [build, &seen], &compilers, &mut exchanges);
        let share = self.compile_cache.map(share);
        // Whoever finds no cache compiles.
        let share = share.transpose().unwrap_or_else(|error| {
            log::warn!("no compile cache for {}: {error}", self.work.id);
            None
        });
        share.flatten().unwrap_or_default()
    }

    /// PATH with what is ours in front: a `make` that keeps a package's own `-j` from leaving the pool of job tokens,
    /// where there is a pahole, one that gives the same bytes each time, and `compilers`, which ask the compile cache.
    fn path(&self, compilers: Option<PathBuf>) -> std::ffi::OsString {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let libexec = self.work.site.paths.libexec();
        let mut ours = Vec::new();
        // Elsewhere it stands in the place of the machine's.
        if self.work.site.isolation_of(self.work.id) != Isolation::Namespaces {
            ours.push(libexec.join("sandbox"));
        }
        if process::find_program("pahole").is_some() {
            // In front of all: it looks for the other one behind itself.
            ours.insert(0, libexec.join("sandbox-btf"));
        }
        ours.extend(compilers);
        ours.retain(|dir| dir.is_dir());
        // Not joined again if some directory has a colon in its name; then without ours.
        std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&path))).unwrap_or(path)
    }

    /// The whole build. An error leaves what was made where it is; what is complete is in the result.
    pub fn run(&self, signing: &Signing) -> Result<()> {
        self.patch()?;
        self.script(Script::PreBuild, None)?;
        self.make()?;
        let modules = self.work.conf.included(self.work.kernel).unwrap_or_default();
        self.collect(&modules, signing)
    }

    /// POST_BUILD, which sees the finished modules and may put files beside them.
    pub fn post_build(&self) -> Result<()> {
        if self.work.conf.get(Script::PostBuild.directive()).is_empty() {
            return Ok(());
        }
        let theirs = self.workshop.open_result()?;
        let ended = self.workshop.show(&self.work, &theirs, |place| self.script(Script::PostBuild, Some(place)));
        let mut left = self.left();
        for file in find(&theirs, &mut |_| true).into_iter().take(MOST_FILES) {
            let relative = file.strip_prefix(&theirs).unwrap_or(&file);
            // What it does to the modules' copies stays with it: those are signed already.
            let module = is_module_file(&relative.to_string_lossy());
            if file.is_symlink() || module || relative.starts_with("log") {
                continue;
            }
            let bytes = read_foreign(&theirs, relative, left).doing(cannot("read", &file))?;
            left -= bytes.len() as u64;
            finish::put(&self.workshop.result.join(relative), &bytes)?;
            self.made().files.insert(relative.to_owned(), bytes);
        }
        ended
    }

    /// How much more there can be of what it makes, in bytes.
    fn left(&self) -> u64 {
        let made: usize = self.made().files.values().map(Vec::len).sum();
        LARGEST_RESULT.saturating_sub(made as u64)
    }

    fn script(&self, script: Script, result: Option<&Path>) -> Result<()> {
        let build_dir = self.work.site.tree.build_dir(self.work.id);
        let Some(found) =
            scripts::find(&self.work, script, &self.workshop.build, &build_dir, |file| self.workshop.shows(file))
        else {
            return Ok(());
        };
        if found.dir == self.work.site.paths.etc().join(&self.work.id.name) {
            trust::check(&found.file)?;
        }
        let text = format!("cd {}/ && {}", found.dir.display(), found.command_line());
        self.work.say.phase(if script == Script::PreBuild { "configuring" } else { "running post_build" });
        let finished = result.map_or(String::new(), |_| self.finished());
        let description = format!("Running the {} script", script.name());
        match self.command(&description, &text, &(finished + &text), true, result)? {
            0 => Ok(()),
            code => {
                let log = self.log_as_told();
                self.work.say.say(format!("Consult {} for more information.", log.display()));
                Err(Error::BuildScriptFailed { name: script.name(), log, code })
            }
        }
    }

    /// Has the modules in the build directory replaced by those in the result, with which POST_BUILD may go on in either
    /// place; by the build's own user, for whom alone it is safe to write there.
    fn finished(&self) -> String {
        let Work { site, id, kernel, conf, .. } = self.work;
        let (made, build) = (site.tree.module_dir(id, &kernel.target), site.tree.build_dir(id));
        let from = |file: String| shell::quoted(&made.join(file).to_string_lossy());
        let to = |file: String| shell::quoted(&build.join(file).to_string_lossy());
        let mut script = "finished() { rm -f \"$2\"; for file in \"$1\"*; do \
                          cp --remove-destination \"$file\" \"$2${file#\"$1\"}\"; done; }\n"
            .to_owned();
        for module in conf.included(kernel).unwrap_or_default() {
            let (made, built) = (from(format!("{}.ko", module.dest_name)), to(module.built_file()));
            script.push_str(&format!("finished {made} {built}\n"));
        }
        script
    }

    fn patch(&self) -> Result<()> {
        self.work.say.phase("patching");
        for patch in self.work.conf.patches(&self.work.kernel.target.release) {
            if Path::new(patch).components().any(|c| c == std::path::Component::ParentDir) {
                return Err(Error::PatchOutside(patch.to_owned()));
            }
            let file = self.workshop.build.join("patches").join(patch);
            if !(Path::new(patch).is_relative() && self.workshop.shows(&file) && file.is_file()) {
                let dir = self.work.site.tree.build_dir(self.work.id).join("patches");
                return Err(Error::NoPatch { patch: patch.to_owned(), dir });
            }
            let text = format!("patch -p1 < ./patches/{patch}");
            // The name is data to the shell that opens it.
            let script = format!("patch -p1 < ./patches/{}", shell::quoted(patch));
            if self.command(&format!("Applying patch {patch}"), &text, &script, false, None)? != 0 {
                return Err(Error::PatchFailed { patch: patch.to_owned(), log: self.log_as_told() });
            }
        }
        Ok(())
    }

    fn make(&self) -> Result<()> {
        let command = self.make_command();
        self.work.say.phase("compiling");
        match self.command("Building module(s)", &command, &command, true, None)? {
            0 => Ok(()),
            _ => Err(Error::BuildFailed {
                kernel: self.work.kernel.target.to_string(),
                log: self.log_as_told(),
                tools: self.work.kernel.missing_tools(),
            }),
        }
    }

    /// The command line that builds, as it is logged.
    fn make_command(&self) -> String {
        let Work { site, id, kernel, conf, .. } = self.work;
        let mut command = conf.make(&kernel.target.release).map_or_else(
            || format!("make -C {} M={}", kernel.build_dir.display(), site.tree.build_dir(id).display()),
            str::to_owned,
        );
        if self.toolchain.llvm {
            command.push_str(" LLVM=1");
        }
        match command.strip_prefix("make") {
            Some(rest) => {
                let jobs = match site.framework.parallel_jobs {
                    0 => String::new(),
                    jobs => jobs.to_string(),
                };
                format!("make -j{jobs} KERNELRELEASE={}{rest}", kernel.target.release)
            }
            None => command,
        }
    }
}

/// What the administrator's `build_environment` file exports. It is root's own, so it is sourced as it is; what it says
/// is said.
pub fn build_environment(file: &str, say: &Block) -> Result<BTreeMap<String, String>> {
    if file.is_empty() {
        return Ok(BTreeMap::new());
    }
    trust::check(Path::new(file))?;
    let output = process::without_functions(&mut Command::new("bash"))
        .args(["--norc", "--noprofile", "-c", ". \"$1\" >&2 && exec env -0", "dkms", file])
        .env_remove("BASH_ENV")
        .output()
        .doing(|| format!("Cannot read build_environment {file}"))?;
    interrupt::hold();
    say.complain(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    let changed = |(name, value): &(&str, &str)| std::env::var(name).as_deref() != Ok(*value);
    Ok(text
        .split('\0')
        .filter_map(|record| record.split_once('='))
        .filter(changed)
        .filter(|(name, _)| !matches!(*name, "_" | "SHLVL" | "PWD" | "OLDPWD"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}
