// SPDX-License-Identifier: GPL-2.0-or-later
//! What lies outside of a source and is named there: files of an administrator or of other packages that its makefiles
//! include and its scripts look for.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memchr::{memchr, memmem};

use crate::model::assembler::joined;
use crate::model::search::without_dots;
use crate::model::variables::Variables;
use crate::system::digest::{self, Digest};
use crate::system::directories::names;
use crate::system::files::open_foreign;
use crate::system::pattern::Shell;

/// Where there are files that a build may read; programs, which it runs, count by the versions of packages.
const PLACES: [&str; 14] = [
    "/etc/",
    "/home/",
    "/opt/",
    "/srv/",
    "/mnt/",
    "/media/",
    "/usr/include/",
    "/usr/lib/",
    "/usr/local/",
    "/usr/src/",
    "/usr/share/",
    "/lib/",
    "/var/",
    "/boot/",
];

/// What is there is another thing at each look; or is a kernel's, which counts by its headers.
const PASSING: [&str; 14] = [
    "/dev",
    "/lib/modules",
    "/usr/lib/modules",
    "/proc",
    "/run",
    "/sys",
    "/var/backups",
    "/var/cache",
    "/var/lock",
    "/var/log",
    "/var/mail",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Below /var/lib, what changes with each package that is installed.
const OF_PACKAGES: [&str; 2] = ["apt", "dpkg"];

/// Directories in which kernels and packages that are none of a module's business come and go, beside those of at most
/// [`FEW_NAMES`]: `/usr/src/linux-$(V)` is seen without its end.
const SHARED: [&str; 4] = ["/usr/lib/firmware", "/usr/share/doc", "/usr/share/man", "/usr/src/kernels"];

/// Where kernels' headers and modules' sources are.
const SOURCES: &str = "/usr/src";

const FEW_NAMES: usize = 2;

/// Files larger than this count by what stat(2) says of them, in bytes.
const LARGEST_READ: u64 = 16 << 20;

/// No larger makefile or script is looked through for what it names.
const LARGEST_TEXT: u64 = 1 << 20;

/// So many files of a directory count by what is in them.
const MOST_FILES: usize = 64;

/// So many paths count that only other files outside name.
const MOST_FOLLOWED: usize = 100;

/// Signs that stand for others in patterns of shells and of make's `wildcard`.
const ANY: &[u8] = b"*?[]";

fn is_of_path(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@~".contains(byte)
}

/// What texts of a source name outside of it.
#[derive(Debug, Clone)]
pub struct Outside {
    /// The tree of registered modules by its names, of which keys speak in their own ways.
    tree: Vec<PathBuf>,
    places: &'static [&'static str],
    named: BTreeSet<PathBuf>,
    /// Those that count where they are files.
    files: BTreeSet<PathBuf>,
    /// With signs in them that stand for any other.
    patterns: BTreeSet<PathBuf>,
    /// What makefiles and scripts name by variables, and those variables.
    variables: Variables,
}

impl Outside {
    /// Nothing yet.
    pub fn new(tree: &Path) -> Self {
        let tree = fs::canonicalize(tree).into_iter().chain([tree.to_owned()]).collect();
        Self {
            tree,
            places: &PLACES,
            named: BTreeSet::new(),
            files: BTreeSet::new(),
            patterns: BTreeSet::new(),
            variables: Variables::default(),
        }
    }

    /// Adds what a makefile or a script names.
    pub fn add(&mut self, text: &[u8]) {
        self.add_words(text);
        self.variables.add(text);
    }

    /// Adds the files that another text names: of a program, which may read them, or for an assembler, which may include
    /// them. Directories that it names would more often be told of than read.
    pub fn add_files(&mut self, text: &[u8]) {
        // Few texts name any; to take all of them apart would take long.
        if self.places.iter().any(|place| memmem::find(text, place.as_bytes()).is_some()) {
            joined(text, &mut |part| {
                let files: Vec<_> = self.paths_in(part).collect();
                self.files.extend(files);
            });
        }
    }

    fn add_words(&mut self, text: &[u8]) {
        let named: Vec<_> = self.paths_in(text).collect();
        self.named.extend(named);
        let patterns: Vec<_> = self.patterns_in(text).collect();
        self.patterns.extend(patterns);
    }

    fn paths_in(&self, text: &[u8]) -> impl Iterator<Item = PathBuf> {
        self.words_in(text, is_of_path).map(without_dots).filter(|path| !self.is_passing(path))
    }

