// SPDX-License-Identifier: GPL-2.0-or-later
//! What a build finds first as `make`: the real one, without a `-j` of the build's own, and where it is kbuild with an
//! option for its compilers.
//!
//! A `-jN` below a jobserver makes GNU make leave it and start N jobs of its own, beside all that run already. So
//! below a jobserver every spelling of `-j` is dropped, whether MAKEFLAGS names it or not any more, and the real make does
//! the work. A makefile's own MAKEFLAGS are out of reach; but what its make calls comes back to the jobserver.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dkms_rs::steps::prepare::{ForMakes, kcflags, real_make};
use dkms_rs::system::process::{is_elf, is_executable};
use dkms_rs::system::tokens::named;
use rustix::io::{FdFlags, fcntl_setfd};

/// Says which process was one of us.
const CALLER: &str = "DKMS_SANDBOX_MAKE";

/// Long options whose value is the next argument; make knows them by any prefix that fits no other.
const LONG_WITH_VALUE: [&str; 11] = [
    "assume-new",
    "assume-old",
    "directory",
    "eval",
    "file",
    "include-dir",
    "makefile",
    "new-file",
    "old-file",
    "what-if",
    "jobserver-style",
];

/// What make gets instead of `args`.
fn without_jobs(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            kept.push(arg);
            kept.extend(args);
            break;
        } else if let Some(long) = bytes.strip_prefix(b"--") {
            let (name, value) = match long.iter().position(|&byte| byte == b'=') {
                Some(end) => (&long[..end], true),
                None => (long, false),
            };
            // Anything shorter is ambiguous to make.
            if name == b"jobs" && !value {
                args.next_if(|next| is_number(next));
                continue;
            }
            if name == b"jobs" && is_number(OsStr::from_bytes(&long[name.len() + 1..])) {
                continue;
            }
            let takes_next =
                !value && LONG_WITH_VALUE.iter().any(|known| !name.is_empty() && known.as_bytes().starts_with(name));
            kept.push(arg);
            if takes_next {
                kept.extend(args.next());
            }
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            let (flags, number, value) = short(&bytes[1..]);
            if number {
                args.next_if(|next| is_number(next));
            }
            if !flags.is_empty() {
                let mut arg = b"-".to_vec();
                arg.extend(flags);
                kept.push(OsString::from_vec(arg));
            }
            if value {
                kept.extend(args.next());
            }
        } else if let Some(flags) = bytes.strip_prefix(b"MAKEFLAGS=") {
            let flags = makeflags_below(None, &String::from_utf8_lossy(flags));
            kept.push(format!("MAKEFLAGS={flags}").into());
        } else {
            kept.push(arg);
        }
    }
    kept
}

/// Bundled short flags without the j: (what is left, whether a number may follow for it, whether a value follows).
fn short(flags: &[u8]) -> (Vec<u8>, bool, bool) {
    let mut left = Vec::new();
    let mut rest = flags;
    while let Some((&flag, after)) = rest.split_first() {
        match flag {
            b'j' if after.is_empty() => return (left, true, false),
            b'j' if is_number(OsStr::from_bytes(after)) => return (left, false, false),
            // Flags with a value: the rest of this argument, or the next one.
            b'C' | b'E' | b'f' | b'I' | b'o' | b'W' => {
                left.extend(rest);
                return (left, false, after.is_empty());
            }
            // With an optional one: the rest, too. A -j that has something else than a number is make's to refuse.
            b'j' | b'l' | b'O' => {
                left.extend(rest);
                return (left, false, false);
            }
            _ => {
                left.push(flag);
                rest = after;
            }
        }
    }
    (left, false, false)
}

fn is_number(arg: &OsStr) -> bool {
    !arg.is_empty() && arg.as_bytes().iter().all(u8::is_ascii_digit)
}

/// Whether a word of MAKEFLAGS names a jobserver.
fn names_jobserver(word: &str) -> bool {
    ["--jobserver-auth=", "--jobserver-fds="].iter().any(|name| word.starts_with(name))
}

