// SPDX-License-Identifier: GPL-2.0-or-later
//! What kbuild asks the compiler at the beginning of each make: which options it knows, some thirty of them.
//!
//! The answers are the same for all modules of a kernel, so a module of ours without content asks once, and all builds
//! read the answers from the compile cache. They cannot write there: what one module's build says is not for others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::error::{Doing, Result, cannot};
use crate::model::compile_cache::CompileCache;
use crate::model::headers::Headers;
use crate::model::kernel::Kernel;
use crate::model::site::Site;
use crate::steps::prepare::kcflags;
use crate::system::directories::{self, take_ownership};
use crate::system::process::{merged_output, plain_environment};
use crate::system::sandbox::{Isolation, Sandbox};
use crate::system::scratch::Scratch;

/// Where the sandbox has the module.
const PLACE: &str = "/tmp/probes";

/// Builds the module for a kernel.
pub fn ask(site: &Site, kernel: &Kernel, cache: &CompileCache) -> Result<()> {
    let scratch = site.scratch()?;
    let tmp = scratch.path().join("tmp");
    let module = tmp.join("probes");
    directories::make_open_dir(&tmp).doing(cannot("make", &tmp))?;
    directories::make_open_dir(&module).doing(cannot("make", &module))?;
    for (name, text) in [("Makefile", "obj-m := probes.o\n"), ("probes.c", "")] {
        fs::write(module.join(name), text).doing(cannot("write", &module))?;
    }
    let place = cache.probes();
    let parent = place.parent().unwrap_or(&place);
    fs::create_dir_all(parent).doing(cannot("make", parent))?;
    let new = Scratch::new(cache.root()).doing(cannot("write to", cache.root()))?;
    let answers = new.path().join("answers");
    // The build goes through it, to what is its own.
    fs::set_permissions(new.path(), fs::Permissions::from_mode(0o711)).doing(cannot("open", new.path()))?;
    fs::create_dir(&answers).doing(cannot("make", &answers))?;
    let share = cache.share_for_probes(&answers, &scratch.path().join("compilers")).doing(cannot("open", &answers))?;
    let mut mounts = Headers::of(&kernel.build_dir).doing(cannot("find", &kernel.build_dir))?.view();
    mounts.extend(share.mounts);
    let toolchain = kernel.toolchain();
    let mut make = Command::new("make");
    make.arg("-s").arg("-C").arg(&kernel.build_dir).arg(format!("M={PLACE}"));
    make.args(toolchain.llvm.then_some("LLVM=1")).arg("modules");
    // An option that is asked for beside others is another question.
    let given = std::env::var_os("KCFLAGS").unwrap_or_default();
    make.args(kernel.sparing().map(|option| kcflags(&given, option)));
    let limits = site.framework.build_limits.clone();
    let sandbox = Sandbox { user: site.build_user(), mounts, cwd: PLACE.into(), tmp: Some(tmp), limits };
    sandbox.confine(Isolation::Namespaces, &mut make).doing(|| "Cannot set up a sandbox".into())?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(share.programs.into_iter().chain(std::env::split_paths(&path))).unwrap_or(path);
    plain_environment(&mut make).envs(toolchain.variables()).env("PATH", path);
    // It ends without a module where the compiler cannot say yes to an empty one; the answers are there all the same.
    let (code, said) = merged_output(&mut make).doing(|| "Cannot run make".into())?;
    log::info!("probes for {}: {code} {}", kernel.target.release, String::from_utf8_lossy(&said));
    take_ownership(&answers).doing(cannot("keep", &answers))?;
    fs::set_permissions(&answers, fs::Permissions::from_mode(0o755)).doing(cannot("open", &answers))?;
    match fs::rename(&answers, &place) {
        // Another process asked meanwhile.
        Err(_) if place.is_dir() => {}
        renamed => renamed.doing(cannot("write", &place))?,
    }
    cache.forget_old_probes();
    Ok(())
}
