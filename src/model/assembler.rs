// SPDX-License-Identifier: GPL-2.0-or-later
//! What has an assembler read files, of which no compiler tells, in any spelling that is known.

use std::borrow::Cow;
use std::cell::OnceCell;

use memchr::{memchr_iter, memchr2_iter, memmem};

/// What includes a file: one that holds bytes, and one that is assembled.
const DIRECTIVES: [&[u8]; 2] = [b".incbin", b".include"];

/// How such a line may begin; `.` alone goes on too often with anything else.
const SHORTEST: usize = 2;

/// Whether an assembler may be told to include a file by this text. Of an `.include` alone it is not said where
/// `is_script`: those of configure scripts say nothing to an assembler.
pub fn includes(text: &[u8], is_script: bool) -> bool {
    has_incbin(text) || !is_script && (is_told(text) || is_pieced(text) && is_plain(&joined(text)))
}

fn is_plain(text: &[u8]) -> bool {
    has_incbin(text) || memchr_iter(b'.', text).any(|at| is_include(&text[at..]))
}

/// An assembler does not tell large letters from small ones. The dot may be another string's.
fn has_incbin(text: &[u8]) -> bool {
    memchr2_iter(b'b', b'B', text).any(|at| {
        let word = at.checked_sub(3).and_then(|start| text.get(start..at + 3));
        word.is_some_and(|word| word.eq_ignore_ascii_case(b"incbin"))
    })
}

fn is_include(text: &[u8]) -> bool {
    text.get(..DIRECTIVES[1].len()).is_some_and(|word| word.eq_ignore_ascii_case(DIRECTIVES[1]))
}

/// Whether it includes something in full, or a macro of the assembler's, or of the preprocessor's, may put the word together.
fn is_told(text: &[u8]) -> bool {
    let looked = OnceCell::new();
    let has_macros = || {
        let starts =
            |at: usize, word: &[u8]| text.get(at..at + word.len()).is_some_and(|it| it.eq_ignore_ascii_case(word));
        *looked.get_or_init(|| memchr_iter(b'.', text).any(|at| starts(at, b".macro") || starts(at, b".irp")))
    };
    let goes_on = |at: usize| match &text[at + 1..] {
        // A parameter; with two of them in a string of C.
        [b'\\', b'\\', after, ..] | [b'\\', after, ..] if is_word(*after) && *after != b'n' => has_macros(),
        [b'i' | b'I', ..] => is_include(&text[at..]) || begins(text, at) && is_part(&text[at + 1..], &has_macros),
        _ => false,
    };
    memchr_iter(b'.', text).any(goes_on)
}

