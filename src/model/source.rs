// SPDX-License-Identifier: GPL-2.0-or-later
//! What a module is built from, wherever it is built: its source, and what the administrator adds to it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use memchr::{memchr, memmem};

use crate::model::assembler;
use crate::model::caller;
use crate::model::module::Id;
use crate::model::opaque::{asks_elsewhere, is_configured};
use crate::model::outside::Outside;
use crate::model::site::Site;
use crate::system::digest::{Digest, Tree};

/// A module's source.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Source {
    /// The digest of its files, and of the administrator's for it.
    pub content: String,
    /// What its makefiles and scripts name outside of it.
    pub names: Outside,
    /// The digest of what was there, on this machine.
    pub outside: String,
    /// Whether some Makefile in it runs programs that may look around.
    pub runs_programs: bool,
    /// Whether one asks which kernel runs.
    pub asks_release: bool,
    /// Whether one names symbols that other modules export.
    pub takes_symbols: bool,
    /// The caller's variables that its makefiles and scripts name.
    pub variables: BTreeMap<String, String>,
    /// Whether one runs compilers by itself, which look where packages and the administrator have headers.
    pub compiles: bool,
    /// A file of it by which a compiler may ask for files that no digest speaks of, or by which a make asks the machine what
    /// none does.
    pub asks: Option<PathBuf>,
    /// Whether a file of it names the variable by which kbuild is given more options.
    pub names_options: bool,
}

impl Source {
    /// Looks at all of it.
    pub fn of(site: &Site, id: &Id) -> io::Result<Self> {
        let (mut runs_programs, mut takes_symbols, mut variables) = (false, false, BTreeMap::new());
        let (mut asks, mut compiles, mut assembles, mut asks_release) = (None, false, false, false);
        let mut names_options = false;
        let mut outside = Outside::new(site.tree.root(), &id.name);
        let mut callers = caller::variables();
        callers.retain(|name, _| caller::is_seen(name));
        let mut look = |name: &Path, text: &[u8]| {
            if asks.is_none() && asks_elsewhere(text) {
                asks = Some(name.to_owned());
            }
            names_options |= self::names_options(text);
            let makes = is_makefile(name) || SHELL.iter().any(|shell| memmem::find(text, shell).is_some());
            asks_release |= makes && memmem::find(text, b"uname").is_some();
            runs_programs |= makes && has_programs(text);
            compiles |= makes && runs_compilers(text);
            if asks.is_none() && makes && asks_machine(text) {
                asks = Some(name.to_owned());
            }
            let makes = makes || is_included(name, text);
            let is_script = is_script(name, text);
            takes_symbols |= (makes || is_script) && takes_symbols_by(text);
            if makes || is_script || is_patch(name) || name == Path::new("dkms.conf") {
                let named = callers.iter().filter(|(name, _)| names_variable(text, name));
                variables.extend(named.map(|(name, value)| (name.clone(), value.clone())));
                outside.add(text);
            }
            assembles |= assembler::includes(text, is_configured(name));
        };
        let mut trees = vec![Tree::walk(&fs::canonicalize(site.tree.source_link(id))?)?];
        let ours = site.paths.etc().join(&id.name);
        if ours.is_dir() {
            trees.push(Tree::walk(&ours)?);
        }
        let mut content = Digest::new("source");
        for tree in &trees {
            content.add(tree.content_seen(&mut look)?);
        }
        // The file may be named elsewhere than it is included, and what a program reads anywhere in it.
        if assembles || compiles {
            for tree in &trees {
                tree.look(|name, text| {
                    if is_code(name) {
                        outside.add_files(text);
                    }
                })?;
            }
        }
        let (content, names, outside) = (content.finish(), outside.clone(), outside.digest());
        Ok(Self {
            content,
            names,
            outside,
            runs_programs,
            takes_symbols,
            variables,
            compiles,
            asks,
            asks_release,
            names_options,
        })
    }
}

fn is_makefile(name: &Path) -> bool {
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    let begins = ["Kbuild", "Rules.", "Make."].iter().any(|begin| name.starts_with(begin));
    name.contains("akefile") || begins || [".mk", ".mak", ".make"].iter().any(|end| name.ends_with(end))
}

/// How scripts are called that somebody names to their interpreter.
const SCRIPTS: [&str; 7] = ["sh", "bash", "awk", "pl", "py", "sed", "lds"];

/// Whether this is a script, for a shell or another program: a linker has them, too.
fn is_script(name: &Path, text: &[u8]) -> bool {
    text.starts_with(b"#!") || has_end(name, &SCRIPTS)
}

/// Whether it is what compilers and assemblers read.
fn is_code(name: &Path) -> bool {
    has_end(name, &["c", "h", "S", "s", "inc", "cc", "cpp", "cxx", "hpp", "asm", "def", "in"])
}

fn has_end(name: &Path, ends: &[&str]) -> bool {
    name.extension().is_some_and(|end| ends.iter().any(|known| end == *known))
}

