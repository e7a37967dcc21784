// SPDX-License-Identifier: GPL-2.0-or-later
//! What a kernel module says of itself, read from its bytes and without running `modinfo`.
//!
//! The bytes may be a stranger's: whatever they are, the worst that comes of them is an error.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use object::{Object, ObjectKind, ObjectSection};

/// More than any module has, less than hurts.
const LIMIT: u64 = 1 << 30;

/// The fields of `.modinfo` that decide about a module here; empty where it has none of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// MODULE_VERSION.
    pub version: String,
    /// The checksum of its source files.
    pub srcversion: String,
    /// The kernel it was made for: the release, then some options.
    pub vermagic: String,
}

impl ModInfo {
    /// Of a file; `.gz`, `.xz` and `.zst` are decompressed.
    pub fn read(path: &Path) -> io::Result<ModInfo> {
        ModInfo::parse(&contents(path)?)
    }

    /// Of the bytes of an uncompressed module.
    pub fn parse(bytes: &[u8]) -> io::Result<ModInfo> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let file = object::File::parse(bytes).map_err(|error| invalid(error.to_string()))?;
        let section = file.section_by_name(".modinfo").ok_or_else(|| invalid("no kernel module".into()))?;
        let data = section.data().map_err(|error| invalid(error.to_string()))?;
        let mut info = ModInfo::default();
        for field in data.split(|&byte| byte == 0) {
            let field = String::from_utf8_lossy(field);
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            // As modinfo shows it, the last one counts where there should be one only.
            match key {
                "version" => info.version = value.into(),
                "srcversion" => info.srcversion = value.into(),
                "vermagic" => info.vermagic = value.into(),
                _ => {}
            }
        }
        Ok(info)
    }

    /// The kernel release in `vermagic`.
    pub fn release(&self) -> &str {
        self.vermagic.split(' ').next().unwrap_or_default()
    }
}

/// The bytes of a module; `.gz`, `.xz` and `.zst` are decompressed.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let bytes = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => limited(MultiGzDecoder::new(file)),
        Some("xz") => {
            let stream = Stream::new_stream_decoder(LIMIT, CONCATENATED)?;
            limited(XzDecoder::new_stream(BufReader::new(file), stream))
        }
        Some("zst") => limited(zstd::Decoder::new(file)?),
        _ => limited(file),
    };
    bytes.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn limited(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than any kernel module"));
    }
    Ok(bytes)
}

/// Whether these are the bytes of an ELF relocatable, as every uncompressed module is.
pub fn is_relocatable_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF") && object::File::parse(bytes).is_ok_and(|file| file.kind() == ObjectKind::Relocatable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    const FIELDS: &str = "name=dummy\\0version=1.2-rc3\\0srcversion=533BB7E5866E52F63B9ACCB\\0depends=a,b_c\\0\
        alias=pci:v0000*\\0alias=x=y\\0\\0nonsense\\0vermagic=6.1.0-13-amd64 SMP preempt mod_unload modversions ";

    /// A stand-in for a module, made by the compiler; linked on demand.
    fn object(fields: &str, options: &[&str]) -> io::Result<Vec<u8>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("m.ko");
        let mut gcc =
            Command::new("gcc").args(["-x", "c", "-", "-o"]).arg(&file).args(options).stdin(Stdio::piped()).spawn()?;
        let source = format!(
            "__attribute__((section(\".modinfo\"), used)) static const char m[] = \"{fields}\"; int main(void) {{ return 0; }}"
        );
        gcc.stdin.take().map(|mut stdin| stdin.write_all(source.as_bytes())).transpose()?;
        assert!(gcc.wait()?.success());
        std::fs::read(file)
    }

    fn expected() -> ModInfo {
        ModInfo {
            version: "1.2-rc3".into(),
            srcversion: "533BB7E5866E52F63B9ACCB".into(),
            vermagic: "6.1.0-13-amd64 SMP preempt mod_unload modversions ".into(),
        }
    }

    /// With a signature appended: PKCS#7, struct module_signature, and what ends a signed module.
    fn sign(module: &[u8]) -> Vec<u8> {
        let parts: [&[u8]; 5] =
            [module, b"0123456789", &[0, 0, 2, 0, 0, 0, 0, 0], &[0, 0, 0, 10], b"~Module signature appended~\n"];
        parts.concat()
    }

    #[test]
    fn fields_are_found_however_it_is_compressed() -> io::Result<()> {
        let bytes = object(FIELDS, &["-c"])?;
        assert_eq!(ModInfo::parse(&bytes)?, expected());
        assert_eq!(expected().release(), "6.1.0-13-amd64");
        let dir = tempfile::tempdir()?;
        for (extension, program) in [("", "cat"), (".gz", "gzip"), (".xz", "xz"), (".zst", "zstd")] {
            let path = dir.path().join(format!("-m.ko{extension}"));
            let plain = dir.path().join("plain");
            std::fs::write(&plain, &bytes)?;
            let output = Command::new(program).stdin(File::open(&plain)?).stdout(File::create(&path)?).status()?;
            assert!(output.success());
            assert_eq!(ModInfo::read(&path)?, expected(), "{program}");
            assert_eq!(contents(&path)?, bytes);
            if !extension.is_empty() {
                std::fs::write(&path, b"not compressed")?;
                assert!(ModInfo::read(&path).is_err(), "{program}");
            }
        }
        assert_eq!(
            ModInfo::read(Path::new("/nonexistent.ko.xz")).err().map(|e| e.kind()),
            Some(io::ErrorKind::NotFound)
        );
        Ok(())
    }

    #[test]
    fn only_relocatables_are_modules() -> io::Result<()> {
        assert!(is_relocatable_elf(&object(FIELDS, &["-c"])?));
        assert!(!is_relocatable_elf(&object(FIELDS, &[])?));
        assert!(!is_relocatable_elf(b"") && !is_relocatable_elf(b"\x7fELF") && !is_relocatable_elf(b"!<arch>\n"));
        assert!(ModInfo::parse(b"").is_err());
        Ok(())
    }

    #[test]
    fn a_signed_module_is_still_read() -> io::Result<()> {
        let bytes = sign(&object(FIELDS, &["-c"])?);
        assert_eq!(ModInfo::parse(&bytes)?, expected());
        assert!(is_relocatable_elf(&bytes));
        Ok(())
    }

    #[test]
    fn no_bytes_make_it_panic() -> io::Result<()> {
        let good = sign(&object(FIELDS, &["-c", "-g"])?);
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 16) as usize % below
        };
        for round in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=random(6) {
                // Headers, most of the time: the ELF header, or the section headers at the end.
                let place = match random(3) {
                    0 => random(64),
                    1 => bytes.len() - 1 - random(1600.min(bytes.len())),
                    _ => random(bytes.len()),
                };
                bytes[place] = [0, 1, 0x7f, 0xff, round as u8][random(5)];
            }
            if random(4) == 0 {
                bytes.truncate(random(good.len()));
            }
            let _ = (ModInfo::parse(&bytes), is_relocatable_elf(&bytes));
        }
        Ok(())
    }
}
