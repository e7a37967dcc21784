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
    /// Whether some Makefile in it runs programs that may look around.
    pub runs_programs: bool,
    /// Whether one names symbols that other modules export.
    pub takes_symbols: bool,
    /// The caller's variables that its makefiles and scripts name.
    pub variables: BTreeMap<String, String>,
}

impl Source {
    /// Looks at all of it.
    pub fn of(site: &Site, id: &Id) -> io::Result<Self> {
        let (mut runs_programs, mut takes_symbols, mut variables) = (false, false, BTreeMap::new());
        let mut callers = caller::variables();
        callers.retain(|name, _| caller::matters(name, false));
        let source = Tree::walk(&fs::canonicalize(site.tree.source_link(id))?)?;
        let mut content = Digest::new("source");
        content.add(source.content_seen(|name, text| {
            if is_makefile(name) {
                runs_programs |= has_programs(text);
                takes_symbols |= takes_symbols_by(text);
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
        Ok(Self { content: content.finish(), runs_programs, takes_symbols, variables })
    }
}

fn is_makefile(name: &Path) -> bool {
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    name.contains("akefile") || name.starts_with("Kbuild") || name.ends_with(".mk") || name.ends_with(".mak")
}

/// Whether what builds names a file of symbols beside the kernel's own.
pub fn takes_symbols_by(text: &[u8]) -> bool {
    ["KBUILD_EXTRA_SYMBOLS", "Module.symvers"].iter().any(|word| memmem::find(text, word.as_bytes()).is_some())
}

/// Whether a Makefile has its words from programs, or runs some that are not make's usual ones.
fn has_programs(text: &[u8]) -> bool {
    let words = ["$(shell", "${shell", "!=", "pkg-config", "hostprogs", "configure"];
    words.iter().any(|word| memmem::find(text, word.as_bytes()).is_some())
        || text.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"\t")).any(|line| !is_plain(line))
}

/// Whether a line of a recipe only has make go on, or moves files about.
fn is_plain(line: &[u8]) -> bool {
    const PLAIN: [&str; 18] = [
        "$(MAKE)", "${MAKE}", "make", "$(RM)", "rm", "cp", "mv", "mkdir", "rmdir", "install", "ln", "echo", "true",
        ":", "depmod", "modprobe", "insmod", "rmmod",
    ];
    let line = String::from_utf8_lossy(line);
    let line = line.trim_start_matches(['@', '-', '+', ' ', '\t']);
    let first = line.split_whitespace().next().unwrap_or("#");
    let alone = !line.contains([';', '&', '|', '`', '<']) && !line.contains("$(shell");
    first.starts_with('#') || alone && PLAIN.contains(&first)
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
            ("Makefile", "all:\n\t$(MAKE) -C $(KDIR) M=$(CURDIR) modules\n\t@rm -f *.o\n", false),
            ("Makefile", "a.h:\n\tsh configure >$@\n", true),
            ("Makefile", "a.h:\n\t./look >$@\n", true),
            ("Makefile", "all:\n\tmake modules && ./look\n", true),
            ("Kbuild", "hostprogs := mk\n", true),
            ("a.c", "if (a != b) {}", false),
        ] {
            assert_eq!(is_makefile(Path::new(name)) && has_programs(text.as_bytes()), runs, "{name}");
        }
    }
}
