// SPDX-License-Identifier: GPL-2.0-or-later
//! A kernel's headers: where their parts lie, how builds see them, and what of them decides how a module comes out.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

use crate::system::digest::{self, Digest, Notes, Tree};
use crate::system::sandbox::Mount;

/// What the headers that all flavours share are called in a build's view, whatever the kernel's version is.
const COMMON: &str = "linux-headers-common";

/// The same of the flavour's own, where compilers run and whose name they put into debugging symbols.
pub const FLAVOUR: &str = "linux-headers-flavour";

/// The configuration as a header, below the build directory.
pub const AUTOCONF: &str = "include/generated/autoconf.h";

/// What defines LINUX_VERSION_CODE, below the build directory.
const VERSION: &str = "include/generated/uapi/linux/version.h";

/// Where those headers lie, below what all flavours share, of which nearly every object reads hundreds: to look into them
/// for each takes longer than it helps.
const CORE: [&str; 5] = ["arch", "include/asm-generic", "include/linux", "include/uapi", "include/vdso"];

/// What is to be known of all files of a kernel's headers, as digests.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Of all that a build can find there; the same wherever and whenever it was unpacked.
    pub content: String,
    /// Of what decides on every object beyond the headers that are looked into for it: which headers there are, for one
    /// that comes can be found before another, and what is in those of [`Headers::names_of_frame`].
    pub frame: String,
}

/// The headers of one kernel.
///
/// Debian's come in two directories side by side: that of the flavour, whose Makefile does little more than to include
/// that of the one that all flavours share.
#[derive(Debug, Clone)]
pub struct Headers {
    /// The build directory, all links resolved.
    flavour: PathBuf,
    /// Beside it, what it shares with others.
    common: Option<PathBuf>,
}

impl Headers {
    /// Looks at a kernel's build directory.
    pub fn of(build_dir: &Path) -> io::Result<Self> {
        let flavour = fs::canonicalize(build_dir)?;
        let makefile = fs::read_to_string(flavour.join("Makefile")).unwrap_or_default();
        let common = included(&makefile).map(PathBuf::from).filter(|common| {
            let real = fs::symlink_metadata(common).is_ok_and(|meta| meta.is_dir());
            real && common.parent() == flavour.parent() && *common != flavour
        });
        Ok(Self { flavour, common })
    }

    /// The mounts by which a build finds the headers at paths that do not name a version: objects of one kernel are then
    /// those of the next if its headers are the same, and the compile cache sees that.
    ///
    /// The directory that they lie in becomes a private one with everything that was there, but links in their places.
    pub fn view(&self) -> Vec<Mount> {
        let (Some(common), Some(base)) = (&self.common, self.flavour.parent()) else {
            return Vec::new();
        };
        let Ok(entries) = fs::read_dir(base) else {
            return Vec::new();
        };
        let ours = [(common, COMMON), (&self.flavour, FLAVOUR)];
        let mut mounts = vec![Mount::Empty { at: base.to_owned() }];
        for path in entries.flatten().map(|entry| entry.path()) {
            let renamed = ours.iter().find(|(dir, _)| **dir == path).map(|(_, name)| PathBuf::from(name));
            mounts.push(match renamed.or_else(|| fs::read_link(&path).ok()) {
                Some(target) => Mount::Link { at: path, target },
                None => Mount::Bind { from: path.clone(), at: path, writable: false },
            });
        }
        mounts.extend(ours.map(|(dir, name)| Mount::Bind { from: dir.clone(), at: base.join(name), writable: false }));
        mounts
    }

    /// The names that [`Headers::view`] gives the directories, and their own.
    pub fn names(&self) -> Vec<(String, String)> {
        let pairs = self.common.iter().map(|common| (common, COMMON)).chain([(&self.flavour, FLAVOUR)]);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        pairs
            .filter(|_| self.common.is_some())
            .map(|(dir, name)| (text(&dir.with_file_name(name)), text(dir)))
            .collect()
    }

    /// All names by which a build may call the directories: their own, and those of [`Headers::view`].
    pub fn places(&self) -> Vec<PathBuf> {
        let dirs = self.common.iter().chain([&self.flavour]).cloned();
        dirs.chain(self.names().into_iter().map(|(inside, _)| PathBuf::from(inside))).collect()
    }

    /// The kernel's own directory.
    pub fn flavour(&self) -> &Path {
        &self.flavour
    }

    /// Whether a file lies in them.
    pub fn have(&self, file: &Path) -> bool {
        file.starts_with(&self.flavour) || self.common.as_ref().is_some_and(|common| file.starts_with(common))
    }

    fn tree(&self) -> io::Result<Tree> {
        let mut tree = Tree::walk(&self.flavour)?;
        if let Some(common) = &self.common {
            tree.add(common, COMMON);
        }
        Ok(tree)
    }

