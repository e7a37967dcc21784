// SPDX-License-Identifier: GPL-2.0-or-later
//! `ldtarball`: registers what is in a tarball, and takes over the modules in it that were built elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::commands::add::Added;
use crate::commands::{Invocation, add, autoinstall, lock};
use crate::commit::Commit;
use crate::error::tarball::Problem;
use crate::error::{Doing, Error, Result, cannot};
use crate::model::conf::{Conf, Question};
use crate::model::kernel::Kernel;
use crate::model::module::Target;
use crate::model::site::Site;
use crate::model::tree::NOT_KERNELS;
use crate::plan::remarks_on;
use crate::steps::unpack;
use crate::system::directories::list;
use crate::system::output::Block;
use crate::system::process;
use crate::system::scratch::Scratch;

/// `ldtarball`
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    let archive = checked(site, invocation)?;
    if is_rpm(&archive) {
        return install_rpm(site, invocation, &archive);
    }
    let _lock = lock(site)?;
    load(site, invocation, &archive, &site.output.block())?.whole().map(drop)
}

/// The tarball that was named, if it is there and we may load it.
pub fn checked(site: &Site, invocation: &Invocation) -> Result<PathBuf> {
    let archive = invocation.archive.clone().unwrap_or_default();
    if invocation.options.force && !site.root {
        return Err(Problem::ForceNeedsRoot.into());
    }
    if !archive.is_file() {
        return Err(Problem::Missing(archive.display().to_string()).into());
    }
    if !is_rpm(&archive) {
        site.need_tree()?;
    }
    Ok(archive)
}

/// Whether it is a package of rpm's, by its name.
pub fn is_rpm(archive: &Path) -> bool {
    archive.as_os_str().as_encoded_bytes().ends_with(b".rpm")
}

/// Has rpm install a package, and then installs what it has registered. Not with the lock held: its scripts call us.
pub fn install_rpm(site: &Site, invocation: &Invocation, package: &Path) -> Result<()> {
    let mut rpm = process::program("rpm");
    if !rpm.arg("-Uvh").arg(package).status().is_ok_and(|status| status.success()) {
        return Err(Problem::Rpm(package.to_owned()).into());
    }
    autoinstall::run(site, &invocation.targets, &invocation.options)
}

/// Registers what is in `archive`.
pub fn load(site: &Site, invocation: &Invocation, archive: &Path, say: &Block) -> Result<Added> {
    let staging = staging(site)?;
    unpack::unpack(archive, staging.path())?;
    let content = Content::find(staging.path(), archive)?;
    if let Some(link) = unpack::link_outside(&content.conf_dir).doing(cannot("read", &content.conf_dir))? {
        return Err(refused(archive, staging.path(), &link, "is a link out of the source"));
    }
    let conf = read_conf(site, invocation, &content.conf_dir)?;
    let id = conf.id.clone();
    let named = !id.name.is_empty() && !id.version.is_empty();
    if named && !id.is_sane() {
        return Err(Error::BadName(id.to_string()));
    }
    if named && site.tree.is_added(&id) && !invocation.options.force {
        return Err(match content.modules {
            Some(_) => Problem::AlreadyAdded(id.to_string()).into(),
            None => Error::AlreadyAdded(id.to_string()),
        });
    }
    if !conf.problems.is_empty() || !conf.duplicates().is_empty() {
        let inside = content.conf_dir.strip_prefix(staging.path()).unwrap_or(Path::new("")).join("dkms.conf");
        let file = format!("{}: {}", archive.display(), inside.display());
        say.complain(remarks_on(&conf, &file, &invocation.options.action));
        return Err(Error::BadConf(file));
    }
    let from_dir = Invocation { source: Some(content.conf_dir.clone()), ..like(invocation) };
    let Some(modules) = &content.modules else {
        return add::add(site, &from_dir, say);
    };
    let built = prebuilt(modules, archive, staging.path())?;
    say.say(format!("\nLoading tarball for {id}"));
    let commit = Commit::new(site, &invocation.options);
    if content.has_source {
        add::take_in(site, &from_dir, &content.conf_dir, say)?;
    }
    let place = site.tree.source_dir(&id);
    let sourceless = !place.is_dir();
    if sourceless {
        commit.keep_conf(&id, &content.conf_dir.join("dkms.conf"), say)?;
    }
    // A directory of a version without its source would be a broken module: both come at once.
    let together = staging.path().join("version");
    let version_dir = site.tree.version_dir(&id);
    let new = !version_dir.exists();
    for (target, dir) in &built {
        commit.load(&id, target, dir, if new { &together } else { &version_dir }, say)?;
    }
    if sourceless {
        return Err(Problem::NoSource { id: id.to_string(), place }.into());
    }
    let named = Invocation { name: Some(id.name), version: Some(id.version), ..like(invocation) };
    add::add_with(site, &named, new.then_some(&together), say)
}

