// SPDX-License-Identifier: GPL-2.0-or-later
//! Texts signed by OpenPGP keys: by gpg(1), which asks whoever holds the key; verified by gpgv(1), or sqv(1) where that is
//! not there, as apt does, against a keyring and nothing else.
//!
//! To gpgv a key that has expired is no key. To sqv what it signed before is still good.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::files::At;
use super::interrupt;
use super::process::{self, find_program};
use super::scratch::Scratch;

/// How a text that is signed begins, and its signature.
const HEAD: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";

/// Signs a text with a key of the caller's, by any of its names, or with gpg's own choice; gives text and signature in one.
/// `scratch` is a directory for what is on its way.
///
/// # Errors
/// What gpg says.
pub fn sign(text: &str, key: Option<&str>, scratch: &Path) -> io::Result<Vec<u8>> {
    let mut gpg = process::program("gpg");
    gpg.args(["--batch", "--quiet", "--no-verbose", "--clearsign"]);
    if let Some(key) = key {
        gpg.args(["--local-user", key]);
    }
    // Not a pipe: it may ask for the key's passphrase while we write.
    let scratch = Scratch::new(scratch)?;
    let (plain, signed) = (scratch.path().join("text"), scratch.path().join("signed"));
    fs::write(&plain, text).at(&plain)?;
    let output = run(gpg.arg("--output").arg(&signed).arg(&plain))?;
    if output.status.success() {
        return fs::read(&signed).at(&signed);
    }
    // Where it begins to fail it names the key; in the end only our file.
    Err(io::Error::other(first_line(&output.stderr, "gpg did not say why")))
}

/// The fingerprints of the caller's keys that a name means, or of all.
///
/// # Errors
/// What gpg says, where there is none.
pub fn our_keys(name: Option<&str>) -> io::Result<Vec<String>> {
    let mut gpg = process::program("gpg");
    let output = run(gpg.args(["--batch", "--with-colons", "--list-secret-keys"]).args(name))?;
    // A line for each key, and one for its fingerprint before those of its subkeys; see doc/DETAILS of GnuPG.
    let (mut keys, mut primary) = (Vec::new(), false);
    let listed = String::from_utf8_lossy(&output.stdout);
    for fields in listed.lines().map(|line| line.split(':').collect::<Vec<_>>()) {
        match (fields[0], fields.get(9)) {
            ("sec", _) => primary = true,
            ("fpr", Some(fingerprint)) if primary => {
                keys.push((*fingerprint).to_owned());
                primary = false;
            }
            _ => {}
        }
    }
    if keys.is_empty() { Err(io::Error::other(first_line(&output.stderr, "No secret key"))) } else { Ok(keys) }
}

/// A text, and who signed it.
#[derive(Debug)]
pub struct Signed {
    /// The text.
    pub text: String,
    /// The fingerprint of the key.
    pub signer: String,
}

/// The text of one that one of these keys of the caller's has signed.
///
/// # Errors
/// Why that is not so, as a clause whose subject is the text.
pub fn signed_here(signed: &Path, keys: &[String]) -> io::Result<Signed> {
    let mut gpg = process::program("gpg");
    gpg.args(["--batch", "--quiet", "--no-verbose", "--status-fd", "2", "--decrypt"]);
    let output = run(gpg.arg(signed))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = judge(&fs::read(signed).at(signed)?, output).map_err(io::Error::other)?;
    // The last word is the key itself, whichever of its subkeys signed.
    let valid = said.lines().find_map(|line| line.strip_prefix("[GNUPG:] VALIDSIG "));
    let signer = valid.and_then(|line| line.split(' ').next_back()).unwrap_or_default().to_owned();
    if keys.contains(&signer) {
        Ok(Signed { text, signer })
    } else {
        Err(io::Error::other("was signed by somebody else"))
    }
}

/// The text that a key of `keyring` has signed. `scratch` is a directory for what is on its way.
///
/// # Errors
/// Why it is not to be believed, as a clause whose subject is the text: `was signed by a key that has expired`.
pub fn verified(signed: &[u8], keyring: &Path, scratch: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot be verified: {error}");
    let scratch = Scratch::new(scratch).map_err(cannot)?;
    let (file, text) = (scratch.path().join("signed"), scratch.path().join("text"));
    fs::write(&file, signed).at(&file).map_err(cannot)?;
    if !keyring.is_file() {
        return Err(format!("cannot be verified: there is no keyring {}", keyring.display()));
    }
    let output = if find_program("gpgv").is_some() {
        let mut gpgv = process::program("gpgv");
        gpgv.args(["--status-fd", "2", "--keyring"]).arg(keyring).arg("--output").arg(&text).arg(&file);
        run(&mut gpgv)
    } else {
        let mut sqv = process::program("sqv");
        sqv.arg("--keyring").arg(keyring).arg("--cleartext").arg("--output").arg(&text).arg(&file);
        run(&mut sqv).map(as_of_gpgv)
    };
    let mut output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "cannot be verified: neither gpgv nor sqv is installed".into(),
        _ => cannot(error),
    })?;
    output.stdout = fs::read(&text).unwrap_or_default();
    judge(signed, output).map_err(|why| match why.as_str() {
        "was signed by nobody who is known" => format!("was not signed by a key in {}", keyring.display()),
        _ => why,
    })
}

