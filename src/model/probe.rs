// SPDX-License-Identifier: GPL-2.0-or-later
//! What kbuild asks a compiler before it compiles: whether it knows an option.
//!
//! It has the compiler compile nothing, `/dev/null`, with that option, and looks whether it fails. The answer depends on
//! the compiler and the words alone, so it is kept as it was given: what was said, and the file that was written. A no is
//! not kept: a compiler may say it because of something that is over soon.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::system::digest::Digest;
use crate::system::directories::by_age;
use crate::system::process;

/// Options that read or write other files, or tell where other programs are.
const BEYOND: [&str; 22] = [
    "-B",
    "-M",
    "-Wa,-a",
    "-Wp,",
    "-aux-info",
    "-d",
    "-fauto-profile",
    "-fcallgraph-info",
    "-fdump",
    "-fopt-info",
    "-fplugin",
    "-fprofile",
    "-fsanitize-",
    "-fstack-usage",
    "-ftest-coverage",
    "-gsplit-dwarf",
    "-imacros",
    "-include",
    "-save-temps",
    "-specs",
    "-wrapper",
    "--",
];

/// Long options that do not, but for their first letters.
const NOT_BEYOND: [&str; 2] = ["--param=", "--target="];

/// For how many kernels a build's own answers are kept.
const MOST_PLACES: usize = 4;

/// Variables that compilers take for such options, see gcc(1), by their first letters.
const VARIABLES: [&str; 5] = ["CCC_", "COMPILER_PATH", "DEPENDENCIES_OUTPUT", "GCC_", "SUNPRO_DEPENDENCIES"];

/// What the program that stands for compilers is called.
pub const STAND_IN: &str = "sandbox_cc";

/// Programs that have a compiler of their own name do the work.
const STAND_INS: [&str; 2] = ["ccache", STAND_IN];

/// One question to a compiler.
#[derive(Debug)]
pub struct Probe<'a> {
    /// Where its answers are kept, by all that they depend on.
    key: String,
    args: &'a [OsString],
    /// Where it shall leave an object that nobody will look at; none if that is nowhere.
    output: Option<&'a Path>,
}

/// What a compiler answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The exit code.
    pub code: u8,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: Vec<u8>,
    /// What it wrote into the file that was named for that.
    pub object: Option<Vec<u8>>,
}

