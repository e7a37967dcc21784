// SPDX-License-Identifier: GPL-2.0-or-later
//! Files of a source by which a compiler may read, or look for, what it does not tell of.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use memchr::{memchr, memmem};

use crate::model::assembler::includes;
use crate::model::headers::{AUTOCONF, OF_THE_VERSION, is_by_product, is_called_header, is_header, is_tried};
use crate::system::digest::MOST_SEEN;

/// Whether an object made with this file may hold what its compiler does not say that it read: what the assembler
/// includes, or what names the kernel's version in its configuration, which is left out of what objects are kept under.
pub fn is_opaque(name: &Path, bytes: &[u8]) -> bool {
    if is_record(name) {
        return false;
    }
    // Not all of it was seen. What has a NUL in it is no source.
    let is_cut = bytes.len() as u64 >= MOST_SEEN && memchr(0, bytes).is_none();
    let has = |word: &str| memmem::find(bytes, word.as_bytes()).is_some();
    is_cut
        || asks_elsewhere(bytes)
        || includes_elsewhere(name, bytes)
        || OF_THE_VERSION.iter().any(|name| has(name))
        // Of what a header reads that says so the compiler does not tell.
        || has("system_header")
        || includes(bytes, is_configured(name))
        || name.ends_with(AUTOCONF)
}

/// Whether a file of this name is what kbuild, modpost or a configure script leave of what they tried. Whatever is in it, who
/// includes it is opaque himself.
fn is_record(name: &Path) -> bool {
    !is_header(name) || name.ends_with("config.log") || name.as_os_str().as_bytes().ends_with(b".mod.c")
}

/// Whether it is a configure script, or what one is made of: what these include says nothing to an assembler.
pub fn is_configured(name: &Path) -> bool {
    name.extension().is_some_and(|end| end == "m4") || name.ends_with("configure")
}

/// By what a text asks whether there is a file, beside their forms that go on with `_next`.
const ASKS: [&str; 2] = ["__has_include", "__has_embed"];

/// Bytes that are looked at behind such a word: all of a line, unless somebody wants it to take for ever.
const LONGEST_LINE: usize = 4096;

/// Whether a text asks for files of which it cannot be told here that they would be headers below a directory in which
/// headers are looked for. Which of these there are is known; who asks for others learns what no key says.
pub fn asks_elsewhere(text: &[u8]) -> bool {
    ASKS.iter().any(|word| {
        memmem::find_iter(text, word).any(|at| {
            let after = &text[at + word.len()..];
            // A stand-in for compilers without it asks for nothing.
            !is_name_at(text, at) && !asks_plainly(after.strip_prefix(b"_next").unwrap_or(after))
        })
    }) || memmem::find_iter(text, HALF).any(|at| {
        let after = &text[at + HALF.len()..];
        !after.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    })
}

/// What such a word begins with, where the rest of it is put there in some other way.
const HALF: &[u8] = b"__has_";

/// Whether the word at this place is what a `#define` is for, or a question whether there is one, or what the end of a
/// condition is told to be of.
fn is_name_at(text: &[u8], at: usize) -> bool {
    let seen = &text[at.saturating_sub(LONGEST_LINE)..at];
    let line = seen.rsplit(|byte| *byte == b'\n').next().unwrap_or(seen).trim_ascii_start();
    if line.strip_prefix(b"#").is_some_and(|line| line.trim_ascii_start().starts_with(b"endif")) {
        return true;
    }
    let before = seen.trim_ascii_end();
    if let Some(before) = before.strip_suffix(b"(") {
        return before.trim_ascii_end().ends_with(b"defined");
    }
    before.len() < seen.len()
        && ["define", "ifdef", "ifndef", "defined"].iter().any(|word| before.ends_with(word.as_bytes()))
}

/// Whether what follows such a word on its line is a question with the header's name in full.
fn asks_plainly(after: &[u8]) -> bool {
    let seen = &after[..after.len().min(LONGEST_LINE)];
    let line = match memchr(b'\n', seen) {
        Some(end) => &seen[..end],
        None if seen.len() < LONGEST_LINE => seen,
        None => return false,
    };
    let line = line.trim_ascii_start();
    // The bracket may stand behind a comment, or on the next line; or another word stands for this one.
    let Some(asked) = line.strip_prefix(b"(") else { return false };
    // A macro may stand for anything.
    let passes = |name: &Path| is_by_product(name) || is_tried(name);
    quoted(asked).is_some_and(|name| !name.is_absolute() && !name.to_string_lossy().contains("..") && !passes(name))
}

/// Whether a text includes, or has a macro for, what may lie beside others of which nothing is known, or what comes while
/// others compile: which of these there are is part of no key.
fn includes_elsewhere(file: &Path, text: &[u8]) -> bool {
    // The directory that is built in has a version's above it, where nothing lies.
    let most_ups = file.components().count();
    let leads_out = |name: &Path| {
        let ups = name.components().filter(|part| *part == Component::ParentDir).count();
        name.is_absolute() || ups > most_ups
    };
    directives(text, b"include").any(|rest| {
        let name = quoted(rest.strip_prefix(b"_next").unwrap_or(rest));
        name.is_some_and(|name| leads_out(name) || is_by_product(name))
    }) || directives(text, b"define").any(|rest| {
        let rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        quoted(&rest[end..]).is_some_and(|name| leads_out(name) && is_called_header(name))
    })
}

