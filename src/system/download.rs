// SPDX-License-Identifier: GPL-2.0-or-later
//! Files from elsewhere, by apt's own means: its transports, proxies, mirrors, credentials and TLS, and its user without
//! privileges.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::files::At;
use super::scratch::Scratch;

/// See apt-helper(8), which apt keeps for such as us.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// How much longer than a silence all of a file may take: a server that sends a byte now and then is no better than one
/// that sends none.
const DRIP: u32 = 20;

/// What `url` names, if it is no larger than `limit` bytes. A server may be silent for `patience`, at each of its
/// addresses. `scratch` is a directory for what is on its way.
///
/// # Errors
/// What apt says, in one line.
pub fn download(url: &str, limit: u64, patience: Duration, scratch: &Path) -> Result<Vec<u8>, String> {
    let place = place(scratch).map_err(|error| error.to_string())?;
    let file = place.path().join("for-apt/file");
    let seconds = patience.as_secs().max(1);
    let mut helper = Command::new(HELPER);
    for transport in ["http", "https", "ftp"] {
        helper.args(["-o", &format!("Acquire::{transport}::Timeout={seconds}")]);
    }
    helper.args(["-qq", "-o", "Acquire::Retries=0", "download-file", url]).arg(&file);
    helper.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let said = run(&mut helper, patience * DRIP).map_err(|error| format!("{HELPER}: {error}"))?;
    // Where the transport is the file system, it leaves a link.
    if !file.exists() {
        return Err(first_reason(&said, url));
    }
    read(&file, limit).map_err(|error| error.to_string())
}

/// A directory that apt's user may write, or apt fetches as root and says so.
fn place(scratch: &Path) -> io::Result<Scratch> {
    let place = Scratch::new(scratch)?;
    let inner = place.path().join("for-apt");
    fs::create_dir(&inner).at(&inner)?;
    for dir in [scratch, place.path()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).at(dir)?;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = passwd.lines().find_map(|line| line.strip_prefix("_apt:")?.split(':').nth(1)?.parse().ok());
    if user.is_some() {
        chown(&inner, user, None).at(&inner)?;
    }
    Ok(place)
}

/// Runs a command for no longer than `at_most`; gives what it says on standard error.
fn run(command: &mut Command, at_most: Duration) -> io::Result<String> {
    let mut child = command.spawn()?;
    let began = Instant::now();
    let pipe = child.stderr.take();
    std::thread::scope(|scope| {
        let said = scope.spawn(|| {
            let mut said = Vec::new();
            // What could be read is what there is to tell.
            pipe.map(|pipe| pipe.take(1 << 16).read_to_end(&mut said));
            said
        });
        while child.try_wait()?.is_none() {
            if began.elapsed() >= at_most {
                child.kill()?;
                child.wait()?;
                return Ok(format!("E: it took longer than {} seconds\n", at_most.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(String::from_utf8_lossy(&said.join().unwrap_or_default()).into_owned())
    })
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

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Non-blocking: it may be a pipe by now, whose other end nobody opens.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file: File = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).at(path)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).at(path)?;
    if bytes.len() as u64 > limit {
        Err(io::Error::other(format!("it is larger than {limit} bytes")))
    } else {
        Ok(bytes)
    }
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
        let mut command = Command::new("sleep");
        command.arg("60").stderr(Stdio::piped());
        assert_eq!(run(&mut command, Duration::from_millis(50))?, "E: it took longer than 0 seconds\n");
        Ok(())
    }

    #[test]
    fn what_is_too_large_is_not_read() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("f");
        fs::write(&file, "12345")?;
        assert_eq!(read(&file, 5)?, b"12345");
        assert!(read(&file, 4).is_err());
        Ok(())
    }
}
