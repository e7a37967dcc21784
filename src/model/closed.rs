// SPDX-License-Identifier: GPL-2.0-or-later
//! Configuration files that only we may read, made readable to the user who evaluates them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result};
use crate::model::site::Site;
use crate::system::directories::{Owner, copy_file, copy_tree};
use crate::system::sandbox::{self, User};
use crate::system::scratch::Scratch;

/// Whether anybody may read a file inside a sandbox, by the name it has and by the one that links lead to.
pub fn is_open(file: &Path) -> bool {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    let reachable = |path: &Path| path.ancestors().skip(1).all(|dir| mode(dir) & 0o001 != 0);
    !sandbox::is_hidden(file)
        && mode(file) & 0o004 != 0
        && reachable(file)
        && fs::canonicalize(file).is_ok_and(|real| reachable(&real))
}

/// Copies of files that only we may read.
#[derive(Debug)]
pub struct Copies {
    dir: Scratch,
    /// The copy and what it is of.
    of: Vec<(String, String)>,
}

impl Copies {
    /// None yet.
    pub fn begin(site: &Site) -> Result<Self> {
        Ok(Self { dir: site.scratch()?, of: Vec::new() })
    }

    /// Copies `file`, or the whole directory it is in, and lets `file` name the copy. A package's own is not followed
    /// where it is a link: it could lead to what nobody but root may read.
    pub fn add(&mut self, file: &mut PathBuf, is_packages: bool, with_neighbours: bool, user: User) -> Result<()> {
        let owner = Owner::Is(user.uid, user.gid);
        let place = self.dir.path().join(self.of.len().to_string());
        let original = file.parent().unwrap_or(Path::new("/")).to_owned();
        let copied = if with_neighbours || is_packages && file.is_symlink() {
            copy_tree(&original, &place, owner)
        } else {
            copy_file(file, &place.join(file.file_name().unwrap_or_default()), owner)
        };
        // For that user, and for nobody else.
        copied
            .and_then(|()| chown(self.dir.path(), Some(user.uid), Some(user.gid)))
            .doing(|| format!("Cannot copy {} for reading", file.display()))?;
        *file = place.join(file.file_name().unwrap_or_default());
        self.of.push((place.to_string_lossy().into_owned(), original.to_string_lossy().into_owned()));
        Ok(())
    }

    /// What was said of the copies, said of the originals.
    pub fn rename(&self, noise: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(noise).into_owned();
        self.of.iter().fold(text, |text, (copy, original)| text.replace(copy, original)).into_bytes()
    }
}
