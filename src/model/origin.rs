// SPDX-License-Identifier: GPL-2.0-or-later
//! What a result was made of, as far as a machine can tell that has no headers and no compiler.

use std::fs;
use std::io;

use crate::model::caller;
use crate::model::conf::overrides;
use crate::model::inputs::Recipe;
use crate::model::module::{Id, Target};
use crate::model::source::Source;
use crate::system::digest::Digest;

/// Variables by which a caller has kbuild do otherwise, whatever a module's Makefile says.
const KBUILD: [&str; 12] = [
    "ARCH",
    "C",
    "CPATH",
    "CROSS_COMPILE",
    "C_INCLUDE_PATH",
    "KAFLAGS",
    "KBUILD_EXTRA_SYMBOLS",
    "KCFLAGS",
    "KCPPFLAGS",
    "LLVM",
    "LLVM_IAS",
    "W",
];

/// Two machines on which it is the same build the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The module.
    pub id: Id,
    /// The kernel.
    pub target: Target,
    /// The version of the kernel's package: its release says less.
    pub kernel_version: String,
    /// The digest of the source, and of what the administrator, his build_environment and modules that it builds upon
    /// add to it.
    pub source: String,
}

impl Origin {
    /// Of a build that is to be done, for a kernel whose package has this version. What was said for this build alone does
    /// not count: whoever says something has no use for it.
    pub fn of(recipe: &Recipe, source: &Source, kernel_version: &str) -> io::Result<Self> {
        let Recipe { site, id, kernel, environment, .. } = recipe;
        let mut digest = Digest::new("origin 1");
        digest.add(&source.content);
        for name in overrides(id, &kernel.target) {
            match fs::read(site.paths.etc().join(&name)) {
                Ok(text) => drop(digest.add(name).add(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut variables = source.variables.clone();
        variables.retain(|name, _| caller::matters(name, false));
        variables.extend(caller::variables().into_iter().filter(|(name, _)| KBUILD.contains(&name.as_str())));
        for (name, value) in variables.iter().chain(*environment) {
            digest.add(name).add(value);
        }
        for depended in recipe.depends() {
            // Its modules are signed here and elsewhere; what they export is the same.
            let symbols = site.tree.module_dir(&depended, &kernel.target).join("Module.symvers");
            digest.add(depended.to_string()).add(fs::read(symbols).unwrap_or_default());
        }
        let (id, target, kernel_version) = ((*id).clone(), kernel.target.clone(), kernel_version.to_owned());
        Ok(Self { id, target, kernel_version, source: digest.finish() })
    }
}
