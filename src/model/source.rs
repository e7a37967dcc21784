// SPDX-License-Identifier: GPL-2.0-or-later
//! What a module is built from, wherever it is built: its source, and what the administrator adds to it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use memchr::memmem;

use crate::model::caller;
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
    /// The caller's variables that its makefiles and scripts name.
    pub variables: BTreeMap<String, String>,
}

impl Source {
    /// Looks at all of it.
    pub fn of(site: &Site, id: &Id) -> io::Result<Self> {
        let (mut runs_programs, mut variables) = (false, BTreeMap::new());
        let mut callers = caller::variables();
        callers.retain(|name, _| caller::matters(name, false));
        let source = Tree::walk(&fs::canonicalize(site.tree.source_link(id))?)?;
        let mut content = Digest::new("source");
        content.add(source.content_seen(|name, text| {
            if is_makefile(name) {
                runs_programs |= has_programs(text);
            }
            if is_makefile(name) || name == Path::new("dkms.conf") || text.starts_with(b"#!") {
                let named = callers.iter().filter(|(name, _)| has_word(text, name.as_bytes()));
                variables.extend(named.map(|(name, value)| (name.clone(), value.clone())));
            }
        })?);
        let ours = site.paths.etc().join(&id.name);
        if ours.is_dir() {
            content.add(Tree::walk(&ours)?.content()?);
        }
        Ok(Self { content: content.finish(), runs_programs, variables })
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

/// Whether a name stands there as a whole.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let whole = |at: usize| !part(at.checked_sub(1).and_then(|at| text.get(at))) && !part(text.get(at + word.len()));
    memmem::find_iter(text, word).any(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_as_a_whole() {
        for (text, has) in [("$(DEBUG)", true), ("ifdef DEBUG", true), ("DEBUGGER _DEBUG DEBUG2", false), ("", false)] {
            assert_eq!(has_word(text.as_bytes(), b"DEBUG"), has, "{text}");
        }
    }

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
