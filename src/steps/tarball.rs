// SPDX-License-Identifier: GPL-2.0-or-later
//! What is in a tarball of dkms.
//!
//! ```text
//! ./dkms_main_tree/K/A/{log,module}  what was built
//! ./dkms_source_tree/                the source, or
//! ./dkms_binaries_only/              what stands for it: PACKAGE_NAME, PACKAGE_VERSION, dkms.conf
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::steps::pack::Pack;

/// What goes into a tarball or a package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Content {
    /// Source and built modules.
    #[default]
    Everything,
    /// `--binaries-only`
    BinariesOnly,
    /// `--source-only`
    SourceOnly,
}

/// What a tarball is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inside<'a> {
    /// The machine.
    pub site: &'a Site,
    /// The module.
    pub id: &'a Id,
    /// The kernels whose modules go into it.
    pub targets: &'a [Target],
    /// Whether the source does.
    pub content: Content,
    /// The dkms.conf that stands for a source that does not.
    pub conf: &'a Path,
    /// Whether what the builds said does: it has times in it, so no two builds say the same.
    pub logs: bool,
}

impl Inside<'_> {
    /// Writes all of it; gives the links in it that lead out of the source.
    pub fn write(&self, pack: &mut Pack<impl Write>) -> io::Result<Vec<String>> {
        let mut outside = Vec::new();
        if self.content == Content::BinariesOnly {
            pack.dir("./dkms_binaries_only/")?;
            pack.text("./dkms_binaries_only/PACKAGE_NAME", &format!("{}\n", self.id.name))?;
            pack.text("./dkms_binaries_only/PACKAGE_VERSION", &format!("{}\n", self.id.version))?;
            pack.file("./dkms_binaries_only/dkms.conf", self.conf)?;
        }
        pack.dir("./dkms_main_tree/")?;
        let mut targets: Vec<&Target> = self.targets.iter().collect();
        targets.sort();
        let mut release = None;
        for target in targets {
            if release != Some(&target.release) {
                pack.dir(format!("./dkms_main_tree/{}/", target.release))?;
                release = Some(&target.release);
            }
            let name = format!("./dkms_main_tree/{}/{}", target.release, target.arch);
            if self.logs {
                outside.append(&mut pack.tree(&name, &self.site.tree.built_dir(self.id, target))?);
            } else {
                pack.dir(format!("{name}/"))?;
                let modules = self.site.tree.module_dir(self.id, target);
                outside.append(&mut pack.tree(&format!("{name}/module"), &modules)?);
            }
        }
        if self.content != Content::BinariesOnly {
            let source = fs::canonicalize(self.site.tree.source_link(self.id))?;
            outside.append(&mut pack.tree("./dkms_source_tree", &source)?);
        }
        Ok(outside)
    }
}
