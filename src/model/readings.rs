// SPDX-License-Identifier: GPL-2.0-or-later
//! What compilers read, by what kbuild notes of it beside each object (scripts/basic/fixdep.c of the kernel).

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::model::headers::Headers;
use crate::model::search::{is_known, stays_in, without_dots};
use crate::system::directories::find_all;
use crate::system::files::{read_foreign, time};
use crate::system::process::find_program;

/// Bytes of a note that are looked at: of the largest objects they are some hundred thousand.
const LONGEST_NOTE: u64 = 16 << 20;

/// Notes that are looked at, all their bytes, and the files that they name. The largest packages have some two thousand
/// objects, which name the same ten thousand headers; but a build may have written anything.
const MOST_NOTES: usize = 1 << 14;
const MOST_NOTED: u64 = 1 << 30;
const MOST_READ: usize = 1 << 17;

/// Where packages have theirs.
const PACKAGES: [&str; 2] = ["/usr/include", "/usr/lib"];

/// Where a build may read without anything else being said of it.
#[derive(Debug)]
pub struct Places<'a> {
    /// Its own directory, as it stands outside of its view, and as it sees it.
    pub build: [&'a Path; 2],
    /// The kernel's headers.
    pub headers: &'a Headers,
    /// Links that lead to them.
    pub links: Vec<PathBuf>,
    /// What the variables are called that it saw.
    pub variables: Vec<String>,
    /// What else its key speaks of.
    pub others: Vec<PathBuf>,
    /// The tree of registered modules, of which it speaks at most of the symbols that they export.
    pub tree: &'a Path,
    /// Whether it does.
    pub symbols: bool,
    /// Whether its key speaks of the versions of all packages.
    pub packages: bool,
    /// The compiler that its key speaks of.
    pub compiler: &'a str,
}

/// What speaks against keeping what a build made.
#[derive(Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It read a file of which its key says nothing, or may have looked for one.
    Elsewhere(PathBuf),
    /// A header changed while it was built.
    Changed(PathBuf),
}

impl Places<'_> {
    /// Looks through what kbuild noted. `since`: when headers were looked through; that one changed speaks louder than all
    /// else.
    pub fn doubt(&self, since: SystemTime) -> io::Result<Option<Doubt>> {
        let mut seen = HashSet::new();
        let mut names = self.headers.names();
        let text = |path: &Path| Some(path.to_str()?.to_owned());
        names.extend(self.links.iter().filter_map(|link| Some((text(link)?, text(&fs::canonicalize(link).ok()?)?))));
        let mut elsewhere = None;
        let packages = PACKAGES.iter().map(PathBuf::from).filter(|_| self.packages);
        let own = self.build.iter().map(|build| build.to_path_buf()).chain(self.others.iter().cloned());
        let known: Vec<PathBuf> = own.chain(self.headers.places()).chain(packages).collect();
        let (mut count, mut left) = (0, MOST_NOTED);
        let notes = find_all(self.build[0], &mut |name| {
            let is_note = name.starts_with('.') && name.ends_with(".cmd");
            count += usize::from(is_note);
            is_note && count <= MOST_NOTES
        })?;
        if count > MOST_NOTES {
            return Ok(Some(Doubt::Elsewhere(self.build[0].to_owned())));
        }
        for note in notes {
            // The build wrote it, whatever it is.
            let name = note.strip_prefix(self.build[0]).map_err(io::Error::other)?;
            let text = read_foreign(self.build[0], name, left.min(LONGEST_NOTE))?;
            left -= text.len() as u64;
            let text = String::from_utf8_lossy(&text);
            let cwd = ran_in(&note, &text).unwrap_or(self.headers.flavour());
            if let Some((compiler, args)) = command_in(&text) {
                if !self.knows_compiler(compiler, cwd, &known) {
                    elsewhere.get_or_insert(Doubt::Elsewhere(compiler.into()));
                }
                // What is not there is noted nowhere.
                let variables = self.variables.iter().map(OsString::from);
                if !stays_in(&known, self.packages, &args, cwd, variables) {
                    elsewhere.get_or_insert(Doubt::Elsewhere(note.clone()));
                }
            }
            if let Some(symbols) = symbols_in(&text).find(|file| !self.knows_symbols(file, &known)) {
                elsewhere.get_or_insert(Doubt::Elsewhere(symbols.into()));
            }
            for file in files_in(&text) {
                if !seen.insert(cwd.join(file)) {
                    continue;
                }
                if seen.len() > MOST_READ {
                    return Ok(Some(Doubt::Elsewhere(note)));
                }
                let below = |(inside, outside): &(String, String)| {
                    let rest = file.strip_prefix(inside.as_str())?;
                    rest.starts_with('/').then(|| PathBuf::from(format!("{outside}{rest}")))
                };
                let path = names.iter().find_map(below).unwrap_or_else(|| PathBuf::from(file));
                let path = without_dots(&cwd.join(path));
                if self.headers.have(&path) {
                    let changed = fs::metadata(&path).is_ok_and(|meta| time(meta.ctime(), meta.ctime_nsec()) >= since);
                    if changed {
                        return Ok(Some(Doubt::Changed(path)));
                    }
                } else if !is_known(&known, &path) {
                    elsewhere.get_or_insert(Doubt::Elsewhere(path));
                }
            }
        }
        Ok(elsewhere)
    }

    /// Those of modules in the tree count by themselves where any do, wherever the file is that they stand in.
    fn knows_symbols(&self, file: &str, known: &[PathBuf]) -> bool {
        let path = Path::new(file);
        path.is_relative() || is_known(known, path) || self.symbols && path.starts_with(self.tree)
    }

    /// Packages' own count by their versions, the build's and the kernel's by what is in them.
    fn knows_compiler(&self, compiler: &str, cwd: &Path, known: &[PathBuf]) -> bool {
        let path = if compiler.contains('/') { Some(cwd.join(compiler)) } else { find_program(compiler) };
        let path = path.map(|path| without_dots(&path)).unwrap_or_default();
        compiler == self.compiler
            || ["/usr/bin", "/bin"].iter().any(|place| path.starts_with(place))
            || self.headers.have(&path)
            || is_known(known, &path)
    }
}

