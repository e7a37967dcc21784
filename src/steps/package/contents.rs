// SPDX-License-Identifier: GPL-2.0-or-later
//! The files of a package, whatever kind of package it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use crate::steps::pack::Pack;
use crate::system::digest::hex;
use crate::system::files::At;

/// What of a source is about its history or its packaging, and serves nobody who builds it.
const LEFT_OUT: [&str; 10] =
    [".git", ".github", ".gitignore", ".gitattributes", ".gitmodules", ".gitlab-ci.yml", ".svn", ".hg", ".bzr", "CVS"];

/// Names of files that nobody runs, although unpacking on other systems may have made them executable.
const NOT_PROGRAMS: [&str; 8] = ["c", "h", "S", "conf", "md", "txt", "patch", "diff"];

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Dir,
    /// A text of ours, or something made of others.
    Bytes {
        /// The content.
        bytes: Vec<u8>,
        /// Whether it is a program.
        program: bool,
    },
    /// A copy of a file.
    File {
        /// Where that is.
        from: PathBuf,
        /// Whether it is a program.
        program: bool,
    },
    /// A symbolic link.
    Link(PathBuf),
}

/// The files of a package by their paths, which begin without a slash; directories before what is in them.
#[derive(Debug, Clone, Default)]
pub struct Contents(BTreeMap<PathBuf, Entry>);

impl Contents {
    /// Adds what is to be found at `path`, and the directories above it.
    pub fn add(&mut self, path: impl Into<PathBuf>, entry: Entry) {
        let path = path.into();
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            self.0.entry(above.to_owned()).or_insert(Entry::Dir);
        }
        self.0.insert(path, entry);
    }

    /// Adds a text.
    pub fn text(&mut self, path: impl Into<PathBuf>, text: &str) {
        self.add(path, Entry::Bytes { bytes: text.as_bytes().to_owned(), program: false });
    }

    /// Adds a copy of the file `from`.
    pub fn file(&mut self, path: impl Into<PathBuf>, from: &Path) {
        self.add(path, Entry::File { from: from.to_owned(), program: false });
    }

    /// Adds what is in the source `dir`, without its history and its `debian`. What is neither file, directory nor link
    /// is no source code.
    pub fn source(&mut self, path: &Path, dir: &Path) -> io::Result<()> {
        self.below(path, dir, &|name| LEFT_OUT.contains(&name) || name == "debian")
    }

    fn below(&mut self, path: &Path, dir: &Path, left_out: &dyn Fn(&str) -> bool) -> io::Result<()> {
        self.add(path, Entry::Dir);
        for entry in fs::read_dir(dir).at(dir)? {
            let entry = entry.at(dir)?;
            let (name, from) = (entry.file_name(), entry.path());
            if name.to_str().is_some_and(left_out) {
                continue;
            }
            let (path, kind) = (path.join(&name), entry.file_type().at(&from)?);
            if kind.is_dir() {
                self.below(&path, &from, &|name| LEFT_OUT.contains(&name))?;
            } else if kind.is_symlink() {
                self.add(path, Entry::Link(fs::read_link(&from).at(&from)?));
            } else if kind.is_file() {
                let program = entry.metadata().at(&from)?.permissions().mode() & 0o111 != 0 && !is_no_program(&path);
                self.add(path, Entry::File { from, program });
            }
        }
        Ok(())
    }

    /// The paths and what is there, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// Puts all of it into an archive, below `top`. `each` sees the paths and contents of files.
    pub fn pack(&self, pack: &mut Pack<impl Write>, top: &str, mut each: impl FnMut(&Path, &[u8])) -> io::Result<()> {
        for (path, entry) in &self.0 {
            let name = [top.as_bytes(), path.as_os_str().as_bytes()].concat();
            match entry {
                Entry::Dir => pack.dir([name.as_slice(), b"/"].concat())?,
                Entry::Link(target) => pack.link(&name, target.as_os_str().as_bytes())?,
                Entry::Bytes { program, .. } | Entry::File { program, .. } => {
                    let bytes = entry.read()?;
                    each(path, &bytes);
                    pack.bytes(&name, if *program { 0o755 } else { 0o644 }, &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// What an administrator may edit, as dpkg wants to have it named: a line for each file below /etc.
    pub fn conffiles(&self) -> String {
        let files = self.0.iter().filter(|(path, entry)| path.starts_with("etc") && **entry != Entry::Dir);
        files.map(|(path, _)| format!("/{}\n", path.display())).collect()
    }
}

impl Entry {
    /// Whether it is a file, not a directory or link.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::Bytes { .. } | Self::File { .. })
    }

    /// What a file holds; nothing for what is none.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes { bytes, .. } => Ok(bytes.clone()),
            Self::File { from, .. } => fs::read(from).at(from),
            Self::Dir | Self::Link(_) => Ok(Vec::new()),
        }
    }
}

fn is_no_program(path: &Path) -> bool {
    let named = |name: &str| ["Makefile", "Kbuild", "Kconfig"].contains(&name);
    path.extension().and_then(|it| it.to_str()).is_some_and(|it| NOT_PROGRAMS.contains(&it))
        || path.file_name().and_then(|it| it.to_str()).is_some_and(named)
}

/// A digest as it is written in packages.
pub fn md5(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_goes_in_without_its_history() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        for name in [".git/config", "debian/control", "src/debian/x", "src/a.c", "configure"] {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().expect("a parent"))?;
            fs::write(&file, name)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        let mut contents = Contents::default();
        contents.source(Path::new("usr/src/x-1"), dir.path())?;
        contents.text("etc/x.conf", "");
        let listed: Vec<String> = contents
            .iter()
            .map(|(path, entry)| {
                let program = matches!(entry, Entry::File { program: true, .. });
                format!("{}{}", path.display(), if program { "*" } else { "" })
            })
            .collect();
        let expected = [
            "etc",
            "etc/x.conf",
            "usr",
            "usr/src",
            "usr/src/x-1",
            "usr/src/x-1/configure*",
            "usr/src/x-1/src",
            "usr/src/x-1/src/a.c",
            "usr/src/x-1/src/debian",
            "usr/src/x-1/src/debian/x*",
        ];
        assert_eq!(listed, expected);
        assert_eq!(contents.conffiles(), "/etc/x.conf\n");
        Ok(())
    }
}