/// The words of MAKEFLAGS that name the jobserver of a make above, or of dkms.
fn jobserver(makeflags: &str) -> Option<String> {
    let words: Vec<&str> = makeflags.split_whitespace().filter(|word| names_jobserver(word)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The pipe that a jobserver is named by, and where its ends are.
fn pipe(jobserver: &str) -> Option<(PathBuf, [PathBuf; 2])> {
    let numbers = jobserver.split(['=', ',', ' ']).filter(|word| is_number(OsStr::new(word)));
    let ends: Vec<PathBuf> = numbers.map(|number| format!("/proc/self/fd/{number}").into()).collect();
    let mut pipes = ends.iter().map(|end| fs::read_link(end).ok());
    let pipe = pipes.next().flatten().filter(|first| first.to_string_lossy().starts_with("pipe:"))?;
    let [read, write, ..] = ends.as_slice() else { return None };
    pipes.all(|other| other.as_ref() == Some(&pipe)).then(|| (pipe, [read.clone(), write.clone()]))
}

/// Whether a make that hears of a jobserver has that of dkms, as far as can be told.
fn is_of_all(heard: &str, of_all: &str) -> bool {
    let pipe = |jobserver| pipe(jobserver).map(|(pipe, _)| pipe);
    pipe(of_all).is_none_or(|of_all| pipe(heard) == Some(of_all))
}

/// What names dkms' jobserver to the real make, with ends of its own: it closes what it is told of for what it does not
/// take for a make, and the next of us is to find it again.
fn opened(of_all: &str) -> Option<String> {
    let (_, [read, write]) = pipe(of_all)?;
    let ends = [fs::File::open(read).ok()?, fs::OpenOptions::new().write(true).open(write).ok()?];
    ends.iter().try_for_each(|end| fcntl_setfd(end, FdFlags::empty())).ok()?;
    let named = named(&ends);
    std::mem::forget(ends);
    Some(named)
}

/// MAKEFLAGS without jobs of its own, and with what names a jobserver. Its first word may be letters, without their dash.
fn makeflags_below(jobserver: Option<String>, makeflags: &str) -> String {
    let kept = |word: &&str| jobserver.is_none() || !names_jobserver(word);
    let mut words: Vec<OsString> = makeflags.split_whitespace().filter(kept).map(OsString::from).collect();
    if let Some(first) = words.first_mut().filter(|first| !first.as_bytes().iter().any(|byte| b"-=".contains(byte))) {
        *first = OsString::from(format!("-{}", first.to_string_lossy()));
    }
    let kept = without_jobs(words).into_iter().map(|word| word.to_string_lossy().into_owned());
    jobserver.map(|named| format!("-j {named}")).into_iter().chain(kept).collect::<Vec<_>>().join(" ")
}

/// Where a make with these arguments reads its makefile.
fn directory(args: &[OsString]) -> PathBuf {
    let mut directory = PathBuf::new();
    let mut args = args.iter().map(|arg| arg.as_bytes());
    while let Some(arg) = args.next() {
        let named = match arg {
            b"--" => break,
            b"-C" | b"--directory" => args.next(),
            _ => [&b"-C"[..], b"--directory="].iter().find_map(|option| arg.strip_prefix(*option)),
        };
        directory.extend(named.map(OsStr::from_bytes));
    }
    directory
}

/// The arguments of a make with an option for compilers, where it is kbuild and they give none. Said here it is seen by kbuild
/// alone: whatever else is built may do otherwise where there is such a variable.
fn with_option(mut args: Vec<OsString>, option: &str, is_kbuild: impl FnOnce(&Path) -> bool) -> Vec<OsString> {
    // By `=`, `+=` or otherwise: ours would be the last word.
    let gives = |arg: &OsString| arg.as_bytes().starts_with(b"KCFLAGS");
    if !args.iter().any(gives) && is_kbuild(&directory(&args)) {
        let given = env::var_os("KCFLAGS").unwrap_or_default();
        // What a kbuild runs in its own directory has it from there.
        if !given.as_bytes().ends_with(option.as_bytes()) {
            args.push(kcflags(&given, option));
        }
    }
    args
}

/// The real make: the one in whose place this program stands, or the first on PATH that is another program. `again`: that
/// one called us, so it was a script, and what it means is behind it.
fn next_make(path: &OsStr, again: bool) -> Option<PathBuf> {
    let this = env::current_exe().ok()?;
    let real = |make: &Path| Some(real_make(&fs::canonicalize(make).ok()?)).filter(|real| is_executable(real));
    let file = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let on_path = || env::split_paths(path).map(|dir| dir.join("make")).filter(|make| is_executable(make));
    let other = |make: PathBuf| if file(&make) == file(&this) { real(&make) } else { Some(make) };
    real(&this).or_else(|| on_path().filter_map(other).find(|make| !again || is_elf(make)))
}

fn main() -> ExitCode {
    let mut args = env::args_os();
    let name = args.next().unwrap_or_else(|| "make".into());
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    // Who executes us in the place of what we executed has the same number.
    let this = std::process::id().to_string();
    let again = env::var_os(CALLER).is_some_and(|caller| caller == *this);
    let Some(make) = next_make(&path, again) else {
        eprintln!("{}: no make on PATH", name.to_string_lossy());
        return ExitCode::from(127);
    };
    let mut command = Command::new(&make);
    command.arg0(&name).env(CALLER, this);
    let makeflags = env::var_os("MAKEFLAGS").unwrap_or_default();
    let makeflags = makeflags.to_string_lossy();
    let heard = jobserver(&makeflags);
    let told = ForMakes::read();
    let of_all = jobserver(&told.jobserver);
    let is_below = heard.is_some() || of_all.is_some();
    // `env -i` and `MAKEFLAGS=` keep a make from hearing of it, and one that has a -j from its makefile has another one.
    if let Some(of_all) = of_all.filter(|of_all| !heard.is_some_and(|heard| is_of_all(&heard, of_all))) {
        command.env("MAKEFLAGS", makeflags_below(opened(&of_all), &makeflags));
    }
    let mut args: Vec<OsString> = args.collect();
    if is_below {
        // GNUMAKEFLAGS would be one more way to say -j.
        args = without_jobs(args);
        command.env_remove("GNUMAKEFLAGS");
    }
    if let Some(option) = &told.sparing {
        args = with_option(args, option, |dir| dir.join("include/config/auto.conf").exists());
    }
    command.args(args);
    let error = command.exec();
    eprintln!("{}: {}: {error}", name.to_string_lossy(), make.display());
    ExitCode::from(126)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// Arguments of make, and what is left of them.
    const CASES: &[(&str, &str)] = &[
        ("", ""),
        ("all -C dir V=1", "all -C dir V=1"),
        ("-j", ""),
        ("-j4 all", "all"),
        ("-j 4 all", "all"),
        ("-j all", "all"),
        ("-j 4all", "4all"),
        ("-kj4 all", "-k all"),
        ("-kj 4 all", "-k all"),
        ("-j4k all", "-j4k all"),
        ("-jk all", "-jk all"),
        ("-kjC dir", "-kjC dir"),
        ("-j4 -j8 -sj2", "-s"),
        ("--jobs all", "all"),
        ("--jobs=4 all", "all"),
        ("--jobs= all", "--jobs= all"),
        ("--jobs 4 all", "all"),
        ("--job 4 all", "--job 4 all"),
        // Values of other flags are nobody's -j.
        ("-C -j4 all", "-C -j4 all"),
        ("-Cj4 -f j", "-Cj4 -f j"),
        ("-kC -j4 -j4", "-kC -j4"),
        ("-I -j -o -j -W -j", "-I -j -o -j -W -j"),
        ("--directory -j4 --dir -j --file=-j -j", "--directory -j4 --dir -j --file=-j"),
        ("-Otarget -j4", "-Otarget"),
        ("-Oj -j4", "-Oj"),
        ("-l 4 -j 4", "-l 4"),
        ("-l4 -j", "-l4"),
        ("--load-average=4 --keep-going", "--load-average=4 --keep-going"),
        // Not ours to drop.
        ("--jobserver-auth=3,4", "--jobserver-auth=3,4"),
        ("-- -j4", "-- -j4"),
        ("-j -- -j", "-- -j"),
        ("-", "-"),
        ("MAKEFLAGS=-j4 all", "MAKEFLAGS= all"),
        ("MAKEFLAGS=kj4", "MAKEFLAGS=-k"),
    ];

    #[test]
    fn every_spelling_is_dropped() {
        for (given, expected) in CASES {
            let args = given.split_whitespace().map(OsString::from);
            let expected: Vec<OsString> = expected.split_whitespace().map(OsString::from).collect();
            assert_eq!(without_jobs(args), expected, "{given}");
        }
    }

    #[test]
    fn kbuild_alone_gets_an_option_once() {
        for (given, expected) in [
            ("-C /k M=/m modules", "-C /k M=/m modules KCFLAGS=-g1"),
            ("-C/k modules", "-C/k modules KCFLAGS=-g1"),
            ("--directory=/k M=/m", "--directory=/k M=/m KCFLAGS=-g1"),
            ("-C / -C k modules", "-C / -C k modules KCFLAGS=-g1"),
            ("-C /k KCFLAGS=-DX modules", "-C /k KCFLAGS=-DX modules"),
            ("-C /k KCFLAGS+=-DX modules", "-C /k KCFLAGS+=-DX modules"),
            ("-C /k KCFLAGS:=-DX modules", "-C /k KCFLAGS:=-DX modules"),
            ("-C /m modules", "-C /m modules"),
            ("modules -- -C /k", "modules -- -C /k"),
            ("", ""),
        ] {
            let args = given.split_whitespace().map(OsString::from).collect();
            let args = with_option(args, "-g1", |dir| dir == Path::new("/k"));
            assert_eq!(args.join(OsStr::new(" ")), expected, "{given}");
        }
    }

    #[test]
    fn a_jobserver_is_told_from_makeflags() {
        for (flags, expected) in [
            ("", None),
            ("-j4", None),
            ("k -j4 -- V=--jobserver", None),
            ("-j --jobserver-fds=3,4 --jobserver-auth=3,4", Some("--jobserver-fds=3,4 --jobserver-auth=3,4")),
            (" -j4 --jobserver-auth=fifo:/tmp/x", Some("--jobserver-auth=fifo:/tmp/x")),
        ] {
            assert_eq!(jobserver(flags).as_deref(), expected, "{flags}");
        }
    }

    #[test]
    fn what_did_not_hear_of_it_does() {
        for (flags, expected) in [
            ("", "-j --jobserver-auth=3,4"),
            ("-j8", "-j --jobserver-auth=3,4"),
            ("kj8", "-j --jobserver-auth=3,4 -k"),
            ("j 8 V=1", "-j --jobserver-auth=3,4 V=1"),
            ("-s --jobs=8 -- V=-j8", "-j --jobserver-auth=3,4 -s -- V=-j8"),
            ("V=1", "-j --jobserver-auth=3,4 V=1"),
        ] {
            assert_eq!(makeflags_below(Some("--jobserver-auth=3,4".into()), flags), expected, "{flags}");
        }
        assert_eq!(makeflags_below(None, "kj8"), "-k");
        let other = "s -j8 --jobserver-auth=fifo:/tmp/x -- V=1";
        assert_eq!(makeflags_below(Some("--jobserver-auth=3,4".into()), other), "-j --jobserver-auth=3,4 -s -- V=1");
    }

    #[test]
    fn a_jobserver_is_there_where_its_pipe_is() -> std::io::Result<()> {
        let [(read, write), other] = [rustix::pipe::pipe()?, rustix::pipe::pipe()?];
        let both = format!("--jobserver-fds={0},{1} --jobserver-auth={0},{1}", read.as_raw_fd(), write.as_raw_fd());
        let null = std::fs::File::open("/dev/null")?;
        let auth = |read: i32, write: i32| format!("--jobserver-auth={read},{write}");
        let there = opened(&both).expect("it is open");
        assert!(there != both && is_of_all(&there, &both));
        for not in [
            auth(read.as_raw_fd(), 1000),
            auth(1000, write.as_raw_fd()),
            auth(null.as_raw_fd(), null.as_raw_fd()),
            "--jobserver-auth=".to_owned(),
            "--jobserver-auth=fifo:/tmp/x".to_owned(),
        ] {
            assert_eq!(pipe(&not), None, "{not}");
            assert!(!is_of_all(&not, &both) && is_of_all(&both, &not), "{not}");
        }
        assert!(!is_of_all(&named(&other.into()), &both));
        Ok(())
    }

    #[test]
    fn the_next_make_is_another_file() -> std::io::Result<()> {
        let find = |path: &str| next_make(OsStr::new(path), false);
        assert_eq!(find("/nonexistent:/usr/bin"), Some("/usr/bin/make".into()));
        assert_eq!(find("/nonexistent"), None);
        let dir = env::temp_dir().join(format!("dkms-rs-make-{}", std::process::id()));
        let [ours, script] = ["ours", "script"].map(|name| dir.join(name));
        for place in [&ours, &script] {
            fs::create_dir_all(place)?;
        }
        std::os::unix::fs::symlink(env::current_exe()?, ours.join("make"))?;
        fs::copy("/usr/bin/ldd", script.join("make"))?;
        let path = env::join_paths([&ours, &script, Path::new("/usr/bin")]).map_err(std::io::Error::other)?;
        let found = [false, true].map(|again| next_make(&path, again));
        fs::remove_dir_all(&dir)?;
        assert_eq!(found, [Some(script.join("make")), Some("/usr/bin/make".into())]);
        Ok(())
    }
}
