// SPDX-License-Identifier: GPL-2.0-or-later
//! Writing a source package, as dsc(5) and deb-changes(5) describe it: format 3.0 (native), built with debhelper.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Packaging;
use super::contents::{Contents, Entry, md5};
use super::deb::{without_epoch, xz};
use super::documents::{COMMON, changelog, copyright};
use crate::system::digest::hex;

/// What building the package takes; dh-sequence-dkms brings dh_dkms(1).
const BUILD_DEPENDS: &str = "debhelper-compat (= 13), dh-sequence-dkms";

/// Versions of Debian Policy that its files keep to, and when each came, in seconds since 1970. A package older than the
/// one that it names is told of by lintian.
const STANDARDS: [(u64, &str); 5] = [
    (1_671_241_304, "4.6.2"),
    (1_629_255_000, "4.6.0"),
    (1_579_549_200, "4.5.0"),
    (1_533_200_000, "4.2.0"),
    (0, "3.9.8"),
];

const RULES: &str = "#!/usr/bin/make -f\n\n%:\n\tdh $@\n\n# The source is for the machines that will build it.\n\
                     override_dh_auto_configure override_dh_auto_build override_dh_auto_test override_dh_auto_install:\n";

/// The files of a source package, by name: tarball, `.dsc` and `_source.changes`, in the order in which they are needed.
///
/// # Errors
/// What cannot be read.
pub fn build(package: &Packaging) -> io::Result<Vec<(String, Vec<u8>)>> {
    let (name, version) = (&package.name, without_epoch(&package.version));
    let log = changelog(package);
    let contents = contents(package, &log)?;
    let tarball = xz(package.time, |pack| contents.pack(pack, &format!("./{name}-{version}/"), |_, _| {}))?;
    let tarball = (format!("{name}_{version}.tar.xz"), tarball);
    let dsc = (format!("{name}_{version}.dsc"), dsc(package, &tarball).into_bytes());
    let changes = changes(package, &log, &[&dsc, &tarball]).into_bytes();
    Ok(vec![tarball, dsc, (format!("{name}_{version}_source.changes"), changes)])
}

/// What is unpacked: the source in a directory named as it will be below /usr/src, and how to make a package of it.
fn contents(package: &Packaging, log: &str) -> io::Result<Contents> {
    let name = &package.name;
    let source = package.id.dashed();
    let mut contents = package.source_files(Path::new(&source))?;
    let mut install = format!("{source} usr/src\n");
    if let Some(bytes) = package.prebuilt()? {
        let file = package.prebuilt_name();
        let _ = writeln!(install, "{file} usr/share/{name}");
        contents.add(file, Entry::Bytes { bytes, program: false });
    }
    let about = &package.about;
    let mut control = format!("Source: {name}\nSection: {}\nPriority: optional\n", about.section);
    let _ = writeln!(control, "Maintainer: {}", about.maintainer);
    let _ = writeln!(
        control,
        "Build-Depends: {BUILD_DEPENDS}\nStandards-Version: {}\nRules-Requires-Root: no",
        standards(package)
    );
    if let Some(homepage) = &about.homepage {
        let _ = writeln!(control, "Homepage: {homepage}");
    }
    let _ = writeln!(control, "\nPackage: {name}\nArchitecture: all\nDepends: ${{misc:Depends}}");
    let _ = writeln!(control, "Description: {}", package.description(package.dkms_description()));
    contents.text("debian/changelog", log);
    contents.text("debian/control", &control);
    contents.text("debian/copyright", &copyright(package, &COMMON));
    contents.text(format!("debian/{name}.dkms"), &format!("{source}/dkms.conf\n"));
    contents.text(format!("debian/{name}.install"), &install);
    contents.text("debian/source/format", "3.0 (native)\n");
    if let Some(text) = package.debian_text("modprobe") {
        contents.text(format!("debian/{name}.modprobe"), &text);
    }
    if let Some(text) = package.template_text("README.Debian") {
        contents.text("debian/README.Debian", &text);
    }
    contents.add("debian/rules", Entry::Bytes { bytes: RULES.into(), program: true });
    Ok(contents)
}