impl<'a> Probe<'a> {
    /// The arguments of `compiler` as a question; None for everything else. `variables` are those of the environment.
    pub fn of(compiler: &Path, args: &'a [OsString], mut variables: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut output = None;
        let (mut inputs, mut compiles) = (0, false);
        let mut words = Digest::new("probe");
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let text = arg.to_str()?;
            words.add(text);
            match text {
                "/dev/null" => inputs += 1,
                "-c" | "-S" => compiles = true,
                // Where it goes does not count, but that it is one place.
                "-o" if output.is_none() => output = Some(Path::new(rest.next()?)),
                "-x" => {
                    words.add(rest.next()?.as_bytes());
                }
                _ if !text.starts_with('-') || text == "-" || text.starts_with("-o") => return None,
                _ if NOT_BEYOND.iter().any(|known| text.starts_with(known)) => {}
                _ if BEYOND.iter().any(|beyond| text.starts_with(beyond)) => return None,
                _ => {}
            }
        }
        let output = output?;
        let nowhere = output == Path::new("/dev/null");
        // What goes somewhere else than into a file is looked at.
        let to_file = nowhere || (output != Path::new("-") && !output.starts_with("/dev"));
        let free = |name: OsString| !VARIABLES.iter().any(|known| name.as_bytes().starts_with(known.as_bytes()));
        if inputs != 1 || !compiles || !to_file || !variables.all(free) {
            return None;
        }
        let real = fs::canonicalize(compiler).ok()?;
        let meta = real.metadata().ok()?;
        words.add(compiler.as_os_str().as_bytes()).add(real.as_os_str().as_bytes());
        for number in [meta.len() as i64, meta.mtime(), meta.mtime_nsec()] {
            words.add(number.to_le_bytes());
        }
        words.add([u8::from(nowhere)]);
        Some(Self { key: words.finish(), args, output: Some(output).filter(|_| !nowhere) })
    }

    /// What the compiler said when it was asked before, if it was kept in `place`.
    pub fn answer(&self, place: &Path) -> Option<Answer> {
        let bytes = fs::read(place.join(&self.key)).ok()?;
        let (sum, bytes) = bytes.split_at_checked(64)?;
        if self.sum(bytes).as_bytes() != sum {
            return None;
        }
        let mut rest = bytes;
        let mut part = || {
            let (length, more) = rest.split_first_chunk()?;
            let (part, more) = more.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            rest = more;
            Some(part.to_owned())
        };
        Some(Answer { code: 0, out: part()?, err: part()?, object: part() })
    }

    /// Asks the compiler, and keeps what it says if that is a yes.
    pub fn ask(&self, compiler: &mut Command, place: &Path) -> io::Result<Answer> {
        let said = compiler.args(self.args).stdin(Stdio::null()).output()?;
        let object = self.output.and_then(|output| fs::read(output).ok());
        // A signal was no answer.
        let Some(code) = said.status.code().and_then(|code| u8::try_from(code).ok()) else {
            return Err(io::Error::other(format!("the compiler ended with {}", process::code(said.status))));
        };
        let answer = Answer { code, out: said.stdout, err: said.stderr, object };
        if code == 0 {
            // An answer that cannot be kept is none the worse.
            let _ = self.keep(&answer, place);
        }
        Ok(answer)
    }

    fn keep(&self, answer: &Answer, place: &Path) -> io::Result<()> {
        if !place.is_dir() {
            fs::create_dir_all(place)?;
            // Those for other kernels are beside it.
            let places = place.parent().map(by_age).unwrap_or_default();
            places.iter().rev().skip(MOST_PLACES).for_each(|place| drop(fs::remove_dir_all(place)));
        }
        let mut bytes = Vec::new();
        for part in [&answer.out[..], &answer.err].into_iter().chain(answer.object.as_deref()) {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
        let sum = self.sum(&bytes);
        // Who asks the same at the same time writes the same.
        let new = place.join(format!(".new-{}", self.key));
        fs::write(&new, [sum.as_bytes(), &bytes].concat())?;
        fs::rename(&new, place.join(&self.key))
    }

    /// What an answer, as it is kept, begins with: whose it is, and that it is whole.
    fn sum(&self, answer: &[u8]) -> String {
        let mut sum = Digest::new("answer");
        sum.add(&self.key).add(answer);
        sum.finish()
    }

    /// Does what the compiler did.
    pub fn give(&self, answer: &Answer) -> io::Result<()> {
        if let (Some(output), Some(object)) = (self.output, &answer.object) {
            fs::write(output, object)?;
        }
        io::stderr().write_all(&answer.err)?;
        io::stdout().write_all(&answer.out)
    }
}

/// What the program that stands for compilers in a build goes by. In a file, names and values as an environment has them.
#[derive(Debug, Default)]
pub struct Settings {
    /// What runs compilers; without, they run themselves.
    pub ccache: Option<PathBuf>,
    /// What it is told.
    pub variables: Vec<(String, OsString)>,
    /// Where answers are, if they are known already.
    pub answers: Option<PathBuf>,
    /// Where those are that are asked for now.
    pub asked: Option<PathBuf>,
    /// Places whose headers' names are part of what objects are kept under.
    pub known: Vec<PathBuf>,
    /// The directory that is built in.
    pub build: Option<PathBuf>,
    /// The assembler that is part of what objects are kept under. A compiler runs whichever is first on PATH.
    pub assembler: Option<PathBuf>,
}

impl Settings {
    /// The file of a directory of compilers.
    pub fn file(compilers: &Path) -> PathBuf {
        compilers.join(".dkms-settings")
    }

    /// As it is written there.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut pairs: Vec<(&str, &OsStr)> = Vec::new();
        pairs.extend(self.ccache.as_ref().map(|ccache| ("ccache", ccache.as_os_str())));
        pairs.extend(self.answers.as_ref().map(|answers| ("answers", answers.as_os_str())));
        pairs.extend(self.asked.as_ref().map(|asked| ("asked", asked.as_os_str())));
        pairs.extend(self.build.iter().map(|build| ("build", build.as_os_str())));
        pairs.extend(self.assembler.iter().map(|assembler| ("assembler", assembler.as_os_str())));
        pairs.extend(self.known.iter().map(|known| ("known", known.as_os_str())));
        pairs.extend(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_os_str())));
        pairs.into_iter().flat_map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat()).collect()
    }

    /// As it was written there; what is not known counts as a variable.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut settings = Self::default();
        for pair in bytes.split(|byte| *byte == 0) {
            let Some(end) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (&pair[..end], OsStr::from_bytes(&pair[end + 1..]));
            match name {
                b"ccache" => settings.ccache = Some(value.into()),
                b"answers" => settings.answers = Some(value.into()),
                b"asked" => settings.asked = Some(value.into()),
                b"build" => settings.build = Some(value.into()),
                b"assembler" => settings.assembler = Some(value.into()),
                b"known" => settings.known.push(value.into()),
                _ => settings.variables.push((String::from_utf8_lossy(name).into_owned(), value.to_owned())),
            }
        }
        settings
    }
}