/// Whether it may make a makefile name something else.
fn is_patch(name: &Path) -> bool {
    name.extension().is_some_and(|end| end == "patch" || end == "diff")
}

/// How lines begin that only makefiles have.
const OF_MAKEFILES: [&str; 11] = [
    "include ",
    "-include ",
    "sinclude ",
    "ifdef ",
    "ifndef ",
    "ifeq ",
    "ifneq ",
    "ccflags-",
    "obj-",
    "EXTRA_CFLAGS",
    "KBUILD_",
];

/// Files as large as this, in bytes, are no makefiles.
const LARGE: usize = 1 << 20;

/// Whether a makefile may include this as another one, whatever it is called.
fn is_included(name: &Path, text: &[u8]) -> bool {
    let is_source = name.extension().is_some_and(|end| ["c", "h", "S"].iter().any(|known| end == *known));
    let begins = |line: &[u8]| OF_MAKEFILES.iter().any(|begin| line.starts_with(begin.as_bytes()));
    !is_source && text.len() < LARGE && memchr(0, text).is_none() && text.split(|byte| *byte == b'\n').any(begins)
}

/// Whether what builds names a file of symbols beside the kernel's own.
pub fn takes_symbols_by(text: &[u8]) -> bool {
    ["KBUILD_EXTRA_SYMBOLS", "Module.symvers"].iter().any(|word| memmem::find(text, word.as_bytes()).is_some())
}

/// How makefiles have a program's words.
const SHELL: [&[u8]; 2] = [b"$(shell", b"${shell"];

/// What these may ask without looking around: which kernel runs, of which the key speaks then, and where they are.
const ANSWERED: [&str; 4] = ["uname -r", "uname -m", "uname -s", "pwd"];

/// Whether a Makefile has its words from programs, or runs some that are not make's usual ones.
fn has_programs(text: &[u8]) -> bool {
    let words = ["!=", "pkg-config", "hostprogs", "configure", ".RECIPEPREFIX"];
    words.iter().any(|word| memmem::find(text, word.as_bytes()).is_some())
        || asks_programs(text)
        || text.split(|byte| *byte == b'\n').filter_map(recipe).any(|line| !is_plain(line))
}

fn asks_programs(text: &[u8]) -> bool {
    let is_answered = |asked: &[u8]| {
        let end = asked.iter().position(|byte| b")}\n".contains(byte)).unwrap_or(asked.len());
        ANSWERED.iter().any(|known| asked[..end].trim_ascii() == known.as_bytes())
    };
    SHELL.iter().any(|shell| memmem::find_iter(text, shell).any(|at| !is_answered(&text[at + shell.len()..])))
}

/// What a line of a makefile has a shell do: behind a tab, or behind a rule.
fn recipe(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"\t").or_else(|| {
        let rule = memchr(b':', line)?;
        let end = rule + memchr(b';', &line[rule..])?;
        (line.get(rule + 1) != Some(&b'=')).then_some(&line[end + 1..])
    })
}

/// The lines of a makefile that run programs.
fn commands(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let has = |line: &[u8], word: &[u8]| memmem::find(line, word).is_some();
    let runs = move |line: &&[u8]| {
        let says = || has(line, b"!=") || SHELL.iter().any(|shell| has(line, shell));
        !line.trim_ascii_start().starts_with(b"#") && (recipe(line).is_some() || says())
    };
    text.split(|byte| *byte == b'\n').filter(runs)
}

/// Whether a Makefile has programs compiled for the machine that builds, or runs compilers by itself.
fn runs_compilers(text: &[u8]) -> bool {
    const COMPILERS: [&str; 10] = ["CC", "HOSTCC", "CXX", "CPP", "gcc", "g++", "cc", "c++", "clang", "cpp"];
    let has = |text: &[u8], word: &str| has_word(text, word.as_bytes());
    ["hostprogs", "host-progs", "hostprogs-y"].iter().any(|word| has(text, word))
        || commands(text).any(|line| COMPILERS.iter().any(|word| has(line, word)))
}

/// Whether a Makefile asks what is another thing on each machine or at each time, of which no key speaks. That of a
/// date is not: what was kept was made then.
fn asks_machine(text: &[u8]) -> bool {
    const WHO: [&str; 8] =
        ["hostname", "hostnamectl", "dnsdomainname", "uuidgen", "lspci", "lsusb", "lscpu", "dmidecode"];
    const SAID: [&str; 4] = ["uname -n", "uname -a", "--nodename", "RANDOM"];
    // A recipe that installs may well look; what is compiled is told by variables.
    let asks = |line: &[u8]| {
        WHO.iter().any(|word| has_word(line, word.as_bytes()))
            || SAID.iter().any(|word| memmem::find(line, word.as_bytes()).is_some())
    };
    commands(text).any(asks)
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
    let alone = !line.contains([';', '&', '|', '`', '<']) && !line.contains("$$(") && !asks_programs(line.as_bytes());
    first.starts_with('#') || alone && PLAIN.contains(&first)
}

