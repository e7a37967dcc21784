// SPDX-License-Identifier: GPL-2.0-or-later
//! depmod(8), once for each kernel and command.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Doing, Result, cannot};
use crate::model::site::Site;
use crate::steps::installed::stem;
use crate::system::directories::{find_all, names};
use crate::system::files;
use crate::system::lock;
use crate::system::output::Block;
use crate::system::process;
use crate::system::root_fs::module_name;
use crate::system::scratch::{self, Scratch};

/// Brings modules.dep of `release` up to date, in which modules `here` are to be found then; a kernel that has none is left
/// alone. With --verbose its words are passed on. Says why that failed.
pub fn run(
    site: &Site,
    release: &str,
    preference: &Preference,
    here: &[PathBuf],
    say: &Block,
) -> std::result::Result<(), String> {
    let modules = site.modules(release);
    if !modules.join("modules.dep").exists() {
        return Ok(());
    }
    sweep(&modules);
    let before = Before::of(&modules).map_err(|error| format!("{}: {error}", modules.display()))?;
    let failed = |why: String| {
        sweep(&modules);
        before.restore(&modules);
        Err(why)
    };
    let said = match call(site, release, &modules, preference) {
        Ok(said) => said,
        Err(why) => return failed(why),
    };
    if site.framework.verbose {
        say.complain(&said);
    }
    // What it does not find the second time either is no module to it.
    let overlooked = before.overlooked(&modules, here);
    let unread =
        said.lines().any(|line| line.contains("could not open") && !line.ends_with("No such file or directory"));
    if overlooked.is_some() || unread {
        log::info!("depmod overlooked {overlooked:?} {said}");
        if let Err(why) = call(site, release, &modules, preference) {
            return failed(why);
        }
    }
    // Before it is forgotten that this was to be done: not all file systems write the data of a new file before its name.
    if let Some(error) = depmods(&modules).find_map(|name| files::sync(&modules.join(name)).err()) {
        return failed(error.to_string());
    }
    if fs::metadata(modules.join("modules.dep")).is_ok_and(|meta| meta.len() == 0) {
        // There may be some that it cannot decompress, which are none to it; but it has to have looked.
        if let Err(error) = find_all(&modules, &mut |_| false) {
            return failed(error.to_string());
        }
        // What was kept lies there, too.
        drop(before);
        forget(&modules);
    }
    Ok(())
}

/// Runs it; gives its words, or why it failed.
fn call(site: &Site, release: &str, modules: &Path, preference: &Preference) -> std::result::Result<String, String> {
    let mut command = process::program("depmod");
    command.env("LC_ALL", "C");
    preference.tell(site, &mut command);
    // Where somebody ends us it goes with us, and nobody else begins before it has.
    process::end_with_us(&mut command);
    lock::share(&mut command);
    if let Some(base) = base_of(modules) {
        command.arg("-b").arg(base);
    }
    command.arg("-a").arg(release);
    let map = site.paths.boot().join(format!("System.map-{release}"));
    if map.exists() {
        command.arg("-F").arg(map);
    }
    match process::merged_output(&mut command) {
        Ok((0, said)) => Ok(String::from_utf8_lossy(&said).into_owned()),
        Ok((code, said)) => Err(format!("exit status {code}: {}", String::from_utf8_lossy(&said).trim())),
        Err(error) => Err(error.to_string()),
    }
}

/// Those of these files that modules.dep names.
pub fn named<'f>(modules: &Path, files: &'f [PathBuf]) -> Vec<&'f PathBuf> {
    let mut named = Vec::new();
    listed(modules, &mut |file| named.extend(files.iter().filter(|other| *other == file)));
    named
}

/// Shows each file that a modules.dep names, as one of `modules`.
fn listed(modules: &Path, show: &mut dyn FnMut(&Path)) {
    let Ok(list) = File::open(modules.join("modules.dep")) else { return };
    for line in BufReader::new(list).lines().map_while(io::Result::ok) {
        show(&modules.join(line.split(':').next().unwrap_or_default()));
    }
}

/// What depmod wrote for a kernel the last time: where it fails it leaves files that it could not write to their end in
/// place of these.
struct Before(Option<Scratch>);