/// The first compiler called `name` on PATH: no link to what only stands for one, to ccache or to us.
pub fn behind(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    let is_real = |file: &PathBuf| {
        let real = fs::canonicalize(file);
        process::is_executable(file)
            && real.is_ok_and(|real| !STAND_INS.iter().any(|stand_in| real.ends_with(stand_in)))
    };
    std::env::split_paths(path).map(|dir| dir.join(name)).find(is_real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn only_what_depends_on_nothing_else_is_a_question() {
        let of = |text: &str, variable: &str| {
            let args = args(text);
            Probe::of(Path::new("/bin/sh"), &args, [OsString::from(variable)].into_iter()).map(|probe| probe.key)
        };
        let asked = of("-Werror -D__KERNEL__ -fno-pic -c -x c /dev/null -o .tmp_1/tmp", "PATH");
        assert!(asked.is_some());
        // Wherever the object goes; but for an option more it is another question.
        assert_eq!(of("-Werror -D__KERNEL__ -fno-pic -c -x c /dev/null -o /tmp/other", "PATH"), asked);
        for other in [
            "-Werror -D__KERNEL__ -c -x c /dev/null -o .tmp_1/tmp",
            "-Werror -D__KERNEL__ -fno-pic -c -x c /dev/null -o /dev/null",
        ] {
            assert!(of(other, "PATH").is_some_and(|other| Some(other) != asked));
        }
        assert!(of("--param=a=1 -S -x c /dev/null -o x", "PATH").is_some());
        for (text, variable) in [
            ("-c -x c - -o x", "PATH"),
            ("-c -x c x.c -o x", "PATH"),
            ("-c -x c /dev/null x.c -o x", "PATH"),
            ("-c -x c /dev/null /dev/null", "PATH"),
            ("-c -x c /dev/null -o", "PATH"),
            ("-c -x c /dev/null -ox", "PATH"),
            ("-c -x c /dev/null -o x -o y", "PATH"),
            ("-c -include x.h -x c /dev/null -o x", "PATH"),
            ("-c -includex.h -x c /dev/null -o x", "PATH"),
            ("-c -x c /dev/null -o x -Wp,-MMD,x.d", "PATH"),
            ("-c -x c /dev/null -o x -MMD", "PATH"),
            ("-c -x c /dev/null -o x -B/other", "PATH"),
            ("-c -x c /dev/null -o x -specs=x", "PATH"),
            ("-c -x c /dev/null -o x --sysroot=/x", "PATH"),
            ("-c -x c /dev/null -o x @x", "PATH"),
            ("-c -x c /dev/null -o x -gsplit-dwarf", "PATH"),
            ("-c -x c /dev/null", "PATH"),
            ("-S -x c /dev/null -o -", "PATH"),
            ("-S -x c /dev/null -o /dev/stdout", "PATH"),
            ("-shared -x c /dev/null -o x -lx", "PATH"),
            ("--version", "PATH"),
            ("-c -x c /dev/null -o x", "GCC_EXEC_PREFIX"),
            ("-c -x c /dev/null -o x", "COMPILER_PATH"),
            ("-c -x c /dev/null -o x", "CCC_OVERRIDE_OPTIONS"),
        ] {
            assert_eq!(of(text, variable), None, "{text}");
        }
    }

    #[test]
    fn an_answer_is_what_was_said_by_the_same_compiler() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let compiler = dir.path().join("cc");
        fs::write(&compiler, "#!/bin/sh\necho said; echo also >&2; echo object >\"$6\"")?;
        let args = args("-c -x c /dev/null -o");
        let output = |name: &str| [args.clone(), vec![dir.path().join(name).into()]].concat();
        let (first, second) = (output("first"), output("second"));
        let probe = |args| Probe::of(&compiler, args, std::iter::empty()).ok_or(io::ErrorKind::InvalidInput);
        let asked = probe(&first)?;
        assert_eq!(asked.answer(dir.path()), None);
        let answer = asked.ask(Command::new("sh").arg(&compiler), dir.path())?;
        assert_eq!((answer.code, &answer.out[..], &answer.err[..]), (0, &b"said\n"[..], &b"also\n"[..]));
        let again = probe(&second)?;
        assert_eq!(again.answer(dir.path()).as_ref(), Some(&answer));
        again.give(&answer)?;
        assert_eq!(fs::read(dir.path().join("second"))?, b"object\n");
        // Cut off, or of a compiler that is another one now.
        let kept = dir.path().join(&again.key);
        let bytes = fs::read(&kept)?;
        fs::write(&kept, &bytes[..bytes.len() - 1])?;
        assert_eq!(again.answer(dir.path()), None);
        fs::write(&kept, bytes)?;
        fs::write(&compiler, "#!/bin/sh\nexit 1")?;
        assert_eq!(probe(&second)?.answer(dir.path()), None);
        // It is an answer also where there is no place for it.
        fs::write(&compiler, "#!/bin/sh\nexit 0")?;
        assert_eq!(probe(&second)?.ask(Command::new("sh").arg(&compiler), Path::new("/dev/null/x"))?.code, 0);
        // So many places.
        let place = |number: usize| dir.path().join("places").join(number.to_string());
        for number in 0..=MOST_PLACES {
            probe(&second)?.ask(Command::new("sh").arg(&compiler), &place(number))?;
            assert!(probe(&second)?.answer(&place(number)).is_some());
        }
        assert_eq!((0..=MOST_PLACES).filter(|&number| place(number).exists()).count(), MOST_PLACES);
        // What is another's by its name is not believed.
        let own = place(MOST_PLACES).join(&probe(&second)?.key);
        let more = [args.clone(), vec![dir.path().join("third").into(), "-g".into()]].concat();
        let other = Probe::of(&compiler, &more, std::iter::empty()).ok_or(io::ErrorKind::InvalidInput)?;
        fs::copy(own, place(MOST_PLACES).join(&other.key))?;
        assert_eq!(other.answer(&place(MOST_PLACES)), None);
        fs::write(&compiler, "#!/bin/sh\nexit 1")?;
        // A no is not kept,
        assert_eq!(probe(&second)?.ask(Command::new("sh").arg(&compiler), dir.path())?.code, 1);
        assert_eq!(probe(&second)?.answer(dir.path()), None);
        // and one that was killed did not answer.
        fs::write(&compiler, "kill -9 $$")?;
        assert!(probe(&second)?.ask(Command::new("sh").arg(&compiler), dir.path()).is_err());
        Ok(())
    }

    #[test]
    fn settings_come_out_as_they_went_in() {
        for asked in [None, Some("/asked".into())] {
            let settings = Settings {
                ccache: Some("/usr/bin/ccache".into()),
                variables: vec![("CCACHE_DIR".into(), "/var/cache a=b".into()), ("EMPTY".into(), "".into())],
                answers: Some("/answers".into()),
                asked,
                known: vec!["/a".into(), "/b".into()],
                build: Some("/build".into()),
                assembler: Some("/usr/bin/as".into()),
            };
            let read = Settings::from_bytes(&settings.to_bytes());
            assert_eq!(read.ccache, settings.ccache);
            assert_eq!(read.variables, settings.variables);
            assert_eq!((read.answers, read.asked), (settings.answers, settings.asked));
            assert_eq!((read.known, read.build, read.assembler), (settings.known, settings.build, settings.assembler));
        }
        assert!(Settings::from_bytes(b"").ccache.is_none());
    }

    #[test]
    fn behind_is_who_would_be_found_without_us() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        for (place, real) in [("a", "ccache"), ("b", STAND_IN)] {
            fs::create_dir(dir.path().join(place))?;
            fs::copy("/bin/sh", dir.path().join(real))?;
            std::os::unix::fs::symlink(dir.path().join(real), dir.path().join(place).join("sh"))?;
        }
        let at = |path: &str| behind(OsStr::new("sh"), OsStr::new(&path.replace('@', &dir.path().to_string_lossy())));
        assert_eq!(at("@/b:/nonexistent:@/a:/bin:/usr/bin"), Some("/bin/sh".into()));
        assert_eq!(at("@/b:@/a"), None);
        Ok(())
    }
}
