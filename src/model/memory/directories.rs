// SPDX-License-Identifier: GPL-2.0-or-later
//! What the names in a directory and below it say, as long as no directory there looks different: `kernels/NAME`.
//!
//! A name that comes, goes or changes changes its directory. Fields: the title, the topmost directory, what was found
//! out, then each directory and what it looked like, a checksum.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Memory, finish, look, read, whole};
use crate::system::scratch;

const TITLE: &str = concat!("dkms-rs ", env!("CARGO_PKG_VERSION"), ": what is known of a directory, 1");

/// The directories that were looked into.
#[derive(Debug, Default)]
pub struct Visited {
    looks: BTreeMap<PathBuf, String>,
    /// Whether one of them may change without looking different, or could not be read.
    unsettled: bool,
}

impl Visited {
    /// A directory that is about to be read.
    pub fn add(&mut self, dir: &Path) {
        match look(dir).filter(|look| look.is_settled()) {
            Some(look) => _ = self.looks.insert(dir.to_owned(), look.text),
            None => self.forget(),
        }
    }

    /// What is found out now will not hold: something could not be read.
    pub fn forget(&mut self) {
        self.unsettled = true;
    }
}

impl Memory {
    /// What `find_out` says of the names in `dir`: now, or when it was last asked. It tells each directory that it is
    /// going to read.
    pub fn of_names(&self, dir: &Path, find_out: impl FnOnce(&mut Visited) -> String) -> String {
        let file = dir.file_name().map(|name| self.kernels.join(name));
        let known = file.as_ref().and_then(|file| parse(&read(file, self.writer)?, dir));
        if let Some(known) = known {
            return known;
        }
        let mut visited = Visited::default();
        let found = find_out(&mut visited);
        if let Some(file) = file.filter(|_| self.writable && !visited.unsettled && !found.contains('\0')) {
            if let Some(bytes) = to_bytes(dir, &found, &visited) {
                if let Err(error) = scratch::write(&self.caches, &file, &bytes) {
                    log::info!("{}: {error}", file.display());
                }
            }
        }
        found
    }
}

/// What was found out, if all still looks as it did.
fn parse(bytes: &[u8], dir: &Path) -> Option<String> {
    let mut fields = whole(bytes, TITLE)?.map(std::str::from_utf8);
    let mut next = || fields.next()?.ok();
    if next()? != dir.to_str()? {
        return None;
    }
    let found = next()?.to_owned();
    for _ in 0..next()?.parse().ok()? {
        let (dir, text) = (next()?, next()?);
        look(Path::new(dir)).filter(|look| look.text == text)?;
    }
    Some(found)
}

fn to_bytes(dir: &Path, found: &str, visited: &Visited) -> Option<Vec<u8>> {
    let count = visited.looks.len().to_string();
    let mut fields = vec![TITLE, dir.to_str()?, found, &count];
    for (dir, look) in &visited.looks {
        fields.extend([dir.to_str()?, look]);
    }
    Some(finish(fields.iter().flat_map(|field| field.bytes().chain([0])).collect()))
}
