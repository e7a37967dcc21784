// SPDX-License-Identifier: GPL-2.0-or-later
//! Packages of built modules alone, for machines that shall not compile: one for each kernel, and one that follows the
//! kernel's meta package.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use deb822_lossless::Deb822;

use super::contents::Contents;
use super::deb::Deb;
use super::{Packaging, scripts};
use crate::error::Result;
use crate::error::package::Problem;
use crate::model::conf::{Conf, Module};
use crate::model::kernel::{COMPRESSIONS, Kernel};
use crate::model::module::Target;
use crate::system::dpkg;
use crate::system::paths::with_suffix;

/// The kernel's meta package: `linux-image-amd64`, and the version that brings a certain kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// What kernels of its kind have at the end of their release: `amd64`, `rt-amd64`, `generic`.
    pub flavour: String,
    /// The version.
    pub version: String,
}

impl Meta {
    /// The one that brings the kernel, if apt knows of one.
    pub fn of(target: &Target) -> Option<Self> {
        let flavour = flavour(&target.release)?;
        let shown = Command::new("apt-cache")
            .args(["show", &format!("linux-image-{flavour}")])
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let version = version_that_brings(&String::from_utf8_lossy(&shown.stdout), &target.release)?;
        Some(Self { flavour: flavour.to_owned(), version })
    }

    /// Its name.
    pub fn package(&self) -> String {
        format!("linux-image-{}", self.flavour)
    }
}

/// What of a release says of what kind the kernel is: all from the first word on that begins with a letter.
fn flavour(release: &str) -> Option<&str> {
    let at = release.match_indices('-').map(|(at, _)| at + 1);
    at.map(|at| &release[at..]).find(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// The version among those that apt shows whose dependencies name the kernel's image.
fn version_that_brings(shown: &str, release: &str) -> Option<String> {
    let image = format!("linux-image-{release}");
    let names = |depends: String| depends.split([',', '|']).any(|it| it.split_whitespace().next() == Some(&image));
    let (shown, _) = Deb822::from_str_relaxed(shown);
    let found = shown.paragraphs().find(|it| it.get("Depends").is_some_and(names))?;
    found.get("Version")
}

impl Packaging<'_> {
    /// The modules that were built for a kernel, each with its place below the kernel's directory.
    ///
    /// # Errors
    /// One that dkms.conf wants for this kernel and that was not built.
    pub fn built_modules(&self, kernel: &Kernel, conf: &Conf) -> Result<Vec<(PathBuf, String)>> {
        let target = &kernel.target;
        let built = self.site.tree.module_dir(&self.id, target);
        let find = |module: &Module| {
            let plain = built.join(format!("{}.ko", module.dest_name));
            let compressed = COMPRESSIONS.iter().map(|(suffix, _)| with_suffix(&plain, suffix));
            let file = std::iter::once(plain.clone()).chain(compressed).find(|file| file.is_file())?;
            let name = file.file_name()?.to_string_lossy().into_owned();
            Some((file, format!("{}/{name}", module.dest_location.trim_matches('/'))))
        };
        let missing = || Problem::nothing_built(&self.id, target);
        let wanted = conf.included(kernel).ok_or_else(missing)?;
        wanted.into_iter().map(|module| Ok(find(module).ok_or_else(missing)?)).collect()
    }

    /// The package of these modules for one kernel.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn modules_deb(&self, target: &Target, modules: &[(PathBuf, String)]) -> io::Result<Deb> {
        let release = &target.release;
        let package = self.renamed(format!("{}-{}", self.name, package_part(release)));
        let top = format!("{}/{release}", modules_dir(release));
        let mut contents = Contents::default();
        for (file, place) in modules {
            contents.file(Path::new(&top).join(place), file);
        }
        package.add_documents(&mut contents)?;
        let places: Vec<&str> = modules.iter().map(|(_, place)| place.as_str()).collect();
        let dirs: BTreeSet<&str> = places.iter().filter_map(|place| Some(place.rsplit_once('/')?.0)).collect();
        let dirs: Vec<&str> = dirs.into_iter().collect();
        let image = format!("linux-image-{release} | linux-image-{release}-unsigned");
        let mut fields = package.fields(&architecture(&target.arch), Some(image));
        // Whatever would build the same modules into the same places.
        fields.push(("Conflicts", format!("{}-dkms", self.name.trim_end_matches("-modules"))));
        fields.push(("Provides", format!("{} (= {})", self.name, self.version)));
        let text = format!(
            "This package has modules of {} that were built for Linux {release}, ready to be loaded.",
            self.id.name
        );
        fields.push(("Description", self.description((&format!("for {release}"), text))));
        let triggers: String = dirs.iter().map(|dir| format!("interest-noawait /{top}/{dir}\n")).collect();
        Ok(Deb {
            fields,
            scripts: vec![
                ("postinst", scripts::modules_postinst(target, &dirs)),
                ("postrm", scripts::modules_postrm(target, &places)),
                ("triggers", triggers),
            ],
            contents,
            time: self.time,
        })
    }

    /// The package that brings the modules for whatever kernel the kernel's meta package brings.
    ///
    /// It wants that meta package in the version that brings this kernel: as long as there is none for a newer kernel,
    /// apt keeps the newer kernel back. It is protected, or `apt full-upgrade` would rather remove it.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn meta_deb(&self, target: &Target, meta: &Meta) -> io::Result<Deb> {
        let mut package = self.renamed(format!("{}-{}", self.name, meta.flavour));
        let kernel = meta.version.split_once(':').map_or(meta.version.as_str(), |(_, rest)| rest);
        package.version = format!("{}+{}", self.version, kernel.replace('-', "."));
        let mut contents = Contents::default();
        package.add_documents(&mut contents)?;
        // The field is deb-control(5)'s, and Debian 12's lintian has not heard of it.
        let place = Path::new("usr/share/lintian/overrides").join(&package.name);
        contents.text(place, &format!("{}: unknown-field Protected\n", package.name));
        let depends = format!(
            "{}-{} (= {}), {} (= {})",
            self.name,
            package_part(&target.release),
            self.version,
            meta.package(),
            meta.version
        );
        let mut fields = package.fields(&architecture(&target.arch), Some(depends));
        fields.push(("Protected", "yes".into()));
        let text = format!(
            "This meta-package brings the modules of {} for the kernel of {}, and keeps a kernel back for which there are \
             none yet.",
            self.id.name,
            meta.package()
        );
        fields.push(("Description", self.description((&format!("for {}", meta.package()), text))));
        Ok(Deb { fields, scripts: Vec::new(), contents, time: self.time })
    }
}

