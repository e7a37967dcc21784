// SPDX-License-Identifier: GPL-2.0-or-later
//! depmod(8), once for each kernel and command.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::model::site::Site;
use crate::system::files::names;

/// Brings modules.dep of `release` up to date; a kernel that has none is left alone.
///
/// Its failure is nobody's: the modules are where they belong, and the next depmod finds them.
pub fn run(site: &Site, release: &str) {
    let modules = site.modules(release);
    if !modules.join("modules.dep").exists() {
        return;
    }
    let mut command = Command::new("depmod");
    if let Some(base) = base_of(&modules) {
        command.arg("-b").arg(base);
    }
    command.arg("-a").arg(release);
    let map = site.paths.boot().join(format!("System.map-{release}"));
    if map.exists() {
        command.arg("-F").arg(map);
    }
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    log::debug!("depmod {release}: {status:?}");
    if fs::metadata(modules.join("modules.dep")).is_ok_and(|meta| meta.len() == 0) {
        forget(&modules);
    }
}

/// depmod's `-b` for an install tree that is not the system's: what stands before `lib/modules/K`.
fn base_of(modules: &Path) -> Option<&Path> {
    let tree = modules.parent()?;
    if tree == Path::new("/lib/modules") || tree == Path::new("/usr/lib/modules") {
        return None;
    }
    tree.ends_with("lib/modules").then(|| tree.parent()?.parent()).flatten()
}

/// A kernel without modules has gone: what depmod wrote for it goes too.
fn forget(modules: &Path) {
    for name in names(modules).iter().filter(|name| name.starts_with("modules.")) {
        let _ = fs::remove_file(modules.join(name));
    }
    let _ = fs::remove_dir(modules);
}
