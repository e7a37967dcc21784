// SPDX-License-Identifier: GPL-2.0-or-later
//! What has to be mounted so that a path can be seen inside although it is closed to the user, or hidden.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::plan::HIDDEN;
use super::{Mount, User};

impl User {
    /// Whether this user may pass through a directory, as far as its mode says.
    fn may_search(&self, dir: &Metadata) -> bool {
        let shift = match (dir.uid() == self.uid, dir.gid() == self.gid) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        self.uid == 0 || (dir.mode() >> shift) & 1 != 0
    }
}

/// Whether `path` is in a place that is always empty inside, such as `/run`, unless it is mounted there.
pub fn is_hidden(path: &Path) -> bool {
    let real = path.canonicalize();
    let names = std::iter::once(path).chain(real.as_deref());
    names.into_iter().any(|path| HIDDEN.iter().any(|(place, _)| path.starts_with(place)))
}

/// The mounts that make `path` readable to `user` inside although a directory above it (say `/root`) is closed to it:
/// an empty directory in the place of the closed one, and in it `path` alone. What is hidden is mounted where it was.
/// None where nothing is closed or hidden.
pub fn expose(path: &Path, user: &User) -> Vec<Mount> {
    // By the name it was given, and where that leads through symbolic links.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for path in [path, &real] {
        let bind = Mount::Bind { from: path.to_owned(), at: path.to_owned(), writable: false };
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        let closed = |dir: &&Path| fs::metadata(dir).is_ok_and(|dir| !user.may_search(&dir));
        if let Some(closed) = above.into_iter().find(closed) {
            let mut mounts = vec![Mount::Empty { at: closed.to_owned() }];
            if let Some(parent) = path.parent().filter(|&parent| parent != closed) {
                mounts.push(Mount::Dir { at: parent.to_owned() });
            }
            mounts.push(bind);
            return mounts;
        } else if is_hidden(path) {
            return vec![bind];
        }
    }
    Vec::new()
}
