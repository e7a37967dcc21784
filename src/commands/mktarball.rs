// SPDX-License-Identifier: GPL-2.0-or-later
//! `mktarball`: a module's source and what was built of it, in one file for another machine.

use std::fs;
use std::path::Path;

use crate::commands::{Invocation, lock, need_added, remove};
use crate::error::tarball::Problem;
use crate::error::{Error, Result};
use crate::model::conf::Conf;
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::plan::{read_conf, remarks_on};
use crate::steps::pack::{self, Pack};
use crate::steps::tarball::{self, Content};
use crate::system::output::Block;
use crate::system::trust;

/// Kernels in a tarball's name, before the name says only that there are many.
const LONGEST_LIST: usize = 200;

/// `mktarball`
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    let id = invocation.id("mktarball")?;
    // Anybody may make one, and only root keep root waiting.
    let _lock = site.root.then(|| lock(site)).transpose()?;
    need_added(site, &id)?;
    let say = site.output.block();
    let content = invocation.content;
    let targets = chosen(site, invocation, &id);
    let target = targets.first().or(invocation.targets.first()).cloned().unwrap_or_else(Target::running);
    sound_conf(site, invocation, &id, &Kernel::new(site, &target, None, None), &say)?;
    for target in &targets {
        if !site.tree.is_built(&id, target) {
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
        trust::check_all(&source)?;
        say.say(format!("Marking {} for archiving...", source.display()));
    }
    let place = place(site, invocation, &id, &targets);
    say.say(format!("\nTarball location: {place}"));
    make_writable(place.rsplit_once('/').map_or("", |(dir, _)| dir))?;
    let conf = invocation.options.conf.clone().unwrap_or_else(|| source.join("dkms.conf"));
    let inside = tarball::Inside { site, id: &id, targets: &targets, content, conf: &conf, logs: true };
    let outside = Pack::at(Path::new(&place), pack::time(&source), |pack| inside.write(pack))
        .map_err(|error| Problem::NotMade(error.to_string()))?;
    for link in outside {
        say.warn(format!("{link} leads out of the source: dkms-rs will not load a tarball with it."));
    }
    Ok(())
}

/// The module's dkms.conf: what goes out with one that is none would not be loaded anywhere.
pub(super) fn sound_conf(site: &Site, invocation: &Invocation, id: &Id, kernel: &Kernel, say: &Block) -> Result<Conf> {
    let conf = read_conf(site, &invocation.options, id, kernel)?;
    let file = invocation.options.conf.as_ref().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
    say.complain(remarks_on(&conf, &file, &invocation.options.action));
    if conf.problems.is_empty() { Ok(conf) } else { Err(Error::BadConf(file)) }
}

/// The kernels whose modules go out: those that were named, or all that something is built for, or none.
pub(super) fn chosen(site: &Site, invocation: &Invocation, id: &Id) -> Vec<Target> {
    match invocation.content {
        Content::SourceOnly => Vec::new(),
        _ if invocation.all => remove::built_for(site, id),
        _ => invocation.targets.clone(),
    }
}

/// Makes a directory that files shall go into.
pub(super) fn make_writable(dir: &str) -> Result<()> {
    // Where it cannot be made it cannot be written either, which is told next.
    let _ = fs::create_dir_all(dir);
    if Path::new(dir).is_dir() && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok() {
        return Ok(());
    }
    Err(Problem::NotWritable(dir.to_owned()).into())
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
