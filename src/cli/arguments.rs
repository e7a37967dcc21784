// SPDX-License-Identifier: GPL-2.0-or-later
//! What can be said on the command line of `dkms`: clap reads it, `--help` and dkms(8) show it.

use std::path::PathBuf;

use clap::Parser;

/// Build, sign and install kernel modules from registered sources, for every kernel.
#[derive(Debug, Parser)]
#[command(
    name = "dkms",
    disable_version_flag = true,
    disable_help_flag = true,
    args_override_self = true,
    override_usage = "dkms ACTION [MODULE/VERSION | DIRECTORY | TARBALL] [OPTIONS]",
    after_help = HELP_ACTIONS
)]
pub struct Arguments {
    /// Name of the module, or name and version
    #[arg(short, long, value_name = "MODULE[/VERSION]")]
    pub(super) module: Option<String>,
    /// Version of the module
    #[arg(short = 'v', value_name = "VERSION")]
    pub(super) module_version: Option<String>,
    /// Kernel release; may be repeated [default: the running kernel]
    ///
    /// It is the name of a directory in /lib/modules.
    #[arg(short, long, value_name = "KERNEL[/ARCH]")]
    pub(super) kernelver: Vec<String>,
    /// Architecture, or one for each kernel [default: this machine's]
    ///
    /// It is what uname(1) calls the machine.
    #[arg(short, long, value_name = "ARCH")]
    pub(super) arch: Vec<String>,
    /// All kernels that the module is built for
    #[arg(long)]
    pub(super) all: bool,
    /// Do it again, or in spite of what speaks against it
    ///
    /// What is built or installed already is built or installed once more, and a newer version in the kernel, missing
    /// modules of BUILD_DEPENDS or a PRE_INSTALL that fails stop nothing.
    #[arg(long)]
    pub(super) force: bool,
    /// Install over a module of the same or a newer version
    #[arg(long)]
    pub(super) force_version_override: bool,
    /// Jobs at a time; 0 for no limit [default: one for each core]
    ///
    /// They are counted over all modules and kernels: with 1 nothing is built side by side. There are never more than
    /// there is memory for.
    #[arg(short, value_name = "NUMBER")]
    pub(super) jobs: Option<String>,
    /// Read FILE in place of the source's dkms.conf
    #[arg(short, value_name = "FILE")]
    pub(super) conf: Option<PathBuf>,
    /// Set a directive of dkms.conf; may be repeated
    ///
    /// It has the last word, whatever files say.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) directive: Vec<String>,
    /// The kernel's configuration, if not the one among its headers
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The kernel's headers, if not at /lib/modules/KERNEL/build
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) kernelsourcedir: Option<PathBuf>,
    /// The tree of registered modules, if not /var/lib/dkms
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) dkmstree: Option<PathBuf>,
    /// Where sources are, if not /usr/src
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) sourcetree: Option<PathBuf>,
    /// Where kernels have their modules, if not /lib/modules
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) installtree: Option<PathBuf>,
    /// Install links into the tree in place of copies
    #[arg(long)]
    pub(super) symlink_modules: bool,
    /// Do not run depmod(8)
    #[arg(long)]
    pub(super) no_depmod: bool,
    /// Load the modules after installing them for the running kernel
    ///
    /// Loaded is what the devices of this machine ask for.
    #[arg(long)]
    pub(super) modprobe_on_install: bool,
    /// Show commands and their output
    #[arg(long)]
    pub(super) verbose: bool,
    /// Say nothing from here on
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Tell what happens behind the words
    ///
    /// The same as `DKMS_LOG=debug` in the environment.
    #[arg(long)]
    pub(super) debug: bool,
    /// Print the version and exit
    #[arg(short = 'V', long)]
    pub(super) version: bool,
    /// Print a summary and exit
    #[arg(short, long)]
    pub(super) help: bool,
    /// The tarball to read or write
    ///
    /// A name without a slash is one in the module's own directory when it is written by `mktarball`. The end of the
    /// name decides how it is compressed: .gz, .bz2, .xz, .zst and their short forms; anything else is not.
    #[arg(long, value_name = "FILE")]
    pub(super) archive: Option<PathBuf>,
    /// The kernel that match takes as the pattern
    #[arg(long, value_name = "KERNEL")]
    pub(super) templatekernel: Option<String>,
    #[arg(long = "rpm_safe_upgrade", hide = true)]
    pub(super) rpm_safe_upgrade: bool,
    /// A tarball or package without the source
    #[arg(long)]
    pub(super) binaries_only: bool,
    /// A tarball or package without what was built
    #[arg(long)]
    pub(super) source_only: bool,
    /// Whose package it is [default: DEBFULLNAME and DEBEMAIL]
    ///
    /// What the source says in `debian/control`, or in dkms.conf as PACKAGE_MAINTAINER, comes before the default; likewise
    /// for what follows.
    #[arg(long, value_name = "NAME <ADDRESS>")]
    pub(super) maintainer: Option<String>,
    /// What a package is, in one line; more of it in further lines
    #[arg(long, value_name = "TEXT")]
    pub(super) description: Option<String>,
    /// The section that a package belongs to [default: kernel]
    #[arg(long, value_name = "SECTION", hide_short_help = true)]
    pub(super) section: Option<String>,
    /// Where the module comes from
    #[arg(long, value_name = "URL", hide_short_help = true)]
    pub(super) homepage: Option<String>,
    /// The licence of the source, by its short name
    #[arg(long, alias = "licence", value_name = "NAME", hide_short_help = true)]
    pub(super) license: Option<String>,
    /// A package's version [default: the module's]
    #[arg(long, value_name = "VERSION", hide_short_help = true)]
    pub(super) package_version: Option<String>,
    /// Tell a plan as JSON
    ///
    /// An object whose `jobs` are objects with `module`, `version`, `kernel`, `arch` and `key`.
    #[arg(long)]
    pub(super) json: bool,
    /// Build what a job of a plan says; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(super) from_plan: Option<PathBuf>,
    /// The directory that results are exported to
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) to: Option<PathBuf>,
    /// Who signs the lists of what is exported [default: gpg's]
    ///
    /// Any name by which gpg(1) knows a key of the caller's.
    #[arg(long, value_name = "KEY")]
    pub(super) gpg_key: Option<String>,
    /// Sign the modules that are exported
    ///
    /// With this machine's key: for machines whose kernels know that one. Without it each machine signs what it gets by
    /// its own.
    #[arg(long)]
    pub(super) sign_modules: bool,
    /// The status of what hooks could not install, and nothing else
    #[arg(long)]
    pub(super) failed: bool,
}

