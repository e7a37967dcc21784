// SPDX-License-Identifier: GPL-2.0-or-later
//! `mktarball`: a module's source and what was built of it, in one file for another machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::commands::{Content, Invocation, need_added, remove};
use crate::error::tarball::Problem;
use crate::error::{Error, Result};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::plan::{read_conf, remarks_on};
use crate::steps::pack::Pack;
use crate::system::output::Block;

/// Kernels in a tarball's name, before the name says only that there are many.
const LONGEST_LIST: usize = 200;

/// `mktarball`
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    let id = invocation.id("mktarball")?;
    need_added(site, &id)?;
    let say = site.output.block();
    let content = invocation.content;
    let targets = match content {
        Content::SourceOnly => Vec::new(),
        _ if invocation.all => remove::built_for(site, &id),
        _ => invocation.targets.clone(),
    };
    check_conf(site, invocation, &id, &say)?;
    for target in &targets {
        if !site.tree.module_dir(&id, target).is_dir() {
            return Err(Problem::NothingBuilt(target.to_string()).into());
        }
        say.say(format!("Marking modules for {target} for archiving..."));
    }
    say.say("");
    let source = site.tree.source_link(&id);
    if content == Content::BinariesOnly {
        // With the spelling that it has always had.
        say.say("Creating tarball structure to specifically accomodate binaries.");
    } else {
        say.say(format!("Marking {} for archiving...", source.display()));
    }
    let place = place(site, invocation, &id, &targets);
    say.say(format!("\nTarball location: {place}"));
    let dir = place.rsplit_once('/').map_or("", |(dir, _)| dir);
    // Where it cannot be made it cannot be written either, which is told next.
    let _ = fs::create_dir_all(dir);
    if !Path::new(dir).is_dir() || rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_err() {
        return Err(Problem::NotWritable(dir.to_owned()).into());
    }
    let conf = invocation.options.conf.clone().unwrap_or_else(|| source.join("dkms.conf"));
    let outside = write(site, &id, &targets, content, &conf, Path::new(&place))
        .map_err(|error| Problem::NotMade(error.to_string()))?;
    for link in outside {
        say.warn(format!("{link} leads out of the source: dkms-rs will not load a tarball with it."));
    }
    Ok(())
}

/// A module whose dkms.conf is none would not be loaded anywhere.
fn check_conf(site: &Site, invocation: &Invocation, id: &Id, say: &Block) -> Result<()> {
    let target = invocation.targets.first().cloned().unwrap_or_else(Target::running);
    let conf = read_conf(site, &invocation.options, id, &Kernel::new(site, &target, None, None))?;
    let file = invocation.options.conf.as_ref().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
    say.complain(remarks_on(&conf, &file, &invocation.options.action));
    if conf.problems.is_empty() { Ok(()) } else { Err(Error::BadConf(file)) }
}

/// Where it goes: as it was said, and a bare name or none into the module's own directory.
fn place(site: &Site, invocation: &Invocation, id: &Id, targets: &[Target]) -> String {
    let said = invocation.archive.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    if said.contains('/') {
        return said;
    }
    let name = if !said.is_empty() {
        said
    } else if invocation.content == Content::SourceOnly {
        format!("{}-source-only.dkms.tar.gz", id.dashed())
    } else {
        let kernels: Vec<String> =
            targets.iter().map(|target| format!("kernel{}-{}", target.release, target.arch)).collect();
        let kernels = kernels.join("-");
        let kernels = if kernels.len() > LONGEST_LIST { "manykernels" } else { &kernels };
        format!("{}-{kernels}.dkms.tar.gz", id.dashed())
    };
    // Two slashes, as it has always been told.
    format!("{}/tarball//{name}", site.tree.version_dir(id).display())
}

/// Writes it; gives the links in it that lead out of the source.
fn write(
    site: &Site,
    id: &Id,
    targets: &[Target],
    content: Content,
    conf: &Path,
    place: &Path,
) -> std::io::Result<Vec<String>> {
    let mut pack = Pack::begin(place, time(&site.tree.source_link(id)))?;
    let mut outside = Vec::new();
    if content == Content::BinariesOnly {
        pack.dir("./dkms_binaries_only/")?;
        pack.text("./dkms_binaries_only/PACKAGE_NAME", &format!("{}\n", id.name))?;
        pack.text("./dkms_binaries_only/PACKAGE_VERSION", &format!("{}\n", id.version))?;
        pack.file("./dkms_binaries_only/dkms.conf", conf)?;
    }
    pack.dir("./dkms_main_tree/")?;
    let mut targets = targets.to_vec();
    targets.sort();
    let mut release = None;
    for target in &targets {
        if release != Some(&target.release) {
            pack.dir(&format!("./dkms_main_tree/{}/", target.release))?;
            release = Some(&target.release);
        }
        let name = format!("./dkms_main_tree/{}/{}", target.release, target.arch);
        outside.append(&mut pack.tree(&name, &site.tree.built_dir(id, target))?);
    }
    if content != Content::BinariesOnly {
        let source: PathBuf = fs::canonicalize(site.tree.source_link(id))?;
        outside.append(&mut pack.tree("./dkms_source_tree", &source)?);
    }
    pack.finish(place)?;
    Ok(outside)
}

/// The time of all that is in a tarball: SOURCE_DATE_EPOCH, or else how old the source's dkms.conf is.
///
/// One for all: that a build directory was made later than another says nothing of what is in it.
fn time(source: &Path) -> u64 {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let conf = || fs::metadata(source.join("dkms.conf")).ok().and_then(|meta| u64::try_from(meta.mtime()).ok());
    epoch.or_else(conf).unwrap_or_default()
}
