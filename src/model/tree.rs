// SPDX-License-Identifier: GPL-2.0-or-later
//! The tree of registered modules, `/var/lib/dkms`: the only state there is.
//!
//! ```text
//! TREE/M/V/source             link to the source, SOURCES/M-V
//! TREE/M/V/build/             left by a build that failed
//! TREE/M/V/K/A/module/*.ko    what was built
//! TREE/M/V/K/A/log/make.log
//! TREE/M/kernel-K-A           link to V/K/A: installed
//! TREE/M/original_module/K/A/ what was installed before us
//! TREE/.pending/M/K/A         a change that has not ended
//! TREE/.superseded/M/K/A      installed files whose successors are on their way
//! TREE/.failed/M/K/A          why it could not be installed when nobody waited for it
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::model::module::{INSTALLED_LINK, Id, ORIGINALS, Target};
use crate::system::directories::{names, remove_any, remove_empty_up_to};
use crate::system::files::{At, is_staged, read_if_there, replace_with_text};
use crate::system::pattern::Shell;
use crate::system::scratch;
use crate::system::version::looks_like_release;

/// Where things are, and what state they say a module is in.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    sources: PathBuf,
    /// What could not be listed, of all clones.
    unreadable: Arc<OnceLock<io::Error>>,
}

/// The state of a registered module for one kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Registered; nothing built.
    Added,
    /// Built, not installed.
    Built,
    /// Built and installed.
    Installed,
}

/// What stands in a mark of a removal below the module's version.
const REMOVAL: &str = "removal";

impl Tree {
    /// The tree at `root`, with sources below `sources`.
    pub fn new(root: &Path, sources: &Path) -> Self {
        Self { root: root.to_owned(), sources: sources.to_owned(), unreadable: Arc::default() }
    }

    /// The tree itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the source of a module belongs: `SOURCES/M-V`.
    pub fn source_dir(&self, id: &Id) -> PathBuf {
        self.sources.join(id.dashed())
    }

