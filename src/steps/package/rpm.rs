// SPDX-License-Identifier: GPL-2.0-or-later
//! Writing a package of rpm's: the same files give the same bytes.

use std::io;
use std::path::Path;

use ::rpm::{
    BuildConfig, CompressionWithLevel, Dependency, DependencyFlags, FileMode, FileOptions, PackageBuilder, Scriptlet,
    Timestamp,
};

use super::contents::Entry;
use super::deb::without_epoch;
use super::{Packaging, documents, scripts};
use crate::steps::tarball::Content;

/// xz's own default, as in Debian's packages.
const XZ_LEVEL: u32 = 6;

/// A package of a module is made once for each of its versions.
const RELEASE: &str = "1";

/// The dkms that a package needs, as in Debian's packages.
const DKMS: &str = "2.1.0.0";

/// What runs scriptlets.
const SHELL: &str = "/bin/sh";

/// Directories that belong to other packages; those below them are the package's own.
const OF_OTHERS: [&str; 6] = ["etc", "etc/modprobe.d", "usr", "usr/share", "usr/share/licenses", "usr/src"];

/// What `MODULE_LICENSE` may say (Documentation/process/license-rules.rst), and SPDX's name of that.
const LICENSES: [(&str, &str); 7] = [
    ("GPL", "GPL-2.0-only"),
    ("GPL v2", "GPL-2.0-only"),
    ("GPL and additional rights", "GPL-2.0-only"),
    ("Dual BSD/GPL", "BSD-3-Clause OR GPL-2.0-only"),
    ("Dual MIT/GPL", "MIT OR GPL-2.0-only"),
    ("Dual MPL/GPL", "MPL-1.1 OR GPL-2.0-only"),
    ("Proprietary", "LicenseRef-Proprietary"),
];

/// Why rpm takes no package of this version, hyphens aside; `None` if it does.
pub fn refuses_version(version: &str) -> Option<String> {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~^-".contains(c);
    if epoch.parse::<u32>().is_err() {
        Some("epoch in version is not number".into())
    } else if rest.is_empty() || !rest.chars().all(plain) {
        Some("it may have letters, digits and the characters . _ + ~ ^".into())
    } else {
        None
    }
}

/// The name of a package's file; an epoch is not in it.
pub fn file_name(package: &str, version: &str) -> String {
    format!("{package}-{}-{RELEASE}.noarch.rpm", without_epoch(version))
}

