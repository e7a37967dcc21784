// SPDX-License-Identifier: GPL-2.0-or-later
//! The machine we act on, as far as every action needs it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result, cannot};
use crate::model::framework::Framework;
use crate::model::memory::Memory;
use crate::model::module::Id;
use crate::model::tree::Tree;
use crate::system::output::Output;
use crate::system::paths::Paths;
use crate::system::sandbox::{Isolation, Mount, User};
use crate::system::scratch::{self, Scratch};
use crate::system::trust;

/// The user that builds run as.
const BUILD_USER: &str = "_dkms";

/// How the names of temporary directories begin.
const TEMPORARY: &str = "dkms.";

/// What the distribution calls itself, and so where it wants modules and which signing tools it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution(String);

impl Distribution {
    /// From the text of an os-release(5) file: the family decides, so a derivative counts as what it derives from.
    pub fn parse(os_release: &str) -> Self {
        let value = |name: &str| {
            os_release.lines().find_map(|line| {
                let value = line.trim().strip_prefix(name)?.strip_prefix('=')?;
                Some(value.trim_matches(['"', '\'']).to_owned())
            })
        };
        let id = value("ID").unwrap_or_default();
        match value("ID_LIKE") {
            Some(like) if id != "ubuntu" && !like.is_empty() => Self(like),
            _ => Self(id),
        }
    }

    /// This machine's, on which depends where modules go.
    fn look(paths: &Paths) -> Result<Self> {
        let file = paths.os_release().ok_or(Error::NoOsRelease)?;
        let text = std::fs::read(&file).doing(cannot("read", &file))?;
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// The name by which dkms.conf files know it.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Ubuntu and its family: keys belong to shim-signed there.
    pub fn is_ubuntu(&self) -> bool {
        self.0.starts_with("ubuntu")
    }

    /// Debian proper and its family.
    pub fn is_debian(&self) -> bool {
        self.0.starts_with("debian")
    }

    /// Where modules go below a kernel's directory, whatever dkms.conf says; `None` where it decides.
    pub fn destination(&self) -> Option<&'static str> {
        let one_of = |names: &[&str]| names.iter().any(|name| self.0.starts_with(name));
        if one_of(&["debian", "ubuntu", "arch"]) {
            Some("/updates/dkms")
        } else if one_of(&["fedora", "centos", "rhel"]) {
            Some("/extra")
        } else if one_of(&["suse", "sles", "opensuse"]) {
            Some("/updates")
        } else {
            None
        }
    }
}

/// Places, settings, and who we are.
#[derive(Debug, Clone)]
pub struct Site {
    /// The fixed places.
    pub paths: Paths,
    /// The settings.
    pub framework: Framework,
    /// The registered modules.
    pub tree: Tree,
    /// Where the caches are; nowhere if others than root could change them.
    pub caches: Option<PathBuf>,
    /// The distribution.
    pub distribution: Distribution,
    /// What was found out before.
    pub memory: Memory,
    /// Whether we are root.
    pub root: bool,
    /// Where what we say goes.
    pub output: Output,
}

/// Trees named on the command line; they beat framework.conf.
#[derive(Debug, Clone, Default)]
pub struct Trees {
    /// `--dkmstree`
    pub dkms: Option<PathBuf>,
    /// `--sourcetree`
    pub source: Option<PathBuf>,
    /// `--installtree`
    pub install: Option<PathBuf>,
}

impl Site {
    /// Looks at the machine below `paths`.
    pub fn look(paths: Paths, trees: Trees, output: Output) -> Result<Self> {
        let (framework, errors) = Framework::read(&paths, &[])?;
        let distribution = Distribution::look(&paths)?;
        if !errors.is_empty() {
            output.block().complain(errors);
        }
        let mut site = Self::with(framework, distribution, paths, trees, output);
        // What stands there is installed, or believed, by root.
        let Framework { dkms_tree, source_tree, install_tree, .. } = &site.framework;
        for tree in [dkms_tree, source_tree, install_tree] {
            trust::check(tree)?;
        }
        site.check_caches();
        Ok(site)
    }

    /// Does without the caches where others could change them: nothing is worth less without them but time.
    fn check_caches(&mut self) {
        let Err(weak) = trust::check(&self.framework.cache_tree) else { return };
        if std::io::stderr().is_terminal() {
            self.output.block().complain(format!("{weak}\nUntil then nothing is cached there.\n"));
        } else {
            log::warn!("nothing is cached: {weak}");
        }
        self.memory = Memory::nowhere();
        self.caches = None;
    }

    /// The machine as it is where nobody has set anything but what a failure is to come to, to tell of it: what is in its
    /// trees may be anybody's.
    pub fn by_defaults(paths: Paths, output: Output) -> Self {
        let Framework { on_failure, critical_modules, .. } = Framework::sound(&paths);
        let framework = Framework { on_failure, critical_modules, ..Framework::default() };
        let distribution = Distribution::look(&paths).unwrap_or_else(|_| Distribution("debian".into()));
        let site = Self::with(framework, distribution, paths, Trees::default(), output);
        Self { memory: Memory::nowhere(), caches: None, ..site }
    }