    /// Looks through them, unless that is noted.
    pub fn look(&self, notes: &Notes) -> io::Result<Seen> {
        let tree = self.tree()?;
        let is_core =
            |name: &Path| name.strip_prefix(COMMON).is_ok_and(|below| CORE.iter().any(|core| below.starts_with(core)));
        // Whatever an object may have from there, a source, too.
        let part = |name: &Path| if is_core(name) { Some(true) } else { is_header(name).then_some(false) };
        let frame = |names_and_core: &str| {
            let mut frame = Digest::new("frame 2");
            frame.add(names_and_core).add(self.settings());
            frame.finish()
        };
        let summary = notes.summary(&tree, part)?;
        Ok(Seen { frame: frame(&summary.part), content: summary.content })
    }

    /// The kernel's configuration without what names its version, as a digest.
    pub fn settings(&self) -> String {
        let autoconf = fs::read(self.flavour.join(AUTOCONF)).unwrap_or_default();
        let mut digest = Digest::new("settings");
        for line in settings(&autoconf) {
            digest.add(line);
        }
        digest.finish()
    }

    /// What kernels have in common that were built anew without a change of their sources: of one's objects most are the
    /// other's.
    pub fn likeness(&self) -> String {
        let version = fs::read(self.flavour.join(VERSION)).unwrap_or_default();
        digest::of(&version) + &self.settings()
    }

    /// The names by which a compiler in a build's view may say that it read what is part of the frame: directories, and
    /// the configuration, from where it runs or in full.
    pub fn names_of_frame(&self) -> Vec<PathBuf> {
        let fixed = |name: &str| self.flavour.with_file_name(name);
        let mut names = vec![AUTOCONF.into(), Path::new(".").join(AUTOCONF)];
        names.extend([fixed(FLAVOUR), self.flavour.clone()].map(|dir| dir.join(AUTOCONF)));
        if self.common.is_some() {
            names.extend(CORE.map(|core| fixed(COMMON).join(core)));
        }
        names
    }

    /// Whether the kernel's own types are there, from which kbuild makes those of a module.
    pub fn has_types(&self) -> bool {
        self.flavour.join("vmlinux").exists()
    }
}

/// How names end of what nobody includes.
const OBJECTS: [&str; 3] = ["o", "ko", "symvers"];

/// The same of hidden files that kbuild leaves beside each object.
const NOTES: [&str; 3] = ["cmd", "d", "tmp"];

/// The same of what comes with objects, while others are compiled.
const BY_PRODUCTS: [&str; 12] =
    ["a", "bak", "cmd", "d", "dwo", "gcno", "log", "mod", "order", "su", "symversions", "tmp"];

/// Whether something could include a file of this name, as some do with sources.
pub fn is_header(name: &Path) -> bool {
    let is_note = is_hidden(name) && ends_in(name, &NOTES);
    !ends_in(name, &OBJECTS) && !is_note && !name.ends_with("modules.order")
}

/// Whether files of this name come while others compile, so that which of them there are says nothing.
pub fn is_by_product(name: &Path) -> bool {
    // Of kbuild's, and of ccache's: `a.o.tmp.` and six letters by chance.
    let is_ccaches = |part: &[u8]| memmem::rfind(part, b".tmp.").is_some_and(|at| part.len() == at + 11);
    let is_passing = |part: &OsStr| part.as_bytes().starts_with(b".tmp_") || is_ccaches(part.as_bytes());
    !is_header(name)
        || ends_in(name, &BY_PRODUCTS)
        || name.as_os_str().as_bytes().ends_with(b".mod.c")
        || name.iter().any(is_passing)
}

/// The same of what a configure script tries, some of it with letters by chance. These include each other.
pub fn is_tried(name: &Path) -> bool {
    name.file_name().is_some_and(|name| name.as_bytes().starts_with(b"conftest."))
}

/// Whether a file of this name is there to be included, by how most people call such.
pub fn is_called_header(name: &Path) -> bool {
    ends_in(name, &["S", "c", "def", "inc"]) || name.extension().is_some_and(|end| end.as_bytes().starts_with(b"h"))
}

fn ends_in(name: &Path, ends: &[&str]) -> bool {
    name.extension().is_some_and(|end| ends.iter().any(|other| end == *other))
}

fn is_hidden(name: &Path) -> bool {
    name.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."))
}

/// The directory whose Makefile a Makefile includes that does nothing else but to say where it stands: from Linux 6.13 on
/// Debian's begin with `KBUILD_OUTPUT=` and their own directory.
pub fn included(makefile: &str) -> Option<&str> {
    let matters = |line: &&str| !(line.is_empty() || line.starts_with('#') || line.starts_with("KBUILD_OUTPUT=/"));
    let mut lines = makefile.lines().map(str::trim).filter(matters);
    let dir = lines.next()?.strip_prefix("include ")?.trim().strip_suffix("/Makefile")?;
    (lines.next().is_none() && dir.starts_with('/') && !dir.contains([' ', '$'])).then_some(dir)
}

/// Settings that name the kernel's version, without `CONFIG_`.
pub const OF_THE_VERSION: [&str; 2] = ["BUILD_SALT", "VERSION_SIGNATURE"];

