// SPDX-License-Identifier: GPL-2.0-or-later
//! Compiling through ccache(1), so that nothing is compiled twice.
//!
//! ccache runs in its depend mode, which asks the compiler which headers it read and looks at their contents: no
//! preprocessor runs. What that mode does not see is part of what everything is kept under: which headers there are, the
//! kernel's configuration, the tools, and the contents of the kernel's common headers, which would be looked into by
//! hundreds for each object. The version of the kernel is not: it stands in no path that a compiler is given (see
//! [`Headers::view`]), and in headers that only the generated `.mod.c` looks at.
//!
//! What kbuild asks compilers before it compiles, their stand-in answers by itself, see [`probe`](super::probe).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::model::exchange::Exchange;
use crate::model::headers::{Headers, Seen, is_header};
use crate::model::kernel::Kernel;
use crate::model::module::Id;
use crate::model::opaque::is_opaque;
use crate::model::probe::{STAND_IN, Settings};
use crate::model::site::Site;
use crate::model::tools;
use crate::system::digest::{Digest, Notes, Tree};
use crate::system::directories::{DEEPEST, by_age, disk_usage, remove_any};
use crate::system::process::find_program;
use crate::system::remote::Remote;
use crate::system::sandbox::{Isolation, Mount, User};

/// Where compilers are found that are links to ccache. A build has there the program that stands for them.
pub const COMPILERS: &str = "/usr/lib/ccache";

/// How many sets of headers' names one module has objects for: versions of it, or what its configure scripts make.
const MOST_SHELVES: usize = 3;

/// How long objects are kept of a package that is gone. One that is upgraded is gone for a while, too.
const MOST_AGE: Duration = Duration::from_secs(28 * 24 * 3600);

/// Below all caches, a directory with the shelves of each package.
const OBJECTS: &str = "ccache";

/// Below all caches, kernels' answers to probes.
const PROBES: &str = "probes";

/// How many kernels' answers to probes are kept.
const MOST_PROBES: usize = 16;

/// The compile cache as it is for one kernel.
#[derive(Debug, Clone)]
pub struct CompileCache {
    user: User,
    ccache: PathBuf,
    /// What stands for compilers in a build.
    stand_in: PathBuf,
    /// All caches.
    root: PathBuf,
    /// What every object of this kernel is kept under.
    namespace: String,
    /// Headers that are part of the namespace, as a list of ccache's.
    ignored: OsString,
    /// Where those headers are, by all names that a build has for them.
    places: Vec<PathBuf>,
    /// What answers to its probes are kept under: no header is asked for them.
    probes: String,
    limit: Option<u64>,
    /// Where other builders leave what they compiled.
    remote: Option<Arc<Remote>>,
}

/// How a command takes part in the cache.
#[derive(Debug, Clone, Default)]
pub struct Share {
    /// What it has to see.
    pub mounts: Vec<Mount>,
    /// What has to come first on its PATH.
    pub programs: Option<PathBuf>,
    /// The directory of its objects, which stays for as long as somebody has this.
    pub in_use: Option<Arc<fs::File>>,
}

