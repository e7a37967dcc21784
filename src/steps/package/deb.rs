// SPDX-License-Identifier: GPL-2.0-or-later
//! Writing a binary package, as deb(5) describes it: the same files give the same bytes.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use ar::{Builder, Header};
use liblzma::write::XzEncoder;

use super::contents::{Contents, md5};
use crate::steps::pack::Pack;

/// xz's own default; what is larger takes memory of everyone who unpacks it.
const XZ_LEVEL: u32 = 6;

/// Fields of a control file, in their order.
pub type Fields = Vec<(&'static str, String)>;

/// A binary package.
#[derive(Debug)]
pub struct Deb {
    /// deb-control(5), without Installed-Size.
    pub fields: Fields,
    /// Maintainer scripts and what else stands beside the control file, by name.
    pub scripts: Vec<(&'static str, String)>,
    /// What it installs.
    pub contents: Contents,
    /// The time of all that is in it.
    pub time: u64,
}

impl Deb {
    /// What a field says; nothing where there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }

    /// The package's bytes.
    pub fn build(&self) -> io::Result<Vec<u8>> {
        let mut sums = String::new();
        let mut kib = 0;
        let data = xz(self.time, |pack| {
            self.contents.pack(pack, "./", |path, bytes| {
                // As dpkg-gencontrol(1) counts it.
                kib += (bytes.len() as u64).div_ceil(1024);
                // What may be edited has no place among what is checked.
                if !path.starts_with("etc") {
                    let _ = writeln!(sums, "{}  {}", md5(bytes), path.display());
                }
            })
        })?;
        kib += self.contents.iter().filter(|(_, entry)| !entry.is_file()).count() as u64;
        let mut inside = vec![("control", control(&self.fields, kib), 0o644)];
        for (name, text) in [("conffiles", self.contents.conffiles()), ("md5sums", sums)] {
            if !text.is_empty() {
                inside.push((name, text, 0o644));
            }
        }
        for (name, text) in &self.scripts {
            inside.push((name, text.clone(), if *name == "triggers" { 0o644 } else { 0o755 }));
        }
        let control = xz(self.time, |pack| {
            inside
                .iter()
                .try_for_each(|(name, text, mode)| pack.bytes(format!("./{name}").as_bytes(), *mode, text.as_bytes()))
        })?;
        let mut archive = Builder::new(Vec::new());
        for (name, bytes) in
            [("debian-binary", b"2.0\n".as_slice()), ("control.tar.xz", &control), ("data.tar.xz", &data)]
        {
            let mut header = Header::new(name.into(), bytes.len() as u64);
            header.set_mtime(self.time);
            header.set_mode(0o100_644);
            archive.append(&header, bytes)?;
        }
        archive.into_inner()
    }
}

/// A compressed tar archive of what `fill` puts into it.
pub fn xz(time: u64, fill: impl FnOnce(&mut Pack<XzEncoder<Vec<u8>>>) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut pack = Pack::begin(XzEncoder::new(Vec::new(), XZ_LEVEL), time)?;
    fill(&mut pack)?;
    let mut encoder = pack.finish()?;
    encoder.flush()?;
    encoder.finish()
}

/// A control file's text.
fn control(fields: &Fields, kib: u64) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        let _ = writeln!(text, "{name}: {value}");
        if *name == "Maintainer" {
            let _ = writeln!(text, "Installed-Size: {kib}");
        }
    }
    text
}

/// A description as a field: the synopsis, and the rest in lines that begin with a blank.
pub fn description(synopsis: &str, extended: &[String]) -> String {
    let rest: String = extended.iter().map(|line| format!("\n {line}")).collect();
    format!("{synopsis}{rest}")
}

/// The name of a package's file; an epoch is not in it.
pub fn file_name(package: &str, version: &str, arch: &str) -> String {
    format!("{package}_{}_{arch}.deb", without_epoch(version))
}

/// A version as it stands in names of files.
pub fn without_epoch(version: &str) -> &str {
    version.split_once(':').map_or(version, |(_, rest)| rest)
}

/// Where the changelog is; of a version with a revision it is Debian's, for such a package is not native.
pub fn changelog_path(package: &str, version: &str) -> std::path::PathBuf {
    let name = if version.contains('-') { "changelog.Debian.gz" } else { "changelog.gz" };
    Path::new("usr/share/doc").join(package).join(name)
}
