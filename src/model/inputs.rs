// SPDX-License-Identifier: GPL-2.0-or-later
//! Everything that decides how a module comes out, as one key: what has the same key is the same.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::caller;
use crate::model::conf::Conf;
use crate::model::headers::{Headers, Seen};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::source::{Source, takes_symbols_by};
use crate::model::tools;
use crate::model::tree::State;
use crate::system::digest::{self, Digest, Notes, Tree};
use crate::system::directories::find;
use crate::system::dpkg;
use crate::system::files::read_if_there;

/// What is the same for all modules of a kernel.
#[derive(Debug, Clone)]
pub struct Inputs {
    headers: String,
    tools: String,
}

/// One build, as far as its key goes.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// The machine.
    pub site: &'a Site,
    /// What was said.
    pub options: &'a Options,
    /// The module.
    pub id: &'a Id,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The module's dkms.conf.
    pub conf: &'a Conf,
    /// What the administrator's build_environment adds.
    pub environment: &'a BTreeMap<String, String>,
}

impl Inputs {
    /// Looks at the tools that a kernel with these headers is built with.
    pub fn of(kernel: &Kernel, seen: &Seen, notes: &Notes) -> io::Result<Self> {
        let headers = Headers::of(&kernel.build_dir)?;
        let tools = tools::digest(&kernel.toolchain(), headers.has_types(), notes)?;
        Ok(Self { headers: seen.content.clone(), tools })
    }

    /// The key of what a build will make of the source.
    pub fn key(&self, recipe: &Recipe, source: &Source) -> io::Result<String> {
        let Recipe { site, options, id, kernel, conf, environment } = recipe;
        let Target { release, arch } = &kernel.target;
        let mut key = Digest::new("result 9");
        key.add(crate::VERSION).add(&self.headers).add(&self.tools);
        key.add(&id.name).add(&id.version).add(release).add(arch);
        for path in [&kernel.build_dir, &kernel.config, site.tree.root(), &site.framework.source_tree] {
            key.add(path.as_os_str().as_encoded_bytes());
        }
        if let Some(config) = &options.config {
            key.add(digest::of(&fs::read(config)?));
        }
        // What one names by a variable that another sets.
        let mut outside = source.names.clone();
        for (name, index, value) in conf.values() {
            key.add(name).add(index.to_string()).add(value);
            outside.add(value.as_bytes());
        }
        for (name, value) in kernel.toolchain().variables() {
            key.add(name).add(value);
        }
        key.add(&source.content);
        let variables = caller::variables();
        if takes_symbols(recipe, source, &variables) {
            add_symbols(&mut key, site, &kernel.target)?;
        }
        let around = is_around(recipe, source);
        for depended in recipe.depends() {
            for dir in [site.tree.module_dir(&depended, &kernel.target), site.tree.source_link(&depended)] {
                key.add(Tree::walk(&fs::canonicalize(dir)?)?.content()?);
            }
        }
        let matters = |name: &str| caller::matters(name, around) || source.variables.contains_key(name);
        let set = variables.iter().filter(|(name, _)| matters(name)).chain(*environment);
        for (name, value) in set {
            key.add(name);
            if name == "PATH" {
                key.add(caller::programs(value));
            } else {
                key.add(value);
                outside.add(value.as_bytes());
            }
        }
        for (name, value) in options.directive_variables() {
            key.add(name).add(value);
        }
        key.add(outside.digest());
        if around {
            add_surroundings(&mut key);
        } else if source.asks_release {
            add_running(&mut key);
        }
        if source.compiles {
            HEADERS.iter().for_each(|dir| key_of_headers(&mut key, Path::new(dir)));
        }
        Ok(key.finish())
    }
}

impl Recipe<'_> {
    /// The modules that are built upon, where they are built.
    pub fn depends(&self) -> Vec<Id> {
        let Recipe { site, conf, kernel, .. } = self;
        let built = |id: &Id| site.tree.state(id, &kernel.target) >= State::Built;
        conf.depends().iter().flat_map(|name| site.tree.called(name)).filter(built).collect()
    }
}

/// The key of what is tried: by whom it is built, how much it may take and which packages there are makes no other module,
/// but may let a build go well that failed.
pub fn of_trial(site: &Site, id: &Id, key: &str) -> String {
    let mut trial = Digest::new("trial");
    trial.add(key).add(site.builds_as_root(id).to_string()).add(format!("{:?}", site.framework.build_limits));
    add_surroundings(&mut trial);
    trial.finish()
}