impl CompileCache {
    /// The cache for a kernel; none where it is not wanted, or cannot be kept apart, or where there is no ccache. `seen` is
    /// asked for the kernel's headers.
    pub fn for_kernel<'s>(
        site: &Site,
        kernel: &Kernel,
        seen: impl FnOnce() -> Option<&'s Seen>,
        notes: &Notes,
        remote: Option<Arc<Remote>>,
    ) -> Option<Self> {
        let user = site.build_user().filter(|_| Self::is_wanted(site))?;
        let stand_in = Some(site.paths.libexec().join(STAND_IN)).filter(|program| program.exists())?;
        let ccache = find_program("ccache").filter(|ccache| Path::new(COMPILERS).is_dir() && is_of_use(ccache))?;
        let frame = &seen()?.frame;
        let look = || -> io::Result<_> {
            let headers = Headers::of(&kernel.build_dir)?;
            let tools = tools::digest(&kernel.toolchain(), false, notes)?;
            let key = |kind, more: &str| {
                let mut digest = Digest::new(kind);
                digest.add(&tools).add(more);
                digest.finish()
            };
            let ignored = std::env::join_paths(headers.names_of_frame()).map_err(io::Error::other)?;
            let mut places: Vec<PathBuf> = std::iter::once(kernel.build_dir.clone()).chain(headers.places()).collect();
            // What leads to them; `source` may lead to more than they are.
            let real: Vec<PathBuf> = places.iter().filter_map(|place| fs::canonicalize(place).ok()).collect();
            let leads_there = |link: &PathBuf| {
                fs::canonicalize(link).is_ok_and(|end| real.iter().any(|place| end.starts_with(place)))
            };
            places.extend(["build", "source"].map(|name| kernel.modules.join(name)).into_iter().filter(leads_there));
            Ok((key("objects 2", frame), ignored, places, key("probes", &headers.settings())))
        };
        let (namespace, ignored, places, probes) =
            look().inspect_err(|error| log::info!("no compile cache for {}: {error}", kernel.target.release)).ok()?;
        Some(Self {
            user,
            ccache,
            stand_in,
            root: site.own_caches()?.to_owned(),
            namespace,
            ignored,
            places,
            probes,
            limit: site.framework.compile_cache_limit(),
            remote,
        })
    }

    /// Whether it is to be used, if there is a ccache.
    pub fn is_wanted(site: &Site) -> bool {
        site.own_caches().is_some() && site.framework.compile_cache && Isolation::available() == Isolation::Namespaces
    }

    /// For a command that builds a module in `build`, which it sees as `seen`; its compilers are made in `compilers`. None
    /// where an object may hold what no compiler tells of. `exchanges` are those of this build with other builders.
    pub fn share(
        &self,
        id: &Id,
        [build, seen]: [&Path; 2],
        compilers: &Path,
        exchanges: &mut Vec<Exchange>,
    ) -> io::Result<Option<Share>> {
        // A build may have made it, and learns what comes of it.
        let tree = Tree::of_a_stranger(build)?;
        let mut opaque = false;
        tree.look(|name, bytes| opaque |= is_opaque(name, bytes))?;
        if opaque {
            return Ok(None);
        }
        let place = self.root.join(OBJECTS).join(&id.name);
        let headers = &tree.names(is_header)?[..16];
        let shelf = place.join(headers);
        let in_use = self.hold(&shelf)?;
        keep_newest(&place, MOST_SHELVES, &shelf);
        // What it may only read: what other builders compiled, and the kernel's probes.
        let brought = self.brought(id, headers, &shelf, exchanges).map(|from| (from, self.root.join("exchange")));
        // They may come while it builds: so it sees their place, and those of other kernels.
        let probes = self.root.join(PROBES);
        fs::create_dir_all(&probes)?;
        let storage =
            brought.as_ref().map(|(_, at)| ("CCACHE_REMOTE_STORAGE", format!("file:{}|read-only", at.display())));
        let settings = [
            ("CCACHE_DIR", shelf.clone().into_os_string()),
            ("CCACHE_NAMESPACE", OsString::from(&self.namespace)),
            ("CCACHE_DEPEND", "1".into()),
            ("CCACHE_NOHASHDIR", "1".into()),
            // In what language a compiler complains is in no object.
            ("CCACHE_SLOPPINESS", "locale".into()),
            ("CCACHE_IGNOREHEADERS", self.ignored.clone()),
            // Where nothing is said it means gigabytes, and 0 no limit.
            ("CCACHE_MAXSIZE", format!("{}Ki", self.limit.unwrap_or_default().div_ceil(1024)).into()),
            // Nobody else's settings.
            ("CCACHE_CONFIGPATH", "/dev/null".into()),
            ("CCACHE_CONFIGPATH2", "/dev/null".into()),
        ];
        let settings = settings.into_iter().chain(storage.map(|(name, value)| (name, OsString::from(value))));
        let settings = Settings {
            ccache: Some(self.ccache.clone()),
            variables: settings.map(|(name, value)| (name.to_owned(), value)).collect(),
            answers: Some(self.probes()),
            // The build makes it, for all below the shelf is the build user's.
            asked: Some(shelf.join(PROBES).join(&self.probes)),
            known: self.places.iter().cloned().chain([seen.to_owned()]).collect(),
            build: Some(seen.to_owned()),
            assembler: find_program("as"),
        };
        let mut share = self.stand_in(compilers, &settings)?;
        share.in_use = Some(Arc::new(in_use));
        share.mounts.push(Mount::Bind { from: shelf.clone(), at: shelf, writable: true });
        let others = brought.into_iter().chain([(probes.clone(), probes)]);
        share.mounts.extend(others.map(|(from, at)| Mount::Bind { from, at, writable: false }));
        Ok(Some(share))
    }

    /// Where there is what other builders have for a package: for it alone, and only what would have the same place here.
    fn brought(&self, id: &Id, headers: &str, shelf: &Path, exchanges: &mut Vec<Exchange>) -> Option<PathBuf> {
        let list = format!("list-{}-{headers}", self.namespace);
        if let Some(exchange) = exchanges.iter().find(|exchange| exchange.is_by(&list)) {
            return Some(exchange.objects().to_owned());
        }
        let begun = Exchange::begin(self.remote.as_ref()?, &self.root, &id.name, list, shelf);
        // Whoever has nothing from others compiles.
        let exchange = begun.unwrap_or_else(|error| {
            log::warn!("nothing from other builders for {id}: {error}");
            None
        })?;
        let objects = exchange.objects().to_owned();
        exchanges.push(exchange);
        Some(objects)
    }

    /// After a build, which may have put anything there: what is larger than ccache would have it goes, all of it where the
    /// build took the last of a disk. What was not used for longest makes room for the rest.
    pub fn limit(&self, id: &Id, overgrown: bool) {
        let most = self.limit.unwrap_or(u64::MAX);
        let mut total = 0_u64;
        for shelf in by_age(&self.root.join(OBJECTS).join(&id.name)).iter().rev() {
            let size = if self.limit.is_some() { disk_usage(shelf) } else { 0 };
            // ccache counts other things, and not to the byte.
            if overgrown || size > most.saturating_mul(2) {
                remove_any(shelf).unwrap_or_else(|error| log::warn!("{error}"));
            } else if total > 0 && size > most.saturating_sub(total) {
                remove_unused(shelf);
            } else {
                total = total.saturating_add(size);
            }
        }
    }

    /// Forgets what was compiled for a module.
    pub fn forget(&self, id: &Id) -> io::Result<()> {
        remove_any(&self.root.join(OBJECTS).join(&id.name))
    }

    /// Forgets what was compiled for packages that have been gone for long. By who has locked the tree.
    pub fn forget_gone(site: &Site) {
        let places = site.own_caches().map(|caches| by_age(&caches.join(OBJECTS))).unwrap_or_default();
        for place in places {
            let name = place.file_name().and_then(|name| name.to_str());
            let is_old = || fs::metadata(&place)?.modified().map(|seen| seen.elapsed().is_ok_and(|age| age > MOST_AGE));
            if name.is_some_and(|name| !site.tree.versions(name).is_empty()) {
                touch(&place);
            } else if is_old().unwrap_or(false) {
                remove_any(&place).unwrap_or_else(|error| log::warn!("{error}"));
            }
        }
    }

    /// For the command that asks the probes: its answers go to `asked`.
    pub fn share_for_probes(&self, asked: &Path, compilers: &Path) -> io::Result<Share> {
        self.open(asked)?;
        let settings = Settings { asked: Some(asked.to_owned()), ..Settings::default() };
        let mut share = self.stand_in(compilers, &settings)?;
        share.mounts.push(Mount::Bind { from: asked.to_owned(), at: asked.to_owned(), writable: true });
        Ok(share)
    }

    /// Where the answers to kbuild's probes of the compiler are, which are the same for all modules of a kernel.
    pub fn probes(&self) -> PathBuf {
        self.root.join(PROBES).join(&self.probes)
    }

    /// Where all caches are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Answers of kernels that went long ago go, too.
    pub fn forget_old_probes(&self) {
        keep_newest(&self.root.join(PROBES), MOST_PROBES, &self.probes());
    }

    /// Opens one that another process may be removing as one that was not used for long.
    fn hold(&self, shelf: &Path) -> io::Result<fs::File> {
        loop {
            self.open(shelf)?;
            let dir = fs::File::open(shelf)?;
            flock(&dir, FlockOperation::LockShared)?;
            if dir.metadata()?.nlink() > 0 {
                return Ok(dir);
            }
        }
    }

    /// A directory that the build may write, and other builds cannot see.
    fn open(&self, dir: &Path) -> io::Result<()> {
        // ccache fails where it cannot write, and so would the build: after somebody else ran it there, say.
        if !self.owns(dir) {
            remove_any(dir)?;
        }
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        chown(dir, Some(self.user.uid), Some(self.user.gid))
    }

    /// Whether all directories below are the build user's, and open to him.
    fn owns(&self, dir: &Path) -> bool {
        self.owns_below(dir, 0)
    }

    fn owns_below(&self, dir: &Path, depth: usize) -> bool {
        let is_ours = |meta: fs::Metadata| meta.uid() == self.user.uid && meta.mode() & 0o700 == 0o700;
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()))
            .all(|entry| {
                depth <= DEEPEST && entry.metadata().is_ok_and(is_ours) && self.owns_below(&entry.path(), depth + 1)
            })
    }

    /// Makes programs in `place`, named like compilers, that go by these settings.
    fn stand_in(&self, place: &Path, settings: &Settings) -> io::Result<Share> {
        remove_any(place)?;
        fs::create_dir(place)?;
        let file = Settings::file(place);
        fs::write(&file, settings.to_bytes())?;
        fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        for compiler in fs::read_dir(COMPILERS)? {
            symlink(&self.stand_in, place.join(compiler?.file_name()))?;
        }
        let programs = PathBuf::from(COMPILERS);
        Ok(Share {
            mounts: vec![
                // What other builds made is not for this one's eyes.
                Mount::Empty { at: self.root.clone() },
                Mount::Bind { from: place.to_owned(), at: programs.clone(), writable: false },
            ],
            programs: Some(programs),
            in_use: None,
        })
    }
}

