// SPDX-License-Identifier: GPL-2.0-or-later
//! What compilers read, by what kbuild notes of it beside each object (scripts/basic/fixdep.c of the kernel).

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::model::headers::Headers;
use crate::system::directories::find_all;
use crate::system::files::At;

/// Where compilers have headers of their own; which compilers there are counts elsewhere.
const COMPILERS: [&str; 3] = ["/usr/lib/gcc/", "/usr/lib/llvm", "/usr/lib/linux-kbuild-"];

/// Where packages have theirs.
const PACKAGES: [&str; 2] = ["/usr/include/", "/usr/lib/"];

/// Where a build may read without anything else being said of it.
#[derive(Debug)]
pub struct Places<'a> {
    /// Its own directory, as it stands outside of its view, and as it sees it.
    pub build: [&'a Path; 2],
    /// The kernel's headers.
    pub headers: &'a Headers,
    /// What else its key speaks of.
    pub others: Vec<PathBuf>,
    /// Whether its key speaks of the versions of all packages.
    pub packages: bool,
}

/// What speaks against keeping what a build made.
#[derive(Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It read a file of which its key says nothing.
    Elsewhere(PathBuf),
    /// A header changed while it was built.
    Changed(PathBuf),
}

impl Places<'_> {
    /// Looks through what kbuild noted. `since`: when headers were looked through.
    pub fn doubt(&self, since: SystemTime) -> io::Result<Option<Doubt>> {
        let mut seen = HashSet::new();
        let names = self.headers.names();
        for note in find_all(self.build[0], &mut |name| name.starts_with('.') && name.ends_with(".cmd"))? {
            for file in files_in(&String::from_utf8_lossy(&fs::read(&note).at(&note)?)) {
                if !seen.insert(file.to_owned()) {
                    continue;
                }
                let below = |(inside, outside): &(String, String)| {
                    let rest = file.strip_prefix(inside.as_str())?;
                    rest.starts_with('/').then(|| PathBuf::from(format!("{outside}{rest}")))
                };
                let path = names.iter().find_map(below).unwrap_or_else(|| PathBuf::from(file));
                // Where compilers run is the kernel's directory, or the module's own.
                let path = without_dots(&if path.is_relative() { self.headers.flavour().join(path) } else { path });
                if self.headers.have(&path) {
                    let changed = fs::metadata(&path).is_ok_and(|meta| time(meta.ctime(), meta.ctime_nsec()) >= since);
                    if changed {
                        return Ok(Some(Doubt::Changed(path)));
                    }
                } else if !self.knows(&path) {
                    return Ok(Some(Doubt::Elsewhere(path)));
                }
            }
        }
        Ok(None)
    }

    fn knows(&self, path: &Path) -> bool {
        let starts = |places: &[&str]| {
            places.iter().any(|place| path.as_os_str().as_encoded_bytes().starts_with(place.as_bytes()))
        };
        self.build.iter().any(|build| path.starts_with(build))
            || self.others.iter().any(|other| path.starts_with(other))
            || starts(&COMPILERS)
            || self.packages && starts(&PACKAGES)
    }
}

/// The files that an object depends on, in what is noted of it.
fn files_in(note: &str) -> impl Iterator<Item = &str> {
    let dependencies = note.lines().skip_while(|line| !line.starts_with("deps_")).skip(1);
    let words = dependencies.take_while(|line| line.starts_with(' ')).map(|line| line.trim_end_matches('\\').trim());
    words.filter(|word| !word.is_empty() && !word.starts_with("$("))
}

/// The same by its letters: what lies beside a directory is not in it.
fn without_dots(path: &Path) -> PathBuf {
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

fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(seconds.unsigned_abs(), u32::try_from(nanoseconds).unwrap_or(0))
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
        let doubt = |file: &str, packages: bool, since: SystemTime| {
            let text = format!(
                "savedcmd_x.o := gcc x.c\n\nsource_x.o := x.c\n\ndeps_x.o := \\\n    $(wildcard include/config/A) \\\n  {file} \\\n\nx.o: $(deps_x.o)\n"
            );
            fs::write(at("build/.x.o.cmd"), text).expect("it can be written");
            let places = Places { build: [&build, inside], headers: &headers, others: vec![at("other")], packages };
            places.doubt(since).expect("it can be read")
        };
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
        ] {
            assert_eq!(doubt(file, packages, since), expected, "{file}");
        }
        let changed = Doubt::Changed(at("v-common/include/a.h"));
        assert_eq!(doubt(common.to_str().expect("a name"), false, SystemTime::UNIX_EPOCH), Some(changed));
        Ok(())
    }
}