/// Where a compiler ran, if it was in the module's directory, as from Linux 6.13 on: what it made has its name below that.
fn ran_in<'a>(note: &'a Path, text: &str) -> Option<&'a Path> {
    let (made, _) = text.lines().next()?.split_once(" := ")?;
    let made = Path::new(made.split_once("cmd_")?.1);
    let (dir, above) = (note.parent()?, made.parent()?);
    let is_below = made.is_relative() && dir.ends_with(above);
    dir.ancestors().nth(above.components().count()).filter(|_| is_below)
}

/// The compiler that made an object, and its arguments, in what is noted of it.
fn command_in(note: &str) -> Option<(&str, Vec<OsString>)> {
    let (command, rest) = note.split_once('\n')?;
    let (_, command) = command.split_once(" := ").filter(|_| rest.contains("\ndeps_"))?;
    // objtool has options of the same names.
    let mut words = command.split_whitespace().take_while(|word| *word != ";");
    Some((words.next()?, words.map(OsString::from).collect()))
}

/// The files of symbols that modpost was given, in what is noted of what it made.
fn symbols_in(note: &str) -> impl Iterator<Item = &str> {
    let command = note.lines().next().filter(|command| command.contains("Module.symvers :=")).unwrap_or_default();
    let words: Vec<&str> = command.split_whitespace().collect();
    let given: Vec<&str> = words.windows(2).filter(|pair| pair[0] == "-i").map(|pair| pair[1]).collect();
    given.into_iter()
}

