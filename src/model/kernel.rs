// SPDX-License-Identifier: GPL-2.0-or-later
//! A kernel as far as modules are built for it: headers, configuration, toolchain.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::sync::{Arc, OnceLock};

use crate::error::{Doing, Error, Result, cannot};
use crate::model::headers::included;
use crate::model::memory::{Memory, Visited};
use crate::model::module::Target;
use crate::model::site::Site;
use crate::system::process::find_program;

/// Suffixes of compressed modules and the programs that make them, in the order in which they are looked for.
pub const COMPRESSIONS: [(&str, &str); 3] = [(".gz", "gzip"), (".xz", "xz"), (".zst", "zstd")];

/// Whether a file's name is that of a module, compressed or not.
pub fn is_module_file(name: &str) -> bool {
    module_stem(name).is_some()
}

/// What a module file's name is without `.ko` and what tells of its compression.
pub fn module_stem(name: &str) -> Option<&str> {
    let compression = COMPRESSIONS.iter().find_map(|(suffix, _)| name.strip_suffix(suffix));
    compression.unwrap_or(name).strip_suffix(".ko")
}

/// A kernel to build for.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Release and architecture.
    pub target: Target,
    /// The kernel's build directory: its headers.
    pub build_dir: PathBuf,
    /// The configuration: `--config`, else auto.conf, else .config; the one in /boot for modules that were built elsewhere.
    pub config: PathBuf,
    /// The directory of its modules.
    pub modules: PathBuf,
    /// Thousands of names are looked at to find it: once, for all clones.
    compression: Arc<OnceLock<&'static str>>,
    config_text: Arc<OnceLock<io::Result<Option<String>>>>,
    memory: Memory,
}

impl Kernel {
    /// The kernel `target`, with headers and configuration named on the command line where they are.
    pub fn new(site: &Site, target: &Target, headers: Option<&Path>, config: Option<&Path>) -> Self {
        let modules = site.modules(&target.release);
        let build_dir = headers.map_or_else(|| modules.join("build"), Path::to_owned);
        let config = config.map(Path::to_owned).unwrap_or_else(|| {
            let auto = build_dir.join("include/config/auto.conf");
            let own = site.paths.boot().join(format!("config-{}", target.release));
            if auto.exists() {
                auto
            } else if site.fetches() && !build_dir.exists() && own.exists() {
                own
            } else {
                build_dir.join(".config")
            }
        });
        Self {
            target: target.clone(),
            build_dir,
            config,
            modules,
            compression: Arc::default(),
            config_text: Arc::default(),
            memory: site.memory.clone(),
        }
    }

    /// Whether its headers are there, with those that all flavours share: these come in a package of their own, which may
    /// not be unpacked yet.
    pub fn has_headers(&self) -> bool {
        let makefile = || fs::read_to_string(self.build_dir.join("Makefile")).unwrap_or_default();
        self.build_dir.join("include").exists() && included(&makefile()).is_none_or(|common| Path::new(common).exists())
    }

    /// Refuses where its headers are not there.
    pub fn need_headers(&self) -> Result<()> {
        if self.has_headers() {
            return Ok(());
        }
        Err(Error::NoHeaders { release: self.target.release.clone(), modules: self.modules.clone() })
    }

    /// The release that the headers put into every module: with `--kernelsourcedir` not always this kernel's own.
    ///
    /// `include/config/kernel.release` does not tell: in Debian's headers it is the upstream version.
    pub fn built_release(&self) -> Option<String> {
        let header = fs::read_to_string(self.build_dir.join("include/generated/utsrelease.h")).ok()?;
        utsrelease(&header).map(str::to_owned)
    }

    /// The configuration's text, if there is one.
    pub fn config_text(&self) -> Option<&str> {
        self.read_config().as_ref().ok()?.as_deref()
    }

