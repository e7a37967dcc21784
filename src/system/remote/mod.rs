// SPDX-License-Identifier: GPL-2.0-or-later
//! What is kept on another machine, by the names of its owner and of itself. It is done without as soon as that costs
//! time: after the first error nobody asks again.

mod address;
mod http;
mod redis;

use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use address::{Address, Protocol};
pub use redis::answer;

/// What is kept is no larger than this.
pub const LARGEST: u64 = 64 << 20;

/// How long a connection, or the next bytes of an answer, may take.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What is said of one that keeps others waiting.
const SILENT: &str = "it does not answer";

/// One that keeps things.
pub trait Upstream: Debug + Send + Sync {
    /// What is kept by this name.
    fn get(&self, owner: &str, name: &str, until: Instant) -> io::Result<Option<Vec<u8>>>;
    /// Keeps something.
    fn put(&self, owner: &str, name: &str, bytes: &[u8], until: Instant) -> io::Result<()>;
}

/// It is not to be asked any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Off;

/// Another machine, as long as it answers.
#[derive(Debug)]
pub struct Remote {
    name: String,
    upstream: Box<dyn Upstream>,
    answered: AtomicBool,
    trouble: Mutex<Option<String>>,
}

impl Remote {
    /// Nothing is asked yet.
    pub fn new(address: &Address) -> Self {
        let upstream: Box<dyn Upstream> = match address.protocol {
            Protocol::Redis => Box::new(redis::Redis::new(address.clone())),
            Protocol::Http => Box::new(http::Http::new(address)),
        };
        Self::over(address.to_string(), upstream)
    }

    /// One that others call `name`.
    pub fn over(name: String, upstream: Box<dyn Upstream>) -> Self {
        Self { name, upstream, answered: AtomicBool::new(false), trouble: Mutex::default() }
    }

    /// What is kept by this name, if anything.
    pub fn get(&self, owner: &str, name: &str, until: Instant) -> Result<Option<Vec<u8>>, Off> {
        self.ask(|| self.upstream.get(owner, name, until))
    }

    /// Keeps something.
    pub fn put(&self, owner: &str, name: &str, bytes: &[u8], until: Instant) -> Result<(), Off> {
        self.ask(|| self.upstream.put(owner, name, bytes, until))
    }

    fn ask<T>(&self, question: impl FnOnce() -> io::Result<T>) -> Result<T, Off> {
        if self.trouble().is_some() {
            return Err(Off);
        }
        let answered = question();
        self.answered.store(true, Ordering::Relaxed);
        answered.map_err(|error| {
            match error.kind() {
                io::ErrorKind::TimedOut => self.give_up(SILENT),
                _ => self.give_up(&error.to_string()),
            }
            Off
        })
    }

    /// Nobody asks again, unless it has answered by now.
    pub fn has_to_answer(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.give_up(SILENT);
        }
    }

    /// Nobody asks again, because of this.
    fn give_up(&self, why: &str) {
        let mut trouble = self.trouble();
        if trouble.is_none() {
            log::warn!("{} is not used: {why}", self.name);
            *trouble = Some(format!("{} is not used: {why}", self.name));
        }
    }

    /// Why nobody asks any more.
    pub fn why_not(&self) -> Option<String> {
        self.trouble().clone()
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn after_the_first_error_nobody_asks_again() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        drop(listener);
        for scheme in ["redis", "http"] {
            let remote = Remote::new(&Address::parse(&format!("{scheme}://u:secret@127.0.0.1:{port}")).expect("one"));
            assert_eq!(remote.why_not(), None);
            assert_eq!(remote.get("module", "name", soon()), Err(Off));
            let why = remote.why_not().expect("an error");
            assert!(why.starts_with(&format!("{scheme}://127.0.0.1:{port} is not used: ")), "{why}");
            // Now there would be one.
            let listener = TcpListener::bind(("127.0.0.1", port))?;
            listener.set_nonblocking(true)?;
            assert_eq!(remote.put("module", "name", b"", soon()), Err(Off));
            assert!(listener.accept().is_err(), "asked again");
            // It did answer, by an error.
            remote.has_to_answer();
            assert_eq!(remote.why_not().as_ref(), Some(&why));
            assert!(!format!("{remote:?} {why}").contains("secret"));
        }
        Ok(())
    }

    /// A server of one answer to one request; gives the head of that.
    fn serve(answer: &'static [u8]) -> io::Result<(String, mpsc::Receiver<String>)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                head.extend(byte);
            }
            let _ = tell.send(String::from_utf8_lossy(&head).into_owned());
            stream.write_all(answer)
        });
        Ok((address, told))
    }

    #[test]
    fn http_says_who_asks_and_follows_nobody() -> io::Result<()> {
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\0b"[..], Ok(Some(b"a\0b".to_vec()))),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", Ok(None)),
            (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Err(Off)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nabc", Err(Off)),
            (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", Err(Off)),
            (b"+OK\r\n", Err(Off)),
        ] {
            let (place, told) = serve(answer)?;
            let remote = Remote::new(&Address::parse(&format!("http://me:p%40ss@{place}/base/")).expect("one"));
            let got = remote.get("a b/c", "name", soon());
            assert_eq!(got, expected, "{} {:?}", String::from_utf8_lossy(answer), remote.why_not());
            let head = told.recv().expect("a request");
            assert!(head.starts_with("GET /base/dkms/a%20b%2Fc/name HTTP/1.1\r\n"), "{head}");
            assert!(head.to_ascii_lowercase().contains("\r\nauthorization: basic bwu6cebzcw==\r\n"), "{head}");
        }
        Ok(())
    }

    #[test]
    fn http_puts_what_it_is_given() -> io::Result<()> {
        for (answer, expected) in [
            (&b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"[..], Ok(())),
            (b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\n\r\n", Err(Off)),
        ] {
            let (place, told) = serve(answer)?;
            let remote = Remote::new(&Address::parse(&format!("http://{place}")).expect("one"));
            assert_eq!(remote.put("module", "name", b"four", soon()), expected);
            let head = told.recv().expect("a request").to_ascii_lowercase();
            assert!(head.starts_with("put /dkms/module/name http/1.1\r\n"), "{head}");
            assert!(head.contains("content-length: 4\r\n") && !head.contains("authorization"), "{head}");
        }
        Ok(())
    }
}