/// Whether a makefile or a script means a variable of the caller's.
fn names_variable(text: &[u8], name: &str) -> bool {
    // Of those that say who calls there is no need to speak unless a variable of make's or a shell's is meant.
    if caller::matters(name, false) { has_word(text, name.as_bytes()) } else { has_variable(text, name) }
}

/// What make and shells have before the name of a variable that they are asked about.
const ASKS: [&str; 10] =
    ["ifdef", "ifndef", "defined", "-v", "$(origin", "${origin", "$(flavor", "${flavor", "$(value", "${value"];

/// Whether a variable of this name is asked for, by its value or in other ways: `$NAME`, `$(NAME)`, `ifdef NAME`.
fn has_variable(text: &[u8], name: &str) -> bool {
    let asks = |at: usize| {
        let before = &text[..at];
        let bare = before.strip_suffix(b"(").or_else(|| before.strip_suffix(b"{")).unwrap_or(before);
        let word = before.trim_ascii_end();
        let by_word = word.len() < at && ASKS.iter().any(|ask| word.ends_with(ask.as_bytes()));
        bare.ends_with(b"$") || by_word
    };
    let ends = |at: usize| {
        let after = text.get(at + name.len());
        !after.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    memmem::find_iter(text, name).any(|at| ends(at) && asks(at))
}

/// Whether a name stands there as a whole.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let whole = |at: usize| !part(at.checked_sub(1).and_then(|at| text.get(at))) && !part(text.get(at + word.len()));
    memmem::find_iter(text, word).any(whole)
}

/// Whether a text names KCFLAGS: who gives kbuild options by it, or asks whether there are any, is to have it to himself.
pub fn names_options(text: &[u8]) -> bool {
    has_word(text, b"KCFLAGS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_asked_for() {
        for (text, has) in [
            ("$(USER)", true),
            ("$USER", true),
            ("a ${USER}", true),
            ("USER", false),
            ("ifdef USER\n", true),
            ("else ifndef  USER", true),
            ("$(origin USER)", true),
            ("$(flavor USER)", true),
            ("$(value USER)", true),
            ("${value USER}", true),
            ("$(if $(defined USER))", true),
            ("[ -v USER ]", true),
            ("$USERS", false),
            ("$(USERS)", false),
            ("ifdef USERS", false),
            ("the value USER has", false),
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
    fn a_makefile_is_known_by_what_is_in_it() {
        for (name, text, is) in [
            ("flags.inc", "# Flags\nccflags-y += -DA\n", true),
            ("settings", "-include /etc/a.mk", true),
            ("config.in", "ifdef A\nB := 1\nendif", true),
            ("flags.inc", "static int table[] = {\n};\n", false),
            ("a.c", "include this\n", false),
            ("a.o", "obj-m\0", false),
            ("README", "Files that include others.\n", false),
        ] {
            assert_eq!(is_included(Path::new(name), text.as_bytes()), is, "{name}");
        }
        let large = "obj-m := a.o\n".repeat(LARGE / 8);
        assert!(!is_included(Path::new("large.txt"), large.as_bytes()));
    }

    #[test]
    fn makefiles_may_have_their_words_from_programs() {
        for (name, text, runs) in [
            ("Makefile", "obj-m := a.o\n", false),
            ("src/Kbuild", "V := $(shell ./version)\n", true),
            ("src/Kbuild", "V := $(shell uname -r)\nP := ${shell pwd }\n", false),
            ("src/Kbuild", "V := $(shell uname -r | cut -d. -f1)\n", true),
            ("Makefile", "V := $(shell uname -r)\nW := $(shell cat VERSION)\n", true),
            ("Makefile", "i:\n\tcp a.ko /lib/modules/$(shell uname -r)\n", false),
            ("Makefile", "a.h:\n\techo \"$$(lsb_release -rs)\" >$@\n", true),
            ("Makefile", "a.h: ; ./look >$@\n", true),
            ("Makefile", "A := a;b\na: ; @true\n", false),
            ("Rules.make", "V != ./look\n", true),
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

    #[test]
    fn what_makefiles_ask_of_the_machine_is_known() {
        for (text, compiles, asks) in [
            ("ccflags-y += -DV=$(shell hostname)", false, true),
            ("V != uname -n", false, true),
            ("V := $(shell uname -r)", false, false),
            ("# hostname", false, false),
            ("hostname := x", false, false),
            ("a.h:\n\techo $$RANDOM >$@", false, true),
            ("a.h: ; hostname >$@", false, true),
            ("hostprogs := gen", true, false),
            ("a.h:\n\t$(HOSTCC) gen.c -o gen && ./gen >$@", true, false),
            ("V := $(shell $(CC) -dumpversion)", true, false),
            ("CC := gcc", false, false),
        ] {
            assert_eq!((runs_compilers(text.as_bytes()), asks_machine(text.as_bytes())), (compiles, asks), "{text}");
        }
    }
}