/// Whether this is a part of such a word alone, and what follows is a parameter, another argument of the macro's, or
/// what a macro of the preprocessor's stands for.
fn is_part(text: &[u8], has_macros: &dyn Fn() -> bool) -> bool {
    part_at(text).is_some_and(|length| match &text[length..] {
        [b'\\', b'\\', ..] | [b' ' | b'\t' | b',', ..] => has_macros(),
        [b'"', rest @ ..] => is_named(rest),
        _ => false,
    })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of a part of one of the words, without its dot, that text begins with and that ends there.
fn part_at(text: &[u8]) -> Option<usize> {
    let length = text.iter().take(DIRECTIVES[1].len()).take_while(|byte| is_word(**byte)).count();
    let part = &text[..length];
    let is_part = |word: &&[u8]| word.len() > length + 1 && word[1..][..length].eq_ignore_ascii_case(part);
    (length + 1 >= SHORTEST && DIRECTIVES.iter().any(is_part)).then_some(length)
}

/// Whether what is at this place may begin a line of the assembler's, or an argument.
fn begins(text: &[u8], at: usize) -> bool {
    match &text[..at] {
        [] | [.., b'\\', b'n' | b't'] => true,
        [.., last] => b"\" \t\n;:,".contains(last),
    }
}

/// Whether what follows a string is a macro's name, which may stand for the rest of it.
fn is_named(rest: &[u8]) -> bool {
    rest.trim_ascii_start().first().is_some_and(|byte| is_word(*byte) || *byte == b'#')
}

/// Whether [`joined`] may find a word that is not there otherwise.
fn is_pieced(text: &[u8]) -> bool {
    let ends_in_part = |before: &[u8]| {
        let seen = &before[before.len().saturating_sub(DIRECTIVES[1].len())..];
        let dot = memchr::memrchr(b'.', seen);
        dot.is_some_and(|dot| {
            dot + 1 == seen.len() || part_at(&seen[dot + 1..]).is_some_and(|it| dot + 1 + it == seen.len())
        })
    };
    let is_boundary = |at: usize| match text[at] {
        b'"' => ends_in_part(&text[..at]) && next_string(&text[at + 1..]).is_some(),
        _ => match &text[at + 1..] {
            [b'\n', ..] => ends_in_part(&text[..at]),
            rest => escaped(rest).is_some_and(|(byte, _)| byte.is_ascii_alphabetic() || byte == b'.'),
        },
    };
    memchr2_iter(b'"', b'\\', text).any(is_boundary)
}

/// What the next string holds, if nothing but space is before it.
fn next_string(rest: &[u8]) -> Option<&[u8]> {
    let mut rest = rest.trim_ascii_start();
    while let Some(below) = rest.strip_prefix(b"\\\n") {
        rest = below.trim_ascii_start();
    }
    rest.strip_prefix(b"\"")
}

/// The byte that a number behind a backslash stands for, and how long the number is.
fn escaped(rest: &[u8]) -> Option<(u8, usize)> {
    let (start, radix, most) = if rest.first() == Some(&b'x') { (1, 16, 8) } else { (0, 8, 3) };
    let digits = rest[start..].iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let text = std::str::from_utf8(&rest[start..start + digits]).ok()?;
    let byte = u32::from_str_radix(text, radix).ok()?;
    Some((u8::try_from(byte).ok()?, start + digits))
}

/// A text of C's as an assembler comes to see its strings: those side by side as one, bytes for their numbers.
pub fn joined(text: &[u8]) -> Cow<'_, [u8]> {
    if memmem::find(text, b"\"").is_none() && memmem::find(text, b"\\").is_none() {
        return Cow::Borrowed(text);
    }
    let (mut whole, mut rest, mut in_string) = (Vec::with_capacity(text.len()), text, false);
    while let Some(at) = memchr::memchr3(b'"', b'\\', b'\n', rest) {
        whole.extend_from_slice(&rest[..at]);
        let after = &rest[at + 1..];
        rest = match (rest[at], after) {
            (b'\\', [b'\n', below @ ..]) => below,
            (b'\\', [next, below @ ..]) => match escaped(after) {
                Some((byte, length)) => {
                    whole.push(byte);
                    &after[length..]
                }
                None => {
                    whole.extend([b'\\', *next]);
                    below
                }
            },
            (b'"', _) if in_string => match next_string(after) {
                Some(next) => next,
                None => {
                    in_string = false;
                    whole.push(b'"');
                    after
                }
            },
            (byte, _) => {
                // No string goes on behind its line; a sign in a comment or a character began none.
                in_string = byte == b'"';
                whole.push(byte);
                after
            }
        };
    }
    whole.extend_from_slice(rest);
    Cow::Owned(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_seen() {
        for (text, is) in [
            ("asm(\".incbin \\\"blob\\\"\");", true),
            ("asm(\".inc\" \"bin \\\"blob\\\"\");", true),
            ("asm(\"nop\\n.inc\"\n    \"bin \\\"blob\\\"\");", true),
            ("asm(\"nop;.\" \"incb\" \"in \\\"blob\\\"\");", true),
            ("asm(\".\" \"i\" \"n\" \"c\" \"bin \\\"blob\\\"\");", true),
            ("asm(\".inc\" \\\n \"lude \\\"a.s\\\"\");", true),
            ("asm(\".inc\\\nbin \\\"blob\\\"\");", true),
            ("asm(\".inc\" WHAT);", true),
            ("asm(\"nop\\n\\t.inc\" WHAT);", true),
            ("asm(\".\\x69ncbin \\\"blob\\\"\");", true),
            ("asm(\"\\056\\151ncbin \\\"blob\\\"\");", true),
            ("asm(\".INCBIN \\\"blob\\\"\");", true),
            ("asm(\".IncLude \\\"a.s\\\"\");", true),
            (".macro m a b\n.\\a\\b \"blob\"\n.endm\nm inc bin", true),
            ("asm(\".macro m a b\\n.\\\\a\\\\b \\\"blob\\\"\\n.endm\\nm inc, bin\");", true),
            (".macro m a b\n\\a\\b \"blob\"\n.endm\nm .inc bin", true),
            ("#include \"table.inc\"\n", false),
            ("#include \"table.inc\" // of all\n", false),
            ("puts(\"The end.\" \"In the begin\");", false),
            ("puts(\"file.in\" SUFFIX);", false),
            ("char table[] = \"\\x69\\151\";", false),
            (".macro m a\nadd \\a, .L1\n.endm", false),
            ("a.x = b.i, c.in;", false),
        ] {
            assert_eq!(includes(text.as_bytes(), false), is, "{text}");
        }
        assert!(!includes(b"ac_x.include", true) && includes(b".incbin", true));
    }

    #[test]
    fn strings_are_joined() {
        for (text, expected) in [
            ("a \"b\" \"c\" d", "a \"bc\" d"),
            ("\"/lib/\"\n\t\"firmware/\\x61\"", "\"/lib/firmware/a\""),
            ("\"a\\\"\" \"b\"", "\"a\\\"b\""),
            ("'\"'\n\"b\" \"c\"", "'\"'\n\"bc\""),
            ("a \\\nb", "a b"),
            ("\"a\" X \"b\"", "\"a\" X \"b\""),
            ("\\", "\\"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&joined(text.as_bytes())), expected, "{text}");
        }
    }
}