impl Packaging<'_> {
    /// The package that registers the module, `NAME-dkms`, for rpm. Its version must have no hyphen: that is where the
    /// release begins.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn dkms_rpm(&self) -> io::Result<Vec<u8>> {
        let builder = self.add_files(self.builder())?;
        let mut bytes = Vec::new();
        builder.build().and_then(|package| package.write(&mut bytes)).map_err(io::Error::other)?;
        Ok(bytes)
    }

    /// All but the files.
    fn builder(&self) -> PackageBuilder {
        let (about, version) = (&self.about, without_epoch(&self.version));
        let epoch = self.version.split_once(':').and_then(|(epoch, _)| epoch.parse().ok()).unwrap_or(0);
        let time = Timestamp(u32::try_from(self.time).unwrap_or(u32::MAX));
        let (synopsis, extended) = self.described(self.dkms_description());
        let paragraphs: Vec<&str> = extended.iter().map(|line| if line == "." { "" } else { line }).collect();
        let script = |text: String| Scriptlet::new(text).prog(vec![SHELL]);
        let when = DependencyFlags::SCRIPT_PREUN | DependencyFlags::POSTTRANS;
        let shell = Dependency { name: SHELL.into(), flags: when, version: String::new() };
        let mut builder =
            PackageBuilder::new(&self.name, version, &license(about.license.as_deref()), "noarch", &synopsis)
                .using_config(BuildConfig::v4().compression(CompressionWithLevel::Xz(XZ_LEVEL)))
                .epoch(epoch)
                .release(RELEASE)
                .description(paragraphs.join("\n"))
                // This version of the crate takes a packager and leaves him out.
                .vendor(&about.maintainer)
                // Whichever it was, the bytes are the same.
                .build_host("reproducible")
                .source_date(time)
                .add_changelog_entry(
                    format!("{} - {version}-{RELEASE}", about.maintainer),
                    format!("- Packaged from {} by dkms.", self.id),
                    time,
                )
                .post_trans_script(script(scripts::rpm_posttrans(&self.name, &self.id)))
                .pre_uninstall_script(script(scripts::rpm_preun(&self.id)))
                .requires(shell)
                .requires(Dependency::greater_eq("dkms", DKMS));
        if self.content != Content::BinariesOnly {
            builder = builder.requires(Dependency::any("gcc")).requires(Dependency::any("make"));
        }
        if let Some(homepage) = &about.homepage {
            builder = builder.url(homepage);
        }
        if epoch > 0 {
            builder = builder.provides(Dependency::eq(&self.name, format!("{epoch}:{version}-{RELEASE}")));
        }
        // What an older rpm cannot make out.
        for (needed, name, since) in [
            (true, "PayloadIsXz", "5.2-1"),
            (version.contains('~'), "TildeInVersions", "4.10.0-1"),
            (version.contains('^'), "CaretInVersions", "4.15.0-1"),
        ] {
            if needed {
                builder = builder.requires(Dependency::rpmlib(name, since));
            }
        }
        builder
    }

    fn add_files(&self, mut builder: PackageBuilder) -> io::Result<PackageBuilder> {
        let licenses = Path::new("usr/share/licenses").join(&self.name);
        let mut contents = self.dkms_contents()?;
        contents.text(licenses.join("copyright"), &documents::copyright(self, &[]));
        for (path, entry) in contents.iter().filter(|(path, _)| !OF_OTHERS.iter().any(|dir| *path == Path::new(dir))) {
            let not_named = || io::Error::other(format!("{} is not UTF-8", path.display()));
            let place = FileOptions::new(format!("/{}", path.to_str().ok_or_else(not_named)?));
            let (place, bytes) = match entry {
                Entry::Dir => (place.mode(FileMode::dir(0o755)), Vec::new()),
                Entry::Link(target) => {
                    let target = target.to_str().ok_or_else(not_named)?;
                    (place.mode(FileMode::symbolic_link(0o777)).symlink(target), target.into())
                }
                Entry::Bytes { program, .. } | Entry::File { program, .. } => {
                    let mode = FileMode::regular(if *program { 0o755 } else { 0o644 });
                    (place.mode(mode), entry.read()?)
                }
            };
            let place = match entry.is_file() {
                true if path.starts_with("etc") => place.is_config_noreplace(),
                true if path.starts_with(&licenses) => place.is_license(),
                _ => place,
            };
            builder = builder.with_file_contents(bytes, place).map_err(io::Error::other)?;
        }
        Ok(builder)
    }
}

/// The licence by SPDX's name of it where we know that; rpm has no package without one.
fn license(said: Option<&str>) -> String {
    let said = said.unwrap_or("LicenseRef-unknown");
    LICENSES.iter().find(|(name, _)| *name == said).map_or(said, |(_, spdx)| spdx).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_that_rpm_can_read_again() {
        for (version, expected) in [
            ("0.1", true),
            ("1:0.1-2", true),
            ("v1.0~rc1+git^2_x", true),
            ("x:1", false),
            ("1:", false),
            ("1/2", false),
            ("1 2", false),
        ] {
            assert_eq!(refuses_version(version).is_none(), expected, "{version}");
        }
        assert_eq!(file_name("hello-dkms", "1:0.1"), "hello-dkms-0.1-1.noarch.rpm");
    }

    #[test]
    fn licences_get_the_names_that_spdx_has_for_them() {
        for (said, expected) in [
            (Some("GPL"), "GPL-2.0-only"),
            (Some("Dual MIT/GPL"), "MIT OR GPL-2.0-only"),
            (Some("Apache-2.0"), "Apache-2.0"),
            (None, "LicenseRef-unknown"),
        ] {
            assert_eq!(license(said), expected);
        }
    }
}
