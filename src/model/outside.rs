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

/// By what a path is known that has something in front, as an option has, or a variable.
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

/// A build has these of its own, or they are another thing at each look.
const UNSEEN: [&str; 8] = ["/dev", "/proc", "/run", "/sys", "/tmp", "/var/lock", "/var/run", "/var/tmp"];

/// What comes and goes here says nothing; but a file that is named counts. Kernels count by their headers.
const PASSING: [&str; 6] =
    ["/lib/modules", "/usr/lib/modules", "/var/backups", "/var/cache", "/var/mail", "/var/spool"];

/// Nor does what is in the files: programs count by the versions of packages, the others change with each that is installed.
const OF_PACKAGES: [&str; 5] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/var/log"];

/// The same below /var/lib. (Who has the whole name of dpkg's in him is taken for one who reads it.)
const OF_PACKAGES_IN_VAR: [&str; 2] = ["apt", "dpkg"];

/// Directories in which kernels and packages that are none of a module's business come and go, beside those of one name and
/// those just below [`OF_ALL`]: `/usr/src/linux-$(V)` is seen without its end.
const SHARED: [&str; 4] = ["/usr/lib/firmware", "/usr/share/doc", "/usr/share/man", "/usr/src/kernels"];

/// Where each directory is that of many.
const OF_ALL: [&str; 7] = ["/usr", "/var", "/lib", "/lib32", "/lib64", "/home", "/media"];

/// Where kernels' headers and modules' sources are.
const SOURCES: &str = "/usr/src";

/// Files larger than this count by what stat(2) says of them, in bytes.
const LARGEST_READ: u64 = 16 << 20;

/// No larger makefile or script is looked through for what it names.
const LARGEST_TEXT: u64 = 1 << 20;

/// So many files of a directory, and of those in it, count by what is in them; the others by what stat(2) says of them.
const MOST_FILES: usize = 64;

/// So many names count that are in a directory, and in those in it.
const MOST_NAMES: usize = 2000;

/// So many paths count that only other files outside name.
const MOST_FOLLOWED: usize = 100;

/// So many patterns count.
const MOST_PATTERNS: usize = 400;

/// Signs that stand for others in patterns of shells and of make's `wildcard`.
const ANY: &[u8] = b"*?[]";

fn is_of_path(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@~".contains(byte)
}

/// What texts of a source name outside of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// The tree of registered modules by its names.
    tree: Vec<PathBuf>,
    /// The module, whose own files in there keys speak of in their own ways.
    module: String,
    unseen: &'static [&'static str],
    named: BTreeSet<PathBuf>,
    /// Those that count where they are files.
    files: BTreeSet<PathBuf>,
    /// With signs in them that stand for any other.
    patterns: BTreeSet<PathBuf>,
    /// What makefiles and scripts name by variables, and those variables.
    variables: Variables,
}

