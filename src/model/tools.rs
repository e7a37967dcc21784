// SPDX-License-Identifier: GPL-2.0-or-later
//! The programs that turn sources into modules: which they are decides what comes out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::model::kernel::Toolchain;
use crate::system::digest::{Digest, Notes};
use crate::system::dpkg;
use crate::system::process::{find_program, plain_environment};

/// Packages whose libraries or data decide with their programs. Not those that come with each kernel: kbuild's own programs
/// count by what is in them, as a part of its headers.
const PACKAGES: [&str; 7] = ["gcc", "cpp", "binutils", "clang", "libclang", "libllvm", "lld"];

/// The same of pahole.
const PACKAGES_OF_TYPES: [&str; 4] = ["pahole", "dwarves", "libdwarves", "libbpf"];

/// The digest of all programs that a build for a kernel runs: compiler, assembler, linker and the rest by what is in
/// their files, whoever put them there, and the versions of their packages. `types`: kbuild runs pahole, too.
pub fn digest(toolchain: &Toolchain, types: bool, notes: &Notes) -> io::Result<String> {
    let compiler = toolchain.cc.as_deref().unwrap_or("gcc");
    let linker = toolchain.ld.as_deref().unwrap_or("ld");
    let mut programs = vec![compiler, "as", linker, "objcopy", "strip", "make"];
    if toolchain.llvm {
        programs.extend(["llvm-strip", "llvm-objcopy", "llvm-ar"]);
    }
    if types {
        programs.push("pahole");
    }
    let mut digest = Digest::new("tools");
    let mut add = |file: Option<PathBuf>| -> io::Result<()> {
        digest.add(file.as_deref().map_or(Ok(String::new()), |file| notes.file(file))?);
        Ok(())
    };
    for program in programs {
        add(find_program(program))?;
    }
    // What compiles, and what it runs, is behind the program of that name.
    for program in behind(compiler) {
        add(Some(program))?;
    }
    for (name, version) in dpkg::versions() {
        let of_types = PACKAGES_OF_TYPES.iter().filter(|_| types);
        if PACKAGES.iter().chain(of_types).any(|prefix| name.starts_with(prefix)) {
            digest.add(name).add(version);
        }
    }
    Ok(digest.finish())
}

/// The programs that gcc's driver runs, each by a path of its own where it is not the first on PATH, and what tells it how.
/// Asked once.
fn behind(compiler: &str) -> Vec<PathBuf> {
    static KNOWN: Mutex<BTreeMap<String, Vec<PathBuf>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // A file of its specs, which says how these are run, is there only if somebody has made one.
    let files = ["-print-prog-name=cc1", "-print-prog-name=as", "-print-prog-name=collect2", "-print-prog-name=ld"]
        .into_iter()
        .chain(["-print-file-name=specs"]);
    let ask = || files.filter_map(|question| ask(compiler, question)).collect();
    known.entry(compiler.to_owned()).or_insert_with(ask).clone()
}

fn ask(compiler: &str, question: &str) -> Option<PathBuf> {
    // The one on root's PATH, whatever a configuration says.
    let compiler = find_program(compiler).filter(|_| !compiler.contains('/'))?;
    let output = plain_environment(&mut Command::new(compiler)).arg(question).stderr(Stdio::null()).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(Path::new(path.trim()).to_owned()).filter(|path| path.is_absolute())
}