/// Whether a key speaks of the versions of all packages.
pub fn is_around(recipe: &Recipe, source: &Source) -> bool {
    source.runs_programs || looks_around(recipe.conf, &recipe.kernel.target.release)
}

/// Whether a key speaks of the symbols that other modules export: what builds the module names some, or the caller or the
/// administrator's build_environment does. `callers` are the caller's variables.
pub fn takes_symbols(recipe: &Recipe, source: &Source, callers: &BTreeMap<String, String>) -> bool {
    let command = recipe.conf.make(&recipe.kernel.target.release);
    source.takes_symbols
        || command.is_some_and(|command| takes_symbols_by(command.as_bytes()))
        || are_symbols_set(callers)
        || are_symbols_set(recipe.environment)
}

/// Whether variables of an environment name files of symbols.
fn are_symbols_set(variables: &BTreeMap<String, String>) -> bool {
    variables.iter().any(|(name, value)| takes_symbols_by(name.as_bytes()) || takes_symbols_by(value.as_bytes()))
}

/// The symbols that modules export that are built for a kernel.
fn add_symbols(key: &mut Digest, site: &Site, target: &Target) -> io::Result<()> {
    for id in site.tree.all() {
        let file = site.tree.module_dir(&id, target).join("Module.symvers");
        if let Some(symbols) = read_if_there(&file)? {
            key.add(&id.name).add(&id.version).add(symbols);
        }
    }
    Ok(())
}

/// The versions of all packages but kernels, which count by their headers, and what else a configure script may ask.
fn add_surroundings(key: &mut Digest) {
    let kernels = ["linux-image-", "linux-headers-", "linux-kbuild-", "linux-compiler-"];
    for (name, version) in dpkg::versions() {
        if !kernels.iter().any(|prefix| name.starts_with(prefix)) {
            key.add(name).add(version);
        }
    }
    key.add(caller::packages_programs());
    add_running(key);
}

fn add_running(key: &mut Digest) {
    let Target { release, arch } = Target::running();
    key.add(release).add(arch);
}

/// Where compilers find headers that are none of the kernel's.
const HEADERS: [&str; 2] = ["/usr/local/include", "/usr/include"];

/// How those below a directory look: the versions of packages say nothing of one that the administrator put there or
/// changed. One that is unpacked again has the time that it had.
fn key_of_headers(key: &mut Digest, dir: &Path) {
    for path in find(dir, &mut |_| true) {
        let look = fs::metadata(&path).map(|meta| format!("{} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec()));
        key.add(path.as_os_str().as_bytes()).add(look.unwrap_or_default());
    }
}

/// Whether a build is told to look around, beyond what kbuild does.
fn looks_around(conf: &Conf, release: &str) -> bool {
    let scripts = !conf.get("PRE_BUILD").is_empty() || !conf.get("POST_BUILD").is_empty();
    let plain = |command: &str| {
        command.trim_start_matches(['\'', '"']).starts_with("make")
            && !command.contains([';', '&', '|', '(', '`', '$', '<', '>'])
    };
    scripts || conf.make(release).is_some_and(|command| !plain(command))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::conf::tests::conf;

    #[test]
    fn an_environment_may_name_symbols() {
        for (name, value, are) in [
            ("KBUILD_EXTRA_SYMBOLS", "/a", true),
            ("MAKEOPTS", "KBUILD_EXTRA_SYMBOLS=/a", true),
            ("SYMBOLS", "/a/Module.symvers", true),
            ("KCFLAGS", "-O1", false),
        ] {
            assert_eq!(are_symbols_set(&BTreeMap::from([(name.into(), value.into())])), are, "{name}");
        }
    }

    #[test]
    fn only_plain_makes_do_not_look_around() {
        for (make, around) in [
            ("make -C /lib/modules/6.1/build M=/x/build", false),
            ("'make' all KVER=6.1", false),
            ("./configure && make", true),
            ("(make modules)", true),
            ("env A=1 make", true),
        ] {
            assert_eq!(looks_around(&conf(&[("MAKE", 0, make)]), "6.1"), around, "{make}");
        }
        assert!(!looks_around(&conf(&[]), "6.1"));
        assert!(looks_around(&conf(&[("PRE_BUILD", 0, "configure")]), "6.1"));
    }
}