    /// `TREE/M`.
    pub fn module_root(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// `TREE/M/V`.
    pub fn version_dir(&self, id: &Id) -> PathBuf {
        self.root.join(&id.name).join(&id.version)
    }

    /// `TREE/M/V/source`.
    pub fn source_link(&self, id: &Id) -> PathBuf {
        self.version_dir(id).join("source")
    }

    /// `TREE/M/V/build`: what every build believes to be its directory.
    pub fn build_dir(&self, id: &Id) -> PathBuf {
        self.version_dir(id).join("build")
    }

    /// `TREE/M/V/K/A`.
    pub fn built_dir(&self, id: &Id, target: &Target) -> PathBuf {
        self.version_dir(id).join(&target.release).join(&target.arch)
    }

    /// `TREE/M/V/K/A/module`.
    pub fn module_dir(&self, id: &Id, target: &Target) -> PathBuf {
        self.built_dir(id, target).join("module")
    }

    /// `TREE/M/kernel-K-A`.
    pub fn link(&self, name: &str, target: &Target) -> PathBuf {
        self.module_root(name).join(format!("{INSTALLED_LINK}{}-{}", target.release, target.arch))
    }

    /// What that link says when `id` is installed: relative, so that the tree can be moved.
    pub fn link_target(&self, id: &Id, target: &Target) -> PathBuf {
        Path::new(&id.version).join(&target.release).join(&target.arch)
    }

    /// `TREE/M/original_module/K/A`.
    pub fn original_dir(&self, name: &str, target: &Target) -> PathBuf {
        self.module_root(name).join(ORIGINALS).join(&target.release).join(&target.arch)
    }

    /// The mark of an installation or its undoing that is under way. Not inside `TREE/M`, where it would look like a
    /// version.
    pub fn pending_mark(&self, name: &str, target: &Target) -> PathBuf {
        self.root.join(".pending").join(name).join(&target.release).join(&target.arch)
    }

    /// The record of installed files whose successors are on their way.
    pub fn superseded_record(&self, name: &str, target: &Target) -> PathBuf {
        self.root.join(".superseded").join(name).join(&target.release).join(&target.arch)
    }

    /// The modules for which there is such a record on one kernel.
    pub fn superseded_on(&self, target: &Target) -> Vec<String> {
        let mut modules = self.all_superseded();
        modules.retain(|name| self.superseded_record(name, target).exists());
        modules
    }

    /// The modules for which there is such a record on any kernel.
    pub fn all_superseded(&self) -> Vec<String> {
        names(&self.root.join(".superseded"))
    }

    /// The kernels for which there is such a record of module `name`.
    pub fn superseded(&self, name: &str) -> Vec<Target> {
        self.noted(".superseded", name)
    }

    /// The record of a module that could not be installed.
    pub fn failure_record(&self, name: &str, target: &Target) -> PathBuf {
        self.root.join(".failed").join(name).join(&target.release).join(&target.arch)
    }

    /// The kernels for which there is such a record of module `name`.
    pub fn failed(&self, name: &str) -> Vec<Target> {
        self.noted(".failed", name)
    }

    /// The modules for which there is such a record.
    pub fn all_failed(&self) -> Vec<String> {
        names(&self.root.join(".failed"))
    }

    /// The kernels on which a change of `id` was begun and not ended.
    pub fn unfinished(&self, id: &Id) -> Vec<Target> {
        let mut targets = self.noted(".pending", &id.name);
        targets.retain(|target| self.is_unfinished(id, target));
        targets
    }

    /// Whether a change of `id` on one kernel was begun and not ended; of a mark that cannot be read it may be.
    pub fn is_unfinished(&self, id: &Id, target: &Target) -> bool {
        let mark = read_if_there(&self.pending_mark(&id.name, target));
        mark.map_or(true, |mark| mark.is_some_and(|mark| mark.lines().next() == Some(&id.to_string())))
    }

    /// What the mark of a removal says, which takes these files out of a kernel: what is found there later may be another's.
    pub fn removal(id: &Id, files: &[PathBuf]) -> String {
        let files: String = files.iter().map(|file| format!("{}\n", file.display())).collect();
        format!("{id}\n{REMOVAL}\n{files}")
    }

    /// The files that a removal of `id` was taking out of a kernel when it was cut off, if it was.
    pub fn going(&self, id: &Id, target: &Target) -> Option<Vec<PathBuf>> {
        let mark = read_if_there(&self.pending_mark(&id.name, target)).ok()??;
        let mut lines = mark.lines();
        let is_removal = lines.next() == Some(&id.to_string()) && lines.next() == Some(REMOVAL);
        is_removal.then(|| lines.map(PathBuf::from).collect())
    }

    fn noted(&self, kind: &str, name: &str) -> Vec<Target> {
        let dir = self.root.join(kind).join(name);
        let archs =
            |release: String| names(&dir.join(&release)).into_iter().map(move |arch| Target::new(&release, arch));
        names(&dir).into_iter().flat_map(archs).collect()
    }

    /// Writes a mark or a record, in one step.
    pub fn note(&self, place: &Path, text: &str) -> io::Result<()> {
        place.parent().map_or(Ok(()), fs::create_dir_all)?;
        let written = replace_with_text(text.as_bytes(), place);
        if written.is_err() {
            self.forget(place)?;
        }
        written
    }

    /// Removes `path` in one step, and with it the directories above it, below `stop`, that hold nothing else.
    pub fn discard(&self, path: &Path, stop: &Path) -> io::Result<()> {
        if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        let only = |dir: &&Path| *dir != stop && fs::read_dir(dir).is_ok_and(|entries| entries.count() == 1);
        let above = path.ancestors().skip(1).take_while(only).last();
        scratch::discard(&self.root, above.unwrap_or(path))?;
        // Of what could not be looked into.
        remove_empty_up_to(path.parent().unwrap_or(path), stop);
        Ok(())
    }

    /// Removes what builds, and the writing of a mark or a record, left behind when they were cut off. To be called with
    /// the tree locked.
    pub fn sweep(&self) {
        let below = |dir: PathBuf| {
            let names = listed(&dir, |kind, _| kind.is_dir()).unwrap_or_default();
            names.into_iter().map(move |name| dir.join(name))
        };
        for kernel in below(self.root.clone()).flat_map(below).flat_map(below) {
            if scratch::sweep(&kernel, scratch::PREFIX) {
                // Fails where something is built.
                let _ = fs::remove_dir(&kernel);
            }
        }
        for kind in [".pending", ".superseded", ".failed"] {
            sweep_notes(&self.root.join(kind));
        }
    }

    /// Removes a mark or a record, and the directories that held nothing else.
    pub fn forget(&self, place: &Path) -> io::Result<()> {
        remove_any(place)?;
        remove_empty_up_to(place.parent().unwrap_or(place), &self.root);
        Ok(())
    }

    /// Registered, with its source where it should be.
    pub fn is_added(&self, id: &Id) -> bool {
        let link = self.source_link(id);
        link.is_symlink() && link.is_dir()
    }

    /// Registered, but its source or the link to it has gone.
    pub fn is_broken(&self, id: &Id) -> bool {
        if !self.version_dir(id).is_dir() {
            return false;
        }
        let link = self.source_link(id);
        if link.is_symlink() { !link.is_dir() } else { self.source_dir(id).is_dir() }
    }

    /// Whether a module is built for a kernel. What is not whose the rest of it is was shown to a build that was cut off, and
    /// is nobody's.
    pub fn is_built(&self, id: &Id, target: &Target) -> bool {
        let owner = |dir: &Path| fs::metadata(dir).ok().filter(fs::Metadata::is_dir).map(|meta| meta.uid());
        let built = owner(&self.module_dir(id, target));
        built.is_some() && built == owner(&self.version_dir(id))
    }

    /// The state for one kernel of a module that is registered.
    pub fn state(&self, id: &Id, target: &Target) -> State {
        if !self.is_built(id, target) {
            State::Added
        } else if self.is_linked(id, target) && !self.is_pending(&id.name, target) {
            State::Installed
        } else {
            State::Built
        }
    }

    /// Whether the link by which a module counts as installed leads to this version, as it does until a change of it is at its
    /// end.
    pub fn is_linked(&self, id: &Id, target: &Target) -> bool {
        let link = self.link(&id.name, target);
        let Ok(says) = fs::read_link(&link) else {
            return false;
        };
        // Anything but what we write has to be followed, component by component.
        let resolved = |path: &Path| fs::canonicalize(path).ok();
        says == self.link_target(id, target)
            || resolved(&link).is_some_and(|at| Some(at) == resolved(&self.built_dir(id, target)))
    }

    /// Whether an installation was begun and not ended.
    pub fn is_pending(&self, name: &str, target: &Target) -> bool {
        self.pending_mark(name, target).exists()
    }

    /// An error where a directory of it could not be listed, so that modules or kernels may have been passed over: nothing
    /// is to be changed by what is known then.
    pub fn check_listed(&self) -> io::Result<()> {
        self.unreadable.get().map_or(Ok(()), |error| Err(io::Error::new(error.kind(), error.to_string())))
    }

    /// Names of all modules that have a directory, in the order of their paths.
    pub fn modules(&self) -> Vec<String> {
        in_order_of_paths(self.directories(&self.root))
    }

    /// Versions of a module that are registered or broken, sorted as names are.
    pub fn versions(&self, name: &str) -> Vec<Id> {
        self.listed(&self.module_root(name), |kind, _| kind.is_dir())
            .into_iter()
            .filter(|version| version != ORIGINALS)
            .map(|version| Id::new(name, version))
            .filter(|id| self.is_added(id) || self.is_broken(id))
            .collect()
    }

    /// [`Tree::versions`] of all modules of a name, which may be a pattern.
    pub fn called(&self, name: &str) -> Vec<Id> {
        let pattern = Shell::new(name);
        let meant = |module: &&String| *module == name || pattern.matches(module);
        self.modules().iter().filter(meant).flat_map(|module| self.versions(module)).collect()
    }

    /// Everything registered or broken, sorted by name and version.
    pub fn all(&self) -> Vec<Id> {
        self.modules().iter().flat_map(|name| self.versions(name)).collect()
    }

    /// Everything that is built for a kernel, or is half way from or to that, sorted by name and version; registered
    /// or not.
    pub fn present(&self, target: &Target) -> Vec<Id> {
        let versions = |name: String| {
            let versions = self.listed(&self.module_root(&name), |_, _| true).into_iter();
            versions.map(move |it| Id::new(&name, it))
        };
        let mut present: Vec<Id> = self.modules().into_iter().flat_map(versions).collect();
        present.retain(|id| self.state(id, target) != State::Added || self.is_unfinished(id, target));
        present
    }

    /// The kernels that a module was built for, in the order of their paths; on each its architectures, sorted as names are.
    pub fn all_targets(&self, id: &Id) -> Vec<Target> {
        self.each_target(id, |target| self.module_dir(id, &target).is_dir().then_some(target))
    }

    /// Those for which it is built, in the same order, with their states.
    pub fn built_targets(&self, id: &Id) -> Vec<(Target, State)> {
        self.each_target(id, |target| {
            let state = self.state(id, &target);
            (state != State::Added).then_some((target, state))
        })
    }

    fn each_target<T>(&self, id: &Id, wanted: impl Fn(Target) -> Option<T>) -> Vec<T> {
        let dir = self.version_dir(id);
        let mut found = Vec::new();
        for release in in_order_of_paths(self.directories(&dir)) {
            let targets = self.directories(&dir.join(&release)).into_iter().map(|arch| Target::new(&release, arch));
            found.extend(targets.filter_map(&wanted));
        }
        found
    }

    /// [`Tree::all_targets`] whose directories look like a kernel's: with digits and a dot in front.
    pub fn targets(&self, id: &Id) -> Vec<Target> {
        self.all_targets(id).into_iter().filter(|target| looks_like_release(&target.release)).collect()
    }

    /// The directories in `dir`, and links to such.
    fn directories(&self, dir: &Path) -> Vec<String> {
        self.listed(dir, |kind, name| kind.is_dir() || (kind.is_symlink() && dir.join(name).is_dir()))
    }

    /// [`listed`]; what cannot be is remembered.
    fn listed(&self, dir: &Path, wanted: impl Fn(fs::FileType, &str) -> bool) -> Vec<String> {
        listed(dir, wanted).unwrap_or_else(|error| {
            log::warn!("{error}");
            let _ = self.unreadable.set(error);
            Vec::new()
        })
    }
}

/// Removes half-written notes in `dir` and below, and directories without any.
fn sweep_notes(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sweep_notes(&entry.path());
        } else if is_staged(&entry.file_name()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    // Fails where there are notes.
    let _ = fs::remove_dir(dir);
}

/// Names of directories in the order in which a shell lists the paths below them: `zed.b/` before `zed/`.
fn in_order_of_paths(mut names: Vec<String>) -> Vec<String> {
    names.sort_by_cached_key(|name| format!("{name}/"));
    names
}

/// What there is in `dir`, sorted as names are. Nothing where there is no such directory.
fn listed(dir: &Path, wanted: impl Fn(fs::FileType, &str) -> bool) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.at(dir)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.at(dir)?;
        // It may just have gone.
        let Ok(kind) = entry.file_type() else { continue };
        found.extend(entry.file_name().into_string().ok().filter(|name| !name.starts_with('.') && wanted(kind, name)));
    }
    found.sort();
    Ok(found)
}

