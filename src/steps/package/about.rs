// SPDX-License-Identifier: GPL-2.0-or-later
//! What a package says of itself: of the options, or else of what the source brings, or else of the environment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use deb822_lossless::{Deb822, Paragraph};

use crate::error::Result;
use crate::error::package::Problem;
use crate::model::conf::Conf;
use crate::model::module::Id;
use crate::system::directories;
use crate::system::paths::Paths;

/// Longest line of a description (Debian Policy 5.6.13 has them shown on terminals of 80 columns).
const WIDTH: usize = 76;

/// What was said on the command line.
#[derive(Debug, Clone, Default)]
pub struct Stated {
    /// `--maintainer`
    pub maintainer: Option<String>,
    /// `--description`
    pub description: Option<String>,
    /// `--section`
    pub section: Option<String>,
    /// `--homepage`
    pub homepage: Option<String>,
    /// `--license`
    pub license: Option<String>,
    /// `--package-version`
    pub version: Option<String>,
}

/// What a package says of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// `Name <address>`.
    pub maintainer: String,
    /// One line.
    pub synopsis: String,
    /// More of it, in lines that are not too long; empty if nobody said more.
    pub extended: Vec<String>,
    /// The section of the archive.
    pub section: String,
    /// Where the module comes from.
    pub homepage: Option<String>,
    /// A short name, as in `MODULE_LICENSE` or of SPDX.
    pub license: Option<String>,
    /// What the source says of who holds the rights, each with its years; or else who wrote its modules.
    pub rights: Vec<String>,
}

impl About {
    /// Gathers it for the package `package`.
    pub fn find(
        said: &Stated,
        id: &Id,
        package: &str,
        source: &Path,
        conf: &Conf,
        template: Option<&Template>,
    ) -> Result<Self> {
        let controls: Vec<Deb822> = [
            template.and_then(|template| template.text("control")),
            fs::read_to_string(source.join("debian/control")).ok(),
        ]
        .into_iter()
        .flatten()
        .map(|text| Deb822::from_str_relaxed(&text).0)
        .collect();
        let value = |said: &Option<String>, field: Option<&str>, directive: &str| {
            let text = said
                .clone()
                .or_else(|| controls.iter().find_map(|control| in_control(control, package, field?)))
                .or_else(|| Some(conf.get(directive).to_owned()))
                .unwrap_or_default();
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let maintainer = value(&said.maintainer, Some("Maintainer"), "PACKAGE_MAINTAINER")
            .or_else(from_environment)
            .ok_or_else(|| Problem::NoMaintainer(id.to_string()))?;
        if !is_mailbox(&maintainer) {
            return Err(Problem::NoMailbox(maintainer).into());
        }
        let one_line = |what: &'static str, value: Option<String>| match value {
            Some(text) if text.contains('\n') => Err(Problem::SeveralLines { what, text }),
            value => Ok(value),
        };
        let description = value(&said.description, Some("Description"), "PACKAGE_DESCRIPTION");
        let (synopsis, rest) = match &description {
            Some(text) => text.split_once('\n').unwrap_or((text, "")),
            None => ("", ""),
        };
        let synopsis = match synopsis.trim().trim_end_matches('.') {
            "" => format!("{} kernel module", id.name),
            synopsis => synopsis.to_owned(),
        };
        let macros = Macros::find(source);
        Ok(Self {
            maintainer,
            synopsis,
            extended: wrapped(rest),
            section: one_line("section", value(&said.section, Some("Section"), "PACKAGE_SECTION"))?
                .unwrap_or_else(|| "kernel".into()),
            homepage: one_line("homepage", value(&said.homepage, Some("Homepage"), "PACKAGE_HOMEPAGE"))?,
            license: one_line("licence", value(&said.license, None, "PACKAGE_LICENSE"))?.or(macros.license),
            rights: if macros.notices.is_empty() { macros.authors } else { macros.notices },
        })
    }
}