    fn patterns_in(&self, text: &[u8]) -> impl Iterator<Item = PathBuf> {
        let words = self.words_in(text, |byte| is_of_path(byte) || ANY.contains(byte));
        let stands_for_others = |word: &&Path| word.as_os_str().as_bytes().iter().any(|byte| ANY.contains(byte));
        words.filter(stands_for_others).map(without_dots).filter(|path| !self.is_passing(path))
    }

    fn words_in<'a>(&self, text: &'a [u8], is_in: impl Fn(&u8) -> bool) -> impl Iterator<Item = &'a Path> {
        // A word may have something in front, as an option has.
        let start = |word: &[u8]| self.places.iter().filter_map(|place| memmem::find(word, place.as_bytes())).min();
        let words = text.split(move |byte| !is_in(byte)).filter(|word| memchr(b'/', word).is_some());
        words.filter_map(move |word| Some(Path::new(OsStr::from_bytes(&word[start(word)?..]))))
    }

    fn is_passing(&self, path: &Path) -> bool {
        let is_ours = self.tree.iter().any(|tree| path.starts_with(tree));
        let below_lib = path.strip_prefix("/var/lib");
        let is_of_packages = || below_lib.is_ok_and(|below| OF_PACKAGES.iter().any(|of| below.starts_with(of)));
        is_ours || is_of_packages() || PASSING.iter().any(|place| path.starts_with(place))
    }

    /// The digest of what there is now, and of what the texts there name in turn.
    pub fn digest(&self) -> String {
        let (mut digest, mut all) = (Digest::new("outside 2"), self.clone());
        all.expand();
        let mut seen = BTreeSet::new();
        let most = all.named.len() + MOST_FOLLOWED;
        // What is included may set variables by which others are named.
        loop {
            let to_see: Vec<PathBuf> = all.named.difference(&seen).take(most - seen.len()).cloned().collect();
            if to_see.is_empty() {
                break;
            }
            for path in to_see {
                let state = self.state_of(&path, &mut |text| all.add(text));
                digest.add(path.as_os_str().as_bytes()).add(state);
                seen.insert(path);
            }
            all.expand();
        }
        for path in &all.files {
            let file = real(path).filter(|(real, meta)| !meta.is_dir() && !self.is_passing(real));
            let state = file.map_or(String::new(), |(real, meta)| state_of_file(&real, &meta, &mut |_| {}));
            digest.add(path.as_os_str().as_bytes()).add(state);
        }
        for pattern in all.patterns.iter().take(MOST_FOLLOWED) {
            digest.add(pattern.as_os_str().as_bytes());
            for path in self.matches(pattern) {
                digest.add(path.as_os_str().as_bytes()).add(self.state_of(&path, &mut |_| {}));
            }
        }
        digest.finish()
    }

    /// Adds what words name whose variables are known.
    fn expand(&mut self) {
        self.add_words(&self.variables.expanded());
    }

    /// What there is now that a pattern stands for, but directories beside which others come and go.
    fn matches(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::from("/")];
        let mut parts = pattern.iter().skip(1).peekable();
        while let Some(part) = parts.next() {
            if !part.as_bytes().iter().any(|byte| ANY.contains(byte)) {
                found.iter_mut().for_each(|path| path.push(part));
                continue;
            }
            let (part, is_last) = (Shell::new(&part.to_string_lossy()), parts.peek().is_none());
            let below = |dir: PathBuf| {
                let names = names(&dir).into_iter().filter(|name| part.matches(name));
                let paths: Vec<_> = names.map(|name| dir.join(name)).collect();
                let others = is_last && is_shared(&dir) || dir == Path::new(SOURCES);
                paths.into_iter().filter(move |path| !others || !path.is_dir())
            };
            found = found.into_iter().flat_map(below).filter(|path| !self.is_passing(path)).take(MOST_FILES).collect();
        }
        found.retain(|path| path.exists());
        found
    }

    /// What there is now, as far as a build sees it; `read` is shown the texts.
    fn state_of(&self, path: &Path, read: &mut dyn FnMut(&[u8])) -> String {
        match real(path) {
            None => "nothing".into(),
            // By a link, such as /etc/mtab.
            Some((real, _)) if self.is_passing(&real) => "something".into(),
            Some((real, meta)) if !meta.is_dir() => state_of_file(&real, &meta, read),
            Some((real, _)) if is_shared(path) || is_shared(&real) => "directory".into(),
            Some((real, _)) => self.state_of_directory(&real, read),
        }
    }

    fn state_of_directory(&self, dir: &Path, read: &mut dyn FnMut(&[u8])) -> String {
        let (mut digest, mut left) = (Digest::new("directory"), MOST_FILES);
        for name in names(dir) {
            let file = real(&dir.join(&name)).filter(|(real, meta)| meta.is_file() && !self.is_passing(real));
            let file = file.filter(|_| left > 0);
            left -= usize::from(file.is_some());
            digest.add(name).add(file.map_or(String::new(), |(real, meta)| state_of_file(&real, &meta, read)));
        }
        digest.finish()
    }
}

