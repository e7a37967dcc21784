// SPDX-License-Identifier: GPL-2.0-or-later
//! `mkdeb`, `mkdsc`, `mkbmdeb`, `mkrpm`: a module in a package, for machines that get it by apt or by rpm.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::commands::{Action, Invocation, lock, mktarball, need_added, remove};
use crate::error::package::Problem;
use crate::error::{Error, Result};
use crate::model::conf::Conf;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::steps::package::deb::{Deb, file_name};
use crate::steps::package::modules::Meta;
use crate::steps::package::{Manager, Packaging, rpm, source};
use crate::steps::tarball::Content;
use crate::system::dpkg;
use crate::system::files::replace_with_text;
use crate::system::output::Block;

/// `mkdeb`: the package that registers the module, with what was built for the kernels that were named.
pub fn mkdeb(site: &Site, invocation: &Invocation) -> Result<()> {
    let (id, targets) = begin(site, invocation)?;
    let _lock = lock(site)?;
    let say = site.output.block();
    let package = describe(site, invocation, &id, &targets, "-dkms", &say)?.0;
    check_collision(&package)?;
    let place = Place::find(site, &id, "deb")?;
    place.put_deb(&package.name, package.dkms_deb(), &say)
}

/// `mkdsc`: the source of that package.
pub fn mkdsc(site: &Site, invocation: &Invocation) -> Result<()> {
    let (id, targets) = begin(site, invocation)?;
    let _lock = lock(site)?;
    let say = site.output.block();
    let mut package = describe(site, invocation, &id, &targets, "-dkms", &say)?.0;
    if package.version.contains('-') {
        // What is behind the last hyphen would be a revision, and a source package of this format has none.
        package.version = package.version.replace('-', "+");
        say.say(format!("The source package gets version {}, for it can have no revision.", package.version));
    }
    let place = Place::find(site, &id, "dsc")?;
    let files = source::build(&package).map_err(|error| place.not_made(&package.name, &error))?;
    files.into_iter().try_for_each(|(name, bytes)| {
        let kind = match name.rsplit_once('.') {
            Some((_, "dsc")) => "Source package",
            Some((_, "changes")) => "Changes",
            _ => "Tarball",
        };
        place.put(kind, &name, Ok(bytes), &say)
    })
}

/// `mkbmdeb`: what was built for the kernels that were named, and for each a package that follows its meta package.
pub fn mkbmdeb(site: &Site, invocation: &Invocation) -> Result<()> {
    let (id, targets) = begin(site, invocation)?;
    let _lock = lock(site)?;
    let say = site.output.block();
    let (package, conf) = describe(site, invocation, &id, &targets, "-modules", &say)?;
    let place = Place::find(site, &id, "bmdeb")?;
    for (index, target) in targets.iter().enumerate() {
        let other = (index > 0).then(|| mktarball::sound_conf(site, invocation, &id, target, &say)).transpose()?;
        let modules = package.built_modules(target, other.as_ref().unwrap_or(&conf))?;
        place.put_deb(&package.name, package.modules_deb(target, &modules), &say)?;
        match Meta::of(target) {
            Some(meta) => place.put_deb(&package.name, package.meta_deb(target, &meta), &say)?,
            None => say.warn(format!(
                "apt knows of no package that follows {}: there will be none that follows it.",
                target.release
            )),
        }
    }
    Ok(())
}

/// `mkrpm`: what `mkdeb` makes, for rpm.
pub fn mkrpm(site: &Site, invocation: &Invocation) -> Result<()> {
    let (id, targets) = begin(site, invocation)?;
    let _lock = lock(site)?;
    let say = site.output.block();
    let mut package = describe(site, invocation, &id, &targets, "-dkms", &say)?.0;
    if package.version.contains('-') {
        package.version = package.version.replace('-', "_");
        say.say(format!("The package gets version {}, for with rpm a hyphen ends it.", package.version));
    }
    let place = Place::find(site, &id, "rpm")?;
    place.put("Package", &rpm::file_name(&package.name, &package.version), package.dkms_rpm(), &say)
}

/// What is to be packaged: a registered module, and what was built of it.
fn begin(site: &Site, invocation: &Invocation) -> Result<(Id, Vec<Target>)> {
    let id = invocation.id(invocation.action.name())?;
    need_added(site, &id)?;
    site.need_tree()?;
    let targets = match invocation.content {
        Content::SourceOnly if invocation.action != Action::Mkbmdeb => Vec::new(),
        _ if invocation.all => remove::built_for(site, &id),
        _ => invocation.targets.clone(),
    };
    if targets.is_empty() && invocation.action == Action::Mkbmdeb {
        return Err(Problem::nothing_built(&id, &Target::running()).into());
    }
    match targets.iter().find(|target| !site.tree.module_dir(&id, target).is_dir()) {
        Some(target) => Err(Problem::nothing_built(&id, target).into()),
        None => Ok((id, targets)),
    }
}

/// What the package says and has, and the module's dkms.conf for the first of the kernels.
fn describe<'a>(
    site: &'a Site,
    invocation: &Invocation,
    id: &'a Id,
    targets: &'a [Target],
    suffix: &str,
    say: &Block,
) -> Result<(Packaging<'a>, Conf)> {
    let target = targets.first().cloned().unwrap_or_else(Target::running);
    let conf = mktarball::sound_conf(site, invocation, id, &target, say)?;
    let file = invocation.options.conf.clone().unwrap_or_else(|| site.tree.source_link(id).join("dkms.conf"));
    let kind = (suffix, if invocation.action == Action::Mkrpm { Manager::Rpm } else { Manager::Dpkg });
    let package = Packaging::new(site, id, (&conf, &file), (invocation.content, targets), kind, &invocation.about)?;
    Ok((package, conf))
}

/// A package of the same name that is installed has to be an earlier one of the same module.
fn check_collision(package: &Packaging) -> Result<()> {
    let files = dpkg::files(&package.name);
    let source = format!("/usr/src/{}-", package.id.name);
    if files.is_empty() || files.iter().any(|file| file.starts_with(&source)) {
        return Ok(());
    }
    Err(Problem::Collides { package: package.name.clone(), id: package.id.to_string() }.into())
}

/// Where packages of a module go.
struct Place(PathBuf);

impl Place {
    fn find(site: &Site, id: &Id, name: &str) -> Result<Self> {
        let dir = site.tree.version_dir(id).join(name);
        // Where it cannot be made it cannot be written either, which is told next.
        let _ = fs::create_dir_all(&dir);
        if !dir.is_dir() || rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK).is_err() {
            return Err(Problem::NotWritable(dir).into());
        }
        Ok(Self(dir))
    }

    fn put_deb(&self, name: &str, deb: io::Result<Deb>, say: &Block) -> Result<()> {
        let deb = deb.map_err(|error| self.not_made(name, &error))?;
        let file = file_name(deb.field("Package"), deb.field("Version"), deb.field("Architecture"));
        self.put("Package", &file, deb.build(), say)
    }

    /// Puts a file there, whole or not at all, and tells of it.
    fn put(&self, kind: &str, name: &str, bytes: io::Result<Vec<u8>>, say: &Block) -> Result<()> {
        let file = self.0.join(name);
        bytes.and_then(|bytes| replace_with_text(&bytes, &file)).map_err(|error| self.not_made(name, &error))?;
        say.say(format!("{kind}: {}", file.display()));
        Ok(())
    }

    fn not_made(&self, name: &str, error: &io::Error) -> Error {
        Problem::NotMade { file: Path::new(&self.0).join(name).display().to_string(), why: error.to_string() }.into()
    }
}