pub(super) const HELP_ACTIONS: &str = "\
Actions:
  add             register the source in /usr/src/MODULE-VERSION, in DIRECTORY or TARBALL
  build           build for a kernel (adds first)
  install         install into a kernel (builds first)
  status          what is registered, built and installed
  uninstall       take out of a kernel, put back what was there before
  unbuild         uninstall, and forget what was built
  remove          unbuild, and forget the module when no kernel is left
  autoinstall     install every module with AUTOINSTALL=yes on a kernel
  match           install for a kernel what is installed for --templatekernel
  mktarball       put source and built modules into a tarball
  ldtarball       register what is in a tarball
  mkdeb           put the source into a package, with what is built for -k
  mkdsc           the same as a source package
  mkbmdeb         put what is built for -k into a package without the source
  mkrpm           what mkdeb makes, for rpm
  plan            what is not built yet, as jobs for build --from-plan
  export          put what was built where other machines find it
  generate_mok    make the key pair that modules are signed with
  kernel_postinst, kernel_preinst, kernel_prerm
                  what the kernel packages' hooks do, for the kernel given by -k

Examples:
  dkms install hello/0.1                     for the running kernel
  dkms build -m hello -v 0.1 -k 6.1.0-56-amd64
  dkms remove hello/0.1 --all
  dkms status

See dkms(8) for dkms.conf, framework.conf, exit codes, and more of what packages may say.";