fn standards(package: &Packaging) -> &'static str {
    STANDARDS.iter().find(|(since, _)| package.time >= *since).map_or("3.9.8", |(_, version)| version)
}

fn dsc(package: &Packaging, tarball: &(String, Vec<u8>)) -> String {
    let Packaging { name, version, about, .. } = package;
    let mut text =
        format!("Format: 3.0 (native)\nSource: {name}\nBinary: {name}\nArchitecture: all\nVersion: {version}\n");
    let _ = writeln!(text, "Maintainer: {}", about.maintainer);
    if let Some(homepage) = &about.homepage {
        let _ = writeln!(text, "Homepage: {homepage}");
    }
    let _ = writeln!(text, "Standards-Version: {}\nBuild-Depends: {BUILD_DEPENDS}\nPackage-List:", standards(package));
    let _ = writeln!(text, " {name} deb {} optional arch=all", about.section);
    text + &checksums(&[tarball]) + &format!("Files:\n {}\n", md5_line(tarball, ""))
}

fn changes(package: &Packaging, log: &str, files: &[&(String, Vec<u8>)]) -> String {
    let Packaging { name, version, about, date, .. } = package;
    let (distribution, urgency) = entry_line(log.lines().next().unwrap_or_default());
    let mut text = format!("Format: 1.8\nDate: {date}\nSource: {name}\n");
    let _ = writeln!(text, "Architecture: source\nVersion: {version}");
    let _ = writeln!(text, "Distribution: {distribution}\nUrgency: {urgency}");
    let _ = writeln!(text, "Maintainer: {0}\nChanged-By: {0}", about.maintainer);
    // The entry's first line, and its text up to the line that is signed.
    let lines: Vec<&str> = log.lines().take_while(|line| !line.starts_with(" -- ")).collect();
    let entry: Vec<String> = lines.iter().map(|line| line.trim_end().to_owned()).collect();
    let last = entry.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    text += "Changes:\n";
    for line in &entry[..last] {
        let _ = writeln!(text, " {}", if line.is_empty() { "." } else { line });
    }
    text += &checksums(files);
    text += "Files:\n";
    for file in files {
        let _ = writeln!(text, " {}", md5_line(file, &format!("{} optional ", about.section)));
    }
    text
}

/// Distribution and urgency in `hello (0.1) unstable; urgency=medium`, the first line of deb-changelog(5).
fn entry_line(line: &str) -> (&str, &str) {
    let (before, options) = line.split_once(';').unwrap_or((line, ""));
    let urgency = options.split(',').find_map(|option| option.trim().strip_prefix("urgency="));
    (before.split_once(") ").map_or("unstable", |(_, distribution)| distribution.trim()), urgency.unwrap_or("medium"))
}

fn checksums(files: &[&(String, Vec<u8>)]) -> String {
    let list = |title: &str, digest: &dyn Fn(&[u8]) -> String| {
        let lines = files.iter().map(|(name, bytes)| format!(" {} {} {name}\n", digest(bytes), bytes.len()));
        format!("{title}:\n{}", lines.collect::<String>())
    };
    list("Checksums-Sha1", &|bytes| hex(&Sha1::digest(bytes)))
        + &list("Checksums-Sha256", &|bytes| hex(&Sha256::digest(bytes)))
}

fn md5_line((name, bytes): &(String, Vec<u8>), between: &str) -> String {
    format!("{} {} {between}{name}", md5(bytes), bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_for_whom_it_is() {
        for (line, expected) in [
            ("hello (0.1) unstable; urgency=medium", ("unstable", "medium")),
            ("hello (1:0.1-2) bookworm-backports; binary-only=yes, urgency=high", ("bookworm-backports", "high")),
            ("hello", ("unstable", "medium")),
        ] {
            assert_eq!(entry_line(line), expected);
        }
    }
}
