// SPDX-License-Identifier: GPL-2.0-or-later
//! Changelog and copyright of a package.

use std::fs;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};

use super::Packaging;

/// Licences whose texts every Debian system has in /usr/share/common-licenses, by how their short names begin.
pub const COMMON: [(&str, &str); 9] = [
    ("GPL-1", "GPL-1"),
    ("GPL-2", "GPL-2"),
    ("GPL-3", "GPL-3"),
    ("LGPL-2.1", "LGPL-2.1"),
    ("LGPL-2", "LGPL-2"),
    ("LGPL-3", "LGPL-3"),
    ("Apache-2", "Apache-2.0"),
    ("MPL-1.1", "MPL-1.1"),
    ("MPL-2", "MPL-2.0"),
];

/// A licence text that is longer is something else.
const LONGEST_TEXT: usize = 1 << 17;

/// The changelog: the source's own or the template's, if it is of this package and version, or else one that says where
/// the package comes from.
pub fn changelog(package: &Packaging) -> String {
    let Packaging { id, name, version, about, date, .. } = package;
    let first = format!("{name} ({version}) ");
    let brought = [package.template_text("changelog"), package.debian_text("changelog")];
    brought.into_iter().flatten().find(|text| text.starts_with(&first)).unwrap_or_else(|| {
        let maintainer = &about.maintainer;
        format!("{first}unstable; urgency=medium\n\n  * Packaged from {id} by dkms.\n\n -- {maintainer}  {date}\n")
    })
}

/// A document as it is shipped.
pub fn compressed(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

/// Whose the source is and what others may do with it: the source's own file, the template's, or what the modules say.
/// Of licences in `common` the text is not repeated.
pub fn copyright(package: &Packaging, common: &[(&str, &str)]) -> String {
    if let Some(text) = package.debian_text("copyright").or_else(|| package.template_text("copyright")) {
        return text;
    }
    let about = &package.about;
    let license = about.license.as_deref().map_or_else(|| "unknown".to_owned(), short_name);
    let mut text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n".to_owned();
    text += &format!("Upstream-Name: {}\n", package.id.name);
    if let Some(homepage) = &about.homepage {
        text += &format!("Source: {homepage}\n");
    }
    let mut rights = about.rights.clone();
    if rights.is_empty() {
        rights.push(format!("the authors of {}, named in its files", package.id.name));
    }
    // Those that brought no year get the one of the files.
    if !rights[0].starts_with(|c: char| c.is_ascii_digit()) {
        rights[0] = format!("{} {}", year(&package.date), rights[0]);
    }
    text += &format!("\nFiles: *\nCopyright: {}\nLicense: {license}\n", rights.join("\n           "));
    for line in license_text(package, &license, common).lines() {
        text += &match line.trim_end() {
            "" => " .\n".to_owned(),
            line => format!(" {line}\n"),
        };
    }
    text
}

/// The year of a date of RFC 5322: `Thu, 01 Jan 1970 00:00:00 +0000`.
fn year(date: &str) -> &str {
    date.split_whitespace().nth(3).unwrap_or_default()
}

/// What MODULE_LICENSE says (Documentation/process/license-rules.rst), as a short name of Debian's.
fn short_name(said: &str) -> String {
    match said {
        "GPL" | "GPL v2" | "GPL and additional rights" => "GPL-2".into(),
        "Dual BSD/GPL" => "BSD-3-clause or GPL-2".into(),
        "Dual MIT/GPL" => "Expat or GPL-2".into(),
        "Dual MPL/GPL" => "MPL-1.1 or GPL-2".into(),
        other => other.replace(' ', "-"),
    }
}

fn license_text(package: &Packaging, license: &str, common: &[(&str, &str)]) -> String {
    let known =
        license.split_whitespace().rev().find_map(|word| common.iter().find(|(name, _)| word.starts_with(name)));
    if let Some((_, file)) = known {
        return format!("On Debian systems, its text is in /usr/share/common-licenses/{file}.");
    }
    let own = ["LICENSE", "LICENCE", "COPYING", "LICENSE.txt", "LICENSE.md", "COPYING.txt"]
        .iter()
        .find_map(|name| fs::read_to_string(package.source.join(name)).ok())
        .filter(|text| text.len() <= LONGEST_TEXT);
    own.unwrap_or_else(|| format!("The files of {} say what is allowed.", package.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_get_the_names_that_debian_has_for_them() {
        for (said, expected) in [
            ("GPL", "GPL-2"),
            ("Dual MIT/GPL", "Expat or GPL-2"),
            ("GPL-3+", "GPL-3+"),
            ("Proprietary stuff", "Proprietary-stuff"),
        ] {
            assert_eq!(short_name(said), expected);
        }
    }
}
