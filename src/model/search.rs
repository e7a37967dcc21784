// SPDX-License-Identifier: GPL-2.0-or-later
//! Where a compiler looks for headers, by its arguments (gcc(1), "Options for Directory Search").
//!
//! Which headers there are decides which one is found, and whether `__has_include` finds any. For the module's own
//! directory and the kernel's headers that is part of what objects are kept under; of other places nothing is known.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use memchr::memmem;

use crate::model::headers::{is_by_product, is_called_header, is_tried};
use crate::model::opaque::is_opaque;
use crate::system::digest::Tree;

/// Where compilers have headers of their own; which compilers there are counts elsewhere.
const COMPILERS: [&str; 2] = ["/usr/lib/gcc/", "/usr/lib/llvm"];

/// Options that name a directory, in the same word or in the next one.
const DIRECTORIES: [&str; 4] = ["-I", "-iquote", "-isystem", "-idirafter"];

/// Those of them for directories whose headers count as the system's.
const OF_SYSTEM: [&str; 2] = ["-isystem", "-idirafter"];

/// Options that name a file to begin with, likewise.
const FORCED: [&str; 2] = ["-include", "-imacros"];

/// Options that name one in other ways, or of which it has others, by how they begin.
const OTHERS: [&str; 19] = [
    "-iprefix",
    "-iwithprefix",
    "-isysroot",
    "--sysroot",
    "-imulti",
    "--include",
    "--imacros",
    "-c-isystem",
    "-ivfsoverlay",
    "--embed-dir",
    "-specs",
    "--specs",
    "--config",
    "-B",
    "--prefix",
    "-Wp,-I",
    "-Wp,-i",
    "-Xpreprocessor",
    "@",
];

/// Variables that do, by how they begin.
const VARIABLES: [&str; 6] =
    ["CPATH", "C_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH", "CCC_"];

/// Whether a compiler, run in `cwd`, looks for headers in `known` places alone; `defaults`: its own count as known.
/// `variables` are those of its environment.
pub fn stays_in(
    known: &[PathBuf],
    defaults: bool,
    args: &[OsString],
    cwd: &Path,
    mut variables: impl Iterator<Item = OsString>,
) -> bool {
    let is_other = |arg: &OsString| {
        let arg = arg.as_bytes();
        // A file of arguments, for an assembler too.
        arg.starts_with(b"-Wa,") && memmem::find(arg, b",@").is_some()
            || OTHERS.iter().any(|other| arg.starts_with(other.as_bytes()))
    };
    let tells = |name: OsString| VARIABLES.iter().any(|known| name.as_bytes().starts_with(known.as_bytes()));
    (defaults || args.iter().any(|arg| arg == "-nostdinc"))
        && !args.iter().any(is_other)
        && !variables.any(tells)
        && directories(args, cwd).iter().all(|dir| is_known(known, dir))
}

/// Whether a compiler, run in `cwd`, is given files to read in `known` places alone: beside them it looks for headers, too.
pub fn begins_in(known: &[PathBuf], args: &[OsString], cwd: &Path) -> bool {
    let is_output = |at: usize| at.checked_sub(1).is_some_and(|before| args[before] == "-o");
    let words = args.iter().enumerate().filter(|(at, word)| !word.as_bytes().starts_with(b"-") && !is_output(*at));
    let files = words.map(|(_, word)| by_letters(&cwd.join(word))).filter(|path| path.is_file());
    let named = args.iter().filter_map(|arg| header_in(arg));
    files.chain(directories_by(&FORCED, args, cwd)).chain(named).all(|file| is_known(known, &file))
}

/// The header that a macro among the arguments stands for, by its full name.
fn header_in(arg: &OsStr) -> Option<PathBuf> {
    let (_, value) = arg.to_str()?.split_once('=')?;
    let name = value.strip_prefix(['"', '<'])?.strip_suffix(['"', '>'])?;
    Some(without_dots(Path::new(name))).filter(|path| path.is_absolute() && is_called_header(path))
}

/// Whether a compiler, run in `cwd`, tells of all that it reads when it is asked as kbuild asks it, by `-MMD`: not of what
/// it finds where a system's headers are said to be.
pub fn tells_all(args: &[OsString], cwd: &Path) -> bool {
    directories_by(&OF_SYSTEM, args, cwd).iter().all(|dir| is_known(&[], dir) || !dir.exists())
}

