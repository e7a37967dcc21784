// SPDX-License-Identifier: GPL-2.0-or-later
//! What a build finds as its compilers, by their names: the real ones behind it on PATH, run by ccache(1).
//!
//! The settings of the cache lie beside it, where its links are: some configure scripts compile in an empty environment,
//! where ccache would find no cache, and fail, and the script would take that for the compiler's answer. What kbuild asks
//! again and again is answered here, see [`dkms_rs::model::probe`].

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dkms_rs::model::compile_cache::COMPILERS;
use dkms_rs::model::headers::FLAVOUR;
use dkms_rs::model::probe::{Probe, Settings, behind};
use dkms_rs::model::search::{begins_in, headers_now, stays_in, tells_all};
use dkms_rs::system::process::find_program;

fn main() -> ExitCode {
    let mut args = env::args_os();
    let name = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let error = match run(&name, &args) {
        Ok(code) => return code,
        Err(error) => error,
    };
    eprintln!("{}: {error}", name.to_string_lossy());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

/// Whether the directory of the cache is still there: it may go at any time, and ccache would fail.
fn has_place(settings: &Settings) -> bool {
    let dir = settings.variables.iter().find(|(name, _)| name == "CCACHE_DIR");
    // Of one that was deleted a mount is left.
    dir.is_some_and(|(_, dir)| fs::metadata(dir).is_ok_and(|meta| meta.nlink() > 0))
}

fn run(called: &OsStr, args: &[OsString]) -> io::Result<ExitCode> {
    let name = Path::new(called).file_name().unwrap_or(called);
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let none = || io::Error::new(io::ErrorKind::NotFound, "no such compiler on PATH");
    let compiler = behind(name, &path).ok_or_else(none)?;
    let place = Settings::file(Path::new(COMPILERS));
    let settings = Settings::from_bytes(&fs::read(&place).unwrap_or_default());
    if let Some(asked) = &settings.asked {
        if let Some(probe) = Probe::of(&compiler, args, env::vars_os().map(|(name, _)| name)) {
            let known = settings.answers.iter().chain([asked]).find_map(|place| probe.answer(place));
            let answer = match known {
                Some(answer) => answer,
                None => probe.ask(&mut Command::new(&compiler), asked)?,
            };
            probe.give(&answer)?;
            return Ok(ExitCode::from(answer.code));
        }
    }
    // What compiles nothing is nothing that is kept: links, versions, preprocessing. Nor is what may depend on which headers
    // there are in places of which nothing is known.
    let compiles = args.iter().any(|arg| arg == "-c" || arg == "-S");
    let variables = env::vars_os().map(|(name, _)| name);
    let cwd = env::current_dir()?;
    // These hold the kernel's build salt, which the key of objects leaves out.
    let is_salted =
        |arg: &OsString| [&b".mod.c"[..], b"module-common.c"].iter().any(|end| arg.as_bytes().ends_with(end));
    let is_kept = compiles
        && stays_in(&settings.known, false, args, &cwd, variables)
        && begins_in(&settings.known, args, &cwd)
        && tells_all(args, &cwd)
        && find_program("as") == settings.assembler
        && !args.iter().any(is_salted);
    // All that was there before was looked through when the settings were written.
    let now = |build: &PathBuf| headers_now(build, fs::metadata(&place).ok()?.modified().ok()?).ok()?;
    let names = settings.build.as_ref().filter(|_| is_kept && has_place(&settings)).and_then(now);
    let (Some(ccache), Some(names)) = (&settings.ccache, names) else {
        // By its full name, as ccache would: from that it knows where its parts are.
        return Err(Command::new(&compiler).args(args).exec());
    };
    let mut command = Command::new(ccache);
    // Nobody else's settings, but that it shall not be: a log that cannot be written makes it fail.
    let others = |name: &OsString| name.as_bytes().starts_with(b"CCACHE_") && name != "CCACHE_DISABLE";
    for (name, _) in env::vars_os().filter(|(name, _)| others(name)) {
        command.env_remove(name);
    }
    command.arg(compiler).args(args);
    // Debugging symbols name where a compiler runs, and the linker's build id tells. Only there it is the same for all.
    let is_renamed = cwd.iter().any(|part| part == FLAVOUR);
    for (name, mut value) in settings.variables {
        if name == "CCACHE_NOHASHDIR" && !is_renamed {
            continue;
        }
        if name == "CCACHE_NAMESPACE" {
            value.push(&names);
        }
        command.env(name, value);
    }
    Err(command.exec())
}
