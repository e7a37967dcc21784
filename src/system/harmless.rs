// SPDX-License-Identifier: GPL-2.0-or-later
//! Text that others wrote, on its way to a terminal, now or some time: what would move the cursor, change the title or
//! answer in the user's name is shown instead of done.

/// One stream of text, in pieces.
#[derive(Debug, Default)]
pub struct Harmless {
    /// The begin of a character whose end has not come yet.
    held: Vec<u8>,
}

/// Who gets the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Somebody at a terminal.
    Terminal,
    /// A pipe or a file: bytes are what they are, but for control characters.
    Other,
}

impl Harmless {
    /// The text as this reader may have it: line ends and tabs as they are, other control characters as `cat -v` shows
    /// them; on a terminal, what is no UTF-8 as U+FFFD. The end of a character may come with the next piece.
    pub fn pass(&mut self, text: &[u8], reader: Reader) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(text);
        let mut passed = Vec::with_capacity(bytes.len());
        let mut rest = bytes.as_slice();
        while let Some(chunk) = rest.utf8_chunks().next() {
            chunk.valid().chars().for_each(|c| show(c, reader, &mut passed));
            rest = &rest[chunk.valid().len() + chunk.invalid().len()..];
            if rest.is_empty() && is_begin(chunk.invalid(), reader) {
                self.held = chunk.invalid().to_vec();
            } else if reader == Reader::Other {
                passed.extend_from_slice(chunk.invalid());
            } else if !chunk.invalid().is_empty() {
                passed.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        passed
    }
}

/// Whether a character is nothing but text in a line.
pub fn is_text(c: char) -> bool {
    // With the last ones a terminal writes from right to left.
    !matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether more bytes could make a character of it, one that matters to the reader: all control characters of two bytes
/// begin with the same.
fn is_begin(bytes: &[u8], reader: Reader) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
        && (reader == Reader::Terminal || bytes == b"\xc2")
}

fn show(c: char, reader: Reader, into: &mut Vec<u8>) {
    match c {
        '\n' | '\t' => into.push(c as u8),
        // A NUL does nothing anywhere.
        '\r' | '\0' if reader == Reader::Other => into.push(c as u8),
        '\0'..='\x1f' => into.extend([b'^', c as u8 + b'@']),
        '\x7f' => into.extend(b"^?"),
        c if is_text(c) || (reader == Reader::Other && !c.is_control()) => {
            into.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        _ => into.extend("\u{fffd}".as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_text_passes() {
        for (text, expected) in [
            (&b"plain\ttext\n"[..], "plain\ttext\n"),
            (b"\x1b[2J\x1b]0;title\x07", "^[[2J^[]0;title^G"),
            (b"over\rwritten\x08\x7f\0", "over^Mwritten^H^?^@"),
            ("\u{9b}2J \u{202e}gpj.exe \u{e4}\u{1f600}".as_bytes(), "\u{fffd}2J \u{fffd}gpj.exe \u{e4}\u{1f600}"),
            (b"\x9b2J\xff\xc3(", "\u{fffd}2J\u{fffd}\u{fffd}("),
        ] {
            assert_eq!(String::from_utf8_lossy(&Harmless::default().pass(text, Reader::Terminal)), expected);
        }
    }

    #[test]
    fn elsewhere_control_characters_alone_are_shown() {
        for (text, expected) in [
            (&b"plain\ttext\r\n"[..], &b"plain\ttext\r\n"[..]),
            (b"\x1b[2J\x1b]0;title\x07\0", b"^[[2J^[]0;title^G\0"),
            ("\u{9b}2J \u{e4}\u{1f600}".as_bytes(), "\u{fffd}2J \u{e4}\u{1f600}".as_bytes()),
            (b"gr\xfcn\xff\xc3(", b"gr\xfcn\xff\xc3("),
        ] {
            assert_eq!(Harmless::default().pass(text, Reader::Other), expected);
        }
        let mut harmless = Harmless::default();
        assert_eq!(harmless.pass(b"\xe2\x82", Reader::Other), b"\xe2\x82");
        assert_eq!(harmless.pass(b"\xc2", Reader::Other), b"");
        assert_eq!(harmless.pass(b"\x9b2J", Reader::Other), "\u{fffd}2J".as_bytes());
    }

    #[test]
    fn characters_may_come_in_pieces() {
        let text = "\u{e4} \u{20ac} \u{1f600}\n";
        for piece in 1..5 {
            let mut harmless = Harmless::default();
            let passed: Vec<u8> =
                text.as_bytes().chunks(piece).flat_map(|piece| harmless.pass(piece, Reader::Terminal)).collect();
            assert_eq!(String::from_utf8_lossy(&passed), text, "{piece}");
        }
        let mut harmless = Harmless::default();
        assert_eq!(harmless.pass(b"\xe2\x82", Reader::Terminal), b"");
        assert_eq!(harmless.pass(b"x", Reader::Terminal), "\u{fffd}x".as_bytes());
    }
}
