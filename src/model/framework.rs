// SPDX-License-Identifier: GPL-2.0-or-later
//! `/etc/dkms/framework.conf` and `framework.conf.d`: what the administrator of this machine wants.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

mod secret;
mod values;

use rustix::fs::{Access, access};

use self::secret::REMOTE;
use self::values::{TREES, cache_tree, duration, misspelt, size, switch};
use crate::error::{Doing, Result};
use crate::system::memory::machine_memory;
use crate::system::paths::Paths;
use crate::system::process::without_functions;
use crate::system::remote::Address;
use crate::system::sandbox::Limits;
use crate::system::shell::{Evaluation, Values};
use crate::system::trust;

/// The keys.
pub(crate) const NAMES: &[&str] = &[
    "source_tree",
    "dkms_tree",
    "install_tree",
    "tmp_location",
    "verbose",
    "symlink_modules",
    "autoinstall_all_kernels",
    "continue_on_error",
    "modprobe_on_install",
    "parallel_jobs",
    "compress_gzip_opts",
    "compress_xz_opts",
    "compress_zstd_opts",
    "build_environment",
    "post_transaction",
    "sign_file",
    "mok_signing_key",
    "mok_certificate",
    "try_sign_modules",
    "cache_tree",
    "compile_cache",
    "compile_cache_size",
    REMOTE,
    "result_store",
    "result_store_size",
    "prebuilt",
    "prebuilt_signed_by",
    "prebuilt_timeout",
    "on_miss",
    "on_miss_wait",
    "on_failure",
    "critical_modules",
    "build_memory",
    "build_processes",
    "build_time",
    "build_disk_reserve",
    ADDON_MODULES_DIR,
];

/// A key of other distributions, which they set in /etc/sysconfig.
pub(crate) const ADDON_MODULES_DIR: &str = "ADDON_MODULES_DIR";

/// Keys whose value may also come from the environment.
const FROM_ENVIRONMENT: &[&str] = &[
    "parallel_jobs",
    "modprobe_on_install",
    "build_environment",
    "post_transaction",
    "sign_file",
    "mok_signing_key",
    "mok_certificate",
    "try_sign_modules",
    ADDON_MODULES_DIR,
];

/// The settings, with defaults in place of what is not set.
#[derive(Debug, Clone)]
pub struct Framework {
    /// Where the tree of registered modules is: `/var/lib/dkms`.
    pub dkms_tree: PathBuf,
    /// Where sources are: `/usr/src`.
    pub source_tree: PathBuf,
    /// Where kernels have their modules: `/lib/modules`.
    pub install_tree: PathBuf,
    /// For temporary directories: `$TMPDIR` or `/tmp`.
    pub tmp_location: PathBuf,
    /// Show commands and their output.
    pub verbose: bool,
    /// Install symbolic links into the tree instead of copies.
    pub symlink_modules: bool,
    /// A package's installation builds for every kernel that has headers.
    pub autoinstall_all_kernels: bool,
    /// A package's installation goes on with the next kernel after a failing build.
    pub continue_on_error: bool,
    /// Load the modules after installing them for the running kernel.
    pub modprobe_on_install: bool,
    /// Jobs at a time; 0 for as many as there are.
    pub parallel_jobs: usize,
    /// Options for gzip, xz and zstd.
    pub compress_opts: [String; 3],
    /// A file to be sourced before a build.
    pub build_environment: String,
    /// A shell command to run after a change.
    pub post_transaction: String,
    /// The program that signs.
    pub sign_file: String,
    /// The private key, a file or a `pkcs11:` URI.
    pub mok_signing_key: String,
    /// The certificate, DER.
    pub mok_certificate: String,
    /// Whether to sign at all: `true` always, `false` never, else where it makes sense.
    pub try_sign_modules: String,
    /// Where modules are installed below a kernel's directory, whatever the distribution does.
    pub addon_modules_dir: String,
    /// What may be deleted at any time: `/var/cache/dkms`.
    pub cache_tree: PathBuf,
    /// Compile through ccache.
    pub compile_cache: bool,
    /// How large ccache's directory for one module may become, in bytes; 0 for no limit.
    pub compile_cache_size: u64,
    /// Where builders leave for each other what they compiled.
    pub compile_cache_remote: Option<Address>,
    /// Files that have a password in them.
    pub secrets: Vec<PathBuf>,
    /// Keep what was built, and take it where the same is to be built again.
    pub result_store: bool,
    /// How large all that is kept may become, in bytes.
    pub result_store_size: u64,
    /// Places that have modules which were built elsewhere, as URLs.
    pub prebuilt: Vec<String>,
    /// The keyring with the keys that those are signed by.
    pub prebuilt_signed_by: PathBuf,
    /// How long such a place may be silent.
    pub prebuilt_timeout: Duration,
    /// What is done about a module that no place has.
    pub on_miss: OnMiss,
    /// How much of the machine a command of a build may take.
    pub build_limits: Limits,
    /// What hooks and packages' scripts do about a module that could not be installed.
    pub on_failure: OnFailure,
    /// Modules without which this machine shall not boot, besides those that its root file system stands on; `none` for
    /// not even these.
    pub critical_modules: Vec<String>,
}

