// SPDX-License-Identifier: GPL-2.0-or-later
//! The four commands of Redis that are needed: AUTH, SELECT, GET, SET.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::address::Address;
use super::{LARGEST, PATIENCE, Upstream};

/// A line of an answer is no longer than this.
const LONGEST_LINE: u64 = 1 << 12;

/// A connection on which nothing was said for so long may have gone without a word.
const FRESH: Duration = Duration::from_secs(15);

/// A server, and the connections to it that nobody uses now, with the times at which somebody last did.
#[derive(Debug)]
pub struct Redis {
    address: Address,
    found: OnceLock<Vec<SocketAddr>>,
    idle: Mutex<Vec<(Instant, BufReader<Timed>)>>,
}

impl Redis {
    pub fn new(address: Address) -> Self {
        Self { address, found: OnceLock::new(), idle: Mutex::default() }
    }

    /// Says something on a connection, and gives the answer.
    fn ask(&self, words: &[&[u8]], until: Instant) -> io::Result<Option<Vec<u8>>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some((used, connection)) if used.elapsed() < FRESH => connection,
            _ => self.connect(until)?,
        };
        connection.get_mut().until = until;
        let answer = say(&mut connection, words)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), connection));
        Ok(answer)
    }

    fn connect(&self, until: Instant) -> io::Result<BufReader<Timed>> {
        let found = match self.found.get() {
            Some(found) => found,
            None => {
                let host = self.address.host.trim_matches(['[', ']']);
                let found = (host, self.address.port).to_socket_addrs()?.collect();
                self.found.get_or_init(|| found)
            }
        };
        let mut last = io::Error::from(ErrorKind::NotFound);
        for address in found {
            match TcpStream::connect_timeout(address, left(until)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let mut connection = BufReader::new(Timed { stream, until });
                    self.greet(&mut connection)?;
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn greet(&self, connection: &mut BufReader<Timed>) -> io::Result<()> {
        match &self.address.login {
            Some((user, password)) if user.is_empty() => say(connection, &[b"AUTH", password.as_bytes()])?,
            Some((user, password)) => say(connection, &[b"AUTH", user.as_bytes(), password.as_bytes()])?,
            None => None,
        };
        if !self.address.path.is_empty() {
            say(connection, &[b"SELECT", self.address.path.as_bytes()])?;
        }
        Ok(())
    }
}

impl Upstream for Redis {
    fn get(&self, owner: &str, name: &str, until: Instant) -> io::Result<Option<Vec<u8>>> {
        self.ask(&[b"GET", key(owner, name).as_bytes()], until)
    }

    fn put(&self, owner: &str, name: &str, bytes: &[u8], until: Instant) -> io::Result<()> {
        self.ask(&[b"SET", key(owner, name).as_bytes(), bytes], until).map(drop)
    }
}

/// `name` has no colon, so that nobody's name can pass for another owner's.
fn key(owner: &str, name: &str) -> String {
    format!("dkms:{owner}:{name}")
}

fn say(connection: &mut BufReader<Timed>, words: &[&[u8]]) -> io::Result<Option<Vec<u8>>> {
    let mut text = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        text.extend([format!("${}\r\n", word.len()).as_bytes(), word, b"\r\n"].concat());
    }
    connection.get_mut().write_all(&text)?;
    answer(connection)
}

/// Reads one answer of Redis; none for a value that is not there.
pub fn answer(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let wrong = || io::Error::new(ErrorKind::InvalidData, "this is no answer of Redis");
    let mut line = Vec::new();
    from.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\r\n").ok_or_else(wrong)?;
    let (kind, rest) = line.split_first().ok_or_else(wrong)?;
    match kind {
        b'+' | b':' => Ok(Some(rest.to_vec())),
        b'-' => Err(io::Error::other(String::from_utf8_lossy(rest).into_owned())),
        b'$' if rest == b"-1" => Ok(None),
        b'$' => {
            let length: u64 = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
            if length > LARGEST {
                return Err(io::Error::new(ErrorKind::InvalidData, format!("a value of {length} bytes")));
            }
            // As much memory as there are bytes, not as were promised.
            let mut bytes = Vec::new();
            from.take(length + 2).read_to_end(&mut bytes)?;
            let whole = bytes.len() as u64 == length + 2 && bytes.ends_with(b"\r\n");
            bytes.truncate(length as usize);
            whole.then_some(Some(bytes)).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// A connection on which nothing waits for long.
#[derive(Debug)]
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer).map_err(late)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// How long the next byte may take.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now()).min(PATIENCE);
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The system calls a wait that was too long something else.
fn late(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Gives what it has byte by byte.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    fn read(bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut slow = BufReader::with_capacity(1, Slow(bytes));
        let answered = answer(&mut slow);
        assert_eq!(answered.as_ref().ok(), answer(&mut &*bytes).as_ref().ok(), "however it comes");
        answered
    }

    #[test]
    fn answers_are_read_however_they_come() -> io::Result<()> {
        for (bytes, expected) in [
            (&b"+OK\r\n"[..], Some(&b"OK"[..])),
            (b":12\r\n", Some(b"12")),
            (b"$-1\r\n", None),
            (b"$0\r\n\r\n", Some(b"")),
            (b"$5\r\na\r\nb\0\r\n", Some(b"a\r\nb\0")),
        ] {
            assert_eq!(read(bytes)?.as_deref(), expected);
        }
        assert_eq!(
            read(b"-NOAUTH Authentication required.\r\n").expect_err("no").to_string(),
            "NOAUTH Authentication required."
        );
        Ok(())
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let long = [b"+".repeat(1 << 16), b"\r\n".to_vec()].concat();
        for bytes in [
            &b""[..],
            b"\r\n",
            b"+OK",
            b"+OK\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"$5\r\nabc",
            b"$3\r\nabcde",
            b"$-2\r\n",
            b"$x\r\n",
            b"$99999999999999999999\r\n",
            b"$67108865\r\n",
            b"$18446744073709551615\r\n",
            b"*1\r\n+OK\r\n",
            &long,
        ] {
            assert!(read(bytes).is_err(), "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
        }
    }

    #[test]
    fn a_server_that_takes_its_time_is_not_waited_for() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("redis://{}", listener.local_addr()?);
        let redis = Redis::new(Address::parse(&address).expect("an address"));
        // Says one byte now and then, and never ends.
        thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(b"$1000\r\n")?;
            loop {
                stream.write_all(b".")?;
                thread::sleep(Duration::from_millis(20));
            }
        });
        let begun = Instant::now();
        let answered = redis.get("module", "name", begun + Duration::from_millis(200));
        assert_eq!(answered.expect_err("too late").kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
        Ok(())
    }
}