/// autoconf.h without its title, which names the version, and without the salt and Ubuntu's signature, which do so too; a
/// module that names one of them is compiled without the cache, as is the generated `.mod.c`.
pub fn settings(autoconf: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = autoconf.windows(3).position(|it| it == b"*/\n").filter(|_| autoconf.starts_with(b"/*"));
    let settings = &autoconf[end.map_or(0, |end| end + 3)..];
    settings.split_inclusive(|byte| *byte == b'\n').filter(|line| {
        let name = line.strip_prefix(b"#define CONFIG_").unwrap_or_default();
        !OF_THE_VERSION.iter().any(|other| name.starts_with(other.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flavours_makefile_includes_the_other() {
        for (text, dir) in [
            (
                "include /usr/src/linux-headers-6.1.0-56-common/Makefile\n",
                Some("/usr/src/linux-headers-6.1.0-56-common"),
            ),
            ("# Generated\n\ninclude /a/Makefile\n", Some("/a")),
            ("KBUILD_OUTPUT=/usr/src/v-amd64\ninclude /usr/src/v-common/Makefile\n", Some("/usr/src/v-common")),
            ("KBUILD_OUTPUT=$(pwd)\ninclude /a/Makefile\n", None),
            ("include /a/Makefile\nall:\n", None),
            ("include $(srctree)/Makefile\n", None),
            ("include scripts/Makefile\n", None),
            ("", None),
        ] {
            assert_eq!(included(text), dir, "{text}");
        }
    }

    #[test]
    fn what_comes_with_objects_is_no_header_then() {
        for (name, before, meanwhile) in [
            ("a.h", true, true),
            ("gen/opt", true, true),
            ("impl.c", true, true),
            (".opt", true, true),
            ("regs.d", true, false),
            ("regs.mod", true, false),
            ("config.log", true, false),
            ("a.mod.c", true, false),
            (".tmp_7/tmp.c", true, false),
            ("a.o.tmp.Ri7a9B", true, false),
            ("a.tmp.h", true, true),
            ("sub/a.o", false, false),
            ("sub/.a.o.d", false, false),
            ("sub/modules.order", false, false),
        ] {
            let name = Path::new(name);
            assert_eq!((is_header(name), !is_by_product(name)), (before, meanwhile), "{}", name.display());
        }
    }

    #[test]
    fn settings_do_not_name_the_version() {
        let text = |version: &str, value: &str| {
            format!(
                "/*\n * Linux/x86 {version} Kernel Configuration\n */\n#define CONFIG_BUILD_SALT \"{version}\"\n#define CONFIG_VERSION_SIGNATURE \"Ubuntu {version}\"\n#define CONFIG_HZ {value}\n"
            )
        };
        let lines = |text: &str| settings(text.as_bytes()).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(lines(&text("6.1.1", "250")), [b"#define CONFIG_HZ 250\n"]);
        assert_ne!(lines(&text("6.1.1", "250")), lines(&text("6.1.1", "1000")));
        assert_eq!(lines("#define CONFIG_A 1"), [b"#define CONFIG_A 1"]);
    }

    #[test]
    fn a_header_that_comes_or_a_setting_that_changes_is_seen() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let [flavour, common] = ["v1-amd64", "v1-common"].map(|name| dir.path().join(name));
        fs::create_dir_all(flavour.join("include/generated"))?;
        fs::create_dir_all(common.join("include"))?;
        fs::write(flavour.join("Makefile"), format!("include {}/Makefile\n", common.display()))?;
        fs::write(flavour.join("include/generated/autoconf.h"), "#define CONFIG_A 1\n")?;
        fs::write(common.join("include/a.h"), "1")?;
        let headers = Headers::of(&flavour)?;
        let view = headers.view();
        assert!(view.contains(&Mount::Link { at: common.clone(), target: COMMON.into() }), "{view:?}");
        assert!(view.iter().any(
            |mount| matches!(mount, Mount::Bind { from, at, .. } if *from == common && *at == dir.path().join(COMMON))
        ));
        let look = || headers.look(&Notes::new(None)).map(|seen| (seen.content, seen.frame));
        let (content, frame) = look()?;
        // What most objects do not read counts where it is read.
        fs::write(common.join("include/a.h"), "2")?;
        let (other, same) = look()?;
        assert!(same == frame && other != content);
        let mut last = frame;
        for (file, text) in [
            (common.join("include/b.h"), ""),
            (common.join("include/linux/c.h"), "1"),
            (common.join("include/linux/c.h"), "2"),
            (flavour.join("include/generated/autoconf.h"), "#define CONFIG_A 2\n"),
        ] {
            fs::create_dir_all(file.parent().unwrap_or(&common))?;
            fs::write(&file, text)?;
            let (_, frame) = look()?;
            assert_ne!(frame, last, "{}", file.display());
            last = frame;
        }
        assert!(headers.names_of_frame().contains(&dir.path().join("linux-headers-common/include/linux")));
        Ok(())
    }
}