fn run(command: &mut Command) -> io::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output();
    // What was ended with us has not said no.
    interrupt::hold();
    output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), format!("{program} is not installed")),
        _ => error,
    })
}

/// sqv says by its exit code what gpgv says in lines.
fn as_of_gpgv(mut output: Output) -> Output {
    if output.status.success() {
        output.stderr.extend_from_slice(b"\n[GNUPG:] GOODSIG by sqv\n");
    }
    output
}

/// What was signed, by what gpg says on standard error of `signed`, and gives on standard output.
///
/// gpgv ends well for a key that has expired or was revoked, and what stands before or behind the signed text it passes
/// over.
fn judge(signed: &[u8], output: Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(signed);
    let lines = |what: &str| text.lines().filter(|line| *line == what).count();
    if !text.starts_with(HEAD) || lines(HEAD) != 1 || lines(SIGNATURE) != 1 {
        return Err("is not one signed text".into());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let status = |word: &str| {
        said.lines().any(|line| line.strip_prefix("[GNUPG:] ").is_some_and(|line| line.split(' ').next() == Some(word)))
    };
    if status("BADSIG") || said.contains("has been manipulated") {
        return Err("was changed after it was signed".into());
    }
    if status("GOODSIG") {
        return String::from_utf8(output.stdout).map_err(|_| "is not UTF-8".into());
    }
    Err(if status("EXPKEYSIG") || said.contains("expired") {
        "was signed by a key that has expired".into()
    } else if status("REVKEYSIG") {
        "was signed by a key that was revoked".into()
    } else if status("EXPSIG") {
        "has a signature that has expired".into()
    } else if status("NO_PUBKEY") || said.contains("No acceptable signatures") || said.contains("Missing key") {
        "was signed by nobody who is known".into()
    } else {
        format!("cannot be verified: {}", last_line(&output.stderr))
    })
}

/// What gpg said first.
fn first_line(said: &[u8], otherwise: &str) -> String {
    let said = String::from_utf8_lossy(said);
    said.lines().find_map(|line| line.strip_prefix("gpg: ")).unwrap_or(otherwise).trim().to_owned()
}

/// What a program said last.
fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("[GNUPG:]"));
    last.unwrap_or("it did not say why").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn said(signed: &str, status: &str) -> Result<String, String> {
        let output = Output {
            status: std::process::ExitStatus::from_raw(0),
            stdout: b"text\n".to_vec(),
            stderr: format!("gpgv: Good signature\n{status}\n").into_bytes(),
        };
        judge(signed.as_bytes(), output)
    }

    #[test]
    fn only_a_good_signature_of_a_good_key_counts() {
        let signed = format!("{HEAD}\nHash: SHA512\n\ntext\n{SIGNATURE}\n\nx\n-----END PGP SIGNATURE-----\n");
        assert_eq!(said(&signed, "[GNUPG:] GOODSIG B919 Fleet <f@example.org>").as_deref(), Ok("text\n"));
        for (status, why) in [
            ("[GNUPG:] EXPKEYSIG ABFC Old", "was signed by a key that has expired"),
            ("[GNUPG:] REVKEYSIG ABFC Old", "was signed by a key that was revoked"),
            ("[GNUPG:] EXPSIG ABFC Old", "has a signature that has expired"),
            ("[GNUPG:] BADSIG ABFC Fleet\n[GNUPG:] GOODSIG B919 Fleet", "was changed after it was signed"),
            ("[GNUPG:] NO_PUBKEY ABFC", "was signed by nobody who is known"),
            ("[GNUPG:] VALIDSIG ABFC", "cannot be verified: gpgv: Good signature"),
            ("GOODSIG", "cannot be verified: GOODSIG"),
        ] {
            assert_eq!(said(&signed, status), Err(why.into()), "{status}");
        }
    }

    #[test]
    fn what_stands_beside_a_signed_text_is_not_signed() {
        let signed = format!("{HEAD}\n\ntext\n{SIGNATURE}\n");
        let good = "[GNUPG:] GOODSIG B919 Fleet";
        assert!(said(&signed, good).is_ok());
        for text in [format!("evil\n{signed}"), format!("{signed}{signed}"), "text".into(), String::new()] {
            assert_eq!(said(&text, good), Err("is not one signed text".into()), "{text}");
        }
    }
}
