// SPDX-License-Identifier: GPL-2.0-or-later
//! depmod(8), once for each kernel and command.

use std::fs;
use std::path::Path;

use crate::model::site::Site;
use crate::system::files::names;
use crate::system::output::Block;
use crate::system::process;

/// Brings modules.dep of `release` up to date; a kernel that has none is left alone. Says why that failed.
pub fn run(site: &Site, release: &str) -> Result<(), String> {
    let modules = site.modules(release);
    if !modules.join("modules.dep").exists() {
        return Ok(());
    }
    let mut command = process::program("depmod");
    if let Some(base) = base_of(&modules) {
        command.arg("-b").arg(base);
    }
    command.arg("-a").arg(release);
    let map = site.paths.boot().join(format!("System.map-{release}"));
    if map.exists() {
        command.arg("-F").arg(map);
    }
    let ended = process::merged_output(&mut command);
    if fs::metadata(modules.join("modules.dep")).is_ok_and(|meta| meta.len() == 0) {
        forget(&modules);
    }
    match ended {
        Ok((0, _)) => Ok(()),
        Ok((code, said)) => Err(format!("exit status {code}: {}", String::from_utf8_lossy(&said).trim())),
        Err(error) => Err(error.to_string()),
    }
}

/// depmod's words, which each module has of its own, also where `--no-depmod` forbids the deed.
pub fn tell(site: &Site, release: &str, say: &Block) {
    say.print(if site.framework.verbose {
        format!("do_depmod {release}\n done.\n")
    } else {
        "Running depmod... done.\n".into()
    });
}

/// depmod's `-b` for an install tree that is not the system's: what stands before `lib/modules/K`.
fn base_of(modules: &Path) -> Option<&Path> {
    let tree = modules.parent()?;
    if tree == Path::new("/lib/modules") || tree == Path::new("/usr/lib/modules") {
        return None;
    }
    tree.ends_with("lib/modules").then(|| tree.parent()?.parent()).flatten()
}

/// What comes with the kernel, and not from depmod.
const THE_KERNELS: [&str; 4] =
    ["modules.builtin", "modules.builtin.modinfo", "modules.builtin.ranges", "modules.order"];

/// A kernel without modules has gone: what depmod wrote for it goes too.
fn forget(modules: &Path) {
    let names = names(modules);
    for name in names.iter().filter(|name| name.starts_with("modules.") && !THE_KERNELS.contains(&name.as_str())) {
        let _ = fs::remove_file(modules.join(name));
    }
    let _ = fs::remove_dir(modules);
}