/// The first version of ccache that keeps apart what has different namespaces.
const OLDEST: (u32, u32) = (4, 5);

/// [`check`], for all kernels at once.
fn is_of_use(ccache: &Path) -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| check(ccache).inspect_err(|error| log::info!("no compile cache: {error}")).is_ok())
}

/// Refuses a ccache that does not run, or does not know what it is to do: every compiler would fail with it, or find what
/// is not for it.
fn check(ccache: &Path) -> io::Result<()> {
    let output = Command::new(ccache).arg("--version").stdin(Stdio::null()).output()?;
    match version(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.status.success()) {
        Some(version) if version >= OLDEST => Ok(()),
        found => Err(io::Error::other(format!("{} is of no use: {found:?}, {}", ccache.display(), output.status))),
    }
}

/// In `ccache version 4.7.5`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.lines().next()?.strip_prefix("ccache version ")?.split(['.', '-', '+', '_']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Removes all but so many directories of `place`, those first that were longest not used; `used` is used now.
fn keep_newest(place: &Path, most: usize, used: &Path) {
    touch(used);
    let dirs = by_age(place);
    dirs.iter().take(dirs.len().saturating_sub(most)).filter(|dir| *dir != used).for_each(|dir| remove_unused(dir));
}

/// Says that a directory is used now.
fn touch(dir: &Path) {
    let _ = fs::File::open(dir).and_then(|dir| dir.set_modified(SystemTime::now()));
}