/// The directories that a compiler's arguments name.
fn directories(args: &[OsString], cwd: &Path) -> Vec<PathBuf> {
    directories_by(&DIRECTORIES, args, cwd)
}

fn directories_by(options: &[&str], args: &[OsString], cwd: &Path) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let bytes = arg.as_bytes();
        let Some(joined) = options.iter().find_map(|option| bytes.strip_prefix(option.as_bytes())) else {
            continue;
        };
        let joined = Some(OsStr::from_bytes(joined)).filter(|joined| !joined.is_empty());
        let Some(named) = joined.or_else(|| rest.next().map(OsString::as_os_str)) else { break };
        // Below the root of the system that is compiled for: without another one that is ours.
        let below = ["=", "$SYSROOT"].iter().find_map(|root| named.as_bytes().strip_prefix(root.as_bytes()));
        dirs.push(by_letters(&cwd.join(below.map_or(named, OsStr::from_bytes))));
    }
    dirs
}

/// Which headers there are now in a `build` directory, as a digest: makes make some, while others compile. None where one
/// that was made `since` then may have an object hold what no compiler tells of.
pub fn headers_now(build: &Path, since: SystemTime) -> io::Result<Option<String>> {
    let mut opaque = false;
    let is_wanted = |name: &Path| !is_by_product(name) && !is_tried(name);
    let names =
        Tree::walk(build)?.names_now(is_wanted, since, |name, bytes| opaque = opaque || is_opaque(name, bytes))?;
    Ok(Some(names).filter(|_| !opaque))
}

/// Whether something lies in one of the `known` places, or where compilers have their headers.
pub fn is_known(known: &[PathBuf], path: &Path) -> bool {
    known.iter().any(|known| path.starts_with(known))
        || COMPILERS.iter().any(|place| path.as_os_str().as_bytes().starts_with(place.as_bytes()))
}

/// A path without dots; where a link on its way makes another one of that, the one that is meant.
fn by_letters(path: &Path) -> PathBuf {
    let plain = without_dots(path);
    if !path.iter().any(|part| part == "..") {
        return plain;
    }
    let real = fs::canonicalize(path).ok();
    real.filter(|real| fs::canonicalize(&plain).ok().as_ref() != Some(real)).unwrap_or(plain)
}

