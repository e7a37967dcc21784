// SPDX-License-Identifier: GPL-2.0-or-later
//! Settings that not everybody is to read.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::{Framework, misspelt};
use crate::system::shell::Values;
use crate::system::trust;

/// The keys whose values may have a password in them.
pub const REMOTE: &str = "compile_cache_remote";
const SIGNING: &str = "mok_signing_key";

impl Framework {
    /// The settings of these files, and what is to be said of them.
    pub(super) fn judged(values: &Values, files: &[PathBuf]) -> (Self, Vec<u8>) {
        let mut framework = Self::from_values(values);
        let secrets = framework.find_secrets(files);
        let told = misspelt(values) + &told(&secrets);
        framework.secrets = secrets.into_iter().map(|(file, _)| file.to_owned()).collect();
        (framework, told.into_bytes())
    }

    /// The files that name a password, where the settings have one, and the key that has it.
    fn find_secrets<'f>(&self, files: &'f [PathBuf]) -> Vec<(&'f Path, &'static str)> {
        let login = self.compile_cache_remote.as_ref().is_some_and(|address| address.login.is_some());
        let pin = ["pin-value=", "pin="].iter().any(|name| self.mok_signing_key.contains(name));
        let keys: Vec<_> =
            [(REMOTE, login), (SIGNING, pin)].into_iter().filter_map(|(key, has)| has.then_some(key)).collect();
        let sets = |line: &str, key: &str| line.contains(key) && !line.trim_start().starts_with('#');
        let named = |file: &PathBuf| {
            let text = fs::read(file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            keys.iter().copied().find(|key| text.lines().any(|line| sets(line, key)))
        };
        files.iter().filter_map(|file| Some((file.as_path(), named(file)?))).collect()
    }
}

/// Words for root about such files that others can read.
fn told(secrets: &[(&Path, &str)]) -> String {
    let open = |(file, _): &&(&Path, &str)| geteuid().is_root() && trust::can_be_read(file);
    let words = |(file, key): &(&Path, &str)| {
        let file = file.display();
        format!("Warning: {file} holds the password of {key}, and others can read it: chmod 600 {file}\n")
    };
    secrets.iter().filter(open).map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::system::paths::Paths;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_password_that_others_can_read_is_told_and_never_shown() -> Result<()> {
        let dir = tempfile::tempdir().expect("a directory");
        let etc = dir.path().join("etc/dkms");
        fs::create_dir_all(etc.join("framework.conf.d")).expect("made");
        fs::write(etc.join("framework.conf"), "# compile_cache_remote=\"redis://:PASSWORD@HOST\"\n").expect("written");
        let file = etc.join("framework.conf.d/cache.conf");
        let warning = |words: &str| format!("Warning: {words}\n");
        let open = warning(&format!(
            "{0} holds the password of compile_cache_remote, and others can read it: chmod 600 {0}",
            file.display()
        ));
        let wrong = warning(
            "compile_cache_remote=\"...\" in framework.conf is not an address, such as redis://:PASSWORD@HOST; the default is used.",
        );
        for (value, mode, told, secret) in [
            ("redis://:topsecret@host", 0o644, open.as_str(), true),
            ("redis://:topsecret@host", 0o600, "", true),
            ("'redis://:topsecret@host'", 0o604, &open, true),
            ("redis://host", 0o644, "", false),
            ("redis://topsecret@host", 0o644, &wrong, false),
            ("", 0o644, "", false),
        ] {
            fs::write(&file, format!("compile_cache_remote={value}\n")).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("closed");
            let (framework, said) = Framework::read(&Paths::new(dir.path()), &[])?;
            assert_eq!(String::from_utf8_lossy(&said), told, "{value} {mode:o}");
            assert_eq!(framework.secrets, if secret { vec![file.clone()] } else { Vec::new() }, "{value}");
            assert!(!format!("{framework:?}").contains("topsecret"), "{value}");
        }
        Ok(())
    }
}
