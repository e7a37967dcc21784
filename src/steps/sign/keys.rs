// SPDX-License-Identifier: GPL-2.0-or-later
//! The pair of a key and a certificate: which it is, and how one is made.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::apart;
use crate::error::{Doing, Result};
use crate::model::framework::Framework;
use crate::model::site::Site;
use crate::system::process::{self, find_program};
use crate::system::scratch::{self, Scratch};
use crate::system::{directories, files, trust};

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

#[cfg(test)]
mod tests {
    use super::*;

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
