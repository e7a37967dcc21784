// SPDX-License-Identifier: GPL-2.0-or-later
//! Where links lead. Each may lead through others, over and over, so that they are followed within limits.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How many links may lead to each other.
const LINKS: usize = 32;

/// So many bytes of names are read on the way that a link leads.
const ONE: usize = 64 << 10;

/// And so many for all links of a source: sixty for each of seventy thousand.
pub const ALL: usize = 4 << 20;

/// Follows links below a directory.
#[derive(Debug)]
pub struct Following<'a> {
    base: &'a Path,
    /// How many bytes of names it may still read.
    left: usize,
}

impl<'a> Following<'a> {
    /// Below `base`.
    pub fn new(base: &'a Path) -> Self {
        Self { base, left: ALL }
    }

    /// Whether the link at `link` ends below the base wherever it leads through, be it to nothing. One that is not to be
    /// followed to its end does not.
    pub fn stays_within(&mut self, link: &Path) -> bool {
        let mut bytes = ONE.min(self.left);
        let all = bytes;
        let stays = link.strip_prefix(self.base).is_ok_and(|start| follow(self.base, start, &mut bytes).is_some());
        self.left -= all - bytes;
        stays
    }
}

/// Follows what begins at `start` to its end below `base`, for so many bytes; nothing if that is not there.
fn follow(base: &Path, start: &Path, bytes: &mut usize) -> Option<()> {
    let mut names = |path: &Path| {
        *bytes = bytes.checked_sub(path.as_os_str().len())?;
        Some(path.components().rev().map(|c| c.as_os_str().to_owned()).collect::<Vec<_>>())
    };
    // What is left to walk, the next name last; and where we are, below the base.
    let (mut left, mut here, mut links) = (names(start)?, PathBuf::new(), 0);
    while let Some(name) = left.pop() {
        match name.as_bytes() {
            b"." => {}
            b".." => {
                if !here.pop() {
                    return None;
                }
            }
            _ => {
                here.push(&name);
                let Ok(target) = fs::read_link(base.join(&here)) else {
                    continue;
                };
                links += 1;
                if target.is_absolute() || links > LINKS {
                    return None;
                }
                here.pop();
                left.append(&mut names(&target)?);
            }
        }
    }
    Some(())
}

/// A link below `dir` that leads out of it, be it to another part of what was unpacked.
pub fn link_outside(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut following = Following::new(dir);
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_symlink() && !following.stays_within(&entry.path()) {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_to_where_they_end() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let base = dir.path();
        fs::create_dir_all(base.join("a/b"))?;
        for (target, link) in [
            (".", "here"),
            ("a/b/../..", "root"),
            ("here/here/../..", "through"),
            ("../..", "a/b/up"),
            ("../../..", "a/b/out"),
            ("/etc", "absolute"),
            ("nowhere/file", "dangling"),
            ("loop", "loop"),
            ("a/b/out", "chain"),
        ] {
            symlink(target, base.join(link))?;
        }
        for (link, expected) in [
            ("here", true),
            ("root", true),
            ("through", false),
            ("a/b/up", true),
            ("a/b/out", false),
            ("absolute", false),
            ("dangling", true),
            ("loop", false),
            ("chain", false),
        ] {
            assert_eq!(Following::new(base).stays_within(&base.join(link)), expected, "{link}");
        }
        Ok(())
    }

    #[test]
    fn no_link_takes_long_and_all_together_do_not() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let base = dir.path();
        fs::create_dir(base.join("a"))?;
        let ways = "a/../".repeat(800);
        for n in 0..30 {
            symlink(format!("{ways}{}", n + 1), base.join(n.to_string()))?;
        }
        let mut following = Following::new(base);
        assert!(following.stays_within(&base.join("20")));
        // Each leads through all that come after it.
        assert!(!following.stays_within(&base.join("0")));
        let followed = (0..10_000).take_while(|_| following.stays_within(&base.join("20"))).count();
        assert!((80..120).contains(&followed), "{followed}");
        // One that is a file of no more links is not followed either, when all is used up.
        assert!(!following.stays_within(&base.join("0")) && following.left < ONE);
        Ok(())
    }
}
