// SPDX-License-Identifier: GPL-2.0-or-later
//! The end of a build: the modules come out of the sandbox, stripped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use super::{Build, finish};
use crate::error::{Doing, Error, Result};
use crate::model::conf::Module;
use crate::steps::sign::Signing;
use crate::system::files::{open_foreign, read_foreign};
use crate::system::{process, side_by_side};

/// `$0` strips each of the files. In their places: where it fails it leaves those half written, or not at all.
const STRIP: &str = r#"failed=0; for file; do "$0" -g -o "$file.stripped" "$file" && mv -f "$file.stripped" "$file" || failed=1; done; exit $failed"#;

impl Build<'_> {
    /// Brings the modules out of the build directory: ours are copies, of regular files only, signed and compressed.
    pub(super) fn collect(&self, modules: &[&Module], signing: &Signing) -> Result<()> {
        let missing = |module: &&&Module| open_foreign(&self.workshop.build, Path::new(&module.built_file())).is_err();
        let missing = modules.iter().find(missing);
        if let Some(module) = missing {
            return Err(Error::NotProduced {
                module: module.built_file(),
                kernel: self.work.kernel.target.to_string(),
                log: self.log_as_told(),
            });
        }
        self.work.say.phase("signing and compressing");
        self.strip(modules)?;
        let (mut files, mut left) = (BTreeMap::new(), self.left());
        for module in modules {
            let bytes = read_foreign(&self.workshop.build, Path::new(&module.built_file()), left)
                .doing(|| format!("Cannot take over {}", module.built_file()))?;
            left -= bytes.len() as u64;
            files.insert(finish::place(module), bytes);
        }
        // Absent if nothing is exported; whatever else goes wrong with it, the modules are good without.
        if let Ok(bytes) = read_foreign(&self.workshop.build, Path::new("Module.symvers"), left) {
            files.insert(PathBuf::from("module/Module.symvers"), bytes);
        }
        finish::modules(&self.work, self.workshop, modules, &files, Some(signing), self.token)?;
        self.made().files = files;
        Ok(())
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
            let mut command = Command::new("sh");
            command.args(["-c", STRIP, strip]).args(files.iter().map(|file| build_dir.join(file)));
            self.workshop.confine(&self.work, self.time_left(), None, &[], &mut command)?;
            Ok(process::merged_output(&mut command))
        };
        side_by_side::each(&shares, self.token, run, |ended: Result<_>| {
            // Unstripped modules work as well, but the next time they shall be.
            match ended? {
                Ok((code, said)) => {
                    self.work.say.complain(said);
                    self.spoilt.fetch_or(code != 0, Ordering::Relaxed);
                }
                Err(error) => {
                    self.work.say.warn(format!("Cannot run {strip}: {error}"));
                    self.spoilt.store(true, Ordering::Relaxed);
                }
            }
            Ok(())
        })
    }
}