/// The same by its letters: what lies beside a directory is not in it.
pub fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_compiler_stays_where_headers_are_known() {
        let known = ["/lib/m/build", "/usr/src/headers"].map(PathBuf::from);
        for (text, variable, stays) in [
            ("-nostdinc -I./include -I../headers/arch -I /lib/m/build/sub -c a.c", "PATH", true),
            ("-nostdinc -isystem /usr/lib/gcc/x86_64-linux-gnu/12/include -include /etc/a.h", "PATH", true),
            ("-I./include -c a.c", "PATH", false),
            ("-nostdinc -I../other", "PATH", false),
            ("-nostdinc -I/lib/m/build/../../n", "PATH", false),
            ("-nostdinc -I/lib/m/build2", "PATH", false),
            ("-nostdinc -I /usr/include", "PATH", false),
            ("-nostdinc -iquote/opt", "PATH", false),
            ("-nostdinc -idirafter /opt", "PATH", false),
            ("-nostdinc -isystem/opt", "PATH", false),
            ("-nostdinc --sysroot=/opt", "PATH", false),
            ("-nostdinc -specs=a", "PATH", false),
            ("-nostdinc --specs=a", "PATH", false),
            ("-nostdinc -I=/opt", "PATH", false),
            ("-nostdinc -isystem $SYSROOT/opt", "PATH", false),
            ("-nostdinc -Wa,-mx86-used-note=no,@/opt/args", "PATH", false),
            ("-nostdinc --include=/opt/a.h", "PATH", false),
            ("-nostdinc @args", "PATH", false),
            ("-nostdinc -B/opt", "PATH", false),
            ("-nostdinc -Wp,-I/opt", "PATH", false),
            ("-nostdinc -Wp,-MMD,a.d", "PATH", true),
            ("-nostdinc -Xpreprocessor -I -Xpreprocessor /opt", "PATH", false),
            ("-nostdinc --include-directory-after=/opt", "PATH", false),
            ("-nostdinc -Iinclude", "CPATH", false),
            ("-nostdinc -Iinclude", "CCC_OVERRIDE_OPTIONS", false),
            ("-nostdinc -Iinclude", "C_INCLUDE_PATH", false),
        ] {
            let args: Vec<OsString> = text.split_whitespace().map(OsString::from).collect();
            let found =
                stays_in(&known, false, &args, Path::new("/usr/src/headers"), [OsString::from(variable)].into_iter());
            assert_eq!(found, stays, "{text} {variable}");
        }
        assert!(stays_in(&known, true, &["-c".into()], Path::new("/"), std::iter::empty()));
    }

    #[test]
    fn a_compiler_begins_where_headers_are_known() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        for name in ["build/sub", "other/below"] {
            fs::create_dir_all(at(name))?;
        }
        for name in ["build/a.c", "build/sub/a.h", "other/a.c", "other/a.h"] {
            fs::write(at(name), "")?;
        }
        std::os::unix::fs::symlink("../other/below", at("build/link"))?;
        for (text, begins) in [
            ("-c a.c -o a.o", true),
            ("-include sub/a.h -c sub/../a.c", true),
            ("-c ../other/a.c", false),
            ("-c a.c -o ../other/a.c", true),
            ("-include ../other/a.h -c a.c", false),
            ("-include../other/a.h -c a.c", false),
            ("-imacros ../other/a.h -c a.c", false),
            ("-c link/../a.c", false),
            ("-DNAMED=</opt/a.h> -c a.c", false),
            ("-DNAMED=\"/opt/a\" -c a.c", true),
        ] {
            let args: Vec<OsString> = text.split_whitespace().map(OsString::from).collect();
            assert_eq!(begins_in(&[at("build")], &args, &at("build")), begins, "{text}");
        }
        let args = ["-nostdinc", "-Ilink/.."].map(OsString::from);
        assert!(!stays_in(&[at("build")], false, &args, &at("build"), std::iter::empty()));
        Ok(())
    }

    #[test]
    fn what_is_made_meanwhile_is_seen() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let build = dir.path().join("build");
        fs::create_dir_all(build.join("gen/sub"))?;
        fs::create_dir_all(build.join(".tmp_1"))?;
        fs::write(build.join("gen/was.h"), ".incbin")?;
        let since = SystemTime::now() + Duration::from_secs(3600);
        let mut last = headers_now(&build, since)?;
        for (name, is_seen) in [
            ("gen/sub/a.h", true),
            ("a.inc", true),
            ("opt.gen", true),
            ("gen/opt", true),
            ("gen/impl.c", true),
            (".opt.h", true),
            ("a.mod.c", false),
            ("gen/a.o", false),
            ("gen/.a.o.cmd", false),
            ("gen/.a.o.tmp", false),
            ("a.mod", false),
            ("modules.order", false),
            (".tmp_1/tmp", false),
        ] {
            fs::write(build.join(name), ".incbin")?;
            let now = headers_now(&build, since)?;
            assert_eq!(now != last, is_seen, "{name}");
            last = now;
        }
        assert!(last.is_some());
        Ok(())
    }

    #[test]
    fn what_is_made_meanwhile_may_hold_what_nobody_tells_of() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (build, beside) = (dir.path().join("build"), dir.path().join("beside"));
        fs::create_dir_all(&build)?;
        fs::create_dir_all(&beside)?;
        fs::write(beside.join("a.h"), ".incbin")?;
        for (name, text, is_told) in
            [("a.h", "int a;", true), ("a.o", ".incbin", true), ("a.h", ".incbin", false), ("a.S", ".incbin", false)]
        {
            fs::write(build.join(name), text)?;
            assert_eq!(headers_now(&build, SystemTime::UNIX_EPOCH)?.is_some(), is_told, "{name}: {text}");
            fs::remove_file(build.join(name))?;
        }
        // As old as that is, nobody has looked into it.
        let settings = dir.path().join("settings");
        let mut since = SystemTime::UNIX_EPOCH;
        while since <= fs::metadata(beside.join("a.h"))?.modified()? {
            fs::write(&settings, "")?;
            since = fs::metadata(&settings)?.modified()?;
        }
        std::os::unix::fs::symlink("../beside", build.join("link"))?;
        assert!(headers_now(&build, since)?.is_none());
        assert!(headers_now(&build, since + Duration::from_secs(3600))?.is_some());
        Ok(())
    }
}
