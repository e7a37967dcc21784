// SPDX-License-Identifier: GPL-2.0-or-later
//! Signing: whether, and with what.

mod keys;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::error::{Doing, Result, cannot};
use crate::model::framework::Framework;
use crate::model::kernel::{Kernel, setting};
use crate::model::site::Site;
use crate::system::output::Words;
use crate::system::process::{self, find_program, is_executable};
use crate::system::trust;
use crate::system::{directories, paths};

pub use keys::{HalfPair, keys};

/// How a kernel's modules are signed, and what is told of it before the first of them is built.
#[derive(Debug, Clone, Default)]
pub struct Signing {
    /// Lines, ended by an empty one.
    pub prologue: String,
    signer: Option<Signer>,
}

#[derive(Debug, Clone)]
struct Signer {
    tool: PathBuf,
    hash: String,
    key: String,
    certificate: String,
}

impl Signing {
    /// Decides for one kernel; makes a key pair if there is none.
    pub fn decide(site: &Site, kernel: &Kernel) -> Result<Self> {
        let (framework, _) = Framework::read(&site.paths, &[("kernelver", kernel.target.release.clone())])?;
        let mut said = String::new();
        let signer = decide(site, &framework, kernel, &mut said);
        said.push('\n');
        Ok(Self { prologue: said, signer })
    }

    /// Whether modules are signed at all.
    pub fn is_on(&self) -> bool {
        self.signer.is_some()
    }

    /// Signs `file`, which holds `module` and is known to the build as `told`. A failure is told, and the module stays
    /// unsigned.
    pub fn sign(&self, file: &Path, module: &[u8], told: &Path, words: &mut Words) -> Result<()> {
        let Some(signer) = &self.signer else { return Ok(()) };
        words.say(format!("Signing module {}", told.display()));
        let mut command = Command::new(&signer.tool);
        // A command line is for everybody to read. The kernel's own sign-file takes the PIN from there.
        let (key, pin) = apart(&signer.key);
        command.args([&signer.hash, &key, &signer.certificate]).arg(file);
        command.envs(pin.map(|pin| ("KBUILD_SIGN_PIN", pin)));
        // A key in hardware serves one after the other.
        static HARDWARE: Mutex<()> = Mutex::new(());
        let turn = signer.key.starts_with("pkcs11:").then(|| HARDWARE.lock());
        let ended = process::merged_output(&mut command);
        drop(turn);
        let (code, mut said) = ended.unwrap_or_else(|error| (126, error.to_string().into_bytes()));
        // sign-file ends well when it could not write, and what it has of the module is in its place by then.
        let whole = fs::read(file).is_ok_and(|bytes| is_signed(&bytes, module));
        if code != 0 || !whole {
            if code == 0 {
                said = b"What it wrote is not that module with a signature.".to_vec();
            }
            let said = String::from_utf8_lossy(&said);
            let said = said.trim_end_matches('\n');
            words.warn(format!("Failed to sign module '{}'!\n{said}", told.display()));
        }
        let left = paths::with_suffix(file, ".~signed~");
        directories::remove_any(&left).doing(cannot("remove", &left))?;
        if whole { Ok(()) } else { fs::write(file, module).doing(cannot("write", file)) }
    }
}

/// What ends a signed module; see scripts/sign-file.c of the kernel.
const APPENDED: &[u8] = b"~Module signature appended~\n";

/// Whether these are the bytes of a module with or without a signature behind it.
fn is_signed(bytes: &[u8], module: &[u8]) -> bool {
    bytes.strip_prefix(module).is_some_and(|signature| signature.is_empty() || signature.ends_with(APPENDED))
}