impl Outside {
    /// Nothing yet, of a module of this name.
    pub fn new(tree: &Path, module: &str) -> Self {
        let tree = fs::canonicalize(tree).into_iter().chain([tree.to_owned()]).collect();
        Self {
            tree,
            module: module.to_owned(),
            unseen: &UNSEEN,
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
        if memmem::find(text, b"\"/").is_some() || PLACES.iter().any(|at| memmem::find(text, at.as_bytes()).is_some()) {
            let files: Vec<_> = self.paths_in(&joined(text)).collect();
            self.files.extend(files);
        }
    }

    fn add_words(&mut self, text: &[u8]) {
        let named: Vec<_> = self.paths_in(text).collect();
        self.named.extend(named);
        let patterns: Vec<_> = self.patterns_in(text).collect();
        self.patterns.extend(patterns);
    }

    fn paths_in(&self, text: &[u8]) -> impl Iterator<Item = PathBuf> {
        words_in(text, is_of_path).map(without_dots).filter(|path| !self.is_unseen(path))
    }

    fn patterns_in(&self, text: &[u8]) -> impl Iterator<Item = PathBuf> {
        let words = words_in(text, |byte| is_of_path(byte) || ANY.contains(byte));
        let stands_for_others = |word: &&Path| word.as_os_str().as_bytes().iter().any(|byte| ANY.contains(byte));
        words.filter(stands_for_others).map(without_dots).filter(|path| !self.is_passing(path))
    }

    fn is_unseen(&self, path: &Path) -> bool {
        let is_own = |tree: &PathBuf| path.starts_with(tree.join(&self.module));
        self.tree.iter().any(is_own) || is_in(path, self.unseen)
    }

    /// Whether a directory does not count by what is in it.
    fn is_passing(&self, path: &Path) -> bool {
        let is_ours = self.tree.iter().any(|tree| path.starts_with(tree));
        is_ours || self.is_unseen(path) || is_in(path, &PASSING) || is_of_packages(path)
    }

    /// The same of a file. In the tree of modules each of them has its own directory, with those of its versions.
    fn is_passing_file(&self, path: &Path) -> bool {
        let is_nobodys = |below: &Path| below.components().count() < 3;
        let is_ours = self.tree.iter().any(|tree| path.strip_prefix(tree).is_ok_and(is_nobodys));
        is_ours || self.is_unseen(path) || is_of_packages(path)
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
            let file = real(path).filter(|(real, meta)| !meta.is_dir() && !self.is_passing_file(real));
            let state = file.map_or(String::new(), |(real, meta)| state_of_file(&real, &meta, &mut |_| {}));
            digest.add(path.as_os_str().as_bytes()).add(state);
        }
        for pattern in all.patterns.iter().take(MOST_PATTERNS) {
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
            Some((real, meta)) if !meta.is_dir() && self.is_passing_file(&real) => "something".into(),
            Some((real, meta)) if !meta.is_dir() => state_of_file(&real, &meta, read),
            Some((real, _)) if self.is_passing(&real) || self.is_passing(path) => "something".into(),
            Some((real, _)) if is_shared(path) || is_shared(&real) => "directory".into(),
            Some((real, _)) => self.state_of_directory(&real, read),
        }
    }

    /// Of all that is in it, and of what is in the directories there, but by no link.
    fn state_of_directory(&self, dir: &Path, read: &mut dyn FnMut(&[u8])) -> String {
        let (mut digest, mut files, mut left) = (Digest::new("directory"), MOST_FILES, MOST_NAMES);
        let mut dirs = vec![dir.to_owned()];
        while let Some(dir) = dirs.pop() {
            digest.add(dir.as_os_str().as_bytes());
            for name in names(&dir) {
                if left == 0 {
                    return digest.finish();
                }
                left -= 1;
                let path = dir.join(&name);
                digest.add(name);
                match real(&path).filter(|(real, _)| !self.is_unseen(real)) {
                    Some((real, meta)) if meta.is_dir() => {
                        dirs.extend(Some(path).filter(|path| *path == real && !self.is_passing(path)));
                    }
                    Some((real, meta)) if meta.is_file() && !self.is_passing_file(&real) => {
                        digest.add(match files {
                            0 => look_of(&meta),
                            _ => state_of_file(&real, &meta, read),
                        });
                        files = files.saturating_sub(1);
                    }
                    _ => {}
                }
            }
        }
        digest.finish()
    }
}

fn is_in(path: &Path, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

fn is_of_packages(path: &Path) -> bool {
    let in_var = |below: &Path| OF_PACKAGES_IN_VAR.iter().any(|of| below.starts_with(of));
    is_in(path, &OF_PACKAGES) || path.strip_prefix("/var/lib").is_ok_and(in_var)
}

/// The words of a text that are paths, or have one behind an option.
fn words_in(text: &[u8], is_in_word: impl Fn(&u8) -> bool) -> impl Iterator<Item = &Path> {
    let start = |word: &[u8]| match word {
        [b'/', ..] => Some(0),
        [b'-' | b'@', ..] => memchr(b'/', word),
        _ => PLACES.iter().filter_map(|place| memmem::find(word, place.as_bytes())).min(),
    };
    let words = text.split(move |byte| !is_in_word(byte)).filter(|word| memchr(b'/', word).is_some());
    words.filter_map(move |word| Some(Path::new(OsStr::from_bytes(&word[start(word)?..]))))
}

fn real(path: &Path) -> Option<(PathBuf, Metadata)> {
    let real = fs::canonicalize(path).ok()?;
    Some((real.clone(), real.metadata().ok()?))
}

fn is_shared(dir: &Path) -> bool {
    // The root counts as one.
    let names = dir.components().count() - 1;
    names < 2 || names == 2 && is_in(dir, &OF_ALL) || SHARED.iter().any(|shared| dir == Path::new(shared))
}

/// How a file looks: one that is unpacked again has the time that it had.
fn look_of(meta: &Metadata) -> String {
    format!("{} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec())
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
mod tests;