/// A field of a control file: of the package's own paragraph or the only package's, or of the source's.
fn in_control(control: &Deb822, package: &str, field: &str) -> Option<String> {
    let packages: Vec<Paragraph> = control.paragraphs().filter(|it| it.contains_key("Package")).collect();
    let own = packages.iter().find(|it| it.get("Package").is_some_and(|name| name == package));
    let own = own.or(packages.first().filter(|_| packages.len() == 1));
    let source = control.paragraphs().find(|it| it.contains_key("Source"));
    // What dpkg-gencontrol would fill in is not known here.
    let value = |paragraph: &Paragraph| paragraph.get(field).filter(|value| !value.contains("${"));
    own.and_then(value).or_else(|| source.as_ref().and_then(value))
}

/// DEBFULLNAME and DEBEMAIL, as devscripts know them: the address may have the name in it.
fn from_environment() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let address = variable("DEBEMAIL")?;
    if address.contains('<') {
        return Some(address);
    }
    Some(format!("{} <{address}>", variable("DEBFULLNAME")?))
}

/// `Name <address>`, on one line.
fn is_mailbox(text: &str) -> bool {
    let parts = text.strip_suffix('>').and_then(|text| text.split_once(" <"));
    !text.contains('\n')
        && parts.is_some_and(|(name, address)| {
            !name.trim().is_empty() && address.contains('@') && !address.contains([' ', '<', '>'])
        })
}

/// Paragraphs, in lines that fit; a blank line is `.`, as in control files. What is indented stays as it is.
pub fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let verbatim = line.starts_with("  ");
        let words = line.trim();
        if matches!(words, "" | ".") {
            lines.push(".".into());
            open = false;
        } else if verbatim {
            lines.push(format!(" {words}"));
            open = false;
        } else {
            for word in words.split_whitespace() {
                match lines.last_mut().filter(|last| open && last.len() + 1 + word.len() <= WIDTH) {
                    Some(last) => *last = format!("{last} {word}"),
                    None => lines.push(word.to_owned()),
                }
                open = true;
            }
        }
    }
    while lines.last().is_some_and(|line| line == ".") {
        lines.pop();
    }
    let begin = lines.iter().take_while(|line| *line == ".").count();
    lines.split_off(begin)
}

/// What modules say of themselves: in the macros of linux/module.h, and in notices of copyright.
#[derive(Debug, Default, PartialEq, Eq)]
struct Macros {
    license: Option<String>,
    authors: Vec<String>,
    notices: Vec<String>,
}

/// More notices than anybody reads.
const MOST_NOTICES: usize = 30;

impl Macros {
    fn find(source: &Path) -> Self {
        let mut found = Self::default();
        let mut files = directories::find(source, &mut |name| name.ends_with(".c") || name.ends_with(".h"));
        files.sort();
        for file in files {
            let text = fs::read(&file).unwrap_or_default();
            found.read(&String::from_utf8_lossy(&text));
        }
        found
    }

    fn read(&mut self, text: &str) {
        self.license = self.license.take().or_else(|| arguments(text, "MODULE_LICENSE").next());
        for author in arguments(text, "MODULE_AUTHOR") {
            if !self.authors.contains(&author) {
                self.authors.push(author);
            }
        }
        for notice in text.lines().filter_map(notice) {
            if !self.notices.contains(&notice) && self.notices.len() < MOST_NOTICES {
                self.notices.push(notice);
            }
        }
    }
}

/// What a line says after the word: years and a name.
fn notice(line: &str) -> Option<String> {
    let at = line.to_ascii_lowercase().find("copyright")?;
    let rest = line[at..].trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || ":-".contains(c));
    let rest = rest.strip_prefix("(c)").or(rest.strip_prefix("(C)")).or(rest.strip_prefix('©')).unwrap_or(rest);
    let rest = rest.trim().trim_end_matches("*/").trim_end_matches([';', ',']).trim();
    let begins_with_year = rest.starts_with("19") || rest.starts_with("20");
    let names_somebody = rest.contains(char::is_alphabetic);
    (begins_with_year && names_somebody && rest.len() < 200).then(|| rest.to_owned())
}

/// The string literals that a macro is called with, where it gets one alone.
fn arguments<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    text.split(name).skip(1).filter_map(|rest| {
        let literal = rest.trim_start().strip_prefix('(')?.trim_start().strip_prefix('"')?;
        let (literal, rest) = literal.split_once('"')?;
        let plain = rest.trim_start().starts_with(')') && !literal.contains(['\\', '\n']) && !literal.is_empty();
        plain.then(|| literal.to_owned())
    })
}

