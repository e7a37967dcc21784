// SPDX-License-Identifier: GPL-2.0-or-later
//! The scripts that a package brings: PRE_BUILD, POST_BUILD, POST_ADD, PRE_INSTALL, POST_INSTALL, POST_REMOVE.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::steps::Work;
use crate::system::interrupt;
use crate::system::lock;
use crate::system::output::Block;
use crate::system::paths::below;
use crate::system::process::{self, is_executable, plain_environment};
use crate::system::trust;

/// Which script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Before make, in the sandbox.
    PreBuild,
    /// After make, in the sandbox.
    PostBuild,
    /// After registration, as root.
    PostAdd,
    /// Before installation, as root; may refuse it.
    PreInstall,
    /// After installation, as root.
    PostInstall,
    /// After removal from a kernel, as root.
    PostRemove,
}

impl Script {
    /// The directive that names it.
    pub fn directive(self) -> &'static str {
        match self {
            Self::PreBuild => "PRE_BUILD",
            Self::PostBuild => "POST_BUILD",
            Self::PostAdd => "POST_ADD",
            Self::PreInstall => "PRE_INSTALL",
            Self::PostInstall => "POST_INSTALL",
            Self::PostRemove => "POST_REMOVE",
        }
    }

    /// What it is called when told of.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreBuild => "pre_build",
            Self::PostBuild => "post_build",
            Self::PostAdd => "post_add",
            Self::PreInstall => "pre_install",
            Self::PostInstall => "post_install",
            Self::PostRemove => "post_remove",
        }
    }
}

/// A script that can be run.
#[derive(Debug)]
pub struct Found {
    /// Where it runs.
    pub dir: PathBuf,
    /// The script itself.
    pub file: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Found {
    /// As it is told and logged.
    pub fn command_line(&self) -> String {
        std::iter::once(self.file.to_string_lossy().into_owned())
            .chain(self.arguments.iter().cloned())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Looks a script up in the package's directory, which is at `real` and told of as `told`, and before that in
/// /etc/dkms, where the administrator may have his own. Says so if it cannot be run, or is none to be `shown`.
pub fn find(work: &Work, script: Script, real: &Path, told: &Path, shown: impl FnOnce(&Path) -> bool) -> Option<Found> {
    let mut words = work.conf.get(script.directive()).split_whitespace().map(str::to_owned);
    let name = words.next()?;
    let arguments = words.collect();
    let theirs = work.site.paths.etc().join(&work.id.name);
    if is_executable(&below(&theirs, &name)) {
        return Some(Found { file: below(&theirs, &name), dir: theirs, arguments });
    }
    let file = below(real, &name);
    if !(shown(&file) && is_executable(&file)) {
        work.say.say("");
        work.say.warn(format!("The {} script is not executable.", script.name()));
        return None;
    }
    Some(Found { dir: told.to_owned(), file: below(told, &name), arguments })
}

/// Runs one of the four scripts that act on the system, as root; gives its exit code, 0 if there is none.
pub fn run(work: &Work, script: Script) -> i32 {
    let source = work.site.tree.source_link(work.id);
    let Some(found) = find(work, script, &source, &source, |_| true) else {
        return 0;
    };
    // It may run or read what lies beside it.
    if let Err(error) = trust::check(&found.file).and_then(|()| trust::check_all(&found.dir)).map_err(Error::from) {
        work.say.error(&error);
        return error.code().into();
    }
    work.say.say(format!("Running the {} script:", script.name()));
    let mut command = process::script(&found.file);
    command.args(&found.arguments).current_dir(&found.dir);
    plain_environment(&mut command).envs(work.options.directive_variables());
    command.env(lock::HELD, lock::held_by()).env("PWD", &found.dir);
    // The others have never been told, but of the module where its kernel goes.
    let installs = matches!(script, Script::PreInstall | Script::PostInstall);
    if installs || work.options.action.starts_with("kernel_") {
        command.env("module", &work.id.name).env("module_version", &work.id.version);
    }
    if installs {
        let target = &work.kernel.target;
        command.env("kernelver", &target.release).env("arch", &target.arch);
        command.envs(work.kernel.toolchain().variables());
    }
    inherit(&mut command, work.say)
}

/// Runs a command whose output is our output, as far as that is told; gives its exit code.
pub fn inherit(command: &mut Command, say: &Block) -> i32 {
    let status = if say.is_live() {
        let status = command.stdin(Stdio::null()).status().map(process::code);
        interrupt::hold();
        status
    } else if say.has_errors_only() {
        process::errors_of(command, |output| say.complain(output))
    } else {
        process::merged(command, |output| say.print(output))
    };
    status.unwrap_or_else(|error| {
        say.warn(format!("Cannot run {}: {error}", command.get_program().to_string_lossy()));
        126
    })
}
