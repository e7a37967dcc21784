// SPDX-License-Identifier: GPL-2.0-or-later
//! Exchanging names in a text that comes piece by piece.

use memchr::memmem;

/// Lines without an end are passed on in pieces of this size, in bytes.
const LONGEST: usize = 1 << 16;

/// Names, and what stands for each. A name may be cut in two by the end of a piece, so lines are passed on whole.
#[derive(Debug)]
pub struct Renaming<'a> {
    names: &'a [(String, String)],
    held: Vec<u8>,
}

impl<'a> Renaming<'a> {
    /// Nothing came yet. Without names all is passed on at once.
    pub fn new(names: &'a [(String, String)]) -> Self {
        Self { names, held: Vec::new() }
    }

    /// Takes a piece; gives what can be passed on.
    pub fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let whole = match memchr::memrchr(b'\n', &self.held) {
            Some(end) => end + 1,
            None if self.names.is_empty() || self.held.len() > LONGEST => self.held.len(),
            None => 0,
        };
        let rest = self.held.split_off(if self.names.is_empty() { self.held.len() } else { whole });
        self.renamed(rest)
    }

    /// What was held back.
    pub fn end(mut self) -> Vec<u8> {
        self.renamed(Vec::new())
    }

    fn renamed(&mut self, rest: Vec<u8>) -> Vec<u8> {
        let mut text = std::mem::replace(&mut self.held, rest);
        for (name, other) in self.names {
            let found: Vec<usize> = memmem::find_iter(&text, name).collect();
            for at in found.into_iter().rev() {
                text.splice(at..at + name.len(), other.bytes());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_the_text_is_cut() {
        let names = [("/src/common".to_owned(), "/src/6.1-common".to_owned())];
        let text = "in /src/common/a.h: /src/common\nmake: /src/other\nno end /src/common";
        for size in 1..text.len() {
            let mut renaming = Renaming::new(&names);
            let mut out: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| renaming.pass(piece)).collect();
            out.extend(renaming.end());
            let expected = text.replace("/src/common", "/src/6.1-common");
            assert_eq!(String::from_utf8_lossy(&out), expected, "{size}");
        }
    }

    #[test]
    fn without_names_nothing_waits() {
        let mut renaming = Renaming::new(&[]);
        assert_eq!(renaming.pass(b"a line\nand a half"), b"a line\nand a half");
        assert_eq!(renaming.end(), b"");
    }
}