/// An invocation with nothing named, for the same kernels and with the same options.
fn like(invocation: &Invocation) -> Invocation {
    let (targets, options) = (invocation.targets.clone(), invocation.options.clone());
    Invocation { targets, options, ..Invocation::new(invocation.action) }
}

/// Reads the dkms.conf of a source that nobody has named yet.
fn read_conf(site: &Site, invocation: &Invocation, dir: &Path) -> Result<Conf> {
    let options = &invocation.options;
    let target = invocation.targets.first().cloned().unwrap_or_else(Target::running);
    let kernel = Kernel::new(site, &target, options.headers.as_deref(), options.config.as_deref());
    let file = options.conf.clone().unwrap_or_else(|| dir.join("dkms.conf"));
    let (directives, action, force) = (&options.directives, &options.action, options.force);
    Question { site, kernel: &kernel, id: None, file, directives, action, force }.answer()
}

/// A directory in the tree's own file system, so that what is in it gets to its place by renaming. Readable to all:
/// a dkms.conf is read by another user than us.
fn staging(site: &Site) -> Result<Scratch> {
    use std::os::unix::fs::PermissionsExt;
    let root = site.tree.root();
    let staging = Scratch::new(root).doing(cannot("write", root))?;
    fs::set_permissions(staging.path(), fs::Permissions::from_mode(0o755)).doing(cannot("open", staging.path()))?;
    Ok(staging)
}

/// What a tarball holds, unpacked.
struct Content {
    /// Where its dkms.conf is, and with it the source, if there is one.
    conf_dir: PathBuf,
    has_source: bool,
    /// The modules, where dkms made it.
    modules: Option<PathBuf>,
}

impl Content {
    fn find(base: &Path, archive: &Path) -> Result<Self> {
        let modules = base.join("dkms_main_tree");
        if !modules.is_dir() {
            let conf_dir = first_conf(base)?.ok_or(Problem::NoConf)?;
            return Ok(Self { conf_dir, has_source: true, modules: None });
        }
        let (source, binaries) = (base.join("dkms_source_tree"), base.join("dkms_binaries_only"));
        let has_source = source.join("dkms.conf").is_file();
        let conf_dir = if has_source { source } else { binaries };
        if !conf_dir.join("dkms.conf").is_file() {
            return Err(Problem::Nameless(archive.to_owned()).into());
        }
        Ok(Self { conf_dir, has_source, modules: Some(modules) })
    }
}

/// The directory of the first dkms.conf: the one nearest to the top.
fn first_conf(base: &Path) -> Result<Option<PathBuf>> {
    let mut level = vec![base.to_owned()];
    while !level.is_empty() {
        if let Some(found) = level.iter().find(|dir| dir.join("dkms.conf").is_file()) {
            return Ok(Some(found.clone()));
        }
        let mut next = Vec::new();
        for dir in level {
            next.extend(names_in(&dir)?.into_iter().map(|name| dir.join(name)));
        }
        next.retain(|path| path.is_dir() && !path.is_symlink());
        level = next;
    }
    Ok(None)
}

fn names_in(dir: &Path) -> Result<Vec<String>> {
    list(dir).doing(cannot("read", dir))
}

/// The kernels that modules in it are for, and where these are.
fn prebuilt(modules: &Path, archive: &Path, base: &Path) -> Result<Vec<(Target, PathBuf)>> {
    let mut found = Vec::new();
    let is_dir = |path: &Path| path.is_dir() && !path.is_symlink();
    for release in names_in(modules)? {
        for arch in names_in(&modules.join(&release))? {
            let dir = modules.join(&release).join(&arch);
            if !is_dir(&modules.join(&release)) || !is_dir(&dir) || !is_dir(&dir.join("module")) {
                continue;
            }
            if NOT_KERNELS.contains(&release.as_str()) {
                return Err(refused(archive, base, &dir, "is not named after a kernel"));
            }
            if let Some(link) = unpack::link_outside(&dir).doing(cannot("read", &dir))? {
                return Err(refused(archive, base, &link, "is a link out of the modules"));
            }
            found.push((Target::new(&release, arch), dir));
        }
    }
    Ok(found)
}

fn refused(archive: &Path, base: &Path, entry: &Path, why: &'static str) -> Error {
    let entry = entry.strip_prefix(base).unwrap_or(entry).display().to_string();
    Problem::Unsafe { file: archive.to_owned(), entry, why }.into()
}