/// Removes a directory, unless somebody holds it.
fn remove_unused(path: &Path) {
    let Ok(dir) = fs::File::open(path) else { return };
    if flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
        let _ = remove_any(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_ccache_is_known_by_its_version() {
        for (text, expected) in [
            ("ccache version 4.7.5\nFeatures: file-storage\n", Some((4, 7))),
            ("ccache version 4.10\n", Some((4, 10))),
            ("ccache version 3.7.7", Some((3, 7))),
            ("ccache version 5-dirty", None),
            ("sccache 0.8.2", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
        assert!((4, 10) >= OLDEST && (3, 7) < OLDEST);
        assert!(check(Path::new("/bin/false")).is_err() && check(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn shelves_in_use_stay() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |number: u32| dir.path().join(number.to_string());
        for number in 0..5 {
            fs::create_dir(at(number))?;
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(number.into());
            fs::File::open(at(number))?.set_modified(time)?;
        }
        let held = fs::File::open(at(0))?;
        flock(&held, FlockOperation::LockShared)?;
        keep_newest(dir.path(), 2, &at(4));
        assert_eq!([0, 1, 2, 3, 4].map(|number| at(number).exists()), [true, false, false, true, true]);
        Ok(())
    }

    #[test]
    fn all_shelves_of_a_package_are_within_its_size() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let cache = CompileCache {
            user: User { uid: 0, gid: 0 },
            ccache: PathBuf::new(),
            stand_in: PathBuf::new(),
            root: dir.path().to_owned(),
            namespace: String::new(),
            ignored: OsString::new(),
            places: Vec::new(),
            probes: String::new(),
            limit: Some(100_000),
            remote: None,
        };
        let id = Id::new("a", "1");
        let place = dir.path().join(OBJECTS).join(&id.name);
        // How large they are, the one that was used last first, and which of them stay.
        for (sizes, stay) in [
            (&[30_000, 30_000, 30_000][..], &[true, true, true][..]),
            (&[50_000, 60_000, 30_000], &[true, false, true]),
            // ccache has that one in hand.
            (&[150_000, 30_000], &[true, false]),
            (&[250_000, 30_000], &[false, true]),
        ] {
            remove_any(&place)?;
            let shelf = |number: usize| place.join(number.to_string());
            for (number, size) in sizes.iter().enumerate() {
                fs::create_dir_all(shelf(number))?;
                fs::write(shelf(number).join("object"), vec![1; *size])?;
                let time = SystemTime::now() - Duration::from_secs(number as u64 * 100);
                fs::File::open(shelf(number))?.set_modified(time)?;
            }
            cache.limit(&id, false);
            assert_eq!((0..sizes.len()).map(|number| shelf(number).exists()).collect::<Vec<_>>(), stay, "{sizes:?}");
        }
        cache.limit(&id, true);
        assert_eq!(fs::read_dir(&place)?.count(), 0);
        Ok(())
    }
}