/// What follows this directive of the preprocessor's on each line that has it.
fn directives<'a>(text: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    memmem::find_iter(text, word).filter_map(move |at| {
        let end = text[..at].iter().rposition(|byte| !b" \t".contains(byte))? + 1;
        if !text[..end].ends_with(b"#") && !text[..end].ends_with(b"%:") {
            return None;
        }
        let rest = &text[at + word.len()..];
        rest[..rest.len().min(LONGEST_LINE)].split(|byte| *byte == b'\n').next()
    })
}

/// The header's name that this begins with, as it is included.
fn quoted(text: &[u8]) -> Option<&Path> {
    match text.trim_ascii_start().split_first()? {
        (b'<', rest) => before(rest, b'>').map(path),
        (b'"', rest) => before(rest, b'"').map(path),
        _ => None,
    }
}

fn before(text: &[u8], end: u8) -> Option<&[u8]> {
    memchr(end, text).map(|at| &text[..at])
}

fn path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_other_than_headers_that_are_known_is_opaque() {
        for (text, opaque) in [
            ("#if __has_include(<linux/a.h>)", false),
            ("#if __has_include ( \"a.h\" ) && __has_include_next(<a.h>)", false),
            ("#if defined(__has_include)\n#if defined __has_include && X", false),
            ("#ifdef __has_include\n(P)", false),
            ("#define __has_include(name) 0", false),
            ("#ifdef __has_include /* since gcc 5 */", false),
            ("#if defined __has_include // or not", false),
            ("#if defined(__has_include)", false),
            ("#if X\n# endif /* X && __has_include */", false),
            ("#if defined ( __has_include )", false),
            ("#define HAS __has_include\n#if HAS(\"/opt/a.h\")", true),
            ("ccflags-y += -DHAS=__has_include", true),
            ("#if __has_\\\ninclude(\"/opt/a.h\")", true),
            ("X = __has_\nccflags-y += -DHAS=$(X)include", true),
            ("#if __has_attribute(x)", false),
            ("#if __has_embed(\"a.bin\")", false),
            ("#if __has_include(\"/opt/a.h\")", true),
            ("#if __has_include( </opt/a.h>)", true),
            ("#if __has_include(\"../../a.h\")\n", true),
            ("#define P \"/opt/a.h\"\n#if __has_include(P)", true),
            ("#if __has_include (P)", true),
            ("#if __has_include_next(P)", true),
            ("#if __has_embed(P)", true),
            ("#define HAS(name) __has_include(name)", true),
            ("#if __has_include(\\\n\"/opt/a.h\")", true),
            (&"__has_include ".repeat(1000), true),
            ("#if __has_include \\\n(P)", true),
            ("#if __has_include/**/(P)", true),
            ("#if __has_include(\"/*\n", true),
            ("#if __has_include(<linux/a.h\\\n>)", true),
            ("#if __has_include(\"flag.d\")", true),
            ("#if __has_include(\"conftest.h\")", true),
            ("#include \"conftest.h\"", false),
            ("#if __has_include(<a.h>) || __has_include(P)", true),
            ("#include \"../a.h\"", false),
            ("#include \"a.c\"\n# include_next <a.tbl>", false),
            ("include a.d # \"a.o\"", false),
            ("#include \"/opt/a.h\"", true),
            ("#include \"../../opt/a.h\"", true),
            ("#define NAMED </opt/a.h>\n#include NAMED", true),
            ("#\tdefine NAMED(x) \"../../../opt/a.h\"", true),
            ("#define DEVICE \"/dev/a\"\n#define FIRMWARE \"/lib/firmware/a.bin\"\n#define SUM(a) a <b.c, /d>", false),
            ("#include TRACE_INCLUDE(TRACE_INCLUDE_FILE)", false),
            ("# included by \"/opt/a.h\"\n#\ninclude \"/opt/a.h\"", false),
            ("# include </opt/a.h>", true),
            ("#include \"regs.d\"", true),
            ("#\tinclude_next <regs.log>", true),
            (".incbin \"a\"", true),
        ] {
            assert_eq!(is_opaque(Path::new("a.c"), text.as_bytes()), opaque, "{text}");
        }
    }

    #[test]
    fn what_a_compiler_does_not_say_is_looked_for() {
        for (name, text, expected) in [
            ("a.c", "asm(\".incbin \\\"blob\\\"\");", true),
            ("a.c", "asm(\".include \\\"a.s\\\"\");", true),
            ("a.S", "\t.include \"a.s\"", true),
            ("a.c", "asm(\".inc\" WHAT);", true),
            ("a.c", "asm(\".inc\" \"bin \\\"blob\\\"\");", true),
            ("a.S", "\t.INCBIN \"blob\"", true),
            ("a.c", "char *salt = CONFIG_BUILD_SALT;", true),
            ("a.c", "char *ubuntu = CONFIG_VERSION_SIGNATURE;", true),
            ("a.h", "#pragma GCC system_header", true),
            ("include/generated/autoconf.h", "", true),
            ("a.c", "#include \"table.inc\"", false),
            ("aclocal.m4", "ac_x.include", false),
            // What was tried before; but not who would include it.
            ("config.log", "| #include \"/opt/a.h\"", false),
            ("tries/a.mod.c", "BUILD_SALT;", false),
            ("tries/.a.mod.o.cmd", "$(wildcard include/config/BUILD_SALT)", false),
            ("a.c", "#include \"config.log\"", true),
            ("a.c", "#include \"tries/a.mod.c\"", true),
            ("src/autoconf.h", "", false),
        ] {
            assert_eq!(is_opaque(Path::new(name), text.as_bytes()), expected, "{name}: {text}");
        }
    }
}