    /// Refuses where there is a configuration that cannot be read: what would be built without it would be another module,
    /// not signed for one.
    pub fn check_config(&self) -> Result<()> {
        match self.read_config() {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())).doing(cannot("read", &self.config)),
        }
    }

    fn read_config(&self) -> &io::Result<Option<String>> {
        self.config_text.get_or_init(|| match fs::read(&self.config) {
            Ok(bytes) => {
                let lossy = |error: FromUtf8Error| String::from_utf8_lossy(error.as_bytes()).into_owned();
                Ok(Some(String::from_utf8(bytes).unwrap_or_else(lossy)))
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// The suffix that this kernel's modules carry now: empty, `.gz`, `.xz` or `.zst`.
    ///
    /// Read from the modules themselves; where kinds are mixed the last of that list wins.
    pub fn compression(&self) -> &'static str {
        self.compression.get_or_init(|| {
            let find =
                |visited: &mut Visited| last_compression(&self.modules, visited).map_or("", |i| COMPRESSIONS[i].0);
            let found = self.memory.of_names(&self.modules, |visited| find(visited).to_owned());
            COMPRESSIONS.iter().map(|(suffix, _)| *suffix).find(|suffix| *suffix == found).unwrap_or_default()
        })
    }

    /// Packages of Debian and Ubuntu with the compiler and linker that this kernel was built with, where those are
    /// not installed.
    pub fn missing_tools(&self) -> Vec<String> {
        let config = self.config_text().unwrap_or_default();
        let mut missing = Vec::new();
        let mut need = |program: &str, package: &str| {
            if find_program(program).is_none() {
                missing.push(package.to_owned());
            }
        };
        if is_set(config, "CONFIG_CC_IS_CLANG") {
            need("clang", "clang");
        } else if let Some(gcc) = setting(config, "CONFIG_CC_VERSION_TEXT").and_then(gcc_of) {
            need(gcc.0, gcc.1);
        }
        if is_set(config, "CONFIG_LD_IS_LLD") {
            need("ld.lld", "lld");
        }
        missing
    }

    /// An option for the compiler by which it spares debugging information of which nothing is left after `strip`: to follow
    /// variables through large functions is half of its work. What is left is the same but for the build ID, a hash of what
    /// was there.
    ///
    /// Line numbers stay: where DWARF names no section, objtool makes a symbol for it, for which others move.
    pub fn sparing(&self) -> Option<&'static str> {
        let makes_types = self.build_dir.join("vmlinux").exists();
        is_debug_info_spare(self.config_text().unwrap_or_default(), makes_types).then_some("-g1")
    }

    /// The compiler and linker that this kernel was built with, as variables for a build.
    pub fn toolchain(&self) -> Toolchain {
        let config = self.config_text().unwrap_or_default();
        let mut toolchain = Toolchain::default();
        if let Ok(text) = fs::read_to_string(self.build_dir.join(".kernelvariables")) {
            let assigned = |line| plain_compiler(str::trim_start_matches(line, "override ").strip_prefix("CC")?);
            toolchain.cc = text.lines().rev().find_map(assigned).map(str::to_owned);
        }
        if let Some(cc) = setting(config, "CONFIG_CC_VERSION_TEXT").and_then(|text| text.split_whitespace().next()) {
            if find_program(cc).is_some() {
                toolchain.cc = Some(cc.to_owned());
                toolchain.kernel_cc = Some(cc.to_owned());
            }
        }
        if is_set(config, "CONFIG_CC_IS_CLANG") {
            if find_program("clang").is_some() {
                toolchain.cc = Some("clang".into());
                toolchain.kernel_cc = Some("clang".into());
            }
            toolchain.llvm = true;
        }
        if is_set(config, "CONFIG_LD_IS_LLD") && find_program("ld.lld").is_some() {
            toolchain.ld = Some("ld.lld".into());
        }
        let vmlinux = self.build_dir.join("vmlinux");
        if vmlinux.exists() {
            toolchain.llvm = comment_of(&vmlinux).is_some_and(|comment| comment.contains("clang"));
        }
        toolchain
    }
}

/// The last of [`COMPRESSIONS`] that a module below `dir` has. Links to directories are not entered.
fn last_compression(dir: &Path, visited: &mut Visited) -> Option<usize> {
    let mut last = None;
    visited.add(dir);
    let entries = fs::read_dir(dir).inspect_err(|_| visited.forget());
    for entry in entries.into_iter().flatten().flatten() {
        let found = match entry.file_type() {
            Ok(kind) if kind.is_dir() => last_compression(&entry.path(), visited),
            Ok(_) => entry.file_name().to_str().and_then(compression_of),
            Err(_) => None,
        };
        last = last.max(found);
        // None comes after it.
        if last == Some(COMPRESSIONS.len() - 1) {
            break;
        }
    }
    last
}

/// Which of [`COMPRESSIONS`] a module's name tells of.
fn compression_of(name: &str) -> Option<usize> {
    COMPRESSIONS.iter().position(|(suffix, _)| name.strip_suffix(suffix).is_some_and(|stem| stem.ends_with(".ko")))
}

/// The `.comment` section of an ELF file, where compilers sign.
fn comment_of(file: &Path) -> Option<String> {
    use object::{Object, ObjectSection, ReadCache};
    let cache = ReadCache::new(fs::File::open(file).ok()?);
    let elf = object::File::parse(&cache).ok()?;
    let data = elf.section_by_name(".comment")?.data().ok()?;
    Some(String::from_utf8_lossy(data).into_owned())
}

/// The compiler in what follows `CC` in a line of `.kernelvariables`, if it is no computed one.
fn plain_compiler(assignment: &str) -> Option<&str> {
    let value = assignment.trim_start().trim_start_matches([':', '?']).strip_prefix('=')?;
    value.split_whitespace().last().filter(|word| !word.contains('$'))
}

/// The program and the package of the gcc that introduces itself so: `x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0`.
pub fn gcc_of(version_text: &str) -> Option<(&str, &str)> {
    let program = version_text.split_whitespace().next()?;
    let start = program.rfind("gcc").filter(|&at| at == 0 || program[..at].ends_with('-'))?;
    Some((program, &program[start..]))
}

/// Variables by which a build finds its compiler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toolchain {
    /// `CC`
    pub cc: Option<String>,
    /// `KERNEL_CC`
    pub kernel_cc: Option<String>,
    /// `LD` and `KERNEL_LD`
    pub ld: Option<String>,
    /// Whether kbuild is to be told `LLVM=1`.
    pub llvm: bool,
}

