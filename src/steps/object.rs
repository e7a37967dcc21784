// SPDX-License-Identifier: GPL-2.0-or-later
//! A result as one file, for other machines: a tarball of what the store has under its key, compressed by zstd. The same
//! result is the same file, wherever it is written.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::pack::Pack;
use crate::model::store::{FILES, MANIFEST, Made};

/// As small as it gets without much memory to read it: it is written once and read a thousand times.
const LEVEL: i32 = 19;

/// The largest result, in bytes.
const LARGEST: u64 = 1 << 30;

/// Writes a result that stands under `key`.
pub fn write(key: &str, made: &Made) -> io::Result<Vec<u8>> {
    let mut pack = Pack::begin(Vec::new(), 0)?;
    pack.text(MANIFEST, &made.manifest(key)?)?;
    for (name, bytes) in &made.files {
        let name = [FILES.as_bytes(), b"/", name.as_os_str().as_encoded_bytes()].concat();
        pack.bytes(&name, 0o644, bytes)?;
    }
    // At once: what knows how much there is takes less room and time for it.
    zstd::bulk::compress(&pack.finish()?, LEVEL)
}

/// Reads one, if it is what stands under `key`.
///
/// # Errors
/// What is wrong with it.
pub fn read(key: &str, object: &[u8]) -> io::Result<Made> {
    let plain = zstd::Decoder::new(object)?.take(LARGEST);
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(plain).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(io::Error::other)?;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            files.insert(name, bytes);
        }
    }
    let manifest = files.remove(MANIFEST).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let made = Made::read(key, &manifest, |name| files.remove(&format!("{FILES}/{name}")));
    made.ok_or_else(|| io::Error::other("it is not what its name says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Made {
        Made {
            told: vec!["Building module(s)".into()],
            files: BTreeMap::from([
                ("module/a.ko".into(), vec![7; 5000]),
                (format!("log/{}", "x".repeat(120)).into(), b"log\n".to_vec()),
            ]),
            ..Made::default()
        }
    }

    #[test]
    fn a_result_is_read_as_it_was_written() -> io::Result<()> {
        let object = write("k", &made())?;
        assert_eq!(object, write("k", &made())?);
        assert_eq!(read("k", &object)?, made());
        assert!(read("other", &object).is_err());
        Ok(())
    }

    #[test]
    fn what_is_cut_off_or_was_changed_is_no_result() -> io::Result<()> {
        let object = write("k", &made())?;
        assert!((0..object.len()).all(|length| read("k", &object[..length]).is_err()));
        assert!(read("k", b"nonsense").is_err());
        Ok(())
    }
}