fn real(path: &Path) -> Option<(PathBuf, Metadata)> {
    let real = fs::canonicalize(path).ok()?;
    Some((real.clone(), real.metadata().ok()?))
}

fn is_shared(dir: &Path) -> bool {
    // The root counts as one.
    dir.components().count() <= FEW_NAMES + 1 || SHARED.iter().any(|shared| dir == Path::new(shared))
}

fn state_of_file(real: &Path, meta: &Metadata, read: &mut dyn FnMut(&[u8])) -> String {
    let mut seen = || -> io::Result<Option<String>> {
        // It may be anybody's, who may put something else there.
        let file = open_foreign(Path::new("/"), real.strip_prefix("/").unwrap_or(real))?;
        let length = file.metadata()?.len();
        if length > LARGEST_READ {
            return Ok(None);
        }
        let mut file = file.take(LARGEST_READ);
        if length > LARGEST_TEXT {
            return digest::of_all(&mut file).map(Some);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if memchr(0, &bytes).is_none() {
            read(&bytes);
        }
        Ok(Some(digest::of(&bytes)))
    };
    seen().ok().flatten().unwrap_or_else(|| {
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        format!("{} {times:?}", meta.len())
    })
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn what_lies_outside_is_found_in_a_text() {
        let outside = Outside::new(Path::new("/var/lib/dkms"));
        let paths = |text: &str| outside.paths_in(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(
            paths("-include /etc/a.mk\nifneq ($(wildcard /opt/b/x.h),)\nCF += -I/usr/local/inc # /usr/bin/x /var/log"),
            ["/etc/a.mk", "/opt/b/x.h", "/usr/local/inc"].map(PathBuf::from)
        );
        assert_eq!(
            paths("/usr/src/a/b.mk:/usr/share/c /var/lib/d \"/usr/lib/firmware/e\" .incbin /lib/firmware/f /boot/g"),
            ["/usr/src/a/b.mk", "/usr/share/c", "/var/lib/d", "/usr/lib/firmware/e", "/lib/firmware/f", "/boot/g"]
                .map(PathBuf::from)
        );
        assert_eq!(
            paths("\tcp /usr/include/a.h /mnt/b /media/c .\ninclude /usr/lib/d.mk /lib/modules/$(V)/build"),
            ["/usr/include/a.h", "/mnt/b", "/media/c", "/usr/lib/d.mk"].map(PathBuf::from)
        );
        assert_eq!(
            paths("/var/lib/dkms/a/1/build /usr/src/../../var/lib/dkms/b /var/cache/c /var/lib/dpkg/status"),
            <[PathBuf; 0]>::default()
        );
    }

    #[test]
    fn what_is_there_counts_by_what_it_holds() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let place = dir.path().join("place");
        let tree = dir.path().join("tree");
        fs::create_dir_all(place.join("below"))?;
        fs::create_dir(&tree)?;
        let outside = Outside::new(&tree);
        let state = |path: &Path| outside.state_of(path, &mut |_| {});
        let file = place.join("a");
        let mut last = [state(&file), state(&place)];
        for text in ["one", "two"] {
            fs::write(&file, text)?;
            let now = [state(&file), state(&place)];
            assert!(now[0] != last[0] && now[1] != last[1], "{text}");
            last = now;
        }
        rustix::fs::mknodat(rustix::fs::CWD, place.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
        assert!(!state(&place.join("pipe")).is_empty(), "nobody waits for who writes to it");
        let before = state(&place);
        fs::write(place.join("below/c"), "")?;
        assert_eq!(state(&place), before, "what lies deeper");
        fs::write(place.join("b"), "")?;
        assert_ne!(state(&place), before);
        // By a link, too.
        std::os::unix::fs::symlink(&tree, place.join("link"))?;
        assert_eq!(state(&place.join("link")), "something");
        Ok(())
    }

    #[test]
    fn what_is_too_large_to_be_read_is_seen_to_change() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("large");
        let file = fs::File::create(&path)?;
        file.set_len(LARGEST_READ + 1)?;
        let outside = Outside::new(Path::new("/var/lib/dkms"));
        let state = || outside.state_of(&path, &mut |_| {});
        let (before, modified) = (state(), file.metadata()?.modified()?);
        std::thread::sleep(std::time::Duration::from_millis(20));
        file.set_modified(modified)?;
        assert_ne!(state(), before, "dated back");
        Ok(())
    }

    #[test]
    fn who_else_is_installed_there_does_not_count() {
        let outside = Outside::new(Path::new("/var/lib/dkms"));
        for dir in ["/usr/src", "/usr/share", "/var", "/var/lib", "/etc", "/usr/local", "/usr/share/doc"] {
            assert!(is_shared(Path::new(dir)), "{dir}");
            assert!(["directory", "nothing"].contains(&&*outside.state_of(Path::new(dir), &mut |_| {})), "{dir}");
        }
        assert!(!is_shared(Path::new("/usr/local/include")) && !is_shared(Path::new("/opt/sdk/include")));
        // A path whose end is a variable's.
        let paths = outside.paths_in(b"/usr/src/linux-headers-$(V) /var/lib/$(X) /usr/src/$(V)");
        let states: Vec<_> = paths.map(|path| outside.state_of(&path, &mut |_| {})).collect();
        assert_eq!(states, ["nothing", "directory", "directory"]);
    }

    #[test]
    fn what_included_files_name_counts_too() -> io::Result<()> {
        let dir = tempfile::tempdir_in("/tmp")?;
        let at = |name: &str| dir.path().join(name);
        let named = |name: &str| at(name).display().to_string();
        fs::write(at("a.mk"), format!("include {}\n", named("b.mk")))?;
        fs::write(at("b.mk"), format!("include {} {}\n", named("a.mk"), named("c.mk")))?;
        let follow = |name: &str| {
            let mut outside = Outside { places: &["/tmp/"], ..Outside::new(Path::new("/var/lib/dkms")) };
            outside.add(named(name).as_bytes());
            outside.digest()
        };
        let before = follow("a.mk");
        fs::write(at("c.mk"), "X := 1\n")?;
        assert_ne!(follow("a.mk"), before);
        let before = follow("a.mk");
        fs::write(at("unnamed.mk"), "")?;
        assert_eq!(follow("a.mk"), before);
        // By a variable that an included file sets.
        fs::write(at("b.mk"), format!("DIR = {}\ninclude $(DIR)/d.mk\n", dir.path().display()))?;
        let before = follow("a.mk");
        fs::write(at("d.mk"), "X := 1\n")?;
        assert_ne!(follow("a.mk"), before);
        Ok(())
    }

    #[test]
    fn what_comes_to_a_pattern_counts() -> io::Result<()> {
        let dir = tempfile::tempdir_in("/tmp")?;
        let at = |name: &str| dir.path().join(name);
        let digest = |pattern: &str| {
            let mut outside = Outside { places: &["/tmp/"], ..Outside::new(Path::new("/var/lib/dkms")) };
            outside.add(format!("include $(wildcard {}/{pattern})", dir.path().display()).as_bytes());
            outside.digest()
        };
        fs::create_dir(at("sub"))?;
        for (pattern, name, is_seen) in [
            ("*.mk", "a.mk", true),
            ("*.mk", "b.c", false),
            ("s*/?.mk", "sub/a.mk", true),
            ("s*/?.mk", "sub/ab.mk", false),
            ("[a-c].in", "b.in", true),
        ] {
            let before = digest(pattern);
            fs::write(at(name), "one")?;
            let there = digest(pattern);
            fs::write(at(name), "two")?;
            // The directory before the first sign is named, too, where it is nobody else's.
            assert!(!is_seen || before != there && there != digest(pattern), "{pattern} {name}");
        }
        // Kernels come and go.
        let outside = Outside::new(Path::new("/var/lib/dkms"));
        let pattern = Path::new("/usr/*/");
        assert!(outside.matches(pattern).is_empty(), "{:?}", outside.matches(pattern));
        Ok(())
    }

    #[test]
    fn what_programs_may_read_counts_where_it_is_a_file() -> io::Result<()> {
        let dir = tempfile::tempdir_in("/tmp")?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("dir"))?;
        let mut outside = Outside { places: &["/tmp/"], ..Outside::new(Path::new("/var/lib/dkms")) };
        outside.add_files(format!("fopen(\"{}\"); // as in {}", at("a").display(), at("dir").display()).as_bytes());
        let before = outside.digest();
        fs::write(at("dir/b"), "")?;
        assert_eq!(outside.digest(), before);
        fs::write(at("a"), "")?;
        assert_ne!(outside.digest(), before);
        Ok(())
    }
}
