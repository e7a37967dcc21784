// SPDX-License-Identifier: GPL-2.0-or-later
//! Writing a tarball of dkms: the same files give the same bytes, whenever and by whomever they are packed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tar::{EntryType, Header};

use crate::system::compressed::{Format, Writer};
use crate::system::files::{self, At};
use crate::system::scratch::{self, Scratch};

/// A name or target of a link that is longer has an entry of its own in front.
const LONGEST_IN_HEADER: usize = 100;

/// A tar archive that is written to `writer`.
#[derive(Debug)]
pub struct Pack<W: Write> {
    writer: W,
    /// The time of every entry.
    time: u64,
}

impl Pack<Writer> {
    /// Makes the tarball at `place`, compressed as its name says, of what `fill` puts into it: all of it, in one step, or
    /// nothing, unless a pipe or a device is there. `time` stands at all that is in it.
    pub fn at<T>(place: &Path, time: u64, fill: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        let format = Format::of_name(place);
        let (place, there) = match files::Place::of(place)? {
            files::Place::Through(file) => return Self::into(file, format, time, fill),
            files::Place::File { path, there } => (path, there),
        };
        let dir = place.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        scratch::sweep(dir, scratch::PREFIX);
        let scratch = Scratch::new(dir)?;
        let new = scratch.path().join("tarball");
        let filled = Self::into(File::create(&new).at(&new)?, format, time, fill)?;
        files::succeed(&new, there.as_ref())?;
        files::sync(&new)?;
        files::rename(&new, &place)?;
        Ok(filled)
    }

    fn into<T>(
        file: File,
        format: Option<Format>,
        time: u64,
        fill: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut pack = Self::begin(Writer::new(file, format)?, time)?;
        let filled = fill(&mut pack)?;
        pack.finish()?.finish()?;
        Ok(filled)
    }
}

impl<W: Write> Pack<W> {
    /// Begins an archive; `time` stands at all that is in it.
    pub fn begin(writer: W, time: u64) -> io::Result<Self> {
        let mut pack = Self { writer, time };
        pack.dir("./")?;
        Ok(pack)
    }

    /// Adds a directory; its name ends in a slash.
    pub fn dir(&mut self, name: impl AsRef<[u8]>) -> io::Result<()> {
        let header = self.header(EntryType::Directory, 0o755, 0);
        self.entry(header, name.as_ref(), io::empty())
    }

    /// Adds a file with this text.
    pub fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.bytes(name.as_bytes(), 0o644, text.as_bytes())
    }

    /// Adds a file of these bytes, with this mode.
    pub fn bytes(&mut self, name: &[u8], mode: u32, bytes: &[u8]) -> io::Result<()> {
        let header = self.header(EntryType::Regular, mode, bytes.len() as u64);
        self.entry(header, name, bytes)
    }

    /// Adds the file at `path`.
    pub fn file(&mut self, name: &str, path: &Path) -> io::Result<()> {
        self.open(name.as_bytes(), path)
    }

    /// Adds directory `dir` and what is in it, sorted by name. Gives the links in it that lead out of it.
    ///
    /// Owners, and the modes beyond who may execute, are not kept: they depend on where a source was unpacked.
    pub fn tree(&mut self, name: &str, dir: &Path) -> io::Result<Vec<String>> {
        let mut outside = Vec::new();
        self.below(format!("{name}/").as_bytes(), dir, 0, &mut outside)?;
        Ok(outside)
    }

    fn below(&mut self, name: &[u8], dir: &Path, depth: usize, outside: &mut Vec<String>) -> io::Result<()> {
        let header = self.header(EntryType::Directory, 0o755, 0);
        self.entry(header, name, io::empty())?;
        let mut entries = fs::read_dir(dir).at(dir)?.collect::<io::Result<Vec<_>>>().at(dir)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = [name, entry.file_name().as_bytes()].concat();
            let kind = entry.file_type().at(&path)?;
            if kind.is_dir() {
                self.below(&[&name, &b"/"[..]].concat(), &path, depth + 1, outside)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).at(&path)?;
                if leads_out(&target, depth) {
                    outside.push(path.display().to_string());
                }
                self.link(&name, target.as_os_str().as_bytes())?;
            } else if kind.is_file() {
                self.open(&name, &path)?;
            }
            // Sockets, pipes and devices are no source code.
        }
        Ok(())
    }

    fn open(&mut self, name: &[u8], path: &Path) -> io::Result<()> {
        let file = File::open(path).at(path)?;
        let meta = file.metadata().at(path)?;
        let mode = if meta.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        let header = self.header(EntryType::Regular, mode, meta.len());
        self.entry(header, name, file).at(path)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &[u8], target: &[u8]) -> io::Result<()> {
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        if target.len() > LONGEST_IN_HEADER {
            self.long(b'K', target)?;
        }
        header.set_link_name_literal(&target[..target.len().min(LONGEST_IN_HEADER)])?;
        self.entry(header, name, io::empty())
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        if let Some(header) = header.as_gnu_mut() {
            header.uname[..4].copy_from_slice(b"root");
            header.gname[..4].copy_from_slice(b"root");
        }
        header
    }

    /// A name, or the target of a link, that has no room in the header of the entry that follows.
    fn long(&mut self, kind: u8, text: &[u8]) -> io::Result<()> {
        let header = self.header(EntryType::new(kind), 0o644, text.len() as u64 + 1);
        self.entry(header, b"././@LongLink", [text, b"\0"].concat().as_slice())
    }

    /// The crate's own way would drop the `./` that names in such tarballs have always begun with.
    fn entry(&mut self, mut header: Header, name: &[u8], data: impl Read) -> io::Result<()> {
        if name.len() > LONGEST_IN_HEADER {
            self.long(b'L', name)?;
        }
        let short = &name[..name.len().min(LONGEST_IN_HEADER)];
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        header.set_cksum();
        self.writer.write_all(header.as_bytes())?;
        let size = header.size()?;
        if io::copy(&mut data.take(size), &mut self.writer)? != size {
            return Err(io::Error::other("it changed while it was read"));
        }
        let padding = size.next_multiple_of(512) - size;
        self.writer.write_all(&[0; 512][..padding as usize])
    }

    /// Ends the archive; gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.write_all(&[0; 1024])?;
        Ok(self.writer)
    }
}