impl Before {
    /// Keeps what is there by another name. Where there is no room for that depmod would find none either; some file
    /// systems know no second name, and depmod has to do without.
    fn of(modules: &Path) -> io::Result<Self> {
        let scratch = Scratch::new(modules)?;
        for name in depmods(modules) {
            match fs::hard_link(modules.join(&name), scratch.path().join(&name)) {
                Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
                    return Ok(Self(None));
                }
                linked => linked?,
            }
        }
        Ok(Self(Some(scratch)))
    }

    /// What depmod passed over: a module `here`, or one that it named before and that is there still, while it names none of
    /// that name; or all that one of its indices had. To depmod a directory that it cannot open is an empty one, and it says
    /// nothing; nor of an index that it could not write.
    fn overlooked(&self, modules: &Path, here: &[PathBuf]) -> Option<PathBuf> {
        let before = self.0.as_ref()?.path();
        let mut names = HashSet::new();
        listed(modules, &mut |file| {
            names.insert(of_name(file));
        });
        let is_overlooked = |file: &Path| !names.contains(&of_name(file)) && file.exists();
        let mut overlooked = here.iter().find(|file| is_overlooked(file)).cloned();
        listed(before, &mut |file| {
            let file = file.strip_prefix(before).map_or_else(|_| file.to_owned(), |name| modules.join(name));
            if overlooked.is_none() && is_overlooked(&file) {
                overlooked = Some(file);
            }
        });
        let meta = |dir: &Path, name: &str| fs::metadata(dir.join(name)).ok();
        let is_lost = |name: &String| match (meta(before, name), meta(modules, name)) {
            (Some(before), Some(now)) => before.ino() == now.ino() || before.len() > 0 && now.len() == 0,
            _ => false,
        };
        overlooked.or_else(|| Some(modules.join(depmods(before).find(is_lost)?)))
    }

    fn restore(&self, modules: &Path) {
        let Some(scratch) = &self.0 else { return };
        for name in depmods(scratch.path()) {
            let restored = fs::rename(scratch.path().join(&name), modules.join(&name));
            restored.unwrap_or_else(|error| log::warn!("{}: {error}", modules.join(&name).display()));
        }
    }
}

/// A number for the name of a module: of thousands there is no need for more.
fn of_name(file: &Path) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(module_name(&stem(file)))
}

/// Where depmod's settings are, see depmod.d(5).
const SETTINGS: [&str; 4] = ["/etc/depmod.d", "/run/depmod.d", "/usr/local/lib/depmod.d", "/usr/lib/depmod.d"];

/// Modules that depmod is to take where there are several of their names, whatever its settings say.
///
/// With it the one can be in force before the other goes.
#[derive(Debug, Default)]
pub struct Preference(Option<Scratch>);

impl Preference {
    /// For these files of a kernel.
    pub fn new(site: &Site, release: &str, files: &[PathBuf]) -> Result<Self> {
        let modules = site.modules(release);
        let line = |file: &PathBuf| {
            let dir = file.parent()?.strip_prefix(&modules).ok()?;
            // As depmod knows it, but for its dashes.
            let name = file.file_name()?.to_str()?.split('.').next()?;
            Some(format!("override {name} * {}\n", dir.display()))
        };
        let lines: String = files.iter().filter_map(line).collect();
        if lines.is_empty() {
            return Ok(Self::default());
        }
        let scratch = site.scratch()?;
        let settings = Self::settings(&scratch);
        fs::write(&settings, lines).doing(cannot("write", &settings))?;
        Ok(Self(Some(scratch)))
    }

    /// Whether there is nothing to prefer, or no way to say so.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    fn settings(scratch: &Scratch) -> PathBuf {
        scratch.path().join("dkms.conf")
    }

    fn tell(&self, site: &Site, command: &mut Command) {
        let Some(scratch) = &self.0 else { return };
        // Ours would else be the only ones.
        for place in SETTINGS.map(|place| site.paths.system(place)).into_iter().filter(|place| place.is_dir()) {
            command.arg("-C").arg(place);
        }
        command.arg("-C").arg(Self::settings(scratch));
    }
}

/// Removes what was kept here when we were killed, and what a depmod that was had begun to write:
/// `modules.dep.PID.MICROSECONDS.SECONDS`.
fn sweep(modules: &Path) {
    scratch::sweep(modules, scratch::PREFIX);
    for name in names(modules) {
        let mut parts = name.rsplit('.');
        let numbers: Vec<&str> = parts.by_ref().take(3).collect();
        let all = numbers.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        let lives = |pid: &str| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| matches!(comm.trim(), "depmod" | "kmod"))
        };
        if name.starts_with("modules.") && all && numbers.last().is_some_and(|pid| !lives(pid)) {
            let _ = fs::remove_file(modules.join(&name));
        }
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

/// The files there that depmod wrote.
fn depmods(modules: &Path) -> impl Iterator<Item = String> {
    names(modules).into_iter().filter(|name| name.starts_with("modules.") && !THE_KERNELS.contains(&name.as_str()))
}

/// A kernel without modules has gone: what depmod wrote for it goes too.
fn forget(modules: &Path) {
    for name in depmods(modules) {
        let _ = fs::remove_file(modules.join(name));
    }
    let _ = fs::remove_dir(modules);
}