/// The files that an object depends on, in what is noted of it.
fn files_in(note: &str) -> impl Iterator<Item = &str> {
    let dependencies = note.lines().skip_while(|line| !line.starts_with("deps_")).skip(1);
    let words = dependencies.take_while(|line| line.starts_with(' ')).map(|line| line.trim_end_matches('\\').trim());
    words.filter(|word| !word.is_empty() && !word.starts_with("$("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_elsewhere_or_changed_is_seen() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        for name in ["v-amd64/include", "v-common/include", "build", "other"] {
            fs::create_dir_all(at(name))?;
        }
        fs::write(at("v-amd64/Makefile"), format!("include {}/Makefile\n", at("v-common").display()))?;
        fs::write(at("v-common/include/a.h"), "")?;
        fs::write(at("v-amd64/include/b.h"), "")?;
        let headers = Headers::of(&at("v-amd64"))?;
        let inside = Path::new("/var/lib/dkms/m/1/build");
        let build = at("build");
        let since = time(fs::metadata(at("v-amd64/include/b.h"))?.ctime() + 10, 0);
        let takes_symbols = std::cell::Cell::new(true);
        let seen = std::cell::Cell::new("HOME");
        std::os::unix::fs::symlink("v-amd64", at("link"))?;
        let made = std::cell::Cell::new("/var/lib/dkms/m/1/build/x.o");
        let note = std::cell::Cell::new("build/.x.o.cmd");
        let doubt_of = |compiler: &str, file: &str, packages: bool, since: SystemTime| {
            let made = made.get();
            let text = format!(
                "savedcmd_{made} := {compiler} -nostdinc -I./include -c x.c  ; objtool --prefix=16\n\nsource_x.o := x.c\n\ndeps_x.o := \\\n    $(wildcard include/config/A) \\\n  {file} \\\n\nx.o: $(deps_x.o)\n"
            );
            fs::write(at(note.get()), text).expect("it can be written");
            let build = [&*build, inside];
            let others = vec![at("other")];
            let tree = Path::new("/var/lib/dkms");
            let symbols = takes_symbols.get();
            let (links, variables) = (vec![at("link")], vec![seen.get().to_owned()]);
            let places = Places {
                build,
                headers: &headers,
                links,
                variables,
                others,
                tree,
                symbols,
                packages,
                compiler: "sparc-gcc",
            };
            places.doubt(since).expect("it can be read")
        };
        let doubt = |file: &str, packages: bool, since: SystemTime| doubt_of("gcc", file, packages, since);
        let common = at("linux-headers-common/include/a.h");
        let elsewhere = |file: &str| Some(Doubt::Elsewhere(file.into()));
        for (file, packages, expected) in [
            (common.to_str().expect("a name"), false, None),
            ("include/b.h", false, None),
            ("./include/b.h", false, None),
            ("/var/lib/dkms/m/1/build/own.h", false, None),
            ("/var/lib/dkms/m/1/build/sub/../own.h", false, None),
            ("/var/lib/dkms/m/1/build/../../other.h", false, elsewhere("/var/lib/dkms/m/other.h")),
            ("/usr/lib/gcc/x86_64-linux-gnu/12/include/stdarg.h", false, None),
            ("/usr/include/stdio.h", true, None),
            ("/usr/include/stdio.h", false, elsewhere("/usr/include/stdio.h")),
            ("/usr/src/other-1/other.h", true, elsewhere("/usr/src/other-1/other.h")),
            (at("other/x.h").to_str().expect("a name"), false, None),
            (at("link/include/b.h").to_str().expect("a name"), false, None),
        ] {
            assert_eq!(doubt(file, packages, since), expected, "{file}");
        }
        // Of other modules the key has the symbols.
        let header = "/var/lib/dkms/other/1/source/other.h";
        assert_eq!(doubt(header, false, since), elsewhere(header));
        let (own, others) =
            ("/var/lib/dkms/m/1/build/own.symvers", "/var/lib/dkms/other/1/6.1/x86_64/module/Module.symvers");
        for (symbols, speaks, is_known) in [
            ("Module.symvers", true, true),
            ("Module.symvers", false, true),
            (own, false, true),
            (others, true, true),
            (others, false, false),
            ("/usr/src/other/Module.symvers", true, false),
        ] {
            takes_symbols.set(speaks);
            let note = at("build/.Module.symvers.cmd");
            let text =
                format!("cmd_/m/Module.symvers := scripts/mod/modpost -m -o /m/Module.symvers -e -i {symbols}\n");
            fs::write(&note, text)?;
            let expected = if is_known { None } else { elsewhere(symbols) };
            assert_eq!(doubt("include/b.h", false, since), expected, "{symbols} {speaks}");
            fs::remove_file(note)?;
        }
        for (compiler, is_known) in [
            ("sh", true),
            ("/usr/bin/gcc-12", true),
            ("sparc-gcc", true),
            ("./scripts/wrapper", true),
            ("/opt/gcc/bin/gcc", false),
            ("/usr/bin/../local/bin/gcc", false),
            ("no-such-compiler", false),
        ] {
            let expected = if is_known { None } else { elsewhere(compiler) };
            assert_eq!(doubt_of(compiler, "include/b.h", false, since), expected, "{compiler}");
        }
        let changed = Doubt::Changed(at("v-common/include/a.h"));
        assert_eq!(doubt(common.to_str().expect("a name"), false, SystemTime::UNIX_EPOCH), Some(changed));
        let linked = at("link/include/b.h");
        let changed = Some(Doubt::Changed(at("v-amd64/include/b.h")));
        assert_eq!(doubt(linked.to_str().expect("a name"), false, SystemTime::UNIX_EPOCH), changed);
        // Where else it may have looked is not noted.
        seen.set("C_INCLUDE_PATH");
        assert_eq!(doubt("include/b.h", false, since), Some(Doubt::Elsewhere(at("build/.x.o.cmd"))));
        assert_eq!(doubt("include/b.h", false, SystemTime::UNIX_EPOCH), changed, "which is worse");
        // Where it ran in the module's directory, which is one in the build's.
        seen.set("HOME");
        fs::remove_file(at("build/.x.o.cmd"))?;
        fs::create_dir_all(at("build/src/sub"))?;
        for (object, noted, file, expected) in [
            ("x.o", "build/src/.x.o.cmd", "../own.h", None),
            ("x.o", "build/src/.x.o.cmd", "../../other.h", elsewhere(at("other.h").to_str().expect("a name"))),
            ("sub/x.o", "build/src/sub/.x.o.cmd", "../own.h", None),
            ("sub/x.o", "build/src/sub/.x.o.cmd", "../../other.h", elsewhere(at("other.h").to_str().expect("a name"))),
        ] {
            made.set(object);
            note.set(noted);
            assert_eq!(doubt(file, false, since), expected, "{noted} {file}");
            fs::remove_file(at(noted))?;
        }
        Ok(())
    }
}
