// SPDX-License-Identifier: GPL-2.0-or-later
//! A place to build: a private copy of the source and what the build will see around it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Doing, Error, Result, cannot};
use crate::model::closed::is_open;
use crate::model::headers::Headers;
use crate::steps::Work;
use crate::system::directories::{Owner, copy_tree, remove_any, take_ownership};
use crate::system::files;
use crate::system::paths::Paths;
use crate::system::process::{find_programs, is_elf, plain_environment};
use crate::system::sandbox::{self, Isolation, Limits, Mount, Sandbox, User};
use crate::system::scratch::Scratch;
use crate::system::trust;

/// Below this a build's view has the machine's programs of these names that are ELF files, by the paths at which ours
/// stands in their place; what is a script runs one of them in the end.
pub const REAL_MAKES: &str = "/run/dkms/make";
const MAKES: [&str; 3] = ["make", "gmake", "make.distrib"];

/// Where ours finds what [`ForMakes`] holds.
const FOR_MAKES: &str = "/run/dkms/for-makes";

/// What our `make` goes by.
#[derive(Debug, Default)]
pub struct ForMakes {
    /// As MAKEFLAGS would name it, the jobserver that it keeps to also where it does not hear of it.
    pub jobserver: String,
    /// An option for kbuild's compilers, see [`Kernel::sparing`](crate::model::kernel::Kernel::sparing).
    pub sparing: Option<String>,
}

impl ForMakes {
    /// For a make that runs in a build.
    pub fn read() -> Self {
        let text = fs::read_to_string(FOR_MAKES).unwrap_or_default();
        let mut lines = text.lines();
        let jobserver = lines.next().unwrap_or_default().to_owned();
        Self { jobserver, sparing: lines.next().map(str::to_owned) }
    }

    fn text(&self) -> String {
        [&self.jobserver].into_iter().chain(&self.sparing).map(|line| format!("{line}\n")).collect()
    }
}

/// The variable by which kbuild takes an option for its compilers beside those that are `given` by it already, as its
/// Documentation/kbuild/kbuild.rst has it.
pub fn kcflags(given: &OsStr, option: &str) -> OsString {
    let mut variable = OsString::from("KCFLAGS=");
    variable.push(given);
    variable.push(if given.is_empty() { "" } else { " " });
    variable.push(option);
    variable
}

/// The place of one build: below `TREE/M/V/K`, so that its result is published by renaming.
#[derive(Debug)]
pub struct Workshop {
    /// Holds all the rest and vanishes with it.
    dir: Scratch,
    /// `/tmp` of the build: on disk, for compilers write much there.
    tmp: Scratch,
    /// What the build sees as `TREE/M/V/build`.
    pub build: PathBuf,
    /// The log, out of the build's reach.
    pub log: PathBuf,
    /// What becomes `TREE/M/V/K/A`.
    pub result: PathBuf,
    user: Option<User>,
    isolation: Isolation,
    /// How the kernel's headers are seen.
    headers: Vec<Mount>,
    /// What the build calls them, and what they are called outside.
    pub names: Vec<(String, String)>,
    overgrown: AtomicBool,
}

