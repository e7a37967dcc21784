// SPDX-License-Identifier: GPL-2.0-or-later
//! From what a build made, now or once, to what is installed: modules are looked at, signed and compressed.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result, cannot};
use crate::model::conf::Module;
use crate::model::store::{LOG, Made};
use crate::steps::prepare::Workshop;
use crate::steps::scripts::Script;
use crate::steps::sign::Signing;
use crate::steps::{Work, compress, logged};
use crate::system::modinfo::{ModInfo, is_relocatable_elf};
use crate::system::output::Words;
use crate::system::side_by_side;
use crate::system::tokens::JobToken;

/// Where a module is among a result's files, before it is compressed.
pub fn place(module: &Module) -> PathBuf {
    Path::new("module").join(format!("{}.ko", module.dest_name))
}

/// Puts the modules among `files`, and what else a build made beside them, into the workshop's result; on the job's
/// token and whatever others can be had.
pub fn modules(
    work: &Work,
    workshop: &Workshop,
    modules: &[&Module],
    files: &BTreeMap<PathBuf, Vec<u8>>,
    signing: Option<&Signing>,
    token: &JobToken,
) -> Result<()> {
    let Work { site, id, kernel, say, .. } = work;
    let ours = workshop.result.join("module");
    fs::create_dir_all(&ours).doing(cannot("make", &ours))?;
    let named: BTreeMap<PathBuf, &Module> = modules.iter().map(|module| (place(module), *module)).collect();
    let others = files.iter().filter(|(name, _)| !named.contains_key(*name) && **name != Path::new(LOG));
    for (name, bytes) in others {
        put(&workshop.result.join(name), bytes)?;
    }
    let (build_dir, suffix) = (site.tree.build_dir(id), kernel.compression());
    let finish = |module: &&Module| {
        let mut words = Words::default();
        let Some(bytes) = files.get(&place(module)) else { return Ok((None, words)) };
        let file = workshop.result.join(place(module));
        put(&file, bytes)?;
        // What came signed from elsewhere stays as it came.
        if let Some(signing) = signing {
            signing.sign(&file, bytes, &build_dir.join(module.built_file()), &mut words)?;
        }
        compress::compress(&file, suffix, &site.framework.compress_opts, &mut words);
        Ok((problem(work, &module.built_file(), bytes), words))
    };
    side_by_side::each(modules, token, finish, |finished: Result<_>| {
        let (problem, words) = finished?;
        problem.map_or(Ok(()), |problem| tell(work, workshop, &problem))?;
        say.pass_on(words);
        Ok(())
    })
}

/// Does as if what was made once were made now, in the same words.
pub fn again(work: &Work, workshop: &Workshop, made: &Made, signing: &Signing, token: &JobToken) -> Result<()> {
    let Work { conf, kernel, say, .. } = work;
    let after = format!("Running the {} script", Script::PostBuild.name());
    let (after, before): (Vec<_>, Vec<_>) = made.told.iter().partition(|told| **told == after);
    let retell = |told: &[&String]| told.iter().for_each(|told| say.print(format!("{told}... done.\n")));
    retell(&before);
    let signing = Some(signing).filter(|_| !made.signed);
    modules(work, workshop, &conf.included(kernel).unwrap_or_default(), &made.files, signing, token)?;
    retell(&after);
    // Of the build itself, with whatever was found to be noted of its modules.
    let log = made.files.get(Path::new(LOG)).map(Vec::as_slice).unwrap_or_default();
    fs::write(&workshop.log, log).doing(cannot("write", &workshop.log))
}

/// Why no kernel will load a module. It is kept all the same, as it always was.
fn problem(work: &Work, name: &str, bytes: &[u8]) -> Option<String> {
    let release = work.kernel.built_release();
    let made_for = ModInfo::parse(bytes).unwrap_or_default().vermagic;
    let made_for = made_for.split(' ').next().unwrap_or_default();
    if !is_relocatable_elf(bytes) {
        return Some(format!("{name} is no kernel module"));
    }
    let release = release.filter(|release| release != made_for)?;
    Some(format!("{name} was made for kernel {made_for}, not for {release}"))
}

/// Notes in the log, and to a person, what is wrong with a module.
fn tell(work: &Work, workshop: &Workshop, problem: &str) -> Result<()> {
    if std::io::stderr().is_terminal() {
        work.say.warn(problem);
    }
    logged::append(&workshop.log, format!("\n# {problem}\n"))
}

/// Writes a file of ours, mode 644.
pub fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all).doing(cannot("make the directory of", file))?;
    fs::write(file, bytes).doing(cannot("write", file))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).doing(cannot("write", file))
}
