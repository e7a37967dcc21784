// SPDX-License-Identifier: GPL-2.0-or-later
//! What a module is built from, wherever it is built: its source, and what the administrator adds to it.

use std::fs;
use std::io;
use std::path::Path;

use memchr::memmem;

use crate::model::module::Id;
use crate::model::site::Site;
use crate::system::digest::{Digest, Tree};

/// A module's source.
#[derive(Debug, Clone)]
pub struct Source {
    /// The digest of its files, and of the administrator's for it.
    pub content: String,
    /// Whether some Makefile in it has its words from programs.
    pub runs_programs: bool,
}

impl Source {
    /// Looks at all of it.
    pub fn of(site: &Site, id: &Id) -> io::Result<Self> {
        let mut runs_programs = false;
        let source = Tree::walk(&fs::canonicalize(site.tree.source_link(id))?)?;
        let mut content = Digest::new("source");
        content.add(source.content_seen(|name, text| runs_programs |= is_makefile(name) && has_programs(text))?);
        let ours = site.paths.etc().join(&id.name);
        if ours.is_dir() {
            content.add(Tree::walk(&ours)?.content()?);
        }
        Ok(Self { content: content.finish(), runs_programs })
    }
}

fn is_makefile(name: &Path) -> bool {
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    name.contains("akefile") || name.starts_with("Kbuild") || name.ends_with(".mk") || name.ends_with(".mak")
}

/// Whether a Makefile has its words from programs.
fn has_programs(text: &[u8]) -> bool {
    ["$(shell", "${shell", "!=", "pkg-config"].iter().any(|word| memmem::find(text, word.as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makefiles_may_have_their_words_from_programs() {
        for (name, text, runs) in [
            ("Makefile", "obj-m := a.o\n", false),
            ("src/Kbuild", "V := $(shell uname -r)\n", true),
            ("a.mk", "X != date\n", true),
            ("a.c", "if (a != b) {}", false),
        ] {
            assert_eq!(is_makefile(Path::new(name)) && has_programs(text.as_bytes()), runs, "{name}");
        }
    }
}
