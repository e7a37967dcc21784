// SPDX-License-Identifier: GPL-2.0-or-later
//! Reading and writing compressed files as streams: gzip here, everything else by the program that is known for it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::system::process;
use crate::system::sys::before_exec;

/// Memory for a program that decompresses: a file says how much of what came before it refers to, and may say any number.
/// The best that xz and zstd do of themselves takes 65 and 128 MiB; more than these is for those who ask for it.
const MEMORY: u64 = 384 << 20;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// How names of such files end, as tar(1) knows them.
    suffixes: &'static [&'static str],
    /// How their content begins.
    magic: &'static [u8],
    /// The program, and the options that make it compress to the same bytes each time.
    program: &'static [&'static str],
}

const GZIP: Format = Format { suffixes: &[".gz", ".tgz", ".taz"], magic: &[0x1f, 0x8b], program: &["gzip", "-n"] };

const FORMATS: [Format; 6] = [
    GZIP,
    Format { suffixes: &[".bz2", ".tz2", ".tbz2", ".tbz"], magic: b"BZh", program: &["bzip2"] },
    Format { suffixes: &[".xz", ".txz"], magic: b"\xfd7zXZ\0", program: &["xz", "-T1"] },
    Format { suffixes: &[".zst", ".tzst"], magic: &[0x28, 0xb5, 0x2f, 0xfd], program: &["zstd", "-q", "-T1"] },
    Format { suffixes: &[".lzma", ".tlz"], magic: &[0x5d, 0, 0], program: &["xz", "--format=lzma"] },
    Format { suffixes: &[".lz"], magic: b"LZIP", program: &["lzip"] },
];

impl Format {
    /// The format that a name asks for; `None` for a plain file.
    pub fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.as_encoded_bytes();
        FORMATS.into_iter().find(|format| format.suffixes.iter().any(|suffix| name.ends_with(suffix.as_bytes())))
    }

    fn of_content(start: &[u8]) -> Option<Self> {
        FORMATS.into_iter().find(|format| start.starts_with(format.magic))
    }

    fn command(&self) -> Command {
        let mut command = process::program(self.program[0]);
        command.args(&self.program[1..]);
        command
    }

    fn start(&self, command: &mut Command) -> io::Result<Child> {
        let program = self.program[0];
        command.stderr(Stdio::null()).spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(error.kind(), format!("the program {program} is not installed")),
            kind => io::Error::new(kind, format!("{program}: {error}")),
        })
    }
}

/// What a file holds, decompressed by what its first bytes say of it, whatever it is called.
///
/// Reading to the end says whether all of it was there.
#[derive(Debug)]
pub enum Reader {
    /// Not compressed.
    Plain(File),
    /// By us.
    Gzip(Box<MultiGzDecoder<File>>),
    /// By a program.
    Program {
        /// What it is called.
        program: &'static str,
        /// What it gives.
        output: ChildStdout,
        /// Itself.
        child: Child,
    },
}

impl Reader {
    /// Opens `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(6).read_to_end(&mut start)?;
        file.rewind()?;
        let Some(format) = Format::of_content(&start) else {
            return Ok(Self::Plain(file));
        };
        if format == GZIP {
            return Ok(Self::Gzip(Box::new(MultiGzDecoder::new(file))));
        }
        let mut command = format.command();
        // Never more than there was.
        let memory = Some(getrlimit(Resource::Data).maximum.map_or(MEMORY, |most| most.min(MEMORY)));
        before_exec(&mut command, move || Ok(setrlimit(Resource::Data, Rlimit { current: memory, maximum: memory })?));
        let mut child = format.start(command.arg("-dc").stdin(file).stdout(Stdio::piped()))?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self::Program { program: format.program[0], output, child })
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Program { program, output, child } => {
                let read = output.read(buffer)?;
                if read == 0 && !buffer.is_empty() && !child.wait()?.success() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{program} cannot read it")));
                }
                Ok(read)
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Self::Program { child, .. } = self {
            // It ended, or nobody wants the rest.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Compresses what is written to it into a file; [`Writer::finish`] says whether all of it went there.
#[derive(Debug)]
pub enum Writer {
    /// As it comes.
    Plain(File),
    /// By us.
    Gzip(Box<GzEncoder<File>>),
    /// By a program.
    Program {
        /// What it is called.
        program: &'static str,
        /// What it is given.
        input: ChildStdin,
        /// Itself.
        child: Child,
    },
}

impl Writer {
    /// Into `file`, in this format.
    pub fn new(file: File, format: Option<Format>) -> io::Result<Self> {
        let Some(format) = format else {
            return Ok(Self::Plain(file));
        };
        if format == GZIP {
            return Ok(Self::Gzip(Box::new(GzEncoder::new(file, flate2::Compression::default()))));
        }
        let mut child = format.start(format.command().arg("-c").stdin(Stdio::piped()).stdout(file))?;
        let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self::Program { program: format.program[0], input, child })
    }

    /// Writes what is left.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(encoder) => encoder.finish().map(drop),
            Self::Program { program, input, mut child } => {
                drop(input);
                let status = child.wait()?;
                if status.success() {
                    return Ok(());
                }
                Err(io::Error::other(format!("{program} ended with {status}")))
            }
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Program { input, .. } => input.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Program { input, .. } => input.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_it_is_called() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        for name in ["a.tar", "a.tar.gz", "a.tgz", "a.tar.xz"] {
            let path = dir.path().join("file");
            let mut writer = Writer::new(File::create(&path)?, Format::of_name(Path::new(name)))?;
            writer.write_all(&[b'x'; 100_000])?;
            writer.finish()?;
            let mut text = Vec::new();
            Reader::open(&path)?.read_to_end(&mut text)?;
            assert_eq!(text, [b'x'; 100_000], "{name}");
            if Format::of_name(Path::new(name)).is_some() {
                let bytes = std::fs::read(&path)?;
                std::fs::write(&path, &bytes[..bytes.len() - 5])?;
                assert!(Reader::open(&path)?.read_to_end(&mut text).is_err(), "{name} was cut off");
            }
        }
        Ok(())
    }

    #[test]
    fn a_file_does_not_say_how_much_memory_it_takes() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("file");
        let made = |script: &str| Command::new("sh").arg("-c").arg(script).stdout(File::create(&path)?).status();
        for (script, is_read) in [
            ("head -c 100000 /dev/zero | xz -9", true),
            ("head -c 100000 /dev/zero | xz --format=lzma -9", true),
            ("head -c 100000 /dev/zero | zstd -q --ultra -22", true),
            ("head -c 100000 /dev/zero | bzip2 -9", true),
            // Whose dictionary has 256 MiB, and 2 GiB.
            (
                "head -c 100000 /dev/zero | xz --format=lzma | perl -0777 -pe 'substr($_, 1, 4) = pack V => 1 << 28'",
                true,
            ),
            (
                "head -c 100000 /dev/zero | xz --format=lzma | perl -0777 -pe 'substr($_, 1, 4) = pack V => 1 << 31'",
                false,
            ),
        ] {
            assert!(made(script)?.success(), "{script}");
            let read = Reader::open(&path)?.read_to_end(&mut Vec::new());
            assert_eq!(read.ok(), is_read.then_some(100_000), "{script}");
        }
        Ok(())
    }
}