impl Toolchain {
    /// As environment variables.
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        [("CC", &self.cc), ("KERNEL_CC", &self.kernel_cc), ("LD", &self.ld), ("KERNEL_LD", &self.ld)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect()
    }
}

/// What `UTS_RELEASE` is in utsrelease.h.
pub fn utsrelease(header: &str) -> Option<&str> {
    header.lines().find_map(|line| Some(line.strip_prefix("#define UTS_RELEASE ")?.trim().trim_matches('"')))
}

/// The value of a setting in a kernel configuration, without quotes.
pub fn setting<'a>(config: &'a str, name: &str) -> Option<&'a str> {
    config.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"')))
}

/// Whether modules are compiled with debugging information that ends in nothing but itself: neither in types, where it
/// `makes_types`, nor in the checksums of symbols, nor in files of its own.
fn is_debug_info_spare(config: &str, makes_types: bool) -> bool {
    let ends_elsewhere = ["CONFIG_GENDWARFKSYMS", "CONFIG_DEBUG_INFO_SPLIT"].iter().any(|name| is_set(config, name));
    let ends_in_types = makes_types && is_set(config, "CONFIG_DEBUG_INFO_BTF_MODULES");
    is_set(config, "CONFIG_DEBUG_INFO") && !ends_elsewhere && !ends_in_types
}

/// Whether a setting is built in or a module.
pub fn is_set(config: &str, name: &str) -> bool {
    matches!(setting(config, name), Some("y" | "m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_whole_names() {
        let config = "# CONFIG_A is not set\nCONFIG_AB=y\nCONFIG_B=m\nCONFIG_C=\"sha512\"\nCONFIG_D=n\n";
        assert_eq!(setting(config, "CONFIG_C"), Some("sha512"));
        for (name, expected) in [("CONFIG_A", false), ("CONFIG_AB", true), ("CONFIG_B", true), ("CONFIG_D", false)] {
            assert_eq!(is_set(config, name), expected, "{name}");
        }
    }

    #[test]
    fn debugging_information_is_spared_where_nothing_is_made_of_it() {
        let (with, types) = ("CONFIG_DEBUG_INFO=y\n", "CONFIG_DEBUG_INFO=y\nCONFIG_DEBUG_INFO_BTF_MODULES=y\n");
        for (config, makes_types, expected) in [
            ("", false, false),
            ("CONFIG_DEBUG_INFO_NONE=y\n", false, false),
            (with, false, true),
            (with, true, true),
            (types, false, true),
            (types, true, false),
            ("CONFIG_DEBUG_INFO=y\nCONFIG_DEBUG_INFO_SPLIT=y\n", false, false),
            ("CONFIG_DEBUG_INFO=y\nCONFIG_GENDWARFKSYMS=y\n", false, false),
        ] {
            assert_eq!(is_debug_info_spare(config, makes_types), expected, "{config}{makes_types}");
        }
    }

    #[test]
    fn the_last_kind_of_compression_wins_wherever_it_is() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("kernel/a/b"))?;
        fs::create_dir_all(at("elsewhere"))?;
        fs::write(at("elsewhere/z.ko.zst"), "")?;
        std::os::unix::fs::symlink(at("elsewhere"), at("kernel/link"))?;
        let kernel = || last_compression(&at("kernel"), &mut Visited::default()).map(|i| COMPRESSIONS[i].0);
        for (file, expected) in [
            ("kernel/a/x.ko", None),
            ("kernel/a/x.zst", None),
            ("kernel/a/b/x.ko.gz", Some(".gz")),
            ("kernel/x.ko.zst", Some(".zst")),
            ("kernel/a/y.ko.xz", Some(".zst")),
        ] {
            fs::write(at(file), "")?;
            assert_eq!(kernel(), expected, "{file}");
        }
        fs::remove_file(at("kernel/x.ko.zst"))?;
        assert_eq!(kernel(), Some(".xz"));
        Ok(())
    }

    #[test]
    fn a_gcc_is_known_by_its_introduction() {
        for (text, expected) in [
            ("gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", Some(("gcc-12", "gcc-12"))),
            ("x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0", Some(("x86_64-linux-gnu-gcc-14", "gcc-14"))),
            ("Debian clang version 19.1.7", None),
            ("", None),
        ] {
            assert_eq!(gcc_of(text), expected, "{text}");
        }
    }

    #[test]
    fn the_headers_say_which_release_they_make_modules_for() {
        assert_eq!(utsrelease("#define UTS_RELEASE \"6.1.0-56-amd64\"\n"), Some("6.1.0-56-amd64"));
        assert_eq!(utsrelease("// nothing\n"), None);
    }

    #[test]
    fn only_plain_compilers_are_taken_from_kernelvariables() {
        assert_eq!(plain_compiler(" := gcc-8"), Some("gcc-8"));
        assert_eq!(plain_compiler(" = $(if $(DEBIAN_KERNEL_USE_CCACHE),$(CCACHE)) $(CROSS_COMPILE)gcc-12"), None);
    }
}
