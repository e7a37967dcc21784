// SPDX-License-Identifier: GPL-2.0-or-later
//! Settings that not everybody is to read.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::{Framework, misspelt};
use crate::system::shell::Values;
use crate::system::trust;

/// The key whose value may have a password in it.
pub const REMOTE: &str = "compile_cache_remote";

impl Framework {
    /// The settings of these files, and what is to be said of them.
    pub(super) fn judged(values: &Values, files: &[PathBuf]) -> (Self, Vec<u8>) {
        let mut framework = Self::from_values(values);
        framework.secrets = framework.with_secrets(files);
        let told = misspelt(values) + &told(&framework.secrets);
        (framework, told.into_bytes())
    }

    /// The files that name a password, where the settings have one.
    fn with_secrets(&self, files: &[PathBuf]) -> Vec<PathBuf> {
        let login = self.compile_cache_remote.as_ref().and_then(|address| address.login.as_ref());
        let sets = |line: &str| line.contains(REMOTE) && !line.trim_start().starts_with('#');
        let names_it =
            |file: &&PathBuf| fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).lines().any(sets));
        if login.is_none() { Vec::new() } else { files.iter().filter(names_it).cloned().collect() }
    }
}

/// Words for root about such files that others can read.
fn told(files: &[PathBuf]) -> String {
    let open = |file: &&PathBuf| geteuid().is_root() && trust::can_be_read(file);
    let words = |file: &Path| {
        let file = file.display();
        format!("Warning: {file} holds the password of {REMOTE}, and others can read it: chmod 600 {file}\n")
    };
    files.iter().filter(open).map(|file| words(file)).collect()
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
