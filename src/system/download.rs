// SPDX-License-Identifier: GPL-2.0-or-later
//! Files from elsewhere, by apt's own means: its transports, proxies, mirrors, credentials and TLS, and its user without
//! privileges.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::files::{At, read_foreign};
use super::interrupt;
use super::sandbox::User;
use super::scratch::Scratch;
use super::sys::before_exec;

/// See apt-helper(8), which apt keeps for such as us.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// How much longer than a silence all of a file may take, beside what it takes at [`SLOWEST`]: a server that sends a byte
/// now and then is no better than one that sends none.
const DRIP: u32 = 4;

/// Bytes a second that anybody has.
const SLOWEST: u64 = 16 << 10;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Where it is.
    pub url: &'a str,
    /// The largest that it may be, in bytes.
    pub limit: u64,
    /// How long a server may be silent, at each of its addresses.
    pub patience: Duration,
    /// Whether it may have changed since somebody between us and there has seen it.
    pub fresh: bool,
}

/// Gets a file. `scratch` is a directory for what is on its way, which all users can reach.
///
/// # Errors
/// What apt says, in one line.
pub fn download(wanted: Wanted, scratch: &Path) -> Result<Vec<u8>, String> {
    let Wanted { url, limit, patience, fresh } = wanted;
    let place = place(scratch).map_err(|error| error.to_string())?;
    let (dir, said) = (place.path().join("for-apt"), place.path().join("said"));
    let seconds = patience.as_secs().max(1);
    let mut helper = Command::new(HELPER);
    for transport in ["http", "https", "ftp"] {
        helper.args(["-o", &format!("Acquire::{transport}::Timeout={seconds}")]);
        helper.args(["-o", &format!("Acquire::{transport}::No-Cache={fresh}")]);
    }
    helper.args(["-qq", "-o", "Acquire::Retries=0", "download-file", url]).arg(dir.join("file"));
    helper.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
    let most = Rlimit { current: Some(limit + 1), maximum: Some(limit + 1) };
    before_exec(&mut helper, move || Ok(setrlimit(Resource::Fsize, most)?));
    let at_most = patience * DRIP + Duration::from_secs(limit / SLOWEST);
    let said = run(&mut helper, at_most, &said).map_err(|error| format!("{HELPER}: {error}"))?;
    if fs::symlink_metadata(dir.join("file")).is_err() {
        return Err(first_reason(&said, url));
    }
    read(&dir, limit, url).map_err(|error| error.to_string())
}

/// A directory that apt's user may write, or apt fetches as root.
fn place(scratch: &Path) -> io::Result<Scratch> {
    let place = Scratch::new(scratch)?;
    let inner = place.path().join("for-apt");
    fs::create_dir(&inner).at(&inner)?;
    for dir in [scratch, place.path()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).at(dir)?;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if let Some(user) = User::named("_apt", &passwd) {
        chown(&inner, Some(user.uid), None).at(&inner)?;
    }
    Ok(place)
}

/// Runs a command for no longer than `at_most`; gives what it says on standard error, by way of the file `said`.
fn run(command: &mut Command, at_most: Duration, said: &Path) -> io::Result<String> {
    // Not a pipe: a transport that is stuck would keep it open.
    let mut child = command.stderr(File::create(said).at(said)?).spawn()?;
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() >= at_most {
            child.kill()?;
            child.wait()?;
            return Ok(format!("E: it took longer than {} seconds\n", at_most.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // What was ended with us has not failed.
    interrupt::hold();
    let mut text = Vec::new();
    File::open(said).at(said)?.take(1 << 16).read_to_end(&mut text).at(said)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Why apt did not get it.
fn first_reason(said: &str, url: &str) -> String {
    let reason = said.lines().find_map(|line| line.strip_prefix("E: ")).unwrap_or("apt did not say why");
    let reason = reason.trim_start_matches("Failed to fetch ");
    // It has its own ways to spell a URL.
    let scheme = url.split(':').next().unwrap_or_default();
    let is_url = |word: &&str| word.split_once(':').is_some_and(|(first, _)| first == scheme);
    reason.split_whitespace().skip_while(is_url).collect::<Vec<_>>().join(" ")
}

/// Reads what apt's user left in a directory of his own. What was a file already is linked to.
fn read(dir: &Path, limit: u64, url: &str) -> io::Result<Vec<u8>> {
    if fs::metadata(dir.join("file"))?.len() > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    if !["file:", "copy:"].iter().any(|scheme| url.starts_with(scheme)) {
        return read_foreign(dir, Path::new("file"), limit);
    }
    let file = fs::canonicalize(dir.join("file"))?;
    let (parent, name) = file.parent().zip(file.file_name()).ok_or(io::ErrorKind::NotFound)?;
    read_foreign(parent, Path::new(name), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_apt_says_first() {
        let url = "http://host/x";
        for (said, reason) in [
            (
                "E: Failed to fetch http://host/x  404  File not found [IP: 127.0.0.1 80]\nE: Download Failed\n",
                "404 File not found [IP: 127.0.0.1 80]",
            ),
            ("E: Failed to fetch http:/host/x  File not found\n", "File not found"),
            ("W: x\nE: it took longer than 3 seconds\n", "it took longer than 3 seconds"),
            ("", "apt did not say why"),
        ] {
            assert_eq!(first_reason(said, url), reason);
        }
    }

    #[test]
    fn nothing_is_waited_for_longer_than_it_may_take() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new("sh");
        // As apt-helper does, it leaves its words to a child.
        command.args(["-c", "sleep 60 & wait"]);
        let began = Instant::now();
        let said = run(&mut command, Duration::from_millis(50), &dir.path().join("said"))?;
        assert_eq!(said, "E: it took longer than 0 seconds\n");
        assert!(began.elapsed() < Duration::from_secs(50));
        Ok(())
    }

    #[test]
    fn only_files_that_are_not_too_large_are_read() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let dir = dir.path();
        fs::write(dir.join("other"), "12345")?;
        std::os::unix::fs::symlink("other", dir.join("file"))?;
        // Where nobody can have changed it, a link is what apt makes of a file.
        assert!(read(dir, 5, "http://host/x").is_err());
        assert_eq!(read(dir, 5, "file:///x")?, b"12345");
        assert!(read(dir, 4, "file:///x").is_err());
        Ok(())
    }
}