/// Directories below `TREE/M/V` that are no kernel's.
pub const NOT_KERNELS: [&str; 8] = ["build", "tarball", "driver_disk", "rpm", "deb", "source", "dsc", "bmdeb"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn states_are_read_from_the_tree() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |path: &str| dir.path().join(path);
        let tree = Tree::new(&at("tree"), &at("src"));
        let (id, target) = (Id::new("hello", "1.0"), Target::new("6.1.0-1", "x86_64"));
        fs::create_dir_all(at("src/hello-1.0"))?;
        fs::create_dir_all(tree.build_dir(&id))?;
        assert!(tree.is_broken(&id) && !tree.is_added(&id), "the link is missing");
        symlink(at("src/hello-1.0"), tree.source_link(&id))?;
        assert!(tree.is_added(&id) && !tree.is_broken(&id));
        assert_eq!(tree.state(&id, &target), State::Added);
        fs::create_dir_all(tree.module_dir(&id, &target))?;
        assert_eq!(tree.state(&id, &target), State::Built);
        symlink(tree.link_target(&id, &target), tree.link("hello", &target))?;
        assert_eq!(tree.state(&id, &target), State::Installed);
        tree.note(&tree.pending_mark("hello", &target), "hello/1.0\n")?;
        assert_eq!(tree.state(&id, &target), State::Built, "a pending installation is none");
        tree.forget(&tree.pending_mark("hello", &target))?;
        assert!(!at("tree/.pending").exists(), "nothing is left of a mark");
        assert_eq!((tree.all(), tree.targets(&id)), (vec![id.clone()], vec![target]));
        fs::remove_dir_all(at("src/hello-1.0"))?;
        assert!(tree.is_broken(&id));
        Ok(())
    }

    #[test]
    fn modules_and_kernels_come_in_the_order_of_the_paths_below_them_versions_by_name() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        for module in ["zed", "zed-a", "zed.b", "zed_c"] {
            for version in ["1", "1-1", "1.1"] {
                fs::create_dir_all(dir.path().join(format!("src/{module}-{version}")))?;
                fs::create_dir_all(dir.path().join(format!("tree/{module}/{version}")))?;
            }
        }
        for kernel in ["6.1/x", "6.1/x-y", "6.1-1/x"] {
            fs::create_dir_all(dir.path().join(format!("tree/zed/1/{kernel}/module")))?;
        }
        let tree = Tree::new(&dir.path().join("tree"), &dir.path().join("src"));
        assert_eq!(tree.modules(), ["zed-a", "zed.b", "zed", "zed_c"]);
        assert_eq!(tree.versions("zed"), ["1", "1-1", "1.1"].map(|version| Id::new("zed", version)));
        let targets = [("6.1-1", "x"), ("6.1", "x"), ("6.1", "x-y")].map(|(release, arch)| Target::new(release, arch));
        assert_eq!(tree.all_targets(&Id::new("zed", "1")), targets);
        Ok(())
    }

    /// As where a file system has an error there.
    #[test]
    fn who_could_not_list_all_of_it_changes_nothing() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("src/hello-1.0"))?;
        fs::create_dir_all(at("tree/hello/1.0"))?;
        let tree = Tree::new(&at("tree"), &at("src"));
        assert_eq!((tree.modules(), tree.check_listed().is_ok()), (vec!["hello".to_owned()], true));
        // A name that is too long is no name that is not there.
        tree.versions(&"x".repeat(300));
        assert!(tree.clone().check_listed().is_err());
        Ok(())
    }
}
