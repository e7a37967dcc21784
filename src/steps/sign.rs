// SPDX-License-Identifier: GPL-2.0-or-later
//! Signing: whether, with what, and with which key.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::error::{Doing, Result};
use crate::model::framework::Framework;
use crate::model::kernel::{Kernel, setting};
use crate::model::site::Site;
use crate::system::output::Words;
use crate::system::process::{self, find_program, is_executable};
use crate::system::scratch::Scratch;

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
        let (framework, _) = Framework::read(&site.paths, &kernel.target.release)?;
        let mut said = String::new();
        let signer = decide(site, &framework, kernel, &mut said);
        said.push('\n');
        Ok(Self { prologue: said, signer })
    }

    /// Signs `file`, which the build knows as `told`. A failure is told, and the module stays unsigned.
    pub fn sign(&self, file: &Path, told: &Path, words: &mut Words) {
        let Some(signer) = &self.signer else { return };
        words.say(format!("Signing module {}", told.display()));
        let mut command = Command::new(&signer.tool);
        command.args([&signer.hash, &signer.key, &signer.certificate]).arg(file);
        // A key in hardware serves one after the other.
        static HARDWARE: Mutex<()> = Mutex::new(());
        let turn = signer.key.starts_with("pkcs11:").then(|| HARDWARE.lock());
        let ended = process::merged_output(&mut command);
        drop(turn);
        let (code, said) = ended.unwrap_or_else(|error| (126, error.to_string().into_bytes()));
        if code != 0 {
            let said = String::from_utf8_lossy(&said);
            let said = said.trim_end_matches('\n');
            words.warn(format!("Failed to sign module '{}'!\n{said}", told.display()));
        }
    }
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
    let (key, certificate) = keys(site, framework, said)?;
    Some(Signer { tool, hash: hash.to_owned(), key, certificate })
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

/// The key and the certificate, told of in `said`; made if there are none. `None` if there are none still.
pub fn keys(site: &Site, framework: &Framework, said: &mut String) -> Option<(String, String)> {
    let mut say = |line: String| said.push_str(&format!("{line}\n"));
    let (mut key, mut certificate) = (framework.mok_signing_key.clone(), framework.mok_certificate.clone());
    let shim = site.distribution.is_ubuntu() && key.is_empty() && certificate.is_empty();
    let (default_key, default_certificate) = if shim {
        let mok = site.paths.system("/var/lib/shim-signed/mok");
        (mok.join("MOK.priv"), mok.join("MOK.der"))
    } else {
        site.paths.default_key()
    };
    for (value, default) in [(&mut key, default_key), (&mut certificate, default_certificate)] {
        if value.is_empty() {
            *value = default.to_string_lossy().into_owned();
        }
    }
    let complete = |key: &str, certificate: &str| key.starts_with("pkcs11:") || (exists(key) && exists(certificate));
    if shim && !complete(&key, &certificate) {
        if find_program("update-secureboot-policy").is_none() {
            say("Binary update-secureboot-policy not found, modules won't be signed".into());
            return None;
        }
        say("Certificate or key are missing, generating them using update-secureboot-policy...".into());
        generate_by_shim(Path::new(&certificate));
    }
    say(format!("Signing key: {key}"));
    say(format!("Public certificate (MOK): {certificate}"));
    if !complete(&key, &certificate) {
        say("Certificate or key are missing, generating self signed certificate for MOK...".into());
        if find_program("openssl").is_none() {
            say("openssl not found, can't generate key and certificate.".into());
            return None;
        }
        if let Err(error) = generate(Path::new(&key), Path::new(&certificate)) {
            log::warn!("{error}");
        }
    }
    for (what, file) in [("Key", &key), ("Certificate", &certificate)] {
        if !file.starts_with("pkcs11:") && !exists(file) {
            say(format!("{what} file {file} not found and can't be generated, modules won't be signed"));
            return None;
        }
    }
    Some((key, certificate))
}

fn exists(file: &str) -> bool {
    Path::new(file).exists()
}

/// A self-signed pair, in place only when both are complete; the key is nobody's to read from its first byte.
fn generate(key: &Path, certificate: &Path) -> Result<()> {
    let what = || "Cannot make a signing key".to_owned();
    let place = key.parent().unwrap_or(Path::new("/"));
    // Mode 700.
    let dir = Scratch::new(place).doing(what)?;
    let (new_key, new_certificate) = (dir.path().join("key"), dir.path().join("pub"));
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "umask 077; exec openssl req -new -x509 -nodes -days 36500 -newkey rsa:2048 -outform DER \"$@\"",
            "sh",
        ])
        .args(["-subj", "/CN=DKMS module signing key", "-addext", "extendedKeyUsage=codeSigning"])
        .arg("-keyout")
        .arg(&new_key)
        .arg("-out")
        .arg(&new_certificate);
    let (code, said) = process::merged_output(&mut command).doing(what)?;
    if code != 0 {
        return Err(std::io::Error::other(String::from_utf8_lossy(&said).trim().to_owned())).doing(what);
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&new_certificate, open)
        .and_then(|()| crate::system::files::sync(&new_key))
        .and_then(|()| crate::system::files::sync(&new_certificate))
        .and_then(|()| crate::system::files::rename(&new_certificate, certificate))
        .and_then(|()| crate::system::files::rename(&new_key, key))
        .doing(what)
}

/// Ubuntu's shim makes the pair, and asks for its enrolment at the next boot.
fn generate_by_shim(certificate: &Path) {
    let _ = fs::remove_file(certificate);
    let policy = |option: &str| {
        process::program("update-secureboot-policy")
            .arg(option)
            .env("SHIM_NOTRIGGER", "y")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    let made = policy("--new-key");
    log::debug!("update-secureboot-policy --new-key: {made:?}");
    let status = process::program("update-secureboot-policy").arg("--enroll-key").status();
    log::debug!("update-secureboot-policy --enroll-key: {status:?}");
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