/// A directory of the time when dkms had templates for packages: texts with names in them to be replaced.
#[derive(Debug, Clone)]
pub struct Template {
    dir: PathBuf,
    names: [(&'static str, String); 6],
}

impl Template {
    /// The one of this machine, if there is one.
    pub fn find(paths: &Paths, id: &Id, stem: &str, kernels: &str, date: &str) -> Option<Self> {
        let top = paths.etc().join("template-dkms-mkdeb");
        let dir =
            Some(top.join("debian")).filter(|dir| dir.is_dir()).or_else(|| Some(top).filter(|dir| dir.is_dir()))?;
        let names = [
            ("DEBIAN_PACKAGE", stem.to_owned()),
            ("DEBIAN_BUILD_ARCH", "all".to_owned()),
            ("MODULE_VERSION", id.version.clone()),
            ("MODULE_NAME", id.name.clone()),
            ("KERNEL_VERSION", kernels.to_owned()),
            ("DATE_STAMP", date.to_owned()),
        ];
        Some(Self { dir, names })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of it with the names replaced.
    pub fn text(&self, name: &str) -> Option<String> {
        let mut text = fs::read_to_string(self.dir.join(name)).ok()?;
        for (name, value) in &self.names {
            text = text.replace(name, value);
        }
        Some(text)
    }
}

/// A time as RFC 5322 has it, which changelogs and `.changes` want.
pub fn date(time: u64) -> io::Result<String> {
    let output = Command::new("date").args(["-u", "-R", "-d", &format!("@{time}")]).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("date knows no time {time}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_name() {
        for (text, expected) in [
            ("A B <a@b.c>", true),
            ("a@b.c", false),
            ("<a@b.c>", false),
            ("A <ab>", false),
            ("A <a@b> x", false),
            ("A\nB <a@b>", false),
        ] {
            assert_eq!(is_mailbox(text), expected, "{text}");
        }
    }

    #[test]
    fn paragraphs_are_filled_and_verbatim_lines_kept() {
        let word = "x".repeat(30);
        let text = format!("\n{word} {word}\n{word}\n\n  as it is\n.\n");
        assert_eq!(wrapped(&text), [format!("{word} {word}"), word, ".".into(), " as it is".into()]);
    }

    #[test]
    fn modules_say_who_wrote_them() {
        let mut macros = Macros::default();
        macros.read("MODULE_AUTHOR(\"A <a@b>\");\nMODULE_AUTHOR (DRIVER_AUTHOR);\nMODULE_LICENSE( \"GPL v2\" );");
        macros.read("MODULE_LICENSE(\"MIT\"); MODULE_AUTHOR(\"A <a@b>\"); MODULE_AUTHOR(\"B\" \"C\");");
        macros.read(
            " * Copyright (c) 2005-2009 A B, C.\n// Copyright: 2010 D\n * the copyright holders\n * Copyright 2011",
        );
        assert_eq!(macros.license.as_deref(), Some("GPL v2"));
        assert_eq!(macros.authors, ["A <a@b>"]);
        assert_eq!(macros.notices, ["2005-2009 A B, C.", "2010 D"]);
    }

    #[test]
    fn a_control_file_speaks_of_its_package_and_its_source() {
        let text = "Source: x\nMaintainer: M <m@x>\n# none\nSection: misc\n\nPackage: x-dkms\nSection: kernel\n\
                    Description: a\n b\n\nPackage: x-utils\nDescription: ${y}\n";
        let control = Deb822::from_str_relaxed(text).0;
        let get = |package: &str, field: &str| in_control(&control, package, field).unwrap_or_default();
        assert_eq!(get("x-dkms", "Section"), "kernel");
        assert_eq!(get("x-dkms", "Maintainer"), "M <m@x>");
        assert_eq!(get("x-dkms", "Description"), "a\nb");
        assert_eq!(get("x-utils", "Description") + &get("z", "Description"), "");
    }
}
