// SPDX-License-Identifier: GPL-2.0-or-later
//! Packages made of a registered module, for machines where it is not registered yet.

pub mod about;
pub mod contents;
pub mod deb;
pub mod documents;
pub mod modules;
pub mod rpm;
pub mod scripts;
pub mod source;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use self::about::{About, Stated, Template};
use self::contents::{Contents, Entry};
use self::deb::{Deb, Fields};
use crate::error::package::Problem;
use crate::error::{Doing, Result, cannot};
use crate::model::conf::Conf;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::steps::pack::{self, Pack};
use crate::steps::tarball::{Content, Inside};
use crate::system::dpkg;
use crate::system::trust;

/// The dkms that a package needs: the first one with /usr/lib/dkms/common.postinst.
const DKMS: &str = "dkms (>= 2.1.0.0)";

/// Who installs a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// dpkg.
    Dpkg,
    /// rpm.
    Rpm,
}

impl Manager {
    fn name(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Rpm => "rpm",
        }
    }

    /// Why it takes no package of this version; `None` if it does.
    fn refuses_version(self, version: &str) -> Option<String> {
        match self {
            Self::Dpkg => dpkg::refuses_version(version),
            Self::Rpm => rpm::refuses_version(version),
        }
    }
}

/// What a package is made of, and what it says of itself.
#[derive(Debug, Clone)]
pub struct Packaging<'a> {
    /// The machine.
    pub site: &'a Site,
    /// The module.
    pub id: Id,
    /// Its source.
    pub source: PathBuf,
    /// The dkms.conf that speaks for it.
    pub conf: PathBuf,
    /// The kernels whose modules go with it.
    pub targets: Vec<Target>,
    /// Whether the source does.
    pub content: Content,
    /// The package's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it says of itself.
    pub about: About,
    /// The time of all that is in it, in seconds since 1970.
    pub time: u64,
    /// The same as RFC 5322 has it.
    pub date: String,
    template: Option<Template>,
}

impl<'a> Packaging<'a> {
    /// Gathers it for a registered module, whose package's name ends in `suffix`.
    ///
    /// # Errors
    /// Names that packages cannot have, versions that `manager` does not take, and a maintainer that nobody named.
    pub fn new(
        site: &'a Site,
        id: Id,
        (conf, file): (&Conf, &Path),
        (content, targets): (Content, Vec<Target>),
        (suffix, manager): (&str, Manager),
        said: &Stated,
    ) -> Result<Self> {
        let link = site.tree.source_link(&id);
        let source = fs::canonicalize(&link).doing(cannot("read", &link))?;
        trust::check_all(&source)?;
        let time = pack::time(&source);
        let date = about::date(time).doing(|| "Cannot run date".into())?;
        let stem = stem(&id)?;
        let name = if stem.ends_with(suffix) { stem.clone() } else { format!("{stem}{suffix}") };
        let version = version(&id, said, manager)?;
        let kernels: Vec<&str> = targets.iter().map(|target| target.release.as_str()).collect();
        let template = Template::find(&site.paths, &id, &stem, &kernels.join(" "), &date);
        if let Some(template) = &template {
            trust::check_all(template.dir())?;
        }
        let about = About::find(said, &id, &name, &source, conf, template.as_ref())?;
        Ok(Self {
            site,
            id,
            source,
            conf: file.to_owned(),
            targets,
            content,
            name,
            version,
            about,
            time,
            date,
            template,
        })
    }

    /// The same for a package of another name.
    fn renamed(&self, name: String) -> Self {
        Self { name, ..self.clone() }
    }

    /// A text of the template, if there is a template and it has that text.
    fn template_text(&self, name: &str) -> Option<String> {
        self.template.as_ref()?.text(name)
    }

    /// A text of the source's `debian`: of this package, or of the only one.
    fn debian_text(&self, name: &str) -> Option<String> {
        let dir = self.source.join("debian");
        [format!("{}.{name}", self.name), name.to_owned()]
            .iter()
            .find_map(|name| fs::read_to_string(dir.join(name)).ok())
    }

    /// Where the source of the module is on a machine: `usr/src/M-V`.
    fn source_path(&self) -> PathBuf {
        Path::new("usr/src").join(self.id.dashed())
    }

    /// The source, or of one that stays at home its dkms.conf, which says for which kernels there is something else.
    pub fn source_files(&self, path: &Path) -> io::Result<Contents> {
        let mut contents = Contents::default();
        let conf = path.join("dkms.conf");
        if self.content == Content::BinariesOnly {
            contents.text(conf, &self.conf_for_kernels()?);
        } else {
            contents.source(path, &self.source)?;
            contents.file(conf, &self.conf);
        }
        Ok(contents)
    }

    fn conf_for_kernels(&self) -> io::Result<String> {
        let mut text = fs::read_to_string(&self.conf)?;
        let mut releases: Vec<String> = self.targets.iter().map(|target| literally(&target.release)).collect();
        releases.sort();
        releases.dedup();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text += "\n# The source is not in this package, only modules that were built for these kernels.\n";
        Ok(text + &format!("BUILD_EXCLUSIVE_KERNEL='^({})$'\n", releases.join("|")))
    }

    /// The tarball of what was built, which common.postinst loads before it builds anything; `None` if nothing goes with
    /// the package.
    pub fn prebuilt(&self) -> io::Result<Option<Vec<u8>>> {
        if self.targets.is_empty() {
            return Ok(None);
        }
        let inside = Inside {
            site: self.site,
            id: &self.id,
            targets: &self.targets,
            content: Content::BinariesOnly,
            conf: &self.conf,
            logs: false,
        };
        let mut pack = Pack::begin(GzEncoder::new(Vec::new(), Compression::best()), self.time)?;
        inside.write(&mut pack)?;
        pack.finish()?.finish().map(Some)
    }