/// The time of all that is packed of a source: SOURCE_DATE_EPOCH, or else how old its dkms.conf is.
///
/// One for all: that a build directory was made later than another says nothing of what is in it.
pub fn time(source: &Path) -> u64 {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let conf = || fs::metadata(source.join("dkms.conf")).ok().and_then(|meta| u64::try_from(meta.mtime()).ok());
    epoch.or_else(conf).unwrap_or_default()
}

/// Whether a link at this depth says of itself that it leads out of the tree.
fn leads_out(target: &Path, depth: usize) -> bool {
    let mut depth = Some(depth);
    for component in target.components() {
        depth = match component {
            std::path::Component::Normal(_) => depth.map(|depth| depth + 1),
            std::path::Component::CurDir => depth,
            std::path::Component::ParentDir => depth.and_then(|depth| depth.checked_sub(1)),
            _ => None,
        };
    }
    depth.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn links_out_of_a_tree_are_told_from_those_within() {
        for (target, depth, expected) in [
            ("a/b", 0, false),
            ("../a", 0, true),
            ("../a", 1, false),
            ("a/../../b", 0, true),
            ("/etc/passwd", 3, true),
            ("./..", 1, false),
        ] {
            assert_eq!(leads_out(Path::new(target), depth), expected, "{target}");
        }
    }

    #[test]
    fn the_same_files_give_the_same_bytes() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let source = dir.path().join("source");
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        fs::create_dir_all(source.join(&long))?;
        fs::write(source.join("b"), "text")?;
        fs::write(source.join("a"), [b'x'; 513])?;
        std::os::unix::fs::symlink("x".repeat(120), source.join("link"))?;
        let pack = |name: &str| {
            let place = dir.path().join(name);
            assert_eq!(Pack::at(&place, 7, |pack| pack.tree("./tree", &source))?, [""; 0]);
            fs::read(place)
        };
        let first = pack("1.tar")?;
        fs::set_permissions(source.join("a"), fs::Permissions::from_mode(0o600))?;
        fs::rename(source.join("b"), source.join("c"))?;
        fs::rename(source.join("c"), source.join("b"))?;
        assert_eq!(first, pack("2.tar")?);
        let mut archive = tar::Archive::new(first.as_slice());
        let names: Vec<String> = archive
            .entries()?
            .map(|entry| Ok(String::from_utf8_lossy(&entry?.path_bytes()).into_owned()))
            .collect::<io::Result<_>>()?;
        let long_dir = format!("./tree/{}/", "d".repeat(90));
        assert_eq!(
            names,
            ["./", "./tree/", "./tree/a", "./tree/b", &long_dir, &format!("./tree/{long}/"), "./tree/link"]
        );
        Ok(())
    }
}