    fn with(mut framework: Framework, distribution: Distribution, paths: Paths, trees: Trees, output: Output) -> Self {
        for (tree, asked) in [
            (&mut framework.dkms_tree, trees.dkms),
            (&mut framework.source_tree, trees.source),
            (&mut framework.install_tree, trees.install),
        ] {
            if let Some(path) = asked {
                *tree = path;
            }
            *tree = std::path::absolute(&*tree).unwrap_or_else(|_| tree.clone());
        }
        let tree = Tree::new(&framework.dkms_tree, &framework.source_tree);
        let root = rustix::process::geteuid().is_root();
        let memory = Memory::new(&framework.cache_tree, root);
        let caches = Some(framework.cache_tree.clone());
        Self { paths, framework, tree, caches, distribution, memory, root, output }
    }

    /// Whom builds run as: a user of their own if we are root, else the caller himself.
    ///
    /// Where the package's postinst has not made the user yet, nobody does.
    pub fn build_user(&self) -> Option<User> {
        if !self.root {
            return None;
        }
        let passwd = std::fs::read_to_string(self.paths.system("/etc/passwd")).unwrap_or_default();
        User::named(BUILD_USER, &passwd)
            .or_else(|| User::named("nobody", &passwd))
            .or(Some(User { uid: 65534, gid: 65534 }))
            .filter(|user| user.is_available())
    }

    /// Whether a module's builds run as root: where root says so, in `M.conf` or `M-V.conf` in /etc/dkms, by
    /// `BUILD_AS_ROOT=yes`. The module's own dkms.conf is not asked.
    pub fn builds_as_root(&self, id: &Id) -> bool {
        let asks = |name: String| {
            let text = std::fs::read_to_string(self.paths.etc().join(format!("{name}.conf"))).unwrap_or_default();
            text.lines()
                .filter_map(|line| line.trim().strip_prefix("BUILD_AS_ROOT="))
                .any(|value| value.trim_matches(['"', '\'']) == "yes")
        };
        self.root && [id.name.clone(), id.dashed()].into_iter().any(asks)
    }

    /// How far builds of a module are kept apart.
    pub fn isolation_of(&self, id: &Id) -> Isolation {
        if self.builds_as_root(id) { Isolation::None } else { Isolation::available() }
    }

    /// What hides the caches from a sandbox: what other builds made is not for this one's eyes. Nor are passwords.
    pub fn without_caches(&self) -> Vec<Mount> {
        let at = self.framework.cache_tree.clone();
        let caches = (self.root && at.is_dir()).then_some(Mount::Empty { at });
        let hide = |file: &PathBuf| Mount::Bind { from: "/dev/null".into(), at: file.clone(), writable: false };
        let apart = |_: &&PathBuf| self.root && Isolation::available() == Isolation::Namespaces;
        let secrets = self.framework.secrets.iter().filter(apart);
        caches.into_iter().chain(secrets.map(hide)).collect()
    }

    /// The caches, for who may write there: root alone.
    pub fn own_caches(&self) -> Option<&Path> {
        self.caches.as_deref().filter(|_| self.root)
    }

    /// Whether modules may come from elsewhere.
    pub fn fetches(&self) -> bool {
        self.root && !self.framework.prebuilt.is_empty()
    }

    /// The directory of a kernel's modules.
    pub fn modules(&self, release: &str) -> PathBuf {
        self.framework.install_tree.join(release)
    }

    /// Removes what runs that were killed had on its way.
    pub fn sweep(&self) {
        scratch::sweep(&self.framework.tmp_location, TEMPORARY);
        scratch::sweep(self.tree.root(), scratch::PREFIX);
        if let Some(caches) = self.own_caches() {
            scratch::sweep(caches, scratch::PREFIX);
        }
    }

    /// A directory for nobody but us, that vanishes when dropped. Where there is no `tmp_location` any more, in the usual
    /// place.
    pub fn scratch(&self) -> Result<Scratch> {
        let set: &Path = &self.framework.tmp_location;
        let place = if set.is_dir() { set } else { Path::new("/tmp") };
        trust::check_shared(place)?;
        Scratch::named(place, TEMPORARY).map_err(|source| Error::Io {
            what: format!("Cannot make a temporary directory in {}", place.display()),
            source,
        })
    }

    /// Refuses who is not root.
    pub fn need_root(&self) -> Result<()> {
        if self.root { Ok(()) } else { Err(Error::NotRoot) }
    }

    /// Refuses who may not write the tree.
    pub fn need_tree(&self) -> Result<()> {
        let tree = &self.framework.dkms_tree;
        match rustix::fs::access(tree, rustix::fs::Access::WRITE_OK) {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::NoWriteAccess(tree.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_count_as_what_they_derive_from() {
        for (text, name, destination) in [
            ("ID=debian\n", "debian", Some("/updates/dkms")),
            ("NAME=x\nID=ubuntu\nID_LIKE=debian\n", "ubuntu", Some("/updates/dkms")),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "ubuntu debian", Some("/updates/dkms")),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "rhel centos fedora", Some("/extra")),
            ("ID=fedora\n", "fedora", Some("/extra")),
            ("ID=centos\n", "centos", Some("/extra")),
            ("ID=sles\n", "sles", Some("/updates")),
            ("ID=leap\nID_LIKE=\"suse opensuse\"\n", "suse opensuse", Some("/updates")),
            ("ID=arch\n", "arch", Some("/updates/dkms")),
            ("ID=void\n", "void", None),
        ] {
            let distribution = Distribution::parse(text);
            assert_eq!((distribution.name(), distribution.destination()), (name, destination));
        }
        assert!(Distribution::parse("ID_LIKE='ubuntu debian'").is_ubuntu());
    }
}
