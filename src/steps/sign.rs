// SPDX-License-Identifier: GPL-2.0-or-later
//! Signing: whether, with what, and with which key.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::error::{Doing, Result, cannot};
use crate::model::framework::Framework;
use crate::model::kernel::{Kernel, setting};
use crate::model::site::Site;
use crate::system::output::Words;
use crate::system::process::{self, find_program, is_executable};
use crate::system::scratch::{self, Scratch};
use crate::system::trust;
use crate::system::{directories, files, paths};

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

/// One file of a pair without the other. Neither is written over: it may be what the firmware has enrolled.
#[derive(Debug, thiserror::Error)]
#[error(
    "{there} is there, but {missing} is not, and is not made without it.\nBring {missing} back, or make another pair: \
     mv {there} {there}.old && dkms generate_mok"
)]
pub struct HalfPair {
    there: String,
    missing: String,
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

/// Takes from others what somebody has let them do with a private key of ours.
fn keep_private(key: &Path) -> io::Result<()> {
    match fs::symlink_metadata(key) {
        Ok(meta) if meta.is_file() && meta.mode() & 0o077 != 0 && trust::check(key).is_ok() => {
            fs::set_permissions(key, fs::Permissions::from_mode(0o600))
        }
        _ => Ok(()),
    }
}

/// The key and the certificate, told of in `said`; made if there are none. The error is why there are none still, if more
/// is to be told of it than is in `said`.
pub fn keys(
    site: &Site,
    framework: &Framework,
    said: &mut String,
) -> std::result::Result<(String, String), Option<HalfPair>> {
    let mut say = |line: String| said.push_str(&format!("{line}\n"));
    let (mut key, mut certificate) = (framework.mok_signing_key.clone(), framework.mok_certificate.clone());
    let shim = site.distribution.is_ubuntu() && key.is_empty() && certificate.is_empty();
    let (default_key, default_certificate) = if shim {
        let mok = site.paths.system("/var/lib/shim-signed/mok");
        (mok.join("MOK.priv"), mok.join("MOK.der"))
    } else {
        site.paths.default_key()
    };
    if key.is_empty() {
        // It was made so, and a build can read what everybody can.
        keep_private(&default_key).unwrap_or_else(|error| log::warn!("{}: {error}", default_key.display()));
    }
    for (value, default) in [(&mut key, default_key), (&mut certificate, default_certificate)] {
        if value.is_empty() {
            *value = default.to_string_lossy().into_owned();
        }
    }
    let complete = |key: &str, certificate: &str| key.starts_with("pkcs11:") || (exists(key) && exists(certificate));
    // A certificate alone is stale, as update-secureboot-policy sees it.
    if shim && !complete(&key, &certificate) && !exists(&key) {
        if find_program("update-secureboot-policy").is_none() {
            say("Binary update-secureboot-policy not found, modules won't be signed".into());
            return Err(None);
        }
        say("Certificate or key are missing, generating them using update-secureboot-policy...".into());
        generate_by_shim(Path::new(&certificate));
    }
    say(format!("Signing key: {}", apart(&key).0));
    say(format!("Public certificate (MOK): {certificate}"));
    if !key.starts_with("pkcs11:") {
        if let Err(spot) = trust::check(Path::new(&key)) {
            say(format!("Key file {key} can be changed by others than root, modules won't be signed\n{spot}"));
            return Err(None);
        }
        // What waits for a pipe's other end waits for ever.
        let odd = |file: &&String| fs::metadata(file).is_ok_and(|meta| !meta.is_file());
        if let Some(file) = [&key, &certificate].into_iter().find(odd) {
            say(format!("{file} is not a regular file, modules won't be signed"));
            return Err(None);
        }
        // An earlier run may have been cut off.
        if let Err(error) = put_in_place(Path::new(&key), Path::new(&certificate)) {
            log::warn!("{error}");
        }
    }
    let half = match (exists(&key), exists(&certificate)) {
        (true, false) => Some(HalfPair { there: key.clone(), missing: certificate.clone() }),
        (false, true) => Some(HalfPair { there: certificate.clone(), missing: key.clone() }),
        _ => None,
    };
    let half = half.filter(|_| !key.starts_with("pkcs11:"));
    // What a link leads to may come back.
    let gone = |file: &String| Path::new(file).is_symlink() && !exists(file);
    if half.is_none() && !complete(&key, &certificate) && ![&key, &certificate].into_iter().any(gone) {
        say("Certificate or key are missing, generating self signed certificate for MOK...".into());
        if find_program("openssl").is_none() {
            say("openssl not found, can't generate key and certificate.".into());
            return Err(None);
        }
        if let Err(error) = generate(Path::new(&key), Path::new(&certificate)) {
            log::warn!("{error}");
        }
    }
    for (what, file) in [("Key", &key), ("Certificate", &certificate)] {
        if !file.starts_with("pkcs11:") && !exists(file) {
            say(format!("{what} file {file} not found and can't be generated, modules won't be signed"));
            return Err(half);
        }
    }
    Ok((key, certificate))
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

fn exists(file: &str) -> bool {
    Path::new(file).exists()
}

/// Where a pair is from when it is complete to when it is in place: beside the key, for root only.
const READY: &str = ".mok-new";

/// A self-signed pair; the key is nobody's to read from its first byte. Cut off at any moment, there is none or a whole
/// one, if the next run has to put it in place.
fn generate(key: &Path, certificate: &Path) -> Result<()> {
    let what = || "Cannot make a signing key".to_owned();
    let place = key.parent().unwrap_or(Path::new("/"));
    scratch::sweep(place, scratch::PREFIX);
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
    let ready = place.join(READY);
    files::sync(&new_key)
        .and_then(|()| files::sync(&new_certificate))
        .and_then(|()| files::sync(dir.path()))
        .and_then(|()| directories::remove_any(&ready))
        .and_then(|()| files::rename(dir.path(), &ready))
        .doing(what)?;
    put_in_place(key, certificate)
}

/// Puts a pair in place that is complete, unless there is a key, and forgets what is left of one.
fn put_in_place(key: &Path, certificate: &Path) -> Result<()> {
    let ready = key.parent().unwrap_or(Path::new("/")).join(READY);
    if !ready.is_dir() {
        return Ok(());
    }
    let (new_key, new_certificate) = (ready.join("key"), ready.join("pub"));
    let put = || -> std::io::Result<()> {
        if new_key.is_file() && new_certificate.is_file() && fs::symlink_metadata(key).is_err() {
            files::replace_with_copy(&new_certificate, certificate)?;
            files::rename(&new_key, key)?;
        }
        directories::remove_any(&ready)
    };
    put().doing(|| "Cannot put the signing key in place".into())
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

    #[test]
    fn a_pair_that_was_cut_off_is_put_in_place_and_a_key_is_never_written_over() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let [key, certificate] = ["mok.key", "mok.pub"].map(|name| dir.path().join(name));
        let ready = dir.path().join(READY);
        let begin = |names: &[&str]| -> std::io::Result<()> {
            fs::create_dir(&ready)?;
            names.iter().try_for_each(|name| fs::write(ready.join(name), "new"))
        };
        let put = || put_in_place(&key, &certificate).map_err(std::io::Error::other);
        let read = |file: &Path| fs::read_to_string(file).ok();
        // Of half a pair nothing is taken.
        begin(&["pub"])?;
        put()?;
        assert_eq!((read(&key), read(&certificate), ready.exists()), (None, None, false));
        // The certificate is there already, and is the one that belongs to it.
        fs::write(&certificate, "new")?;
        begin(&["pub", "key"])?;
        put()?;
        let new = Some("new".to_owned());
        assert_eq!((read(&key), read(&certificate), ready.exists()), (new.clone(), new, false));
        fs::write(&key, "old")?;
        begin(&["pub", "key"])?;
        put()?;
        assert_eq!((read(&key).as_deref(), ready.exists()), (Some("old"), false));
        Ok(())
    }
}