fn decide(site: &Site, framework: &Framework, kernel: &Kernel, said: &mut String) -> Option<Signer> {
    let unsigned = |said: &mut String, why: String| {
        said.push_str(&format!("{why}, modules won't be signed\n"));
        None
    };
    match framework.try_sign_modules.as_str() {
        "false" => return unsigned(said, "Module signing is disabled by policy".into()),
        "true" => {}
        _ if in_chroot(site) => return unsigned(said, "Running in chroot".into()),
        _ => {}
    }
    let Some(config) = kernel.config_text() else {
        return unsigned(said, format!("Kernel config {} not found", kernel.config.display()));
    };
    let Some(hash) = setting(config, "CONFIG_MODULE_SIG_HASH") else {
        return unsigned(said, "The kernel is built without module signing facility".into());
    };
    let tool = sign_tool(site, framework, kernel);
    said.push_str(&format!("Sign command: {}\n", tool.display()));
    if !is_executable(&tool) {
        return unsigned(said, format!("Binary {} not found", tool.display()));
    }
    if let Err(spot) = trust::check(&tool) {
        unsigned(said, format!("Binary {} can be changed by others than root", tool.display()));
        said.push_str(&format!("{spot}\n"));
        return None;
    }
    match keys(site, framework, said) {
        Ok((key, certificate)) => Some(Signer { tool, hash: hash.to_owned(), key, certificate }),
        Err(half) => {
            half.inspect(|half| said.push_str(&format!("{half}\n")));
            None
        }
    }
}

/// The program that signs: the administrator's, or the distribution's, or what comes with the headers.
fn sign_tool(site: &Site, framework: &Framework, kernel: &Kernel) -> PathBuf {
    if !framework.sign_file.is_empty() {
        return PathBuf::from(&framework.sign_file);
    }
    let release = &kernel.target.release;
    let tool = if site.distribution.is_ubuntu() {
        find_program("kmodsign")
            .unwrap_or_else(|| site.paths.system(&format!("/usr/src/linux-headers-{release}/scripts/sign-file")))
    } else if site.distribution.is_debian() {
        let series = release.rsplit_once('.').map_or(release.as_str(), |(series, _)| series);
        site.paths.system(&format!("/usr/lib/linux-kbuild-{series}/scripts/sign-file"))
    } else {
        PathBuf::new()
    };
    if tool.is_file() { tool } else { site.modules(release).join("build/scripts/sign-file") }
}

/// The URI of a key in hardware without the PIN in it, and the PIN, see RFC 7512; any other name as it is.
fn apart(key: &str) -> (String, Option<String>) {
    let value = key.strip_prefix("pkcs11:").and_then(|uri| uri.split([';', '?', '&']).find(|it| it.starts_with(PIN)));
    let Some(value) = value else { return (key.to_owned(), None) };
    let bare = [format!(";{value}"), format!("&{value}"), format!("{value}&"), format!("?{value}"), value.to_owned()];
    let bare = bare.iter().find(|it| key.contains(it.as_str())).map_or(key.to_owned(), |it| key.replacen(it, "", 1));
    (bare, Some(decoded(&value[PIN.len()..])))
}

const PIN: &str = "pin-value=";

/// What stands for itself, or as `%` and two digits.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        let digits = more.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match digits.filter(|_| byte == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = &more[2..];
            }
            None => {
                bytes.push(byte);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether we run in a chroot: what is built there is for another machine, whose key is not here.
///
/// A container with a process 1 of its own is none.
fn in_chroot(site: &Site) -> bool {
    if std::env::var("FAKECHROOT").is_ok_and(|value| value == "true") {
        return true;
    }
    let mounts = |process: &str| fs::read(format!("/proc/{process}/mountinfo"));
    if let (Ok(first), Ok(ours)) = (mounts("1"), mounts("self")) {
        if first != ours {
            return true;
        }
    }
    let inode = |path: &str| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    site.root && matches!((inode("/proc/1/root/."), inode("/.")), (Ok(first), Ok(ours)) if first != ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_taken_out_of_the_name_of_a_key() {
        for (key, bare, pin) in [
            ("/var/lib/dkms/mok.key", "/var/lib/dkms/mok.key", None),
            ("/odd;pin-value=1", "/odd;pin-value=1", None),
            ("pkcs11:token=x", "pkcs11:token=x", None),
            ("pkcs11:token=x;pin-value=12%3B4;object=y", "pkcs11:token=x;object=y", Some("12;4")),
            ("pkcs11:token=x?pin-value=12", "pkcs11:token=x", Some("12")),
            ("pkcs11:token=x?pin-value=12&module-name=m", "pkcs11:token=x?module-name=m", Some("12")),
            ("pkcs11:token=x?module-name=m&pin-value=1%zz%", "pkcs11:token=x?module-name=m", Some("1%zz%")),
            ("pkcs11:pin-value=1", "pkcs11:", Some("1")),
        ] {
            assert_eq!(apart(key), (bare.to_owned(), pin.map(str::to_owned)), "{key}");
        }
    }
}
