// SPDX-License-Identifier: GPL-2.0-or-later
//! What can go wrong, in the words and with the exit codes that callers of dkms rely on.

pub mod export;
pub mod package;
pub mod tarball;

use std::io;
use std::path::{Path, PathBuf};

use crate::system::build_log::full_disk;
use crate::system::trust::WeakSpot;
use crate::system::version::looks_like_release;

/// A result of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. `Display` gives the lines that follow `Error! `; [`Error::code`] the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A module is needed, and its version.
    #[error(
        "Arguments <module> and <module-version> are not specified.\nUsage: {action} <module>/<module-version> or\n       \
         {action} -m <module>/<module-version> or\n       {action} -m <module> -v <module-version>"
    )]
    NoModule {
        /// The action asked for.
        action: String,
    },
    /// A name or version that would lead out of the tree.
    #[error(
        "{0} is no module and version: neither may be empty, begin with a dot or contain a slash or the end of a line,\na name may not be mok.key, mok.pub or dkms_dbversion,\nand a version may not be original_module or begin with kernel-."
    )]
    BadName(String),
    /// Two options that exclude each other, or an action that does not take one.
    #[error("{text}")]
    Usage {
        /// The sentence.
        text: String,
        /// The exit code.
        code: u8,
    },
    /// The action changes the system.
    #[error("You must be root to use this command.")]
    NotRoot,
    /// The tree cannot be written.
    #[error("No write access to DKMS tree at {0}")]
    NoWriteAccess(PathBuf),
    /// No os-release(5).
    #[error("System is missing os-release file.")]
    NoOsRelease,
    /// The module is in the tree already.
    #[error("DKMS tree already contains: {0}\nYou cannot add the same module/version combo more than once.")]
    AlreadyAdded(String),
    /// The module's source is not where sources are.
    #[error("Could not find module source directory.\nDirectory: {0} does not exist.")]
    NoSource(PathBuf),
    /// There is no dkms.conf.
    #[error("Could not locate dkms.conf file.\nFile: {0} does not exist.")]
    NoConf(PathBuf),
    /// The dkms.conf is not one. What is wrong with it was said before.
    #[error("Bad conf file.\nFile: {0} does not represent a valid dkms.conf file.")]
    BadConf(String),
    /// The module is not in the tree.
    #[error("The module/version combo: {0} is not located in the DKMS tree.")]
    NotAdded(String),
    /// The module's source has gone.
    #[error(
        "{0} is broken!\nMissing the source directory or the symbolic link pointing to it.\nManual intervention is required!"
    )]
    Broken(String),
    /// A removal that depmod prevented; what it said was told.
    #[error(
        "Module {id} stays in the DKMS tree, for its removal from kernel {kernel} has not ended.\nTry again: dkms remove {id} --all"
    )]
    Unfinished {
        /// The module.
        id: String,
        /// Kernel and architecture.
        kernel: String,
    },
    /// A module is in place, and modprobe does not know it.
    #[error("{0}")]
    NotFound(String),
    /// Nothing is there to be built.
    #[error("The directory {0} does not appear to have module source located within it.\nBuild halted.")]
    EmptySource(PathBuf),
    /// The kernel's headers are not installed.
    #[error(
        "Your kernel headers for kernel {release} cannot be found at {modules}/build or {modules}/source.\nPlease install \
         your distribution's kernel headers package matching {release}, or use\nthe --kernelsourcedir option to tell DKMS \
         where it's located."
    )]
    NoHeaders {
        /// The kernel release.
        release: String,
        /// Its directory below the install tree.
        modules: PathBuf,
    },
    /// The module is not meant for this kernel.
    #[error("{id} is not meant for kernel {kernel}.")]
    Excluded {
        /// Module and version.
        id: String,
        /// Kernel and architecture.
        kernel: String,
    },
    /// Modules that this one builds upon are not installed.
    #[error(
        "Aborting build of module {id} for kernel {kernel} due to missing BUILD_DEPENDS: {missing}.\nYou may override by \
         specifying --force."
    )]
    MissingDepends {
        /// Module and version.
        id: String,
        /// Kernel and architecture.
        kernel: String,
        /// Their names, separated by blanks.
        missing: String,
    },
    /// A patch has a name that leads elsewhere.
    #[error("Patch {0} as specified in dkms.conf contains '..' path component.")]
    PatchOutside(String),
    /// A patch is not there.
    #[error("Patch {patch} as specified in dkms.conf cannot be\nfound in {dir}/.")]
    NoPatch {
        /// Its name.
        patch: String,
        /// Where patches are.
        dir: PathBuf,
    },
    /// A patch does not apply.
    #[error("Application of patch {patch} failed.\nConsult {log} for more information.")]
    PatchFailed {
        /// Its name.
        patch: String,
        /// What it said.
        log: PathBuf,
    },
    /// A script of the package failed while building.
    #[error("The {name} script failed.\nConsult {log} for more information.")]
    BuildScriptFailed {
        /// `pre_build` or `post_build`.
        name: &'static str,
        /// What it said.
        log: PathBuf,
        /// Its exit code.
        code: i32,
    },
    /// The build failed.
    #[error("Bad return status for module build on kernel: {kernel}\nConsult {log} for more information.")]
    BuildFailed {
        /// Kernel and architecture.
        kernel: String,
        /// What it said.
        log: PathBuf,
        /// Packages with the compiler and linker that the kernel was built with and that are not here.
        tools: Vec<String>,
    },
    /// The build did not make what dkms.conf names, or made something else under that name.
    #[error(
        "Build of {module} failed for: {kernel}\nMake sure the name and location of the generated module are correct,\nor \
         consult {log} for more information."
    )]
    NotProduced {
        /// The file that is missing, below the build directory.
        module: String,
        /// Kernel and architecture.
        kernel: String,
        /// What the build said.
        log: PathBuf,
    },
    /// It was not tried, because modules that it builds upon failed.
    #[error("These modules it builds upon are not installed: {}.", missing.join(" "))]
    Stranded {
        /// Their names.
        missing: Vec<String>,
    },
    /// The kernel to install into is not there.
    #[error("The directory {0} doesn't exist.\nYou cannot install a module onto a non-existent kernel.")]
    NoKernel(PathBuf),
    /// It was not tried again, because nothing has changed since it failed.
    #[error("It failed before, from the same source, headers and tools.")]
    FailedBefore {
        /// The exit code it failed with then.
        code: u8,
    },
    /// The machine cannot boot without a module that could not be installed. That was told, with the way out.
    #[error("This machine cannot boot without a module that could not be installed.")]
    Critical {
        /// The exit code of that module's installation.
        code: u8,
    },
    /// What was built is not there any more.
    #[error("Missing module {module} in {dir}")]
    MissingModule {
        /// The file.
        module: String,
        /// Where it should be.
        dir: PathBuf,
    },
    /// The package's own check said no.
    #[error("pre_install failed, aborting install.\nYou may override by specifying --force.")]
    PreInstallFailed,
    /// A script that decides by its exit code about ours.
    #[error("The {name} script failed with exit code {code}.")]
    ScriptFailed {
        /// `post_add`.
        name: &'static str,
        /// Its exit code.
        code: i32,
    },
    /// Every module of the package was refused.
    #[error("Installation aborted.")]
    InstallAborted,
    /// Some module of an automatic installation failed.
    #[error(
        "One or more modules failed to install during autoinstall.\nRefer to previous errors for more information."
    )]
    AutoinstallFailed {
        /// What to do next.
        hint: Option<String>,
    },
    /// Modules of a kernel that goes could not be removed.
    #[error("dkms {action} for kernel {kernel} failed for module(s) {modules}.")]
    KernelRemoval {
        /// `kernel_prerm` or `kernel_preinst`.
        action: String,
        /// Kernel and architecture.
        kernel: String,
        /// Their names and the exit codes: `hello/1.0(4)`.
        modules: String,
    },
    /// A job of another machine's plan.
    #[error(
        "{id} for kernel {kernel} would not come out as it was planned: source, settings, headers or tools are others here.\nMake \
         them the same, or plan again: dkms plan --json"
    )]
    OtherJob {
        /// Module and version.
        id: String,
        /// Kernel and architecture.
        kernel: String,
    },
    /// A module that is to come from elsewhere is not there.
    #[error(
        "Module {id} for kernel {kernel} is not to be had, and {instead}.\n{why}.\nTry again when it is there: dkms install {id} -k \
         {release}"
    )]
    NotPrebuilt {
        /// Module and version.
        id: String,
        /// Kernel and architecture.
        kernel: String,
        /// The kernel.
        release: String,
        /// Why it is not built here, as a clause.
        instead: &'static str,
        /// Place by place.
        why: String,
        /// The exit code: that of a build that fails, or that is not tried.
        code: u8,
    },
    /// Something is wrong with what is to be exported.
    #[error(transparent)]
    Export(#[from] export::Problem),
    /// Something is wrong with a tarball.
    #[error(transparent)]
    Tarball(#[from] tarball::Problem),
    /// Something is wrong with a package.
    #[error(transparent)]
    Package(#[from] package::Problem),
    /// Something of the operating system's.
    #[error("{}", io_text(what, source))]
    Io {
        /// What we were doing, on what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Others than root could have written what root would read or run.
    #[error("{0}")]
    Untrusted(#[from] WeakSpot),
    /// A signing key without its certificate, or the other way round.
    #[error("{0}")]
    HalfPair(String),
    /// Somebody said it already: the exit code is left, and what to do next.
    #[error("")]
    Said {
        /// The exit code.
        code: u8,
        /// See [`Error::hint`].
        hint: Option<String>,
    },
}

impl Error {
    /// The exit code of a command that ends with this error.
    pub fn code(&self) -> u8 {
        match self {
            Self::NoModule { .. }
            | Self::BadName(_)
            | Self::NotRoot
            | Self::NoWriteAccess(_)
            | Self::HalfPair(_)
            | Self::Unfinished { .. }
            | Self::NotFound(_)
            | Self::OtherJob { .. }
            | Self::Io { .. } => 1,
            Self::NoSource(_) => 2,
            Self::AlreadyAdded(_) | Self::NotAdded(_) => 3,
            Self::NoOsRelease | Self::NoConf(_) | Self::Broken(_) => 4,
            Self::PatchOutside(_) | Self::NoPatch { .. } => 5,
            Self::PatchFailed { .. } | Self::NoKernel(_) | Self::MissingModule { .. } | Self::InstallAborted => 6,
            Self::NotProduced { .. } => 7,
            Self::BadConf(_) | Self::EmptySource(_) | Self::Untrusted(_) => 8,
            Self::BuildFailed { .. } => 10,
            Self::AutoinstallFailed { .. } => 11,
            Self::MissingDepends { .. } | Self::Stranded { .. } => 13,
            Self::KernelRemoval { .. } => 14,
            Self::NoHeaders { .. } => 21,
            Self::Excluded { .. } => 77,
            Self::PreInstallFailed => 101,
            Self::BuildScriptFailed { code, .. } | Self::ScriptFailed { code, .. } => u8::try_from(*code).unwrap_or(1),
            Self::Export(problem) => problem.code(),
            Self::Tarball(problem) => problem.code(),
            Self::Package(problem) => problem.code(),
            Self::Usage { code, .. }
            | Self::Said { code, .. }
            | Self::NotPrebuilt { code, .. }
            | Self::FailedBefore { code }
            | Self::Critical { code } => *code,
        }
    }

    /// What to do next, where we know more than the words that callers rely on: a sentence with the exact command.
    pub fn hint(&self) -> Option<String> {
        if let Some(full) = self.log().and_then(full_disk) {
            return Some(full + ".");
        }
        match self {
            Self::NoHeaders { release, .. } if looks_like_release(release) => {
                Some(format!("To install the headers: apt install {}", crate::system::dpkg::headers_package(release)))
            }
            Self::NotRoot => Some("Try again with sudo.".into()),
            Self::BuildFailed { kernel, tools, .. } if !tools.is_empty() => {
                let tools = tools.join(" ");
                Some(format!("Kernel {kernel} was built with {tools}, not found here: apt install {tools}"))
            }
            Self::Tarball(problem) => problem.hint(),
            Self::AutoinstallFailed { hint } | Self::Said { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    /// The log of a build that ended so because of what was built and what it was built with.
    pub fn log(&self) -> Option<&Path> {
        match self {
            Self::PatchFailed { log, .. }
            | Self::BuildScriptFailed { log, .. }
            | Self::BuildFailed { log, .. }
            | Self::NotProduced { log, .. } => Some(log),
            _ => None,
        }
    }

    /// What is left of it when its words are out.
    pub fn said(&self) -> Self {
        Self::Said { code: self.code(), hint: self.hint() }
    }

    /// Only an exit code.
    pub fn silent(code: u8) -> Self {
        Self::Said { code, hint: None }
    }

    /// Whether it was said already.
    pub fn is_said(&self) -> bool {
        match self {
            Self::Tarball(problem) => problem.is_said(),
            _ => matches!(
                self,
                Self::Said { .. }
                    | Self::Excluded { .. }
                    | Self::Stranded { .. }
                    | Self::FailedBefore { .. }
                    | Self::Critical { .. }
                    | Self::BuildScriptFailed { .. }
                    | Self::ScriptFailed { .. }
            ),
        }
    }
}

/// What we were doing and what the system said, with the path in both of them told once.
fn io_text(what: &str, source: &io::Error) -> String {
    let said = source.to_string();
    let once = said.split_once(": ").filter(|(path, _)| what.ends_with(path)).map_or(said.as_str(), |(_, rest)| rest);
    format!("{what}: {once}")
}

/// Says what was being done when the operating system refused.
pub trait Doing<T> {
    /// `what` is a clause without subject: `cannot copy the source to /x`.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

/// [`Doing`] for a change of one path.
pub fn cannot<'a>(verb: &'a str, path: &'a Path) -> impl FnOnce() -> String + 'a {
    move || format!("Cannot {verb} {}", path.display())
}
