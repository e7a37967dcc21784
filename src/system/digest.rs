// SPDX-License-Identifier: GPL-2.0-or-later
//! Digests (SHA-256, in hexadecimal) of what things are made from, and notes of those of large directories.

mod notes;
mod tree;
mod walk;

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

pub use notes::Notes;
pub use tree::Tree;
pub use walk::MOST_SEEN;

/// A digest in the making. Each part counts with its length, so that no two lists of parts are alike.
#[derive(Debug, Clone)]
pub struct Digest(Sha256);

impl Digest {
    /// Of nothing yet; `kind` keeps digests of different things apart.
    pub fn new(kind: &str) -> Self {
        let mut digest = Self(Sha256::new());
        digest.add(kind);
        digest
    }

    /// Adds one part.
    pub fn add(&mut self, part: impl AsRef<[u8]>) -> &mut Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// The digest, 64 digits.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The digest of some bytes.
pub fn of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The digest of all that can be read, which is not held in memory.
pub fn of_all(from: &mut impl Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(from, &mut digest)?;
    Ok(hex(&digest.finalize()))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let digest = |parts: &[&str]| {
            let mut digest = Digest::new("test");
            for part in parts {
                digest.add(part);
            }
            digest.finish()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["a"]), digest(&["a", ""]));
        assert_eq!(of(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(of_all(&mut &b"abc"[..]).ok(), Some(of(b"abc")));
    }
}