    /// The name under which common.postinst looks for that tarball.
    pub fn prebuilt_name(&self) -> String {
        format!("{}.dkms.tar.gz", self.id.dashed())
    }

    /// What the package that registers the module installs, whoever installs that; without documents.
    fn dkms_contents(&self) -> io::Result<Contents> {
        let mut contents = self.source_files(&self.source_path())?;
        if let Some(bytes) = self.prebuilt()? {
            let path = Path::new("usr/share").join(&self.name).join(self.prebuilt_name());
            contents.add(path, Entry::Bytes { bytes, program: false });
        }
        if let Some(text) = self.debian_text("modprobe") {
            contents.text(format!("etc/modprobe.d/{}.conf", self.name), &text);
        }
        Ok(contents)
    }

    /// The package that registers the module: `NAME-dkms`.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn dkms_deb(&self) -> io::Result<Deb> {
        let mut contents = self.dkms_contents()?;
        self.add_documents(&mut contents)?;
        let script = |name: &str, ours: String| self.template_text(name).map_or(ours, |text| without_debhelper(&text));
        let mut fields = self.fields("all", Some(DKMS.into()));
        fields.push(("Description", self.description(self.dkms_description())));
        Ok(Deb {
            fields,
            scripts: vec![
                ("postinst", script("postinst", scripts::dkms_postinst(&self.name, &self.id))),
                ("prerm", script("prerm", scripts::dkms_prerm(&self.id))),
            ],
            contents,
            time: self.time,
        })
    }

    /// What every package says, but for its description.
    fn fields(&self, arch: &str, depends: Option<String>) -> Fields {
        let about = &self.about;
        let mut fields = vec![
            ("Package", self.name.clone()),
            ("Version", self.version.clone()),
            ("Architecture", arch.to_owned()),
            ("Maintainer", about.maintainer.clone()),
        ];
        fields.extend(depends.map(|depends| ("Depends", depends)));
        fields.push(("Section", about.section.clone()));
        fields.push(("Priority", "optional".into()));
        fields.extend(about.homepage.clone().map(|homepage| ("Homepage", homepage)));
        fields
    }

    /// The description, as a field of a control file.
    fn description(&self, kind: (&str, String)) -> String {
        let (synopsis, extended) = self.described(kind);
        deb::description(&synopsis, &extended)
    }

    /// Synopsis and description, with what this kind of package has to add.
    fn described(&self, (kind, more): (&str, String)) -> (String, Vec<String>) {
        let synopsis = &self.about.synopsis;
        let synopsis = if synopsis.contains(kind) { synopsis.clone() } else { format!("{synopsis} ({kind})") };
        let mut extended = self.about.extended.clone();
        if !extended.is_empty() {
            extended.push(".".into());
        }
        extended.extend(about::wrapped(&more));
        (synopsis, extended)
    }

    fn dkms_description(&self) -> (&'static str, String) {
        let name = &self.id.name;
        let text = match self.content {
            Content::BinariesOnly => format!(
                "This package has modules of {name} that were built elsewhere. DKMS installs them for the kernels that they \
                 were built for."
            ),
            _ => format!(
                "This package has the source of the kernel module {name}. DKMS builds and installs it for every kernel of \
                 this machine, those to come included, as soon as the kernel's headers are there."
            ),
        };
        ("DKMS", text)
    }

    /// Changelog, copyright and what the template has to tell.
    fn add_documents(&self, contents: &mut Contents) -> io::Result<()> {
        let dir = Path::new("usr/share/doc").join(&self.name);
        let changelog = documents::compressed(&documents::changelog(self))?;
        contents.add(deb::changelog_path(&self.name, &self.version), Entry::Bytes { bytes: changelog, program: false });
        contents.text(dir.join("copyright"), &documents::copyright(self, &documents::COMMON));
        if let Some(text) = self.template_text("README.Debian") {
            contents.text(dir.join("README.Debian"), &text);
        }
        Ok(())
    }
}

/// A release as a regular expression that matches it alone. In brackets, for bash evaluates a value twice, and with the
/// second time a backslash may be gone.
fn literally(release: &str) -> String {
    let literal =
        |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c.to_string() } else { format!("[{c}]") };
    release.chars().map(literal).collect()
}

/// A maintainer script without the place where debhelper would put its own.
fn without_debhelper(text: &str) -> String {
    text.lines().filter(|line| line.trim() != "#DEBHELPER#").map(|line| format!("{line}\n")).collect()
}

/// The module's name as names of packages are written (Debian Policy 5.6.1).
fn stem(id: &Id) -> Result<String> {
    let stem = id.name.to_ascii_lowercase().replace('_', "-");
    let plain = stem.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if plain && stem.len() > 1 && stem.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Ok(stem)
    } else {
        Err(Problem::BadName(id.name.clone()).into())
    }
}

/// The version, if the manager takes it.
fn version(id: &Id, said: &Stated, manager: Manager) -> Result<String> {
    let version = said.version.as_ref().unwrap_or(&id.version);
    match manager.refuses_version(version) {
        None => Ok(version.clone()),
        Some(why) => {
            let (id, version) = (id.to_string(), version.clone());
            Err(Problem::BadVersion { manager: manager.name(), id, version, why }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::regex::{Match, matches};

    #[test]
    fn a_release_matches_itself_alone() {
        let release = "6.12.90+deb12-amd64";
        let pattern = format!("^({})$", literally(release));
        assert_eq!(pattern, "^(6[.]12[.]90[+]deb12-amd64)$");
        assert_eq!(matches(&pattern, release), Match::Yes);
        assert_eq!(matches(&pattern, "6.12.900deb12-amd64"), Match::No);
    }
}