impl Workshop {
    /// Makes the place.
    pub fn set_up(work: &Work) -> Result<Self> {
        let Work { site, id, kernel, .. } = work;
        let kernel_dir = site.tree.version_dir(id).join(&kernel.target.release);
        clear_leftovers(&kernel_dir, &format!(".tmp_{}_", kernel.target.arch))?;
        let dir = Scratch::with_parent(&kernel_dir).doing(cannot("make a directory in", &kernel_dir))?;
        // Mode 1777, or the compiler, run by another user, puts its temporary files beside the source.
        let tmp = site.scratch()?;
        let inner = tmp.path().join("tmp");
        let isolation = site.isolation_of(id);
        let user = if site.builds_as_root(id) { None } else { site.build_user() };
        // The build's own, or the compiler puts its temporary files beside the source; and nobody else's, who could put
        // something there for it to find.
        fs::create_dir(&inner)
            .and_then(|()| fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)))
            .and_then(|()| user.map_or(Ok(()), |user| chown(&inner, Some(user.uid), Some(user.gid))))
            .doing(cannot("make", &inner))?;
        if isolation != Isolation::Namespaces {
            // It gets there by its name.
            fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o711)).doing(cannot("open", tmp.path()))?;
        }
        // Without a private view of the file system the build must stand where it believes to be.
        let build = if isolation == Isolation::Namespaces { dir.path().join("build") } else { site.tree.build_dir(id) };
        // Debugging symbols name the headers: where they are kept, by the names that these have outside.
        let renamed = isolation == Isolation::Namespaces && work.conf.modules.iter().all(|module| module.strip);
        let headers = Headers::of(&kernel.build_dir).ok().filter(|_| renamed);
        let (headers, names) = headers.map(|headers| (headers.view(), headers.names())).unwrap_or_default();
        Ok(Self {
            log: dir.path().join("make.log"),
            result: dir.path().join("result"),
            build,
            dir,
            tmp,
            user,
            isolation,
            headers,
            names,
            overgrown: AtomicBool::new(false),
        })
    }

    /// Copies the source and the administrator's patches.
    pub fn fill(&self, work: &Work) -> Result<()> {
        let Work { site, id, .. } = work;
        remove_any(&self.build).doing(cannot("clear", &self.build))?;
        let source = fs::canonicalize(site.tree.source_link(id)).doing(cannot("find", &site.tree.source_link(id)))?;
        trust::check_all(&source)?;
        let owner = self.owner();
        copy_tree(&source, &self.build, owner).doing(|| "Cannot copy the source".into())?;
        fs::set_permissions(&self.build, fs::Permissions::from_mode(0o755)).doing(cannot("open", &self.build))?;
        let patches = site.paths.etc().join(&id.name).join("patches");
        if patches.is_dir() {
            trust::check_all(&patches)?;
            // Not through a link that the source has there.
            let place = self.build.join("patches");
            if place.is_symlink() {
                remove_any(&place).doing(cannot("replace", &place))?;
            }
            copy_tree(&patches, &place, owner).doing(|| "Cannot copy the patches".into())?;
        }
        if self.isolation == Isolation::Namespaces {
            // One of Debian's packages writes into its own source while it builds.
            copy_tree(&source, &self.source_copy(), owner).doing(|| "Cannot copy the source".into())?;
        }
        Ok(())
    }

    fn owner(&self) -> Owner {
        self.user.as_ref().map_or(Owner::Same, |user| Owner::Is(user.uid, user.gid))
    }

    /// A place for programs that the build is to find.
    pub fn compilers(&self) -> PathBuf {
        self.dir.path().join("compilers")
    }

    fn for_makes(&self) -> PathBuf {
        self.dir.path().join("for-makes")
    }

    /// Says what the build's makes go by.
    pub fn tell_makes(&self, told: &ForMakes) -> Result<()> {
        fs::write(self.for_makes(), told.text()).doing(cannot("write", &self.for_makes()))
    }

    /// Our `make` in the places of the machine's, so that it runs by whatever name a build calls them.
    fn own_makes(&self, paths: &Paths) -> Vec<Mount> {
        let ours = paths.libexec().join("sandbox/make");
        let mut makes: Vec<PathBuf> = MAKES.iter().flat_map(|name| find_programs(name)).collect();
        makes.retain(|make| ours.exists() && is_elf(make));
        makes.sort();
        makes.dedup();
        let bind = |from: &Path, at: PathBuf| Mount::Bind { from: from.to_owned(), at, writable: false };
        let both = |real: PathBuf| [bind(&real, real_make(&real)), bind(&ours, real)];
        let mut mounts: Vec<Mount> = makes.into_iter().flat_map(both).collect();
        mounts.push(bind(&self.for_makes(), FOR_MAKES.into()));
        mounts
    }

    fn source_copy(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    /// A directory of the workshop that the build may write: what is put there is a stranger's.
    fn open_to_build(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).doing(cannot("make", dir))?;
        if let Some(user) = &self.user {
            chown(dir, Some(user.uid), Some(user.gid)).doing(cannot("hand over", dir))?;
        }
        Ok(())
    }

    /// For POST_BUILD: a directory that it sees as `TREE/M/V/K/A`, with copies of the modules.
    pub fn open_result(&self) -> Result<PathBuf> {
        let dir = self.dir.path().join("post");
        self.open_to_build(&dir)?;
        copy_tree(&self.result.join("module"), &dir.join("module"), self.owner())
            .doing(|| "Cannot copy the modules".into())?;
        Ok(dir)
    }

    /// Confines `command` to this workshop, for `time` at most; `result` is what it sees as `TREE/M/V/K/A`, if anything,
    /// `more` what else it is to see.
    pub fn confine(
        &self,
        work: &Work,
        time: Option<Duration>,
        result: Option<&Path>,
        more: &[Mount],
        command: &mut Command,
    ) -> Result<()> {
        let Work { site, id, kernel, .. } = work;
        plain_environment(command);
        let mut mounts = self.headers.clone();
        let writable = |from: &Path, at: PathBuf| Mount::Bind { from: from.to_owned(), at, writable: true };
        let build_dir = site.tree.build_dir(id);
        if self.isolation == Isolation::Namespaces {
            let module_root = site.tree.module_root(&id.name);
            let source =
                fs::canonicalize(site.tree.source_link(id)).doing(cannot("find", &site.tree.source_link(id)))?;
            let headers = fs::canonicalize(&kernel.build_dir).unwrap_or_else(|_| kernel.build_dir.clone());
            if let Some(user) = &self.user {
                for path in [&module_root, &source, &headers] {
                    mounts.append(&mut sandbox::expose(path, user));
                }
            }
            mounts.push(writable(&self.source_copy(), source));
            mounts.extend(self.own_makes(&site.paths));
            // A view of the module's own part of the tree in which nothing but this build exists.
            mounts.push(Mount::Empty { at: module_root });
            mounts.push(Mount::Dir { at: build_dir.clone() });
            mounts.push(writable(&self.build, build_dir.clone()));
            if let Ok(target) = fs::read_link(site.tree.source_link(id)) {
                mounts.push(Mount::Link { at: site.tree.source_link(id), target });
            }
            if let Some(result) = result {
                let at = site.tree.built_dir(id, &kernel.target);
                mounts.push(Mount::Dir { at: at.clone() });
                mounts.push(writable(result, at));
            }
        } else {
            mounts.push(writable(&self.build, build_dir.clone()));
            mounts.extend(result.map(|result| writable(result, result.to_owned())));
        }
        mounts.extend(site.without_caches());
        mounts.extend_from_slice(more);
        let tmp = Some(self.tmp.path().join("tmp"));
        let limits = Limits { time, ..site.framework.build_limits.clone() };
        let sandbox = Sandbox { user: self.user, mounts, cwd: build_dir, tmp, limits };
        sandbox.confine(self.isolation, command).doing(|| "Cannot set up the sandbox for the build".into())
    }

    /// Shows the result to POST_BUILD, which finds it at `TREE/M/V/K/A`, and runs `act`.
    ///
    /// Where the build has no view of its own, the copy stands there for real meanwhile.
    pub fn show<T>(&self, work: &Work, copy: &Path, act: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        if self.isolation == Isolation::Namespaces {
            return act(copy);
        }
        let place = work.site.tree.built_dir(work.id, &work.kernel.target);
        let swap = || files::swap(copy, &place).doing(cannot("show", &place));
        swap()?;
        let done = act(&place);
        swap()?;
        done
    }

    /// Takes a build directory that had to stand in the tree aside: the module's next build needs the place.
    pub fn take_aside(&mut self) -> Result<()> {
        let aside = self.dir.path().join("build");
        if self.build != aside && self.build.exists() {
            fs::rename(&self.build, &aside).doing(cannot("move", &self.build))?;
            self.build = aside;
        }
        Ok(())
    }

    /// Whether a build may learn what is at a path in its directory. It may have made a link there, and where that leads out
    /// it learns of nothing but what is open to all.
    pub fn shows(&self, path: &Path) -> bool {
        let own = fs::canonicalize(&self.build).ok();
        let leads_to = fs::canonicalize(path).ok();
        let stays = |real: &Path| own.is_some_and(|own| real.starts_with(own));
        self.user.is_none() || leads_to.is_some_and(|real| stays(&real) || is_open(&real))
    }

    /// What the build made took the last of a disk: it goes at once, for others need the room.
    pub fn has_overgrown(&self) {
        self.overgrown.store(true, Ordering::Relaxed);
        for dir in [self.build.clone(), self.tmp.path().join("tmp"), self.source_copy()] {
            if dir.is_dir() {
                let emptied = remove_any(&dir).and_then(|()| fs::create_dir(&dir));
                emptied.unwrap_or_else(|error| log::warn!("{error}"));
            }
        }
    }

    /// Whether that was told.
    pub fn is_overgrown(&self) -> bool {
        self.overgrown.load(Ordering::Relaxed)
    }

    /// Leaves what the failed build made, and its log, where people look for them: `TREE/M/V/build`.
    pub fn leave_behind(self, work: &Work) -> Result<()> {
        let place = work.site.tree.build_dir(work.id);
        // The directory was the build's to write: nothing in it is followed, and before anybody sees it, it is ours.
        take_ownership(&self.build).doing(cannot("keep", &self.build))?;
        let log = self.build.join("make.log");
        remove_any(&log).doing(cannot("clear", &log))?;
        fs::rename(&self.log, &log).doing(cannot("keep", &log))?;
        if self.build != place {
            remove_any(&place).doing(cannot("clear", &place))?;
            fs::rename(&self.build, &place).doing(cannot("keep", &place))?;
        }
        Ok(())
    }

    /// Makes the modules the state for this kernel, in one step, in place of older ones.
    pub fn publish(&self, work: &Work) -> Result<()> {
        let place = work.site.tree.built_dir(work.id, &work.kernel.target);
        files::publish(&self.result, &place).doing(cannot("write", &place))
    }

    /// Puts the log among what is to be published.
    pub fn file_log(&self) -> Result<()> {
        let log_dir = self.result.join("log");
        fs::create_dir_all(&log_dir).doing(cannot("make", &log_dir))?;
        fs::rename(&self.log, log_dir.join("make.log")).doing(cannot("keep", &log_dir))
    }

    /// The build directory has served, and so has one that an earlier failure left.
    pub fn clear(&self, work: &Work) -> Result<()> {
        let build = work.site.tree.build_dir(work.id);
        remove_any(&build).doing(cannot("clear", &build))
    }
}

/// Where the real one is of a `make` in whose place ours stands.
pub fn real_make(make: &Path) -> PathBuf {
    Path::new(REAL_MAKES).join(make.strip_prefix("/").unwrap_or(make))
}

/// Removes what builds of Debian's dkms that were cut off left in a kernel's directory. Whoever holds the tree's lock may.
pub fn clear_leftovers(kernel_dir: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(kernel_dir).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            remove_any(&entry.path()).doing(cannot("delete", &entry.path()))?;
        }
    }
    Ok(())
}

/// Refuses a source that cannot be one: fewer than two files.
pub fn check_source(source: &Path) -> Result<()> {
    match fs::read_dir(source).map(|entries| entries.take(2).count()) {
        Ok(2) => Ok(()),
        _ => Err(Error::EmptySource(source.to_owned())),
    }
}
