// SPDX-License-Identifier: GPL-2.0-or-later
//! `mkdeb`, `mkdsc`, `mkbmdeb`, `mkrpm`: a module in a package, for machines that get it by apt or by rpm.

use std::io;
use std::path::PathBuf;

use crate::commands::{Action, Invocation, lock_added, mktarball};
use crate::error::package::Problem;
use crate::error::{Error, Result};
use crate::model::conf::Conf;
use crate::model::kernel::Kernel;
use crate::model::module::Target;
use crate::model::site::Site;
use crate::steps::package::deb::{Deb, file_name};
use crate::steps::package::modules::Meta;
use crate::steps::package::{Manager, Packaging, rpm, source};
use crate::system::dpkg;
use crate::system::files::replace_with_text;
use crate::system::lock::Lock;
use crate::system::output::Block;

/// `mkdeb`: the package that registers the module, with what was built for the kernels that were named.
pub fn mkdeb(site: &Site, invocation: &Invocation) -> Result<()> {
    let Work { package, place, say, .. } = Work::begin(site, invocation, "-dkms", "deb")?;
    check_collision(&package)?;
    place.put_deb(&package.name, package.dkms_deb(), &say)
}

/// `mkdsc`: the source of that package.
pub fn mkdsc(site: &Site, invocation: &Invocation) -> Result<()> {
    let Work { mut package, place, say, .. } = Work::begin(site, invocation, "-dkms", "dsc")?;
    if package.version.contains('-') {
        // What is behind the last hyphen would be a revision, and a source package of this format has none.
        package.version = package.version.replace('-', "+");
        say.say(format!("The source package gets version {}, for it can have no revision.", package.version));
    }
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
    let Work { package, conf, place, say, .. } = Work::begin(site, invocation, "-modules", "bmdeb")?;
    if package.targets.is_empty() {
        return Err(Problem::nothing_built(&package.id, &Target::running()).into());
    }
    for (index, target) in package.targets.iter().enumerate() {
        let kernel = Kernel::new(site, target, None, None);
        let read = || mktarball::sound_conf(site, invocation, &package.id, &kernel, &say);
        let other = (index > 0).then(read).transpose()?;
        let modules = package.built_modules(&kernel, other.as_ref().unwrap_or(&conf))?;
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
    let Work { mut package, place, say, .. } = Work::begin(site, invocation, "-dkms", "rpm")?;
    if package.version.contains('-') {
        package.version = package.version.replace('-', "_");
        say.say(format!("The package gets version {}, for with rpm a hyphen ends it.", package.version));
    }
    place.put("Package", &rpm::file_name(&package.name, &package.version), package.dkms_rpm(), &say)
}

/// A registered module on its way into a package.
struct Work<'a> {
    package: Packaging<'a>,
    /// Its dkms.conf, for the first of the kernels.
    conf: Conf,
    place: Place,
    say: Block,
}

impl<'a> Work<'a> {
    /// Looks at what is to be packaged, under a name that ends in `suffix`, into the directory `dir` of its version.
    fn begin(site: &'a Site, invocation: &Invocation, suffix: &str, dir: &str) -> Result<Self> {
        let id = invocation.id(invocation.action.name())?;
        let lock = lock_added(site, &id, || site.need_tree())?;
        let targets = mktarball::chosen(site, invocation, &id);
        if let Some(target) = targets.iter().find(|target| !site.tree.is_built(&id, target)) {
            return Err(Problem::nothing_built(&id, target).into());
        }
        let say = site.output.block();
        let target = targets.first().cloned().unwrap_or_else(Target::running);
        let conf = mktarball::sound_conf(site, invocation, &id, &Kernel::new(site, &target, None, None), &say)?;
        let file = invocation.options.conf.clone().unwrap_or_else(|| site.tree.source_link(&id).join("dkms.conf"));
        let manager = if invocation.action == Action::Mkrpm { Manager::Rpm } else { Manager::Dpkg };
        let dir = site.tree.version_dir(&id).join(dir);
        let said = &invocation.about;
        let what = (invocation.content, targets);
        let package = Packaging::new(site, id, (&conf, &file), what, (suffix, manager), said)?;
        Ok(Self { package, conf, place: Place { dir, _lock: lock }, say })
    }
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

/// Where packages of a module go, which nobody takes away meanwhile.
struct Place {
    dir: PathBuf,
    _lock: Lock,
}

impl Place {
    fn put_deb(&self, name: &str, deb: io::Result<Deb>, say: &Block) -> Result<()> {
        let deb = deb.map_err(|error| self.not_made(name, &error))?;
        let file = file_name(deb.field("Package"), deb.field("Version"), deb.field("Architecture"));
        self.put("Package", &file, deb.build(), say)
    }

    /// Puts a file there, whole or not at all, and tells of it.
    fn put(&self, kind: &str, name: &str, bytes: io::Result<Vec<u8>>, say: &Block) -> Result<()> {
        mktarball::make_writable(&self.dir.to_string_lossy())?;
        let file = self.dir.join(name);
        bytes.and_then(|bytes| replace_with_text(&bytes, &file)).map_err(|error| self.not_made(name, &error))?;
        say.say(format!("{kind}: {}", file.display()));
        Ok(())
    }

    fn not_made(&self, name: &str, error: &io::Error) -> Error {
        Problem::NotMade { file: self.dir.join(name).display().to_string(), why: error.to_string() }.into()
    }
}
