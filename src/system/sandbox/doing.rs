// SPDX-License-Identifier: GPL-2.0-or-later
//! Says what failed on the way in: the caller of `spawn` learns no more than the error's number.

use std::ffi::CStr;
use std::io;

/// Names what was being done, and to which path, in a line on standard error.
pub trait Doing<T> {
    /// The error itself comes back.
    fn doing(self, what: &str, path: &CStr) -> io::Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str, path: &CStr) -> io::Result<T> {
        self.map_err(|error| {
            let error = error.into();
            say(what, path, error.raw_os_error().unwrap_or(0).unsigned_abs());
            error
        })
    }
}

/// Writes the line. Nothing here may allocate.
fn say(what: &str, path: &CStr, number: u32) {
    let mut line = [0; 512];
    let mut length = 0;
    let mut digits = [0; 10];
    let mut first = digits.len();
    let mut rest = number;
    while rest > 0 || first == digits.len() {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    for part in [b"dkms: sandbox: ", what.as_bytes(), b" ", path.to_bytes(), b": error ", &digits[first..], b"\n"] {
        let end = line.len().min(length + part.len());
        line[length..end].copy_from_slice(&part[..end - length]);
        length = end;
    }
    let _ = rustix::io::write(rustix::stdio::stderr(), &line[..length]);
}
