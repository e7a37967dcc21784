// SPDX-License-Identifier: GPL-2.0-or-later
//! The end of a build: the modules come out of the sandbox, stripped, signed and compressed.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{Build, LARGEST_MODULE};
use crate::error::{Doing, Error, Result, cannot};
use crate::model::conf::Module;
use crate::steps::sign::Signing;
use crate::steps::{Work, compress, logged};
use crate::system::files::read_foreign;
use crate::system::modinfo::{ModInfo, is_relocatable_elf};
use crate::system::output::Words;
use crate::system::{process, side_by_side};

impl Build<'_> {
    /// Brings the modules out of the build directory: ours are copies, of regular files only, signed and compressed.
    pub(super) fn collect(&self, modules: &[&Module], signing: &Signing) -> Result<()> {
        let Work { site, id, kernel, say, .. } = self.work;
        let build_dir = site.tree.build_dir(id);
        let foreign =
            |module: &Module| read_foreign(&self.workshop.build, Path::new(&module.built_file()), LARGEST_MODULE);
        let missing = modules.iter().find(|module| {
            fs::symlink_metadata(self.workshop.build.join(module.built_file())).map_or(true, |meta| !meta.is_file())
        });
        if let Some(module) = missing {
            return Err(Error::NotProduced {
                module: module.built_file(),
                kernel: kernel.target.to_string(),
                log: self.log_as_told(),
            });
        }
        say.phase("signing and compressing");
        self.strip(modules)?;
        let ours = self.workshop.result.join("module");
        fs::create_dir_all(&ours).doing(cannot("make", &ours))?;
        let suffix = kernel.compression();
        let finish = |module: &&Module| {
            let bytes = foreign(module).doing(|| format!("Cannot take over {}", module.built_file()))?;
            let file = ours.join(format!("{}.ko", module.dest_name));
            let problem = self.problem(&module.built_file(), &bytes);
            put(&file, &bytes)?;
            let mut words = Words::default();
            signing.sign(&file, &build_dir.join(module.built_file()), &mut words);
            compress::compress(&file, suffix, &site.framework.compress_opts, &mut words);
            Ok((problem, words))
        };
        side_by_side::each(modules, self.token, finish, |finished: Result<_>| {
            let (problem, words) = finished?;
            problem.map_or(Ok(()), |problem| self.tell(&problem))?;
            say.pass_on(words);
            Ok::<_, Error>(())
        })?;
        // Absent if nothing is exported; whatever else goes wrong with it, the modules are good without.
        if let Ok(bytes) = read_foreign(&self.workshop.build, Path::new("Module.symvers"), LARGEST_MODULE) {
            put(&ours.join("Module.symvers"), &bytes)?;
        }
        Ok(())
    }

    /// Why no kernel will load a module. It is kept all the same, as it always was.
    fn problem(&self, name: &str, bytes: &[u8]) -> Option<String> {
        let release = self.work.kernel.built_release();
        let made_for = ModInfo::parse(bytes).unwrap_or_default().vermagic;
        let made_for = made_for.split(' ').next().unwrap_or_default();
        if !is_relocatable_elf(bytes) {
            return Some(format!("{name} is no kernel module"));
        }
        let release = release.filter(|release| release != made_for)?;
        Some(format!("{name} was made for kernel {made_for}, not for {release}"))
    }

    /// Notes in the log, and to a person, what is wrong with a module.
    fn tell(&self, problem: &str) -> Result<()> {
        if std::io::stderr().is_terminal() {
            self.work.say.warn(problem);
        }
        logged::append(&self.workshop.log, format!("\n# {problem}\n"))
    }

    /// Drops debugging symbols, in the sandbox: the files are a stranger's still.
    fn strip(&self, modules: &[&Module]) -> Result<()> {
        let files: Vec<String> =
            modules.iter().filter(|module| module.strip).map(|module| module.built_file()).collect();
        if files.is_empty() {
            return Ok(());
        }
        let strip = if self.toolchain.cc.as_deref() == Some("clang") { "llvm-strip" } else { "strip" };
        let build_dir = self.work.site.tree.build_dir(self.work.id);
        // A sandbox for each file would cost more than it saves.
        let share = files.len().div_ceil(self.token.at_most()).max(8);
        let shares: Vec<&[String]> = files.chunks(share).collect();
        let run = |files: &&[String]| {
            let mut command = Command::new(strip);
            command.arg("-g").args(files.iter().map(|file| build_dir.join(file)));
            self.workshop.confine(&self.work, None, &mut command)?;
            Ok(process::merged_output(&mut command))
        };
        side_by_side::each(&shares, self.token, run, |ended: Result<_>| {
            // Unstripped modules work as well.
            match ended? {
                Ok((_, said)) => self.work.say.complain(said),
                Err(error) => self.work.say.warn(format!("Cannot run {strip}: {error}")),
            }
            Ok(())
        })
    }
}

/// Writes a file of ours, mode 644.
pub(super) fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all).doing(cannot("make the directory of", file))?;
    fs::write(file, bytes).doing(cannot("write", file))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).doing(cannot("write", file))
}