/// Where the kernel's own package has its modules: dpkg does not know that these are two names of one directory.
fn modules_dir(release: &str) -> &'static str {
    let old = format!("/lib/modules/{release}");
    // Whoever builds need not have the image, and its headers have their link in the same place.
    let packages = [format!("linux-image-{release}"), dpkg::headers_package(release)];
    if packages.iter().any(|it| dpkg::files(it).contains(&old)) { "lib/modules" } else { "usr/lib/modules" }
}

/// A release as part of a package's name.
fn package_part(release: &str) -> String {
    release.to_ascii_lowercase().replace('_', "-")
}

/// Debian's name of an architecture, by uname(1)'s.
fn architecture(machine: &str) -> String {
    let name = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "armhf",
        "i586" | "i686" => "i386",
        "ppc64le" => "ppc64el",
        "mips64" => "mips64el",
        other => other,
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_kernel_is_in_its_release() {
        for (release, expected) in [
            ("6.1.0-56-amd64", Some("amd64")),
            ("6.1.0-56-rt-amd64", Some("rt-amd64")),
            ("6.12.90+deb12-cloud-amd64", Some("cloud-amd64")),
            ("6.8.0-31-generic", Some("generic")),
            ("6.1.0", None),
            ("6.1.0-3", None),
        ] {
            assert_eq!(flavour(release), expected, "{release}");
        }
    }

    #[test]
    fn the_meta_package_of_a_kernel_is_the_version_that_depends_on_it() {
        let shown = "Package: linux-image-amd64\nVersion: 2\nDepends: linux-image-6.1.0-56-amd64 (= 2)\n\n\
                     Package: linux-image-amd64\nVersion: 1\nDepends: linux-image-6.1.0-5-amd64 (= 1), x\n";
        assert_eq!(version_that_brings(shown, "6.1.0-5-amd64").as_deref(), Some("1"));
        assert_eq!(version_that_brings(shown, "6.1.0-56-amd64").as_deref(), Some("2"));
        assert_eq!(version_that_brings(shown, "6.1.0-6-amd64"), None);
    }
}
