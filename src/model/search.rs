// SPDX-License-Identifier: GPL-2.0-or-later
//! Where a compiler looks for headers, by its arguments (gcc(1), "Options for Directory Search").
//!
//! Which headers there are decides which one is found, and whether `__has_include` finds any. For the module's own
//! directory and the kernel's headers that is part of what objects are kept under; of other places nothing is known.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Where compilers have headers of their own; which compilers there are counts elsewhere.
pub const COMPILERS: [&str; 3] = ["/usr/lib/gcc/", "/usr/lib/llvm", "/usr/lib/linux-kbuild-"];

/// Options that name a directory, in the same word or in the next one.
const DIRECTORIES: [&str; 4] = ["-I", "-iquote", "-isystem", "-idirafter"];

/// Options that name one in other ways, or of which it has others, by how they begin.
const OTHERS: [&str; 8] =
    ["-iprefix", "-iwithprefix", "-isysroot", "--sysroot", "-imulti", "--include-directory", "-specs", "@"];

/// Variables that do, by how they begin.
const VARIABLES: [&str; 5] = ["CPATH", "C_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH"];

/// Whether a compiler, run in `cwd`, looks for headers in `known` places alone; `defaults`: its own count as known.
/// `variables` are those of its environment.
pub fn stays_in(
    known: &[PathBuf],
    defaults: bool,
    args: &[OsString],
    cwd: &Path,
    mut variables: impl Iterator<Item = OsString>,
) -> bool {
    let mut has_defaults = !defaults;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let bytes = arg.as_bytes();
        has_defaults &= bytes != b"-nostdinc";
        if OTHERS.iter().any(|other| bytes.starts_with(other.as_bytes())) {
            return false;
        }
        let Some(joined) = DIRECTORIES.iter().find_map(|option| bytes.strip_prefix(option.as_bytes())) else {
            continue;
        };
        let joined = Some(OsStr::from_bytes(joined)).filter(|joined| !joined.is_empty());
        let Some(dir) = joined.or_else(|| rest.next().map(OsString::as_os_str)) else { break };
        if !is_known(known, &without_dots(&cwd.join(dir))) {
            return false;
        }
    }
    let tells = |name: OsString| VARIABLES.iter().any(|known| name.as_bytes().starts_with(known.as_bytes()));
    !has_defaults && !variables.any(tells)
}

fn is_known(known: &[PathBuf], dir: &Path) -> bool {
    known.iter().any(|known| dir.starts_with(known)) || is_compilers(dir)
}

/// Whether something lies where compilers have their headers.
pub fn is_compilers(path: &Path) -> bool {
    COMPILERS.iter().any(|place| path.as_os_str().as_bytes().starts_with(place.as_bytes()))
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
            ("-nostdinc @args", "PATH", false),
            ("-nostdinc -Iinclude", "CPATH", false),
            ("-nostdinc -Iinclude", "C_INCLUDE_PATH", false),
        ] {
            let args: Vec<OsString> = text.split_whitespace().map(OsString::from).collect();
            let found =
                stays_in(&known, false, &args, Path::new("/usr/src/headers"), [OsString::from(variable)].into_iter());
            assert_eq!(found, stays, "{text} {variable}");
        }
        assert!(stays_in(&known, true, &["-c".into()], Path::new("/"), std::iter::empty()));
    }
}