/// What is done about a module that could be had from elsewhere, and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMiss {
    /// It is built here.
    Build,
    /// It is waited for, no longer than this.
    Wait(Duration),
    /// It is not installed.
    Fail,
}

/// What the kernel's hooks and packages' scripts do about a module that could not be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Go on, note it and tell of it.
    Continue,
    /// End as dkms always did: the package is not configured then.
    Original,
}

impl Default for Framework {
    fn default() -> Self {
        Self::from_values(&Values::default())
    }
}

impl Framework {
    /// How large one cache may be, in bytes; none if there is no limit.
    pub fn compile_cache_limit(&self) -> Option<u64> {
        Some(self.compile_cache_size).filter(|bytes| *bytes > 0)
    }

    /// Reads the files, which see the variables `told`: `$kernelver` for one, where a kernel is concerned.
    ///
    /// What the files say on standard error is given back, with what is to be said of values that mean nothing.
    pub fn read(paths: &Paths, told: &[(&'static str, String)]) -> Result<(Self, Vec<u8>)> {
        let files = Self::files(paths).doing(|| "Cannot read framework.conf".into())?;
        files.iter().try_for_each(|file| trust::check(file))?;
        Self::of(&files, told)
    }

    /// What those of the files say that nobody else can change and that run nothing, where others are to be done without.
    pub fn sound(paths: &Paths) -> Self {
        let mut files = Self::files(paths).unwrap_or_default();
        files.retain(|file| trust::check(file).is_ok() && plain_assignments(file).is_some());
        Self::of(&files, &[]).map(|(framework, _)| framework).unwrap_or_default()
    }

    fn files(paths: &Paths) -> io::Result<Vec<PathBuf>> {
        let mut files = paths.framework_confs()?;
        files.insert(0, paths.system("/etc/sysconfig/module-init-tools"));
        // What is closed to who asks is for others.
        files.retain(|file| access(file, Access::READ_OK).is_ok());
        Ok(files)
    }

    fn of(files: &[PathBuf], told: &[(&'static str, String)]) -> Result<(Self, Vec<u8>)> {
        let mut values = Values::default();
        for name in FROM_ENVIRONMENT {
            if let Ok(value) = std::env::var(name) {
                values.set(name, 0, &value);
            }
        }
        if let Some(plain) = files.iter().map(|file| plain_assignments(file)).collect::<Option<Vec<_>>>() {
            for (name, value) in plain.into_iter().flatten().filter(|(name, _)| NAMES.contains(&name.as_str())) {
                values.set(&name, 0, &value);
            }
            return Ok(Self::judged(&values, files));
        }
        let mut variables = told.to_vec();
        variables.extend(FROM_ENVIRONMENT.iter().map(|name| (*name, values.get(name).to_owned())));
        variables.retain(|(_, value)| !value.is_empty());
        let evaluation = Evaluation { names: NAMES, variables, files: files.to_vec(), last: Vec::new() };
        let mut bash = Command::new("bash");
        without_functions(&mut bash);
        for name in NAMES {
            bash.env_remove(name);
        }
        let (values, mut errors) =
            evaluation.run(&mut bash).doing(|| "Cannot run bash to read framework.conf".into())?;
        let (framework, told) = Self::judged(&values, files);
        errors.extend(told);
        Ok((framework, errors))
    }

    fn from_values(values: &Values) -> Self {
        let or = |name: &str, default: &str| match values.get(name) {
            "" => default.to_owned(),
            value => value.to_owned(),
        };
        let path = |name: &str, default: &str| PathBuf::from(or(name, default));
        let on =
            |name: &str| !matches!(values.get(name).to_ascii_lowercase().as_str(), "" | "0" | "n" | "no" | "false");
        let not_off = |name: &str| switch(values.get(name)) != Some(false);
        let opts = |name: &str, default: &str| values.at(name, 0).unwrap_or(default).to_owned();
        let [dkms_tree, source_tree, install_tree] = TREES.map(|(name, default)| path(name, default));
        Self {
            dkms_tree,
            source_tree,
            install_tree,
            tmp_location: path("tmp_location", &std::env::var("TMPDIR").unwrap_or_else(|_| "/tmp".into())),
            verbose: on("verbose"),
            symlink_modules: on("symlink_modules"),
            autoinstall_all_kernels: on("autoinstall_all_kernels"),
            continue_on_error: or("continue_on_error", "true") == "true",
            modprobe_on_install: on("modprobe_on_install"),
            parallel_jobs: values.get("parallel_jobs").parse().unwrap_or_else(|_| cores()),
            compress_opts: [
                opts("compress_gzip_opts", ""),
                opts("compress_xz_opts", "--check=crc32 --lzma2=dict=1MiB"),
                opts("compress_zstd_opts", "-q --rm -T0"),
            ],
            build_environment: or("build_environment", ""),
            post_transaction: or("post_transaction", ""),
            sign_file: or("sign_file", ""),
            mok_signing_key: or("mok_signing_key", ""),
            mok_certificate: or("mok_certificate", ""),
            try_sign_modules: or("try_sign_modules", ""),
            addon_modules_dir: or(ADDON_MODULES_DIR, ""),
            cache_tree: cache_tree(values).unwrap_or(Path::new("/var/cache/dkms")).to_owned(),
            compile_cache: not_off("compile_cache"),
            compile_cache_size: size(values.get("compile_cache_size")).unwrap_or(500 << 20),
            compile_cache_remote: Address::parse(values.get(REMOTE)),
            secrets: Vec::new(),
            result_store: not_off("result_store"),
            result_store_size: size(values.get("result_store_size")).unwrap_or(1 << 30),
            prebuilt: values.get("prebuilt").split_whitespace().map(str::to_owned).collect(),
            prebuilt_signed_by: path("prebuilt_signed_by", "/etc/dkms/prebuilt.gpg"),
            prebuilt_timeout: duration(values.get("prebuilt_timeout")).unwrap_or(Duration::from_secs(30)),
            on_miss: match values.get("on_miss") {
                "wait" => OnMiss::Wait(duration(values.get("on_miss_wait")).unwrap_or(Duration::from_secs(15 * 60))),
                "fail" => OnMiss::Fail,
                _ => OnMiss::Build,
            },
            on_failure: match values.get("on_failure") {
                "original" => OnFailure::Original,
                _ => OnFailure::Continue,
            },
            critical_modules: values
                .get("critical_modules")
                .split([' ', ',', '\t', '\n'])
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            build_limits: Limits {
                memory: size(values.get("build_memory")).or_else(machine_memory),
                processes: values.get("build_processes").parse().ok().or(Some(1024 + 64 * cores() as u64)),
                time: Some(duration(values.get("build_time")).unwrap_or(Duration::from_secs(12 * 3600))),
                disk_reserve: size(values.get("build_disk_reserve")).unwrap_or(256 << 20),
            },
        }
    }
}

/// How many jobs run at a time where nobody says: as many as this process may use cores.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The assignments of a file in which nothing stands that only bash understands: comments, `name=word`, `name="words"`.
///
/// That is what framework.conf usually is, and saves a bash for every command.
fn plain_assignments(file: &Path) -> Option<Vec<(String, String)>> {
    let Ok(text) = std::fs::read_to_string(file) else { return Some(Vec::new()).filter(|_| !file.exists()) };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.split_once('=')?;
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let plain = |c: char| {
                c.is_ascii_alphanumeric() || "_-./,:+%@".contains(c) || (quoted.is_some() && "= ".contains(c))
            };
            let value = quoted.unwrap_or(value);
            // Blanks in a row would become one.
            let as_it_is = value.chars().all(plain) && !value.contains("  ") && value.trim() == value;
            let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            (as_it_is && named).then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_bash_would_read_alike_is_read_without_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("f");
        for (text, plain) in [
            ("# x\na=b\n c=\"d e\"\n", true),
            ("a=$b", false),
            ("a='b'", false),
            ("a=b c", false),
            ("a=\"b  c\"", false),
            ("a=~", false),
            ("export a=b", false),
            ("a=\"b\"c\"", false),
            ("if true; then", false),
        ] {
            std::fs::write(&file, text).expect("written");
            assert_eq!(plain_assignments(&file).is_some(), plain, "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_told() -> Result<()> {
        let dir = tempfile::tempdir().expect("a directory");
        let etc = dir.path().join("etc/dkms");
        std::fs::create_dir_all(&etc).expect("made");
        for (text, told) in [
            ("on_failure=stop\nbuild_time=1d\n", 2),
            ("build_memory=\"$((1+1))\"\nresult_store_size=much\n", 1),
            ("on_failure=original\nbuild_time=1h\nbuild_memory=1G\nbuild_processes=7\ncompile_cache_size=3G\n", 0),
            ("on_failure=\nbuild_processes=\nverbose=maybe\n", 0),
            ("parallel_jobs=many\ncompile_cache=maybe\nresult_store=off\ncache_tree=relative\n", 4),
            ("parallel_jobs=-1\ncache_tree=/a/../b\n", 2),
            ("parallel_jobs=0\ncompile_cache=No\nresult_store=1\ncache_tree=/a\n", 0),
            ("cache_tree=/\n", 1),
            ("cache_tree=//usr/.\n", 1),
            ("cache_tree=/etc/\n", 1),
            ("cache_tree=/var/lib\n", 1),
            ("cache_tree=/lib/modules\n", 1),
            ("cache_tree=/srv\nsource_tree=/srv/src\n", 1),
            ("cache_tree=/srv/cache\nsource_tree=/srv/src\n", 0),
            ("cache_tree=/var/lib\ndkms_tree=/srv/dkms\n", 0),
            ("cache_tree=/usr/local/cache\n", 0),
        ] {
            std::fs::write(etc.join("framework.conf"), text).expect("written");
            let (framework, errors) = Framework::read(&Paths::new(dir.path()), &[])?;
            assert!(framework.cache_tree.is_absolute(), "{text}");
            assert_eq!(String::from_utf8_lossy(&errors).matches("the default is used").count(), told, "{text}");
        }
        Ok(())
    }

    #[test]
    fn later_files_win_and_comments_cost_nothing() -> Result<()> {
        let dir = tempfile::tempdir().expect("a directory");
        let etc = dir.path().join("etc/dkms/framework.conf.d");
        std::fs::create_dir_all(&etc).expect("made");
        std::fs::write(etc.join("../framework.conf"), "# source_tree=/nowhere\n\n").expect("written");
        assert_eq!(plain_assignments(&etc.join("../framework.conf")), Some(Vec::new()));
        let paths = Paths::new(dir.path());
        assert_eq!(Framework::read(&paths, &[])?.0.source_tree, Path::new("/usr/src"));
        std::fs::write(etc.join("a.conf"), "source_tree=/a\nparallel_jobs=3\npost_transaction='do $kernelver'\n")
            .expect("written");
        std::fs::write(etc.join("b.conf"), "source_tree=$source_tree/b\nls() { :; }\n").expect("written");
        let (framework, errors) = Framework::read(&paths, &[("kernelver", "6.1".into())])?;
        assert_eq!(String::from_utf8_lossy(&errors), "");
        assert_eq!(framework.source_tree, Path::new("/a/b"));
        assert_eq!((framework.parallel_jobs, framework.post_transaction.as_str()), (3, "do 6.1"));
        Ok(())
    }
}
