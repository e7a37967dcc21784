// SPDX-License-Identifier: GPL-2.0-or-later
//! What a module is built from, wherever it is built: its source, and what the administrator adds to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

use crate::model::caller;
use crate::model::module::Id;
use crate::model::site::Site;
use crate::system::digest::{self, Digest, Tree};
use crate::system::directories::names;
use crate::system::files::read_foreign;

/// A module's source.
#[derive(Debug, Clone)]
pub struct Source {
    /// The digest of its files, and of the administrator's for it.
    pub content: String,
    /// The digest of what the administrator has where its makefiles and scripts look, on this machine.
    pub outside: String,
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
        let mut outside = BTreeSet::new();
        let mut callers = caller::variables();
        callers.retain(|name, _| caller::is_seen(name));
        let source = Tree::walk(&fs::canonicalize(site.tree.source_link(id))?)?;
        let mut content = Digest::new("source");
        content.add(source.content_seen(|name, text| {
            let makes = is_makefile(name) || memmem::find(text, b"$(shell").is_some();
            if makes {
                runs_programs |= has_programs(text);
                takes_symbols |= takes_symbols_by(text);
            }
            if makes || name == Path::new("dkms.conf") || text.starts_with(b"#!") {
                // Of those that say who calls there is no need to speak unless a variable of make's or a shell's is meant.
                let is_named = |name: &str| {
                    if caller::matters(name, false) {
                        has_word(text, name.as_bytes())
                    } else {
                        has_variable(text, name)
                    }
                };
                let named = callers.iter().filter(|(name, _)| is_named(name));
                variables.extend(named.map(|(name, value)| (name.clone(), value.clone())));
                outside.extend(paths_outside(text));
            } else {
                let included = ["incbin", "__has_include"].iter().flat_map(|word| memmem::find_iter(text, word));
                outside.extend(included.flat_map(|at| paths_outside(line_at(text, at))));
            }
        })?);
        let mut state = Digest::new("outside");
        for path in &outside {
            state.add(path.as_os_str().as_bytes()).add(state_of(path));
        }
        let ours = site.paths.etc().join(&id.name);
        if ours.is_dir() {
            content.add(Tree::walk(&ours)?.content()?);
        }
        Ok(Self { content: content.finish(), outside: state.finish(), runs_programs, takes_symbols, variables })
    }
}

/// Where an administrator has files that a build may read; what packages have counts by their versions.
const OUTSIDE: [&str; 5] = ["/etc/", "/home/", "/opt/", "/srv/", "/usr/local/"];

/// What is there is another thing at each look.
const PASSING: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

/// Files larger than this count by what stat(2) says of them, in bytes.
const LARGEST_READ: u64 = 16 << 20;

/// The paths in a text that lead to such files.
fn paths_outside(text: &[u8]) -> impl Iterator<Item = PathBuf> {
    let is_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@~".contains(byte);
    let words = text.split(move |byte| !is_path(byte));
    // A word may have something in front, as an option has.
    let path = |word: &[u8]| OUTSIDE.iter().filter_map(|place| memmem::find(word, place.as_bytes())).min();
    words.filter_map(move |word| Some(Path::new(OsStr::from_bytes(&word[path(word)?..])).to_owned()))
}

/// What there is now, as far as a build sees it.
fn state_of(path: &Path) -> String {
    let real = fs::canonicalize(path).and_then(|real| Ok((real.metadata()?, real)));
    let Ok((meta, real)) = real else { return "nothing".into() };
    // By a link, such as /etc/mtab.
    if PASSING.iter().any(|place| real.starts_with(place)) {
        return "something".into();
    }
    // It may be anybody's, who may put something else there.
    let read = real.strip_prefix("/").ok().and_then(|real| read_foreign(Path::new("/"), real, LARGEST_READ).ok());
    match read {
        Some(bytes) => digest::of(&bytes),
        None if meta.is_dir() => format!("directory {:?}", names(path)),
        None => format!("{} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec()),
    }
}

fn line_at(text: &[u8], at: usize) -> &[u8] {
    text[at..].split(|byte| *byte == b'\n').next().unwrap_or_default()
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

/// Whether a variable of this name is asked for: `$NAME`, `$(NAME)`, `${NAME}`.
fn has_variable(text: &[u8], name: &str) -> bool {
    let asks = |at: usize| {
        let before = text[..at].strip_suffix(b"(").or_else(|| text[..at].strip_suffix(b"{")).unwrap_or(&text[..at]);
        let after = text.get(at + name.len());
        before.ends_with(b"$") && !after.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    memmem::find_iter(text, name).any(asks)
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
    fn what_lies_outside_is_found_in_a_text() -> io::Result<()> {
        let paths = |text: &str| paths_outside(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(
            paths("-include /etc/a.mk\nifneq ($(wildcard /opt/b/x.h),)\nCF += -I/usr/local/inc # /usr/bin/x /var/log"),
            ["/etc/a.mk", "/opt/b/x.h", "/usr/local/inc"].map(PathBuf::from)
        );
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("a");
        let mut last = state_of(&file);
        for text in ["one", "two"] {
            fs::write(&file, text)?;
            assert_ne!(state_of(&file), last);
            last = state_of(&file);
        }
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
        assert!(!state_of(&dir.path().join("pipe")).is_empty(), "nobody waits for who writes to it");
        let before = state_of(dir.path());
        fs::write(dir.path().join("b"), "")?;
        assert_ne!(state_of(dir.path()), before);
        Ok(())
    }

    #[test]
    fn a_variable_is_asked_for() {
        for (text, has) in [
            ("$(USER)", true),
            ("$USER", true),
            ("a ${USER}", true),
            ("USER", false),
            ("$USERS", false),
            ("$(USERS)", false),
        ] {
            assert_eq!(has_variable(text.as_bytes(), "USER"), has, "{text}");
        }
    }

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
